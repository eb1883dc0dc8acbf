"""What the figures were measured on."""

import os
import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "pixelprep",
    "numpy",
    "h5py",
    "typer",
    "tensorflow",
    "keras",
    "torch",
    "jax",
    "grain",
    "datasets",
)
ROOT = Path(__file__).parents[2]


def facts(work: Path) -> dict[str, str]:
    """By what they are called in the table."""
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if _linux() else os.cpu_count()),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "filesystem of the work folder": _filesystem(work),
        "load when it began": load,
        "Python": platform.python_version(),
        "libraries": ", ".join(_versions()),
    }


def _linux() -> bool:
    return platform.system() == "Linux"


def _found(path: str, start: str) -> str:
    """What follows the first ``start … :`` in a file of /proc."""
    with suppress(OSError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(start):
                return line.partition(":")[2].strip()
    return "unknown"


def _processor() -> str:
    name = _found("/proc/cpuinfo", "model name")
    return name if name != "unknown" else platform.processor() or "unknown"


def _memory() -> str:
    found = _found("/proc/meminfo", "MemTotal").split()
    return f"{int(found[0]) / 2**20:.1f} GiB" if len(found) == 2 else "unknown"


def _filesystem(work: Path) -> str:
    """The type of the mount that the folder lies on: the longest that leads to it."""
    best, kind = "", "unknown"
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, mount, name = line.split()[:3]
            if work.resolve().is_relative_to(mount) and len(mount) >= len(best):
                best, kind = mount, name
    return kind


def _commit() -> str:
    with suppress(OSError, subprocess.CalledProcessError):
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + (", with changes" if _git("status", "--porcelain") else "")
    return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _versions() -> list[str]:
    found = []
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return found
