"""Where a run measures: the raw files, a private folder, and what child processes are told."""

import gzip
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pixelprep import Entry

SCRIPTS = Path(__file__).parents[1]
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
    source : str
        The folder with MNIST's four gzipped IDX files.
    work : str
        A folder that is this run's own and is removed at its end.
    quick : bool
        Fewer rounds, smaller sizes.
    rounds : int or None
        Asked for on the command line.
    """

    source: str
    work: str
    quick: bool = False
    rounds: int | None = None

    def to_json(self) -> str:
        """For a child's command line; ``Place(**json.loads(text))`` is the same again."""
        return json.dumps(asdict(self))

    def environment(self, **more: str) -> dict[str, str]:
        """A child's environment: it finds this package, keeps to the folder, opens no socket."""
        work = Path(self.work)
        # What is installed has its byte code beside it: a run that may not write any would
        # compile pixelprep, and it alone, in every process.
        inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        path = os.pathsep.join(filter(None, [str(SCRIPTS), os.environ.get("PYTHONPATH")]))
        return {
            **inherited,
            "PYTHONPATH": path,
            "PIXELPREP_CACHE_DIR": str(work / "cache"),
            "PIXELPREP_OFFLINE": "1",
            "HF_HOME": str(work / "hf"),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **more,
        }

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder on the measured filesystem, gone afterwards."""
        with tempfile.TemporaryDirectory(dir=self.work, ignore_cleanup_errors=True) as name:
            yield Path(name)

    def entry(self, dataset: str = "mnist") -> "Entry":
        """The prepared dataset, made by whoever asks first."""
        import pixelprep

        options: dict[str, Any] = {"source": self.source} if dataset == "mnist" else {}
        return pixelprep.prepare(
            dataset, cache_dir=Path(self.work) / "cache", offline=True, quiet=True, **options
        )

    def raw(self) -> tuple["NDArray[np.uint8]", "NDArray[np.int64]"]:
        """MNIST's training images, uint8 (N, 28, 28, 1), and labels, int64 (N,)."""
        import numpy as np

        images, labels = (
            np.frombuffer(gzip.decompress((Path(self.source) / name).read_bytes()), np.uint8)
            for name in FILES["train"]
        )
        return images[16:].reshape(-1, 28, 28, 1), labels[8:].astype(np.int64)


def console() -> list[str]:
    """The ``pixelprep`` command of this very Python."""
    script = Path(sys.executable).with_name("pixelprep")
    return [str(script)] if script.exists() else [sys.executable, "-m", "pixelprep"]
