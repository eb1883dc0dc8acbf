"""Real servers of several makers on this machine: what is pushed to each is pulled from it."""

import base64
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

import pixelprep
from pixelprep.format import manifest as manifests
from pixelprep.system import remote
from tests.helpers.data import arrays
from tests.helpers.process import execute

pytestmark = pytest.mark.long

ACCESS = {"AWS_ACCESS_KEY_ID": "user", "AWS_SECRET_ACCESS_KEY": "pass-word-1"}
LOGIN = ["--user", "user", "--pass", "pass-word-1"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def serving(command: list[str], port: int) -> Iterator[None]:
    """Run a server until the end; wait until it answers at its port."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert server.poll() is None, command
                time.sleep(0.05)
            yield
        finally:
            server.kill()


@contextmanager
def rclone(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve a folder with rclone; yield the URL of a place in it that nobody made yet."""
    needed = {"s3": "s3fs", "webdav": "webdav4", "sftp": "paramiko", "http": "aiohttp"}[kind]
    pytest.importorskip(needed, reason="the backend of fsspec for this server")
    if shutil.which("rclone"):
        kinds = execute(["rclone", "serve", "--help"])
        if kind not in kinds.stdout.split():
            pytest.skip(f"this rclone does not serve {kind}")
    port = free_port()
    address = f"127.0.0.1:{port}"
    access = [f"--auth-key={','.join(ACCESS.values())}"] if kind == "s3" else LOGIN
    (folder / "bucket").mkdir(parents=True)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
    if kind == "s3":  # of which fsspec keeps those of another endpoint
        pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()
    command = ["rclone", "serve", kind, str(folder), "--addr", address, *access]
    command += ["--vfs-cache-mode", "full"] if kind == "webdav" else []
    with serving(command, port):
        login = "user:pass-word-1@"
        yield {
            "s3": "s3://bucket/team",
            "webdav": f"webdav+http://{login}{address}/bucket/team",
            "sftp": f"sftp://{login}{address}/bucket/team",
            "http": f"http://{login}{address}/bucket/team",
        }[kind]


@contextmanager
def moto(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run moto's S3, with one bucket in it."""
    s3fs = pytest.importorskip("s3fs", reason="the backend of fsspec for S3")
    port = free_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with serving(["moto_server", "-H", "127.0.0.1", "-p", str(port)], port):
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("bucket")
        yield "s3://bucket/team"


@contextmanager
def azurite(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run Azure's emulator, with one container in it, and the key that it publishes."""
    adlfs = pytest.importorskip("adlfs", reason="the backend of fsspec for Azure")
    port, key = free_port(), base64.b64encode(b"pass-word" * 4).decode()
    monkeypatch.setenv("AZURITE_ACCOUNTS", f"user:{key}")
    about = {"DefaultEndpointsProtocol": "http", "AccountName": "user", "AccountKey": key}
    about["BlobEndpoint"] = f"http://127.0.0.1:{port}/user"
    line = ";".join(f"{name}={value}" for name, value in about.items())
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", line)
    command = ["azurite-blob", "--blobPort", str(port), "--location", str(folder / "azure")]
    with serving([*command, "--silent", "--skipApiVersionCheck"], port):
        adlfs.AzureBlobFileSystem.clear_instance_cache()
        adlfs.AzureBlobFileSystem(connection_string=line).mkdir("container")
        yield "az://container/team"


@pytest.fixture(params=["moto", "s3", "webdav", "sftp", "azure"])
def url(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Return the URL of a place of each server, which is empty."""
    for name, value in ACCESS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    own = {"moto": moto, "azure": azurite}.get(request.param, partial(rclone, request.param))
    with own(tmp_path / "served", monkeypatch) as place:
        yield place


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_round_trip(url: str, tmp_path: Path) -> None:
    """Pushed, listed, pulled byte for byte, found by `prepare`, repaired, pruned."""
    made = pixelprep.prepare("sample", quiet=True, cache_dir=tmp_path / "own")
    name = f"sample/{made.path.name}"
    assert pixelprep.cache.list_remote(url) == ()
    done = pixelprep.push(made, url, cache_dir=tmp_path / "own", quiet=True)
    assert (done.files, done.present) == (2, False)
    assert "pass-word" not in done.url
    assert pixelprep.push(made, url, cache_dir=tmp_path / "own", quiet=True).present
    [item] = pixelprep.cache.list_remote(url)
    assert (item.name, item.files, item.published) == (name, 4, True)
    assert item.bytes > made.size
    assert abs(item.made - time.time()) < 3600
    got = pixelprep.pull(name, remote=url, cache_dir=tmp_path / "pulled", quiet=True)
    assert contents(got.path) == contents(made.path)
    got = pixelprep.prepare("sample", remote=url, cache_dir=tmp_path / "found", quiet=True)
    assert contents(got.path) == contents(made.path)
    files, path = remote.open_remote(url)
    for broken in (manifests.DIGEST, files.ls(f"{path}/{name}", detail=False)[-1].split("/")[-1]):
        files.pipe_file(f"{path}/{name}/{broken}", b"short")
        assert not pixelprep.push(made, url, cache_dir=tmp_path / "own", quiet=True).present
        shutil.rmtree(tmp_path / "pulled")
        got = pixelprep.pull(name, remote=url, cache_dir=tmp_path / "pulled", quiet=True)
        assert contents(got.path) == contents(made.path)
    other = pixelprep.prepare(arrays(), remote=url, push=True, quiet=True)
    assert {one.name.split("/")[0] for one in pixelprep.cache.list_remote(url)} == {
        "sample",
        other.dataset,
    }
    # Some tell times in whole seconds, so both may go.
    assert name in {gone.name for gone in pixelprep.cache.prune_remote(url, max_size="1MB")}
    assert name not in {left.name for left in pixelprep.cache.list_remote(url)}


@pytest.mark.parametrize("kind", ["s3", "webdav", "sftp", "http"])
def test_wrong_credentials(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are one line, in which they do not stand."""
    monkeypatch.setattr(remote, "BACK_OFF", 0.0)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "user")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-word-2")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with rclone(kind, tmp_path / "served", monkeypatch) as place:
        wrong = place.replace("pass-word-1", "wrong-word-2")
        with pytest.raises(pixelprep.RemoteError) as raised:
            pixelprep.pull("sample/center-0123456789ab", remote=wrong, quiet=True)
    assert "access denied" in raised.value.message
    assert "wrong-word-2" not in str(raised.value)


def test_http_of_another_maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was pushed to a folder is pulled by HTTP from whoever serves it."""
    made = pixelprep.prepare("sample", quiet=True, cache_dir=tmp_path / "own")
    with rclone("http", tmp_path / "served", monkeypatch) as place:
        pixelprep.push(made, os.fspath(tmp_path / "served" / "bucket" / "team"), quiet=True)
        name = f"sample/{made.path.name}"
        got = pixelprep.pull(name, remote=place, cache_dir=tmp_path / "pulled", quiet=True)
    assert contents(got.path) == contents(made.path)
