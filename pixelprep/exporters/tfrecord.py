"""Export to TFRecord files of ``tf.train.Example``, written and read by TensorFlow itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar  # Any: arrays of any type; TensorFlow is not typed

import numpy as np

from pixelprep.dataset.entry import Entry, Split
from pixelprep.exporters import _tfds, base
from pixelprep.exporters.base import (
    MEANINGS,
    Content,
    OnProgress,
    columns_of,
    read_columns,
    row_blocks,
)
from pixelprep.system import fs, notices, tf_runtime

NAMES = {"images": "image", "labels": "label", "mean": "mean", "std": "std", "names": "name"}
AS_VALUES = ("labels", "names")  # columns that TensorFlow has a type for; others are bytes


class TfRecordExporter(base.Exporter):
    """``train.tfrecord`` and so on, as many files as the entry has, and what tfds opens them by."""

    is_read = False
    program = """\
from glob import glob

import tensorflow as tf

kinds = {
    "image": tf.io.FixedLenFeature((), tf.string),
    "label": tf.io.FixedLenFeature($classes, tf.int64),$kinds
}
rows = tf.data.TFRecordDataset(sorted(glob("$split*.tfrecord"))).batch(64)
for row in rows.map(lambda batch: tf.io.parse_example(batch, kinds)).as_numpy_iterator():
    labels = row["label"]
    images = tf.reshape(tf.io.decode_raw(row["image"], tf.$dtype), $shape).numpy()$columns
    break
"""
    per_image: ClassVar[dict[str, str]] = {
        "kinds": '\n    **dict.fromkeys(("mean", "std"), tf.io.FixedLenFeature((), tf.string)),',
        "columns": "\n    mean, std = ("
        'tf.io.decode_raw(row[name], tf.float64).numpy() for name in ("mean", "std"))',
    }

    def contents(self, entry: Entry) -> list[Content]:
        """List the files, and the features of an example."""
        found = [
            Content(f"{name}*.tfrecord", "", "tf.train.Example, one a row") for name in entry.splits
        ]
        split = next(iter(entry.splits.values()))
        for column in columns_of(split):
            like = split.read(0, 1, column)
            kind = "int64" if column == "labels" else "bytes"
            holds = "" if column in AS_VALUES else f": little-endian {like.dtype.name}"
            shape = f" {like.shape[1:]}" if like.ndim > 1 else ""
            found.append(Content(f"  {NAMES[column]}", f"{kind}{holds}{shape}", MEANINGS[column]))
        told = "for tfds.builder_from_directory"
        return [*found, Content("dataset_info.json, features.json, *.labels.txt", "", told)]

    def require(self, entry: Entry) -> None:
        """Refuse where TensorFlow is not installed."""
        tf_runtime.require("`to=tfrecord`")
        if not _tfds.has_class_names(entry):
            told = "%s: tfds has no such names of classes: it will have their numbers"
            notices.tell(told, entry.path)

    def write(self, entry: Entry, folder: Path, on_progress: OnProgress) -> None:
        """Write file by file, an example an image."""
        tf_runtime.start("`to=tfrecord`")
        import tensorflow as tf

        for split, name, every in _files(entry):
            try:
                with tf.io.TFRecordWriter(str(folder / name)) as writer:
                    for rows in row_blocks(entry, every):
                        for example in _examples(split, rows):
                            writer.write(example)
                        on_progress(len(rows))
            except tf.errors.OpError as error:  # of the disk, which Python has another error for
                raise OSError(error.message) from error
            fs.fsync(folder / name)
        for name, content in _metadata(entry, folder).items():
            (folder / name).write_bytes(content)
            fs.fsync(folder / name)

    def check(self, entry: Entry, folder: Path, on_progress: OnProgress) -> None:
        """Read back by ``tf.io.parse_single_example`` and ``tf.io.decode_raw``."""
        import tensorflow as tf

        for split, name, every in _files(entry):
            examples = tf.data.TFRecordDataset(str(folder / name)).map(_parser(split))
            step = max(map(len, row_blocks(entry, every)))
            blocks = examples.batch(step).as_numpy_iterator()
            for rows, block in zip(row_blocks(entry, every), blocks, strict=True):
                for column, expected in read_columns(split, rows).items():
                    found = block[NAMES[column]]
                    if column in AS_VALUES:  # all integers are of 64 bits, and texts of any length
                        found = found.astype(expected.dtype)
                    base.compare(f"{name}: {NAMES[column]}", rows, found, expected)
                on_progress(len(rows))
        for name, content in _metadata(entry, folder).items():
            if (folder / name).read_bytes() != content:
                raise ValueError(f"{name} is not what was written")


EXPORTER = TfRecordExporter()


def _files(entry: Entry) -> Iterator[tuple[Split, str, range]]:
    """List the files: of which split each is, its name, and its rows."""
    for name, split in entry.splits.items():
        first = 0
        for file in entry.manifest.splits[name].files:
            yield split, f"{Path(file.name).stem}.tfrecord", range(first, first + file.rows)
            first += file.rows


def _metadata(entry: Entry, folder: Path) -> dict[str, bytes]:
    sizes = dict.fromkeys(entry.splits, 0)
    for split, name, _ in _files(entry):
        sizes[split.name] += (folder / name).stat().st_size
    return _tfds.metadata(entry, sizes)


def _examples(split: Split, rows: range) -> Iterator[bytes]:
    """Serialize the rows, an example each."""
    import tensorflow as tf

    block = read_columns(split, rows)
    labels = block.pop("labels")
    for i in range(len(rows)):
        label = tf.train.Int64List(value=np.atleast_1d(labels[i]).tolist())
        features = {"label": tf.train.Feature(int64_list=label)}
        # Lists of floats are of 32 bits there, too few for mean and std: these are bytes as well.
        for name, values in block.items():
            raw = np.asarray(values[i], values.dtype.newbyteorder("<")).tobytes()
            raw = bytes(values[i]) if name == "names" else raw
            content = tf.train.BytesList(value=[raw])
            features[NAMES[name]] = tf.train.Feature(bytes_list=content)
        example = tf.train.Example(features=tf.train.Features(feature=features))
        yield example.SerializeToString(deterministic=True)


def _parser(split: Split) -> Any:
    import tensorflow as tf

    names = [NAMES[name] for name in columns_of(split)]
    features = {name: tf.io.FixedLenFeature((), tf.string) for name in names}
    features["label"] = tf.io.FixedLenFeature(split.read(0, 1, "labels").shape[1:], tf.int64)

    def parsed(example: "tf.Tensor") -> "dict[str, tf.Tensor]":
        found = dict(tf.io.parse_single_example(example, features))
        image = tf.io.decode_raw(found["image"], tf.as_dtype(split.dtype))
        found["image"] = tf.reshape(image, split.shape[1:])
        for name in {"mean", "std"} & found.keys():
            found[name] = tf.reshape(tf.io.decode_raw(found[name], tf.float64), ())
        return found

    return parsed
