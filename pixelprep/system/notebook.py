"""Show in a notebook what a terminal would: bars, messages, and warnings without source lines."""

import logging
import sys
import warnings
from collections.abc import Callable

from pixelprep.errors import PixelprepWarning


def is_running() -> bool:
    """Return whether a notebook's kernel runs this process; IPython on a terminal is none."""
    ipython = sys.modules.get("IPython")  # which a kernel has imported long before us
    shell = getattr(ipython, "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def show_messages() -> None:
    """Print the library's messages below the cell, unless the user has set logging up.

    A warning is one line there: a kernel's name of a cell, and its source, help nobody.
    """
    log = logging.getLogger("pixelprep")
    if not log.hasHandlers():
        log.addHandler(_BelowTheCell())
        log.setLevel(logging.INFO)
    warnings.formatwarning = _one_line(warnings.formatwarning)


class _BelowTheCell(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)  # to what a cell's standard output is by now


def _one_line(others: Callable[..., str]) -> Callable[..., str]:
    def formatwarning(
        message: Warning | str, category: type[Warning], *where: object, **more: object
    ) -> str:
        if issubclass(category, PixelprepWarning):
            return f"{category.__name__}: {message}\n"
        return others(message, category, *where, **more)

    return formatwarning


def hide_traceback(error: BaseException) -> None:
    """Let a notebook show an error's name and notes alone: where Ctrl-C met us tells nothing."""
    lines = [type(error).__name__, *getattr(error, "__notes__", ())]
    error._render_traceback_ = lambda: lines  # type: ignore[attr-defined] # what IPython looks for
