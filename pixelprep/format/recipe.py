"""Define the recipe, which alone decides the bytes of an entry, and its key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self  # Any: JSON values

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import UsageError
from pixelprep.format import layout
from pixelprep.format.options import RecipeOptions, declared_options
from pixelprep.format.source_record import SourceRecord
from pixelprep.numerics import permutation
from pixelprep.numerics.permutation import Stream
from pixelprep.numerics.scaling import Scaling, normalize_options, shift_and_divisor
from pixelprep.system import canonical
from pixelprep.system.json_record import LenientRecord

NUMERICS_VERSION = 1  # raised when a recipe would give other numbers
SPLITS = ("train", "val", "test")
TAKEN = {"test": Stream.TEST, "val": Stream.VAL}  # from train where the source has none; in order


@dataclass(frozen=True, slots=True)
class Constants(LenientRecord):
    """Shift and divisor that are given, not fitted: one number or, per channel, one of each."""

    shift: tuple[float, ...]
    divisor: tuple[float, ...]

    @classmethod
    def of(cls, scaling: Scaling) -> Self:
        """Return those of a scaling per dataset or per channel."""
        assert scaling.statistics is not None
        shift, divisor = shift_and_divisor(scaling, scaling.statistics)
        return cls(tuple((shift + 0.0).tolist()), tuple(divisor.tolist()))


@dataclass(frozen=True, kw_only=True)
class Recipe(RecipeOptions, LenientRecord):
    """Options applied to raw data; those without an effect on the bytes have one fixed value."""

    source: str
    splits: dict[str, str]  # by name what a split is taken from: "source", or "train"
    split_seed: int | None = None  # type: ignore[assignment] # where none is taken from train
    chunk_rows: int
    constants: Constants | None = None  # None where the scaling is fitted
    # What modes to come are told: none of those that there are takes them.
    channel_order: None = None
    limits: None = None
    target_range: None = None
    quantiles: None = None
    clip: None = None
    format_version: int = layout.FORMAT_VERSION
    numerics_version: int = NUMERICS_VERSION

    def keeps_whole(self, split: str) -> bool:
        """Tell whether a split is as in the source, no rows being taken from it or to it."""
        taken_from_train = split == "train" and "train" in self.splits.values()
        return self.splits[split] == "source" and not taken_from_train

    @classmethod
    def of(
        cls, options: RecipeOptions, source: SourceRecord, constants: Constants | None = None
    ) -> Self:
        first = next(iter(source.splits.values()))  # images of all are of one shape and type
        per, rescale = normalize_options(options.mode, options.per, options.rescale, first.dtype)
        image = first.shape[1:]
        own = {name: split.shape[0] for name, split in source.splits.items()}
        fractions = {
            name: 0.0 if name in own or "train" not in own else getattr(options, f"{name}_fraction")
            for name in TAKEN
        }
        rows = split_rows(own, fractions)
        if options.storage == "raw" and np.dtype(first.dtype).kind == "f":
            raise UsageError(
                f"`storage=raw`: expected integers, got {first.dtype}", "leave `storage` out"
            )
        shard_rows = options.shard_rows or layout.file_rows(image, options.dtype)
        values = {name: getattr(options, name) for name in declared_options(RecipeOptions)}
        values |= {
            "per": per,
            "rescale": rescale,
            "splits": {name: "source" if name in own else "train" for name in rows},
            **{f"{name}_fraction": fraction for name, fraction in fractions.items()},
            "split_seed": None if rows.keys() == own.keys() else options.split_seed,
            "shard_rows": shard_rows if shard_rows < max(rows.values()) else None,
        }
        chunk_rows = layout.chunk_rows(image, options.dtype)
        return cls(source=source.digest, chunk_rows=chunk_rows, constants=constants, **values)

    @property
    def key(self) -> str:
        return recipe_key(self.to_dict())

    @property
    def folder(self) -> str:
        """The name of the entry's folder below its dataset's."""
        return f"{self.mode}-{self.key}"


def recipe_key(recipe: Mapping[str, Any]) -> str:
    """Return the first 12 hex digits of the SHA-256 of a recipe's canonical JSON."""
    return canonical.digest(recipe)[:12]


def split_rows(rows: Mapping[str, int], fractions: Mapping[str, float]) -> dict[str, int]:
    """Return the rows of each stored split, given those of the source's and what train gives away.

    Refuse a fraction that leaves one of the two empty.
    """
    stored = dict(rows)
    for name in TAKEN:
        if fraction := fractions[name]:
            taken = permutation.rounded_share(stored["train"], fraction)
            if not 0 < taken < stored["train"]:
                raise UsageError(
                    f"`{name}_fraction={fraction}`: takes {taken} of {stored['train']} training"
                    " images, expected at least 1 to be taken and 1 to stay"
                )
            stored |= {name: taken, "train": stored["train"] - taken}
    return {name: stored[name] for name in SPLITS if name in stored}


def taken_rows(labels: NDArray[np.int64], recipe: Recipe) -> dict[str, NDArray[np.int64]]:
    """Return the rows of the source's train that go to each split which is taken from it.

    Test is taken first, then validation of what is left; what is left then is train. Without either
    there is nothing to return.
    """
    if labels.ndim > 1:  # of rows with several classes, a share of all is taken
        labels = np.zeros(len(labels), np.int64)
    left, rows, seed = np.arange(len(labels)), {}, recipe.split_seed or 0
    for name, stream in TAKEN.items():
        if fraction := getattr(recipe, f"{name}_fraction"):
            taken = permutation.stratified_mask(labels[left], fraction, seed, stream)
            rows[name], left = left[taken], left[~taken]
    return rows | {"train": left} if rows else {}


def check_classes_stay(labels: NDArray[np.int64], recipe: Recipe) -> None:
    """Refuse fractions that would leave a class of the source's train without an image."""
    if labels.ndim > 1:
        return
    left, classes = len(labels), len(np.unique(labels))
    for name in TAKEN:
        fraction = getattr(recipe, f"{name}_fraction")
        taken = permutation.rounded_share(left, fraction)
        if taken > left - classes:
            takes = f"`{name}_fraction={fraction}`: takes {taken:,} of {left:,} training images"
            most = f"at most {left - classes:,}, so that each of {classes:,} classes keeps one"
            raise UsageError(f"{takes}: expected {most}")
        left -= taken


def class_counts(labels: NDArray[np.integer[Any]], classes: int) -> tuple[int, ...]:
    """Return how many rows have each class, of labels (N,), or (N, classes) of 0 and 1."""
    counts = labels.sum(axis=0) if labels.ndim > 1 else np.bincount(labels, minlength=classes)
    return tuple(counts.tolist())


def split_files(name: str, rows: int, shard_rows: int | None) -> dict[str, range]:
    """Return the names of a split's files and the rows of each, in order."""
    if shard_rows is None or rows <= shard_rows:
        return {f"{name}.h5": range(rows)}
    count = -(-rows // shard_rows)
    return {
        f"{name}-{i:05d}-of-{count:05d}.h5": range(rows)[i * shard_rows : (i + 1) * shard_rows]
        for i in range(count)
    }
