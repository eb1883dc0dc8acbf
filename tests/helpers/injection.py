"""Commands under strace: their system calls recorded, made to fail, or made their last.

The calls, the processes and the disk are real. strace counts the calls of one name in one thread;
so a run that is to be disturbed at a certain call does at once, in its main thread, what is else
given to threads (`AtOnce`), and then makes the same calls in the same order every time.

Starting Python takes longer than preparing a tiny dataset. A `Warm` process has all modules
imported and forks a child for each command; the child waits until strace is attached to it.
"""

import ctypes
import importlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

LONGEST = 60.0  # seconds that a command may take

WRITES = ("write", "pwrite64", "writev", "ftruncate")
SYNCS = ("fsync", "fdatasync")
RENAMES = ("rename", "renameat", "renameat2")
FOLDERS = ("mkdir", "mkdirat")
REMOVALS = ("unlink", "unlinkat", "rmdir")
OPENINGS = ("open", "openat", "creat")
CHANGES = (*WRITES, *SYNCS, *RENAMES, *FOLDERS, *REMOVALS)  # beside files opened to be written

# Which of these a machine has depends on its processor.
TRACED = "trace=" + ",".join(f"?{name}" for name in (*CHANGES, *OPENINGS))
FORM = ["-f", "-y", "-s", "0", "-e", "signal=none", "-e", TRACED]

# ID  NAME(ARGUMENTS) = RESULT; a call that another thread's interrupts comes in two lines.
LINE = re.compile(r"(?P<thread>\d+) +(?:<\.\.\. \w+ resumed>|(?P<name>\w+)\()(?P<rest>.*)")
UNFINISHED = " <unfinished ...>"
PATH = re.compile(
    r'(?:(?:AT_FDCWD|\d+)<(?P<folder>[^>]*)>(?:, )?)?"(?P<name>[^"]*)"|\d+<(?P<file>[^>]*)>'
)


@dataclass(frozen=True, slots=True)
class Call:
    """One system call.

    thread : ID of the thread
    name : of the call
    arguments, result : as strace shows them; the result is empty where there was none
    begin, end : numbers that order the beginnings and the ends of all calls
    """

    thread: int
    name: str
    arguments: str
    result: str
    begin: int
    end: int

    @property
    def paths(self) -> list[Path]:
        """The files and folders that it concerns, in order."""
        return [
            Path(found["file"]) if found["file"] else Path(found["folder"] or "", found["name"])
            for found in PATH.finditer(self.arguments)
        ]

    @property
    def anchor(self) -> Path:
        """The one that strace filters by: the last, but of a rename the old name, and of a name
        below an open folder that folder.
        """
        if self.name in RENAMES:
            return self.paths[0]
        last = list(PATH.finditer(self.arguments))[-1]
        below = last["folder"] and last["name"] and not last[0].startswith("AT_FDCWD")
        return Path(last["folder"]) if below else self.paths[-1]

    @property
    def ok(self) -> bool:
        """Whether it did what it should."""
        return self.result != "" and not self.result.startswith(("-1", "?"))

    @property
    def injected(self) -> bool:
        """Whether it was made to fail."""
        return self.result.endswith("(INJECTED)")

    @property
    def changes(self) -> bool:
        """Whether it changes what is on the disk, or opens a file to do so."""
        if self.name in OPENINGS:
            return any(flag in self.arguments for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))
        return True

    def below(self, folder: Path) -> bool:
        """Whether it concerns this folder or anything in it."""
        return any(path.is_relative_to(folder) for path in self.paths)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(str(path) for path in self.paths)})"


def calls(trace: str) -> list[Call]:
    """The calls of a trace, in the order of their beginnings."""
    found: list[Call] = []
    open_at: dict[int, tuple[int, str, str]] = {}  # by thread: number, name and text so far
    for number, line in enumerate(trace.splitlines()):
        match = LINE.match(line)
        if match is None:
            continue  # a thread's end
        thread = int(match["thread"])
        begin, name, text = open_at.pop(thread, (number, match["name"] or "", ""))
        text += match["rest"]
        if text.endswith(UNFINISHED):
            open_at[thread] = (begin, name, text.removesuffix(UNFINISHED))
            continue
        arguments, _, result = text.rpartition(" = ")
        found.append(Call(thread, name, arguments, result.strip(), begin, number))
    last = len(trace)
    found += [Call(t, name, text, "", begin, last) for t, (begin, name, text) in open_at.items()]
    return sorted(found, key=lambda call: call.begin)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a run is disturbed: at this call of its main thread.

    call : as it was in an undisturbed run
    count : the how manyth of its name it is, from 1
    only : the file or folder whose calls alone are counted; None: all are
    """

    call: Call
    count: int
    only: Path | None = None

    def fault(self, what: str) -> list[str]:
        """Arguments of strace: ``error=…`` or ``signal=…`` here, once."""
        filtered = [] if self.only is None else ["-P", str(self.only)]
        return [*filtered, "-e", f"inject={self.call.name}:{what}:when={self.count}"]

    def __str__(self) -> str:
        return f"{self.count}. {self.call}"


def spots(
    made: Sequence[Call], wanted: Callable[[Call], bool], *, by_path: bool = False
) -> list[Spot]:
    """The calls of the main thread that a run may be disturbed at.

    Parameters
    ----------
    made : sequence of Call
        Of an undisturbed run.
    wanted : callable
        Which of them.
    by_path : bool
        Count the calls on one path alone. Its name must be the same in every run; how many calls
        there are on others need not be.
    """
    seen: Counter[tuple[str, Path | None]] = Counter()
    found = []
    for call in made:
        if call.thread != made[0].thread:
            continue
        only = call.anchor if by_path and call.paths else None
        seen[call.name, only] += 1
        if wanted(call):
            found.append(Spot(call, seen[call.name, only], only))
    return found


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that came to its end.

    status : exit status, or minus the signal that ended it
    out, err : what it printed
    calls : its system calls, where it was traced
    seconds : from its start to its end
    """

    status: int
    out: str
    err: str
    calls: list[Call]
    seconds: float

    @property
    def done(self) -> "subprocess.CompletedProcess[str]":
        """The same as `subprocess.run` has it."""
        return subprocess.CompletedProcess([], self.status, self.out, self.err)


class AtOnce(Executor):
    """An executor that does a task when it is given it, in the same thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Do it now."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Warm:
    """A process that has modules imported and forks a child for each command.

    Parameters
    ----------
    folder : Path
        Where traces and what is printed are kept meanwhile.
    modules : str
        What is imported, in this order.
    """

    def __init__(self, folder: Path, *modules: str) -> None:
        self.folder, self._learned = folder, False
        folder.mkdir(parents=True, exist_ok=True)
        # A process forks well only while it has one thread.
        settings = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        settings["TF_CPP_MIN_LOG_LEVEL"] = "3"  # as the command has it, before it is imported
        self._process = subprocess.Popen(
            [sys.executable, __file__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | settings,
            text=True,
        )

    def run(
        self,
        *arguments: str,
        place: Path,
        environment: dict[str, str],
        before: str = "",
        fault: Sequence[str] | None = None,
        at_once: bool = True,
        hurried: bool = True,
        killed_after: float | None = None,
    ) -> Ended:
        """Run ``pixelprep ARGUMENTS`` in a child of its own.

        What the first one imports besides, all later ones have from the start.

        Parameters
        ----------
        *arguments : str
            Of the command line.
        place : Path
            The current folder.
        environment : dict
            Set in addition.
        before : str
            Python code that is run first.
        fault : sequence of str, optional
            Arguments of strace (`Spot.fault`), or none to trace only. By default there is no
            strace.
        at_once : bool
            Do in the main thread what is given to threads.
        hurried : bool
            Leave out the interpreter's own end, which takes its time.
        killed_after : float, optional
            Seconds after which it is killed if it is not at its end.
        """
        out, err = self.folder / "out", self.folder / "err"
        learn, self._learned = not self._learned, True
        asked = {
            "arguments": arguments,
            "place": str(place),
            "environment": environment,
            "before": before,
            "at_once": at_once,
            "hurried": hurried,
            "out": str(out),
            "err": str(err),
            "learn": str(self.folder / "modules") if learn else "",
            "limit": LONGEST if killed_after is None else killed_after,
        }
        trace = self.folder / "trace"
        child = self._ask(json.dumps(asked))
        with nullcontext() if fault is None else attached(child, trace, fault):
            status, seconds = json.loads(self._ask("go"))
        made = [] if fault is None else calls(trace.read_text(errors="replace"))
        return Ended(
            os.waitstatus_to_exitcode(status), out.read_text(), err.read_text(), made, seconds
        )

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def attached(child: str, trace: Path, fault: Sequence[str]) -> Iterator[None]:
    """Have strace attached to this process, and wait for it in the end."""
    command = ["strace", *FORM, *fault, "-o", str(trace), "-p", child.strip()]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        if not said.rstrip().endswith("attached"):
            tracer.kill()
            raise OSError(f"strace cannot be attached: {said}")
        yield


def why_not() -> str:
    """Why there is no test with strace on this machine; empty where there is."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    trial = [sys.executable, "-c", "import os; os.mkdir('/')"]
    command = ["strace", *FORM, "-e", "inject=mkdir,mkdirat:error=EIO", "-o", "/dev/null", *trial]
    said = subprocess.run(command, capture_output=True, text=True).stderr
    return "" if "Errno 5" in said else "strace may not trace or disturb processes here"


def traced(command: Sequence[str], trace: Path, **options: Any) -> tuple[int, list[Call]]:
    """Run any command from its start to its end; its exit status and its calls."""
    strace = ["strace", "--seccomp-bpf", *FORM, "-o", str(trace), *command]
    done = subprocess.run(strace, capture_output=True, text=True, timeout=120, **options)
    return done.returncode, calls(trace.read_text(errors="replace"))


# What follows runs in the warm process.


def _serve() -> dict[str, Any]:
    """Fork a child for each command that is asked for; returns in the child, with what to do."""
    for line in sys.stdin:
        (ready, go), (set_up, says_so) = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            os.close(go)
            return {**json.loads(line), "ready": ready, "says_so": says_so}
        os.close(ready)
        os.close(says_so)
        os.read(set_up, 1)  # which ends when the child has no more to do but wait
        os.close(set_up)
        print(child, flush=True)
        sys.stdin.readline()
        os.close(go)
        ended = _waited(child, json.loads(line)["limit"])
        if learned := json.loads(line)["learn"]:
            _import(Path(learned).read_text().split())
        print(json.dumps(ended), flush=True)
    sys.exit()


def _import(modules: Sequence[str]) -> None:
    for module in modules:
        with suppress(Exception):  # not all can be imported by themselves
            importlib.import_module(module)


def _waited(child: int, limit: float) -> tuple[int, float]:
    """The child's status and how long it took; after so many seconds it is killed."""
    import signal
    import time

    started = time.perf_counter()
    process = os.pidfd_open(child)
    if not select.select([process], [], [], limit)[0]:
        os.kill(child, signal.SIGKILL)
    os.close(process)
    _, status = os.waitpid(child, 0)
    return status, time.perf_counter() - started


def _become(asked: dict[str, Any]) -> None:
    """Be the command, once whoever asked for it says so."""
    with suppress(OSError, AttributeError):  # only some systems ask whom a process lets trace it
        ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER, ANY
    writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, asked["out"], writing),
        (2, asked["err"], writing),
    ):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(asked["place"])
    os.environ.update(asked["environment"])
    sys.argv = ["pixelprep", *asked["arguments"]]
    os.close(asked["says_so"])
    os.read(asked["ready"], 1)  # which ends when strace is attached
    if asked["at_once"]:
        from pixelprep.system import parallel

        parallel.thread_pool = AtOnce  # type: ignore[assignment] # an executor like the other
    exec(asked["before"], {})
    from pixelprep.cli.app import main

    try:
        main()
    finally:
        if asked["learn"]:
            Path(asked["learn"]).write_text("\n".join(sys.modules))
        if asked["hurried"] and isinstance(ended := sys.exception(), SystemExit):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(ended.code or 0))


if __name__ == "__main__":
    sys.path.pop(0)  # the tests' own folder, which a user's command has not
    _import(sys.argv[1:])
    _become(_serve())
