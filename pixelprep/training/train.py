"""Train a CNN on an entry's files, test it, and leave a run folder; or resume such a run."""

from __future__ import annotations

import json
import logging
import math
import os
import statistics
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
)  # Any: options, each of its own type; Keras is not typed

from pixelprep import sources
from pixelprep.cache.entries import open_recorded
from pixelprep.dataset import keras_variables
from pixelprep.dataset.batches import Batches
from pixelprep.dataset.entry import Entry, Split
from pixelprep.dataset.epoch import BatchConfig
from pixelprep.errors import EntryError, TrainError, UsageError
from pixelprep.format.options import RUNTIME_ONLY
from pixelprep.pipeline.prepare import prepare, prepare_or_open
from pixelprep.reports import html, run_report
from pixelprep.reports.results import (
    PAGE,
    TrainResult,
    TrainSettings,
    checkpoint_cadence,
    finite,
)
from pixelprep.system import formatting, fs, os_calls, tf_runtime
from pixelprep.training import evaluation_data, fitting, models, run_folder
from pixelprep.training.augmentation import Augmentation
from pixelprep.training.imported import is_reference
from pixelprep.training.run_folder import Checkpoint, RunFolder, TrainState, unfinished
from pixelprep.training.serving import serving_model
from pixelprep.training.tensorboard import EventWriter

if TYPE_CHECKING:
    import keras

LOG = logging.getLogger("pixelprep")

# Settings of a run that may be others when it is resumed, for its result is the same.
CHANGEABLE = ("epochs", "checkpoint_every", "tensorboard")
# Options that say nothing of the result, so that resuming may have any.
NOT_COMPARED = (*CHANGEABLE, *RUNTIME_ONLY, "source")


def require(purpose: str) -> None:
    """Say at once, before any work, when a package is missing that training needs."""
    tf_runtime.require(purpose)
    html.require(purpose, "train")


def train(
    dataset: Entry | str | os.PathLike[str] | sources.Source = "mnist",
    *,
    epochs: int = 5,
    batch_size: int = 64,
    seed: int = 0,
    steps_per_execution: int = 32,
    model: str | os.PathLike[str] | None = None,
    early_stopping: int | None = None,
    tensorboard: str | os.PathLike[str] | None = None,
    checkpoint_every: int | str = 1,
    class_weight: str | None = None,
    balance: str | None = None,
    augment: str | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
    **options: Any,
) -> TrainResult:
    """Train a CNN on a dataset, prepared first if needed; test it, and leave a run folder.

    The files are streamed: a window of chunks at a time is in memory.

    Parameters
    ----------
    dataset : Entry, str, path or Source
        An entry, its folder, key or ``DATASET/MODE-KEY``; or a dataset, as for `prepare`.
    epochs, batch_size : int
        At least 1.
    seed : int
        0 to 2**32 − 1: of the weights and of the order of the images.
    steps_per_execution : int
        Batches that TensorFlow runs before it returns to Python, at least 1; changes the speed,
        not the result.
    model : str or path, optional
        ``module:function``, called with the input shape (H, W, C) and the number of classes;
        returns a Keras model, which is compiled here. Or the folder of a finished run, whose
        model is trained further; its entry must have had the same scaling.
        Default: the reference CNN.
    early_stopping : int, optional
        Stop when the validation loss has not improved for so many epochs, and keep the model as
        it was after the best one.
    tensorboard : path, optional
        Folder in which a folder of the run's name gets event files for TensorBoard, written
        whenever there is a checkpoint.
    checkpoint_every : int or str
        Epochs from one checkpoint to the next, at least 1; there is one after the last in any case.
        Or steps, as ``"500steps"``: there is one after each epoch, and within it after every so
        many of its steps, or as soon after as TensorFlow returns to Python.
    class_weight : {"balanced"}, optional
        Weigh each training image in the loss by `Entry.class_weight` of this kind.
    balance : {"oversample"}, optional
        Train on as many images of each class as the largest has, as of `BatchOptions`.
    augment : str, optional
        ``module:name`` of a function or Keras layer that changes training images before they are
        scaled. A function is called with a batch of raw images, float32 (n, H, W, C), and a seed,
        int64 (2,), which is another for each batch of each epoch; a layer with the images, and
        ``training=True``. Either returns images of the same shape.
    run_dir : path, optional
        The run's folder, which must not exist; default: ``runs/DATASET-MODE-TIME-PROCESS``.
    quiet : bool
        Draw no progress bars.
    **options
        As for `prepare`; of an entry, those that it was prepared with. Where they tell of scaling
        alone, data that has one such entry is taken as it was prepared.

    Returns
    -------
    TrainResult
        What the run's ``metrics.json`` holds.

    Raises
    ------
    MissingExtraError
        When TensorFlow, Jinja or Matplotlib is not installed.
    TrainError
        When the model does not fit the images, or the run folder already exists.
    UsageError
        When an option is wrong, or it is to stop early and the entry has no validation split.
    PixelprepError
        Whatever preparing raises.

    Examples
    --------
    >>> import pixelprep
    >>> result = pixelprep.train("sample", epochs=1)  # doctest: +SKIP
    >>> result.test_accuracy > 0.9, result.run  # doctest: +SKIP
    (True, PosixPath('/home/me/runs/sample-standardize-20260801-120000-4711'))
    """
    os_calls.require_posix("training")
    model, logs = os.fspath(model) if model is not None else None, _absolute(tensorboard)
    settings = TrainSettings(
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        steps_per_execution=steps_per_execution,
        model=model,
        early_stopping=early_stopping,
        checkpoint_every=checkpoint_cadence(checkpoint_every),
        tensorboard=logs,
        class_weight=class_weight,
        balance=balance,
        augment=augment,
    )
    if model is not None:
        models.check_named(model)
    if augment is not None and not is_reference(augment):
        raise UsageError(f"`augment={augment}`: expected module:function, or module:layer")
    run = RunFolder(fs.expand_user(run_dir).absolute()) if run_dir is not None else None
    if run is not None:
        run.check_new()
    require("training")
    _check_early(settings, dataset, options)
    entry = _entry(dataset, options, quiet)
    if run is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        name = f"{entry.dataset}-{entry.mode}-{stamp}-{os.getpid()}"
        run = RunFolder((run_folder.RUNS / name).absolute())
    _check(settings, entry, run)
    tf_runtime.start_keras("training")
    run = run.make() if run_dir is not None else run.make_unique()
    with run.started(), run.resumable():
        state = TrainState(os.fspath(entry.path), entry.key, settings, {})
        return _run(run, entry, Checkpoint(state), quiet)


def resume(path: str | os.PathLike[str], **options: Any) -> TrainResult:
    """Go on with an unfinished run: the result is that of a run which was never interrupted.

    Parameters
    ----------
    path : path
        The unfinished run's folder, ``NAME.unfinished``, or the name it will have.
    **options
        As for `train`, only those that are asked for. ``epochs`` may be another number, down to
        the epochs that are finished or begun; ``checkpoint_every`` and ``tensorboard`` may be
        others too; the rest must be as the run has it.

    Returns
    -------
    TrainResult
        As of `train`.

    Raises
    ------
    UsageError
        When something else is asked for than the run has.
    TrainError
        When there is no such run, it is finished, another process is training it, its checkpoint
        is damaged, or the entry or model is no longer what it was.

    Examples
    --------
    >>> import pixelprep
    >>> result = pixelprep.resume("runs/mine.unfinished", epochs=10)  # doctest: +SKIP
    """
    os_calls.require_posix("training")
    require("training")
    path = fs.expand_user(path)
    with unfinished(path).locked():
        run = unfinished(path)  # again: another process may have finished it meanwhile
        checkpoint = run.load()
        with run.resumable():
            entry = _entry_of(checkpoint.state, options)
            settings = _settings_of(run, checkpoint.state, entry, options)
            tf_runtime.start_keras("training")
            state = replace(checkpoint.state, settings=settings)
            return _run(run, entry, replace(checkpoint, state=state), options.get("quiet", False))


def _absolute(path: str | os.PathLike[str] | None) -> str | None:
    return os.fspath(fs.expand_user(path).absolute()) if path is not None else None


def _entry(
    dataset: Entry | str | os.PathLike[str] | sources.Source, options: dict[str, Any], quiet: bool
) -> Entry:
    if isinstance(dataset, Entry):
        if not options:
            return dataset
        dataset = dataset.path  # which has the options checked
    dataset = sources.normalize_dataset(dataset)
    if isinstance(dataset, str):
        return prepare_or_open(dataset, **options, quiet=quiet)
    return prepare(dataset, **options, quiet=quiet)


def _check_early(settings: TrainSettings, dataset: object, options: Mapping[str, Any]) -> None:
    """Refuse to stop early on a known dataset without validation before anything is downloaded."""
    known = sources.REGISTRY.get(dataset) if isinstance(dataset, str) else None
    if not (settings.early_stopping and known) or options.get("val_fraction"):
        return
    if not known.summary().val:
        given = f"`early_stopping={settings.early_stopping}`"
        message = f"{given}: expected a validation split, which {dataset} has not"
        raise UsageError(message, "add `val_fraction=0.1`")


def _check(settings: TrainSettings, entry: Entry, run: RunFolder) -> None:
    """Refuse rows of several classes, no train split, what cannot stop early, event files."""
    _ = entry.train  # which raises where there is none
    if entry.manifest.source.task != "classification":
        message = f"{entry.path}: its rows have several classes, `train` needs one"
        raise TrainError(message, "stream it into a model of your own by `entry.train.to_tf`")
    if len(entry.class_names) < 2:
        raise TrainError(f"{entry.path}: all of one class, {entry.class_names[0]}: expected two")
    if settings.early_stopping and "val" not in entry.splits:
        given = f"`early_stopping={settings.early_stopping}`"
        message = f"{given}: expected a validation split, which {entry.path} has not"
        hint = "add `val_fraction=0.1`; of an entry, give what it was made from"
        raise UsageError(message, hint)
    events = _events_folder(settings, run)
    # An empty one is of a process that was killed before it had anything to write.
    if events is not None and os.path.lexists(events) and not fs.is_empty_dir(events):
        hint = "name another folder with `tensorboard`, or another run with `run_dir`"
        raise TrainError(f"{events}: already exists", hint)


def _events_folder(settings: TrainSettings, run: RunFolder) -> Path | None:
    return Path(settings.tensorboard, run.final.name) if settings.tensorboard else None


def _entry_of(state: TrainState, options: Mapping[str, Any]) -> Entry:
    cache = fs.cache_dir(options.get("cache_dir"))
    entry = open_recorded(Path(state.entry), state.key, cache, options.get("quiet", False))
    if entry.key != state.key:
        message = f"{entry.path}: expected the entry {state.key}, found {entry.key}"
        raise EntryError(message, "move it away, or name its cache with `cache_dir`")
    return entry


def _settings_of(
    run: RunFolder, state: TrainState, entry: Entry, options: Mapping[str, Any]
) -> TrainSettings:
    """Return the settings of a resumed run, once it is sure that nothing else is asked for."""
    known = {"dataset": entry.dataset, "force": False, "run_dir": run.final}
    known |= entry.manifest.recipe.to_dict() | state.settings.to_dict()
    for name, value in options.items():
        value = Path(value).absolute() if name == "run_dir" else value
        if name not in NOT_COMPARED and value != known.get(name):
            raise UsageError(
                f"{run.folder} is a run with {name} {known.get(name)}, but {value} was asked for",
                "leave it out",
            )
    changed = {name: options[name] for name in CHANGEABLE if name in options}
    if "tensorboard" in changed:
        changed["tensorboard"] = _absolute(changed["tensorboard"])
    if "checkpoint_every" in changed:
        changed["checkpoint_every"] = checkpoint_cadence(changed["checkpoint_every"])
    settings = replace(state.settings, **changed)
    if settings.epochs < state.epochs + bool(state.step):
        begun = " and begun the next" if state.step else ""
        message = f"`epochs={settings.epochs}`: {run.folder} has finished {state.epochs}{begun}"
        raise UsageError(message)
    return settings


def _run(run: RunFolder, entry: Entry, checkpoint: Checkpoint, quiet: bool) -> TrainResult:
    """Train the epochs that are not finished, test, publish."""
    import keras

    from pixelprep.dataset.tensorflow import raising_originals

    state, settings = checkpoint.state, checkpoint.state.settings
    keras.utils.set_random_seed(settings.seed)
    model = models.compiled(entry, settings.model, settings.steps_per_execution)
    images = entry.train
    serving = serving_model(model, entry.scaling, images.shape[1:], images.dtype, entry.class_names)
    augmentation, fitted, train = None, model, fitting.train_batches(entry, settings)
    if settings.augment:
        augmentation = Augmentation(settings.augment, settings.seed, len(train))
        augmentation.check(next(iter(images.batches(models.LOOKED_AT, raw=True)))[0])
        fitted = models.behind_scaling(model, entry, settings.steps_per_execution)
    if checkpoint.variables:
        keras_variables.restore(fitted, checkpoint.variables, run.checkpoint)
        where = f" and step {state.step} of {len(train)}" if state.step else ""
        LOG.info("going on after epoch %d of %d%s", state.epochs, settings.epochs, where)
    _announce(entry, settings, train)
    best = checkpoint.best if state.step else checkpoint.best or checkpoint.variables
    folder = _events_folder(settings, run)
    events = EventWriter(folder) if folder else None
    if events:
        events.follow(state.history)
    checkpointer = fitting.Checkpointer(
        fitted,
        run,
        state,
        steps=len(train),
        best=best if settings.early_stopping else (),
        metrics=checkpoint.metrics,
        events=events,
    )
    held_out = entry.held_out
    with raising_originals():
        fitting.fit(checkpointer, entry, augmentation, quiet=quiet)
        checkpointer.restore_best()
        scores = models.score(model, held_out, settings.batch_size) if held_out else None
    state = checkpointer.state
    if held_out and scores and not math.isfinite(scores.loss):
        message = f"{run.final}: the loss on the {held_out.name} split is {scores.loss}"
        raise TrainError(f"{message}: expected a finite number", "check the model")
    models.check_trained(model, settings.model, entry)
    test = scores if "test" in entry.splits else None
    result = _result(run, entry, state, len(train), test)
    picture = {run_folder.PICTURE: run_report.picture(result)}
    files = {run_folder.MODEL: model, run_folder.SERVING: serving}
    pages = picture | _page(model, entry, result, scores)
    read_by = json.dumps(evaluation_data.read_by(entry), indent=1)
    pages |= {f"{run_folder.ENTRY}/{run_folder.READ_BY}": f"{read_by}\n".encode()}
    run.publish(files, result, state.history, entry.manifest, pages)
    return result


def _result(
    run: RunFolder, entry: Entry, state: TrainState, steps: int, test: models.Scores | None
) -> TrainResult:
    may_stop = state.settings.early_stopping is not None
    return TrainResult(
        run=run.final,
        entry=entry.path,
        dataset=entry.dataset,
        mode=entry.mode,
        per=entry.per,
        key=entry.key,
        settings=state.settings,
        steps_per_epoch=steps,
        test_steps=_steps(entry.test, state.settings) if test else None,
        history={name: tuple(map(finite, values)) for name, values in state.history.items()},
        test_loss=finite(test.loss) if test else None,
        test_accuracy=test.accuracy if test else None,
        seconds_per_epoch=statistics.median(state.history["seconds"]),
        best_epoch=state.best_epoch if may_stop else None,
        stopped_epoch=state.epochs if state.stops_early else None,
    )


def _page(
    model: keras.Model, entry: Entry, result: TrainResult, scores: models.Scores | None
) -> dict[str, bytes]:
    """Draw the run's page; one that cannot be made is no reason to lose a trained model."""
    machine = tf_runtime.environment_info()
    try:
        predictions = (scores.evaluation, scores.probability) if scores else None
        page = run_report.build(result, entry, predictions, model.count_params(), machine)
    except Exception as error:  # of whatever library draws it
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        LOG.warning("the run's page cannot be made, all else is there: %s", reason)
        return {}
    return {PAGE: page}


def _steps(split: Split, settings: TrainSettings) -> int:
    return BatchConfig(settings.batch_size).steps(len(split))


def _announce(entry: Entry, settings: TrainSettings, train: Batches) -> None:
    """Say what is trained on: rows and steps of each split, and the range of the first batch."""
    for name, split in entry.splits.items():
        count = len(train) if name == "train" else _steps(split, settings)
        steps, images = (
            formatting.pluralize(count, "step"),
            formatting.pluralize(len(split), "image"),
        )
        LOG.info("%-5s %s, %s of %d", name, images, steps, settings.batch_size)
    if settings.balance:
        LOG.info("train %s images an epoch, as many of each class", f"{train.rows:,}")
    if settings.class_weight:
        weights = sorted(entry.class_weight(settings.class_weight).values())
        LOG.info("classes weigh %.4g to %.4g in the loss", weights[0], weights[-1])
    first, _ = next(iter(train))
    shape, limits = formatting.format_shape(first.shape), (first.min(), first.max())
    LOG.info("first batch %s %s, %.4g to %.4g", shape, first.dtype, *limits)
