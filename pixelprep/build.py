"""Build one cache entry: fit on train, scale and write every split, publish."""

import logging
import math
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelprep import entry as entries
from pixelprep import files, order, parallel, progress, sources
from pixelprep.entry import Entry
from pixelprep.recipe import Recipe, shards, split_rows
from pixelprep.scaling import Moments, Scaling, unit_of
from pixelprep.store import layout, writing
from pixelprep.store.libhdf5 import Outline

LOG = logging.getLogger("pixelprep")

FIRST_BATCH = 64  # rows whose figures are shown and kept
FIT_BYTES = 4 << 20  # of raw images that are summed up at once


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one stored split, picked from a raw one."""

    raw: sources.RawSplit
    picked: NDArray[np.int64] | None = None  # None: all, in their order

    def __len__(self) -> int:
        return len(self.raw.labels if self.picked is None else self.picked)

    def block(self, start: int, stop: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Raw images (n, H, W, C) and labels (n,) of some rows."""
        rows = slice(start, stop) if self.picked is None else self.picked[start:stop]
        return self.raw.images[rows], self.raw.labels[rows].astype(np.int64)

    def moments(self, per: str, bar: Any) -> Moments:
        """The exact sums over all images, over what `per` shares a statistic."""
        images = self.raw.images
        step = max(1, FIT_BYTES * len(images) // images.nbytes)
        total: Moments | None = None
        for start in range(0, len(self), step):
            new = Moments.of(self.block(start, start + step)[0], per)
            total = new if total is None else total + new
            bar.update(step)
        assert total is not None  # no split is empty
        return total


@dataclass(frozen=True, slots=True)
class Build:
    """One entry to be built from raw data.

    ``about`` is what the source digest is taken over; ``recipe.source`` is that digest.
    """

    dataset: str
    provenance: sources.Provenance
    raw: sources.Raw
    about: Mapping[str, Any]
    recipe: Recipe
    quiet: bool = False

    def publish(self, path: Path, cache: Path) -> Entry:
        """Fit, scale, write, and give the finished entry its name."""
        splits = divided(self.raw, self.recipe)
        cache.mkdir(parents=True, exist_ok=True)
        if self.recipe.compression == "none":
            files.need_space(cache, self._bytes_needed())
        with files.workspace(cache, f"{self.dataset}-{self.recipe.folder}") as folder:
            folder.mkdir()
            moments = self._moments(splits)
            scaling = self._fitted(moments["train"])
            manifest = self._manifest(scaling, moments["train"].overall())
            manifest["splits"] = self._write(folder, splits, scaling, manifest)
            for name, found in moments.items():
                manifest["splits"][name]["raw"] = _range(found)
            _write_manifest(folder, manifest)
            files.publish(folder, path, cache)
        entries.trust(path, cache, manifest)
        return replace(entries.open_entry(path, cache), hit=False)

    def _bytes_needed(self) -> int:
        rows = sum(len(split.labels) for split in self.raw.splits.values())
        image = math.prod(self.raw.splits["train"].images.shape[1:])
        return rows * (image * np.dtype(self.recipe.dtype).itemsize + 32)

    def _moments(self, splits: Mapping[str, Rows]) -> dict[str, Moments]:
        """The exact sums of each split; their range is shown before anything is scaled."""
        found = {}
        for name, rows in splits.items():
            # Only train is fitted; of the others no more than the range is wanted.
            per = self.recipe.per if name == "train" and self.recipe.per != "image" else "dataset"
            with progress.bar(f"reading {name}", len(rows), " images", self.quiet) as bar:
                found[name] = rows.moments(per, bar)
            _show_raw(name, rows, found[name])
        return found

    def _fitted(self, train: Moments) -> Scaling:
        recipe, dtype = self.recipe, self.raw.splits["train"].images.dtype
        unit = unit_of(dtype, recipe.rescale)
        fitted = None if recipe.per == "image" else train.statistics(unit)
        return Scaling(recipe.mode, recipe.per, unit, dtype.name, fitted)

    def _write(
        self,
        folder: Path,
        splits: Mapping[str, Rows],
        scaling: Scaling,
        manifest: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Write all files; what the manifest holds of each split."""
        images = sum(map(len, splits.values()))
        with (
            parallel.threads() as pool,
            progress.bar("writing", images, " images", self.quiet) as bar,
        ):
            writings = {
                name: _Writing(folder, name, rows, scaling, self.recipe, manifest, pool, bar)
                for name, rows in splits.items()
            }
            # While one split is written, the one before is brought to the disk.
            for written in writings.values():
                written.write()
            return {name: written.record() for name, written in writings.items()}

    def _manifest(self, scaling: Scaling, sums: Mapping[str, int]) -> dict[str, Any]:
        """All of the manifest but the splits."""
        return {
            "format": layout.FORMAT,
            "format_version": layout.FORMAT_VERSION,
            "dataset": self.dataset,
            "mode": self.recipe.mode,
            "per": self.recipe.per,
            "key": self.recipe.key,
            "recipe": asdict(self.recipe),
            "provenance": self.provenance.as_dict(),
            "source": {"digest": self.recipe.source, **self.about},
            "scaling": _scaling_record(scaling),
            "statistics": dict(sums),
            "splits": {},
        }


def _scaling_record(scaling: Scaling) -> dict[str, Any]:
    statistics = scaling.statistics
    return {
        "unit": scaling.unit,
        "raw_dtype": scaling.raw_dtype,
        "mean": scaling.mean.tolist(),
        "std": scaling.std.tolist(),
        "minimum": statistics.minimum.tolist() if statistics else [],
        "maximum": statistics.maximum.tolist() if statistics else [],
        "scale": scaling.scale.tolist(),
        "offset": scaling.offset.tolist(),
    }


def divided(raw: sources.Raw, recipe: Recipe) -> dict[str, Rows]:
    """The stored splits: validation, if any, is taken from train, class by class."""
    train, test = raw.splits["train"], raw.splits["test"]
    counts = {"train": len(train.labels), "test": len(test.labels)}
    if "val" not in split_rows(counts, recipe.val_fraction):
        return {"train": Rows(train), "test": Rows(test)}
    taken = order.stratified(train.labels, recipe.val_fraction, recipe.split_seed or 0)
    return {
        "train": Rows(train, np.flatnonzero(~taken)),
        "val": Rows(train, np.flatnonzero(taken)),
        "test": Rows(test),
    }


def _range(moments: Moments) -> dict[str, int]:
    """Raw minimum and maximum."""
    return {"minimum": int(moments.minimum.min()), "maximum": int(moments.maximum.max())}


def _show_raw(name: str, rows: Rows, moments: Moments) -> None:
    images, limits = rows.raw.images, _range(moments)
    shape = "×".join(map(str, images.shape[1:]))
    LOG.info(
        "raw %-5s %s × %s %s, minimum %d, maximum %d",
        name,
        f"{len(rows):,}",
        shape,
        images.dtype,
        limits["minimum"],
        limits["maximum"],
    )


@dataclass(frozen=True, slots=True)
class _Written:
    """A file that is complete and on its way to the disk."""

    name: str
    rows: int
    sha256: str
    on_disk: Future[None]


@dataclass(slots=True)
class _Writing:
    """One split on its way into its files."""

    folder: Path
    name: str
    rows: Rows
    scaling: Scaling
    recipe: Recipe
    manifest: Mapping[str, Any]
    pool: Executor
    bar: Any
    written: list[_Written] = field(default_factory=list)

    def write(self) -> None:
        """Write all files of the split."""
        parts = shards(self.name, len(self.rows), self.recipe.shard_rows)
        for name, part in parts.items():
            digest = self._file(self.folder / name, part)
            on_disk = self.pool.submit(files.fsync, self.folder / name)
            self.written.append(_Written(name, len(part), digest, on_disk))

    def record(self) -> dict[str, Any]:
        """What the manifest holds of the split, once its files are on the disk."""
        for file in self.written:
            file.on_disk.result()
        states = {file.name: files.state(self.folder / file.name) for file in self.written}
        listed = [
            {
                "name": file.name,
                "rows": file.rows,
                "bytes": states[file.name][1],
                "sha256": file.sha256,
            }
            for file in self.written
        ]
        record = {
            "rows": len(self.rows),
            "shape": [len(self.rows), *self.rows.raw.images.shape[1:]],
            "dtype": self.recipe.dtype,
            "bytes": sum(state[1] for state in states.values()),
            "files": listed,
        }
        split = entries.split_of(self.folder, self.name, record, asdict(self.recipe), states)
        return record | {"first_batch": figures(split.read(0, min(FIRST_BATCH, len(split))))}

    def _file(self, path: Path, part: range) -> str:
        """Write one file; its digest."""
        outline = Outline(
            (len(part), *self.rows.raw.images.shape[1:]),
            self.recipe.dtype,
            self.recipe.chunk_rows,
            self.recipe.compression,
            self._attributes(),
            self.recipe.per == "image",
        )
        with writing.create(path, outline) as writer:
            for start in range(part.start, part.stop, self.recipe.chunk_rows):
                self._chunk(writer, start, min(start + self.recipe.chunk_rows, part.stop))
        return writer.sha256

    def _chunk(self, writer: writing.Writer, start: int, stop: int) -> None:
        raw, labels = self.rows.block(start, stop)
        images, own = self.scaling.apply_with_statistics(raw, self.recipe.dtype)
        columns = {"images": images, "labels": labels}
        if own is not None:
            columns |= {"mean": own.mean.reshape(-1), "std": own.std.reshape(-1)}
        writer.append(**columns)
        self.bar.update(stop - start)

    def _attributes(self) -> dict[str, Any]:
        attributes = {
            "format": layout.FORMAT,
            "format_version": layout.FORMAT_VERSION,
            "dataset": self.manifest["dataset"],
            "split": self.name,
            "mode": self.recipe.mode,
            "per": self.recipe.per,
            "class_names": self.manifest["source"]["class_names"],
            "source_digest": self.recipe.source,
            "unit": self.scaling.unit,
        }
        if self.scaling.statistics is None:
            return attributes
        numbers = ("mean", "std", "scale", "offset")
        return attributes | {name: getattr(self.scaling, name) for name in numbers}


def figures(images: NDArray[Any]) -> dict[str, Any]:
    """Shape, minimum, maximum, mean and population deviation of a batch, as JSON values.

    Sums are exact (``math.fsum``), so that the figures are the same on every machine.
    """
    exact = images.reshape(-1).astype(np.float64)
    mean = math.fsum(exact) / exact.size
    variance = math.fsum((exact - mean) ** 2) / exact.size
    return {
        "shape": list(images.shape),
        "min": float(exact.min()),
        "max": float(exact.max()),
        "mean": mean,
        "std": math.sqrt(variance),
    }


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    content = files.canonical_json(manifest) + b"\n"
    files.write_whole(folder / entries.MANIFEST, content)
    files.write_whole(folder / entries.DIGEST, entries.digest_line(content))
