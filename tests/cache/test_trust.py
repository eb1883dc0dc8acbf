"""What was found right about an entry's files is remembered, and nothing else is trusted."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

import pixelprep
from pixelprep.cache import entries
from pixelprep.system import fs, staging
from tests.helpers.data import arrays


def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the files that are hashed from now on."""
    names: list[str] = []
    sha256 = fs.sha256

    def noted(file: Path | int, *rest: Any) -> str:
        names.append(file.name if isinstance(file, Path) else str(file))
        return sha256(file, *rest)

    monkeypatch.setattr(fs, "sha256", noted)
    return names


def test_what_was_just_written_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The builder knows its entry; the first hit then finds every file trusted."""
    names = hashed(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(entries, "open_entry", None)
        entry = pixelprep.prepare(arrays(), quiet=True)
    again = pixelprep.open(entry.path)
    assert (entry.cached, again.cached) == (False, True)
    assert entry.manifest == again.manifest
    assert entry.manifest.to_dict() == json.loads((entry.path / "manifest.json").read_bytes())
    assert (entry.train.to_numpy()[0] == again.train.to_numpy()[0]).all()
    assert names == []


@pytest.mark.parametrize("which", ["first", "then"])
def test_an_entry_of_another_process_is_opened(
    monkeypatch: pytest.MonkeyPatch, which: str, cache: Path
) -> None:
    """One that was published first stays and is hashed; so is one that replaced ours since."""
    other = pixelprep.prepare(arrays(), quiet=True).path
    shutil.copytree(other, cache / "copy")
    publish = staging.publish

    def meanwhile(folder: Path, final: Path, *rest: Any) -> None:
        if which == "then":
            publish(folder, final, *rest)
            shutil.rmtree(final)
        (cache / "copy").rename(final)
        if which == "first":
            publish(folder, final, *rest)

    shutil.rmtree(other)
    monkeypatch.setattr(staging, "publish", meanwhile)
    names = hashed(monkeypatch)
    entry = pixelprep.prepare(arrays(), quiet=True)
    assert entry.cached is False
    assert sorted(names) == ["test.h5", "train.h5"]
    assert len(entry.train.to_numpy()[0]) == len(arrays().train[1])


def test_a_file_that_changed_is_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only that file, and only once."""
    path = pixelprep.prepare(arrays(), quiet=True).path
    (path / "test.h5").touch()
    names = hashed(monkeypatch)
    pixelprep.open(path)
    assert names == ["test.h5"]


@pytest.mark.parametrize("ahead", [-3600, 3600])
def test_a_clock_that_differs_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, ahead: int, cache: Path
) -> None:
    """Whatever this machine's clock says, nobody waits longer than some steps of the times, and the
    first hit trusts what was just written: the files' own clock counts.
    """
    waits: list[float] = []
    real, sleep = time.time_ns, time.sleep
    monkeypatch.setattr(time, "time_ns", lambda: real() + ahead * fs.SECOND)
    monkeypatch.setattr(time, "time", lambda: real() / fs.SECOND + ahead)

    def wait(seconds: float) -> None:
        waits.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", wait)
    path = pixelprep.prepare(arrays(), quiet=True).path
    names = hashed(monkeypatch)
    assert pixelprep.open(path).cached
    assert names == []
    assert sum(waits) <= 3 * fs.FINE_STEP / fs.SECOND


def test_files_of_whole_seconds_are_not_trusted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where times have steps of up to two seconds, a file is hashed until it is older than that."""
    step, real = [0], fs.file_stamp

    def coarse(file: Any) -> tuple[int, ...]:
        inode, size, *times = real(file)
        steps = [moment // fs.COARSE_STEP * fs.COARSE_STEP - step[0] for moment in times]
        return (inode, size, *steps)

    monkeypatch.setattr(fs, "file_stamp", coarse)
    path = pixelprep.prepare(arrays(), quiet=True).path
    names = hashed(monkeypatch)
    for _ in range(2):
        pixelprep.open(path)
    assert names == 2 * ["train.h5", "test.h5"]
    step[0] = fs.COARSE_STEP  # as if two seconds had passed
    for _ in range(2):
        pixelprep.open(path)
    assert names == 3 * ["train.h5", "test.h5"]
