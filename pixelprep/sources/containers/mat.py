"""Read arrays of MATLAB files up to version 7 (level 5), which are no HDF5; SVHN is such files.

SciPy reads them, in the sandbox process: the files are others' binary data.
"""

import math
import os
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any  # Any: SciPy has no types

import numpy as np

from pixelprep.errors import SourceError, missing_extra
from pixelprep.sources import gzip_file
from pixelprep.sources.base import SourceContext
from pixelprep.sources.lazy_arrays import FileArray, single_file_array
from pixelprep.system import formatting, fs

Keys = tuple[str, str]  # of images and labels
Copied = tuple[str, list[int], str]  # a file, and shape and dtype of the array in it

USUAL_KEYS: tuple[Keys, ...] = (("X", "y"), ("images", "labels"))
ORDER = "ncwh"  # H×W×C×N of MATLAB, in the order of the bytes
WIDTHS = {"logical": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4}
WIDTHS |= {"int64": 8, "uint64": 8, "single": 4, "double": 8}  # bytes by class of MATLAB


def read_arrays(
    paths: Mapping[str, Path], keys: Sequence[Keys], context: SourceContext
) -> dict[str, tuple[FileArray, FileArray]]:
    """Return by split images and labels, under the first keys that its file has.

    The axes of the images are reversed, as MATLAB's bytes lie: N×C×W×H.
    """
    from pixelprep.format import sandbox  # a cache hit does without

    _require_scipy()
    listed = ", ".join(map(str, paths.values()))
    files = {name: os.fspath(path) for name, path in paths.items()}
    try:
        options = {"folder": os.fspath(context.folder()), "keys": list(keys)}
        steps = sandbox.run_in_sandbox(f"{__name__}:copy_arrays", paths=files, **options)
        copied = deque(steps, maxlen=1)[0]
    except sandbox.OutOfMemory as error:
        hint = "save it with -v7.3, which is read piece by piece, or use more memory"
        raise SourceError(f"{listed}: cannot read: {error}", hint) from error
    except sandbox.SandboxError as error:
        damaged = f"{listed}: not a readable MATLAB file: {error}"
        raise SourceError(damaged, "get it again") from error
    found = {}
    for name, pair in copied.items():
        images, labels = (
            single_file_array(Path(p), tuple(s), np.dtype(kind)) for p, s, kind in pair
        )
        found[name] = images, labels
    return found


def _require_scipy() -> None:
    from importlib.util import find_spec

    if find_spec("scipy") is None:
        raise missing_extra("SciPy", "matlab", "reading MATLAB files")


def copy_arrays(
    paths: Mapping[str, str], folder: str, keys: Sequence[Sequence[str]]
) -> Iterator[Any]:  # what the sandbox passes on
    """Copy images and labels to files; yield None at each step, in the end the files by split."""
    copied = {}
    for name, path in paths.items():
        copied[name] = yield from _copy_pair(path, Path(folder, name), keys)
    yield copied


def _copy_pair(
    path: str, stem: Path, keys: Sequence[Sequence[str]]
) -> Generator[None, None, list[Copied]]:
    import scipy.io

    held = {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(path)}
    found = next((pair for pair in keys if all(key in held for key in pair)), None)
    if found is None:
        listed = [
            f"{name} {formatting.format_shape(one[0])} {one[1]}" for name, one in held.items()
        ]
        tried = " or ".join(" and ".join(pair) for pair in keys)
        holds = f"expected arrays {tried}; it holds {formatting.shorten(listed) or 'nothing'}"
        raise SourceError(f"{path}: {holds}", "name them: `images_key=KEY` `labels_key=KEY`")
    copied = []
    for column, key in zip(("images", "labels"), found, strict=True):
        yield None
        _allow(path, key, *held[key])
        array = scipy.io.loadmat(path, variable_names=[key])[key]
        array = np.ascontiguousarray(array.T if column == "images" else array)
        target = stem.with_name(f"{stem.name}-{column}.0")
        fs.require_free_space(target.parent, array.nbytes)
        target.write_bytes(array.data)
        copied.append((os.fspath(target), list(array.shape), array.dtype.str))
    return copied


def _allow(path: str, key: str, shape: tuple[int, ...], kind: str) -> None:
    """Raise the limit of memory by what an array needs; refuse what the file cannot hold."""
    if kind not in WIDTHS:
        raise SourceError(f"{path}: {key}: expected numbers, got {kind}")
    from pixelprep.format import sandbox

    values = math.prod(shape)
    if values > Path(path).stat().st_size * gzip_file.MAX_RATIO:
        raise SourceError(f"{path}: {key}: promises {values:,} values, more than it can hold")
    sandbox.allow_memory(2 * values * WIDTHS[kind])  # as it is stored, and as its class has it
