"""What notebooks show of an object, and its page, both drawn by a room above.

This stands below all rooms, so that any class may be a `View`. The front door says who draws.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any  # Any: whatever is shown

HEIGHT = 640  # CSS pixels of a page in a notebook


@dataclass(frozen=True, slots=True)
class Page:
    """A page that a notebook shows, and that a file may keep.

    Parameters
    ----------
    html : str
        All of it; it needs no other file, and no network.
    path : Path, optional
        The file that it was read from.
    """

    html: str = field(repr=False)
    path: Path | None = None
    _write: Callable[[Path, str], None] | None = field(default=None, repr=False, compare=False)

    def save(self, path: str | Path) -> Path:
        """Write the page to a file, which is replaced.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        Path
            The same, absolute.

        Raises
        ------
        CacheError
            When it cannot be written.
        """
        target = Path(path).absolute()
        (self._write or Path.write_text)(target, self.html)
        return target

    def _repr_html_(self) -> str:
        """Show the page apart from the notebook's own styles; nothing in it can run."""
        return framed(self.html)


def framed(page: str) -> str:
    """Return a page as a part of another one."""
    from html import escape  # what only finds an entry needs it not

    # In colours of its own: without a ground, those of the notebook would shine through.
    colors = "background:Canvas;color-scheme:light dark"
    style = f"width:100%;height:{HEIGHT}px;border:0;{colors}"
    return f'<iframe sandbox="" style="{style}" srcdoc="{escape(page)}"></iframe>'


class View:
    """Something that notebooks show as a table with pictures, or else by its text."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        return shown(self)


Draw = Callable[[object], str]
MakePage = Callable[[object], Page]


def draw_by(draw: Draw, make_page: MakePage) -> None:
    """Say who draws what is shown, and pages."""
    global _draw, _make_page
    _draw, _make_page = draw, make_page


def shown(value: Any, draw: "Callable[[Any], str] | None" = None) -> str | None:
    """Return what a notebook shows of an object; None, where its text is all there is to show."""
    try:
        return (draw or _draw)(value)
    except Exception:  # files that are gone, or damaged: a look at what a cell returned never fails
        return None


def page_of(value: object) -> Page:
    """Return the page on an object."""
    return _make_page(value)


_draw: Draw
_make_page: MakePage
