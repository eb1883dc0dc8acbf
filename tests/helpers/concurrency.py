"""Processes that start together: `concurrency.py COUNT LOCKS DATASET OPTIONS CODE`.

All is imported and CODE is run before. So many prepare the dataset by each of OPTIONS, which are
JSON; what each came to is printed as JSON, a line a process. LOCKS is `locks`, `none`: they do
nothing, or the name of the error that they give.
"""

import errno
import fcntl
import json
import os
import sys
import warnings
from typing import Any

import pixelprep

warnings.simplefilter("ignore", pixelprep.PixelprepWarning)  # of little data that repeats itself


def without_locks(kind: str) -> None:
    """Let every lock be had by everybody, or by nobody, as on odd file systems."""

    def flock(*_: object) -> None:
        if kind != "none":
            raise OSError(getattr(errno, kind), "no locks here")

    fcntl.flock = flock


def answer(dataset: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return what one process comes to."""
    try:
        entry = pixelprep.prepare(dataset, quiet=True, **options)
        images, labels = entry.train.to_numpy()
    except pixelprep.PixelprepError as error:
        return {"error": str(error)}
    sums = float(images.sum()), int(labels.sum())
    return {"key": entry.key, "hit": entry.cached, "path": str(entry.path), "sums": sums}


def main(count: int, locks: str, dataset: str, each: list[dict[str, Any]]) -> None:
    """Fork all of them, let them go at the same moment, and wait."""
    import pixelprep.pipeline.build  # what a cold prepare would load  # noqa: F401

    if locks != "locks":
        without_locks(locks)
    go, start = os.pipe()
    children = []
    for options in each * count:
        if (child := os.fork()) == 0:
            os.close(start)
            os.read(go, 1)  # comes back when the last end of the pipe is closed
            said = json.dumps(answer(dataset, options))
            os.write(1, f"{said}\n".encode())
            os._exit(0)
        children.append(child)
    os.close(start)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    COUNT, LOCKS, DATASET, OPTIONS, CODE = sys.argv[1:6]
    exec(CODE)
    main(int(COUNT), LOCKS, DATASET, json.loads(OPTIONS))
