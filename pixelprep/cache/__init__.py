"""Manage entries at rest: list and remove them here; find, open and check them in the modules."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixelprep.cache.inventory import (
        CacheItem,
        EntrySummary,
        describe,
        list,
        path,
        prune,
        remove,
    )

__all__ = ["CacheItem", "EntrySummary", "describe", "list", "path", "prune", "remove"]


def __getattr__(name: str) -> object:
    """Load a public name when it is first used: opening an entry needs none of them."""
    if name not in __all__:
        raise AttributeError(f"module 'pixelprep.cache' has no attribute '{name}'")
    from pixelprep.cache import inventory

    return getattr(inventory, name)
