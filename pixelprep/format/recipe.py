"""What decides the bytes of a cache entry, and nothing else: the recipe and its key."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self  # Any: JSON values

from pixelprep.errors import UsageError, check_int, unknown_choice
from pixelprep.format import layout
from pixelprep.format.source_record import SourceRecord
from pixelprep.numerics import permutation
from pixelprep.numerics.scaling import normalize_options
from pixelprep.system import canonical
from pixelprep.system.json_record import Record

NUMERICS_VERSION = 1  # raised when the same recipe would give other numbers
KEY_LENGTH = 12


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """What the user may choose about the stored bytes (the options of ``prepare``).

    Raises
    ------
    UsageError
        For a value that no recipe can hold.
    MissingExtraError
        When the compression needs a package that is not installed.
    """

    mode: str = "standardize"
    per: str = "channel"
    rescale: bool = False
    val_fraction: float = 0.0
    split_seed: int = 0
    dtype: str = "float32"
    compression: str = "none"
    shard_rows: int | None = None

    def __post_init__(self) -> None:
        normalize_options(self.mode, self.per, self.rescale, "uint8")
        if self.dtype not in layout.DTYPES:
            raise unknown_choice("dtype", self.dtype, layout.DTYPES)
        layout.check_compression(self.compression)
        if not (math.isfinite(self.val_fraction) and 0 <= self.val_fraction < 1):
            raise UsageError(f"`val_fraction={self.val_fraction}`: expected 0 or more, below 1")
        check_int("split_seed", self.split_seed, 0, permutation.MAX_SEED)
        if self.shard_rows is not None:
            check_int("shard_rows", self.shard_rows, 1)
        if self.rescale not in (False, True):
            raise UsageError(f"`rescale={self.rescale!r}`: expected true or false")


@dataclass(frozen=True, slots=True)
class Recipe(Record):
    """Choices applied to a source: options without an effect on the bytes are gone."""

    ignores_unknown: ClassVar[bool] = True

    source: str
    mode: str
    per: str
    rescale: bool
    val_fraction: float
    split_seed: int | None
    dtype: str
    compression: str
    chunk_rows: int
    shard_rows: int | None
    format_version: int = layout.FORMAT_VERSION
    numerics_version: int = NUMERICS_VERSION

    @classmethod
    def of(cls, choices: PrepareOptions, source: SourceRecord) -> Self:
        """Apply choices to raw data."""
        train, test = source.splits["train"], source.splits["test"]
        per, rescale = normalize_options(choices.mode, choices.per, choices.rescale, train.dtype)
        image = train.shape[1:]
        raw_rows = {"train": train.shape[0], "test": test.shape[0]}
        rows = split_rows(raw_rows, choices.val_fraction)
        shard_rows = choices.shard_rows or layout.file_rows(image, choices.dtype)
        # Plain types: 0, False and NumPy's numbers are spelled differently in JSON.
        return cls(
            source=source.digest,
            mode=choices.mode,
            per=per,
            rescale=bool(rescale),
            val_fraction=float(choices.val_fraction or 0),
            split_seed=int(choices.split_seed) if "val" in rows else None,
            dtype=choices.dtype,
            compression=choices.compression,
            chunk_rows=layout.chunk_rows(image, choices.dtype),
            shard_rows=int(shard_rows) if shard_rows < max(rows.values()) else None,
        )

    @property
    def key(self) -> str:
        """The first 12 hex digits of the SHA-256 of the recipe's canonical JSON."""
        return recipe_key(self.to_dict())

    @property
    def folder(self) -> str:
        """The entry's folder name below its dataset."""
        return f"{self.mode}-{self.key}"


def recipe_key(recipe: Mapping[str, Any]) -> str:
    """The key of a recipe as it stands in a manifest."""
    return canonical.digest(recipe)[:KEY_LENGTH]


def split_rows(rows: Mapping[str, int], val_fraction: float) -> dict[str, int]:
    """Rows of each stored split, validation (if any) taken from train.

    Raises
    ------
    UsageError
        When the fraction leaves the validation or the training split empty.
    """
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
    """The files of a split and the rows that each holds, in order."""
    if shard_rows is None or rows <= shard_rows:
        return {f"{name}.h5": range(rows)}
    count = -(-rows // shard_rows)
    return {
        f"{name}-{i:05d}-of-{count:05d}.h5": range(rows)[i * shard_rows : (i + 1) * shard_rows]
        for i in range(count)
    }
