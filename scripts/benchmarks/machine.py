"""What the figures were measured on."""

import os
import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = (
    *("pixelprep", "numpy", "h5py", "typer", "tensorflow", "keras", "torch", "jax"),
    *("grain", "datasets", "array-record", "litdata", "mosaicml-streaming", "webdataset"),
    *("tensorflow-datasets", "torchvision", "Pillow"),
)
GIT = ("git", "-C", str(Path(__file__).parent))
UNKNOWN = "unknown"


def facts(work: Path) -> dict[str, str]:
    """Return them by what they are called above the table."""
    changed = _said(*GIT, "status", "--porcelain") not in ("", UNKNOWN)
    cores = len(os.sched_getaffinity(0)) if platform.system() == "Linux" else os.cpu_count()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _said(*GIT, "rev-parse", "--short=12", "HEAD") + ", with changes" * changed,
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor() or UNKNOWN,
        "cores": str(cores),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "filesystem of the work folder": _said("df", "--output=fstype", str(work)).split()[-1],
        "load when it began": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        "Python": platform.python_version(),
        "libraries": ", ".join(_versions()),
    }


def _said(*command: str) -> str:
    """Return what a command prints."""
    with suppress(OSError, subprocess.CalledProcessError):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()
    return UNKNOWN


def _field(path: str, name: str) -> str:
    """Return what follows the first ``name … :`` in a file of /proc."""
    with suppress(OSError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return ""


def _memory() -> str:
    kilobytes = _field("/proc/meminfo", "MemTotal").removesuffix(" kB")
    return f"{int(kilobytes) / 2**20:.1f} GiB" if kilobytes else UNKNOWN


def _versions() -> list[str]:
    found = []
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return found
