"""Build one cache entry: fit on train, scale and write every split, publish."""

import json
import math
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any  # arrays of any type, and a bar of tqdm's

import numpy as np

from pixelprep import sources
from pixelprep.cache import entries
from pixelprep.cache.trust import file_stamps
from pixelprep.dataset.entry import Entry, split_of
from pixelprep.format import layout, writer
from pixelprep.format import manifest as manifests
from pixelprep.format.recipe import Recipe, class_counts, split_files
from pixelprep.numerics.scaling import Scaling, apply_with_statistics, per_image_columns
from pixelprep.pipeline.fit import Splits, divide, fit, sum_up, tell_of_scaling
from pixelprep.system import canonical, fs, parallel, progress, staging

PLAN = "plan.json"  # in a work folder: the manifest without splits, which all tasks go by
ROW_BYTES = 32  # of a row beside its pixels: label, checksums, its part of an index


def build(
    source: sources.Source,
    data: sources.Survey,
    recipe: Recipe,
    context: sources.SourceContext,
    keep_existing: Callable[[], bool],
    check_limits: Callable[[Collection[manifests.RawLimits]], object] = bool,
) -> Entry:
    """Fit, scale and write the entry of a recipe, and publish it in the cache.

    `keep_existing` is called before an entry of the same name is replaced: is that one to stay?
    `check_limits` may refuse the pixels before anything is written.
    """
    cache = context.cache
    splits = divide(data, recipe, source.name, sources.on_leak_of(source))
    cache.mkdir(parents=True, exist_ok=True)
    # An interrupted build of several files a split continues; of one there is nothing to keep.
    resumable = recipe.shard_rows is not None
    with staging.workspace(cache, f"{source.name}-{recipe.folder}", resumable=resumable) as work:
        if recipe.compression == "none":
            present = sum(path.stat().st_size for path in (work / staging.FILES).glob("*"))
            fs.require_free_space(cache, _bytes_needed(splits, recipe) - present)
        # Nothing is fitted where there are constants.
        per, counted = "dataset" if recipe.constants else recipe.per, recipe.quantiles is not None
        moments = sum_up(splits, per, data.moments, context, counted=counted)
        limits = {name: manifests.RawLimits.of(moments[name]) for name in splits}
        check_limits(limits.values())
        first = next(iter(splits))  # train, if it is there
        scaling = fit(recipe, splits[first].images.dtype, moments[first])
        tell_of_scaling(scaling, recipe.storage, source.name, limits)
        plan = manifests.Manifest(
            dataset=source.name,
            key=recipe.key,
            recipe=recipe,
            provenance=source.provenance,
            source=data.record,
            scaling=manifests.ScalingRecord.of(scaling),
            statistics=manifests.PixelSums(**moments[first].overall()),
            splits={},
        )
        (work / PLAN).write_bytes(canonical.dumps(plan.to_dict()))
        with parallel.thread_pool() as threads:
            digests, syncing = _write_files(work, splits, recipe, context, threads)
            stored = {
                name: _record(work, name, split, plan, limits[name], digests)
                for name, split in splits.items()
            }
            for synced in syncing:
                synced.result()
        manifest = replace(plan, splits=stored)
        for name, content in manifest.to_files().items():
            fs.write_atomically(work / staging.FILES / name, content, work)
        stamps = file_stamps(work / staging.FILES, manifest)
        path = cache / source.name / recipe.folder
        staging.publish(work / staging.FILES, path, cache, keep_existing)
    return entries.published_entry(path, cache, manifest, stamps)


def _bytes_needed(splits: Splits, recipe: Recipe) -> int:
    rows = sum(len(split.labels) for split in splits.values())
    images = next(iter(splits.values())).images
    image, raw_dtype = math.prod(images.shape[1:]), images.dtype.name
    stored = layout.stored_dtype(recipe.storage, recipe.dtype, raw_dtype)
    return rows * (image * np.dtype(stored).itemsize + ROW_BYTES)


def _write_files(
    work: Path,
    splits: Splits,
    recipe: Recipe,
    context: sources.SourceContext,
    threads: Executor,
) -> tuple[dict[str, str], list[Future[None]]]:
    """Write all files; return their digests, and what brings each to the disk meanwhile."""
    tasks = [
        WriteTask(work, name, file, split.slice_rows(rows))
        for name, split in splits.items()
        for file, rows in split_files(name, len(split.labels), recipe.shard_rows).items()
    ]
    images = sum(len(split.labels) for split in splits.values())
    with progress.bar("writing", images, " images", context.quiet) as bar:
        if context.pool.inline:
            results = context.pool.map(partial(WriteTask.write, on_progress=bar.update), tasks)
        else:
            sizes = (len(task.rows.labels) for task in tasks)
            results = progress.track(context.pool.map(WriteTask.write, tasks), sizes, bar)
        digests, syncing = {}, []
        for task, digest in zip(tasks, results, strict=True):
            digests[task.file] = digest
            syncing.append(threads.submit(fs.fsync, work / staging.FILES / task.file))
    return digests, syncing


def _record(
    work: Path,
    name: str,
    split: sources.RawSplit,
    plan: manifests.Manifest,
    raw: manifests.RawLimits,
    digests: Mapping[str, str],
) -> manifests.SplitRecord:
    """Record one split whose files are written."""
    folder, recipe, rows = work / staging.FILES, plan.recipe, len(split.labels)
    rows_of = split_files(name, rows, recipe.shard_rows)
    stamps = {file: fs.file_stamp(folder / file) for file in rows_of}
    files = tuple(
        manifests.FileRecord(file, len(rows), stamps[file][1], digests[file])
        for file, rows in rows_of.items()
    )
    stored = split_of(folder, name, rows, files, plan, stamps)
    return manifests.SplitRecord(
        rows=len(stored),
        shape=stored.shape,
        dtype=recipe.dtype,
        bytes=sum(file.bytes for file in files),
        class_counts=class_counts(stored.labels, len(plan.source.class_names)),
        raw=raw,
        first_batch=manifests.FirstBatch.of(
            stored.read(0, min(manifests.FIRST_BATCH, len(stored)))
        ),
        files=files,
    )


@dataclass(frozen=True, slots=True)
class WriteTask:
    """One file of a split to be written, by this process or by another, from its raw rows."""

    work: Path  # the work folder, with the plan
    split: str
    file: str
    rows: sources.RawSplit

    def write(self, on_progress: Callable[[int], object] = lambda _: None) -> str:
        """Write the file, unless an interrupted build has done so; return its digest."""

        def write_file(path: Path) -> dict[str, Any]:
            manifest, scaling = _read_plan(self.work / PLAN)
            recipe, count = manifest.recipe, len(self.rows.labels)
            with writer.create(path, manifest.file_layout(self.split, count)) as out:
                for start in range(0, count, recipe.chunk_rows):
                    parallel.check_wanted()
                    rows = slice(start, min(start + recipe.chunk_rows, count))
                    images, labels = self.rows.images[rows], self.rows.labels[rows]
                    scaled, own = apply_with_statistics(scaling, images, recipe.dtype)
                    columns = {} if own is None else per_image_columns(scaling, own)
                    if self.rows.names is not None:
                        columns["names"] = self.rows.names[rows]
                    stored = images if recipe.storage == "raw" else scaled
                    dtype = np.uint8 if labels.ndim > 1 else np.int64
                    out.append(images=stored, labels=labels.astype(dtype), **columns)
                    on_progress(len(labels))
            return {"rows": count, "sha256": out.sha256}

        return str(staging.run_step(self.work, self.file, write_file)["sha256"])


@lru_cache(maxsize=2)
def _read_plan(path: Path) -> tuple[manifests.Manifest, Scaling]:
    """Read a plan, once in each process; its path is of one recipe, or of one build alone."""
    plan = manifests.Manifest.from_dict(json.loads(path.read_bytes()))
    return plan, plan.scaling.scaling(plan.recipe)
