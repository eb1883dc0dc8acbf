"""From another project: where an entry is, and the same cache for every program."""

import json
import shutil
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest

import pixelprep
from pixelprep import CacheError, EntryError, PixelprepWarning, TrainError, UsageError
from pixelprep.numerics.modes import plain_modes
from pixelprep.numerics.scaling import PER, apply_with_statistics, per_image_columns
from pixelprep.pipeline.prepare import as_before, find_entry, prepare_or_open
from pixelprep.system import fs
from tests.helpers.cli import failure, run
from tests.helpers.damage import flip
from tests.helpers.process import execute


@pytest.mark.parametrize("options", [[], ["--mode", "center", "--per", "pixel"]])
def test_path_prints_the_folder_of_what_is_prepared(digits: str, options: list[str]) -> None:
    """Alone on standard output, for scripts; the same options mean the same entry."""
    prepared = json.loads(run("prepare", digits, *options, "--json").stdout)
    done = run("path", digits, *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{prepared['path']}\n", "")
    answer = json.loads(run("path", digits, *options, "--json").stdout)
    assert answer == {"path": prepared["path"], "key": prepared["key"]}
    given: dict[str, Any] = dict(zip(["mode", "per"], options[1::2], strict=False))
    assert find_entry(digits, **given).cached


def test_path_of_what_is_not_prepared_is_an_error(digits: str, cache: Path) -> None:
    """Exit status 1, nothing on standard output, nothing read or made; `--prepare` makes it."""
    error, hint = failure(run("path", digits))
    assert error == f"digits, standardize, with these options: not prepared in {cache}"
    assert hint == "prepare it first, or here with --prepare"
    assert not cache.exists()
    made = run("path", digits, "--prepare", "--quiet")
    assert pixelprep.open(made.stdout.strip()).key
    assert failure(run("path", digits, "--mode", "center"))[0].startswith("digits, center")
    assert run("path", digits).stdout == made.stdout


def test_path_of_data_that_changed_is_an_error(digits: str) -> None:
    """An entry of what the files were before is not that of what they are."""
    pixelprep.prepare(digits)
    assert find_entry(digits).cached
    (raw,) = Path(digits).glob("train-images*")
    shutil.copy(raw, raw.with_suffix(".new"))
    raw.with_suffix(".new").replace(raw)
    with pytest.raises(EntryError, match="not prepared"):
        find_entry(digits)


def test_path_takes_what_info_takes(digits: str) -> None:
    """A key, an entry's folder, a dataset's path; another recipe than the entry's is refused."""
    entry = pixelprep.prepare(digits, per="pixel")
    for name in (entry.key, str(entry.path), f"digits/{entry.path.name}"):
        assert run("path", name).stdout == f"{entry.path}\n"
        assert find_entry(name, per="pixel").path == entry.path
    error, hint = failure(run("path", entry.key, "--mode", "center"), 2)
    assert error == f"{entry.key} is an entry with --mode standardize, but --mode center was given"
    way = "leave the option out, or give what it was made from: "
    assert hint == f"{way}{Path(digits).absolute()} --mode center --per pixel"
    assert "center-" in run("path", "--prepare", *hint.removeprefix(way).split()).stdout


def test_path_of_a_damaged_entry_is_an_error(digits: str) -> None:
    """It says what is wrong, and does not print the folder."""
    entry = pixelprep.prepare(digits)
    flip(entry.path / "train.h5", 3000, 0)
    error, hint = failure(run("path", digits))
    assert "train.h5" in error
    assert "verify it with --repair" in hint


def test_a_program_of_another_environment_hits_the_same_cache(tmp_path: Path) -> None:
    """What one project prepared, another one with its own virtual environment finds."""
    entry = pixelprep.prepare("sample", quiet=True)
    venv.create(tmp_path / "other", with_pip=False)
    python = tmp_path / "other" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = execute([python, "-c", where], check=True)
    installed = [sysconfig.get_path("purelib"), str(Path(pixelprep.__file__).parents[1])]
    Path(packages.stdout.strip(), "installed.pth").write_text("\n".join(installed) + "\n")
    code = """
import sys, pixelprep
assert sys.prefix != sys.argv[1]
entry = pixelprep.prepare("sample")
print(entry.cached, entry.path)
"""
    command = [str(python), "-c", code, sys.prefix]
    done = execute(command, check=True, cwd=tmp_path)
    assert done.stdout == f"True {entry.path}\n"


# Invert


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("raw", ["uint8", "uint16"])
def test_raw_integers_come_back_exactly_where_it_is_said(raw: str, dtype: str) -> None:
    """Every value of the type, for every mode, `per` and `rescale`; elsewhere the nearest that the
    stored type can tell.
    """
    top = np.iinfo(raw).max
    every = np.linspace(0, top, 256 * 64).astype(raw)
    images = np.random.default_rng(0).permuted(every).reshape(64, 8, 8, 4)
    for mode in plain_modes():
        for per in PER:
            for rescale in (False, True):
                scaling = pixelprep.Scaling.fit(images, mode, per=per, rescale=rescale)
                if raw == "uint16" and dtype == "float16" and mode == "center" and not rescale:
                    continue  # float16 ends at 65,504
                scaled, own = apply_with_statistics(scaling, images, dtype)
                kept = per_image_columns(scaling, own) if own is not None else {}
                off = np.abs(scaling.invert(scaled, **kept).astype(int) - images.astype(int)).max()
                exact = scaling.is_exact(dtype)
                assert exact == (raw == "uint8" or dtype == "float32")
                assert off == 0 if exact else 0 < off <= top * 2.0**-10, (mode, per, rescale)


def test_info_says_whether_raw_pixels_come_back() -> None:
    """A clear note, with the entry's other facts."""
    rows = np.random.default_rng(0).integers(0, 65_536, (20, 4, 4, 1), np.uint16)
    labels = np.arange(20) % 2
    source = pixelprep.Arrays("deep", (rows, labels), (rows, labels))
    notes = []
    for dtype in ("float32", "float16"):
        entry = pixelprep.prepare(source, dtype=dtype, rescale=True)
        lines = run("info", entry.key).stdout.splitlines()
        notes += [line for line in lines if line.startswith("raw ")]
    assert notes == [
        "raw       pixels are exactly recoverable",
        "raw       pixels are approximately recoverable",
    ]


# A place for the cache


@pytest.mark.parametrize("old", [False, True])
def test_without_a_home_folder_the_place_must_be_given(
    old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names what gives it, whichever way platformdirs tells that there is no home."""

    def user_cache_path(*_: object, **__: object) -> Path:
        if old:
            return Path("~/.cache/pixelprep")
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("PIXELPREP_CACHE_DIR")
    monkeypatch.setattr(platformdirs, "user_cache_path", user_cache_path)
    with pytest.raises(UsageError, match="no home folder") as caught:
        pixelprep.cache.path()
    assert caught.value.hint == "set PIXELPREP_CACHE_DIR, or give `cache_dir`"


def test_messages_keep_paths_as_they_are() -> None:
    """Spaces survive, so that a command in a hint works; line breaks do not."""
    error = UsageError("two  spaces\n   and\r\nlines", "rm 'a  b'\n")
    assert (error.message, error.hint) == ("two  spaces and lines", "rm 'a  b'")


def test_the_cache_is_not_blamed_for_what_is_elsewhere(cache: Path, tmp_path: Path) -> None:
    """Only an error about a file of the cache is said to be one of the cache."""
    for problem, message, hint in (
        (OSError("no certificates"), "OSError: no certificates", None),
        (OSError(28, "No space left", "/tmp/x"), "cannot write /tmp/x: No space left", "free some"),
        (OSError(13, "Denied", str(cache / "x")), f"cannot use {cache / 'x'}: Denied", "choose"),
        (OSError(13, "Denied", "/elsewhere"), "cannot use /elsewhere: Denied", None),
    ):
        with pytest.raises(CacheError) as caught, fs.translate_oserror(cache):
            raise problem
        assert caught.value.message == message
        assert (caught.value.hint or "").startswith(hint or "")
        assert bool(caught.value.hint) == bool(hint)


@pytest.mark.long
def test_a_home_folder_is_followed_by_what_reads_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`~` means the same to `evaluate` and `predict` as to `train`."""
    pytest.importorskip("keras", reason="the extra `train` is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    for read in (pixelprep.evaluate, lambda run: pixelprep.predict(run, "a.png")):
        with pytest.raises(TrainError, match=f"^{tmp_path}/run: no finished run"):
            read("~/run")


def test_the_only_entry_of_data_is_meant_whatever_its_splits(digits: str) -> None:
    """As `info` does, `path` takes data's own path without the options of its reading; not for
    another scaling, nor where there are several such entries, nor once the data changed.
    """
    made = pixelprep.prepare(digits, val_fraction=0.25, quiet=True)
    assert run("path", digits).stdout.strip() == str(made.path)
    assert find_entry(digits).path == made.path
    assert "not prepared" in failure(run("path", digits, "--mode", "normalize"))[0]
    other = pixelprep.prepare(digits, val_fraction=0.5, quiet=True)
    assert "not prepared" in failure(run("path", digits))[0]
    pixelprep.cache.remove(f"{other.dataset}/{other.path.name}")
    assert find_entry(digits).path == made.path
    train = next(Path(digits).glob("train-images*"))
    train.write_bytes(train.read_bytes())  # at another time: it may be other data
    assert "not prepared" in failure(run("path", digits))[0]


def test_the_only_entry_is_meant_where_no_scaling_is_asked_for(digits: str) -> None:
    """`path` and `info` mean the same by data alone, which `path` says; a scaling that is asked
    for, also the usual one, is never taken for another; nor one of two entries.
    """
    made = pixelprep.prepare(digits, mode="fixed", mean=9.0, std=3.0, units="pixel", quiet=True)
    done, about = run("path", digits), run("info", digits, "--json")
    assert done.stdout.strip() == json.loads(about.stdout)["path"] == str(made.path)
    assert f"{digits}: as it was prepared before: " in done.stderr
    for given in (["--mode", "standardize"], ["--per", "pixel"], ["--val-fraction", "0.5"]):
        assert "not prepared" in failure(run("path", digits, *given))[0]
    pixelprep.prepare(digits, mode="center", quiet=True)
    assert "not prepared" in failure(run("path", digits))[0]
    usual = pixelprep.prepare(digits, quiet=True)
    assert run("path", digits).stdout.strip() == str(usual.path)


def test_path_and_train_mean_the_only_entry_of_the_scaling_asked_for(digits: str) -> None:
    """Its options need not be typed again, also once there is an entry of another scaling, and
    once the data changed; which is said. Options that are given count before, default or not.
    """
    made = {
        mode: pixelprep.prepare(digits, mode=mode, val_fraction=0.25, quiet=True)
        for mode in ("standardize", "center")
    }
    for mode, entry in made.items():
        assert find_entry(digits, mode=mode).path == entry.path
        with pytest.warns(PixelprepWarning) as said:
            assert prepare_or_open(digits, mode=mode, workers=1).path == entry.path
        assert told(said) == [f"{digits}: as it was prepared before: --val-fraction 0.25"]
    assert len(prepare_or_open(digits, val_fraction=0.5).val) > len(made["center"].val)
    assert "val" not in prepare_or_open(digits, val_fraction=0.0).splits
    assert "not prepared" in failure(run("path", digits, "--val-fraction", "0.1"))[0]
    train = next(Path(digits).glob("train-images*"))
    train.write_bytes(train.read_bytes())
    with pytest.warns(PixelprepWarning, match="as it was prepared before"):
        assert prepare_or_open(digits, mode="center").path == made["center"].path


def test_options_of_the_data_are_taken_for_another_scaling(digits: str) -> None:
    """They say what the data is, and that is the same; but what makes the scaling is not taken, nor
    a preset beside a mean that is given. It is said, by `--quiet` too.
    """
    preset: dict[str, Any] = {"mode": "fixed", "preset": "keras-tf", "val_fraction": 0.25}
    pixelprep.prepare(digits, quiet=True, **preset)
    with pytest.warns(PixelprepWarning) as said:
        made = prepare_or_open(digits, mode="center")
    assert told(said) == [f"{digits}: as it was prepared before: --val-fraction 0.25"]
    pixelprep.cache.remove(f"digits/{made.path.name}")
    with pytest.warns(PixelprepWarning) as said:
        own = prepare_or_open(digits, mode="fixed", mean=0.5, std=0.25)
    assert told(said) == [f"{digits}: as it was prepared before: --val-fraction 0.25"]
    assert len(made.val) == len(own.val) == 10
    assert own.scaling.mean.tolist() != made.scaling.mean.tolist()


def test_what_is_given_is_added_to_how_data_was_prepared(digits: str) -> None:
    """Beside one more option those of before need not be typed again; so it is in `compare`,
    whatever the scaling. Where entries differ in what is not given, none of them is meant.
    """
    for fraction in (0.1, 0.25):
        ways: dict[str, Any] = {"val_fraction": fraction, "compression": "gzip", "shard_rows": 16}
        pixelprep.prepare(digits, mode="center", quiet=True, **ways)
    with pytest.warns(PixelprepWarning) as said:
        made = prepare_or_open(digits, mode="center", val_fraction=0.5)
    before = f"{digits}: as it was prepared before: --compression gzip --shard-rows 16"
    assert told(said) == [before]
    assert len(made.val) == 20
    with pytest.raises(UsageError, match="digits: prepared in several ways: digits/center-") as no:
        prepare_or_open(digits, mode="center")
    assert no.value.hint == "name one of them; or give the options in which they differ"
    with pytest.warns(PixelprepWarning):
        options = as_before(digits, {"val_fraction": 0.1}, fs.cache_dir(None), any_scaling=True)
    assert options == {"compression": "gzip", "shard_rows": 16}
    plain = pixelprep.prepare(digits, quiet=True)
    assert prepare_or_open(digits).path == plain.path


def told(said: pytest.WarningsRecorder) -> list[str]:
    """Return what was warned of."""
    return [str(one.message) for one in said]


def test_another_scaling_than_the_one_that_is_there_is_not_meant(digits: str) -> None:
    """The default scaling, where it is asked for, is not the only other one that was prepared; in
    Python it always is.
    """
    pixelprep.prepare(digits, mode="center", quiet=True)
    assert "not prepared" in failure(run("path", digits, "--mode", "standardize"))[0]
    with pytest.raises(EntryError, match="digits, standardize, with these options: not prepared"):
        find_entry(digits)
