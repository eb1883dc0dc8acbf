"""Going on with an unfinished run: the result is that of a run which was never interrupted."""

import io
import logging
import math
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

import pixelprep
from pixelprep.cli.app import main
from pixelprep.dataset.entry import Entry
from pixelprep.errors import resume_command
from pixelprep.reports.results import TrainSettings
from pixelprep.training.run_folder import Checkpoint, RunFolder, TrainState, load_finished
from pixelprep.training.train import resume, train
from tests.helpers.cli import run, start
from tests.helpers.data import arrays
from tests.helpers.training import (
    FINISHED,
    FIRST,
    check_same,
    interrupted_at,
    killed_at,
    settings,
    stopped,
)

pytest.importorskip("tensorflow", reason="the extra `train` is not installed")
pytestmark = pytest.mark.usefixtures("folder")


def test_killed_at_the_worst_moments(small: Entry) -> None:
    """SIGKILL just before a checkpoint takes its name, and after the run has taken its own but
    before the checkpoint is removed: the run comes out as if nothing had happened.
    """
    said = killed_at("os.rename", "checkpoint.npz", 2, "train", small.key, *FIRST)
    assert "epoch 1/3" in said
    assert "epoch 2/3" not in said
    left = sorted(p.name for p in Path("run.unfinished").iterdir())
    assert left == ["checkpoint.npz", "lock", "new.npz"]
    said = killed_at("os.remove", "checkpoint.npz", 1, "train", "--resume", "run")
    assert [line[:9] for line in said.splitlines() if line.startswith("epoch")] == [
        "epoch 2/3",
        "epoch 3/3",
    ]
    with pytest.raises(pixelprep.TrainError, match=r"run: this run is finished \(delete .*or move"):
        resume(Path("run.unfinished"))
    shutil.rmtree("run.unfinished")
    train(small, **settings("whole"))
    check_same(Path("run"), Path("whole"))


@pytest.mark.long
def test_killed_while_it_is_published(small: Entry) -> None:
    """SIGKILL just before the finished run takes its name: it is published by going on."""
    said = killed_at("os.rename", "run", 1, "train", small.key, *FIRST)
    assert "epoch 3/3" in said
    assert not Path("run").exists()
    resume(Path("run.unfinished"))
    train(small, **settings("whole"))
    check_same(Path("run"), Path("whole"))


def test_interrupted_says_how_to_go_on(small: Entry) -> None:
    """Ctrl-C after an epoch exits 130 with the command that goes on; before, nobody else could."""
    asked = ("train", small.key, "--epochs", "300", "--run-dir", "run")
    process = start(*asked)
    assert process.stderr
    while not process.stderr.readline().startswith("epoch 2/300"):
        assert process.poll() is None
    process.send_signal(signal.SIGSTOP)
    refused = run("train", "--resume", "run")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    said = [line for line in process.communicate()[1].splitlines() if "epoch" not in line]
    assert process.returncode == 130
    assert said == [
        "error: interrupted",
        "hint: pixelprep train --resume run.unfinished",
    ]
    assert refused.returncode == 1
    assert "another process is training this run" in refused.stderr
    state = RunFolder(Path("run").absolute()).load().state
    assert 2 <= state.epochs == len(state.history["seconds"]) < 300


class Terminal(io.StringIO):
    """A standard error at which somebody presses Ctrl-C on seeing the first batch."""

    def write(self, text: str) -> int:
        """Interrupt, as Python does on SIGINT."""
        if text.startswith("first batch"):
            raise KeyboardInterrupt
        return super().write(text)


def test_interrupted_before_the_first_epoch_ends(
    small: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing is left behind, and nothing is said of going on."""
    log = logging.getLogger("pixelprep")
    monkeypatch.setattr(log, "handlers", log.handlers)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "argv", ["pixelprep", "train", small.key, "--run-dir", "run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert terminal.getvalue().splitlines()[-1] == "error: interrupted"
    assert list(Path().glob("run*")) == []


def test_interrupted_twice_is_the_same(small: Entry) -> None:
    """A run that is interrupted after the first and the second epoch equals one that was not,
    also with noise, dropout and batch normalization in a model of the user's own.
    """
    train(small, **settings("whole", model="models:random"))
    folder = stopped(small, "run", model="models:random")
    with interrupted_at("epoch 2/3"):
        resume(folder)
    assert resume(folder, quiet=True).run == Path("run").absolute()
    check_same(Path("run"), Path("whole"))


def test_epochs_say_only_where_to_stop(small: Entry) -> None:
    """More epochs, or no more than are finished, give what a run of so many epochs gives."""
    stopped(small, "run")
    shutil.copytree("run.unfinished", "short.unfinished")
    for name, epochs in (("run", 5), ("short", 1)):
        resume(Path(name), epochs=epochs)
        train(small, **settings(f"whole {name}", epochs=epochs))
        check_same(Path(name), Path(f"whole {name}"))


def test_what_contradicts_the_run_is_refused(small: Entry) -> None:
    """Options that ask for another run are refused, exit 2; those that the run has are fine."""
    stopped(small, "run", epochs=1)
    for option, value, has in (
        ("seed", 5, 4),
        ("batch_size", 32, 64),
        ("model", "models:random", None),
        ("steps_per_execution", 1, 32),
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
        f"error: {Path('run.unfinished').absolute()} is a run with per channel,"
        " but pixel was asked for",
        "hint: leave it out, then pixelprep train --resume run.unfinished",
    ]
    for epochs in (0, -1):
        with pytest.raises(pixelprep.UsageError, match="`epochs"):
            resume(Path("run"), epochs=epochs)
    same = {"dataset": "little", "mode": "standardize", "val_fraction": 0.2, "seed": 4}
    free = {"quiet": True, "offline": True, "cache_dir": small.path.parent.parent}
    metrics = resume(Path("run"), **same, **free, run_dir=Path("run"))
    assert len(metrics.history["loss"]) == 1


def test_fewer_epochs_than_finished_are_refused(small: Entry) -> None:
    """An epoch that is finished cannot be taken back."""
    with interrupted_at("epoch 2/3"):
        train(small, **settings("run"))
    with pytest.raises(pixelprep.UsageError, match=r"`epochs=1`: .*run.unfinished has finished 2"):
        resume(Path("run"), epochs=1)


def test_a_finished_run_is_finished(small: Entry) -> None:
    """It is not trained again, nor is its name given to another; a name of no run says so."""
    train(small, **settings("run", epochs=1))
    for name in ("run", "run.unfinished"):
        with pytest.raises(pixelprep.TrainError, match="this run is finished"):
            resume(Path(name), epochs=9)
    for name in ("nothing", "nothing.unfinished", "models.py", "/"):
        with pytest.raises(pixelprep.TrainError):
            resume(Path(name))
    assert list(Path().glob("*.unfinished")) == []


def test_what_is_no_run_says_so(small: Entry) -> None:
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


def test_an_unfinished_run_is_never_overwritten(small: Entry) -> None:
    """A new run does not take the name of an unfinished one; the error says how to go on."""
    folder = stopped(small, "run", epochs=1)
    before = (folder / "checkpoint.npz").read_bytes()
    with pytest.raises(pixelprep.TrainError, match=r"train --resume run\.unfinished"):
        train(small, **settings("run"))
    Path("run").mkdir()  # what is made there meanwhile stays
    with pytest.raises(pixelprep.TrainError, match=r"run: this run is finished .*move .* away"):
        resume(folder)
    assert (folder / "checkpoint.npz").read_bytes() == before
    assert list(Path("run").iterdir()) == []


def test_without_its_entry_a_run_waits(small: Entry) -> None:
    """A missing, damaged or other entry is one clear error; put back, the run goes on."""
    folder = stopped(small, "run", epochs=1)
    moved = small.path.rename("moved")
    with pytest.raises(pixelprep.EntryError, match="put it back, or prepare it again"):
        resume(folder)
    other = pixelprep.prepare(arrays(300, 70, (12, 12, 1)), mode="center")
    shutil.copytree(other.path, small.path)
    with pytest.raises(pixelprep.EntryError, match="does not match its manifest"):
        resume(folder)
    refused = run("train", "--resume", "run")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[1].endswith(", then pixelprep train --resume run.unfinished")
    shutil.rmtree(small.path)
    moved.rename(small.path)
    resume(folder)


def test_a_damaged_checkpoint_is_refused(small: Entry) -> None:
    """A checkpoint that is cut short, has a flipped bit or is no checkpoint is one clear error;
    it stays as it is.
    """
    checkpoint = stopped(small, "run") / "checkpoint.npz"
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


def test_another_model_is_refused(small: Entry) -> None:
    """When the function returns another model than before, its variables are not forced on it."""
    stopped(small, "run", model="models:random")
    code = Path("models.py").read_text()
    Path("models.py").write_text(code.replace("Conv2D(4, 3)", "Conv2D(5, 3)"))
    del sys.modules["models"]
    with pytest.raises(pixelprep.TrainError, match="variables are not those of the model"):
        resume(Path("run"))


def test_a_failure_at_the_end_loses_no_epoch(small: Entry) -> None:
    """A model that cannot be saved fails after its epochs; repaired, they are not trained again."""
    with pytest.raises(NotImplementedError, match="Secretive has no config") as failed:
        train(small, **settings("run", model="models:secretive"))
    assert resume_command(failed.value) == "pixelprep train --resume run.unfinished"
    code = Path("models.py").read_text()
    Path("models.py").write_text(code.replace("raise NotImplementedError", "return dict() #"))
    del sys.modules["models"]
    with interrupted_at("going on after epoch 3 of 3"):
        resume(Path("run"))
    metrics = resume(Path("run"))
    assert len(metrics.history["loss"]) == 3
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


def test_a_full_disk_loses_no_epoch(small: Entry) -> None:
    """Where a checkpoint cannot be written, the one before stays; without one, nothing does."""
    with small_disk(50_000), pytest.raises(pixelprep.TrainError, match="cannot write the run"):
        train(small, **settings("run"))
    assert list(Path().glob("run*")) == []
    folder = stopped(small, "run")
    before = (folder / "checkpoint.npz").read_bytes()
    with small_disk(50_000), pytest.raises(pixelprep.TrainError, match="cannot write") as failed:
        resume(folder)
    assert resume_command(failed.value) == "pixelprep train --resume run.unfinished"
    assert (folder / "checkpoint.npz").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoint.npz", "lock"]


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


@pytest.mark.long
def test_killed_at_random_moments(tmp_path: Path) -> None:
    """However often a run is killed, at whatever moment, it ends as one that was not."""
    entry = pixelprep.prepare("sample", quiet=True)
    train(entry, **settings("whole", epochs=6))
    moments, tries = random.Random(5), 0
    while not Path("run").exists():
        again = Path("run.unfinished", "checkpoint.npz").exists()
        if not again:
            shutil.rmtree("run.unfinished", ignore_errors=True)
        first = (entry.key, "--epochs", "6", "--seed", "4", "--run-dir", "run")
        asked = ("--resume", "run") if again else first
        process = start("train", *asked, stdout=subprocess.PIPE)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=moments.uniform(3, 9) + tries)
        process.kill()
        process.communicate()
        tries += 1
    shutil.rmtree("run.unfinished", ignore_errors=True)
    assert tries > 1
    check_same(Path("run"), Path("whole"))
