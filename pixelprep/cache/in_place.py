"""Open an entry where it lies on a server: only its manifest is copied."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pixelprep.dataset.entry import Entry
from pixelprep.errors import EntryError, RemoteError, UsageError
from pixelprep.format import layout, schema
from pixelprep.format import manifest as manifests
from pixelprep.format.manifest import Manifest
from pixelprep.system import fs, remote
from pixelprep.system.block_cache import BlockCache

if TYPE_CHECKING:
    from pixelprep.format.remote_file import Identity

SIZE_VARIABLE = "PIXELPREP_REMOTE_CACHE_SIZE"
DEFAULT_SIZE = "10GB"
LEAST_SIZE = 256 << 20  # bytes: what is asked for ahead must find room
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
DIGEST_BYTES = 1000  # of the file that has the manifest's digest, at most


def cache_size() -> int:
    """Return the bytes that blocks may take: by the environment, or by default."""
    given = os.environ.get(SIZE_VARIABLE) or DEFAULT_SIZE
    match = re.fullmatch(r"([0-9.]+)\s*([a-z]*)", given.strip(), re.IGNORECASE)
    unit = UNITS.get(match[2].upper()) if match else None
    try:
        size = int(float(match[1]) * unit) if match and unit else -1
    except ValueError:
        size = -1
    if size < LEAST_SIZE:
        message = f"{SIZE_VARIABLE}={given}: expected a size such as 50GB, of 256 MiB at least"
        raise UsageError(message)
    return size


def open_in_place(url: str, cache_folder: Path) -> Entry:
    """Open the entry in this folder on a server; nothing of its files is read yet."""
    from pixelprep.format import reader, remote_file  # which a local entry does not need

    url = url.rstrip("/")
    if urlsplit(url).password:
        message = f"{remote.scrub(url)}: expected a URL without a password"
        raise UsageError(message, "credentials are those of the environment")
    blocks = BlockCache(cache_folder / fs.REMOTE, cache_size())
    filesystem, path = remote.open_remote(url)
    path = path.rstrip("/")

    def identity(name: str) -> "Identity":
        with remote.translated(f"{url}/{name}"):
            return remote_file.identity(filesystem, f"{path}/{name}")

    def content(name: str, most: int) -> bytes:
        size = int(remote.retried(partial(identity, name))[0])
        if not 0 < size <= most:
            raise EntryError(f"{url}/{name}: expected 1 to {most:,} bytes, found {size:,}")
        own, ranges = (f"{url}/{name}", filesystem, f"{path}/{name}"), [(0, min(size, 9))]
        remote.retried(lambda: remote_file.fetch(*own, ranges))  # a server may know no ranges
        return remote.retried(lambda: remote_file.fetch(*own, [(0, size)]))[0]

    try:
        digest = content(manifests.DIGEST, DIGEST_BYTES)
        text = content(manifests.NAME, schema.MAX_BYTES)
    except remote.NotFoundError as error:
        raise EntryError(f"{url}: not an entry: {error.message}") from None
    if manifests.digest_line(text) != digest:
        message = f"{url}/{manifests.NAME}: differs from its digest in {manifests.DIGEST}"
        raise RemoteError(message, "push it again; is it being replaced right now?")
    manifest = _parse(url, text)
    layout.check_compression(manifest.recipe.compression)
    names = [file.name for _, file in manifest.files()]
    with ThreadPoolExecutor(reader.FETCHERS) as pool:
        found = pool.map(lambda name: remote.retried(partial(identity, name)), names)
        stamps = dict(zip(names, found, strict=True))
    for _, file in manifest.files():
        if stamps[file.name][0] != file.bytes:
            was = f"expected {file.bytes:,} bytes, found {stamps[file.name][0]:,}"
            raise EntryError(f"{url}/{file.name}: {was}", "push the entry again")
    folder = cache_folder / fs.REMOTE / manifest.dataset / manifest.recipe.folder  # of no file
    return Entry(folder, manifest, stamps, _in_place=remote_file.RemoteFolder(url, blocks))


def _parse(url: str, text: bytes) -> Manifest:
    stand_in = Path("in-place")
    try:
        return manifests.parse(stand_in / manifests.NAME, text)
    except EntryError as error:
        raise type(error)(error.message.replace(str(stand_in), url, 1), error.hint) from None
