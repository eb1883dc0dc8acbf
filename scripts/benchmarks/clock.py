"""How long things take inside a process."""

import itertools
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

Measure = Callable[[], float]  # measures one round

ENOUGH = 0.5  # seconds: what is faster is repeated within a round
MOST = 5.0  # seconds: what is slower is measured on a part of the epoch
BATCH = 64


def repeated(action: Callable[[], object]) -> Measure:
    """Measure seconds a call."""

    def measure() -> float:
        calls, begun = 0, time.perf_counter()
        while (taken := time.perf_counter() - begun) < ENOUGH:
            action()
            calls += 1
        return taken / calls

    return measure


def once(action: Callable[[], object]) -> Measure:
    """Measure seconds of one call: the first there, where each round is a process of its own."""

    def measure() -> float:
        begun = time.perf_counter()
        action()
        return time.perf_counter() - begun

    return measure


class Epochs:
    """Images a second of shuffled epochs of batches of 64 into an empty loop.

    Parameters
    ----------
    epoch : callable
        Given a number that is new at every pass, opens that epoch: an iterable of batches.
    rows : int
        Images of an epoch.
    finish : callable
        Given the last batch, waits for what is still under way.
    scale : float
        What one image counts: 1, or its gigabytes.
    """

    def __init__(
        self,
        epoch: Callable[[int], Iterable[Any]],
        rows: int,
        finish: Callable[[Any], object] = lambda last: None,
        scale: float = 1.0,
    ) -> None:
        self.epoch, self.rows, self.finish, self.scale = epoch, rows, finish, scale
        self.numbers = itertools.count()
        self.steps = 0  # of an epoch, that a pass takes at most; 0: not known yet

    def __call__(self) -> float:
        self.steps = self.steps or self._steps_in_time()
        images, begun, taken = 0, time.perf_counter(), 0.0
        while taken < ENOUGH:
            images += self._pass()
            taken = time.perf_counter() - begun
        return images / taken * self.scale

    def _steps_in_time(self) -> int:
        begun = time.perf_counter()
        for step, _ in enumerate(self.epoch(next(self.numbers)), 1):
            if time.perf_counter() - begun > MOST:
                return step
        return sys.maxsize

    def _pass(self) -> int:
        last = None
        for last in itertools.islice(self.epoch(next(self.numbers)), self.steps):  # noqa: B007
            pass
        self.finish(last)
        return min(self.rows, self.steps * BATCH)
