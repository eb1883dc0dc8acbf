"""Processes that tests start: cold ones, and those forked by a warm process; no wait is endless."""

import glob
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Self

PATIENCE = 120.0  # seconds that a process may take, unless a test says otherwise

FORKSERVER = Path(__file__).with_name("forkserver.py")
TENSORFLOW = ("tensorflow", "keras", "matplotlib.figure")


class Process(subprocess.Popen[Any]):
    """A process that is not waited for endlessly."""

    def wait(self, timeout: float | None = PATIENCE) -> int:
        """Wait until it has ended; return its exit status, or minus a signal."""
        return super().wait(timeout)

    def communicate(self, input: Any = None, timeout: float | None = PATIENCE) -> tuple[Any, Any]:
        """Read what it prints until it has ended; kill it when that takes too long."""
        try:
            return super().communicate(input, timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def __exit__(self, *error: object) -> None:
        """Wait for it, and kill it where the test has failed."""
        if error[0] is not None:
            self.kill()
        super().__exit__(*error)  # type: ignore[arg-type] # as Python calls it


def seen(folder: Path, pattern: str) -> list[Path]:
    """Return what matches in a folder that a process is busy in; what vanishes meanwhile is not.

    `Path.glob` raises where a folder is deleted while it looks into it (CPython 3.11).
    """
    return [folder / name for name in glob.glob(pattern, root_dir=folder, recursive=True)]  # noqa: PTH207 - see above


def execute(command: Sequence[str | Path], **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run any command to its end; capture what it prints."""
    settings: dict[str, Any] = {"capture_output": True, "text": True, "timeout": PATIENCE}
    return subprocess.run(command, **(settings | options))


class ForkServer:
    """A process that has modules imported, beside the package, and forks commands."""

    def __init__(self, *modules: str) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A process forks well only while it has one thread.
        settings = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        settings["TF_CPP_MIN_LOG_LEVEL"] = "3"  # as the command has it, before it is imported
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, FORKSERVER, str(theirs.fileno()), *modules],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | settings,
                pass_fds=[theirs.fileno()],
            )

    def fork(self, request: bytes, files: Sequence[int]) -> tuple[int, socket.socket]:
        """Have a child forked; return its ID, and the socket that its status comes by."""
        report, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._control, [request], [*files, theirs.fileno()])
        report.settimeout(PATIENCE)
        return int.from_bytes(report.recv(4), "little"), report

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._control.close()
        self._process.wait(PATIENCE)


@cache
def fork_server(*modules: str) -> ForkServer:
    """Return the warm process that has these modules, started when it is first needed."""
    return ForkServer(*modules)


class Forked(Process):
    """A command that is forked by a warm process, with files, folder and environment of its own.

    Python `code` is run first, within `limits` as `resource.setrlimit` has them. A command that is
    `held` waits for `release` before it begins; `inline`, its main thread does what is given to
    threads; `hurried`, the interpreter's own end, which takes its time, is left out.
    """

    def __init__(
        self,
        server: ForkServer,
        arguments: Sequence[str],
        *,
        code: str = "",
        limits: Mapping[int, int] | None = None,
        held: bool = False,
        inline: bool = False,
        hurried: bool = False,
        **options: Any,
    ) -> None:
        self._server = server
        self._request = {"arguments": arguments, "code": code, "held": held, "inline": inline}
        self._request |= {"limits": list((limits or {}).items()), "hurried": hurried}
        super().__init__(arguments, **options)

    def release(self) -> None:
        """Let a command begin that was held."""
        self._report.send(b"!")

    # All that Popen does is done by these three (CPython 3.11 to 3.13).

    def _execute_child(self, *options: Any) -> None:
        cwd, env, pipes, new_session = options[5], options[6], options[10:16], options[21]
        os.umask(umask := os.umask(0))
        given = {"cwd": str(Path(cwd or "").absolute()), "environment": dict(env or os.environ)}
        request = {**self._request, **given, "umask": umask, "new_session": new_session}
        files = [
            pipe if pipe != -1 else number
            for number, pipe in enumerate((pipes[0], pipes[3], pipes[5]))
        ]
        self.pid, self._report = self._server.fork(json.dumps(request).encode(), files)
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined] # as Popen does
        self._child_created = True

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self._wait(0)
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None:
            left = None if timeout is None else max(0.0, timeout)
            if not select.select([self._report], [], [], left)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            status = int.from_bytes(self._report.recv(4), "little")
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode
