"""Contestants of one row measured in turns, round by round, and compared within each round."""

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.place import Crashed, LeftOut, Place

QUICK = 3  # rounds


class Reading(NamedTuple):
    """What one round gave, and what must be said of how it was measured."""

    value: float
    remark: str = ""


Measure = Callable[[int], Reading]  # is given the round's number; round 0 is thrown away
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Target:
    """What a ratio has to be."""

    sign: str  # one of ≤ < ≥ >
    bound: float
    text: str = ""  # where a fraction reads better

    def __str__(self) -> str:
        return f"{self.sign} {self.text or f'{self.bound:g}'}"

    def met(self, value: float) -> bool:
        """Whether this value is good enough."""
        return {
            "≤": value <= self.bound,
            "<": value < self.bound,
            "≥": value >= self.bound,
            ">": value > self.bound,
        }[self.sign]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table; `ours` and `theirs` are medians in `unit`."""

    row: str
    what: str
    against: str
    target: Target | None
    unit: str
    ours: float
    theirs: float | None
    ratio: float | None
    spread: tuple[float, float] | None  # of the ratio; of our values where nothing is against
    rounds: int
    note: str = ""
    values: dict[str, list[float]] = field(default_factory=dict)  # every round's

    @property
    def verdict(self) -> str:
        """Whether the ratio, or our value where there is none, is what it has to be."""
        if self.target is None:
            return "no target"
        value = self.ours if self.ratio is None else self.ratio
        return "met" if self.target.met(value) else "not met"


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something that is measured.

    Parameters
    ----------
    name : str
        In the row's duels and in the table.
    make : callable
        Sets it up, untimed, and returns what measures one round.
    home : str
        The process it lives in; contestants of a row with the same home share one. Empty: this
        process, for those that are whole processes themselves.
    fresh : bool
        Whether its home is a new process every round: what is timed is done there first.
    """

    name: str
    make: Callable[[Place], Measure]
    home: str = ""
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Duel:
    """One line of a row: two contestants, or ours alone."""

    ours: str
    theirs: str | None = None
    target: Target | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Contest:
    """A row whose contestants are measured in turns."""

    name: str
    what: str
    unit: str
    rounds: int
    contestants: tuple[Contestant, ...]
    duels: tuple[Duel, ...]

    def run(self, place: Place, say: Say) -> Iterator[Line]:
        """Measure all, and compare."""
        count = place.rounds or (min(QUICK, self.rounds) if place.quick else self.rounds)
        kept = _in_turns(self, place, count, say)
        for duel in self.duels:
            if duel.ours in kept and (duel.theirs is None or duel.theirs in kept):
                yield self._line(duel, kept)

    def drop(self, failed: dict[str, Exception], say: Say) -> None:
        """Name those that cannot be measured; it is a failure where one of ours crashed."""
        ours = {duel.ours for duel in self.duels}
        reasons: dict[tuple[str, str], list[str]] = {}
        for name, error in failed.items():
            crashed = name in ours and not isinstance(error, LeftOut)
            kind = "failed" if crashed else "left out"
            reasons.setdefault((kind, _reason(error)), []).append(name)
        for (kind, reason), names in reasons.items():
            who = "" if len(names) == len(self.contestants) else f" {' and '.join(names)}:"
            say(f"{kind}: {self.name}:{who} {reason}")

    def _line(self, duel: Duel, kept: dict[str, list[Reading]]) -> Line:
        sides = [name for name in (duel.ours, duel.theirs) if name is not None]
        values = {name: [reading.value for reading in kept[name]] for name in sides}
        ours = values[duel.ours]
        theirs = values[duel.theirs] if duel.theirs else None
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)] if theirs else None
        spread = ratios or ours
        remarks = {name: kept[name][-1].remark for name in sides}
        said = [f"{name}: {remark}" for name, remark in remarks.items() if remark]
        return Line(
            self.name,
            duel.ours,
            duel.theirs or "—",
            duel.target,
            self.unit,
            statistics.median(ours),
            statistics.median(theirs) if theirs else None,
            statistics.median(ratios) if ratios else None,
            (min(spread), max(spread)),
            len(ours),
            "; ".join(filter(None, [duel.note, *said])),
            values,
        )


def _in_turns(contest: Contest, place: Place, count: int, say: Say) -> dict[str, list[Reading]]:
    """Each contestant's readings; one that fails is named and drops out."""
    with ExitStack() as stack:
        measures = _made(contest, place, stack, say)
        kept: dict[str, list[Reading]] = {name: [] for name in measures}
        for number in range(count + 1):
            for name in list(kept):
                try:
                    reading = measures[name](number)
                except Exception as error:
                    contest.drop({name: error}, say)
                    del kept[name]
                    continue
                if number:  # the first round warms caches up
                    kept[name].append(reading)
    return kept


def _made(contest: Contest, place: Place, stack: ExitStack, say: Say) -> dict[str, Measure]:
    """The contestants that can be set up here, in the row's order."""
    from benchmarks.worker import Worker, afresh

    workers: dict[str, Worker] = {}
    measures: dict[str, Measure] = {}
    failed: dict[str, Exception] = {}
    for one in contest.contestants:
        try:
            if not one.home:
                measures[one.name] = one.make(place)
            elif one.fresh:
                measures[one.name] = afresh(contest.name, one, place)
            else:
                if one.home not in workers:
                    worker = Worker(contest.name, one.home, place)
                    workers[one.home] = stack.enter_context(worker)
                measures[one.name] = workers[one.home].measure(one.name)
        except Exception as error:
            failed[one.name] = error
    contest.drop(failed, say)
    return measures


def _reason(error: Exception) -> str:
    known = isinstance(error, LeftOut | Crashed)
    return str(error) if known else f"{type(error).__name__}: {error}"
