"""A warm process: it has modules imported, and forks a child for each command it is asked for.

``python forkserver.py SOCKET MODULE…`` is started by `tests.helpers.process`. Each message on the
socket is a request in JSON, with four files: the child's standard ones, and a socket of its own.
On that one the child's ID is sent back, and its status when it has ended.
"""

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import resource
import runpy
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any

HEAVY = {"tensorflow", "keras", "torch", "jax", "distributed"}

# What commands import late, beside the package itself.
LATER = ["PIL.Image", "filelock", "hdf5plugin", "jinja2", "loky", "matplotlib.figure", "pooch"]
LATER += ["requests", "tenacity", "typer._adapters"]


class InlineExecutor(Executor):
    """An executor that runs a task when it is submitted, in the same thread."""

    def __init__(self, more: int = 0) -> None:
        """Take what `thread_pool` does; there are no threads."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it now."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def preload(modules: Iterable[str]) -> None:
    """Import these modules and the whole package, but for what in it needs others of `HEAVY`."""
    import pixelprep

    without: dict[str, Any] = dict.fromkeys(HEAVY - {*modules})
    sys.modules.update(without)  # which cannot be imported now
    package = (found.name for found in pkgutil.walk_packages(pixelprep.__path__, "pixelprep."))
    for name in [*modules, *LATER, *(name for name in package if not name.endswith("__main__"))]:
        with suppress(Exception):  # extras that are not installed
            importlib.import_module(name)
    for name in without:
        del sys.modules[name]
    gc.collect()
    gc.freeze()  # so that children share the memory


def serve(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork a child for each request; return in the child, with the request and its files."""
    running: dict[int, tuple[int, socket.socket]] = {}  # by pidfd
    while True:
        ready, _, _ = select.select([control.fileno(), *running], [], [])
        for ended in running.keys() & set(ready):
            child, report = running.pop(ended)
            os.close(ended)
            with report, suppress(BrokenPipeError, BlockingIOError):  # nobody waits for it any more
                report.send(os.waitpid(child, 0)[1].to_bytes(4, "little"))
                report.recv(1, socket.MSG_DONTWAIT)  # unread, a release would undo what was sent
        if control.fileno() not in ready:
            continue
        request, files, _, _ = socket.recv_fds(control, 1 << 20, 4)
        if not request:
            sys.exit()  # whoever started this process has ended
        child = os.fork()
        if child == 0:
            control.close()
            for ended, (_, report) in running.items():
                os.close(ended)
                report.close()
            return json.loads(request), files
        for file in files[:3]:
            os.close(file)
        report = socket.socket(fileno=files[3])
        report.send(child.to_bytes(4, "little"))
        running[os.pidfd_open(child)] = child, report


def become(request: dict[str, Any], files: list[int]) -> None:
    """Set up everything that an interpreter starts with, as if this one had just been started."""
    with suppress(OSError, AttributeError):  # only some systems ask whom a process lets trace it
        ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER, ANY
    if request["new_session"]:
        os.setsid()
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    sys.argv[1:] = request["arguments"]
    sys.path[0] = request["cwd"]
    with socket.socket(fileno=files[3]) as report:
        if request["held"]:
            report.recv(1)
    for kind, limit in request["limits"]:
        resource.setrlimit(kind, (limit, limit))


def main(request: dict[str, Any]) -> None:
    """Run the code that comes before, and then the command line."""
    if request["inline"]:
        from pixelprep.system import parallel

        parallel.thread_pool = InlineExecutor  # type: ignore[assignment] # an executor like it
    exec(request["code"], {"__name__": "__main__"})
    try:
        runpy.run_module("pixelprep", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if not request["hurried"]:
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(ended.code or 0))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends whoever started this process
    CONTROL, *MODULES = sys.argv[1:]
    preload(MODULES)
    REQUEST, FILES = serve(socket.socket(fileno=int(CONTROL)))
    become(REQUEST, FILES)
    main(REQUEST)
