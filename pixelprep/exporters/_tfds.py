"""What TensorFlow Datasets wants to find beside TFRecord files: it is not needed to write that."""

import re
from collections.abc import Mapping, Sequence
from typing import Any  # Any: JSON values

from pixelprep.dataset.entry import Entry
from pixelprep.system import canonical

# The only version there is of what an entry's key names: other data has another key.
VERSION = "1.0.0"
FEATURES = "tensorflow_datasets.core.features."
LABELS = "label.labels.txt"


def metadata(entry: Entry, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Return the files for ``tfds.builder_from_directory``, given the bytes of each split."""
    splits = [_split(entry, name, size) for name, size in sizes.items()]
    about = entry.manifest.provenance
    info = {
        "name": _identifier(entry.dataset),
        "version": VERSION,
        "description": f"{about.title or entry.dataset}, scaled by pixelprep: {entry.mode}",
        "citation": about.citation,
        "location": {"urls": [about.homepage] if about.homepage else []},
        "redistributionInfo": {"license": about.licence},
        "supervisedKeys": {"tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}},
        "fileFormat": "tfrecord",
        "splits": splits,
    }
    files = {"dataset_info.json": info, "features.json": _features(entry)}
    contents = {name: canonical.dumps(values) + b"\n" for name, values in files.items()}
    if has_class_names(entry):
        contents[LABELS] = "".join(f"{name}\n" for name in entry.class_names).encode()
    return contents


def has_class_names(entry: Entry) -> bool:
    """Tell whether classes can be named: each in a line of its own, none blank at an end, or twice;
    of several a row there is no such feature.
    """
    names = entry.class_names
    lines = all(name and name == name.strip() and "\n" not in name for name in names)
    one_a_row = entry.manifest.source.task == "classification"
    return one_a_row and lines and len(set(names)) == len(names)


def _split(entry: Entry, name: str, size: int) -> dict[str, Any]:
    files = entry.manifest.splits[name].files
    numbers = "-{SHARD_X_OF_Y}" if len(files) > 1 else ""
    return {
        "name": name,
        "shardLengths": [str(file.rows) for file in files],
        "numBytes": str(size),
        "filepathTemplate": f"{{SPLIT}}{numbers}.{{FILEFORMAT}}",
    }


def _features(entry: Entry) -> dict[str, Any]:
    first = next(iter(entry.splits.values()))
    features = {"image": _tensor(first.dtype.name, first.shape[1:], "bytes")}
    count = len(entry.class_names)
    if entry.manifest.source.task == "classification":
        kind = "class_label_feature.ClassLabel"
        features["label"] = _feature(kind, classLabel={"numClasses": str(count)})
    else:
        features["label"] = _tensor("int64", (count,), "none")
    if first.per_image:
        features |= {name: _tensor("float64", (), "bytes") for name in ("mean", "std")}
    if "names" in first.column_names:
        features["name"] = _feature("text_feature.Text", text={})
    return _feature("features_dict.FeaturesDict", featuresDict={"features": features})


def _tensor(dtype: str, shape: Sequence[int], encoding: str) -> dict[str, Any]:
    dimensions = {"dimensions": list(map(str, shape))} if shape else {}
    about = {"dtype": dtype, "shape": dimensions, "encoding": encoding}
    return _feature("tensor_feature.Tensor", tensor=about)


def _feature(kind: str, **about: Any) -> dict[str, Any]:
    return {"pythonClassName": FEATURES + kind, **about}


def _identifier(name: str) -> str:
    """Return a name as that library has them: letters, digits and _, a letter first."""
    plain = re.sub("[^a-z0-9_]", "_", name.lower())
    return plain if plain[:1].isalpha() else f"set_{plain}"
