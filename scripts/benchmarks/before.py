"""Contestants that run the build before a change: PIXELPREP_BEFORE names the folder with it."""

import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.clock import Measure
from benchmarks.place import Crashed, LeftOut, Place
from benchmarks.worker import Make

VARIABLE = "PIXELPREP_BEFORE"


def before(make: Make) -> Make:
    """Return what sets the same contestant up with that build, in a process that has no other."""
    return partial(_made, make=make)


def _made(place: Place, make: Make) -> Measure:
    folder = os.environ.get(VARIABLE)
    if not folder:
        raise LeftOut(f"{VARIABLE} names no folder with the build before")
    if not (Path(folder) / "pixelprep/__init__.py").is_file():
        raise LeftOut(f"{VARIABLE}={folder} holds no pixelprep")
    sys.path.insert(0, folder)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (folder, os.getenv("PYTHONPATH"))))
    import pixelprep

    if not Path(pixelprep.__file__).is_relative_to(Path(folder).resolve()):
        raise Crashed(f"this process has {pixelprep.__file__} already")
    return make(replace(place, before=True))
