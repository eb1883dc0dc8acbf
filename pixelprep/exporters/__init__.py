"""Write an entry in another format, and check what was written: a module a format.

Its name, with ``-`` for ``_``, is the format's, known before it is loaded; it has an `EXPORTER`.
What formats share is in `base`, or in modules whose names begin with ``_``.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixelprep.exporters.base import Exporter


def format_names() -> list[str]:
    """Return the names of all formats, sorted."""
    names = (module.name for module in iter_modules(__path__) if module.name[0] != "_")
    return sorted(name.replace("_", "-") for name in names if name not in ("base", "export"))


def get_exporter(name: str) -> "Exporter":
    """Return what writes the format of this name, one of `format_names`."""
    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    return module.EXPORTER  # type: ignore[no-any-return] # each has one
