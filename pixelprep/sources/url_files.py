"""List and download the files at a URL: by HTTP as known files are, all else by fsspec."""

import posixpath
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol  # Any: what stores tell, JSON
from urllib.parse import unquote, urlsplit

from pixelprep.errors import DownloadError, SourceError, UsageError
from pixelprep.sources.known import download
from pixelprep.sources.pictures.members import is_hidden
from pixelprep.system import canonical, fs, progress, remote

if TYPE_CHECKING:
    from requests import Response

THREADS = 8  # files at once: small ones cost a round trip each
PIECE = 1 << 23  # bytes of a request: so many are in memory for each thread
# What stores tell of the state of a file: of the first of these that there are any, all count.
TAGS = ("etag", "e_tag", "md5hash", "content_md5", "generation", "versionid", "version_id")
TIMES = ("mtime", "lastmodified", "last_modified", "last-modified", "modified", "updated")
CREATED = ("created",)
MD5 = re.compile("[0-9a-f]{32}")
MAX_UNTOLD = 1 << 30  # bytes of a file whose server does not tell its size
NO_HEAD = (403, 405, 501)  # statuses of servers that answer GET alone


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file as its store lists it."""

    name: str  # below the URL of a folder, with slashes; of one file, its own
    size: int | None
    state: Mapping[str, str]  # what changes whenever the file does; empty if nothing tells

    @property
    def identity(self) -> dict[str, Any] | None:
        """What tells the file from any other content of its name; None where nothing does."""
        is_known = self.state and self.size is not None
        return {"name": self.name, "size": self.size, **self.state} if is_known else None

    @property
    def md5(self) -> str | None:
        """The MD5 that its ETag seems to be, as it is in S3 of what was sent in one piece."""
        tag = self.state.get("etag", "").strip('"')
        return tag if MD5.fullmatch(tag) else None


class Store(Protocol):
    """Where the files at a URL are."""

    def listing(self) -> list[ListedFile]:
        """List the files below the URL, or the one that it is, sorted by name."""

    def get(self, file: ListedFile, part: Path, quiet: bool) -> None:
        """Download what `part` lacks of a file, at most about as much as the listing said."""


def open_store(url: str) -> Store:
    """Return the store of a URL."""
    return HttpFile(url) if is_http(url) else FsspecFiles(url)


def is_http(url: str) -> bool:
    """Tell whether a URL is of HTTP, which lists no folders."""
    return urlsplit(url).scheme.lower() in remote.READ_ONLY


def check(url: str) -> None:
    """Refuse a URL that holds credentials, which would be written down with it."""
    parts, shown = urlsplit(url), remote.scrub(url)
    user = parts.username if is_http(url) else None
    if parts.query or parts.fragment or parts.password or user:
        hint = "credentials are those of the environment; of HTTP, of ~/.netrc"
        raise UsageError(f"{shown}: expected a plain URL, without password, '?' and '#'", hint)
    if is_http(url) and not posixpath.basename(parts.path):
        hint = "give one file, such as an archive of the folder"
        raise UsageError(f"{shown}: HTTP lists no folders", hint)


def _checked(where: str, name: str, told: Mapping[str, Any]) -> ListedFile:
    """Return a file as a store tells of it; refuse a name that would lead elsewhere."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or re.search(r"[\\\0:]", part) for part in parts):
        shown = ascii(name[:80])
        raise SourceError(f"{where}: expected names of plain files below it, got {shown}")
    known = {str(key).lower(): str(value) for key, value in told.items() if value}
    for keys in (TAGS, TIMES, CREATED):
        if state := {key: known[key] for key in keys if key in known}:
            return ListedFile(name, told.get("size"), state)
    return ListedFile(name, told.get("size"), {})


class HttpFile:
    """The file at a URL of HTTP."""

    def __init__(self, url: str) -> None:
        self.url, self._shown = url, remote.scrub(url)

    def listing(self) -> list[ListedFile]:
        """Return the file, by the headers of an answer."""
        try:
            headers = download.with_retries(self._ask, Path(self.url)).headers
        except download.MirrorError as failure:
            raise self._error(failure) from None
        of_range = headers.get("Content-Range", "").rpartition("/")[2]
        size = of_range or headers.get("Content-Length", "")
        told = {**headers, "size": int(size) if size.isdecimal() else None}
        return [_checked(self._shown, unquote(posixpath.basename(urlsplit(self.url).path)), told)]

    def _ask(self) -> "Response":
        """Ask for headers alone; of a server that does not answer that, for one byte."""
        import requests

        how: dict[str, Any] = {"timeout": download.TIMEOUT, "allow_redirects": True, "stream": True}
        same = {"Accept-Encoding": "identity"}  # the length must be that of the stored file
        with requests.head(self.url, headers=same, **how) as answer:
            if answer.status_code not in NO_HEAD:
                answer.raise_for_status()
                return answer
        with requests.get(self.url, headers=same | {"Range": "bytes=0-0"}, **how) as answer:
            answer.raise_for_status()
            return answer

    def get(self, file: ListedFile, part: Path, quiet: bool) -> None:
        """Download as known files are; what ends too late is of no use."""
        # Up to twice this limit is taken.
        limit = MAX_UNTOLD // 2 if file.size is None else file.size
        known = download.RegistryFile(file.name, file.size, None, limit)
        try:
            download.request(self.url, part, known, quiet)
        except download.MirrorError as failure:
            if part.exists() and not 0 < part.stat().st_size <= limit:
                part.unlink()
            raise self._error(failure) from None

    def _error(self, failure: download.MirrorError) -> DownloadError:
        return DownloadError(f"{self._shown}: {remote.scrub(str(failure))}")


class FsspecFiles:
    """The files at any other URL."""

    def __init__(self, url: str) -> None:
        self.url, self._shown = url, remote.scrub(url)
        self._system, path = remote.open_remote(url)
        self._path = path.rstrip("/")
        self._is_file = False

    def listing(self) -> list[ListedFile]:
        """Ask once where the URL ends in a slash; hidden files are left out."""
        with remote.translated(self.url):
            self._system.invalidate_cache()  # it may remember a listing of long ago
        one = {} if self.url.endswith("/") else remote.retried(self._info)
        self._is_file = bool(one) and one.get("type") != "directory"
        if self._is_file:
            return [_checked(self._shown, posixpath.basename(self._path), one)]
        top, found = f"{self._path}/", remote.retried(self._find)
        below = {
            name.removeprefix(top): about
            for name, about in sorted(found.items())
            if name.startswith(top) and about.get("type") == "file"
        }
        files = [
            _checked(self._shown, name, about)
            for name, about in below.items()
            if not any(part and is_hidden(part) for part in name.split("/") if part != "..")
        ]
        if not files:
            raise SourceError(f"{self._shown}: no such file or folder, or nothing in it")
        return files

    def _info(self) -> Mapping[str, Any]:
        with remote.translated(self.url):
            return self._system.info(self._path)  # type: ignore[no-any-return]

    def _find(self) -> Mapping[str, Mapping[str, Any]]:
        with remote.translated(self.url):
            return self._system.find(self._path, detail=True)  # type: ignore[no-any-return]

    def get(self, file: ListedFile, part: Path, quiet: bool) -> None:
        """Download piece by piece, which any store can resume."""
        if file.size is None:
            raise SourceError(f"{self._shown}: {file.name}: expected a file of known size")
        path = self._path if self._is_file else f"{self._path}/{file.name}"
        url = self.url if self._is_file else f"{self.url.rstrip('/')}/{file.name}"

        def read(start: int, end: int) -> bytes:
            with remote.translated(url):
                data: bytes = self._system.cat_file(path, start=start, end=end)
                if len(data) != end - start:
                    raise EOFError(f"expected {end - start:,} bytes, got {len(data):,}")
                return data

        with part.open("ab") as out:
            while (start := out.tell()) < file.size:
                end = min(start + PIECE, file.size)
                out.write(remote.retried(lambda: read(start, end)))  # noqa: B023 - called at once


class Downloads:
    """What was downloaded of a URL into a folder, and beside it a journal of what each file was.

    Parts of files lie in `parts`. Only one process writes at a time (`raw_data.identify`).
    """

    def __init__(self, folder: Path, journal: Path, parts: Path, shown: str, quiet: bool) -> None:
        self._folder, self._journal, self._parts = folder, journal, parts
        self._shown, self._quiet = shown, quiet
        self._tags_are_md5 = True

    def fetch(self, wanted: list[ListedFile], store: Store) -> None:
        """Download what is missing or is not what the store has now; delete all else."""
        fs.ensure_dir(self._folder)
        known = self._known()
        kept = {file.name: known[file.name] for file in wanted if self._is_kept(file, known)}
        missing = [file for file in wanted if file.name not in kept]
        for path in [path for path in self._folder.rglob("*") if path.is_file()]:
            if path.relative_to(self._folder).as_posix() not in kept:
                path.unlink()
        fs.require_free_space(self._folder, sum(file.size or 0 for file in missing))
        lines = b"".join(canonical.dumps(line) + b"\n" for line in kept.values())
        fs.write_atomically(self._journal, lines, self._journal.parent)
        with self._journal.open("ab", 0) as journal:
            for line in self._download(missing, store):
                journal.write(canonical.dumps(line) + b"\n")

    def _known(self) -> dict[str, dict[str, Any]]:
        """Return what the journal tells of each file."""
        import json

        known = {}
        for line in self._journal.read_bytes().splitlines() if self._journal.exists() else ():
            try:
                one = json.loads(line)
                known[one["name"]] = one
            except (ValueError, TypeError, KeyError):  # the last line of a killed process
                continue
        return known

    def _is_kept(self, file: ListedFile, known: Mapping[str, Mapping[str, Any]]) -> bool:
        """Tell whether a file is here, as it was when it came, and the store has no other."""
        about, path = known.get(file.name, {}), self._folder / file.name
        same = file.identity is not None and about.get("identity") == file.identity
        return same and path.is_file() and fs.sha256(path) == about.get("sha256")

    def _download(self, missing: list[ListedFile], store: Store) -> Iterator[dict[str, Any]]:
        total, is_one = sum(file.size or 0 for file in missing), len(missing) == 1
        with (
            progress.bar("downloading", total, "B", self._quiet or is_one) as bar,
            ThreadPoolExecutor(THREADS) as pool,
        ):
            quiet = self._quiet or not is_one
            pending = {pool.submit(self._fetch, file, store, quiet): file for file in missing}
            try:
                for future in as_completed(pending):
                    yield future.result()
                    bar.update(pending[future].size or 0)
            finally:
                pool.shutdown(cancel_futures=True)

    def _fetch(self, file: ListedFile, store: Store, quiet: bool) -> dict[str, Any]:
        """Download a file under its name; return what is to be written of it."""
        path, identity = self._folder / file.name, file.identity
        # A part is continued only where the store still has the very file that it began with.
        name = canonical.digest([self._shown, identity or file.name])[:24]
        with download.incomplete(self._parts / name) as part:
            if identity is None:
                part.unlink(missing_ok=True)
            self._transfer(file, part, store, quiet)
            fs.fsync(part)
            digest = fs.sha256(part)
            fs.ensure_dir(path.parent)
            part.rename(path)
        return {"name": file.name, "identity": identity, "sha256": digest}

    def _transfer(self, file: ListedFile, part: Path, store: Store, quiet: bool) -> None:
        """Download a file to `part`; again where it has not the MD5 that it seems to have."""
        self._get(file, part, store, quiet)
        if not (self._tags_are_md5 and file.md5) or (first := download.md5(part)) == file.md5:
            return
        part.unlink()
        self._get(file, part, store, quiet)
        if (second := download.md5(part)) == first:  # stores that encrypt have other tags
            self._tags_are_md5 = False
        elif second != file.md5:
            part.unlink()
            wrong = f"wrong bytes: expected MD5 {file.md5[:12]}…, got {second[:12]}…"
            raise DownloadError(f"{self._where(file)}: {wrong}")

    def _get(self, file: ListedFile, part: Path, store: Store, quiet: bool) -> None:
        """Download a file whole: of the size that was listed."""
        part.touch()
        if file.size != 0:
            store.get(file, part, quiet)
        got = part.stat().st_size if part.exists() else 0
        if file.size not in (None, got):
            part.unlink(missing_ok=True)
            wrong = f"expected {file.size:,} bytes, got {got:,}"
            raise DownloadError(f"{self._where(file)}: {wrong}", "run it again")

    def _where(self, file: ListedFile) -> str:
        is_it = self._shown.endswith(f"/{file.name}")
        return self._shown if is_it else f"{self._shown.rstrip('/')}/{file.name}"
