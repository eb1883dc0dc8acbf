"""What is read row by row: generators, and datasets of other libraries."""

import io
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixelprep
from pixelprep import SourceError, UsageError
from pixelprep.numerics import permutation
from tests.helpers.sources import nothing_is_left, prepared

RANDOM = np.random.default_rng(5)
X = RANDOM.integers(0, 256, (12, 5, 4, 3), np.uint8)
Y = np.arange(12) % 3
NAMES = ("a", "b", "c")


def rows_of(images: Any, labels: Any, *names: Any) -> Callable[[], Iterator[Any]]:
    """Return a function that yields rows."""
    return lambda: iter(list(zip(images, labels, *names, strict=True)))


def raw(entry: pixelprep.Entry, split: str = "train") -> np.ndarray:
    """Return the pixels that an entry was made of."""
    return entry.scaling.invert(entry.splits[split].to_numpy()[0])


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """Return pixels as an image file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def pairs(entry: pixelprep.Entry) -> set[tuple[bytes, int]]:
    """Return the raw images of train with their labels, in no order."""
    labels = entry.train.labels.tolist()
    return {(image.tobytes(), label) for image, label in zip(raw(entry), labels, strict=True)}


# Generators


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "arrays": lambda pixels: pixels,
    "lists": lambda pixels: pixels.astype(np.uint8),
    "pictures": Image.fromarray,
    "files": encoded,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_generator_gives_the_very_rows(form: str) -> None:
    """Whatever form images have, pixels, labels, names and class names are those that came; the
    entry is that of the same arrays in memory where nothing was decoded.
    """
    names = [f"{row}.png" for row in range(12)]
    images = [FORMS[form](pixels) for pixels in X]
    splits = {"train": rows_of(images, Y, names), "test": rows_of(images[:6], Y[:6])}
    entry = prepared(pixelprep.from_generator("g", splits, NAMES, on_leak="warn"))
    assert (raw(entry) == X).all()
    assert entry.train.labels.tolist() == Y.tolist()
    assert (entry.class_names, entry.train.name_of(3)) == (NAMES, "3.png")
    assert (raw(entry, "test") == X[:6]).all()
    if form == "arrays":
        one = pixelprep.Arrays(
            "g", (X, Y), (X[:6], Y[:6]), class_names=NAMES, names={"train": names}
        )
        assert prepared(one).key == entry.key


def test_a_version_stands_for_the_rows() -> None:
    """With the same word for the data no function is called again, not even one that would give
    other rows; another word, name or option of reading reads anew.
    """
    calls: list[str] = []

    def source(
        name: str = "g", version: str | None = "1", **options: Any
    ) -> pixelprep.sources.Source:
        def rows() -> Iterator[Any]:
            calls.append(name)
            return iter(list(zip(X, Y + options.get("labels_from", 0), strict=True)))

        return pixelprep.from_generator(name, {"train": rows}, version=version, **options)

    first = prepared(source())
    assert prepared(source()).key == first.key
    assert len(calls) == 1
    for others in ({"version": "2"}, {"name": "h"}, {"version": None}, {"labels_from": 1}):
        calls.clear()
        prepared(source(**others))
        assert calls, others
    for wrong in ("", 3):
        with pytest.raises(UsageError, match=r"`version=.*: expected a word for the data"):
            source(version=wrong)  # type: ignore[arg-type] # refused


def test_a_version_stands_for_a_dataset() -> None:
    """Items are read once for a version; another length or column is other data, as is any that
    has no version.
    """

    class Counted(list[Any]):
        read = 0

        def __getitem__(self, at: Any) -> Any:
            type(self).read += 1
            return super().__getitem__(at)

    items = Counted(zip(X, Y.tolist(), strict=True))
    entry = prepared(pixelprep.from_dataset(items, name="d", version="1"))
    assert Counted.read == 12
    assert prepared(pixelprep.from_dataset(items, name="d", version="1")).key == entry.key
    assert Counted.read == 12
    assert prepared(pixelprep.from_dataset(Counted(items[:9]), name="d", version="1")).rows == 9
    before = Counted.read
    assert prepared(pixelprep.from_dataset(items, name="d")).cached
    assert Counted.read == before + 12


def test_rows_may_have_several_classes() -> None:
    """Rows of 0 and 1, arrays or lists, are labels of several classes."""
    many = np.array([[row % 2, row % 3 == 0, 1] for row in range(12)], np.uint8)
    splits = {"train": rows_of(X, many), "test": rows_of(X[:6], many[:6].tolist())}
    entry = prepared(pixelprep.from_generator("g", splits, NAMES, task="multilabel"))
    assert entry.train.labels.tolist() == many.tolist()
    assert entry.splits["test"].labels.tolist() == many[:6].tolist()


def test_rows_are_never_all_in_memory() -> None:
    """Rows go to the disk one by one: 60 MB of them take no more than a few."""
    one = np.zeros((1000, 1000), np.uint8)

    def rows() -> Iterator[Any]:
        for row in range(60):
            one[:] = row
            yield one, row % 2

    splits = {"train": rows}
    prepared(pixelprep.from_generator("warm", {"train": rows_of(X, Y)}))
    source = pixelprep.from_generator("large", splits)
    tracemalloc.start()
    with pixelprep.sources.SourceContext(pixelprep.cache.path()) as context:
        held = source.load(context).splits["train"].images
        assert tracemalloc.get_traced_memory()[1] < 10e6
        assert [int(held[row : row + 1].max()) for row in (0, 31, 59)] == [0, 31, 59]
    tracemalloc.stop()


BAD: dict[str, tuple[Any, str]] = {
    "shape": ([*X[:3], X[0, :4]], "row 3 (counted from 0): is 4×4×3 uint8, but row 0 is 5×4×3"),
    "type": ([*X[:3], X[0] * 1.0], "row 3 (counted from 0): is 5×4×3 float64, but row 0 is"),
    "text": (["here", *X[:3]], "row 0 (counted from 0): expected an image (H, W)"),
    "damaged": ([encoded(X[0]), encoded(X[0])[:-30], *X[:2]], "row 1 (counted from 0): "),
    "no image": ([b"what"] * 4, "row 0 (counted from 0): cannot read the image"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_row_that_is_wrong_is_named(name: str, cache: Path) -> None:
    """Rows of another shape or type, and what is no image, are refused with the row's number."""
    images, reason = BAD[name]
    with pytest.raises(SourceError) as caught:
        prepared(pixelprep.from_generator("g", {"train": rows_of(images, Y[:4])}))
    assert caught.value.message.startswith("g: train: row ")
    assert reason in caught.value.message
    assert nothing_is_left(cache)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (lambda: iter(()), "train: expected rows (image, label), got none"),
        (lambda: iter([X[0]]), "expected (image, label) or (image, label, name), got ndarray"),
        (lambda: iter([(X[0],)]), "expected (image, label) or (image, label, name), got 1 values"),
        (
            rows_of(X[:2], (0, None)),
            "train: without a label: 1 of 2, such as row 1 (counted",
        ),
        (rows_of(X[:2], ([0, 1], [1])), "train: labels are unlike each other"),
        (lambda: iter([(X[0], 0, "a"), (X[1], 1)]), "train: only some rows have a name"),
    ],
)
def test_what_is_no_row_is_refused(
    rows: Callable[[], Iterator[Any]], reason: str, cache: Path
) -> None:
    """Each row is an image and a label, and all have a name or none."""
    with pytest.raises(SourceError) as caught:
        prepared(pixelprep.from_generator("g", {"train": rows}))
    assert reason in caught.value.message
    assert nothing_is_left(cache)


@pytest.mark.parametrize(
    ("arguments", "options", "reason"),
    [
        (({"training": rows_of(X, Y)},), {}, "unknown `splits` 'training'"),
        (({"train": X},), {}, "train is a ndarray: expected a function"),
        (({"train": rows_of(X, Y)},), {"colour": "grey"}, "unknown `decode` 'colour'"),
        (({"train": rows_of(X, Y)},), {"color": "blue"}, "unknown `color` 'blue'"),
        (({"train": rows_of(X, Y)},), {"task": "regression"}, "unknown `task` 'regression'"),
    ],
)
def test_wrong_arguments_are_named(arguments: Any, options: Any, reason: str) -> None:
    """Splits, options and tasks of other names are refused at once."""
    with pytest.raises(UsageError) as caught:
        pixelprep.from_generator("g", *arguments, **options)
    assert reason in caught.value.message


def test_options_of_pictures_do_not_fit_arrays(cache: Path) -> None:
    """An array is not resized or recolored: the option is refused, not ignored."""
    with pytest.raises(UsageError, match=r"`color`: g: train: row 0 .* an array is taken as it is"):
        prepared(pixelprep.from_generator("g", {"train": rows_of(X, Y)}, color="grey"))
    assert nothing_is_left(cache)


def test_arrays_with_channels_first_need_a_word(cache: Path) -> None:
    """What looks like channels first is refused, and turned by `layout`; pictures take none."""
    wide = RANDOM.integers(0, 256, (12, 6, 8, 3), np.uint8)
    rows = {"train": rows_of(wide.transpose(0, 3, 1, 2), Y)}
    with pytest.raises(SourceError, match="looks like channels first") as caught:
        prepared(pixelprep.from_generator("g", rows))
    assert "`layout=nchw` turns them" in (caught.value.hint or "")
    files = {"train": rows_of(map(encoded, wide), Y)}
    pictures = pixelprep.from_generator("g", files, layout="nchw")
    with pytest.raises(UsageError, match="`layout`: g: is of arrays alone"):
        prepared(pictures)
    assert nothing_is_left(cache)
    assert (raw(prepared(pixelprep.from_generator("g", rows, layout="nchw"))) == wide).all()


def test_flat_rows_take_a_shape() -> None:
    """Flat rows are images of the shape that is given; without one the hint says how to give it."""
    rows = {"train": rows_of(X.reshape(12, -1), Y)}
    with pytest.raises(SourceError, match=r"g: train: .* got \(12, 60\)") as caught:
        prepared(pixelprep.from_generator("g", rows))
    assert "`shape=" in (caught.value.hint or "")
    assert (raw(prepared(pixelprep.from_generator("g", rows, shape="5x4x3"))) == X).all()
    whole = pixelprep.from_generator("g", {"train": rows_of(X, Y)}, shape="5x4x3")
    with pytest.raises(SourceError, match=r"`shape`: expected flat rows \(N, 60\)"):
        prepared(whole)


def test_any_number_of_workers_gives_the_same_bytes() -> None:
    """Rows that were spooled, mixed ones too, are read by other processes alike."""
    rows = {"train": rows_of(X, np.sort(Y))}
    source = pixelprep.from_generator("g", rows)
    one, two = (prepared(source, workers=count, force=True).manifest for count in (1, 2))
    assert one.to_dict() == two.to_dict()


def test_pictures_are_decoded_as_those_of_a_folder(tmp_path: Path) -> None:
    """Size, color and orientation of pictures are treated as they are in a folder of them."""
    exif = Image.Exif()
    exif[274] = 6  # to be turned
    files = [encoded(pixels, "JPEG", exif=exif) for pixels in X]
    for row, content in enumerate(files):
        (tmp_path / "photos" / NAMES[Y[row]]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / NAMES[Y[row]] / f"{row}.jpg").write_bytes(content)
    options: dict[str, Any] = {"size": "7x6", "color": "gray"}
    folder = prepared(tmp_path / "photos", **options)
    opened = [Image.open(io.BytesIO(content)) for content in files]
    for images in (files, opened):
        source = pixelprep.from_generator("g", {"train": rows_of(images, Y)}, NAMES, **options)
        entry = prepared(source)
        assert pairs(entry) == pairs(folder)
        decode = dict(folder.manifest.source.decode)
        del decode["class_order"]
        assert entry.manifest.source.decode == decode


def test_damaged_pictures_can_be_left_out() -> None:
    """With `on_error` skip, damaged pictures are left out, counted, and listed by name or row."""
    images = [encoded(pixels) for pixels in X]
    images[4] = images[4][:-30]
    source = pixelprep.from_generator("g", {"train": rows_of(images, Y)}, on_error="skip")
    with pytest.warns(pixelprep.PixelprepWarning, match="left out: 1 image, such as train/4"):
        entry = prepared(source)
    assert (raw(entry) == np.delete(X, 4, 0)).all()
    assert entry.train.labels.tolist() == np.delete(Y, 4).tolist()
    assert entry.manifest.source.decode["skipped"] == ["train/4"]


@pytest.mark.parametrize("missing", [None, np.nan, " "])
@pytest.mark.parametrize("form", ["arrays", "files"])
def test_rows_without_a_label_can_be_left_out(missing: Any, form: str, cache: Path) -> None:
    """A label that is None, NaN or blank is refused, with the way on; with `on_error` skip such
    rows are left out and counted, and a split of nothing else is not used.
    """
    images = [FORMS[form](pixels) for pixels in X]
    labels = [missing if row in (2, 7) else NAMES[row % 3] for row in range(12)]
    splits = {"train": rows_of(images, labels), "test": rows_of(images, [missing] * 12)}
    with pytest.raises(SourceError, match="without a label: 2 of 12, such as row 2") as caught:
        prepared(pixelprep.from_generator("g", {"train": splits["train"]}))
    assert "`on_error=skip`" in (caught.value.hint or "")
    with pytest.warns(pixelprep.PixelprepWarning, match="left out: without a label: 2 rows of tr"):
        entry = prepared(pixelprep.from_generator("g", splits, on_error="skip"))
    assert (raw(entry) == np.delete(X, (2, 7), 0)).all()
    assert entry.train.labels.tolist() == np.delete(Y, (2, 7)).tolist()
    assert entry.manifest.source.decode["dropped"] == {"no label": 2}
    assert list(entry.splits) == ["train"]
    none = {"train": rows_of(images, [missing] * 12)}
    with pytest.raises(SourceError, match=r"train: expected rows .*, got 12 without a label"):
        prepared(pixelprep.from_generator("g", none, on_error="skip"))


def test_transparent_pictures_need_a_choice(cache: Path) -> None:
    """Alpha below 255 is refused, as in folders, and laid on white where that is said."""
    images = [Image.fromarray(np.dstack([pixels, np.full((5, 4), 0, np.uint8)])) for pixels in X]
    with pytest.raises(SourceError, match="has transparency") as caught:
        prepared(pixelprep.from_generator("g", {"train": rows_of(images, Y)}))
    assert "`alpha=white" in (caught.value.hint or "")
    white = pixelprep.from_generator("g", {"train": rows_of(images, Y)}, alpha="white")
    with pytest.warns(pixelprep.PixelprepWarning):  # all are the same now
        assert (raw(prepared(white)) == 255).all()


def test_rows_sorted_by_class_are_mixed() -> None:
    """Rows that come sorted by class get the format's seeded order; others keep theirs."""
    order = permutation.permutation(12, seed=0, stream=permutation.Stream.SOURCE, index=0)
    entry = prepared(pixelprep.from_generator("g", {"train": rows_of(X, np.sort(Y))}))
    assert (raw(entry) == X[order]).all()
    assert entry.train.labels.tolist() == np.sort(Y)[order].tolist()


def test_a_split_without_labels_is_not_used() -> None:
    """A test split whose labels are all -1 or None, as of a contest, is left out and named."""
    for missing in (-1, None):
        splits = {"train": rows_of(X, Y), "test": rows_of(X, [missing] * 12)}
        with pytest.warns(pixelprep.PixelprepWarning, match="g: test: no row has a label"):
            entry = prepared(pixelprep.from_generator("g", splits))
        assert list(entry.splits) == ["train"]


# Datasets of other libraries


@pytest.mark.parametrize(
    ("thing", "way"),
    [
        (X, "pixelprep.Arrays"),
        ((X, Y), "pixelprep.Arrays"),
        ([(X[0], 1)], "pixelprep.from_dataset"),
        (iter([(X[0], 1)]), "pixelprep.from_generator"),
    ],
)
def test_prepare_names_the_way_for_other_objects(thing: Any, way: str) -> None:
    """What `prepare` does not take itself is answered with what makes a source of it."""
    with pytest.raises(UsageError, match="expected a name, a path or a source") as caught:
        pixelprep.prepare(thing)
    assert way in (caught.value.hint or "")


def hugging_face(**columns: Any) -> Any:
    """Return a dataset of `datasets` with an image column, and these of class labels."""
    datasets = pytest.importorskip("datasets")
    features = {"img": datasets.Image()}
    features |= {name: datasets.ClassLabel(names=list(NAMES)) for name in columns}
    data = {"img": [Image.fromarray(pixels) for pixels in X], **columns}
    return datasets.Dataset.from_dict(data, features=datasets.Features(features))


def test_hugging_face_datasets_are_read_by_their_features() -> None:
    """Pixels, labels and class names of a `Dataset` are those that the library itself gives, and
    those of a `DatasetDict` by split; formats that are set on it do not count.
    """
    datasets = pytest.importorskip("datasets")
    own = hugging_face(label=Y.tolist())
    entry = prepared(pixelprep.from_dataset(own, name="hugging"))
    assert (raw(entry) == np.stack([np.asarray(row["img"]) for row in own])).all()
    assert entry.train.labels.tolist() == own["label"][:]
    assert (entry.class_names, entry.dataset) == (NAMES, "hugging")
    every = datasets.DatasetDict({"train": own.with_format("numpy"), "validation": own})
    both = prepared(pixelprep.from_dataset(every))
    assert (raw(both, "val") == X).all()
    assert both.splits.keys() == {"train", "val"}
    one = prepared(pixelprep.from_dataset(own, val=own.select(range(6))))
    assert (raw(one, "val") == X[:6]).all()


def test_columns_that_leave_a_choice_are_named(cache: Path) -> None:
    """Two columns of labels are an error that names both, and how to choose; either can be."""
    own = hugging_face(fine=Y.tolist(), coarse=(Y[::-1]).tolist())
    with pytest.raises(SourceError, match="2 columns may be the label: fine, coarse") as caught:
        pixelprep.from_dataset(own)
    assert caught.value.hint == "name it: `labels_key=fine`"
    entry = prepared(pixelprep.from_dataset(own, labels_key="coarse"))
    assert entry.train.labels.tolist() == Y[::-1].tolist()
    with pytest.raises(SourceError, match="`labels_key=no`: no such column; it has img, fine"):
        pixelprep.from_dataset(own, labels_key="no")


def test_hugging_face_arrays_keep_their_type() -> None:
    """A column of arrays has the type of its feature, which the library's NumPy format has not."""
    datasets = pytest.importorskip("datasets")
    features = {"image": datasets.Array2D((5, 4), "uint8"), "label": datasets.Value("string")}
    data = {"image": X[..., 0].tolist(), "label": [NAMES[one] for one in Y]}
    own = datasets.Dataset.from_dict(data, features=datasets.Features(features))
    with pytest.warns(pixelprep.PixelprepWarning, match="labels are text"):
        entry = prepared(pixelprep.from_dataset(own))
    assert (raw(entry)[..., 0] == X[..., 0]).all()
    assert (raw(entry).dtype.name, entry.class_names) == ("uint8", NAMES)


class Items:
    """What torch calls a map-style dataset."""

    def __init__(self, convert: Callable[[np.ndarray], Any], classes: Any = ()) -> None:
        self.convert, self.classes, self.labels = convert, classes, Y

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        label = int(self.labels[row])  # IndexError past the end, as any sequence has
        return self.convert(X[row]), label


def test_datasets_with_a_length_are_read_item_by_item() -> None:
    """Items of pictures and of arrays are taken; `classes` are the class names."""
    for convert in (Image.fromarray, np.asarray):
        entry = prepared(pixelprep.from_dataset(Items(convert, list(NAMES)), name="items"))
        assert (raw(entry) == X).all()
        assert entry.class_names == NAMES


@pytest.mark.parametrize("keys", [("image", "label"), ("scan", "grade")])
def test_items_that_are_dicts_are_read_by_their_keys(keys: tuple[str, str], cache: Path) -> None:
    """Keys of the usual names are found, others are given; without one the error names them."""
    rows = [{keys[0]: one, keys[1]: int(label), "more": 3} for one, label in zip(X, Y, strict=True)]
    if keys[0] == "image":
        entry = prepared(pixelprep.from_dataset(rows, name="dicts"))
    else:
        with pytest.raises(SourceError, match="an item has scan, grade, more: expected") as caught:
            prepared(pixelprep.from_dataset(rows, name="dicts"))
        assert caught.value.hint == "name it: `images_key=KEY`"
        named = dict(zip(("images_key", "labels_key"), keys, strict=True))
        entry = prepared(pixelprep.from_dataset(rows, name="dicts", **named))
    assert (raw(entry) == X).all()
    assert entry.train.labels.tolist() == Y.tolist()


def test_a_number_as_third_value_is_said_to_be_a_name() -> None:
    """Datasets that return (image, label, index) have rows named by it, which is told once."""
    rows = [(one, int(label), 70 + row) for row, (one, label) in enumerate(zip(X, Y, strict=True))]
    with pytest.warns(pixelprep.PixelprepWarning, match="third value, int, is taken as its name"):
        entry = prepared(pixelprep.from_dataset(rows, name="numbered"))
    assert entry.train.name_of(3) == "73"


def test_class_names_of_other_splits_are_matched(cache: Path) -> None:
    """Splits that count their classes otherwise, as two folders do of which one lacks a class, get
    train's numbers; a class that train has not is refused by name.
    """
    train, part = Items(np.asarray, NAMES), Items(np.asarray, ["b", "c"])
    part.labels = Y[:3] % 2
    with pytest.warns(pixelprep.PixelprepWarning, match="test: class names differ from those of"):
        entry = prepared(pixelprep.from_dataset(train, test=part, on_leak="warn"))
    assert entry.test.labels.tolist() == (1 + Y[:3] % 2).tolist()
    other = Items(np.asarray, ["b", "dog"])
    other.labels = Y[:3] % 2
    with pytest.raises(SourceError, match="test: an image of class dog, which train has not") as no:
        prepared(pixelprep.from_dataset(train, test=other))
    assert "a, b, c" in no.value.message


def test_class_labels_of_hugging_face_are_matched() -> None:
    """A `Dataset` whose `ClassLabel` has another order gives the same classes by name."""
    datasets = pytest.importorskip("datasets")
    train = hugging_face(label=Y.tolist())
    features = train.features.copy()
    features["label"] = datasets.ClassLabel(names=["c", "a", "b"])
    test = datasets.Dataset.from_dict({"img": train["img"], "label": ((Y + 1) % 3).tolist()})
    entry = prepared(pixelprep.from_dataset(train, test=test.cast(features), on_leak="warn"))
    assert entry.test.labels.tolist() == Y.tolist()


def test_an_item_that_fails_is_named(cache: Path) -> None:
    """What a dataset of one's own raises for an item is one line with its number and the cause."""

    def fails(pixels: np.ndarray) -> np.ndarray:
        if (pixels == X[5]).all():
            raise KeyError("no such file")
        return pixels

    message = r"items: train: row 5 \(counted from 0\): the dataset fails: KeyError: 'no such file'"
    with pytest.raises(SourceError, match=message) as caught:
        prepared(pixelprep.from_dataset(Items(fails, NAMES), name="items"))
    assert isinstance(caught.value.__cause__, KeyError)
    assert nothing_is_left(cache)


def test_what_has_no_length_is_refused() -> None:
    """A dataset that only iterates is answered with the way for generators."""
    with pytest.raises(UsageError, match="expected a dataset with a length") as caught:
        pixelprep.from_dataset(iter([(X[0], 1)]))
    assert "from_generator" in (caught.value.hint or "")


@pytest.mark.long  # seconds, to import torch
def test_torch_tensors_are_turned() -> None:
    """Tensors (C, H, W) of torch's are turned to (H, W, C), which is said; `Subset` is read too,
    with the class names of what it is a part of.
    """
    torch = pytest.importorskip("torch")
    own = Items(lambda pixels: torch.tensor(pixels.transpose(2, 0, 1) / np.float32(255)), NAMES)
    part = torch.utils.data.Subset(own, [1, 0, 2, 3, 5])
    with pytest.warns(pixelprep.PixelprepWarning, match=r"\(C, H, W\), floats 0 to 1 as by ToT"):
        entry = prepared(pixelprep.from_dataset(part))
    expected = X[[1, 0, 2, 3, 5]] / np.float32(255)
    assert np.allclose(raw(entry), expected, atol=1e-7)
    assert entry.manifest.source.decode == {"layout": "nchw"}
    assert entry.class_names == NAMES
    plain = torch.utils.data.TensorDataset(torch.tensor(X[..., 0]), torch.tensor(Y))
    assert (raw(prepared(pixelprep.from_dataset(plain)))[..., 0] == X[..., 0]).all()
