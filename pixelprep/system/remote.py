"""Open what lies at a URL, by fsspec; every failure is one line, without credentials.

fsspec and its backends find credentials by themselves (environment, files, metadata services).
None of them may come into a message: what a backend says is passed on scrubbed, and never as the
cause of an error, which `--debug` would print.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar  # Any: options of backends
from urllib.parse import urlsplit, urlunsplit

from pixelprep.errors import PixelprepError, RemoteError, UsageError, missing_extra, one_line

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Result = TypeVar("Result")

TIMEOUT = 20.0  # seconds without a byte
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
    if "::" in url or urlsplit(url).query:
        expected = f"{scrub(url)}: expected a plain URL, without '::' and '?'"
        raise UsageError(expected, "credentials are those of the environment")
    protocol = urlsplit(url).scheme.lower() if is_url(url) else "file"
    with translated(url):
        try:
            if PACKAGES.get(protocol) == "webdav4":
                return _webdav(url)
            return fsspec.core.url_to_fs(url, **_options(protocol))  # type: ignore[no-any-return]
        except ImportError:
            package = PACKAGES.get(protocol, protocol)
            error = missing_extra(package, "remote", f"{scrub(url)}:")
            if package not in INCLUDED:
                error.hint = f"pip install {package}"
            raise error from None


def _options(protocol: str) -> dict[str, Any]:
    """Return the options of a backend: how long it may wait."""
    package = PACKAGES.get(protocol)
    if package == "s3fs":
        return {"config_kwargs": {"connect_timeout": TIMEOUT, "read_timeout": TIMEOUT}}
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
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def retried(action: Callable[[], Result], progress: Callable[[], int] = lambda: 0) -> Result:
    """Call again what raises a `TransientError`, until `ATTEMPTS` in a row made no progress.

    `progress` returns a number that grows as long as there is some.
    """
    import time

    failures, reached = 0, progress()
    while True:
        try:
            return action()
        except TransientError:
            failures = 1 if progress() > reached else failures + 1
            reached = max(reached, progress())
            if failures >= ATTEMPTS:
                raise
        time.sleep(BACK_OFF * 2.0 ** (failures - 1))
