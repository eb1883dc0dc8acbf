"""Raw files from mirrors: retried, resumed, bounded in size, verified before anyone reads them.

pooch transfers; what is added here is the continuation of a broken transfer (HTTP Range), a bound
on its size, and the acceptance of a file by its archive's digest or by its content's.
"""

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pixelprep.errors import DownloadError, SourceError
from pixelprep.sources import gzip_file
from pixelprep.system import fs, locks, progress

LOG = logging.getLogger("pixelprep")

ATTEMPTS = 4  # tries a mirror
BACK_OFF = 0.5  # seconds before the second try; doubled from try to try
TIMEOUT = 20.0  # seconds without a byte
PART = ".part"  # after the name of a file that is not here whole
CHUNK = 1 << 14  # bytes at a time; of a broken transfer, what an unfinished piece held is lost


@dataclass(frozen=True, slots=True)
class RegistryFile:
    """A file that is known to the byte.

    Parameters
    ----------
    name : str
        Of the archive, on every mirror.
    size : int
        The archive's bytes.
    sha256 : str
        The archive's digest.
    content_size : int
        Bytes once unpacked.
    content_sha256 : str or None
        Digest of the unpacked content, where it is known; mirrors re-compress and users unpack.
    """

    name: str
    size: int
    sha256: str
    content_size: int
    content_sha256: str | None = None


def hash_matches(path: Path, pin: RegistryFile) -> bool:
    """Whether a file is the pinned one: by its own digest, or by that of what it unpacks to."""
    if fs.sha256(path) == pin.sha256:
        return True
    return pin.content_sha256 is not None and _content_sha256(path, pin) == pin.content_sha256


def _content_sha256(path: Path, pin: RegistryFile) -> str | None:
    """The digest of the content, unpacked no further than just past its declared size."""
    digest, size = hashlib.sha256(), 0
    try:
        for piece in gzip_file.pieces(path):
            size += len(piece)
            if size > pin.content_size:
                return None
            digest.update(piece)
    except SourceError:
        return None
    return digest.hexdigest()


def fetch(
    pins: Iterable[RegistryFile],
    folder: Path,
    mirrors: Sequence[str],
    *,
    dataset: str,
    offline: bool,
    quiet: bool,
) -> None:
    """Have every pinned file in `folder`, from the first mirror that gives the right bytes.

    Raises
    ------
    DownloadError
        When a file is missing and no mirror gives it, or `offline` forbids to ask.
    CacheError
        When there is no room for it.
    """
    for pin in pins:
        path = folder / pin.name
        if path.is_file() and hash_matches(path, pin):
            continue
        if offline:
            raise DownloadError(
                f"{dataset}: {pin.name} is not in the cache, and `offline` opens no connection",
                _way_out(dataset, online=False),
            )
        folder.mkdir(parents=True, exist_ok=True)
        fs.require_free_space(folder, pin.size)
        _fetch(pin, path, mirrors, dataset, quiet)


def _fetch(
    pin: RegistryFile, path: Path, mirrors: Sequence[str], dataset: str, quiet: bool
) -> None:
    failures = []
    for mirror in mirrors:
        url = mirror.rstrip("/") + "/" + pin.name
        try:
            with _part(path) as part:
                _transfer(url, part, pin, quiet)
                fs.fsync(part)
                part.rename(path)
        except _Failed as failure:
            failures.append(f"{url}: {failure}")
            LOG.info("%s", failures[-1])
            continue
        fs.fsync(path.parent)
        return
    with suppress(OSError):  # it holds what other files there are
        path.parent.rmdir()
    raise DownloadError(
        f"{dataset}: no mirror gave {pin.name}; tried {'; '.join(failures) or 'none'}",
        _way_out(dataset),
    )


@contextmanager
def _part(path: Path) -> Iterator[Path]:
    """Where to bring a file to: what there is of it already, that nobody else is bringing.

    Processes that share no lock have parts of their own; what is not finished is left for the next.
    """
    own = path.with_name(f"{path.name}.{locks.owner_tag()}{PART}")
    for part in stale_parts(path.parent):
        if _tagged(part)[0] == path.name:
            with suppress(FileNotFoundError):  # another process was faster
                part.rename(own)
                break
    try:
        yield own
    finally:
        with suppress(FileNotFoundError):
            own.rename(path.with_name(path.name + PART))


def stale_parts(folder: Path) -> list[Path]:
    """The unfinished files in a folder that no living process is bringing."""
    parts = sorted(folder.glob(f"*{PART}"))
    return [part for part in parts if not locks.owner_alive(_tagged(part)[1], part)]


def _tagged(part: Path) -> tuple[str, str]:
    """The name of the file that an unfinished one will be, and whose it is (`locks.owner_tag`)."""
    name = part.name.removesuffix(PART)
    match = re.fullmatch(rf"(.+)\.({locks.OWNER_TAG})", name)
    return (match[1], match[2]) if match else (name, "")


def _way_out(dataset: str, online: bool = True) -> str:
    mirror = ", another place with `mirror=URL`" if online else ""
    return (
        f"give a folder with the files: `source=DIR`{mirror}, or use the embedded dataset:"
        f" pixelprep prepare sample (instead of {dataset})"
    )


class _Failed(Exception):
    """One mirror's failure, in a few words."""


def _transfer(url: str, part: Path, pin: RegistryFile, quiet: bool) -> None:
    """Bring one file to `part`, continuing what is there; raise `_Failed` if it is not right."""
    found, continued = "nothing", part.exists()
    for fresh in (False, True) if continued else (True,):
        if fresh:
            part.unlink(missing_ok=True)
        try:
            _retried(url, part, pin, quiet)
        finally:
            _drop_empty(part)
        if not part.exists():
            continue
        if hash_matches(part, pin):
            return
        # The start may have come from another mirror's file; whole and wrong is no start at all.
        found = fs.sha256(part)[:12] + "…"
        part.unlink()
    raise _Failed(f"wrong bytes: expected SHA-256 {pin.sha256[:12]}…, got {found}")


def _drop_empty(part: Path) -> None:
    if _size(part) == 0:
        part.unlink(missing_ok=True)


def _retried(url: str, part: Path, pin: RegistryFile, quiet: bool) -> None:
    import requests
    import tenacity

    passing = (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
        _OtherRange,
    )
    patience = _Patience(part)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda e: isinstance(e, passing) or _is_busy(e)),
        stop=patience.over,
        wait=patience.wait,
        reraise=True,
    )
    try:
        retrying(_once, url, part, pin, quiet)
    except (requests.RequestException, ValueError) as error:  # ValueError: odd URLs and headers
        raise _Failed(_in_short(error)) from error


class _Patience:
    """Stop after `ATTEMPTS` tries in a row that brought nothing: a slow mend is still a mend."""

    def __init__(self, part: Path) -> None:
        self.part, self.reached, self.vain = part, _size(part), 0

    def wait(self, _: object) -> float:
        """Seconds before the next try: doubled with each in vain. tenacity asks for them first."""
        size = _size(self.part)
        self.vain = 0 if size > self.reached else self.vain + 1
        self.reached = max(size, self.reached)
        return min(BACK_OFF * 2.0 ** max(self.vain - 1, 0), 8.0)

    def over(self, _: object) -> bool:
        """Whether to give up."""
        return self.vain >= ATTEMPTS


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_busy(error: BaseException) -> bool:
    """Whether the server says that another try may succeed."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return status in (408, 425, 429) or status >= 500


def _in_short(error: Exception) -> str:
    import requests
    import urllib3

    cause = error.args[0] if error.args else None
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    silent = isinstance(cause, urllib3.exceptions.ReadTimeoutError)  # in the middle of a body
    if silent or isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT:g} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "no secure connection"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    return "no connection" if isinstance(error, requests.ConnectionError) else str(error)


def _once(url: str, part: Path, pin: RegistryFile, quiet: bool) -> None:
    """One request for what is still missing of `part`."""
    import pooch

    with part.open("ab") as file, progress.bar(pin.name, pin.size, "B", quiet) as bar:
        sink = _Sink(file, limit=max(pin.size, pin.content_size) * 2, bar=bar)
        headers = {"Accept-Encoding": "identity"}  # offsets must be those of the stored file
        if file.tell():
            headers["Range"] = f"bytes={file.tell()}-"
        downloader = pooch.HTTPDownloader(
            headers=headers,
            timeout=TIMEOUT,
            chunk_size=CHUNK,
            hooks={"response": sink.begin},
        )
        try:
            downloader(url, sink, None)
        except _Complete:
            return


class _OtherRange(_Failed):
    """The server cannot continue; it may still send the whole."""


class _Complete(Exception):
    """The server has nothing beyond what is already there."""


class _Sink:
    """Where pooch writes: continues, begins anew or stops, as the server's answer demands."""

    def __init__(self, file: BinaryIO, limit: int, bar: Any) -> None:
        self.file, self.limit, self.bar = file, limit, bar

    def begin(self, response: Any, *_: object, **__: object) -> None:
        """See what the server sends before a byte of it is written."""
        have = self.file.tell()
        # Many servers say this of a .gz; it is the file itself, as pinned, that is wanted.
        response.raw.headers.pop("Content-Encoding", None)
        if response.status_code == 416:  # the range begins at the end: all is there
            raise _Complete
        start = response.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
        continues = response.status_code == 206 and start == str(have)
        if response.ok and not response.is_redirect and not continues:
            self.file.seek(0)
            self.file.truncate()
            if response.status_code == 206 and have:
                raise _OtherRange(f"the server answered with another range: {start}")
            have = 0  # the server ignores Range and sends it all
        self.bar.update(have - self.bar.n)

    def write(self, data: bytes) -> int:
        if self.file.tell() + len(data) > self.limit:
            raise _Failed(f"the server sends more than {self.limit:,} bytes")
        self.bar.update(len(data))
        return self.file.write(data)

    def flush(self) -> None:
        """Nothing: the file is flushed when it is closed."""
