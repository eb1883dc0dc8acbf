"""Read a folder of images that are sorted into folders by class."""

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any  # Any: JSON values

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError
from pixelprep.format.recipe import SPLITS
from pixelprep.numerics import permutation
from pixelprep.sources import image_file
from pixelprep.sources.base import Raw, RawSplit, SourceContext, with_names
from pixelprep.sources.image_file import ImageDecoder
from pixelprep.sources.lazy_arrays import FileArray
from pixelprep.sources.local import LocalSource
from pixelprep.system import formatting, fs, progress, staging

LOG = logging.getLogger("pixelprep")

FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation", "dev"), "test": ("test",)}
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def printable(path: str) -> str:
    """Spell a path, whatever bytes it has, as text that JSON can hold."""
    return os.fsencode(path).decode(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class _ImageList:
    """The images of one split before they are decoded: paths, and labels int64 (N,)."""

    paths: Sequence[str]
    labels: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> "_ImageList":
        return _ImageList([self.paths[row] for row in rows], self.labels[rows])


class ImageFolder(LocalSource):
    """``train/CLASS/*.png``, likewise ``val`` and ``test``; or ``CLASS/*.png``; all of one size."""

    supported_options = frozenset({"size", "color", "on_error"})

    def load(self, context: SourceContext) -> Raw:
        """Decode every image, the workers sharing the work."""
        image_file.require()
        class_names, images = self._list_images()
        work = context.work(self.name)
        splits, skipped = {}, list[str]()
        for name, listed in images.items():
            splits[name], damaged = self._decode(name, listed, work, context)
            skipped += damaged
        for name, split in splits.items():
            counts = np.bincount(np.asarray(split.labels[:]), minlength=len(class_names))
            if 0 in counts and self.options.on_error == "skip":
                empty = class_names[int(np.argmin(counts))]
                raise SourceError(f"{self.path}: {name}: no image of class {empty} can be read")
        return Raw(splits, class_names, self._decode_record(skipped)).checked(os.fspath(self.path))

    def _decode_record(self, skipped: list[str]) -> dict[str, object]:
        """Return what the source digest covers beside the pixels."""
        options, record = self.options, dict[str, object](image_file.FACTS)
        if options.size:
            record |= {"size": list(options.size), "fit": "stretch", "filter": "bilinear"}
        if options.color:
            record["color"] = options.color
        if skipped:
            record["skipped"] = sorted(skipped)
        return record

    def _decode(
        self, split: str, listed: _ImageList, work: Path, context: SourceContext
    ) -> tuple[RawSplit, list[str]]:
        """Decode the images of one split; return it, and the paths of skipped images."""
        options = self.options
        decoder = ImageDecoder(
            options.size, options.color, options.on_error == "skip", folder=os.fspath(Path.cwd())
        )
        decoder = decoder.with_reference(listed.paths)
        assert decoder.format is not None  # that of the reference
        total, row_bytes = len(listed.paths), decoder.format.bytes
        fs.require_free_space(context.cache, total * row_bytes)
        # A task takes 1/64 of the images, or fewer if they have more than 64 MiB of pixels.
        rows = max(1, min(-(-total // 64), (64 << 20) // row_bytes))
        tasks = (
            (work, f"{split}.{i}", listed.paths[start : start + rows], decoder)
            for i, start in enumerate(range(0, total, rows))
        )
        skipped: list[int] = []
        with progress.bar(f"decoding {split}", total, " images", context.quiet) as bar:
            for i, damaged in enumerate(context.pool.map(_run_task, tasks)):
                skipped += [i * rows + row for row in damaged]
                bar.update(min(rows, total - i * rows))
        stem = os.fspath(work / staging.FILES / f"{split}.")
        shape, dtype = (total, *decoder.format.shape), np.dtype(decoder.format.dtype)
        paths = [printable(os.path.relpath(path, self.path)) for path in listed.paths]
        decoded = RawSplit(FileArray(stem, rows, shape, dtype), listed.labels)
        decoded = with_names(f"{self.path}: {split}", decoded, paths)
        if not skipped:
            return decoded, []
        names = [paths[row] for row in skipped]
        left_out = (self.name, split, len(names), total, names[0])
        LOG.warning("%s: left out of %s: %d of %d images, such as %s", *left_out)
        return decoded.take(np.setdiff1d(np.arange(total), skipped)), names

    def _stamps(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield every class and image with its `fs.file_stamp`, in a fixed order."""
        for split, top in self._tops().items():
            for name in self._classes(top):
                yield f"{split}/{name}", ()  # even of a class without images
                for image in self._images(top, name, []):
                    try:
                        stamp = fs.file_stamp(image)
                    except OSError as error:
                        raise SourceError(f"{image.path}: cannot read: {error.strerror}") from error
                    yield f"{split}/{name}/{image.name}", stamp

    def _list_images(self) -> tuple[tuple[str, ...], dict[str, _ImageList]]:
        """Return class names, and the images of each split in the order of the raw data."""
        tops, unused = self._tops(), list[str]()  # files that are not images, folders of no split
        class_names = tuple(self._classes(next(iter(tops.values()))))
        if len(class_names) < 2:
            expected = f"{self.path}: expected a folder of images for each of two classes or more"
            found = f"found {len(class_names)}: {', '.join(class_names) or 'none'}"
            hint = "sort the images into folders: CLASS/*.png, or train/CLASS/*.png"
            raise SourceError(f"{expected}, {found}", hint)
        self._add_unused_folders(tops, unused)
        splits = {name: self._list_split(top, class_names, unused) for name, top in tops.items()}
        if unused:
            what = formatting.pluralize(len(unused), "file or folder", "files or folders")
            LOG.info("not used: %s, such as %s", what, printable(unused[0]))
        source = permutation.Stream.SOURCE  # images sorted by class get the format's seeded order
        for name, split in splits.items():
            index = SPLITS.index(name)
            order = permutation.permutation(len(split.paths), seed=0, stream=source, index=index)
            splits[name] = split.take(order)
        return class_names, splits

    def _tops(self) -> dict[str, Path]:
        """Return the folders that hold the class folders by split; the whole is train, if one."""
        tops = dict[str, Path]()
        for split, names in FOLDERS.items():
            for top in (self.path / name for name in names):
                self._check_link(top)
                if split not in tops and top.is_dir():
                    tops[split] = top
        return tops if "train" in tops else {"train": self.path}

    def _add_unused_folders(self, tops: Mapping[str, Path], unused: list[str]) -> None:
        """Count folders beside those of the splits."""
        if self.path not in tops.values():
            others = set(self._classes(self.path)) - {top.name for top in tops.values()}
            unused += [os.fspath(self.path / name) for name in sorted(others)]

    def _list_split(self, top: Path, class_names: tuple[str, ...], unused: list[str]) -> _ImageList:
        if differing := set(self._classes(top)) ^ set(class_names):
            differ = ", ".join(sorted(differing))
            raise SourceError(f"{top}: expected the classes of train, these differ: {differ}")
        paths, counts = list[str](), []
        for name in class_names:
            images = [image.path for image in self._images(top, name, unused)]
            if not images:
                raise SourceError(f"{top / name}: an empty class: no image in it")
            paths += images
            counts.append(len(images))
        return _ImageList(paths, np.repeat(np.arange(len(counts)), counts))

    def _classes(self, top: Path) -> list[str]:
        """List the folders in a folder, but hidden ones, by name."""
        try:
            with os.scandir(top) as entries:
                folders = [entry for entry in entries if entry.name[0] != "." and entry.is_dir()]
        except OSError as error:
            raise SourceError(f"{top}: cannot read: {error.strerror}") from error
        for folder in folders:
            self._check_link(folder)
        return sorted(folder.name for folder in folders)

    def _images(self, top: Path, name: str, unused: list[str]) -> Iterator[os.DirEntry[str]]:
        """Yield the images of a class by name, and add other files in its folder to `unused`."""
        with os.scandir(top / name) as entries:
            files = sorted(entries, key=lambda entry: entry.name)
        for file in files:
            if file.name[0] == ".":
                continue
            self._check_link(file)
            if file.name.lower().endswith(SUFFIXES) and file.is_file():
                yield file
            else:
                unused.append(file.path)

    def _check_link(self, file: os.DirEntry[str] | Path) -> None:
        """Refuse a link that leads nowhere, or out of the folder."""
        if not file.is_symlink():
            return
        path = Path(file)
        if not os.path.exists(path):  # noqa: PTH110 - pathlib fails on a link to itself
            raise SourceError(f"{path}: a link that leads nowhere")
        if not path.resolve().is_relative_to(self.path.resolve()):
            leaves = f"{path}: a link that leaves {self.path}"
            raise SourceError(leaves, "copy what it leads to into the folder")


def _run_task(task: tuple[Path, str, Sequence[str], ImageDecoder]) -> list[int]:
    """Decode images into a file of the work folder, unless an interrupted run did.

    Return the rows of those skipped.
    """
    work, name, paths, decoder = task
    return list(staging.run_step(work, name, partial(_write_pixels, paths, decoder))["skipped"])


def _write_pixels(
    paths: Sequence[str], decoder: ImageDecoder, private: Path
) -> dict[str, Any]:  # a step's receipt
    image_format, skipped = decoder.format, []
    assert image_format is not None  # set before the work is divided
    # The rows of skipped images stay zero, and are left out later.
    pixels = np.zeros((len(paths), *image_format.shape), image_format.dtype)
    with image_file.strict_pillow():
        for row, path in enumerate(paths):
            try:
                pixels[row] = decoder.read(path)
            except image_file.ImageDecodeError:
                if not decoder.skip:
                    raise
                skipped.append(row)
    private.write_bytes(pixels.data)
    return {"sha256": hashlib.sha256(pixels.data).hexdigest(), "skipped": skipped}
