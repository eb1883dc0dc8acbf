"""A published cache entry: opened, checked, read."""

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixelprep import files, locks
from pixelprep import manifest as manifests
from pixelprep.batches import Batches, Plan
from pixelprep.errors import AGAIN, EntryError, UsageError, missing_extra
from pixelprep.scaling import Scaling
from pixelprep.store import layout, reading

if TYPE_CHECKING:
    import tensorflow as tf
    from torch import Tensor
    from torch.utils.data import IterableDataset

    from pixelprep.feeds.jax import Feed as JaxFeed


IN_PLACE = re.compile("[a-z]+-[0-9a-f]{12}")  # the name of an entry's folder


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
        return manifests.scaling_of(self.manifest["scaling"], self.mode, self.per)

    @cached_property
    def splits(self) -> dict[str, Split]:
        """The splits by name: train, val where there is one, test."""
        stored, recipe = self.manifest["splits"], self.manifest["recipe"]
        present = [name for name in manifests.SPLITS if name in stored]
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


def open_entry(path: Path, cache: Path | None = None) -> Entry:
    """Open and check the entry in this folder.

    Every file is hashed before libhdf5 reads it; below `cache` only if its inode, size or time
    differ from when it was last found right (or it was written just now, which times do not tell).

    Raises
    ------
    EntryError
        When anything is missing, damaged, or not as the format has it.
    MissingExtraError
        When its compression needs a package that is not installed.
    """
    return files.patiently(lambda: _opened(path, cache))


def _opened(path: Path, cache: Path | None) -> Entry:
    manifest = manifests.read(path)
    check_place(path, manifest, cache)
    layout.check_compression(manifest["recipe"]["compression"])
    trusted = _trust_file(path, cache)
    known = (files.recall(trusted) or {}) if trusted else {}
    found = _states(path, manifest)
    for split, file in manifests.files_of(manifest):
        if known.get(file["name"]) != _note(file, found):
            check_file(path / file["name"], split, file, manifest)
    if trusted:
        seen = _notes(manifest, found)
        _touch(trusted) if seen == known else files.remember(trusted, seen)
    return Entry(path, manifest, found)


def trust(path: Path, cache: Path, manifest: Mapping[str, Any]) -> None:
    """Remember that the files of a just published entry are right: they were hashed as written."""
    trusted = _trust_file(path, cache)
    if trusted:
        with suppress(EntryError):  # another process has replaced it already
            found = _states(path, manifest)
            time.sleep(max(0.0, files.TICK - min(map(files.age, found.values()))))
            files.remember(trusted, _notes(manifest, found))


def _states(path: Path, manifest: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The state of each file, which is a plain one and as long as it should be."""
    listed = [file for _, file in manifests.files_of(manifest)]
    return {file["name"]: state(path / file["name"], file["bytes"]) for file in listed}


def _note(file: Mapping[str, Any], found: Mapping[str, tuple[int, ...]]) -> list[Any]:
    return [*found[file["name"]], file["sha256"]]


def _notes(
    manifest: Mapping[str, Any], found: Mapping[str, tuple[int, ...]]
) -> dict[str, list[Any]]:
    """What to remember of files that were found right, but for those written just now."""
    listed = [file for _, file in manifests.files_of(manifest)]
    return {f["name"]: _note(f, found) for f in listed if files.age(found[f["name"]]) >= files.TICK}


def in_cache(path: Path, cache: Path | None) -> bool:
    """Whether an entry's folder is in this cache."""
    return cache is not None and path.parent.parent == cache


def check_place(path: Path, manifest: Mapping[str, Any], cache: Path | None) -> None:
    """Refuse an entry of the cache that stands where another one belongs.

    Raises
    ------
    EntryError
        When the folders' names are not those of its dataset, mode and key.
    """
    own = f"{manifest['dataset']}/{manifest['mode']}-{manifest['key']}"
    if in_cache(path, cache) and f"{path.parent.name}/{path.name}" != own:
        raise EntryError(f"{path}: is the entry {own}, in another's place", AGAIN)


def _trust_file(path: Path, cache: Path | None) -> Path | None:
    """Where it is remembered which files were found right; None outside the cache."""
    if cache is None or not in_cache(path, cache):
        return None
    return cache / files.TRUST / path.parent.name / f"{path.name}.json"


def forget(path: Path, cache: Path) -> None:
    """Drop what is noted of an entry of the cache: which files were found right, the last use."""
    trusted = _trust_file(path, cache)
    if trusted:
        trusted.unlink(missing_ok=True)


def last_use(path: Path, cache: Path) -> float:
    """When an entry of the cache was last opened or, where that is not known, made; in seconds."""
    trusted = _trust_file(path, cache)
    assert trusted is not None
    return max(_changed(trusted), _changed(path))


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _touch(trusted: Path) -> None:
    """The time of last use; a read-only cache goes without."""
    try:
        os.utime(trusted)
    except OSError:
        return


def state(path: Path, size: int) -> tuple[int, ...]:
    """The `files.state` of an entry's file, which is a plain one and of this size.

    Raises
    ------
    EntryError
        When it is not.
    """
    try:
        found = files.state(path)
    except OSError as error:
        raise EntryError(f"{path}: missing, or not a plain file", AGAIN) from error
    if path.is_symlink() or not path.is_file():
        raise EntryError(f"{path}: missing, or not a plain file", AGAIN)
    if found[1] != size:
        raise EntryError(f"{path}: expected {size:,} bytes, found {found[1]:,}", AGAIN)
    return found


def check_file(
    path: Path, split: str, file: Mapping[str, Any], manifest: Mapping[str, Any]
) -> None:
    """Refuse a file of an entry that is not what the manifest says; its digest comes first.

    Raises
    ------
    EntryError
        When its bytes have another digest, or are not an HDF5 file as the format has it.
    """
    try:
        digest = files.sha256(path)
    except OSError as error:
        raise EntryError(f"{path}: cannot read: {error.strerror or error}") from error
    if digest != file["sha256"]:
        raise EntryError(f"{path}: differs from its SHA-256 in the manifest", AGAIN)
    shape = (file["rows"], *manifest["splits"][split]["shape"][1:])
    if wrong := reading.problem(path, manifests.outline(manifest, split, shape)):
        raise EntryError(f"{path}: {wrong}", AGAIN)


def names_an_entry(name: str, cache: Path) -> bool:
    """Whether this is meant as an entry rather than as a dataset."""
    if "/" in name:
        shaped = re.fullmatch(f"[^./][^/]*/{IN_PLACE.pattern}", name) is not None
        return shaped or (files.expanded(name) / manifests.NAME).is_file()
    return re.fullmatch("[0-9a-f]{4,12}", name) is not None


def all_of(cache: Path) -> list[Path]:
    """Everything in a cache that has the place and name of an entry, in the order of the names."""
    return [path for path in sorted(cache.glob("[!.]*/*")) if IN_PLACE.fullmatch(path.name)]


def resolve(name: str | os.PathLike[str], cache: Path, *, damaged: bool = False) -> Path:
    """The folder that a path, a key or ``DATASET/MODE-KEY`` means.

    Parameters
    ----------
    name : str or path
        What the user wrote.
    cache : Path
        The cache folder; an entry in it is given by a path that begins with this one.
    damaged : bool
        Whatever is there will do, though it be no entry any more.

    Raises
    ------
    EntryError
        When there is none, or a key means several.
    """
    name = os.fspath(name)
    found = _named(name, cache, damaged)
    if not found and _may_be_made(cache / name, cache):
        with locks.lock(cache, f"{Path(name).parent.name}-{Path(name).name}"):
            found = _named(name, cache, damaged)
    if len(found) != 1:
        what = "no entry" if not found else f"{len(found)} entries"
        raise EntryError(
            f"{name}: {what} of this name here or in {cache}",
            "give a folder, a key, or DATASET/MODE-KEY",
        )
    return found[0]


def _named(name: str, cache: Path, damaged: bool) -> list[Path]:
    """The folders that a name may mean."""
    given = files.expanded(name).absolute()
    if _is_there(given, damaged):
        inside = given.parent.parent.resolve() == cache.resolve()
        return [cache / given.parent.name / given.name if inside else given]
    if "/" in name and _is_there(cache / name, damaged):
        return [cache / name]
    if re.fullmatch("[0-9a-f]{4,12}", name):
        return sorted(cache.glob(f"[!.]*/*-{name}*"))
    return []


def _is_there(path: Path, damaged: bool) -> bool:
    return os.path.lexists(path) if damaged else (path / manifests.NAME).is_file()


def _may_be_made(path: Path, cache: Path) -> bool:
    """Whether another process may be replacing this entry just now."""
    name = f"{path.parent.name}-{path.name}.lock"
    return in_cache(path, cache) and (cache / files.LOCKS / name).exists()
