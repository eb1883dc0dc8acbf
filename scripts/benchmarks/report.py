"""The figures as Markdown and as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.contest import Line

HEAD = (
    "row",
    "what",
    "against",
    "ours",
    "theirs",
    "ratio",
    "target",
    "verdict",
    "min..max",
    "rounds",
    "note",
)


def as_json(facts: Mapping[str, str], lines: Sequence[Line], remarks: Sequence[str]) -> str:
    """Everything, with every round's values."""
    told = [asdict(line) | {"target": _target(line), "verdict": line.verdict} for line in lines]
    content = {"machine": dict(facts), "lines": told, "remarks": list(remarks)}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def as_markdown(facts: Mapping[str, str], lines: Sequence[Line], remarks: Sequence[str]) -> str:
    """The machine, the table, and what was left out."""
    about = [f"- {name}: {value}" for name, value in facts.items()]
    table = [_row(HEAD), _row(["---"] * len(HEAD)), *(_row(_cells(line)) for line in lines)]
    return "\n".join([*about, "", *table, "", *(f"- {remark}" for remark in remarks)]) + "\n"


def short(line: Line) -> str:
    """For whoever watches."""
    cells = dict(zip(HEAD, _cells(line), strict=True))
    figures = f"{cells['ours']} / {cells['theirs']} = {cells['ratio']} ({cells['min..max']})"
    target = f"{cells['target']}: {cells['verdict']}"
    return f"{line.row}: {line.what} against {line.against}: {figures}, {target}"


def _cells(line: Line) -> list[str]:
    """In the order of the head."""
    return [
        line.row,
        line.what,
        line.against,
        _amount(line.ours, line.unit),
        "—" if line.theirs is None else _amount(line.theirs, line.unit),
        "—" if line.ratio is None else _ratio(line.ratio),
        _target(line) or "—",
        line.verdict,
        _spread(line),
        str(line.rounds),
        line.note,
    ]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _target(line: Line) -> str | None:
    return None if line.target is None else str(line.target)


def _spread(line: Line) -> str:
    if line.spread is None:
        return "—"
    show: Any = _ratio if line.ratio is not None else lambda v: _amount(v, line.unit)
    return f"{show(line.spread[0])}..{show(line.spread[1])}"


def _ratio(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _amount(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"
