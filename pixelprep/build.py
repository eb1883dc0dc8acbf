"""Build one cache entry: fit on train, scale and write every split, publish."""

import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelprep import entry as entries
from pixelprep import files, opening, order, parallel, progress, sources, words, workspace
from pixelprep import manifest as manifests
from pixelprep.entry import Entry
from pixelprep.moments import AnyMoments, merged, moments_of
from pixelprep.recipe import Recipe, shards, split_rows
from pixelprep.scaling import Scaling, unit_of
from pixelprep.sources import blocks
from pixelprep.store import layout, writing

LOG = logging.getLogger("pixelprep")

FIT_BYTES = 64 << 20  # of raw images that one task sums up
PLAN = "plan.json"  # in a work folder: what the writing of its files goes by


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
    place: sources.Place

    def publish(self, path: Path, stays: Callable[[], bool]) -> Entry:
        """Fit, scale, write, and give the finished entry its name, unless another one stays."""
        cache = self.place.cache
        splits = divided(self.raw, self.recipe)
        cache.mkdir(parents=True, exist_ok=True)
        # Of one file a split there is nothing to go on with.
        several = self.recipe.shard_rows is not None
        name = f"{self.dataset}-{self.recipe.folder}"
        with workspace.workspace(cache, name, resumable=several) as work:
            if self.recipe.compression == "none":
                files.need_space(cache, self._bytes_needed() - _bytes_there(work))
            moments = self._moments(splits)
            scaling = self._fitted(moments["train"])
            manifest = self._manifest(scaling, moments["train"].overall())
            (work / PLAN).write_bytes(files.canonical_json(manifest))
            manifest["splits"] = self._write(work, splits)
            for name, found in moments.items():
                manifest["splits"][name]["raw"] = manifests.limits(found)
            _write_manifest(work, manifest)
            workspace.publish(work / workspace.FILES, path, cache, stays)
        opening.trust(path, cache, manifest)
        return replace(opening.open_entry(path, cache), hit=False)

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
            parts = [sources.cut(images, rows) for rows in sources.pieces(images, FIT_BYTES)]
            sums = self.place.team.map(_moments_of, ((part, per) for part in parts))
            with progress.bar(f"reading {name}", len(images), " images", self.place.quiet) as bar:
                found[name] = merged(progress.followed(sums, map(len, parts), bar))
            _show_raw(name, images, found[name])
        return found

    def _fitted(self, train: AnyMoments) -> Scaling:
        recipe, dtype = self.recipe, self.raw.splits["train"].images.dtype
        unit = unit_of(dtype, recipe.rescale)
        fitted = None if recipe.per == "image" else train.statistics(unit)
        return Scaling(recipe.mode, recipe.per, unit, dtype.name, fitted)

    def _write(self, work: Path, splits: Mapping[str, sources.RawSplit]) -> dict[str, Any]:
        """Write all files; what the manifest holds of each split."""
        shards = [
            Shard(work, name, file, split.cut(rows))
            for name, split in splits.items()
            for file, rows in self._files(name, split).items()
        ]
        images = sum(len(split.labels) for split in splits.values())
        written = {}
        with (
            parallel.threads() as pool,
            progress.bar("writing", images, " images", self.place.quiet) as bar,
        ):
            on_disk = []
            for shard, record in zip(shards, self._written(shards, bar), strict=True):
                written[shard.name] = record
                # While others are written, those before are brought to the disk.
                on_disk.append(pool.submit(files.fsync, work / workspace.FILES / shard.name))
            for done in on_disk:
                done.result()
        return {
            name: self._record(work, name, splits[name], written, self._files(name, splits[name]))
            for name in splits
        }

    def _written(self, shards: list["Shard"], bar: Any) -> Iterator[dict[str, Any]]:
        """Write the files, here or by the workers."""
        if self.place.team.inline:
            return (shard.write(bar.update) for shard in shards)
        sizes = (len(shard.rows.labels) for shard in shards)
        return progress.followed(self.place.team.map(Shard.write, shards), sizes, bar)

    def _files(self, name: str, split: sources.RawSplit) -> dict[str, range]:
        return shards(name, len(split.labels), self.recipe.shard_rows)

    def _record(
        self,
        work: Path,
        name: str,
        split: sources.RawSplit,
        written: Mapping[str, Any],
        names: Iterable[str],
    ) -> dict[str, Any]:
        """What the manifest holds of one split."""
        states = {file: files.state(work / workspace.FILES / file) for file in names}
        listed = [{"name": file, "bytes": states[file][1], **written[file]} for file in names]
        record = {
            "rows": len(split.labels),
            "shape": list(split.images.shape),
            "dtype": self.recipe.dtype,
            "bytes": sum(state[1] for state in states.values()),
            "files": listed,
        }
        recipe = asdict(self.recipe)
        stored = entries.split_of(work / workspace.FILES, name, record, recipe, states)
        return record | {"first_batch": manifests.first_batch(stored)}

    def _manifest(self, scaling: Scaling, sums: Mapping[str, float]) -> dict[str, Any]:
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
            "scaling": manifests.scaling_record(scaling),
            "statistics": dict(sums),
            "splits": {},
        }


def divided(raw: sources.Raw, recipe: Recipe) -> dict[str, sources.RawSplit]:
    """The stored splits: validation, if any, is taken from train, class by class."""
    train, test = raw.splits["train"], raw.splits["test"]
    counts = {"train": len(train.labels), "test": len(test.labels)}
    if "val" not in split_rows(counts, recipe.val_fraction):
        return {"train": train, "test": test}
    labels = train.labels[:].astype(np.int64)
    taken = order.stratified(labels, recipe.val_fraction, recipe.split_seed or 0)
    return {
        "train": train.picked(np.flatnonzero(~taken)),
        "val": train.picked(np.flatnonzero(taken)),
        "test": test,
    }


def _moments_of(task: tuple[sources.Array, str]) -> AnyMoments:
    """The sums of some rows of images."""
    images, per = task
    return merged(moments_of(block, per) for block in blocks(images))


def _bytes_there(work: Path) -> int:
    """Bytes of the files that are finished already."""
    return sum(path.stat().st_size for path in (work / workspace.FILES).glob("*"))


def _show_raw(name: str, images: sources.Array, moments: AnyMoments) -> None:
    limits = manifests.limits(moments)
    LOG.info(
        "raw %-5s %s × %s %s, minimum %.6g, maximum %.6g",
        name,
        f"{len(images):,}",
        words.times(images.shape[1:]),
        images.dtype,
        limits["minimum"],
        limits["maximum"],
    )


@dataclass(frozen=True, slots=True)
class Shard:
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
        return workspace.once(self.work, self.name, lambda private: self._write(private, note))

    def _write(self, path: Path, note: Callable[[int], object]) -> dict[str, Any]:
        plan = _plan(self.work / PLAN)
        recipe, count = plan.recipe, len(self.rows.labels)
        outline = manifests.outline(plan.manifest, self.split, self.rows.images.shape)
        with writing.create(path, outline) as writer:
            for start in range(0, count, recipe["chunk_rows"]):
                rows = range(start, min(start + recipe["chunk_rows"], count))
                writer.append(**plan.scaled(self.rows, rows))
                note(len(rows))
        return {"rows": count, "sha256": writer.sha256}


@dataclass(frozen=True)
class _Plan:
    """All of an entry's manifest but its splits: what its files are written by."""

    manifest: Mapping[str, Any]

    @property
    def recipe(self) -> dict[str, Any]:
        return dict(self.manifest["recipe"])

    @cached_property
    def scaling(self) -> Scaling:
        recipe = self.recipe
        return manifests.scaling_of(self.manifest["scaling"], recipe["mode"], recipe["per"])

    def scaled(self, raw: sources.RawSplit, rows: range) -> dict[str, NDArray[Any]]:
        """The stored columns of some rows."""
        images, labels = raw.images[rows.start : rows.stop], raw.labels[rows.start : rows.stop]
        scaled, own = self.scaling.apply_with_statistics(images, self.recipe["dtype"])
        columns = {"images": scaled, "labels": labels.astype(np.int64)}
        return columns if own is None else columns | self.scaling.stored_of(own)


@lru_cache(maxsize=2)
def _plan(path: Path) -> _Plan:
    """The plan, read once by each process. Its path names its recipe or is of one build alone."""
    return _Plan(json.loads(path.read_bytes()))


def _write_manifest(work: Path, manifest: Mapping[str, Any]) -> None:
    for name, content in manifests.contents(manifest).items():
        files.write_whole(work / workspace.FILES / name, content, work)
