"""Draw progress bars: on standard error, if it is a terminal, or below a notebook's cell."""

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Never, TypeVar, cast

from pixelprep.system import notebook

if TYPE_CHECKING:
    from tqdm import tqdm

    Bar = tqdm[Never]  # over nothing: it is advanced by hand

Item = TypeVar("Item")

NOTEBOOK_DELAY = 0.5  # seconds: a bar that has vanished leaves a gap in a notebook


class _Undrawn:
    """A bar that nobody sees, without loading tqdm."""

    n = 0

    def __enter__(self) -> "_Undrawn":
        return self

    def __exit__(self, *error: object) -> None: ...

    def update(self, count: int = 1) -> None: ...

    def set_postfix_str(self, text: str) -> None: ...

    def close(self) -> None: ...


def bar(description: str, total: int, unit: str, quiet: bool) -> "Bar":
    """Make a tqdm bar with rate and time left, for a ``with`` statement; it vanishes at the end."""
    in_notebook = notebook.is_running()
    if quiet or not (in_notebook or getattr(sys.stderr, "isatty", bool)()):
        return cast("Bar", _Undrawn())
    return _tqdm(in_notebook)(
        desc=description,
        total=total,
        unit=unit,
        unit_scale=total >= 10_000,  # small counts are easier to read in full
        leave=False,
        file=sys.stdout if in_notebook else sys.stderr,  # which a notebook would have in red
        delay=NOTEBOOK_DELAY if in_notebook else 0,
    )


def _tqdm(in_notebook: bool) -> "type[Bar]":
    """Return tqdm for a terminal, or for a notebook: a widget, or text without ipywidgets."""
    if not in_notebook:
        from tqdm import tqdm

        return tqdm
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that text is all that there is without ipywidgets
        from tqdm.auto import tqdm as tqdm_auto

    return cast("type[Bar]", tqdm_auto)


def set_postfix(bar: "Bar", text: str) -> None:
    """Write figures after a bar, unless the terminal is too narrow."""
    import shutil  # a hit needs it not

    if shutil.get_terminal_size().columns >= 78:
        bar.set_postfix_str(text)


def track(items: Iterable[Item], sizes: Iterable[int], bar: "Bar") -> Iterator[Item]:
    """Yield the items, advancing the bar by each one's size."""
    for item, size in zip(items, sizes, strict=True):
        bar.update(size)
        yield item
