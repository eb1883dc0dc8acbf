"""libhdf5 in a process of its own: a file that somebody sent can crash it, hang it, or have it
take all memory.
"""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pixelprep import errors
from pixelprep.errors import PixelprepError

TIMEOUT = 60  # seconds from one value to the next
MEMORY = 512 << 20  # bytes beyond what an idle interpreter has
PROGRAM = """
import sys
sys.path[:] = sys.argv[2:]
from pixelprep.format import sandbox
sandbox.main(int(sys.argv[1]))
"""

Function = Callable[..., Iterator[Any]]


class SandboxError(Exception):
    """The process came to another end than its function; why, in a few words."""


def run_in_sandbox(function: str, **arguments: Any) -> Iterator[Any]:
    """What a generator yields that runs in a process of its own.

    Parameters
    ----------
    function : str
        ``module:name`` of a generator in this package.
    **arguments
        Its arguments, and what it yields, are JSON values.

    Raises
    ------
    PixelprepError, OSError
        When the function raises one.
    Died
        When the process crashes, takes too much memory, or yields nothing for `PATIENCE` seconds.
    """
    # One thread: each that the linear algebra library starts counts as memory.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    out, into = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(into), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # libraries print there
            stderr=subprocess.DEVNULL,
            pass_fds=[into],
            env=environment,
        )
    except BaseException:
        os.close(out)
        raise
    finally:
        os.close(into)
    try:
        with os.fdopen(out, "rb") as said:
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin as asking:
                asking.write(json.dumps([function, arguments]).encode())
            yield from _receive(said)
    finally:
        process.kill()
        process.wait()


def _receive(said: Any) -> Iterator[Any]:
    for line in said:
        kind, value = json.loads(line)
        if kind == "value":
            yield value
        elif kind == "error":
            name, message, hint = value
            raise getattr(errors, name)(message, hint)
        elif kind == "system":
            raise OSError(*value)
        elif kind == "mistake":
            raise SandboxError(value)
        else:
            return
    raise SandboxError("libhdf5 crashes on it, does not come to an end, or takes too much memory")


def main(into: int) -> None:
    """Run the function that is asked for, and say what it yields."""
    function, arguments = json.loads(sys.stdin.buffer.read())
    module, _, name = function.partition(":")
    run: Function = getattr(importlib.import_module(module), name)
    _limit()
    with os.fdopen(into, "wb", buffering=0) as out:
        for answer in _answers(run, arguments):
            out.write(json.dumps(answer).encode() + b"\n")
            signal.alarm(TIMEOUT)
    os._exit(0)  # what libhdf5 still holds is left to the system


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # where the system does not tell, there is no limit
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, whatever it is in
    signal.alarm(TIMEOUT)


def _answers(run: Function, arguments: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    try:
        for value in run(**arguments):
            yield "value", value
    except PixelprepError as error:
        yield "error", (type(error).__name__, error.message, error.hint)
        return
    except OSError as error:  # a disk that is full
        yield "system", (error.errno, error.strerror, error.filename)
        return
    except MemoryError:
        yield "mistake", "it takes too much memory"
        return
    except Exception as error:
        yield "mistake", f"{type(error).__name__}: {error}"
        return
    yield "end", None
