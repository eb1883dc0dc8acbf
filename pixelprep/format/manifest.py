"""Define an entry's manifest, and read it (data/FORMAT.md, section 4)."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self  # Any: arrays of any type, JSON values

from pixelprep.errors import REPAIR_HINT, EntryError, NewerFormatError
from pixelprep.format import layout, schema
from pixelprep.format.recipe import NUMERICS_VERSION, SPLITS, Recipe
from pixelprep.format.source_record import Provenance, SourceRecord
from pixelprep.numerics.fitted import Statistics
from pixelprep.numerics.lazy import np
from pixelprep.numerics.scaling import FORM, MODES, Scaling, fixed_scaling, shift_and_divisor
from pixelprep.system import canonical, fs, os_calls
from pixelprep.system.json_record import LenientRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pixelprep.numerics.statistics import AnyMoments

NAME, DIGEST = "manifest.json", "manifest.sha256"
EXPORTED = "entry.json"  # its name beside the files of an export
CROISSANT = "croissant.json"  # what describes these files, beside them
README = "README.txt"  # the same for people
NEWER = "install a newer pixelprep"
FIRST_BATCH = 64  # rows whose figures are recorded
# Manifest bytes per stored byte: statistics per pixel are six numbers of 25 digits for at least two
# images of 2 bytes per pixel.
MAX_SHARE = 40


@dataclass(frozen=True, slots=True)
class FileRecord(LenientRecord):
    """One HDF5 file of a split."""

    name: str  # in the entry's folder
    rows: int  # the number of its images
    bytes: int
    sha256: str  # in hex


@dataclass(frozen=True, slots=True)
class RawLimits(LenientRecord):
    """The smallest and the largest raw pixel of a split; ints for integer pixels."""

    minimum: float
    maximum: float

    @classmethod
    def of(cls, moments: "AnyMoments") -> Self:
        return cls(moments.minimum.min().item(), moments.maximum.max().item())


@dataclass(frozen=True, slots=True)
class FirstBatch(LenientRecord):
    """The statistics of a split's first `FIRST_BATCH` stored images, or of all if fewer."""

    shape: tuple[int, ...]  # (n, H, W, C), of these images
    min: float
    max: float
    mean: float
    std: float  # of the population

    @classmethod
    def of(cls, images: "NDArray[Any]") -> Self:
        """Compute the statistics of a batch (n, H, W, C), whose exact sums no machine changes."""
        from pixelprep.numerics.statistics import exact_sum  # to read it again needs it not

        values = images.reshape(-1)
        mean = exact_sum(values) / values.size
        variance = exact_sum(values, about=mean) / values.size
        low, high = float(values.min()), float(values.max())
        return cls(images.shape, low, high, mean, math.sqrt(variance))


@dataclass(frozen=True, slots=True)
class SplitRecord(LenientRecord):
    """One stored split."""

    rows: int  # the number of its images
    shape: tuple[int, ...]  # (N, H, W, C), of the images
    dtype: str  # of the scaled images: float32 or float16
    bytes: int  # of all its files
    class_counts: tuple[int, ...]  # the number of images that have each class
    raw: RawLimits
    first_batch: FirstBatch  # of its scaled images
    files: tuple[FileRecord, ...]  # in the order of the rows


@dataclass(frozen=True, slots=True)
class QuantilesRecord(LenientRecord):
    """The quantiles that a robust scaling was fitted to: lists of float."""

    low: object
    median: object
    high: object


@dataclass(frozen=True, slots=True)
class ScalingRecord(LenientRecord):
    """A scaling in full precision: nested lists of float, empty per image.

    Of a fixed one mean and std are shift and divisor; minimum and maximum are empty.
    """

    unit: int  # what raw pixels are divided by first
    raw_dtype: str  # NumPy's name of their type
    mean: object
    std: object
    minimum: object
    maximum: object
    scale: object
    offset: object
    quantiles: QuantilesRecord | None = None

    @classmethod
    def of(cls, scaling: Scaling) -> Self:
        own = scaling.statistics
        limits = (own.minimum, own.maximum) if own else (np.zeros(0), np.zeros(0))
        arrays = (scaling.mean, scaling.std, *limits, scaling.scale, scaling.offset)
        record = cls(scaling.unit, scaling.raw_dtype, *(array.tolist() for array in arrays))
        if own and scaling.quantiles:
            lists = (one.tolist() for one in (own.low, own.median, own.high))
            record = replace(record, quantiles=QuantilesRecord(*lists))
        return record

    def scaling(self, recipe: Recipe) -> Scaling:
        """Return the scaling that this is, in an entry of this recipe."""
        form = {name: getattr(recipe, name) for name in FORM}
        about = (recipe.mode, recipe.per, self.unit, self.raw_dtype)
        if given := recipe.constants:
            return fixed_scaling(*about, given.shift, given.divisor, given.limits, **form)
        statistics = None
        if recipe.per != "image":
            lists = [self.mean, self.std, self.minimum, self.maximum]
            found = self.quantiles
            lists += [found.low, found.median, found.high] if found else []
            statistics = Statistics(*(np.array(values, np.float64) for values in lists))
        return Scaling(*about, statistics, **form)


@dataclass(frozen=True, slots=True)
class PixelSums(LenientRecord):
    """The sums over all raw pixels of the first split; exact ints for integer pixels."""

    count: int
    sum: float
    sum_of_squares: float


@dataclass(frozen=True)
class Manifest(LenientRecord):
    """The description of an entry."""

    dataset: str  # the dataset's name
    key: str  # the recipe's
    recipe: Recipe  # what decides the bytes
    provenance: Provenance
    source: SourceRecord  # the raw data
    scaling: ScalingRecord
    statistics: PixelSums  # of the first split's raw pixels
    splits: dict[str, SplitRecord]  # train but where nothing was fitted, and others that there are

    @property
    def mode(self) -> str:
        return self.recipe.mode

    @property
    def per(self) -> str:
        return self.recipe.per

    @property
    def first_split(self) -> str:
        """Train or, where the scaling is fixed and there is none, the first of the others."""
        return next(name for name in SPLITS if name in self.splits)

    def is_scaled_as(self, other: "Manifest") -> bool:
        """Return whether equal pixels are scaled to equal values in both entries."""
        form = [[getattr(one.recipe, name) for name in FORM] for one in (self, other)]
        own, same = (self.mode, self.per, self.scaling), (other.mode, other.per, other.scaling)
        return own == same and form[0] == form[1]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``manifest.json``."""
        values = super().to_dict()
        values["source"]["digest"] = self.recipe.source
        version = {"format": layout.FORMAT, "format_version": layout.FORMAT_VERSION}
        return {**version, "mode": self.mode, "per": self.per, **values}

    def to_files(self) -> dict[str, bytes]:
        """Return the content of the two files that hold a manifest, by name."""
        content = canonical.dumps(self.to_dict()) + b"\n"
        return {NAME: content, DIGEST: digest_line(content)}

    def files(self) -> list[tuple[str, FileRecord]]:
        """Return all files in order, each after its split's name."""
        return [(n, file) for n, split in self.splits_in_order().items() for file in split.files]

    def splits_in_order(self) -> dict[str, SplitRecord]:
        """Return the splits that there are: train, val and test."""
        return {name: self.splits[name] for name in SPLITS if name in self.splits}

    def file_layout(self, split: str, rows: int) -> layout.FileLayout:
        scaling = self.scaling.scaling(self.recipe)
        attributes: dict[str, Any] = {
            "format": layout.FORMAT,
            "format_version": layout.FORMAT_VERSION,
            "split": split,
            "class_names": canonical.dumps(list(self.source.class_names)).decode(),
            "mode": self.mode,
            "unit": scaling.unit,
        }  # with the next two as many as an object header takes
        if scaling.statistics is not None:
            shift, divisor = shift_and_divisor(scaling, scaling.statistics)
            if scaling.target_range is not None:  # the line through what is stored
                low, high = scaling.target_range
                divisor = divisor / (high - low)
                shift = shift - low * divisor
            attributes |= {"shift": shift, "divisor": divisor}
        return replace(self.data_layout(split, rows), attributes=attributes)

    def data_layout(self, split: str, rows: int) -> layout.FileLayout:
        """Lay out the datasets alone: attributes, which may be many numbers, are for writing."""
        recipe, source = self.recipe, self.source
        origin = source.splits[split if recipe.splits[split] == "source" else "train"]
        return layout.FileLayout(
            shape=(rows, *origin.shape[1:]),
            dtype=layout.stored_dtype(recipe.storage, recipe.dtype, origin.dtype),
            rows=recipe.chunk_rows,
            compression=recipe.compression,
            per_image=self.per == "image",
            labels=len(source.class_names) if source.task == "multilabel" else 0,
            name_bytes=origin.name_bytes or 0,
        )


def read(path: Path) -> Manifest:
    """Read an entry's manifest, and check its digest, its version and its content."""
    content = _content(path / NAME, _most_bytes(path, "*.h5"))
    expected = _content(path / DIGEST, 1000)
    if digest_line(content) != expected:
        raise EntryError(f"{path / NAME}: differs from its digest in {DIGEST}", REPAIR_HINT)
    return parse(path / NAME, content)


def read_exported(folder: Path) -> Manifest:
    """Read the manifest beside the files of an export, and check its version and its content."""
    path = folder / EXPORTED
    return parse(path, _content(path, _most_bytes(folder, "*.[hn][5p]*")))


def _most_bytes(folder: Path, files: str) -> int:
    """Return how long a manifest may be beside files of this pattern."""
    try:
        stored = sum(os_calls.stored_bytes(file.lstat()) for file in folder.glob(files))
    except OSError:
        stored = 0
    return schema.MAX_BYTES + MAX_SHARE * stored


def parse(path: Path, content: bytes) -> Manifest:
    """Return the manifest of a file's content; check its version and its content."""
    try:
        values = json.loads(
            content.decode(),
            parse_constant=schema.reject_constants,
            object_pairs_hook=schema.reject_duplicates,
        )
        _check_version(path.parent, values)
        _check_recipe_known(path.parent, values["recipe"])
        schema.check(values)
        return Manifest.from_dict(values)
    except schema.BAD_JSON as error:
        reason = str(error) if isinstance(error, schema.SchemaError) else repr(error)
        raise EntryError(f"{path}: not a manifest: {reason[:200]}", REPAIR_HINT) from error


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
        raise NewerFormatError(message, NEWER)
    raise EntryError(message)


def _check_recipe_known(path: Path, recipe: Mapping[str, Any]) -> None:
    """Refuse modes and options that came after this version, which are no damage."""
    unknown = [name for name in recipe.keys() - Recipe.field_names() if recipe[name] is not None]
    unknown += [name for name, known in schema.FORM.items() if not known(recipe.get(name))]
    choices = {"mode": MODES, "storage": layout.STORAGES, "compression": layout.COMPRESSIONS}
    words = ((name, recipe[name], known) for name, known in choices.items())
    unknown += [name for name, word, known in words if isinstance(word, str) and word not in known]
    version = recipe["numerics_version"]
    unknown += ["numerics_version"] if type(version) is int and version > NUMERICS_VERSION else []
    if unknown:
        shown = ", ".join(f"{name} {ascii(recipe[name])[:40]}" for name in sorted(unknown)[:3])
        raise NewerFormatError(f"{path}: made by a newer pixelprep: its recipe has {shown}", NEWER)
