"""Commands under strace: their system calls recorded, made to fail, or made their last.

The calls, the processes and the disk are real. strace counts the calls of one name in one thread;
so a run that is to be disturbed at a certain call does at once, in its main thread, what is else
given to threads (`inline`), and then makes the same calls in the same order every time.

Starting Python takes longer than preparing a tiny dataset: a warm process forks the commands, and
each waits until strace is attached to it.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.helpers.cli import start
from tests.helpers.process import Forked, Process, execute

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
    """One system call; `begin` and `end` order the beginnings and the ends of all calls."""

    thread: int
    name: str
    arguments: str  # as strace shows them
    result: str  # likewise; empty where there was none
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
        """Return whether it concerns this folder or anything in it."""
        return any(path.is_relative_to(folder) for path in self.paths)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(str(path) for path in self.paths)})"


def calls(trace: str) -> list[Call]:
    """Return the calls of a trace, in the order of their beginnings."""
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
    """Where a run is disturbed: at this call of its main thread."""

    call: Call  # as it was in an undisturbed run
    count: int  # the how manyth of its name it is, from 1
    only: Path | None = None  # the file or folder whose calls alone are counted; None: all are

    def fault(self, what: str) -> list[str]:
        """Arguments of strace: ``error=…`` or ``signal=…`` here, once."""
        filtered = [] if self.only is None else ["-P", str(self.only)]
        return [*filtered, "-e", f"inject={self.call.name}:{what}:when={self.count}"]

    def __str__(self) -> str:
        return f"{self.count}. {self.call}"


def spots(
    made: Sequence[Call], wanted: Callable[[Call], bool], *, by_path: bool = False
) -> list[Spot]:
    """Return the calls of the main thread, of all that an undisturbed run made, that are wanted.

    With `by_path` the calls on one path alone are counted. Its name must be the same in every run;
    how many calls there are on others need not be.
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
    """A command that came to its end."""

    status: int  # exit status, or minus the signal that ended it
    out: str
    err: str
    calls: list[Call]  # where it was traced
    seconds: float

    @property
    def done(self) -> "subprocess.CompletedProcess[str]":
        """The same as `subprocess.run` has it."""
        return subprocess.CompletedProcess([], self.status, self.out, self.err)


def disturbed(
    *arguments: str,
    folder: Path,
    environment: Mapping[str, str],
    code: str = "",
    fault: Sequence[str] | None = None,
    inline: bool = True,
    hurried: bool = True,
    killed_after: float = LONGEST,
) -> Ended:
    """Run ``pixelprep ARGUMENTS`` in this folder, in a process of its own, forked by a warm one.

    The `environment` is set in addition. `fault` is arguments of strace (`Spot.fault`), an empty
    list to trace only, or None: there is no strace. The rest is as `Forked` has it.
    """
    trace = folder / "trace"
    process = start(
        *arguments,
        code=code,
        held=True,
        inline=inline,
        hurried=hurried,
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env=os.environ | environment,
    )
    assert isinstance(process, Forked)
    with nullcontext() if fault is None else attached(process.pid, trace, fault):
        began = time.perf_counter()
        process.release()
        try:
            out, err = process.communicate(timeout=killed_after)
        except subprocess.TimeoutExpired:
            out, err = process.communicate()
        seconds = time.perf_counter() - began
    made = [] if fault is None else calls(trace.read_text(errors="replace"))
    return Ended(process.returncode, out, err, made, seconds)


@contextmanager
def attached(child: int, trace: Path, fault: Sequence[str]) -> Iterator[None]:
    """Have strace attached to this process, and wait for it in the end."""
    command = ["strace", *FORM, *fault, "-o", str(trace), "-p", str(child)]
    with Process(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        if not said.rstrip().endswith("attached"):
            tracer.kill()
            raise OSError(f"strace cannot be attached: {said}")
        yield


@cache
def why_not() -> str:
    """Why there is no test with strace on this machine; empty where there is."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    trial = [sys.executable, "-c", "import os; os.mkdir('/')"]
    command = ["strace", *FORM, "-e", "inject=mkdir,mkdirat:error=EIO", "-o", "/dev/null", *trial]
    said = execute(command).stderr
    return "" if "Errno 5" in said else "strace may not trace or disturb processes here"


def traced(command: Sequence[str], trace: Path, **options: Any) -> tuple[int, list[Call]]:
    """Run any command from its start to its end; its exit status and its calls."""
    strace = ["strace", "--seccomp-bpf", *FORM, "-o", str(trace), *command]
    done = execute(strace, **options)
    return done.returncode, calls(trace.read_text(errors="replace"))
