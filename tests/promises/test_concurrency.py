"""Everyone at once: processes, users and file systems that share one cache folder."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import pytest

import pixelprep
from pixelprep.system import locks, staging
from tests.helpers.cli import failure, run
from tests.helpers.damage import flip, flip_a_byte
from tests.helpers.data import bytes_of, write_digits
from tests.helpers.disks import layered, protected
from tests.helpers.downloads import tiny_mnist
from tests.helpers.injection import why_not
from tests.helpers.packages import ROOT
from tests.helpers.process import Process, execute
from tests.helpers.raw_files import random_pairs, write_hdf5
from tests.helpers.recipes import write_folder
from tests.helpers.sampling import some
from tests.helpers.server import Server
from tests.helpers.sources import nothing_is_left
from tests.helpers.workers import leave_unfinished

CROWD = ROOT / "tests" / "helpers" / "concurrency.py"
EVERYONE = 16


def crowd(
    dataset: str,
    locks: str = "locks",
    count: int = EVERYONE,
    code: str = "",
    recipes: Sequence[dict[str, Any]] = ({},),
    **options: Any,
) -> list[Any]:
    """Return what so many processes come to that all prepare the same at the same moment, by each
    of the recipes.
    """
    each = json.dumps([options | recipe for recipe in recipes])
    command = [sys.executable, str(CROWD), str(count), locks, dataset, each, code]
    done = execute(command, timeout=300)
    assert done.stderr == ""
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == count * len(recipes)
    return answers


def settled(cache: Path, answers: list[Any]) -> Path:
    """Return the one entry that all of them got: whole, and with nothing left beside it."""
    assert [answer for answer in answers if "error" in answer] == []
    assert len({(a["key"], a["path"], *a["sums"]) for a in answers}) == 1
    (verdict,) = pixelprep.verify(every=True, quiet=True)
    assert verdict.ok
    assert list(cache.glob(".tmp/*")) == list(cache.glob(".trash/*")) == []
    return verdict.path


FORCED: dict[str, Any] = {"force": True}
RECIPES = [{}, {"shard_rows": 8}, {"compression": "gzip", "per": "image"}, FORCED]


@pytest.mark.parametrize("recipe", some(RECIPES[:-1], every=3), ids=str)
def test_sixteen_processes_do_the_work_once(
    digits: str, cache: Path, recipe: dict[str, Any]
) -> None:
    """On a cold cache one makes the entry, the others wait for it and read the same rows."""
    answers = crowd(digits, **recipe)
    settled(cache, answers)
    assert sorted(answer["hit"] for answer in answers) == [False] + [True] * (EVERYONE - 1)


@pytest.mark.long
@pytest.mark.parametrize(
    ("recipe", "locks"), some(RECIPES, ("none", "ENOLCK", "ENOSYS"), every=8), ids=str
)
def test_without_locks_all_get_the_entry_too(
    digits: str, cache: Path, locks: str, recipe: dict[str, Any]
) -> None:
    """Where locks do nothing work is repeated, nobody disturbs another, and nothing is corrupt."""
    before = bytes_of(pixelprep.prepare(digits, cache_dir="alone", **recipe).path)
    for _ in range(2):  # cold, then warm
        assert bytes_of(settled(cache, crowd(digits, locks, **recipe))) == before


@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.parametrize(
    "error",
    ["ENOLCK", *(pytest.param(e, marks=pytest.mark.long) for e in ("EOPNOTSUPP", "EIO", "ENOSYS"))],
)
def test_no_lock_is_needed_by_any_library(error: str, tmp_path: Path) -> None:
    """Where the system refuses every lock, to Python and to libhdf5, files are read and entries are
    made, hit and verified.
    """
    code = """
import sys, pixelprep
entries = [pixelprep.prepare(sys.argv[1], quiet=True) for _ in range(2)]
assert [entry.cached for entry in entries] == [False, True]
assert pixelprep.verify(entries[0].path, quiet=True)[0].ok
print(len(entries[1].train.to_numpy()[0]))
"""
    data = write_hdf5(tmp_path / "data.h5", random_pairs(), compression="gzip", chunks=True)
    refuse = ["strace", "-f", "-o", str(tmp_path / "trace"), "-e", f"inject=flock:error={error}"]
    done = execute([*refuse, sys.executable, "-c", code, str(data)])
    assert done.stdout == "40\n", done.stderr
    assert error in (tmp_path / "trace").read_text()


@pytest.mark.parametrize("locking", [None, "best-effort", False, True])
def test_a_file_that_is_open_with_other_flags_is_read(tmp_path: Path, locking: Any) -> None:
    """Whatever way to lock this process opened a file with before, data and entries are read."""
    data = write_hdf5(tmp_path / "data.h5", random_pairs())
    with h5py.File(data, "r", locking=locking):
        entry = pixelprep.prepare(data, compression="gzip", quiet=True)
    with h5py.File(entry.path / "train.h5", "r", locking=locking):
        images, _ = next(iter(entry.train.batches(64)))
    assert (images == entry.train.to_numpy()[0]).all()


@pytest.mark.parametrize("locks", ["locks", "none"])
def test_images_are_decoded_by_everyone_at_once(tmp_path: Path, cache: Path, locks: str) -> None:
    """Work that is gone on with is shared with nobody who is still at it."""
    write_folder(tmp_path / "pictures")
    settled(cache, crowd(str(tmp_path / "pictures"), locks, count=6, shard_rows=8))


def test_different_recipes_at_once_without_locks(digits: str, cache: Path) -> None:
    """Nobody sweeps away what another is working on, though every lock can be had."""
    recipes = [{"mode": mode} for mode in ("center", "normalize", "standardize")]
    answers = crowd(digits, "none", count=4, recipes=recipes, **FORCED)
    assert [answer for answer in answers if "error" in answer] == []
    assert [verdict.ok for verdict in pixelprep.verify(every=True, quiet=True)] == [True] * 3
    assert list(cache.glob(".tmp/*")) == []


@pytest.mark.parametrize("locks", ["locks", "none"])
def test_everyone_downloads_at_once(
    tmp_path_factory: pytest.TempPathFactory, cache: Path, locks: str
) -> None:
    """With locks each file is asked for once; without, nobody is in another's way."""
    web = tmp_path_factory.mktemp("web")
    code = tiny_mnist(web)
    with Server(web) as server:
        settled(cache, crowd("mnist", locks, count=4, code=code, mirror=server.url))
        if locks == "locks":
            assert len(server.requests) == 4
    names = {path.name for path in (cache / ".raw" / "mnist").iterdir()}
    assert names == {path.name for path in web.glob("*.gz")}


# What a killed process left, where locks tell nothing


def test_leftovers_are_told_from_work_without_locks(cache: Path) -> None:
    """By their names: of a living process of this machine, or for a week of another one."""
    process = Process([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    _, _, own, machine = locks.owner_tag().split("-")
    born = str(locks._start_time(process.pid))
    number, nobody, elsewhere = str(process.pid), str(2**22 + 1), "00000000"
    owners = {
        "alive": [number, born, own, machine],
        "reborn": [number, "1", own, machine],  # the number was given to another process since
        "gone": [nobody, born, own, machine],
        "elsewhere": [number, born, own, elsewhere],
        "old": [number, born, own, elsewhere],
        "free": ["free", own],
    }
    for name, owner in owners.items():
        (cache / ".tmp" / f"{name}.{'-'.join(owner)}").mkdir(parents=True)
        (cache / ".tmp" / f"{name}.{'-'.join(owner)}.lock").touch()
    (old,) = cache.glob(".tmp/old.*[0-9a-f]")
    os.utime(old, (0, 0))

    def left() -> set[str]:
        return {path.name.split(".")[0] for path in (cache / ".tmp").iterdir()}

    staging.collect_garbage(cache)
    assert left() == {"alive", "elsewhere"}
    process.communicate(b"\n")
    staging.collect_garbage(cache)
    assert left() == {"elsewhere"}


@pytest.mark.parametrize("there", [False, True])
def test_an_entry_that_was_only_to_be_replaced_comes_back(
    digits: str, cache: Path, there: bool
) -> None:
    """Killed after it put the old entry away, `--force` has lost nothing: the next run finds it.
    While the one who did so lives, it is not taken for rubbish.
    """
    entry = pixelprep.prepare(digits)
    number, *rest = locks.owner_tag().split("-")
    alive, away = (
        cache / ".trash" / f"digits~{entry.path.name}.{'-'.join([maker, *rest])}"
        for maker in (number, str(2**22 + 1))
    )
    before = bytes_of(entry.path)
    entry.path.rename(alive)
    staging.collect_garbage(cache)
    alive.rename(entry.path)
    if there:  # somebody made it anew meanwhile
        shutil.copytree(entry.path, away)
    else:
        entry.path.rename(away)
    assert pixelprep.prepare(digits).cached
    assert bytes_of(entry.path) == before
    assert list((cache / ".trash").iterdir()) == []


def test_a_work_folder_is_taken_over_by_one_alone(cache: Path) -> None:
    """What a killed process left to be gone on with goes to one of those who come for it."""
    leave_unfinished(cache)
    with ExitStack() as all_of_them:
        mine = [
            all_of_them.enter_context(staging.workspace(cache, "work", resumable=True))
            for _ in range(3)
        ]
        assert len(set(mine)) == 3
        assert [(folder / staging.RECEIPTS).exists() for folder in mine] == [True, False, False]
    assert list(cache.glob(".tmp/*")) == []


def test_a_long_name_fits(cache: Path) -> None:
    """Names of datasets of any length that is allowed have work folders, each its own."""
    for name in ("a" * 10, "a" * 180, "\u00e4" * 90, "a" * 179 + "b"):
        with staging.workspace(cache, f"{name}-standardize-0123456789ab", resumable=True) as work:
            assert work.name.startswith(name[:10])


# A cache that cannot be written


def test_a_read_only_cache_serves_readers(digits: str, tmp_path: Path) -> None:
    """Opening, reading, verifying, listing, and a hit: nothing of it needs to write. Every entry
    has its verdict, though nothing can be noted; what needs to write is an error.
    """
    cache = tmp_path / "disk"
    with protected(cache) as protect:
        entry, bad = (
            pixelprep.prepare(digits, mode=mode, cache_dir=cache)
            for mode in ("standardize", "center")
        )
        flip(bad.path / "test.h5", 900, 0)
        protect()
        opened = pixelprep.open(entry.key, cache_dir=cache)
        assert (opened.train.labels == entry.train.labels).all()
        assert sum(len(labels) for _, labels in opened.train.batches(8, shuffle=True)) == 40
        assert pixelprep.prepare(digits, cache_dir=cache).cached
        for command in (["cache", "list"], ["info", entry.key]):
            done = run(*command, "--cache-dir", str(cache))
            assert (done.returncode, done.stderr) == (0, "")
        done = run("verify", "--all", "--cache-dir", str(cache))
        assert done.returncode == 1
        assert f"{bad.path}  DAMAGED" in done.stdout
        assert f"{entry.path}  ok" in done.stdout
        done = run("cache", "remove", entry.key, "--yes", "--cache-dir", str(cache))
        assert done.returncode == 1
        assert "cannot use" in done.stderr
        error, hint = failure(run("prepare", digits, "--per=pixel", "--cache-dir", str(cache)))
        assert error.startswith(f"cannot use {cache}")
        assert "--cache-dir" in hint


# Two users


@pytest.fixture
def common() -> Iterator[Path]:
    """Provide a folder that a group shares, with data for two users in it."""
    if os.geteuid() != 0:
        pytest.skip("only root can become two other users")
    folder = Path(tempfile.mkdtemp())
    try:
        write_digits(folder / "digits")
        give(folder, 0)
        yield folder
    finally:
        shutil.rmtree(folder)


GROUP, ONE, TWO = 54_321, 54_322, 54_323


def give(folder: Path, user: int) -> None:
    """Let all in a folder be a user's of the group, and to be written by the group."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, GROUP)
        path.chmod(0o2775 if path.is_dir() else 0o664)


def become(user: int, work: Callable[[], object]) -> object:
    """Return what a function comes to when it is run by another user of the group."""
    out, into = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([GROUP])
            os.setgid(GROUP)
            os.setuid(user)
            os.umask(0o002)
            answer: object = work()
        except BaseException as error:
            answer = repr(error)
        os.write(into, json.dumps(answer).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as said:
        answered = json.loads(said.read())
    os.waitpid(child, 0)
    return answered


def test_two_users_share_a_cache(common: Path) -> None:
    """What one made the other reads, replaces, lists and removes; modes are the umask's."""
    cache = common / "cache"
    options: dict[str, Any] = {"cache_dir": cache, "quiet": True}
    dataset = str(common / "digits")
    pixelprep.prepare(dataset, cache_dir=common / "warm", quiet=True)  # all is imported

    def make(mode: str, **more: Any) -> Callable[[], object]:
        return lambda: pixelprep.prepare(dataset, mode=mode, **options, **more).cached

    assert become(ONE, make("center")) is False
    assert become(TWO, make("center")) is True
    assert become(TWO, make("normalize")) is False
    assert become(ONE, make("normalize", force=True)) is False
    assert become(TWO, make("center", force=True)) is False
    assert (
        become(ONE, lambda: [v.ok for v in pixelprep.verify(every=True, **options)]) == [True] * 2
    )
    for path in cache.rglob("*"):
        wanted = 0o775 if path.is_dir() else 0o664
        assert stat.S_IMODE(path.stat().st_mode) & 0o777 == wanted, path
        assert path.stat().st_gid == GROUP

    def remove() -> object:
        return len(pixelprep.cache.remove("digits", cache_dir=cache))

    assert become(ONE, remove) == 2
    assert [path.name for path in cache.iterdir() if not path.name.startswith(".")] == []


def test_what_another_may_not_delete_keeps_nothing_else(common: Path) -> None:
    """Of many things to remove, those of which one has no right to are left and counted."""
    cache, dataset = common / "cache", str(common / "digits")
    for mode in ("center", "normalize", "standardize"):
        pixelprep.prepare(dataset, mode=mode, cache_dir=cache, quiet=True)
    give(cache, ONE)
    (own,) = cache.glob("digits/normalize-*")
    os.chown(own, TWO, GROUP)
    own.parent.chmod(0o3775)  # sticky: only the owner of a folder in it may rename that

    def remove() -> object:
        paths = sorted(cache.glob("digits/*-*"), reverse=True)
        gone = pixelprep.cache.remove(*paths, cache_dir=cache)
        return [item.path.name.split("-")[0] for item in gone]

    os.chown(own.parent, 0, GROUP)
    assert become(ONE, remove) == ["standardize", "center"]
    assert own.exists()
    assert "CacheError" in str(become(ONE, remove))


def test_a_process_of_another_container_counts_as_alive(tmp_path: Path) -> None:
    """Its number means nothing here, be the host names equal: its work stays where locks do not
    work, for a week.
    """
    code = "from pixelprep.system import locks; print(locks.owner_tag())"
    alone = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or execute([*alone, "true"]).returncode:
        pytest.skip("no name space of process numbers can be made here")
    here, there = (
        execute([*prefix, sys.executable, "-c", code], check=True).stdout.strip()
        for prefix in ([], alone)
    )
    assert not locks.owner_alive(here, tmp_path)
    assert locks.owner_alive(there, tmp_path)
    os.utime(tmp_path, (0, 0))
    assert not locks.owner_alive(there, tmp_path)


def test_a_cache_in_a_lower_layer_is_used_like_any_other(digits: str, tmp_path: Path) -> None:
    """Where an image of a container has the cache, no folder of it can be renamed: entries are made
    anew, repaired, gone on with and removed all the same.
    """
    lower = tmp_path / "lower"
    entry = pixelprep.prepare(digits, cache_dir=lower / "cache", quiet=True)
    other = pixelprep.prepare(digits, mode="center", cache_dir=lower / "cache", quiet=True)
    leave_unfinished(lower / "cache")
    with layered(tmp_path / "layers", lower) as top:
        cache = top / "cache"
        with pytest.raises(OSError, match="cross-device"):
            (cache / "digits").rename(cache / "renamed")
        again = pixelprep.prepare(digits, force=True, cache_dir=cache, quiet=True)
        assert bytes_of(again.path) == bytes_of(entry.path)
        damaged = cache / other.path.relative_to(lower / "cache")
        flip_a_byte(damaged)
        (verdict,) = pixelprep.verify(damaged, repair=True, cache_dir=cache, quiet=True)
        assert verdict.ok
        assert bytes_of(damaged) == bytes_of(other.path)
        with staging.workspace(cache, "work", resumable=True) as work:
            assert [receipt.name for receipt in (work / "done").iterdir()] == ["one.json"]
        assert len([i for i in pixelprep.cache.prune(keep=0, cache_dir=cache) if i.entry]) == 2
        assert nothing_is_left(cache)
