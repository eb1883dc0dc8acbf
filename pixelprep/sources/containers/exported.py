"""Undo the scaling of an export of ours: the raw data that its entry was made of."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from pixelprep.errors import PixelprepError, SourceError
from pixelprep.format import manifest as manifests
from pixelprep.format.layout import DatasetLayout
from pixelprep.format.manifest import Manifest
from pixelprep.format.options import decode_options
from pixelprep.format.source_record import SourceRecord
from pixelprep.numerics.scaling import (
    Scaling,
    apply_with_statistics,
    per_image_columns,
    why_inexact,
)
from pixelprep.sources.base import Options, Raw, RawSplit, SourceContext, scaled_already
from pixelprep.sources.digest import images_digest, labels_digest, names_digest
from pixelprep.sources.lazy_arrays import (
    BLOCK_BYTES,
    AnyArray,
    FileArray,
    block_ranges,
    write_array,
)
from pixelprep.sources.pictures.image_file import COLORS
from pixelprep.sources.requested import BY_ALL, refuse_unsupported
from pixelprep.system import notices
from pixelprep.system.parallel import WorkerPool

LOG = logging.getLogger("pixelprep")

IMAGE_COLUMNS = ("images", "mean", "std")  # what an image is scaled and recovered by


def beside(path: Path) -> dict[str, Path]:
    """Return the manifest that lies in this folder, or beside this file, by its name."""
    found = (path if path.is_dir() else path.parent) / manifests.EXPORTED
    return {found.name: found} if found.is_file() else {}


def columns(path: Path) -> dict[str, list[str]] | None:
    """Return what each split of the export at this path has; None if no manifest tells."""
    found = _manifest(path)
    return None if found is None else {name: list(one) for name, one in layouts(found).items()}


def source_of(path: Path) -> SourceRecord | None:
    """Return what the manifest of an export tells of its raw data; None if there is none."""
    found = _manifest(path)
    return None if found is None else found.source


def recognized(path: Path, raw: Raw, pool: WorkerPool, shown: str | None = None) -> Raw:
    """Return rows that were read as the data of the entry whose export lies at this path; as they
    are, and with a line, where they are not just these.
    """
    where, manifest = shown or str(path), _manifest(path)
    if manifest is None:
        return raw
    source, entry = manifest.source, entry_name(manifest)
    rows = {name: len(split.labels) for name, split in raw.splits.items()}
    same = rows == {name: split.rows for name, split in manifest.splits.items()}
    if same and (raw.class_names, raw.task) == (source.class_names, source.task):
        splits = dict[str, RawSplit]()
        for name, split in raw.splits.items():
            if (own := own_split(where, manifest, name, split, pool)) is None:
                break
            splits[name] = own
        else:
            LOG.info("%s: is an export of %s: rows and names are its own", where, entry)
            return replace(raw, splits=splits, decode=source.decode)
    notices.tell("%s: an export of %s, but its rows are not all of it as they were", where, entry)
    return raw


def own_split(
    where: str, manifest: Manifest, name: str, split: RawSplit, pool: WorkerPool
) -> RawSplit | None:
    """Return a split of an export as its entry has it; None if pixels, labels or names are others,
    as far as the manifest can tell: those that were drawn have no digest.
    """
    wanted, names = layouts(manifest)[name].get("names"), split.names
    if (names is None) != (wanted is None):
        return None
    if names is not None and wanted is not None:
        names = names[:].astype(wanted.dtype)
    known = manifest.source.splits.get(name)
    if known and manifest.recipe.keeps_whole(name):
        found = labels_digest(split.labels), None if names is None else names_digest(names)
        if found != (known.labels, known.names):
            return None
        if images_digest(split.images, pool, f"{where}: {name}") != known.images:
            return None
    return replace(split, names=names)


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
    done = options_done(manifest, options)
    refuse_unsupported(f"an export of pixelprep ({path})", options, BY_ALL | {"on_leak", *done})
    scaling, dtype = manifest.scaling.scaling(manifest.recipe), manifest.recipe.dtype
    if not scaling.is_exact(dtype):
        raise scaled_already(path, f", and {why_inexact(scaling, dtype)}", is_final=True)
    splits = {}
    for name, expected in layouts(manifest).items():
        found = arrays[name]
        for column, one in found.items():
            shape, kind = expected[column].shape, np.dtype(expected[column].dtype)
            if one.shape != shape or (one.dtype != kind and column != "names"):
                raise _differs(path)
        blocks = _inverted(path, found, scaling, dtype)
        raw = write_array(context.file(f"{name}-raw"), found["images"].shape, blocks)
        names = found["names"][:].astype(expected["names"].dtype) if "names" in found else None
        splits[name] = RawSplit(raw, found["labels"], names)
    LOG.info("%s: is an export of %s: its scaling is undone", path, entry_name(manifest))
    source = manifest.source
    return Raw(splits, source.class_names, source.decode, source.task).checked(str(path))


def options_done(manifest: Manifest, options: Options) -> set[str]:
    """Return those of the options that shaped the pixels of an export, or would change none."""
    known = decode_options(manifest.source.decode).items()
    own = {name: tuple(value) if isinstance(value, list) else value for name, value in known}
    *size, channels = manifest.splits[manifest.first_split].shape[1:]
    own["size"] = tuple(size)
    own["color"] = next((name for name, count in COLORS.items() if count == channels), None)
    return {name for name, value in own.items() if getattr(options, name) == value}


def entry_name(manifest: Manifest) -> str:
    """Return the name of the entry that was exported: DATASET/MODE-KEY."""
    return f"{manifest.dataset}/{manifest.mode}-{manifest.key}"


def _manifest(path: Path) -> Manifest | None:
    with suppress(PixelprepError):  # it is of something else
        for found in beside(path).values():
            return manifests.read_exported(found.parent)
    return None


def _differs(path: Path) -> SourceError:
    return scaled_already(path, f", otherwise than its {manifests.EXPORTED} says")


def layouts(manifest: Manifest) -> dict[str, dict[str, DatasetLayout]]:
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
