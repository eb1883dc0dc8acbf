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

from tests.helpers.second_reader import (
    Json,
    canonical,
    columns,
    need,
    read_manifest,
    source_of,
)

Array = NDArray[Any]

MIB = 1 << 20
DIGEST_BYTES, BLOCK_BYTES = 64 * MIB, 4 * MIB  # of raw pixels
WORD = (1 << 64) - 1
WINDOW = 32  # runs
FILTERS = {"lzf": 32000, "lz4": 32004, "zstd": 32015}  # which the second reader does not read
MODES = ("normalize", "center", "standardize")
TO_COME = ("channel_order", "constants", "limits", "target_range", "quantiles", "clip")  # modes


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


def label_bytes(labels: Array) -> bytes:
    """Return labels as they are stored: one a row in int64, several in uint8."""
    return labels.astype("<i8" if labels.ndim == 1 else "u1").tobytes()


def split_source(images: Array, labels: Array, names: list[str] | None) -> Json:
    """Return what the source digest covers of one split; the images are (N, H, W, C)."""
    encoded = None if names is None else [name.encode() for name in names]
    return {
        "dtype": images.dtype.name,
        "shape": list(images.shape),
        "images": images_digest(images),
        "labels": digest(label_bytes(labels)),
        "names": encoded and digest(b"".join(name + b"\0" for name in encoded)),
        "name_bytes": encoded and max(map(len, encoded)),
    }


# Reading an entry


class Split(NamedTuple):
    """One split, its files joined."""

    images: Array
    labels: Array
    mean: Array | None  # of each image, only where `per` is `image`
    std: Array | None
    names: list[bytes] | None = None


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
    source = source_of(manifest, name)
    dtype = source["dtype"] if manifest["recipe"]["storage"] == "raw" else about["dtype"]
    images = np.frombuffer(found["images"], dtype).reshape(about["shape"])
    several = manifest["source"]["task"] == "multilabel"
    labels = np.frombuffer(found["labels"], "u1" if several else "<i8")
    mean, std = (np.frombuffer(found[n], "<f8") if n in found else None for n in ("mean", "std"))
    names = None
    if size := source["name_bytes"]:
        cut = [found["names"][at : at + size] for at in range(0, size * len(images), size)]
        names = [name.rstrip(b"\0") for name in cut]
    return Split(images, labels.reshape(len(images), -1) if several else labels, mean, std, names)


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
    wanted = {name: manifest[name] for name in ("format", "format_version", "mode")}
    wanted |= {"split": split, "unit": scaling["unit"]}
    class_names = canonical(manifest["source"]["class_names"])
    if len(class_names) <= 32_768:
        wanted["class_names"] = class_names.decode()
    if manifest["per"] != "image" and np.size(scaling["mean"]) <= 4096:
        names = ("mean", "std", "minimum", "maximum")
        fitted = Statistics(*(np.array(scaling[name]) for name in names))
        floats = np.dtype(scaling["raw_dtype"]).kind == "f"
        shift, divisor = shift_and_divisor(manifest["mode"], fitted, floats)
        wanted |= {"shift": shift.tolist(), "divisor": divisor.tolist()}
    for name in file.attrs:
        check_attribute(file, name)
    found = {name: plain(value) for name, value in file.attrs.items()}
    need(found == wanted and len(found) <= 8, f"attributes {found}, not {wanted}")


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
    """Raw data: images (N, H, W, C) and labels of each split, and maybe names of its rows."""

    train: tuple[Array, Array]
    test: tuple[Array, Array] | None
    class_names: list[str]
    decode: Json = field(default_factory=dict)
    val: tuple[Array, Array] | None = None
    task: str = "classification"
    names: dict[str, list[str]] = field(default_factory=dict)

    @property
    def splits(self) -> dict[str, tuple[Array, Array]]:
        """Those that there are."""
        every = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in every.items() if split is not None}

    @property
    def about(self) -> Json:
        """The manifest's `source`."""
        splits = {
            name: split_source(*split, self.names.get(name)) for name, split in self.splits.items()
        }
        about = {"splits": splits, "task": self.task, "class_names": list(self.class_names)}
        about["decode"] = self.decode
        return {"digest": digest(canonical(about)), **about}


def recipe_of(source: Source, options: Json) -> Json:
    """Return the recipe that options mean, what has no effect being fixed."""
    images = source.train[0]
    rows, most = layout(images.shape[1:], np.dtype(options["dtype"]).itemsize)
    fractions = {
        f"{n}_fraction": 0.0 if n in source.splits else options.get(f"{n}_fraction", 0.0)
        for n in ("val", "test")
    }
    rows_of = rows_of_splits(source, fractions, options["split_seed"])
    largest = max(map(len, rows_of.values()))
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
        "splits": {n: "source" if n in source.splits else "train" for n in rows_of},
        **fractions,
        "split_seed": options["split_seed"] if any(fractions.values()) else None,
        "dtype": options["dtype"],
        "storage": options.get("storage", "scaled"),
        **dict.fromkeys(TO_COME),
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
    return np.array([page_sum(group.tolist()) for group in table])


def page_sum(x: list[float]) -> float:
    """Return the sum that the page calls P."""
    n = len(x)
    if n > 128:
        m = n // 2 - n // 2 % 8
        return page_sum(x[:m]) + page_sum(x[m:])
    whole, total = n - n % 8 if n >= 8 else 0, 0.0
    if whole:
        r = [sum(x[j + 8 : whole : 8], x[j]) for j in range(8)]
        total = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]))
    for number in x[whole:]:
        total += number
    return total


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


def float_parts(images: Array, per: str) -> Part:
    """Return what is known of all floats."""
    rows = len(images)
    if per != "image":
        rows = largest_power(images.nbytes // len(images), BLOCK_BYTES)
    return added([block_part(block, per) for block in pieces(images, rows)])


def float_statistics(images: Array, per: str) -> Statistics:
    """Return the statistics of raw floats."""
    found = float_parts(images, per)
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
    order = sorted(range(len(sizes)), key=lambda c: (-rest[c], c))
    for c in itertools.islice(itertools.cycle(order), len(sizes) * (sum(sizes) + 1)):
        if missing and sizes[c] - shares[c] > 1:
            shares[c], missing = shares[c] + 1, missing - 1
    for c in order:  # no class has two rows left
        if missing and sizes[c] > shares[c]:
            shares[c], missing = shares[c] + 1, missing - 1
    return shares


def taken_rows(labels: Array, classes: int, fraction: float, seed: int, purpose: int) -> list[int]:
    """Return the rows taken of every class, in the order they had."""
    rows = [np.flatnonzero(labels == c).tolist() for c in range(classes)]
    taken: list[int] = []
    for c, share in enumerate(class_shares([len(of) for of in rows], fraction)):
        order = permutation(len(rows[c]), seed, 0, purpose, c)
        taken += [rows[c][i] for i in order[:share]]
    return sorted(taken)


def rows_of_splits(source: Source, fractions: Json, seed: int) -> dict[str, list[int]]:
    """Return the rows of each stored split: of the source's, or of its train if it was taken."""
    rows = {name: list(range(len(split[0]))) for name, split in source.splits.items()}
    labels = source.train[1]
    labels = labels if labels.ndim == 1 else np.zeros(len(labels), int)
    for name, purpose in (("test", 5), ("val", 3)):
        if fraction := fractions[f"{name}_fraction"]:
            left = rows["train"]
            taken = taken_rows(labels[left], len(source.class_names), fraction, seed, purpose)
            rows[name] = [left[i] for i in taken]
            rows["train"] = [row for row in left if row not in set(rows[name])]
    return {name: rows[name] for name in ("train", "val", "test") if name in rows}


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


def shard_of(rows: int, shard: tuple[int, int], even: str | None) -> list[int]:
    """Return the numbers of a shard's rows in the order of an epoch."""
    index, count = shard
    if even is None:
        return list(range(rows * index // count, rows * (index + 1) // count))
    q = rows // count if even == "drop" else math.ceil(Fraction(rows, count))
    return [(index * q + i) % rows for i in range(q)]


def epoch_order(
    files: list[int],
    run_rows: int,
    seed: int,
    epoch: int,
    shard: tuple[int, int] = (0, 1),
    even: str | None = None,
) -> list[int]:
    """Return the rows of a shuffled epoch, or of a shard of it."""
    index, count = shard
    every = runs(files, run_rows)
    order = permutation(len(every), seed, epoch, 1, 0)
    numbered = [(run, row) for run in order for row in every[run]]
    mine = [numbered[i] for i in shard_of(len(numbered), shard, even)]
    visits: list[list[int]] = []  # the rows of each run that the shard has something of
    for i, (run, row) in enumerate(mine):
        if not i or run != mine[i - 1][0] or row != mine[i - 1][1] + 1:
            visits.append([])
        visits[-1].append(row)
    windows = -(-len(visits) // WINDOW)
    in_file = sorted(visits)
    parts = [in_file[at : at + windows] for at in range(0, len(visits), windows or 1)]
    found: list[int] = []
    for window in range(windows):
        chosen = [[run for run in visits if run in part][window : window + 1] for part in parts]
        rows = [row for one in chosen for run in one for row in run]
        mixed = permutation(len(rows), seed, epoch, 2, window * count + index)
        found += [rows[i] for i in mixed]
    return found


def balanced_order(labels: list[int], seed: int, epoch: int) -> list[int]:
    """Return the rows of a balanced epoch."""
    rows_of = {label: [i for i, x in enumerate(labels) if x == label] for label in set(labels)}
    most = max(map(len, rows_of.values()))
    times: dict[int, int] = {}
    for label, rows in rows_of.items():
        whole, more = divmod(most, len(rows))
        once_more = permutation(len(rows), seed, epoch, 6, label)[:more]
        times |= {row: whole + (i in once_more) for i, row in enumerate(rows)}
    every = [row for row in range(len(labels)) for _ in range(times[row])]
    return [every[i] for i in permutation(len(every), seed, epoch, 7, 0)]


# A whole entry from its raw data


def divided(source: Source, recipe: Json) -> dict[str, Split]:
    """Return the raw images, labels and names of each stored split."""
    found = {}
    for name, rows in rows_of_splits(source, recipe, recipe["split_seed"] or 0).items():
        origin = name if name in source.splits else "train"
        images, labels = source.splits[origin]
        names = source.names.get(origin)
        kept = None if names is None else [names[row].encode() for row in rows]
        labels = labels.astype("<i8" if labels.ndim == 1 else "u1")
        found[name] = Split(images[rows], labels[rows], None, None, kept)
    return found


def scale_split(raw: Split, found: Statistics, recipe: Json) -> Split:
    """Return one split, its images as they are delivered."""
    images = raw.images
    unit = unit_of(images.dtype, recipe["rescale"])
    floats = not is_integer(images)
    shift, divisor = shift_and_divisor(recipe["mode"], found, floats)
    x = images.astype("f8") / unit
    scaled = raw._replace(images=((x - shift) / divisor).astype(recipe["dtype"]))
    if recipe["per"] != "image":
        return scaled
    kept = (found.mean, found.std)
    if floats and recipe["mode"] == "normalize":
        kept = ranges(found)
    return scaled._replace(mean=kept[0].ravel(), std=kept[1].ravel())


def stored_splits(source: Source, recipe: Json) -> dict[str, Split]:
    """Return what an entry of this recipe must deliver."""
    raws = divided(source, recipe)
    per, unit = recipe["per"], unit_of(source.train[0].dtype, recipe["rescale"])
    shared = statistics(raws["train"].images, per, unit)
    own = {name: statistics(raw.images, per, unit) for name, raw in raws.items() if per == "image"}
    return {name: scale_split(raw, own.get(name, shared), recipe) for name, raw in raws.items()}


def scaling_record(train: Array, recipe: Json) -> Json:
    """Return the manifest's `scaling`."""
    unit = unit_of(train.dtype, recipe["rescale"])
    names = ("mean", "std", "minimum", "maximum", "scale", "offset")
    record: Json = {"unit": unit, "raw_dtype": train.dtype.name, "quantiles": None}
    if recipe["per"] == "image":
        return record | {name: [] for name in names}
    found = statistics(train, recipe["per"], unit)
    floats = not is_integer(train)
    shift, divisor = shift_and_divisor(recipe["mode"], found, floats)
    affine = (1.0 / (unit * divisor), -shift / divisor)
    arrays = (found.mean, found.std, found.minimum, found.maximum, *affine)
    return record | {name: array.tolist() for name, array in zip(names, arrays, strict=True)}


def check_sums(found: Json, train: Array, per: str) -> None:
    """Check the manifest's `statistics`."""
    need(found.keys() == {"count", "sum", "sum_of_squares"}, "statistics")
    need(found["count"] == train.size, "count")
    if is_integer(train):
        pixels = [int(x) for x in train.ravel()]
        need(found["sum"] == sum(pixels), "sum")
        need(found["sum_of_squares"] == sum(x * x for x in pixels), "sum of squares")
        return
    part = float_parts(train, per)
    terms = part.n * part.mean, part.spread + part.n * part.mean * part.mean
    for name, values in zip(("sum", "sum_of_squares"), terms, strict=True):
        need(found[name] == math.fsum(values.ravel()), f"{name}: {found[name]}")


def same(found: Array | None, wanted: Array | None) -> bool:
    """Return whether two arrays are equal in type, shape and every bit."""
    if found is None or wanted is None:
        return found is wanted
    kind = found.dtype == wanted.dtype and found.shape == wanted.shape
    return kind and found.tobytes() == wanted.tobytes()


def check_split(name: str, found: Split, wanted: Split) -> None:
    """Check that a split holds what it must, to the last bit."""
    for column, a, b in zip(Split._fields[:4], found[:4], wanted[:4], strict=True):
        need(same(a, b), f"{column} of {name}")
    need(found.names == wanted.names, f"names of {name}")


def check_record(record: Json, raw: Array, split: Split, name: str, classes: int) -> None:
    """Check what the manifest says of a split."""
    several = split.labels.ndim > 1
    counts = [
        int((split.labels[:, c] if several else split.labels == c).sum()) for c in range(classes)
    ]
    need(record["class_counts"] == counts, f"class counts of {name}")
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
    train = divided(source, recipe)["train"].images
    need(manifest.keys() == FIELDS, "fields of the manifest")
    need(manifest["source"] == source.about, "source")
    need(manifest["scaling"] == scaling_record(train, recipe), "scaling")
    # With statistics of each image, the sums are those of all pixels.
    check_sums(manifest["statistics"], train, recipe["per"].replace("image", "dataset"))


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
        is_raw = recipe["storage"] == "raw"
        stored = split._replace(images=raws[name].images) if is_raw else split
        check_split(name, entry.splits[name], stored)
        record = manifest["splits"][name]
        check_record(record, raws[name].images, split, name, len(source.class_names))
        for file in record["files"]:
            with h5py.File(folder / file["name"], "r") as opened:
                check_attributes(opened, manifest, name)
    return entry
