"""Read a user's files at a URL as those on the disk: downloaded once, identified by a listing."""

import os
import posixpath
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from pixelprep.errors import DownloadError, SourceError
from pixelprep.sources import base
from pixelprep.sources.base import Options, Provenance, Raw, SourceContext
from pixelprep.sources.file_types import FILE_TYPES, local_source_type
from pixelprep.sources.local import LocalSource, dataset_name
from pixelprep.sources.pictures.image_folder import ImageFolder
from pixelprep.sources.requested import BY_ALL, DIVISION, as_requested, refuse_unsupported
from pixelprep.sources.url_files import Downloads, ListedFile, Store, check, is_http, open_store
from pixelprep.system import canonical, fs, notices, records, remote

LISTING = "listing.json"  # of what is here: what `offline` goes by


def find(name: str, options: Options) -> "UrlSource":
    """Return the source of the file or folder at a URL."""
    check(name)
    return UrlSource(name, options)


@dataclass
class UrlSource:
    """A file or folder at a URL, read as the same on the disk.

    The options are not called so: what any source is asked for, its files' own source is.
    """

    url: str
    read_by: Options
    chooses_classes: ClassVar[bool] = True  # or its files' own source has done so

    @cached_property
    def _last(self) -> str:
        """The last part of the URL."""
        path = urlsplit(self.url).path.rstrip("/") or urlsplit(self.url).netloc
        last = posixpath.basename(path)
        return unquote(last) if is_http(self.url) else last

    @cached_property
    def _kind(self) -> tuple[str, type[LocalSource]]:
        """The ending of a file of known kind, and what reads it; else of a folder."""
        last = "" if self.url.endswith("/") else self._last.lower()
        endings = [ending for ending in FILE_TYPES if last.endswith(ending)]
        ending = max(endings, key=len, default="")
        return ending, FILE_TYPES.get(ending, ImageFolder)

    @property
    def supported_options(self) -> frozenset[str]:
        """Those that its ending tells; of a folder, those of pictures."""
        return self._kind[1].supported_options

    @property
    def name(self) -> str:
        """The last part of the URL, without the ending of a file."""
        return dataset_name(self._last[: len(self._last) - len(self._kind[0])])

    @property
    def on_leak(self) -> str | None:
        """What is done where an image of train is in another split, too."""
        return self.read_by.on_leak

    @property
    def provenance(self) -> Provenance:
        return Provenance(f"the user's own images ({self.name})", "not stated", self.url)

    def fingerprints(self) -> list[dict[str, object]]:
        """Return what the store tells of each file, and the options by which they are read.

        Nothing where it does not tell enough, nor while a table of labels might still change.
        """
        identities = [file.identity for file in self._listing]
        if None in identities:
            return []
        names = (*base.DECODE_OPTIONS, *DIVISION)
        options = {name: getattr(self.read_by, name) for name in names}
        own = [] if self.read_by.labels is None else [Path(self.read_by.labels)]
        stamps = [(os.fspath(path), fs.file_stamp(path)) for path in own if path.is_file()]
        if (tables := base.stamps_digest(stamps)) is None:
            return []
        files = canonical.digest(identities)
        url = self.url.rstrip("/")  # a slash only saves a question
        return [{"url": url, "files": files, "options": options, "labels": tables}]

    def load(self, context: SourceContext) -> Raw:
        """Download what is missing, and read it as files on the disk."""
        files = self._listing
        if any(file.identity is None for file in files):
            unknown = "its server tells no size, or neither ETag nor time"
            notices.tell("%s: %s: it is read anew every time", self._shown, unknown)
        if not self.read_by.offline:
            about = (self._top / "files.jsonl", self._raw, self._shown, self.read_by.quiet)
            Downloads(self._folder, *about).fetch(files, self._store)
            self._listing = self._store.listing()
            if [file.identity for file in self._listing] != [file.identity for file in files]:
                raise SourceError(f"{self._shown}: was changed while it came", "run it again")
            records.write(self._top / LISTING, {"files": [asdict(file) for file in files]})
        return self._read(context)

    def _read(self, context: SourceContext) -> Raw:
        path, options = self._folder / (self._last if self._is_file else ""), self.read_by
        source_type = local_source_type(path)
        refuse_unsupported(self._shown, options, source_type.supported_options | BY_ALL)
        source = source_type(path, options)
        if isinstance(source, ImageFolder):
            return as_requested(source.load(context, self._shown), source)
        return as_requested(source.load(context), source)

    @cached_property
    def _listing(self) -> list[ListedFile]:
        """The files as the store lists them, asked once; with `offline`, as they came last."""
        return self._kept() if self.read_by.offline else self._store.listing()

    @cached_property
    def _store(self) -> Store:
        return open_store(self.url)

    def _kept(self) -> list[ListedFile]:
        record = records.read(self._top / LISTING) or {}
        self._listing = [ListedFile(**file) for file in record.get("files", ())]
        paths = [self._folder / file.name for file in self._listing]
        if not (paths and all(path.is_file() for path in paths)):
            del self._listing
            lacks = f"{self._shown}: is not downloaded, and `offline` opens no connection"
            raise DownloadError(lacks, "run it once with a connection")
        return self._listing

    @property
    def _shown(self) -> str:
        return remote.scrub(self.url)

    @property
    def _raw(self) -> Path:
        """The folder of all downloads of this name, which the lock of the name is for."""
        return fs.cache_dir(self.read_by.cache_dir) / fs.RAW / self.name

    @property
    def _is_file(self) -> bool:
        """Whether the URL is that of one file."""
        names = [file.name for file in self._listing]
        return not self.url.endswith("/") and names == [self._last]

    @property
    def _folder(self) -> Path:
        """The folder of the files, which has the name of theirs."""
        return self._top / ("file" if self._is_file else f"folder/{self.name}")

    @property
    def _top(self) -> Path:
        return self._raw / canonical.digest(self.url.rstrip("/"))[:12]
