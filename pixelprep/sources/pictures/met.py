"""Count what the image files of a dataset are, and what was done to their images."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any  # Any: JSON values

MOST = 20  # of each kind, the commonest are kept
OTHERS = "others"


@dataclass(slots=True)
class Met:
    """How many images are of each format, type and size; how many were resized, and so on."""

    counts: defaultdict[str, Counter[str]] = field(  # by kind
        default_factory=lambda: defaultdict(Counter)
    )
    aspects: list[float] = field(default_factory=list)  # W/H, the lowest and highest of stretched

    def note(self, kind: str, what: str, count: int = 1) -> None:
        """Count what was met: a ``format``, ``type`` or ``size``, or what was ``done``."""
        self.counts[kind][what] += count

    def count(self, kind: str, what: str) -> int:
        """Return how many of a kind were met."""
        return self.counts.get(kind, Counter())[what]

    def note_stretched(self, aspect: float) -> None:
        """Count an image that is stretched."""
        self.note("done", "stretched")
        self.aspects = [min([*self.aspects, aspect]), max([*self.aspects, aspect])]

    def add(self, receipt: Mapping[str, Any]) -> None:
        """Add what `to_json` returned of other images."""
        for kind, counts in receipt["counts"].items():
            for what, count in counts.items():
                self.note(kind, what, count)
        every = [*self.aspects, *receipt["aspects"]]
        self.aspects = [min(every), max(every)] if every else []

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {"counts": {k: dict(c) for k, c in self.counts.items()}, "aspects": self.aspects}

    def commonest(self) -> dict[str, dict[str, int]]:
        """Return the counts of each kind, but for the rarer ones, which are added up."""
        found = {}
        for kind, counter in sorted(self.counts.items()):
            kept = dict(sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:MOST])
            rest = counter.total() - sum(kept.values())
            found[kind] = kept | ({OTHERS: rest} if rest else {})
        return found
