"""How long things take inside a process."""

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.contest import Measure, Reading

ENOUGH = 0.5  # seconds: what is faster is repeated within a round
MOST = 5.0  # seconds: what is slower is measured on a part of the epoch
BATCH = 64


def repeated(action: Callable[[], object]) -> Measure:
    """Seconds a call."""

    def measure(number: int) -> Reading:
        calls, begun = 0, time.perf_counter()
        while (taken := time.perf_counter() - begun) < ENOUGH:
            action()
            calls += 1
        return Reading(taken / calls)

    return measure


def once(action: Callable[[], object]) -> Measure:
    """Seconds of one call: where each round is a process of its own, the first there."""

    def measure(number: int) -> Reading:
        begun = time.perf_counter()
        action()
        return Reading(time.perf_counter() - begun)

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
        self.steps: int | None = None  # of a part of an epoch; None: all, however many there are

    def __call__(self, number: int) -> Reading:
        if number == 0:
            self.steps = self._steps_in_time()
        images, begun, taken = 0, time.perf_counter(), 0.0
        while taken < ENOUGH:
            images += self._pass()
            taken = time.perf_counter() - begun
        return Reading(images / taken * self.scale, self._remark())

    def _steps_in_time(self) -> int | None:
        begun = time.perf_counter()
        for step, _ in enumerate(self.epoch(next(self.numbers)), 1):
            if time.perf_counter() - begun > MOST and step * BATCH < self.rows:
                return step
        return None

    def _pass(self) -> int:
        last = None
        for last in itertools.islice(self.epoch(next(self.numbers)), self.steps):  # noqa: B007
            pass
        self.finish(last)
        return self.rows if self.steps is None else self.steps * BATCH

    def _remark(self) -> str:
        if self.steps is None:
            return ""
        return f"measured on {self.steps * BATCH / self.rows:.0%} of an epoch"
