"""Ways to damage an entry."""

import json
import os
import shutil
from pathlib import Path

from tests.helpers.data import flipped


def edit_manifest(entry: Path) -> str:
    path = entry / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["splits"]["train"]["rows"] = 41
    path.write_text(json.dumps(manifest))
    return "manifest.json"


def edit_digest(entry: Path) -> str:
    path = entry / "manifest.sha256"
    path.write_text(path.read_text().upper())
    return "manifest.sha256"


def cut_off(entry: Path) -> str:
    os.truncate(entry / "train.h5", (entry / "train.h5").stat().st_size - 1)
    return "train.h5"


def flip_a_byte(entry: Path) -> str:
    path = entry / "train.h5"
    path.write_bytes(flipped(path.read_bytes(), path.stat().st_size // 2))
    return "train.h5"


def lose_a_file(entry: Path) -> str:
    (entry / "test.h5").unlink()
    return "test.h5"


def link_a_file(entry: Path) -> str:
    path = entry / "test.h5"
    path.rename(entry.parents[2] / "test.h5")
    path.symlink_to(entry.parents[2] / "test.h5")
    return "test.h5"


def put_a_folder(entry: Path) -> str:
    (entry / "test.h5").unlink()
    (entry / "test.h5").mkdir()
    return "test.h5"


def swap_files(entry: Path) -> str:
    shutil.copyfile(entry / "test.h5", entry / "train.h5")
    return "train.h5"


DAMAGES = (
    edit_manifest,
    edit_digest,
    cut_off,
    flip_a_byte,
    lose_a_file,
    link_a_file,
    put_a_folder,
    swap_files,
)


def lose_the_manifest(entry: Path) -> None:
    (entry / "manifest.json").unlink()


def lose_everything(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.mkdir()


def put_a_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("not a folder")


def put_a_link(entry: Path) -> None:
    entry.rename(entry.with_name("elsewhere"))
    entry.symlink_to("nowhere")


def flip(path: Path, place: int, bit: int) -> None:
    """Change one bit of a file."""
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))
