"""Somebody else's program, with all that pixelprep's public interface has: typed, and it runs."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import pixelprep
from pixelprep.dataset.batches import Batches, BatchIterator
from pixelprep.numerics.statistics import Statistics
from pixelprep.sources import Options, Provenance, Raw, Source, SourceContext
from pixelprep.views import Page

Floats = NDArray[np.float64]


def stripes(options: Options) -> Source:
    """Return what an entry point in `pixelprep.sources` names."""
    images = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
    labels = np.array([int(options.offline), 1])
    terms = Provenance("stripes", "CC0 1.0", homepage="", citation="")
    pair = images, labels
    return pixelprep.Arrays("stripes", pair, pair, class_names=("a", "b"), provenance=terms)


def look_at_entry(entry: pixelprep.Entry) -> None:
    """Use all that an entry tells."""
    assert_type(entry.path, Path)
    assert_type(entry.manifest.to_dict(), dict[str, Any])
    assert_type((entry.dataset, entry.mode, entry.per, entry.key), tuple[str, str, str, str])
    assert_type((entry.cached, entry.size, entry.rows), tuple[bool, int, int])
    assert_type(entry.class_names, tuple[str, ...])
    assert_type(entry.class_counts, dict[str, tuple[int, ...]])
    assert_type(entry.class_weight("balanced"), dict[int, float])
    assert_type(entry.scaling, pixelprep.Scaling)
    with suppress(pixelprep.MissingExtraError):
        assert_type(entry.report(), Page)
    assert_type(entry.splits, dict[str, pixelprep.Split])
    assert_type((entry.train, entry.test), tuple[pixelprep.Split, pixelprep.Split])
    if "val" in entry.splits:
        assert_type(entry.val, pixelprep.Split)
    assert_type((entry.held_out, entry.is_exact), tuple[pixelprep.Split | None, bool])


def examine() -> None:
    """Look for problems; typed alone, since it starts every framework that is there."""
    found = pixelprep.doctor(cache_dir=None)
    assert_type(found, pixelprep.Diagnosis)
    assert_type(found.problems, tuple[pixelprep.Problem, ...])
    for problem in found.problems:
        assert_type((found.ok, problem.message, problem.hint), tuple[bool, str, str])
    assert_type((found.versions, found.machine), tuple[Mapping[str, object], Mapping[str, object]])
    assert_type((found.extras, found.cache), tuple[Mapping[str, object], Mapping[str, object]])
    assert_type(
        (found.settings, found.self_test), tuple[Mapping[str, object], Mapping[str, object]]
    )
    assert_type(found.frameworks, Mapping[str, object])


def look_at_split(split: pixelprep.Split) -> None:
    """Use all that a split tells and hands out, but to a framework."""
    assert_type((split.name, split.per_image, len(split)), tuple[str, bool, int])
    assert_type((split.shape, split.dtype), tuple[tuple[int, ...], np.dtype[Any]])
    assert_type(split.read(0, 1), NDArray[Any])
    for index in (0, slice(1), [0, -1], split.labels == 0):
        assert_type(split[index], tuple[NDArray[Any], Any])
    assert_type(next(iter(split)), tuple[NDArray[Any], Any])
    assert_type(split.labels, NDArray[Any])
    if split.per_image:
        assert_type((split.mean, split.std), tuple[Floats, Floats])
    assert_type(split.to_numpy(), tuple[NDArray[Any], NDArray[Any]])
    assert_type(split.names, NDArray[np.str_] | None)
    assert_type(split.read_names(), NDArray[np.bytes_] | None)
    assert_type((split.name_of(0), split.column_names), tuple[str | None, tuple[str, ...]])
    assert_type(split.read_raw(0, 1), NDArray[Any] | None)
    shard = split.batches(
        1, shuffle=True, seed=1, epoch=2, drop_last=True, shard=(0, 1), even="pad"
    )
    assert_type(shard, Batches)
    assert_type(split.batches(1, shuffle=True, balance="oversample"), Batches)
    for images, labels in shard:
        assert_type((images, labels), tuple[NDArray[Any], NDArray[Any]])
    passing = iter(shard)
    next(passing)
    assert_type(shard.resume(passing.state()), BatchIterator)
    assert_type(shard.resume(shard.state(0)), BatchIterator)
    assert_type(split.batches(1, shard="auto").state(0), dict[str, Any])


def feed(split: pixelprep.Split) -> None:
    """Feed frameworks; not called: none is installed with pixelprep alone."""
    split.to_keras(64, shuffle=True, workers=1, use_multiprocessing=False, max_queue_size=10)
    split.to_tf(64, shuffle=True, seed=0, epoch=0, drop_last=True)
    split.to_tf(64, shuffle=True, shard="auto", state=split.batches(64, shuffle=True).state(5))
    split.as_torch(layout="nchw", labels="int", dtype=None, raw=False)
    split.to_torch(64, shuffle=True, seed=0, epoch=0, drop_last=True, shard=(0, 1))
    split.to_torch(64, layout="nchw", labels="onehot", device="cuda", dtype=None)
    split.to_jax(64, shuffle=True, seed=0, epoch=0, drop_last=True, shard=(0, 1), device=None)
    split.to_jax(64, layout="nhwc", labels="multihot", dtype=np.float16)


def scale(images: NDArray[np.uint8]) -> None:
    """Scaling without a cache."""
    scaling = pixelprep.Scaling.fit(images, "center", per="image", rescale=True)
    assert_type(scaling, pixelprep.Scaling)
    assert_type((scaling.mode, scaling.per, scaling.raw_dtype), tuple[str, str, str])
    assert_type((scaling.unit, scaling.fixed), tuple[int, bool])
    assert_type(scaling.statistics, Statistics | None)
    assert_type((scaling.channel_order, scaling.limits), tuple[str | None, str | None])
    assert_type(scaling.target_range or scaling.quantiles, tuple[float, ...] | None)
    assert_type(scaling.clip, bool | None)
    for figure in (scaling.mean, scaling.std, scaling.scale, scaling.offset):
        assert_type(figure, Floats)
    assert_type(scaling.apply(images), NDArray[Any])
    assert_type(scaling.is_exact(np.float32), bool)
    with suppress(pixelprep.MissingExtraError):
        scaling.layer("torch", np.float32)
    mean = images.mean(axis=(1, 2, 3)) / scaling.unit
    back = scaling.invert(scaling.apply(images), mean=mean, std=np.ones_like(mean))
    assert_type(back, NDArray[Any])
    assert (back == images).all()


def train(entry: pixelprep.Entry) -> None:
    """Train and judge models; not called: TensorFlow is not installed with pixelprep alone."""
    assert_type(pixelprep.find_entry("sample", mode="center"), pixelprep.Entry)
    trained = pixelprep.train(entry, epochs=1, batch_size=64, seed=0, quiet=True)
    assert_type(trained, pixelprep.TrainResult)
    assert_type(pixelprep.resume(trained.run, epochs=2), pixelprep.TrainResult)
    assert_type((trained.entry, trained.dataset, trained.mode), tuple[Path, str, str])
    assert_type((trained.per, trained.key, trained.settings.epochs), tuple[str, str, int])
    assert_type((trained.steps_per_epoch, trained.test_steps), tuple[int, int | None])
    assert_type(trained.history["loss"][0], float | None)
    assert_type((trained.test_loss, trained.test_accuracy), tuple[float | None, float | None])
    assert_type(trained.report(), Page)
    assert_type(trained.score, tuple[str, float, float | None] | None)
    assert_type((trained.seconds_per_epoch, trained.best_epoch), tuple[float, int | None])
    assert_type(trained.stopped_epoch, int | None)
    assert_type(pixelprep.TrainResult.from_dict(trained.to_dict()), pixelprep.TrainResult)
    scores = pixelprep.evaluate(trained.run, entry, split="test", quiet=True)
    assert_type(scores, pixelprep.EvaluationResult)
    assert_type((scores.split, scores.exact, scores.images), tuple[str, bool, int])
    assert_type((scores.loss, scores.accuracy), tuple[float | None, float])
    assert_type(scores.classes[0].recall, float | None)
    moved = pixelprep.export_model(trained.run, "moved", "saved-model", quiet=True)
    assert_type(moved, pixelprep.ExportedModel)
    assert_type((moved.path, moved.model, moved.largest_difference), tuple[Path, str, float])
    assert_type((moved.raw_dtype, moved.scaling, moved.other_class), tuple[str, str, int])
    assert_type(moved.decoding, Mapping[str, Any])
    seen = pixelprep.predict(trained.run, "picture.png", top=1)
    assert_type(seen, pixelprep.PredictResult)
    assert_type(seen.images[0].top[0].probability, float)
    assert_type([(one.path, one.reason) for one in seen.unread], list[tuple[str, str]])
    compared = pixelprep.compare("sample", modes=["center", "standardize"], repeats=1)
    assert_type(compared, pixelprep.CompareResult)
    assert_type((compared.verdict, compared.ranking), tuple[str, tuple[str, ...]])
    assert_type((compared.modes[0].mean, compared.differences[0].pair[0]), tuple[float, str])
    assert_type((compared.seeds, compared.date), tuple[tuple[int, ...], str])
    assert_type((compared.command, compared.page), tuple[str | None, Path])
    assert_type(compared.changed, str | None)
    assert_type([m.mode for m in compared.ranked()], list[str])
    about = (compared.images, compared.settings, compared.machine)
    assert all(isinstance(part, dict) for part in about)
    page = pixelprep.report(entry, "page.html", format="html", quiet=True)
    assert_type(page, pixelprep.Report)
    assert_type((page.path, page.entry, page.format, page.bytes), tuple[Path, Path, str, int])


def measure() -> None:
    """Use all that is measured of a dataset."""
    found = pixelprep.stats("sample", quiet=True)
    assert_type(found, pixelprep.DatasetStats)
    assert_type((found.dataset, found.split, found.dtype), tuple[str, str, str])
    assert_type((found.shape, found.class_names), tuple[tuple[int, ...], tuple[str, ...]])
    train = found.splits["train"]
    assert_type((train.images, train.class_counts), tuple[int, tuple[int, ...]])
    for pixels in (train.channels, train.overall):
        assert_type((pixels.mean, pixels.std), tuple[tuple[float, ...], tuple[float, ...]])
        assert_type((pixels.minimum, pixels.maximum), tuple[tuple[float, ...], tuple[float, ...]])
        assert_type(pixels.mean_over_max, tuple[float, ...] | None)
        assert_type(pixels.std_over_max, tuple[float, ...] | None)
        assert pixels.quantiles is not None
        assert_type(pixels.quantiles["0.5"], tuple[float, ...])
    assert_type((found.sizes["28×28"], sorted(found.files)), tuple[int, list[str]])
    assert_type([one.kind for one in found.duplicates], list[str])
    assert_type((found.paste("keras"), found.pasted()["numpy"]), tuple[str, str])
    assert_type(found.to_dict(), dict[str, Any])


def rows() -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Yield images and labels."""
    yield from ((np.full((4, 4), 9 * row, np.uint8), row % 2) for row in range(6))


def fail() -> str:
    """Return each error has a message, and perhaps a hint."""
    try:
        pixelprep.prepare("sample", mode="scale", quiet=True)
    except (pixelprep.UsageError, pixelprep.CacheError, pixelprep.WorkerError) as error:
        assert_type(error.message, str)
        assert_type(error.hint, str | None)
        assert_type(error.resume_command, str | None)
    except (pixelprep.NewerFormatError, pixelprep.EntryError, pixelprep.DownloadError):
        raise
    except (pixelprep.SourceError, pixelprep.TrainError, pixelprep.MissingExtraError):
        raise
    assert issubclass(pixelprep.PixelprepWarning, UserWarning)
    return str(pixelprep.PixelprepError("where: expected, got", hint="what to do"))


def share(entry: pixelprep.Entry) -> None:
    """Publish an entry, and take it back."""
    with suppress(pixelprep.MissingExtraError):
        done = pixelprep.push(entry, "memory://consumer", quiet=True)
        assert_type(done, pixelprep.PushResult)
        assert_type((done.url, done.files, done.bytes, done.present), tuple[str, int, int, bool])
        assert_type(done.to_dict(), dict[str, Any])
        try:
            assert_type(pixelprep.pull(done.url, quiet=True), pixelprep.Entry)
        except pixelprep.RemoteError:
            raise
        for item in pixelprep.cache.list_remote("memory://consumer"):
            assert_type(item, pixelprep.cache.RemoteItem)
            assert_type((item.name, item.files, item.bytes), tuple[str, int, int])
            assert_type((item.made, item.published), tuple[float, bool])
            assert_type((item.paths, item.to_dict()), tuple[tuple[str, ...], dict[str, Any]])
        pixelprep.cache.prune_remote("memory://consumer", max_size=0)


def main() -> None:
    """Everything, once."""
    source = stripes(Options())
    assert isinstance(source, pixelprep.Arrays)
    assert_type(source.train, tuple[NDArray[Any], NDArray[Any]])
    assert_type(source.test, tuple[NDArray[Any], NDArray[Any]] | None)
    assert_type(source.splits, dict[str, tuple[NDArray[Any], NDArray[Any]]])
    assert_type((source.task, source.names is None), tuple[str, bool])
    assert_type((source.layout, source.renumber), tuple[str | None, bool])
    assert_type((source.labels_from, source.on_leak), tuple[int | None, str | None])
    assert_type(source.on_error, str | None)
    assert_type((source.name, source.class_names), tuple[str, tuple[str, ...]])
    assert_type(source.provenance, Provenance)
    assert_type(source.fingerprints(), list[dict[str, object]])
    with SourceContext(Path("unused")) as place:
        assert_type(source.load(place), Raw)
    entry = pixelprep.prepare(source, mode="center", per="image", quiet=True)
    assert_type(pixelprep.open(entry.path, cache_dir=None), pixelprep.Entry)
    [verdict] = pixelprep.verify(entry.path, repair=False, quiet=True)
    assert_type(verdict, pixelprep.VerifyResult)
    assert_type((verdict.ok, verdict.repaired, verdict.checked), tuple[bool, bool, bool])
    assert_type((verdict.problems, verdict.path), tuple[tuple[str, ...], Path])
    assert_type(verdict.bytes, int)
    assert_type(verdict.to_dict(), dict[str, object])
    share(entry)
    exported = pixelprep.export(entry, "stripes-npz", "npz", quiet=True)
    assert_type(exported, pixelprep.Export)
    assert_type((exported.path, exported.to, exported.seconds), tuple[Path, str, float])
    assert_type(exported.files[0].sha256, str | None)
    assert pixelprep.cache.list()
    assert_type(pixelprep.cache.path(), Path)
    summary = pixelprep.cache.describe(entry)
    assert_type(summary.origin, str | None)
    for found in summary.duplicates:
        assert_type((found.kind, found.images, found.dropped), tuple[str, int, bool])
        assert_type(found.equal, tuple[tuple[str, ...], ...])
    known = pixelprep.datasets()
    assert_type(known, pixelprep.KnownDatasets)
    assert_type([(plugin.name, plugin.origin) for plugin in known.plugins], list[tuple[str, str]])
    one = known.datasets[0]
    assert_type(one, pixelprep.DatasetSummary)
    assert_type((one.name, one.shape, one.train, one.test), tuple[str, tuple[int, ...], int, int])
    assert_type((one.classes, one.download_bytes), tuple[int, int | None])
    assert_type((one.val, one.task, one.tried), tuple[int, str, bool])
    assert_type((one.title, one.licence, one.homepage, one.citation), tuple[str, str, str, str])
    spooled = pixelprep.from_generator(
        "rows", {"train": rows}, ("a", "b"), version="1", on_leak="warn"
    )
    assert_type(spooled, Source)
    assert_type(
        pixelprep.from_dataset(list(rows()), name="rows", test=None, val=None, version="1"), Source
    )
    assert pixelprep.prepare(spooled, quiet=True).class_names == ("a", "b")
    look_at_entry(entry)
    look_at_split(entry.train)
    scale(source.train[0][..., None])
    measure()
    fail()


if __name__ == "__main__":
    main()
