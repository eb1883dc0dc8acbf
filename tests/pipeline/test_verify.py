"""`verify` finds whatever is wrong with an entry, and `--repair` makes it as it was."""

import errno
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from functools import reduce
from itertools import product
from operator import getitem
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pixelprep
from pixelprep import Arrays, EntryError, UsageError, VerifyResult
from pixelprep.numerics.modes import plain_modes
from pixelprep.numerics.scaling import PER
from pixelprep.system import fs
from tests.helpers.cli import failure, run
from tests.helpers.damage import DAMAGES, LOSSES, flip, lose_everything
from tests.helpers.data import arrays, bytes_of
from tests.helpers.malicious import Json, at, forge, manifest_of
from tests.helpers.packages import ROOT
from tests.helpers.sampling import some
from tests.helpers.training import MODELS


def verified(path: Path | str | pixelprep.Entry) -> VerifyResult:
    """Return what `verify` says of one entry."""
    (verdict,) = pixelprep.verify(path, quiet=True)
    return verdict


def problems(path: Path | str) -> str:
    """Return what it finds wrong, in one string."""
    return "\n".join(verified(path).problems)


def big(kind: str = "float32") -> Arrays:
    """Return more images than the first batch, floats or 16 bits."""
    images = np.random.default_rng(2).integers(0, 60_000, (90, 6, 5, 2))
    images = (images / (1 if kind == "uint16" else 7)).astype(kind)
    labels = np.arange(90) % 4
    return Arrays("big", (images, labels), (images[:80], labels[:80]))


# What is right


RAW = ("uint8", "int8", "uint16", "int16", "float32", "float64")
DTYPES = ("float32", "float16")


@pytest.mark.parametrize(
    ("mode", "raw", "dtype", "per"), some(plain_modes(), RAW, DTYPES, PER, every=5)
)
def test_every_recipe_keeps_its_promises(mode: str, raw: str, dtype: str, per: str) -> None:
    """Whatever can be prepared is found right, whole, and without a word."""
    source = big(raw) if raw.startswith("f") else arrays(dtype=raw)
    rescale = raw.endswith("16") and dtype == "float16"
    options: dict[str, Any] = {"val_fraction": 0.25} if per == "pixel" else {}
    entry = pixelprep.prepare(
        source, mode=mode, per=per, dtype=dtype, rescale=rescale, quiet=True, **options
    )
    verdict = verified(entry)  # which stands for its path
    assert (verdict.problems, verdict.ok, verdict.repaired) == ((), True, False)
    assert verdict.bytes == entry.size


@pytest.mark.parametrize(
    "compression",
    ["none", "gzip", "zstd", *(pytest.param(c, marks=pytest.mark.long) for c in ("lzf", "lz4"))],
)
def test_every_layout_is_found_right(compression: str) -> None:
    """Several files, a last one of few rows, and every compression."""
    entry = pixelprep.prepare(
        arrays(), compression=compression, shard_rows=16, val_fraction=0.3, quiet=True
    )
    assert problems(entry.path) == ""


@given(
    st.sampled_from(["uint8", "uint16", "float32"]),
    st.sampled_from(sorted(plain_modes())),
    st.sampled_from(PER),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
)
def test_odd_images_are_found_right(
    tmp_path_factory: pytest.TempPathFactory, raw: str, mode: str, per: str, spread: int, seed: int
) -> None:
    """Constant pixels, single values, tiny spreads: no promise is so narrow that it breaks."""
    numbers = np.random.default_rng(seed)
    level = numbers.integers(0, 200)
    x = (level + numbers.integers(0, spread + 1, (9, 3, 2, 2))).astype(raw)
    x[:, 0, 0] = level
    source = Arrays("odd", (x, np.arange(9) % 2), (x[:4], np.arange(4) % 2))
    cache = tmp_path_factory.mktemp("cache")
    entry = pixelprep.prepare(source, mode=mode, per=per, cache_dir=cache, quiet=True)
    assert problems(entry.path) == ""


def test_the_committed_entries_of_the_format_are_found_right() -> None:
    """Entries of format version 1 that other releases wrote keep their promises for ever."""
    folder = ROOT / "data" / "format-1"
    verdicts = pixelprep.verify(*sorted(folder.iterdir()), quiet=True)
    assert [verdict.problems for verdict in verdicts] == [()] * len(verdicts)


# What is damaged


@pytest.fixture
def entry(digits: str) -> Path:
    """Return the folder of an entry in the cache, with a validation split and several files."""
    return pixelprep.prepare(digits, val_fraction=0.25, shard_rows=16, quiet=True).path


def places(folder: Path, count: int, seed: int) -> Iterator[tuple[Path, int, int]]:
    """Yield random bits of the files of a folder, small files as often as large ones."""
    numbers = random.Random(seed)
    paths = sorted(folder.iterdir())
    for index in range(count):
        path = paths[index % len(paths)]
        yield path, numbers.randrange(path.stat().st_size), numbers.randrange(8)


@pytest.mark.parametrize("count", [120, pytest.param(10_000, marks=pytest.mark.long)])
def test_flipped_bits_are_found(
    entry: Path, count: int, record_property: Callable[[str, object], None]
) -> None:
    """Of random bits of all files of an entry, `verify` finds each that is flipped."""
    missed = []
    for place in places(entry, count, seed=17):
        flip(*place)
        if verified(entry).ok:
            missed.append(place)
        flip(*place)
    record_property("bits_flipped", count)
    assert missed == []
    assert problems(entry) == ""


@pytest.mark.parametrize("damaged", DAMAGES)
def test_damage_is_found_and_repaired(digits: str, cache: Path, damaged: str) -> None:
    """A damaged, missing or swapped file is named and not opened; repaired by `verify`, and made
    again by `prepare`, all bytes are as they were.
    """
    path = pixelprep.prepare(digits).path
    before = bytes_of(path)
    name, damage = DAMAGES[damaged]
    damage(path / name)
    with pytest.raises(EntryError, match=re.escape(name)):
        pixelprep.open(path, cache_dir=cache)
    is_restored(path, name, before)
    (cache.parent / name).unlink(missing_ok=True)  # what a link led to
    damage(path / name)
    assert pixelprep.prepare(digits).cached is False
    assert bytes_of(path) == before
    assert list(cache.glob(".tmp/*")) == list(cache.glob(".trash/*")) == []


def is_restored(path: Path, problem: str, before: dict[str, str]) -> None:
    """Check that `verify --repair` names a problem and restores all bytes."""
    (verdict,) = pixelprep.verify(every=True, repair=True, quiet=True)
    assert (verdict.path, verdict.ok, verdict.repaired) == (path, True, True), verdict.problems
    assert problem in verdict.problems[0]
    assert bytes_of(path) == before


@pytest.mark.parametrize("lost", LOSSES)
def test_what_is_no_entry_any_more_is_repaired(
    digits: str, cache: Path, entry: Path, lost: str
) -> None:
    """Where nothing tells the recipe any more, it is known from when the entry was asked for."""
    before = bytes_of(entry)
    LOSSES[lost](entry)
    with pytest.raises(EntryError, match="no entry"):
        pixelprep.open(entry)
    is_restored(entry, "", before)
    shutil.rmtree(entry.with_name("elsewhere"), ignore_errors=True)
    LOSSES[lost](entry)
    assert pixelprep.prepare(digits, val_fraction=0.25, shard_rows=16).cached is False
    assert bytes_of(entry) == before
    assert list(cache.glob(".tmp/*")) == list(cache.glob(".trash/*")) == []


def test_every_truncation_and_pair_of_swapped_files_is_found(entry: Path) -> None:
    """A file that was cut off, whichever and wherever, or that is another one is named."""
    files = sorted(entry.glob("*.h5"))
    for path, size in product(sorted(entry.iterdir()), (0, 1, 100, -1)):
        content = path.read_bytes()
        path.write_bytes(content[:size] if size < len(content) else content[:-1])
        assert path.name in problems(entry)
        path.write_bytes(content)
    for one, two in zip(files, [*files[1:], files[0]], strict=True):
        content = one.read_bytes()
        shutil.copyfile(two, one)
        assert one.name in problems(entry)
        one.write_bytes(content)
    assert problems(entry) == ""


def test_swapped_folders_are_found(digits: str) -> None:
    """An entry in another one's place is neither used nor found right, and both are repaired."""
    one = pixelprep.prepare(digits, mode="center")
    two = pixelprep.prepare(digits, mode="standardize")
    before = bytes_of(one.path), bytes_of(two.path)
    one.path.rename("aside")
    two.path.rename(one.path)
    Path("aside").rename(two.path)
    assert "does not match its manifest" in problems(one.path)
    with pytest.raises(EntryError, match="does not match its manifest"):
        pixelprep.open(two.path)
    assert pixelprep.prepare(digits, mode="center").scaling.mode == "center"
    verdicts = pixelprep.verify(every=True, repair=True, quiet=True)
    assert [(verdict.ok, verdict.repaired) for verdict in verdicts] == [(True, False), (True, True)]
    assert (bytes_of(one.path), bytes_of(two.path)) == before


# What was forged: every digest is right


def forged(folder: Path, name: str, where: Any, value: Callable[[Any], Any], file: str) -> None:
    """Change stored numbers, checksums and digests with them."""
    with h5py.File(folder / file, "r+") as opened:
        opened[name][where] = value(opened[name][where])
    forge(folder)


@pytest.mark.parametrize(
    ("mode", "per", "dtype", "file"),
    some(plain_modes(), ("channel", "image"), DTYPES, ("train.h5", "test.h5"), every=5),
)
def test_one_stored_value_off_by_its_last_bit_is_found(
    digits: str, mode: str, per: str, dtype: str, file: str
) -> None:
    """Of integers not one value can be another, though all checksums and digests be right."""
    path = pixelprep.prepare(digits, mode=mode, per=per, dtype=dtype, quiet=True).path
    assert problems(path) == ""
    forged(path, "images", (15, 3, 3, 0), lambda y: np.nextafter(y, np.inf), file)
    assert "stored values" in problems(path)
    pixelprep.open(path)  # nothing else is wrong with it


def test_one_raw_pixel_off_by_one_is_found(digits: str) -> None:
    """Scaled just as it should be, it is not in the raw data that the key was made of."""
    entry = pixelprep.prepare(digits, mode="center", quiet=True)
    forged(entry.path, "images", (15, 3, 3, 0), lambda y: y + 1, "test.h5")
    assert "raw images are not those of the source's digest" in problems(entry.path)
    forged(entry.path, "images", (15, 3, 3, 0), lambda y: y + 1, "train.h5")
    found = problems(entry.path)
    assert "train: the sums of its pixels" in found
    assert "train: its statistics" in found


def test_a_wrong_label_is_found(digits: str) -> None:
    """Labels have their digest in the key too; one that is no class is named."""
    path = pixelprep.prepare(digits, quiet=True).path
    forged(path, "labels", 11, lambda label: (label + 1) % 4, "test.h5")
    assert "test: its labels are not those" in problems(path)
    forged(path, "labels", 11, lambda _: 4, "test.h5")
    assert "test: labels 0 to 4, but 4 classes" in problems(path)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_wrong_statistics_beside_an_image_are_found(digits: str, name: str) -> None:
    """Per image, the statistics that are stored must be the image's own."""
    path = pixelprep.prepare(digits, per="image", quiet=True).path
    forged(path, name, 5, lambda value: np.nextafter(value, np.inf), "train.h5")
    assert "train: the stored values from row 0 on are not those of the scaling" in problems(path)


def other(value: Any) -> Any:
    """Return another number, or a list whose first is another."""
    return [value[0] * 1.001 + 1, *value[1:]] if isinstance(value, list) else value + 1


@pytest.mark.parametrize(
    ("way", "change"),
    [
        ("scaling.mean", other),
        ("scaling.std", other),
        ("scaling.minimum", other),
        ("scaling.maximum", other),
        ("scaling.scale", other),
        ("scaling.offset", other),
        ("statistics.count", other),
        ("statistics.sum", other),
        ("statistics.sum_of_squares", other),
        ("splits.train.raw.maximum", other),
        ("splits.test.raw.minimum", other),
        ("splits.train.first_batch.mean", other),
        ("splits.test.first_batch.std", other),
        # Of floats, what can only be compared within rounding is compared all the same.
        ("splits.test.raw.minimum", lambda _: -7),
        ("splits.train.raw.maximum", lambda _: 1e9),
        ("statistics.count", lambda _: 1),
        ("statistics.sum", lambda _: 0),
        ("statistics.sum_of_squares", lambda _: -5.0),
        ("scaling.scale", lambda _: [123.0, 1.0]),
        ("scaling.offset", lambda _: [9.0, 9.0]),
    ],
)
def test_every_promised_number_is_checked(way: str, change: Callable[[Any], Any]) -> None:
    """A manifest that promises another number than the arrays have is found, signed or not."""
    source = arrays(shape=(6, 6, 1)) if change is other else big()
    path = pixelprep.prepare(source, quiet=True).path
    *outer, last = way.split(".")

    def put(manifest: Json) -> None:
        inner = reduce(getitem, outer, manifest)
        inner[last] = change(inner[last])

    forge(path, put)
    if change is other:
        pixelprep.open(path)
    assert problems(path) != ""


FORGERIES: dict[str, tuple[dict[str, Any], dict[tuple[str, ...], Any]]] = {
    "another unit": ({"mode": "center", "rescale": True}, {("recipe", "rescale"): False}),
    "a val split that is not there": (
        {},
        {("recipe", "val_fraction"): 0.25, ("recipe", "split_seed"): 0},
    ),
    "another val fraction": ({"val_fraction": 0.25}, {("recipe", "val_fraction"): 0.5}),
    "a seed of no split": ({}, {("recipe", "split_seed"): 7}),
    "other numerics": ({}, {("recipe", "numerics_version"): 77}),
    "an older format": ({}, {("recipe", "format_version"): 0}),
    "files that are not there": ({}, {("recipe", "shard_rows"): 1000}),
    "per image": ({"mode": "normalize"}, {("recipe", "per"): "image", ("per",): "image"}),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_an_entry_of_another_recipe_is_not_taken(digits: str, forgery: str) -> None:
    """A recipe that is not that of what is stored is found, with key, digests and name made right:
    nobody who asks for it is given something else.
    """
    options, changes = FORGERIES[forgery]
    path = pixelprep.prepare(digits, quiet=True, **options).path
    forge(path, lambda m: [at(*way)(m, value) for way, value in changes.items()])
    path = path.rename(path.with_name(f"{path.name[:-12]}{manifest_of(path)['key']}"))
    assert problems(path) != ""


@pytest.mark.parametrize(
    ("mode", "per", "raw"), some(plain_modes(), PER, ("float32", "uint16"), every=5)
)
def test_rows_that_no_raw_image_explains_are_found(mode: str, per: str, raw: str) -> None:
    """Of floats, and of 16 bits in float16, a row of any split beyond the raw limits is found, and
    values that do not have the promised statistics.
    """
    options: dict[str, Any] = {"dtype": "float16", "rescale": True} if raw == "uint16" else {}
    entry = pixelprep.prepare(big(raw), mode=mode, per=per, quiet=True, **options)
    assert problems(entry.path) == ""
    assert not entry.scaling.is_exact(entry.train.dtype)
    forged(entry.path, "images", 75, lambda y: y * 0 + 6e4, "test.h5")
    found = problems(entry.path)
    assert ("test: " in found, "train: " in found) == (True, False)
    forged(entry.path, "images", 30, lambda y: y * 0.9, "train.h5")
    found = problems(entry.path)
    assert "train: the first batch" in found
    assert per == "image" or "train: its statistics" in found


def test_own_statistics_that_would_invert_wrongly_are_found() -> None:
    """Per image, a stored mean that leads out of the raw limits is found in every split."""
    path = pixelprep.prepare(big(), mode="center", per="image", quiet=True).path
    forged(path, "mean", np.s_[:], lambda mean: mean * 0 + 1e5, "test.h5")
    assert "test: the raw minimum or maximum" in problems(path)


FAR = ((1e12, 1.0), (1e6, 1e-4), (-1e9, 1.0), (0.0, 1e-9))


@pytest.mark.parametrize(("far", "mode", "per"), some(FAR, plain_modes(), PER, every=5))
def test_floats_far_from_zero_are_found_right(
    far: tuple[float, float], mode: str, per: str
) -> None:
    """Where float64 itself is coarse beside the spread, that is no damage."""
    shift, spread = far
    numbers = np.random.default_rng(0)
    images = numbers.normal(size=(50, 5, 5, 2)) * spread + shift
    labels = np.arange(50) % 3
    source = Arrays("far", (images, labels), (images[:20], labels[:20]))
    assert problems(pixelprep.prepare(source, mode=mode, per=per, quiet=True).path) == ""


def test_attributes_are_checked_where_files_are_compressed(digits: str) -> None:
    """Readers without pixelprep go by the attributes: those of the manifest alone will do."""
    path = pixelprep.prepare(digits, compression="gzip", quiet=True).path
    for name, value in (("shift", [1e5]), ("format_version", 7), ("mode", "center")):
        copy = shutil.copytree(path, path.parents[2] / f"forged-{name}")
        with h5py.File(copy / "test.h5", "r+") as file:
            before = file.attrs[name]
            file.attrs.create(name, value, dtype=getattr(before, "dtype", None))
        forge(copy)
        with pytest.raises(EntryError, match=f"its attribute {name} is not that of the manifest"):
            pixelprep.open(copy)
    assert f"test.h5: its attribute {name} is not that of the manifest" in problems(copy)


# What is not asked for, or cannot be done


def test_what_cannot_be_checked_is_no_damage(digits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer format, a package that is missing, a machine without descriptors: not checked, not
    repaired, exit status 1, and `prepare` does not make it again.
    """
    path = pixelprep.prepare(digits, quiet=True).path
    before = bytes_of(path)

    def no_descriptors(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(fs, "sha256", no_descriptors)
        (verdict,) = pixelprep.verify(path, repair=True, quiet=True)
        assert (verdict.ok, verdict.checked) == (False, False)
        assert "Too many open files" in verdict.problems[0]
    assert bytes_of(path) == before
    forge(path, lambda manifest: manifest.update(format_version=2))
    before = bytes_of(path)
    for command in (["verify", "--all", "--repair"], ["prepare", digits]):
        done = run(*command)
        assert done.returncode == 1
        assert "version 2, this reads pixelprep version 1" in done.stdout + done.stderr
        assert "install a newer pixelprep" in done.stdout + done.stderr
    assert bytes_of(path) == before


def test_a_dataset_means_all_its_entries(digits: str) -> None:
    """As for `cache remove`; whatever is named twice is checked once."""
    one = pixelprep.prepare(digits, mode="center", quiet=True)
    two = pixelprep.prepare(digits, mode="normalize", quiet=True)
    verdicts = pixelprep.verify("digits", one.key, one.path, quiet=True)
    assert [verdict.path for verdict in verdicts] == [one.path, two.path]


def test_a_cache_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    """It is not taken for an empty one."""
    (tmp_path / "file").write_text("mine")
    for command in (["verify", "--all"], ["cache", "list"], ["cache", "prune"]):
        error, _ = failure(run(*command, "--cache-dir", str(tmp_path / "file")))
        assert error.startswith(f"cannot use {tmp_path / 'file'}")


def test_a_known_dataset_is_repaired_from_its_manifest(cache: Path) -> None:
    """Without a note of how it was asked for, or with an odd one, a known name and the recipe are
    enough.
    """
    entry = pixelprep.prepare("sample", mode="center", per="pixel", val_fraction=0.1, quiet=True)
    before = bytes_of(entry.path)
    (path,) = cache.glob(".origins/*/*.json")
    for note in (None, {"dataset": 5}, {"dataset": "sample", "val_fraction": "x"}, {"mode": ["x"]}):
        path.unlink() if note is None else path.write_text(json.dumps(note))
        (entry.path / "val.h5").unlink()
        is_restored(entry.path, "val.h5", before)


def test_verifying_nothing_is_right(cache: Path) -> None:
    """All entries of an empty or missing cache are none, exit status 0, and no folder is made."""
    done = run("verify", "--all", "--json")
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, {"entries": []}, "")
    assert not cache.exists()
    cache.mkdir()
    assert run("verify", "--all").returncode == 0


def test_names_or_all_but_not_both(entry: Path) -> None:
    """Neither, or both, is wrong usage."""
    for arguments, found in ([], "neither"), ([str(entry), "--all"], "both"):
        error, hint = failure(run("verify", *arguments), 2)
        assert error == f"expected names of entries or --all, got {found}"
        assert hint == "--all checks all of the cache"
    with pytest.raises(UsageError):
        pixelprep.verify()


def test_an_entry_that_is_not_there_is_named(cache: Path) -> None:
    """No entry of a name is an error, not an empty answer."""
    error, _ = failure(run("verify", "digits/center-0123456789ab"))
    assert error.startswith("digits/center-0123456789ab: no entry")
    assert not cache.exists()


def test_the_command_says_what_is_wrong_and_mends_it(entry: Path) -> None:
    """`--json` has path, ok and problems of each; the exit status is 1 until it is repaired."""
    before = bytes_of(entry)
    flip(entry / "val.h5", 3000, 1)
    done = run("verify", f"{entry.parent.name}/{entry.name}", "--json")
    (answer,) = json.loads(done.stdout)["entries"]
    assert (answer["path"], answer["ok"]) == (str(entry), False)
    assert answer["problems"] == [f"{entry / 'val.h5'}: differs from its SHA-256 in the manifest"]
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "error: of 1 entry, 1 damaged"
    shown = run("verify", entry.name[-12:])
    assert shown.stdout.splitlines()[0] == f"{entry}  DAMAGED"
    assert shown.stdout.splitlines()[1] == "  val.h5: differs from its SHA-256 in the manifest"
    mended = run("verify", "--all", "--repair", "--json")
    (answer,) = json.loads(mended.stdout)["entries"]
    assert (answer["ok"], answer["repaired"], mended.returncode) == (True, True, 0)
    assert bytes_of(entry) == before
    assert run("verify", "--all").returncode == 0


def test_options_of_the_decoding_are_remembered_for_repair(tmp_path: Path, cache: Path) -> None:
    """Keys, fractions and a path that is no text are all part of what is asked for again."""
    folder = tmp_path / os.fsdecode(b"caf\xe9 #1%20")
    folder.mkdir()
    with h5py.File(folder / "mine.h5", "w") as file:
        file["x"] = np.random.default_rng(0).integers(0, 255, (40, 6, 5, 1), np.uint8)
        file["y"] = np.arange(40) % 4
    keys: dict[str, Any] = {"images_key": "x", "labels_key": "y", "test_fraction": 0.25}
    entry = pixelprep.prepare(folder / "mine.h5", split_seed=3, quiet=True, **keys)
    before = bytes_of(entry.path)
    lose_everything(entry.path)
    is_restored(entry.path, "", before)


def test_what_cannot_be_repaired_is_left_and_said(digits: str, tmp_path: Path) -> None:
    """Raw data that is gone or changed, arrays in memory, a copy elsewhere: each says why."""
    path = pixelprep.prepare(digits, quiet=True).path
    copy = shutil.copytree(path, tmp_path / "copy")
    memory = pixelprep.prepare(arrays(), quiet=True).path
    for broken in (path, copy, memory):
        flip(broken / "test.h5", 100, 0)
    before = bytes_of(path)
    images = Path(digits, "train-images-idx3-ubyte")
    content = images.read_bytes()
    images.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    reasons = {
        path: "its raw data makes digits/standardize-",
        copy: "it is not in the cache",
        memory: "its source is unknown",
    }
    for broken, reason in reasons.items():
        (verdict,) = pixelprep.verify(broken, repair=True, quiet=True)
        assert not verdict.ok
        said = verdict.problems[-1].replace(f"{path.parent.name}/{path.name}: ", "")
        assert said.startswith(f"cannot be repaired: {reason}")
    shutil.rmtree(digits)
    (verdict,) = pixelprep.verify(path, repair=True, quiet=True)
    assert "no such file or folder" in verdict.problems[-1]
    assert bytes_of(path) == before
    assert len(list(path.parent.iterdir())) == 1


# Damage that nothing tells of: the disk gave other bytes


def rot(path: Path, cache: Path, where: int) -> None:
    """Change a bit as a failing disk would: to the cache all is as when it was last checked."""
    flip(path, where, 3)
    state = path.stat()
    now = [state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    (note,) = cache.glob(f".trust/*/{path.parent.name}.json")
    record = json.loads(note.read_bytes())
    record[path.name][:4] = now
    note.write_text(json.dumps(record))


def in_images(path: Path, row: int) -> int:
    """Return a place in the file that holds the bytes of an image."""
    with h5py.File(path, "r") as file:
        images = file["images"]
        chunk = images.id.get_chunk_info(row // images.chunks[0])
    return int(chunk.byte_offset + chunk.size // 2)


@pytest.mark.parametrize(
    "compression",
    ["none", "gzip", "zstd", *(pytest.param(c, marks=pytest.mark.long) for c in ("lzf", "lz4"))],
)
def test_a_rotten_row_is_never_delivered(digits: str, cache: Path, compression: str) -> None:
    """What the checks at opening cannot see, the chunk's own checksum does, before a row is out."""
    options: dict[str, Any] = {"compression": compression, "quiet": True}
    entry = pixelprep.prepare(digits, **options)
    rot(entry.path / "train.h5", cache, in_images(entry.path / "train.h5", 20))
    entry = pixelprep.prepare(digits, **options)
    assert entry.cached  # nothing tells of it
    for shuffle in (False, True):
        with pytest.raises(EntryError, match=r"train\.h5: cannot read /images"):
            list(entry.train.batches(8, shuffle=shuffle))
    with pytest.raises(EntryError, match=r"train\.h5: cannot read /images"):
        entry.train.to_numpy()
    assert len(entry.test.to_numpy()[0]) == 20
    assert "train.h5: differs from its SHA-256" in problems(entry.path)


def test_a_rotten_label_is_never_delivered(digits: str, cache: Path) -> None:
    """Labels have a checksum of their own."""
    entry = pixelprep.prepare(digits)
    with h5py.File(entry.path / "train.h5", "r") as file:
        where = file["labels"].id.get_chunk_info(0).byte_offset
    rot(entry.path / "train.h5", cache, where + 9)
    with pytest.raises(EntryError, match=r"/labels"):
        list(pixelprep.open(entry.path).train.batches(8))


@pytest.mark.long
def test_training_stops_at_a_rotten_row(digits: str, cache: Path) -> None:
    """`train` says which file is damaged, exit status 1, and leaves no run."""
    shutil.copy(MODELS, "models.py")
    path = pixelprep.prepare(digits, quiet=True).path / "train.h5"
    rot(path, cache, in_images(path, 20))
    settings = ("--epochs", "1", "--model", "models:tiny", "--run-dir", "run", "--quiet")
    done = run("train", digits, *settings, timeout=300)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].startswith(f"error: {path}: cannot read")
    assert not Path("run").exists()
