"""Build one cache entry: fit on train, scale and write every split, publish."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any  # arrays of any type, and a bar of tqdm's

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
from pixelprep.format.recipe import Recipe, split_files
from pixelprep.numerics.scaling import Scaling, apply_with_statistics, per_image_columns
from pixelprep.pipeline.fit import fit, split_validation, sum_up
from pixelprep.pipeline.raw_data import RawData
from pixelprep.system import canonical, fs, parallel, progress, staging

PLAN = "plan.json"  # in a work folder: the manifest without splits, which all tasks go by
ROW_BYTES = 32  # of a row beside its pixels: label, checksums, its part of an index


@dataclass(frozen=True, slots=True)
class Written:
    """What is known of a file once it is written."""

    rows: int
    sha256: str


def build(
    source: sources.Source,
    data: RawData,
    recipe: Recipe,
    context: sources.SourceContext,
    keep_existing: Callable[[], bool],
) -> Entry:
    """Fit, scale and write the entry of a recipe, and publish it in the cache.

    Parameters
    ----------
    source : Source
        Whose name and provenance the entry has.
    data : RawData
        Its raw data.
    recipe : Recipe
        What decides the bytes; ``recipe.source`` is the digest of the raw data.
    context : SourceContext
        The cache and the workers.
    keep_existing : callable
        Asked before an entry of the same name is replaced: whether that one is to stay.
    """
    cache = context.cache
    path = cache / source.name / recipe.folder
    splits = split_validation(data.raw, recipe)
    cache.mkdir(parents=True, exist_ok=True)
    # An interrupted build of several files a split continues; of one there is nothing to keep.
    resumable = recipe.shard_rows is not None
    with staging.workspace(cache, f"{source.name}-{recipe.folder}", resumable=resumable) as work:
        if recipe.compression == "none":
            fs.require_free_space(cache, _bytes_needed(splits, recipe) - _bytes_present(work))
        moments = sum_up(splits, recipe.per, data.moments, context)
        train = splits["train"].images
        plan = Manifest(
            dataset=source.name,
            key=recipe.key,
            recipe=recipe,
            provenance=source.provenance,
            source=data.record,
            scaling=ScalingRecord.of(fit(recipe, train.dtype, moments["train"])),
            statistics=PixelSums(**moments["train"].overall()),
            splits={},
        )
        (work / PLAN).write_bytes(canonical.dumps(plan.to_dict()))
        written = _write_files(work, splits, recipe, context)
        manifest = replace(
            plan,
            splits={
                name: _record(work, name, split, recipe, RawLimits.of(moments[name]), written)
                for name, split in splits.items()
            },
        )
        for name, content in manifest.to_files().items():
            fs.write_atomically(work / staging.FILES / name, content, work)
        stamps = file_stamps(work / staging.FILES, manifest)
        staging.publish(work / staging.FILES, path, cache, keep_existing)
    return entries.published_entry(path, cache, manifest, stamps)


def _bytes_needed(splits: Mapping[str, sources.RawSplit], recipe: Recipe) -> int:
    rows = sum(len(split.labels) for split in splits.values())
    image = math.prod(splits["train"].images.shape[1:])
    return rows * (image * np.dtype(recipe.dtype).itemsize + ROW_BYTES)


def _bytes_present(work: Path) -> int:
    """Return the bytes of the files that are finished already."""
    return sum(path.stat().st_size for path in (work / staging.FILES).glob("*"))


def _write_files(
    work: Path,
    splits: Mapping[str, sources.RawSplit],
    recipe: Recipe,
    context: sources.SourceContext,
) -> dict[str, Written]:
    """Write all files, each brought to the disk while others are written; return them by name."""
    tasks = [
        WriteTask(work, name, file, split.slice_rows(rows))
        for name, split in splits.items()
        for file, rows in split_files(name, len(split.labels), recipe.shard_rows).items()
    ]
    images = sum(len(split.labels) for split in splits.values())
    with (
        parallel.thread_pool() as threads,
        progress.bar("writing", images, " images", context.quiet) as bar,
    ):
        written, syncing = {}, []
        for task, result in zip(tasks, _run_tasks(tasks, context.pool, bar), strict=True):
            written[task.file] = result
            syncing.append(threads.submit(fs.fsync, work / staging.FILES / task.file))
        for synced in syncing:
            synced.result()
    return written


def _run_tasks(tasks: list["WriteTask"], pool: parallel.WorkerPool, bar: Any) -> Iterator[Written]:
    """Write the files, in this process or by the workers."""
    if pool.inline:
        return (task.write(bar.update) for task in tasks)
    sizes = (len(task.rows.labels) for task in tasks)
    return progress.track(pool.map(WriteTask.write, tasks), sizes, bar)


def _record(
    work: Path,
    name: str,
    split: sources.RawSplit,
    recipe: Recipe,
    raw: RawLimits,
    written: Mapping[str, Written],
) -> SplitRecord:
    """Record one split whose files are written."""
    folder = work / staging.FILES
    names = split_files(name, len(split.labels), recipe.shard_rows)
    stamps = {file: fs.file_stamp(folder / file) for file in names}
    files = [
        FileRecord(file, written[file].rows, stamps[file][1], written[file].sha256)
        for file in names
    ]
    stored = split_of(folder, name, tuple(split.images.shape), files, recipe, stamps)
    return SplitRecord(
        rows=len(stored),
        shape=stored.shape,
        dtype=recipe.dtype,
        bytes=sum(file.bytes for file in files),
        raw=raw,
        first_batch=FirstBatch.of(stored.read(0, min(FIRST_BATCH, len(stored)))),
        files=tuple(files),
    )


@dataclass(frozen=True, slots=True)
class WriteTask:
    """One file to be written, by this process or by another.

    work : the work folder, with the plan
    split : the name of the split
    file : the file's name
    rows : its raw images and labels
    """

    work: Path
    split: str
    file: str
    rows: sources.RawSplit

    def write(self, on_progress: Callable[[int], object] = lambda _: None) -> Written:
        """Write the file, unless an interrupted build has done so."""
        result = staging.run_step(
            self.work, self.file, lambda private: self._write(private, on_progress)
        )
        return Written(**result)

    def _write(self, path: Path, on_progress: Callable[[int], object]) -> dict[str, Any]:
        plan = _read_plan(self.work / PLAN)
        chunk_rows, count = plan.manifest.recipe.chunk_rows, len(self.rows.labels)
        with writer.create(path, plan.manifest.file_layout(self.split, count)) as out:
            for start in range(0, count, chunk_rows):
                rows = range(start, min(start + chunk_rows, count))
                out.append(**plan.scale(self.rows, rows))
                on_progress(len(rows))
        return {"rows": count, "sha256": out.sha256}


@dataclass(frozen=True)
class _Plan:
    """What the files of an entry are written by: its manifest, as yet without splits."""

    manifest: Manifest

    @cached_property
    def scaling(self) -> Scaling:
        return self.manifest.scaling.scaling(self.manifest.mode, self.manifest.per)

    def scale(self, raw: sources.RawSplit, rows: range) -> dict[str, NDArray[Any]]:
        """Return the stored columns of some rows."""
        images, labels = raw.images[rows.start : rows.stop], raw.labels[rows.start : rows.stop]
        scaled, own = apply_with_statistics(self.scaling, images, self.manifest.recipe.dtype)
        columns = {"images": scaled, "labels": labels.astype(np.int64)}
        return columns if own is None else columns | per_image_columns(self.scaling, own)


@lru_cache(maxsize=2)
def _read_plan(path: Path) -> _Plan:
    """Read a plan, once in each process; its path is of one recipe, or of one build alone."""
    return _Plan(Manifest.from_dict(json.loads(path.read_bytes())))
