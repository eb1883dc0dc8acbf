"""What a user's HDF5 file is told to be: damaged, newer, or sound on a machine with too little."""

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

import pixelprep
from pixelprep import SourceError
from pixelprep.errors import CacheError
from pixelprep.format import h5, sandbox, untrusted
from pixelprep.sources import Options, SourceContext
from pixelprep.sources.containers.hdf5 import Hdf5Files
from tests.helpers.data import arrays
from tests.helpers.raw_files import PAIRS, write_hdf5
from tests.helpers.sources import refused

GIB = 1 << 30


def hungry(allowed: int) -> Iterator[int]:
    """Need a gibibyte, once so much more is allowed; for a sandbox."""
    sandbox.allow_memory(allowed)
    yield len(bytearray(GIB))


def killed() -> Iterator[None]:
    """End as a process does that Linux kills when memory runs out; for a sandbox."""
    yield None
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.long
def test_memory_is_what_a_function_says_that_it_needs() -> None:
    """Half a gibibyte is allowed and more on demand; a lack of memory is an error of its own."""
    assert list(sandbox.run_in_sandbox(f"{__name__}:hungry", allowed=GIB)) == [GIB]
    with pytest.raises(sandbox.OutOfMemory, match="more memory than there is"):
        list(sandbox.run_in_sandbox(f"{__name__}:hungry", allowed=0))
    with pytest.raises(sandbox.OutOfMemory, match="the system killed"):
        list(sandbox.run_in_sandbox(f"{__name__}:killed"))


@pytest.mark.long
def test_one_chunk_of_300_mb_is_read(tmp_path: Path, cache: Path) -> None:
    """A file whose images are one compressed chunk is read, however large that is."""
    path, images = tmp_path / "one.h5", np.zeros((300, 1000, 1000, 1), np.uint8)
    images[:, 500] = np.arange(1000, dtype=np.uint16).astype(np.uint8)[:, None]
    with h5py.File(path, "w") as file:
        options = {"chunks": images.shape, "compression": "gzip", "compression_opts": 1}
        file.create_dataset("images", data=images, shuffle=True, **options)
        file["labels"] = np.arange(300) % 2
    with SourceContext(cache) as context:
        raw = Hdf5Files(path, Options()).load(context)
        assert np.array_equal(raw.splits["train"].images[:], images)


def test_a_large_chunk_cannot_promise_more_than_it_holds(tmp_path: Path, cache: Path) -> None:
    """A chunk that would unpack to more than deflate can is refused before memory is allowed."""
    path = tmp_path / "bomb.h5"
    with h5py.File(path, "w") as file:
        shape = (100, 1000, 1000, 1)
        images = file.create_dataset("images", shape, "u1", chunks=shape, compression="gzip")
        images.id.write_direct_chunk((0, 0, 0, 0), b"x" * 1000)
        file["labels"] = np.arange(100) % 2
    refused(cache, path, path, "declares more than the file holds: chunks of 100,000,000 bytes")


def test_a_lack_of_file_handles_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the system's is told by its own words, without advice to get the file again."""
    path = write_hdf5(tmp_path / "sound.h5", PAIRS)

    def fail(_: Path) -> None:
        raise OSError(errno.EMFILE, "Unable to open file (Too many open files)")

    monkeypatch.setattr(h5, "open_read", fail)
    with pytest.raises(SourceError) as caught, untrusted.open_untrusted(path):
        pass
    assert str(caught.value) == f"{path}: cannot read: Too many open files"


@pytest.mark.parametrize("words", ["memory allocation failed for chunk", "Can't allocate buffer"])
def test_a_lack_of_memory_in_libhdf5_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """What libhdf5 says of memory is a MemoryError, which the sandbox tells apart."""

    def fail(_: Path) -> None:
        raise OSError(f"Can't synchronously read data ({words})")

    monkeypatch.setattr(h5, "open_read", fail)
    with pytest.raises(MemoryError), untrusted.open_untrusted(tmp_path / "any.h5"):
        pass


def test_a_lack_of_memory_is_no_damage_of_a_file(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a user's file is called unreadable, nor an entry's file damaged."""
    path = write_hdf5(tmp_path / "sound.h5", PAIRS)
    other = tmp_path / "other"
    entry = pixelprep.prepare(arrays(), compression="gzip", cache_dir=other, quiet=True)
    layout = entry.manifest.file_layout("train", 40)

    def fail(*_: object, **__: object) -> None:
        raise sandbox.OutOfMemory("it needs more memory than there is")

    monkeypatch.setattr(sandbox, "run_in_sandbox", fail)
    error = refused(cache, path, path, "cannot read: it needs more memory than there is")
    assert "smaller chunks" in str(error.hint)
    with pytest.raises(CacheError, match="cannot check: it needs more memory than there is"):
        untrusted.validate(entry.path / "train.h5", layout)


def test_a_file_of_a_newer_hdf5_is_told_as_such(tmp_path: Path, cache: Path) -> None:
    """A version that this HDF5 does not know is no reason to get the file again."""
    path = write_hdf5(tmp_path / "newer.h5", PAIRS)
    content = bytearray(path.read_bytes())
    content[8] = 99  # the superblock's version, behind the signature
    path.write_bytes(content)
    version = h5py.version.hdf5_version
    error = refused(cache, path, path, f"written by a newer HDF5 than {version}, or damaged")
    assert str(error.hint).startswith("update h5py, or write the file anew by h5repack")
