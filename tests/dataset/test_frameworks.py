"""Feeds hand on the batches of `batches`, bit for bit, in every framework."""

import sys
from pathlib import Path

import numpy as np
import pytest

import pixelprep
from pixelprep.dataset.entry import Entry
from pixelprep.installation import install_command
from tests.helpers.data import arrays
from tests.helpers.packages import ROOT
from tests.helpers.process import execute
from tests.helpers.reference import same

ROWS = 500


@pytest.fixture
def entry() -> Entry:
    """Return several files of several rows."""
    return pixelprep.prepare(arrays(ROWS, 20, (6, 5, 1)), shard_rows=64)


def rows(feed: object) -> list[bytes]:
    """Return every image that a feed delivers in one pass, with its label."""
    return [
        np.asarray(image).tobytes() + bytes([int(label)])
        for images, labels in feed  # type: ignore[attr-defined] # iterable
        for image, label in zip(np.asarray(images), np.asarray(labels), strict=True)
    ]


@pytest.mark.long
@pytest.mark.parametrize(("name", "labelled"), [("jax", "int32"), ("torch", "int64")])
def test_passes_are_the_epochs(entry: Entry, name: str, labelled: str) -> None:
    """Each pass over `to_jax`, and `to_torch` without workers, is the next epoch of `batches`."""
    framework = pytest.importorskip(name, reason=f"the extra `{name}` is not installed")
    kind = framework.Tensor if name == "torch" else framework.Array
    feed = getattr(entry.train, f"to_{name}")(64, shuffle=True, seed=3)
    for epoch in (0, 1, 2):
        expected = entry.train.batches(64, shuffle=True, seed=3, epoch=epoch)
        for (images, labels), (x, y) in zip(feed, expected, strict=True):
            assert isinstance(images, kind)
            assert np.asarray(labels).dtype == labelled
            assert same(np.asarray(images), x)
            assert (np.asarray(labels) == y).all()


WORKERS = """
import sys
sys.path.insert(0, sys.argv[3])
import pixelprep
from tests.dataset.test_frameworks import rows
from torch.utils.data import DataLoader

if __name__ == "__main__":
    entry = pixelprep.open(sys.argv[1])
    wanted = sorted(rows(entry.train.batches(64)))
    feed = entry.train.to_torch(16, shuffle=True)
    next(iter(feed))  # a look in this process, then loaders of other sizes
    orders = []
    for workers in (2, 4, 1, 0, 2):
        loader = DataLoader(
            feed, batch_size=None, num_workers=workers,
            multiprocessing_context=sys.argv[2] if workers else None,
        )
        orders.append(rows(loader))
        assert sorted(orders[-1]) == wanted, f"not every row once with {workers} workers"
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i]), "the same order again"
    for persistent in (False, True):
        loader = DataLoader(
            entry.train.to_torch(16, shuffle=True), batch_size=None, num_workers=2,
            multiprocessing_context=sys.argv[2], persistent_workers=persistent,
        )
        passes = [rows(loader) for _ in range(3)]
        assert all(sorted(found) == wanted for found in passes), "not every row once"
        assert passes[0] != passes[1] != passes[2] != passes[0], "the same order again"
    print("fine")
"""


@pytest.mark.long
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_torch_workers_share_the_rows(entry: Entry, tmp_path: Path, start: str) -> None:
    """With two workers, forked or spawned, kept or not: every row once, a new order each epoch."""
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    script = tmp_path / "script.py"
    script.write_text(WORKERS)
    command = [sys.executable, *map(str, (script, entry.path, start, ROOT))]
    done = execute(command)
    assert done.stdout == "fine\n", done.stderr


DISTURBED = """
import sys, time
sys.path.insert(0, sys.argv[3])
import pixelprep, torch
from tests.dataset.test_frameworks import rows
from torch.utils.data import DataLoader

def wait(worker):
    time.sleep(0.2 * worker)

if __name__ == "__main__":
    entry = pixelprep.open(sys.argv[1])
    wanted = sorted(rows(entry.train.batches(64)))
    loader = DataLoader(
        entry.train.to_torch(16, shuffle=True), batch_size=None, num_workers=2,
        multiprocessing_context=sys.argv[2], worker_init_fn=wait,
    )
    for _ in loader:
        break
    passes = []
    for _ in range(2):
        torch.manual_seed(0)
        passes.append(iter(loader))
    orders = [rows([next(one), *one]) for one in passes]
    assert [sorted(order) == wanted for order in orders] == [True, True]
    assert orders[0] != orders[1]
    print("fine")
"""


@pytest.mark.long
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_torch_workers_agree_on_the_pass(entry: Entry, tmp_path: Path, start: str) -> None:
    """Every row comes once, whatever the workers' timing: after a pass that was broken off, perhaps
    before a worker had begun, in two passes at a time, and with one seed for all of them.
    """
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    script = tmp_path / "script.py"
    script.write_text(DISTURBED)
    command = [sys.executable, *map(str, (script, entry.path, start, ROOT))]
    done = execute(command)
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.parametrize(
    ("module", "method", "extra"),
    [
        ("tensorflow", "to_tf", "train"),
        ("torch", "to_torch", "torch"),
        ("jax", "to_jax", "jax"),
        ("keras", "to_keras", "keras"),
    ],
)
def test_a_missing_framework_is_named(
    entry: Entry, monkeypatch: pytest.MonkeyPatch, module: str, method: str, extra: str
) -> None:
    """Where a framework is not installed, the error names the extra to install."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"pixelprep.dataset.{module}", raising=False)
    with pytest.raises(pixelprep.MissingExtraError) as caught:
        getattr(entry.train, method)(64)
    assert caught.value.hint == install_command(extra)
