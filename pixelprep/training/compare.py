"""Which scaling to use: the same CNN trained on each, with the same seeds, and what that tells."""

from __future__ import annotations

import inspect
import json
import logging
import os
import shlex
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pixelprep import sources
from pixelprep.dataset.entry import Entry
from pixelprep.errors import TrainError, UsageError, check_int, unknown_choice
from pixelprep.format.options import MACHINE_ONLY, RUNTIME_ONLY
from pixelprep.numerics import significance
from pixelprep.numerics.scaling import MODES
from pixelprep.pipeline.prepare import prepare
from pixelprep.reports import comparison_report, html
from pixelprep.system import formatting, fs, records, tf_runtime
from pixelprep.training.run_folder import RunFolder, load_finished
from pixelprep.training.train import Settings, require, resume, train

LOG = logging.getLogger("pixelprep")

SETTINGS, RUNS = "settings.json", "runs"  # of the folder: what all its runs share; the runs
RESULT, PAGE, PICTURE = "compare.json", "compare.html", "compare.png"
FEW = {2: "two", 3: "three", 4: "four", 5: "five"}  # repeats of which little is to be had


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
) -> dict[str, Any]:
    """Train the same CNN on a dataset in several scalings, and say what their order is worth.

    Modes are ranked by validation accuracy after the last epoch; the test split is only shown.
    All have the same split, seeds and order of images, and take turns, a seed at a time. Runs that
    an interrupted comparison has finished are taken as they are.

    Parameters
    ----------
    dataset : str, path or Source
        As for `preparation.prepare`.
    modes : sequence of str
        Two or more different ones.
    repeats : int
        At least 1: runs of each mode, with the seeds `seed`, `seed` + 1, …
    epochs, batch_size, seed : int
        As for `train.Settings`.
    model : str, optional
        ``module:function``, as for `train.Settings`; default: the reference CNN.
    val_fraction : float
        0 < fraction < 1: share of every class of train that the modes are ranked on.
    out : path, optional
        A folder for the runs, ``compare.json``, ``compare.html`` and ``compare.png``; new, or of
        a comparison with the same settings (modes, repeats and first seed may be others).
        Default: ``compare-DATASET`` in the current folder.
    quiet : bool
        Draw no progress bars.
    **options
        As for `preparation.prepare`: ``per``, ``source``, ``cache_dir``, …

    Returns
    -------
    dict
        What ``compare.json`` holds, JSON values: ``modes`` (of each its accuracies, 0 to 1, one a
        seed, and its history), ``ranking``, ``differences``, ``verdict``, ``page`` and more.

    Raises
    ------
    UsageError
        When an option is wrong, or the folder is one of other settings.
    MissingExtraError
        When Jinja, Matplotlib or TensorFlow is not installed.
    PixelprepError
        Whatever preparing and training raise; runs that are finished stay.
    """
    require("compare")
    _check_modes(modes)
    if not 0 < val_fraction < 1:
        raise UsageError(
            f"`val_fraction={val_fraction}`: modes are ranked on a validation split:"
            " expected more than 0, below 1"
        )
    shared = Settings(epochs, batch_size, seed, model=_function(model), quiet=quiet)
    seeds = range(seed, seed + check_int("repeats", repeats, 1))
    replace(shared, seed=seeds[-1])  # is refused now, not after hours
    entries = []
    for mode in modes:
        LOG.info("preparing %s", mode)
        entries.append(
            prepare(dataset, mode=mode, val_fraction=val_fraction, quiet=quiet, **options)
        )
    choices = {"val_fraction": val_fraction, **_unusual(options)}
    folder = fs.expand_user(out or f"compare-{entries[0].dataset}").absolute()
    _claim(folder, _common(entries[0], shared, choices))
    tf_runtime.start("compare")
    with tf_runtime.silence_retracing():
        runs = _trained(entries, seeds, shared, folder / RUNS)
    command = _command(dataset, modes, repeats, shared, choices)
    result = _result(entries, runs, seeds, shared, choices) | {"command": command}
    return _written(result, folder)


def _check_modes(modes: Sequence[str]) -> None:
    for mode in modes:
        if mode not in MODES:
            raise unknown_choice("modes", mode, MODES)
    twice = sorted({mode for mode in modes if modes.count(mode) > 1})
    if twice:
        raise UsageError(f"`modes={','.join(modes)}`: {', '.join(twice)} is given twice")
    if len(modes) < 2:
        raise UsageError(f"`modes={','.join(modes)}`: expected two or more, with commas between")


def _function(model: str | None) -> str | None:
    """A model that can be built anew for each run."""
    if model is not None and Path(model).is_dir():
        raise UsageError(
            f"`model={model}`: expected module:function, got the folder of a run",
            "a run's model has seen one scaling; only a fresh one can be compared on several",
        )
    return model


def _common(entry: Entry, settings: Settings, choices: Mapping[str, Any]) -> dict[str, Any]:
    """What all runs of a comparison share, whatever its modes and seeds."""
    # What is asked for: a mode may do without, and its recipe has another one then.
    asked = {"per": choices.get("per", "channel"), "rescale": bool(choices.get("rescale"))}
    recipe = {k: v for k, v in entry.manifest["recipe"].items() if k != "mode"}
    return {"dataset": entry.dataset, **recipe, **_training(settings), **asked}


def _training(settings: Settings) -> dict[str, Any]:
    """Settings that all runs share and that decide what comes out."""
    return {name: settings.reproducible[name] for name in ("epochs", "batch_size", "model")}


def _unusual(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `prepare` that are not as they are by default."""
    known = inspect.signature(prepare).parameters
    return {k: v for k, v in options.items() if k not in known or v != known[k].default}


def _claim(folder: Path, common: Mapping[str, Any]) -> None:
    """Make a comparison's folder, or take one that has the same settings.

    Raises
    ------
    UsageError
        When it holds something else.
    """
    if _is_new(folder):
        html.write(folder / SETTINGS, json.dumps(common, indent=1) + "\n")
    else:
        _check_settings(folder, common)


def _is_new(folder: Path) -> bool:
    """Whether nothing is there, or only what a process left that was killed at its first write."""
    if not folder.is_dir():
        return not os.path.lexists(folder)
    return all(path.name.startswith(f"{SETTINGS}.") for path in folder.iterdir())


def _check_settings(folder: Path, common: Mapping[str, Any]) -> None:
    hint = "name another folder with `out`"
    found = records.read(folder / SETTINGS)
    if found is None:
        raise UsageError(f"{folder}: is there already, and is not of a comparison", hint)
    for name in sorted({*found, *common}):
        if found.get(name) != common.get(name):
            raise UsageError(
                f"{folder}: is a comparison with {name} {found.get(name)},"
                f" but {common.get(name)} was asked for",
                hint,
            )


def _trained(
    entries: Sequence[Entry], seeds: range, shared: Settings, folder: Path
) -> dict[str, list[dict[str, Any]]]:
    """Metrics of every run by mode, a seed after the other.

    Modes take turns, so that whatever changes on the machine meanwhile meets all of them.
    """
    runs: dict[str, list[dict[str, Any]]] = {entry.mode: [] for entry in entries}
    turns = [(seed, entry) for seed in seeds for entry in entries]
    took: list[float] = []  # seconds of each run that was not there already
    for number, (seed, entry) in enumerate(turns):
        run, started = (
            RunFolder(folder / f"{entry.mode}-{entry.per}-seed{seed}"),
            time.perf_counter(),
        )
        left = f"; {_left(took, len(turns) - number)}" if took else ""
        LOG.info("run %d of %d: %s, seed %d%s", number + 1, len(turns), entry.mode, seed, left)
        is_new = not run.final.exists()
        runs[entry.mode].append(_one(run, entry, replace(shared, seed=seed)))
        took += [time.perf_counter() - started] * is_new
    return runs


def _left(took: Sequence[float], runs: int) -> str:
    return f"about {formatting.format_duration(statistics.fmean(took) * runs)} left"


def _one(run: RunFolder, entry: Entry, settings: Settings) -> dict[str, Any]:
    """Metrics of one run: of a finished one as it is, an unfinished one is gone on with."""
    _tidy(run)
    if run.final.exists():
        metrics = load_finished(run.final).metrics
        _check_same(run.final, metrics, entry, settings)
        LOG.info("finished before, test accuracy %.2f%%", 100 * metrics["test_accuracy"])
        return metrics
    if run.checkpoint.exists():
        state, *_ = run.load()
        _check_same(run.folder, {**state.settings, "key": state.key}, entry, settings)
        return resume(run.final, quiet=settings.quiet, cache_dir=entry.path.parent.parent)
    return train(entry, replace(settings, run_dir=run.final))


def _tidy(run: RunFolder) -> None:
    """Take away what a killed process left of a run that is finished, or has no epoch yet."""
    if run.folder.exists():
        with run.held():  # which removes what has no checkpoint
            if run.final.exists():
                run.checkpoint.unlink(missing_ok=True)


def _check_same(folder: Path, found: Mapping[str, Any], entry: Entry, settings: Settings) -> None:
    for name, wanted in {**settings.reproducible, "key": entry.key}.items():
        if found.get(name) != wanted:
            raise TrainError(
                f"{folder}: is a run with {name} {found.get(name)}, expected {wanted}",
                "delete it, or name another folder with `out`",
            )


def _result(
    entries: Sequence[Entry],
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    seeds: range,
    settings: Settings,
    choices: Mapping[str, Any],
) -> dict[str, Any]:
    modes = [_of_mode(entry, runs[entry.mode]) for entry in entries]
    accuracies = {one["mode"]: one["val_accuracy"] for one in modes}
    ranking = ranked(accuracies)
    differences = {
        other: significance.difference(accuracies[ranking[0]], accuracies[other])
        for other in ranking[1:]
    }
    return {
        "dataset": entries[0].dataset,
        "verdict": verdict(ranking, differences),
        "ranking": ranking,
        "modes": modes,
        "differences": [
            {"pair": [ranking[0], other], **_told(one)} for other, one in differences.items()
        ],
        "seeds": list(seeds),
        "images": {name: len(split) for name, split in entries[0].splits.items()},
        "settings": _training(settings)
        | {k: v for k, v in choices.items() if k not in (*RUNTIME_ONLY, "source")},
        "machine": tf_runtime.environment_info(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _told(one: significance.Difference) -> dict[str, Any]:
    """A difference as JSON has it."""
    return asdict(one) | {"each": list(one.each), "within_noise": one.within_noise}


def _of_mode(entry: Entry, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is known of one mode, a value a seed; means and standard deviations over the seeds."""
    val = [run["history"]["val_accuracy"][-1] for run in runs]
    test = [run["test_accuracy"] for run in runs]
    return {
        "mode": entry.mode,
        "per": entry.per,
        "key": entry.key,
        "val_accuracy": val,
        "test_accuracy": test,
        "mean": statistics.fmean(val),
        "spread": _spread(val),
        "test_mean": statistics.fmean(test),
        "test_spread": _spread(test),
        "seconds_per_epoch": statistics.median(run["seconds_per_epoch"] for run in runs),
        "history": [run["history"] for run in runs],
    }


def _spread(values: Sequence[float]) -> float | None:
    """Standard deviation of a sample; None of a single value."""
    return statistics.stdev(values) if len(values) > 1 else None


def ranked(accuracies: Mapping[str, Sequence[float]]) -> list[str]:
    """Modes by their mean accuracy, the best first; equal ones stay in order."""
    return sorted(accuracies, key=lambda mode: -statistics.fmean(accuracies[mode]))


def verdict(ranking: Sequence[str], differences: Mapping[str, significance.Difference]) -> str:
    """In words, what the ranking is worth.

    Parameters
    ----------
    ranking : sequence of str
        Modes, the best first.
    differences : mapping
        Of the best from each other mode.
    """
    best, repeats = ranking[0], len(differences[ranking[1]].each)
    if repeats == 1:
        return (
            f"No winner: {best} is highest, but of one repeat no interval can be had:"
            " ask for more with `repeats`."
        )
    noise = [mode for mode in ranking[1:] if differences[mode].within_noise]
    clear = [
        f"better than {mode} by {100 * one.mean:.2f} points"
        f" ({significance.format_interval(asdict(one))})"
        for mode, one in differences.items()
        if not one.within_noise
    ]
    said = f"{best} is {', and '.join(clear)}." if clear else ""
    if not noise:
        return said
    rarely = f"; {FEW[repeats]} repeats rarely decide" if repeats in FEW else ""
    lead = f"No winner: {best} is highest, but its lead over" if not clear else "Its lead over"
    what = f"{lead} {' and '.join(noise)} is within noise: the interval contains 0{rarely}."
    return f"{said} {what}".strip()


def _command(
    dataset: Any, modes: Sequence[str], repeats: int, shared: Settings, choices: Mapping[str, Any]
) -> str | None:
    """The command that does the same again; None of a dataset that only Python has."""
    if not isinstance(dataset, str | os.PathLike):
        return None
    dataset = sources.normalize_dataset(dataset)
    shown = {"repeats": repeats, "seed": shared.seed, **_training(shared), **choices}
    told = formatting.options({k: v for k, v in shown.items() if k not in MACHINE_ONLY})
    return shlex.join(["pixelprep", "compare", dataset, "--modes", ",".join(modes), *told])


def _written(result: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write the picture, the page and the JSON, which comes last."""
    whole_result = result | {"page": os.fspath(folder / PAGE)}
    html.write(folder / PICTURE, comparison_report.picture(result))
    html.write(folder / PAGE, comparison_report.page_of(result))
    html.write(folder / RESULT, json.dumps(whole_result, indent=1, allow_nan=False) + "\n")
    return whole_result
