"""Files come out right, and what is not as the format has it is not read."""

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import pixelprep
from pixelprep.format import layout, libhdf5, reader, writer
from pixelprep.format.checksum import fletcher32
from pixelprep.system import fs
from tests.helpers import second_reader
from tests.helpers.data import arrays


@given(st.binary(max_size=20_000) | st.integers(0, 300_000).map(lambda n: b"\xff" * n))
@example(b"\xff\xff" * 65_535)
@example(bytes(2 * 65_535))
def test_the_checksum_is_that_of_the_page(content: bytes) -> None:
    """The fast checksum is the page's, whatever the length, and for extreme bytes too."""
    found = fletcher32(np.frombuffer(content, np.uint8))
    assert found == second_reader.fletcher32(content)


@given(st.integers(1, 60), st.integers(1, 64), st.integers(1, 9), st.booleans())
def test_a_filled_file_is_what_libhdf5_writes(
    tmp_path_factory: pytest.TempPathFactory, n: int, rows: int, pixels: int, per_image: bool
) -> None:
    """Filled in or written through libhdf5, a file has the same bytes and the digest is theirs."""
    folder = tmp_path_factory.mktemp("file")
    outline = layout.FileLayout((n, 1, pixels, 1), "float32", rows, per_image=per_image)
    random = np.random.default_rng(n)
    columns: dict[str, Any] = {
        "images": random.random((n, 1, pixels, 1), np.float32),
        "labels": np.arange(n),
        **({"mean": random.random(n), "std": random.random(n)} if per_image else {}),
    }
    with writer.create(folder / "filled.h5", outline) as out:
        step = min(rows, n)
        for start in range(0, n, step):
            out.append(**{k: v[start : start + step] for k, v in columns.items()})
    with libhdf5.open_with_layout(libhdf5.new_file(folder / "through.h5"), outline) as (
        file,
        _,
        check,
    ):
        for name, values in columns.items():
            (step, *_) = file[name].chunks
            for start in range(0, n, step):
                file[name][start : start + step] = values[start : start + step]
            file[name].flush()
        check()
    assert (folder / "filled.h5").read_bytes() == (folder / "through.h5").read_bytes()
    assert out.sha256 == fs.sha256(folder / "filled.h5")


def test_a_slow_disk_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that reads and writes less than it is asked gives the same right digests."""
    usual = pixelprep.prepare(arrays(), shard_rows=7)
    read, write = os.pread, os.pwrite
    monkeypatch.setattr(os, "pread", lambda fd, n, at: read(fd, min(n, 100), at))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: write(fd, data[:100], at))
    again = pixelprep.prepare(arrays(), shard_rows=7, force=True)
    assert again.manifest == usual.manifest
    for part in again.train._files:
        assert fs.sha256(part.path) == part.sha256


def test_a_missing_chunk_is_not_read_as_pixels(tmp_path: Path) -> None:
    """A file of the right shape in which a chunk was never written is refused."""
    path = tmp_path / "holes.h5"
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        for name, shape in (("images", (9, 2, 2, 1)), ("labels", (9,))):
            kind = "<f4" if name == "images" else "<i8"
            file.create_dataset(name, shape, kind, chunks=(3, *shape[1:]), fletcher32=True)
            file[name][:3] = 1
    part = reader.EntryFile(path, 9, fs.sha256(path), fs.file_stamp(path))
    with (
        reader.open_files() as opened,
        pytest.raises(pixelprep.EntryError, match="chunks are missing"),
    ):
        opened.read(part, [(0, 9, 0)], images=np.empty((9, 2, 2, 1), np.float32))
