"""What a user would pick instead, each written as its own documentation tells.

A module a peer: `write` stores images in a folder, `epochs` opens shuffled epochs of batches of 64
of scaled float32 images with labels. What runs by itself, as a process, is a script beside them.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.clock import Epochs
from benchmarks.made import SMALL, Images, images, once
from benchmarks.place import Place

Opened = Callable[[int], Iterable[Any]]  # epochs by number
SHARED = {  # what several read
    "hf_image_folder": "folder",
    "keras_directory": "folder",
    "torchvision_folder": "folder",
    "tf_records_batched": "tf_records",
}


def stored(module: str, size: str, place: Place) -> Path:
    """Return the folder with the images as this peer stores them."""
    kind = SHARED.get(module, module)
    peer = import_module(f"benchmarks.peers.{module}")

    def write(folder: Path) -> None:
        folder.mkdir()
        peer.write(folder, images(place, size))

    return once(place, f"{kind}-{size}", write)


def opened(module: str, size: str, place: Place) -> tuple[Opened, int]:
    """Return this peer's epochs, and the images of one."""
    folder, data = stored(module, size, place), images(place, size)
    return import_module(f"benchmarks.peers.{module}").epochs(folder, data), len(data.x)


def peer(module: str, size: str, place: Place) -> Epochs:
    """Feed this peer's batches."""
    return Epochs(*opened(module, size, place))


def torch_workers(data: Images) -> dict[str, Any]:
    """Return a DataLoader's settings: workers where an image is worth handing over."""
    if data.x.shape[1:] == tuple(map(int, SMALL.split("×"))):
        return {"num_workers": 0}
    return {"num_workers": 2, "persistent_workers": True}
