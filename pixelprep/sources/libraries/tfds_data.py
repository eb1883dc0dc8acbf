"""Read a dataset that TensorFlow Datasets knows by name, without TensorFlow itself."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any  # Any: objects of tensorflow_datasets

from pixelprep.errors import DownloadError, SourceError, UsageError, missing_extra
from pixelprep.sources.base import Options, Provenance, SourceContext
from pixelprep.sources.libraries.spool import ROW_OPTIONS, Row, RowsSource, RowStreams
from pixelprep.sources.split_names import split_of
from pixelprep.system import formatting, fs

SUPPORTED = ROW_OPTIONS
NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\d.]+)?")  # NAME[/CONFIG][:VERSION]


def find(name: str, options: Options) -> RowsSource:
    """Return the source of NAME, perhaps with /CONFIG and :VERSION."""
    if not NAME.fullmatch(name):
        expected = "expected tfds:NAME, tfds:NAME/CONFIG, and perhaps :VERSION behind it"
        raise UsageError(f"tfds:{name}: {expected}")
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise missing_extra("tensorflow-datasets", "tfds", f"tfds:{name}") from error
    safe = "-".join(["tfds", *re.split("[/:]", name)])
    about = Provenance(f"{name} of TensorFlow Datasets", "as its page states")
    identity = {"tfds": name, "version": tfds.__version__}
    folder = fs.cache_dir(options.cache_dir) / fs.RAW / "tfds" / name.partition(":")[0]
    return RowsSource(safe, partial(_open, name, options), about, options, identity, folder)


def _open(name: str, options: Options, context: SourceContext) -> RowStreams:
    """Download and prepare the dataset in the cache, and choose its image and its label."""
    import tensorflow_datasets as tfds

    where = f"tfds:{name}"
    folder = fs.ensure_dir(context.cache / fs.RAW / "tfds")
    try:
        builder = tfds.builder(name, data_dir=str(folder), file_format="array_record")
        if not builder.is_prepared() and options.offline:
            raise DownloadError(f"{where}: is not downloaded, and `offline` opens no connection")
        builder.download_and_prepare()
    except DownloadError:
        raise
    except Exception as error:  # of all the libraries that its scripts use
        said = " ".join(str(error).split())[:300]
        raise DownloadError(f"{where}: {type(error).__name__}: {said}") from error
    features = builder.info.features
    kinds = {key: type(feature).__name__ for key, feature in features.items()}
    image, label = (_one(where, kind, kinds) for kind in ("Image", "ClassLabel"))
    splits: dict[str, Callable[[], Iterable[Row]]] = {}
    for word in builder.info.splits:
        split = split_of(word)
        if split is not None and split not in splits:
            splits[split] = partial(_rows, builder, word, image, label)
    return RowStreams(splits, tuple(features[label].names))


def _one(where: str, kind: str, kinds: dict[str, str]) -> str:
    found = [key for key, own in kinds.items() if own == kind]
    if len(found) != 1:
        has = formatting.shorten([f"{key} {own}" for key, own in kinds.items()])
        raise SourceError(f"{where}: expected one feature {kind}, it has {has}")
    return found[0]


def _rows(builder: Any, word: str, image: str, label: str) -> Iterator[Row]:
    """Yield rows, images as the bytes of their files."""
    import tensorflow_datasets as tfds

    plain = {image: tfds.decode.SkipDecoding()}
    for row in builder.as_data_source(split=word, decoders=plain):
        yield row[image], int(row[label])
