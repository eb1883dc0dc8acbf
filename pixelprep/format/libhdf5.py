"""Make libhdf5 write reproducible files, and survive failing writes and signals.

The same data gives the same bytes: no object times, one version of HDF5's own format, and only
fixed-length strings.
"""

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any  # Any: h5py has no types

import h5py
import numpy as np

from pixelprep.format import h5
from pixelprep.format.layout import FileLayout, is_stored
from pixelprep.system import os_calls


def _filter_options(name: str) -> dict[str, Any]:
    if name in ("lz4", "zstd"):
        import hdf5plugin

        codec = hdf5plugin.LZ4(nbytes=0) if name == "lz4" else hdf5plugin.Zstd(clevel=3)
        return {"shuffle": True, **codec}
    if name == "none":
        return {}
    level = {"compression_opts": 4} if name == "gzip" else {}
    return {"shuffle": True, "compression": name, **level}


def new_file(path: "os.PathLike[str]") -> int:
    """Create a file and return a descriptor for reading and writing."""
    return os_calls.open_plain(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)


def write_at(fd: int, data: memoryview, offset: int) -> None:
    written = 0  # the system may take less at a time
    while written < len(data):
        written += os_calls.pwrite(fd, data[written:], offset + written)


class FailSafeFile(io.RawIOBase):
    """A file for libhdf5 whose writes never fail.

    After a failed write (a full disk) libhdf5 cannot close its file, and crashes the interpreter
    at exit. So the first error is kept for `check` to raise it where Python can handle it, and what
    is written from then on stays in memory. While `placeholder` is not 0, a write of so many bytes
    is a chunk that is filled in later: it is skipped, and its offset appended to `placeholders`.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.position = 0
        self.error: OSError | None = None
        self.unwritten: list[tuple[int, bytes]] = []  # which libhdf5 may read back
        self.placeholder = 0
        self.placeholders: list[int] = []

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self.position}
        base = bases[whence] if whence in bases else os.fstat(self.fd).st_size
        self.position = base + offset
        return self.position

    def tell(self) -> int:
        return self.position

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self.placeholder and len(view) == self.placeholder:
            self.placeholders.append(self.position)
        else:
            try:
                if self.error is None:
                    write_at(self.fd, view, self.position)
            except OSError as error:
                self.error = error
            if self.error is not None:
                self.unwritten.append((self.position, bytes(view)))
        self.position += len(view)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = os_calls.pread(self.fd, len(view), self.position)
        view[:] = data + bytes(len(view) - len(data))
        begin, end = self.position, self.position + len(view)
        for start, unwritten in self.unwritten:
            first, last = max(start, begin), min(start + len(unwritten), end)
            if first < last:
                view[first - begin : last - begin] = unwritten[first - start : last - start]
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
        if self.error is not None:
            raise OSError(self.error.errno, self.error.strerror)

    def close(self) -> None:
        if not self.closed:
            os.close(self.fd)
        super().close()


def _create(disk: FailSafeFile) -> h5py.File:
    # A function of its own, so that the property list that holds the Python file dies here, not
    # when libhdf5 is torn down after the interpreter.
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    _prepare_group(creation)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V18)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, disk)
    return h5py.File(h5py.h5f.create(b"pixelprep", h5py.h5f.ACC_EXCL, creation, access))


@contextmanager
def _defer_signals() -> Iterator[Callable[[], None]]:
    """Defer signals until the yielded function is called: no handler may make a write fail."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # only the main thread may set handlers, and only it runs them
        return
    pending: list[int] = []
    handlers: dict[int, Any] = {
        n: h for n in signal.valid_signals() if callable(h := signal.getsignal(n))
    }

    def check() -> None:
        while pending:
            number = pending.pop(0)
            handlers[number](number, None)

    try:
        for number in handlers:
            signal.signal(number, lambda received, _: pending.append(received))
        yield check
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    check()


@contextmanager
def open_with_layout(
    fd: int, layout: FileLayout
) -> Iterator[tuple[h5py.File, FailSafeFile, Callable[[], None]]]:
    """Do as `open_empty`, and create the datasets and attributes of a layout."""
    with open_empty(fd) as (file, disk, check):
        create_datasets(file, layout)
        check()
        yield file, disk, check


@contextmanager
def open_empty(fd: int) -> Iterator[tuple[h5py.File, FailSafeFile, Callable[[], None]]]:
    """Open an empty file for libhdf5; it is complete, and closed, when the block is left.

    Yields file, `FailSafeFile`, and a function to call often: it raises the error of a failed write
    and runs the handlers of pending signals.
    """
    with _defer_signals() as signals, closing(FailSafeFile(fd)) as disk:

        def check() -> None:
            disk.check()
            signals()

        with _create(disk) as file:
            yield file, disk, check
        check()


def _prepare_group(creation: Any) -> None:
    creation.set_obj_track_times(False)  # else a time stamp changes the file's digest


def new_group(file: h5py.File, name: str) -> h5py.Group:
    """Create a group without object times."""
    creation = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    _prepare_group(creation)
    return h5py.Group(h5py.h5g.create(file.id, name.encode(), gcpl=creation))


def create_datasets(group: h5py.Group, layout: FileLayout) -> None:
    """Create the datasets and attributes of a layout."""
    for name, column in layout.columns.items():
        # The fill time is stored in the file, and its default differs between versions of h5py.
        options = {"chunks": column.chunks, "fletcher32": True, "fill_time": "ifset"}
        if name == "images":
            options |= _filter_options(layout.compression)
        group.create_dataset(name, column.shape, h5.type_of(column.dtype), **options)
    for name, value in layout.attributes.items():
        set_attribute(group, name, value)


def write_rows(dataset: h5py.Dataset, row: int, values: np.ndarray[Any, Any]) -> None:
    """Write neighbouring rows, from this one on."""
    if values.dtype.kind == "S":  # libhdf5 does not take ASCII for the UTF-8 that it may be
        values = values.view(dataset.dtype)
    dataset[row : row + len(values)] = values


def set_attribute(file: h5py.Group, name: str, value: Any) -> None:
    """Create one attribute of a layout, unless it is too large to be stored."""
    if not is_stored(value):
        return
    if isinstance(value, str):
        # Of fixed length: variable-length strings are outside every checksum of HDF5.
        kind = h5py.string_dtype("utf-8", max(1, len(value.encode())))
        file.attrs.create(name, np.array(value.encode(), kind), dtype=kind)
    else:
        file.attrs.create(name, value, dtype="<i8" if isinstance(value, int) else "<f8")
