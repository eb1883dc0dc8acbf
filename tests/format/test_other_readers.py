"""The readers of docs/readers.md, made by others: each snippet, as it stands, sees every value."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import h5py
import numpy as np
import pytest

import pixelprep
from pixelprep.dataset.entry import Entry, Split
from pixelprep.format.layout import COMPRESSIONS
from tests.helpers.data import arrays, bytes_of
from tests.helpers.packages import ROOT
from tests.helpers.process import execute

Array = np.ndarray[Any, Any]
Columns = tuple[Array, Array]

SECTION = (ROOT / "docs" / "readers.md").read_text(encoding="utf-8")
SNIPPETS = dict(re.findall(r"^### ([^\n]+)\n\n```\w+\n(.*?)^```$", SECTION, re.M | re.S))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home folder of the test's own: readers keep caches there, and ask no network."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home" / "huggingface"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("HF_DATASETS_CACHE", "XDG_CACHE_HOME", "HDF5_PLUGIN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


# How each kind of snippet is run, and what it saw


def said(command: list[str], folder: Path) -> str:
    """Return what a command prints that is run in an entry's folder and ends well."""
    done = execute(command, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def console(code: str, folder: Path) -> list[str]:
    """Return what each command of a console prints."""
    return [said(["bash", "-c", command], folder) for command in code.splitlines()]


def numbers(text: str) -> Array:
    """Return the numbers that h5dump or h5ls print of a dataset."""
    text = re.split(r"DATA \{|Data:", text)[1].split("}")[0]
    return np.fromstring(re.sub(r"\(\d+(,\d+)*\):|,", " ", text), np.float64, sep=" ")


def by_python(code: str, folder: Path, split: Split) -> Columns:
    """Of any Python library: the arrays themselves."""
    kept = folder.parent / "seen.npz"
    script = f"{code}\nimport numpy\nnumpy.savez({str(kept)!r}, images=images, labels=labels)"
    said([sys.executable, "-W", "ignore", "-c", script], folder)
    with np.load(kept) as seen:
        return seen["images"], seen["labels"]


def by_h5dump(code: str, folder: Path, split: Split) -> Columns:
    """Labels as text, images as the raw file that it writes; the first also as text."""
    header, labels, first, _ = console(code, folder)
    raw = np.fromfile(Path("~/images.raw").expanduser(), split.dtype)
    images = raw.reshape(-1, *split.shape[1:])
    assert f"( {', '.join(map(str, images.shape))} )" in header
    assert same(numbers(first).astype(split.dtype), images[0].ravel())
    return images, numbers(labels).astype(np.int64)


def by_h5ls(code: str, folder: Path, split: Split) -> Columns:
    """Return all as text."""
    names, labels, images = console(code, folder)
    shape = (len(numbers(labels)), *split.shape[1:])
    assert f"{{{', '.join(map(str, shape))}}}" in names
    return numbers(images).reshape(shape), numbers(labels).astype(np.int64)


def by_octave(code: str, folder: Path, split: Split) -> Columns:
    """Octave's numbers, written column by column, and the sizes that it gives them."""
    raw, script = folder.parent / "seen.raw", folder.parent / "script.m"
    script.write_text(
        f'{code}\nfile = fopen("{raw}", "w"); fwrite(file, images, "double"); fclose(file);'
        'printf("\\n%s", jsonencode({size(images), labels}));'
    )
    printed = said(["octave-cli", "--quiet", str(script)], folder)
    sizes, labels = json.loads(printed.splitlines()[-1])
    shape = (len(labels), *split.shape[1:])
    assert np.array_equal(sizes, shape[: len(sizes)])  # without a last 1
    assert np.prod(shape) == np.prod(sizes)
    return np.fromfile(raw).reshape(shape, order="F"), np.array(labels)


def node_packages() -> Path | None:
    """Return where npm installs packages for all programs; None without it."""
    if which("npm") is None:
        return None
    return Path(execute(["npm", "root", "-g"]).stdout.strip())


def node(code: str, folder: Path) -> str:
    """Return what a module for Node prints, that is run in an entry's folder."""
    place, packages = folder.parent / "node", node_packages()
    assert packages is not None
    place.mkdir(exist_ok=True)
    if not (place / "node_modules").exists():
        (place / "node_modules").symlink_to(packages)
    (place / "script.mjs").write_text(code)
    return said(["node", str(place / "script.mjs")], folder)


def by_node(code: str, folder: Path, split: Split) -> Columns:
    """Numbers of JavaScript, images as doubles in a file."""
    raw = folder.parent / "seen.raw"
    epilogue = f"""
import out from "node:fs";
out.writeFileSync({json.dumps(str(raw))}, new Float64Array(images.value));
console.log(JSON.stringify([images.shape, Array.from(labels.value, Number)]));
"""
    printed = node(code + epilogue, folder)
    shape, labels = json.loads(printed.splitlines()[-1])
    return np.fromfile(raw).reshape(shape), np.array(labels)


def by_r(code: str, folder: Path, split: Split) -> Columns:
    """R's numbers, written column by column, and the sizes that it gives them."""
    raw, script = folder.parent / "seen.raw", folder.parent / "script.R"
    script.write_text(
        f'{code}\nwriteBin(as.vector(images), "{raw}")\n'
        'cat("\\n", dim(images), "\\n", labels, "\\n")'
    )
    printed = said(["Rscript", str(script)], folder).splitlines()
    shape, labels = (np.array(line.split(), float).astype(int) for line in printed[-2:])
    return np.fromfile(raw).reshape(shape, order="F"), labels


@dataclass(frozen=True)
class Reader:
    """A reader of the page: what it needs, whether that is heavy, and how its snippet is run."""

    needs: str
    long: bool = True
    read: Callable[[str, Path, Split], Columns] = by_python


READERS = {
    "h5py": Reader("h5py", long=False),
    "h5dump": Reader("h5dump", long=False, read=by_h5dump),
    "h5ls": Reader("h5ls", long=False, read=by_h5ls),
    "GNU Octave": Reader("octave-cli", read=by_octave),
    "Hugging Face datasets": Reader("datasets"),
    "PyTables": Reader("tables"),
    "xarray": Reader("h5netcdf"),
    "pyfive": Reader("pyfive"),
    "netCDF4": Reader("netCDF4"),
    "virtualizarr": Reader("virtualizarr"),
    "jsfive": Reader("jsfive", read=by_node),
    "h5wasm": Reader("h5wasm", read=by_node),
    "hdf5r": Reader("hdf5r", read=by_r),
}
WITHOUT_FLOAT16 = ("netCDF4", "h5wasm")
FEEDS = {
    "Keras": (Reader("tensorflow", long=False), "weights = model.get_weights()[0]"),
    "PyTorch": (Reader("torch"), "weights = weights.detach()"),
    "JAX": (Reader("jax"), ""),
}


def cases(readers: dict[str, Reader]) -> list[Any]:
    """Return a test each; of the heavy ones only in the long run."""
    marks = {name: pytest.mark.long if reader.long else () for name, reader in readers.items()}
    return [pytest.param(name, marks=marks[name], id=name) for name in readers]


def require(reader: Reader) -> None:
    """Skip where it is not installed."""
    if reader.read is by_node:
        packages = node_packages()
        found = packages is not None and (packages / reader.needs).exists()
    elif reader.read is by_r:
        found = which("Rscript") is not None
        found = found and not execute(["Rscript", "-e", f"library({reader.needs})"]).returncode
    else:
        found = bool(which(reader.needs) or find_spec(reader.needs))
    if not found:
        pytest.skip(f"{reader.needs} is not installed")


def same(a: Array, b: Array) -> bool:
    """Return whether shape and every value are equal, whatever type the reader has for them."""
    wide = np.result_type(a, b)
    return a.shape == b.shape and a.astype(wide).tobytes() == b.astype(wide).tobytes()


def six_digits(values: Array) -> Array:
    """Return the values as they are printed with six digits."""
    each, places = np.unique(values, return_inverse=True)
    return np.array([float(f"{value:g}") for value in each])[places].reshape(values.shape)


def files(split: Split) -> Iterator[tuple[Path, Columns]]:
    """Yield each file of a split, and what is in it."""
    first = 0
    for part in split._files:
        rows = slice(first, first + part.rows)
        first += part.rows
        yield part.path, (split.read(rows.start, rows.stop), split.labels[rows])


def about(code: str, file: Path, split: Split) -> str:
    """Return a snippet, but about this file and images of this shape."""
    code = re.sub(r"\b(train|test)\.h5", file.name, code)
    return code.replace("1,28,28,1", ",".join(map(str, (1, *split.shape[1:]))))


def check(name: str, code: str, split: Split, wanted: Columns) -> None:
    """Check that a snippet, run in the entry's folder, sees these images and labels."""
    images, labels = READERS[name].read(code, split._files[0].path.parent, split)
    assert same(images, six_digits(wanted[0]) if name == "h5ls" else wanted[0])
    assert same(labels, wanted[1])


# What the page says


def test_every_snippet_is_run_and_is_in_the_table() -> None:
    """Snippets, rows of the table, and tests have the same names, in the same order."""
    rows = re.findall(r"^\| ([^|]+?) \| ", SECTION, re.M)
    table = rows[rows.index("reader") + 1 : rows.index("compression")]
    assert list(SNIPPETS) == table == [*READERS, *FEEDS]
    assert len(re.findall(r"^### ", SECTION, re.M)) == len(SNIPPETS)
    assert len(re.findall(r"^ *```", SECTION, re.M)) == 2 * len(SNIPPETS)


@pytest.mark.parametrize("name", cases(READERS))
def test_every_value_is_seen(name: str) -> None:
    """The snippet as it stands, in the folder of grey images as `sample` has, is left as it was."""
    require(READERS[name])
    entry = pixelprep.prepare(arrays(40, 20, (28, 28, 1)))
    before = bytes_of(entry.path)
    check(name, SNIPPETS[name], entry.train, entry.train.to_numpy())
    assert bytes_of(entry.path) == before


@pytest.mark.parametrize("name", cases(READERS))
def test_every_file_of_colour_images_is_seen(name: str) -> None:
    """float16 RGB images, packed by gzip, train and test in several files each."""
    require(READERS[name])
    source, dtype = arrays(40, 20, (6, 5, 3)), "float16"
    if name in WITHOUT_FLOAT16:
        dtype = "float32"
    entry = pixelprep.prepare(source, dtype=dtype, compression="gzip", shard_rows=16)
    for split in entry.splits.values():
        for file, wanted in files(split):
            check(name, about(SNIPPETS[name], file, split), split, wanted)


@pytest.mark.long
def test_datasets_has_both_splits() -> None:
    """Hugging Face's test split is ours."""
    name = "Hugging Face datasets"
    require(READERS[name])
    entry = pixelprep.prepare("sample")
    code = SNIPPETS[name].replace('["train"]', '["test"]')
    check(name, code, entry.test, entry.test.to_numpy())


# The committed examples


DUMP_BY_PYFIVE = """
import json, sys, pyfive
def plain(x):
    if isinstance(x, list):
        return [plain(y) for y in x]
    return x.decode() if isinstance(x, bytes) else x
with pyfive.File(sys.argv[1]) as file:
    print(json.dumps({name: plain(file[name][:].tolist()) for name in file}))
"""
DUMP_BY_NODE = {
    "jsfive": """
import fs from "node:fs";
import * as hdf5 from "jsfive";
const { buffer, byteOffset, length } = fs.readFileSync(FILE);
const file = new hdf5.File(buffer.slice(byteOffset, byteOffset + length), FILE);
""",
    "h5wasm": """
import h5wasm from "h5wasm/node";
await h5wasm.ready;
const file = new h5wasm.File(FILE, "r");
""",
}
DUMP = """
const plain = (x) => typeof x === "bigint" ? Number(x) : x;
const names = typeof file.keys === "function" ? file.keys() : file.keys;
const seen = names.map((name) => {
  try { return [name, Array.from(file.get(name).value, plain)]; }
  catch (error) { return [name, String(error)]; }
});
console.log(JSON.stringify(Object.fromEntries(seen)));
"""


@pytest.mark.long
@pytest.mark.parametrize("name", ["pyfive", "jsfive", "h5wasm"])
def test_every_column_of_the_committed_examples_is_seen(name: str, tmp_path: Path) -> None:
    """Of float32 and float16, raw and scaled, of one and several labels, with names, with own val,
    without test, per image, packed by gzip; h5wasm has no float16, and says so.
    """
    require(READERS[name])
    count = 0
    for path in sorted((ROOT / "data" / "format-1").glob("*/*.h5")):
        if name == "pyfive":
            printed = said([sys.executable, "-c", DUMP_BY_PYFIVE, str(path)], tmp_path)
        else:
            begin = DUMP_BY_NODE[name].replace("FILE", json.dumps(str(path)))
            (tmp_path / "in").mkdir(exist_ok=True)
            printed = node(begin + DUMP, tmp_path / "in")
        seen = json.loads(printed)
        with h5py.File(path) as file:
            assert seen.keys() == set(file)
            for column, dataset in file.items():
                if name == "h5wasm" and dataset.dtype == np.float16:
                    assert "Float16" in seen[column]
                    continue
                stored = dataset[:]
                flat = [one.decode() for one in stored] if stored.dtype.kind == "S" else stored
                assert np.array(seen[column]).ravel().tolist() == np.array(flat).ravel().tolist()
                count += 1
    assert count > 30


# The table of compressions


def cells(compression: str) -> list[str]:
    """Return the row of a compression: who reads it, who with plugins, who never."""
    (row,) = re.findall(rf"^\| [^|]*`{compression}`[^|]* \| (.*) \|$", SECTION, re.M)
    return [cell.strip() for cell in row.split("|")]


def listed(cell: str) -> set[str]:
    """Return the readers that a cell names."""
    return set(READERS if cell == "all but the frameworks" else cell.split(", ")) - {"—"}


def test_the_table_has_every_compression() -> None:
    """Each has a row, in which every reader is once; none and gzip, read above, need no plugin."""
    for compression in COMPRESSIONS:
        assert sorted(one for cell in cells(compression) for one in listed(cell)) == sorted(READERS)
    assert cells("none") == cells("gzip") == ["all but the frameworks", "—", "—"]


@pytest.mark.parametrize("compression", [c for c in COMPRESSIONS if c not in ("none", "gzip")])
@pytest.mark.parametrize("name", cases(READERS))
def test_the_table_of_compressions_is_right(
    name: str, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the table says is read is read, and the rest is not: with plugins, and without."""
    require(READERS[name])
    hdf5plugin = pytest.importorskip("hdf5plugin", reason="hdf5plugin is not installed")
    split = pixelprep.prepare(arrays(), compression=compression).train
    ((file, wanted),) = files(split)
    code = about(SNIPPETS[name], file, split)
    without, with_plugins, _ = map(listed, cells(compression))
    for plugins, readers in (("/", without), (hdf5plugin.PLUGINS_PATH, without | with_plugins)):
        monkeypatch.setenv("HDF5_PLUGIN_PATH", plugins)
        if name in readers:
            check(name, code, split, wanted)
        else:
            with pytest.raises((AssertionError, ValueError)):
                check(name, code, split, wanted)


# Training


def learnt(entry: Entry) -> Array:
    """Return the weights of a softmax regression after one epoch of descent, by NumPy alone."""
    weights = np.zeros((784, 10))
    for images, labels in entry.train.batches(64, shuffle=True):
        x = images.reshape(len(images), -1).astype(np.float64)
        grown = np.exp(x @ weights)
        wrong = grown / grown.sum(1, keepdims=True) - np.eye(10)[labels]
        weights -= 0.01 * x.T @ wrong / len(x)
    return weights


@pytest.mark.parametrize("name", cases({name: reader for name, (reader, _) in FEEDS.items()}))
def test_a_framework_learns_what_numpy_learns(name: str) -> None:
    """After the snippet's epoch the weights are those that the same batches teach NumPy."""
    reader, epilogue = FEEDS[name]
    require(reader)
    seen: dict[str, Any] = {}
    exec(f"{SNIPPETS[name]}\n{epilogue}", seen)
    # One image left out, or one wrong label, moves them by 4·10⁻⁴.
    wanted = learnt(pixelprep.prepare("sample"))
    assert np.allclose(seen["weights"], wanted, rtol=0, atol=1e-5)
