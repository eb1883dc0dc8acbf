"""Define the recipe, which alone decides the bytes of an entry, and its key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self  # Any: JSON values

from pixelprep.errors import UsageError
from pixelprep.format import layout
from pixelprep.format.options import RecipeOptions, declared_options
from pixelprep.format.source_record import SourceRecord
from pixelprep.numerics import permutation
from pixelprep.numerics.scaling import normalize_options
from pixelprep.system import canonical
from pixelprep.system.json_record import LenientRecord

NUMERICS_VERSION = 1  # raised when a recipe would give other numbers


@dataclass(frozen=True, kw_only=True)
class Recipe(RecipeOptions, LenientRecord):
    """Options applied to raw data; those without an effect on the bytes have one fixed value."""

    source: str
    split_seed: int | None = None  # type: ignore[assignment] # without a validation split
    chunk_rows: int
    format_version: int = layout.FORMAT_VERSION
    numerics_version: int = NUMERICS_VERSION

    @classmethod
    def of(cls, options: RecipeOptions, source: SourceRecord) -> Self:
        train, test = source.splits["train"], source.splits["test"]
        per, rescale = normalize_options(options.mode, options.per, options.rescale, train.dtype)
        image = train.shape[1:]
        rows = split_rows({"train": train.shape[0], "test": test.shape[0]}, options.val_fraction)
        shard_rows = options.shard_rows or layout.file_rows(image, options.dtype)
        values = {name: getattr(options, name) for name in declared_options(RecipeOptions)}
        values |= {
            "per": per,
            "rescale": rescale,
            "split_seed": options.split_seed if "val" in rows else None,
            "shard_rows": shard_rows if shard_rows < max(rows.values()) else None,
        }
        return cls(
            source=source.digest, chunk_rows=layout.chunk_rows(image, options.dtype), **values
        )

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


def split_rows(rows: Mapping[str, int], val_fraction: float) -> dict[str, int]:
    """Return the rows of each stored split; refuse a fraction that leaves val or train empty."""
    if not val_fraction:
        return dict(rows)
    taken = permutation.rounded_share(rows["train"], val_fraction)
    if not 0 < taken < rows["train"]:
        raise UsageError(
            f"`val_fraction={val_fraction}`: takes {taken} of {rows['train']} training images,"
            " expected at least 1 to be taken and 1 to stay"
        )
    return {"train": rows["train"] - taken, "val": taken, "test": rows["test"]}


def split_files(name: str, rows: int, shard_rows: int | None) -> dict[str, range]:
    """Return the names of a split's files and the rows of each, in order."""
    if shard_rows is None or rows <= shard_rows:
        return {f"{name}.h5": range(rows)}
    count = -(-rows // shard_rows)
    return {
        f"{name}-{i:05d}-of-{count:05d}.h5": range(rows)[i * shard_rows : (i + 1) * shard_rows]
        for i in range(count)
    }
