"""Give a source what it needs while it loads: a cache, workers, private files."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pixelprep.system import fs, parallel, staging


@dataclass(slots=True)
class SourceContext:
    """Where a source may put raw data, and who helps to read it; all is gone at the end.

    Parameters
    ----------
    cache : Path
        The cache folder, which downloads are kept in.
    pool : WorkerPool
        Who works on blocks.
    quiet : bool
        Draw no progress bars.
    state : str
        Digest of the source's identity; empty where it has none. Work that is gone on with later
        must be of the same state.
    """

    cache: Path
    pool: parallel.WorkerPool = field(default_factory=parallel.WorkerPool)
    quiet: bool = False
    state: str = ""
    _held: ExitStack = field(default_factory=ExitStack)
    _folder: Path | None = None

    def folder(self) -> Path:
        """A private folder; on a disk that all workers share if the cache is on one."""
        if self._folder is None:
            self._folder = self._made("raw", resumable=False)
        return self._folder

    def file(self, name: str) -> Path:
        """Where a private file of this name may be made: the first of an array's."""
        return self.folder() / f"{name}.0"

    def work(self, name: str) -> Path:
        """A folder for `staging.run_step`, found again after an interruption."""
        return self._made(f"{name}-{self.state[:16]}", resumable=bool(self.state))

    def _made(self, name: str, *, resumable: bool) -> Path:
        try:
            work = staging.workspace(self.cache, name, resumable=resumable)
            return self._held.enter_context(work)
        except OSError as error:
            if error.errno not in fs.READ_ONLY_ERRNOS:
                raise
            import tempfile  # elsewhere not needed

            # Raw data can be looked at with a cache that is read-only.
            made = tempfile.TemporaryDirectory(prefix="pixelprep-")
            return Path(self._held.enter_context(made))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._held.__exit__(*error)
