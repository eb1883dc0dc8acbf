"""Killed anywhere, and whatever system call fails: nothing half-done is seen, nothing is lost.

Every system call that changes the cache or a run's folder is the last one of its process in turn,
or fails with each of four errors. By default a few of different kinds are; with ``-m long`` all.
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cli import failure
from tests.helpers.data import write_digits
from tests.helpers.downloads import tiny_mnist
from tests.helpers.injection import (
    CHANGES,
    OPENINGS,
    REMOVALS,
    Call,
    Ended,
    Spot,
    disturbed,
    spots,
    why_not,
)
from tests.helpers.server import Server
from tests.helpers.training import FINISHED, MODELS, results, variables

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

ERRORS = ("ENOSPC", "EIO", "EMFILE", "EROFS")
KILLS, FAULTS = 1, 1  # how many of each case are tried by default
MOMENTS = {False: 12, True: 300}  # random ones, over all cases: by default, and where every is
AMOUNTS = pytest.mark.parametrize(
    "every", [False, pytest.param(True, marks=pytest.mark.long)], ids=["some", "every"]
)
NOTES = (".sources", ".trust", ".origins")  # what a cache notes for itself, with inodes and times
ONLY_TIME = (*NOTES, ".locks", ".trash")  # what it does without

# What is counted


@dataclass
class Tally:
    """What was done to a case, and what went wrong."""

    case: str
    kills: int = 0
    faults: int = 0
    lost: list[str] = field(default_factory=list)

    def note(self, spot: object, ended: Ended, wrong: Sequence[str]) -> None:
        """Count one command that was disturbed here, and what is wrong after it."""
        self.kills += ended.status == -9
        self.faults += len(failed(ended)) > 0
        if wrong:
            shown = [*wrong[:3], f"{len(wrong)} in all"] if len(wrong) > 3 else wrong
            where = f"{spot}" + "".join(f" (hit {call})" for call in failed(ended))
            self.lost.append(f"{where}: status {ended.status} {ended.err!r}: {'; '.join(shown)}")

    def close(self) -> None:
        """Have the figures shown with ``-s``, and fail if anything went wrong."""
        print(f"\n{self.case}: {self.kills} kills, {self.faults} faults, {len(self.lost)} lost")
        assert self.kills + self.faults > 0
        if self.lost:
            pytest.fail("\n".join(self.lost), pytrace=False)


def failed(ended: Ended) -> list[Call]:
    """Return the calls that were made to fail."""
    return [call for call in ended.calls if call.injected]


def some(found: Sequence[Spot], count: int, every: bool, case: str) -> Sequence[Spot]:
    """Return all of them, or so many of different kinds, always the same of a case."""
    if every:
        return found
    numbers, kinds = random.Random(case), sorted({spot.call.name for spot in found})
    numbers.shuffle(kinds)
    return [
        numbers.choice([spot for spot in found if spot.call.name == kind]) for kind in kinds[:count]
    ]


def with_errors(
    found: Sequence[Spot], count: int, every: bool, case: str
) -> list[tuple[Spot, str]]:
    """Return each of them with each error, or so many of them, each with another error than the
    last.
    """
    if every:
        return [(spot, error) for spot in found for error in ERRORS]
    chosen = some(found, count, every, case)
    return [(spot, ERRORS[i % len(ERRORS)]) for i, spot in enumerate(chosen)]


# What is disturbed


@dataclass(frozen=True)
class Case:
    """A `prepare`, and how the cache is before it."""

    arguments: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()  # arguments of those that were run before
    damaged: bool = False  # whether a file of what they made was cut short then


DIGITS, OTHERS = ("./digits",), ("./others",)

CASES = {
    "cold": Case(DIGITS, (OTHERS,)),
    "noted": Case(DIGITS, ((*DIGITS, "--mode", "center"),)),
    "forced": Case((*DIGITS, "--force"), (OTHERS, DIGITS)),
    "repaired": Case(DIGITS, (OTHERS, DIGITS), damaged=True),
    "sharded": Case((*DIGITS, "--shard-rows", "3"), (OTHERS,)),
    "gzipped": Case((*DIGITS, "--compression", "gzip"), (OTHERS,)),
}

State = dict[str, str]  # by file and folder of the cache, the digest or nothing


def state(cache: Path) -> State:
    """Return all that is in the cache but locks; of what it notes for itself, the names."""
    return {
        str(path.relative_to(cache)): digest(path)
        for path in sorted(cache.rglob("*"))
        if cache / ".locks" not in path.parents
        if path.relative_to(cache).parts[0] not in ONLY_TIME or not path.is_dir()
    }


def digest(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder and of what has inodes and times in it, nothing."""
    noted = set(NOTES) & {parent.name for parent in path.parents}
    return "" if path.is_dir() or noted else sha256(path.read_bytes()).hexdigest()


def differing(found: State, expected: State) -> list[str]:
    """Return what is there that should not be, is missing, or is another."""
    return [
        f"{name}: {'another' if name in found and name in expected else state}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
        for state in ["left over" if name in found else "missing"]
    ]


def entry(name: str) -> str:
    """Return the entry that a file belongs to, or nothing."""
    parts = Path(name).parts
    return "/".join(parts[:2]) if len(parts) > 1 and not name.startswith(".") else ""


def whole(name: str, found: State, *expected: State) -> bool:
    """Return whether an entry is as it is in one of these."""
    folders = [{k: v for k, v in one.items() if entry(k) == name} for one in (found, *expected)]
    return folders[0] in folders[1:]


class Subject:
    """A command that is run again and again in a folder, with a cache."""

    by_path, cost = False, 1  # as `spots` has it; how many times fewer spots are tried
    code = ""  # Python code that every command runs first

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache

    def command(self, *arguments: str, **options: Any) -> Ended:
        """Run any command, with options of `disturbed`."""
        environment = {"PIXELPREP_CACHE_DIR": str(self.cache), "no_proxy": "127.0.0.1"}
        own: dict[str, Any] = {"folder": self.folder, "environment": environment}
        return disturbed(*arguments, "--quiet", **own, code=self.code, **options)

    def learn(self) -> Ended:
        """Return how the command ends undisturbed; the second time all is imported that will be."""
        for _ in range(2):
            self.fresh()
            ended = self.run(fault=[])
            assert ended.status == 0, ended.err
        self.calls = ended.calls
        return ended

    def run(self, **options: Any) -> Ended:
        """Run the command, with options of `disturbed`."""
        raise NotImplementedError

    def fresh(self) -> None:
        """Have everything as it is before the command."""
        raise NotImplementedError


class Bench(Subject):
    """A case of `prepare`; the folder has the data. What is `watched` of the cache is disturbed."""

    def __init__(self, folder: Path, case: Case, code: str = "", watched: str = "") -> None:
        super().__init__(folder, folder / "cache")
        self.case, self.code = case, code
        self.kept, self.place = folder / "kept", self.cache / watched
        self.cache.mkdir()
        for arguments in case.before:
            assert self.command("prepare", *arguments).status == 0
        if case.damaged:
            (damaged,) = self.cache.glob("digits/*/train.h5")
            os.truncate(damaged, damaged.stat().st_size - 1)
        shutil.copytree(self.cache, self.kept)
        self.before = state(self.kept)
        made = json.loads(self.learn().out)["path"]
        self.right = state(self.cache)
        # What is made; all other entries stay as they were.
        self.made = str(Path(made).relative_to(self.cache))

    def fresh(self) -> None:
        shutil.rmtree(self.cache)
        shutil.copytree(self.kept, self.cache)

    def run(self, **options: Any) -> Ended:
        return self.command("prepare", *self.case.arguments, "--json", **options)

    def harm(self) -> list[str]:
        """Return what is wrong with the entries of the cache now."""
        found = state(self.cache)
        names = {entry(name) for name in found.keys() | self.before.keys()} - {""}
        return [
            f"{name}: not whole"
            for name in sorted(names)
            if not whole(name, found, self.before, self.right)
            and not (name == self.made and whole(name, found, {}))
        ] + [
            f"{name}: not whole"  # of what was downloaded
            for name, content in found.items()
            if name.startswith(".raw/") and not name.endswith(".part")
            if content != self.right.get(name)
        ]

    def again(self) -> list[str]:
        """Return what is wrong after the command is run again, undisturbed."""
        ended = self.run()
        if ended.status != 0:
            return [f"the next run: status {ended.status} {ended.err!r}"]
        wrong = differing(state(self.cache), self.right)
        return [f"after the next run: {what}" for what in wrong]

    def unkept(self, ended: Ended) -> list[str]:
        """Return what the command did wrong after a system call of it failed."""
        wrong = self.harm()
        if not failed(ended):
            return [*wrong, "the call was not reached"]
        found = state(self.cache)
        wrong += [f"{name}: left over" for name in found if name.startswith((".tmp/", ".trash/"))]
        if ended.status == 0:
            wrong += [] if saves_time(failed(ended)[0], self.cache) else ["the error was ignored"]
            made = whole(self.made, found, self.right)
            return wrong if made else [*wrong, f"{self.made}: not made"]
        had = {entry(name) for name in self.before} - {""}
        wrong += [f"{name}: lost" for name in had if whole(name, found, {})]
        return wrong + unsaid(ended)


def unsaid(ended: Ended) -> list[str]:
    """Return what is wrong with how a command says that it failed."""
    repairing = "; making it again"  # is a message that comes before
    lines = [line for line in ended.err.splitlines(True) if not line.endswith(repairing + "\n")]
    try:
        failure(replace(ended, err="".join(lines)).done)
    except (AssertionError, ValueError) as error:
        return [f"not one clear error: {error}"]
    return []


def saves_time(call: Call, cache: Path) -> bool:
    """Return whether the work may well be done although this failed."""
    tops = {path.relative_to(cache).parts[0] for path in call.paths if cache in path.parents}
    reads = call.name in OPENINGS and not call.changes
    there = call.name.startswith("mkdir")  # as most folders are already
    marks = call.paths[-1].suffix == ".lock" or call.paths[-1].name == "owner.json"
    return reads or there or marks or bool(tops & set(ONLY_TIME))


# Which calls


def changing(cache: Path) -> Callable[[Call], bool]:
    """Return whether a call changes the cache."""
    return lambda call: call.changes and call.below(cache)


def failing(cache: Path) -> Callable[[Call], bool]:
    """Return whether a call is one that is made to fail: what is only removed is not needed any
    more.
    """
    names = {*CHANGES, *OPENINGS} - {*REMOVALS}
    return lambda call: call.name in names and call.below(cache)


# Exports


class Exporting(Subject):
    """An entry that is exported to one place, in one format."""

    def __init__(self, folder: Path, to: str) -> None:
        super().__init__(folder, folder / "cache")
        self.to, self.place = to, folder / "place"
        write_digits(folder / "digits", 8, 4)
        self.entry = json.loads(self.command("prepare", "./digits", "--json").out)["path"]
        self.learn()
        self.right = self.found()

    def run(self, **options: Any) -> Ended:
        return self.command("export", self.entry, "place/out", "--to", self.to, **options)

    def fresh(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()

    def found(self) -> State:
        """Return all that is at the place."""
        return {str(p.relative_to(self.place)): digest(p) for p in self.place.rglob("*")}

    def harm(self) -> list[str]:
        """Return whether there is half an export."""
        found = {name: is_ for name, is_ in self.found().items() if not name.startswith(".")}
        return [] if found in ({}, self.right) else ["out: not whole"]

    def again(self) -> list[str]:
        """Return what is wrong after the command is run again, undisturbed."""
        if (self.place / "out").exists():
            shutil.rmtree(self.place / "out")
        ended = self.run()
        wrong = [] if ended.status == 0 else [f"the next run: {ended.status} {ended.err!r}"]
        return wrong + [f"after the next run: {w}" for w in differing(self.found(), self.right)]

    def unkept(self, ended: Ended) -> list[str]:
        """Return what the command did wrong after a system call of it failed."""
        if not failed(ended):
            return ["the call was not reached"]
        if ended.status == 0:
            return [*differing(self.found(), self.right), "the error was ignored"]
        return [*(f"{name}: left over" for name in self.found()), *unsaid(ended)]


class Training(Subject):
    """A short run of a tiny model."""

    by_path, cost = True, 3

    def __init__(self, folder: Path) -> None:
        self.place, self.whole = folder / "place", folder / "whole"
        self.finished, self.unfinished = self.place / "run", self.place / "run.unfinished"
        super().__init__(self.place, folder / "cache")
        self.place.mkdir()
        shutil.copy(MODELS, self.place)
        self.data = str(write_digits(folder / "digits", 40, 20))
        self.learn()  # has the entry made, too
        self.finished.rename(self.whole)

    def fresh(self) -> None:
        for folder in (self.finished, self.unfinished):
            shutil.rmtree(folder, ignore_errors=True)

    def run(self, **options: Any) -> Ended:
        settings = ("--epochs", "2", "--seed", "4", "--model", "models:tiny", "--run-dir", "run")
        return self.command("train", self.data, *settings, **options)

    def harm(self) -> list[str]:
        """Return what is wrong with the run, or with what comes of it when it is gone on with."""
        if self.finished.exists():
            return self.other()
        if (self.unfinished / "checkpoint.npz").exists():
            return self._ended("--resume", self.command("train", "--resume", "run"))
        if self.unfinished.exists():
            ended = self.run()
            wrong = unsaid(ended)
            if wrong or f"hint: delete {self.unfinished}" not in ended.err:
                return [*wrong, f"training again does not say what is in the way: {ended.err!r}"]
            shutil.rmtree(self.unfinished)
        return self._ended("training again", self.run())

    def _ended(self, what: str, ended: Ended) -> list[str]:
        if ended.status != 0:
            return [f"{what}: status {ended.status} {ended.err!r}"]
        left = ["run.unfinished: left over"] if self.unfinished.exists() else []
        return [*left, *self.other()]

    def other(self) -> list[str]:
        """In what a finished run is another than the undisturbed one."""
        if sorted(path.name for path in self.finished.iterdir()) != FINISHED:
            return [f"run: {sorted(path.name for path in self.finished.iterdir())}"]
        found = [(variables(run), results(run)[0]) for run in (self.finished, self.whole)]
        return [] if found[0] == found[1] else ["the result is another"]

    def again(self) -> list[str]:
        """Return nothing: `harm` has gone on with the run."""
        return []

    def unkept(self, ended: Ended) -> list[str]:
        """Return what is wrong after a system call of it failed."""
        wrong = unsaid(ended) if ended.status else []
        return [*wrong, *([] if failed(ended) else ["the call was not reached"]), *self.harm()]


Disturbed = Bench | Exporting | Training
EXPORTS = ("npz", "hdf5-single", "png")  # TensorFlow writes TFRecord with threads of its own


LONG = pytest.mark.long
SUBJECTS = [*CASES, *map("export-{}".format, EXPORTS), "download", "training"]
RARE = ("noted", "sharded", "gzipped", "export-npz", "export-hdf5-single")  # none by default


def often(names: Iterable[str], *less: str) -> list[Any]:
    """Return names for `subject`, of which the rare ones and `less` are long."""
    return [pytest.param(name, marks=LONG) if name in (*RARE, *less) else name for name in names]


# A killed training is in tests/training/test_resume.py, too.
@pytest.fixture(scope="module", params=often(SUBJECTS, "training"))
def subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Disturbed]:
    """Provide each command in turn."""
    name, folder = request.param, tmp_path_factory.mktemp("subject")
    if name == "training":
        for module in ("tensorflow", "matplotlib"):
            pytest.importorskip(module, reason="the extra `train` is not installed")
        yield Training(folder)
    elif name == "download":  # of a tiny MNIST
        web = tmp_path_factory.mktemp("web")
        code = tiny_mnist(web)
        with Server(web) as server:
            yield Bench(folder, Case(("mnist", "--mirror", server.url)), code, ".raw")
    elif name.startswith("export-"):
        yield Exporting(folder, name.removeprefix("export-"))
    else:
        write_digits(folder / "digits", 8, 4)
        write_digits(folder / "others", 4, 4)
        yield Bench(folder, CASES[name])


@AMOUNTS
def test_killed_at_any_call(
    subject: Disturbed, every: bool, request: pytest.FixtureRequest
) -> None:
    """Killed just before any change, a command leaves entries, exports, raw files and runs whole or
    not at all; the next one succeeds, to the same result, and leaves nothing over.
    """
    tally = Tally(request.node.name)
    found = spots(subject.calls, changing(subject.place), by_path=subject.by_path)
    for spot in some(found, max(1, KILLS // subject.cost), every, tally.case):
        subject.fresh()
        ended = subject.run(fault=spot.fault("signal=KILL"))
        wrong = [] if ended.status == -9 else ["it was not killed"]
        tally.note(spot, ended, [*wrong, *subject.harm(), *subject.again()])
    tally.close()


@AMOUNTS
def test_any_call_fails(subject: Disturbed, every: bool, request: pytest.FixtureRequest) -> None:
    """Whatever call fails, the command says so in one line or does well without it; what was there
    stays as it was, nothing is left over, and the next one succeeds.
    """
    tally = Tally(request.node.name)
    found = spots(subject.calls, failing(subject.place), by_path=subject.by_path)
    for spot, error in with_errors(found, max(1, FAULTS // subject.cost), every, tally.case):
        subject.fresh()
        ended = subject.run(fault=spot.fault(f"error={error}"), hurried=False)
        tally.note(f"{error} at {spot}", ended, [*subject.unkept(ended), *subject.again()])
    tally.close()


@AMOUNTS
@pytest.mark.parametrize("subject", often(CASES), indirect=True)
def test_killed_at_any_moment(subject: Bench, every: bool, request: pytest.FixtureRequest) -> None:
    """The same at random moments, also over what others left that were killed, and with threads."""
    tally, moments = Tally(request.node.name), random.Random(17)
    subject.fresh()
    longest, number = subject.run(inline=False).seconds, -1
    while tally.kills < MOMENTS[every] // len(CASES) and number < MOMENTS[every]:
        number += 1
        if number % 10 == 0:
            subject.fresh()
        elif "--force" not in subject.case.arguments:
            shutil.rmtree(subject.cache / subject.made, ignore_errors=True)
        moment = moments.uniform(0, longest)
        ended = subject.run(killed_after=moment, inline=False)
        after = subject.again() if number % 10 == 9 else []
        tally.note(f"{moment:.4f} s", ended, [*subject.harm(), *after])
    tally.close()
