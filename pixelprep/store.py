"""The only module that knows HDF5: one file of scaled images, written and read.

data/FORMAT.md describes the file. Reproducible to the last byte: no object times, one version of
HDF5's own format, fixed-length strings only.
"""

import io
import os
import signal
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pixelprep import files
from pixelprep.errors import AGAIN, EntryError, missing_extra, unknown

FORMAT, FORMAT_VERSION = "pixelprep", 1
CHUNK_BYTES = 1 << 20  # the largest chunk that HDF5's default chunk cache (1 MiB) still holds
SHARD_BYTES = 256 << 20  # stored images of one file, before compression
COMPRESSIONS = ("none", "gzip", "lzf", "lz4", "zstd")
DTYPES = ("float32", "float16")
GZIP_LEVEL, ZSTD_LEVEL = 4, 3
SMALL = 4096  # statistics of more values than this are kept in the manifest alone
OPEN_FILES = 32  # open at once while reading an entry of many files


def chunk_rows(image_shape: Sequence[int], dtype: str) -> int:
    """Rows a chunk: the largest power of two whose images fit into 1 MiB, at least 1."""
    row = int(np.prod(image_shape)) * np.dtype(dtype).itemsize
    return 1 << max(0, (CHUNK_BYTES // row).bit_length() - 1)


def shard_rows(image_shape: Sequence[int], dtype: str) -> int:
    """Rows a file: as many whole chunks as fit into 256 MiB, at least one."""
    rows = chunk_rows(image_shape, dtype)
    chunk = rows * int(np.prod(image_shape)) * np.dtype(dtype).itemsize
    return rows * max(1, SHARD_BYTES // chunk)


def check_compression(name: str) -> None:
    """Refuse a compression that does not exist, or whose package is not installed."""
    if name not in COMPRESSIONS:
        raise unknown("--compression", name, COMPRESSIONS)
    _filter(name)


def _filter(name: str) -> dict[str, Any]:
    """Arguments of ``create_dataset`` for this compression."""
    if name in ("lz4", "zstd"):
        try:
            import hdf5plugin
        except ImportError:
            raise missing_extra("hdf5plugin", "compression", f"--compression {name}") from None
        chosen = hdf5plugin.LZ4(nbytes=0) if name == "lz4" else hdf5plugin.Zstd(clevel=ZSTD_LEVEL)
        return {"shuffle": True, **chosen}
    if name == "none":
        return {}
    level = {"compression_opts": GZIP_LEVEL} if name == "gzip" else {}
    return {"shuffle": True, "compression": name, **level}


class _Disk(io.RawIOBase):
    """A file for libhdf5 to write to, which never fails.

    When a write fails (a full disk) libhdf5 cannot close its file any more and crashes the
    interpreter at exit. So the first error is kept here, what follows is kept in memory, and
    `check` raises the error where Python can deal with it.
    """

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self.position = 0
        self.error: OSError | None = None
        self.lost: list[tuple[int, bytes]] = []  # what libhdf5 may still want to read back

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self.position}
        base = bases[whence] if whence in bases else os.fstat(self.fd).st_size
        self.position = base + offset
        return self.position

    def tell(self) -> int:
        return self.position

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        written = 0
        try:
            while self.error is None and written < len(view):
                written += os.pwrite(self.fd, view[written:], self.position + written)
        except OSError as error:
            self.error = error
        if self.error is not None:
            self.lost.append((self.position, bytes(view)))
        self.position += len(view)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = os.pread(self.fd, len(view), self.position)
        view[:] = data + bytes(len(view) - len(data))
        here, end = self.position, self.position + len(view)
        for start, lost in self.lost:
            first, last = max(start, here), min(start + len(lost), end)
            if first < last:
                view[first - here : last - here] = lost[first - start : last - start]
        self.position = end
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        size = self.position if size is None else size
        try:
            if self.error is None:
                os.ftruncate(self.fd, size)
        except OSError as error:
            self.error = error
        return size

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self.error is not None:
            raise OSError(self.error.errno, self.error.strerror)

    def close(self) -> None:
        if not self.closed:
            os.close(self.fd)
        super().close()


def _create(disk: _Disk) -> h5py.File:
    # A function of its own: the property list that holds the Python file must die here, not when
    # libhdf5 is torn down after the interpreter.
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)  # else the root group's time stamp changes the digest
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, disk)
    return h5py.File(h5py.h5f.create(b"pixelprep", h5py.h5f.ACC_EXCL, creation, access))


@contextmanager
def _signals_noted() -> Iterator[Callable[[], None]]:
    """Signals take effect only where the yielded function is called, never inside libhdf5.

    A write that a handler breaks off (Ctrl-C) is one that failed, and libhdf5 does not survive
    those (see `_Disk`).
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # only the main thread may set handlers, and only it runs them
        return
    noted: list[int] = []
    before: dict[int, Any] = {
        n: h for n in signal.valid_signals() if callable(h := signal.getsignal(n))
    }

    def check() -> None:
        while noted:
            number = noted.pop(0)
            before[number](number, None)

    try:
        for number in before:
            signal.signal(number, lambda got, _: noted.append(got))
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    check()


@dataclass(slots=True)
class Writer:
    """Appends blocks of rows to one file (made by `writing`)."""

    file: h5py.File
    check: Callable[[], None]
    row: int = 0

    def append(self, **columns: NDArray[Any]) -> None:
        """Write the next rows; blocks of whole chunks are fastest.

        Parameters
        ----------
        **columns : ndarray
            ``images``, ``labels`` and, per image, ``mean`` and ``std``: equally many rows.

        Raises
        ------
        OSError
            When the disk is full or fails.
        """
        rows = slice(self.row, self.row + len(columns["labels"]))
        for name, values in columns.items():
            self.file[name][rows] = values
        self.check()
        self.row = rows.stop


@contextmanager
def writing(
    path: Path,
    shape: tuple[int, ...],
    dtype: str,
    *,
    rows: int,
    compression: str = "none",
    attributes: Mapping[str, Any] | None = None,
    per_image: bool = False,
) -> Iterator[Writer]:
    """A new file to write to; it is on the disk when the block is left without an error.

    Parameters
    ----------
    path : Path
        Must not exist.
    shape : tuple of int
        (N, H, W, C) of the whole file.
    dtype : str
        Of the images: float32 or float16.
    rows : int
        Rows a chunk.
    compression : str
        One of `COMPRESSIONS`.
    attributes : mapping
        Root attributes: str, int, list of str, or array of float64 (left out where not small).
    per_image : bool
        Whether each image's own mean and std are stored too.

    Raises
    ------
    OSError
        When the disk is full or fails.
    """
    with _signals_noted() as signals, closing(_Disk(path)) as disk:

        def check() -> None:
            disk.check()
            signals()

        with _create(disk) as file:
            _add(file, "images", shape, "<" + np.dtype(dtype).str[1:], rows, _filter(compression))
            _add(file, "labels", shape[:1], "<i8", rows)
            for name in ("mean", "std") if per_image else ():
                _add(file, name, shape[:1], "<f8", rows)
            for name, value in (attributes or {}).items():
                _set_attribute(file, name, value)
            check()
            yield Writer(file, check)
        check()
        os.fsync(disk.fd)


def _add(
    file: h5py.File,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    rows: int,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    # A chunk may not be larger than the dataset.
    chunks = (min(rows, shape[0]), *shape[1:])
    # The default fill time is not the same in every h5py, and it is written into the file.
    file.create_dataset(
        name, shape, dtype, chunks=chunks, fletcher32=True, fill_time="ifset", **options
    )


def _set_attribute(file: h5py.File, name: str, value: Any) -> None:
    if isinstance(value, str):
        value = [value]
        _set_strings(file, name, value, scalar=True)
    elif isinstance(value, int):
        file.attrs.create(name, value, dtype="<i8")
    elif isinstance(value, np.ndarray):
        if value.size <= SMALL:
            file.attrs.create(name, value, dtype="<f8")
    else:
        _set_strings(file, name, value)


def _set_strings(file: h5py.File, name: str, values: list[str], *, scalar: bool = False) -> None:
    # Fixed length: variable-length strings lie outside every checksum of HDF5.
    encoded = [value.encode() for value in values]
    kind = h5py.string_dtype("utf-8", max(1, *map(len, encoded)))
    data = np.array(encoded, dtype=kind)
    file.attrs.create(name, data[0] if scalar else data, dtype=kind)


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a split, its digest, and its `files.state` when it was found right."""

    path: Path
    rows: int
    sha256: str
    state: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Column:
    """A dataset whose rows lie in the file as they are: no filter but the checksum."""

    chunk_rows: int
    offsets: tuple[int, ...]  # of each chunk, bytes from the file's start


def _column(dataset: Any) -> _Column | None:
    filters = dataset.id.get_create_plist()
    only_checksum = filters.get_nfilters() == 1 and dataset.fletcher32
    if not only_checksum or not dataset.dtype.isnative:
        return None
    found: dict[int, int] = {}
    dataset.id.chunk_iter(lambda c: found.__setitem__(c.chunk_offset[0], c.byte_offset))
    offsets = tuple(found[start] for start in range(0, dataset.shape[0], dataset.chunks[0]))
    return _Column(dataset.chunks[0], offsets)


class _Open:
    """One open file. Rows stored as they are come straight from it, past libhdf5 and its lock;
    others through libhdf5.
    """

    def __init__(self, part: Part) -> None:
        self.fd = os.open(part.path, os.O_RDONLY)
        try:
            self.state = files.state(self.fd)
            # Made again by --force it is another file with the same bytes.
            if self.state != part.state and files.sha256(part.path) != part.sha256:
                raise OSError("the file was changed after it was checked")
            self.check()  # before libhdf5 sees it
            self.file = h5py.File(part.path, "r")
        except BaseException:
            os.close(self.fd)
            raise
        columns = {name: _column(self.file[name]) for name in self.file}
        self.columns = {name: column for name, column in columns.items() if column is not None}
        if "images" not in self.columns:
            with suppress(ImportError):
                import hdf5plugin  # noqa: F401 - registers its filters, in every process

    def check(self) -> None:
        """Refuse a file that is not as it was when it was opened."""
        if files.state(self.fd) != self.state:
            raise OSError("the file was changed after it was checked")

    def read(self, name: str, start: int, out: NDArray[Any]) -> None:
        """Fill `out` with the rows from `start` on."""
        self.check()
        if name not in self.columns:
            self.file[name].read_direct(out, np.s_[start : start + len(out)])
            return
        column, done = self.columns[name], 0
        row_bytes = out.nbytes // len(out)
        while done < len(out):
            chunk, first = divmod(start + done, column.chunk_rows)
            rows = min(column.chunk_rows - first, len(out) - done)
            space = out[done : done + rows].data.cast("B")
            if os.preadv(self.fd, [space], column.offsets[chunk] + first * row_bytes) < len(space):
                raise OSError("the file ends too early")
            done += rows

    def close(self) -> None:
        os.close(self.fd)
        self.file.close()


class Files:
    """Open files of one entry, the least recently used of more than 32 closed again.

    Not shared between processes: each opens its own (a handle carried over a fork is not safe).
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Path, _Open] = OrderedDict()

    def read(self, part: Part, start: int, out: NDArray[Any], name: str) -> None:
        """Fill `out`, contiguous and of the stored type, with one dataset's rows from `start` on.

        Raises
        ------
        EntryError
            When the file is damaged, or was changed after it was checked.
        """
        if len(out):
            with _explained(part, name):
                self._get(part).read(name, start, out)

    def _get(self, part: Part) -> _Open:
        if part.path in self._open:
            self._open.move_to_end(part.path)
            return self._open[part.path]
        if len(self._open) >= OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        self._open[part.path] = opened = _Open(part)
        return opened

    def close(self) -> None:
        """Close all of them."""
        while self._open:
            self._open.popitem()[1].close()


@contextmanager
def _explained(part: Part, name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError) as error:
        raise EntryError(f"{part.path}: cannot read /{name}: {error}", AGAIN) from error


@contextmanager
def reading() -> Iterator[Files]:
    """Files that are closed at the end."""
    opened = Files()
    try:
        yield opened
    finally:
        opened.close()


def describe(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of each dataset of a file.

    Raises
    ------
    EntryError
        When it is no HDF5 file, or holds what version 1 does not allow: links, external or
        virtual storage, datasets of another length.
    """
    try:
        with h5py.File(path, "r") as file:
            links = {name: file.get(name, getlink=True) for name in file}
            if not all(isinstance(link, h5py.HardLink) for link in links.values()):
                raise EntryError(f"{path}: expected datasets only, found links")
            return {name: _plain(path, file[name]) for name in file}
    except OSError as error:
        raise EntryError(f"{path}: not a readable HDF5 file: {error}") from error


def _plain(path: Path, dataset: Any) -> tuple[tuple[int, ...], str]:
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise EntryError(f"{path}: {dataset.name} is not a dataset stored in this file")
    return dataset.shape, dataset.dtype.name
