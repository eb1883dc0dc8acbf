"""Build one cache entry: fit on train, scale and write every split, publish."""

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelprep import sources
from pixelprep.cache import entries
from pixelprep.cache.trust import file_stamps
from pixelprep.dataset.entry import Entry, split_of
from pixelprep.format import writer
from pixelprep.format.manifest import (
    FIRST_BATCH,
    FileRecord,
    FirstBatch,
    Manifest,
    PixelSums,
    RawLimits,
    ScalingRecord,
    SplitRecord,
)
from pixelprep.format.recipe import Recipe, split_files, split_rows
from pixelprep.format.source_record import SourceRecord
from pixelprep.numerics import permutation
from pixelprep.numerics.scaling import (
    Scaling,
    apply_with_statistics,
    per_image_columns,
    rescale_unit,
)
from pixelprep.numerics.statistics import AnyMoments, moments_of, pairwise_sum
from pixelprep.sources import iter_blocks
from pixelprep.system import canonical, formatting, fs, parallel, progress, staging

LOG = logging.getLogger("pixelprep")

FIT_BYTES = 64 << 20  # of raw images that one task sums up
PLAN = "plan.json"  # in a work folder: what the writing of its files goes by


@dataclass(frozen=True, slots=True)
class Build:
    """One entry to be built from raw data.

    ``recipe.source`` is the digest of ``source``.
    """

    dataset: str
    provenance: sources.Provenance
    raw: sources.Raw
    source: SourceRecord
    recipe: Recipe
    context: sources.SourceContext

    def publish(self, path: Path, stays: Callable[[], bool]) -> Entry:
        """Fit, scale, write, and give the finished entry its name, unless another one stays."""
        cache = self.context.cache
        splits = split_validation(self.raw, self.recipe)
        cache.mkdir(parents=True, exist_ok=True)
        # Of one file a split there is nothing to go on with.
        several = self.recipe.shard_rows is not None
        name = f"{self.dataset}-{self.recipe.folder}"
        with staging.workspace(cache, name, resumable=several) as work:
            if self.recipe.compression == "none":
                fs.require_free_space(cache, self._bytes_needed() - _bytes_there(work))
            moments = self._moments(splits)
            scaling = self._fitted(moments["train"])
            plan = self._plan(scaling, moments["train"].overall())
            (work / PLAN).write_bytes(canonical.dumps(plan.to_dict()))
            limits = {name: RawLimits.of(found) for name, found in moments.items()}
            manifest = replace(plan, splits=self._write(work, splits, limits))
            _write_manifest(work, manifest)
            stamps = file_stamps(work / staging.FILES, manifest)
            staging.publish(work / staging.FILES, path, cache, stays)
        return entries.published_entry(path, cache, manifest, stamps)

    def _bytes_needed(self) -> int:
        rows = sum(len(split.labels) for split in self.raw.splits.values())
        image = math.prod(self.raw.splits["train"].images.shape[1:])
        return rows * (image * np.dtype(self.recipe.dtype).itemsize + 32)

    def _moments(self, splits: Mapping[str, sources.RawSplit]) -> dict[str, AnyMoments]:
        """The sums of each split; their range is shown before anything is scaled."""
        found = {}
        for name, split in splits.items():
            # Only train is fitted; of the others no more than the range is wanted.
            per = self.recipe.per if name == "train" and self.recipe.per != "image" else "dataset"
            images = split.images
            parts = [
                sources.slice_rows(images, rows) for rows in sources.block_ranges(images, FIT_BYTES)
            ]
            sums = self.context.pool.map(_moments_of, ((part, per) for part in parts))
            with progress.bar(f"reading {name}", len(images), " images", self.context.quiet) as bar:
                found[name] = pairwise_sum(progress.track(sums, map(len, parts), bar))
            _show_raw(name, images, found[name])
        return found

    def _fitted(self, train: AnyMoments) -> Scaling:
        recipe, dtype = self.recipe, self.raw.splits["train"].images.dtype
        unit = rescale_unit(dtype, recipe.rescale)
        fitted = None if recipe.per == "image" else train.statistics(unit)
        return Scaling(recipe.mode, recipe.per, unit, dtype.name, fitted)

    def _write(
        self,
        work: Path,
        splits: Mapping[str, sources.RawSplit],
        limits: Mapping[str, RawLimits],
    ) -> dict[str, SplitRecord]:
        """Write all files, and record each split."""
        shards = [
            WriteTask(work, name, file, split.slice_rows(rows))
            for name, split in splits.items()
            for file, rows in self._files(name, split).items()
        ]
        images = sum(len(split.labels) for split in splits.values())
        written = {}
        with (
            parallel.thread_pool() as pool,
            progress.bar("writing", images, " images", self.context.quiet) as bar,
        ):
            on_disk = []
            for shard, record in zip(shards, self._written(shards, bar), strict=True):
                written[shard.name] = record
                # While others are written, those before are brought to the disk.
                on_disk.append(pool.submit(fs.fsync, work / staging.FILES / shard.name))
            for done in on_disk:
                done.result()
        return {
            name: self._record(work, name, split, limits[name], written)
            for name, split in splits.items()
        }

    def _written(self, shards: list["WriteTask"], bar: Any) -> Iterator[dict[str, Any]]:
        """Write the files, here or by the workers."""
        if self.context.pool.inline:
            return (shard.write(bar.update) for shard in shards)
        sizes = (len(shard.rows.labels) for shard in shards)
        return progress.track(self.context.pool.map(WriteTask.write, shards), sizes, bar)

    def _files(self, name: str, split: sources.RawSplit) -> dict[str, range]:
        return split_files(name, len(split.labels), self.recipe.shard_rows)

    def _record(
        self,
        work: Path,
        name: str,
        split: sources.RawSplit,
        raw: RawLimits,
        written: Mapping[str, Mapping[str, Any]],
    ) -> SplitRecord:
        """Record one split whose files are written."""
        folder = work / staging.FILES
        stamps = {file: fs.file_stamp(folder / file) for file in self._files(name, split)}
        files = [FileRecord(name=file, bytes=stamps[file][1], **written[file]) for file in stamps]
        shape = tuple(split.images.shape)
        stored = split_of(folder, name, shape, files, self.recipe, stamps)
        return SplitRecord(
            rows=len(stored),
            shape=shape,
            dtype=self.recipe.dtype,
            bytes=sum(file.bytes for file in files),
            raw=raw,
            first_batch=FirstBatch.of(stored.read(0, min(FIRST_BATCH, len(stored)))),
            files=tuple(files),
        )

    def _plan(self, scaling: Scaling, sums: Mapping[str, Any]) -> Manifest:
        """Return the manifest without its splits."""
        return Manifest(
            dataset=self.dataset,
            key=self.recipe.key,
            recipe=self.recipe,
            provenance=self.provenance,
            source=self.source,
            scaling=ScalingRecord.of(scaling),
            statistics=PixelSums(**sums),
            splits={},
        )


def split_validation(raw: sources.Raw, recipe: Recipe) -> dict[str, sources.RawSplit]:
    """The stored splits: validation, if any, is taken from train, class by class."""
    train, test = raw.splits["train"], raw.splits["test"]
    counts = {"train": len(train.labels), "test": len(test.labels)}
    if "val" not in split_rows(counts, recipe.val_fraction):
        return {"train": train, "test": test}
    labels = train.labels[:].astype(np.int64)
    taken = permutation.stratified_mask(labels, recipe.val_fraction, recipe.split_seed or 0)
    return {
        "train": train.take(np.flatnonzero(~taken)),
        "val": train.take(np.flatnonzero(taken)),
        "test": test,
    }


def _moments_of(task: tuple[sources.LazyArray, str]) -> AnyMoments:
    """The sums of some rows of images."""
    images, per = task
    return pairwise_sum(moments_of(block, per) for block in iter_blocks(images))


def _bytes_there(work: Path) -> int:
    """Bytes of the files that are finished already."""
    return sum(path.stat().st_size for path in (work / staging.FILES).glob("*"))


def _show_raw(name: str, images: sources.LazyArray, moments: AnyMoments) -> None:
    limits = RawLimits.of(moments)
    LOG.info(
        "raw %-5s %s × %s %s, minimum %.6g, maximum %.6g",
        name,
        f"{len(images):,}",
        formatting.format_shape(images.shape[1:]),
        images.dtype,
        limits.minimum,
        limits.maximum,
    )


@dataclass(frozen=True, slots=True)
class WriteTask:
    """One file to be written, by this process or by another.

    work : the work folder, with the plan
    split : whose rows these are
    name : the file's
    rows : raw images and labels
    """

    work: Path
    split: str
    name: str
    rows: sources.RawSplit

    def write(self, note: Callable[[int], object] = lambda _: None) -> dict[str, Any]:
        """Write the file, unless it is there; ``rows`` and ``sha256`` of it."""
        return staging.run_step(self.work, self.name, lambda private: self._write(private, note))

    def _write(self, path: Path, note: Callable[[int], object]) -> dict[str, Any]:
        plan = _plan(self.work / PLAN)
        chunk_rows, count = plan.manifest.recipe.chunk_rows, len(self.rows.labels)
        with writer.create(path, plan.manifest.file_layout(self.split, count)) as out:
            for start in range(0, count, chunk_rows):
                rows = range(start, min(start + chunk_rows, count))
                out.append(**plan.scaled(self.rows, rows))
                note(len(rows))
        return {"rows": count, "sha256": out.sha256}


@dataclass(frozen=True)
class _BuildPlan:
    """All of an entry's manifest but its splits: what its files are written by."""

    manifest: Manifest

    @cached_property
    def scaling(self) -> Scaling:
        return self.manifest.scaling.scaling(self.manifest.mode, self.manifest.per)

    def scaled(self, raw: sources.RawSplit, rows: range) -> dict[str, NDArray[Any]]:
        """The stored columns of some rows."""
        images, labels = raw.images[rows.start : rows.stop], raw.labels[rows.start : rows.stop]
        scaled, own = apply_with_statistics(self.scaling, images, self.manifest.recipe.dtype)
        columns = {"images": scaled, "labels": labels.astype(np.int64)}
        return columns if own is None else columns | per_image_columns(self.scaling, own)


@lru_cache(maxsize=2)
def _plan(path: Path) -> _BuildPlan:
    """The plan, read once by each process. Its path names its recipe or is of one build alone."""
    return _BuildPlan(Manifest.from_dict(json.loads(path.read_bytes())))


def _write_manifest(work: Path, manifest: Manifest) -> None:
    for name, content in manifest.to_files().items():
        fs.write_atomically(work / staging.FILES / name, content, work)
