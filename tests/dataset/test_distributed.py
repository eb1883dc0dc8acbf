"""Real processes that train together, each on its shard, and real ones that are killed."""

import json
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep.dataset.entry import Entry
from tests.helpers.data import arrays
from tests.helpers.packages import ROOT
from tests.helpers.process import Process, execute

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """Return several files of several rows, of no whole number of batches."""
    cache = tmp_path_factory.mktemp("cache")
    return pixelprep.prepare(arrays(331, 20, (6, 5, 1)), shard_rows=64, cache_dir=cache, quiet=True)


def run(program: str, folder: Path, *arguments: object, **environment: str) -> str:
    """Run a program of this file in a folder; return what it prints."""
    script = folder / "program.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{program}")
    done = execute([sys.executable, script, *map(str, arguments)], cwd=folder, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


DDP = """
import json, os, warnings
import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
import pixelprep

def train(rank, world, path):
    torch.set_num_threads(1)
    warnings.simplefilter("error", pixelprep.PixelprepWarning)
    dist.init_process_group("gloo", init_method="file://" + path + "/meet", rank=rank,
                            world_size=world)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(30, 4)).double()
    model = DistributedDataParallel(net)
    step = torch.optim.SGD(model.parameters(), 0.1)
    feed = pixelprep.open(path + "/entry").train.to_torch(32, shuffle=True, seed=5, shard="auto")
    loader = DataLoader(feed, batch_size=None, num_workers=rank == 1)
    gradients = []
    for epoch in (3, 4):
        feed.set_epoch(epoch)
        steps = 0
        for images, labels in loader:
            step.zero_grad()
            torch.nn.functional.cross_entropy(model(images.double()), labels).backward()
            gradients.append(net[1].weight.grad.flatten().tolist())
            step.step()
            steps += 1
        assert steps == len(loader)
    if rank == 0:
        open("gradients.json", "w").write(json.dumps(gradients))
    dist.barrier()
    os._exit(0)  # ranks of gloo were seen to wait for each other at their end, without any feed

if __name__ == "__main__":
    world = int(sys.argv[1])
    torch.multiprocessing.spawn(train, (world, sys.argv[2]), world)
"""


@pytest.mark.parametrize("world", [2, 3, 4])
def test_ddp_is_the_training_of_one_process(entry: Entry, tmp_path: Path, world: int) -> None:
    """Two epochs of DDP end on all ranks, some of which have a loader's worker; their gradients are
    those of one process that has the same global batches, to rounding.
    """
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    (tmp_path / "entry").symlink_to(entry.path)
    run(DDP, tmp_path, world, tmp_path)
    found = json.loads((tmp_path / "gradients.json").read_text())
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(30, 4)).double()
    step = torch.optim.SGD(net.parameters(), 0.1)
    wanted = []
    for epoch in (3, 4):
        plan: dict[str, Any] = {"shuffle": True, "seed": 5, "epoch": epoch, "even": "drop"}
        shards = [entry.train.batches(32, shard=(rank, world), **plan) for rank in range(world)]
        for batches in zip(*shards, strict=True):
            images, labels = (
                torch.from_numpy(np.concatenate(part)) for part in zip(*batches, strict=True)
            )
            step.zero_grad()
            torch.nn.functional.cross_entropy(net(images.double()), labels).backward()
            wanted.append(net[1].weight.grad.flatten().tolist())
            step.step()
    assert len(found) == 2 * -(-(331 // world) // 32)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


STATEFUL = """
import json
import pixelprep
from torchdata.stateful_dataloader import StatefulDataLoader

if __name__ == "__main__":
    path, workers, stop = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    feed = pixelprep.open(path).train.to_torch(8, shuffle=True, seed=5)
    loader = StatefulDataLoader(feed, batch_size=None, num_workers=workers)
    if stop < 0:
        loader.load_state_dict(json.loads(sys.stdin.read()))
    for epoch in range(2):
        for images, labels in loader:
            print(json.dumps([images.sum().item(), labels.tolist()]))
            stop -= 1
            if not stop:
                print(json.dumps(loader.state_dict()), flush=True)
                sys.stdin.read()  # until it is killed
"""


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [5, 42, 59])
def test_torchdata_resumes_after_kill(
    entry: Entry, tmp_path: Path, workers: int, stop: int
) -> None:
    """A process that was killed in the middle of an epoch, or at its end, is continued by another
    with the very batches that would have come, of the next epoch, too.
    """
    pytest.importorskip("torchdata", reason="torchdata is not installed")
    script = tmp_path / "program.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{STATEFUL}")
    command = [sys.executable, str(script), str(entry.path), str(workers)]
    with Process([*command, str(stop)], stdin=-1, stdout=-1, text=True) as first:
        assert first.stdout is not None
        lines = [first.stdout.readline() for _ in range(stop + 1)]
        first.kill()
    done = execute([*command, "-1"], input=lines.pop())
    assert done.returncode == 0, done.stderr
    found = [*lines, *done.stdout.splitlines(keepends=True)]
    epochs = [entry.train.batches(8, shuffle=True, seed=5, epoch=epoch) for epoch in range(3)]
    wanted = [labels.tolist() for epoch in epochs for _, labels in epoch]
    assert len(wanted) == 3 * 42
    begun = 42 if stop > 42 else 0  # in which the first process was killed
    assert [json.loads(line)[1] for line in found] == wanted[: begun + 84]


JAX = """
import os
rank, world, port, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={4 // world}"
import jax
import numpy as np
if world > 1:
    jax.distributed.initialize("127.0.0.1:" + port, world, rank)
import pixelprep
from jax.sharding import NamedSharding, PartitionSpec

split = pixelprep.open(path).train
sharding = NamedSharding(jax.make_mesh((4,), ("data",)), PartitionSpec("data"))
plan = {"shuffle": True, "seed": 5, "drop_last": True}
feed = split.to_jax(8, shard="auto" if world > 1 else (0, 1), device=sharding, **plan)
shards = [split.batches(8, shard=(r, world), even="drop", **plan) for r in range(world)]
weigh = jax.jit(lambda images, labels: (images.sum(axis=(1, 2, 3)) * labels).sum())
steps = 0
for (images, labels), *parts in zip(feed, *shards, strict=True):
    x, y = (np.concatenate(part) for part in zip(*parts, strict=True))
    assert images.shape == x.shape and labels.sharding == sharding
    assert len(images.addressable_shards) == 4 // world
    wanted = (x.sum(axis=(1, 2, 3)) * y).sum()
    np.testing.assert_allclose(float(weigh(images, labels)), wanted, 1e-4)
    steps += 1
assert steps == len(feed) == 331 // world // 8
print("fine", flush=True)
"""


@pytest.mark.parametrize("world", [1, 2])
def test_jax_has_one_batch_of_all_processes(entry: Entry, tmp_path: Path, world: int) -> None:
    """Over four devices, of one process or of two, a batch is what all processes deliver, each to
    its own devices; what is computed of it is right.
    """
    pytest.importorskip("jax", reason="the extra `jax` is not installed")
    script = tmp_path / "program.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{JAX}")
    command = [sys.executable, str(script)]
    rest = [str(world), str(free_port()), str(entry.path)]
    others = [Process([*command, str(rank), *rest]) for rank in range(1, world)]
    done = execute([*command, "0", *rest])
    assert done.stdout.endswith("fine\n"), done.stderr  # gloo prints, too
    assert [other.wait() for other in others] == [0] * (world - 1)


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_a_jax_feed_resumes(entry: Entry) -> None:
    """Though batches are on their way ahead, a state is behind the one that came last; passes after
    a resumed one are the next epochs, unless `set_epoch` says otherwise.
    """
    pytest.importorskip("jax", reason="the extra `jax` is not installed")
    plan: dict[str, Any] = {"shuffle": True, "seed": 5}
    epochs = [
        [labels.tolist() for _, labels in entry.train.batches(16, epoch=epoch, **plan)]
        for epoch in range(4)
    ]
    feed = entry.train.to_jax(16, epoch=1, **plan)
    for done in (0, 1, 20, 21):
        feed.set_epoch(2)
        passing = iter(feed)
        found = [next(passing)[1].tolist() for _ in range(done)]
        again = entry.train.to_jax(16, **plan)
        rest = again.resume(json.loads(json.dumps(passing.state())))
        assert found + [labels.tolist() for _, labels in rest] == epochs[2]
        assert [labels.tolist() for _, labels in again] == epochs[3]


LIGHTNING = """
import os, warnings
import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
import pixelprep

class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(30, 4))
        self.seen = []

    def train_dataloader(self):
        return pixelprep.open(sys.argv[1]).train.to_torch(32, shuffle=True, shard="auto")

    def training_step(self, batch, number):
        self.seen.append(batch[1].tolist())
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def on_train_end(self):
        assert self.trainer.num_training_batches == -(-(331 // self.trainer.world_size) // 32)

def fit(epochs, *callbacks, **options):
    model, devices = Net(), options.pop("devices", 1)
    trainer = lightning.Trainer(
        max_epochs=epochs, devices=devices, accelerator="cpu", logger=False, callbacks=[*callbacks],
        enable_progress_bar=False, enable_model_summary=False,
        strategy="ddp_spawn" if devices > 1 else "auto",
        enable_checkpointing=bool(callbacks),
    )
    trainer.fit(model, **options)
    return model.seen

if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.filterwarnings("error", message=".*(__len__|length|resumable).*")
    kept = ModelCheckpoint(dirpath=".", filename="kept", every_n_train_steps=16, save_top_k=-1)
    whole = fit(3)
    begun = fit(2, kept)[:16]
    assert begun + fit(3, ckpt_path="kept.ckpt") == whole
    fit(2, devices=2)
    print("fine", flush=True)
    os._exit(0)  # as above
"""


def test_lightning_takes_the_feed(entry: Entry, tmp_path: Path) -> None:
    """`trainer.fit` knows its length, ends on two ranks, and goes on from its own checkpoint in the
    middle of an epoch with the very batches that would have come, with no warning of lengths.
    """
    pytest.importorskip("lightning", reason="lightning is not installed")
    assert run(LIGHTNING, tmp_path, entry.path).endswith("fine\n")
