"""Apply what options ask of any source: which split is its test, and which classes there are."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any  # Any: values of options

from pixelprep.errors import UsageError
from pixelprep.format.options import DecodeOptions
from pixelprep.sources import classes
from pixelprep.sources.base import DECODE_OPTIONS, Options, Raw, Source
from pixelprep.system import notices

BY_ALL = frozenset({"test_from", "classes", "class_map"})  # what means something to every dataset


def requested(source: Source) -> Mapping[str, Any]:
    """Return those of the options that were given for a source; none where it takes no options."""
    options = getattr(source, "options", None)
    if not isinstance(options, Options):
        return {}
    given = {name: getattr(options, name) for name in sorted(BY_ALL)}
    return {name: value for name, value in given.items() if value is not None}


def as_requested(raw: Raw, source: Source) -> Raw:
    """Return a source's raw data as its options want it."""
    given = requested(source)
    if "test_from" in given:
        raw = _with_test_from(raw, source.name, given["test_from"])
    if given.keys() & {"classes", "class_map"} and not getattr(source, "chooses_classes", False):
        options = source.options  # type: ignore[attr-defined] # there, as there are requests
        raw = classes.apply(source.name, raw, options)
    return raw


def refuse_unsupported(
    dataset: str, options: DecodeOptions, supported: frozenset[str] = frozenset()
) -> None:
    """Refuse options that do not apply to this source, rather than ignoring them."""
    for name in DECODE_OPTIONS:
        if name not in supported and getattr(options, name) != getattr(Options, name, None):
            raise UsageError(f"`{name}`: does not apply to {dataset}", "leave the option out")


def _with_test_from(raw: Raw, where: str, split: str) -> Raw:
    """Return the dataset with one of its splits as test; refuse it where it has a test split."""
    for name, fits in ((split, split in raw.splits), ("test", "test" not in raw.splits)):
        if not fits:
            has = "has a test split of its own" if name == "test" else f"has no {name} split"
            raise UsageError(
                f"{where}: `test_from={split}`: the data {has}", "leave the option out"
            )
    notices.tell("%s: its %s split is taken as test", where, split)
    splits = {"test" if name == split else name: one for name, one in raw.splits.items()}
    return replace(raw, splits=splits)
