"""In which form feeds hand out images and labels, and that it is theirs who took it."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep.dataset.entry import Split
from pixelprep.dataset.memory import LARGE_BYTES
from pixelprep.dataset.rows import Rows
from tests.helpers.data import arrays
from tests.helpers.packages import ROOT
from tests.helpers.process import execute
from tests.helpers.reference import same

ROWS = 300


@pytest.fixture
def train() -> Split:
    """Return images of four classes, in several files."""
    return pixelprep.prepare(arrays(ROWS), shard_rows=45).train


@pytest.fixture
def several() -> Split:
    """Return images of up to three classes each."""
    images = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)
    labels = np.array([[1, 0, 1], [0, 1, 0]] * 3, np.uint8)
    return pixelprep.prepare(pixelprep.Arrays("several", (images, labels), task="multilabel")).train


def feed_of(split: Split, name: str) -> Any:
    """Return what makes a feed, where its framework is installed."""
    pytest.importorskip({"tf": "tensorflow"}.get(name, name), reason=f"{name} is not installed")
    return getattr(split, f"to_{name}")


@pytest.mark.parametrize(
    "name", [pytest.param("keras", marks=pytest.mark.long), "tf", "torch", "jax"]
)
def test_each_feed_turns_axes_and_labels(train: Split, several: Split, name: str) -> None:
    """Pixel (i, h, w, c) is at (i, c, h, w) with `nchw`; `onehot` is 1 at the label, else 0, and
    `multihot` what is stored, as float32.
    """
    feed = feed_of(train, name)(64, shuffle=True, layout="nchw", labels="onehot")
    for (images, hot), (x, y) in zip(feed, train.batches(64, shuffle=True), strict=True):
        assert same(np.ascontiguousarray(np.asarray(images).transpose(0, 2, 3, 1)), x)
        hot = np.asarray(hot)
        assert hot.dtype == np.float32
        assert hot.shape == (len(x), 4)
        assert (hot == (y[:, None] == np.arange(4))).all()
    [(_, hot)] = feed_of(several, name)(6, labels="multihot")
    assert np.asarray(hot).dtype == np.float32
    assert (np.asarray(hot) == several.labels).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "chw"}, "unknown `layout` 'chw': expected one of nhwc, nchw"),
        ({"labels": "one"}, "unknown `labels` 'one': expected one of int, onehot, multihot"),
        ({"labels": "multihot"}, "`labels=multihot`: expected several classes a row, found one"),
        ({"batch": 1}, "unexpected keyword argument 'batch'"),
    ],
)
def test_forms_that_do_not_fit_are_refused(
    train: Split, several: Split, options: dict[str, Any], message: str
) -> None:
    """A form that there is not, or not of these labels, is told in one line before any batch."""
    with pytest.raises((pixelprep.UsageError, TypeError), match=message):
        train._feed(64, options)  # type: ignore[arg-type] # that is tried
    for labels in ("int", "onehot"):
        with pytest.raises(pixelprep.UsageError, match="expected one class a row, found several"):
            several._feed(64, {"labels": labels})


def test_nchw_is_a_view_in_pytorch(train: Split) -> None:
    """Images of `nchw` are what `permute` makes of the batch: channels last in memory."""
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    [(images, labels)] = train.to_torch(ROWS, layout="nchw")
    assert images.shape == (ROWS, 3, 6, 5)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert not images.is_contiguous()
    assert labels.dtype == torch.int64


def test_type_and_device_are_those_that_are_asked_for(
    train: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dtype` is that of the images, labels keep their own; `device` has both. Workers cannot hand
    over what is on a device.
    """
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    images, labels = next(iter(train.to_torch(9, dtype=torch.bfloat16, device="meta")))
    assert (images.dtype, labels.dtype) == (torch.bfloat16, torch.int64)
    assert (images.device.type, labels.device.type) == ("meta", "meta")
    assert train.as_torch(dtype=torch.float64)[0][0].dtype == torch.float64
    with pytest.raises(pixelprep.UsageError, match=r"`dtype='half'`: expected a torch\.dtype"):
        train.as_torch(dtype="half")
    worker = SimpleNamespace(id=0, num_workers=1)
    monkeypatch.setattr("pixelprep.dataset.torch.get_worker_info", lambda: worker)
    with pytest.raises(pixelprep.UsageError, match="`device=cpu`: expected no DataLoader workers"):
        next(iter(train.to_torch(9, device="cpu")))


def test_jax_takes_a_type(train: Split) -> None:
    """`dtype` is that of the images, labels stay int32."""
    jax = pytest.importorskip("jax", reason="the extra `jax` is not installed")
    images, labels = next(iter(train.to_jax(9, dtype=jax.numpy.bfloat16)))
    assert (images.dtype, labels.dtype) == (jax.numpy.bfloat16, np.int32)


@pytest.mark.parametrize("storage", ["scaled", "raw"])
@pytest.mark.parametrize("name", ["keras", "tf", "torch", "jax"])
def test_what_was_handed_out_is_not_written_again(name: str, storage: str) -> None:
    """All batches of two epochs that are held at once are still right: TensorFlow and JAX share
    memory that begins at a multiple of 64 bytes, which large batches do.
    """
    source = arrays(ROWS, shape=(32, 32, 3))
    train = pixelprep.prepare(source, storage=storage).train
    feed = feed_of(train, name)(100, shuffle=True)
    held = []
    for _ in range(2):
        held += list(feed)
        if name == "keras":
            feed.on_epoch_end()
    assert np.asarray(held[0][0]).nbytes > LARGE_BYTES
    wanted = [batch for e in (0, 1) for batch in train.batches(100, shuffle=True, epoch=e)]
    for (images, labels), (x, y) in zip(held, wanted, strict=True):
        assert same(np.asarray(images), x)
        assert (np.asarray(labels) == y).all()


LOADERS = """
import sys, warnings
sys.path.insert(0, sys.argv[2])
import pixelprep, torch
from torch.utils.data import DataLoader, Subset, WeightedRandomSampler, random_split
from tests.dataset.test_frameworks import rows

if __name__ == "__main__":
    warnings.simplefilter("error")
    split = pixelprep.open(sys.argv[1]).train
    wanted = sorted(rows(split.batches(64)))
    data = split.as_torch()
    workers = {"multiprocessing_context": sys.argv[3], "num_workers": 2} if sys.argv[3:] else {}
    kept = [{"persistent_workers": True}] if workers else []
    slow = sys.argv[3:] in (["spawn"], ["forkserver"])
    for options in kept if slow else [{}, *kept]:
        loader = DataLoader(data, batch_size=16, shuffle=True, **workers, **options)
        for _ in loader:
            break
        passes = [rows(loader) for _ in range(2)]
        assert [sorted(one) for one in passes] == [wanted] * 2, "not every row once"
        assert passes[0] != passes[1]
        if not options:  # of kept workers PyTorch has one iterator
            one, other = iter(loader), iter(loader)
            turns = [next(which) for _ in range(len(loader)) for which in (one, other)]
            assert sorted(rows(turns[::2])) == sorted(rows(turns[1::2])) == wanted
    if slow:
        sys.exit(print("fine"))
    whole = rows(DataLoader(data, batch_size=16, **workers))
    assert whole == rows(split.batches(16))
    chosen = [7, 7, 299, 0]
    found = rows(DataLoader(Subset(data, chosen), batch_size=3, **workers))
    assert found == [whole[i] for i in chosen]
    parts = random_split(data, [100, 200], torch.Generator().manual_seed(0))
    found = [row for part in parts for row in rows(DataLoader(part, batch_size=64, **workers))]
    assert sorted(found) == wanted
    only = WeightedRandomSampler([float(i == 5) for i in range(300)], 40)
    assert set(rows(DataLoader(data, batch_size=16, sampler=only, **workers))) == {whole[5]}
    feed = split.to_torch(16, shuffle=True)
    assert sorted(rows(DataLoader(feed, batch_size=None, **workers))) == wanted
    print("fine")
"""
STARTS = [
    [],
    *(pytest.param([s], marks=pytest.mark.long, id=s) for s in ("fork", "spawn", "forkserver")),
]


@pytest.mark.parametrize("start", STARTS)
def test_loaders_give_every_row(tmp_path: Path, start: list[str]) -> None:
    """PyTorch's loaders, samplers and subsets give the rows that they ask for, in this process or
    in workers that are forked, spawned or come from a fork server, kept or not: after a pass that
    was broken off, and in two passes at a time. No warning is given.
    """
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    entry = pixelprep.prepare(arrays(ROWS), shard_rows=45)
    script = tmp_path / "script.py"
    script.write_text(LOADERS)
    done = execute([sys.executable, *map(str, (script, entry.path, ROOT)), *start])
    assert done.stdout == "fine\n", done.stderr


def test_a_loader_reads_a_batch_at_once(train: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch asks for the rows of a batch together, and they are read in one call."""
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    asked = list[int]()
    read = Rows.select

    def select(rows: Rows, numbers: Any) -> Any:
        asked.append(len(numbers))
        return read(rows, numbers)

    monkeypatch.setattr(Rows, "select", select)
    for _ in torch.utils.data.DataLoader(train.as_torch(), batch_size=100, shuffle=True):
        pass
    assert asked == [100, 100, 100]


def test_states_and_indices_that_do_not_fit_are_told(train: Split) -> None:
    """What differs is named, and only that; states are looked at when they are made, too."""
    batches = train.batches(8, shuffle=True, seed=5)
    for wrong, message in (
        ({**batches.state(1), "seed": 6}, "cannot resume: the state is of seed 6, expected 5$"),
        ({**batches.state(1), "data": "x"}, "the state is of data x, expected [0-9a-f]*"),
        ("{}", r"expected the state of a pass, got str"),
        (None, "expected the state of a pass, got NoneType"),
    ):
        with pytest.raises(pixelprep.UsageError, match=message):
            batches.resume(wrong)  # type: ignore[arg-type] # that is tried
    for number in (-1, len(batches) + 1, True, 1.5):
        with pytest.raises(pixelprep.UsageError, match="`batch="):
            batches.state(number)  # type: ignore[arg-type] # that is tried
    with pytest.raises(pixelprep.UsageError, match="rows by a tuple"):
        train[(1, 2)]


def test_rows_of_pytorch_are_read_together(train: Split) -> None:
    """A slice or a list of numbers gives images and labels, as a sampler of batches asks for."""
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    rows = train.as_torch()
    for index in ([3, 1], slice(2, 5), torch.tensor([1, 2])):
        images, labels = rows[index]
        wanted = train[index.tolist() if hasattr(index, "tolist") else index]
        assert same(images.numpy(), wanted[0])
        assert labels.tolist() == wanted[1].tolist()


def test_a_feed_without_a_batch_is_told(train: Split) -> None:
    """It is empty, and a line says so; Keras, which fails on it, is refused."""
    with pytest.warns(pixelprep.PixelprepWarning, match="the feed has no batch"):
        train._feed(1000, {"drop_last": True})


def test_grain_goes_on_where_it_was(train: Split) -> None:
    """Grain's own state, moved to a pipeline that is made again, gives the batches that would have
    come.
    """
    grain = pytest.importorskip("grain", reason="the extra `bench` is not installed")

    def pipeline() -> Any:
        data = grain.MapDataset.source(train).shuffle(seed=3).batch(7).to_iter_dataset()
        return iter(data)

    passing = pipeline()
    for _ in range(3):
        next(passing)
    again = pipeline()
    again.set_state(passing.get_state())
    rest = list(passing)
    assert len(rest) == -(-len(train) // 7) - 3
    for one, other in zip(rest, again, strict=True):
        assert all(map(same, one, other))
