"""Apply what options ask of any source: its test split, its classes, and splits of groups."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any  # Any: values of options

from pixelprep.errors import UsageError
from pixelprep.format.options import DecodeOptions
from pixelprep.sources.base import DECODE_OPTIONS, Options, Raw, Source
from pixelprep.system import notices

BY_ALL = frozenset({"test_from", "classes", "class_map"})  # what means something to every dataset
DIVISION = ("val_fraction", "test_fraction", "split_seed")  # which source divides by, if by groups
BY_HAND = "divide the rows yourself: pixelprep.Arrays(NAME, train, test, val=val)"


def asked_of(source: Source) -> Mapping[str, Any]:
    """Return those of the options that were given for a source; none where it takes no options."""
    options = getattr(source, "options", None)
    if not isinstance(options, Options):
        return {}
    given = {name: getattr(options, name) for name in sorted(BY_ALL)}
    if may_have_groups(source):
        given |= {name: getattr(options, name) or None for name in DIVISION}
    return {name: value for name, value in given.items() if value is not None}


def may_have_groups(source: Source) -> bool:
    """Tell whether rows of a source may have groups, which it does not divide by itself."""
    chooses = getattr(source, "chooses_classes", False)
    return not chooses and "group_column" in getattr(source, "supported_options", ())


def as_requested(raw: Raw, source: Source) -> Raw:
    """Return a source's raw data as its options want it."""
    from pixelprep.sources import classes  # data that is prepared already needs neither
    from pixelprep.sources.pictures import groups

    given = asked_of(source)
    if "test_from" in given:
        raw = _with_test_from(raw, source.name, given["test_from"])
    options: Any = getattr(source, "options", None)
    if given.keys() & {"classes", "class_map"} and not getattr(source, "chooses_classes", False):
        raw = classes.apply(source.name, raw, options)
        raw.check_classes(source.name)
    if may_have_groups(source):
        whole, raw = raw, groups.divided(source.name, raw, options)
        if raw.splits.keys() != whole.splits.keys():
            raw.checked(source.name)
    return raw


def refuse_unsupported(
    dataset: str, options: DecodeOptions, supported: frozenset[str] = frozenset()
) -> None:
    """Refuse options that do not apply to this source, rather than ignoring them."""
    for name in DECODE_OPTIONS:
        if name not in supported and getattr(options, name) != getattr(Options, name, None):
            way = BY_HAND if name in ("group_column", "group_pattern") else "leave the option out"
            if name == "group_pattern" and "group_column" in supported:
                way = "its rows have no file names; name a column: `group_column=NAME`"
            raise UsageError(f"`{name}`: does not apply to {dataset}", way)


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
