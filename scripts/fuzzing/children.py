"""Try inputs in children forked from a warm process: a crash or a hang ends only a child.

Each child takes many inputs, one after the other, and says of each what came of it. The parent
notes when one falls silent, and goes on with the next input in a new child. What pixelprep does in
a process of its own it does in a fork (`isolation`) of the child, which may crash or hang; the same
input is then tried again as users would have it.
"""

import ctypes
import faulthandler
import json
import os
import resource
import select
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import NoReturn

from fuzzing.isolation import EVERY, Isolation, how_ended, where
from fuzzing.seeds import Files
from fuzzing.targets import TARGETS
from pixelprep import PixelprepError

A_CHILD = 250  # inputs
PATIENCE = 10.0  # seconds that one input may take
MOST = 256 << 20  # bytes that one may take, beside what valid ones took before
ADDRESSED = 2 << 30  # bytes that a child may address beside; the system refuses more
ONE_ARENA = -8  # option of mallopt: else every thread reserves addresses of its own
ACCEPTED, REFUSED, CONTAINED = "accepted", "refused", "contained"
FAILED = ERROR, MEMORY, CRASH, HANG = "error", "memory", "crash", "hang"
INPUT, LOG = "input", "log"  # the folder of the input that is tried, and what is said of it


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one input."""

    number: int
    kind: str  # accepted, refused, contained (refused, as a process of its own died), or a failure
    what: str = ""  # the error's class and, of a failure, where it was; how the process died
    detail: str = ""  # of a failure: the traceback, or the last words
    seconds: float = 0.0
    peak: int = 0  # bytes of memory at most, beside what valid inputs took


def made(name: str, seed: int, number: int) -> Files:
    """Return the files of one input: the same for the same seed, whatever ran before."""
    return TARGETS[name].make(Random(f"{seed} {name} {number}"))


def failed(work: Path, number: int) -> Path:
    """Return where the files of an input that failed are, until the next child."""
    return work / f"failed-{number}"


def outcomes(name: str, seed: int, numbers: range, work: Path) -> Iterator[Outcome]:
    """Yield the outcome of each of these inputs, last those that killed a process of their own.

    Parameters
    ----------
    name : str
        The target.
    seed : int
        With the target and its number, this decides an input.
    numbers : range
        Which inputs.
    work : Path
        A folder that is emptied for every child.

    Raises
    ------
    RuntimeError
        When a valid input does not pass.
    """
    first = numbers.start
    while first < numbers.stop:
        part, contained = range(first, min(first + A_CHILD, numbers.stop)), []
        for outcome in _of_child(name, seed, part, work):
            first = outcome.number + 1
            if outcome.kind == CONTAINED and not is_whole(outcome.number):
                contained.append(outcome)
            else:
                yield _confirmed(outcome, name, seed, work) if outcome.kind == CRASH else outcome
        for outcome in contained:  # now, so that no two processes are busy at once
            yield _repeated(outcome, name, seed, work)


def is_whole(number: int) -> bool:
    """Return whether an input is tried as users would, with real processes where these belong."""
    return number % EVERY == 0


def _confirmed(crash: Outcome, name: str, seed: int, work: Path) -> Outcome:
    """Tell a crash in a child of its own from one that needs what others did to the memory."""
    again = next(_of_child(name, seed, _only(crash), work.with_name("alone")))
    if again.kind == CRASH:
        return crash
    return replace(crash, what=f"{crash.what}, but not alone: one of up to {A_CHILD} before it")


def _repeated(contained: Outcome, name: str, seed: int, work: Path) -> Outcome:
    """Return the outcome once it is sure that users get one line where a fork died."""
    alone = work.with_name("alone")
    again = next(_of_child(name, seed, _only(contained), alone, whole=True))
    seconds, peak = max(again.seconds, contained.seconds), max(again.peak, contained.peak)
    if again.kind == ACCEPTED:
        # Files before it may have left libhdf5 damaged: those of users come one a process.
        directly = next(_of_child(name, seed, _only(contained), alone))
        if directly.kind != CONTAINED:
            return directly
        return replace(again, kind=ERROR, what=f"accepted, but {contained.what}")
    if again.kind in FAILED:
        failed(alone, again.number).rename(failed(work, again.number))
        return again
    return replace(contained, seconds=seconds, peak=peak)


def _only(outcome: Outcome) -> range:
    return range(outcome.number, outcome.number + 1)


def _of_child(
    name: str, seed: int, numbers: range, work: Path, whole: bool = False
) -> Iterator[Outcome]:
    """Yield their outcomes, up to the first that ended the child."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        os.close(receive)
        _run(name, seed, numbers, work, send, whole)
    os.close(send)
    coming, silent = numbers.start - 1, False  # first of all it says that it is ready
    try:
        for line in _lines(receive):
            if silent := line is None:
                break
            if line:
                yield Outcome(**json.loads(line))
            coming += 1
    finally:
        os.close(receive)
        how = _ended(child, silent)
    words = (work / LOG).read_text(errors="replace").partition("Extension modules:")[0]
    if coming < numbers.start:
        raise RuntimeError(f"{name}: a valid input does not pass: {how}\n{words}")
    if coming < numbers.stop:
        kind = HANG if silent else CRASH
        (work / INPUT).rename(failed(work, coming))
        yield Outcome(
            coming, kind, f"{kind} {how} {where(work / LOG)}", words[-5000:], seconds=PATIENCE
        )


def _lines(receive: int) -> Iterator[bytes | None]:
    """Yield what a child says, line by line; None when it has been silent for too long."""
    rest = b""
    while True:
        if not select.select([receive], [], [], PATIENCE)[0]:
            yield None
        piece = os.read(receive, 1 << 16)
        if not piece:
            return
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines


def _ended(child: int, silent: bool) -> str:
    """Return how a child ended; one that is silent is asked where it is, and ended."""
    if silent:
        os.kill(child, signal.SIGABRT)
        for _ in range(50):
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.02)
        os.kill(child, signal.SIGKILL)
    return how_ended(child)


# In the child


def _run(name: str, seed: int, numbers: range, work: Path, send: int, whole: bool) -> NoReturn:
    """Report that a valid input passes, then the outcome of each input, and end."""
    try:
        log = (work / LOG).open("a")  # at its end, wherever that is
        for stream in (1, 2):  # libraries print where they like
            os.dup2(log.fileno(), stream)
        faulthandler.enable(log)
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(ONE_ARENA, 1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for real in (True, False, False):
            _written(TARGETS[name].valid(), work / INPUT)
            with Isolation(real, work / LOG).in_place():
                TARGETS[name].use(work / INPUT, real)
        base, addressed = _memory("VmRSS"), _memory("VmSize")
        resource.setrlimit(resource.RLIMIT_AS, (addressed + ADDRESSED,) * 2)
        os.write(send, b"\n")
        for number in numbers:
            outcome = _tried(name, seed, number, work, base, whole or is_whole(number))
            os.write(send, json.dumps(asdict(outcome)).encode() + b"\n")
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _tried(name: str, seed: int, number: int, work: Path, base: int, whole: bool) -> Outcome:
    folder, isolation = work / INPUT, Isolation(whole, work / LOG)
    os.truncate(work / LOG, 0)
    _written(made(name, seed, number), folder)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what it is now
    begun = time.perf_counter()
    with isolation.in_place():
        outcome = _result(number, lambda: TARGETS[name].use(folder, whole))
    seconds, peak = time.perf_counter() - begun, max(0, _memory("VmHWM") - base)
    outcome = replace(_considered(outcome, isolation.deaths, peak), seconds=seconds, peak=peak)
    if outcome.kind in FAILED:
        folder.rename(failed(work, number))
    return outcome


def _considered(outcome: Outcome, deaths: Sequence[str], peak: int) -> Outcome:
    """Judge an outcome by how processes ended and how much memory this one took."""
    if outcome.kind == ERROR:
        return outcome
    if peak > MOST:
        what = f"{peak >> 20} MiB, then {outcome.kind} {outcome.what}"
        return replace(outcome, kind=MEMORY, what="memory", detail=what)
    if not deaths:
        return outcome
    if outcome.kind == ACCEPTED:
        return replace(outcome, kind=ERROR, what=f"accepted, though {deaths[0]}")
    return replace(outcome, kind=CONTAINED, what=deaths[0])


def _written(files: Files, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _result(number: int, use: Callable[[], None]) -> Outcome:
    try:
        use()
    except PixelprepError as error:
        kind = type(error).__name__
        if len(str(error).splitlines()) == 1:
            return Outcome(number, REFUSED, kind)
        return Outcome(number, ERROR, f"{kind} of several lines", str(error))
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if f"{os.sep}pixelprep{os.sep}" in frame.filename]
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "no line of ours"
        what = f"{type(error).__name__} at {place}"
        return Outcome(number, ERROR, what, traceback.format_exc()[-5000:])
    return Outcome(number, ACCEPTED)


def _memory(field: str) -> int:
    """Return the bytes of this process that the system counts under this name."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) << 10
