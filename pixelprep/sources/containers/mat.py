"""Read arrays of MATLAB files up to version 7 (level 5), which are no HDF5; SVHN is such files.

SciPy reads them, in the sandbox process: the files are others' binary data.
"""

import math
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: SciPy has no types

import numpy as np

from pixelprep.errors import SourceError, missing_extra
from pixelprep.sources import gzip_file
from pixelprep.sources.base import SourceContext
from pixelprep.sources.containers.array_names import Header
from pixelprep.sources.lazy_arrays import AnyArray, FileArray, copied_arrays
from pixelprep.system import fs

ORDER = "ncwh"  # H×W×C×N of MATLAB, in the order of the bytes
WIDTHS = {"logical": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4}
WIDTHS |= {"int64": 8, "uint64": 8, "single": 4, "double": 8}  # bytes by class of MATLAB


@dataclass(frozen=True, slots=True)
class Mat:
    """One MATLAB file."""

    path: Path

    def headers(self, wanted: Iterable[str] = ()) -> dict[str, Header]:
        import scipy.io

        return {name: Header(shape, kind) for name, shape, kind in scipy.io.whosmat(self.path)}

    def copy(
        self, key: str, role: str, target: Path
    ) -> Generator[None, None, tuple[tuple[int, ...], str]]:
        """Copy labels and flat rows as MATLAB shows them, images with their axes reversed."""
        yield None
        if role == "labels" and self.headers()[key].is_text:
            array: AnyArray = np.array(self.texts(key), np.str_)
        else:
            array = self._numbers(key)
        is_reversed = role == "images" and array.ndim > 2
        array = np.ascontiguousarray(array.T if is_reversed else array)
        fs.require_free_space(target.parent, array.nbytes)
        with target.open("xb") as file:
            file.write(array.data)
        return array.shape, array.dtype.str

    def texts(self, key: str) -> list[str]:
        found = self._load(key).reshape(-1, order="F").tolist()
        if self.headers()[key].dtype == "cell":
            if any(cell.dtype.kind != "U" or cell.size > 1 for cell in found):
                raise SourceError(f"{self.path}: {key}: expected a line of text in every cell")
            found = ["".join(cell.tolist()) for cell in found]
        return [text.rstrip() for text in found]

    def exported_key(self, split: str, column: str) -> str | None:
        return None

    def _numbers(self, key: str) -> AnyArray:
        """Read an array; first raise the limit of memory, or refuse what the file cannot hold."""
        from pixelprep.format import sandbox

        shape, kind = self.headers()[key]
        if kind not in WIDTHS:
            hint = f"in MATLAB: {key} = cat(4, {key}{{:}})" if kind == "cell" else None
            raise SourceError(f"{self.path}: {key}: expected numbers, got {kind}", hint)
        values = math.prod(shape)
        if values > self.path.stat().st_size * gzip_file.MAX_RATIO:
            more = f"promises {values:,} values, more than it can hold"
            raise SourceError(f"{self.path}: {key}: {more}")
        sandbox.allow_memory(2 * values * WIDTHS[kind])  # as it is stored, and as its class has it
        return self._load(key)

    def _load(self, key: str) -> AnyArray:
        import scipy.io

        return np.asarray(scipy.io.loadmat(self.path, variable_names=[key])[key])


def run_in_sandbox(where: str, function: str, **arguments: Any) -> Any:  # JSON values
    """Return the last value of a generator that reads MATLAB files."""
    from importlib.util import find_spec

    from pixelprep.format import sandbox  # a cache hit does without

    if find_spec("scipy") is None:
        raise missing_extra("SciPy", "matlab", "reading MATLAB files")
    try:
        return deque(sandbox.run_in_sandbox(function, **arguments), maxlen=1)[0]
    except sandbox.OutOfMemory as error:
        hint = "save it with -v7.3, which is read piece by piece, or use more memory"
        raise SourceError(f"{where}: cannot read: {error}", hint) from error
    except sandbox.SandboxError as error:
        damaged = f"{where}: not a readable MATLAB file: {error}"
        raise SourceError(damaged, "get it again") from error


def read_arrays(
    paths: Mapping[str, Path], keys: Mapping[str, str], context: SourceContext
) -> dict[str, dict[str, FileArray]]:
    """Return by split the arrays under the keys of its images and its labels.

    The axes of the images are reversed, as MATLAB's bytes lie: N×C×W×H.
    """
    files = {split: os.fspath(path) for split, path in paths.items()}
    options = {"paths": files, "keys": dict(keys), "folder": os.fspath(context.folder())}
    copied = run_in_sandbox(", ".join(files.values()), f"{__name__}:copy_arrays", **options)
    return {split: copied_arrays(of_split) for split, of_split in copied.items()}


def copy_arrays(
    paths: Mapping[str, str], keys: Mapping[str, str], folder: str
) -> Iterator[Any]:  # what the sandbox passes on
    """Copy images and labels to files; yield None at each step, in the end the files by split."""
    copied: dict[str, dict[str, Any]] = {split: {} for split in paths}
    for split, path in paths.items():
        for role, key in keys.items():
            target = Path(folder, f"{split}-{role}.0")
            found = yield from Mat(Path(path)).copy(key, role, target)
            copied[split][role] = os.fspath(target), *found
    yield copied
