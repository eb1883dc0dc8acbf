"""`cache list|path|remove|prune`: what is there, and that only what is meant is deleted."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep import EntryError, UsageError
from pixelprep.sources import Raw, SourceContext
from pixelprep.system import formatting, locks, staging
from tests.helpers.cli import failure, on_terminal, run, start, wait_until_it_writes
from tests.helpers.data import arrays, write_digits
from tests.helpers.raw_files import PAIRS, write_npz
from tests.helpers.workers import leave_unfinished

DAY = 86400


@pytest.fixture
def three(digits: str) -> list[pixelprep.Entry]:
    """Return three entries of one dataset, used three, two and one days ago."""
    made = [pixelprep.prepare(digits, mode=mode) for mode in ("center", "normalize", "standardize")]
    for age, entry in zip((3, 2, 1), made, strict=True):
        used(entry.path, age)
    return made


def used(path: Path, days: float) -> None:
    """Let an entry have been made and used last so long ago."""
    then = time.time() - days * DAY
    note = path.parents[1] / ".trust" / path.parent.name / f"{path.name}.json"
    for touched in (note, *path.rglob("*"), path):
        os.utime(touched, (then, then))


def raw(folder: Path, name: str, size: int = 1000, days: float = 0) -> Path:
    """Return a download in the cache."""
    path = folder / ".raw" / name / "file.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    for touched in (path, path.parent):
        os.utime(touched, (time.time() - days * DAY,) * 2)
    return path


def names(*kinds: str) -> list[str]:
    """Return what the cache holds of these kinds."""
    return [item.name for item in pixelprep.cache.list() if item.kind in kinds]


def there(folder: Path) -> set[str]:
    """Return everything in the cache that is no entry, no lock, and no folder."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    inner = {str(path.relative_to(folder)) for path in paths}
    return {name for name in inner if name.startswith(".") and not name.startswith(".locks")}


# list and path


def test_list_shows_what_is_there(three: list[pixelprep.Entry]) -> None:
    """Each entry with images, size, age and last use; the same in JSON, with plain numbers."""
    raw(three[0].path.parents[1], "mnist", 1234)
    done = run("cache", "list")
    assert done.returncode == 0, done.stderr
    titles, *rows, total = done.stdout.splitlines()
    assert titles.split() == ["images", "size", "made", "last", "used", "made", "from"]
    for row, entry, age in zip(rows, three, ("3 days", "2 days", "1 day"), strict=False):
        assert row.split()[:2] == [f"digits/{entry.path.name}", "60"]
        assert row.rstrip().endswith(os.fspath(Path("digits").absolute()))
        assert f"{age} ago" in row
    assert rows[3].startswith("raw downloads of mnist ")
    answer = json.loads(run("cache", "list", "--json").stdout)
    first = answer["entries"][0]
    expected = {"name": f"digits/{three[0].path.name}", "path": str(three[0].path)}
    expected |= {"dataset": "digits", "mode": "center", "per": "channel", "key": three[0].key}
    assert expected.items() <= first.items()
    assert first["images"] == 60
    assert first["bytes"] == sum(path.stat().st_size for path in three[0].path.iterdir())
    assert first["age_seconds"] == pytest.approx(3 * DAY, abs=600)
    assert answer["raw"][0]["bytes"] == 1234
    everything = [*answer["entries"], *answer["raw"], *answer["leftovers"], *answer["metadata"]]
    assert answer["bytes"] == sum(item["bytes"] for item in everything)
    assert total.split()[-1] in ("kB", "MB")


def test_list_tells_entries_apart(digits: str) -> None:
    """What is neither in an entry's name nor as by default is listed, as options."""
    pixelprep.prepare(digits)
    assert "options" not in run("cache", "list").stdout
    pixelprep.prepare(digits, per="pixel", val_fraction=0.2, compression="gzip")
    rows = run("cache", "list").stdout.splitlines()
    assert rows[0].split()[-3:] == ["options", "made", "from"]
    told = "--per pixel --val-fraction 0.2 --compression gzip"
    assert sorted(told in row for row in rows[1:3]) == [False, True]


def test_how_data_was_read_is_listed(tmp_path: Path) -> None:
    """Options that no manifest has, but change which data an entry has, are known of those of the
    cache; and the report's command makes the same entry.
    """
    (images, labels), (others, numbers) = PAIRS
    leaking = np.concatenate([images[:3], others[3:]])
    numbers = np.concatenate([labels[:3], numbers[3:]])
    path = write_npz(tmp_path / "data.npz", ((images, labels + 1), (leaking, numbers + 1)))
    tried: tuple[dict[str, Any], ...]
    tried = ({"renumber": True, "on_leak": "drop"}, {"labels_from": 1, "on_leak": "warn"})
    for options in tried:
        entry = pixelprep.prepare(path, quiet=True, **options)
        told = {name: value for name, value in options.items() if value != "warn"}
        assert pixelprep.cache.describe(entry).options == {"mode": "standardize", **told}
        assert " ".join(formatting.options(told)) in run("cache", "list").stdout
        report = pixelprep.report(entry, tmp_path / "facts.json", format="json", quiet=True)
        command = json.loads(report.path.read_bytes())["commands"]["prepare"]
        again = run(*shlex.split(command.replace("./data", str(path)))[1:], "--json")
        answer = json.loads(again.stdout)
        assert (answer["hit"], answer["key"]) == (True, entry.key)


def test_options_are_listed_as_they_are_typed(digits: str, cache: Path) -> None:
    """Names of classes with commas, mappings by their file, paths quoted; what is ambiguous shows
    the options that differ. What other classes left out is no leak that was dropped.
    """
    entry = pixelprep.prepare(digits, classes="1,0", per="pixel", quiet=True)
    pixelprep.prepare(digits, class_map={"0": "nought"}, per="pixel", quiet=True)
    shown = run("cache", "list").stdout
    assert "--per pixel --classes 1,0 " in shown
    assert "--per pixel --class-map FILE " in shown
    _, hint = failure(run("info", digits))
    path = os.fspath(Path(digits).absolute())
    assert f"({path} --classes 1,0)" in hint
    assert f"({path} --class-map FILE)" in hint
    written = formatting.options({"columns": {"file": "a b", "label": "c"}, "labels": "my t.csv"})
    assert written == ["--columns", "file=a b,label=c", "--labels", "my t.csv"]
    (cache / ".origins" / "digits" / f"{entry.path.name}.json").unlink()
    assert pixelprep.cache.describe(entry).options == {"mode": "standardize", "per": "pixel"}


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Each entry says what it was made from; a path means the entries made from it alone; of a
    name, those of its folder here are taken, and nothing where it is in none of the places.
    """
    folders = [write_digits(tmp_path / place / "digits", 20 + i) for i, place in enumerate("ab")]
    made = [pixelprep.prepare(folder) for folder in folders]
    found = [pixelprep.cache.describe(os.fspath(folder)) for folder in folders]
    assert [one.key for one in found] == [entry.key for entry in made]
    assert [one.origin for one in found] == [*map(os.fspath, folders)]
    error, hint = failure(run("info", "digits"))
    assert error.startswith("digits: ambiguous, 2 entries in ")
    assert all(os.fspath(folder) in str(hint) for folder in folders)
    only = pixelprep.cache.remove(f"{folders[0]}/", dry_run=True)
    assert [item.path for item in only] == [made[0].path]
    places = ", ".join(map(os.fspath, folders))
    error, hint = failure(run("cache", "remove", "digits", "--yes", cwd=tmp_path))
    assert error == f"digits: ambiguous, its entries were made from 2 places: {places}"
    assert hint == "give a path of these, a key or DATASET/MODE-KEY"
    done = run("cache", "remove", "digits", "--yes", cwd=folders[1].parent)
    assert "digits: taken as ./digits: 1 of 2 entries of this name" in done.stderr
    assert [item.path for item in pixelprep.cache.list() if item.entry] == [made[0].path]
    error, hint = failure(run("verify", os.fspath(folders[0].parent)))
    assert "no entry, and none in" in error


def test_what_a_plugin_says_of_its_images_may_be_anything(cache: Path) -> None:
    """However a source of somebody else's decodes, its entry is listed, and can be removed."""
    little = arrays()

    class Odd:
        name, provenance = "odd", little.provenance

        def fingerprints(self) -> list[dict[str, Any]]:
            return []

        def load(self, place: SourceContext) -> Raw:
            return replace(little.load(place), decode={"size": 64, "skipped": 3})

    entry = pixelprep.prepare(Odd(), quiet=True)
    assert "--size 64" in run("cache", "list").stdout
    assert run("report", entry.key, "--format", "json", "--out", str(cache.parent)).returncode == 0
    assert run("cache", "remove", entry.key, "--yes").returncode == 0


def test_float_entries_of_each_statistic_are_told_apart() -> None:
    """Of floats, `per` means something to normalize, too; of integers it does not."""
    little = arrays()
    train, test = ((x.astype(np.float32), labels) for x, labels in little.splits.values())
    for per in ("pixel", "dataset"):
        pixelprep.prepare(pixelprep.Arrays("floats", train, test), mode="normalize", per=per)
        pixelprep.prepare(little, mode="normalize", per=per)
    shown = run("cache", "list").stdout
    assert ("--per pixel" in shown, "--per dataset" in shown) == (True, True)
    assert shown.count("--per") == 2


def test_a_dataset_may_be_called_like_a_key(tmp_path: Path) -> None:
    """Where no key begins so, the dataset is meant; a cache that is no folder has none."""
    entry = pixelprep.prepare(arrays(name="cafe"))
    assert pixelprep.open("cafe").path == entry.path
    (tmp_path / "file").touch()
    with pytest.raises(EntryError, match="no entry of this name"):
        pixelprep.open("cafe", cache_dir=tmp_path / "file")


def test_anything_is_listed(three: list[pixelprep.Entry], cache: Path) -> None:
    """What is no entry any more is listed all the same, with what is wrong; times that no calendar
    has break nothing.
    """
    (three[1].path / "manifest.sha256").unlink()
    for name, seconds in (("0123456789ab", -(10**10)), ("ba9876543210", 10**12)):
        folder = cache / "digits" / f"center-{name}"
        shutil.copytree(three[0].path, folder)
        os.utime(folder, (seconds, seconds))
    done = run("cache", "list")
    assert done.returncode == 0
    assert "DAMAGED" in done.stdout
    answer = json.loads(run("cache", "list", "--json").stdout)
    assert len(answer["entries"]) == 5
    assert "cannot read" in "".join(entry.get("problem", "") for entry in answer["entries"])


def test_an_opened_entry_was_used(three: list[pixelprep.Entry]) -> None:
    """Opening an entry is its last use, and a hit is one too."""
    pixelprep.open(three[0].path)
    found = {item.path: time.time() - item.used for item in pixelprep.cache.list() if item.path}
    assert found[three[0].path] < 600
    assert found[three[1].path] > DAY


def test_looking_makes_nothing(cache: Path) -> None:
    """`list`, `path` and `prune` of a cache that is not there show nothing and make nothing."""
    for command in (["list"], ["path"], ["prune"], ["prune", "--json"]):
        done = run("cache", *command)
        assert (done.returncode, done.stderr) == (0, ""), command
    assert run("cache", "path").stdout == f"{cache}\n"
    assert json.loads(run("cache", "path", "--json").stdout) == {"cache": str(cache)}
    assert not cache.exists()


# remove


def test_remove_takes_an_entry_and_its_notes(three: list[pixelprep.Entry], cache: Path) -> None:
    """By key, name or folder; the others, and what others use, stay."""
    for entry, name in zip(three, (three[0].key, None, three[2].path), strict=True):
        said = str(name or f"digits/{three[1].path.name}")
        done = run("cache", "remove", said, "--yes")
        assert done.returncode == 0, done.stderr
        assert not entry.path.exists()
    assert not (cache / "digits").exists()
    assert not [*cache.glob(".trust/*"), *cache.glob(".origins/*"), *cache.glob(".trash/*")]


def test_a_dataset_is_removed_with_its_downloads(three: list[pixelprep.Entry], cache: Path) -> None:
    """A plain word means all there is of a dataset, and nothing of another."""
    kept = raw(cache, "mnist")
    gone = raw(cache, "digits")
    answer = json.loads(run("cache", "remove", "digits", "--yes", "--json").stdout)
    assert [len(answer[kind]) for kind in ("entries", "raw", "leftovers", "metadata")] == [
        3,
        1,
        0,
        0,
    ]
    assert answer["bytes"] > 1000
    assert kept.exists()
    assert not gone.parent.exists()
    assert names("entry") == []


def test_remove_refuses_what_is_not_in_the_cache(
    three: list[pixelprep.Entry], tmp_path: Path
) -> None:
    """A copy elsewhere, the cache itself, a folder beside: nothing outside is ever deleted."""
    elsewhere = tmp_path / "other" / "digits" / three[0].path.name
    elsewhere.mkdir(parents=True)
    (elsewhere / "manifest.json").write_text("mine")
    for name in (str(elsewhere), str(tmp_path / "cache"), "nothing", "..", "/", ".raw", elsewhere):
        with pytest.raises(EntryError, match=r"no entry|is not an entry in"):
            pixelprep.cache.remove(name)
    assert (elsewhere / "manifest.json").exists()
    assert all(entry.path.exists() for entry in three)


def test_it_asks_before_it_deletes(three: list[pixelprep.Entry]) -> None:
    """Without a terminal, and with --json, nothing is deleted unless --yes is said; a dry run
    answers as if.
    """
    reasons = {(): "stdin is not a terminal", ("--json",): "--json does not ask"}
    for options, reason in reasons.items():
        done = run("cache", "remove", "digits", *options, stdin=subprocess.DEVNULL)
        said = [f"error: nothing deleted: {reason}", "hint: add --yes, or --dry-run"]
        assert (done.returncode, done.stderr.splitlines()) == (1, said)
    answer = json.loads(run("cache", "remove", "digits/", "--dry-run", "--json").stdout)
    assert (answer["dry_run"], len(answer["entries"])) == (True, 3)
    shown = run("cache", "prune", "--keep", "0", "--dry-run")
    assert shown.stdout.splitlines()[-1] == "nothing deleted"
    assert all(entry.path.exists() for entry in three)


def test_a_nightly_prune_takes_what_nobody_owns(three: list[pixelprep.Entry], cache: Path) -> None:
    """Notes and leftovers alone need no yes where nobody can give it; an entry does."""
    (cache / ".trash" / "old").mkdir(parents=True)
    done = run("cache", "prune", stdin=subprocess.DEVNULL)
    assert (done.returncode, names("leftover")) == (0, [])
    done = run("cache", "prune", "--keep", "0", stdin=subprocess.DEVNULL)
    assert (done.returncode, len(names("entry"))) == (1, 3)


def test_only_a_yes_deletes(three: list[pixelprep.Entry]) -> None:
    """On a terminal it shows what is to go and waits for an answer; no answer is a no."""
    for typed, status in (("n\n", 1), ("\n", 1), ("y\n", 0)):
        command = ("cache", "remove", three[0].key)
        out, err = on_terminal(*command, typed=typed, status=status)
        assert f"digits/{three[0].path.name}" in out
        assert "delete it for good?" in err
        assert "error" not in err
        assert [entry.path.exists() for entry in three] == [status == 1, True, True]


def test_ctrl_c_at_the_question_deletes_nothing(three: list[pixelprep.Entry]) -> None:
    """It says so in one line; exit status 130."""
    command = ("cache", "remove", three[0].key)
    _, err = on_terminal(*command, interrupted_at="?", status=130)
    last = re.sub(r"\x1b\[[0-9;]*m", "", err.splitlines()[-1])
    assert last.endswith("error: interrupted; nothing deleted")
    assert three[0].path.exists()


# prune


def test_prune_takes_the_entries_that_are_meant(three: list[pixelprep.Entry]) -> None:
    """`--older-than` goes by the last use; `--keep` saves those used last."""
    meant: tuple[tuple[str | None, int | None, list[int]], ...] = (
        (None, None, [0, 1, 2]),
        ("30D", None, [0, 1, 2]),
        ("60h", None, [1, 2]),
        ("36h", None, [2]),
        ("0", None, []),
        (None, 2, [1, 2]),
        (None, 0, []),
        (None, 9, [0, 1, 2]),
        ("60h", 1, [1, 2]),
    )
    for older_than, keep, left in meant:
        gone = {item.path for item in pixelprep.cache.prune(older_than, keep=keep, dry_run=True)}
        assert [i for i, entry in enumerate(three) if entry.path not in gone] == left
    done = run("cache", "prune", "--yes", "--older-than", "36h", "--keep", "2")
    assert done.returncode == 0, done.stderr
    assert [entry.path.exists() for entry in three] == [False, True, True]
    assert all(pixelprep.open(entry.path).key == entry.key for entry in three[1:])


def test_prune_brings_the_cache_below_a_size(three: list[pixelprep.Entry]) -> None:
    """`--max-size` takes those used longest ago, after what the age takes, none that `--keep`
    saves; bytes and units of 1,000 and 1,024 are the same sizes.
    """
    each = next(item.bytes for item in pixelprep.cache.list() if item.entry)
    meant: tuple[tuple[str | None, int | None, float, list[int]], ...] = (
        (None, None, 4, [0, 1, 2]),
        (None, None, 2.5, [1, 2]),
        (None, None, 1.5, [2]),
        (None, None, 0, []),
        (None, 2, 0, [1, 2]),
        ("36h", None, 2.5, [2]),
        ("36h", 2, 0, [1, 2]),
    )
    for older_than, keep, entries, left in meant:
        for size in (int(each * entries), f"{each * entries / 1000:.6f}kB"):
            removed = pixelprep.cache.prune(older_than, keep, max_size=size, dry_run=True)
            gone = {item.path for item in removed}
            assert [i for i, entry in enumerate(three) if entry.path not in gone] == left
    done = run("cache", "prune", "--yes", "--max-size", f"{1.5 * each / 1024:.6f}KiB")
    assert done.returncode == 0, done.stderr
    assert [entry.path.exists() for entry in three] == [False, False, True]
    error, _ = failure(run("cache", "prune", "--max-size", "much"), 2)
    assert error.startswith("--max-size much: expected bytes")


def test_downloads_go_when_nothing_of_their_dataset_stays(
    three: list[pixelprep.Entry], cache: Path
) -> None:
    """Raw files are kept as long as an entry could be repaired from them."""
    old, new, own = raw(cache, "mnist", days=9), raw(cache, "kmnist"), raw(cache, "digits", days=9)
    pixelprep.cache.prune("5d")
    assert [path.exists() for path in (old, new, own)] == [False, True, True]
    pixelprep.cache.prune(keep=0)
    assert [path.exists() for path in (new, own)] == [False, False]


def test_a_wrong_age_is_wrong_usage() -> None:
    """An age is a number and a unit."""
    error, _ = failure(run("cache", "prune", "--older-than=-1d"), 2)
    assert error.startswith("--older-than -1d")
    for age in ("", "soon", "3 months", "1e9d", "d"):
        with pytest.raises(UsageError, match="older"):
            pixelprep.cache.prune(age)
    with pytest.raises(UsageError):
        pixelprep.cache.prune(keep=-1)


def test_prune_removes_what_a_killed_process_left(many: Path, cache: Path) -> None:
    """Work in progress, a broken download, rubbish, notes and locks of nobody; nothing else."""
    process = start("prepare", str(many), "--quiet")
    wait_until_it_writes(process, cache)
    process.kill()
    process.communicate()
    raw(cache, "mnist").with_name("x.gz.part").write_bytes(bytes(99))
    for folder in (".trash/old", ".trust/gone", ".origins/gone"):
        (cache / folder).mkdir(parents=True)
        (cache / folder / "center-0123456789ab.json").write_text("{}")
    (cache / ".sources" / "0.json").write_text("{}")
    assert list(cache.glob(".tmp/*/parts/*"))
    assert len(names("leftover")) >= 3
    assert run("cache", "prune", "--yes").returncode == 0
    assert there(cache) == {".raw/mnist/file.gz"}
    assert names("leftover", "metadata") == []
    assert pixelprep.prepare(many, quiet=True).cached is False


def test_prune_leaves_what_is_in_use(many: Path, cache: Path) -> None:
    """Work whose owner lives, a lock that is held, a download that goes on: all stay."""
    process = start("prepare", str(many), "--quiet")
    wait_until_it_writes(process, cache)
    part = raw(cache, "mnist").with_name("x.gz.part")
    part.write_bytes(bytes(99))
    with locks.lock(cache, "mnist-raw"):
        assert names("leftover") == []
        assert run("cache", "prune", "--yes").returncode == 0
        assert part.exists()
        assert (cache / ".locks" / "mnist-raw.lock").exists()
    assert (process.communicate()[1], process.returncode) == ("", 0)
    assert pixelprep.prepare(many, quiet=True).cached


def test_prune_leaves_what_was_used_since(three: list[pixelprep.Entry], cache: Path) -> None:
    """An entry that is opened between the question and the answer is not old any more."""
    listed = pixelprep.cache.prune("1d", dry_run=True)
    pixelprep.open(three[0].path)
    gone = pixelprep.cache.remove(*listed, unless_used=True)
    assert three[0].path not in {item.path for item in gone}
    assert three[0].path.exists()
    assert not three[1].path.exists()


def test_an_unfinished_run_of_prepare_is_shown_and_pruned(cache: Path) -> None:
    """What could be gone on with is kept by `prepare` for a week, but not by `prune`."""
    leave_unfinished(cache)
    staging.collect_garbage(cache)
    (left,) = names("leftover")
    assert re.fullmatch(r"\.tmp/work\.free-[0-9a-f]{8}\.resumable", left)
    assert len(pixelprep.cache.prune()) > 0
    assert list(cache.glob(".tmp/*")) == []


def test_a_reader_goes_on_when_its_entry_is_removed(three: list[pixelprep.Entry]) -> None:
    """Files that are open stay readable; the entry itself is gone at once."""
    batches = iter(three[0].train.batches(8))
    next(batches)
    pixelprep.cache.remove(three[0].key)
    assert sum(len(labels) for _, labels in batches) == 32
    with pytest.raises(EntryError):
        pixelprep.open(three[0].path)


def test_nothing_that_was_begun_meanwhile_is_deleted(digits: str, cache: Path) -> None:
    """Notes of an entry that came back since they were listed stay."""
    entry = pixelprep.prepare(digits)
    hidden = entry.path.rename(cache / ".hidden")
    listed = pixelprep.cache.prune(dry_run=True)
    hidden.rename(entry.path)
    pixelprep.cache.remove(*listed)
    assert len([*cache.glob(".trust/*/*"), *cache.glob(".origins/*/*")]) == 2
    assert pixelprep.prepare(digits).cached


READER = """
import sys
import h5py, pixelprep
what, path = sys.argv[1:3]
match what:
    case "batches": held = pixelprep.open(path).train.batches(8)
    case "pass": next(held := iter(pixelprep.open(path).train.batches(8)))
    case "replaced":
        next(held := iter((pixelprep.open(path)).train.batches(8)))
        pixelprep.prepare(sys.argv[3], mode="center", force=True, quiet=True)
        next(held := iter(held._batches.with_epoch(1)))
    case "h5py": held = h5py.File(path + "/train.h5")
print(flush=True)
input()
"""


@pytest.mark.parametrize("what", ["batches", "pass", "replaced", "h5py"])
def test_what_another_process_reads_stays(
    what: str, three: list[pixelprep.Entry], digits: str, caplog: pytest.LogCaptureFixture
) -> None:
    """However long ago it was opened, neither `prune` nor `remove` takes what is being read, or is
    to be read again; once the process has ended, both do.
    """
    path = three[0].path
    command = [sys.executable, "-c", READER, what, str(path), digits]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        used(path, 30)
        assert (
            len([item for item in pixelprep.cache.prune(keep=0, dry_run=True) if item.entry]) == 2
        )
        assert [i.path for i in pixelprep.cache.remove(path)] == []
        assert caplog.messages[-1] == f"digits/{path.name}: a running process uses it, so it stays"
        pixelprep.cache.prune(older_than="1d", keep=0)
        pixelprep.cache.prune(max_size=0)
        assert path.is_dir()
        process.communicate(b"\n")
    used(path, 30)
    pixelprep.cache.prune(older_than="1d", keep=0)
    assert not path.exists()


def test_what_this_process_has_open_can_be_removed(three: list[pixelprep.Entry]) -> None:
    """Who removes an entry by a program that still holds it means it."""
    held = iter(three[0].train.batches(8))
    next(held)
    assert [item.path for item in pixelprep.cache.remove(three[0].path)] == [three[0].path]
