"""The lines of the table, the rows that measure them, and how both are shown."""

import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from statistics import median
from typing import Any

from benchmarks.place import Place

HEAD = (
    *("row", "what", "against", "ours", "theirs", "ratio"),
    *("target", "verdict", "min..max", "rounds", "note"),
)
SIGNS = {"≤": operator.le, "<": operator.lt, "≥": operator.ge, ">": operator.gt}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table.

    Parameters
    ----------
    row, what, against : str
        The row's name, our contestant and the one beside it.
    unit : str
        Of the values.
    ours, theirs : sequence of float
        One value a round; `theirs` is empty where nothing stands beside ours.
    target : str
        What the ratio has to be (or ours, without a ratio): a sign and a number, "≤ 1/25".
    note : str
        What a reader should know.
    values : mapping or None
        What the JSON holds instead of every round's values.
    """

    row: str
    what: str
    unit: str
    ours: Sequence[float]
    against: str = "—"
    theirs: Sequence[float] = ()
    target: str = ""
    note: str = ""
    values: Mapping[str, list[float]] | None = None

    @property
    def ratios(self) -> list[float]:
        """The ratio within each round."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)] if self.theirs else []

    @property
    def verdict(self) -> str:
        """Whether the target is met."""
        if not self.target:
            return "no target"
        sign, bound = self.target.split()
        met = SIGNS[sign](median(self.ratios or self.ours), float(Fraction(bound)))
        return "met" if met else "not met"

    def cells(self) -> list[str]:
        """Return the cells of the table, in the order of its head."""
        theirs, ratio, spread = "—", "—", "—"
        if self.theirs:
            theirs, ratio = _amount(median(self.theirs), self.unit), _ratio(median(self.ratios))
        if len(self.ours) > 1:
            shown = [*map(_ratio, self._ends(self.ratios))] if self.ratios else None
            spread = "..".join(shown or [_amount(v, self.unit) for v in self._ends(self.ours)])
        ours, rounds = _amount(median(self.ours), self.unit), str(len(self.ours))
        start = [self.row, self.what, self.against, ours, theirs, ratio]
        return [*start, self.target or "—", self.verdict, spread, rounds, self.note]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures and every round's values."""
        values = {self.what: list(self.ours), self.against: list(self.theirs)}
        return asdict(self) | {
            "target": self.target or None,
            "verdict": self.verdict,
            "ours": median(self.ours),
            "theirs": median(self.theirs) if self.theirs else None,
            "ratio": median(self.ratios) if self.ratios else None,
            "spread": self._ends(self.ratios or self.ours),
            "rounds": len(self.ours),
            "values": self.values or {name: of for name, of in values.items() if of},
        }

    @staticmethod
    def _ends(values: Sequence[float]) -> tuple[float, float]:
        return min(values), max(values)

    def __str__(self) -> str:
        """Return the line for those who watch."""
        cell = dict(zip(HEAD, self.cells(), strict=True))
        figures = f"{cell['ours']} / {cell['theirs']} = {cell['ratio']} ({cell['min..max']})"
        verdict = f"{cell['target']}: {self.verdict}"
        return f"{self.row}: {self.what} against {self.against}: {figures}, {verdict}"


Say = Callable[[str], None]  # is told what is left out, and why
Measuring = Callable[[Place, Say], Iterator[Line]]


@dataclass(frozen=True, slots=True)
class Row:
    """Something that `--only` can name: what is measured, and how."""

    what: str
    run: Measuring


ROWS: dict[str, Row] = {}  # by name, in the order of the table


def row(name: str, what: str) -> Callable[[Measuring], Measuring]:
    """Register the function that measures this row."""

    def register(run: Measuring) -> Measuring:
        ROWS[name] = Row(what, run)
        return run

    return register


def as_json(facts: Mapping[str, str], lines: Sequence[Line], remarks: Sequence[str]) -> str:
    """Return everything as JSON."""
    shown = [line.to_dict() for line in lines]
    content = {"machine": dict(facts), "lines": shown, "remarks": list(remarks)}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def as_markdown(facts: Mapping[str, str], lines: Sequence[Line], remarks: Sequence[str]) -> str:
    """Return the machine, the table and what was left out as Markdown."""
    about = [f"- {name}: {value}" for name, value in facts.items()]
    cells = [HEAD, ["---"] * len(HEAD), *(line.cells() for line in lines)]
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
    return "\n".join([*about, "", *rows, "", *(f"- {remark}" for remark in remarks)]) + "\n"


def _ratio(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _amount(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"
