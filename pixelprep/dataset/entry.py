"""A published cache entry and its splits, as users hold them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack  # Any: columns of whichever type

from pixelprep.errors import UsageError, check_bool, missing_extra, named_type_error, unknown_choice
from pixelprep.format import layout
from pixelprep.format.manifest import FileRecord, Manifest
from pixelprep.format.recipe import SPLITS
from pixelprep.numerics.lazy import np
from pixelprep.numerics.scaling import Scaling, why_inexact
from pixelprep.system import formatting, notices
from pixelprep.views import Page, View, page_of

if TYPE_CHECKING:
    import jax
    import keras
    import tensorflow as tf
    import torch
    from numpy.typing import DTypeLike, NDArray
    from torch import Tensor
    from torch.utils.data import Dataset, IterableDataset

    from pixelprep.dataset.batches import Batches
    from pixelprep.dataset.columns import Columns
    from pixelprep.dataset.epoch import BatchOptions
    from pixelprep.dataset.feed_options import FeedOptions, Form
    from pixelprep.dataset.jax import JaxFeed
    from pixelprep.dataset.rows import Rows
    from pixelprep.format import reader
    from pixelprep.format.remote_file import RemoteFolder


WEIGHTS = ("balanced",)


@dataclass(frozen=True, repr=False)
class Split(View):
    """One split of an entry: an ordered list of HDF5 files, read row by row.

    Parameters
    ----------
    name : str
        train, val or test.
    shape : tuple of int
        (N, H, W, C) of the images.
    dtype : dtype
        Of the images: float32 or float16.
    per_image : bool
        Whether each image's own mean and standard deviation are stored.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    per_image: bool
    _columns: Columns
    _files: tuple[reader.EntryFile, ...]  # in order
    _class_names: tuple[str, ...]
    _run_rows: int  # neighbouring rows that a pass reads at once

    def __repr__(self) -> str:
        """Say what is in it: <Split train: 6,000 images 28×28×1 float32>."""
        return f"<Split {self.name}: {self._described}>"

    @property
    def _described(self) -> str:
        images = formatting.pluralize(len(self), "image")
        return f"{images} {formatting.format_shape(self.shape[1:])} {self.dtype}"

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> tuple[NDArray[Any], Any]:
        """Read one row, or those of a slice, of a list or of an array, in this order.

        Files stay open for the next call, as long as this object lives.

        Parameters
        ----------
        index : int, slice, or sequence of int or bool
            As NumPy has it: negative numbers count from the end, numbers may come several times,
            truths (N,) choose rows.

        Returns
        -------
        images : ndarray of float32 or float16, shape (n, H, W, C); (H, W, C) of one row
            The scaled pixels, in memory of their own.
        labels : ndarray of int64, shape (n,); np.int64 of one row
            Indices into `Entry.class_names`; of several a row uint8, (n, K) and (K,).

        Raises
        ------
        UsageError, EntryError
            When there is no such row, which is an `IndexError` too; when a file is damaged.
        """
        return self._rows[index]

    def __iter__(self) -> Iterator[tuple[NDArray[Any], Any]]:
        """Yield each row, (image, label), in file order; a block of rows is in memory at a time."""
        for start in range(0, len(self), self._run_rows):
            yield from zip(*self[start : start + self._run_rows], strict=True)

    @cached_property
    def _rows(self) -> Rows:
        from pixelprep.dataset.rows import Rows  # what only finds an entry needs it not

        return Rows(self._files, self._columns)

    @property
    def column_names(self) -> tuple[str, ...]:
        """What `read` can read of each row."""
        return tuple(self._columns.stored)

    def read(self, start: int, stop: int, name: str = "images") -> NDArray[Any]:
        """Read rows `start` to `stop` of one column, across the files.

        Parameters
        ----------
        start, stop : int
            0 ≤ start ≤ stop ≤ N.
        name : str
            ``images`` (float, (n, H, W, C)), ``labels`` (int64, (n,); of several a row uint8,
            (n, K)); per image, ``mean`` or ``std`` (float64, (n,)); where images come from files,
            ``names`` (bytes, (n,)).

        Returns
        -------
        ndarray
            The n = `stop` − `start` rows, in memory of their own.

        Raises
        ------
        UsageError, EntryError
            When there is no such column, or there are no such rows; when a file is damaged.
        """
        if name not in self._columns.stored:
            known = ", ".join(self._columns.stored)
            raise UsageError(f"{self.name} has no '{name}': expected one of {known}")
        if not 0 <= start <= stop <= len(self):
            raise UsageError(f"rows {start} to {stop}: expected 0 to {len(self)}, in this order")
        if name != "images":
            return self._read_stored(start, stop, (name,))[name]
        return self._columns.images(self._read_stored(start, stop, self._columns.of_images))

    def read_raw(self, start: int, stop: int) -> NDArray[Any] | None:
        """Read images as they are stored, where that is raw.

        Parameters
        ----------
        start, stop : int
            0 ≤ start ≤ stop ≤ N.

        Returns
        -------
        ndarray, shape (n, H, W, C), or None
            Integers of 8 or 16 bits; None where scaled images are stored.
        """
        if not self._columns.is_raw:
            return None
        return self._read_stored(start, stop, ("images",))["images"]

    def _read_stored(
        self, start: int, stop: int, names: tuple[str, ...]
    ) -> dict[str, NDArray[Any]]:
        """Read columns as they are stored, from files that are closed afterwards."""
        from pixelprep.dataset.rows import Rows  # what only finds an entry needs it not

        return Rows(self._files, self._columns).read(start, stop, names)

    @property
    def labels(self) -> NDArray[Any]:
        """All labels, int64 (N,): indices into `Entry.class_names`; of several a row uint8 (N, K).

        Raises
        ------
        EntryError
            When a file is damaged.
        """
        return self.read(0, len(self), "labels")

    @property
    def names(self) -> NDArray[np.str_] | None:
        """The path of each image's file below the dataset's folder, (N,); None without files."""
        names = self.read_names()
        return None if names is None else np.char.decode(names, "utf-8")

    def name_of(self, row: int) -> str | None:
        """Return the name of one row.

        Parameters
        ----------
        row : int
            0 ≤ row < N.

        Returns
        -------
        str or None
            The path of its file below the dataset's folder; None where rows have no names.
        """
        if "names" not in self._columns.stored:
            return None
        return bytes(self.read(row, row + 1, "names")[0]).decode()

    def read_names(self) -> NDArray[np.bytes_] | None:
        """Read `names` as they are stored.

        Returns
        -------
        ndarray of bytes, shape (N,), or None
            In UTF-8.
        """
        if "names" not in self._columns.stored:
            return None
        return self.read(0, len(self), "names")

    @property
    def mean(self) -> NDArray[np.float64]:
        """Per image only: each image's own mean, float64 (N,).

        Raises
        ------
        UsageError, EntryError
            When the scaling is not per image; when a file is damaged.
        """
        return self.read(0, len(self), "mean")

    @property
    def std(self) -> NDArray[np.float64]:
        """Per image only: each image's own standard deviation, float64 (N,).

        Raises
        ------
        UsageError, EntryError
            When the scaling is not per image; when a file is damaged.
        """
        return self.read(0, len(self), "std")

    def to_numpy(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Read all images and labels into memory, in file order.

        Returns
        -------
        images : ndarray of float32 or float16, shape (N, H, W, C)
            The scaled pixels.
        labels : ndarray of int64, shape (N,); of several a row uint8, (N, K)
            Indices into `Entry.class_names`; or 1 where a row has the class.

        Raises
        ------
        EntryError
            When a file is damaged.
        """
        return self.read(0, len(self)), self.labels

    def batches(self, batch_size: int, **options: Unpack[BatchOptions]) -> Batches:
        """Stream one epoch of (images, labels).

        Parameters
        ----------
        batch_size : int
            Rows a batch, at least 1.
        **options
            ``shuffle``, ``seed``, ``epoch``, ``drop_last``, ``shard``, ``even``, ``balance``,
            ``raw``, as of `BatchOptions`.

        Returns
        -------
        Batches
            With a length; images (n, H, W, C) of `dtype`, labels int64 (n,) or uint8 (n, K). Its
            iterator has ``state()``, from which `Batches.resume` continues.

        Raises
        ------
        UsageError, EntryError
            When a value is out of its range; while iterating, when a file is damaged.

        Examples
        --------
        >>> import pixelprep
        >>> train = pixelprep.prepare("sample", quiet=True).train
        >>> for images, labels in train.batches(64, shuffle=True, seed=0, epoch=0):
        ...     assert images.shape[1:] == (28, 28, 1) and len(images) == len(labels)
        """
        from pixelprep.dataset.batches import Batches  # what only finds an entry needs neither
        from pixelprep.dataset.epoch import BatchConfig
        from pixelprep.dataset.ranks import sharded

        try:
            config = BatchConfig(batch_size, **sharded({**options}))
        except TypeError as error:  # an option that there is not
            raise named_type_error(error, "batches") from None
        columns = replace(self._columns, delivers_raw=config.raw)
        self._check_recovered(columns)
        labels = self._labels_to_balance(config.balance) if config.balance else None
        return Batches(self._files, self._run_rows, columns, config, labels=labels)

    def _labels_to_balance(self, balance: str) -> NDArray[Any]:
        """Return the labels of all rows; refuse those of several classes a row."""
        if self._columns.stored["labels"][0]:
            message = f"`balance={balance}`: expected one class a row, found several"
            raise UsageError(message, "weigh the classes in the loss")
        return self.labels

    def _check_recovered(self, columns: Columns) -> None:
        """Refuse to deliver raw integers that scaling has rounded away."""
        scaling = columns.scaling
        is_integer = np.dtype(scaling.raw_dtype).kind in "ui"
        if columns.is_raw or not columns.delivers_raw or not (is_integer or scaling.clip):
            return
        if not scaling.is_exact(self.dtype):
            message = f"`raw=True`: {why_inexact(scaling, self.dtype)}"
            raise UsageError(message, "prepare the dataset with `storage=raw`")

    def _feed(self, batch_size: int, options: FeedOptions) -> tuple[Batches, Form]:
        """Return the first epoch of a feed, and in which form it is handed out."""
        of_batches = dict[str, Any](options)
        form = self._form(of_batches)
        batches = self.batches(batch_size, **of_batches)
        if not len(batches):
            notices.tell(f"the feed has no batch: {batches.rows:,} rows, {batch_size} a batch")
        return batches, form

    def _form(self, options: dict[str, Any]) -> Form:
        from pixelprep.dataset.feed_options import Form

        return Form.taken_from(options, self._columns, len(self._class_names))

    def to_keras(
        self,
        batch_size: int,
        *,
        workers: int = 1,
        use_multiprocessing: bool = False,
        max_queue_size: int = 10,
        **options: Unpack[FeedOptions],
    ) -> keras.utils.PyDataset:
        """Return a ``keras.utils.PyDataset`` of the batches; each pass is the next epoch.

        For `fit`, `evaluate` and `predict` on TensorFlow, JAX or PyTorch. Shuffle here, and say
        ``fit(feed, shuffle=False)``: batches that Keras asks for in an order of its own are the
        same, read row by row, which is slower.

        Parameters
        ----------
        batch_size : int
            Rows a batch, at least 1.
        workers, use_multiprocessing, max_queue_size : int, bool, int
            As ``keras.utils.PyDataset`` has them; no workers are needed.
        **options
            ``layout`` and ``labels``, as of `FeedOptions`; ``shuffle``, ``seed``, ``epoch``,
            ``drop_last``, ``shard``, ``even``, ``balance``, ``raw``, as of `BatchOptions`.

        Returns
        -------
        keras.utils.PyDataset
            Of (images, labels): the stored type (n, H, W, C), and int64 (n,).

        Raises
        ------
        UsageError, MissingExtraError
            When a value is out of its range; when Keras, or what it runs on, is not installed.
        """
        with _require("Keras", "keras"):
            from pixelprep.dataset.keras import KerasFeed
        settings = {"workers": workers, "use_multiprocessing": use_multiprocessing}
        first, form = self._feed(batch_size, options)
        return KerasFeed(first, form, max_queue_size=max_queue_size, **settings)

    def to_tf(
        self,
        batch_size: int,
        *,
        state: Mapping[str, Any] | None = None,
        **options: Unpack[FeedOptions],
    ) -> tf.data.Dataset:
        """Return a ``tf.data.Dataset`` of the batches of `batches`; each pass is the next epoch.

        Parameters
        ----------
        batch_size : int
            Rows a batch, at least 1.
        state : mapping, optional
            What ``batches(…).state(done)`` returned: deliver what that epoch has left after `done`
            batches, in every pass; the epoch after it is `epoch=state["epoch"] + 1`.
        **options
            ``layout`` and ``labels``, as of `FeedOptions`; ``shuffle``, ``seed``, ``epoch``,
            ``drop_last``, ``shard``, ``even``, ``balance``, ``raw``, as of `BatchOptions`.

        Returns
        -------
        tf.data.Dataset
            Of (images, labels): the stored type (n, H, W, C), and int64 (n,).

        Raises
        ------
        UsageError, MissingExtraError
            When a value is out of its range, or the state is of something else; when TensorFlow is
            not installed.
        """
        with _require("TensorFlow", "train"):
            from pixelprep.dataset.tensorflow import rest_of, tf_dataset
        first, form = self._feed(batch_size, options)
        return rest_of(first, form, state) if state else tf_dataset(first, form=form)

    def as_torch(
        self,
        *,
        layout: Literal["nhwc", "nchw"] = "nhwc",
        labels: Literal["int", "onehot", "multihot"] | None = None,
        dtype: torch.dtype | None = None,
        raw: bool = False,
    ) -> Dataset[tuple[Tensor, Tensor]]:
        """Return a map-style ``Dataset`` of the rows, read by number, for PyTorch's own samplers.

        Use it as ``DataLoader(split.as_torch(), batch_size=64, shuffle=True)``, which reads a batch
        at once; workers, however started, open the files for themselves. `to_torch` is faster: it
        reads neighbours together, and mixes them.

        Parameters
        ----------
        layout : {"nhwc", "nchw"}
            The order of an image's axes, as of `FeedOptions`.
        labels : {"int", "onehot", "multihot"}, optional
            As of `FeedOptions`.
        dtype : torch.dtype, optional
            Of the images; default: as stored.
        raw : bool
            Deliver raw pixels, as of `BatchOptions`.

        Returns
        -------
        torch.utils.data.Dataset
            Of (image, label): the stored type (H, W, C), and int64 ().

        Raises
        ------
        UsageError, MissingExtraError
            When a value is not possible; when PyTorch is not installed.
        """
        with _require("PyTorch", "torch"):
            from pixelprep.dataset.torch import Tensorizer, TorchRows
        from pixelprep.dataset.rows import Rows

        tensors = Tensorizer(self._form({"layout": layout, "labels": labels}), dtype)
        columns = replace(self._columns, delivers_raw=check_bool("raw", raw))
        self._check_recovered(columns)
        return TorchRows(Rows(self._files, columns), tensors)

    def to_torch(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[FeedOptions],
    ) -> IterableDataset[tuple[Tensor, Tensor]]:
        """Return an ``IterableDataset`` of whole batches; each pass is the next epoch.

        Iterate over it, or use it as ``DataLoader(feed, batch_size=None)``: no workers are needed,
        and two of them delivered 0.05 of the images a second that none did (MNIST, two cores). They
        take batches in turn, so that their number changes nothing but speed. The feed has a length,
        ``set_epoch``, and ``state_dict`` and ``load_state_dict``, by which torchdata's
        ``StatefulDataLoader`` and Lightning go on in the middle of an epoch.

        Parameters
        ----------
        batch_size : int
            Rows a batch, at least 1.
        device : torch.device or str, optional
            Where the tensors are moved, to a GPU from pinned memory, so that the loop need not
            wait; default: they stay where they were read.
        dtype : torch.dtype, optional
            Of the images, such as ``torch.bfloat16``; default: as stored.
        **options
            ``layout`` and ``labels``, as of `FeedOptions`; ``shuffle``, ``seed``, ``epoch``,
            ``drop_last``, ``shard``, ``even``, ``balance``, ``raw``, as of `BatchOptions`.

        Returns
        -------
        torch.utils.data.IterableDataset
            Of (images, labels): the stored type (n, H, W, C), and int64 (n,).

        Raises
        ------
        UsageError, MissingExtraError
            When a value is out of its range; when PyTorch is not installed.
        """
        with _require("PyTorch", "torch"):
            import torch

            from pixelprep.dataset.torch import Tensorizer, TorchFeed
        first, form = self._feed(batch_size, options)
        return TorchFeed(first, Tensorizer(form, dtype, torch.device(device) if device else None))

    def to_jax(
        self,
        batch_size: int,
        *,
        device: jax.Device | jax.sharding.Sharding | None = None,
        dtype: DTypeLike | None = None,
        **options: Unpack[FeedOptions],
    ) -> JaxFeed:
        """Return batches as JAX arrays on a device; each pass over it is the next epoch.

        Parameters
        ----------
        batch_size : int
            Rows a batch, at least 1.
        device : jax.Device or jax.sharding.Sharding, optional
            Where the arrays are put; default: where JAX puts them. Of a sharding over devices of
            several processes, a batch is all that they deliver, as
            `jax.make_array_from_process_local_data` has it.
        dtype : dtype, optional
            Of the images, such as ``jax.numpy.bfloat16``; default: as stored.
        **options
            ``layout`` and ``labels``, as of `FeedOptions`; ``shuffle``, ``seed``, ``epoch``,
            ``drop_last``, ``shard``, ``even``, ``balance``, ``raw``, as of `BatchOptions`.

        Returns
        -------
        pixelprep.dataset.jax.JaxFeed
            Of (images, labels): the stored type (n, H, W, C), and int32 (n,): JAX has no int64
            unless it is told to. It has ``set_epoch`` and ``resume``, its passes ``state``.

        Raises
        ------
        UsageError, MissingExtraError
            When a value is out of its range; when JAX is not installed.
        """
        with _require("JAX", "jax"):
            from pixelprep.dataset.jax import JaxFeed
        return JaxFeed(*self._feed(batch_size, options), device, dtype)


@contextmanager
def _require(package: str, extra: str) -> Iterator[None]:
    """Name the extra to install where a framework is missing, or what Keras is to run on."""
    try:
        yield
    except ImportError as error:
        if package == "Keras" and error.name != "keras":
            message = f"this feed needs Keras, which is set to what is not installed: {error}"
            raise UsageError(message, "set KERAS_BACKEND to tensorflow, jax or torch") from error
        raise missing_extra(package, extra, "this feed") from error


@dataclass(frozen=True, repr=False)
class Entry(View):
    """One prepared dataset.

    Parameters
    ----------
    path : Path
        The entry's folder.
    manifest : Manifest
        Its manifest (data/FORMAT.md).
    cached : bool
        Whether it was found in the cache, so that nothing had to be done.
    """

    path: Path
    manifest: Manifest
    # By file name, the `fs.file_stamp` it had when it was checked: once it changes, it is not read.
    _stamps: Mapping[str, tuple[int | str, ...]] = field(compare=False)
    cached: bool = field(default=True, compare=False)
    _in_place: RemoteFolder | None = field(default=None, compare=False)  # of one on a server

    def __repr__(self) -> str:
        """Say what it is in a few lines, as a notebook shows it."""
        classes = formatting.pluralize(len(self.class_names), "class", "classes")
        lines = [
            f"<Entry {self.dataset}, {self.mode} per {self.per}, key {self.key}",
            *(f"  {name:5} {split._described}" for name, split in self.splits.items()),
            f"  {classes}: {formatting.shorten(self.class_names)}",
            f"  {self._in_place.url if self._in_place else self.path}>",
        ]
        return "\n".join(lines)

    def __fspath__(self) -> str:
        """Return the entry's folder, so that an entry will do where a path is asked for."""
        if self._in_place:
            message = f"{self._in_place.url}: expected an entry on the disk, not one read in place"
            raise UsageError(message, "copy it first: `pixelprep.pull`")
        return os.fspath(self.path)

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return self.manifest.dataset

    @property
    def mode(self) -> str:
        """The scaling's mode."""
        return self.manifest.mode

    @property
    def per(self) -> str:
        """Which pixels share a statistic."""
        return self.manifest.per

    @property
    def key(self) -> str:
        """The first 12 hex digits of the recipe's digest."""
        return self.manifest.key

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; a label is the index of one."""
        return self.manifest.source.class_names

    @property
    def class_counts(self) -> dict[str, tuple[int, ...]]:
        """How many images each split has of each class, by the split's name, in label order."""
        return {name: split.class_counts for name, split in self.manifest.splits.items()}

    def class_weight(self, kind: str = "balanced") -> dict[int, float]:
        """Return weights for the loss that make up for classes of unequal size in train.

        Parameters
        ----------
        kind : str
            "balanced": n / (k · nᵢ), with n images of k classes, nᵢ of them of class i, as
            scikit-learn's `compute_class_weight` has it (G. King and L. Zeng, Logistic Regression
            in Rare Events Data, 2001).

        Returns
        -------
        dict of int to float
            By label, as Keras's `fit` takes it; classes without an image in train are left out.

        Raises
        ------
        UsageError
            When the kind does not exist, rows have several classes, or there is no train split.
        """
        if kind not in WEIGHTS:
            raise unknown_choice("class_weight", kind, WEIGHTS)
        if self.manifest.source.task != "classification":
            message = f"{self.path}: `class_weight={kind}`: expected one class a row, found several"
            raise UsageError(message, "weigh each class by the counts of `entry.class_counts`")
        counts = self.manifest.splits[self.train.name].class_counts
        present = {label: count for label, count in enumerate(counts) if count}
        total = sum(counts)
        return {label: total / (len(present) * count) for label, count in present.items()}

    @property
    def size(self) -> int:
        """Bytes of the HDF5 files."""
        return sum(split.bytes for split in self.manifest.splits.values())

    @property
    def rows(self) -> int:
        """Images of all splits together."""
        return sum(map(len, self.splits.values()))

    @cached_property
    def scaling(self) -> Scaling:
        """The fitted scaling, with `Scaling.apply` and `Scaling.invert`."""
        return self.manifest.scaling.scaling(self.manifest.recipe)

    @cached_property
    def splits(self) -> dict[str, Split]:
        """The splits by name: train, and val and test where there are such."""
        manifest, stamps = self.manifest, self._stamps
        stored = {name: manifest.splits[name] for name in SPLITS if name in manifest.splits}
        return {
            name: split_of(
                self.path, name, split.rows, split.files, manifest, stamps, self._in_place
            )
            for name, split in stored.items()
        }

    @property
    def train(self) -> Split:
        """The training split; all entries have one but those of `prepare` with `scaling_of`.

        Raises
        ------
        UsageError
            When there is none.
        """
        if "train" not in self.splits:
            only = " and ".join(self.splits)
            message = f"{self.path}: has no train split, only {only}: its scaling is another's"
            raise UsageError(message, "prepare data with a train split")
        return self.splits["train"]

    @property
    def val(self) -> Split:
        """The validation split; `splits` has those that there are.

        Raises
        ------
        UsageError
            When there is none.
        """
        return self._held_out("val", "`val_fraction=0.1`")

    @property
    def test(self) -> Split:
        """The test split; `splits` has those that there are.

        Raises
        ------
        UsageError
            When there is none.
        """
        return self._held_out("test", "`test_fraction=0.2`")

    def _held_out(self, name: str, option: str) -> Split:
        if name not in self.splits:
            message = f"{self.path}: has no {name} split"
            raise UsageError(message, f"take one from train when preparing: {option}")
        return self.splits[name]

    @property
    def is_exact(self) -> bool:
        """Whether every raw pixel is stored, or recovered exactly from what is stored."""
        is_raw = self.manifest.recipe.storage == "raw"
        return is_raw or self.scaling.is_exact(self.manifest.recipe.dtype)

    def report(self) -> Page:
        """Make the page of `pixelprep.report`, to be shown in a notebook.

        Returns
        -------
        Page
            Which `Page.save` writes to a file.

        Raises
        ------
        EntryError
            When a file is damaged.
        MissingExtraError
            When Jinja or Matplotlib is not installed.
        """
        return page_of(self)

    @property
    def held_out(self) -> Split | None:
        """The split that models are scored on: test, else validation; None without either."""
        return self.splits.get("test") or self.splits.get("val")


def split_of(
    path: Path,
    name: str,
    rows: int,
    files: Sequence[FileRecord],
    manifest: Manifest,
    stamps: Mapping[str, tuple[int | str, ...]],
    in_place: RemoteFolder | None = None,
) -> Split:
    """Return the split of these files below `path`, whose stamps are those of `stamps`."""
    from pixelprep.dataset.columns import Columns  # what only finds an entry needs neither
    from pixelprep.format import reader

    opened = tuple(
        reader.EntryFile(path / file.name, file.rows, file.sha256, stamps[file.name])
        for file in files
    )
    if in_place:
        layouts = {rows: manifest.file_layout(name, rows) for rows in {one.rows for one in files}}
        opened = tuple(in_place.file(one, layouts[one.rows]) for one in opened)
    recipe, stored = manifest.recipe, manifest.data_layout(name, rows).columns
    dtype, scaling = np.dtype(recipe.dtype), manifest.scaling.scaling(recipe)
    kinds = {n: (one.shape[1:], np.dtype(one.dtype).newbyteorder("=")) for n, one in stored.items()}
    is_raw, is_packed = recipe.storage == "raw", recipe.compression != "none"
    columns = Columns(kinds, dtype, scaling, is_raw, is_packed)
    run_rows = layout.run_rows(recipe.chunk_rows, recipe.compression)
    shape, per_image = stored["images"].shape, recipe.per == "image"
    classes = manifest.source.class_names
    return Split(name, shape, dtype, per_image, columns, opened, classes, run_rows)
