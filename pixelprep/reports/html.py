"""Make pages: one HTML file each, with its pictures inside and no network.

Everything that is put into a page is escaped, unless it is a `Markup` that was made here.
"""

from __future__ import annotations

import base64
import io
import re
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: pixels of whichever type

import numpy as np
from numpy.typing import NDArray

from pixelprep._version import __version__
from pixelprep.errors import CacheError, missing_extra
from pixelprep.reports.colormap import ColorScale, downsample
from pixelprep.system import canonical, fs

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

INK = "#010203"  # what a picture's text and lines are drawn in; the page gives it its own colour
COLORS = ("#2f7dd1", "#d9822b", "#2e9d6a", "#b0529e")  # of lines and bars, on light and on dark

DRAWN = {
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's font
    "font.family": "sans-serif",
    "text.parse_math": False,  # names may have dollar signs, which are no formulas
    "axes.prop_cycle": f"cycler(color={list(COLORS)!r})",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
    **{f"axes.{part}color": INK for part in ("label", "edge", "title")},
}


def require(purpose: str, extra: str = "plot") -> None:
    """Say at once, before any work, when Jinja or Matplotlib is missing; `extra` has both."""
    from importlib.util import find_spec

    for module, name in (("jinja2", "Jinja"), ("matplotlib", "Matplotlib")):
        if find_spec(module) is None:
            raise missing_extra(name, extra, purpose)


def render(template: str, **content: object) -> str:
    """Fill a template of ``templates/`` with this content."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("pixelprep.reports", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    return str(environment.get_template(template).render(version=__version__, **content))


def figure(width: float, height: float) -> Figure:
    """Make a figure to draw on, in inches; draw within ``matplotlib.rc_context(DRAWN)``."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg(drawn: Figure, label: str) -> Markup:
    """Return a figure as part of a page, its ink in the page's own colour.

    The label says what is to be seen, for those who cannot; each picture of a page has another.
    """
    import matplotlib
    from markupsafe import Markup, escape

    content = io.StringIO()
    with matplotlib.rc_context({**DRAWN, "svg.hashsalt": label}):
        drawn.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    text = content.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    name = f'<svg role="img" aria-label="{escape(label)}" '
    # Names within a picture are the page's: each picture's own would be found in the first.
    prefix = f"p{canonical.digest(label)[:8]}-"
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}", text)
    return Markup(text.replace("<svg ", name, 1))  # Matplotlib escapes what it draws


def png(drawn: Figure, dpi: int) -> bytes:
    """Return a figure as a picture of its own, on white."""
    content = io.BytesIO()
    drawn.savefig(content, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return content.getvalue()


def pixels(values: NDArray[Any], scale: ColorScale, label: str, side: int) -> Markup:
    """Show pixels (H, W, C) in colours; the longer side has so many CSS pixels."""
    colors = scale.colors(downsample(values, 256))  # pixels of the longer side, at most
    height, width = colors.shape[:2]
    return image(colors, label, max(1, round(side * width / max(height, width))))


def image(colors: NDArray[np.uint8], label: str, width: int) -> Markup:
    """Return colours, (H, W, 3) or (H, W, 4), as part of a page, so many CSS pixels wide."""
    from markupsafe import Markup

    made = '<img class="pixels" alt="{}" width="{}" src="{}">'
    return Markup(made).format(label, width, png_uri(colors))


def png_uri(colors: NDArray[np.uint8]) -> str:
    """Return colours, (H, W, 3) or (H, W, 4), as the address of a PNG that holds itself."""
    height, width, channels = colors.shape
    head = struct.pack(">2I5B", width, height, 8, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = np.pad(colors.reshape(height, -1), ((0, 0), (1, 0)))  # each row begins with no filter
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def write(path: Path, content: str | bytes) -> None:
    """Write a page whole, in place of what was there."""
    data = content.encode() if isinstance(content, str) else content
    try:
        fs.write_atomically(path, data, fs.ensure_dir(path.parent))
    except OSError as error:
        message = f"{path}: cannot write the page: {error.strerror or error}"
        raise CacheError(message, "name another place with `out`") from error
