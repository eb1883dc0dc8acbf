"""Train a CNN on an entry's files, evaluate it, and leave a run folder; or go on with one."""

from __future__ import annotations

import logging
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from pixelprep.cache.entries import open_entry
from pixelprep.dataset.batches import BatchConfig
from pixelprep.dataset.entry import Entry, Split
from pixelprep.errors import EntryError, TrainError, UsageError, check_int
from pixelprep.format.options import RUNTIME_ONLY
from pixelprep.reports import html, run_report
from pixelprep.system import formatting, fs, progress, tf_runtime
from pixelprep.training import models
from pixelprep.training.run_folder import (
    MODEL,
    PAGE,
    PICTURE,
    RUNS,
    SERVING,
    History,
    RunFolder,
    TrainState,
    unfinished,
)
from pixelprep.training.serving import serving_model
from pixelprep.training.tensorboard import EventWriter

if TYPE_CHECKING:
    import keras


LOG = logging.getLogger("pixelprep")

LARGEST_SEED = 2**32 - 1  # Keras takes no larger one

# What may be asked of a run that goes on, for its result is the same.
CHANGEABLE = ("epochs", "quiet", "checkpoint_every", "tensorboard")
FREE = (*CHANGEABLE, *RUNTIME_ONLY, "source")


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train.

    Parameters
    ----------
    epochs, batch_size : int
        At least 1.
    seed : int
        0 to 2**32 − 1: of the weights and of the order of the images.
    steps_per_execution : int
        Batches that TensorFlow runs before it returns to Python, at least 1; changes the speed,
        not the result.
    model : str, optional
        ``module:function``, called with the input shape (H, W, C) and the number of classes;
        returns a Keras model, which is compiled here. Or the folder of a finished run, whose
        model is trained further; its entry must have had the same scaling.
    run_dir : path, optional
        The run's folder, not there yet; default: ``runs/DATASET-MODE-TIME-PROCESS``.
    quiet : bool
        Draw no progress bars.
    early_stopping : int, optional
        Stop when the validation loss has not improved for so many epochs, and publish the model as
        it was after the best one.
    checkpoint_every : int
        Epochs from one checkpoint to the next, at least 1; there is one after the last in any case.
    tensorboard : path, optional
        Folder in which a folder of the run's name gets event files for TensorBoard, written
        whenever there is a checkpoint.
    """

    epochs: int = 5
    batch_size: int = 64
    seed: int = 0
    steps_per_execution: int = 32
    model: str | None = None
    run_dir: Path | None = None
    quiet: bool = False
    early_stopping: int | None = None
    checkpoint_every: int = 1
    tensorboard: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        counts = ["epochs", "batch_size", "steps_per_execution", "checkpoint_every"]
        counts += ["early_stopping"] * (self.early_stopping is not None)
        for name in counts:
            check_int(name, getattr(self, name), 1)
        check_int("seed", self.seed, 0, LARGEST_SEED)
        if self.model is not None:
            models.check_named(self.model)
        if self.run_dir is not None:
            RunFolder(fs.expand_user(self.run_dir).absolute()).check_new()

    @property
    def reproducible(self) -> dict[str, Any]:
        """Those that a run keeps when it goes on."""
        kept = {k: v for k, v in asdict(self).items() if k not in ("run_dir", "quiet")}
        if self.tensorboard is not None:
            kept["tensorboard"] = os.fspath(fs.expand_user(self.tensorboard).absolute())
        return kept

    def events_of(self, run: RunFolder) -> Path | None:
        """The folder of a run's event files, where there are to be any."""
        folder = self.reproducible["tensorboard"]
        return None if folder is None else Path(folder, run.final.name)


def _finite(value: Any) -> Any:
    """The same with null for infinity and NaN (a loss that diverged), which JSON has not."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def require(purpose: str) -> None:
    """Say at once, before any work, when a package is missing that training needs.

    Raises
    ------
    MissingExtraError
        When one is.
    """
    tf_runtime.require(purpose)
    html.require(purpose, "train")


def train(entry: Entry, settings: Settings) -> dict[str, Any]:
    """Fit a CNN on the training split, evaluate it on the test split, write the run folder.

    The files are streamed: a window of chunks at a time is in memory.

    Returns
    -------
    dict
        What ``metrics.json`` holds: ``run``, ``entry``, ``key``, ``history``, ``test_loss``,
        ``test_accuracy`` (0 to 1), ``seconds_per_epoch`` (the median), ``best_epoch`` and
        ``stopped_epoch`` (from 1; None where it does not stop early), …

    Raises
    ------
    MissingExtraError
        When TensorFlow is not installed.
    TrainError
        When the model does not fit the images, or the run folder is there already.
    UsageError
        When it is to stop early, and the entry has no validation split.
    """
    require("training")
    if settings.early_stopping and entry.val is None:
        raise UsageError(
            f"`early_stopping={settings.early_stopping}`: expected a validation split, which"
            f" {entry.path} has not",
            "add `val_fraction`, such as 0.1",
        )
    run = RunFolder(fs.expand_user(settings.run_dir or _default_folder(entry)).absolute())
    events = settings.events_of(run)
    if events is not None and os.path.lexists(events):
        hint = "name another folder with `tensorboard`, or another run with `run_dir`"
        raise TrainError(f"{events}: is there already", hint)
    tf_runtime.start("training")
    run.make()
    with run.held(), run.resumable():
        start = TrainState(os.fspath(entry.path), entry.key, settings.reproducible, {})
        return _finish(run, entry, settings, start)


def resume(path: Path, **asked: Any) -> dict[str, Any]:
    """Go on with an unfinished run: the result is that of a run which was never interrupted.

    Parameters
    ----------
    path : Path
        The unfinished run's folder, ``NAME.unfinished``, or the name it will have.
    **asked
        As for `Settings` and `prepare_or_open`, only those that were asked for. ``epochs`` may
        be another number, down to the epochs that are finished; the rest is as the run has it.

    Returns
    -------
    dict
        As of `train`.

    Raises
    ------
    UsageError
        When something else is asked for than the run has.
    TrainError
        When there is no such run, it is finished, another process is training it, its checkpoint
        is damaged, or the entry or model is no longer what it was.
    """
    require("training")
    with unfinished(path).held():
        run = unfinished(path)  # again: another process may have finished it meanwhile
        done, variables, best = run.load()
        with run.resumable():
            entry = _entry_of(done, asked)
            settings = _settings_of(run, done, entry, asked)
            tf_runtime.start("training")
            done = replace(done, settings=settings.reproducible)
            return _finish(run, entry, settings, done, variables, best)


def _default_folder(entry: Entry) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return RUNS / f"{entry.dataset}-{entry.mode}-{stamp}-{os.getpid()}"


def _entry_of(done: TrainState, asked: Mapping[str, Any]) -> Entry:
    """The entry that a run was trained on so far."""
    hint = "put it back, or prepare it again from the same data with the same options"
    try:
        cache = fs.cache_dir(asked.get("cache_dir"))
        entry = open_entry(Path(done.entry), cache, asked.get("quiet", False))
    except EntryError as error:
        raise EntryError(error.message, error.hint or hint) from error
    if entry.key != done.key:
        raise EntryError(f"{entry.path}: expected the entry {done.key}, found {entry.key}", hint)
    return entry


def _settings_of(
    run: RunFolder, done: TrainState, entry: Entry, asked: Mapping[str, Any]
) -> Settings:
    """The settings of a run that goes on, once it is sure that nothing else is asked for."""
    kept = {"dataset": entry.dataset, "force": False, "run_dir": run.final}
    kept |= entry.manifest["recipe"] | done.settings
    for name, value in asked.items():
        value = value.absolute() if name == "run_dir" else value
        if name not in FREE and value != kept.get(name):
            raise UsageError(
                f"{run.folder} is a run with {name} {kept.get(name)}, but {value} was asked for",
                "leave it out",
            )
    free = {name: asked[name] for name in CHANGEABLE if name in asked}
    settings = replace(Settings(**done.settings), **free)
    if settings.epochs < done.epochs:
        raise UsageError(f"`epochs={settings.epochs}`: {run.folder} has finished {done.epochs}")
    return settings


def _finish(
    run: RunFolder,
    entry: Entry,
    settings: Settings,
    done: TrainState,
    variables: Sequence[NDArray[Any]] = (),
    best: Sequence[NDArray[Any]] = (),
) -> dict[str, Any]:
    """Train what is not done yet, evaluate, publish."""
    import keras

    keras.utils.set_random_seed(settings.seed)
    model = models.compiled(entry, settings.model, settings.steps_per_execution)
    serving = serving_model(model, entry.scaling, entry.train.shape[1:], entry.train.dtype)
    if done.epochs:
        models.restore(model, variables, run.checkpoint)
        LOG.info("going on after epoch %d of %d", done.epochs, settings.epochs)
    _announce(entry, settings)
    best = best or variables if settings.early_stopping else ()
    kept = _Checkpointer(model, settings, run, done, best, _events(settings, run, done))
    _fit(model, entry, settings, kept)
    kept.restore_best()
    test_loss, test_accuracy = _evaluate(model, entry.test, settings)
    metrics: dict[str, Any] = _finite(
        {
            "run": os.fspath(run.final),
            "entry": os.fspath(entry.path),
            "dataset": entry.dataset,
            "mode": entry.mode,
            "per": entry.per,
            "key": entry.key,
            **settings.reproducible,
            "steps_per_epoch": _steps(entry.train, settings),
            "test_steps": _steps(entry.test, settings),
            "history": done.history,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "seconds_per_epoch": statistics.median(done.history["seconds"]),
            **_stopping(settings, done),
        }
    )
    shown = {PICTURE: run_report.picture(done.history, metrics)}
    shown |= _page(model, entry, metrics, done.history)
    run.publish({MODEL: model, SERVING: serving}, done.history, metrics, entry.manifest, shown)
    return metrics


def _page(
    model: keras.Model, entry: Entry, metrics: dict[str, Any], history: History
) -> dict[str, bytes]:
    """The run's page by its name; one that cannot be made is no reason to lose a trained model."""
    try:
        return {PAGE: run_report.build(model, entry, metrics, history)}
    except Exception as error:  # of whatever library draws it
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        LOG.warning("the run's page cannot be made, all else is there: %s", reason)
        return {}


def _stopping(settings: Settings, done: TrainState) -> dict[str, int | None]:
    """The epoch whose model is published, and the one after which the run stopped early."""
    if settings.early_stopping is None:
        return {"best_epoch": None, "stopped_epoch": None}
    over = done.is_over(settings.early_stopping)
    return {"best_epoch": done.best_epoch, "stopped_epoch": done.epochs if over else None}


def _events(settings: Settings, run: RunFolder, done: TrainState) -> EventWriter | None:
    """The event files, where there are to be any, with all epochs that are finished."""
    folder = settings.events_of(run)
    if folder is None:
        return None
    events = EventWriter(folder)
    events.follow(done.history)
    return events


def _steps(split: Split, settings: Settings) -> int:
    return BatchConfig(settings.batch_size).steps(len(split))


def _announce(entry: Entry, settings: Settings) -> None:
    for name, split in entry.splits.items():
        steps = formatting.pluralize(_steps(split, settings), "step")
        LOG.info("%-5s %s images, %s of %d", name, f"{len(split):,}", steps, settings.batch_size)
    images, _ = next(
        iter(entry.train.batches(settings.batch_size, shuffle=True, seed=settings.seed))
    )
    shape, limits = formatting.format_shape(images.shape), (images.min(), images.max())
    LOG.info("first batch %s %s, %.4g to %.4g", shape, images.dtype, *limits)


def _fit(model: keras.Model, entry: Entry, settings: Settings, kept: _Checkpointer) -> None:
    """Fit the epochs that are not finished."""
    size, first = settings.batch_size, kept.done.epochs
    val = None if entry.val is None else entry.val.to_tf(size)
    over = kept.done.is_over(settings.early_stopping)
    watch = _watch(settings, _steps(entry.train, settings), kept.after)
    with closing(watch):
        model.fit(
            entry.train.to_tf(size, shuffle=True, seed=settings.seed, epoch=first),
            epochs=first if over else settings.epochs,
            initial_epoch=first,
            validation_data=val,
            shuffle=False,  # the feed is shuffled already, and Keras warns if asked to do it again
            verbose=0,
            callbacks=[watch],
        )


@dataclass(slots=True)
class _Checkpointer:
    """What a run keeps after each epoch: its history, its checkpoint, and the best variables.

    best : of the best epoch so far; none unless the run is to stop early
    events : those of TensorBoard
    """

    model: keras.Model
    settings: Settings
    run: RunFolder
    done: TrainState
    best: Sequence[NDArray[Any]]
    events: EventWriter | None

    def after(self, logs: dict[str, float]) -> None:
        """Keep what an epoch gave, and stop training in time."""
        for name, value in logs.items():
            self.done.history.setdefault(name, []).append(float(value))
        if improved := bool(self.settings.early_stopping) and self._is_best:
            self.best = models.values(self.model)
        over = self.done.is_over(self.settings.early_stopping)
        epochs = self.done.epochs
        if over or epochs == self.settings.epochs or epochs % self.settings.checkpoint_every == 0:
            self.run.save(self.done, models.values(self.model), () if improved else self.best)
            if self.events:
                self.events.follow(self.done.history)
        self.model.stop_training = over

    @property
    def _is_best(self) -> bool:
        return self.done.best_epoch == self.done.epochs

    def restore_best(self) -> None:
        """Have the model as it was after the best epoch, where the run is to stop early."""
        if self.best and not self._is_best:
            LOG.info("epoch %d of %d was the best", self.done.best_epoch, self.done.epochs)
            models.restore(self.model, self.best, self.run.checkpoint)


def _evaluate(model: keras.Model, test: Split, settings: Settings) -> tuple[float, float]:
    found = model.evaluate(test.to_tf(settings.batch_size), verbose=0, return_dict=True)
    return float(found["loss"]), float(found["accuracy"])


def _watch(settings: Settings, steps: int, finished: Callable[[dict[str, float]], None]) -> Any:
    """A Keras callback: a bar an epoch on a terminal, then a line with its result.

    `finished` is called with each epoch's results and seconds before its line is printed.
    """
    import keras

    class Watch(keras.callbacks.Callback):  # type: ignore[misc] # Keras is not typed
        bar: Any = None

        def close(self) -> None:
            if self.bar is not None:
                self.bar.close()

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.started = time.perf_counter()
            what = f"epoch {epoch + 1}/{settings.epochs}"
            self.bar = progress.bar(what, steps, " steps", settings.quiet)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            # Keras counts the steps of its last execution in full, also where they ran out.
            self.bar.update(min(batch + 1, steps) - self.bar.n)
            if logs:
                loss, accuracy = float(logs["loss"]), float(logs["accuracy"])
                progress.set_postfix(self.bar, f"loss {loss:.3f}, {accuracy:.1%}")

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.close()
            results = {**(logs or {}), "seconds": time.perf_counter() - self.started}
            finished(results)
            LOG.info(_epoch_line(epoch, settings.epochs, results))

    return Watch()


def _epoch_line(epoch: int, epochs: int, logs: dict[str, float]) -> str:
    line = f"epoch {epoch + 1}/{epochs}  loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.2%}"
    if "val_loss" in logs:
        line += f"  val {logs['val_loss']:.4f}  {logs['val_accuracy']:.2%}"
    return f"{line}  {logs['seconds']:.1f} s"
