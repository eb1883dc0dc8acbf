"""Find out which of how many processes this one is, where several train together."""

import os
import sys
from typing import Any  # Any: the options of a user's call; frameworks that have no types

from pixelprep.errors import UsageError
from pixelprep.system import notices

HINT = "give `shard=(rank, processes)`"

Rank = tuple[int, int]  # the number of this process, and how many there are


def sharded(options: dict[str, Any]) -> dict[str, Any]:
    """Return options of batches with the shard of this process in place of "auto".

    Then all shards are made equal, as processes wait for each other at every batch.
    """
    if options.get("shard") != "auto":
        return options
    return {"even": "drop", **options, "shard": process_rank()}


def process_rank() -> Rank:
    """Return the rank of this process as its framework has it, or else whoever launched it."""
    running = {name: rank for name, rank in (_of_torch(), _of_jax()) if rank}
    if len(set(running.values())) > 1:
        raise _contradiction(running)
    if running:
        return next(iter(running.values()))
    launched = {name: rank for name, rank in (_of_torchrun(), _of_cluster()) if rank}
    if len(launched) == 2:
        (index, count), (other, others) = launched.values()
        # A node may be one of the cluster's processes, which launched several.
        if count % others or (count == others and index != other):
            raise _contradiction(launched)
    for name, (index, count) in launched.items():
        notices.tell(f"`shard=auto`: shard {index} of {count}, by {name}")
        return index, count
    where = "by torch.distributed, jax.distributed, or a launcher's variables"
    notices.tell(f"`shard=auto`: all rows: this process is no part of several, {where}")
    return 0, 1


def _contradiction(found: dict[str, Rank]) -> UsageError:
    said = " and ".join(f"{index} of {count} by {name}" for name, (index, count) in found.items())
    return UsageError(f"`shard=auto`: expected one rank, got {said}", HINT)


def _of_torch() -> tuple[str, Rank | None]:
    """Ask PyTorch where it is loaded and its processes know each other."""
    distributed: Any = sys.modules.get("torch.distributed")
    known = distributed and distributed.is_available() and distributed.is_initialized()
    rank = (distributed.get_rank(), distributed.get_world_size()) if known else None
    return "torch.distributed", rank


def _of_jax() -> tuple[str, Rank | None]:
    """Ask JAX likewise; not where it runs alone, which would start its devices."""
    jax: Any = sys.modules.get("jax")
    is_known = getattr(jax and jax.distributed, "is_initialized", bool)  # older ones lack it
    return "jax.distributed", (jax.process_index(), jax.process_count()) if is_known() else None


def _of_torchrun() -> tuple[str, Rank | None]:
    return _of_variables("RANK", "WORLD_SIZE")


def _of_cluster() -> tuple[str, Rank | None]:
    """Return what Open MPI says; or else SLURM, whose job the former may be."""
    name, rank = _of_variables("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")
    return (name, rank) if rank else _of_variables("SLURM_PROCID", "SLURM_NTASKS")


def _of_variables(*names: str) -> tuple[str, Rank | None]:
    name, values = " and ".join(names), [os.environ.get(one) for one in names]
    if values == [None, None]:
        return name, None
    said = ", ".join(f"{one}={value}" for one, value in zip(names, values, strict=True))
    try:
        index, count = map(int, values)  # type: ignore[arg-type] # None is refused, too
    except (TypeError, ValueError):
        hint = f"make batches once processes know each other, or {HINT}"
        raise UsageError(f"`shard=auto`: {said}: expected two whole numbers", hint) from None
    return name, (index, count)
