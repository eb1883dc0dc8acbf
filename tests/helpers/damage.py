"""Ways to damage an entry."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def flip(path: Path, place: int, bit: int) -> None:
    """Change one bit of a file."""
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))


def flip_a_byte(entry: Path) -> str:
    """Change a byte of an entry's file; return its name."""
    flip(entry / "train.h5", (entry / "train.h5").stat().st_size // 2, 3)
    return "train.h5"


def link(path: Path) -> None:
    """Put a link to a file in its place."""
    elsewhere = path.parents[3] / path.name
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def put_a_folder(path: Path) -> None:
    """Put a folder in the place of a file."""
    path.unlink()
    path.mkdir()


# Of one of an entry's files: its name, and what is done to it.
DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "edited": ("manifest.json", lambda path: path.write_text(path.read_text().replace("40", "41"))),
    "in capitals": ("manifest.sha256", lambda path: path.write_text(path.read_text().upper())),
    "cut off": ("train.h5", lambda path: os.truncate(path, path.stat().st_size - 1)),
    "a byte flipped": ("train.h5", lambda path: flip_a_byte(path.parent)),
    "lost": ("test.h5", lambda path: path.unlink()),
    "a link": ("test.h5", link),
    "a folder": ("test.h5", put_a_folder),
    "another": ("train.h5", lambda path: shutil.copyfile(path.with_name("test.h5"), path)),
}


def lose_everything(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.mkdir()


def put_a_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("not a folder")


def put_a_link(entry: Path) -> None:
    entry.rename(entry.with_name("elsewhere"))
    entry.symlink_to("nowhere")


# After which it is none any more.
LOSSES: dict[str, Callable[[Path], object]] = {
    "no manifest": lambda entry: (entry / "manifest.json").unlink(),
    "nothing": lose_everything,
    "a file": put_a_file,
    "a link": put_a_link,
}
