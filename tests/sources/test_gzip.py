"""Raw files are read once, into a private copy, whatever their size."""

import gzip
import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelprep import SourceError
from pixelprep.sources import Options, SourceContext, find_source, gzip_file
from pixelprep.system import fs
from tests.helpers.data import write_digits


def members(*contents: bytes) -> bytes:
    """Return a gzip file of several members."""
    return b"".join(gzip.compress(content, 1, mtime=0) for content in contents)


@given(st.lists(st.binary(max_size=2000), max_size=4), st.integers(0, 5), st.integers(0, 9000))
def test_members_are_one_content(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], zeros: int, most: int
) -> None:
    """Members follow each other, zeros may fill the end; more than is wanted is cut off."""
    path = tmp_path_factory.mktemp("raw") / "file.gz"
    path.write_bytes(members(b"", *contents) + bytes(zeros))
    found = gzip_file.unpack(path, most, path.with_name("private"))
    assert found.path.read_bytes() == b"".join(contents)[: most + 1]
    if len(b"".join(contents)) <= most:
        assert found.digest == fs.sha256(path)


@pytest.mark.parametrize("size", [gzip_file.PIECE - 120, gzip_file.PIECE - 23, gzip_file.PIECE])
def test_zeros_may_fill_up_any_block(tmp_path: Path, size: int) -> None:
    """Zeros after a member are no member, wherever they are met; tapes and copies add them."""
    content = np.random.default_rng(0).bytes(size)
    path = tmp_path / "file.gz"
    path.write_bytes(members(content) + bytes(3 * gzip_file.PIECE) + members(b"end") + bytes(9))
    assert (
        gzip_file.unpack(path, 1 << 20, tmp_path / "private").path.read_bytes() == content + b"end"
    )


@given(st.binary(max_size=3000).filter(lambda content: not content.startswith(gzip_file.GZIP)))
def test_a_plain_file_is_its_content(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """What is no gzip file is taken as it is, and its digest is that of its bytes."""
    path = tmp_path_factory.mktemp("raw") / "file"
    path.write_bytes(content)
    found = gzip_file.unpack(path, 10_000, path.with_name("private"))
    assert found.path.read_bytes() == content
    assert found.digest == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("damage", [-1, -5, -9, -20])
def test_a_damaged_member_is_refused(tmp_path: Path, damage: int) -> None:
    """Length, checksum and content of every member are checked, also of the second."""
    content = bytearray(members(b"first", bytes(range(256)) * 20))
    content[damage] ^= 1
    path = tmp_path / "file.gz"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"file\.gz"):
        gzip_file.unpack(path, 10_000, tmp_path / "private")


def test_another_library_reads_as_zlib_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With isal and without it any file is the same content, or refused in the same words."""
    pytest.importorskip("isal", reason="has no wheel for every machine")
    whole = members(bytes(range(20))) + gzip.compress(b"end") + bytes(2)
    cut = [whole[:size] for size in range(len(whole))]
    flips = [(at, 1 << at % 8) for at in range(len(whole))]
    flipped = [whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :] for at, bit in flips]
    paths = [tmp_path / f"{number}.gz" for number in range(2 * len(whole) + 1)]
    for path, content in zip(paths, [whole, *cut, *flipped], strict=True):
        path.write_bytes(content)

    def read(path: Path) -> bytes | str:
        try:
            return b"".join(gzip_file.read_pieces(path))
        except SourceError as error:
            return str(error)

    fast = [read(path) for path in paths]
    monkeypatch.setitem(sys.modules, "isal", None)
    assert fast == [read(path) for path in paths]


def test_what_was_read_does_not_change(tmp_path: Path) -> None:
    """Raw files may be overwritten or cut once they were read: the arrays stay as they were."""
    folder = write_digits(tmp_path / "digits")
    images, labels = (folder / f"train-{name}-ubyte" for name in ("images-idx3", "labels-idx1"))
    written = images.read_bytes()[16:], labels.read_bytes()[8:]
    with SourceContext(tmp_path / "cache") as place:
        train = find_source(str(folder), Options()).load(place).splits["train"]
        for path in (images, labels):
            path.write_bytes(bytes(10))
        found = train.images[:], train.labels[:].astype(np.uint8)
        assert tuple(one.tobytes() for one in found) == written
    assert list((tmp_path / "cache" / fs.TMP).iterdir()) == []
