"""Zip and tar: what a folder gives, without unpacking it; what may mean harm is refused."""

import io
import pickle
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pixelprep import SourceError
from pixelprep.sources.pictures import members
from tests.helpers.sources import prepared, refused
from tests.sources.test_image_folder import RGB, numbered, picture, save, write

ENDINGS = [*members.ZIP, *members.TAR]
Make = Callable[[Path, list[tuple[str, bytes]]], Path]


def pets(top: Path) -> Path:
    """Make a folder of two classes and two splits, with files that are no pictures."""
    write(top / "train", numbered({"cat": 4, "dog": 3}))
    write(top / "test", numbered({"cat": 1, "dog": 2}), seed=50)
    save(top / "train" / "cat" / "deep" / "é.png", picture(99))
    save(top / "__MACOSX" / "train" / "cat" / "._0.png", RGB)
    (top / "README.txt").write_text("pets")
    return top


def packed(folder: Path, ending: str) -> Path:
    """Pack a folder's content."""
    path = folder.with_name("pets" + ending)
    if ending == ".zip":
        return Path(shutil.make_archive(str(folder.with_name("pets")), "zip", folder))
    kind = {"tgz": "gz", "txz": "xz", "tbz2": "bz2", "tar": ""}.get(ending[1:], ending[5:])
    with tarfile.open(path, f"w:{kind}") as tar:  # type: ignore[call-overload] # it knows it
        tar.add(folder, ".")
    return path


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_archive_is_the_folder_in_it(
    tmp_path: Path, ending: str, recwarn: pytest.WarningsRecorder
) -> None:
    """Every usual kind gives the entry of the folder, by name and key, and says as much."""
    folder = pets(tmp_path / "pets")
    path = packed(folder, ending)
    found = prepared(path)
    told = {str(one.message).replace(str(path), str(folder)) for one in recwarn}
    assert told == {
        f"{folder}: hidden folders, not used: __MACOSX",
        f"pets: not used: 1 file (1 .txt), such as {folder}/README.txt",
    }
    assert found.path == prepared(folder).path
    assert prepared(path).cached


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_an_archive_a_split_is_the_folder_of_them(tmp_path: Path, kind: str, around: bool) -> None:
    """Archives that are called after splits give what their folders give, unpacked side by side,
    whether a folder of that name is in each or not; so does a path with {split}.
    """
    folder, packed_folder = pets(tmp_path / "pets"), tmp_path / "packed" / "pets"
    for split in ("train", "test"):
        inside = (folder, split) if around else (folder / split, None)
        shutil.make_archive(str(packed_folder / split), kind, *inside)
        shutil.make_archive(str(tmp_path / f"pets-{split}"), kind, *inside)
    (packed_folder / "LICENSE.txt").write_text("free")
    own = prepared(folder)
    found = prepared(packed_folder)
    assert found.manifest.source == own.manifest.source
    assert found.path == own.path
    assert prepared(packed_folder).cached
    ending = {"zip": "zip", "gztar": "tar.gz"}[kind]
    family = prepared(tmp_path / f"pets-{{split}}.{ending}")
    assert (family.manifest.source, family.dataset) == (own.manifest.source, "pets")
    for split in ("train", "test"):
        to = tmp_path / "folders" / split / f"all.{ending}"
        to.parent.mkdir(parents=True)
        (packed_folder / f"{split}.{ending}").rename(to)
        (tmp_path / f"pets-{split}.{ending}").rename(packed_folder / f"pets-{split}ing.{ending}")
    assert prepared(packed_folder).manifest.source == own.manifest.source
    family_of_folders = tmp_path / "folders" / "{split}" / f"all.{ending}"
    assert prepared(family_of_folders).manifest.source == own.manifest.source
    with pytest.raises(SourceError) as caught:
        prepared(tmp_path / "folders")
    assert caught.value.hint == f"give them all: {family_of_folders}"


@pytest.mark.long
def test_workers_read_an_archive_alike(tmp_path: Path) -> None:
    """The entry is the same from two processes."""
    path = packed(pets(tmp_path / "pets"), ".tar")
    assert prepared(path, workers=2).key == prepared(path, cache_dir=tmp_path / "other").key


def test_another_file_at_the_path_is_seen(tmp_path: Path) -> None:
    """A new archive of the same name is read anew, and so is what a worker was sent."""
    path = packed(pets(tmp_path / "pets"), ".zip")
    before = prepared(path)
    archive = pickle.loads(pickle.dumps(members.Archive.open(path, tmp_path / "private")))
    new = save(tmp_path / "pets" / "train" / "cat" / "000.png", picture(1000)).read_bytes()
    assert archive.read(f"{path}/train/cat/000.png") != new
    packed(tmp_path / "pets", ".zip")
    assert archive.read(f"{path}/train/cat/000.png") == new
    assert prepared(path).key != before.key


def zipped(path: Path, files: list[tuple[str, bytes]]) -> Path:
    """Make a zip of these files."""
    with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files:
            info = zipfile.ZipInfo(name)
            if name == "link":
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            file.writestr(info, content)
    return path.with_suffix(".zip")


def tarred(path: Path, files: list[tuple[str, bytes]]) -> Path:
    """Make a tar of these files."""
    with tarfile.open(path.with_suffix(".tar"), "w") as file:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if name in ("link", "device"):
                info.type = tarfile.SYMTYPE if name == "link" else tarfile.CHRTYPE
                info.linkname, info.size = "/etc/passwd", 0
            file.addfile(info, io.BytesIO(content))
    return path.with_suffix(".tar")


def files(folder: Path) -> list[tuple[str, bytes]]:
    """Return the files of a small sound archive."""
    names = [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(2)]
    return [(name, save(folder / name, picture(i)).read_bytes()) for i, name in enumerate(names)]


HARM = [
    ("../out.png", "not a plain name"),
    ("/etc/x.png", "not a plain name"),
    ("cat/../../out.png", "not a plain name"),
    ("link", "neither a file nor a folder"),
    ("device", "neither a file nor a folder"),  # zip has none
    ("cat/0.png", "contains cat/0.png twice"),
]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (make, *row)
        for make in (zipped, tarred)
        for row in HARM
        if row[0] != "device" or make is tarred
    ],
)
def test_what_may_mean_harm_is_refused(
    tmp_path: Path, cache: Path, make: Make, name: str, reason: str
) -> None:
    """Names that leave, links, devices and one name twice are refused, and nothing is written."""
    path = make(tmp_path / "x", [*files(tmp_path / "f"), (name, b"other")])
    before = set(tmp_path.rglob("*")) - set(cache.rglob("*"))
    refused(cache, path, path, reason)
    assert set(tmp_path.rglob("*")) - set(cache.rglob("*")) - {cache} == before - {cache}


def test_a_file_larger_than_a_picture_is_refused(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What unpacks to more than a picture can have is refused before it is unpacked."""
    monkeypatch.setattr(members, "MAX_FILE", 100_000)
    for make in (zipped, tarred):
        path = make(tmp_path / "x", [*files(tmp_path / "f"), ("cat/big.png", bytes(100_001))])
        refused(cache, path, path, "cat/big.png: 100,001 bytes, more than the 100,000")


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tar.xz", ".tar.bz2"])
def test_an_archive_that_is_cut_short_is_refused(tmp_path: Path, cache: Path, ending: str) -> None:
    """Wherever it ends, also between two files, no smaller dataset is made of it."""
    folder = tmp_path / "f"
    files(folder)
    path = packed(folder, ending)
    content = path.read_bytes()
    if ending == ".tar":  # two blocks of zeros and more fill it up
        content = content.rstrip(b"\0")
    for end in np.linspace(0, len(content) - 1, 12).astype(int).tolist():
        path.write_bytes(content[: end // 512 * 512 if ending == ".tar" else end])
        refused(cache, path, path, "")


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tgz"])
def test_what_is_no_archive_is_refused_in_our_words(
    tmp_path: Path, cache: Path, ending: str
) -> None:
    """An empty file is called so; bytes of no tar are not told by a list of what was tried."""
    path = tmp_path / f"x{ending}"
    path.touch()
    error = refused(cache, path, path, "cannot read: an empty file")
    assert error.hint == "get a new copy of it"
    path.write_bytes(b"no archive" * 100)
    kind = "not a zip file" if ending == ".zip" else "no tar, plain or compressed by gzip"
    refused(cache, path, path, kind)


def test_a_damaged_archive_is_refused(tmp_path: Path, cache: Path) -> None:
    """A header of tar that is wrong does not end it; a checksum of zip's is compared."""
    path = tarred(tmp_path / "x", files(tmp_path / "f"))
    content = bytearray(path.read_bytes())
    at = content.index(b"dog/0.png")
    content[at] ^= 1
    path.write_bytes(content)
    error = refused(cache, path, path, "no header at byte")
    assert error.hint == "get a new copy of it"
    path = zipped(tmp_path / "y", files(tmp_path / "f"))
    content = bytearray(path.read_bytes())
    content[content.index(b"dog/0.png") + 60] ^= 1
    path.write_bytes(content)
    refused(cache, path, f"{path}/dog/0.png", "cannot read", on_error="skip")


def test_a_password_is_told(tmp_path: Path, cache: Path) -> None:
    """An encrypted zip is refused as such."""
    path = zipped(tmp_path / "x", files(tmp_path / "f"))
    content = bytearray(path.read_bytes())
    for mark, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        start = content.find(mark)
        while start >= 0:
            content[start + at] |= 1
            start = content.find(mark, start + 1)
    path.write_bytes(content)
    error = refused(cache, path, path, "is encrypted, password required")
    assert error.hint == "unpack the archive"


def test_backslashes_are_folders(tmp_path: Path) -> None:
    """A zip whose names have Windows' slashes is read as any other; they do not lead out of it."""
    write(tmp_path / "pets", numbered({"cat": 3, "dog": 3}))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        for path in sorted((tmp_path / "pets").glob("*/*")):
            file.write(path, f"{path.parent.name}\\{path.name}")
    assert prepared(tmp_path / "all.zip").train.names is not None
    assert prepared(tmp_path / "all.zip").key == prepared(tmp_path / "pets").key
    with zipfile.ZipFile(tmp_path / "all.zip", "a") as file:
        file.writestr("..\\x.png", b"")
    with pytest.raises(SourceError, match="not a plain name"):
        prepared(tmp_path / "all.zip")
