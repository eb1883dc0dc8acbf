"""Folders of images by class: which images there are, in which order, and in what state."""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError, UsageError
from pixelprep.numerics import permutation
from pixelprep.sources import image_file
from pixelprep.sources.base import Options, Raw, RawSplit, test_mask
from pixelprep.sources.context import SourceContext
from pixelprep.sources.image_file import ImageDecoder
from pixelprep.sources.lazy_arrays import FileArray
from pixelprep.sources.local import LocalSource
from pixelprep.system import formatting, fs, progress, staging

LOG = logging.getLogger("pixelprep")

VALIDATION = ("val", "valid", "validation", "dev")  # folders that people may expect to be read
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, slots=True)
class ImageList:
    """Images of one split, before they are read: paths and classes."""

    paths: Sequence[str]
    labels: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> "ImageList":
        return ImageList([self.paths[row] for row in rows], self.labels[rows])

    def mixed(self, index: int) -> "ImageList":
        """In the seeded order in which the format stores what comes sorted by class."""
        return self.take(
            permutation.permutation(
                len(self.paths), seed=0, stream=permutation.Stream.SOURCE, index=index
            )
        )


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """``train/CLASS/*.png`` and ``test/CLASS/*.png``, or ``CLASS/*.png``.

    path : of the folder
    options : of which the test fraction and the split seed are followed
    """

    path: Path
    options: Options

    def states(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every class and image with its `fs.file_stamp`, in a fixed order."""
        for split, top in self._tops().items():
            for name in self._classes(top):
                yield f"{split}/{name}", ()  # also of a class without images
                for image in self._images(top, name):
                    yield f"{split}/{name}/{image.name}", _stamp(image)

    def _tops(self) -> dict[str, Path]:
        """The folders that hold the class folders, by split; one of all where there is no train."""
        tops = {name: self.path / name for name in ("train", "test")}
        for top in tops.values():
            self._check_link(top)
        if not tops["train"].is_dir():
            return {"all": self.path}
        if not tops["test"].is_dir():
            return {"all": tops["train"]}
        if self.options.test_fraction is not None:
            raise UsageError(f"`test_fraction`: {self.path} has a test split of its own")
        return tops

    def listed(self) -> tuple[tuple[str, ...], dict[str, ImageList]]:
        """Class names, and the images of each split in the order in which they are stored."""
        tops, other = self._tops(), _SkippedFiles()
        class_names = tuple(self._classes(next(iter(tops.values()))))
        if len(class_names) < 2:
            raise SourceError(
                f"{self.path}: expected a folder of images for each of two classes or more,"
                f" found {len(class_names)}: {', '.join(class_names) or 'none'}",
                "sort the images into folders: CLASS/*.png, or train/CLASS/*.png",
            )
        if self.path not in tops.values():
            for name in set(self._classes(self.path)) - {top.name for top in tops.values()}:
                other.note(os.fspath(self.path / name))
                if name in VALIDATION:
                    LOG.warning(
                        "%s is not read: a validation split is taken from train, by `val_fraction`",
                        self.path / name,
                    )
        listed = {name: self._of_classes(top, class_names, other) for name, top in tops.items()}
        other.say()
        if "all" in listed:
            whole = listed["all"]
            test = test_mask(os.fspath(self.path), whole.labels, self.options)
            listed = {
                "train": whole.take(np.flatnonzero(~test)),
                "test": whole.take(np.flatnonzero(test)),
            }
        return class_names, {
            name: listed[name].mixed(i) for i, name in enumerate(("train", "test"))
        }

    def _of_classes(
        self, top: Path, class_names: tuple[str, ...], other: "_SkippedFiles"
    ) -> ImageList:
        if differing := set(self._classes(top)) ^ set(class_names):
            differ = ", ".join(sorted(differing))
            raise SourceError(f"{top}: expected the classes of train, these differ: {differ}")
        paths: list[str] = []
        counts = []
        for name in class_names:
            images = [image.path for image in self._images(top, name, other)]
            if not images:
                raise SourceError(f"{top / name}: an empty class: no image in it")
            paths += images
            counts.append(len(images))
        return ImageList(paths, np.repeat(np.arange(len(counts)), counts))

    def _classes(self, top: Path) -> list[str]:
        """The names of its folders, in order; those that begin with a dot are not meant."""
        try:
            with os.scandir(top) as entries:
                found = [entry for entry in entries if entry.name[0] != "." and entry.is_dir()]
        except OSError as error:
            raise SourceError(f"{top}: cannot read: {error.strerror}") from error
        for entry in found:
            self._check_link(entry)
        return sorted(entry.name for entry in found)

    def _images(
        self, top: Path, name: str, other: "_SkippedFiles | None" = None
    ) -> Iterator[os.DirEntry[str]]:
        """The images of a class, by name."""
        with os.scandir(top / name) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            if entry.name[0] == ".":
                continue
            self._check_link(entry)
            if entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                yield entry
            elif other is not None:
                other.note(entry.path)

    def _check_link(self, found: os.DirEntry[str] | Path) -> None:
        """Refuse a link that leads nowhere, or out of the folder."""
        if not found.is_symlink():
            return
        path = Path(found)
        if not os.path.exists(path):  # noqa: PTH110 - pathlib fails on a link to itself
            raise SourceError(f"{path}: a link that leads nowhere")
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise SourceError(
                f"{path}: a link that leaves {self.path}", "copy what it leads to into the folder"
            )


class _SkippedFiles:
    """What is no image, or in no split: said, not silently left out."""

    def __init__(self) -> None:
        self.count, self.first = 0, ""

    def note(self, path: str) -> None:
        self.count, self.first = self.count + 1, self.first or path

    def say(self) -> None:
        if self.count:
            what = formatting.pluralize(self.count, "file or folder", "files or folders")
            LOG.info("not used: %s, such as %s", what, printable(self.first))


def _stamp(image: os.DirEntry[str]) -> tuple[int, ...]:
    try:
        return fs.file_stamp(image)
    except OSError as error:
        raise SourceError(f"{image.path}: cannot read: {error.strerror}") from error


def printable(path: str) -> str:
    """A path as text that JSON can hold, whatever bytes its name has."""
    return os.fsencode(path).decode(errors="backslashreplace")


PARTS = 64  # files that decoded images are divided into, at least
PART_BYTES = 64 << 20  # pixels of such a file, at most


class ImageFolder(LocalSource):
    """A folder of images of one size, sorted into folders by class."""

    supported_options: ClassVar[frozenset[str]] = frozenset(
        {"size", "color", "test_fraction", "on_error"}
    )

    def _stamps(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        return ClassFolders(self.path, self.options).states()

    def load(self, context: SourceContext) -> Raw:
        """Decode every image, as many at a time as there are workers."""
        image_file.require()
        class_names, listed = ClassFolders(self.path, self.options).listed()
        work = context.work(self.name)
        splits, skipped = {}, []
        for name, images in listed.items():
            splits[name], left_out = self._decoded(name, images, work, context)
            skipped += left_out
        self._check_classes(splits, class_names)
        return Raw(splits, class_names, self._decode(skipped)).checked(os.fspath(self.path))

    def _decode(self, skipped: list[str]) -> dict[str, Any]:
        """What the source digest is taken over beside the pixels."""
        options, decode = self.options, dict[str, Any]()
        if options.size:
            decode |= {"size": list(options.size), "resampling": image_file.RESAMPLING}
        if options.color:
            decode["color"] = options.color
        if options.test_fraction is not None:
            decode |= {"test_fraction": options.test_fraction, "split_seed": options.split_seed}
        return decode | ({"skipped": sorted(skipped)} if skipped else {})

    def _decoded(
        self, split: str, listed: ImageList, work: Path, context: SourceContext
    ) -> tuple[RawSplit, list[str]]:
        """The images of one split, and the paths of those that were skipped."""
        options = self.options
        wanted = ImageDecoder(options.size, options.color, options.on_error == "skip")
        wanted = wanted.like(listed.paths)
        assert wanted.format is not None  # the first image has one
        total, row_bytes = len(listed.paths), wanted.format.bytes
        fs.require_free_space(context.cache, total * row_bytes)
        rows = max(1, min(-(-total // PARTS), PART_BYTES // row_bytes))
        tasks = (
            _DecodeTask(work, f"{split}.{i}", listed.paths[start : start + rows], wanted)
            for i, start in enumerate(range(0, total, rows))
        )
        skipped: list[int] = []
        with progress.bar(f"decoding {split}", total, " images", context.quiet) as bar:
            for i, gone in enumerate(context.pool.map(_decode_part, tasks)):
                skipped += [i * rows + row for row in gone]
                bar.update(min(rows, total - i * rows))
        stem = os.fspath(work / staging.FILES / f"{split}.")
        images = FileArray(stem, rows, (total, *wanted.format.shape), np.dtype(wanted.format.dtype))
        whole = RawSplit(images, listed.labels)
        if not skipped:
            return whole, []
        kept = np.setdiff1d(np.arange(total), skipped)
        names = [printable(os.path.relpath(listed.paths[row], self.path)) for row in skipped]
        LOG.warning(
            "%s: left out of %s: %d of %d images, such as %s",
            *(self.name, split, len(names), total, names[0]),
        )
        return whole.take(kept), names

    def _check_classes(self, splits: dict[str, RawSplit], class_names: tuple[str, ...]) -> None:
        """Refuse a class of which nothing is left after skipping."""
        for split, found in splits.items():
            counts = np.bincount(np.asarray(found.labels[:]), minlength=len(class_names))
            if 0 in counts and self.options.on_error == "skip":
                name = class_names[int(np.argmin(counts))]
                raise SourceError(f"{self.path}: {split}: no image of class {name} can be read")


@dataclass(frozen=True, slots=True)
class _DecodeTask:
    """Some images that one worker decodes into one file."""

    work: Path
    name: str
    paths: Sequence[str]
    wanted: ImageDecoder


def _decode_part(part: _DecodeTask) -> list[int]:
    """Decode, unless it was done before; which of the images were skipped."""
    return list(staging.run_step(part.work, part.name, partial(_write_part, part))["skipped"])


def _write_part(part: _DecodeTask, private: Path) -> dict[str, Any]:
    assert part.wanted.format is not None  # set before the work is divided
    look, skipped = part.wanted.format, []
    # The place of what is skipped stays empty, and is left out later.
    block = np.zeros((len(part.paths), *look.shape), look.dtype)
    with image_file.strict_pillow():
        for row, path in enumerate(part.paths):
            try:
                block[row] = part.wanted.read(path)
            except image_file.ImageDecodeError:
                if not part.wanted.skip:
                    raise
                skipped.append(row)
    private.write_bytes(block.data)
    return {"sha256": hashlib.sha256(block.data).hexdigest(), "skipped": skipped}
