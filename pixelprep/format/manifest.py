"""Define an entry's manifest, and read it (data/FORMAT.md, section 4)."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self  # Any: arrays of any type, JSON values

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import REPAIR_HINT, EntryError, NewerFormatError
from pixelprep.format import layout, schema
from pixelprep.format.recipe import Recipe
from pixelprep.format.source_record import Provenance, SourceRecord
from pixelprep.numerics.scaling import Scaling
from pixelprep.numerics.statistics import AnyMoments, Statistics
from pixelprep.system import canonical, fs
from pixelprep.system.json_record import Record

NAME, DIGEST = "manifest.json", "manifest.sha256"
FIRST_BATCH = 64  # rows whose figures are recorded
# Manifest bytes per stored byte: statistics per pixel are six numbers of 25 digits for at least two
# images of 2 bytes per pixel.
MAX_SHARE = 40


@dataclass(frozen=True, slots=True)
class FileRecord(Record):
    """One HDF5 file of a split.

    Parameters
    ----------
    name : str
        Its name in the entry's folder.
    rows, bytes : int
        The number of its images, and its size.
    sha256 : str
        Its digest, in hex.
    """

    ignores_unknown: ClassVar[bool] = True

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RawLimits(Record):
    """The smallest and the largest raw pixel of a split; ints for integer pixels."""

    ignores_unknown: ClassVar[bool] = True

    minimum: float
    maximum: float

    @classmethod
    def of(cls, moments: AnyMoments) -> Self:
        """Take the limits from the moments of all pixels."""
        return cls(moments.minimum.min().item(), moments.maximum.max().item())


@dataclass(frozen=True, slots=True)
class FirstBatch(Record):
    """The statistics of the first `FIRST_BATCH` stored images of a split, or of all if fewer.

    Parameters
    ----------
    shape : tuple of int
        The shape (n, H, W, C) of these images.
    min, max, mean, std : float
        The statistics of their stored values; ``std`` is the population standard deviation.
    """

    ignores_unknown: ClassVar[bool] = True

    shape: tuple[int, ...]
    min: float
    max: float
    mean: float
    std: float

    @classmethod
    def of(cls, images: NDArray[Any]) -> Self:
        """Compute the statistics of a batch (n, H, W, C) of any float type.

        Sums are exact (``math.fsum``), so that the results are the same on every machine.
        """
        exact = images.reshape(-1).astype(np.float64)
        mean = math.fsum(exact) / exact.size
        variance = math.fsum((exact - mean) ** 2) / exact.size
        low, high = float(exact.min()), float(exact.max())
        return cls(images.shape, low, high, mean, math.sqrt(variance))


@dataclass(frozen=True, slots=True)
class SplitRecord(Record):
    """One stored split.

    Parameters
    ----------
    rows : int
        The number of its images.
    shape : tuple of int
        The shape (N, H, W, C) of the stored images.
    dtype : str
        The type of the stored images: float32 or float16.
    bytes : int
        The size of all its files.
    raw : RawLimits
        The limits of its raw pixels.
    first_batch : FirstBatch
        The statistics of its first stored images.
    files : tuple of FileRecord
        Its files, in the order of the rows.
    """

    ignores_unknown: ClassVar[bool] = True

    rows: int
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    raw: RawLimits
    first_batch: FirstBatch
    files: tuple[FileRecord, ...]


@dataclass(frozen=True, slots=True)
class ScalingRecord(Record):
    """A fitted scaling in full precision.

    Parameters
    ----------
    unit : int
        What raw pixels are divided by first.
    raw_dtype : str
        NumPy's name of their type.
    mean, std, minimum, maximum, scale, offset : list of float
        The statistics, as nested lists of their shape; empty per image.
    """

    ignores_unknown: ClassVar[bool] = True

    unit: int
    raw_dtype: str
    mean: object
    std: object
    minimum: object
    maximum: object
    scale: object
    offset: object

    @classmethod
    def of(cls, scaling: Scaling) -> Self:
        """Record a scaling; `scaling` restores it."""
        statistics = scaling.statistics
        return cls(
            scaling.unit,
            scaling.raw_dtype,
            scaling.mean.tolist(),
            scaling.std.tolist(),
            statistics.minimum.tolist() if statistics else [],
            statistics.maximum.tolist() if statistics else [],
            scaling.scale.tolist(),
            scaling.offset.tolist(),
        )

    def scaling(self, mode: str, per: str) -> Scaling:
        """Return the recorded scaling."""
        statistics = None
        if per != "image":
            lists = (self.mean, self.std, self.minimum, self.maximum)
            statistics = Statistics(*(np.array(values, np.float64) for values in lists))
        return Scaling(mode, per, self.unit, self.raw_dtype, statistics)


@dataclass(frozen=True, slots=True)
class PixelSums(Record):
    """The sums over all raw pixels of the training split; exact ints for integer pixels."""

    ignores_unknown: ClassVar[bool] = True

    count: int
    sum: float
    sum_of_squares: float


@dataclass(frozen=True)
class Manifest(Record):
    """The description of an entry.

    Parameters
    ----------
    dataset : str
        The dataset's name.
    key : str
        The recipe's key.
    recipe : Recipe
        What decides the bytes; the file repeats its mode and per.
    provenance : Provenance
        The origin of the data, and the terms of its use.
    source : SourceRecord
        The raw data.
    scaling : ScalingRecord
        The fitted scaling.
    statistics : PixelSums
        The sums over the training split's raw pixels.
    splits : dict of SplitRecord
        The splits by name: train, val if there is one, test.
    """

    ignores_unknown: ClassVar[bool] = True

    dataset: str
    key: str
    recipe: Recipe
    provenance: Provenance
    source: SourceRecord
    scaling: ScalingRecord
    statistics: PixelSums
    splits: dict[str, SplitRecord]

    @property
    def mode(self) -> str:
        """The scaling's mode."""
        return self.recipe.mode

    @property
    def per(self) -> str:
        """Which pixels share one statistic."""
        return self.recipe.per

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``manifest.json``."""
        values = Record.to_dict(self)
        values["source"]["digest"] = self.recipe.source
        return {
            "format": layout.FORMAT,
            "format_version": layout.FORMAT_VERSION,
            "mode": self.mode,
            "per": self.per,
            **values,
        }

    def to_files(self) -> dict[str, bytes]:
        """Return the content of the two files that hold a manifest, by name."""
        content = canonical.dumps(self.to_dict()) + b"\n"
        return {NAME: content, DIGEST: digest_line(content)}

    def files(self) -> list[tuple[str, FileRecord]]:
        """Return all files in order, each after its split's name."""
        present = [name for name in schema.SPLITS if name in self.splits]
        return [(name, file) for name in present for file in self.splits[name].files]

    def file_layout(self, split: str, rows: int) -> layout.FileLayout:
        """Return the layout of a file of this split with so many rows."""
        image_shape = self.source.splits["train"].shape[1:]
        return layout.FileLayout(
            (rows, *image_shape),
            self.recipe.dtype,
            self.recipe.chunk_rows,
            self.recipe.compression,
            self._attributes(split),
            self.per == "image",
        )

    def _attributes(self, split: str) -> dict[str, Any]:
        """Return the root attributes of a file of this split."""
        scaling = self.scaling.scaling(self.mode, self.per)
        attributes: dict[str, Any] = {
            "format": layout.FORMAT,
            "format_version": layout.FORMAT_VERSION,
            "dataset": self.dataset,
            "split": split,
            "mode": self.mode,
            "per": self.per,
            "class_names": list(self.source.class_names),
            "source_digest": self.recipe.source,
            "unit": scaling.unit,
        }
        if scaling.statistics is None:
            return attributes
        names = ("mean", "std", "scale", "offset")
        return attributes | {name: getattr(scaling, name) for name in names}


def read(path: Path) -> Manifest:
    """Read the manifest of the entry in this folder, and check its digest and its content.

    Raises
    ------
    EntryError
        When there is none, or it was changed or violates the schema.
    NewerFormatError
        When it has a newer format.
    """
    content, expected = _content(path / NAME, _max_bytes(path)), _content(path / DIGEST, 1000)
    if digest_line(content) != expected:
        raise EntryError(f"{path / NAME}: differs from its digest in {DIGEST}", REPAIR_HINT)
    try:
        values = json.loads(
            content.decode(),
            parse_constant=schema.reject_constants,
            object_pairs_hook=schema.reject_duplicates,
        )
        _check_version(path, values)
        schema.check(values)
        return Manifest.from_dict(values)
    except schema.BAD_JSON as error:
        reason = str(error) if isinstance(error, schema.SchemaError) else repr(error)
        raise EntryError(f"{path / NAME}: not a manifest: {reason[:200]}", REPAIR_HINT) from error


def digest_line(manifest: bytes) -> bytes:
    """Return the content of ``manifest.sha256``, which ``sha256sum --check`` reads."""
    return f"{hashlib.sha256(manifest).hexdigest()}  {NAME}\n".encode()


def _content(path: Path, max_bytes: int) -> bytes:
    try:
        return fs.read_regular_file(path, max_bytes)
    except OSError as error:
        reason = error.strerror or error
        if not fs.is_damage(error):
            raise fs.unreadable(path, error) from error
        raise EntryError(f"{path.parent}: not an entry: cannot read {path}: {reason}") from error


def _max_bytes(path: Path) -> int:
    """Return the largest size that the manifest of the entry in this folder may have."""
    try:
        stored = sum(file.lstat().st_blocks * 512 for file in path.glob("*.h5"))
    except OSError:
        stored = 0
    return schema.MAX_BYTES + MAX_SHARE * stored


def _check_version(path: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse another format, or another version of it."""
    name, version = manifest["format"], manifest["format_version"]
    known = name == layout.FORMAT and type(version) is int
    if known and version == layout.FORMAT_VERSION:
        return
    message = (
        f"{path}: format {str(name)[:40]} version {str(version)[:40]},"
        f" this reads {layout.FORMAT} version {layout.FORMAT_VERSION}"
    )
    if known and version > layout.FORMAT_VERSION:
        raise NewerFormatError(message, "install a newer pixelprep")
    raise EntryError(message)
