"""Read a user's MATLAB files of a version before 7.3; later ones are HDF5."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any  # Any: JSON values

from pixelprep.format.options import MATLAB
from pixelprep.sources.containers import mat
from pixelprep.sources.containers.array_files import ArrayFiles, Container, copied


class MatFiles(ArrayFiles):
    """MATLAB files, whose arrays SciPy copies in a sandbox."""

    endings = (".mat",)
    usual_layout = MATLAB

    def _copied(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        where = arguments["path"]
        return dict(mat.run_in_sandbox(where, f"{__name__}:copy_arrays", **arguments))


def copy_arrays(**arguments: Any) -> Iterator[Any]:  # JSON values
    """Do what `copied` does, in the sandbox."""
    return copied(_open, **arguments)


def _open(path: Path, stack: ExitStack, layout: str | None) -> Container:
    return mat.Mat(path)
