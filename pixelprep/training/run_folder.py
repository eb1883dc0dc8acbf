"""The folder of a training run: its name, its checkpoint, and what is in it at the end.

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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: variables, each of its own type

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import EntryError, TrainError, attach_resume_command
from pixelprep.format import manifest as manifests
from pixelprep.format.manifest import Manifest
from pixelprep.reports.results import TrainResult, TrainSettings
from pixelprep.system import fs, locks, notebook
from pixelprep.system.json_record import Record

if TYPE_CHECKING:
    import keras

RUNS = Path("runs")  # where runs are, unless another folder is named
UNFINISHED = ".unfinished"
MAX_LISTED = 4  # runs in a hint
CHECKPOINT, NEW, LOCK = "checkpoint.npz", "new.npz", "lock"
ANOTHER = "name another folder with `run_dir`"
MODEL, SERVING = "model.keras", "serving.keras"  # takes scaled pixels; takes raw ones
METRICS, ENTRY = "metrics.json", "entry"  # a file; the folder of the entry's manifest
READ_BY = "read_by.json"  # beside the manifest: options of `prepare` that are not in it
PICTURE = "training.png"

Variables = Sequence[NDArray[Any]]
RawHistory = Mapping[str, tuple[float, ...]]  # by name, one value an epoch, finite or not


@dataclass(frozen=True, slots=True)
class TrainState(Record):
    """How far a run is, and how it is trained."""

    entry: str  # the folder of the entry that it is trained on
    key: str
    settings: TrainSettings
    history: RawHistory  # of the finished epochs
    step: int = 0  # steps of the epoch that has begun
    seconds: float = 0.0  # that these took

    @property
    def epochs(self) -> int:
        """The number of finished epochs."""
        return len(self.history.get("loss", ()))

    @property
    def best_epoch(self) -> int:
        """The epoch of the lowest validation loss, the first of equal ones; from 1."""
        losses = self.history["val_loss"]
        return 1 + min(range(len(losses)), key=lambda i: (math.isnan(losses[i]), losses[i]))

    @property
    def stops_early(self) -> bool:
        """Whether the validation loss has not improved for as many epochs as it may."""
        patience = self.settings.early_stopping
        return bool(patience and self.epochs and self.epochs - self.best_epoch >= patience)

    def with_epoch(self, results: Mapping[str, float]) -> "TrainState":
        """Return the state after one more epoch, which had these results."""
        history = dict(self.history)
        for name, value in results.items():
            history[name] = (*history.get(name, ()), float(value))
        return replace(self, history=history, step=0, seconds=0.0)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that an unfinished run needs to go on."""

    state: TrainState
    variables: Variables = ()  # of the model
    best: Variables = ()  # after the best epoch, where that is another and the run may stop early
    metrics: Variables = ()  # sums behind loss and accuracy of an epoch that has begun


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run."""

    final: Path  # where the finished run will be, absolute

    @property
    def folder(self) -> Path:
        """The folder of the run while it is unfinished."""
        return Path(f"{self.final}{UNFINISHED}")

    @property
    def checkpoint(self) -> Path:
        """How far the run was when it was last saved; none before the first time."""
        return self.folder / CHECKPOINT

    @property
    def resume_command(self) -> str:
        """The command that goes on with this run."""
        return f"pixelprep train --resume {shlex.quote(self._shown)}"

    @property
    def _shown(self) -> str:
        """The unfinished run's folder, from the current one where it is in there."""
        here, folder = Path.cwd(), self.folder
        return os.fspath(folder.relative_to(here) if folder.is_relative_to(here) else folder)

    def check_new(self) -> None:
        """Refuse to start a run where one, or anything else, has this name already.

        What a process left that was killed before its first checkpoint is no run.
        """
        self._check_unpublished(ANOTHER)
        if not os.path.lexists(self.folder):
            return
        if not locks.is_unlocked(self.folder / LOCK):
            raise TrainError(f"{self.folder}: another process is training this run", ANOTHER)
        if self.checkpoint.exists():
            raise TrainError(f"{self.folder}: already exists", self.resume_command)
        if not self.folder.is_dir() or {p.name for p in self.folder.iterdir()} - {LOCK, NEW}:
            raise TrainError(f"{self.folder}: already exists, and is not of a run", ANOTHER)

    def _check_unpublished(self, hint: str) -> None:

        if os.path.lexists(self.final):
            raise TrainError(f"{self.final}: already exists", hint)

    def make(self) -> "RunFolder":
        self.check_new()
        with self._translate_oserror():
            self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def make_unique(self) -> "RunFolder":
        """Make the folder, or the next one whose name is free, and return it.

        In containers runs begin in the same second with the same process number.
        """
        names = chain([self.final], (Path(f"{self.final}-{number}") for number in count(2)))
        with self._translate_oserror():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            for run in map(RunFolder, names):
                with suppress(FileExistsError):
                    run.folder.mkdir()
                    if not os.path.lexists(run.final):
                        return run
                    run.folder.rmdir()
        raise AssertionError("names do not run out")

    @contextmanager
    def started(self) -> Iterator[None]:
        """Keep other processes out of a new run, once it is sure that none has just had it."""
        with self.locked():
            if self.checkpoint.exists() or os.path.lexists(self.final) or not self.folder.is_dir():
                raise TrainError(f"{self.folder}: another process has trained this run", ANOTHER)
            yield

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out; afterwards the folder is there only if a checkpoint is."""
        with locks.try_acquire(self.folder / LOCK) as acquired:
            if not acquired:
                raise TrainError(f"{self.folder}: another process is training this run")
            try:
                yield
            finally:
                if not self.checkpoint.exists():
                    shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def resumable(self) -> Iterator[None]:
        """Let whatever goes wrong say how to continue from the checkpoint, if there is one."""
        try:
            yield
        except BaseException as error:
            if self.checkpoint.exists():
                attach_resume_command(error, self.resume_command)
                error.add_note(f"go on with pixelprep.resume({self._shown!r})")
            elif isinstance(error, KeyboardInterrupt):
                error.add_note("nothing is kept: there was no checkpoint yet")
            if isinstance(error, KeyboardInterrupt):
                notebook.hide_traceback(error)
            raise

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint; the one before stays until this one is on the disk whole."""
        new = self.folder / NEW
        state = json.dumps(checkpoint.state.to_dict())
        others = {"best": checkpoint.best, "metrics": checkpoint.metrics}
        arrays: dict[str, Any] = {
            f"{name}_{i}": one for name, values in others.items() for i, one in enumerate(values)
        }
        with self._translate_oserror():
            try:
                np.savez(new, *checkpoint.variables, **arrays, progress=np.array(state))
                fs.fsync(new)
                new.replace(self.checkpoint)
            finally:
                new.unlink(missing_ok=True)

    def load(self) -> Checkpoint:
        """Read the checkpoint; one that is damaged or something else stays as it is."""
        try:
            with np.load(self.checkpoint) as saved:
                state = TrainState.from_dict(json.loads(str(saved["progress"])))
                found = Checkpoint(state, *(_of(saved, n) for n in ("arr", "best", "metrics")))
            if not (state.epochs or state.step):
                raise ValueError("nothing is trained")
        except Exception as error:  # NumPy, zipfile, zlib and json each say it in their own way
            message = f"{self.checkpoint}: not a checkpoint, or a damaged one: {error!r}"
            hint = f"delete {self.folder} and train again from the start"
            raise TrainError(message, hint) from error
        return found

    def publish(
        self,
        models: "Mapping[str, keras.Model]",
        result: TrainResult,
        history: RawHistory,
        manifest: Manifest,
        pages: Mapping[str, bytes],
    ) -> None:
        """Write models and pages, by file name, and the records; rename; drop the checkpoint."""
        finished = self.folder / "finished"
        with self._translate_oserror():
            shutil.rmtree(finished, ignore_errors=True)  # of a process killed while it wrote this
            finished.mkdir()
            (finished / ENTRY).mkdir()
            for name, model in models.items():
                model.save(finished / name)
            files = {METRICS: f"{json.dumps(result.to_dict(), indent=1)}\n".encode(), **pages}
            files |= {f"{ENTRY}/{name}": part for name, part in manifest.to_files().items()}
            for name, content in files.items():
                (finished / name).write_bytes(content)
            with (finished / "history.csv").open("w", newline="") as file:
                epochs = enumerate(zip(*history.values(), strict=True), 1)
                rows = ([number, *values] for number, values in epochs)
                csv.writer(file).writerows([["epoch", *history], *rows])
            for path in (*finished.rglob("*"), finished):
                fs.fsync(path)
            self._check_unpublished("move it away")
            finished.rename(self.final)
            fs.fsync(self.final.parent)
            self.checkpoint.unlink()

    @contextmanager
    def _translate_oserror(self) -> Iterator[None]:

        try:
            yield
        except OSError as error:
            hint = None if self.checkpoint.exists() else ANOTHER
            reason = error.strerror or error
            raise TrainError(f"{self.final}: cannot write the run: {reason}", hint) from error


def _of(saved: Mapping[str, NDArray[Any]], name: str) -> Variables:
    """Return the arrays ``NAME_0``, ``NAME_1``, … in this order."""
    count = sum(one.startswith(f"{name}_") for one in saved)
    return [saved[f"{name}_{i}"] for i in range(count)]


def unfinished(path: Path) -> RunFolder:
    """Find the unfinished run that is meant by its folder, or by the name it will have."""
    run = _run_of(path)
    has_checkpoint = run.checkpoint.exists()
    if (run.final / METRICS).exists() or (has_checkpoint and os.path.lexists(run.final)):
        # Both: its process was killed after the rename and before it could tidy up.
        hint = "to train it further: `model=RUN`"
        if has_checkpoint:
            hint = f"delete {run.folder}, or move {run.final} away"
        raise TrainError(f"{run.final}: this run is finished", hint)
    if os.path.lexists(run.final) or not run.folder.exists():
        raise TrainError(f"{path}: no unfinished run", _runs_near(path, UNFINISHED))
    if not has_checkpoint:
        hint = "it was killed before its first: start it again by the command that started it"
        raise TrainError(f"{run.folder}: no unfinished run: expected a checkpoint in it", hint)
    return run


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished run: its folder, its metrics, and the manifest of the entry it was trained on.

    And the options by which that entry's data was read; None in runs of before these were kept.
    """

    folder: Path
    result: TrainResult
    manifest: Manifest
    read_by: Mapping[str, Any] | None = None

    def model(self, name: str) -> "keras.Model":
        """Load the model `MODEL` or `SERVING`, by plain Keras in its safe mode; not compiled."""
        import keras

        path = self.folder / name
        try:
            return keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # Keras says it in many ways
            reason = str(error)[:200] or type(error).__name__
            hint = (
                "classes of your own need `@keras.saving.register_keras_serializable()`, and to be"
                " imported before: do it from Python"
            )
            raise TrainError(f"{path}: cannot load the model: {reason}", hint) from error


def load_finished(path: Path) -> FinishedRun:
    """Read the finished run in this folder; refuse one that is not whole."""
    path, run = path.absolute(), _run_of(path)
    if run.checkpoint.exists() and not run.final.exists():
        raise TrainError(f"{path}: this run is not finished", run.resume_command)
    if not ((path / METRICS).exists() or (path / MODEL).exists()):
        raise TrainError(f"{path}: no finished run", _runs_near(path))
    try:
        result = TrainResult.from_dict(json.loads((path / METRICS).read_text()))
        manifest = manifests.read(path / ENTRY)
        kept = path / ENTRY / READ_BY
        read_by = dict(json.loads(kept.read_text())) if kept.exists() else None
    except (OSError, ValueError, TypeError, EntryError) as error:
        reason = error.message if isinstance(error, EntryError) else error
        message = f"{path}: not a finished run, or one of an older pixelprep: {reason}"
        raise TrainError(message, "train again") from error
    return FinishedRun(path, result, manifest, read_by)


def _run_of(path: Path) -> RunFolder:
    """Return the run of this folder, named as it is or as it is while unfinished."""
    return RunFolder(Path(str(path.absolute()).removesuffix(UNFINISHED)))


def _runs_near(given: Path, ending: str = "") -> str:
    """List the runs that may have been meant: those in a folder, beside it, or where runs are."""
    folders = dict.fromkeys((given.absolute(), given.absolute().parent, RUNS.absolute()))
    mark = CHECKPOINT if ending else METRICS
    found = sorted({path.parent for one in folders for path in one.glob(f"*{ending}/{mark}")})
    if not found:
        return "give the folder that `train` printed"
    return f"there are {', '.join(os.path.relpath(run) for run in found[:MAX_LISTED])}"
