"""Progress bars on standard error, drawn on a terminal only."""

import shutil
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")

MIN_COLUMNS = 78  # columns that leave room for figures beside a bar


def bar(what: str, total: int, unit: str, quiet: bool) -> Any:
    """A tqdm bar with rate and time left, which vanishes at the end; use it with ``with``."""
    from tqdm import tqdm

    return tqdm(
        desc=what,
        total=total,
        unit=unit,
        unit_scale=total >= 10_000,  # small counts are easier to read in full
        leave=False,
        disable=True if quiet else None,  # None: where standard error is no terminal
    )


def set_postfix(bar: Any, text: str) -> None:
    """Put figures at the end of a bar, unless its terminal is too narrow for them."""
    if shutil.get_terminal_size().columns >= MIN_COLUMNS:
        bar.set_postfix_str(text)


def track(items: Iterable[Item], sizes: Iterable[int], bar: Any) -> Iterator[Item]:
    """The same items; the bar goes on by each one's size when it comes."""
    for item, size in zip(items, sizes, strict=True):
        bar.update(size)
        yield item
