"""Download raw files from mirrors: retried, resumed, limited in size, verified before use.

pooch transfers the bytes. This module adds the resumption of a broken transfer (HTTP Range), a
limit of its size, and the acceptance of a file by the digest of its archive or of its content.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO  # Any: a bar of tqdm, or a silent one

from pixelprep.errors import DownloadError, SourceError
from pixelprep.sources import gzip_file
from pixelprep.sources.base import Options
from pixelprep.system import fs, locks, progress, records

if TYPE_CHECKING:
    from requests import Response

LOG = logging.getLogger("pixelprep")

ATTEMPTS = 4  # per mirror
BACK_OFF = 0.5  # seconds before the second attempt; doubled each time
MAX_BACK_OFF = 8.0  # seconds
TIMEOUT = 20.0  # seconds without a byte
PART = ".part"  # suffix of an incomplete file
CHUNK = 1 << 14  # bytes written at once; a broken transfer loses at most so many


@dataclass(frozen=True, slots=True)
class RegistryFile:
    """A file of a registered dataset, pinned by its digest."""

    name: str  # of the archive, on every mirror
    size: int | None  # its bytes; None: not published
    sha256: str | None  # None: only the MD5 is published
    content_size: int  # bytes of the unpacked content, or a limit of them
    content_sha256: str | None = None  # its digest, if known: mirrors re-compress, users unpack
    md5: str | None = None

    @property
    def pin(self) -> str:
        """The digest that is published, with its kind if that is not SHA-256."""
        return self.sha256 or f"md5:{self.md5}"

    @property
    def algorithm(self) -> str:
        """The kind of the digest that is published."""
        return "sha256" if self.sha256 else "md5"

    @property
    def limit(self) -> int:
        """The most bytes that the file can have."""
        return max(self.size or 0, self.content_size)


def hash_matches(path: Path, expected: RegistryFile) -> bool:
    """Tell whether a file has the pinned digest, itself or once unpacked."""
    if expected.sha256 is None:
        known = _recorded_sha256(path.parent, expected)
        return _md5(path) == expected.md5 and known in (None, fs.sha256(path))
    if fs.sha256(path) == expected.sha256:
        return True
    if expected.content_sha256 is None:
        return False
    digest, size = hashlib.sha256(), 0
    with suppress(SourceError):  # it is damaged
        for piece in gzip_file.read_pieces(path):
            size += len(piece)
            if size > expected.content_size:
                return False
            digest.update(piece)
        return digest.hexdigest() == expected.content_sha256
    return False


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def _record_path(folder: Path, file: RegistryFile) -> Path:
    return folder / f"{file.name}.json"


def _recorded_sha256(folder: Path, file: RegistryFile) -> str | None:
    known = (records.read(_record_path(folder, file)) or {}).get("sha256")
    return known if isinstance(known, str) else None


def _record_sha256(path: Path, file: RegistryFile) -> None:
    """Write down the SHA-256 of a first download that only an MD5 vouches for.

    Whatever is downloaded in its place later must have the very same bytes.
    """
    if file.sha256 is None:
        record = {"md5": file.md5, "sha256": fs.sha256(path)}
        records.write(_record_path(path.parent, file), record)
        LOG.info("%s: only its MD5 is published; its SHA-256 is %s", file.name, record["sha256"])


def link_from_siblings(files: list[RegistryFile], folder: Path) -> None:
    """Take files that lie beside, in another dataset's folder: all of EMNIST is in one file."""
    for file in files:
        path = folder / file.name
        for other in sorted(folder.parent.glob(f"*/{file.name}")):
            same_size = file.size in (None, other.stat().st_size)
            if not path.exists() and same_size and hash_matches(other, file):
                with suppress(OSError):  # no links on this file system: it is downloaded again
                    folder.mkdir(exist_ok=True)
                    os.link(other, path)


def fetch(
    files: list[RegistryFile], folder: Path, mirrors: Sequence[str], dataset: str, options: Options
) -> None:
    """Download the files that `folder` lacks, each from the first mirror that has the right bytes.

    Of the options, `offline` and `quiet` are used.
    """
    for file in files:
        path = folder / file.name
        if path.is_file() and hash_matches(path, file):
            continue
        if options.offline:
            missing = f"{file.name} is not in the cache, and `offline` opens no connection"
            raise DownloadError(f"{dataset}: {missing}", _hint(dataset, online=False))
        folder.mkdir(parents=True, exist_ok=True)
        fs.require_free_space(folder, file.limit if file.size is None else file.size)
        _fetch(file, path, mirrors, dataset, options.quiet)


def _fetch(
    file: RegistryFile, path: Path, mirrors: Sequence[str], dataset: str, quiet: bool
) -> None:
    failures = []
    for mirror in mirrors:
        url = mirror.rstrip("/") + "/" + file.name
        try:
            with incomplete(path) as part:
                _transfer(url, part, file, quiet)
                fs.fsync(part)
                part.rename(path)
            _record_sha256(path, file)
        except _MirrorError as failure:
            failures.append(f"{url}: {failure}")
            LOG.info("%s", failures[-1])
            continue
        fs.fsync(path.parent)
        return
    with suppress(OSError):  # it holds other files
        path.parent.rmdir()
    tried = "; ".join(failures) or "none"
    raise DownloadError(f"{dataset}: cannot download {file.name}; tried {tried}", _hint(dataset))


@contextmanager
def incomplete(path: Path) -> Iterator[Path]:
    """Take over the incomplete download of a file if nobody else continues it, else start one.

    Each process has a part of its own, as locks may not work; the next process takes it over.
    """
    own = path.with_name(f"{path.name}.{locks.owner_tag()}{PART}")
    for part in stale_parts(path.parent):
        if _split_name(part)[0] == path.name:
            with suppress(FileNotFoundError):  # another process was faster
                part.rename(own)
                break
    try:
        yield own
    finally:
        with suppress(FileNotFoundError):
            own.rename(path.with_name(path.name + PART))


def stale_parts(folder: Path) -> list[Path]:
    """List the incomplete files in a folder that no living process is downloading."""
    parts = sorted(folder.glob(f"*{PART}"))
    return [part for part in parts if not locks.owner_alive(_split_name(part)[1], part)]


def _split_name(part: Path) -> tuple[str, str]:
    """Split an incomplete file's name into the final name and the `locks.owner_tag`."""
    name = part.name.removesuffix(PART)
    match = re.fullmatch(rf"(.+)\.({locks.OWNER_TAG})", name)
    return (match[1], match[2]) if match else (name, "")


def _hint(dataset: str, online: bool = True) -> str:
    mirror = ", another place with `mirror=URL`" if online else ""
    embedded = f"the embedded dataset: pixelprep prepare sample (instead of {dataset})"
    return f"give a folder with the files: `source=DIR`{mirror}, or use {embedded}"


class _MirrorError(Exception):
    """A mirror's failure, in a few words."""


def _transfer(url: str, part: Path, file: RegistryFile, quiet: bool) -> None:
    """Download a file to `part`, resuming if it exists; raise `_MirrorError` for wrong bytes."""
    wrong, resumed = "got nothing", part.exists()
    for fresh in (False, True) if resumed else (True,):
        if fresh:
            part.unlink(missing_ok=True)
        try:
            _request_with_retries(url, part, file, quiet)
        finally:
            if _size(part) == 0:
                part.unlink(missing_ok=True)
        if not part.exists():
            continue
        if hash_matches(part, file):
            return
        # A resumed file may have begun with another mirror's bytes: start afresh once.
        wrong = _wrong_digest(part, file)
        is_page = _is_web_page(part)
        part.unlink()
        if is_page:
            raise _MirrorError("a web page instead of the file, such as a network's login")
    raise _MirrorError(f"wrong bytes: {wrong}")


def _wrong_digest(path: Path, file: RegistryFile) -> str:
    """Say which digest a file should have, and which it has."""
    if file.sha256 is None and (md5 := _md5(path)) != file.md5:
        return f"expected MD5 {str(file.md5)[:12]}…, got {md5[:12]}…"
    expected = file.sha256 or str(_recorded_sha256(path.parent, file))
    return f"expected SHA-256 {expected[:12]}…, got {fs.sha256(path)[:12]}…"


def _is_web_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _request_with_retries(url: str, part: Path, file: RegistryFile, quiet: bool) -> None:
    import tenacity
    from requests import exceptions as errors

    broken = (errors.ConnectionError, errors.Timeout, errors.ChunkedEncodingError, _RangeMismatch)

    def is_transient(error: BaseException) -> bool:
        status = getattr(getattr(error, "response", None), "status_code", 0)
        return isinstance(error, broken) or status in (408, 425, 429) or status >= 500

    policy, retry = _RetryPolicy(part), tenacity.retry_if_exception(is_transient)
    retrying = tenacity.Retrying(retry=retry, stop=policy.stop, wait=policy.wait, reraise=True)
    try:
        retrying(_request, url, part, file, quiet)
    except (errors.RequestException, ValueError) as error:  # ValueError: odd URLs and headers
        raise _MirrorError(_summarize(error)) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _MirrorError(str(error)) from error  # requests' own: no certificates where they are


class _RetryPolicy:
    """Stop after `ATTEMPTS` in a row without progress: a slow transfer may still finish."""

    def __init__(self, part: Path) -> None:
        self.part, self.reached, self.failures = part, _size(part), 0

    def wait(self, _: object) -> float:
        """Return the seconds before the next attempt; tenacity calls this before `stop`."""
        size = _size(self.part)
        self.failures = 0 if size > self.reached else self.failures + 1
        self.reached = max(size, self.reached)
        return min(BACK_OFF * 2.0 ** max(self.failures - 1, 0), MAX_BACK_OFF)

    def stop(self, _: object) -> bool:
        return self.failures >= ATTEMPTS


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _summarize(error: Exception) -> str:
    import requests
    import urllib3

    cause = error.args[0] if error.args else None
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    stalled = isinstance(cause, urllib3.exceptions.ReadTimeoutError)  # in the middle of a body
    if stalled or isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT:g} s"
    if isinstance(error, requests.exceptions.ProxyError):
        wants_password = "407" in str(error)
        return "the proxy wants a password (407)" if wants_password else "no answer from the proxy"
    if isinstance(error, requests.exceptions.SSLError):
        return "no secure connection"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    return "no connection" if isinstance(error, requests.ConnectionError) else str(error)


def _request(url: str, part: Path, file: RegistryFile, quiet: bool) -> None:
    """Send one request for the bytes that `part` lacks."""
    import pooch

    total = file.size or file.limit
    with part.open("ab") as out, progress.bar(file.name, total, "B", quiet) as bar:
        writer = _PartWriter(out, limit=file.limit * 2, bar=bar)
        headers = {"Accept-Encoding": "identity"}  # offsets must be those of the stored file
        if out.tell():
            headers["Range"] = f"bytes={out.tell()}-"
        how = {"timeout": TIMEOUT, "chunk_size": CHUNK, "hooks": {"response": writer.begin}}
        with suppress(_AlreadyComplete):
            pooch.HTTPDownloader(headers=headers, **how)(url, writer, None)


class _RangeMismatch(_MirrorError):
    """The server cannot resume; it may still send the whole file."""


class _AlreadyComplete(Exception):
    """The server has no bytes beyond those that are here."""


class _PartWriter:
    """The file that pooch writes to: appends, starts afresh or stops, by the server's response."""

    def __init__(self, file: BinaryIO, limit: int, bar: Any) -> None:
        self.file, self.limit, self.bar = file, limit, bar

    def begin(self, response: "Response", *_: object, **__: object) -> None:
        """Look at the response before a byte of it is written."""
        offset = self.file.tell()
        # Many servers send this header for a .gz; the file itself, as pinned, is wanted.
        response.raw.headers.pop("Content-Encoding", None)
        if response.status_code == 416:  # the range begins at the end of the file
            raise _AlreadyComplete
        start = response.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
        resumes = response.status_code == 206 and start == str(offset)
        if response.ok and not response.is_redirect and not resumes:
            self.file.seek(0)
            self.file.truncate()
            if response.status_code == 206 and offset:
                raise _RangeMismatch(f"the server answered with another range: {start}")
            offset = 0  # the server ignores Range and sends the whole file
        self.bar.update(offset - self.bar.n)

    def write(self, data: bytes) -> int:
        if self.file.tell() + len(data) > self.limit:
            raise _MirrorError(f"the server sends more than {self.limit:,} bytes")
        self.bar.update(len(data))
        return self.file.write(data)

    def flush(self) -> None:
        """Do nothing: the file is flushed when it is closed."""
