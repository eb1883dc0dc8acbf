"""Take over the scaling of another entry, so that nothing is fitted."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar  # Any: fields of a recipe

from pixelprep import sources
from pixelprep.cache import entries
from pixelprep.errors import SourceError, UsageError
from pixelprep.format.manifest import Manifest, RawLimits
from pixelprep.format.options import PrepareOptions
from pixelprep.format.recipe import TAKEN, Constants
from pixelprep.format.source_record import SourceRecord
from pixelprep.numerics.lazy import np
from pixelprep.numerics.scaling import FORM
from pixelprep.system import formatting, notices

LOG = logging.getLogger("pixelprep")

Call = TypeVar("Call", bound=PrepareOptions)
T = TypeVar("T")

TAKEN_OVER = ("mode", "per", "rescale")
RAW = "give the raw pixels as they were there, before any scaling"
FAR = 50  # times as large a range of floats is another unit, or was scaled


def take_over(call: Call, cache: Path) -> tuple[Call, Manifest | None]:
    """Return the call with the options of the entry whose scaling it asks for; and its manifest."""
    if call.scaling_of is None:
        return call, None
    path = entries.resolve(call.scaling_of, cache)
    known = entries.read_manifest(path, cache)
    for name in TAKEN_OVER:
        given, own = getattr(call, name), getattr(known.recipe, name)
        if given not in (own, getattr(PrepareOptions, name)):
            message = f"`scaling_of={call.scaling_of}`: its {name} is {own}, but {given} was given"
            raise UsageError(message, f"leave `{name}` out")
    if known.per == "pixel":
        message = f"`scaling_of={call.scaling_of}`: is per pixel, of images of one size and place"
        raise UsageError(message, "name an entry per channel, dataset or image")
    options = {name: getattr(known.recipe, name) for name in TAKEN_OVER}
    return replace(call, **options, scaling_of=os.fspath(path)), known


def fields_of(known: Manifest, source: str, record: SourceRecord) -> dict[str, Any]:
    """Return the fields of a recipe by which an entry's scaling is given to this source.

    Refuse other pixels.
    """
    first = next(iter(record.splits.values()))
    _, *image = known.splits[known.first_split].shape
    expected = image[2], known.scaling.raw_dtype
    if (first.shape[3], first.dtype) != expected:
        of_known = f"{known.dataset}/{known.recipe.folder}"
        found = f"{formatting.pluralize(first.shape[3], 'channel')} of {first.dtype}"
        wanted = f"{formatting.pluralize(expected[0], 'channel')} of {expected[1]}"
        message = f"{source}: expected {wanted}, as {of_known} was made from, got {found}"
        same_type = first.dtype == expected[1]
        hint = "convert the images first, those of a folder by `color`" if same_type else RAW
        if not same_type and {np.dtype(one).kind for one in (first.dtype, expected[1])} <= {*"ui"}:
            hint = f"convert the images to {expected[1]} as those were"
        raise SourceError(message, hint)
    told = (source, known.mode, known.per, known.dataset, known.recipe.folder)
    LOG.info("%s: %s per %s as %s/%s has it, nothing is fitted", *told)
    if first.shape[1:3] != tuple(image[:2]):
        sizes = formatting.format_shape(first.shape[1:3]), formatting.format_shape(image[:2])
        LOG.info("%s: images of %s, there of %s", source, *sizes)
    form = {name: getattr(known.recipe, name) for name in FORM}
    if known.per == "image":  # each has its own: there is nothing to take over but how
        return form
    constants = Constants.of(known.scaling.scaling(known.recipe))
    return form | {"quantiles": None, "constants": constants}  # which nothing is fitted to


def check_range(where: str, known: Manifest, limits: Iterable[RawLimits]) -> None:
    """Refuse floats that look scaled already, beside those that a scaling was fitted to.

    Tell where they are of another order of magnitude.
    """
    found, fitted = list(limits), known.splits[known.first_split].raw
    low, high = min(one.minimum for one in found), max(one.maximum for one in found)
    spans = sorted([high - low, fitted.maximum - fitted.minimum])
    if np.dtype(known.scaling.raw_dtype).kind != "f" or spans[1] < FAR * spans[0] or low == high:
        return
    own = f"{fitted.minimum:.4g} to {fitted.maximum:.4g}"
    message = f"{where}: pixels of {low:.4g} to {high:.4g}, the scaling is for {own}"
    if low >= -1 and high <= 1 and spans[0] == high - low:
        raise SourceError(f"{message}: they look scaled already", RAW)
    notices.tell(f"{message}: are they of the same unit?")


def is_test(record: SourceRecord, call: PrepareOptions) -> bool:
    """Tell whether data without splits, of which none is to be taken, is all test."""
    asked = any(getattr(call, f"{name}_fraction") for name in TAKEN)
    return record.splits.keys() == {"train"} and not asked


def record_as_test(record: SourceRecord) -> SourceRecord:
    """Return what identifies the data, its one split being test."""
    return replace(record, splits=_renamed(record.splits))


def survey_as_test(data: sources.Survey) -> sources.Survey:
    """Return the data, its one split being test."""
    return sources.Survey(
        raw=replace(data.raw, splits=_renamed(data.raw.splits)),
        record=record_as_test(data.record),
        moments=_renamed(data.moments),
        keys=_renamed(data.keys),
    )


def _renamed(splits: Mapping[str, T]) -> dict[str, T]:
    return {"test": splits["train"]} if splits else {}
