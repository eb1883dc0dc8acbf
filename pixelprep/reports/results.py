"""What training and comparing find, as JSON files keep it and pages show it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any  # Any: JSON values

from pixelprep.dataset.entry import WEIGHTS
from pixelprep.dataset.epoch import BALANCE
from pixelprep.errors import TrainError, UsageError, check_int, unknown_choice
from pixelprep.numerics.significance import Difference
from pixelprep.system.json_record import Record
from pixelprep.views import Page, View

LARGEST_SEED = 2**32 - 1  # Keras takes no larger one
STEPS = "steps"  # behind a number
PAGE = "run.html"  # in a run's folder

History = Mapping[str, tuple[float | None, ...]]  # by name, one value an epoch; None: not finite


def checkpoint_cadence(every: object) -> int | str:
    """Return a number of epochs, or of steps as ``500steps``; refuse anything else."""
    if not isinstance(every, str):
        return check_int("checkpoint_every", every, 1)
    number = every.removesuffix(STEPS)
    if not number.isdecimal():
        message = f"`checkpoint_every={every}`: expected a number of epochs, or as 500steps"
        raise UsageError(message)
    count = check_int("checkpoint_every", int(number), 1)
    return count if number == every else f"{count}{STEPS}"


@dataclass(frozen=True, slots=True)
class TrainSettings(Record):
    """The options of a run that decide its result, or that it keeps when it is resumed.

    Parameters
    ----------
    epochs, batch_size, seed, steps_per_execution, model, early_stopping, checkpoint_every
        As for `train`.
    class_weight, balance, augment : str, optional
        As for `train`.
    tensorboard : str, optional
        As for `train`, absolute.
    """

    epochs: int = 5
    batch_size: int = 64
    seed: int = 0
    steps_per_execution: int = 32
    model: str | None = None
    early_stopping: int | None = None
    checkpoint_every: object = 1  # epochs; or "500steps"
    tensorboard: str | None = None
    class_weight: str | None = None
    balance: str | None = None
    augment: str | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "steps_per_execution"):
            check_int(name, getattr(self, name), 1)
        checkpoint_cadence(self.checkpoint_every)
        if self.early_stopping is not None:
            check_int("early_stopping", self.early_stopping, 1)
        check_int("seed", self.seed, 0, LARGEST_SEED)
        for name, choices in (("class_weight", WEIGHTS), ("balance", BALANCE)):
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise unknown_choice(name, value, choices)
        if self.class_weight and self.balance:
            message = f"`class_weight={self.class_weight}` and `balance={self.balance}`"
            raise UsageError(f"{message}: expected one of them: each makes up for all of it")

    @property
    def checkpoint_steps(self) -> int | None:
        """Steps from one checkpoint to the next, also within an epoch; None: only after epochs."""
        every = self.checkpoint_every
        return int(every.removesuffix(STEPS)) if isinstance(every, str) else None

    @property
    def checkpoint_epochs(self) -> int:
        """Epochs from one checkpoint to the next."""
        return self.checkpoint_every if isinstance(self.checkpoint_every, int) else 1

    @classmethod
    def from_dict(cls, values: object) -> "TrainSettings":
        """Make the record of what `to_dict` returned; an earlier version knew fewer settings."""
        known = values if isinstance(values, Mapping) else {}
        return super(TrainSettings, cls).from_dict({**cls().to_dict(), **known})


@dataclass(frozen=True, slots=True)
class TrainResult(Record, View):
    """A finished run, as its ``metrics.json`` has it.

    Parameters
    ----------
    run, entry : Path
        The run's folder, and that of the entry that it was trained on.
    dataset, mode, per, key : str
        What that entry is.
    settings : TrainSettings
        How it was trained; `to_dict` has these beside the rest.
    steps_per_epoch : int
        Batches of the training split.
    test_steps : int, optional
        Batches of the test split; None where the entry has none, as of the next two.
    history : mapping
        By name (``loss``, ``accuracy``, ``val_loss``, …, ``seconds``), one value an epoch.
    test_loss : float, optional
        Categorical cross-entropy; None where it is not finite.
    test_accuracy : float, optional
        0 to 1.
    seconds_per_epoch : float
        The median.
    best_epoch, stopped_epoch : int, optional
        With early stopping: the epoch whose model is kept, and the one after which the run
        stopped, where it did; from 1.
    """

    run: Path
    entry: Path
    dataset: str
    mode: str
    per: str
    key: str
    settings: TrainSettings
    steps_per_epoch: int
    test_steps: int | None
    history: History
    test_loss: float | None
    test_accuracy: float | None
    seconds_per_epoch: float
    best_epoch: int | None
    stopped_epoch: int | None

    @property
    def score(self) -> tuple[str, float, float | None] | None:
        """What the model is judged by: "test" or "validation", accuracy, loss; None of neither."""
        if self.test_accuracy is not None:
            return "test", self.test_accuracy, self.test_loss
        if "val_accuracy" not in self.history:
            return None
        kept = (self.best_epoch or 0) - 1  # else the last
        accuracy, loss = (self.history[name][kept] for name in ("val_accuracy", "val_loss"))
        return "validation", accuracy or 0.0, loss

    def report(self) -> Page:
        """Read the run's page, to be shown in a notebook.

        Returns
        -------
        Page
            Its ``run.html``.

        Raises
        ------
        TrainError
            When there is none.
        """
        path = self.run / PAGE
        try:
            return Page(path.read_text(encoding="utf-8"), path)
        except OSError as error:
            raise TrainError(f"{path}: cannot read the page: {error.strerror or error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return what ``metrics.json`` holds.

        Returns
        -------
        dict
            The fields as JSON values, those of the settings among them.
        """
        flat: dict[str, Any] = {}
        for name, value in Record.to_dict(self).items():
            flat |= value if name == "settings" else {name: value}
        return flat

    @classmethod
    def from_dict(cls, values: object) -> "TrainResult":
        """Make the record of what ``metrics.json`` holds.

        Parameters
        ----------
        values : object
            As of `to_dict`.

        Returns
        -------
        TrainResult
            That from which `to_dict` returned them.

        Raises
        ------
        ValueError
            When a field is missing, unknown or of another type.
        """
        if not isinstance(values, Mapping):
            raise ValueError("expected an object")
        own = {field.name for field in fields(TrainSettings)}
        settings = {name: value for name, value in values.items() if name in own}
        rest = {name: value for name, value in values.items() if name not in own}
        return super(TrainResult, cls).from_dict({**rest, "settings": settings})


@dataclass(frozen=True, slots=True)
class ModeResult(Record):
    """The runs of one mode: accuracies after the last epoch (0 to 1) and histories, one a seed.

    Beside them are the means over the seeds and, of more than one, standard deviations; without a
    test split, nothing of it.
    """

    mode: str
    per: str
    key: str
    val_accuracy: tuple[float, ...]
    test_accuracy: tuple[float, ...]
    mean: float
    spread: float | None
    test_mean: float | None
    test_spread: float | None
    seconds_per_epoch: float
    history: tuple[History, ...]


@dataclass(frozen=True, slots=True)
class ModeDifference(Difference, Record):
    """How much more accurate the first mode of a pair is than the second, seed by seed."""

    pair: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, the pair first."""
        return {"pair": list(self.pair)} | Record.to_dict(self)


@dataclass(frozen=True, slots=True)
class CompareResult(Record, View):
    """A comparison of modes, as its ``compare.json`` has it.

    Parameters
    ----------
    dataset, verdict : str
        Its name; and what the ranking is worth, in words.
    ranking : tuple of str
        Modes by their mean validation accuracy, the best first.
    modes : tuple of ModeResult
        In the order that was asked for.
    differences : tuple of ModeDifference
        Of the best mode from each other one, by rank.
    seeds : tuple of int
        Of the runs of each mode.
    images : mapping of int
        Rows of each split.
    settings, machine : mapping
        Options of training, and those of preparing that are not as by default; and what the runs
        were trained on.
    date : str
        ``YYYY-MM-DD``.
    command : str, optional
        What does the same again; None of a dataset that only Python has.
    page : Path
        The comparison as a page.
    changed : str, optional
        What has changed the ranking since the folder's earlier result; None where it has not.
    """

    dataset: str
    verdict: str
    ranking: tuple[str, ...]
    modes: tuple[ModeResult, ...]
    differences: tuple[ModeDifference, ...]
    seeds: tuple[int, ...]
    images: Mapping[str, int]
    settings: Mapping[str, object]
    machine: Mapping[str, object]
    date: str
    command: str | None
    page: Path
    changed: str | None = None

    def ranked(self) -> list[ModeResult]:
        """Return the modes, the best first.

        Returns
        -------
        list of ModeResult
            In the order of ``ranking``.
        """
        by_name = {result.mode: result for result in self.modes}
        return [by_name[mode] for mode in self.ranking]


def finite(value: float) -> float | None:
    """Return None for infinity and NaN (a loss that diverged), which JSON has not."""
    return value if math.isfinite(value) else None
