"""The command line, run as users run it: what it prints, where, and its exit status."""

import json
import os
import re
import resource
import shutil
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep.format.layout import COMPRESSIONS, DTYPES
from pixelprep.format.options import PrepareOptions
from pixelprep.installation import install_command
from pixelprep.numerics.scaling import MODES, PER
from pixelprep.sources import REGISTRY
from pixelprep.sources.known.lookup import known_name
from tests.helpers.cli import failure, prepared, run
from tests.helpers.data import bytes_of
from tests.helpers.process import execute

# prepare: what it prints


def test_prepare_prints_figures_path_and_size(cache: Path) -> None:
    """`prepare sample` prints statistics, each split's figures, the path and the size."""
    done = run("prepare", "sample")
    assert done.returncode == 0, done.stderr
    head, mean, std, titles, train, test, note, path, end = done.stdout.splitlines()
    entry = pixelprep.open(path)
    assert entry.path.parent == cache / "sample"
    assert head == f"sample, standardize per channel, key {entry.key}"
    assert mean.split() == ["mean", repr(float(entry.scaling.mean[0]))]
    assert std.split() == ["std", repr(float(entry.scaling.std[0]))]
    assert titles.split()[:4] == ["images", "shape", "type", "raw"]
    for line, split in ((train, entry.train), (test, entry.test)):
        first = split.read(0, min(64, len(split))).astype(float)
        figures = [f"{v:.6g}" for v in (first.min(), first.max(), first.mean(), first.std())]
        expected = [split.name, f"{len(split):,}", "28×28×1", "float32", "0", "to", "255"]
        assert line.split() == expected + figures
    assert note.endswith("file; of all of train: mean 0, std 1)")  # a first batch comes near
    assert "first batch of 64" in note
    size = sum((entry.path / name).stat().st_size for name in ("train.h5", "test.h5"))
    assert re.fullmatch(rf"{size / 1e6:.1f} MB, prepared in \d+\.\d s", end)


def test_raw_range_comes_before_anything_is_scaled(digits: str) -> None:
    """Raw minimum and maximum are shown first, even where no scaled image can be stored."""
    room_for_raw = {resource.RLIMIT_FSIZE: 2000}  # 40 × 36 raw bytes
    lines = run("prepare", digits, limits=room_for_raw).stderr.splitlines()
    assert lines[:2] == [
        "raw train 40 × 6×6×1 uint8, minimum 0, maximum 255",
        "raw test  20 × 6×6×1 uint8, minimum 0, maximum 255",
    ]
    assert lines[2].startswith("error: ")


def test_json_is_one_object_that_describes_what_is_stored(digits: str) -> None:
    """`prepare --json` puts one line on standard output: what was asked for, where it is, and rows,
    shape, type, bytes and the first batch's figures, which are those of the files.
    """
    done = run("prepare", digits, "--val-fraction", "0.25", "--json")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    answer = json.loads(done.stdout)
    entry = pixelprep.open(answer["path"])
    asked = [answer[name] for name in ("dataset", "mode", "per", "key", "hit")]
    assert asked == ["digits", "standardize", "channel", entry.key, False]
    assert re.fullmatch("[0-9a-f]{12}", entry.key)
    assert answer["path"].endswith(f"/digits/standardize-{entry.key}")
    assert isinstance(answer["seconds"], float)
    lengths = {name: len(values) for name, values in answer["scaling"].items()}
    assert lengths == dict.fromkeys(("mean", "std", "scale", "offset"), 1)
    rows = {name: split["rows"] for name, split in answer["splits"].items()}
    assert rows == {"train": 30, "val": 10, "test": 20}
    for name, split in answer["splits"].items():
        images = entry.splits[name].read(0, min(64, split["rows"]))
        assert split["rows"] == len(entry.splits[name])
        assert split["shape"] == list(entry.splits[name].shape)
        assert split["dtype"] == str(images.dtype) == "float32"
        assert split["bytes"] == (entry.path / f"{name}.h5").stat().st_size
        first = split["first_batch"]
        assert first["shape"] == list(images.shape)
        assert (first["min"], first["max"]) == (images.min(), images.max())
        exact = images.astype(np.float64)
        assert (first["mean"], first["std"]) == pytest.approx((exact.mean(), exact.std()))


def test_second_call_finds_the_entry(digits: str) -> None:
    """The second call answers the same but for `hit` and `seconds`, and says nothing else."""
    first = run("prepare", digits, "--json")
    second = run("prepare", digits, "--json")
    answers = [json.loads(done.stdout) for done in (first, second)]
    assert [answer.pop("hit") for answer in answers] == [False, True]
    assert all(answer.pop("seconds") >= 0 for answer in answers)
    assert answers[0] == answers[1]
    assert first.stderr.count("\n") == 2
    assert second.stderr == ""
    assert "already prepared" in run("prepare", digits).stdout


def test_quiet_leaves_what_was_guessed_or_left_out(tmp_path: Path) -> None:
    """Nothing is lost in silence: `-q` stops all other messages, as its help says."""
    labels = np.arange(9) % 3
    np.savez(
        tmp_path / "own.npz",
        X=np.zeros((9, 8, 8), np.uint8) + labels[:, None, None],
        y=labels,
        z=labels,
    )
    args = ("prepare", "./own.npz", "--mode", "normalize", "--on-leak", "warn")
    quiet = run(*args, "-q", "-f", cwd=tmp_path).stderr.splitlines()
    loud = run(*args, "-f", cwd=tmp_path).stderr.splitlines()
    assert [line for line in quiet if "not used" in line] == ["own: arrays not used: z"]
    assert set(quiet) < set(loud)
    about = " ".join(run("prepare", "--help").stdout.split())
    assert "messages only of what was guessed or left out" in about


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_messages_go_to_standard_error_and_quiet_stops_them(
    digits: str, form: tuple[str, ...]
) -> None:
    """Standard output is the same with and without messages; `--quiet` says only results."""
    loud = run("prepare", digits, "--force", *form)
    quiet = run("prepare", digits, "--force", "--quiet", *form)
    assert "raw train" in loud.stderr
    assert "\r" not in loud.stderr  # no bar where there is no terminal
    assert quiet.stderr == ""
    seconds = re.compile(r'prepared in .*|"seconds": [^,]*')
    assert seconds.sub("", loud.stdout) == seconds.sub("", quiet.stdout)
    assert "raw train" not in loud.stdout


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["cache", "remove", ""], "an argument"),
        (["prepare", "sample", "--cache-dir", ""], "--cache-dir"),
        (["prepare", "sample", "--cache-dir="], "--cache-dir"),
        (["train", "sample", "--tensorboard", ""], "--tensorboard"),
    ],
)
def test_nothing_is_no_value(arguments: list[str], what: str, tmp_path: Path) -> None:
    """An empty argument, of a shell variable that is not set, is refused: as a path it is here."""
    (tmp_path / "here").mkdir()
    error, hint = failure(run(*arguments, cwd=tmp_path / "here", bare=True), 2)
    assert error == f"{what} is empty"
    assert hint == "is a shell variable not set? leave the option out"
    assert list((tmp_path / "here").iterdir()) == []


def test_a_dataset_with_one_entry_names_it(digits: str) -> None:
    """Of several, an error tells their names; so does the beginning of several keys."""
    one = pixelprep.prepare(digits, mode="center")
    assert run("info", one.dataset).stdout == run("info", one.key).stdout
    two = pixelprep.prepare(digits, mode="normalize")
    error, hint = failure(run("info", one.dataset))
    assert error.startswith(f"{one.dataset}: ambiguous, 2 entries in ")
    assert all(f"{entry.dataset}/{entry.path.name}" in hint for entry in (one, two))
    shutil.copytree(one.path, one.path.parents[1] / "other" / one.path.name)
    assert "2 entries" in failure(run("info", one.key))[0]


def test_a_folder_of_a_known_name_is_not_meant(tmp_path: Path) -> None:
    """Where there is a folder `sample`, it is said that the known dataset is taken."""
    (tmp_path / "sample").mkdir()
    done = run("prepare", "sample", cwd=tmp_path)
    assert "sample is the known dataset; for the folder here, write ./sample" in done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "Sample",
        "sam_ple",
        *(pytest.param(n, marks=pytest.mark.long) for n in ("SAMPLE", "sam-ple")),
    ],
)
def test_a_known_name_is_known_however_it_is_spelled(tmp_path: Path, name: str) -> None:
    """Case, blanks and hyphens of a known name do not matter, also where it names the entry; what
    is taken is said, and that a folder of this name is not meant.
    """
    (tmp_path / name).mkdir()
    done = run("prepare", name, "-q", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = run("prepare", name, "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["dataset"] == "sample"
    taken = f"{name} is taken as the known dataset sample; for what is here, write ./{name}"
    assert done.stderr.splitlines() == [taken]
    assert run("info", name).stdout == run("info", "sample").stdout


def test_all_known_names_are_told_apart() -> None:
    """However the known names are spelled, none is taken for another one."""
    assert {known_name(name.upper().replace("-", "_")) for name in REGISTRY} == set(REGISTRY)
    for name in ("fashion_mnist", "FashionMNIST", "Fashion-MNIST", "Fashion MNIST"):
        assert known_name(name) == "fashion-mnist"
    assert (known_name("CIFAR10"), known_name("photos")) == ("cifar10", None)


def test_a_folder_here_needs_no_slash(digits: str) -> None:
    """Where no dataset has the name, the folder here is taken, as if it had a slash; it is said."""
    folder = Path(digits)
    done = run("prepare", folder.name, "--json", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    said = f"no known dataset is called {folder.name}: taken as the path ./{folder.name}"
    assert done.stderr.splitlines()[0] == said
    key = json.loads(done.stdout)["key"]
    again = run("path", f"./{folder.name}", cwd=folder.parent).stdout
    assert again == run("path", folder.name, cwd=folder.parent).stdout
    assert again.strip().endswith(key)
    assert "digits" in run("info", key).stdout


def test_short_options_and_other_words(digits: str, tmp_path: Path) -> None:
    """-j, -f, -q and -o are --workers, --force, --quiet and --out; `cache ls` and `cache rm` are
    `cache list` and `cache remove`.
    """
    made = run("prepare", digits, "-j", "1", "-q", "--json")
    key = json.loads(made.stdout)["key"]
    assert "prepared in" in run("prepare", digits, "-f", "-q").stdout
    assert run("report", key, "-q", "-o", str(tmp_path / "page.html")).returncode == 0
    assert (tmp_path / "page.html").is_file()
    assert run("cache", "ls").stdout == run("cache", "list").stdout
    assert run("cache", "rm", key, "-y").returncode == 0
    assert "no entries" in run("cache", "ls").stdout or key not in run("cache", "ls").stdout


@pytest.mark.parametrize(
    ("word", "meant"),
    [("grayscale", "grey"), ("gray", "grey"), ("L", "grey"), ("Grey", "grey"), ("RGB", "rgb")],
)
def test_colors_have_other_names(word: str, meant: str) -> None:
    """What other libraries call grey and rgb means the same, whatever its case."""
    assert PrepareOptions(color=word).color == meant


@pytest.mark.parametrize(
    ("mode", "told"),
    [("center", "file; of all of train: mean 0)"), ("normalize", "read back from the file)")],
)
def test_the_table_tells_of_the_whole_split(digits: str, mode: str, told: str) -> None:
    """Only what all of train has is told of it, where that is known."""
    assert told in run("prepare", digits, "--mode", mode).stdout


def test_a_terminal_without_unicode_is_no_error(digits: str) -> None:
    """Signs that the output's encoding lacks do not stop the command."""
    old = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run("prepare", digits, env=os.environ | old, text=False, cold=True)
    assert done.returncode == 0, done.stderr


# prepare: what decides the entry


def test_force_makes_the_same_bytes_again(digits: str) -> None:
    """`--force` does the work anew, with the same bytes, and leaves nothing else."""
    first = prepared(digits)
    before, inode = bytes_of(first["path"]), Path(first["path"]).stat().st_ino
    again = prepared(digits, "--force")
    assert (again["hit"], again["key"]) == (False, first["key"])
    assert bytes_of(again["path"]) == before
    assert Path(again["path"]).stat().st_ino != inode
    cache = Path(again["path"]).parents[1]
    assert list((cache / ".tmp").iterdir()) == list((cache / ".trash").iterdir()) == []


def test_cache_dir_beats_the_environment(digits: str, cache: Path, tmp_path: Path) -> None:
    """`PIXELPREP_CACHE_DIR` says where the cache is, and `--cache-dir` has the last word."""
    assert Path(prepared(digits)["path"]).parents[1] == cache
    other = tmp_path / "elsewhere"
    answer = prepared(digits, "--cache-dir", "elsewhere")
    assert (Path(answer["path"]).parents[1], answer["hit"]) == (other, False)
    assert "info" not in run("info", answer["key"], "--cache-dir", str(other)).stderr


def test_offline_can_be_set_in_the_environment() -> None:
    """`PIXELPREP_OFFLINE` is `--offline`: what is not at hand, mnist where nothing else is named,
    is an error.
    """
    error, hint = failure(run("prepare", "mnist", "--offline"))
    assert failure(run("prepare", env=os.environ | {"PIXELPREP_OFFLINE": "1"})) == (error, hint)
    assert error.startswith("mnist: ")
    assert "--offline opens no connection" in error
    assert "--source" in hint


# Wrong usage


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["prepair", "sample"], "prepare"),
        (["--verson"], "--version"),
        (["prepare", "sample", "--mod", "center"], "--mode"),
        (["prepare", "sample", "--valfraction", "0.1"], "--val-fraction"),
        (["prepare", "sample", "--mode", "standardise"], "standardize"),
        (["prepare", "sample", "--mode", "Centre"], "center"),
        (["prepare", "sampel"], "sample"),
        (["prepare", "fashion-mnits"], "fashion-mnist"),
        (["prepare", "sample", "--per", "chanel"], "channel"),
        (["prepare", "sample", "--dtype", "float61"], "float16"),
        (["prepare", "sample", "--compression", "gizp"], "gzip"),
        (["train", "sample", "--epoch", "3"], "--epochs"),
        (["prepare", "sample", "--grayscale"], "--color grey"),
        (["train", "sample", "--validation-split", "0.1"], "--val-fraction F"),
        (["prepare", "--normalize"], "--mode normalize"),
        (["train", "--standardise"], "--mode standardize"),
        (["prepare", "--center"], "--mode center"),
        (["train", "--dataset", "sample"], "pixelprep train DATASET"),
        (["cache", "delete", "sample"], "pixelprep cache remove"),
    ],
)
def test_misspelt_words_are_answered_with_the_right_one(
    arguments: list[str], meant: str, cache: Path
) -> None:
    """A command, option, mode, dataset or choice that is nearly right exits 2 and is put right."""
    assert failure(run(*arguments, bare=True), 2)[1] == f"did you mean '{meant}'?"
    assert not cache.exists()


@pytest.mark.parametrize("option", ["--lr", "--optimizer", "--momentum"])
def test_what_is_like_nothing_has_no_likely_word(option: str) -> None:
    """An option that only shares letters with one of ours is not taken for it."""
    assert failure(run("train", "sample", option, "1", bare=True), 2)[1] == "pixelprep train --help"


def test_what_a_run_decides_is_no_option_of_evaluate_and_predict() -> None:
    """The hint is not another option of nearly that name, nor one that is not there either."""
    for command in (["evaluate", "run"], ["predict", "run", "a.png"]):
        for option in (["--size", "24"], ["--mode", "center"], ["--grayscale"]):
            message, hint = failure(run(*command, *option, bare=True), 2)
            assert message == f"no such option: {option[0]}"
            assert hint == "leave it out: data is read and scaled as the run's was"


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "sample", "more"],
        ["prepare", "sample", "--shard-rows", "many"],
        ["prepare", "sample", "--val-fraction", "a tenth"],
        ["prepare", "sample", "--mode"],
        ["prepare", "sample", "--json=yes"],
        ["info"],
        ["--nothing-like-it"],
        ["train", "--epochs", "several"],
    ],
)
def test_wrong_usage_exits_2_with_one_line(arguments: list[str], cache: Path) -> None:
    """Whatever is wrong with a call is told in one line, and nothing is done."""
    error, _ = failure(run(*arguments, bare=True), 2)
    assert error[0].islower() or error[0] == "-"
    assert not cache.exists()


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("prepare ./nowhere --debug", 1),
        ("--debug prepare ./nowhere", 1),
        ("prepare sample --mode none --debug", 2),
        ("--debug prepare sample --nothing", 2),
    ],
)
def test_debug_shows_the_traceback(command: str, status: int) -> None:
    """`--debug`, before or after the command, adds the traceback and changes no exit status."""
    done = run(*command.split())
    assert done.stderr.startswith("Traceback (most recent call last)")
    assert done.returncode == status


# Help


@cache
def helped(*command: str) -> str:
    """Return what a command's help says on 80 columns."""
    done = run(*command, "--help", env=os.environ | {"COLUMNS": "80"}, bare=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def documented(*command: str) -> dict[str, tuple[str, str]]:
    """Return each option (and argument) in a command's help: its values and its text."""
    found: dict[str, list[str]] = {}
    listed = re.split(r"(?m)^(?:Arguments|Options):$", helped(*command), maxsplit=1)[1]
    for line in listed.splitlines():
        if start := re.match(r"  (?:-[a-z], )?((?:--)?[A-Za-z|-]+)( \S+)?(?:  +(.*))?$", line):
            found[start[1]] = [(start[2] or "").strip(), start[3] or ""]
        elif line.startswith("     ") and found:
            found[list(found)[-1]][1] += " " + line.strip()
    hidden = re.compile(r"\[(default|env var|required)[^]]*\]")
    return {name: (values, hidden.sub("", text).strip()) for name, (values, text) in found.items()}


ENTRY = ["--mode", "--per", "--rescale", "--val-fraction", "--split-seed", "--dtype"]
ENTRY += ["--compression", "--shard-rows", "--source", "--mirror", "--offline", "--force"]
ENTRY += ["--cache-dir", "--json", "--quiet", "--help"]
TRAIN = ["--epochs", "--batch-size", "--seed", "--steps-per-execution", "--model", "--run-dir"]


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("prepare", ["DATASET", *ENTRY]),
        ("train", ["DATASET|ENTRY", *ENTRY, *TRAIN]),
        ("datasets", ["--json", "--help"]),
        ("info", ["ENTRY", "--cache-dir", "--json", "--help"]),
    ],
)
def test_help_documents_every_option(command: str, names: list[str]) -> None:
    """A command's help lists its arguments and options, each with a text."""
    found = documented(command)
    assert set(names) <= set(found)
    assert all(len(text) > 4 for _, text in found.values()), found


@pytest.mark.parametrize("command", ["prepare", "train"])
def test_help_lists_exactly_the_choices(command: str) -> None:
    """The values that help shows are those that the library takes, all of them; each variable that
    the command reads stands beside its option.
    """
    found = documented(command)
    for name in ("PIXELPREP_CACHE_DIR", "PIXELPREP_MIRROR", "PIXELPREP_OFFLINE"):
        assert name in helped(command)
    choices = {"--mode": MODES, "--per": PER, "--dtype": DTYPES, "--compression": COMPRESSIONS}
    assert {name: found[name][0] for name in choices} == {
        name: "|".join(values) for name, values in choices.items()
    }


def test_no_command_shows_help() -> None:
    """`pixelprep` alone is `pixelprep --help`, as is -h, and lists the commands with a text each,
    none of which is cut short; so it is with `pixelprep cache`.
    """
    wide: dict[str, Any] = {"env": os.environ | {"COLUMNS": "80"}}
    alone, cache = run(**wide), run("cache", **wide)
    assert (alone.returncode, cache.returncode, alone.stderr + cache.stderr) == (0, 0, "")
    assert alone.stdout == helped() == run("-h", **wide).stdout
    assert cache.stdout == helped("cache")
    for text in (alone.stdout, helped("cache")):
        assert "..." not in text.split("Commands:")[1]
    commands = alone.stdout.split("Commands:")[1]
    listed = dict(line.split(maxsplit=1) for line in commands.splitlines() if line.strip())
    assert {"prepare", "train", "datasets", "info"} <= listed.keys()
    assert set(documented()) >= {"--debug", "--version", "--help"}


def test_version() -> None:
    """`--version` prints the package's version and nothing else."""
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"pixelprep {pixelprep.__version__}\n")


@pytest.mark.parametrize("arguments", [["prepare", "--help"], ["prepair"]])
def test_the_script_is_the_module(arguments: list[str]) -> None:
    """`pixelprep` and `python -m pixelprep` are the same command."""
    script = Path(sys.executable).with_name("pixelprep")
    if not script.exists():
        pytest.skip("pixelprep is not installed as a script here")
    ways = execute([script, *arguments]), run(*arguments)
    assert len({(done.returncode, done.stdout, done.stderr) for done in ways}) == 1


# datasets, info


def test_datasets_lists_all_known_names() -> None:
    """`datasets` has one row a dataset with its numbers, and one with its licence; a star, which is
    explained, where its own files were never read. `--json` has the same names.
    """
    names = [known.spelled for known in REGISTRY.values()]
    tables = run("datasets").stdout.split("\n\n")
    for table in tables[:2]:
        assert [line.split()[0] for line in table.splitlines()] == ["name", *names]
    starred = [line.split()[0] for line in tables[0].splitlines() if " * " in line]
    assert starred == [known.spelled for known in REGISTRY.values() if not known.tried]
    assert tables[2].startswith("* never downloaded")
    listed = json.loads(run("datasets", "--json").stdout)["datasets"]
    assert [one["name"] for one in listed] == names
    for one in listed:
        assert one.keys() >= {"train", "test", "shape", "classes", "download_bytes", "licence"}
    assert [one["name"] for one in listed if one["download_bytes"] == 0] == ["sample"]


def test_info_takes_a_path_a_key_or_a_name(digits: str, tmp_path: Path) -> None:
    """Folder, relative folder, key, start of a key and DATASET/MODE-KEY mean the same entry; a copy
    of the folder can be looked at anywhere.
    """
    made = pixelprep.prepare(digits)
    path, key = made.path, made.key
    names = [str(path), f"./{path.relative_to(Path.cwd())}", key, key[:6], f"digits/{path.name}"]
    names += ["digits", digits, f"{Path(digits).absolute()}/"]
    shown = {run("info", name).stdout for name in names}
    assert len(shown) == 1
    text = shown.pop()
    for part in (str(path), key, "digits, standardize per channel", "classes   0, 1, 2, 3"):
        assert part in text
    copy = shutil.copytree(path, tmp_path / "some" / "where")
    of_copy = re.sub(r"\nfrom +[^\n]*", "", text)  # which only the cache records
    assert run("info", str(copy)).stdout == of_copy.replace(str(path), str(copy))


def test_info_speaks_of_options_and_classes() -> None:
    """The options are those to type, the balance that of each split; nothing of the recipe's own
    terms, which `--json` has.
    """
    source = pixelprep.Arrays(
        "few", (np.arange(64, dtype="uint8").reshape(4, 4, 4), np.array([0, 0, 0, 1]))
    )
    text = run("info", pixelprep.prepare(source, mode="center", dtype="float16").key).stdout
    assert "options   --mode center --dtype float16\n" in text
    assert "balance   train 1 of 1 to 3 of 0\n" in text
    assert not re.search("chunk_rows|numerics_version|[0-9a-f]{64}", text)


def test_info_json_is_the_manifest_and_the_path(digits: str) -> None:
    """`info --json` holds all of the manifest, and where the entry is."""
    path = pixelprep.prepare(digits).path
    done = run("info", str(path), "--json")
    manifest = json.loads((path / "manifest.json").read_text())
    origin = str(Path(digits).absolute())
    about = {"path": str(path), "origin": origin, "duplicates": [], "files": {}}
    assert json.loads(done.stdout) == {**about, **manifest}
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["0123456789ab", "sample/center-0123", "./nowhere"])
def test_info_of_what_is_no_entry_fails(digits: str, name: str) -> None:
    """A name that means no entry exits 1 and says what names may be given."""
    error, hint = failure(run("info", name))
    assert "no entry" in error
    assert hint == "give a folder, a key, DATASET/MODE-KEY, or a dataset with one entry"


# A reader that goes away


@pytest.mark.parametrize(
    "arguments", [["datasets"], ["datasets", "--json"], ["--help"], ["prepare", "./digits"]]
)
def test_a_closed_pipe_is_no_traceback(digits: str, arguments: list[str]) -> None:
    """Nobody reading standard output any more ends the command without a word on it."""
    reader, writer = os.pipe()
    os.close(reader)
    done = run(*arguments, stdout=writer, hurried=False)
    os.close(writer)
    assert [line for line in done.stderr.splitlines() if not line.startswith("raw ")] == []
    assert done.returncode == 1


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_output_is_no_error(digits: str, closed: int) -> None:
    """Where there is no standard output or error at all (a service), the command works."""
    done = run("prepare", digits, "--json", preexec_fn=lambda: os.close(closed), cold=True)
    assert done.returncode == 0, done.stderr
    assert ("raw train" if closed == 1 else '"hit": false') in done.stderr + done.stdout
    assert "" in (done.stdout, done.stderr)


needs_full_disk = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="this system has no /dev/full"
)


@needs_full_disk
@pytest.mark.parametrize(
    "arguments",
    [["datasets"], ["cache", "list", "--json"], ["prepare", "./digits"], ["--help"], ["--version"]],
)
def test_output_that_cannot_be_written_is_an_error(digits: str, arguments: list[str]) -> None:
    """Standard output on a full disk exits 1 with one line, not 0 and not a traceback."""
    with Path("/dev/full").open("w") as full:
        done = run(*arguments, stdout=full, hurried=False)
    said = [line for line in done.stderr.splitlines() if not line.startswith("raw ")]
    assert (done.returncode, said) == (1, ["error: No space left on device"])


@needs_full_disk
@pytest.mark.parametrize(
    ("arguments", "status"), [(["prepare", "./digits"], 0), (["info", "nothing"], 1), (["x"], 2)]
)
def test_messages_that_cannot_be_written_change_no_status(
    digits: str, arguments: list[str], status: int
) -> None:
    """Standard error on a full disk loses messages, and neither the work nor its exit status."""
    with Path("/dev/full").open("w") as full:
        done = run(*arguments, stderr=full, hurried=False)
    assert done.returncode == status
    assert bool(done.stdout) == (status == 0)


# train, without training


needs_tensorflow = pytest.mark.skipif(
    find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)


@needs_tensorflow
@pytest.mark.parametrize(
    "wrong",
    [
        ["--epochs", "0"],
        ["--batch-size", "0"],
        ["--steps-per-execution", "0"],
        ["--seed", "-1"],
        ["--seed", str(2**32)],
        ["--model", "no_function"],
        ["--val-fraction", "1"],
    ],
)
def test_wrong_values_of_train_stop_it_before_any_work(
    digits: str, cache: Path, wrong: list[str]
) -> None:
    """A value that cannot be right exits 2, names the option, and nothing is prepared."""
    error, _ = failure(run("train", digits, *wrong, bare=True), 2)
    assert wrong[0] in error
    assert wrong[1] in error
    assert not cache.exists()


def test_train_without_tensorflow_says_what_to_install(digits: str, cache: Path) -> None:
    """Where TensorFlow is missing, `train` says so before it prepares anything."""
    without = "import sys; sys.modules['tensorflow'] = None"  # importing it is an ImportError
    error, hint = failure(run("train", digits, code=without, bare=True))
    assert "TensorFlow, which is not installed" in error
    assert hint == install_command("train")
    assert not cache.exists()


@needs_tensorflow
def test_a_run_folder_that_is_there_stops_train_before_any_work(
    digits: str, cache: Path, tmp_path: Path
) -> None:
    """`--run-dir` naming what is there already is refused before anything is prepared."""
    error, hint = failure(run("train", digits, "--run-dir", str(tmp_path), bare=True))
    assert "already exists" in error
    assert "--run-dir" in hint
    assert not cache.exists()
