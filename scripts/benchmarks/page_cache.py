"""Files that are not in the page cache."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from benchmarks.place import Crashed, LeftOut


def evict(files: Iterable[Path]) -> None:
    """Have the system forget what it holds of these files, and look that it did.

    Raises
    ------
    LeftOut, Crashed
        Where that cannot be looked at; where some of it stays.
    """
    paths = [str(path) for path in files]
    if not hasattr(os, "posix_fadvise") or shutil.which("fincore") is None:
        raise LeftOut("posix_fadvise or fincore is not here: the page cache cannot be emptied")
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # what is not written yet would stay
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    held = 0
    for start in range(0, len(paths), 1000):  # as many as one command takes
        command = ["fincore", "--bytes", "--noheadings", "--output", "RES"]
        shown = subprocess.check_output([*command, *paths[start : start + 1000]], text=True)
        held += sum(map(int, shown.split()))
    if held:
        raise Crashed(f"{held:,} bytes stay in the page cache")
