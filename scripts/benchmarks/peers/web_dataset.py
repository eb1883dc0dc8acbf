"""WebDataset: pictures in tar files."""

from pathlib import Path

from benchmarks.clock import BATCH
from benchmarks.made import Images, encoded
from benchmarks.peers import Opened, torch_workers

SHARD = 10_000  # rows; fewer where that makes two shards, for two workers


def write(folder: Path, data: Images) -> None:
    """Write a picture and a class a row."""
    import webdataset

    rows = min(SHARD, -(-len(data.x) // 2))
    with webdataset.ShardWriter(f"file:{folder}/train-%04d.tar", maxcount=rows, verbose=0) as sink:
        for number, (pixels, label) in enumerate(zip(data.x, data.y, strict=True)):
            suffix, content = encoded(pixels)
            sink.write({"__key__": f"{number:06d}", suffix: content, "cls": int(label)})


def epochs(folder: Path, data: Images) -> Opened:
    """Decode, shuffle in a buffer, scale, batch."""
    import numpy as np
    import webdataset

    small = data._replace(x=data.x[:0], y=data.y[:0])  # which travels to workers
    shape = data.x.shape[1:]
    urls = [f"file:{path}" for path in sorted(folder.glob("*.tar"))]
    dataset = (
        webdataset.WebDataset(urls, shardshuffle=len(urls), seed=0)
        .shuffle(1000)
        .decode("l8" if shape[-1] == 1 else "rgb8")
        .to_tuple("png;jpg", "cls")
        .map_tuple(lambda pixels: small.scaled(np.reshape(pixels, shape)), int)
        .batched(BATCH)
    )
    loader = webdataset.WebLoader(dataset, batch_size=None, **torch_workers(data))
    return lambda k: loader
