"""What is measured, a module a subject; importing this registers their rows."""

from benchmarks.rows import (  # noqa: F401, I001 - in the order of the table
    fitting,
    commands,
    streaming,
    storage,
    cold_cache,
    feeding,
    training,
    pictures,
    peers,
    footprint,
    growing,
    remote,
)
from benchmarks.table import ROWS

__all__ = ["ROWS"]
