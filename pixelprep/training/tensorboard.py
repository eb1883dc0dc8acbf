"""Write event files for TensorBoard: each result of each epoch once, also of a resumed run.

Keras's own callback writes nothing where the package ``tensorboard`` is not installed, and begins
anew in every process. TensorFlow alone can write the same; what is there already is read first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any  # Any: TensorFlow is not typed

from pixelprep.errors import TrainError
from pixelprep.system import fs

VALIDATION = "val_"
FILES = "events.out.tfevents.*"


class EventWriter:
    """A writer of a run's event files, below two folders, ``train`` and ``validation``."""

    def __init__(self, folder: Path) -> None:
        try:
            fs.ensure_dir(folder)
        except OSError as error:
            message = f"{folder}: cannot write for TensorBoard: {error.strerror or error}"
            raise TrainError(message, "choose another folder with `tensorboard`") from error
        self.folder = folder
        self.written = {name: set(_written(folder / name)) for name in ("train", "validation")}
        self.writers: dict[str, Any] = {}

    def follow(self, history: Mapping[str, Sequence[float]]) -> None:
        """Write what of a run's history is not written yet; the steps are epochs, from 1."""
        for name, values in history.items():
            split = "validation" if name.startswith(VALIDATION) else "train"
            tag = f"epoch_{name.removeprefix(VALIDATION)}"  # as Keras calls it
            for epoch, value in enumerate(values, 1):
                if (tag, epoch) not in self.written[split]:
                    self._write(split, tag, epoch, value)
        for writer in self.writers.values():
            writer.flush()

    def _write(self, split: str, tag: str, epoch: int, value: float) -> None:
        import tensorflow as tf

        if split not in self.writers:
            # New files are read after the others: by their names, which have the second.
            seconds = [file.name.split(".")[3] for file in (self.folder / split).glob(FILES)]
            latest = max((int(one) for one in seconds if one.isdecimal()), default=0)
            time.sleep(min(1.0, max(0.0, latest + 1 - time.time())))  # clocks may have been set
            self.writers[split] = tf.summary.create_file_writer(str(self.folder / split))
        with self.writers[split].as_default():
            about = tf.compat.v1.SummaryMetadata(data_class="DATA_CLASS_SCALAR")
            about.plugin_data.plugin_name = "scalars"
            tf.summary.write(tag, tf.constant(value, tf.float32), epoch, about)
        self.written[split].add((tag, epoch))


def _written(folder: Path) -> Iterator[tuple[str, int]]:
    """Read tag and epoch of what is in a folder's event files."""
    import tensorflow as tf

    for file in sorted(folder.glob(FILES)):
        # A killed process may have cut its last event short; TensorBoard reads up to there, too.
        with suppress(tf.errors.DataLossError):
            for record in tf.data.TFRecordDataset(str(file)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                yield from ((value.tag, event.step) for value in event.summary.value)
