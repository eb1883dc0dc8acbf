"""Going on with an unfinished run: the result is that of a run which was never interrupted, and
its event files show each epoch once.
"""

import io
import math
import resource
import shutil
import signal
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pixelprep
from pixelprep.dataset.entry import Entry
from pixelprep.errors import REPAIR_HINT, resume_command
from pixelprep.reports.results import TrainSettings
from pixelprep.training.run_folder import Checkpoint, RunFolder, TrainState, load_finished
from pixelprep.training.train import resume, train
from tests.helpers.cli import run, start
from tests.helpers.data import arrays
from tests.helpers.training import (
    FINISHED,
    FIRST,
    RANDOM,
    TINY,
    check_same,
    interrupted_at,
    killed_at,
    listening,
    settings,
)


def shown(run: str) -> dict[str, list[tuple[int, float]]]:
    """Return steps and values by folder and tag, in the order in which TensorBoard reads them."""
    import tensorflow as tf

    found = defaultdict(list)
    for file in sorted(Path("logs", run).rglob("events.out.tfevents.*")):
        with suppress(tf.errors.DataLossError):  # where it is cut short
            for event in tf.compat.v1.train.summary_iterator(str(file)):
                for value in event.summary.value:
                    assert value.metadata.plugin_data.plugin_name == "scalars"
                    number = float(tf.make_ndarray(value.tensor))
                    found[f"{file.parent.name}/{value.tag}"].append((event.step, number))
    return dict(found)


def expected(history: Mapping[str, Sequence[float | None]]) -> dict[str, list[tuple[int, float]]]:
    """Return what is to be shown of a history: its values in float32, counted from 1."""
    tags = {
        "loss": "train/epoch_loss",
        "accuracy": "train/epoch_accuracy",
        "seconds": "train/epoch_seconds",
        "val_loss": "validation/epoch_loss",
        "val_accuracy": "validation/epoch_accuracy",
    }
    return {
        tag: [(epoch, float(np.float32(value))) for epoch, value in enumerate(history[name], 1)]
        for name, tag in tags.items()
    }


def test_killed_at_the_worst_moments(entry: Entry, whole: Path) -> None:
    """SIGKILL just before a checkpoint takes its name, and after the run has taken its own but
    before the checkpoint is removed: the run comes out as if nothing had happened. What a kill
    kept from TensorBoard, or cut short, is written by going on.
    """
    asked = ("train", str(entry.path), *FIRST, "--tensorboard", "logs")
    said = killed_at("os.rename", "checkpoint.npz", 2, *asked)
    assert "epoch 1/3" in said
    assert "epoch 2/3" not in said
    left = sorted(p.name for p in Path("run.unfinished").iterdir())
    assert left == ["checkpoint.npz", "lock", "new.npz"]
    (validation,) = Path("logs/run/validation").iterdir()
    validation.unlink()
    (cut,) = Path("logs/run/train").iterdir()
    cut.write_bytes(cut.read_bytes()[:-5])
    assert "train/epoch_seconds" not in shown("run")
    said = killed_at("os.remove", "checkpoint.npz", 1, "train", "--resume", "run")
    assert [line[:9] for line in said.splitlines() if line.startswith("epoch")] == [
        "epoch 2/3",
        "epoch 3/3",
    ]
    assert shown("run") == expected(load_finished(Path("run")).result.history)
    with pytest.raises(pixelprep.TrainError, match=r"run: this run is finished \(delete .*or move"):
        resume(Path("run.unfinished"))
    shutil.rmtree("run.unfinished")
    check_same(Path("run"), whole, tensorboard=str(Path("logs").absolute()))


@pytest.mark.parametrize(
    "stop", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_interrupted_says_how_to_go_on(entry: Entry, stop: signal.Signals) -> None:
    """Ctrl-C, or the SIGTERM of a scheduler, after an epoch exits 130 with the command that goes
    on; before, nobody else could.
    """
    asked = ("train", str(entry.path), "--epochs", "3000", "--model", TINY, "--run-dir", "run")
    process = start(*asked)
    assert process.stderr
    while not process.stderr.readline().startswith("epoch 2/3000"):
        assert process.poll() is None
    process.send_signal(signal.SIGSTOP)
    refused = run("train", "--resume", "run")
    process.send_signal(stop)
    process.send_signal(signal.SIGCONT)
    said = [line for line in process.communicate()[1].splitlines() if "epoch" not in line]
    assert process.returncode == 130
    assert said == ["error: interrupted", "hint: pixelprep train --resume run.unfinished"]
    assert refused.returncode == 1
    assert "another process is training this run" in refused.stderr
    state = RunFolder(Path("run").absolute()).load().state
    assert 2 <= state.epochs == len(state.history["seconds"]) < 3000


def test_interrupted_before_the_first_epoch_ends(entry: Entry) -> None:
    """Then nothing is left behind, and nothing is said of going on."""
    with interrupted_at("first batch") as stopped:
        train(entry, **settings("run"))
    assert resume_command(stopped.value) is None
    assert list(Path().glob("run*")) == []


def test_interrupted_twice_is_the_same(entry: Entry, unfinished: Path, whole: Path) -> None:
    """Interrupted after the first epoch and after the third, which was not to be the last, a run
    equals one of three epochs, also with noise, dropout and batch normalization. Options that it
    has anyway may be given; event files may come later; a finished epoch cannot be taken back.
    """
    with interrupted_at("epoch 3/5"):
        resume(unfinished, epochs=5, tensorboard="logs")
    with pytest.raises(pixelprep.UsageError, match=r"`epochs=2`: .*run.unfinished has finished 3"):
        resume(Path("run"), epochs=2)
    same = {"dataset": "little", "mode": "standardize", "val_fraction": 0.2, "seed": 7}
    free = {"quiet": True, "offline": True, "cache_dir": entry.path.parent.parent}
    metrics = resume(unfinished, epochs=3, run_dir=Path("run"), **same, **free)
    assert metrics.run == Path("run").absolute()
    check_same(Path("run"), whole, tensorboard=str(Path("logs").absolute()))
    assert shown("run") == expected(metrics.history)


def test_what_contradicts_the_run_is_refused(unfinished: Path) -> None:
    """Options that ask for another run are refused, exit 2."""
    for option, value, has in (
        ("seed", 5, 7),
        ("batch_size", 64, 32),
        ("model", TINY, RANDOM),
        ("steps_per_execution", 1, 32),
        ("early_stopping", 3, None),
        ("mode", "center", "standardize"),
        ("run_dir", Path("other"), Path("run").absolute()),
        ("dataset", "mnist", "little"),
        ("force", True, False),
    ):
        with pytest.raises(pixelprep.UsageError) as refused:
            resume(Path("run"), **{option: value})
        assert f"is a run with {option} {has}, but" in refused.value.message
    said = run("train", "--resume", "run", "--per", "pixel", "--json", "--quiet")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.splitlines() == [
        f"error: {unfinished.absolute()} is a run with per channel, but pixel was asked for",
        "hint: leave it out, then pixelprep train --resume run.unfinished",
    ]
    for epochs in (0, -1):
        with pytest.raises(pixelprep.UsageError, match="`epochs"):
            resume(Path("run"), epochs=epochs)


def test_a_finished_run_is_finished(whole: Path) -> None:
    """It is not trained again, nor is its name given to another; a name of no run says so."""
    for name in (whole, f"{whole}.unfinished"):
        with pytest.raises(pixelprep.TrainError, match="this run is finished"):
            resume(name, epochs=9)
    Path("file").touch()
    for name in ("nothing", "nothing.unfinished", "file", "/"):
        with pytest.raises(pixelprep.TrainError):
            resume(name)


@pytest.mark.long
def test_killed_before_the_first_checkpoint(entry: Entry, whole: Path) -> None:
    """What is left then is no run: the very same command starts it again, event files too; while
    the first process lives, it is not told to delete what is being trained.
    """
    asked = ("train", str(entry.path), *FIRST, "--tensorboard", "logs")
    killed_at("os.rename", "checkpoint.npz", 1, *asked)
    assert {p.name for p in Path("run.unfinished").iterdir()} == {"lock", "new.npz"}
    with pytest.raises(pixelprep.TrainError, match="by the command that started it"):
        resume(Path("run"))
    folder = RunFolder(Path("run").absolute())
    with folder.locked():
        for start_again in (folder.check_new, folder.make):
            with pytest.raises(pixelprep.TrainError, match="another process is training") as held:
                start_again()
            assert held.value.hint == "name another folder with `run_dir`"
        (folder.folder / "notes.txt").touch()
        folder.checkpoint.touch()  # so that the folder stays
    folder.checkpoint.unlink()
    with pytest.raises(pixelprep.TrainError, match="already exists, and is not of a run"):
        train(entry, **settings("run"))
    (folder.folder / "notes.txt").unlink()
    done = run(*asked)
    assert done.returncode == 0, done.stderr
    check_same(Path("run"), whole, tensorboard=str(Path("logs").absolute()))


def test_two_runs_never_get_one_name() -> None:
    """Of processes that choose the same name at the same time each makes a folder of its own, also
    where one has already finished.
    """
    first = RunFolder(Path("runs/digits-center-20260801-120000-1").absolute())
    assert first.make_unique() == first
    second, third = first.make_unique(), first.make_unique()
    assert [run.final.name for run in (second, third)] == [
        f"{first.final.name}-{i}" for i in (2, 3)
    ]
    second.folder.rename(second.final)
    assert first.make_unique().final.name == f"{first.final.name}-4"
    assert all(run.folder.is_dir() for run in (first, third))
    assert not second.folder.exists()


def test_what_is_no_run_says_so() -> None:
    """A folder of something else is not finished; runs that are near are named."""
    Path("photos").mkdir()
    (Path("runs") / "first.unfinished").mkdir(parents=True)
    (Path("runs") / "first.unfinished" / "checkpoint.npz").touch()
    for name in ("photos", "nothing"):
        with pytest.raises(pixelprep.TrainError) as caught:
            resume(Path(name))
        assert caught.value.message == f"{name}: no unfinished run"
        assert caught.value.hint == "there are runs/first.unfinished"
        with pytest.raises(pixelprep.TrainError, match="no finished run"):
            load_finished(Path(name))
    for name in ("runs/first", "runs/first.unfinished"):
        with pytest.raises(pixelprep.TrainError, match="this run is not finished") as caught:
            load_finished(Path(name))
        assert caught.value.hint == "pixelprep train --resume runs/first.unfinished"


def test_an_unfinished_run_is_never_overwritten(entry: Entry, unfinished: Path) -> None:
    """A new run does not take the name of an unfinished one; the error says how to go on."""
    before = (unfinished / "checkpoint.npz").read_bytes()
    with pytest.raises(pixelprep.TrainError, match=r"train --resume run\.unfinished"):
        train(entry, **settings("run"))
    Path("run").mkdir()  # what is made there meanwhile stays
    with pytest.raises(pixelprep.TrainError, match=r"run: this run is finished .*move .* away"):
        resume(unfinished)
    assert (unfinished / "checkpoint.npz").read_bytes() == before
    assert list(Path("run").iterdir()) == []


def test_without_its_entry_a_run_waits(small: Entry, unfinished: Path) -> None:
    """A missing, damaged or other entry is one clear error; put back, the run goes on."""
    folder = RunFolder(Path("run").absolute())
    saved = folder.load()
    folder.save(replace(saved, state=replace(saved.state, entry=str(small.path))))
    moved = small.path.rename("moved")
    with pytest.raises(pixelprep.EntryError, match="put it back, name its cache"):
        resume(unfinished)
    other = pixelprep.prepare(arrays(300, 70, (12, 12, 1)), mode="center")
    shutil.copytree(other.path, small.path)
    with pytest.raises(pixelprep.EntryError, match="does not match its manifest"):
        resume(unfinished)
    refused = run("train", "--resume", "run")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[1].endswith(", then pixelprep train --resume run.unfinished")
    shutil.rmtree(small.path)
    moved.rename(small.path)
    with interrupted_at("going on after epoch 1 of 3"):
        resume(unfinished)


def test_a_moved_cache_is_found(unfinished: Path, small: Entry) -> None:
    """The entry is found by its key in the cache that is named, where its path is no longer."""
    folder, cache = RunFolder(Path("run").absolute()), Path("other").absolute()
    saved = folder.load()
    state = replace(saved.state, entry=str(small.path), key=small.key)
    folder.save(replace(saved, state=state))
    small.path.parent.parent.rename(cache)
    with pytest.raises(pixelprep.EntryError, match=f"none of its key {small.key}"):
        resume(unfinished)
    trained = resume(unfinished, epochs=1, cache_dir=cache)
    assert trained.entry == cache / small.path.relative_to(small.path.parent.parent)


def test_damage_while_training_is_one_line(small: Entry) -> None:
    """What a feed raises arrives as it is: one line and the entry's own way out."""
    file = small.path / "train.h5"

    def damage(said: str) -> None:
        if said.startswith("epoch 1/"):
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 0xFF
            file.write_bytes(content)

    asked = settings("run", model=TINY)
    with pytest.raises(pixelprep.EntryError) as failed, listening(damage):
        train(small, **asked)
    assert len(failed.value.message) < 300
    assert failed.value.hint == REPAIR_HINT
    assert failed.value.resume_command == "pixelprep train --resume run.unfinished"


def test_a_damaged_checkpoint_is_refused(unfinished: Path) -> None:
    """A checkpoint that is cut short, has a flipped bit or is no checkpoint is one clear error;
    it stays as it is.
    """
    checkpoint = unfinished / "checkpoint.npz"
    right = checkpoint.read_bytes()
    flipped = bytearray(right)
    flipped[len(right) // 2] ^= 1
    foreign = io.BytesIO()
    np.savez(foreign, weights=np.zeros(3))
    for wrong in (right[:-100], bytes(flipped), foreign.getvalue(), b"", b"\x93NUMPY", b"[]"):
        checkpoint.write_bytes(wrong)
        with pytest.raises(pixelprep.TrainError, match="not a checkpoint, or a damaged one") as e:
            resume(Path("run"))
        assert (e.value.hint or "").endswith("run.unfinished and train again from the start")
        assert e.value.resume_command is None
        assert checkpoint.read_bytes() == wrong


def test_another_model_is_refused(unfinished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the function returns another model than before, its variables are not forced on it."""
    from tests.helpers import models

    build = models.random
    monkeypatch.setattr(models, "random", lambda *asked: build(*asked, models.Noise()))
    with pytest.raises(pixelprep.TrainError, match="variables are not those of the model"):
        resume(unfinished)


@pytest.mark.long
def test_a_failure_at_the_end_loses_no_epoch(
    unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that cannot be saved fails after its epochs; repaired, they are not trained again."""
    from tests.helpers import models

    build, ended = models.random, RunFolder(Path("run").absolute()).load().state.history
    with monkeypatch.context() as patch:
        patch.setattr(models, "random", lambda *asked: build(*asked, models.Secretive()))
        with pytest.raises(NotImplementedError, match="Secretive has no config") as failed:
            resume(unfinished, epochs=1)
    assert resume_command(failed.value) == "pixelprep train --resume run.unfinished"
    assert resume(unfinished, epochs=1).history == ended
    assert sorted(p.name for p in Path("run").iterdir()) == FINISHED


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file can become larger than this many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_loses_no_epoch(entry: Entry, unfinished: Path) -> None:
    """Where a checkpoint cannot be written, the one before stays; without one, nothing does."""
    with small_disk(20_000), pytest.raises(pixelprep.TrainError, match="cannot write the run"):
        train(entry, **settings("new"))
    assert list(Path().glob("new*")) == []
    before = (unfinished / "checkpoint.npz").read_bytes()
    with small_disk(20_000), pytest.raises(pixelprep.TrainError, match="cannot write") as failed:
        resume(unfinished, cache_dir=entry.path.parent.parent)
    assert resume_command(failed.value) == "pixelprep train --resume run.unfinished"
    assert (unfinished / "checkpoint.npz").read_bytes() == before
    assert sorted(p.name for p in unfinished.iterdir()) == ["checkpoint.npz", "lock"]


def test_a_checkpoint_holds_any_number_exactly(tmp_path: Path) -> None:
    """Infinity, NaN, 16-bit floats and odd names come back as they were."""
    run = RunFolder(tmp_path / "odd name 'n\udcff")
    run.make()
    brain = pytest.importorskip("ml_dtypes").bfloat16
    values = [
        np.array([np.nan, np.inf, -0.0, 1e-45], np.float32),
        np.arange(6, dtype=brain).reshape(2, 3),
        np.array(2**63 - 1),
    ]
    history = {"loss": (0.1 + 0.2, math.inf, math.nan), "seconds": (1.0, 2.0, 3.0)}
    state = TrainState(str(run.final), "key", TrainSettings(), history)
    run.save(Checkpoint(state, values))
    saved = run.load()
    assert saved.best == []
    assert (saved.state.entry, saved.state.epochs) == (str(run.final), 3)
    assert repr(saved.state.history) == repr(history)
    for value, one in zip(values, saved.variables, strict=True):
        assert one.shape == value.shape
        assert one.view(value.dtype).tobytes() == value.tobytes()


def test_events_of_another_run_are_left_alone(entry: Entry) -> None:
    """A new run does not mix its events with what is there; a folder that cannot be made says so,
    and nothing is left of the run.
    """
    Path("logs/run/train").mkdir(parents=True)
    with pytest.raises(pixelprep.TrainError, match=r"logs/run: already exists \(name another"):
        train(entry, **settings("run", tensorboard="logs"))
    Path("file").touch()
    asked = ("train", str(entry.path), "--run-dir", "run", "--tensorboard", "file")
    said = run(*asked)
    assert said.returncode == 1
    error, hint = [line for line in said.stderr.splitlines() if line.startswith(("error", "hint"))]
    assert error.startswith(f"error: {Path('file/run').absolute()}: cannot write for TensorBoard")
    assert hint.startswith("hint: choose another folder with --tensorboard")
    assert list(Path().glob("run*")) == []
