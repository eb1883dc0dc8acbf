"""Undo the scaling of an export of ours: the raw data that its entry was made of."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from pixelprep.errors import PixelprepError, SourceError
from pixelprep.format import manifest as manifests
from pixelprep.format.layout import DatasetLayout, class_folder
from pixelprep.format.manifest import Manifest
from pixelprep.format.options import decode_options
from pixelprep.numerics.scaling import (
    Scaling,
    apply_with_statistics,
    per_image_columns,
    why_inexact,
)
from pixelprep.sources.base import Options, Raw, RawSplit, SourceContext, scaled_already
from pixelprep.sources.lazy_arrays import (
    BLOCK_BYTES,
    AnyArray,
    FileArray,
    block_ranges,
    write_array,
)
from pixelprep.sources.pictures.layouts import Layout
from pixelprep.sources.requested import BY_ALL, refuse_unsupported

LOG = logging.getLogger("pixelprep")

IMAGE_COLUMNS = ("images", "mean", "std")  # what an image is scaled and recovered by


def beside(path: Path) -> dict[str, Path]:
    """Return the manifest that lies in this folder, or beside this file, by its name."""
    found = (path if path.is_dir() else path.parent) / manifests.EXPORTED
    return {found.name: found} if found.is_file() else {}


def columns(path: Path) -> dict[str, list[str]] | None:
    """Return what each split of the export at this path has; None if no manifest tells."""
    found = _manifest(path)
    return None if found is None else {name: list(one) for name, one in _layouts(found).items()}


def undone(
    path: Path,
    arrays: Mapping[str, Mapping[str, FileArray]],
    options: Options,
    context: SourceContext,
) -> Raw:
    """Return the raw data of an export's arrays, by split and column.

    It is refused unless the manifest's scaling, undone and applied again, gives the same bits.
    """
    manifest = _manifest(path)
    if manifest is None:
        raise scaled_already(path)
    known = decode_options(manifest.source.decode)  # which shaped the pixels, and need not again
    done = {name for name, value in known.items() if getattr(options, name) == value}
    refuse_unsupported(f"an export of pixelprep ({path})", options, BY_ALL | {"on_leak", *done})
    scaling, dtype = manifest.scaling.scaling(manifest.recipe), manifest.recipe.dtype
    if not scaling.is_exact(dtype):
        raise scaled_already(path, f", and {why_inexact(scaling, dtype)}")
    splits = {}
    for name, expected in _layouts(manifest).items():
        found = arrays[name]
        for column, one in found.items():
            shape, kind = expected[column].shape, np.dtype(expected[column].dtype)
            if one.shape != shape or (one.dtype != kind and column != "names"):
                raise _differs(path)
        blocks = _inverted(path, found, scaling, dtype)
        raw = write_array(context.file(f"{name}-raw"), found["images"].shape, blocks)
        names = found["names"][:].astype(expected["names"].dtype) if "names" in found else None
        splits[name] = RawSplit(raw, found["labels"], names)
    LOG.info("%s: is an export of %s: its scaling is undone", path, _entry(manifest))
    source = manifest.source
    return Raw(splits, source.class_names, source.decode, source.task).checked(str(path))


def with_classes(where: str, layout: Layout, read: Callable[[str], bytes]) -> Layout:
    """Return the layout of a folder of pictures with its classes as in the entry that it exports.

    Only if it has just these; where it is no export, it stays as it is.
    """
    manifest = None
    found = [one for one in layout.unused if PurePosixPath(one).name == manifests.EXPORTED]
    with suppress(PixelprepError):  # it is of something else
        manifest = manifests.parse(Path(where, *found), read(*found)) if len(found) == 1 else None
    if manifest is None:
        return layout
    names = manifest.source.class_names
    folders = [class_folder(name) for name in names]
    if sorted(folders) != sorted(layout.class_names):
        return layout
    layout = replace(layout, unused=[one for one in layout.unused if one not in found])
    if names == layout.class_names:
        return layout
    LOG.info("%s: is an export of %s: its classes are named as there", where, _entry(manifest))
    numbers = np.array([folders.index(folder) for folder in layout.class_names], np.int64)
    splits = {name: replace(one, labels=numbers[one.labels]) for name, one in layout.splits.items()}
    decode = {**layout.decode, "class_order": "given"}
    return replace(layout, class_names=names, splits=splits, decode=decode)


def _entry(manifest: Manifest) -> str:
    return f"{manifest.dataset}/{manifest.mode}-{manifest.key}"


def _manifest(path: Path) -> Manifest | None:
    with suppress(PixelprepError):  # it is of something else
        for found in beside(path).values():
            return manifests.read_exported(found.parent)
    return None


def _differs(path: Path) -> SourceError:
    return scaled_already(path, f", otherwise than its {manifests.EXPORTED} says")


def _layouts(manifest: Manifest) -> dict[str, dict[str, DatasetLayout]]:
    """Return the columns of each split, its images scaled."""
    scaled = replace(manifest, recipe=replace(manifest.recipe, storage="scaled"))
    rows = {name: split.rows for name, split in manifest.splits.items()}
    return {name: scaled.data_layout(name, count).columns for name, count in rows.items()}


def _inverted(
    path: Path, found: Mapping[str, FileArray], scaling: Scaling, dtype: str
) -> Iterator[AnyArray]:
    """Yield raw images block by block, each as the scaling makes the very same bits of it."""
    images = found["images"]
    for rows in block_ranges(images, BLOCK_BYTES):
        block = {n: one[rows.start : rows.stop] for n, one in found.items() if n in IMAGE_COLUMNS}
        stored = block.pop("images")
        with np.errstate(invalid="ignore"):  # what is no number is not what it was
            raw = scaling.invert(stored, **block)
        again, own = apply_with_statistics(scaling, raw, dtype)
        every = {} if own is None else per_image_columns(scaling, own)
        pairs = [(again, stored), *((every[name], block[name]) for name in block)]
        if any(new.tobytes() != old.tobytes() for new, old in pairs):
            raise _differs(path)
        yield raw
