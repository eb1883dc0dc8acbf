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
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any  # Any: options of `prepare`, each of its own type

from pixelprep import sources
from pixelprep.cache.entries import is_entry_name
from pixelprep.dataset.entry import Entry
from pixelprep.errors import TrainError, UsageError, check_int, unknown_choice
from pixelprep.format.options import MACHINE_ONLY, PREPARE_OPTIONS, RUNTIME_ONLY
from pixelprep.numerics import significance
from pixelprep.numerics.modes import MODES, plain_modes
from pixelprep.pipeline.prepare import PrepareCall, as_before, data_of, prepare, source_of
from pixelprep.reports import comparison_report, html, results
from pixelprep.reports.results import CompareResult, TrainResult, TrainSettings
from pixelprep.system import formatting, fs, os_calls, records, tf_runtime
from pixelprep.training.run_folder import RunFolder, load_finished
from pixelprep.training.train import require, resume, train

LOG = logging.getLogger("pixelprep")

SETTINGS, RUNS = "settings.json", "runs"  # of the folder: what all its runs share; the runs
RESULT, PAGE, PICTURE = "compare.json", "compare.html", "compare.png"
# Of what runs share, what an option is called like; a recipe's source is a digest.
OPTIONS = {"epochs", "batch_size", "model", *PREPARE_OPTIONS} - {"source"}
FEW = {3: "three", 4: "four", 5: "five"}  # repeats that rarely decide


def compare(
    dataset: str | os.PathLike[str] | sources.Source = "mnist",
    *,
    modes: Sequence[str] = plain_modes(),
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
        As for `prepare`; or an entry's folder, key or ``DATASET/MODE-KEY``, for the data that it
        was made from and its options.
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
    os_calls.require_posix("training")
    require("compare")
    _check(modes, model, val_fraction)
    settings = TrainSettings(epochs, batch_size, seed, model=model)
    seeds = range(seed, seed + check_int("repeats", repeats, 1))
    replace(settings, seed=seeds[-1])  # is refused now, not after hours
    cache = fs.cache_dir(options.get("cache_dir"))
    if isinstance(dataset, str) and is_entry_name(dataset, cache):
        dataset, own = data_of(dataset, cache, quiet)
        options = own | options | {"val_fraction": val_fraction}
    else:
        options["val_fraction"] = val_fraction
        if isinstance(dataset, str):
            dataset = dataset if sources.is_path(dataset) else sources.meant(dataset)
            if sources.is_path(dataset):
                options |= as_before(dataset, options, cache, any_scaling=True)
    folder = _folder(dataset, options, out)
    known = {"per": options.get("per", PrepareCall.per), "rescale": bool(options.get("rescale"))}
    known |= {"val_fraction": float(val_fraction), **_training(settings)}
    _is_new(folder, known, only_known=True)  # refused before hours of preparing
    entries = {}
    for mode in modes:
        LOG.info("preparing %s", mode)
        entries[mode] = prepare(dataset, **_scaling_options(mode), quiet=quiet, **options)
    defaults = {k: v.default for k, v in inspect.signature(prepare).parameters.items()}
    unusual = {k: v for k, v in options.items() if k not in defaults or v != defaults[k]}
    comparison = _Comparison(entries, seeds, settings, unusual)
    _claim(folder, comparison.shared)
    tf_runtime.start_keras("compare")
    with tf_runtime.silence_retracing():
        runs = _train_all(comparison, folder / RUNS, quiet)
    result = _result(comparison, runs, comparison.command(dataset), folder / PAGE)
    result = replace(result, changed=changed_ranking(_earlier(folder), result))
    html.write(folder / PICTURE, comparison_report.picture(result))
    html.write(folder / PAGE, comparison_report.render(result))
    content = json.dumps(result.to_dict(), indent=1, allow_nan=False)
    html.write(folder / RESULT, content + "\n")
    return result


def _check(modes: Sequence[str], model: str | None, val_fraction: float) -> None:
    if isinstance(modes, str):
        raise UsageError(f"`modes={modes}`: expected a list of names, got a string")
    for mode in modes:
        if _scaling_options(mode)["mode"] not in MODES:
            raise unknown_choice("modes", mode, MODES)
    twice = sorted({mode for mode in modes if modes.count(mode) > 1})
    if twice:
        raise UsageError(f"`modes={','.join(modes)}`: {', '.join(twice)} is given twice")
    if len(modes) < 2:
        raise UsageError(f"`modes={','.join(modes)}`: expected two or more, with commas between")
    if model is not None and fs.expand_user(model).is_dir():
        hint = "a run's model has seen one scaling; only a fresh one can be compared on several"
        message = f"`model={model}`: expected module:function, got the folder of a run"
        raise UsageError(message, hint)
    if not 0 < val_fraction < 1:
        expected = "modes are ranked on a validation split: expected more than 0, below 1"
        raise UsageError(f"`val_fraction={val_fraction}`: {expected}")


def _scaling_options(mode: str) -> dict[str, Any]:
    """Return the options of `prepare` that a mode stands for: a preset may be behind a colon."""
    name, colon, preset = mode.partition(":")
    return {"mode": name, "preset": preset} if colon else {"mode": name}


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What is compared, and how."""

    entries: Mapping[str, Entry]  # by mode, as it was asked for
    seeds: range  # one a run of each mode
    settings: TrainSettings  # of the first run
    options: Mapping[str, Any]  # of `prepare`, those that are not as by default

    @property
    def training(self) -> dict[str, Any]:
        """The settings that all runs share and that decide their result."""
        return _training(self.settings)

    @property
    def shared(self) -> dict[str, Any]:
        """What all runs of a comparison share, whatever its modes and seeds."""
        # As asked for: a mode may do without, and its recipe has another value then.
        per, rescale = self.options.get("per", "channel"), bool(self.options.get("rescale"))
        entry = next(iter(self.entries.values()))
        recipe = {k: v for k, v in entry.manifest.recipe.to_dict().items() if k != "mode"}
        shared = {"dataset": entry.dataset, **recipe, **self.training}
        return {**shared, "per": per, "rescale": rescale}

    def command(self, dataset: str | os.PathLike[str] | sources.Source) -> str | None:
        """Return the command that does the same again; None of what only Python has."""
        dataset = sources.normalize_dataset(dataset)
        if not isinstance(dataset, str):
            return None
        shown = {"repeats": len(self.seeds), "seed": self.settings.seed}
        shown |= {**self.training, **self.options}
        options = formatting.options({k: v for k, v in shown.items() if k not in MACHINE_ONLY})
        return shlex.join(
            ["pixelprep", "compare", dataset, "--modes", ",".join(self.entries), *options]
        )


def _training(settings: TrainSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in ("epochs", "batch_size", "model")}


def _folder(
    dataset: str | os.PathLike[str] | sources.Source,
    options: Mapping[str, Any],
    out: str | os.PathLike[str] | None,
) -> Path:
    """Return the comparison's folder; by default that of the source's name."""
    if out is None:
        given = {name: value for name, value in options.items() if name in PREPARE_OPTIONS}
        out = f"compare-{source_of(PrepareCall(dataset, **given)).name}"
    return fs.expand_user(out).absolute()


def _claim(folder: Path, shared: Mapping[str, Any]) -> None:
    """Make a comparison's folder, or take one that has the same settings."""
    if _is_new(folder, shared):
        html.write(folder / SETTINGS, json.dumps(shared, indent=1) + "\n")


def _is_new(folder: Path, shared: Mapping[str, Any], *, only_known: bool = False) -> bool:
    """Tell whether a folder is to be made; refuse one of other settings, or of something else.

    Where these are `only_known` ones, it may have more.
    """
    if not os.path.lexists(folder):
        return True
    if folder.is_dir() and all(path.name.startswith(f"{SETTINGS}.") for path in folder.iterdir()):
        return True  # perhaps with what a process left that was killed at its first write
    found, hint = records.read(folder / SETTINGS), "name another folder with `out`"
    if found is None:
        raise UsageError(f"{folder}: already exists, and is not the folder of a comparison", hint)
    for name in sorted(shared if only_known else {*found, *shared}):
        if found.get(name) != shared.get(name):
            shown = f"`{name}`" if name in OPTIONS else name
            what = f"is a comparison with {shown} {found.get(name)}"
            raise UsageError(f"{folder}: {what}, but {shared.get(name)} was asked for", hint)
    return False


def _train_all(comparison: _Comparison, folder: Path, quiet: bool) -> dict[str, list[TrainResult]]:
    """Train every run; modes take turns, so that changes of the machine meet all of them."""
    runs: dict[str, list[TrainResult]] = {mode: [] for mode in comparison.entries}
    turns = [(seed, *named) for seed in comparison.seeds for named in comparison.entries.items()]
    durations: list[float] = []  # seconds of each run that was not finished before
    for number, (seed, mode, entry) in enumerate(turns):
        run = RunFolder(folder / f"{mode.replace(':', '-')}-{entry.per}-seed{seed}")
        left = ""
        if durations:
            seconds = statistics.fmean(durations) * (len(turns) - number)
            left = f"; about {formatting.format_duration(seconds)} left"
        LOG.info("run %d of %d: %s, seed %d%s", number + 1, len(turns), mode, seed, left)
        is_new, started = not run.final.exists(), time.perf_counter()
        settings = replace(comparison.settings, seed=seed)
        runs[mode].append(_train_one(run, entry, settings, quiet))
        if is_new:
            durations.append(time.perf_counter() - started)
    return runs


def _train_one(run: RunFolder, entry: Entry, settings: TrainSettings, quiet: bool) -> TrainResult:
    """Return the result of one run: a finished one is kept, an unfinished one is resumed."""
    if run.folder.exists():
        with run.locked():  # which removes what a killed process left that has no checkpoint
            if run.final.exists():
                run.checkpoint.unlink(missing_ok=True)
    if run.final.exists():
        result = load_finished(run.final).result
        _check_same(run.final, result.settings, result.key, entry, settings)
        LOG.info("finished before")
        return result
    if run.checkpoint.exists():
        state = run.load().state
        _check_same(run.folder, state.settings, state.key, entry, settings)
        return resume(run.final, quiet=quiet, cache_dir=entry.path.parent.parent)
    return train(entry, **asdict(settings), run_dir=run.final, quiet=quiet)


def _check_same(
    folder: Path, settings: TrainSettings, key: str, entry: Entry, expected: TrainSettings
) -> None:

    found = {**settings.to_dict(), "key": key}
    for name, value in {**expected.to_dict(), "key": entry.key}.items():
        if found[name] != value:
            message = f"{folder}: is a run with {name} {found[name]}, expected {value}"
            raise TrainError(message, "delete it, or name another folder with `out`")


def _result(
    comparison: _Comparison,
    runs: Mapping[str, Sequence[TrainResult]],
    command: str | None,
    page: Path,
) -> CompareResult:
    modes = [_mode_result(mode, one, runs[mode]) for mode, one in comparison.entries.items()]
    first = next(iter(comparison.entries.values()))
    accuracies = {result.mode: result.val_accuracy for result in modes}
    best, *others = ranking = rank(accuracies)
    differences = []
    for other in others:
        found = significance.difference(accuracies[best], accuracies[other])
        differences.append(results.ModeDifference(**asdict(found), pair=(best, other)))
    unshown = (*RUNTIME_ONLY, "source")
    options = {k: v for k, v in comparison.options.items() if k not in unshown}
    return CompareResult(
        dataset=first.dataset,
        verdict=verdict(differences),
        ranking=tuple(ranking),
        modes=tuple(modes),
        differences=tuple(differences),
        seeds=tuple(comparison.seeds),
        images={name: len(split) for name, split in first.splits.items()},
        settings=comparison.training | options,
        machine=tf_runtime.environment_info(),
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        command=command,
        page=page,
    )


def _mode_result(mode: str, entry: Entry, runs: Sequence[TrainResult]) -> results.ModeResult:

    last = [run.history["val_accuracy"][-1] for run in runs]
    val = [accuracy for accuracy in last if accuracy is not None]  # which none is: they are finite
    test = [run.test_accuracy for run in runs if run.test_accuracy is not None]
    return results.ModeResult(
        mode=mode,
        per=entry.per,
        key=entry.key,
        val_accuracy=tuple(val),
        test_accuracy=tuple(test),
        mean=statistics.fmean(val),
        spread=_spread(val),
        test_mean=statistics.fmean(test) if test else None,
        test_spread=_spread(test),
        seconds_per_epoch=statistics.median(run.seconds_per_epoch for run in runs),
        history=tuple(run.history for run in runs),
    )


def _spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def rank(accuracies: Mapping[str, Sequence[float]]) -> list[str]:
    """Sort modes by their mean accuracy, the best first; equal ones stay in order."""
    return sorted(accuracies, key=lambda mode: -statistics.fmean(accuracies[mode]))


def _earlier(folder: Path) -> CompareResult | None:
    """Return the folder's earlier result, if there is one that can be read."""
    with suppress(OSError, ValueError):
        return CompareResult.from_dict(json.loads((folder / RESULT).read_text()))
    return None


def changed_ranking(earlier: CompareResult | None, result: CompareResult) -> str | None:
    """Say how the order of the modes that both have is another now, and what came to it."""
    if earlier is None:
        return None
    before = [mode for mode in earlier.ranking if mode in result.ranking]
    now = [mode for mode in result.ranking if mode in earlier.ranking]
    if before == now:
        return None
    seeds = {"with": set(result.seeds) - set(earlier.seeds)}
    seeds |= {"without": set(earlier.seeds) - set(result.seeds)}
    why = [f"{word} the seeds {', '.join(map(str, sorted(s)))}" for word, s in seeds.items() if s]
    what = f"The ranking was {', '.join(before)}; it is {', '.join(now)}"
    return f"{what} {' and '.join(why)}".strip() + "."


def verdict(differences: Sequence[results.ModeDifference]) -> str:
    """Say in words what a ranking is worth, by the best mode's differences from the others."""
    best, repeats = differences[0].pair[0], len(differences[0].each)
    highest = f"No winner: {best} is highest, but"
    if repeats < significance.FEWEST:
        return f"{highest} fewer than three repeats give no confidence interval: use three or more."
    noise, clear = [], []
    for one in differences:
        if one.within_noise:
            noise.append(one.pair[1])
        else:
            points, interval = f"{100 * one.mean:.2f} points", significance.format_interval(one)
            clear.append(f"better than {one.pair[1]} by {points} ({interval})")
    winner = f"{best} is {', and '.join(clear)}." if clear else ""
    if not noise:
        return winner
    rarely = f"; {FEW[repeats]} repeats rarely decide" if repeats in FEW else ""
    lead = "Its lead over" if clear else f"{highest} its lead over"
    rest = f"{lead} {' and '.join(noise)} is within noise: the interval contains 0{rarely}."
    return f"{winner} {rest}".strip()
