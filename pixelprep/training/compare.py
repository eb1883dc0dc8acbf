"""Compare scalings: train the same CNN on each, with the same seeds, and say what that tells."""

from __future__ import annotations

import inspect
import json
import logging
import os
import shlex
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any  # Any: options of `prepare`, each of its own type

from pixelprep import sources
from pixelprep.dataset.entry import Entry
from pixelprep.errors import TrainError, UsageError, check_int, unknown_choice
from pixelprep.format.options import MACHINE_ONLY, RUNTIME_ONLY
from pixelprep.numerics import significance
from pixelprep.numerics.scaling import MODES
from pixelprep.pipeline.prepare import prepare
from pixelprep.reports import comparison_report, html
from pixelprep.reports.results import (
    CompareResult,
    ModeDifference,
    ModeResult,
    TrainResult,
    TrainSettings,
)
from pixelprep.system import formatting, fs, records, tf_runtime
from pixelprep.training.run_folder import RunFolder, load_finished
from pixelprep.training.train import require, resume, train

LOG = logging.getLogger("pixelprep")

SETTINGS, RUNS = "settings.json", "runs"  # of the folder: what all its runs share; the runs
RESULT, PAGE, PICTURE = "compare.json", "compare.html", "compare.png"
FEW = {2: "two", 3: "three", 4: "four", 5: "five"}  # repeats that rarely decide


def compare(
    dataset: str | os.PathLike[str] | sources.Source = "mnist",
    *,
    modes: Sequence[str] = tuple(MODES),
    repeats: int = 3,
    epochs: int = 5,
    batch_size: int = 64,
    seed: int = 0,
    model: str | None = None,
    val_fraction: float = 0.1,
    out: str | os.PathLike[str] | None = None,
    quiet: bool = False,
    **options: Any,
) -> CompareResult:
    """Train the same CNN on a dataset in several scalings, and say what their order is worth.

    Modes are ranked by validation accuracy after the last epoch; the test split is only shown.
    All have the same split, seeds and order of images, and take turns, a seed at a time. Runs that
    an interrupted comparison has finished are kept as they are.

    Parameters
    ----------
    dataset : str, path or Source
        As for `prepare`.
    modes : sequence of str
        Two or more different ones.
    repeats : int
        At least 1: runs of each mode, with the seeds `seed`, `seed` + 1 and so on.
    epochs, batch_size, seed : int
        As for `train`.
    model : str, optional
        ``module:function``, as for `train`; default: the reference CNN.
    val_fraction : float
        0 < fraction < 1: share of every class of train that the modes are ranked on.
    out : path, optional
        A folder for the runs, ``compare.json``, ``compare.html`` and ``compare.png``; new, or of
        a comparison with the same settings (modes, repeats and first seed may be others).
        Default: ``compare-DATASET`` in the current folder.
    quiet : bool
        Draw no progress bars.
    **options
        As for `prepare`: ``per``, ``source``, ``cache_dir`` and so on.

    Returns
    -------
    CompareResult
        What ``compare.json`` holds.

    Raises
    ------
    UsageError
        When an option is wrong, or the folder is one of other settings.
    MissingExtraError
        When Jinja, Matplotlib or TensorFlow is not installed.
    PixelprepError
        Whatever preparing and training raise; runs that are finished stay.

    Examples
    --------
    >>> import pixelprep
    >>> result = pixelprep.compare("sample", modes=["center", "standardize"])  # doctest: +SKIP
    >>> print(result.verdict)  # doctest: +SKIP
    standardize is better than center by 1.27 points (95% interval +0.62 to +1.92).
    """
    require("compare")
    _check(modes, model, val_fraction)
    settings = TrainSettings(epochs, batch_size, seed, model=model)
    seeds = range(seed, seed + check_int("repeats", repeats, 1))
    replace(settings, seed=seeds[-1])  # is refused now, not after hours
    entries = []
    for mode in modes:
        LOG.info("preparing %s", mode)
        entries.append(
            prepare(dataset, mode=mode, val_fraction=val_fraction, quiet=quiet, **options)
        )
    comparison = _Comparison(
        entries, seeds, settings, {"val_fraction": val_fraction, **_unusual(options)}
    )
    folder = fs.expand_user(out or f"compare-{entries[0].dataset}").absolute()
    _claim(folder, comparison.shared)
    tf_runtime.start("compare")
    with tf_runtime.silence_retracing():
        runs = _train_all(comparison, folder / RUNS, quiet)
    return _write(_result(comparison, runs, comparison.command(dataset), folder / PAGE), folder)


def _check(modes: Sequence[str], model: str | None, val_fraction: float) -> None:
    """Refuse options that no comparison can have."""
    for mode in modes:
        if mode not in MODES:
            raise unknown_choice("modes", mode, MODES)
    twice = sorted({mode for mode in modes if modes.count(mode) > 1})
    if twice:
        raise UsageError(f"`modes={','.join(modes)}`: {', '.join(twice)} is given twice")
    if len(modes) < 2:
        raise UsageError(f"`modes={','.join(modes)}`: expected two or more, with commas between")
    if model is not None and Path(model).is_dir():
        raise UsageError(
            f"`model={model}`: expected module:function, got the folder of a run",
            "a run's model has seen one scaling; only a fresh one can be compared on several",
        )
    if not 0 < val_fraction < 1:
        raise UsageError(
            f"`val_fraction={val_fraction}`: modes are ranked on a validation split:"
            " expected more than 0, below 1"
        )


def _unusual(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `prepare` that are not as by default."""
    known = inspect.signature(prepare).parameters
    return {k: v for k, v in options.items() if k not in known or v != known[k].default}


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What is compared, and how.

    entries : one a mode
    seeds : one a run of each mode
    settings : those of the first run
    options : those of `prepare` that are not as by default
    """

    entries: Sequence[Entry]
    seeds: range
    settings: TrainSettings
    options: Mapping[str, Any]

    @property
    def training(self) -> dict[str, Any]:
        """The settings that all runs share and that decide their result."""
        settings = self.settings
        return {
            "epochs": settings.epochs,
            "batch_size": settings.batch_size,
            "model": settings.model,
        }

    @property
    def shared(self) -> dict[str, Any]:
        """What all runs of a comparison share, whatever its modes and seeds."""
        # As asked for: a mode may do without, and its recipe has another value then.
        asked = {
            "per": self.options.get("per", "channel"),
            "rescale": bool(self.options.get("rescale")),
        }
        recipe = {k: v for k, v in self.entries[0].manifest.recipe.to_dict().items() if k != "mode"}
        return {"dataset": self.entries[0].dataset, **recipe, **self.training, **asked}

    def command(self, dataset: str | os.PathLike[str] | sources.Source) -> str | None:
        """Return the command that does the same again; None of what only Python has."""
        dataset = sources.normalize_dataset(dataset)
        if not isinstance(dataset, str):
            return None
        modes = ",".join(entry.mode for entry in self.entries)
        shown = {
            "repeats": len(self.seeds),
            "seed": self.settings.seed,
            **self.training,
            **self.options,
        }
        options = formatting.options({k: v for k, v in shown.items() if k not in MACHINE_ONLY})
        return shlex.join(["pixelprep", "compare", dataset, "--modes", modes, *options])


def _claim(folder: Path, shared: Mapping[str, Any]) -> None:
    """Make a comparison's folder, or take one that has the same settings.

    Raises
    ------
    UsageError
        When it holds something else.
    """
    if _is_new(folder):
        html.write(folder / SETTINGS, json.dumps(shared, indent=1) + "\n")
    else:
        _check_settings(folder, shared)


def _is_new(folder: Path) -> bool:
    """Whether nothing is there, or only what a process left that was killed at its first write."""
    if not folder.is_dir():
        return not os.path.lexists(folder)
    return all(path.name.startswith(f"{SETTINGS}.") for path in folder.iterdir())


def _check_settings(folder: Path, shared: Mapping[str, Any]) -> None:
    hint = "name another folder with `out`"
    found = records.read(folder / SETTINGS)
    if found is None:
        raise UsageError(f"{folder}: exists already, and is not of a comparison", hint)
    for name in sorted({*found, *shared}):
        if found.get(name) != shared.get(name):
            raise UsageError(
                f"{folder}: is a comparison with {name} {found.get(name)},"
                f" but {shared.get(name)} was asked for",
                hint,
            )


def _train_all(comparison: _Comparison, folder: Path, quiet: bool) -> dict[str, list[TrainResult]]:
    """Train every run, one seed after the other; return the results by mode.

    Modes take turns, so that whatever changes on the machine meanwhile meets all of them.
    """
    runs: dict[str, list[TrainResult]] = {entry.mode: [] for entry in comparison.entries}
    turns = [(seed, entry) for seed in comparison.seeds for entry in comparison.entries]
    durations: list[float] = []  # seconds of each run that was not finished before
    for number, (seed, entry) in enumerate(turns):
        run = RunFolder(folder / f"{entry.mode}-{entry.per}-seed{seed}")
        left = f"; {_time_left(durations, len(turns) - number)}" if durations else ""
        LOG.info("run %d of %d: %s, seed %d%s", number + 1, len(turns), entry.mode, seed, left)
        is_new, started = not run.final.exists(), time.perf_counter()
        settings = replace(comparison.settings, seed=seed)
        runs[entry.mode].append(_train_one(run, entry, settings, quiet))
        if is_new:
            durations.append(time.perf_counter() - started)
    return runs


def _time_left(durations: Sequence[float], runs: int) -> str:
    return f"about {formatting.format_duration(statistics.fmean(durations) * runs)} left"


def _train_one(run: RunFolder, entry: Entry, settings: TrainSettings, quiet: bool) -> TrainResult:
    """Return the result of one run: a finished one is kept, an unfinished one is resumed."""
    _tidy(run)
    if run.final.exists():
        result = load_finished(run.final).result
        _check_same(run.final, result.settings, result.key, entry, settings)
        LOG.info("finished before, test accuracy %.2f%%", 100 * result.test_accuracy)
        return result
    if run.checkpoint.exists():
        state = run.load().state
        _check_same(run.folder, state.settings, state.key, entry, settings)
        return resume(run.final, quiet=quiet, cache_dir=entry.path.parent.parent)
    return train(entry, **asdict(settings), run_dir=run.final, quiet=quiet)


def _tidy(run: RunFolder) -> None:
    """Remove what a killed process left of a run that is finished, or has no epoch yet."""
    if run.folder.exists():
        with run.locked():  # which removes what has no checkpoint
            if run.final.exists():
                run.checkpoint.unlink(missing_ok=True)


def _check_same(
    folder: Path, settings: TrainSettings, key: str, entry: Entry, expected: TrainSettings
) -> None:
    """Refuse a run of other settings, or of another entry."""
    found = {**settings.to_dict(), "key": key}
    for name, value in {**expected.to_dict(), "key": entry.key}.items():
        if found[name] != value:
            raise TrainError(
                f"{folder}: is a run with {name} {found[name]}, expected {value}",
                "delete it, or name another folder with `out`",
            )


def _result(
    comparison: _Comparison,
    runs: Mapping[str, Sequence[TrainResult]],
    command: str | None,
    page: Path,
) -> CompareResult:
    entries = comparison.entries
    modes = [_mode_result(entry, runs[entry.mode]) for entry in entries]
    accuracies = {result.mode: result.val_accuracy for result in modes}
    ranking = rank(accuracies)
    differences = [_difference((ranking[0], other), accuracies) for other in ranking[1:]]
    unshown = (*RUNTIME_ONLY, "source")
    options = {k: v for k, v in comparison.options.items() if k not in unshown}
    return CompareResult(
        dataset=entries[0].dataset,
        verdict=verdict(differences),
        ranking=tuple(ranking),
        modes=tuple(modes),
        differences=tuple(differences),
        seeds=tuple(comparison.seeds),
        images={name: len(split) for name, split in entries[0].splits.items()},
        settings=comparison.training | options,
        machine=tf_runtime.environment_info(),
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        command=command,
        page=page,
    )


def _difference(pair: tuple[str, str], accuracies: Mapping[str, Sequence[float]]) -> ModeDifference:
    first, second = pair
    found = significance.difference(accuracies[first], accuracies[second])
    return ModeDifference(**asdict(found), pair=pair)


def _mode_result(entry: Entry, runs: Sequence[TrainResult]) -> ModeResult:
    """Sum up the runs of one mode."""
    last = [run.history["val_accuracy"][-1] for run in runs]
    val = [accuracy for accuracy in last if accuracy is not None]  # which none is: they are finite
    test = [run.test_accuracy for run in runs]
    return ModeResult(
        mode=entry.mode,
        per=entry.per,
        key=entry.key,
        val_accuracy=tuple(val),
        test_accuracy=tuple(test),
        mean=statistics.fmean(val),
        spread=_spread(val),
        test_mean=statistics.fmean(test),
        test_spread=_spread(test),
        seconds_per_epoch=statistics.median(run.seconds_per_epoch for run in runs),
        history=tuple(run.history for run in runs),
    )


def _spread(values: Sequence[float]) -> float | None:
    """Return the standard deviation of a sample; None of a single value."""
    return statistics.stdev(values) if len(values) > 1 else None


def rank(accuracies: Mapping[str, Sequence[float]]) -> list[str]:
    """Sort modes by their mean accuracy, the best first; equal ones stay in order."""
    return sorted(accuracies, key=lambda mode: -statistics.fmean(accuracies[mode]))


def verdict(differences: Sequence[ModeDifference]) -> str:
    """Say in words what a ranking is worth.

    Parameters
    ----------
    differences : sequence of ModeDifference
        Of the best mode from each other one, by rank.
    """
    best, repeats = differences[0].pair[0], len(differences[0].each)
    if repeats == 1:
        return (
            f"No winner: {best} is highest, but one repeat gives no confidence interval:"
            " use more repeats."
        )
    noise = [one.pair[1] for one in differences if one.within_noise]
    clear = [
        f"better than {one.pair[1]} by {100 * one.mean:.2f} points"
        f" ({significance.format_interval(one)})"
        for one in differences
        if not one.within_noise
    ]
    winner = f"{best} is {', and '.join(clear)}." if clear else ""
    if not noise:
        return winner
    rarely = f"; {FEW[repeats]} repeats rarely decide" if repeats in FEW else ""
    lead = "Its lead over" if clear else f"No winner: {best} is highest, but its lead over"
    rest = f"{lead} {' and '.join(noise)} is within noise: the interval contains 0{rarely}."
    return f"{winner} {rest}".strip()


def _write(result: CompareResult, folder: Path) -> CompareResult:
    """Write the picture, the page and the JSON, which comes last."""
    html.write(folder / PICTURE, comparison_report.picture(result))
    html.write(folder / PAGE, comparison_report.render(result))
    content = json.dumps(result.to_dict(), indent=1, allow_nan=False)
    html.write(folder / RESULT, content + "\n")
    return result
