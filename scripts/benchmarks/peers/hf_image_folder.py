"""Hugging Face datasets over a folder of images, in a PyTorch DataLoader."""

from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.clock import BATCH
from benchmarks.made import Images, write_folder
from benchmarks.peers import Opened, torch_workers

write = write_folder


def _scaled(data: Images, rows: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    pixels = [np.asarray(image).reshape(data.x.shape[1:]) for image in rows["image"]]
    return {"image": [data.scaled(one) for one in pixels], "label": rows["label"]}


def epochs(folder: Path, data: Images) -> Opened:
    """Decode and scale rows as they are asked for."""
    import datasets
    from torch.utils.data import DataLoader

    small = data._replace(x=data.x[:0], y=data.y[:0])  # which travels to workers
    cache = str(folder.with_name(f"{folder.name}-hf"))
    found = datasets.load_dataset(
        "imagefolder", data_dir=str(folder), split="train", cache_dir=cache
    )
    rows = found.with_transform(partial(_scaled, small))
    loader = DataLoader(rows, BATCH, shuffle=True, **torch_workers(data))
    return lambda k: loader
