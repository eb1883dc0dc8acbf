"""Train a CNN on an entry's files, evaluate it, and leave a run folder."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import logging
import math
import os
import re
import shutil
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelprep import progress
from pixelprep.batches import Plan
from pixelprep.entry import Entry, Split
from pixelprep.errors import TrainError, UsageError, missing_extra, whole

if TYPE_CHECKING:
    import keras

LOG = logging.getLogger("pixelprep")

SMALLEST = 10  # pixels of height and width that the reference CNN's layers need
LARGEST_SEED = 2**32 - 1  # Keras takes no larger one


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
        returns a Keras model, which is compiled here.
    run_dir : path, optional
        The run's folder, not there yet; default: ``runs/DATASET-MODE-TIME-PROCESS``.
    quiet : bool
        Draw no progress bars.
    """

    epochs: int = 5
    batch_size: int = 64
    seed: int = 0
    steps_per_execution: int = 32
    model: str | None = None
    run_dir: Path | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "steps_per_execution"):
            whole("--" + name.replace("_", "-"), getattr(self, name), 1)
        whole("--seed", self.seed, 0, LARGEST_SEED)
        if self.model is not None and not re.fullmatch(r"[\w.]+:\w+", self.model):
            raise UsageError(f"--model {self.model}: expected module:function")
        if self.run_dir is not None:
            _check_new(self.run_dir)


def _finite(value: Any) -> Any:
    """The same with null for infinity and NaN (a loss that diverged), which JSON has not."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _check_new(run: Path) -> None:
    """A run never lands on what is there already."""
    if os.path.lexists(run):
        raise TrainError(f"{run}: is there already", "name another folder with --run-dir")


def train(entry: Entry, settings: Settings) -> dict[str, Any]:
    """Fit a CNN on the training split, evaluate it on the test split, write the run folder.

    The files are streamed: a window of chunks at a time is in memory.

    Returns
    -------
    dict
        What ``metrics.json`` holds: ``run``, ``entry``, ``key``, ``history``, ``test_loss``,
        ``test_accuracy`` (0 to 1), ``seconds_per_epoch`` (the median), …

    Raises
    ------
    MissingExtraError
        When TensorFlow is not installed.
    TrainError
        When the model does not fit the images, or the run folder is there already.
    """
    start_tensorflow()
    with _run_folder(entry, settings) as (folder, final):
        import keras

        keras.utils.set_random_seed(settings.seed)
        model = _model(entry, settings)
        _announce(entry, settings)
        history = _fit(model, entry, settings)
        test_loss, test_accuracy = _evaluate(model, entry.test, settings)
        metrics: dict[str, Any] = _finite(
            {
                "run": os.fspath(final),
                "entry": os.fspath(entry.path),
                "dataset": entry.dataset,
                "mode": entry.mode,
                "per": entry.per,
                "key": entry.key,
                **{k: v for k, v in asdict(settings).items() if k not in ("run_dir", "quiet")},
                "steps_per_epoch": _steps(entry.train, settings),
                "test_steps": _steps(entry.test, settings),
                "history": history,
                "test_loss": test_loss,
                "test_accuracy": test_accuracy,
                "seconds_per_epoch": statistics.median(history["seconds"]),
            }
        )
        with _explained(final):
            _write_run(folder, model, history, metrics)
    return metrics


def require_tensorflow() -> None:
    """Say at once, before any work, when TensorFlow or Matplotlib is missing."""
    for module, name in (("tensorflow", "TensorFlow"), ("matplotlib", "Matplotlib")):
        if importlib.util.find_spec(module) is None:
            raise missing_extra(name, "train", "training")


def start_tensorflow() -> None:
    """Import TensorFlow and find its devices, without its talk about them on standard error.

    What goes wrong comes as an exception; ``TF_CPP_MIN_LOG_LEVEL=0`` brings the talk back.
    """
    require_tensorflow()
    wanted = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0"
    # Its first lines come before its logging is set up and heed no level: only the descriptor
    # itself can be turned away.
    with nullcontext() if wanted else _standard_error_closed():
        import tensorflow as tf

        tf.zeros(1)


@contextmanager
def _standard_error_closed() -> Iterator[None]:
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def reference_cnn(input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """The CNN that the scalings are compared on.

    Parameters
    ----------
    input_shape : tuple of int
        (H, W, C), H and W at least 10.
    classes : int
        Of the softmax at the end.
    """
    import keras

    if min(input_shape[:2]) < SMALLEST:
        raise TrainError(
            f"the reference CNN needs images of {SMALLEST}×{SMALLEST} or more,"
            f" got {input_shape[0]}×{input_shape[1]}",
            "give a model of your own with --model module:function",
        )
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(classes, activation="softmax"),
        ]
    )


def _model(entry: Entry, settings: Settings) -> keras.Model:
    """The reference CNN or the user's own, checked against the images and compiled."""
    shape, classes = entry.train.shape[1:], len(entry.class_names)
    build = _imported(settings.model) if settings.model else reference_cnn
    model = build((shape[0], shape[1], shape[2]), classes)
    _check_model(model, settings.model or "the reference CNN", shape, classes)
    model.compile(
        optimizer="adam",
        # Categorical cross-entropy; "sparse" says that labels come as numbers, not as vectors.
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=settings.steps_per_execution,
    )
    return model


def _imported(reference: str) -> Callable[[tuple[int, int, int], int], Any]:
    """The function that ``module:function`` names, importable from the current folder too."""
    module, _, function = reference.partition(":")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - compared with strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - likewise
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise TrainError(
            f"--model {reference}: {error}",
            "the module must be importable from the current folder",
        ) from error
    return found


def _check_model(model: Any, name: str, shape: tuple[int, ...], classes: int) -> None:
    import keras

    if not isinstance(model, keras.Model):
        raise TrainError(f"{name}: expected a Keras model, got {type(model).__name__}")
    if not model.built:  # a Sequential without its Input
        model.build((None, *shape))
    got = (tuple(model.input_shape[1:]), tuple(model.output_shape[1:]))
    if got != (tuple(shape), (classes,)):
        raise TrainError(
            f"{name}: expected input {tuple(shape)} and output {(classes,)},"
            f" got {got[0]} and {got[1]}"
        )


def _steps(split: Split, settings: Settings) -> int:
    return Plan(settings.batch_size).steps(len(split))


def _announce(entry: Entry, settings: Settings) -> None:
    for name, split in entry.splits.items():
        steps = _steps(split, settings)
        size = settings.batch_size
        LOG.info("%-5s %s images, %d steps of %d", name, f"{len(split):,}", steps, size)
    images, _ = next(
        iter(entry.train.batches(settings.batch_size, shuffle=True, seed=settings.seed))
    )
    shape = "×".join(map(str, images.shape))
    LOG.info("first batch %s %s, %.4g to %.4g", shape, images.dtype, images.min(), images.max())


def _fit(model: keras.Model, entry: Entry, settings: Settings) -> dict[str, list[float]]:
    """Fit, and return Keras's history with the seconds of each epoch."""
    size = settings.batch_size
    val = None if entry.val is None else entry.val.to_tf(size)
    watch = _watch(settings, _steps(entry.train, settings))
    fitted = model.fit(
        entry.train.to_tf(size, shuffle=True, seed=settings.seed),
        epochs=settings.epochs,
        validation_data=val,
        shuffle=False,  # the feed is shuffled already, and Keras warns if asked to do it again
        verbose=0,
        callbacks=[watch],
    )
    history = {name: [float(v) for v in values] for name, values in fitted.history.items()}
    return history | {"seconds": watch.seconds}


def _evaluate(model: keras.Model, test: Split, settings: Settings) -> tuple[float, float]:
    found = model.evaluate(test.to_tf(settings.batch_size), verbose=0, return_dict=True)
    return float(found["loss"]), float(found["accuracy"])


def _watch(settings: Settings, steps: int) -> Any:
    """A Keras callback: a bar an epoch on a terminal, then a line with its result."""
    import keras

    class Watch(keras.callbacks.Callback):  # type: ignore[misc] # Keras is not typed
        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.started = time.perf_counter()
            what = f"epoch {epoch + 1}/{settings.epochs}"
            self.bar = progress.bar(what, steps, " steps", settings.quiet)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            # Keras counts the steps of its last execution in full, also where they ran out.
            self.bar.update(min(batch + 1, steps) - self.bar.n)
            if logs:
                self.bar.set_postfix(
                    loss=f"{float(logs['loss']):.4f}", accuracy=f"{float(logs['accuracy']):.2%}"
                )

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.bar.close()
            self.seconds.append(time.perf_counter() - self.started)
            LOG.info(_epoch_line(epoch, settings.epochs, logs or {}, self.seconds[-1]))

    return Watch()


def _epoch_line(epoch: int, epochs: int, logs: dict[str, float], seconds: float) -> str:
    line = f"epoch {epoch + 1}/{epochs}  loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.2%}"
    if "val_loss" in logs:
        line += f"  val loss {logs['val_loss']:.4f}  val accuracy {logs['val_accuracy']:.2%}"
    return f"{line}  {seconds:.1f} s"


@contextmanager
def _run_folder(entry: Entry, settings: Settings) -> Iterator[tuple[Path, Path]]:
    """A private folder that gets the run's name when the run is whole, and the final path."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    default = Path("runs") / f"{entry.dataset}-{entry.mode}-{stamp}-{os.getpid()}"
    final = (settings.run_dir or default).absolute()
    _check_new(final)
    private = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}")
    try:
        with _explained(final):
            private.mkdir(parents=True)
        yield private, final
        with _explained(final):
            private.rename(final)
    finally:
        shutil.rmtree(private, ignore_errors=True)


@contextmanager
def _explained(run: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise TrainError(f"{run}: cannot write the run: {reason}", "use --run-dir") from error


def _write_run(
    folder: Path, model: keras.Model, history: dict[str, list[float]], metrics: dict[str, Any]
) -> None:
    model.save(folder / "model.keras")
    with (folder / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *history])
        writer.writerows([i + 1, *row] for i, row in enumerate(zip(*history.values(), strict=True)))
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    _picture(folder / "training.png", history, metrics)


def _picture(path: Path, history: dict[str, list[float]], metrics: dict[str, Any]) -> None:
    """Loss and accuracy over the epochs, the test accuracy as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs = range(1, len(history["loss"]) + 1)
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        axes.plot(epochs, history[name], marker="o", label="train")
        if f"val_{name}" in history:
            axes.plot(epochs, history[f"val_{name}"], marker="s", label="validation")
        if metrics[f"test_{name}"] is not None:  # a loss may have diverged
            style = {"linestyle": "--", "color": "grey", "label": "test, at the end"}
            axes.axhline(metrics[f"test_{name}"], **style)
        axes.set(xlabel="epoch", ylabel=name, xticks=list(epochs))
        axes.legend()
    title = f"{metrics['dataset']}, {metrics['mode']} per {metrics['per']}, seed {metrics['seed']}"
    figure.suptitle(f"{title}: test accuracy {metrics['test_accuracy']:.2%}")
    figure.savefig(path, dpi=120)
