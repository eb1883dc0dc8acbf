"""LitData: arrays in its chunks."""

from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.clock import BATCH
from benchmarks.made import Images
from benchmarks.peers import Opened, torch_workers


def _sample(data: Images, number: int) -> dict[str, Any]:
    return {"image": data.x[number], "label": int(data.y[number])}


def _scaled(data: Images, sample: dict[str, Any]) -> tuple[Any, int]:
    return data.scaled(sample["image"]), sample["label"]


def write(folder: Path, data: Images) -> None:
    """Optimize all samples."""
    import litdata

    litdata.optimize(
        fn=partial(_sample, data),
        inputs=list(range(len(data.x))),
        output_dir=str(folder),
        chunk_bytes="64MB",
        num_workers=1,
    )


def epochs(folder: Path, data: Images) -> Opened:
    """Stream them from the folder."""
    import litdata

    small = data._replace(x=data.x[:0], y=data.y[:0])  # which travels to workers
    dataset = litdata.StreamingDataset(
        str(folder), shuffle=True, seed=0, transform=partial(_scaled, small)
    )
    loader = litdata.StreamingDataLoader(dataset, batch_size=BATCH, **torch_workers(data))
    return lambda k: loader
