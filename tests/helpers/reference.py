"""What an entry of cache format 1 must hold, computed from its raw data by data/FORMAT.md alone.

Nothing of pixelprep is imported here: Python's integers and fractions, NumPy, and the second reader
(plain h5py where images are compressed by what that does not read). Slow and short on purpose;
tests compare it with the real code.
"""

import hashlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from tests.helpers.second_reader import Json, canonical, columns, need, read_manifest

Array = NDArray[Any]

MIB = 1 << 20
DIGEST_BYTES, BLOCK_BYTES = 64 * MIB, 4 * MIB  # of raw pixels
WORD = (1 << 64) - 1
WINDOW = 32  # runs
FILTERS = {"lzf": 32000, "lz4": 32004, "zstd": 32015}  # which the second reader does not read
MODES = ("normalize", "center", "standardize")


# Digests and the manifest


def digest(data: bytes) -> str:
    """SHA-256 in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def pieces(images: Array, rows: int) -> list[Array]:
    """Return the images in pieces of so many rows; the last may have fewer."""
    return [images[start : start + rows] for start in range(0, len(images), rows)]


def largest_power(row_bytes: int, most: int) -> int:
    """Return the largest power of two of rows whose bytes are at most this, at least 1."""
    rows = 1
    while rows * 2 * row_bytes <= most:
        rows *= 2
    return rows


def images_digest(images: Array) -> str:
    """Return the digest of raw pixels or, of more than 64 MiB, of the digests of their pieces."""
    rows = len(images)
    if images.nbytes > DIGEST_BYTES:
        rows = largest_power(images.nbytes // len(images), DIGEST_BYTES)
    found = []
    for piece in pieces(images, rows):
        one = hashlib.sha256()
        for image in piece:  # one at a time: pixels may be many
            one.update(image.astype(image.dtype.newbyteorder("<")).tobytes())
        found.append(one.digest())
    return found[0].hex() if len(found) == 1 else digest(b"".join(found))


def split_source(images: Array, labels: Array) -> Json:
    """Return what the source digest covers of one split; the images are (N, H, W, C)."""
    return {
        "dtype": images.dtype.name,
        "shape": list(images.shape),
        "images": images_digest(images),
        "labels": digest(labels.astype("<i8").tobytes()),
    }


def source_digest(splits: dict[str, Json], class_names: list[str], decode: Json) -> str:
    """Return the digest of all the data that a recipe starts from."""
    names = list(class_names)
    return digest(canonical({"splits": splits, "class_names": names, "decode": decode}))


# Reading an entry


class Split(NamedTuple):
    """One split, its files joined."""

    images: Array
    labels: Array
    mean: Array | None  # of each image, only where `per` is `image`
    std: Array | None


@dataclass
class Entry:
    """One entry, read whole."""

    manifest: Json
    splits: dict[str, Split]


def read_split(folder: Path, manifest: Json, name: str) -> Split:
    """Read one split, its files in the manifest's order."""
    about, found = manifest["splits"][name], dict[str, bytes]()
    for file in about["files"]:
        read = columns if manifest["recipe"]["compression"] in ("none", "gzip") else by_h5py
        for title, piece in read(folder, manifest, name, file):
            found[title] = found.get(title, b"") + piece
    images = np.frombuffer(found["images"], about["dtype"]).reshape(about["shape"])
    mean, std = (np.frombuffer(found[n], "<f8") if n in found else None for n in ("mean", "std"))
    return Split(images, np.frombuffer(found["labels"], "<i8"), mean, std)


def by_h5py(folder: Path, manifest: Json, name: str, file: Json) -> Iterator[tuple[str, bytes]]:
    """Read the columns of one file: images through shuffle, the compressor, then the checksum."""
    need(digest((folder / file["name"]).read_bytes()) == file["sha256"], f"digest of {name}")
    with h5py.File(folder / file["name"]) as opened:
        plist = opened["images"].id.get_create_plist()
        (_, (number, _, options, _), _) = filters = [plist.get_filter(i) for i in range(3)]
        compressor = FILTERS[manifest["recipe"]["compression"]]
        need([one for one, *_ in filters] == [2, compressor, 3], f"filters of {name}")
        need(number != FILTERS["zstd"] or options[0] == 3, f"level of {name}")
        for title, dataset in opened.items():
            yield title, dataset[()].tobytes()


def check_attribute(thing: Any, name: str) -> None:
    """Check that an attribute is a little-endian number or a string of fixed length."""
    kind = h5py.h5a.open(thing.id, name.encode()).get_type()
    if isinstance(kind, h5py.h5t.TypeStringID):
        need(not kind.is_variable_str(), f"attribute {name} has variable length")
    else:
        need(kind.dtype in (np.dtype("<i8"), np.dtype("<f8")), f"type of attribute {name}")


def plain(value: Any) -> Any:
    """Return an attribute's value as JSON has it."""
    if isinstance(value, bytes):
        return value.decode()
    return [plain(item) for item in value.tolist()] if isinstance(value, np.ndarray) else value


def check_attributes(file: Any, manifest: Json, split: str) -> None:
    """Exactly the root attributes of the format, with the manifest's values."""
    scaling = manifest["scaling"]
    wanted = {name: manifest[name] for name in ("format", "format_version", "dataset", "mode")}
    wanted |= {"split": split, "per": manifest["per"], "unit": scaling["unit"]}
    wanted["source_digest"] = manifest["source"]["digest"]
    wanted["class_names"] = manifest["source"]["class_names"]
    if manifest["per"] != "image" and np.size(scaling["mean"]) <= 4096:
        wanted |= {name: scaling[name] for name in ("mean", "std", "scale", "offset")}
    for name in file.attrs:
        check_attribute(file, name)
    found = {name: plain(value) for name, value in file.attrs.items()}
    need(found == wanted, f"attributes {found}, not {wanted}")


# Layout


def layout(shape: tuple[int, ...], itemsize: int) -> tuple[int, int]:
    """Return rows of a chunk, and the most rows of a file where the user chose none."""
    image = math.prod(shape) * itemsize
    rows = largest_power(image, MIB)
    return rows, rows * max(1, 256 * MIB // (rows * image))


def file_rows(rows: int, most: int) -> list[int]:
    """Return the rows of each file of a split: each full but the last."""
    return [min(most, rows - start) for start in range(0, rows, most)]


# Recipes


@dataclass
class Source:
    """Raw data: images (N, H, W, C) and labels of each split."""

    train: tuple[Array, Array]
    test: tuple[Array, Array]
    class_names: list[str]
    decode: Json = field(default_factory=dict)

    @property
    def about(self) -> Json:
        """The manifest's `source`."""
        splits = {"train": split_source(*self.train), "test": split_source(*self.test)}
        made = source_digest(splits, self.class_names, self.decode)
        about = {"splits": splits, "class_names": self.class_names, "decode": self.decode}
        return {"digest": made, **about}


def recipe_of(source: Source, options: Json) -> Json:
    """Return the recipe that options mean, what has no effect being fixed."""
    images = source.train[0]
    rows, most = layout(images.shape[1:], np.dtype(options["dtype"]).itemsize)
    taken = len(validation_rows(source, options["val_fraction"], options["split_seed"]))
    largest = max(len(images) - taken, taken, len(source.test[0]))
    shard_rows = options["shard_rows"] or most
    integers = is_integer(images)
    normalize = integers and options["mode"] == "normalize"
    return {
        "format_version": 1,
        "numerics_version": 1,
        "source": source.about["digest"],
        "mode": options["mode"],
        "per": "dataset" if normalize else options["per"],
        "rescale": normalize or (integers and options["rescale"]),
        "val_fraction": options["val_fraction"],
        "split_seed": options["split_seed"] if taken else None,
        "dtype": options["dtype"],
        "compression": options["compression"],
        "chunk_rows": rows,
        "shard_rows": shard_rows if shard_rows < largest else None,
    }


# Statistics and scaling


@dataclass
class Statistics:
    """Of each group of pixels that shares them, float64, shaped to be used with (N, H, W, C)."""

    mean: Array
    std: Array
    minimum: Array
    maximum: Array


def is_integer(images: Array) -> bool:
    """Return whether raw pixels are integers; else they are floats."""
    return images.dtype.kind in "ui"


def unit_of(dtype: np.dtype[Any], rescale: bool) -> int:
    """Return what raw pixels are divided by."""
    return int(np.iinfo(dtype).max) if rescale else 1


def groups(images: Array, per: str) -> tuple[Array, tuple[int, ...]]:
    """Return the pixels of each group, one a row, and the shape that the groups form."""
    count, *shape = images.shape
    flat, form = {
        "dataset": (images.reshape(1, -1), (1,)),
        "channel": (images.reshape(-1, shape[-1]).T, (shape[-1],)),
        "pixel": (images.reshape(count, -1).T, tuple(shape)),
        "image": (images.reshape(count, -1), (count, 1, 1, 1)),
    }[per]
    return flat, form


def group_statistics(group: Array, unit: int) -> tuple[float, float, float, float]:
    """Mean, deviation, minimum and maximum of integers over `unit`: exact, then rounded."""
    pixels = [int(x) for x in group]
    n, total, squares = len(pixels), sum(pixels), sum(x * x for x in pixels)
    variance = Fraction(n * squares - total**2, (n * unit) ** 2)
    extremes = float(Fraction(min(pixels), unit)), float(Fraction(max(pixels), unit))
    return float(Fraction(total, n * unit)), math.sqrt(float(variance)), *extremes


@dataclass
class Part:
    """What is known of n floats of each group."""

    n: int
    mean: Array
    spread: Array

    def __add__(self, other: "Part") -> "Part":
        n = self.n + other.n
        g = other.mean - self.mean
        mean = self.mean + g * (other.n / n)
        spread = (self.spread + other.spread) + g * g * (self.n * other.n / n)
        return Part(n, mean, spread)


def block_sums(table: Array, per: str) -> Array:
    """Return the sum of each group, one a row."""
    if per == "pixel" and len(table) > 1:  # image after image
        total = table[:, 0]
        for column in table.T[1:]:
            total = total + column
        return total
    return np.array([np.sum(np.ascontiguousarray(group)) for group in table])


def block_part(images: Array, per: str) -> Part:
    """Return the floats of one block."""
    table = groups(images, per)[0].astype("f8")
    n = table.shape[1]
    m = block_sums(table, per) / n
    d = table - m[:, None]
    e = block_sums(d, per)
    return Part(n, m + e / n, np.maximum(block_sums(d * d, per) - e * e / n, 0.0))


def added(parts: list[Part]) -> Part:
    """Return the sum of neighbouring blocks, pairwise."""
    if len(parts) == 1:
        return parts[0]
    p = 1
    while p * 2 < len(parts):
        p *= 2
    return added(parts[:p]) + added(parts[p:])


def float_statistics(images: Array, per: str) -> Statistics:
    """Return the statistics of raw floats."""
    rows = len(images)
    if per != "image":
        rows = largest_power(images.nbytes // len(images), BLOCK_BYTES)
    found = added([block_part(block, per) for block in pieces(images, rows)])
    flat, form = groups(images.astype("f8"), per)
    std = np.sqrt(found.spread / found.n)
    columns = (found.mean, std, flat.min(axis=1), flat.max(axis=1))
    return Statistics(*(column.reshape(form) for column in columns))


def statistics(images: Array, per: str, unit: int) -> Statistics:
    """Return the statistics of raw images."""
    if not is_integer(images):
        return float_statistics(images, per)
    rows, form = groups(images, per)
    columns = zip(*(group_statistics(group, unit) for group in rows), strict=True)
    return Statistics(*(np.array(column, "f8").reshape(form) for column in columns))


def ranges(found: Statistics) -> tuple[Array, Array]:
    """Minimum, and maximum less minimum: what floats are normalized by."""
    return found.minimum, found.maximum - found.minimum


def shift_and_divisor(mode: str, found: Statistics, floats: bool) -> tuple[Array, Array]:
    """Return what is subtracted, and what is then divided by."""
    zero, one = np.zeros_like(found.mean), np.ones_like(found.mean)
    if mode == "normalize":
        shift, divisor = ranges(found) if floats else (zero, one)
    else:
        shift, divisor = found.mean, found.std if mode == "standardize" else one
    return shift, np.where(divisor == 0, 1.0, divisor)


def raw(stored: Array, unit: int, shift: Array, divisor: Array, dtype: str) -> Array:
    """Return the raw images of stored values."""
    x = (stored.astype("f8") * divisor + shift) * unit
    if np.dtype(dtype).kind == "f":
        return np.asarray(x.astype(dtype))
    limits = np.iinfo(dtype)
    values: Array = np.clip(np.rint(x), limits.min, limits.max).astype(dtype)
    return values


def first_batch(stored: Array) -> Json:
    """Return the figures of the first stored images, exact and then rounded to float64."""
    batch = stored[:64]
    values = [Fraction(float(y)) for y in batch.ravel()]
    mean = sum(values, Fraction(0)) / len(values)
    variance = sum(((y - mean) ** 2 for y in values), Fraction(0)) / len(values)
    return {
        "shape": list(batch.shape),
        "min": float(min(values)),
        "max": float(max(values)),
        "mean": float(mean),
        "std": math.sqrt(variance),
    }


# Random order


def philox(counter: list[int], keys: tuple[int, int]) -> tuple[int, int, int, int]:
    """Ten rounds of Philox4x64."""
    c0, c1, c2, c3 = counter
    k0, k1 = keys
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (b >> 64) ^ c1 ^ k0, b & WORD, (a >> 64) ^ c3 ^ k1, a & WORD
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & WORD, (k1 + 0xBB67AE8584CAA73B) & WORD
    return c0, c1, c2, c3


def random_words(seed: int, epoch: int, purpose: int, index: int) -> Iterator[int]:
    """Yield the raw outputs of the generator, without end."""
    start = index << 128 | purpose << 192
    for block in itertools.count(start + 1):
        yield from philox([block >> 64 * i & WORD for i in range(4)], (seed, epoch))


def permutation(n: int, seed: int, epoch: int, purpose: int, index: int) -> list[int]:
    """Return the numbers 0 … n−1 in a random order."""
    words = list(itertools.islice(random_words(seed, epoch, purpose, index), n))
    return sorted(range(n), key=words.__getitem__)


def class_shares(sizes: list[int], fraction: float) -> list[int]:
    """Return how many rows of each class are taken for the validation split."""
    f = Fraction(repr(fraction))
    shares = [math.floor(f * m) for m in sizes]
    missing = math.floor(f * sum(sizes) + Fraction(1, 2)) - sum(shares)
    rest = [f * m - share for m, share in zip(sizes, shares, strict=True)]
    for c in sorted(range(len(sizes)), key=lambda c: (-rest[c], c))[:missing]:
        shares[c] += 1
    return shares


def taken_rows(labels: Array, classes: int, fraction: float, seed: int, purpose: int) -> list[int]:
    """Return the rows taken of every class, in the order they had."""
    rows = [np.flatnonzero(labels == c).tolist() for c in range(classes)]
    taken: list[int] = []
    for c, share in enumerate(class_shares([len(of) for of in rows], fraction)):
        order = permutation(len(rows[c]), seed, 0, purpose, c)
        taken += [rows[c][i] for i in order[:share]]
    return sorted(taken)


def validation_rows(source: Source, fraction: float, seed: int) -> list[int]:
    """Return the rows taken for the validation split, in the order they had."""
    return taken_rows(source.train[1], len(source.class_names), fraction, seed, 3)


def with_test(labels: Array, classes: int, fraction: float, seed: int) -> tuple[Array, Array]:
    """Return the rows that stay in train, and those taken for a test split, each in their order."""
    taken = taken_rows(labels, classes, fraction, seed, 5)
    return np.setdiff1d(np.arange(len(labels)), taken), np.array(taken)


def mixed(rows: Array, index: int) -> Array:
    """Return rows that come sorted by class in the order in which they are stored."""
    return rows[permutation(len(rows), 0, 0, 4, index)]


def runs(files: list[int], run_rows: int) -> list[range]:
    """Return the rows of each run of a split, through all its files."""
    found: list[range] = []
    for start, rows in zip(itertools.accumulate([0, *files]), files, strict=False):
        stop = start + rows
        found += [range(at, min(at + run_rows, stop)) for at in range(start, stop, run_rows)]
    return found


def epoch_order(
    files: list[int], run_rows: int, seed: int, epoch: int, shard: tuple[int, int] = (0, 1)
) -> list[int]:
    """Return the rows of a shuffled epoch, or of a shard of it."""
    index, count = shard
    every = runs(files, run_rows)
    visits = permutation(len(every), seed, epoch, 1, 0)[index::count]
    windows = -(-len(visits) // WINDOW)
    in_file = sorted(visits)
    parts = [in_file[at : at + windows] for at in range(0, len(visits), windows or 1)]
    order: list[int] = []
    for window in range(windows):
        chosen = [[run for run in visits if run in part][window : window + 1] for part in parts]
        rows = [row for one in chosen for run in one for row in every[run]]
        mixed = permutation(len(rows), seed, epoch, 2, window * count + index)
        order += [rows[i] for i in mixed]
    return order


# A whole entry from its raw data


def divided(source: Source, recipe: Json) -> dict[str, tuple[Array, Array]]:
    """Return the raw images and labels of each stored split."""
    images, labels = source.train
    taken = validation_rows(source, recipe["val_fraction"], recipe["split_seed"] or 0)
    stay = [row for row in range(len(images)) if row not in set(taken)]
    splits = {"train": (images[stay], labels[stay]), "test": source.test}
    return splits | ({"val": (images[taken], labels[taken])} if taken else {})


def scale_split(raw: tuple[Array, Array], found: Statistics, recipe: Json) -> Split:
    """Return what is stored of one split."""
    images, labels = raw
    unit = unit_of(images.dtype, recipe["rescale"])
    floats = not is_integer(images)
    shift, divisor = shift_and_divisor(recipe["mode"], found, floats)
    x = images.astype("f8") / unit
    stored = ((x - shift) / divisor).astype(recipe["dtype"])
    if recipe["per"] != "image":
        return Split(stored, labels.astype("<i8"), None, None)
    kept = (found.mean, found.std)
    if floats and recipe["mode"] == "normalize":
        kept = ranges(found)
    return Split(stored, labels.astype("<i8"), kept[0].ravel(), kept[1].ravel())


def stored_splits(source: Source, recipe: Json) -> dict[str, Split]:
    """Return what an entry of this recipe must hold."""
    raws = divided(source, recipe)
    per, unit = recipe["per"], unit_of(source.train[0].dtype, recipe["rescale"])
    shared = statistics(raws["train"][0], per, unit)
    return {
        name: scale_split(raw, statistics(raw[0], per, unit) if per == "image" else shared, recipe)
        for name, raw in raws.items()
    }


def scaling_record(train: Array, recipe: Json) -> Json:
    """Return the manifest's `scaling`."""
    unit = unit_of(train.dtype, recipe["rescale"])
    names = ("mean", "std", "minimum", "maximum", "scale", "offset")
    record: Json = {"unit": unit, "raw_dtype": train.dtype.name}
    if recipe["per"] == "image":
        return record | {name: [] for name in names}
    found = statistics(train, recipe["per"], unit)
    floats = not is_integer(train)
    shift, divisor = shift_and_divisor(recipe["mode"], found, floats)
    affine = (1.0 / (unit * divisor), -shift / divisor)
    arrays = (found.mean, found.std, found.minimum, found.maximum, *affine)
    return record | {name: array.tolist() for name, array in zip(names, arrays, strict=True)}


def check_sums(found: Json, train: Array) -> None:
    """Check that the manifest's `statistics` are exact for integers, near for floats."""
    need(found.keys() == {"count", "sum", "sum_of_squares"}, "statistics")
    need(found["count"] == train.size, "count")
    if is_integer(train):
        pixels = [int(x) for x in train.ravel()]
        need(found["sum"] == sum(pixels), "sum")
        need(found["sum_of_squares"] == sum(x * x for x in pixels), "sum of squares")
        return
    x = train.ravel().astype("f8")
    for name, terms in (("sum", x), ("sum_of_squares", x * x)):
        lost = abs(found[name] - math.fsum(terms))
        need(lost <= 1e-13 * math.fsum(abs(terms)), f"{name}: {lost}")


def same(found: Array | None, wanted: Array | None) -> bool:
    """Return whether two arrays are equal in type, shape and every bit."""
    if found is None or wanted is None:
        return found is wanted
    kind = found.dtype == wanted.dtype and found.shape == wanted.shape
    return kind and found.tobytes() == wanted.tobytes()


def check_split(name: str, found: Split, wanted: Split) -> None:
    """Check that a split holds what it must, to the last bit."""
    for column, a, b in zip(Split._fields, found, wanted, strict=True):
        need(same(a, b), f"{column} of {name}")


def check_record(record: Json, raw: Array, split: Split, name: str) -> None:
    """Check what the manifest says of a split."""
    limits = {"minimum": raw.min().item(), "maximum": raw.max().item()}
    need(record["raw"] == limits, f"raw {name}")
    figures, wanted = record["first_batch"], first_batch(split.images)
    need(figures.keys() == wanted.keys(), f"first batch of {name}")
    need(figures["shape"] == wanted["shape"], f"first batch of {name}")
    for key in ("min", "max"):
        need(figures[key] == wanted[key], f"{key} of the first batch of {name}")
    for key in ("mean", "std"):  # the order of their sums is left open
        near = math.isclose(figures[key], wanted[key], rel_tol=1e-12, abs_tol=1e-12)
        need(near, f"{key} of the first batch of {name}")


FIELDS = {
    *("format", "format_version", "dataset", "mode", "per", "key", "recipe", "provenance"),
    *("source", "scaling", "statistics", "splits"),
}


def check_manifest(manifest: Json, source: Source) -> None:
    """Check that all but the splits in the manifest follows from raw data and recipe."""
    recipe = manifest["recipe"]
    train = divided(source, recipe)["train"][0]
    need(manifest.keys() == FIELDS, "fields of the manifest")
    need(manifest["source"] == source.about, "source")
    need(manifest["scaling"] == scaling_record(train, recipe), "scaling")
    check_sums(manifest["statistics"], train)


def check_entry(folder: Path, source: Source) -> Entry:
    """Check all that the format says of an entry made of this raw data; return the entry."""
    manifest = read_manifest(folder)
    recipe = manifest["recipe"]
    entry = Entry(
        manifest, {name: read_split(folder, manifest, name) for name in manifest["splits"]}
    )
    need(folder.name == f"{recipe['mode']}-{manifest['key']}", "name of the folder")
    listed = [file["name"] for split in manifest["splits"].values() for file in split["files"]]
    present = sorted(path.name for path in folder.iterdir())
    need(present == sorted([*listed, "manifest.json", "manifest.sha256"]), "files of the folder")
    check_manifest(manifest, source)
    raws, wanted = divided(source, recipe), stored_splits(source, recipe)
    need(entry.splits.keys() == wanted.keys(), "splits")
    for name, split in wanted.items():
        check_split(name, entry.splits[name], split)
        record = manifest["splits"][name]
        check_record(record, raws[name][0], split, name)
        for file in record["files"]:
            with h5py.File(folder / file["name"], "r") as opened:
                check_attributes(opened, manifest, name)
    return entry
