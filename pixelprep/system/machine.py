"""Describe the machine as far as this process may use it; what the system does not tell is None."""

import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from pixelprep.system import parallel

CGROUPS = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60  # bytes: version 1 of control groups has a number near 2**63 for "no limit"


def describe() -> dict[str, object]:
    """Return system, processor, cores and memory, each with the limits of this process."""
    return {
        "system": f"{system_name()} ({platform.uname().system} {platform.release()})",
        "architecture": platform.machine(),
        "processor": _first(Path("/proc/cpuinfo"), r"model name\s*: (.+)"),
        "cores": os.cpu_count(),
        "cores_allowed": parallel.cores(),
        "cores_of_cgroup": _cgroup_cores(),
        "memory_bytes": _kilobytes("MemTotal"),
        "memory_free_bytes": _kilobytes("MemAvailable"),
        "memory_of_cgroup_bytes": _cgroup_memory(),
        "memory_of_ulimit_bytes": _address_space(),
    }


def system_name() -> str:
    """Return the name and the version of the operating system as its maker gives it."""
    with suppress(OSError):
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    if version := platform.mac_ver()[0]:
        return f"macOS {version}"
    return platform.uname().system


def file_system(path: Path) -> str | None:
    """Return the type of the file system that holds a path: that of the last mount above it."""
    found, best = None, -1
    with suppress(OSError, RuntimeError):  # Python 3.12 and older: links that lead in a circle
        target = path.resolve()
        for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
            fields, _, rest = line.partition(" - ")
            where = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields.split()[4])
            if target.is_relative_to(where) and len(PurePosixPath(where).parts) >= best:
                found, best = rest.split()[0], len(PurePosixPath(where).parts)
    return found


def _first(path: Path, pattern: str) -> str | None:
    with suppress(OSError):
        if match := re.search(pattern, path.read_text(errors="replace")):
            return match[1].strip()
    return None


def _kilobytes(name: str) -> int | None:
    found = _first(Path("/proc/meminfo"), rf"{name}:\s*(\d+) kB")
    return int(found) << 10 if found else None


def _cgroup_files(controller: str, name: str) -> Iterator[Path]:
    """Yield a file of this process's control group, and of all above it, in both versions."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, own = line.split(":", 2)
            if controller not in controllers.split(",") and controllers:
                continue
            top = CGROUPS / controller if controllers else CGROUPS
            group = PurePosixPath(own.lstrip("/"))
            yield from (top / above / name for above in (group, *group.parents))


def _cgroup_memory() -> int | None:
    limits = []
    for name in ("memory.max", "memory.limit_in_bytes"):
        for path in _cgroup_files("memory", name):
            with suppress(OSError, ValueError):  # there is none, or it says "max"
                limits.append(int(path.read_text()))
    return min((limit for limit in limits if limit < UNLIMITED), default=None)


def _cgroup_cores() -> float | None:
    """Return how many cores' time the control groups allow."""
    shares = []
    for path in _cgroup_files("cpu", "cpu.max"):
        with suppress(OSError, ValueError):
            quota, period = map(int, path.read_text().split())
            shares.append(quota / period)
    for path in _cgroup_files("cpu", "cpu.cfs_quota_us"):
        with suppress(OSError, ValueError):
            quota = int(path.read_text())
            period = int(path.with_name("cpu.cfs_period_us").read_text())
            shares += [quota / period] if quota > 0 else []
    return min(shares, default=None)


def _address_space() -> int | None:
    if sys.platform != "win32":  # which has no such limit
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            return soft
    return None
