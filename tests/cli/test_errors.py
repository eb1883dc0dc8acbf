"""Whatever is wrong, the error is one clear line, and nothing half-done is left behind."""

import gzip
import json
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep import Arrays, EntryError, PixelprepError, SourceError, UsageError
from pixelprep.sources.known.registered import embedded
from tests.helpers.cli import failure, prepared, run, start, wait_until_it_writes
from tests.helpers.damage import flip_a_byte
from tests.helpers.data import bytes_of, flipped, idx, write_digits
from tests.helpers.disks import mounted
from tests.helpers.malicious import deflate_bomb
from tests.helpers.process import execute
from tests.helpers.sources import nothing_is_left

GIB = 1 << 30
TRAIN, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
IMAGES = np.arange(40 * 6 * 6, dtype=np.uint8).reshape(40, 6, 6)


# Files of the user's own


def packed(content: bytes) -> bytes:
    """Gzipped, as fast as can be."""
    return gzip.compress(content, compresslevel=1, mtime=0)


NOISE = random.Random(3).randbytes(5 << 20)
ZIPPED = packed(idx(IMAGES))
BOMB = b"\x1f\x8b\x08" + bytes(7) + deflate_bomb(8 * GIB)[2:]  # 8 MB of gzip

BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "gzip cut off": (f"{TRAIN}.gz", ZIPPED[: len(ZIPPED) // 2], "ends too early"),
    "gzip with a wrong checksum": (f"{TRAIN}.gz", flipped(ZIPPED, -6), "incorrect data check"),
    "gzip with something behind it": (f"{TRAIN}.gz", ZIPPED + b"more", "cannot read"),
    "gzip of nothing": (f"{TRAIN}.gz", packed(b""), "not an IDX file: it begins with nothing"),
    "gzip bomb": (f"{TRAIN}.gz", ZIPPED + BOMB, "promises 1,440 bytes, the file holds more"),
    "gzip of 5 MB, header of 4 GiB": (
        f"{TRAIN}.gz",
        packed(idx(np.frombuffer(NOISE, np.uint8), (1 << 20, 64, 64))),
        "promises 4,294,967,296 bytes, the file holds 5,242,880",
    ),
    "text": (TRAIN, b"not an image at all\n", "not an IDX file: it begins with 6e 6f 74 20"),
    "a header cut off": (TRAIN, idx(IMAGES)[:9], "ends in its header"),
    "a file cut off": (TRAIN, idx(IMAGES)[:-1], "promises 1,440 bytes"),
    "a huge header": (TRAIN, idx(IMAGES, (2**32 - 1,) * 3), "more than the file can hold"),
    "a byte too many": (TRAIN, idx(IMAGES) + b"\0", "promises 1,440 bytes, the file holds more"),
    "another magic number": (TRAIN, b"\1" + idx(IMAGES)[1:], "it begins with 01 00 08 03"),
    "another type": (TRAIN, idx(IMAGES, kind=0x0D), "promises 5,760 bytes, more than the"),
    "another rank": (TRAIN, idx(IMAGES[..., None]), "expected 3 dimensions, the header says 4"),
    "labels for images": (TRAIN, idx(IMAGES[:, 0, 0]), "expected 3 dimensions, the header says 1"),
    "images for labels": (LABELS, idx(IMAGES), "expected 1 dimension, the header says 3"),
    "no images": (TRAIN, idx(IMAGES[:0]), "0 images but 40 labels"),
    "images of another size": (TRAIN, idx(IMAGES[:, :5]), "differ in image shape"),
    "an image too few": (TRAIN, idx(IMAGES[:39]), "39 images but 40 labels"),
    "a label too few": (LABELS, idx(IMAGES[:39, 0, 0]), "40 images but 39 labels"),
}


def put(digits: str, bad: str) -> str:
    """Replace one of the four files by a bad one, and return why it is bad."""
    if "GiB" in bad and shutil.disk_usage(digits).free < 5 * GIB:
        pytest.skip("the disk has no room for what the header promises, which is another error")
    name, content, reason = BAD_FILES[bad]
    Path(digits, name.removesuffix(".gz")).unlink()
    Path(digits, name).write_bytes(content)
    return reason


@pytest.mark.parametrize("bad", BAD_FILES)
def test_a_bad_file_is_refused(digits: str, cache: Path, bad: str) -> None:
    """A damaged or wrong IDX file is a SourceError of one line: where, expected, got."""
    reason = put(digits, bad)
    with pytest.raises(SourceError) as caught:
        pixelprep.prepare(digits)
    assert caught.value.message.startswith("digits")
    assert reason in caught.value.message
    assert "\n" not in str(caught.value)
    assert nothing_is_left(cache)


@pytest.mark.parametrize("bad", ["a huge header", "gzip of 5 MB, header of 4 GiB", "gzip bomb"])
def test_no_memory_is_taken_for_promises(digits: str, cache: Path, bad: str) -> None:
    """What a file promises but does not hold takes no memory: the error is the same with 2 GiB."""
    reason = put(digits, bad)
    error, _ = failure(run("prepare", digits, limits={resource.RLIMIT_AS: 2 * GIB}))
    assert error.startswith("digits/")
    assert reason in error
    assert nothing_is_left(cache)


@pytest.mark.parametrize("name", [TRAIN, "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("instead", ["nothing", "a folder", "a pipe"])
def test_a_missing_file_is_named(digits: str, cache: Path, name: str, instead: str) -> None:
    """Where a file is missing, or is no file, the error says its name and its folder."""
    path = Path(digits, name)
    path.unlink()
    if instead == "a folder":
        path.mkdir()
    elif instead == "a pipe":
        os.mkfifo(path)
    with pytest.raises(SourceError) as caught:
        pixelprep.prepare(digits)
    assert caught.value.message == f"digits: expected {name}.gz (or {name}), found neither"
    assert nothing_is_left(cache)


def test_zipped_and_plain_files_make_the_same_entry(digits: str) -> None:
    """The good case beside the bad: either form of a file is taken, and the key is the same."""
    key = pixelprep.prepare(digits).key
    content = Path(digits, TRAIN).read_bytes()
    Path(digits, TRAIN).unlink()
    Path(digits, f"{TRAIN}.gz").write_bytes(packed(content[:99]) + packed(content[99:]))
    assert pixelprep.prepare(digits).key == key


# Names and places


@pytest.mark.parametrize(
    ("dataset", "source", "kind", "error", "hint"),
    [
        ("./nowhere", None, SourceError, "nowhere: no such file or folder", ""),
        ("/dev/null", None, SourceError, "/dev/null: expected a folder", ""),
        ("nowhere", None, UsageError, "unknown `dataset` 'nowhere'", "with a slash: ./nowhere"),
        ("sample", "nowhere", SourceError, "`source=nowhere`: no such folder", ""),
        ("sample", f"digits/{TRAIN}", SourceError, "no such folder", ""),
        ("sample", ".", SourceError, "expected train-images-idx3-ubyte.gz", ""),
        ("./digits", "digits", UsageError, "takes no `source`", "give one of the two"),
        ("mnist", "digits", SourceError, "not the official", "as the dataset: ./digits"),
    ],
)
def test_a_wrong_place_is_refused(
    digits: str,
    cache: Path,
    dataset: str,
    source: str | None,
    kind: type[PixelprepError],
    error: str,
    hint: str,
) -> None:
    """A folder or name that cannot be meant is named, with the way out where there is one."""
    with pytest.raises(kind) as caught:
        pixelprep.prepare(dataset, source=source)
    assert error in caught.value.message
    assert (caught.value.hint or "").endswith(hint)
    assert nothing_is_left(cache)


def test_the_hint_for_other_images_works_as_it_stands(digits: str, cache: Path) -> None:
    """`mnist --source` with images of another kind hints at a dataset that then works."""
    folder = Path("deep/er")
    shutil.copytree(digits, folder)
    for name, source in (("mnist", folder), ("sample", folder.absolute())):
        _, hint = failure(run("prepare", name, "--source", str(source)))
        assert nothing_is_left(cache)
        done = run("prepare", hint.split()[-1])
        assert done.returncode == 0, done.stderr
        shutil.rmtree(cache)


def test_a_damaged_source_says_so_rather_than_that_it_differs(digits: str) -> None:
    """`--source` with an official name cut off says that the file is cut off."""
    shutil.copytree(embedded("sample"), "given")
    path = Path("given", f"{TRAIN}.gz")
    path.write_bytes(path.read_bytes()[:-1000])
    assert "ends too early" in failure(run("prepare", "sample", "--source", "given"))[0]


@pytest.mark.parametrize(
    "name",
    ["with space", "Größe", "line\nbreak", "-dash", "…", "x" * 200, os.fsdecode(b"byte\xff")],
    ids=ascii,
)
def test_a_folder_with_any_name_can_be_prepared(tmp_path: Path, name: str) -> None:
    """Spaces, accents, line breaks and bytes that are no UTF-8 in a path are no error."""
    try:
        folder = write_digits(tmp_path / "in" / name)
    except OSError:
        pytest.skip("this file system does not take the name")
    entry = pixelprep.prepare(str(folder))
    assert pixelprep.prepare(str(folder)) == entry
    assert entry.path.parent.name == entry.dataset


def test_a_path_object_is_a_path(digits: str) -> None:
    """A `Path` means a folder, with or without a slash in it; a plain word means a known name."""
    entry = pixelprep.prepare(Path(digits))
    assert entry == pixelprep.prepare(Path(digits).absolute()) == pixelprep.prepare(digits)
    with pytest.raises(SourceError, match="no such file or folder"):
        pixelprep.prepare(Path("mnist"))


# Values of options


@pytest.mark.parametrize(
    "choice",
    [
        *({name: "zip"} for name in ("mode", "per", "dtype", "compression")),
        *({"val_fraction": part} for part in (1, -0.1, float("nan"), float("inf"), 0.0001, 0.999)),
        *({"shard_rows": rows} for rows in (0, -5)),
        *({"split_seed": seed} for seed in (-1, 2**64)),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_wrong_usage(
    digits: str, cache: Path, choice: dict[str, Any]
) -> None:
    """A value that no recipe can have is a UsageError, which is a ValueError; the command exits 2.
    It is repeated with what was expected.
    """
    with pytest.raises(UsageError) as caught:
        pixelprep.prepare(digits, **choice)
    assert isinstance(caught.value, ValueError)
    ((name, value),) = choice.items()
    option = f"--{name.replace('_', '-')}"
    error, _ = failure(run("prepare", digits, f"{option}={value}", bare=True), 2)
    assert error.startswith((f"{option} {value}", f"unknown {option} '{value}'"))
    for said in (error, caught.value.message):
        assert "expected" in said
    assert nothing_is_left(cache)


# Arrays


def images(rows: int, kind: str = "uint8", shape: tuple[int, ...] = (6, 5, 3)) -> np.ndarray:
    """Return images of any type and rank."""
    return np.random.default_rng(0).integers(0, 100, (rows, *shape)).astype(kind)


def labels(rows: int) -> np.ndarray:
    """Labels of four classes."""
    return np.arange(rows) % 4


def broken_images(value: float) -> np.ndarray:
    """Float images, one pixel of which is no number."""
    x = images(20, "float64")
    x[3, 2, 1, 0] = value
    return x


@pytest.mark.parametrize(
    "choice",
    [
        {"mirror": 7},
        {"quiet": "loud"},
        {"workers": True},
        {"shard_rows": True},
        {"source": 5},
        {"cache_dir": 5},
    ],
    ids=str,
)
def test_a_value_of_another_type_is_wrong_usage(digits: str, choice: dict[str, Any]) -> None:
    """In Python an argument of another type is named with its value."""
    ((name, value),) = choice.items()
    with pytest.raises(UsageError, match=f"`{name}={value!r}`: expected|{name}={value}"):
        pixelprep.prepare(digits, **choice)
    with pytest.raises(UsageError, match="expected the name or the path of an entry"):
        pixelprep.open(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["x" * 300, f"./{'x' * 300}"])
def test_a_name_that_is_too_long_is_an_error_like_others(name: str) -> None:
    """What no file can be called is not there."""
    with pytest.raises(EntryError, match="no entry"):
        pixelprep.open(name)
    with pytest.raises(PixelprepError):
        pixelprep.prepare(name)


BAD_ARRAYS: dict[str, tuple[np.ndarray, np.ndarray, str]] = {
    "int32 images": (images(20, "int32"), labels(20), "int32"),
    "images with NaN": (broken_images(np.nan), labels(20), "train: image 3 (counted from 0)"),
    "images with infinity": (broken_images(np.inf), labels(20), "holds inf"),
    "images that overflow": (broken_images(1e300), labels(20), "too large"),
    "images too near": (np.eye(20).reshape(20, 5, 4, 1) * 5e-310, labels(20), "too close"),
    "bool images": (images(20, "bool"), labels(20), "bool"),
    "complex images": (images(20, "complex64"), labels(20), "complex64"),
    "flat images": (images(20, shape=(90,)), labels(20), "(N, H, W, C)"),
    "images of five dimensions": (images(20, shape=(2, 6, 5, 3)), labels(20), "(N, H, W, C)"),
    "images of no height": (images(20, shape=(0, 5, 3)), labels(20), "each at least 1, got"),
    "no images": (images(0), labels(0), "each at least 1, got"),
    "another shape than test's": (images(20, shape=(5, 5, 3)), labels(20), "differ"),
    "another type than test's": (images(20, "uint16"), labels(20), "differ"),
    "a label too few": (images(20), labels(19), "20 images but 19 labels"),
    "negative labels": (images(20), labels(20) - 1, "labels 0 to 3, got -1 to 2"),
    "labels beyond the classes": (images(20), labels(20) + 1, "labels 0 to 3, got 1 to 4"),
    "labels beyond int64": (images(20), np.full(20, 2**63, np.uint64), "labels"),
    "labels that are no integers": (images(20), labels(20) + 0.5, "labels"),
    "labels that are words": (images(20), np.full(20, "one"), "labels"),
    "labels in two columns": (images(20), labels(40).reshape(20, 2), "labels"),
    "labels of several classes": (images(20), np.ones((20, 4), int), "labels"),
}


@pytest.mark.filterwarnings("error", "ignore::pixelprep.PixelprepWarning")
@pytest.mark.parametrize("bad", BAD_ARRAYS)
def test_bad_arrays_are_refused(cache: Path, bad: str) -> None:
    """Arrays that are no images with labels raise SourceError; nothing is converted silently."""
    pixels, classes, reason = BAD_ARRAYS[bad]
    test = pixels[-8:] if "than test's" not in bad else images(8)
    source = Arrays("bad", (pixels, classes), (test, labels(len(test))), ("a", "b", "c", "d"))
    with pytest.raises(SourceError) as caught:
        pixelprep.prepare(source, quiet=True)
    assert reason in str(caught.value)
    assert nothing_is_left(cache)


NO_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "images alone": ({"train": images(8)}, "`train`: expected two arrays, images and labels, got"),
    "one of a pair": ({"train": (images(8),)}, "got tuple of 1"),
    "three of a pair": ({"test": (images(8), labels(8), labels(8))}, "`test`: expected two arrays"),
    "no train": ({"train": None}, "got NoneType"),
    "classes that are numbers": (
        {"class_names": (1, 2)},
        "`class_names=(1, 2)`: expected the text",
    ),
    "classes in one text": ({"class_names": "ab"}, "`class_names='ab'`: expected a tuple of text"),
    "a name that is a number": ({"name": 5}, "`name=5`: expected text"),
    "provenance as text": ({"provenance": "me"}, "`provenance='me'`: expected a pixelprep.sources"),
    "names without a split": ({"names": 5}, "`names=5`: expected the names of each split"),
    "a first class as text": ({"labels_from": "1"}, "`labels_from='1'`: expected a whole number"),
}


@pytest.mark.parametrize("bad", NO_ARRAYS)
def test_arguments_of_arrays_are_checked_at_once(bad: str) -> None:
    """`Arrays` refuses arguments of other types by their names, as wrong usage."""
    given, reason = NO_ARRAYS[bad]
    with pytest.raises(UsageError) as caught:
        Arrays(**{"name": "bad", "train": (images(8), labels(8)), **given})
    assert caught.value.message.startswith("`")
    assert reason in caught.value.message


@pytest.mark.parametrize("given", [images(8), (images(8), labels(8)), [1], {"train": 1}], ids=type)
def test_arrays_that_are_no_source_are_told_of_arrays(given: Any) -> None:
    """`prepare(images)` names the class that takes arrays, and prints none of them."""
    with pytest.raises(UsageError) as caught:
        pixelprep.prepare(given)
    got = f"`dataset`: expected a name, a path or a source, got {type(given).__name__}"
    assert caught.value.message == got
    assert "pixelprep.Arrays(" in str(caught.value.hint)


def test_lists_of_several_lengths_are_no_arrays() -> None:
    """Where NumPy makes no array of what is given, that is said."""
    with pytest.raises(SourceError, match="bad: images or labels are no array"):
        pixelprep.prepare(Arrays("bad", (images(2), [1, [2]])))  # type: ignore[arg-type]


HUGE_LABEL = """
import numpy as np, pixelprep
images, labels = np.zeros((8, 6, 5, 3), np.uint8), np.arange(8) % 4
source = pixelprep.Arrays("huge", (images, labels * 10**9), (images, labels))
try:
    pixelprep.prepare(source, quiet=True)
except pixelprep.SourceError as error:
    print(error.message)
    raise SystemExit from None
"""


def test_labels_out_of_all_proportion_are_refused(cache: Path) -> None:
    """A label like 3,000,000,000 is an error, not as many class names."""
    done = run(code=HUGE_LABEL, limits={resource.RLIMIT_AS: 2 * GIB})
    assert "labels" in done.stdout, done.stderr
    assert nothing_is_left(cache)


@pytest.mark.parametrize("name", ["", "..", "../out", "a/b", ".tmp", "/abs", "a\nb"])
def test_a_dataset_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    """A name that is no folder of its own below the cache is refused."""
    before = set(tmp_path.iterdir())
    with pytest.raises(UsageError, match="name"):
        pixelprep.prepare(Arrays(name, (images(20), labels(20)), (images(8), labels(8))))
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("per", "shape"),
    [("channel", (40, 80, 80, 1)), ("image", (4, 80, 80, 1)), ("pixel", (5_000, 2, 2, 1))],
)
def test_values_too_large_for_float16_are_refused(
    cache: Path, per: str, shape: tuple[int, ...]
) -> None:
    """Where a centered value exceeds 65,504, float16 is refused; float32 or --rescale works."""
    pixels = np.zeros(shape, np.uint16)
    pixels[-1, 0, 0] = 65_535
    source = Arrays("bright", (pixels, labels(len(pixels))), (pixels[-4:], labels(4)))
    with pytest.raises(UsageError, match=r"float16.*`dtype=float32`") as caught:
        pixelprep.prepare(source, mode="center", per=per, dtype="float16", quiet=True)
    assert "65" in caught.value.message
    assert nothing_is_left(cache)
    ways_out: list[dict[str, Any]] = [{"dtype": "float32"}, {"dtype": "float16", "rescale": True}]
    for way_out in ways_out:
        entry = pixelprep.prepare(source, mode="center", per=per, quiet=True, **way_out)
        assert np.isfinite(entry.train.to_numpy()[0]).all()


# The cache folder


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_cache_that_is_a_file_is_refused(digits: str, tmp_path: Path, place: str) -> None:
    """A cache folder that is a file, or lies below one, is named with the way out."""
    (tmp_path / "file").write_text("mine")
    error, hint = failure(run("prepare", digits, "--cache-dir", place))
    assert error.startswith(f"cannot use {tmp_path / 'file'}")
    assert "--cache-dir" in hint
    assert (tmp_path / "file").read_text() == "mine"


# A full disk


@pytest.fixture(scope="session")
def middling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset whose entry needs some 2 MB."""
    return write_digits(tmp_path_factory.mktemp("data") / "middling", 500, 100, 28)


@pytest.mark.parametrize(
    "recipe",
    [
        ["--compression", "gzip"],
        ["--shard-rows", "64"],
        pytest.param(["--per", "image"], marks=pytest.mark.long),
        pytest.param([], marks=pytest.mark.long),
        pytest.param(["--per", "pixel"], marks=pytest.mark.long),
    ],
    ids=" ".join,
)
def test_no_space_is_an_error_wherever_it_strikes(
    middling: Path, cache: Path, recipe: list[str]
) -> None:
    """No byte or many: exit status 1, one error, nothing left; with space it then works."""
    for space in (0, 150_000):
        limits = {resource.RLIMIT_FSIZE: space}
        error, hint = failure(run("prepare", str(middling), *recipe, limits=limits))
        assert error.startswith(f"cannot write in {cache}")
        assert "free some space" in hint
        assert nothing_is_left(cache)
    assert prepared(str(middling), *recipe)["hit"] is False


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_full_disk_leaves_the_cache_as_it_was(
    digits: str, middling: Path, tmp_path: Path, compression: str
) -> None:
    """On a full disk the entries stay, the error says what is missing, and space cures it."""
    cache = tmp_path / "disk" / "cache"
    with mounted(cache.parent, "size=1m"):
        entry = pixelprep.prepare(digits, cache_dir=cache).path
        before = bytes_of(entry)
        recipe = [str(middling), "--compression", compression, "--cache-dir", str(cache)]
        error, hint = failure(run("prepare", *recipe))
        known = "bytes are needed, " if compression == "none" else "No space left on device"
        assert known in error
        assert "free some space" in hint
        assert bytes_of(entry) == before
        assert [path.name for path in cache.glob("[!.]*")] == ["digits"]
        assert list((cache / ".tmp").iterdir()) == []
        execute(["mount", "-o", "remount,size=16m", cache.parent], check=True)
        assert prepared(*recipe)["hit"] is False


def test_the_command_names_damage_and_repairs_it(digits: str) -> None:
    """`info` exits 1 and names the damaged file; `prepare` says that it makes the entry again."""
    entry = pixelprep.prepare(digits).path
    before = bytes_of(entry)
    name = flip_a_byte(entry)
    error, hint = failure(run("info", str(entry)))
    assert error == f"{entry / name}: differs from its SHA-256 in the manifest"
    assert "verify it with --repair" in hint
    again = run("prepare", digits, "--json")
    assert again.stderr.startswith(f"{error}; making it again\n")
    assert again.stderr.count("making it again") == 1
    assert json.loads(again.stdout)["hit"] is False
    assert bytes_of(entry) == before
    assert run("info", str(entry)).returncode == 0


# Killed, interrupted, several at once


@pytest.fixture(scope="session")
def right(many: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    """Return the bytes of its entry, and the seconds that an undisturbed `prepare` takes."""
    started = time.perf_counter()
    answer = prepared(str(many), "--cache-dir", str(tmp_path_factory.mktemp("right")))
    return bytes_of(answer["path"]), time.perf_counter() - started


def whole_or_nothing(cache: Path, right: dict[str, str]) -> bool:
    """Return whether an entry is there; if so it must be as it should be."""
    there = list(cache.glob("many/*"))
    assert all(bytes_of(path) == right for path in there)
    return bool(there)


def test_interrupting_leaves_nothing(
    many: Path, cache: Path, right: tuple[dict[str, str], float]
) -> None:
    """Ctrl-C while writing exits 130 with one line; nothing is published or left in `.tmp`."""
    moments = random.Random(13)
    stopped = 0
    for _ in range(3):
        process = start("prepare", str(many), "--quiet", "--force")
        wait_until_it_writes(process, cache)
        time.sleep(moments.uniform(0, 0.1) * right[1])
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
        if whole_or_nothing(cache, right[0]):  # it came too late
            shutil.rmtree(cache)
            continue
        assert (process.returncode, said) == (130, "error: interrupted\n")
        assert list(cache.glob(".tmp/*")) == []
        stopped += 1
    assert stopped > 0
    assert prepared(str(many))["hit"] is False
    assert whole_or_nothing(cache, right[0])


def test_a_process_told_to_ignore_interrupts_goes_on(
    many: Path, cache: Path, right: tuple[dict[str, str], float]
) -> None:
    """Where SIGINT is ignored from the start (`nohup`, `&` in a script) it has no effect."""
    ignored = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    process = start("prepare", str(many), "--quiet", code=ignored)
    wait_until_it_writes(process, cache)
    process.send_signal(signal.SIGINT)
    assert (process.communicate()[1], process.returncode) == ("", 0)
    assert whole_or_nothing(cache, right[0])


def test_waiting_for_another_process_can_be_interrupted(
    many: Path, cache: Path, right: tuple[dict[str, str], float]
) -> None:
    """Ctrl-C ends a process that waits for another's work; the other is not disturbed."""
    working = start("prepare", str(many), "--quiet")
    wait_until_it_writes(working, cache)
    working.send_signal(signal.SIGSTOP)
    try:
        waiting = start("prepare", str(many), "--quiet")
        time.sleep(2 * right[1])  # long enough to come as far as the lock
        assert waiting.poll() is None
        waiting.send_signal(signal.SIGINT)
        assert (waiting.communicate()[1], waiting.returncode) == ("error: interrupted\n", 130)
    finally:
        working.send_signal(signal.SIGCONT)
    assert (working.communicate()[1], working.returncode) == ("", 0)
    assert whole_or_nothing(cache, right[0])


@pytest.mark.parametrize("command", ["prepare", "cache list"])
def test_an_option_without_its_value_is_told_with_its_command(command: str) -> None:
    """The hint is the help of the command that was given, not that of all."""
    told = failure(run(*command.split(), "--cache-dir"), 2)
    assert told == ("option '--cache-dir' requires an argument", f"pixelprep {command} --help")
