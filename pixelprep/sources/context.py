"""Lend a source what it needs while it loads: a cache, workers, private files."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pixelprep.system import fs, parallel, staging


@dataclass(slots=True)
class SourceContext:
    """Space for raw data, and workers to read it; private files are deleted at the end.

    Parameters
    ----------
    cache : Path
        The cache folder, where downloads are kept.
    pool : WorkerPool
        Decodes images and hashes pixels.
    quiet : bool
        Draw no progress bars.
    state : str
        Digest of the source's fingerprint; empty if it has none. Interrupted work is resumed only
        in the same state.
    """

    cache: Path
    pool: parallel.WorkerPool = field(default_factory=parallel.WorkerPool)
    quiet: bool = False
    state: str = ""
    _folders: ExitStack = field(default_factory=ExitStack)
    _folder: Path | None = None

    def folder(self) -> Path:
        """Return the private folder; all workers can read it if they share the cache's disk."""
        if self._folder is None:
            self._folder = self._make_folder("raw", resumable=False)
        return self._folder

    def file(self, name: str) -> Path:
        """Return the path of a new private file: the first of an array's `FileArray`."""
        return self.folder() / f"{name}.0"

    def work(self, name: str) -> Path:
        """Return a folder for `staging.run_step` that outlasts an interruption."""
        return self._make_folder(f"{name}-{self.state[:16]}", resumable=bool(self.state))

    def _make_folder(self, name: str, *, resumable: bool) -> Path:
        try:
            work = staging.workspace(self.cache, name, resumable=resumable)
            return self._folders.enter_context(work)
        except OSError as error:
            if error.errno not in fs.READ_ONLY_ERRNOS:
                raise
            import tempfile  # not needed otherwise

            # A read-only cache may still have the entry that the raw data belongs to.
            temporary = tempfile.TemporaryDirectory(prefix="pixelprep-")
            return Path(self._folders.enter_context(temporary))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:  # as `ExitStack` declares them
        self._folders.__exit__(*error)
