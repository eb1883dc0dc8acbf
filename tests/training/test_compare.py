"""Comparing scalings: what is trained in which order, what the figures tell, and the page."""

import json
import logging
import re
import shutil
import signal
import statistics
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import pixelprep
from pixelprep import UsageError
from pixelprep.installation import install_command
from pixelprep.numerics import significance
from pixelprep.numerics.significance import difference, t_quantile
from pixelprep.pipeline.prepare import data_of
from pixelprep.reports import comparison_report
from pixelprep.reports.results import CompareResult, History, ModeDifference, ModeResult
from pixelprep.sources import Arrays
from pixelprep.system import tf_runtime
from pixelprep.training.compare import RUNS, changed_ranking, compare, rank, verdict
from pixelprep.training.train import train
from tests.helpers.cli import failure, run, start
from tests.helpers.data import arrays
from tests.helpers.training import TINY, check_same, interrupted_at, listening


def write_images(folder: Path) -> None:
    """Write random images that are large enough for the CNN to a file, ``digits.npz``."""
    (x, y), (xx, yy) = images().splits.values()
    np.savez(folder / "digits.npz", x_train=x, y_train=y, x_test=xx, y_test=yy)


def images(name: str = "digits") -> Arrays:
    """Return the same in memory."""
    return arrays(200, 60, (12, 12, 1), name=name)


SETTINGS: dict[str, Any] = {
    **{"modes": ("center", "normalize"), "repeats": 2, "epochs": 1, "val_fraction": 0.25},
    **{"model": TINY, "quiet": True},
}
COMMAND = [
    *("compare", "./digits.npz", "--modes", "center,normalize", "--epochs", "1"),
    *("--val-fraction", "0.25", "--model", TINY),
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
        return compare(images(), **SETTINGS | {"out": "copy", "cache_dir": self.cache} | changes)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """Return a finished comparison of two modes and two seeds."""
    top = tmp_path_factory.mktemp("done")
    write_images(top)
    with pytest.MonkeyPatch.context() as patch, listening() as messages:
        patch.chdir(top)
        found = compare("./digits.npz", **SETTINGS, cache_dir=top / "cache")
    return Compared(found, top / "compare-digits", top / "cache", messages)


# What the figures tell


def test_quantiles_are_students() -> None:
    """The quantile is SciPy's, for few and for many degrees of freedom."""
    stats, freedom = pytest.importorskip("scipy.stats"), [*range(1, 41), 99, 1000]
    expected = stats.t.ppf(0.975, freedom)
    assert list(map(t_quantile, freedom)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("pairs", [3, 10])
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
    """Two pairs have no interval; differences that are all alike are no proof of anything."""
    two = difference([0.9, 0.9], [0.5, 0.5])
    assert (two.low, two.high, two.within_noise) == (None, None, None)
    assert two.mean == pytest.approx(0.4)
    assert difference([0.75, 0.5, 0.25], [0.5, 0.25, 0.0]).within_noise is True


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


@pytest.mark.parametrize("repeats", [1, 2])
def test_two_repeats_have_no_winner(repeats: int) -> None:
    """However large its lead, of so few runs nothing can be said: Student's interval of two is
    often wider than all accuracies there are.
    """
    assert said([0.1] * repeats) == (
        "No winner: standardize is highest, but fewer than three repeats give no confidence"
        " interval: use three or more."
    )
    few = difference([0.9] * repeats, [0.1] * repeats)
    assert "no confidence interval" in significance.format_difference(few)


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
    train(entries[0], epochs=1, seed=1, model=TINY, run_dir="alone", quiet=True)
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
    assert only.within_noise is None  # of two repeats
    assert done.found.images == {"train": 150, "val": 50, "test": 60}


@pytest.mark.long
def test_more_repeats_go_on_with_what_is_there(done: Compared) -> None:
    """Runs that are finished are not trained again, nor changed; interrupted after an epoch, a run
    goes on and comes out as if it had not been; what a killed process left of a run without an
    epoch is no hindrance. Data that only Python has gives the same, and has no command.
    """
    shutil.copytree(done.folder, "copy")
    for path in Path("copy", RUNS).glob("*-seed1"):
        shutil.rmtree(path)
    before = {p: p.stat().st_mtime_ns for p in Path("copy", RUNS).rglob("*.*")}
    with interrupted_at("epoch 1/"):
        done.again()
    assert Path("copy", RUNS, "center-channel-seed1.unfinished", "checkpoint.npz").exists()
    Path("copy", RUNS, "normalize-dataset-seed1.unfinished").mkdir()
    with listening() as messages:
        found = done.again(modes=("normalize", "center"))
    said = [one.split(",")[0] for one in messages if re.match("going|epoch|finished", one)]
    assert [one[:15] for one in said] == [
        *("finished before", "finished before", "epoch 1/1  loss", "going on after "),
    ]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    again = {one.mode: one.val_accuracy for one in found.modes}
    assert again == {one.mode: one.val_accuracy for one in done.found.modes}
    for path in (done.folder / RUNS).iterdir():
        check_same(Path("copy", RUNS, path.name), path)
    assert (found.command, done.found.command is None) == (None, False)


@pytest.mark.long
def test_ctrl_c_and_kill_lose_no_finished_run(cache: Path, done: Compared) -> None:
    """A process that is interrupted says so and exits 130; one that is killed says nothing; the
    same command then takes what is finished, and is as good as one that was left alone. What a
    process left that was killed as it claimed the folder is no hindrance either.
    """
    write_images(Path())
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
                "hint: give the same command again: what is finished stays",
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
    advice = "5 out of the last 11 calls to f triggered tf.function retracing. Tracing is …"
    with listening(logger="tensorflow") as messages:
        log = logging.getLogger("tensorflow")
        with tf_runtime.silence_retracing():
            log.warning(advice)
            log.warning("something else")
        log.warning(advice)
    assert messages == ["something else", advice]


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modes": ["center", "normalize", "center"]}, "center is given twice"),
        ({"modes": ["center"]}, "expected two or more"),
        ({"modes": "center,normalize"}, "expected a list of names, got a string"),
        ({"repeats": 0}, "`repeats=0`: expected 1 or more"),
        ({"val_fraction": 0}, "`val_fraction=0`: modes are ranked on a validation split"),
        ({"seed": 2**32 - 1}, "`seed=4294967297`: expected 0 to"),
        ({"epochs": 0}, "`epochs=0`"),
        ({"model": "."}, "got the folder of a run"),
    ],
)
def test_wrong_options_are_refused_before_any_work(
    options: dict[str, Any], message: str, cache: Path
) -> None:
    """Nothing is made."""
    with pytest.raises(pixelprep.UsageError) as refused:
        compare("sample", **options)
    assert message in refused.value.message
    assert list(Path().iterdir()) == []
    assert not cache.exists()


def test_wrong_modes_are_refused_on_the_command_line() -> None:
    """One line, exit status 2, and a hint."""
    error, hint = failure(run("compare", "sample", "--modes", "center, standardise", bare=True), 2)
    assert error.startswith("unknown --modes 'standardise'")
    assert hint == "did you mean 'standardize'?"


@pytest.mark.long
def test_presets_are_compared(tmp_path: Path, cache: Path) -> None:
    """A preset stands behind a colon and names its runs; what is no preset, and a mode that takes
    none, are one line before anything is trained.
    """
    modes = ("fixed:imagenet", "fixed:keras-caffe")
    rgb = arrays(60, 20, (12, 12, 3), name="rgb")
    about: dict[str, Any] = SETTINGS | {"repeats": 1, "out": tmp_path / "out"}
    found = compare(rgb, **about | {"modes": modes})
    assert [one.mode for one in found.modes] == list(modes)
    assert sorted(found.ranking) == sorted(modes)
    runs = {path.name for path in (tmp_path / "out" / RUNS).iterdir()}
    assert runs == {"fixed-imagenet-channel-seed0", "fixed-keras-caffe-channel-seed0"}
    entries = {one.mode: pixelprep.find_entry(one.key) for one in found.modes}
    assert entries["fixed:keras-caffe"].manifest.recipe.channel_order == "bgr"
    alone = pixelprep.prepare(rgb, mode="fixed", preset="imagenet", val_fraction=0.25, quiet=True)
    assert alone.key == entries["fixed:imagenet"].key
    for wrong, message in (
        ("fixed:vgg", "unknown `preset` 'vgg'"),
        ("center:clip", "`mode=center` does not take it"),
        ("fixed", "expected `mean` and `std`, or a `preset`"),
    ):
        with pytest.raises(UsageError, match=message):
            compare(rgb, **about | {"modes": ("standardize", wrong), "out": tmp_path / "no"})
    assert not (tmp_path / "no").exists()


def test_other_settings_are_not_mixed(done: Compared) -> None:
    """A folder of other settings, of other images or of something else is refused as it is."""
    before = {p: p.stat().st_mtime_ns for p in done.folder.rglob("*")}
    for change, has in (
        ({"epochs": 2}, "`epochs` 1, but 2"),
        ({"val_fraction": 0.5}, "`val_fraction` 0.25, but 0.5"),
        ({"per": "pixel"}, "`per` channel, but pixel"),
        ({"model": None}, f"`model` {TINY}, but None"),
    ):
        with pytest.raises(pixelprep.UsageError, match=f"is a comparison with {has} was asked"):
            done.again(out=done.folder, **change)
    with pytest.raises(pixelprep.UsageError, match="is a comparison with dataset digits"):
        compare(images("others"), **SETTINGS, out=done.folder)
    Path("mine").mkdir()
    Path("mine", "letter.txt").write_text("dear")
    for wrong in ("mine", "mine/letter.txt"):
        with pytest.raises(pixelprep.UsageError, match="not the folder of a comparison") as refused:
            done.again(out=wrong)
        assert refused.value.hint == "name another folder with `out`"
    assert [p.name for p in Path("mine").iterdir()] == ["letter.txt"]
    assert {p: p.stat().st_mtime_ns for p in done.folder.rglob("*")} == before


def test_other_settings_are_refused_before_anything_is_prepared(
    done: Compared, cache: Path
) -> None:
    """What the folder has is compared with what is asked for; no entry is made for it."""
    with pytest.raises(pixelprep.UsageError, match=r"`val_fraction` 0\.25, but 0.5 was asked"):
        compare(images("digits"), **SETTINGS | {"val_fraction": 0.5}, out=done.folder)
    assert not any(cache.glob("*/*/manifest.json"))


def test_an_entry_means_the_data_it_was_made_from(tmp_path: Path) -> None:
    """Named by its key, an entry gives its data and its options but for the mode."""
    write_images(tmp_path)
    data = tmp_path / "digits.npz"
    entry = pixelprep.prepare(data, mode="center", per="pixel", quiet=True)
    assert data_of(entry.key, entry.path.parents[1], True) == (str(data), {"per": "pixel"})


def test_a_run_of_other_settings_is_refused(done: Compared) -> None:
    """A run's folder that was put there by hand is not taken for one of the comparison."""
    shutil.copytree(done.folder, "copy")
    runs = Path("copy", RUNS)
    shutil.rmtree(runs / "center-channel-seed0")
    (runs / "center-channel-seed1").rename(runs / "center-channel-seed0")
    with pytest.raises(pixelprep.TrainError, match="is a run with seed 1, expected 0"):
        done.again()


# What is shown


@pytest.mark.long
def test_the_table_is_in_order_of_rank(done: Compared) -> None:
    """The terminal has a line a mode, the best first, the verdict and the page's path."""
    write_images(Path())
    shutil.copytree(done.folder, "out")
    options = ("--repeats", "1", "--quiet", "--out", "out", "--cache-dir", str(done.cache))
    ended = run(*COMMAND, *options)
    assert (ended.returncode, ended.stderr) == (0, "")
    found = json.loads(Path("out/compare.json").read_text())
    head, *lines = ended.stdout.splitlines()
    assert head.split() == ["mode", "validation", "test", "an", "epoch"]
    assert [line.split()[0] for line in lines[:2]] == found["ranking"]
    assert "fewer than three repeats: no confidence interval" in lines[3]
    assert lines[-2:] == [found["verdict"], str(Path("out/compare.html").absolute())]
    assert found["command"] == (
        "pixelprep compare ./digits.npz --modes center,normalize --repeats 1 --seed 0 --epochs 1"
        f" --batch-size 64 --model {TINY} --val-fraction 0.25"
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


def test_what_changed_the_ranking_is_said() -> None:
    """The order of the modes that both results have, before and now, and which seeds came or went;
    of the first result, and where the order is the same, there is nothing to say.
    """
    now = result()
    assert changed_ranking(None, now) is None
    assert changed_ranking(now, replace(now, seeds=(0, 1, 2, 3))) is None
    before = replace(now, ranking=("center", "robust", "standardize"), seeds=(0, 7))
    expected = "The ranking was center, standardize; it is standardize, center"
    seeds = "with the seeds 1, 2 and without the seeds 7"
    assert changed_ranking(before, now) == f"{expected} {seeds}."
    assert changed_ranking(replace(before, seeds=now.seeds), now) == f"{expected}."


def test_the_page_says_what_it_rests_on() -> None:
    """Verdict, ranking, validation beside test, intervals, settings, machine and command. The PNG
    for a README is below 60 kB.
    """
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
    assert len(comparison_report.picture(result())) < 60_000


def test_the_page_escapes_what_others_named() -> None:
    """Names and paths in settings and command are text, whatever is in them. Losses that are no
    number leave gaps; one seed and one epoch are dots.
    """
    bad, like = "<script>alert('x')</script>&", result()
    diverged: History = dict.fromkeys(comparison_report.CURVES, (None,))
    few: dict[str, Any] = {"each": (0.1,), "low": None, "high": None, "within_noise": None}
    found = result(
        **{"command": bad, "dataset": bad, "settings": {**like.settings, "model": bad, bad: bad}},
        modes=tuple(replace(one, history=(diverged,)) for one in like.modes),
        differences=tuple(replace(one, **few) for one in like.differences),
        seeds=(0,),
    )
    page = comparison_report.render(found)
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;") >= 5
    assert "no confidence interval" in page
    assert comparison_report.picture(found).startswith(b"\x89PNG")


def test_missing_extras_are_said_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a package is missing nothing is prepared or trained; the extra is named."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(pixelprep.MissingExtraError, match="compare needs TensorFlow") as missing:
        compare(images())
    assert missing.value.hint == install_command("train")
    assert list(Path().iterdir()) == []
