"""Raw data at a URL: what comes is what lies there, once, and a hit reads none of it."""

import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixelprep
from pixelprep.errors import DownloadError, PixelprepError, SourceError, UsageError
from pixelprep.sources import url_files
from pixelprep.sources.known import download
from pixelprep.system import remote
from tests.helpers import cli
from tests.helpers.server import Server, Twist

FIRST, SECOND = (Twist(headers={"ETag": f'"{tag}"'}) for tag in ("first", "second"))


def write_photos(folder: Path, seed: int = 0, count: int = 3) -> Path:
    """Write noise of two classes in two splits, as PNG."""
    noise = np.random.default_rng(seed)
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for row in range(count):
                pixels = noise.integers(0, 256, (6, 6, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{row}.png")
    return folder


def write_zip(folder: Path, path: Path) -> Path:
    """Write a folder as a zip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for one in sorted(folder.rglob("*.png")):
            archive.write(one, one.relative_to(folder))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of pictures."""
    return write_photos(tmp_path / "disk" / "photos")


@pytest.fixture
def server(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Return a server that has the pictures as photos.zip."""
    monkeypatch.setattr(download, "BACK_OFF", 0.0)
    monkeypatch.setattr(download, "CHUNK", 256)
    monkeypatch.setattr(remote, "BACK_OFF", 0.0)
    write_zip(photos, tmp_path / "web" / "photos.zip")
    with Server(tmp_path / "web") as one:
        one.twist("*", then=FIRST)
        yield one


def prepare(data: object, **options: Any) -> pixelprep.Entry:
    return pixelprep.prepare(data, quiet=True, **options)  # type: ignore[arg-type] # also URLs


def asked(server: Server) -> list[str]:
    """Return the methods of all requests, and forget these."""
    methods = [request.method for request in server.requests]
    server.requests.clear()
    return methods


def test_a_zip_at_a_url_is_the_folder_on_the_disk(
    server: Server, photos: Path, tmp_path: Path
) -> None:
    """It has the digest, the key and the name of the same pictures in a folder; all bytes come
    once; a hit is one question, and another scaling no more bytes.
    """
    local = prepare(photos, cache_dir=tmp_path / "other")
    url = f"{server.url}photos.zip"
    entry = prepare(url)
    assert (entry.path.name, entry.dataset) == (local.path.name, "photos")
    assert entry.manifest.recipe.source == local.manifest.recipe.source
    assert asked(server) == ["HEAD", "GET", "HEAD"]  # the last: is it what it was before?
    assert prepare(url).cached
    assert asked(server) == ["HEAD"]
    assert not prepare(url, mode="center").cached
    assert "GET" not in asked(server)
    assert prepare(url, offline=True).cached
    assert not prepare(url, offline=True, mode="normalize").cached
    assert asked(server) == []


def test_what_changed_at_a_url_is_read_anew(server: Server, tmp_path: Path) -> None:
    """Another ETag means other data, whatever lies here of the old."""
    url = f"{server.url}photos.zip"
    old = prepare(url)
    write_zip(write_photos(tmp_path / "new", seed=1), tmp_path / "web" / "photos.zip")
    server.twist("*", then=SECOND)
    new = prepare(url)
    assert (new.cached, new.manifest.recipe.source) != (True, old.manifest.recipe.source)
    assert prepare(url).path == new.path


def test_a_file_that_changes_while_it_comes_is_not_used(server: Server, cache: Path) -> None:
    """What came under one ETag, when there is another behind it, is refused."""
    server.twist("*", FIRST, FIRST, then=SECOND)
    with pytest.raises(SourceError, match="changed while it came"):
        prepare(f"{server.url}photos.zip")
    assert not list(cache.glob("[!.]*"))


def test_without_etag_and_time_it_is_read_every_time(server: Server) -> None:
    """What the server does not tell apart is said, and all bytes come again."""
    server.twist("*", then=Twist())
    for _ in range(2):
        with pytest.warns(pixelprep.PixelprepWarning, match="read anew every time"):
            prepare(f"{server.url}photos.zip")
        assert "GET" in asked(server)


def test_a_download_that_broke_off_is_resumed(server: Server, tmp_path: Path) -> None:
    """The next run asks for the bytes that lack, unless the file is another one now."""
    url = f"{server.url}photos.zip"
    half = (tmp_path / "web" / "photos.zip").stat().st_size // 512 * 256
    broken = Twist(headers=FIRST.headers, drop=half)
    gone = Twist(hang_up=True)
    server.twist("*", FIRST, broken, then=gone)
    with pytest.raises(DownloadError, match=r"photos\.zip: no connection"):
        prepare(url)
    server.requests.clear()
    server.twist("*", then=FIRST)
    prepare(url)
    assert [request.range for request in server.requests] == [None, f"bytes={half}-", None]
    server.requests.clear()
    server.twist("*", SECOND, Twist(headers=SECOND.headers, drop=half), then=gone)
    with pytest.raises(DownloadError):
        prepare(url)
    server.requests.clear()
    server.twist("*", then=Twist(headers={"ETag": '"third"'}))
    prepare(url)
    assert [request.range for request in server.requests] == [None, None, None]


@pytest.mark.parametrize(
    ("twists", "told"),
    [
        ([Twist(status=404)], "404 Not Found"),
        ([Twist(status=401)], "401 Unauthorized"),
        ([Twist(status=429)], "429 Too Many Requests"),
        ([FIRST, Twist(headers=FIRST.headers, cut=300)], r"expected [\d,]+ bytes, got 300"),
        ([FIRST, Twist(headers=FIRST.headers, content=bytes(99_999))], "sends more than"),
        ([FIRST, Twist(headers=FIRST.headers, endless=True)], "sends more than"),
    ],
)
def test_what_goes_wrong_is_one_line_and_no_entry(
    server: Server, cache: Path, twists: list[Twist], told: str
) -> None:
    """Refusals, a body cut short or too long: an error that names the URL, and no entry."""
    server.twist("*", *twists[:-1], *[twists[-1]] * 8, then=FIRST)
    with pytest.raises(PixelprepError, match=told) as raised:
        prepare(f"{server.url}photos.zip")
    assert "photos" in str(raised.value)
    assert not list(cache.glob("[!.]*"))
    assert not list(cache.rglob("*.part"))


def test_a_wrong_byte_on_the_way_is_found_by_an_etag_that_is_the_md5(
    server: Server, photos: Path, tmp_path: Path
) -> None:
    """The file comes again; where the same bytes do, the tag is no MD5, as of encrypted buckets."""
    content = (tmp_path / "web" / "photos.zip").read_bytes()
    tag = {"ETag": f'"{hashlib.md5(content).hexdigest()}"'}
    right = Twist(headers=tag)
    server.twist("*", right, Twist(headers=tag, wrong_byte=60), then=right)
    entry = prepare(f"{server.url}photos.zip")
    assert asked(server) == ["HEAD", "GET", "GET", "HEAD"]
    local = prepare(photos, cache_dir=tmp_path / "other")
    assert entry.manifest.recipe.source == local.manifest.recipe.source
    server.twist("*", then=Twist(headers={"ETag": f'"{"0" * 32}"'}))
    assert prepare(f"{server.url}photos.zip").path == entry.path
    assert asked(server) == ["HEAD", "GET", "GET", "HEAD"]


def test_a_url_with_credentials_is_refused_without_them(server: Server, cache: Path) -> None:
    """Neither a password nor a signature is repeated, and nothing is written down."""
    with_user = server.url.replace("//", "//me:hunter2@")
    for url in (f"{with_user}photos.zip", f"{server.url}photos.zip?token=hunter2"):
        with pytest.raises(UsageError, match="expected a plain URL") as raised:
            prepare(url)
        assert "hunter2" not in str(raised.value)
        assert asked(server) == []
    assert not cache.exists()


def test_spellings_of_one_dataset_mean_one(photos: Path, cache: Path) -> None:
    """A file:// URL is its path, and hf://datasets/… is hf:…; other words of hf:// are none."""
    from pixelprep.sources import meant

    assert prepare(photos.as_uri()).path == prepare(photos).path
    assert meant("hf://datasets/me/photos@v1.0") == "hf:me/photos@v1.0"
    assert meant("hf://datasets/me/photos@refs%2Fpr%2F1/small") == "hf:me/photos/small@refs/pr/1"
    assert meant("hf://datasets/me/photos@refs/pr/1") == "hf:me/photos@refs/pr/1"
    with pytest.raises(UsageError, match="expected hf://datasets/OWNER/NAME"):
        meant("hf://models/me/photos")


def test_offline_takes_what_is_there_or_refuses(server: Server) -> None:
    """It opens no connection: what was never downloaded is an error that says so."""
    with pytest.raises(DownloadError, match="is not downloaded, and `offline`"):
        prepare(f"{server.url}photos.zip", offline=True)
    assert asked(server) == []


def test_an_entry_from_a_url_is_found_and_repaired_by_it(server: Server) -> None:
    """Its URL names the entry; where this is damaged and the download is gone, both come again."""
    url = f"{server.url}photos.zip"
    entry = prepare(url)
    assert pixelprep.open(url, quiet=True).path == entry.path
    assert pixelprep.find_entry(url).path == entry.path
    with (entry.path / "train.h5").open("r+b") as file:
        file.seek(-9, os.SEEK_END)
        file.write(b"damage")
    shutil.rmtree(entry.path.parents[1] / ".raw")
    [result] = pixelprep.verify(url, repair=True, quiet=True)
    assert result.repaired
    assert prepare(url).cached


def test_a_name_that_would_leave_the_folder_is_refused() -> None:
    """Whatever a store lists, no file lands elsewhere."""
    for name in ("../x.png", "a/../../x.png", "/x.png", "a//x.png", "a\\..\\x.png", "c:x.png"):
        with pytest.raises(SourceError, match="expected names of plain files"):
            url_files._checked("s3://bucket", name, {"size": 1})


def test_a_folder_at_a_url_is_the_folder_on_the_disk(photos: Path, tmp_path: Path) -> None:
    """By fsspec, too: the same digest and key; what is gone there goes here, what is the same
    stays; a hit reads no file.
    """
    fsspec = pytest.importorskip("fsspec", reason="a folder at a URL needs fsspec")
    local, store = prepare(photos, cache_dir=tmp_path / "other"), fsspec.filesystem("memory")
    store.put(os.fspath(photos), "/bucket/photos", recursive=True)
    entry = prepare("memory://bucket/photos/")
    assert (entry.path.name, entry.dataset) == (local.path.name, "photos")
    assert entry.manifest.recipe.source == local.manifest.recipe.source
    read, own = list[str](), store.cat_file

    def cat_file(path: str, **how: Any) -> object:
        read.append(path)
        return own(path, **how)

    store.cat_file = cat_file
    try:
        assert prepare("memory://bucket/photos/").cached
        assert read == []
        store.rm("/bucket/photos/train/cat/0.png")
        store.pipe("/bucket/photos/train/cat/9.png", (photos / "train/cat/0.png").read_bytes())
        assert prepare("memory://bucket/photos/").train.shape == (6, 6, 6, 3)
        assert read == ["/bucket/photos/train/cat/9.png"]
    finally:
        store.cat_file = own
        store.rm("/bucket", recursive=True)


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a file system on an S3 server of one's own, with an empty bucket."""
    s3fs = pytest.importorskip("s3fs", reason="S3 needs s3fs")
    pytest.importorskip("moto", reason="a server of S3 is moto's")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    code = "from moto.server import main; main()"
    command = [sys.executable, "-c", code, "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        while "Running on" not in server.stdout.readline():
            assert server.poll() is None
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "hunter2hunter2",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        system = s3fs.S3FileSystem()
        system.mkdir("bucket")
        yield system
    finally:
        server.terminate()
        server.wait()


KILLED = """
import os, sys
from s3fs import S3FileSystem
import pixelprep
own, asked = S3FileSystem._cat_file, []
async def killed(system, path, **how):
    asked.append(path)
    if len(asked) > int(sys.argv[1]):
        os._exit(9)
    return await own(system, path, **how)
S3FileSystem._cat_file = killed
pixelprep.prepare("s3://bucket/photos/", quiet=True)
"""


@pytest.mark.long
def test_a_process_killed_among_the_files_of_a_bucket_is_continued(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever it is killed, there is no entry; the next one asks for what had not come, but for
    the few files that were on their way, and has the data of the disk.
    """
    folder = write_photos(tmp_path / "photos", count=10)
    s3.put(os.fspath(folder), "bucket/photos", recursive=True)
    local, own, read = prepare(folder, cache_dir=tmp_path / "other"), type(s3)._cat_file, [""]

    async def counted(system: Any, path: str, **how: Any) -> Any:
        read.append(path)
        return await own(system, path, **how)

    monkeypatch.setattr(type(s3), "_cat_file", counted)
    for number in (0, 1, 15, 39):
        shutil.rmtree(os.environ["PIXELPREP_CACHE_DIR"], ignore_errors=True)
        done = subprocess.run([sys.executable, "-c", KILLED, str(number)], capture_output=True)
        assert done.returncode == 9, done.stderr
        read.clear()
        type(s3).clear_instance_cache()
        entry = prepare("s3://bucket/photos/")
        assert not entry.cached
        assert entry.manifest.recipe.source == local.manifest.recipe.source
        assert len(read) <= 40 - number + url_files.THREADS
        assert not list(entry.path.parents[1].rglob("*.part"))


@pytest.mark.long
def test_a_bucket_of_s3_is_the_folder_on_the_disk(
    s3: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folder and zip in S3 have the digest of the disk's; a hit costs a listing; a wrong byte on
    the way is found by the ETag, which is the MD5, and fetched again; a missing bucket is one line.
    """
    local = prepare(photos, cache_dir=tmp_path / "other")
    s3.put(os.fspath(photos), "bucket/photos", recursive=True)
    s3.put(os.fspath(write_zip(photos, tmp_path / "photos.zip")), "bucket/zips/photos.zip")
    sources = {prepare(f"s3://bucket/{name}").manifest.recipe.source for name in ("photos/",)}
    own, read = type(s3)._cat_file, list[str]()

    async def flipped(system: Any, path: str, **how: Any) -> bytes:
        read.append(path)
        data: bytes = await own(system, path, **how)
        return data if len(read) > 1 else bytes([data[0] ^ 1]) + data[1:]

    monkeypatch.setattr(type(s3), "_cat_file", flipped)
    type(s3).clear_instance_cache()
    assert prepare("s3://bucket/photos").cached
    assert read == []
    sources.add(prepare("s3://bucket/zips/photos.zip").manifest.recipe.source)
    assert sources == {local.manifest.recipe.source}
    assert len(read) == 2
    done = cli.run("prepare", "s3://nobody/photos/", cold=True)
    assert done.returncode == 1
    assert re.search(r"s3://nobody/photos/: (not found|no such file)", done.stderr)
    assert "hunter2" not in done.stdout + done.stderr
    shutil.rmtree(tmp_path / "other")
