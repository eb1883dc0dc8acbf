"""The process that the row `soak` watches: ENTRY BATCHES; prints (batches, bytes, files)."""

import itertools
import json
import os
import sys
from pathlib import Path

import pixelprep
from benchmarks.process import memory

SAMPLES = 100


def main() -> None:
    """Run over so many batches, in epochs, and report after every hundredth part."""
    path, wanted = sys.argv[1], int(sys.argv[2])
    train, done, told = pixelprep.open(path).train, 0, 0
    for epoch in itertools.count():
        for _ in train.batches(64, shuffle=True, seed=0, epoch=epoch):
            done += 1
        if done >= told + wanted // SAMPLES:  # between epochs, when no file is in use
            told = done
            opened = sum(1 for _ in Path("/proc/self/fd").iterdir())
            print(json.dumps([done, memory(os.getpid(), "VmRSS"), opened]), flush=True)
        if done >= wanted:
            break


if __name__ == "__main__":
    main()
