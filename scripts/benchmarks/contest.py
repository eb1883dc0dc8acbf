"""Contestants of one row, measured in turns, round by round, and compared within each round."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

from benchmarks.before import before
from benchmarks.clock import Measure
from benchmarks.place import Crashed, LeftOut, Place
from benchmarks.table import Line, Say, row
from benchmarks.worker import Make, Worker

QUICK = 3  # rounds


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something that is measured.

    Parameters
    ----------
    make : callable
        Sets it up, untimed, and returns what measures one round. It travels to another process:
        a function of a module, or a `functools.partial` of one.
    home : str
        The process that it lives in; contestants of a row with the same home share one. Empty:
        this process, for those that are whole processes themselves.
    fresh : bool
        Whether its home is a new process every round: what is timed happens there first.
    """

    make: Make
    home: str
    fresh: bool


@dataclass(frozen=True, slots=True)
class Duel:
    """One line of the table: two contestants, or ours alone."""

    ours: str
    theirs: str
    target: str
    note: str


class Contest:
    """A row whose contestants are measured in turns.

    Parameters
    ----------
    name, what : str
        As `--list` shows them.
    unit : str
        Of what is measured.
    rounds : int
        That count; one more comes first, to warm caches up.
    """

    def __init__(self, name: str, what: str, unit: str, rounds: int) -> None:
        self.name, self.unit, self.rounds = name, unit, rounds
        self.contestants: dict[str, Contestant] = {}
        self.duels: list[Duel] = []
        row(name, what)(self.run)

    def contestant(self, name: str, home: str = "", fresh: bool = False) -> Callable[[Make], Make]:
        """Add what this function makes, under this name."""

        def add(make: Make) -> Make:
            self.contestants[name] = Contestant(make, home, fresh)
            return make

        return add

    def peer(
        self, name: str, home: str = "", target: str = "", note: str = ""
    ) -> Callable[[Make], Make]:
        """Add a contestant that is compared with the row's first one."""
        self.duel(next(iter(self.contestants)), name, target, note)
        return self.contestant(name, home)

    def before(self, ours: str, target: str = "", note: str = "") -> str:
        """Add what the build before makes of one of ours, beside it; return its name.

        Ours has a process of its own, too, so that nothing but the build differs.
        """
        name, one = f"{ours}, the build before", self.contestants[ours]
        self.contestants[ours] = replace(one, home=one.home and ours)
        self.contestants[name] = replace(one, make=before(one.make), home=name)
        self.duel(ours, name, target, note)
        return name

    def duel(self, ours: str, theirs: str = "", target: str = "", note: str = "") -> None:
        """Add a line to the table."""
        self.duels.append(Duel(ours, theirs, target, note))

    def run(self, place: Place, say: Say) -> Iterator[Line]:
        """Measure all, and compare."""
        count = place.rounds or (min(QUICK, self.rounds) if place.quick else self.rounds)
        kept = self._in_turns(place, count, say)
        for duel in self.duels:
            if duel.ours in kept and (not duel.theirs or duel.theirs in kept):
                yield Line(
                    self.name,
                    duel.ours,
                    self.unit,
                    kept[duel.ours],
                    duel.theirs or "—",
                    kept[duel.theirs] if duel.theirs else (),
                    duel.target,
                    duel.note,
                )

    def _in_turns(self, place: Place, count: int, say: Say) -> dict[str, list[float]]:
        """Return each contestant's values; one that fails is named and drops out."""
        kept: dict[str, list[float]] = {name: [] for name in self.contestants}
        measures: dict[str, Measure] = {}
        with ExitStack() as stack:
            workers: dict[str, Worker] = {}
            for number in range(-1, count + 1):  # set up, warm up, then measure
                for name in list(kept)[:: 1 if number % 2 else -1]:  # nobody is always first
                    try:
                        if number < 0:
                            measures[name] = self._made(name, place, workers, stack)
                        else:
                            kept[name].append(measures[name]())
                    except Exception as error:
                        say(self._dropped(name, error))
                        del kept[name]
        return {name: values[1:] for name, values in kept.items()}

    def _made(
        self, name: str, place: Place, workers: dict[str, Worker], stack: ExitStack
    ) -> Measure:
        one = self.contestants[name]
        if not one.home:
            return one.make(place)
        if one.fresh:
            return _afresh(one.make, place)
        if one.home not in workers:
            workers[one.home] = stack.enter_context(Worker())
        return workers[one.home].set_up(name, one.make, place)

    def _dropped(self, name: str, error: Exception) -> str:
        """Say why one cannot be measured: it is a failure where one of ours crashed."""
        ours = any(name == duel.ours for duel in self.duels)
        kind = "failed" if ours and not isinstance(error, LeftOut) else "left out"
        known = isinstance(error, LeftOut | Crashed)
        return f"{kind}: {self.name}: {name}: {'' if known else type(error).__name__ + ': '}{error}"


def _afresh(make: Make, place: Place) -> Measure:
    """Measure in a new process every round."""

    def measure() -> float:
        with Worker() as worker:
            return worker.set_up("", make, place)()

    return measure
