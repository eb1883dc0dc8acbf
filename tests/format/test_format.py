"""What data/FORMAT.md promises, checked by a reader that shares no code with pixelprep."""

import gzip
import json
import os
import re
import runpy
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pixelprep
from pixelprep import Arrays, prepare
from pixelprep.format.options import RecipeOptions
from pixelprep.format.recipe import Recipe, split_files
from pixelprep.format.source_record import SourceRecord, SourceSplit
from pixelprep.sources import SourceContext, survey
from pixelprep.system.parallel import WorkerPool
from tests.helpers import recipes, reference
from tests.helpers.data import arrays, idx
from tests.helpers.malicious import manifest_of, sign
from tests.helpers.packages import ROOT
from tests.helpers.process import execute
from tests.helpers.reference import Array, Source
from tests.helpers.second_reader import Json, files_of

COMMITTED = sorted((ROOT / "data" / "format-1").iterdir())
DEFAULTS: Json = {
    "mode": "standardize",
    "per": "channel",
    "rescale": False,
    "val_fraction": 0.0,
    "test_fraction": 0.0,
    "split_seed": 0,
    "dtype": "float32",
    "storage": "scaled",
    "compression": "none",
    "shard_rows": None,
}


def make(source: Arrays, **options: Any) -> pixelprep.Entry:
    """Prepare without progress bars."""
    return prepare(source, quiet=True, **options)


def raw_of(source: Arrays) -> Source:
    """Return the same raw data for the reference."""
    highest = max(int(labels.max()) for _, labels in source.splits.values())
    classes = list(source.class_names) or [str(label) for label in range(highest + 1)]
    names = {name: list(rows) for name, rows in (source.names or {}).items()}
    splits = source.splits
    return Source(
        train=source.train,
        test=splits.get("test"),
        class_names=classes,
        val=splits.get("val"),
        task=source.task,
        names=names,
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of an entry."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# The committed entries

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "make_format_example.py"))


def test_a_committed_recipe_made_again_gives_the_committed_bytes() -> None:
    """Every file is the committed one to the last byte, and every value, digest, name and HDF5
    property follows from the formula and the page.

    Only where images are compressed may a file differ, by its compressor's version.
    """
    made = []
    for source, options in SCRIPT["examples"]():
        new = make(source, **options).path
        (folder,) = [path for path in COMMITTED if path.name == new.name]
        made.append(folder)
        found = reference.check_entry(folder, raw_of(source))
        if found.manifest["recipe"]["compression"] == "none":
            assert contents(new) == contents(folder)
        else:
            reference.check_entry(new, raw_of(source))
    assert sorted(made) == COMMITTED


# Any recipe


IN_MEMORY = recipes.in_memory()
HELD = json.loads(recipes.HELD.read_bytes())


def held(entry: pixelprep.Entry, name: str) -> None:
    """Check that an entry has the bytes that it always had, by the same versions if compressed."""
    if entry.manifest.recipe.compression == "none" or HELD["made with"] == recipes.made_with():
        assert recipes.digests(entry) == HELD[name]


@pytest.mark.parametrize("name", IN_MEMORY)
def test_an_entry_is_what_the_page_says(name: str) -> None:
    """The recipe, its key, the manifest, every stored bit and the HDF5 files are as specified.

    What the reader of the page reads, pixelprep reads. The bytes are the same for ever.
    """
    dtype, options = IN_MEMORY[name]
    if options.get("compression") in ("lz4", "zstd"):
        pytest.importorskip("hdf5plugin")
    source = recipes.arrays(dtype)
    entry, raw = make(source, **options), raw_of(source)
    assert entry.manifest.to_dict()["recipe"] == reference.recipe_of(raw, DEFAULTS | options)
    for split, wanted in reference.check_entry(entry.path, raw).splits.items():
        ours = entry.splits[split]
        own = (ours.mean, ours.std) if entry.per == "image" else (None, None)
        stored = ours.read_raw(0, len(ours))
        images = ours.to_numpy()[0] if stored is None else stored
        for found, right in zip((images, ours.labels, *own), wanted[:4], strict=True):
            assert reference.same(found, right)
    held(entry, name)


def test_entries_of_files_have_the_bytes_that_they_always_had(tmp_path: Path) -> None:
    """Every kind of source gives the digests of `bytes.json`, which has no others."""
    every = recipes.in_files(tmp_path)
    for name, (dataset, options) in every.items():
        held(prepare(dataset, quiet=True, **options), name)
    assert HELD.keys() == {"made with", *IN_MEMORY, *every}


@pytest.mark.parametrize(
    ("per", "dtype", "shape", "rows"),
    [
        ("channel", "float32", (1100, 1000, 1), 2),  # more than a block each
        ("dataset", "float32", (512, 512, 4), 2),  # just a block each
        ("pixel", "float16", (17, 31, 3), 2500),
        ("dataset", "float64", (1, 1, 1), 5000),
        ("channel", "float64", (1, 130, 1), 1),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                *((per, "float16", (17, 31, 3), 2500) for per in ("dataset", "channel")),
                ("channel", "float32", (1, 1, 3), 300_000),
                *((per, "float64", (1, 1, 1), 5000) for per in ("channel", "pixel")),
                *((per, "float64", (1, 130, 1), 1) for per in ("dataset", "pixel")),
            )
        ),
    ],
    ids=str,
)
def test_blocks_follow_from_the_size_of_an_image(
    per: str, dtype: str, shape: tuple[int, ...], rows: int
) -> None:
    """Statistics of floats are bit for bit those of the page for small and large images.

    A validation split leaves fewer blocks, and the last of them not full.
    """
    x = (5 + np.random.default_rng(0).normal(size=(rows, *shape))).astype(dtype)
    train, test = (x, np.zeros(rows, np.int64)), (x[:1], np.zeros(1, np.int64))
    source = Arrays("sizes", train, test)
    manifest = make(source, per=per, val_fraction=0.1 if rows == 2500 else 0).manifest.to_dict()
    left = reference.divided(raw_of(source), manifest["recipe"])["train"][0]
    assert manifest["scaling"] == reference.scaling_record(left, manifest["recipe"])


@pytest.mark.parametrize("mode", reference.MODES)
@pytest.mark.parametrize("per", ["channel", "image"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_are_inverted_by_the_formula(mode: str, per: str, dtype: str) -> None:
    """`invert` is (y · divisor + shift) · unit; per image /mean and /std are shift and divisor."""
    source = recipes.arrays(dtype)
    entry = make(source, mode=mode, per=per)
    y, found = entry.train.to_numpy()[0], reference.statistics(source.train[0], per, 1)
    shift, divisor = reference.shift_and_divisor(mode, found, floats=True)
    own = (entry.train.mean, entry.train.std) if per == "image" else ()
    if per == "image" and mode == "normalize":
        assert reference.same(entry.train.mean, shift.ravel())
        assert reference.same(entry.train.std, reference.ranges(found)[1].ravel())
    wanted = reference.raw(y, 1, shift, divisor, dtype)
    assert reference.same(entry.scaling.invert(y, *own), wanted)


@pytest.mark.parametrize("per", ["dataset", "image"])
def test_a_value_is_rounded_once(per: str) -> None:
    """Each of the 65,536 raw values goes from float64 to float16, not by way of float32."""
    images = np.random.default_rng(0).permutation(2**16).astype("uint16").reshape(4, 128, 128, 1)
    source = Arrays("every", (images, np.arange(4)), (images[:1], np.arange(1)))
    entry = make(source, per=per, rescale=True, dtype="float16")
    wanted = reference.stored_splits(raw_of(source), entry.manifest.to_dict()["recipe"])
    assert reference.same(entry.train.to_numpy()[0], wanted["train"].images)


def test_the_mean_is_subtracted_before_the_division() -> None:
    """Where pixels lie close to the mean, another order of the arithmetic gives other bits."""
    images = np.full((1000, 4, 4, 1), 60_000, "uint16")
    images[7, 1, 1] += 1
    source = Arrays(
        "close", (images, np.zeros(1000, np.int64)), (images[:9], np.zeros(9, np.int64))
    )
    entry = make(source)
    wanted = reference.stored_splits(raw_of(source), entry.manifest.to_dict()["recipe"])
    assert reference.same(entry.train.to_numpy()[0], wanted["train"].images)


sizes = st.integers(1, 5000)


@given(st.tuples(sizes, sizes, st.integers(1, 4)), st.integers(1, 10**9), st.data())
def test_the_layout_follows_from_the_size_of_an_image(
    shape: tuple[int, int, int], rows: int, data: st.DataObject
) -> None:
    """Rows of a chunk and a file, and the files' names, are those of the page, at any size."""
    dtype = data.draw(st.sampled_from(["float32", "float16"]))
    split = SourceSplit("uint8", (rows, *shape), "0", "0")
    source = SourceRecord({"train": split, "test": split}, "classification", ("one",), {})
    recipe = Recipe.of(RecipeOptions(dtype=dtype), source)
    chunk_rows, most = reference.layout(shape, np.dtype(dtype).itemsize)
    assert recipe.chunk_rows == chunk_rows
    assert recipe.shard_rows == (most if rows > most else None)
    some = min(rows, most * data.draw(st.integers(1, 50)))  # not millions of files
    found = split_files("train", some, recipe.shard_rows)
    assert [(name, len(part)) for name, part in found.items()] == files_of("train", some, most)
    assert [row for part in found.values() for row in (part.start, part.stop)] == (
        [row for i in range(len(found)) for row in (i * most, min((i + 1) * most, some))]
    )


@pytest.mark.parametrize("width", [64, 65])
def test_many_statistics_are_no_attributes(width: int) -> None:
    """More than 4,096 statistics are in the manifest alone."""
    images = np.arange(3 * 64 * width).reshape(3, 64, width, 1).astype(np.uint8)
    source = Arrays("sizes", (images, np.arange(3)), (images, np.arange(3)))
    reference.check_entry(make(source, mode="center", per="pixel").path, raw_of(source))


def test_many_long_class_names_fit() -> None:
    """More class names than HDF5 keeps in one object header are stored and read all the same."""
    names = tuple(f"class number {i} of the many, ünïcode" for i in range(3000))
    images, labels = np.zeros((4, 2, 2, 1), np.uint8), np.array([0, 1, 2, 2999])
    entry = make(Arrays("names", (images, labels), (images, labels), names))
    with h5py.File(entry.path / "train.h5", "r") as file:
        reference.check_attributes(file, entry.manifest.to_dict(), "train")
    assert pixelprep.open(entry.path).class_names == names


# Equal bytes

CHILD = """
import os, sys
os.umask(0o077)
from tests.helpers.data import arrays
import pixelprep
for options in {options!r}:
    pixelprep.prepare(arrays(), cache_dir=sys.argv[1], quiet=True, **options)
"""
TWICE: list[Json] = [
    {"shard_rows": 9, "val_fraction": 0.2},
    {"mode": "center", "per": "image", "compression": "gzip", "dtype": "float16"},
]


def stranger(tmp_path: Path) -> dict[str, str]:
    """Return the environment of another user in another place."""
    (tmp_path / "home-of-a-stranger").mkdir()
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return os.environ | {
        "HOME": str(tmp_path / "home-of-a-stranger"),
        "USER": "mrs-somebody-else",
        "LOGNAME": "mrs-somebody-else",
        "TZ": "Pacific/Kiritimati",
        "LC_ALL": "C",
        "PYTHONHASHSEED": "77",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *paths]),
    }


def test_another_process_makes_the_same_bytes(tmp_path: Path) -> None:
    """Two caches agree byte for byte, and tell nothing of where, when or by whom they were made.

    The second is made later, by another process, with another folder, home, user, umask, time
    zone, locale and hash seed. What both have in common, host and date, is not in them either.
    """
    first = [make(arrays(), **options).path for options in TWICE]
    time.sleep(1.1)  # HDF5 counts times in whole seconds
    command = [sys.executable, "-c", CHILD.format(options=TWICE), str(tmp_path / "other")]
    home = stranger(tmp_path)
    execute(command, cwd=home["HOME"], env=home, check=True)
    host = socket.gethostname().encode()
    for path in first:
        made = contents(path)
        assert contents(tmp_path / "other" / "little" / path.name) == made
        for name, data in made.items():
            assert len(host) < 5 or host not in data, name
            assert not re.search(rb"\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d", data), name


# Keys


def test_the_same_pixels_give_the_same_source_digest_however_they_are_held() -> None:
    """Byte order, memory order, views, the labels' type and a missing channel axis do not count."""
    plain = arrays(dtype="uint16", shape=(6, 5, 1))
    (images, labels), test = plain.train, plain.test
    wide = np.zeros((len(images), 12, 5, 1), "uint16")
    wide[:, ::2] = images
    first = make(plain)
    for same in (
        (images.astype(">u2"), labels),
        (np.asfortranarray(images), labels),
        (wide[:, ::2], labels.astype("uint8")),
        (images[..., 0], labels.astype(">i4")),
    ):
        again = make(Arrays("little", same, test, ("0", "1", "2", "3")))
        assert again.cached
        assert again.path == first.path
        other = make(Arrays("little", same, test), cache_dir=first.path.parents[2] / "new")
        assert contents(other.path) == contents(first.path)
        shutil.rmtree(other.path.parents[1])


def windows(rows: int, shape: tuple[int, ...], dtype: str) -> Array:
    """Many different images that share nearly all their memory."""
    size = int(np.prod(shape))
    numbers = np.random.default_rng(0).integers(0, 200, size + rows).astype(dtype)
    return np.lib.stride_tricks.sliding_window_view(numbers, size)[:rows].reshape(rows, *shape)


@pytest.mark.parametrize(
    ("rows", "shape", "dtype"),
    [
        (64, (1024, 1024, 1), "uint8"),  # 64 MiB: one digest
        (65, (1024, 1024, 1), "uint8"),
        (90, (512, 512, 3), "uint8"),  # pieces of 64 images
        (2, (4096, 4160, 1), "float32"),  # 65 MiB each
    ],
    ids=str,
)
def test_many_pixels_have_a_digest_of_digests(
    tmp_path: Path, rows: int, shape: tuple[int, ...], dtype: str
) -> None:
    """More than 64 MiB of pixels are cut into pieces of a power of two of images."""
    images, labels = windows(rows, shape, dtype), np.arange(rows) % 2
    source = Arrays("many", (images, labels), (images[:1], labels[:1]))
    surveyed = survey(source.load(SourceContext(tmp_path)), WorkerPool(), "", True, {})
    found = surveyed.record.to_dict()["splits"]
    assert found["train"] == reference.split_source(images, labels, None)
    assert found["test"] == reference.split_source(images[:1], labels[:1], None)


def changed(images: Array, labels: Array) -> list[tuple[Array, Array]]:
    """Return raw splits that differ from this one in the least."""
    pixel, name = images.copy(), labels.copy()
    pixel[-1, -1, -1, -1] ^= 1
    name[0] = (name[0] + 1) % 4
    return [
        (pixel, labels),
        (images, name),
        (images[:-1], labels[:-1]),
        (images.view("int8"), labels),
    ]


def test_other_data_makes_another_entry() -> None:
    """One bit of a pixel, one label, one image less or a class's name change the key."""
    source = arrays()
    sources = [source, Arrays("little", source.train, source.test, ("a", "b", "c", "d"))]
    sources += [Arrays("little", other, source.test) for other in changed(*source.train)[:3]]
    sources += [
        Arrays("little", source.train, other) for other in changed(*source.splits["test"])[:3]
    ]
    train, test = changed(*source.train)[3], changed(*source.splits["test"])[3]
    keys = {make(one).key for one in [*sources, Arrays("little", train, test)]}
    assert len(keys) == 9


@pytest.mark.parametrize(
    ("base", "options"),
    [
        ({}, {"split_seed": 5}),
        ({}, {"shard_rows": 40}),
        ({}, {"shard_rows": 10**9}),
        ({}, {"val_fraction": 0}),
        ({}, {"val_fraction": None, "mode": None}),
        ({}, {"offline": True}),
        ({}, {"mirror": "http://127.0.0.1:9/"}),
        ({"mode": "normalize"}, {"mode": "normalize", "per": "pixel"}),
        ({"mode": "normalize"}, {"mode": "normalize", "rescale": True}),
        ({}, {"val_fraction": -0.0}),
        ({"val_fraction": 0.25}, {"val_fraction": np.float64(0.25), "split_seed": np.int64(0)}),
        ({"shard_rows": 8}, {"shard_rows": np.int64(8)}),
        ({"rescale": False}, {"rescale": 0}),
        ({"rescale": True}, {"rescale": np.True_}),
    ],
    ids=str,
)
def test_what_changes_no_byte_makes_no_other_entry(cache: Path, base: Json, options: Json) -> None:
    """Neither does an option without an effect, nor a value that is equal but of another type."""
    first, second = make(arrays(), **base), make(arrays(), **options)
    assert second.cached
    assert first.path == second.path
    assert len(list(cache.glob("[!.]*/*"))) == 1


# Raw files and hits


def write_idx(folder: Path, source: Arrays, zipped: bool = True) -> Path:
    """Write a source as four IDX files."""
    folder.mkdir(parents=True)
    for name, (images, labels) in (("train", source.train), ("t10k", source.splits["test"])):
        for what, array in (("images-idx3", images[..., 0]), ("labels-idx1", labels)):
            data = idx(array.astype("uint8"))
            path = folder / f"{name}-{what}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(data) if zipped else data)
    return folder


def gray() -> Arrays:
    """Return images of one channel, as IDX files hold them."""
    return arrays(shape=(6, 5, 1))


def test_path_and_time_of_raw_files_do_not_count(tmp_path: Path, cache: Path) -> None:
    """Touched, moved, copied or unpacked raw files lead to the entry that is there.

    Its key is that of the same data in memory.
    """
    folder = write_idx(tmp_path / "one" / "mine", gray())
    first = prepare(str(folder), quiet=True)
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    folders = [folder, shutil.copytree(folder, tmp_path / "two" / "mine")]
    folders += [write_idx(tmp_path / "three" / "mine", gray(), zipped=False)]
    folders += [folder.rename(tmp_path / "mine")]
    for place in folders[1:]:
        again = prepare(f"{place}/", quiet=True)
        assert again.cached
        assert again.path == first.path
    assert list(cache.glob("[!.]*/*")) == [first.path]
    assert first.key == make(gray()).key


SPY = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
import pixelprep
entry = pixelprep.prepare({dataset!r}, source={source!r}, quiet=True)
assert entry.cached
print(*{{path for path in opened if path.startswith({root!r})}}, sep="\\n")
"""


@pytest.mark.parametrize("given", ["the folder", "the source"])
def test_a_hit_opens_no_raw_file_and_no_array(tmp_path: Path, given: str) -> None:
    """It opens the manifest, its digest and three small records; the raw files' states suffice."""
    dataset, source = str(write_idx(tmp_path / "mine", gray())), None
    if given == "the source":
        dataset, source = "sample", str(shutil.copytree(ROOT / "data/sample", tmp_path / "raw"))
    prepare(dataset, source=source, quiet=True)
    code = SPY.format(dataset=dataset, source=source, root=str(tmp_path))
    run = execute([sys.executable, "-c", code], check=True)
    opened = [Path(line) for line in run.stdout.splitlines()]
    assert {path.name for path in opened if path.suffix != ".json"} == {"manifest.sha256"}
    notes = {path.relative_to(tmp_path / "cache").parts[0] for path in opened}
    assert notes == {".sources", ".trust", ".origins", dataset.split("/")[-1]}


def test_a_change_whose_times_were_put_back_is_seen() -> None:
    """A file of the same inode, size and modification time, but changed, is no hit."""
    entry = make(arrays())
    path = entry.path / "train.h5"
    before = path.stat()
    with path.open("r+b") as file:
        file.write(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not make(arrays()).cached


# Sources without a test split, and sources that come sorted by class


def test_a_folder_is_stored_in_the_order_of_the_page(tmp_path: Path) -> None:
    """Ordered by purpose 4 and rid of what was skipped; then test and validation are taken."""
    picture = pytest.importorskip("PIL.Image")
    counts = {"10": 11, "9": 7, "B": 12, "b": 9, "à": 10}  # sorted by code points
    labels = np.repeat(np.arange(5), list(counts.values()))
    images = arrays(len(labels), 1, (5, 4, 3)).train[0]
    paths = [
        tmp_path / "mine" / name / file
        for name, count in counts.items()
        for file in sorted(f"{i}.png" for i in range(count))  # 10 before 2
    ]
    for path, image in zip(paths, images, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.fromarray(image).save(path)
    damaged = [0, 30, 31, 48]
    for row in damaged:
        paths[row].write_bytes(b"no picture")
    options: Json = {"val_fraction": 0.2, "split_seed": 77, "test_fraction": 0.3}
    entry = prepare(tmp_path / "mine", quiet=True, on_error="skip", **options)

    rows = reference.mixed(np.arange(len(labels)), 0)
    rows = rows[~np.isin(rows, damaged)]
    names = ["/".join(path.parts[-2:]) for path in paths]
    decode = entry.manifest.to_dict()["source"]["decode"]
    assert decode["skipped"] == sorted(names[row] for row in damaged)
    source = Source((images[rows], labels[rows]), None, list(counts), decode)
    source.names["train"] = [names[row] for row in rows]
    reference.check_entry(entry.path, source)


def test_a_test_split_is_taken_before_the_validation_split(tmp_path: Path) -> None:
    """Rows taken from one array by purpose 5, and rows that stay, keep their order."""
    fraction, seed = 0.1, 2**64 - 1
    images, labels = arrays(77, 1).train
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["x"], file["y"] = images, labels
    keys: Json = {"images_key": "x", "labels_key": "y", "test_fraction": fraction}
    options: Json = {"split_seed": seed, "val_fraction": 0.3, "quiet": True}
    entry = prepare(tmp_path / "mine.h5", **keys, **options)
    reference.check_entry(entry.path, Source((images, labels), None, list("0123")))


# Reading safely


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of a committed entry, outside the cache."""
    wanted = {"storage": "scaled", "mode": "standardize"}.items()
    folder = next(path for path in COMMITTED if wanted <= manifest_of(path)["recipe"].items())
    return shutil.copytree(folder, tmp_path / "copies" / folder.name)


def test_unknown_fields_are_ignored(copy: Path) -> None:
    """A later writer of the same version may add fields."""
    sign(copy, manifest_of(copy) | {"colour": {"of": ["the", "sky"]}})
    assert pixelprep.open(copy).train.shape == (15, 4, 5, 2)


@pytest.mark.parametrize("place", ["with a space/ünïcödé-目", ".hidden"])
def test_a_copy_opens_from_any_folder(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """An entry needs nothing but its own files, not even its name; nor the folder of its path."""
    moved = shutil.copytree(copy, tmp_path / place)
    shutil.rmtree(copy)
    monkeypatch.chdir(moved)
    opened = pixelprep.open(".")
    monkeypatch.chdir("/")
    expected = reference.stored_splits(
        raw_of(SCRIPT["examples"]()[0][0]), opened.manifest.to_dict()["recipe"]
    )
    for name, split in opened.splits.items():
        assert reference.same(split.to_numpy()[0], expected[name].images)


def test_the_systems_own_tool_checks_the_manifest() -> None:
    """`sha256sum --check` accepts manifest.sha256 as it stands."""
    tool = shutil.which("sha256sum")
    if tool is None:
        pytest.skip("sha256sum is not installed")
    for folder in [*COMMITTED, make(arrays()).path]:
        command = [tool, "--check", "--strict", "manifest.sha256"]
        execute(command, cwd=folder, check=True)
