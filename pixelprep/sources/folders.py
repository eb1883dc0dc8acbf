"""Folders of images by class: which images there are, in which order, and in what state."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixelprep import files, order, words
from pixelprep.errors import SourceError, UsageError
from pixelprep.sources.base import Options
from pixelprep.sources.own import taken_for_test

LOG = logging.getLogger("pixelprep")

VALIDATION = ("val", "valid", "validation", "dev")  # folders that people may expect to be read
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, slots=True)
class Listed:
    """Images of one split, before they are read: paths and classes."""

    paths: Sequence[str]
    labels: NDArray[np.int64]

    def picked(self, rows: NDArray[np.int64]) -> "Listed":
        return Listed([self.paths[row] for row in rows], self.labels[rows])

    def mixed(self, index: int) -> "Listed":
        """In the seeded order in which the format stores what comes sorted by class."""
        return self.picked(
            order.permutation(len(self.paths), seed=0, purpose=order.Purpose.SOURCE, index=index)
        )


@dataclass(frozen=True, slots=True)
class Folder:
    """``train/CLASS/*.png`` and ``test/CLASS/*.png``, or ``CLASS/*.png``.

    path : of the folder
    options : of which the test fraction and the split seed are followed
    """

    path: Path
    options: Options

    def states(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every class and image with its `files.state`, in a fixed order."""
        for split, top in self._tops().items():
            for name in self._classes(top):
                yield f"{split}/{name}", ()  # also of a class without images
                for image in self._images(top, name):
                    yield f"{split}/{name}/{image.name}", _state(image)

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
            raise UsageError(f"--test-fraction: {self.path} has a test split of its own")
        return tops

    def listed(self) -> tuple[tuple[str, ...], dict[str, Listed]]:
        """Class names, and the images of each split in the order in which they are stored."""
        tops, other = self._tops(), _Others()
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
                        "%s is not read: a validation split is taken from train, by --val-fraction",
                        self.path / name,
                    )
        listed = {name: self._of_classes(top, class_names, other) for name, top in tops.items()}
        other.say()
        if "all" in listed:
            whole = listed["all"]
            test = taken_for_test(os.fspath(self.path), whole.labels, self.options)
            listed = {
                "train": whole.picked(np.flatnonzero(~test)),
                "test": whole.picked(np.flatnonzero(test)),
            }
        return class_names, {
            name: listed[name].mixed(i) for i, name in enumerate(("train", "test"))
        }

    def _of_classes(self, top: Path, class_names: tuple[str, ...], other: "_Others") -> Listed:
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
        return Listed(paths, np.repeat(np.arange(len(counts)), counts))

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
        self, top: Path, name: str, other: "_Others | None" = None
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


class _Others:
    """What is no image, or in no split: said, not silently left out."""

    def __init__(self) -> None:
        self.count, self.first = 0, ""

    def note(self, path: str) -> None:
        self.count, self.first = self.count + 1, self.first or path

    def say(self) -> None:
        if self.count:
            what = words.counted(self.count, "file or folder", "files or folders")
            LOG.info("not used: %s, such as %s", what, printable(self.first))


def _state(image: os.DirEntry[str]) -> tuple[int, ...]:
    try:
        return files.state(image)
    except OSError as error:
        raise SourceError(f"{image.path}: cannot read: {error.strerror}") from error


def printable(path: str) -> str:
    """A path as text that JSON can hold, whatever bytes its name has."""
    return os.fsencode(path).decode(errors="backslashreplace")
