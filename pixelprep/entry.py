"""A published cache entry: opened, checked, read."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixelprep import files
from pixelprep.batches import Batches, Plan
from pixelprep.errors import AGAIN, EntryError, UsageError, missing_extra
from pixelprep.recipe import key_of
from pixelprep.scaling import Scaling, Statistics
from pixelprep.store import layout, reading

if TYPE_CHECKING:
    import tensorflow as tf
    from torch import Tensor
    from torch.utils.data import IterableDataset

    from pixelprep.feeds.jax import Feed as JaxFeed

SPLITS = ("train", "val", "test")
MANIFEST, DIGEST = "manifest.json", "manifest.sha256"
FILE_NAME = re.compile(r"(train|val|test)(-[0-9]{5,}-of-[0-9]{5,})?\.h5")


@dataclass(frozen=True)
class Split:
    """One split of an entry: an ordered list of HDF5 files, read row by row.

    Parameters
    ----------
    name : str
        train, val or test.
    shape : tuple of int
        (N, H, W, C) of the stored images.
    dtype : dtype
        Of the stored images: float32 or float16.
    parts : tuple of Part
        The files in order.
    run_rows : int
        Neighbouring rows that a pass reads at once.
    per_image : bool
        Whether each image's own mean and deviation are stored.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    parts: tuple[reading.Part, ...]
    run_rows: int
    per_image: bool = False

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, start: int, stop: int, name: str = "images") -> NDArray[Any]:
        """Rows `start` to `stop` of one column, across the files.

        Parameters
        ----------
        start, stop : int
            0 ≤ start ≤ stop ≤ N.
        name : str
            ``images`` (stored type, (n, H, W, C)), ``labels`` (int64, (n,)) or, per image,
            ``mean`` or ``std`` (float64, (n,)).

        Raises
        ------
        UsageError
            When there is no such column, or there are no such rows.
        EntryError
            When a file is damaged.
        """
        columns = self._columns()
        if name not in columns:
            raise UsageError(f"{self.name} has no '{name}': expected one of {', '.join(columns)}")
        if not 0 <= start <= stop <= len(self):
            raise UsageError(f"rows {start} to {stop}: expected 0 to {len(self)}, in this order")
        shape, dtype = columns[name]
        out, first = np.empty((stop - start, *shape), dtype), 0
        with reading.opening() as opened:
            for part in self.parts:
                begin, end = max(start - first, 0), min(stop - first, part.rows)
                if begin < end:
                    rows = slice(begin + first - start, end + first - start)
                    opened.read(part, [(begin, end - begin)], **{name: out[rows]})
                first += part.rows
        return out

    def _columns(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """What is stored of each row: shape and type."""
        number, statistic = np.dtype(np.int64), np.dtype(np.float64)
        own = {"mean": ((), statistic), "std": ((), statistic)} if self.per_image else {}
        return {"images": (self.shape[1:], self.dtype), "labels": ((), number), **own}

    @property
    def labels(self) -> NDArray[np.int64]:
        """All labels, int64 (N,)."""
        return self.read(0, len(self), "labels")

    @property
    def mean(self) -> NDArray[np.float64]:
        """Per image only: each image's own mean, float64 (N,)."""
        return self.read(0, len(self), "mean")

    @property
    def std(self) -> NDArray[np.float64]:
        """Per image only: each image's own deviation, float64 (N,)."""
        return self.read(0, len(self), "std")

    def to_numpy(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """All images (N, H, W, C) and labels (N,), in memory, in file order."""
        return self.read(0, len(self)), self.labels

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        drop_last: bool = False,
        shard: tuple[int, int] = (0, 1),
    ) -> Batches:
        """One epoch of (images, labels), streamed.

        Parameters
        ----------
        batch_size : int
            Rows a batch, at least 1.
        shuffle : bool
            Mixed by (seed, epoch); otherwise in file order.
        seed, epoch : int
            0 to 2**64 − 1. Equal values give equal batches on any machine.
        drop_last : bool
            Leave out a last batch of fewer rows.
        shard : tuple of int
            (index, count): this of so many disjoint parts, which together are every row once.

        Returns
        -------
        Batches
            With a length; images of the stored type (n, H, W, C), labels int64 (n,). Its
            iterator has ``state()``, and `Batches.resume` goes on from there.

        Examples
        --------
        >>> import pixelprep
        >>> train = pixelprep.prepare("sample", quiet=True).train
        >>> for images, labels in train.batches(64, shuffle=True, seed=0, epoch=0):
        ...     assert images.shape[1:] == (28, 28, 1) and len(images) == len(labels)
        """
        return self._batches(Plan(batch_size, shuffle, seed, epoch, drop_last, shard))

    def _batches(self, plan: Plan) -> Batches:
        return Batches(self.parts, self.run_rows, self.shape[1:], self.dtype, plan)

    def to_tf(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        drop_last: bool = False,
    ) -> "tf.data.Dataset":
        """A ``tf.data.Dataset`` of the batches of `batches`; each pass is the next epoch.

        Raises
        ------
        MissingExtraError
            When TensorFlow is not installed.
        """
        with _needs("TensorFlow", "train"):
            from pixelprep.feeds.tensorflow import feed
        return feed(self._batches(Plan(batch_size, shuffle, seed, epoch, drop_last)))

    def to_torch(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        drop_last: bool = False,
        shard: tuple[int, int] = (0, 1),
    ) -> "IterableDataset[tuple[Tensor, Tensor]]":
        """An ``IterableDataset`` of whole batches; each pass is the next epoch.

        Use it as ``DataLoader(feed, batch_size=None, num_workers=2)``. Workers share an epoch's
        rows among them, after fork and after spawn; `shard` does the same for processes.

        Raises
        ------
        MissingExtraError
            When PyTorch is not installed.
        """
        with _needs("PyTorch", "torch"):
            from pixelprep.feeds.torch import Feed
        return Feed(self._batches(Plan(batch_size, shuffle, seed, epoch, drop_last, shard)))

    def to_jax(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        drop_last: bool = False,
        shard: tuple[int, int] = (0, 1),
        device: Any = None,
    ) -> "JaxFeed":
        """Batches as JAX arrays on `device` (default: JAX's); each pass is the next epoch.

        Raises
        ------
        MissingExtraError
            When JAX is not installed.
        """
        with _needs("JAX", "jax"):
            from pixelprep.feeds.jax import Feed
        plan = Plan(batch_size, shuffle, seed, epoch, drop_last, shard)
        return Feed(self._batches(plan), device)


@contextmanager
def _needs(package: str, extra: str) -> Iterator[None]:
    """Name the extra where a framework is not installed."""
    try:
        yield
    except ImportError as error:
        raise missing_extra(package, extra, "this feed") from error


@dataclass(frozen=True)
class Entry:
    """One prepared dataset.

    Parameters
    ----------
    path : Path
        The entry's folder.
    manifest : dict
        Its manifest (data/FORMAT.md).
    states : dict
        By file name, the `files.state` in which it was found right; a file that leaves it is not
        read.
    hit : bool
        Whether nothing had to be done to have it.
    """

    path: Path
    manifest: dict[str, Any] = field(repr=False)
    states: dict[str, tuple[int, ...]] = field(repr=False, compare=False)
    hit: bool = field(default=True, compare=False)

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return str(self.manifest["dataset"])

    @property
    def mode(self) -> str:
        """The scaling's mode."""
        return str(self.manifest["mode"])

    @property
    def per(self) -> str:
        """Over what one statistic is shared."""
        return str(self.manifest["per"])

    @property
    def key(self) -> str:
        """The first 12 hex digits of the recipe's digest."""
        return str(self.manifest["key"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the labels 0, 1, … stand for."""
        return tuple(self.manifest["source"]["class_names"])

    @property
    def size(self) -> int:
        """Bytes of the HDF5 files."""
        return sum(int(split["bytes"]) for split in self.manifest["splits"].values())

    @cached_property
    def scaling(self) -> Scaling:
        """The fitted scaling, with `Scaling.apply` and `Scaling.invert`."""
        return scaling_of(self.manifest["scaling"], self.mode, self.per)

    @cached_property
    def splits(self) -> dict[str, Split]:
        """The splits by name: train, val where there is one, test."""
        stored, recipe = self.manifest["splits"], self.manifest["recipe"]
        present = [name for name in SPLITS if name in stored]
        return {
            name: split_of(self.path, name, stored[name], recipe, self.states) for name in present
        }

    @property
    def train(self) -> Split:
        """The training split."""
        return self.splits["train"]

    @property
    def val(self) -> Split | None:
        """The validation split; None where the recipe has none."""
        return self.splits.get("val")

    @property
    def test(self) -> Split:
        """The test split."""
        return self.splits["test"]


def scaling_of(record: Mapping[str, Any], mode: str, per: str) -> Scaling:
    """The scaling as the manifest holds it."""
    fitted = None
    if per != "image":
        names = ("mean", "std", "minimum", "maximum")
        fitted = Statistics(*(np.array(record[name], np.float64) for name in names))
    return Scaling(mode, per, record["unit"], record["raw_dtype"], fitted)


def split_of(
    path: Path,
    name: str,
    record: Mapping[str, Any],
    recipe: Mapping[str, Any],
    states: Mapping[str, tuple[int, ...]],
) -> Split:
    """A split as the manifest holds it."""
    return Split(
        name,
        tuple(record["shape"]),
        np.dtype(record["dtype"]),
        tuple(
            reading.Part(path / file["name"], file["rows"], file["sha256"], states[file["name"]])
            for file in record["files"]
        ),
        layout.run_rows(recipe["chunk_rows"], recipe["compression"]),
        recipe["per"] == "image",
    )


def read_manifest(path: Path) -> dict[str, Any]:
    """An entry's manifest, once its digest is known to be right.

    Raises
    ------
    EntryError
        When there is none, it was changed, or it is of a newer format.
    """
    try:
        content = (path / MANIFEST).read_bytes()
        expected = (path / DIGEST).read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise EntryError(f"{path}: not an entry: cannot read {error.filename}: {reason}") from error
    if digest_line(content) != expected:
        raise EntryError(f"{path / MANIFEST}: differs from its digest in {DIGEST}", AGAIN)
    try:
        manifest = json.loads(content)
        if (manifest["format"], manifest["format_version"]) != (
            layout.FORMAT,
            layout.FORMAT_VERSION,
        ):
            raise EntryError(
                f"{path}: format {manifest['format']} version {manifest['format_version']},"
                f" this reads {layout.FORMAT} version {layout.FORMAT_VERSION}",
                "install a newer pixelprep",
            )
        _check_manifest(path, manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EntryError(f"{path / MANIFEST}: not a manifest: {error!r}", AGAIN) from error
    return dict(manifest)


def _check_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    recipe = manifest["recipe"]
    if manifest["key"] != key_of(recipe):
        raise EntryError(f"{path}: the key {manifest['key']} is not its recipe's", AGAIN)
    if (manifest["mode"], manifest["per"]) != (recipe["mode"], recipe["per"]):
        raise EntryError(f"{path}: the mode or per is not its recipe's", AGAIN)
    scaling_of(manifest["scaling"], manifest["mode"], manifest["per"])
    _check_fields(path, manifest, "dataset", "provenance", "statistics")
    _check_fields(path, manifest["source"], "class_names")
    if not {"train", "test"} <= set(manifest["splits"]) <= set(SPLITS):
        raise EntryError(f"{path}: the splits are {sorted(manifest['splits'])}", AGAIN)
    for name, split in manifest["splits"].items():
        _check_fields(path, split, "first_batch", "raw", "bytes", "dtype")
        rows = sum(file["rows"] for file in split["files"])
        names = [file["name"] for file in split["files"]]
        if rows != split["rows"] or split["shape"][0] != rows:
            raise EntryError(f"{path}: {name}: the files' rows do not add up", AGAIN)
        if not all(FILE_NAME.fullmatch(n) and n.startswith(name) for n in names):
            raise EntryError(f"{path}: {name}: not a file's name in {names}", AGAIN)


def _check_fields(path: Path, record: Mapping[str, Any], *names: str) -> None:
    """Refuse a part of a manifest that lacks what is read from it later."""
    if missing := [name for name in names if name not in record]:
        raise EntryError(f"{path / MANIFEST}: lacks {', '.join(missing)}", AGAIN)


def digest_line(manifest: bytes) -> bytes:
    """What ``manifest.sha256`` holds; ``sha256sum --check`` reads it."""
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()


def open_entry(path: Path, cache: Path | None = None) -> Entry:
    """Open and check the entry in this folder.

    Every file is hashed before libhdf5 reads it; below `cache` only if its inode, size or time
    differ from when it was last found right.

    Raises
    ------
    EntryError
        When anything is missing, damaged, or not as the format has it.
    MissingExtraError
        When its compression needs a package that is not installed.
    """
    manifest = read_manifest(path)
    layout.check_compression(manifest["recipe"]["compression"])
    trusted = _trust_file(path, cache)
    known = (files.recall(trusted) or {}) if trusted else {}
    seen = {}
    for name, split in manifest["splits"].items():
        for file in split["files"]:
            state = [*_stat(path / file["name"], file["bytes"]), file["sha256"]]
            if known.get(file["name"]) != state:
                _check_file(path / file["name"], file, name, manifest)
            seen[file["name"]] = state
    if trusted:
        _touch(trusted) if seen == known else files.remember(trusted, seen)
    return Entry(path, manifest, {name: tuple(state[:-1]) for name, state in seen.items()})


def trust(path: Path, cache: Path, manifest: Mapping[str, Any]) -> None:
    """Remember that the files of a just published entry are right: they were hashed as written."""
    trusted = _trust_file(path, cache)
    if trusted:
        listed = [file for split in manifest["splits"].values() for file in split["files"]]
        seen = {f["name"]: [*_stat(path / f["name"], f["bytes"]), f["sha256"]] for f in listed}
        files.remember(trusted, seen)


def _trust_file(path: Path, cache: Path | None) -> Path | None:
    """Where it is remembered which files were found right; None outside the cache."""
    if cache is None or path.parent.parent != cache:
        return None
    return cache / files.TRUST / path.parent.name / f"{path.name}.json"


def _touch(trusted: Path) -> None:
    """The time of last use; a read-only cache goes without."""
    try:
        os.utime(trusted)
    except OSError:
        return


def _stat(path: Path, size: int) -> list[int]:
    if path.is_symlink() or not path.is_file():
        raise EntryError(f"{path}: missing, or not a plain file", AGAIN)
    found = files.state(path)
    if found[1] != size:
        raise EntryError(f"{path}: expected {size:,} bytes, found {found[1]:,}", AGAIN)
    return list(found)


def _check_file(
    path: Path, file: Mapping[str, Any], split: str, manifest: Mapping[str, Any]
) -> None:
    if files.sha256(path) != file["sha256"]:
        raise EntryError(f"{path}: differs from its SHA-256 in the manifest", AGAIN)
    record = manifest["splits"][split]
    rows = file["rows"]
    expected = {
        "images": ((rows, *record["shape"][1:]), record["dtype"]),
        "labels": ((rows,), "int64"),
    }
    if manifest["recipe"]["per"] == "image":
        expected |= {"mean": ((rows,), "float64"), "std": ((rows,), "float64")}
    if (found := reading.describe(path)) != expected:
        raise EntryError(f"{path}: expected {expected}, found {found}", AGAIN)


def names_an_entry(name: str, cache: Path) -> bool:
    """Whether this is meant as an entry rather than as a dataset."""
    if "/" in name:
        shaped = re.fullmatch(r"[^./][^/]*/[a-z]+-[0-9a-f]{12}", name) is not None
        return shaped or (files.expanded(name) / MANIFEST).is_file()
    return re.fullmatch("[0-9a-f]{4,12}", name) is not None


def resolve(name: str, cache: Path) -> Path:
    """The folder that a path, a key or ``DATASET/MODE-KEY`` means.

    Raises
    ------
    EntryError
        When there is none, or a key means several.
    """
    given = files.expanded(name)
    if (given / MANIFEST).is_file():
        return given.absolute()
    found = [cache / name] if (cache / name / MANIFEST).is_file() else []
    if not found and re.fullmatch("[0-9a-f]{4,12}", name):
        found = sorted(cache.glob(f"[!.]*/*-{name}*"))
    if len(found) != 1:
        what = "no entry" if not found else f"{len(found)} entries"
        raise EntryError(
            f"{name}: {what} of this name here or in {cache}",
            "give a folder, a key, or DATASET/MODE-KEY",
        )
    return found[0]
