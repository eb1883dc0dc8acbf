"""The pages, README and those of docs/, cut into what tests look at: blocks, commands, links."""

import re
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.packages import ROOT

PAGES = {"README.md": ROOT / "README.md"}
PAGES |= {path.name: path for path in sorted((ROOT / "docs").glob("*.md"))}
TEXTS = [*PAGES.values(), ROOT / "CHANGELOG.md", ROOT / "data" / "FORMAT.md"]
TEXTS += [ROOT / "scripts" / "BENCHMARKS.md", ROOT / "scripts" / "RELIABILITY.md"]
TEXTS += [ROOT / "findings" / "README.md"]
FENCE = re.compile(r"(?ms)^(?:<!-- not run: ([^\n]+) -->\n)?^```(\w*)\n(.*?)^```$")


@dataclass(frozen=True)
class Block:
    """A fenced block, and the reason that a page gives if no test runs it."""

    page: str
    language: str
    text: str
    reason: str

    @property
    def commands(self) -> list[str]:
        """Return the command lines of a block of commands, or of a console."""
        lines = [line for line in self.text.splitlines() if line.strip()]
        if self.language == "console":
            return [line[2:] for line in lines if line.startswith("$ ")]
        return lines if self.language == "sh" else []


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    found = FENCE.findall(PAGES[page].read_text(encoding="utf-8"))
    return [Block(page, language, text, reason) for reason, language, text in found]


def programs(page: str) -> list[str]:
    """Return the programs in Python of a page."""
    return [one.text for one in blocks(page) if one.language == "python"]


def arguments(line: str) -> list[str]:
    """Return the arguments of a command, as a shell divides them; in a table | is written \\|."""
    return shlex.split(line.replace("\\|", "|"), comments=True)[1:]


def prose(path: Path) -> str:
    """Return a text without its blocks."""
    return re.sub(r"(?ms)^```.*?^```$", "", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """Return what can follow # in a link to a text, by GitHub's rules."""
    seen: Counter[str] = Counter()
    found = set()
    for title in re.findall(r"(?m)^#+ (.+)$", prose(path)):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).strip().lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def links(path: Path) -> list[str]:
    """Return where the links and pictures of a text lead, but for other sites."""
    text = re.sub(r"`[^`\n]*`", "", prose(path))
    return [to for to in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in to]
