"""Chunks unpack as libhdf5 unpacks them, or are refused; who reads for others may die."""

import ctypes
import os
import signal
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelprep import SourceError
from pixelprep.format import chunks, codecs, sandbox

PACKED: dict[str, dict[str, Any]] = {
    "none": {},
    "deflate": {"compression": "gzip"},
    "lzf": {"compression": "lzf"},
    "lz4": dict(hdf5plugin.LZ4(nbytes=0)),
    "lz4 in blocks": dict(hdf5plugin.LZ4(nbytes=64)),
    "zstd": dict(hdf5plugin.Zstd(clevel=3)),
}


def written(path: Path, data: np.ndarray, options: dict[str, Any]) -> Path:
    """Return a file with one chunked dataset, packed by the real library."""
    path.unlink(missing_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=data, chunks=data.shape, **options)
    return path


def checked(path: Path) -> None:
    """Look through its chunks, and unpack the first as libhdf5 does."""
    with h5py.File(path, "r") as file:
        dataset = file["x"]
        assert set(chunks.check(dataset)) == {None}
        mask, stored = dataset.id.read_direct_chunk((0,) * dataset.ndim)
        first = dataset[: dataset.chunks[0]]
        filters = chunks.applied_filters(chunks.filters_of(dataset), mask)
        unpacked = codecs.unpack(stored, filters, dataset.dtype.itemsize, first.nbytes)
        assert unpacked.tobytes() == first.tobytes()


@pytest.mark.parametrize("packed", PACKED)
@given(
    st.booleans(),
    st.booleans(),
    st.integers(1, 3000),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
    st.sampled_from("bhfd"),
)
def test_what_the_library_wrote_is_let_through(
    tmp_path_factory: pytest.TempPathFactory,
    packed: str,
    shuffle: bool,
    sums: bool,
    count: int,
    kind: int,
    seed: int,
    dtype: str,
) -> None:
    """Noise, constants, runs and repetitions of any length, in every packing and order."""
    numbers = np.random.default_rng(seed)
    made = (
        numbers.integers(0, 100, count),
        np.full(count, numbers.integers(100)),
        np.repeat(numbers.integers(0, 100, count // 40 + 1), 40)[:count],
        np.resize(numbers.integers(0, 100, 7), count),
    )[kind]
    path = tmp_path_factory.getbasetemp() / f"{packed}-{shuffle}-{sums}.h5"
    options = {"shuffle": shuffle, "fletcher32": sums, **PACKED[packed]}
    checked(written(path, made.astype(dtype), options))


@pytest.mark.parametrize("packed", [name for name in PACKED if name != "none"])
@given(st.integers(0, 2**32 - 1))
def test_a_chunk_of_another_length_is_refused(
    tmp_path_factory: pytest.TempPathFactory, packed: str, seed: int
) -> None:
    """The packed bytes of a chunk that is shorter or longer, put in its place."""
    numbers = np.random.default_rng(seed)
    folder = tmp_path_factory.getbasetemp()
    data = numbers.integers(0, 9, 700, np.uint8)
    other = data[: numbers.integers(1, 700)] if seed % 2 else np.resize(data, 701 + seed % 500)
    with h5py.File(written(folder / "other.h5", other, PACKED[packed]), "r") as file:
        mask, content = file["x"].id.read_direct_chunk((0,))
    path = written(folder / "wrong.h5", data, PACKED[packed])
    with h5py.File(path, "r+") as file:
        file["x"].id.write_direct_chunk((0,), content, mask)
    with pytest.raises(ValueError, match="chunk"):
        checked(path)


ROWS = np.arange(3 * 500, dtype="f4").reshape(3, 500)


def test_chunks_at_the_edge_that_are_not_packed_are_refused(tmp_path: Path) -> None:
    """A flag exempts a last chunk that is not full from the filters: packed bytes would be rows."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((2, 500))
    properties.set_deflate(4)
    library = ctypes.CDLL(h5py.h5p.__file__)
    library.H5Pset_chunk_opts.argtypes = [ctypes.c_int64, ctypes.c_uint]
    assert library.H5Pset_chunk_opts(properties.id, 2) >= 0
    space = h5py.h5s.create_simple(ROWS.shape)
    with h5py.File(tmp_path / "edge.h5", "w", libver="v110") as file:
        made = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, properties)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, ROWS)
        made.write_direct_chunk((2, 0), zlib.compress(bytes(2 * 500 * 4)))  # what was let through
    with pytest.raises(ValueError, match="without filters"):
        checked(tmp_path / "edge.h5")


def test_a_chunk_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    """Where an index names one place twice, the number of chunks is right and rows are missing."""
    path = tmp_path / "twice.h5"
    with h5py.File(path, "w", libver=("earliest", "v108")) as file:
        file.create_dataset("x", data=ROWS, chunks=(2, 500), compression="gzip")
    checked(path)
    content = bytearray(path.read_bytes())
    (tree,) = (at for at in range(len(content)) if content[at : at + 8] == b"TREE\x01\0\2\0")
    key = 8 + 3 * 8  # bytes of a key: size and mask, and a place in two dimensions and bytes
    second = tree + 24 + key + 8
    assert content[second + 8 : second + 16] == (2).to_bytes(8, "little")
    content[second + 8 : second + 16] = bytes(8)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="stored twice"):
        checked(path)


@pytest.mark.parametrize("codec", codecs.CODECS, ids=str)
@given(st.binary(max_size=300))
def test_any_bytes_are_unpacked_or_refused(codec: int, content: bytes) -> None:
    """Any bytes are refused, unless they happen to unpack to the very size that is expected."""
    try:
        unpacked = codecs.unpack(content, [codec], 1, 100)
    except ValueError:
        return
    assert unpacked.shape == (100,)
    if codec == codecs.DEFLATE:
        assert unpacked.tobytes() == zlib.decompressobj().decompress(content)


def test_deflate_by_another_library_is_that_of_zlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """With isal and without it any chunk is the same bytes, or refused in the same words."""
    pytest.importorskip("isal", reason="has no wheel for every machine")
    whole = zlib.compress(bytes(range(50)) * 2)
    flipped = [
        (int.from_bytes(whole) ^ 1 << bit).to_bytes(len(whole)) for bit in range(8 * len(whole))
    ]
    chunks = [whole, whole + b"more", *flipped, *(whole[:size] for size in range(len(whole)))]

    def unpack(content: bytes, size: int) -> bytes | str:
        try:
            return codecs.unpack(content, [codecs.DEFLATE], 1, size).tobytes()
        except ValueError as error:
            return str(error)

    wanted = [(content, size) for content in chunks for size in (99, 100, 101)]
    fast = [unpack(*one) for one in wanted]
    monkeypatch.setattr(codecs, "isal_zlib", None)
    assert fast == [unpack(*one) for one in wanted]


# A process of its own


def working(what: str) -> Iterator[Any]:
    """Yield what the tests have done in a process of its own."""
    yield "begun"
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "leave":
        os._exit(0)
    elif what == "memory":
        yield len(bytearray(1 << 40))
    elif what == "hang":
        signal.setitimer(signal.ITIMER_REAL, 0.1)  # in the place of the long patience
        while True:
            time.sleep(1)
    elif what == "ours":
        raise SourceError("here: wrong", "mend it")
    elif what == "full":
        raise OSError(28, "No space left on device", "/there")
    elif what == "noise":
        os.write(1, b"a library prints\n")
        os.write(2, b"and warns\n")
    yield {"what": what}


TASK = f"{__name__}:working"


@pytest.mark.parametrize("what", ["crash", "leave", "memory", "hang"])
def test_a_process_may_die(what: str) -> None:
    """A crash, an end with nothing said, too much memory and a hang are one kind of error."""
    said = sandbox.run_in_sandbox(TASK, what=what)
    assert next(said) == "begun"
    with pytest.raises(sandbox.SandboxError):
        next(said)


def test_what_a_process_says_comes_through(capfd: pytest.CaptureFixture[str]) -> None:
    """Values in order; what libraries print is not among them, and is not printed."""
    assert list(sandbox.run_in_sandbox(TASK, what="noise")) == ["begun", {"what": "noise"}]
    assert capfd.readouterr() == ("", "")


def test_errors_come_through() -> None:
    """One of ours with its hint, and the system's with number and place."""
    with pytest.raises(SourceError) as caught:
        list(sandbox.run_in_sandbox(TASK, what="ours"))
    assert (caught.value.message, caught.value.hint) == ("here: wrong", "mend it")
    with pytest.raises(OSError, match="No space left") as failed:
        list(sandbox.run_in_sandbox(TASK, what="full"))
    assert (failed.value.errno, failed.value.filename) == (28, "/there")


def test_nobody_is_left_working() -> None:
    """When nothing more is asked for, the process is ended."""
    said = sandbox.run_in_sandbox(TASK, what="hang")
    next(said)
    before = children()
    said.close()  # type: ignore[attr-defined]
    assert len(children()) == len(before) - 1


def children() -> list[str]:
    """Return the processes that this one started."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
