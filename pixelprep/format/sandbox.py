"""Run libhdf5 in a process of its own, which a hostile file may crash, hang or fill.

The process has limits of memory and time; the memory limit needs Linux.
"""

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any  # Any: JSON values

from pixelprep import errors
from pixelprep.errors import PixelprepError
from pixelprep.system import os_calls

if sys.platform != "win32":
    import resource

LOG = logging.getLogger("pixelprep")

KILLED = 9  # the signal that cannot be refused
TIMEOUT = 60  # seconds from one value to the next
MEMORY = 512 << 20  # bytes beyond those of an idle interpreter
MEMORY_IN_USE = Path("/proc/self/statm")  # in pages; Linux alone limits what it tells
PROGRAM = """
import sys
sys.path[:] = sys.argv[2:]
from pixelprep.format import sandbox
sandbox.main(int(sys.argv[1]))
"""

Function = Callable[..., Iterator[Any]]


class SandboxError(Exception):
    """The process did not finish its function; the message says why."""


class OutOfMemory(SandboxError):
    """The process needed more memory than it was allowed, or than there is."""


def run_in_sandbox(function: str, **arguments: Any) -> Iterator[Any]:
    """Run a generator in a process of its own, and yield its values.

    It is ``module:name`` in this package; arguments and values are JSON values. A PixelprepError
    or the system's OSError that it raises is raised here; where it raises another, the process
    crashes, needs too much memory, or yields nothing for `TIMEOUT` seconds, a SandboxError.
    """
    os_calls.require_posix("parsing HDF5 that is packed, or others'")
    _tell_of_no_limit()
    # One thread: each thread of the linear algebra library counts as memory.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    receiver, sender = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(sender), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # libraries print there
            stderr=subprocess.DEVNULL,
            pass_fds=[sender],
            env=environment,
        )
    except BaseException:
        os.close(receiver)
        raise
    finally:
        os.close(sender)
    try:
        with os.fdopen(receiver, "rb") as replies:
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(json.dumps([function, arguments]).encode())
            yield from receive(replies)
    except SandboxError as error:
        with suppress(subprocess.TimeoutExpired):
            if process.wait(1) == -KILLED:  # as Linux does when memory runs out
                raise OutOfMemory("the system killed the process that reads it") from error
        raise
    finally:
        process.kill()
        process.wait()


@cache
def _tell_of_no_limit() -> None:
    if not MEMORY_IN_USE.exists():
        LOG.warning("this system does not limit the memory of the process that reads HDF5 files")


def receive(replies: IO[bytes]) -> Iterator[Any]:
    """Yield the values of a process's replies, and raise what its function raised."""
    for line in replies:
        kind, value = json.loads(line)
        if kind == "value":
            yield value
        elif kind == "pixelprep error":
            name, message, hint = value
            raise getattr(errors, name)(message, hint)
        elif kind == "system error":
            raise OSError(*value)
        elif kind == "out of memory":
            raise OutOfMemory(value)
        elif kind == "other error":
            raise SandboxError(value)
        else:
            return
    raise SandboxError("libhdf5 crashes on it, never finishes, or needs too much memory")


def main(sender: int) -> None:
    """Run the function named on standard input, and send its values to this descriptor."""
    function, arguments = json.loads(sys.stdin.buffer.read())
    module, _, name = function.partition(":")
    run: Function = getattr(importlib.import_module(module), name)
    set_limits()
    with os.fdopen(sender, "wb", buffering=0) as out:
        for reply in iter_replies(run, arguments):
            out.write(json.dumps(reply).encode() + b"\n")
            _allow_time()
    os._exit(0)  # without closing what libhdf5 has open


def set_limits() -> None:
    """Limit this process's memory, and its time to the first value."""
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError, ValueError):  # no limit where the system has no /proc
            pages = int(MEMORY_IN_USE.read_text().split()[0])
            _limit_memory(pages * resource.getpagesize() + MEMORY)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # kills the process even inside libhdf5
        _allow_time()


def _allow_time() -> None:
    if sys.platform != "win32":
        signal.alarm(TIMEOUT)


def allow_memory(more: int) -> None:
    """Raise this process's limit, if it has one, by what is known to be needed."""
    if sys.platform != "win32":
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            _limit_memory(limit + more)


def _limit_memory(max_bytes: int) -> None:
    if sys.platform != "win32":
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = max_bytes if hard == resource.RLIM_INFINITY else min(max_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def iter_replies(run: Function, arguments: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Run a function; yield its values, then how it ended, each with its kind."""
    try:
        for value in run(**arguments):
            yield "value", value
    except PixelprepError as error:
        yield "pixelprep error", (type(error).__name__, error.message, error.hint)
    except OSError as error:
        if error.errno is None:  # a library's own, of what it reads
            yield "other error", f"{type(error).__name__}: {error}"
        else:  # such as a full disk
            yield "system error", (error.errno, error.strerror, error.filename)
    except MemoryError:
        yield "out of memory", "it needs more memory than there is"
    except Exception as error:
        yield "other error", f"{type(error).__name__}: {error}"
    else:
        yield "end", None
