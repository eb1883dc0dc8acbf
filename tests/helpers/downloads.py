"""Files that a test downloads as if they were MNIST."""

import gzip
import hashlib
from pathlib import Path

from pixelprep.sources.known.download import RegistryFile
from pixelprep.sources.known.registered import Pair
from tests.helpers.data import write_digits


def digest(content: bytes) -> str:
    """Return the SHA-256 of bytes, in hex."""
    return hashlib.sha256(content).hexdigest()


def pinned(archive: bytes, name: str = "numbers.gz", by_content: bool = True) -> RegistryFile:
    """Return the pin of a gzip file, with or without its content's digest."""
    content = gzip.decompress(archive)
    inside = digest(content) if by_content else None
    return RegistryFile(name, len(archive), digest(archive), len(content), inside)


ONLY_HERE = """
import socket
from pixelprep.sources.known import download
ask = socket.getaddrinfo
def here(host, *rest, **named):
    if host != "127.0.0.1":
        raise socket.gaierror(socket.EAI_NONAME, "no test asks another machine")
    return ask(host, *rest, **named)
socket.getaddrinfo = here
download.BACK_OFF = 0.0
"""


TINY_MNIST = """
import dataclasses
from pixelprep.sources import resolve
from pixelprep.sources.known import download
from pixelprep.sources.known.download import RegistryFile
from pixelprep.sources import REGISTRY
from pixelprep.sources.known.registered import Pair
splits = SPLITS
tiny = dataclasses.replace(REGISTRY["sample"], name="mnist", embedded=False, splits=splits)
resolve.REGISTRY = {**REGISTRY, "mnist": tiny}
download.CHUNK = 4096
"""


def tiny_mnist(folder: Path) -> str:
    """Four gzipped files in this folder, and the code that pins them as MNIST."""
    plain = write_digits(folder / "plain", 40, 20, 28)
    pins = {}
    for path in plain.iterdir():
        archive = gzip.compress(path.read_bytes(), mtime=0)
        (folder / f"{path.name}.gz").write_bytes(archive)
        pins[path.name] = pinned(archive, f"{path.name}.gz")
    splits = {
        split: Pair(rows, pins[f"{name}-images-idx3-ubyte"], pins[f"{name}-labels-idx1-ubyte"])
        for split, name, rows in (("train", "train", 40), ("test", "t10k", 20))
    }
    return ONLY_HERE + TINY_MNIST.replace("SPLITS", repr(splits))
