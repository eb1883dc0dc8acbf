"""An entry read where it lies on a server: the same arrays, never wrong ones, nothing copied."""

import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep import Entry, EntryError, PixelprepError, RemoteError, UsageError
from pixelprep.cache import in_place
from pixelprep.format import remote_file
from pixelprep.system import remote
from pixelprep.system.block_cache import BlockCache
from tests.helpers.data import arrays, content, flipped
from tests.helpers.process import execute

pytest.importorskip("fsspec", reason="reads what lies on servers: the extra `remote`")

from tests.helpers.far_files import FarFileSystem, Twist

OPTIONS: list[dict[str, Any]] = [
    {},
    {"shuffle": True, "seed": 3, "epoch": 1},
    {"shuffle": True, "shard": (1, 3), "even": "pad"},
    {"shuffle": True, "balance": "oversample"},
    {"shuffle": True, "raw": True, "drop_last": True},
]
EPOCH: dict[str, Any] = {"shuffle": True, "seed": 1}


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """Return an entry of three files of train, each of three chunks."""
    source = arrays(130, 20, (64, 64, 3))
    folder = tmp_path_factory.mktemp("server")
    return pixelprep.prepare(source, shard_rows=48, cache_dir=folder, quiet=True)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin each test with no fault, and wait for none."""
    FarFileSystem.reset()
    monkeypatch.setattr(remote, "BACK_OFF", 0.0)
    remote_file._pieces.clear()


def far(entry: Entry) -> str:
    return f"far://{entry.path}"


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("shape", [(64, 64, 3), (9, 8, 1)], ids=str)
def test_arrays_are_those_of_the_entry_on_the_disk(
    compression: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    """Whatever is read, in whatever order, resumed or not, has the bytes of the local entry's."""
    if compression != "none":
        pytest.importorskip("pyfive", reason="finds packed chunks: the extra `remote`")
    source = arrays(70, 20, shape)
    own = pixelprep.prepare(
        source, shard_rows=32, compression=compression, cache_dir=tmp_path / "s", quiet=True
    )
    found = pixelprep.open(far(own))
    assert found.manifest == own.manifest
    assert np.array_equal(found.train.read(3, 69), own.train.read(3, 69))
    assert np.array_equal(found.test.labels, own.test.labels)
    for options in OPTIONS:
        plan = found.train.batches(7, **options)
        stream = iter(plan)
        begun = [next(stream) for _ in range(2)]
        passed = content(begun) + content(plan.resume(stream.state()))
        assert passed == content(own.train.batches(7, **options)), options
        assert stream.state() == own.train.batches(7, **options).state(2)


def test_each_byte_is_asked_for_once_and_kept(entry: Entry, cache: Path) -> None:
    """Two epochs ask for each chunk once; another process, or a later one, asks for none."""
    found = pixelprep.open(far(entry))
    assert not any(path.endswith(".h5") and start is not None for path, start in FarFileSystem.log)
    for epoch in range(2):
        list(found.train.batches(16, shuffle=True, epoch=epoch))
    asked = [(path, start) for path, start in FarFileSystem.log if path.endswith(".h5")]
    ranges = [one for one in asked if one[1] is not None]
    assert len(ranges) == len(set(ranges)) <= 3 * 4  # three chunks of images, one of labels
    remote_file._pieces.clear()
    FarFileSystem.reset()
    assert content(found.train.batches(16)) == content(entry.train.batches(16))
    assert FarFileSystem.log == []


def test_a_file_is_hashed_once_it_was_wholly_seen(entry: Entry, cache: Path) -> None:
    """The marks of files that were found right appear with the last chunk of each, not before."""
    found = pixelprep.open(far(entry))
    marks = [cache / ".remote" / file.sha256 / "right" for file in found.train._files]
    found.train.read(0, 40)
    assert not marks[0].exists()  # its labels were not read
    list(found.train.batches(16, **EPOCH))
    assert all(mark.exists() for mark in marks)


FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda answer: answer[: len(answer) // 2],
    "too long": lambda answer: answer + b"more",
    "flipped": lambda answer: flipped(answer, len(answer) // 2),
    "empty": lambda answer: b"",
}


def _raise(error: Exception) -> bytes:
    raise error


FAULTS["dropped"] = lambda answer: _raise(ConnectionResetError("gone"))
FAULTS["refused"] = lambda answer: _raise(PermissionError("the token has expired"))


def attempt(entry: Entry, folder: Path, twist: Twist) -> Any:
    """Return the batches of an epoch, all of it asked for anew with these faults, or the error."""
    remote_file._pieces.clear()
    FarFileSystem.reset(twist=twist)
    try:
        opened = pixelprep.open(far(entry), cache_dir=folder)
        return content(opened.train.batches(32, **EPOCH))
    except PixelprepError as error:
        is_clear = str(entry.path) in error.message and "\n" not in error.message
        return type(error) if is_clear else error


def _fault(fault: str, first: int, last: int) -> Twist:
    def twist(n: int, path: str, start: int | None, answer: bytes) -> bytes:
        counts = start is not None or fault in ("dropped", "refused")
        return FAULTS[fault](answer) if first <= n <= last and counts else answer

    return twist


ERRORS = (EntryError, RemoteError, remote.TransientError)


def test_a_fault_gives_no_wrong_batch(entry: Entry, tmp_path: Path) -> None:
    """Of faults of each kind in opening and reading, batches are right or there is one line."""
    expected = content(entry.train.batches(32, **EPOCH))
    for number, fault in zip((2, 4, 9, 11, 12, 14), FAULTS, strict=True):
        result = attempt(entry, tmp_path / fault, _fault(fault, number, number))
        assert result in (expected, *ERRORS), fault


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("lasts", [False, True], ids=["once", "from then on"])
def test_no_fault_gives_a_wrong_batch(
    fault: str, lasts: bool, entry: Entry, tmp_path: Path
) -> None:
    """Whichever request goes wrong, and however, batches are right or there is one clear line."""
    expected = content(entry.train.batches(32, **EPOCH))
    assert attempt(entry, tmp_path / "none", _fault(fault, 1, 0)) == expected
    requests = len(FarFileSystem.log)
    assert requests > 20
    for number in range(requests):
        last = requests * 100 if lasts else number
        result = attempt(entry, tmp_path / str(number), _fault(fault, number, last))
        assert result in (expected, *ERRORS), number


KILLED = """
import os, sys
import pixelprep
from tests.helpers.far_files import FarFileSystem

def twist(n, path, start, answer):
    if n == int(sys.argv[1]):
        os._exit(9)
    return answer

FarFileSystem.reset(twist=twist)
opened = pixelprep.open(sys.argv[2])
print(sum(images.sum(dtype="f8") for images, _ in opened.train.batches(32, shuffle=True, seed=1)))
"""


@pytest.mark.long
def test_who_is_killed_at_any_request_leaves_nothing_wrong(entry: Entry, cache: Path) -> None:
    """Processes killed at each of their requests leave a cache from which batches are right."""
    expected = sum(images.sum(dtype="f8") for images, _ in entry.train.batches(32, **EPOCH))
    for number in range(100):
        done = execute([sys.executable, "-c", KILLED, str(number), far(entry)])
        opened = pixelprep.open(far(entry))
        assert content(opened.train.batches(32)) == content(entry.train.batches(32))
        remote_file._pieces.clear()
        if done.returncode == 0:
            assert float(done.stdout) == expected
            return
        assert done.returncode == 9, done.stderr
        for path in (cache / ".remote").rglob("*"):  # as far as it came: the next goes on anew
            if path.is_file() and number % 2:
                path.unlink()
    raise AssertionError


def test_swapped_answers_are_found_once_the_file_was_seen(entry: Entry, cache: Path) -> None:
    """A chunk in the place of another, right in itself, ends the pass with an error."""
    path = str(entry.path / "train-00000-of-00003.h5")
    first = pixelprep.open(far(entry)).train._files[0]
    assert isinstance(first, remote_file.RemoteFile)
    pieces = remote_file._pieces_of(first)
    size, second = pieces.size(1), pieces.begins[1]
    other = Path(path).read_bytes()[pieces.begins[2] :][:size]

    def twist(n: int, asked: str, start: int | None, answer: bytes) -> bytes:
        if asked != path or start is None or not start <= second < start + len(answer):
            return answer
        place = second - start
        return answer[:place] + other + answer[place + size :]

    FarFileSystem.reset(twist=twist)
    opened = pixelprep.open(far(entry))
    with pytest.raises(EntryError, match=r"train-00000-of-00003\.h5: differs from its SHA-256"):
        list(opened.train.batches(16, **EPOCH))
    FarFileSystem.reset()
    with pytest.raises(EntryError):
        opened.train.read(0, 5)  # told once more
    assert content(opened.train.batches(16)) == content(entry.train.batches(16))


def test_a_file_that_changes_on_the_server_is_one_error(entry: Entry, tmp_path: Path) -> None:
    """What was written anew after the entry was opened is refused, even if it is in order."""
    copy = tmp_path / "copy"
    shutil.copytree(entry.path, copy)
    opened = pixelprep.open(f"far://{copy}")
    path = copy / "train-00000-of-00003.h5"
    os.utime(path, (1, 1))
    with pytest.raises(EntryError, match="changed on the server since the entry was opened"):
        list(opened.train.batches(16))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EntryError, match=r"expected .* bytes, found"):
        pixelprep.open(f"far://{copy}")


def test_what_is_kept_has_a_bound(
    entry: Entry, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache too small for the entry stays below its size, and batches are right all the same."""
    monkeypatch.setattr(in_place, "LEAST_SIZE", 1)
    monkeypatch.setenv(in_place.SIZE_VARIABLE, "3MB")
    opened, most = pixelprep.open(far(entry)), 0
    for epoch in range(2):
        expected = content(entry.train.batches(16, shuffle=True, epoch=epoch))
        assert content(opened.train.batches(16, shuffle=True, epoch=epoch)) == expected
        most = sum(p.stat().st_size for p in (cache / ".remote").rglob("*") if p.is_file())
        assert 0 < most <= 3_000_000
    monkeypatch.setenv(in_place.SIZE_VARIABLE, "much")
    with pytest.raises(UsageError, match="PIXELPREP_REMOTE_CACHE_SIZE=much: expected a size"):
        pixelprep.open(far(entry))


def test_a_cache_that_cannot_be_written_costs_requests_alone(
    entry: Entry, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk takes nothing, batches come from the server, and are right."""
    monkeypatch.setattr(BlockCache, "put", lambda *_: False)
    opened = pixelprep.open(far(entry))
    for _ in range(2):
        assert content(opened.train.batches(16, **EPOCH)) == content(
            entry.train.batches(16, **EPOCH)
        )
    assert not (cache / ".remote").exists()


def test_kept_blocks_are_checked_when_they_are_read_again(entry: Entry, cache: Path) -> None:
    """A block that was cut, emptied, zeroed or changed on the disk is asked for again."""
    opened = pixelprep.open(far(entry))
    expected = content(opened.train.batches(16, **EPOCH))
    damages: tuple[Callable[[bytes], bytes], ...] = (
        lambda b: b[:-9],
        lambda b: b"",
        lambda b: bytes(len(b)),
        lambda b: b and flipped(b, len(b) // 2),
    )
    for damage in damages:
        for path in (cache / ".remote").rglob("*"):
            if path.is_file():
                path.write_bytes(damage(path.read_bytes()))
        remote_file._pieces.clear()
        assert content(opened.train.batches(16, **EPOCH)) == expected


def test_a_feed_travels_with_a_url_and_without_credentials(
    entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pickled batches have no more than the URL; one with a password is refused."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-told")
    plan = pixelprep.open(far(entry)).train.batches(16, **EPOCH)
    pickled = pickle.dumps(plan)
    assert far(entry).encode() in pickled
    assert b"not-to-be-told" not in pickled
    assert content(pickle.loads(pickled)) == content(plan)
    with pytest.raises(UsageError, match="without a password") as raised:
        pixelprep.open("sftp://user:not-to-be-told@127.0.0.1/entry")
    assert "not-to-be-told" not in str(raised.value)


def test_a_remote_entry_is_no_path(entry: Entry) -> None:
    """It shows its URL, and what needs files on the disk is told to pull it."""
    opened = pixelprep.open(far(entry))
    assert f"  {far(entry)}>" in repr(opened)
    with pytest.raises(UsageError, match="expected an entry on the disk"):
        os.fspath(opened)
    with pytest.raises(EntryError, match="no entry there"):
        pixelprep.open(far(entry) + "-no")
