"""Write the rows of iterators to files, one by one: never more than a few are in memory."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any  # Any: images and labels of whichever library

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import PixelprepError, SourceError, UsageError
from pixelprep.format.options import DecodeOptions
from pixelprep.format.recipe import SPLITS
from pixelprep.numerics import permutation
from pixelprep.sources import axes
from pixelprep.sources.assemble import assemble
from pixelprep.sources.base import Provenance, Raw, RawSplit, SourceContext, stamps_digest
from pixelprep.sources.classes import dropped_of
from pixelprep.sources.lazy_arrays import AnyArray, FileArray, single_file_array
from pixelprep.sources.pictures import image_file
from pixelprep.sources.pictures.image_file import ImageDecoder
from pixelprep.sources.pictures.image_problems import ImageError
from pixelprep.system import formatting, fs, notices, progress

LOG = logging.getLogger("pixelprep")

Row = Sequence[Any]  # (image, label), or (image, label, name)
DECODED = ("size", "color", "on_error", "orientation", "alpha", "page")  # options of pictures
ROW_OPTIONS = frozenset({*DECODED, "shape", "labels_from", "renumber", "on_leak"})
GROUPED = ROW_OPTIONS | {"group_column", "group_pattern"}  # of rows that may have more columns


@dataclass(frozen=True, slots=True)
class RowStreams:
    """A dataset as iterators: by split a function that starts one, and what labels stand for."""

    splits: Mapping[str, Callable[[], Iterable[Row]]]
    class_names: Sequence[str] = ()
    task: str = "classification"
    grouped: bool = False  # whether rows are (image, label, name or None, group)


@dataclass(frozen=True, slots=True)
class RowsSource:
    """A source that is read row by row; without an `identity` it is read every time.

    With a `folder`, the files there are part of its identity: a library keeps them there.
    """

    name: str
    open: Callable[[SourceContext], RowStreams]
    provenance: Provenance
    options: DecodeOptions
    identity: Mapping[str, object] | None = None
    folder: Path | None = None
    _opened: list[RowStreams] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def on_leak(self) -> str | None:
        """What is done where an image of train is in another split, too."""
        return self.options.on_leak

    def fingerprints(self) -> list[dict[str, object]]:
        """Return the identity, and the options by which the rows are read; first, with the files.

        Where no file is there any more, the last data of this identity is meant. Nothing while a
        file might still be changed without a change of its stamp.
        """
        if self.identity is None:
            return []
        about = {**self.identity, "options": option_values(self.options, ROW_OPTIONS)}
        if self.folder is None:
            return [about]
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        names = (os.fspath(path.relative_to(self.folder)) for path in paths)
        files = stamps_digest(zip(names, map(fs.file_stamp, paths), strict=True))
        if files is None:
            return []
        return [{**about, "files": files}, about] if paths else [about]

    @property
    def fetch(self) -> Callable[[SourceContext], None] | None:
        """What lets the library download its files, where it keeps any."""
        return None if self.folder is None else self._fetch

    def _fetch(self, context: SourceContext) -> None:
        self._opened[:] = [self.open(context)]

    def load(self, context: SourceContext) -> Raw:
        """Write all rows to the context's files."""
        rows = self._opened.pop() if self._opened else self.open(context)
        return load_rows(self.name, rows, self.options, context)


def class_matcher(where: str, own: Sequence[str], train: Sequence[str]) -> Callable[[Any], Any]:
    """Return what turns a label that counts the class names of a part of the data into train's.

    Text stays as it is; so do all labels where either has no names.
    """
    if not own or not train or tuple(own) == tuple(train):
        return lambda label: label
    numbers = {name: number for number, name in enumerate(train)}
    notices.tell("%s: class names differ from those of train: matched by name", where)

    def match(label: Any) -> Any:
        number = _plain(label)
        if isinstance(number, str) or _is_missing(number):
            return number
        if not isinstance(number, int) or not 0 <= number < len(own):
            expected = f"expected the number of one of {len(own)} classes, got {number!r}"
            raise SourceError(f"{where}: class names differ from those of train: {expected}")
        if own[number] not in numbers:
            lacks = f"{where}: an image of class {own[number]}, which train has not"
            raise SourceError(f"{lacks}; its classes are {formatting.shorten(train)}")
        return numbers[own[number]]

    return match


def option_values(options: DecodeOptions, names: Iterable[str]) -> dict[str, object]:
    """Return options by name, for an identity."""
    return {name: getattr(options, name) for name in sorted(names)}


def load_rows(where: str, rows: RowStreams, options: DecodeOptions, context: SourceContext) -> Raw:
    """Write the rows of all splits to the context's files; those sorted by class are mixed."""
    if "train" not in rows.splits:
        listed = formatting.shorten(rows.splits)
        raise SourceError(f"{where}: expected a split train, got {listed or 'none'}")
    pixels, spooled = _Pixels(options), dict[str, _Spooled]()
    for name, start in rows.splits.items():
        found = _spool(where, name, start(), pixels, context, rows.grouped)
        if name != "train" and all(_is_missing(_plain(label)) for label in found.labels):
            notices.tell("%s: %s: no row has a label: not used", where, name)
        else:
            spooled[name] = found
    if options.layout is not None and pixels.record():
        raise UsageError(f"`layout`: {where}: is of arrays alone, not of pictures and tensors")
    shape = options.shape
    assert not isinstance(shape, str)  # it is checked
    images = {n: axes.shaped(f"{where}: {n}", one.images, shape) for n, one in spooled.items()}
    pairs = {name: (images[name], _label_array(where, name, spooled[name])) for name in images}
    names = {name: one.names for name, one in spooled.items() if one.names}
    groups = {name: one.groups for name, one in spooled.items()} if rows.grouped else {}
    raw = assemble(where, pairs, options, rows.task, rows.class_names, names, groups)
    record = pixels.record() | dict(raw.decode)
    if skipped := sorted(one for split in spooled.values() for one in split.skipped):
        count = formatting.pluralize(len(skipped), "image")
        notices.tell("%s: left out: %s, such as %s", where, count, skipped[0])
        record["skipped"] = skipped
    if blank := {name: one.blank for name, one in spooled.items() if one.blank}:
        parts = (f"{formatting.pluralize(n, 'row')} of {name}" for name, n in blank.items())
        notices.tell("%s: left out: without a label: %s", where, ", ".join(parts))
        dropped = dropped_of(record)  # with those whose label is -1
        record["dropped"] = {
            **dropped,
            "no label": dropped.get("no label", 0) + sum(blank.values()),
        }
    mixed = {name: _mixed(where, name, split) for name, split in raw.splits.items()}
    return replace(raw, splits=mixed, decode=record)


@dataclass(slots=True)
class _Spooled:
    """One split: its images in a file, and the rest in memory."""

    images: FileArray
    labels: list[Any] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    blank: int = 0  # rows that were left out, for they have no label


def _spool(
    where: str,
    split: str,
    rows: Iterable[Row],
    pixels: "_Pixels",
    context: SourceContext,
    grouped: bool,
) -> _Spooled:
    """Write the images of a split to a file; all are of the first one's shape and type."""
    path, first = context.file(f"{split}-rows"), None
    found = _Spooled(single_file_array(path, (0,), np.dtype(np.uint8)))
    total = len(rows) if isinstance(rows, Sized) else 0
    bar = progress.bar(f"reading {split}", total, " images", context.quiet or not total)
    with path.open("xb") as file, bar:
        for at, number, given in _numbered(f"{where}: {split}", rows):
            row, group = (given[:3], [_text(given[3])]) if grouped else (given, [])
            image, label, name = _parts(at, row)
            if pixels.decoder.skip and _is_blank(_plain(label)):
                found.blank += 1
                continue
            try:
                one = pixels(at, image)
            except ImageError as error:
                if not (pixels.decoder.skip and error.unread):
                    raise
                found.skipped.append(f"{split}/{number if name is None else name}")
                continue
            if first is None:
                first = number, one.shape, one.dtype
            elif first[1:] != (one.shape, one.dtype):
                differs = f"{at}: is {_format(one)}, but row {first[0]} is {_kind(*first[1:])}"
                raise SourceError(differs, "give all images one shape and one type")
            file.write(np.ascontiguousarray(one).data)
            found.labels.append(label)
            found.names += _named(f"{where}: {split}", name)
            found.groups += group
            bar.update()
    if first is None and found.blank and split != "train":  # which is not used
        return found
    if first is None:
        got = f"{found.blank:,} without a label" if found.blank else "none"
        raise SourceError(f"{where}: {split}: expected rows (image, label), got {got}")
    if found.names and len(found.names) != len(found.labels):
        raise SourceError(f"{where}: {split}: only some rows have a name")
    found.images = single_file_array(path, (len(found.labels), *first[1]), first[2])
    return found


def _numbered(where: str, rows: Iterable[Row]) -> Iterator[tuple[str, int, Row]]:
    """Yield each row with what it is called and its number; name the one that cannot be had."""
    number, every = 0, iter(rows)
    while True:
        at = f"{where}: row {number} (counted from 0)"
        try:
            row = next(every)
        except StopIteration:
            return
        except (PixelprepError, MemoryError):
            raise
        except Exception as error:  # of whichever library, or the user's own
            said = f"{type(error).__name__}: {error}"
            raise SourceError(f"{at}: the dataset fails: {said}") from error
        yield at, number, row
        number += 1


def _parts(at: str, row: Row) -> tuple[Any, Any, Any]:
    if not isinstance(row, tuple | list) or len(row) not in (2, 3):
        got = f"{len(row)} values" if isinstance(row, tuple | list) else type(row).__name__
        raise SourceError(f"{at}: expected (image, label) or (image, label, name), got {got}")
    image, label, name = (*row, None)[:3]
    return image, label, name


def _named(where: str, name: Any) -> list[str]:
    """Return the name of a row, if it has any; say once that it was no text."""
    if name is not None and not isinstance(name, str | os.PathLike):
        third = type(name).__name__
        notices.tell("%s: a row's third value, %s, is taken as its name", where, third)
    return [] if name is None else [str(name)]


def _text(group: Any) -> str:
    return "" if group is None else str(group)


def _format(image: AnyArray) -> str:
    return _kind(image.shape, image.dtype)


def _kind(shape: tuple[int, ...], dtype: object) -> str:
    return f"{formatting.format_shape(shape)} {dtype}"


class _Pixels:
    """Turn an image of any library into an array (H, W) or (H, W, C)."""

    def __init__(self, options: DecodeOptions) -> None:
        self.options = options
        self.decoder = ImageDecoder.of(options)
        self._turned: str | None = None  # the order of axes of the tensors

    def record(self) -> dict[str, object]:
        """Return what the source digest covers of how pictures were decoded."""
        found = self.decoder.record() if self.decoder.format else {}
        return found | ({"layout": self._turned} if self._turned else {})

    def __call__(self, at: str, image: Any) -> AnyArray:
        if isinstance(image, bytes) or hasattr(image, "getexif"):  # of a file, or Pillow's
            return self._decode(at, image)
        self._refuse_options(at)
        if hasattr(image, "detach"):
            return self._from_tensor(at, image.detach().cpu().numpy())
        pixels = self._from_lists(at, image) if isinstance(image, list) else np.asarray(image)
        if pixels.ndim not in (1, 2, 3) or pixels.dtype.kind not in "uif":
            got = f"{type(image).__name__} {pixels.dtype} {pixels.shape}"
            raise SourceError(f"{at}: expected an image (H, W) or (H, W, C), got {got}")
        return pixels

    def _decode(self, at: str, image: Any) -> AnyArray:
        image_file.require("a dataset of pictures")
        examine = self.decoder.examine_bytes if isinstance(image, bytes) else None
        with image_file.strict_pillow():
            pixels, problems = (examine or self.decoder.examine_image)(at, image)
        if problems or pixels is None:
            raise ImageError.of(at, problems)
        if self.decoder.format is None:
            form = image_file.format_of(pixels)
            self.decoder = replace(self.decoder, format=form, reference=at)
        return pixels

    def _from_lists(self, at: str, image: Sequence[Any]) -> AnyArray:
        """Turn lists of numbers, whose integers have no width, into an array; these into bytes."""
        try:
            pixels = np.asarray(image)
        except ValueError:
            raise SourceError(f"{at}: lists of several lengths: expected an image") from None
        if pixels.dtype.kind != "i" or not pixels.size:
            return pixels
        if pixels.min() < 0 or pixels.max() > 255:
            found = f"{at}: whole numbers {pixels.min()} to {pixels.max()} in lists"
            raise SourceError(f"{found}: expected 0 to 255", "give arrays of a type of their own")
        return pixels.astype(np.uint8)

    def _from_tensor(self, at: str, pixels: AnyArray) -> AnyArray:
        """Turn a tensor of torch's, whose channels come first."""
        if pixels.ndim == 2:
            return pixels
        if pixels.ndim != 3 or pixels.shape[0] > 4:
            expected = f"{at}: expected a tensor (C, H, W), of at most 4 channels"
            raise SourceError(f"{expected}, got {pixels.shape}", "give arrays (H, W, C) instead")
        if self._turned is None:
            self._turned, floats = "nchw", pixels.dtype.kind == "f"
            scaled = ", floats 0 to 1 as by ToTensor" if floats and pixels.max() <= 1 else ""
            notices.tell("%s: a tensor (C, H, W)%s: turned to (H, W, C)", at, scaled)
        return pixels.transpose(1, 2, 0)

    def _refuse_options(self, at: str) -> None:
        for name in DECODED:  # an `on_error` is also of rows without a label
            if name != "on_error" and getattr(self.options, name) != getattr(DecodeOptions, name):
                raise UsageError(f"`{name}`: {at}: an array is taken as it is", "leave it out")


def _plain(label: Any) -> Any:
    """Return a label as Python has it."""
    return label.item() if hasattr(label, "item") and getattr(label, "ndim", 0) == 0 else label


def _is_missing(label: Any) -> bool:
    return _is_blank(label) or (isinstance(label, int) and label == -1)  # as Hugging Face has it


def _is_blank(label: Any) -> bool:
    """Tell whether a row has no label: none at all, NaN as of pandas, or an empty text."""
    is_nan = isinstance(label, float) and label != label
    return label is None or is_nan or (isinstance(label, str) and not label.strip())


def _label_array(where: str, split: str, spooled: _Spooled) -> AnyArray:
    labels = [_plain(label) for label in spooled.labels]
    if blank := [number for number, label in enumerate(labels) if _is_blank(label)]:
        of = f"{len(blank):,} of {len(labels):,}, such as row {blank[0]} (counted from 0)"
        hint = "fill in their labels, or leave them out: `on_error=skip`"
        raise SourceError(f"{where}: {split}: without a label: {of}", hint)
    try:
        return np.asarray(labels)
    except ValueError as error:  # lists of several lengths
        raise SourceError(f"{where}: {split}: labels are unlike each other: {error}") from None


def _mixed(where: str, name: str, split: RawSplit) -> RawSplit:
    """Give rows that are sorted by class the format's seeded order, as those of folders have."""
    labels: NDArray[Any] = np.asarray(split.labels[:])
    if labels.ndim != 1 or labels[0] == labels[-1] or (np.diff(labels.astype(np.int64)) < 0).any():
        return split
    LOG.info("%s: %s: rows are sorted by class: they are mixed, by a fixed seed", where, name)
    source = permutation.Stream.SOURCE
    rows = len(labels)
    return split.take(
        permutation.permutation(rows, seed=0, stream=source, index=SPLITS.index(name))
    )
