"""Open an entry where it lies on a server: only its manifest is copied."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pixelprep.cache import remotes
from pixelprep.cache.inventory import parse_size
from pixelprep.dataset.entry import Entry
from pixelprep.errors import EntryError, UsageError
from pixelprep.format import layout
from pixelprep.format import manifest as manifests
from pixelprep.format.manifest import FileRecord
from pixelprep.system import fs, remote
from pixelprep.system.block_cache import BlockCache

if TYPE_CHECKING:
    from pixelprep.format.remote_file import Identity

SIZE_VARIABLE = "PIXELPREP_REMOTE_CACHE_SIZE"
DEFAULT_SIZE = "10GB"
LEAST_SIZE = 256 << 20  # bytes: what is asked for ahead must find room


def cache_size() -> int:
    """Return the bytes that blocks may take: by the environment, or by default."""
    given = os.environ.get(SIZE_VARIABLE) or DEFAULT_SIZE
    try:
        size = parse_size(given)
    except UsageError:
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
        raise UsageError(message, "fsspec finds it in the environment, as FSSPEC_SFTP_PASSWORD")
    blocks = BlockCache(cache_folder / fs.REMOTE, cache_size())
    found = remotes.find(remotes.Remote(url), "")
    if found is None:
        hint = "give the URL of an entry: …/DATASET/MODE-KEY"
        raise EntryError(f"{remote.scrub(url)}: no entry there", hint)
    manifest, filesystem = found.manifest, found.remote.files
    layout.check_compression(manifest.recipe.compression)
    # A server may know no ranges.
    first = (
        found.remote.address(manifests.DIGEST),
        filesystem,
        found.remote.path(manifests.DIGEST),
    )
    remote.retried(partial(remote_file.fetch, *first, [(0, 9)]))

    def identity(file: FileRecord) -> "tuple[str, Identity]":
        """Return the name of a file there, and what tells that it has not changed."""
        pushed, plain = found.names(file)
        try:
            return pushed, remote_file.identity(url, filesystem, found.remote.path(pushed))
        except remote.NotFoundError:
            return plain, remote_file.identity(url, filesystem, found.remote.path(plain))

    files = [file for _, file in manifest.files()]
    with ThreadPoolExecutor(reader.FETCHERS) as pool:
        told = list(pool.map(lambda file: remote.retried(partial(identity, file)), files))
    for file, (name, (size, *_)) in zip(files, told, strict=True):
        if size != file.bytes:
            message = f"{found.remote.address(name)}: expected {file.bytes:,} bytes, found {size:,}"
            raise EntryError(message, remotes.PUSH_AGAIN)
    folder = cache_folder / fs.REMOTE / manifest.dataset / manifest.recipe.folder  # of no file
    urls = {file.name: f"{url}/{name}" for file, (name, _) in zip(files, told, strict=True)}
    stamps = {file.name: stamp for file, (_, stamp) in zip(files, told, strict=True)}
    return Entry(folder, manifest, stamps, _in_place=remote_file.RemoteFolder(url, urls, blocks))
