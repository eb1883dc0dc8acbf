"""What is measured, in the order of the table."""

from collections.abc import Iterator
from typing import Protocol

from benchmarks import commands, feeding, fitting, footprint, pictures, streaming, training
from benchmarks.contest import Contest, Line, Say
from benchmarks.place import Place


class Row(Protocol):
    """Something that `--only` can name."""

    @property
    def name(self) -> str:
        """Short."""

    @property
    def what(self) -> str:
        """What is measured."""

    def run(self, place: Place, say: Say) -> Iterator[Line]:
        """Measure; `say` is told what is left out and why."""


_CONTESTS = (
    fitting.STATISTICS,
    commands.COLD_PREPARE,
    commands.CACHE_HIT,
    commands.HELP,
    streaming.BATCHES,
    feeding.TO_TF,
    feeding.TO_TORCH,
    feeding.TO_JAX,
    feeding.DEVICE_TORCH,
    feeding.DEVICE_JAX,
    training.TRAINING,
    pictures.DECODING,
    pictures.WORKERS,
)
CONTESTS: dict[str, Contest] = {contest.name: contest for contest in _CONTESTS}

_ROWS: tuple[Row, ...] = (*_CONTESTS, footprint.Memory(), footprint.Soak())
ROWS: dict[str, Row] = {row.name: row for row in _ROWS}
