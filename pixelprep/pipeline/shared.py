"""Take what is to be prepared from a remote, where others have stored it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pixelprep import sources
from pixelprep.dataset.entry import Entry
from pixelprep.errors import MissingExtraError, NewerFormatError, RemoteError
from pixelprep.format.source_record import SourceRecord
from pixelprep.pipeline import raw_data
from pixelprep.system import fs

if TYPE_CHECKING:
    from pixelprep.cache.remotes import Published, Remote

LOG = logging.getLogger("pixelprep")

Result = TypeVar("Result")


class SharedEntries:
    """The entries of a remote; none where there is no remote.

    One that fails is said so once, and not asked again: the work is then done here.
    """

    def __init__(self, url: str | None, quiet: bool) -> None:
        self.url, self.quiet = url, quiet
        self.is_damaged = False  # what was asked for
        self._looked_up: dict[str, Published | None] = {}

    def __bool__(self) -> bool:
        return self.url is not None

    def record_of(self, source: sources.Source, cache: Path) -> SourceRecord | None:
        """Return what the remote knows of data that is not known here."""
        identity = raw_data.declared(source)
        if identity is None or raw_data.recall(source, cache):
            return None
        from pixelprep.cache import remotes

        return self._ask(lambda remote: remotes.source_record(remote, identity))

    def fetch(self, place: str, cache: Path) -> Entry | None:
        """Copy an entry into the cache, unless it is there; None where the remote has it not."""
        from pixelprep.cache import remotes

        if found := self._find(place):
            return self._fetched(found, cache, lambda: remotes.fetch(found, cache, self.quiet))
        return None

    def fetch_locked(self, place: str, path: Path, cache: Path) -> Entry | None:
        """Do as `fetch`, holding the lock of the entry's folder, where there is no entry."""
        if self.url is None:
            return None
        from pixelprep.cache import remotes

        if found := self._find(place):
            fs.ensure_dir(cache)
            fetch = partial(remotes.fetch_locked, found, path, cache, self.quiet)
            return self._fetched(found, cache, fetch)
        return None

    def _fetched(self, found: Published, cache: Path, fetch: Callable[[], Entry]) -> Entry | None:
        from pixelprep.cache import remotes

        entry = self._ask(lambda _: fetch())
        if entry is None:  # it is made here
            remotes.drop_parts(found, cache)
        return entry

    def push(self, entry: Entry, url: str, cache: Path, force: bool) -> None:
        """Store an entry in the remote, and say so."""
        from pixelprep.cache import remotes

        again = force or self.is_damaged
        done = remotes.push_entry(entry, remotes.Remote(url), cache, again, self.quiet)
        LOG.info("%s: %s", done.url, "was there" if done.present else "pushed")

    def _find(self, place: str) -> Published | None:
        from pixelprep.cache import remotes

        if place not in self._looked_up:
            found = self._ask(lambda remote: remotes.find(remote, place))
            if found:
                LOG.info("found at %s", found.remote.address(place))
            self._looked_up[place] = found
        return self._looked_up[place]

    def _ask(self, action: Callable[[Remote], Result]) -> Result | None:
        """Return what the remote answers; None where there is none, or it fails."""
        from pixelprep.cache import remotes

        if self.url is None:
            return None
        try:
            return action(remotes.Remote(self.url))
        except (RemoteError, MissingExtraError, NewerFormatError) as error:
            self.url, self.is_damaged = None, error.hint == remotes.PUSH_AGAIN
            LOG.warning("%s; going on without the remote", error)
            return None
