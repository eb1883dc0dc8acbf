"""A training run's folder: its name, its checkpoint, and what is in it at the end.

A final name means a finished run. Until then the run is ``NAME.unfinished`` beside it, with one
checkpoint: every variable of the model and how far the run is, in one file that is replaced whole
after each epoch. So the history never stands beside the variables of another epoch, whenever the
process is killed.
"""

import csv
import json
import math
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import EntryError, TrainError, attach_resume_command
from pixelprep.format import manifest as manifests
from pixelprep.format.manifest import Manifest
from pixelprep.system import fs, locks

if TYPE_CHECKING:
    import keras


RUNS = Path("runs")  # where runs are, unless another place is named
UNFINISHED = ".unfinished"
MOST_TOLD = 4  # runs in a hint
CHECKPOINT = "checkpoint.npz"
MODEL, SERVING = "model.keras", "serving.keras"  # takes scaled pixels; takes raw ones
METRICS, ENTRY = "metrics.json", "entry"  # a file; the folder of the entry's manifest
PICTURE, PAGE = "training.png", "run.html"

History = dict[str, list[float]]  # by name, one value an epoch


@dataclass(frozen=True, slots=True)
class TrainState:
    """How far a run is, and what it needs to go on.

    Parameters
    ----------
    entry, key : str
        Folder and key of the entry that is trained on.
    settings : dict
        Those that decide the result.
    history : dict of list of float
        Of the finished epochs.
    """

    entry: str
    key: str
    settings: dict[str, Any]
    history: History

    @property
    def epochs(self) -> int:
        """How many epochs are finished."""
        return len(self.history.get("loss", ()))

    @property
    def best_epoch(self) -> int:
        """The epoch of the lowest validation loss, the first of equal ones; from 1."""
        losses = self.history["val_loss"]
        best = min(range(len(losses)), key=lambda i: (math.isnan(losses[i]), losses[i]))
        return best + 1

    def is_over(self, patience: int | None) -> bool:
        """Whether the validation loss has not improved for so many epochs."""
        return bool(patience and self.epochs and self.epochs - self.best_epoch >= patience)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run.

    Parameters
    ----------
    final : Path
        Where the finished run will be, absolute.
    """

    final: Path

    @property
    def folder(self) -> Path:
        """Where the run is while it is unfinished."""
        return Path(f"{self.final}{UNFINISHED}")

    @property
    def checkpoint(self) -> Path:
        """The last finished epoch; there is none before the first."""
        return self.folder / CHECKPOINT

    @property
    def resuming(self) -> str:
        """The command that goes on with this run."""
        here, folder = Path.cwd(), self.folder
        shown = folder.relative_to(here) if folder.is_relative_to(here) else folder
        return f"pixelprep train --resume {shlex.quote(os.fspath(shown))}"

    def check_new(self) -> None:
        """Refuse to start a run where one is already.

        Raises
        ------
        TrainError
            When a finished or an unfinished run, or anything else, has this name.
        """
        self._check_unpublished("name another folder with `run_dir`")
        if os.path.lexists(self.folder):
            hint = self.resuming if self.checkpoint.exists() else f"delete {self.folder}"
            raise TrainError(f"{self.folder}: is there already", hint)

    def _check_unpublished(self, hint: str) -> None:
        """A run never lands on what is there already."""
        if os.path.lexists(self.final):
            raise TrainError(f"{self.final}: is there already", hint)

    def make(self) -> None:
        """Make the folder of a new run."""
        self.check_new()
        with self._explained():
            self.folder.mkdir(parents=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out; afterwards the folder is there only if a checkpoint is."""
        with locks.try_acquire(self.folder / "lock") as free:
            if not free:
                raise TrainError(f"{self.folder}: another process is training this run")
            try:
                yield
            finally:
                if not self.checkpoint.exists():
                    shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def resumable(self) -> Iterator[None]:
        """Let whatever goes wrong carry the command that continues from the checkpoint, if any."""
        try:
            yield
        except BaseException as error:
            if self.checkpoint.exists():
                attach_resume_command(error, self.resuming)
            raise

    def save(
        self,
        state: TrainState,
        variables: Sequence[NDArray[Any]],
        best: Sequence[NDArray[Any]] = (),
    ) -> None:
        """Replace the checkpoint; the one before stays until this one is on the disk whole.

        Parameters
        ----------
        state : State
            How far the run is.
        variables, best : sequence of ndarray
            As they are now, and as they were after the best epoch where it is another.
        """
        new = self.folder / "new.npz"
        with self._explained():
            try:
                kept: dict[str, Any] = {f"best_{i}": value for i, value in enumerate(best)}
                np.savez(new, *variables, **kept, progress=np.array(json.dumps(asdict(state))))
                fs.fsync(new)
                new.replace(self.checkpoint)
            finally:
                new.unlink(missing_ok=True)

    def load(self) -> tuple[TrainState, list[NDArray[Any]], list[NDArray[Any]]]:
        """The checkpoint: how far the run is, and the variables as they were given to `save`: those
        of the last epoch, and those of the best.

        Raises
        ------
        TrainError
            When it is damaged or something else; it stays as it is.
        """
        try:
            with np.load(self.checkpoint) as saved:
                state = TrainState(**json.loads(str(saved["progress"])))
                kept = sum(name.startswith("best_") for name in saved.files)
                variables = [saved[f"arr_{i}"] for i in range(len(saved.files) - 1 - kept)]
                best = [saved[f"best_{i}"] for i in range(kept)]
                if state.epochs < 1:
                    raise ValueError("no epochs")
        except Exception as error:  # NumPy, zipfile, zlib and json each say it in their own way
            raise TrainError(
                f"{self.checkpoint}: not a checkpoint, or a damaged one: {error!r}",
                f"delete {self.folder} and train again from the start",
            ) from error
        return state, variables, best

    def publish(
        self,
        models: "Mapping[str, keras.Model]",
        history: History,
        metrics: Mapping[str, Any],
        manifest: Manifest,
        shown: Mapping[str, bytes],
    ) -> None:
        """Write the finished run and give it its name; then the checkpoint goes.

        Parameters
        ----------
        models : mapping
            By file name: `MODEL` and `SERVING`.
        history, metrics, manifest : mapping
            Of the run, and of the entry that it was trained on.
        shown : mapping
            By file name, what there is to look at: `PICTURE` and `PAGE`.
        """
        finished = self.folder / "finished"
        with self._explained():
            shutil.rmtree(finished, ignore_errors=True)  # of a process killed while it wrote this
            finished.mkdir()
            for name, model in models.items():
                model.save(finished / name)
            _write(finished, history, metrics, manifest)
            for name, content in shown.items():
                (finished / name).write_bytes(content)
            for path in (*finished.rglob("*"), finished):
                fs.fsync(path)
            self._check_unpublished("move it away")
            finished.rename(self.final)
            fs.fsync(self.final.parent)
            self.checkpoint.unlink()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn a system error about the run into one line that says what to do."""
        try:
            yield
        except OSError as error:
            hint = None if self.checkpoint.exists() else "name another place with `run_dir`"
            reason = error.strerror or error
            raise TrainError(f"{self.final}: cannot write the run: {reason}", hint) from error


def unfinished(path: Path) -> RunFolder:
    """The unfinished run that is meant by its folder, or by the name it will have.

    Raises
    ------
    TrainError
        When there is none, it is finished, or none of its epochs is.
    """
    run = _of_name(path)
    there = run.checkpoint.exists()
    if (run.final / METRICS).exists() or (there and os.path.lexists(run.final)):
        # Both: its process was killed after the rename and before it could tidy up.
        hint = "to train it further: `model=RUN`"
        if there:
            hint = f"delete {run.folder}, or move {run.final} away"
        raise TrainError(f"{run.final}: this run is finished", hint)
    if os.path.lexists(run.final) or not run.folder.exists():
        raise TrainError(f"{path}: no unfinished run is there", _runs_near(path, UNFINISHED))
    if not there:
        raise TrainError(
            f"{run.folder}: no unfinished run: expected a checkpoint in it",
            "a run has none before the end of its first epoch, or as `checkpoint_every` has it:"
            " train again",
        )
    return run


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished run.

    Parameters
    ----------
    folder : Path
        Where it is.
    metrics : dict
        What ``metrics.json`` holds.
    manifest : dict
        Of the entry that it was trained on.
    """

    folder: Path
    metrics: dict[str, Any]
    manifest: Manifest

    def model(self, name: str) -> "keras.Model":
        """The model of this file name, `MODEL` or `SERVING`; not compiled.

        Raises
        ------
        TrainError
            When plain Keras cannot load it in its safe mode.
        """
        import keras

        path = self.folder / name
        try:
            return keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # Keras says it in many ways
            raise TrainError(
                f"{path}: cannot load the model: {str(error)[:200] or type(error).__name__}",
                "a model of your own is loaded where the classes of its layers can be imported",
            ) from error


def load_finished(path: Path) -> FinishedRun:
    """The finished run in this folder.

    Raises
    ------
    TrainError
        When there is none, or it is not whole.
    """
    path, run = path.absolute(), _of_name(path)
    if run.checkpoint.exists() and not run.final.exists():
        raise TrainError(f"{path}: this run is not finished", run.resuming)
    if not any((path / name).exists() for name in (METRICS, MODEL)):
        raise TrainError(f"{path}: no finished run is there", _runs_near(path))
    try:
        metrics = json.loads((path / METRICS).read_text())
        manifest = manifests.read(path / ENTRY)
    except (OSError, ValueError, EntryError) as error:
        reason = error.message if isinstance(error, EntryError) else error
        raise TrainError(
            f"{path}: not a finished run, or one of an older pixelprep: {reason}", "train again"
        ) from error
    return FinishedRun(path, metrics, manifest)


def _of_name(path: Path) -> RunFolder:
    """The run of this folder, with or without what its name ends with while it is unfinished."""
    return RunFolder(Path(str(path.absolute()).removesuffix(UNFINISHED)))


def _runs_near(given: Path, ending: str = "") -> str:
    """The runs that may have been meant: those in a folder, beside it, or where runs are."""
    places = dict.fromkeys((given.absolute(), given.absolute().parent, RUNS.absolute()))
    mark = CHECKPOINT if ending else METRICS
    found = sorted({path.parent for place in places for path in place.glob(f"*{ending}/{mark}")})
    if not found:
        return "give the folder that `train` printed"
    return f"there are {', '.join(os.path.relpath(run) for run in found[:MOST_TOLD])}"


def _write(folder: Path, history: History, metrics: Mapping[str, Any], manifest: Manifest) -> None:
    (folder / ENTRY).mkdir()
    for name, content in manifests.manifest_files(manifest).items():
        (folder / ENTRY / name).write_bytes(content)
    with (folder / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *history])
        writer.writerows([i + 1, *row] for i, row in enumerate(zip(*history.values(), strict=True)))
    (folder / METRICS).write_text(json.dumps(metrics, indent=1) + "\n")
