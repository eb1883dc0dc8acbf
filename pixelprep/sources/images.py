"""Images of a folder, decoded into files of equally many rows, by as many as work on it."""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pixelprep import files, progress, workspace
from pixelprep.errors import SourceError
from pixelprep.sources import pictures
from pixelprep.sources.base import Raw, RawSplit
from pixelprep.sources.folders import Folder, Listed, printable
from pixelprep.sources.own import Own
from pixelprep.sources.pictures import Wanted
from pixelprep.sources.stored import Place, Stored

LOG = logging.getLogger("pixelprep")

PARTS = 64  # files that decoded images are divided into, at least
PART_BYTES = 64 << 20  # pixels of such a file, at most


class ImageFolder(Own):
    """A folder of images of one size, sorted into folders by class."""

    takes: ClassVar[frozenset[str]] = frozenset({"size", "color", "test_fraction", "on_error"})

    def _states(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        return Folder(self.path, self.options).states()

    def load(self, place: Place) -> Raw:
        """Decode every image, as many at a time as there are workers."""
        pictures.require()
        class_names, listed = Folder(self.path, self.options).listed()
        work = place.work(self.name)
        splits, skipped = {}, []
        for name, images in listed.items():
            splits[name], left_out = self._decoded(name, images, work, place)
            skipped += left_out
        self._check_classes(splits, class_names)
        return Raw(splits, class_names, self._decode(skipped)).checked(os.fspath(self.path))

    def _decode(self, skipped: list[str]) -> dict[str, Any]:
        """What the source digest is taken over beside the pixels."""
        options, decode = self.options, dict[str, Any]()
        if options.size:
            decode |= {"size": list(options.size), "resampling": pictures.RESAMPLING}
        if options.color:
            decode["color"] = options.color
        if options.test_fraction is not None:
            decode |= {"test_fraction": options.test_fraction, "split_seed": options.split_seed}
        return decode | ({"skipped": sorted(skipped)} if skipped else {})

    def _decoded(
        self, split: str, listed: Listed, work: Path, place: Place
    ) -> tuple[RawSplit, list[str]]:
        """The images of one split, and the paths of those that were skipped."""
        options = self.options
        wanted = Wanted(options.size, options.color, options.on_error == "skip")
        wanted = wanted.like(listed.paths)
        assert wanted.format is not None  # the first image has one
        total, row_bytes = len(listed.paths), wanted.format.bytes
        files.need_space(place.cache, total * row_bytes)
        rows = max(1, min(-(-total // PARTS), PART_BYTES // row_bytes))
        tasks = (
            _Part(work, f"{split}.{i}", listed.paths[start : start + rows], wanted)
            for i, start in enumerate(range(0, total, rows))
        )
        skipped: list[int] = []
        with progress.bar(f"decoding {split}", total, " images", place.quiet) as bar:
            for i, gone in enumerate(place.team.map(_decode_part, tasks)):
                skipped += [i * rows + row for row in gone]
                bar.update(min(rows, total - i * rows))
        stem = os.fspath(work / workspace.FILES / f"{split}.")
        images = Stored(stem, rows, (total, *wanted.format.shape), np.dtype(wanted.format.dtype))
        whole = RawSplit(images, listed.labels)
        if not skipped:
            return whole, []
        kept = np.setdiff1d(np.arange(total), skipped)
        names = [printable(os.path.relpath(listed.paths[row], self.path)) for row in skipped]
        LOG.warning(
            "%s: left out of %s: %d of %d images, such as %s",
            *(self.name, split, len(names), total, names[0]),
        )
        return whole.picked(kept), names

    def _check_classes(self, splits: dict[str, RawSplit], class_names: tuple[str, ...]) -> None:
        """Refuse a class of which nothing is left after skipping."""
        for split, found in splits.items():
            counts = np.bincount(np.asarray(found.labels[:]), minlength=len(class_names))
            if 0 in counts and self.options.on_error == "skip":
                name = class_names[int(np.argmin(counts))]
                raise SourceError(f"{self.path}: {split}: no image of class {name} can be read")


@dataclass(frozen=True, slots=True)
class _Part:
    """Some images that one worker decodes into one file."""

    work: Path
    name: str
    paths: Sequence[str]
    wanted: Wanted


def _decode_part(part: _Part) -> list[int]:
    """Decode, unless it was done before; which of the images were skipped."""
    return list(workspace.once(part.work, part.name, partial(_write_part, part))["skipped"])


def _write_part(part: _Part, private: Path) -> dict[str, Any]:
    assert part.wanted.format is not None  # set before the work is divided
    look, skipped = part.wanted.format, []
    # The place of what is skipped stays empty, and is left out later.
    block = np.zeros((len(part.paths), *look.shape), look.dtype)
    with pictures.careful():
        for row, path in enumerate(part.paths):
            try:
                block[row] = part.wanted.read(path)
            except pictures.Unreadable:
                if not part.wanted.skip:
                    raise
                skipped.append(row)
    private.write_bytes(block.data)
    return {"sha256": hashlib.sha256(block.data).hexdigest(), "skipped": skipped}
