"""Build one cache entry: fit on train, scale and write every split, publish."""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelprep import entry as entries
from pixelprep import files, order, progress, sources, store
from pixelprep.entry import Entry
from pixelprep.recipe import Recipe, shards, split_rows
from pixelprep.scaling import Moments, Scaling, unit_of

LOG = logging.getLogger("pixelprep")

FIRST_BATCH = 64  # rows whose figures are shown and kept
FIT_ROWS = 4096  # rows summed up at once


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
        return self.raw.images[rows], self.raw.labels[rows]

    def blocks(self, step: int) -> Iterator[NDArray[Any]]:
        """All images, some rows at a time."""
        for start in range(0, len(self), step):
            yield self.block(start, start + step)[0]


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
        ranges = {name: _range(name, rows) for name, rows in splits.items()}
        scaling, sums = self._fit(splits["train"])
        manifest = self._manifest(scaling, sums)
        cache.mkdir(parents=True, exist_ok=True)
        if self.recipe.compression == "none":
            files.need_space(cache, self._bytes_needed())
        with files.workspace(cache, f"{self.dataset}-{self.recipe.folder}") as folder:
            folder.mkdir()
            with progress.bar(
                "writing", sum(map(len, splits.values())), " images", self.quiet
            ) as bar:
                for name, rows in splits.items():
                    writing = _Writing(folder, name, rows, scaling, self.recipe, manifest, bar)
                    manifest["splits"][name] = writing.run() | {"raw": ranges[name]}
            _write_manifest(folder, manifest)
            files.publish(folder, path, cache)
        entries.trust(path, cache, manifest)
        return replace(entries.open_entry(path, cache), hit=False)

    def _bytes_needed(self) -> int:
        rows = sum(len(split.labels) for split in self.raw.splits.values())
        image = math.prod(self.raw.splits["train"].images.shape[1:])
        return rows * (image * np.dtype(self.recipe.dtype).itemsize + 32)

    def _fit(self, train: Rows) -> tuple[Scaling, dict[str, int]]:
        """The scaling, and the exact sums over all training pixels."""
        recipe, dtype = self.recipe, train.raw.images.dtype
        unit = unit_of(dtype, recipe.rescale)
        shared = "dataset" if recipe.per == "image" else recipe.per
        moments: Moments | None = None
        with progress.bar("statistics", len(train), " images", self.quiet) as bar:
            for block in train.blocks(FIT_ROWS):
                new = Moments.of(block, shared)
                moments = new if moments is None else moments + new
                bar.update(len(block))
        assert moments is not None  # no split is empty
        fitted = None if recipe.per == "image" else moments.statistics(unit)
        sums = {
            "count": moments.count * moments.total.size,
            "sum": int(moments.total.sum()),
            "sum_of_squares": int(moments.squares.sum()),
        }
        return Scaling(recipe.mode, recipe.per, unit, dtype.name, fitted), sums

    def _manifest(self, scaling: Scaling, sums: Mapping[str, int]) -> dict[str, Any]:
        """All of the manifest but the splits."""
        return {
            "format": store.FORMAT,
            "format_version": store.FORMAT_VERSION,
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


def _range(name: str, rows: Rows) -> dict[str, int]:
    """Raw minimum and maximum, shown before anything is scaled."""
    limits = [(int(block.min()), int(block.max())) for block in rows.blocks(FIT_ROWS)]
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    images = rows.raw.images
    shape = "×".join(map(str, images.shape[1:]))
    LOG.info(
        "raw %-5s %s × %s %s, minimum %d, maximum %d",
        name,
        f"{len(rows):,}",
        shape,
        images.dtype,
        low,
        high,
    )
    return {"minimum": low, "maximum": high}


@dataclass(frozen=True, slots=True)
class _Writing:
    """One split on its way into its files."""

    folder: Path
    name: str
    rows: Rows
    scaling: Scaling
    recipe: Recipe
    manifest: Mapping[str, Any]
    bar: Any

    def run(self) -> dict[str, Any]:
        """Write all files; return what the manifest holds of the split."""
        layout = shards(self.name, len(self.rows), self.recipe.shard_rows)
        listed = [self._file(name, part) for name, part in layout.items()]
        shape = [len(self.rows), *self.rows.raw.images.shape[1:]]
        record = {
            "rows": len(self.rows),
            "shape": shape,
            "dtype": self.recipe.dtype,
            "bytes": sum(file["bytes"] for file in listed),
            "files": listed,
        }
        states = {name: files.state(self.folder / name) for name in layout}
        split = entries.split_of(self.folder, self.name, record, asdict(self.recipe), states)
        return record | {"first_batch": figures(split.read(0, min(FIRST_BATCH, len(split))))}

    def _file(self, name: str, part: range) -> dict[str, Any]:
        path = self.folder / name
        with store.writing(
            path,
            (len(part), *self.rows.raw.images.shape[1:]),
            self.recipe.dtype,
            rows=self.recipe.chunk_rows,
            compression=self.recipe.compression,
            attributes=self._attributes(),
            per_image=self.recipe.per == "image",
        ) as writer:
            for start in range(part.start, part.stop, self.recipe.chunk_rows):
                self._block(writer, start, min(start + self.recipe.chunk_rows, part.stop))
        return {
            "name": name,
            "rows": len(part),
            "bytes": path.stat().st_size,
            "sha256": files.sha256(path),
        }

    def _block(self, writer: store.Writer, start: int, stop: int) -> None:
        raw, labels = self.rows.block(start, stop)
        images, own = self.scaling.apply_with_statistics(raw, self.recipe.dtype)
        columns = {"images": images, "labels": labels}
        if own is not None:
            columns |= {"mean": own.mean.reshape(-1), "std": own.std.reshape(-1)}
        writer.append(**columns)
        self.bar.update(stop - start)

    def _attributes(self) -> dict[str, Any]:
        attributes = {
            "format": store.FORMAT,
            "format_version": store.FORMAT_VERSION,
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
