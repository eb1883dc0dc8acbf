"""A split by number: rows as NumPy's arrays have them, read from files that stay open."""

import os
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pixelprep
from pixelprep.dataset import rows
from pixelprep.dataset.entry import Entry
from tests.helpers.data import arrays
from tests.helpers.packages import ROOT
from tests.helpers.process import execute
from tests.helpers.reference import same

ROWS = 300


@pytest.fixture(scope="module", params=["none", "gzip", "raw", "per image"])
def entry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """Return images in files of 45 rows, stored in each way that is read in another."""
    options: dict[str, Any] = {"raw": {"storage": "raw"}, "per image": {"per": "image"}}
    chosen = options.get(request.param, {"compression": request.param})
    cache = tmp_path_factory.mktemp("cache")
    return pixelprep.prepare(arrays(ROWS), shard_rows=45, cache_dir=cache, **chosen)


def check(entry: Entry, index: Any) -> None:
    """Check that the split gives what NumPy does of all of it in memory."""
    images, labels = entry.train[index]
    in_memory, all_labels = entry.train.to_numpy()
    index = np.asarray(index, int) if isinstance(index, list) else index
    assert same(images, in_memory[index])
    assert np.array_equal(labels, all_labels[index])
    assert labels.dtype == np.int64


BOUND = st.none() | st.integers(-ROWS - 5, ROWS + 5)


@settings(max_examples=25)
@given(
    index=st.integers(-ROWS, ROWS - 1)
    | st.builds(slice, BOUND, BOUND, BOUND.filter(lambda step: step != 0))
    | st.lists(st.integers(-ROWS, ROWS - 1), max_size=9)
)
def test_rows_are_those_of_an_array(entry: Entry, index: Any) -> None:
    """One row, a slice with any step, and numbers in any order, repeated or negative, are what
    NumPy gives of the whole split in memory.
    """
    check(entry, index)


def test_arrays_choose_rows(entry: Entry) -> None:
    """Arrays of whole numbers of any type, and of a truth a row, choose rows."""
    check(entry, np.array([7, 7, 250], np.uint16))
    check(entry, np.array(-3))
    check(entry, entry.train.labels == 2)


def test_all_rows_come_in_turn(entry: Entry) -> None:
    """A loop over a split gives every row, (H, W, C) and a whole number, in file order."""
    images, labels = zip(*entry.train, strict=True)
    assert same(np.stack(images), entry.train.to_numpy()[0])
    assert list(labels) == entry.train.labels.tolist()
    assert type(labels[0]) is np.int64


@pytest.mark.parametrize("index", [ROWS, -ROWS - 1, [0, ROWS], np.array([-ROWS - 1])])
def test_a_row_that_there_is_not_is_an_index_error(entry: Entry, index: Any) -> None:
    """What is out of range raises an IndexError, at which loops over numbers end, in one line."""
    with pytest.raises(IndexError, match=r"^row -?30\d: expected one of 300 rows$"):
        entry.train[index]


@pytest.mark.parametrize("index", [True, 1.0, [1.0], "images", None, (0, 1), [[0]], [True]])
def test_what_is_no_number_is_refused(entry: Entry, index: Any) -> None:
    """A truth alone, a float, a name, two axes: one line says what is expected."""
    with pytest.raises(pixelprep.UsageError, match="expected a number, a slice, or a list"):
        entry.train[index]


def test_rows_of_several_classes_have_them_all(tmp_path: Path) -> None:
    """Of several classes a row, a label is the row of uint8 that `labels` has."""
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2)
    several = np.eye(6, 3, dtype=np.uint8)
    source = pixelprep.Arrays("several", (images, several), task="multilabel")
    train = pixelprep.prepare(source, cache_dir=tmp_path).train
    assert train[1][1].tolist() == [0, 1, 0]
    assert (train[[2, 0]][1] == several[[2, 0]]).all()


def open_files() -> int:
    """Return how many files this process has open."""
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - a count


def test_files_stay_open_between_reads_and_no_longer() -> None:
    """Reading rows opens each file once; they are closed when the split is gone."""
    before = open_files()
    train = pixelprep.prepare(arrays(ROWS), shard_rows=100).train
    train[[0, 100, 299]]
    during = open_files()
    assert during == before + 4  # three files, and the lock that tells of the use
    for row in range(0, ROWS, 7):
        train[row]
    assert open_files() == during
    del train
    assert open_files() == before


def test_an_entry_that_was_rebuilt_is_read_on() -> None:
    """Rows of a damaged file are not read; of the files that take its place, they are."""
    entry = pixelprep.prepare(arrays(ROWS))
    images, _ = entry.train[3]
    [file] = entry.path.glob("train*.h5")
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(pixelprep.EntryError, match="was changed after it was checked"):
        entry.train[3]
    pixelprep.prepare(arrays(ROWS), force=True)
    assert same(entry.train[3][0], images)


def test_kept_chunks_are_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of compressed images no more unpacked bytes are kept than `RECENT_BYTES`, the latest."""
    entry = pixelprep.prepare(arrays(ROWS), compression="gzip", shard_rows=30)
    size = 30 * 6 * 5 * 3 * 4
    monkeypatch.setattr(rows, "RECENT_BYTES", 3 * size)
    for row in range(0, ROWS, 10):
        check(entry, row)
    kept = entry.train._rows._kept
    assert kept is not None
    recent = kept.files.recent
    assert recent is not None
    assert recent.used == sum(map(len, recent.chunks.values())) == 3 * size
    assert [path.name for path, _, _ in recent.chunks] == [
        f"train-{number:05}-of-00010.h5" for number in (7, 8, 9)
    ]


def test_threads_read_the_right_rows(entry: Entry) -> None:
    """Several threads that read one split at the same time each get their rows."""
    wrong: list[BaseException] = []

    def read(seed: int) -> None:
        try:
            random = np.random.default_rng(seed)
            for _ in range(20):
                check(entry, random.integers(0, ROWS, 9))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


PROCESSES = """
import multiprocessing, sys
sys.path.insert(0, sys.argv[2])
import pixelprep

def read(split):
    images, labels = split[[200, 3, 3]]
    return images.tobytes(), labels.tolist(), [int(label) for _, label in split]

if __name__ == "__main__":
    split = pixelprep.open(sys.argv[1]).train
    wanted = read(split)  # its files are open when it is forked
    with multiprocessing.get_context(sys.argv[3]).Pool(2) as pool:
        assert pool.map(read, [split] * 4) == [wanted] * 4
    print("fine")
"""
STARTS = [
    "fork",
    *(pytest.param(start, marks=pytest.mark.long) for start in ("spawn", "forkserver")),
]


@pytest.mark.parametrize("start", STARTS)
def test_a_split_goes_to_other_processes(tmp_path: Path, start: str) -> None:
    """A split is a few kB when pickled, read or not, and gives the same rows in processes that are
    forked, spawned or come from a fork server.
    """
    entry = pixelprep.prepare(arrays(ROWS), shard_rows=100, compression="gzip", cache_dir=tmp_path)
    entry.train[0]
    assert len(pickle.dumps(entry.train)) < 4096
    script = tmp_path / "script.py"
    script.write_text(PROCESSES)
    done = execute([sys.executable, *map(str, (script, entry.path, ROOT, start))])
    assert done.stdout == "fine\n", done.stderr
