"""Entries read in place from real servers on this machine, also by workers of other processes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import pixelprep
from pixelprep import RemoteError
from tests.cache.test_remote_servers import free_port, moto, rclone, serving
from tests.helpers.data import arrays, content
from tests.helpers.process import execute

pytestmark = pytest.mark.long

EPOCH: dict[str, Any] = {"shuffle": True, "seed": 1}
WORKERS = """
import hashlib, sys
import torch
import pixelprep

if __name__ == "__main__":
    url, method, start = sys.argv[1:]
    entry = pixelprep.open(url)
    if start == "used":  # connections are open before the workers start
        entry.train.read(0, 20)
    feed = entry.train.to_torch(8, shuffle=True, seed=1)
    loader = torch.utils.data.DataLoader(
        feed, batch_size=None, num_workers=2, multiprocessing_context=method
    )
    for _ in range(2):
        images = (image.numpy().tobytes() for batch, _ in loader for image in batch)
        rows = [hashlib.sha256(image).hexdigest() for image in images]
        print(hashlib.sha256("".join(sorted(rows)).encode()).hexdigest(), len(rows))
"""


@contextmanager
def plain_http(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve a folder by HTTP, with ranges."""
    pytest.importorskip("aiohttp", reason="fsspec's HTTP")
    folder.mkdir()
    address = f"127.0.0.1:{(port := free_port())}"
    with serving(["rclone", "serve", "http", str(folder), "--addr", address], port):
        yield f"http://{address}/team"


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("kind", ["moto", "rclone s3", "http"])
def test_servers_give_what_the_disk_gives(
    kind: str, compression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 of two makers, and HTTP: the local batches, in this process and in workers of others."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, {"AWS_ACCESS_KEY_ID": "user"}.get(name, "pass-word-1"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    if kind != "http":  # connections of other tests, to servers that are gone
        pytest.importorskip("s3fs", reason="fsspec's S3").S3FileSystem.clear_instance_cache()
    own = pixelprep.prepare(
        arrays(130, 20, (64, 64, 3)), shard_rows=48, compression=compression, quiet=True
    )
    servers: dict[str, Any] = {"moto": moto, "rclone s3": partial(rclone, "s3"), "http": plain_http}
    with servers[kind](tmp_path / "served", monkeypatch) as url:
        if kind == "http":
            pixelprep.push(own, str(tmp_path / "served/team"), quiet=True)
        else:
            pixelprep.push(own, url, quiet=True)
        url = f"{url}/{own.dataset}/{own.path.name}"
        monkeypatch.setenv("PIXELPREP_CACHE_DIR", str(tmp_path / "other"))
        found = pixelprep.open(url)
        for _ in range(2):
            assert content(found.train.batches(16, **EPOCH)) == content(
                own.train.batches(16, **EPOCH)
            )
        pytest.importorskip("torch", reason="loaders with workers")
        printed = set()
        for method, start in (("fork", "new"), ("fork", "used"), ("spawn", "used")):
            monkeypatch.setenv("PIXELPREP_CACHE_DIR", str(tmp_path / f"{method}-{start}"))
            script = tmp_path / "loads.py"
            script.write_text(WORKERS)
            done = execute([sys.executable, str(script), url, method, start])
            assert done.returncode == 0, done.stderr
            printed |= set(done.stdout.splitlines())
        assert len(printed) == 1
        assert printed.pop().endswith(" 130")


def test_a_server_without_ranges_is_refused(tmp_path: Path) -> None:
    """Python's own web server answers a range with the whole file: the hint says to pull."""
    pytest.importorskip("aiohttp", reason="fsspec's HTTP")
    own = pixelprep.prepare(arrays(30, 20, (9, 8, 1)), cache_dir=tmp_path / "c", quiet=True)
    handler = partial(SimpleHTTPRequestHandler, directory=str(own.path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with pytest.raises(RemoteError, match="the server sends no ranges") as raised:
            pixelprep.open(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert raised.value.hint is not None
    assert "pixelprep.pull" in raised.value.hint
