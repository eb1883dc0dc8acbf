"""Miss the shards that files of a known number should have: NAME-00000-of-00003."""

import re
from collections.abc import Iterable
from pathlib import Path

from pixelprep.errors import SourceError
from pixelprep.system import formatting

SHARD = re.compile(r"(.*?)(\d+)(-of-\d+)(?!\d).*")  # behind it an ending, perhaps after a hash


def refuse_missing(where: str, used: Iterable[Path], there: Iterable[Path]) -> None:
    """Refuse files of which others say by their number that there are more than are `there`.

    They are counted from 0, or from 1.
    """
    wanted, every = _numbers(used), _numbers(there)
    for folder, start, end in wanted:
        found = every[folder, start, end]
        total = int(end.rpartition("-")[2])
        first = 0 if 0 in found or total not in found else 1
        expected = range(first, first + total)
        lacking = total - sum(number in expected for number in found)
        if lacking:
            digits = len(next(iter(found.values())))
            number = next(one for one in expected if one not in found)
            shard = folder / f"{start}{number:0{digits}}{end}"
            lacks = f"lacks {lacking:,} of {formatting.pluralize(total, 'shard')}"
            hint = "get what is missing, and give the folder of all; or rename the files"
            raise SourceError(f"{where}: {lacks}: {shard}", hint)


def _numbers(paths: Iterable[Path]) -> dict[tuple[Path, str, str], dict[int, str]]:
    """Return the numbers of shards, by their folder and what is in the name of each of them."""
    found = dict[tuple[Path, str, str], dict[int, str]]()
    for path in paths:
        if match := SHARD.fullmatch(path.name):
            series = path.parent, match[1], match[3]
            found.setdefault(series, {})[int(match[2])] = match[2]
    return found
