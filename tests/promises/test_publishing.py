"""What gets a name is on the disk before: the order of the system calls, as strace sees them."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import pixelprep
from tests.helpers.cli import COMMAND
from tests.helpers.data import write_digits
from tests.helpers.downloads import tiny_mnist
from tests.helpers.injection import FOLDERS, REMOVALS, RENAMES, SYNCS, WRITES, Call, traced, why_not
from tests.helpers.server import Server
from tests.helpers.training import MODELS

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

NEVER = -1  # before all calls


@dataclass
class Known:
    """What is known of one file or folder, whatever it is called."""

    changed: int = NEVER  # when it was last written or a name in it changed
    synced: int = NEVER  # when it was last brought to the disk since


@dataclass
class Disk:
    """Follows calls, file by file, through all renames.

    A file or folder that was not seen before is taken to have been there all the time.
    """

    items: dict[Path, Known] = field(default_factory=dict)

    def at(self, path: Path) -> Known:
        """Return what is known of whatever has this name now."""
        return self.items.setdefault(path, Known())

    def follow(self, call: Call) -> None:
        """See a call that was made."""
        path = call.paths[-1] if call.paths else Path()
        if call.name in SYNCS:
            # Only what was written before it began is on the disk after it.
            if self.at(path).changed < call.begin:
                self.at(path).synced = call.end
        elif call.name in WRITES:
            self.at(path).changed = call.end
        elif call.name in RENAMES:
            self._rename(call.paths[0], path, call.end)
        elif call.name in REMOVALS:
            self.items.pop(path, None)
            self.at(path.parent).changed = call.end
        elif call.name in FOLDERS or "O_CREAT" in call.arguments:
            self.at(path).changed = self.at(path.parent).changed = call.end

    def _rename(self, old: Path, new: Path, now: int) -> None:
        self.at(old)
        for path in [path for path in self.items if path == old or old in path.parents]:
            self.items[new / path.relative_to(old)] = self.items.pop(path)
        self.at(old.parent).changed = self.at(new.parent).changed = now

    def unsafe(self, top: Path, begin: int) -> list[Path]:
        """Return what in this file or folder was not brought to the disk before this time."""
        within = [path for path in self.items if path == top or top in path.parents]
        return [
            path
            for path in within
            if not (self.items[path].changed <= self.items[path].synced < begin)
        ]


def landings(calls: Sequence[Call], top: Path) -> Iterator[tuple[Call, list[Path]]]:
    """Yield each rename to a final name below `top`, and what of it was not on the disk before."""
    disk = Disk()
    for call in calls:
        if not call.ok or not call.below(top):
            continue
        if call.name in RENAMES and is_final(call.paths[1], top):
            yield call, disk.unsafe(call.paths[0], call.begin)
        disk.follow(call)


def is_final(path: Path, cache: Path) -> bool:
    """Return whether this is a name that others may rely on."""
    return path.relative_to(cache).parts[0] not in (".tmp", ".trash", ".locks")


def synced_after(calls: Sequence[Call], moment: int) -> list[Path]:
    """Return what was brought to the disk after this time."""
    return [
        call.paths[0] for call in calls if call.name in SYNCS and call.ok and call.begin > moment
    ]


def trace(folder: Path, *arguments: str, command: Sequence[str] = COMMAND) -> list[Call]:
    """Return the calls of a command that succeeds in this folder, with a cache of its own."""
    environment = os.environ | {"PIXELPREP_CACHE_DIR": str(folder / "cache")}
    status, calls = traced([*command, *arguments], folder / "trace", cwd=folder, env=environment)
    assert status == 0
    return calls


OPTIONS = {
    "plain": [],
    "forced": ["--force"],
    "sharded": ["--shard-rows", "3"],
    "gzipped": ["--compression", "gzip"],
    "workers": ["--shard-rows", "3", "--workers", "2"],
}


@dataclass(frozen=True)
class Made:
    """How an entry was made."""

    cache: Path
    before: frozenset[Path]  # the folders that were in it before
    calls: list[Call]  # of the command


LESS = ("sharded", "gzipped")  # `workers` has shards too; compressed bytes are written as others


@pytest.fixture(
    scope="module",
    params=[pytest.param(o, marks=pytest.mark.long) if o in LESS else o for o in OPTIONS],
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return an entry that is made in several ways; with `forced` it is there already."""
    options, folder = OPTIONS[request.param], tmp_path_factory.mktemp("made")
    cache = folder / "cache"
    write_digits(folder / "digits", 8, 4)
    if "--force" in options:
        pixelprep.prepare(folder / "digits", cache_dir=cache, quiet=True)
    before = frozenset(path for path in cache.rglob("*") if path.is_dir())
    return Made(cache, before, trace(folder, "prepare", "./digits", "--quiet", *options))


def published(made: Made) -> Call:
    """Return the rename that names the entry."""
    names = [call for call, _ in landings(made.calls, made.cache)]
    (found,) = [c for c in names if c.paths[1].relative_to(made.cache).parts[0][0] != "."]
    return found


def test_an_entry_gets_its_name_when_it_is_on_the_disk(made: Made) -> None:
    """One rename from `.tmp` gives an entry its name: every file was fsynced after it was last
    written, and so was the folder; after it the folders above are fsynced. Whatever else in the
    cache gets its name by a rename was fsynced before, too.
    """
    landing = published(made)
    source, entry = landing.paths
    assert source.is_relative_to(made.cache / ".tmp")
    assert entry.parent.parent == made.cache
    synced = synced_after(made.calls, landing.end)
    assert entry.parent in synced
    assert made.cache in synced[synced.index(entry.parent) :]
    assert [str(call) for call, unsafe in landings(made.calls, made.cache) if unsafe] == []


def test_nothing_is_written_under_a_final_name(made: Made) -> None:
    """No file is opened to be written, made, changed or removed below a dataset's folder: what is
    there came by one rename, and goes by one.
    """
    for call in made.calls:
        last = call.paths[-1] if call.paths else Path()
        if not call.ok or not call.changes or made.cache not in last.parents or call.name in SYNCS:
            continue
        first, *below = last.relative_to(made.cache).parts
        if not first.startswith("."):
            assert not below or (call.name in RENAMES and len(below) == 1), str(call)


def test_nothing_lands_on_what_is_there(made: Made) -> None:
    """No rename takes the place of a folder; one that was tried is refused by the system."""
    there = set(made.before)
    for call in made.calls:
        if not call.ok or not call.below(made.cache):
            continue
        if call.name in FOLDERS:
            there.add(call.paths[-1])
        elif call.name in REMOVALS:
            there.discard(call.paths[-1])
        elif call.name in RENAMES:
            old, new = call.paths
            assert new not in there, str(call)
            moved = {path for path in there if path == old or old in path.parents}
            there = (there - moved) | {new / path.relative_to(old) for path in moved}


@pytest.mark.parametrize("made", ["forced"], indirect=True)
def test_what_is_replaced_goes_out_of_sight_first(made: Made) -> None:
    """With `--force` the old entry is renamed into `.trash`, the new one takes its name, and only
    then is the old one deleted.
    """
    landing = published(made)
    entry = landing.paths[1]
    (leaving,) = [call for call in made.calls if call.name in RENAMES and call.paths[0] == entry]
    old = leaving.paths[1]
    assert leaving.ok
    assert leaving.end < landing.begin
    assert old.parent == made.cache / ".trash"
    removals = [call for call in made.calls if call.name in REMOVALS and call.below(old)]
    assert {call.paths[-1] for call in removals} >= {old / "train.h5", old / "manifest.json", old}
    assert min(call.begin for call in removals) > landing.end
    assert not old.exists()


def test_a_download_gets_its_name_when_it_is_on_the_disk(tmp_path: Path, cache: Path) -> None:
    """What is downloaded grows under another name; it is fsynced, renamed, and its folder too."""
    web = tmp_path / "web"
    web.mkdir()
    code = tiny_mnist(web) + "\nfrom pixelprep.cli.app import main; main()"
    command = [sys.executable, "-c", code]
    with Server(web) as server:
        calls = trace(tmp_path, "prepare", "mnist", "--mirror", server.url, command=command)
    raw = [(call, unsafe) for call, unsafe in landings(calls, cache) if call.below(cache / ".raw")]
    assert len(raw) == 4
    for landing, unsafe in raw:
        assert landing.paths[0].suffix == ".part"
        assert unsafe == []
        assert landing.paths[1].parent in synced_after(calls, landing.end)


@pytest.mark.long
def test_a_run_gets_its_name_when_it_is_on_the_disk(tmp_path: Path) -> None:
    """Checkpoints and the finished run are fsynced before they get their names."""
    pytest.importorskip("tensorflow", reason="the extra `train` is not installed")
    shutil.copy(MODELS, tmp_path)
    write_digits(tmp_path / "digits", 8, 4)
    settings = ("--epochs", "2", "--model", "models:tiny", "--run-dir", "runs/run", "--quiet")
    calls = trace(tmp_path, "train", "./digits", *settings)
    found = list(landings(calls, tmp_path / "runs"))
    names = [landing.paths[1].name for landing, _ in found]
    assert names == ["checkpoint.npz", "checkpoint.npz", "run"]
    assert [unsafe for _, unsafe in found] == [[], [], []]
    assert tmp_path / "runs" in synced_after(calls, found[-1][0].end)


@pytest.mark.parametrize(
    "to", ["png", *(pytest.param(to, marks=pytest.mark.long) for to in ("npz", "hdf5-single"))]
)
def test_an_export_gets_its_name_when_it_is_on_the_disk(tmp_path: Path, to: str) -> None:
    """One rename gives an export its name: every file and folder in it was fsynced after it was
    last written, and the folder above is afterwards.
    """
    entry = pixelprep.prepare(write_digits(tmp_path / "digits", 8, 4), quiet=True).path
    place = tmp_path / "place"
    place.mkdir()
    calls = trace(tmp_path, "export", str(entry), "place/out", "--to", to, "--quiet")
    ((landing, unsafe),) = landings(calls, place)
    assert landing.paths[1] == place / "out"
    assert unsafe == []
    assert place in synced_after(calls, landing.end)
