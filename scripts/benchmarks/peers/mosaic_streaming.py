"""MosaicML Streaming: arrays in its shards (MDS)."""

from pathlib import Path
from typing import Any

from benchmarks.clock import BATCH
from benchmarks.made import Images
from benchmarks.peers import Opened, torch_workers


def write(folder: Path, data: Images) -> None:
    """Write a sample a row."""
    from streaming import MDSWriter

    shape = ",".join(map(str, data.x.shape[1:]))
    columns = {"image": f"ndarray:uint8:{shape}", "label": "int"}
    with MDSWriter(out=str(folder), columns=columns) as out:
        for pixels, label in zip(data.x, data.y, strict=True):
            out.write({"image": pixels, "label": int(label)})


def epochs(folder: Path, data: Images) -> Opened:
    """Stream them from the folder."""
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    small = data._replace(x=data.x[:0], y=data.y[:0])  # which travels to workers

    class Scaled(StreamingDataset):  # type: ignore[misc] # it is not typed
        def __getitem__(self, at: int) -> Any:
            sample = super().__getitem__(at)
            return small.scaled(sample["image"]), sample["label"]

    dataset = Scaled(local=str(folder), shuffle=True, batch_size=BATCH)
    loader = DataLoader(dataset, batch_size=BATCH, **torch_workers(data))
    return lambda k: loader
