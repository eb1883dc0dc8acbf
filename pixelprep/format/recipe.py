"""Define the recipe, which alone decides the bytes of an entry, and its key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self  # Any: JSON values

from pixelprep.errors import UsageError
from pixelprep.format import layout
from pixelprep.format.options import RecipeOptions, ScalingOptions, declared_options
from pixelprep.format.source_record import SourceRecord
from pixelprep.numerics import permutation
from pixelprep.numerics.lazy import np
from pixelprep.numerics.modes import MODES, check_taken
from pixelprep.numerics.permutation import Stream
from pixelprep.numerics.presets import PRESETS, of_channels
from pixelprep.numerics.scaling import (
    Scaling,
    form_of,
    kind_and_bytes,
    normalize_options,
    shift_and_divisor,
)
from pixelprep.system import canonical, formatting
from pixelprep.system.json_record import LenientRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMERICS_VERSION = 1  # raised when a recipe would give other numbers
SPLITS = ("train", "val", "test")
TAKEN = {"test": Stream.TEST, "val": Stream.VAL}  # from train where the source has none; in order


@dataclass(frozen=True, slots=True)
class Constants(LenientRecord):
    """Shift and divisor that are given, not fitted: one number or, per channel, one of each.

    Likewise, where pixels are clipped, what they are brought between; else these have no field.
    """

    shift: tuple[float, ...]
    divisor: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    @classmethod
    def of(cls, scaling: Scaling) -> Self:
        """Return those of a scaling per dataset or per channel."""
        found = scaling.statistics
        assert found is not None
        shift, divisor = shift_and_divisor(scaling, found)
        bounds = (found.low, found.high) if scaling.clip else ()
        return cls(*(tuple((one + 0.0).tolist()) for one in (shift, divisor, *bounds)))

    @property
    def limits(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """What pixels are brought between, if they are."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def to_dict(self) -> dict[str, Any]:
        values = super(Constants, self).to_dict()
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: object) -> Self:
        given = values if isinstance(values, dict) else {}
        return super(Constants, cls).from_dict({"low": None, "high": None, **given})


@dataclass(frozen=True, kw_only=True)
class Recipe(RecipeOptions, LenientRecord):
    """Options applied to raw data; those without an effect on the bytes have one fixed value."""

    source: str
    splits: dict[str, str]  # by name what a split is taken from: "source", or "train"
    split_seed: int | None = None  # type: ignore[assignment] # where none is taken from train
    chunk_rows: int
    constants: Constants | None = None  # None where the scaling is fitted
    # What some modes are told, as `Scaling` has it; None in others.
    channel_order: str | None = None
    limits: str | None = None
    target_range: tuple[float, ...] | None = None
    quantiles: tuple[float, ...] | None = None
    clip: bool | None = None
    format_version: int = layout.FORMAT_VERSION
    numerics_version: int = NUMERICS_VERSION

    def keeps_whole(self, split: str) -> bool:
        """Tell whether a split is as in the source, no rows being taken from it or to it."""
        taken_from_train = split == "train" and "train" in self.splits.values()
        return self.splits[split] == "source" and not taken_from_train

    @classmethod
    def of(
        cls,
        options: RecipeOptions,
        source: SourceRecord,
        scaling: ScalingOptions | Mapping[str, Any] | None = None,
    ) -> Self:
        """Make a recipe for a source, with what the mode is told or, by name, another's fields."""
        first = next(iter(source.splits.values()))  # images of all are of one shape and type
        if isinstance(scaling, Mapping):
            told = scaling
        else:
            told = scaling_fields(options, scaling or ScalingOptions(), first.dtype, first.shape[3])
        form = {"per": options.per, "rescale": options.rescale, "limits": None, **told}
        per, rescale = normalize_options(
            options.mode, form["per"], form["rescale"], first.dtype, form["limits"]
        )
        image = first.shape[1:]
        own = {name: split.shape[0] for name, split in source.splits.items()}
        fractions = {
            name: 0.0 if name in own or "train" not in own else getattr(options, f"{name}_fraction")
            for name in TAKEN
        }
        rows = split_rows(own, fractions)
        if options.storage == "raw" and kind_and_bytes(first.dtype)[0] == "f":
            raise UsageError(
                f"`storage=raw`: expected integers, got {first.dtype}", "leave `storage` out"
            )
        shard_rows = options.shard_rows or layout.file_rows(image, options.dtype)
        values = {name: getattr(options, name) for name in declared_options(RecipeOptions)}
        values |= form | {
            "per": per,
            "rescale": rescale,
            "splits": {name: "source" if name in own else "train" for name in rows},
            **{f"{name}_fraction": fraction for name, fraction in fractions.items()},
            "split_seed": None if rows.keys() == own.keys() else options.split_seed,
            "shard_rows": shard_rows if shard_rows < max(rows.values()) else None,
        }
        chunk_rows = layout.chunk_rows(image, options.dtype)
        return cls(source=source.digest, chunk_rows=chunk_rows, **values)

    @property
    def is_taken_over(self) -> bool:
        """Whether its constants are those of another entry."""
        return self.constants is not None and not MODES[self.mode].is_given

    @property
    def key(self) -> str:
        return recipe_key(self.to_dict())

    @property
    def folder(self) -> str:
        """The name of the entry's folder below its dataset's."""
        return f"{self.mode}-{self.key}"


def scaling_fields(
    options: RecipeOptions, told: ScalingOptions, dtype: str, channels: int
) -> dict[str, Any]:
    """Return the fields of a recipe that say how such pixels are scaled, but for the mode."""
    given = {name: getattr(told, name) for name in declared_options(ScalingOptions)}
    check_taken(options.mode, given)
    form = {name: given[name] for name in given.keys() - {"preset", "mean", "std", "units"}}
    if not MODES[options.mode].is_given:
        return form_of(options.mode, dtype, **form)
    return form_of(options.mode, dtype, **form) | _given_constants(options, told, dtype, channels)


def _given_constants(
    options: RecipeOptions, told: ScalingOptions, dtype: str, channels: int
) -> dict[str, Any]:
    """Return constants, units and order of channels as they are given, or those of a preset."""
    where, own = f"`mode={options.mode}`", PRESETS.get(told.preset or "")
    normalize_options(options.mode, options.per, options.rescale, dtype)
    floats, units = kind_and_bytes(dtype)[0] == "f", told.units or (own.units if own else "max")
    if floats and told.units != "pixel":
        hint = "`units=pixel`: mean and std are of the pixels as they are"
        raise UsageError(f"{where}: {dtype} has no maximum to divide by", hint)
    if own and not floats and units != own.units:
        raise UsageError(f"`preset={told.preset}`: its units are {own.units}", "leave `units` out")
    mean, std = (own.mean, own.std) if own else (told.mean, told.std)
    assert isinstance(mean, tuple)  # both are there: `PrepareOptions` has seen to it
    assert isinstance(std, tuple)
    order = own.channel_order if own else told.channel_order
    counts = {len(mean), len(std), 3 if order else 1} - {1}
    if counts - {channels}:
        name = f"`preset={told.preset}`" if own else where
        listed = " and ".join(map(str, sorted(counts)))
        grey = "`color=rgb` makes grey pictures RGB" if channels == 1 else None
        found = formatting.pluralize(channels, "channel")
        raise UsageError(f"{name}: expected images of {listed} channels, got {found}", grey)
    shift, divisor = of_channels(mean, channels), of_channels(std, channels)
    if not np.isfinite(np.divide(shift, divisor)).all():
        raise UsageError(f"{where}: `mean` over `std` is too large for float64")
    alike = len(set(zip(shift, divisor, strict=True))) == 1  # so that equal scalings are one entry
    return {
        "constants": Constants(shift[:1], divisor[:1]) if alike else Constants(shift, divisor),
        "per": "dataset" if alike else "channel",
        "rescale": units == "max",
        "channel_order": order,
    }


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


def taken_rows(labels: "NDArray[np.int64]", recipe: Recipe) -> "dict[str, NDArray[np.int64]]":
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


def check_classes_stay(labels: "NDArray[np.int64]", recipe: Recipe) -> None:
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


def class_counts(labels: "NDArray[np.integer[Any]]", classes: int) -> tuple[int, ...]:
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
