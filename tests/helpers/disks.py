"""Disks that are small or cannot be written."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.process import execute


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Provide a disk in memory, mounted here; skips the test where that is not allowed."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = execute(command)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        execute(["umount", "--lazy", folder], check=True)


def modes(folder: Path, mode: int) -> None:
    """Let a folder and all folders in it be written, or not."""
    inner = [path for path in folder.rglob("*") if path.is_dir()]
    for path in [*inner, folder]:
        path.chmod(mode)


@contextmanager
def protected(folder: Path) -> Iterator[Callable[[], object]]:
    """Provide a folder, and how to take the right to write in it away."""
    if os.geteuid() == 0:  # whom no mode stops
        command = ["mount", "-o", "remount,ro", str(folder)]
        with mounted(folder, "size=4m"):
            yield lambda: execute(command, check=True)
        return
    folder.mkdir()
    try:
        yield lambda: modes(folder, 0o500)
    finally:
        modes(folder, 0o700)


@contextmanager
def layered(folder: Path, lower: Path) -> Iterator[Path]:
    """Provide what is in `lower` as a container has what its image holds: renaming a folder of it
    is refused with EXDEV.
    """
    with mounted(folder, "size=64m"):
        upper, work, merged = (folder / name for name in ("upper", "work", "merged"))
        for part in (upper, work, merged):
            part.mkdir()
        layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
        options = f"{layers},redirect_dir=off"
        done = execute(["mount", "-t", "overlay", "-o", options, "overlay", str(merged)])
        if done.returncode != 0:
            pytest.skip(f"cannot mount layers: {done.stderr.strip()}")
        try:
            yield merged
        finally:
            execute(["umount", "--lazy", merged], check=True)
