"""Know an export to PNG again: its files are the rows of its entry, in their order."""

import csv
import io
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import PixelprepError, SourceError
from pixelprep.format import manifest as manifests
from pixelprep.format.layout import class_folder
from pixelprep.format.manifest import Manifest
from pixelprep.format.recipe import class_counts
from pixelprep.sources.base import DECODE_OPTIONS, Options, Raw, with_names
from pixelprep.sources.containers.exported import entry_name, layouts, options_done, own_split
from pixelprep.sources.digest import labels_digest
from pixelprep.sources.pictures.layouts import ImageList, Layout
from pixelprep.sources.requested import BY_ALL
from pixelprep.system import notices
from pixelprep.system.parallel import WorkerPool

LOG = logging.getLogger("pixelprep")

TFRECORD = ".tfrecord"  # the ending of files that are not read
NAMES = "names.csv"  # lines of a picture, and of the name that its row has
HEADER = ("picture", "name")
FILES = (manifests.EXPORTED, manifests.CROISSANT, manifests.README, NAMES)  # beside the pictures

IsPicture = Callable[[str], bool]
Read = Callable[[str], bytes]


def picture_name(split: str, folder: str, row: int, rows: int) -> str:
    """Return the path of a row's picture below the export's folder."""
    return f"{split}/{folder}/{row:0{max(7, len(str(rows - 1)))}}.png"


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of an export, which are the rows of its entry."""

    where: str
    manifest: Manifest
    layout: Layout  # in the order of the rows
    names: Mapping[str, Sequence[str]]  # of the rows by split; nothing where they have none

    def checked(self, raw: Raw, pool: WorkerPool) -> Raw | None:
        """Return the entry's raw data, given what was decoded; None, and a line, if pixels or names
        are not those that the manifest tells of.
        """
        manifest, splits = self.manifest, {}
        for name, split in raw.splits.items():
            if len(split.labels) != manifest.splits[name].rows:  # some were skipped
                _tell_changed(self.where, manifest, f"{name} has some that cannot be read")
                return None
            named = replace(split, names=None)
            if self.names:
                named = with_names(f"{self.where}: {name}", named, self.names[name])
            own = own_split(self.where, manifest, name, named, pool)
            if own is None:
                _tell_changed(self.where, manifest, f"{name} has other pixels or names")
                return None
            splits[name] = own
        source, entry = manifest.source, entry_name(manifest)
        LOG.info("%s: is an export of %s: rows, names and classes are its own", self.where, entry)
        return Raw(splits, source.class_names, source.decode, source.task)


def find_pictures(
    where: str, names: Sequence[str], is_picture: IsPicture, read: Read, options: Options
) -> Pictures | None:
    """Return the pictures of an export among files of these names; None where it is none.

    Nor where they are others than those of its manifest, or `options` want other pixels: then a
    line says that it is read as any folder.
    """
    found = _manifest(where, names, read)
    if found is None:
        return None
    top, manifest = found
    if any(PurePosixPath(name).match(f"{top}*{TFRECORD}") for name in names):
        own = f"an export to tfrecord, which is not read back, of {entry_name(manifest)}"
        message = f"{where}: {own}: expected parquet, png, webdataset, npz or hdf5-single"
        raise SourceError(message, "export that entry to one of these in its place")
    if manifest.source.task != "classification":
        return None
    rows, others = _rows(top, names, manifest)
    if not any(rows.values()):
        return None  # an export of another form
    ours = {top + file for file in FILES}
    unused = [one for one in others if one not in ours]
    why = next(_differences(manifest, rows, filter(is_picture, unused), options), None)
    if why is None:
        listed = {split: _image_list(of_split) for split, of_split in rows.items()}
        rows_names = _rows_names(listed, top, names, manifest, read)
        layout = Layout(manifest.source.class_names, listed, unused, decode=manifest.source.decode)
        if rows_names is not None:
            return Pictures(where, manifest, layout, rows_names)
        why = f"{NAMES} has not all names"
    _tell_changed(where, manifest, why)
    return None


def _rows(
    top: str, names: Sequence[str], manifest: Manifest
) -> tuple[dict[str, dict[int, tuple[str, int]]], list[str]]:
    """Return by split the file and the label of each row that has one; and all other files."""
    numbers = {class_folder(name): at for at, name in enumerate(manifest.source.class_names)}
    found: dict[str, dict[int, tuple[str, int]]] = {split: {} for split in manifest.splits}
    others = list[str]()
    for name in names:
        split, folder, file = (*name.removeprefix(top).split("/", 2), "", "")[:3]
        digits = file.removesuffix(".png")
        rows = manifest.splits[split].rows if split in found and folder in numbers else 0
        row = int(digits) if re.fullmatch("[0-9]{7,20}", digits) else rows
        is_row = row < rows and name == top + picture_name(split, folder, row, rows)
        if is_row and row not in found[split]:
            found[split][row] = name, numbers[folder]
        elif not name.endswith("/"):
            others.append(name)
    return found, others


def _differences(
    manifest: Manifest,
    rows: Mapping[str, Mapping[int, tuple[str, int]]],
    added: Iterable[str],
    options: Options,
) -> Iterator[str]:
    """Say why pictures are not to be taken as the rows of the entry."""
    done = {*BY_ALL, "on_leak", "on_error", *options_done(manifest, options)}
    for name in DECODE_OPTIONS:
        if name not in done and getattr(options, name) != getattr(Options, name):
            yield f"`{name}` asks for other ones"
    for name in added:
        yield f"{name} is none of it"
    for split, found in rows.items():
        if missing := manifest.splits[split].rows - len(found):
            yield f"{split} lacks {missing:,} of {len(found) + missing:,}"
        elif not _has_labels(manifest, split, _image_list(found).labels):
            yield f"{split} has some in other classes"


def _image_list(found: Mapping[int, tuple[str, int]]) -> ImageList:
    names, labels = zip(*(found[row] for row in range(len(found))), strict=True)
    return ImageList(names, np.array(labels, np.int64))


def _has_labels(manifest: Manifest, split: str, labels: NDArray[np.int64]) -> bool:
    """Tell whether labels are those of the manifest, as far as it can tell."""
    if manifest.recipe.keeps_whole(split):
        return labels_digest(labels) == manifest.source.splits[split].labels
    counts = manifest.splits[split].class_counts
    return class_counts(labels, len(manifest.source.class_names)) == counts


def _rows_names(
    listed: Mapping[str, ImageList], top: str, names: Sequence[str], manifest: Manifest, read: Read
) -> dict[str, list[str]] | None:
    """Return the names that rows have, if they have any; None where a name is not there."""
    if not any("names" in columns for columns in layouts(manifest).values()):
        return {}
    if top + NAMES not in names:
        return None
    try:
        known = dict(read_names(io.StringIO(read(top + NAMES).decode(), newline="")))
        return {
            split: [known[name.removeprefix(top)] for name in images.names]
            for split, images in listed.items()
        }
    except (ValueError, KeyError, csv.Error):
        return None


def write_names(file: TextIO, pairs: Iterable[tuple[str, str]]) -> None:
    """Write the names of rows, each beside its picture's."""
    csv.writer(file, lineterminator="\n").writerows(pairs)


def read_names(file: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Read them back."""
    return ((picture, name) for picture, name in csv.reader(file))


def _tell_changed(where: str, manifest: Manifest, why: str) -> None:
    """Tell that what was an export is read as any folder."""
    entry = entry_name(manifest)
    notices.tell("%s: an export of %s, but read as any folder of pictures: %s", where, entry, why)


def with_classes(where: str, layout: Layout, read: Read) -> Layout:
    """Return the layout of a folder of pictures with its classes as in the entry that it exports.

    Only if it has just these; where it is no export, it stays as it is.
    """
    found = _manifest(where, layout.unused, read)
    if found is None:
        return layout
    top, manifest = found
    names = manifest.source.class_names
    folders = [class_folder(name) for name in names]
    if sorted(folders) != sorted(layout.class_names):
        return layout
    ours = {top + file for file in FILES}
    layout = replace(layout, unused=[one for one in layout.unused if one not in ours])
    if names == layout.class_names:
        return layout
    LOG.info("%s: is an export of %s: its classes are named as there", where, entry_name(manifest))
    numbers = np.array([folders.index(folder) for folder in layout.class_names], np.int64)
    splits = {name: replace(one, labels=numbers[one.labels]) for name, one in layout.splits.items()}
    decode = {**layout.decode, "class_order": "given"}
    return replace(layout, class_names=names, splits=splits, decode=decode)


def _manifest(where: str, names: Sequence[str], read: Read) -> tuple[str, Manifest] | None:
    """Return the one manifest of an export among files, and the folder that it lies in."""
    ends = f"/{manifests.EXPORTED}"
    found = [one for one in names if one == ends[1:] or one.endswith(ends)]
    if len(found) == 1:
        with suppress(PixelprepError):  # it is of something else
            manifest = manifests.parse(Path(where, *found), read(*found))
            return found[0].removesuffix(manifests.EXPORTED), manifest
    return None
