"""Comparing scalings: what is trained in which order, what the figures tell, and the page."""

import json
import logging
import re
import shutil
import signal
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import pixelprep
from pixelprep.numerics import significance
from pixelprep.numerics.significance import difference, t_quantile
from pixelprep.reports import comparison_report
from pixelprep.reports.results import CompareResult, History, ModeDifference, ModeResult
from pixelprep.system import tf_runtime
from pixelprep.training.compare import RUNS, compare, rank, verdict
from pixelprep.training.train import train
from tests.helpers.cli import failure, run, start
from tests.helpers.data import arrays
from tests.helpers.training import check_same, interrupted_at

pytest.importorskip("tensorflow", reason="the extra `train` is not installed")


@pytest.fixture(autouse=True)
def folder(here: Path) -> Path:
    """Return the current folder, with a small model of the user's own."""
    (here / "linear_model.py").write_text(LINEAR)
    return here


def images(name: str = "little") -> Any:
    """Return random images that are large enough for the CNN."""
    return arrays(200, 60, (12, 12, 1), name=name)


def save_images() -> None:
    """Write the same to a file, for the command line."""
    raw = images()
    (x, y), (xx, yy) = raw.train, raw.test
    np.savez("digits.npz", x_train=x, y_train=y, x_test=xx, y_test=yy)


LINEAR = """
import keras

def linear(input_shape, classes):
    layers = [keras.layers.Flatten(), keras.layers.Dense(classes, activation="softmax")]
    return keras.Sequential([keras.Input(input_shape), *layers])
"""

TINY: dict[str, Any] = {
    **{"modes": ("center", "normalize"), "repeats": 2, "epochs": 1, "val_fraction": 0.25},
    **{"model": "linear_model:linear", "quiet": True},
}
COMMAND = [
    *("compare", "./digits.npz", "--modes", "center,normalize", "--epochs", "1"),
    *("--val-fraction", "0.25", "--model", "linear_model:linear"),
]


class Compared(NamedTuple):
    """A comparison that is not to be changed."""

    found: CompareResult
    folder: Path
    cache: Path
    messages: list[str]

    def again(self, **changes: Any) -> CompareResult:
        """Return the same in a copy of its folder, ``copy``, unless something else is asked for."""
        if not Path("copy").exists():
            shutil.copytree(self.folder, "copy")
        return compare(images(), **TINY | {"out": "copy", "cache_dir": self.cache} | changes)


class Kept(logging.Handler):
    """Messages, as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.messages.append(record.getMessage())


@contextmanager
def listening() -> Iterator[list[str]]:
    """Provide the messages that are given out meanwhile."""
    log, kept = logging.getLogger("pixelprep"), Kept()
    level = log.level
    log.addHandler(kept)
    log.setLevel(logging.INFO)
    try:
        yield kept.messages
    finally:
        log.removeHandler(kept)
        log.setLevel(level)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """Return a finished comparison of two modes and two seeds."""
    top = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        patch.setattr(sys, "path", [str(top), *sys.path])
        (top / "linear_model.py").write_text(LINEAR)
        with listening() as messages:
            found = compare(images(), **TINY, cache_dir=top / "cache")
    return Compared(found, top / "compare-little", top / "cache", messages)


# What the figures tell


@pytest.mark.parametrize("df", [*range(1, 41), 99, 1000])
def test_quantiles_are_students(df: int) -> None:
    """The quantile is SciPy's, for few and for many degrees of freedom."""
    stats = pytest.importorskip("scipy.stats")
    assert t_quantile(df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-9)


@pytest.mark.parametrize("pairs", [2, 3, 10])
def test_intervals_are_scipys(pairs: int) -> None:
    """Mean and interval of paired differences are those of SciPy's paired test."""
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(pairs)
    first, second = random.normal(0.9, 0.01, (2, pairs)).tolist()
    found = difference(first, second)
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert found.mean == pytest.approx(statistics.fmean(first) - statistics.fmean(second))


def test_pairs_make_the_difference() -> None:
    """A lead that each seed shows is told from noise, though seeds differ by more than it."""
    second = [0.90, 0.95, 0.80, 0.99]
    lead = [0.010, 0.011, 0.009, 0.010]
    found = difference([a + b for a, b in zip(second, lead, strict=True)], second)
    assert found.within_noise is False
    assert difference(second, [0.95, 0.90, 0.98, 0.81]).within_noise is True


def test_what_has_no_spread_is_no_evidence() -> None:
    """One pair has no interval; differences that are all alike are no proof of anything."""
    single = difference([0.9], [0.5])
    assert (single.low, single.high, single.within_noise) == (None, None, None)
    assert single.mean == pytest.approx(0.4)
    assert difference([0.75, 0.5], [0.5, 0.25]).within_noise is True


def test_ranking_is_by_mean_validation_accuracy() -> None:
    """The highest mean is first; equal ones stay in the order that was asked for."""
    figures = {"center": [0.5, 0.7], "normalize": [0.9, 0.1], "standardize": [0.6, 0.6]}
    assert rank(figures) == ["center", "standardize", "normalize"]


def said(*others: list[float], best: tuple[float, ...] = (0.9, 0.91, 0.89)) -> str:
    """Return the verdict on a best mode and these others."""
    names = ["center", "normalize"][: len(others)]
    found = [
        ModeDifference(**asdict(difference(best[: len(one)], one)), pair=("standardize", name))
        for name, one in zip(names, others, strict=True)
    ]
    return verdict(found)


NOISE = [0.905, 0.90, 0.89]
CLEAR = [0.80, 0.811, 0.79]


def test_a_verdict_names_no_winner_within_noise() -> None:
    """Where the interval contains 0 the verdict says so, and what so few repeats are worth."""
    assert said(NOISE) == (
        "No winner: standardize is highest, but its lead over center is within noise:"
        " the interval contains 0; three repeats rarely decide."
    )
    many = said(NOISE * 4, best=(0.9, 0.91, 0.89) * 4)
    assert many.endswith("within noise: the interval contains 0.")
    assert "center and normalize is within noise" in said(NOISE, NOISE)


def test_a_verdict_tells_clear_leads_from_others() -> None:
    """What is more than noise comes with its interval, beside what is not."""
    found = said(CLEAR, NOISE)
    assert re.fullmatch(
        r"standardize is better than center by 9\.97 points \(95% interval \+9\.82 to \+10\.11\)\."
        r" Its lead over normalize is within noise: the interval contains 0;"
        r" three repeats rarely decide\.",
        found,
    )
    assert "noise" not in said(CLEAR, CLEAR)
    assert "No winner" not in said(CLEAR, CLEAR)


def test_one_repeat_has_no_winner() -> None:
    """However large its lead, of one run nothing can be said."""
    assert said([0.1]) == (
        "No winner: standardize is highest, but one repeat gives no confidence interval:"
        " use more repeats."
    )
    assert "no confidence interval" in significance.format_difference(difference([0.9], [0.1]))


# What is trained


def test_modes_take_turns_and_share_everything_else(done: Compared) -> None:
    """Each seed goes through all modes before the next; all see the same images in the same
    order; each run is the very one that `train` gives; the result is JSON that says so.
    """
    turns = [one for one in done.messages if re.match(r"run \d+ of", one)]
    assert all(re.fullmatch(r".*; about \d+ s left", one) for one in turns[1:])
    assert [one.split(";")[0] for one in turns] == [
        "run 1 of 4: center, seed 0",
        "run 2 of 4: normalize, seed 0",
        "run 3 of 4: center, seed 1",
        "run 4 of 4: normalize, seed 1",
    ]
    assert sorted(p.name for p in (done.folder / RUNS).iterdir()) == [
        "center-channel-seed0",
        "center-channel-seed1",
        "normalize-dataset-seed0",
        "normalize-dataset-seed1",
    ]
    entries = [pixelprep.open(one.key, cache_dir=done.cache) for one in done.found.modes]
    rows = [
        [y.tolist() for _, y in entry.train.batches(64, shuffle=True, seed=1)] for entry in entries
    ]
    assert rows[0] == rows[1]
    assert len({tuple(entry.splits["val"].to_numpy()[1]) for entry in entries}) == 1
    train(entries[0], epochs=1, seed=1, model=TINY["model"], run_dir="alone", quiet=True)
    check_same(done.folder / RUNS / "center-channel-seed1", Path("alone"))
    written = json.loads((done.folder / "compare.json").read_text())
    assert written == done.found.to_dict()
    assert CompareResult.from_dict(written) == done.found


def test_the_result_is_what_the_runs_say(done: Compared) -> None:
    """Accuracies are those of the runs' own metrics; the ranking heeds validation alone."""
    for one in done.found.to_dict()["modes"]:
        paths = sorted((done.folder / RUNS).glob(f"{one['mode']}-*/metrics.json"))
        runs = [json.loads(path.read_text()) for path in paths]
        assert one["val_accuracy"] == [run["history"]["val_accuracy"][-1] for run in runs]
        assert one["test_accuracy"] == [run["test_accuracy"] for run in runs]
        assert one["history"] == [run["history"] for run in runs]
        assert {run["key"] for run in runs} == {one["key"]}
        assert one["mean"] == pytest.approx(statistics.fmean(one["val_accuracy"]))
        assert one["spread"] == pytest.approx(statistics.stdev(one["val_accuracy"]))
        assert one["per"] == {"normalize": "dataset", "center": "channel"}[one["mode"]]
    means = {one.mode: one.mean for one in done.found.modes}
    assert list(done.found.ranking) == sorted(means, key=lambda mode: -means[mode])
    [only] = done.found.differences
    assert only.pair == done.found.ranking
    assert only.within_noise in (True, False)
    assert done.found.images == {"train": 150, "val": 50, "test": 60}
    assert done.found.command is None


def test_finished_runs_are_taken_as_they_are(done: Compared) -> None:
    """With more repeats, what is finished is not trained again, nor is it changed."""
    shutil.copytree(done.folder, "copy")
    before = {p: p.stat().st_mtime_ns for p in Path("copy", RUNS).rglob("*.*")}
    with listening() as messages:
        wider = done.again(modes=("normalize", "center"), repeats=3)
    assert sum(one.startswith("epoch 1/1") for one in messages) == 2
    assert sum(one.startswith("finished before") for one in messages) == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before
    again = {one.mode: one.val_accuracy[:2] for one in wider.modes}
    assert again == {one.mode: one.val_accuracy for one in done.found.modes}


def test_an_unfinished_run_is_gone_on_with(done: Compared) -> None:
    """Interrupted after an epoch, a run goes on and comes out as if it had not been; what a
    killed process left of a run without an epoch is no hindrance.
    """
    shutil.copytree(done.folder, "copy")
    for name in ("center-channel-seed0", "normalize-dataset-seed1"):
        shutil.rmtree(Path("copy", RUNS, name))
    with interrupted_at("epoch 1/"):
        done.again()
    assert Path("copy", RUNS, "center-channel-seed0.unfinished", "checkpoint.npz").exists()
    Path("copy", RUNS, "normalize-dataset-seed1.unfinished").mkdir()
    with listening() as messages:
        found = done.again()
    assert any(one.startswith("going on after epoch 1") for one in messages)
    assert [one.val_accuracy for one in found.modes] == [
        one.val_accuracy for one in done.found.modes
    ]
    for path in (done.folder / RUNS).iterdir():
        check_same(Path("copy", RUNS, path.name), path)


@pytest.mark.long
def test_ctrl_c_and_kill_lose_no_finished_run(cache: Path, done: Compared) -> None:
    """A process that is interrupted says so and exits 130; one that is killed says nothing; the
    same command then takes what is finished, and is as good as one that was left alone. What a
    process left that was killed as it claimed the folder is no hindrance either.
    """
    save_images()
    Path("compare-digits").mkdir()
    Path("compare-digits", "settings.json.0123456789ab").touch()
    for sign, line in ((signal.SIGINT, "run 2 of 4"), (signal.SIGKILL, "run 3 of 4")):
        process = start(*COMMAND, "--repeats", "2")
        assert process.stderr
        while not process.stderr.readline().startswith(line):
            assert process.poll() is None
        process.send_signal(sign)
        _, rest = process.communicate(timeout=60)
        if sign == signal.SIGINT:
            assert process.returncode == 130
            assert rest.splitlines()[-2:] == [
                "error: interrupted",
                "hint: run the same command again: what is finished stays",
            ]
    ended = run(*COMMAND, "--repeats", "2", "--json")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stderr.splitlines()
    assert sum(one.startswith("finished before") for one in lines) == 2
    assert sum(one.startswith("epoch 1/1") for one in lines) == 2
    for name in ("val_accuracy", "test_accuracy"):
        assert [one[name] for one in json.loads(ended.stdout)["modes"]] == [
            one[name] for one in done.found.to_dict()["modes"]
        ]


def test_only_the_advice_on_many_models_is_kept_back() -> None:
    """TensorFlow's other warnings come through, and all of them afterwards."""
    log, kept = logging.getLogger("tensorflow"), Kept()
    advice = "5 out of the last 11 calls to f triggered tf.function retracing. Tracing is …"
    log.addHandler(kept)
    try:
        with tf_runtime.silence_retracing():
            log.warning(advice)
            log.warning("something else")
        log.warning(advice)
    finally:
        log.removeHandler(kept)
    assert kept.messages == ["something else", advice]


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--modes", "center,standardise"), "unknown --modes 'standardise'"),
        (("--modes", "center, normalize, center"), "center is given twice"),
        (("--modes", "center"), "expected two or more"),
        (("--repeats", "0"), "--repeats 0: expected 1 or more"),
        (("--val-fraction", "0"), "--val-fraction 0.0: modes are ranked on a validation split"),
        (("--seed", "4294967295"), "--seed 4294967297: expected 0 to"),
        (("--epochs", "0"), "--epochs 0"),
        (("--model", "."), "got the folder of a run"),
    ],
)
def test_wrong_options_are_refused_before_any_work(
    options: tuple[str, ...], message: str, cache: Path
) -> None:
    """One line, exit status 2, nothing made."""
    error, hint = failure(run("compare", "sample", *options), 2)
    assert message in error
    assert hint == "did you mean 'standardize'?" or "standardise" not in message
    assert [path.name for path in Path().iterdir()] == ["linear_model.py"]
    assert not cache.exists()


def test_other_settings_are_not_mixed(done: Compared) -> None:
    """A folder of other settings, of other images or of something else is refused as it is."""
    before = {p: p.stat().st_mtime_ns for p in done.folder.rglob("*")}
    for change, has in (
        ({"epochs": 2}, "epochs 1, but 2"),
        ({"val_fraction": 0.5}, "val_fraction 0.25, but 0.5"),
        ({"per": "pixel"}, "per channel, but pixel"),
        ({"model": None}, "model linear_model:linear, but None"),
    ):
        with pytest.raises(pixelprep.UsageError, match=f"is a comparison with {has} was asked"):
            done.again(out=done.folder, **change)
    with pytest.raises(pixelprep.UsageError, match="is a comparison with dataset little"):
        compare(images("others"), **TINY, out=done.folder)
    assert {p: p.stat().st_mtime_ns for p in done.folder.rglob("*")} == before


def test_a_folder_of_something_else_is_left_alone(done: Compared) -> None:
    """What is no comparison's folder is refused as it is."""
    Path("mine").mkdir()
    Path("mine", "letter.txt").write_text("dear")
    for wrong in ("mine", "mine/letter.txt"):
        with pytest.raises(pixelprep.UsageError, match="not of a comparison") as refused:
            done.again(out=wrong)
        assert refused.value.hint == "name another folder with `out`"
    assert [p.name for p in Path("mine").iterdir()] == ["letter.txt"]


def test_a_run_of_other_settings_is_refused(done: Compared) -> None:
    """A run's folder that was put there by hand is not taken for one of the comparison."""
    shutil.copytree(done.folder, "copy")
    runs = Path("copy", RUNS)
    shutil.rmtree(runs / "center-channel-seed0")
    (runs / "center-channel-seed1").rename(runs / "center-channel-seed0")
    with pytest.raises(pixelprep.TrainError, match="is a run with seed 1, expected 0"):
        done.again()


# What is shown


def test_the_table_is_in_order_of_rank(cache: Path) -> None:
    """The terminal has a line a mode, the best first, the verdict and the page's path."""
    save_images()
    ended = run(*COMMAND, "--repeats", "1", "--quiet", "--out", "out")
    assert (ended.returncode, ended.stderr) == (0, "")
    found = json.loads(Path("out/compare.json").read_text())
    head, *lines = ended.stdout.splitlines()
    assert head.split() == ["mode", "validation", "test", "an", "epoch"]
    assert [line.split()[0] for line in lines[:2]] == found["ranking"]
    assert "one repeat: no confidence interval" in lines[3]
    assert lines[-2:] == [found["verdict"], str(Path("out/compare.html").absolute())]
    assert found["command"] == (
        "pixelprep compare ./digits.npz --modes center,normalize --repeats 1 --seed 0 --epochs 1"
        " --batch-size 64 --model linear_model:linear --val-fraction 0.25"
    )


def result(**changes: Any) -> CompareResult:
    """Return a result of two modes and two epochs, as `compare` has it."""
    histories: list[History] = [
        {**dict.fromkeys(comparison_report.CURVES, (0.5 + seed / 10, 0.6)), "seconds": (1, 1)}
        for seed in range(3)
    ]
    modes = [
        ModeResult(
            *(mode, "channel", "0123456789ab", tuple(figures), tuple(figures)),
            *(statistics.fmean(figures), 0.01, statistics.fmean(figures), 0.01),
            *(1.0, tuple(histories)),
        )
        for mode, figures in (("center", CLEAR), ("standardize", NOISE))
    ]
    lead = asdict(difference(NOISE, CLEAR)) | {"within_noise": False}
    whole: dict[str, Any] = {
        "dataset": "little",
        "verdict": "standardize is better",
        "ranking": ("standardize", "center"),
        "modes": tuple(modes),
        "differences": (ModeDifference(**lead, pair=("standardize", "center")),),
        "seeds": (0, 1, 2),
        "images": {"train": 150, "val": 50, "test": 60},
        "settings": {"epochs": 2, "batch_size": 64, "model": None, "val_fraction": 0.25},
        "machine": {"platform": "Linux", "cpus": 2, "python": "3.11", "tensorflow": "2.21"},
        "date": "2026-11-25",
        "command": "pixelprep compare ./little",
        "page": Path("compare.html"),
    }
    return CompareResult(**whole | changes)


def test_the_page_says_what_it_rests_on() -> None:
    """Verdict, ranking, validation beside test, intervals, settings, machine and command."""
    page = " ".join(comparison_report.render(result()).split())
    for text in (
        "standardize is better",
        "ranks nothing",
        "the validation split, 50 images",
        "more than noise",
        "TensorFlow",
        "pixelprep compare ./little",
        "the reference CNN",
    ):
        assert text in page
    assert page.index(">standardize</td>") < page.index(">center</td>")
    assert page.count("<svg ") == 6
    assert page.index('class="verdict"') < page.index("<table>")


def test_the_page_escapes_what_others_named() -> None:
    """Names and paths in settings and command are text, whatever is in them."""
    bad = "<script>alert('x')</script>&"
    page = comparison_report.render(
        result(command=bad, dataset=bad, settings={**result().settings, "model": bad, bad: bad})
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;") >= 5


def test_a_diverged_loss_and_one_epoch_are_drawn() -> None:
    """Losses that are no number leave gaps; one seed and one epoch are dots."""
    found = result()
    diverged: History = dict.fromkeys(comparison_report.CURVES, (None,))
    modes = tuple(replace(one, history=(diverged,)) for one in found.modes)
    pairs = tuple(
        replace(one, each=(0.1,), low=None, high=None, within_noise=None)
        for one in found.differences
    )
    found = replace(found, modes=modes, differences=pairs, seeds=(0,))
    assert "no confidence interval" in comparison_report.render(found)
    assert comparison_report.picture(found).startswith(b"\x89PNG")


def test_the_picture_is_small() -> None:
    """The PNG for a README is below 60 kB."""
    assert len(comparison_report.picture(result())) < 60_000


def test_missing_extras_are_said_before_any_work(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """Where a package is missing nothing is prepared or trained; the extra is named."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(pixelprep.MissingExtraError, match="compare needs TensorFlow") as missing:
        compare(images())
    assert missing.value.hint == 'pip install "pixelprep[train]"'
    assert [path.name for path in Path().iterdir()] == ["linear_model.py"]
