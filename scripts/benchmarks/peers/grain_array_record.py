"""Grain over ArrayRecord of raw uint8."""

from pathlib import Path
from typing import Any

from benchmarks.clock import BATCH
from benchmarks.made import Images
from benchmarks.peers import Opened


def write(folder: Path, data: Images) -> None:
    """Write a record a row: the class's byte and the pixels."""
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(folder / "train.array_record"), "group_size:1")
    for pixels, label in zip(data.x, data.y, strict=True):
        writer.write(bytes([label]) + pixels.tobytes())
    writer.close()


def epochs(folder: Path, data: Images) -> Opened:
    """Shuffle whole, parse and scale each, batch."""
    import grain
    import numpy as np

    shape = data.x.shape[1:]

    def parse(record: bytes) -> Any:
        pixels = np.frombuffer(record, np.uint8, offset=1).reshape(shape)
        return data.scaled(pixels), record[0]

    source = grain.sources.ArrayRecordDataSource(str(folder / "train.array_record"))
    rows = grain.MapDataset.source(source)
    return lambda k: rows.shuffle(seed=k).map(parse).batch(BATCH).to_iter_dataset()
