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
    from pixelprep.cache.remotes import RemoteItem, list_remote, prune_remote

__all__ = ["CacheItem", "EntrySummary", "RemoteItem", "describe", "list", "list_remote", "path"]
__all__ += ["prune", "prune_remote", "remove"]


def __getattr__(name: str) -> object:
    """Load a public name when it is first used: opening an entry needs none of them."""
    if name not in __all__:
        raise AttributeError(f"module 'pixelprep.cache' has no attribute '{name}'")
    from importlib import import_module

    home = "remotes" if "remote" in name.lower().replace("remove", "") else "inventory"
    return getattr(import_module(f"pixelprep.cache.{home}"), name)
