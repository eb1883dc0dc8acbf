"""Event files for TensorBoard: each result of each epoch once, also where a run is gone on with.

Keras's own callback writes nothing where the package ``tensorboard`` is not installed, and begins
anew in every process. TensorFlow alone can write the same; what is there already is read first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pixelprep.errors import TrainError
from pixelprep.system import fs

VALIDATION = "val_"
FILES = "events.out.tfevents.*"


class EventWriter:
    """What TensorBoard shows of a run, below two folders, ``train`` and ``validation``.

    Parameters
    ----------
    folder : Path
        Of the run's own.
    """

    def __init__(self, folder: Path) -> None:
        try:
            fs.ensure_dir(folder)
        except OSError as error:
            raise TrainError(
                f"{folder}: cannot write for TensorBoard: {error.strerror or error}",
                "choose another folder with `tensorboard`",
            ) from error
        self.folder = folder
        self.there = {name: set(_there(folder / name)) for name in ("train", "validation")}
        self.writers: dict[str, Any] = {}

    def follow(self, history: Mapping[str, Sequence[float]]) -> None:
        """Write what of a run's history is not there yet; the steps are epochs, from 1."""
        for name, values in history.items():
            part = "validation" if name.startswith(VALIDATION) else "train"
            tag = f"epoch_{name.removeprefix(VALIDATION)}"  # as Keras calls it
            for epoch, value in enumerate(values, 1):
                if (tag, epoch) not in self.there[part]:
                    self._write(part, tag, epoch, value)
        for writer in self.writers.values():
            writer.flush()

    def _write(self, part: str, tag: str, epoch: int, value: float) -> None:
        import tensorflow as tf

        if part not in self.writers:
            _wait_for_a_later_name(self.folder / part)
            self.writers[part] = tf.summary.create_file_writer(str(self.folder / part))
        with self.writers[part].as_default():
            about = tf.compat.v1.SummaryMetadata(data_class="DATA_CLASS_SCALAR")
            about.plugin_data.plugin_name = "scalars"
            tf.summary.write(tag, tf.constant(value, tf.float32), epoch, about)
        self.there[part].add((tag, epoch))


def _wait_for_a_later_name(folder: Path) -> None:
    """Files are read in the order of their names, which have the second of their making."""
    seconds = [file.name.split(".")[3] for file in folder.glob(FILES)]
    latest = max((int(one) for one in seconds if one.isdecimal()), default=0)
    time.sleep(min(1.0, max(0.0, latest + 1 - time.time())))  # clocks may have been set


def _there(folder: Path) -> Iterator[tuple[str, int]]:
    """Tag and epoch of what is in a folder's event files."""
    import tensorflow as tf

    for file in sorted(folder.glob(FILES)):
        # A killed process may have cut its last event short; TensorBoard reads up to there, too.
        with suppress(tf.errors.DataLossError):
            for record in tf.data.TFRecordDataset(str(file)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                yield from ((value.tag, event.step) for value in event.summary.value)
