"""Read HDF5 files of a user's, those of MATLAB 7.3 among them, in a sandbox."""

import json
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: h5py has no types

import numpy as np

from pixelprep.errors import SourceError
from pixelprep.format import sandbox, untrusted
from pixelprep.format.options import MATLAB
from pixelprep.sources.containers.array_files import ArrayFiles, Container, Stored, copied
from pixelprep.sources.containers.array_names import ATTRIBUTE, CLASS_NAMES, Header
from pixelprep.sources.lazy_arrays import BLOCK_BYTES, block_rows
from pixelprep.system import fs

MATLAB_CLASS = "MATLAB_class"  # an attribute of every array in a file of MATLAB 7.3
KINDS = {"images": untrusted.NUMBERS, "labels": untrusted.LABELS}  # the types that each may have


class Hdf5Files(ArrayFiles):
    """HDF5 files, whose arrays are copied in a sandbox."""

    endings = (".h5", ".hdf5", ".mat")

    def _copied(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        path = arguments["path"]
        try:
            steps = sandbox.run_in_sandbox(f"{__name__}:copy_arrays", **arguments)
            return dict(deque(steps, maxlen=1)[0])
        except sandbox.OutOfMemory as error:
            hint = "write its arrays in smaller chunks, or use a machine with more memory"
            raise SourceError(f"{path}: cannot read: {error}", hint) from error
        except sandbox.SandboxError as error:
            raise SourceError(f"{path}: not a readable HDF5 file: {error}") from error


def copy_arrays(**arguments: Any) -> Iterator[Any]:  # JSON values
    """Do what `copied` does, in the sandbox."""
    return copied(_open, **arguments)


def _open(path: Path, stack: ExitStack, layout: str | None) -> Container:
    file = stack.enter_context(untrusted.open_untrusted(path))
    return Hdf5(file, path, layout)


@dataclass(frozen=True, slots=True)
class Hdf5:
    """One HDF5 file."""

    file: Any  # an h5py.File
    path: Path
    layout: str | None

    def headers(self, wanted: Iterable[str]) -> dict[str, Header]:
        found = {
            key: Header(*header)
            for key, header in untrusted.list_arrays(self.file, CLASS_NAMES, ATTRIBUTE).items()
        }
        for key in set(wanted) - found.keys():
            array = untrusted.find_dataset(self.file, key, untrusted.LABELS)
            if array is not None:
                found[key] = Header(array.shape, str(array.dtype))
        return found

    def copy(self, key: str, role: str, target: Path) -> Generator[None, None, Stored]:
        array = untrusted.find_dataset(self.file, key, KINDS[role])
        if array is None or not array.shape:
            raise SourceError(f"{self.path}: no array under the key {key}")
        if role == "images" and self.layout is None and MATLAB_CLASS in array.attrs:
            reversed_axes = f"{self.path}: {key} {array.shape} was written by MATLAB"
            reason = "HDF5 has its axes reversed"
            raise SourceError(f"{reversed_axes}: {reason}", f"turn it: `layout={MATLAB}`")
        yield from untrusted.check_chunks(array)
        fs.require_free_space(target.parent, array.nbytes)
        blocks, dtype = untrusted.iter_rows(array, block_rows(array, BLOCK_BYTES)), array.dtype
        if dtype.kind in "SO":  # text is written as wide as the longest
            text = np.concatenate([np.array(block.tolist(), "S") for block in blocks])
            blocks, dtype = iter([text]), text.dtype
        with target.open("xb") as out:
            for block in blocks:
                out.write(np.ascontiguousarray(block).data)
                yield None
        return array.shape, dtype.str

    def exported_key(self, split: str, column: str) -> str | None:
        return f"{split}/{column}" if untrusted.is_ours(self.file) else None

    def texts(self, key: str) -> list[str]:
        owner, is_attribute, name = key.rpartition(ATTRIBUTE)
        if is_attribute:
            found = untrusted.attribute(self.file, owner, name)
        else:
            array = untrusted.find_dataset(self.file, key, untrusted.LABELS)
            assert array is not None
            deque(untrusted.check_chunks(array), maxlen=0)
            found = [one for block in untrusted.iter_rows(array, 1024) for one in block.tolist()]
        try:
            texts = [one.decode() if isinstance(one, bytes) else str(one) for one in found]
        except UnicodeDecodeError as error:
            raise SourceError(f"{self.path}: {key}: expected text: {error}") from None
        return _names_in(*texts) if is_attribute and len(texts) == 1 else texts


def _names_in(text: str) -> list[str]:
    """Return the names that one text lists, as JSON or between commas; none where it is no list."""
    with suppress(ValueError):
        names = json.loads(text)
        return list(map(str, names)) if isinstance(names, list) else []
    return [name.strip() for name in text.split(",")] if "," in text else []
