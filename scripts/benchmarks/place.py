"""Where a run measures: the raw files, a private folder, and what processes find around them."""

import gzip
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pixelprep import Entry

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


class LeftOut(Exception):
    """A contestant or a row that cannot be measured here; the message says why."""


class Crashed(Exception):
    """A contestant that should have been measured and was not; the message is its own."""


@dataclass(frozen=True, slots=True)
class Place:
    """What every row is given.

    Parameters
    ----------
    source : Path
        The folder with MNIST's four gzipped IDX files.
    work : Path
        A folder that is this run's own and is removed at its end.
    quick : bool
        Fewer rounds, smaller sizes.
    rounds : int or None
        Asked for on the command line.
    before : bool
        Whether this process runs the build before a change.
    """

    source: Path
    work: Path
    quick: bool = False
    rounds: int | None = None
    before: bool = False

    def settle(self) -> None:
        """Have this process and its children keep to the folder and open no socket."""
        # What is installed has its byte code beside it: a run that may not write any would
        # compile pixelprep, and it alone, in every process.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        temporary = self.work / "tmp"  # where peers would leave files behind
        temporary.mkdir(exist_ok=True)
        os.environ |= {
            "TMPDIR": str(temporary),
            "PIXELPREP_CACHE_DIR": str(self.work / "cache"),
            "PIXELPREP_OFFLINE": "1",
            "HF_HOME": str(self.work / "hf"),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Make an empty folder on the measured file system, gone afterwards."""
        with tempfile.TemporaryDirectory(dir=self.work, ignore_cleanup_errors=True) as name:
            yield Path(name)

    def entry(self, dataset: str = "mnist", **options: Any) -> "Entry":
        """Return the prepared dataset, made by whoever asks first: all builds share its files."""
        import pixelprep

        if dataset == "mnist":
            options["source"] = self.source
        return pixelprep.prepare(dataset, quiet=True, **options)

    def raw(self) -> tuple["NDArray[np.uint8]", "NDArray[np.int64]"]:
        """Return MNIST's training images, uint8 (N, 28, 28, 1), and labels, int64 (N,)."""
        import numpy as np

        images, labels = (
            np.frombuffer(gzip.decompress((self.source / name).read_bytes()), np.uint8)
            for name in FILES["train"]
        )
        return images[16:].reshape(-1, 28, 28, 1), labels[8:].astype(np.int64)
