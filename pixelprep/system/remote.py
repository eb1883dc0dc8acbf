"""Open what lies at a URL, by fsspec; every failure is one line, without credentials.

fsspec and its backends find credentials by themselves (environment, files, metadata services).
None of them may come into a message: what a backend says is passed on scrubbed, and never as the
cause of an error, which `--debug` would print.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar  # Any: options of backends
from urllib.parse import urlsplit

from pixelprep.errors import (
    PixelprepError,
    RemoteError,
    UsageError,
    missing_extra,
    one_line,
)
from pixelprep.installation import pip_command

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Result = TypeVar("Result")

TIMEOUT = 20.0  # seconds without a byte
PIECE = 8 << 20  # bytes read at once
ATTEMPTS = 4  # in a row without progress
BACK_OFF = 0.5  # seconds before the second attempt; doubled each time
MAX_MESSAGE = 200  # characters of what a backend says
SECRET = re.compile(
    "(?i)secret|token|password|passwd|credential|(access|account|api)_?key|sas|conn"
)
# What brings a protocol, where that is not fsspec itself.
PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("http", "https"), "aiohttp"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    **dict.fromkeys(("webdav", "webdav+http"), "webdav4"),
    "hf": "huggingface_hub",
}
INCLUDED = ("s3fs", "aiohttp")  # in the extra `remote`
READ_ONLY = ("http", "https")
# Places where a file appears once it is whole, but is renamed only by copying it.
OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory", "hf")
PART = ".part"  # the end of an unfinished file's name, in other places


class NotFoundError(RemoteError):
    """There is nothing of this name."""


class TransientError(RemoteError):
    """It may work if it is tried again."""


def is_url(name: str | os.PathLike[str]) -> bool:
    """Tell a URL from a path or a name."""
    return re.match(r"[a-z][a-z0-9+.-]*://", os.fspath(name), re.IGNORECASE) is not None


def open_remote(url: str) -> tuple["AbstractFileSystem", str]:
    """Return the file system of a URL, and the path of the URL in it.

    Parameters
    ----------
    url : str
        ``s3://bucket/…`` or any other URL that fsspec knows, or a local path; no query.

    Returns
    -------
    AbstractFileSystem, str
        Wrap every call of it in `translated`.

    Raises
    ------
    UsageError, MissingExtraError, RemoteError
        When fsspec does not know such a URL, or what brings it is not installed.
    """
    try:
        import fsspec
    except ModuleNotFoundError:
        raise missing_extra("fsspec", "remote", f"{scrub(url)}:") from None
    protocol = urlsplit(url).scheme.lower() if is_url(url) else "file"
    # Where a password means nothing, it would come back in what a backend says of the name.
    is_odd = protocol in OBJECT_STORES and urlsplit(url).password is not None
    if "::" in url or urlsplit(url).query or is_odd:
        without = "'::', '?' and a password" if is_odd else "'::' and '?'"
        expected = f"{scrub(url)}: expected a plain URL, without {without}"
        raise UsageError(expected, "credentials are those of the environment")
    if protocol not in PACKAGES:
        try:
            fsspec.get_filesystem_class(protocol)
        except ImportError:
            pass  # which is told below
        except ValueError:
            message = f"{scrub(url)}: expected a protocol that fsspec knows, got {protocol}"
            raise UsageError(message) from None
    with translated(url):
        try:
            if PACKAGES.get(protocol) == "webdav4":
                return _webdav(url)
            return fsspec.core.url_to_fs(url, **_options(protocol))  # type: ignore[no-any-return]
        except ImportError:
            package = PACKAGES.get(protocol, protocol)
            error = missing_extra(package, "remote", f"{scrub(url)}:")
            if package not in INCLUDED:
                error.hint = f"{pip_command()} {package}"
            raise error from None


def _options(protocol: str) -> dict[str, Any]:
    """Return the options of a backend: how long it may wait."""
    package = PACKAGES.get(protocol)
    if package == "s3fs":
        waits = {
            "connect_timeout": TIMEOUT,
            "read_timeout": TIMEOUT,
            "retries": {"max_attempts": 0},
        }
        # rclone's S3 sends the checksum of the whole object with a range of it; we digest anyway.
        return {"config_kwargs": waits | {"response_checksum_validation": "when_required"}}
    if package == "aiohttp":
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
        return {"client_kwargs": {"timeout": timeout}}
    if package == "paramiko":
        return {"timeout": TIMEOUT, "banner_timeout": TIMEOUT, "auth_timeout": TIMEOUT}
    return {}


def _webdav(url: str) -> tuple["AbstractFileSystem", str]:
    """Open ``webdav://`` by HTTPS, ``webdav+http://`` without: webdav4 takes no whole URL."""
    import fsspec

    parts = urlsplit(url)
    base = f"http{'' if parts.scheme.endswith('http') else 's'}://{parts.netloc}"
    return fsspec.filesystem("webdav", base_url=base, timeout=TIMEOUT), parts.path.lstrip("/")


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn whatever a backend raises into a `RemoteError` of one line about this URL.

    `TransientError` may work if it is tried again, `NotFoundError` says that nothing is there.
    What is ours passes.
    """
    try:
        yield
    except (PixelprepError, MemoryError):
        raise
    except Exception as error:
        raise _translation(scrub(url), error) from None


def _translation(where: str, error: Exception) -> RemoteError:
    status = _status(error)
    said = f"{type(error).__name__}: {scrub(one_line(str(error)))[:MAX_MESSAGE]}".rstrip(": ")
    if type(error) is OSError and error.strerror:  # of a file system: the rest are paths
        return RemoteError(f"{where}: {error.strerror}")
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return NotFoundError(f"{where}: not found")
    refused = isinstance(error, PermissionError) or status in (401, 403)
    if refused or re.search("Credential|Auth|Login", type(error).__name__):
        hint = "give the credentials where the backend of fsspec looks for them; are they expired?"
        return RemoteError(f"{where}: access denied: {said}", hint)
    if isinstance(error, ValueError | TypeError | NotImplementedError | ImportError):
        return RemoteError(f"{where}: {said}")
    final = status is not None and 400 <= status < 500 and status not in (408, 425, 429)
    return (RemoteError if final else TransientError)(f"{where}: {said}")


def _status(error: Exception) -> int | None:
    """Return the HTTP status of a backend's error, wherever it keeps that."""
    response = getattr(error, "response", None)
    for holder in (error, response):
        for name in ("status", "status_code", "code"):
            if type(value := getattr(holder, name, None)) is int:
                return value
    if isinstance(response, dict):  # of botocore
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return found if isinstance(found, int) else None
    return None


def scrub(text: str) -> str:
    """Return a text without what may be a credential in it.

    That is: a URL's user and password, its query and fragment, and the values of environment
    variables whose names tell that they are secret.
    """
    text = re.sub(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>]+", _plain, text)
    for name, value in os.environ.items():
        if len(value) >= 6 and SECRET.search(name):
            text = text.replace(value, "…")
    return text


def _plain(url: re.Match[str]) -> str:
    try:
        parts = urlsplit(url[0])
    except ValueError:
        return "…"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def retried(action: Callable[[], Result], progress: Callable[[], int] = lambda: 0) -> Result:
    """Call again what raises a `TransientError`, until `ATTEMPTS` in a row made no progress.

    `progress` returns a number that grows as long as there is some.
    """
    import time

    failures, reached = 0, progress()
    while True:
        try:
            return action()
        except TransientError as error:
            failures = 1 if progress() > reached else failures + 1
            reached = max(reached, progress())
            if failures >= ATTEMPTS:
                raise RemoteError(error.message, error.hint) from None
        time.sleep(BACK_OFF * 2.0 ** (failures - 1))


def _protocols(files: "AbstractFileSystem") -> tuple[str, ...]:
    own = files.protocol
    return (own,) if isinstance(own, str) else tuple(own)


def is_object_store(files: "AbstractFileSystem") -> bool:
    return any(one in OBJECT_STORES for one in _protocols(files))


def is_read_only(files: "AbstractFileSystem") -> bool:
    return any(one in READ_ONLY for one in _protocols(files))


def check_writable(files: "AbstractFileSystem", url: str) -> None:
    """Refuse a place that can only be read."""
    if is_read_only(files):
        hint = "name one that can be written: s3://, sftp://, a folder, …"
        raise UsageError(f"{scrub(url)}: can only be read", hint)


def open_at(files: "AbstractFileSystem", path: str, offset: int) -> tuple[Any, int]:
    """Open a file to read it on from an offset; return it, and the offset where it begins.

    That is 0 where the place has no ranges. By HTTP the body is streamed: fsspec would hold a body
    that is longer than it was asked for, and such a one may have no end.
    """
    if is_read_only(files):
        headers = {"Accept-Encoding": "identity"}
        headers |= {"Range": f"bytes={offset}-"} if offset else {}
        file = files.open(path, "rb", block_size=0, size=1, headers=headers)
        got = file.r.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
        return file, offset if file.r.status == 206 and got == str(offset) else 0
    file = files.open(path, "rb", block_size=PIECE, cache_type="none")
    file.seek(offset)
    return file, offset


def read_small(files: "AbstractFileSystem", path: str, url: str, limit: int) -> bytes:
    """Return the content of a file; raise `RemoteError` if it has more bytes than the limit."""

    def attempt() -> bytes:
        with translated(url):
            files.invalidate_cache()
            file, _ = open_at(files, path, 0)
            content = b""
            with file:
                while len(content) <= limit and (piece := file.read(min(PIECE, limit + 1))):
                    content += piece
        return content

    content = retried(attempt)
    if len(content) > limit:
        raise RemoteError(f"{scrub(url)}: expected at most {limit:,} bytes, got more")
    return content


def size_of(files: "AbstractFileSystem", path: str, url: str) -> int | None:
    """Return a file's bytes; None where there is no such file, -1 where they are not told."""

    def attempt() -> int | None:
        try:
            with translated(url):
                files.invalidate_cache()  # of listings, which may be old
                size = files.info(path)["size"]
        except NotFoundError:
            return None
        return size if isinstance(size, int) else -1

    return retried(attempt)


def _rename(files: "AbstractFileSystem", old: str, new: str) -> None:
    """Rename a file by one request, over another if there is one."""
    if "webdav" in _protocols(files):  # whose `mv` copies, and refuses a name that is taken
        files.client.move(old, new, overwrite=True)
    else:
        files.mv(old, new)


def put_file(files: "AbstractFileSystem", path: str, url: str, content: bytes | Path) -> None:
    """Write a file, which appears under its name once it is whole.

    Not an instant earlier: object stores do so by themselves, elsewhere it is written under a
    private name and renamed.
    """
    private = path if is_object_store(files) else f"{path}.{os.urandom(6).hex()}{PART}"

    def attempt() -> None:
        with translated(url):
            if private != path:
                files.makedirs(path.rpartition("/")[0], exist_ok=True)
            if isinstance(content, bytes):
                files.pipe_file(private, content)
            else:
                files.put_file(os.fspath(content), private)
            files.invalidate_cache()
            size = len(content) if isinstance(content, bytes) else content.stat().st_size
            if (found := files.info(private)["size"]) != size:
                raise TransientError(f"{scrub(url)}: expected {size:,} bytes there, got {found:,}")
            if private != path:
                _rename(files, private, path)

    try:
        retried(attempt)
    except BaseException:
        if private != path:
            with suppress(Exception):  # nobody takes it for anything
                files.rm_file(private)
        raise
