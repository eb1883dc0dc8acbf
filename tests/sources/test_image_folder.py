"""Folders of images: every format to the last pixel, in the page's order; bad ones are refused."""

import errno
import json
import os
import pickle
import shlex
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import pixelprep
from pixelprep import PixelprepWarning, SourceError, UsageError
from pixelprep.installation import install_command
from tests.helpers.cli import failure, run
from tests.helpers.process import execute
from tests.helpers.raw_files import png
from tests.helpers.reference import permutation
from tests.helpers.sources import IMAGE_FACTS, Pair, check, prepared, refused

Rows = list[tuple[np.ndarray, int]]  # of one split: images and labels

BILINEAR = Image.Resampling.BILINEAR
CLASSES = ("10", "9", "B", "a", "ß")  # in the order of their code points
SHAPE = (9, 7, 3)


def picture(seed: int, shape: tuple[int, ...] = SHAPE, dtype: str = "uint8") -> np.ndarray:
    """Return a random picture."""
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def save(path: Path, image: np.ndarray | Image.Image, **options: Any) -> Path:
    """Return a picture's file, its folder made; the suffix says which format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return path


def in_order(rows: Rows, index: int) -> Pair:
    """Return images and labels, sorted by class and name, in the order in which a split stores
    them.
    """
    order = permutation(len(rows), 0, 0, 4, index)
    images = np.stack([rows[i][0] for i in order])
    return images, np.array([rows[i][1] for i in order])


def write(top: Path, names: dict[str, list[str]], seed: int = 0) -> Rows:
    """Return a folder with PNG images of these names by class; rows as they sort."""
    rows: Rows = []
    for label, of_class in enumerate(sorted(names)):
        for name in sorted(names[of_class]):
            rows.append((picture(seed + len(rows)), label))
            save(top / of_class / name, rows[-1][0], format="PNG")
    return rows


def numbered(counts: dict[str, int]) -> dict[str, list[str]]:
    """So many names of images by class."""
    return {name: [f"{i:03}.png" for i in range(count)] for name, count in counts.items()}


@pytest.fixture
def pets(tmp_path: Path) -> tuple[Path, Rows, Rows]:
    """Cats and dogs with a test split: the folder, and its rows as they sort."""
    top = tmp_path / "pets"
    train = write(top / "train", numbered({"cat": 8, "dog": 6}))
    return top, train, write(top / "test", numbered({"cat": 2, "dog": 3}), seed=100)


# Which images, in which order


def test_a_folder_comes_in_the_order_of_the_page(tmp_path: Path) -> None:
    """Classes and, in them, names sort by code points; each split is in the order of purpose 4."""
    names = ["10.png", "9.png", "A.PNG", "a.pNg", "é.png", "z.jpeg", " .png", "a\nb.png"]
    odd = [*names, os.fsdecode(b"\xff.png"), os.fsdecode(b"\xfe\x80.png")]
    train = write(tmp_path / "f" / "train", dict.fromkeys(CLASSES, odd))
    test = write(tmp_path / "f" / "test", dict.fromkeys(CLASSES, names[:3]), seed=500)
    entry = prepared(tmp_path / "f")
    check(entry, in_order(train, 0), in_order(test, 2), CLASSES)
    assert entry.manifest.source.decode == IMAGE_FACTS


@given(
    st.dictionaries(st.sampled_from(CLASSES), st.integers(1, 5), min_size=2),
    st.sampled_from([0.1, 0.2, 1 / 3, 0.5, 0.9]),
    st.sampled_from([0, 1, 2**64 - 1]),
    st.sampled_from(["", "train"]),
)
def test_a_test_split_is_taken_of_every_class(
    tmp_path_factory: pytest.TempPathFactory,
    counts: dict[str, int],
    fraction: float,
    seed: int,
    below: str,
) -> None:
    """Test rows are those of purpose 5, whether the classes lie at the top or below train."""
    top = tmp_path_factory.mktemp("folder")
    rows = write(top / "f" / below, numbered(counts))
    cache = {"cache_dir": top / "cache", "test_fraction": fraction, "split_seed": seed}
    taken = int(len(rows) * fraction + 0.5)
    if not 0 < taken <= len(rows) - len(counts):  # one image of each class stays
        with pytest.raises(UsageError, match=r"1 to stay|so that each of . classes keeps one"):
            prepared(top / "f", **cache)
        return
    check(prepared(top / "f", **cache), in_order(rows, 0), None, tuple(sorted(counts)))


def test_the_seed_says_which_images_are_tested(tmp_path: Path) -> None:
    """Equal seeds take equal images, also by two threads; another seed takes others."""
    write(tmp_path, numbered({"a": 12, "b": 8}))
    made = [
        prepared(tmp_path, test_fraction=0.25, split_seed=seed, cache_dir=tmp_path / ".c" / name)
        for seed, name in ((3, "one"), (3, "two"), (4, "other"))
    ]
    assert made[0].manifest == made[1].manifest
    assert made[0].manifest.to_dict()["splits"] != made[2].manifest.to_dict()["splits"]
    assert [np.bincount(entry.test.labels).tolist() for entry in made] == [[3, 2]] * 3
    options = {"test_fraction": 0.25, "split_seed": 3, "cache_dir": tmp_path / ".c" / "w"}
    with ThreadPoolExecutor(2) as threads:
        assert prepared(tmp_path, **options, workers=threads).manifest == made[0].manifest


def test_what_is_no_image_is_left_out(pets: tuple[Path, Rows, Rows]) -> None:
    """Files that begin with a dot or are no images, and folders beside splits, change no byte."""
    top, train, test = pets
    for name in (".DS_Store", "._000.png", "Thumbs.db", "notes.txt", "000.png.part", "png"):
        (top / "train" / "cat" / name).write_bytes(b"no picture")
    write(top / "train" / ".git", {"objects": ["a.png"]})
    (top / "train" / "dog" / "dir.png").mkdir()
    write(top / "more", {"cat": ["a.png"]})
    os.mkfifo(top / "train" / "cat" / "pipe.png")
    (top / "train" / "readme.png").write_bytes(b"no picture")
    check(prepared(top), in_order(train, 0), in_order(test, 2), ("cat", "dog"))


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev"])
def test_a_folder_of_validation_images_is_the_validation_split(
    pets: tuple[Path, Rows, Rows], name: str
) -> None:
    """It is read under any usual name, in the order of purpose 4; the names of rows are paths."""
    top, train, test = pets
    val = write(top / name, numbered({"cat": 3, "dog": 2}), seed=200)
    entry = prepared(top, val_fraction=0.5)  # which the data needs not
    assert entry.manifest.recipe.splits == dict.fromkeys(("train", "val", "test"), "source")
    for split, rows, index in (("train", train, 0), ("val", val, 1), ("test", test, 2)):
        images, labels = in_order(rows, index)
        stored, found = entry.splits[split].to_numpy()
        assert (entry.scaling.invert(stored) == images).all()
        assert found.tolist() == labels.tolist()
    assert sorted(entry.val.names.tolist()) == [  # type: ignore[union-attr] # it has
        *(f"{name}/cat/{i:03}.png" for i in range(3)),
        *(f"{name}/dog/{i:03}.png" for i in range(2)),
    ]


def test_links_within_the_folder_are_followed(pets: tuple[Path, Rows, Rows]) -> None:
    """A link to an image or class of the same split is read under its own name."""
    top, train, test = pets
    (top / "train" / "cat" / "z.png").symlink_to("../dog/003.png")
    (top / "train" / "cat" / "zz.png").symlink_to(top / "train" / "cat" / "000.png")
    cats, dogs = train[:8], train[8:]
    images = [image for image, _ in [*cats, dogs[3], cats[0]]]
    train = [(image, 0) for image in images] + dogs
    check(prepared(top), in_order(train, 0), in_order(test, 2), ("cat", "dog"))
    for split, rows in (("train", train), ("test", test)):
        (top / split / "wolf").symlink_to("dog")
        rows += [(image, 2) for image, label in rows if label == 1]
    check(prepared(top), in_order(train, 0), in_order(test, 2), ("cat", "dog", "wolf"))


# Formats


def both(top: Path, write_one: Callable[[Path], Any]) -> None:
    """Make a folder with one image in each of two classes of both splits."""
    for split in ("train", "test"):
        for name in ("a", "b"):
            (top / split / name).mkdir(parents=True)
            write_one(top / split / name)


def is_everywhere(image: np.ndarray, entry: Any, **decode: Any) -> None:
    """Check that the entry of a folder of `both` holds this image, four times."""
    images = image if image.ndim == 3 else image[..., None]
    pair = np.stack([images] * 2)
    order = [np.array(permutation(2, 0, 0, 4, index)) for index in (0, 2)]
    check(entry, (pair, order[0]), (pair, order[1]), ("a", "b"), decode)


RGB, GREY, DEEP = picture(1), picture(2, (9, 7)), picture(3, (9, 7), "uint16")
OPAQUE = picture(4, (9, 7, 4))
OPAQUE[..., 3] = 255
YES = picture(6, (9, 7)) > 127
COLOURS = picture(7, (16, 3))
INDEX = picture(8, (9, 7)) % 16
PALETTE = Image.fromarray(INDEX, "L").convert("P")
PALETTE.putpalette(COLOURS.tobytes())
BIG = Image.frombytes("I;16B", (7, 9), DEEP.astype(">u2").tobytes())

LOSSLESS: dict[str, tuple[str, Any, dict[str, Any], np.ndarray]] = {
    "grey PNG": ("png", GREY, {}, GREY),
    "RGB PNG": ("PNG", RGB, {"optimize": True}, RGB),
    "RGBA PNG": ("png", OPAQUE, {}, OPAQUE[..., :3]),
    "grey PNG with alpha": ("png", OPAQUE[..., 2:], {}, OPAQUE[..., 2]),
    "PNG of a palette": ("png", PALETTE, {}, COLOURS[INDEX]),
    "PNG of a palette with a clear colour that it has not": (
        "png",
        PALETTE,
        {"transparency": 16},
        COLOURS[INDEX],
    ),
    "PNG of one bit": ("png", YES, {}, YES * np.uint8(255)),
    "16-bit PNG": ("png", DEEP, {}, DEEP),
    "grey BMP": ("bmp", GREY, {}, GREY),
    "RGB BMP": ("Bmp", RGB, {}, RGB),
    "grey TIFF": ("tif", GREY, {}, GREY),
    "RGB TIFF, LZW": ("tiff", RGB, {"compression": "tiff_lzw"}, RGB),
    "RGB TIFF, deflate": ("TIFF", RGB, {"compression": "tiff_adobe_deflate"}, RGB),
    "16-bit TIFF": ("tif", DEEP, {}, DEEP),
    "16-bit TIFF, big-endian": ("tif", BIG, {}, DEEP),
    "16-bit TIFF, LZW": ("tif", DEEP, {"compression": "tiff_lzw"}, DEEP),
    "WebP": ("webp", RGB, {"lossless": True}, RGB),
    "WebP with alpha": ("webp", OPAQUE, {"lossless": True, "exact": True}, OPAQUE[..., :3]),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_every_format_is_read_exactly(tmp_path: Path, kind: str) -> None:
    """Of whichever format and colours, pixels are those that were written, less opaque alpha."""
    suffix, image, options, expected = LOSSLESS[kind]
    both(tmp_path, lambda folder: save(folder / f"x.{suffix}", image, **options))
    is_everywhere(expected, prepared(tmp_path, mode="center"))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_images_are_what_pillow_makes_of_them(tmp_path: Path, suffix: str, mode: str) -> None:
    """JPEG and WebP images come out as Pillow decodes them, grey or RGB."""
    if (suffix, mode) == ("webp", "CMYK"):
        mode = "RGBA"
    image = Image.fromarray(RGB).resize((40, 30)).convert(mode)
    both(tmp_path, lambda folder: save(folder / f"x.{suffix}", image, quality=80))
    with Image.open(tmp_path / "train" / "a" / f"x.{suffix}") as opened:
        grey = opened.mode == "L"
        is_everywhere(np.asarray(opened.convert("L" if grey else "RGB")), prepared(tmp_path))


@pytest.mark.parametrize(
    ("size", "color"),
    [(None, "grey"), (None, "rgb"), ((5, 6), None), ((5, 6), "rgb"), ((20, 3), "grey")],
)
@pytest.mark.parametrize("kind", ["RGB PNG", "grey TIFF", "16-bit PNG", "16-bit TIFF, big-endian"])
def test_size_and_color_are_pillows(
    tmp_path: Path, kind: str, size: tuple[int, int] | None, color: str | None
) -> None:
    """--size is Pillow's bilinear filter, --color its conversion, and 16 bits of grey stay 16."""
    suffix, image, options, pixels = LOSSLESS[kind]
    both(tmp_path, lambda folder: save(folder / f"x.{suffix}", image, **options))
    expected = Image.fromarray(pixels)
    if pixels.dtype == np.uint8 and color:
        expected = expected.convert({"grey": "L", "rgb": "RGB"}[color])
    if size:
        expected = expected.resize(size[::-1], BILINEAR)
    array = np.asarray(expected)
    if array.ndim == 2 and color == "rgb":
        array = np.stack([array] * 3, axis=-1)
    decode: dict[str, Any] = {"color": color} if color else {}
    if size:
        decode |= {"size": list(size), "fit": "stretch", "filter": "bilinear"}
    entry = prepared(tmp_path, mode="center", size=size, color=color)
    is_everywhere(array, entry, **decode)
    if size:
        assert prepared(tmp_path, mode="center", size="{}x{}".format(*size), color=color).cached


def test_images_that_are_stretched_are_told(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """How many, and from which aspects, is one line; a tenth or less, and other fits, are none."""
    sizes = {"a": [(8, 8), (10, 11), (40, 10)], "b": [(4, 16), (16, 16), (6, 2)]}
    for name, of_class in sizes.items():
        for i, (height, width) in enumerate(of_class):
            save(tmp_path / "f" / name / f"{i}.png", picture(i, (height, width, 3)))
    entry = prepared(tmp_path / "f", size="8")
    assert entry.train.shape[1:] == (8, 8, 3)
    told = [str(one.message) for one in recwarn]
    stretched = "f: 3 of 6 images are stretched, aspect 0.25 to 4.00 becomes 1.00: `fit=crop|pad`"
    assert told == [f"{stretched} keeps it"]
    for fit in ("crop", "pad"):
        other = prepared(tmp_path / "f", size="8X8", fit=fit, filter="box")
        assert other.key != entry.key
        decode = {"size": [8, 8], "fit": fit, "filter": "box"}
        assert other.manifest.source.decode == IMAGE_FACTS | decode
    assert len(recwarn) == len(told)
    with pytest.raises(UsageError, match="`fit=crop`: nothing is resized"):
        prepared(tmp_path / "f", fit="crop")


def test_a_draft_of_jpegs_is_another_entry(tmp_path: Path) -> None:
    """It is recorded, where it is wanted, and goes without saying otherwise."""
    for name in ("a/0.jpg", "a/1.jpg", "b/2.jpg"):
        save(tmp_path / "f" / name, picture(int(name[2]), (40, 48, 3)))
    full, draft = (prepared(tmp_path / "f", size=8, jpeg=way) for way in ("full", "draft"))
    decode = {"size": [8, 8], "fit": "stretch", "filter": "bilinear"}
    assert full.manifest.source.decode == IMAGE_FACTS | decode
    assert draft.manifest.source.decode == IMAGE_FACTS | decode | {"jpeg": "draft"}
    assert draft.key != full.key
    assert draft.manifest.source.splits != full.manifest.source.splits
    with pytest.raises(UsageError, match="`jpeg=draft`: nothing is resized"):
        prepared(tmp_path / "f", jpeg="draft")


def test_size_and_color_make_mixed_images_equal(tmp_path: Path) -> None:
    """Images of any size, colours and format make one dataset where both options are given."""
    kinds = {
        "0.png": picture(1, (20, 30, 3)),
        "1.bmp": picture(2, (4, 5)),
        "2.tif": picture(3, (6, 6, 3)),
        "3.webp": picture(4, (5, 5, 3)),
        "4.png": YES,
    }
    for split in ("train", "test"):
        for label in "ab":
            for name, image in kinds.items():
                options = {"lossless": True} if name.endswith("webp") else {}
                save(tmp_path / split / label / name, image, **options)
    rows = []
    for name in kinds:
        with Image.open(tmp_path / "test" / "a" / name) as opened:
            grey = opened.convert("L").resize((5, 6), BILINEAR)
        rows.append(np.asarray(grey)[..., None])
    listed = [(image, label) for label in (0, 1) for image in rows]
    entry = prepared(tmp_path, size="6x5", color="grey")
    decode = {"size": [6, 5], "fit": "stretch", "filter": "bilinear", "color": "grey"}
    check(entry, in_order(listed, 0), in_order(listed, 2), ("a", "b"), decode)


# Bad folders


def deep_png(channels: int, colour: int) -> bytes:
    """Return a 16-bit PNG of 7×9 pixels of so many channels."""
    return png(7, 9, 16, colour, (b"\0" + bytes(range(7 * 2 * channels))) * 9)


# By what is wrong with train/cat/004.png: its bytes or picture, and the reason given.
BAD_IMAGES: dict[str, tuple[bytes | np.ndarray, str]] = {
    "nothing": (b"", "not an image"),
    "noise": (bytes(range(256)), "not an image"),
    "text": (b"<svg></svg>", "not an image"),
    "the start of a PNG": (png(7, 9, 8, 2, b"")[:20], "cannot read the image"),
    "a PNG cut in its pixels": (
        png(7, 9, 8, 2, picture(0, (9, 22)).tobytes())[:120],
        "cannot read the image",
    ),
    "a PNG with too few pixels": (png(7, 9, 8, 2, bytes(50)), "cannot read the image"),
    "a PNG of no pixels": (png(0, 9, 8, 2, b""), ""),
    "another size": (picture(0, (9, 8, 3)), "is 9×8×3 uint8, but"),
    "grey among colours": (GREY, "is 9×7×1 uint8, but"),
    "16 bits among 8": (DEEP, "is 9×7×1 uint16, but"),
    "16 bits of RGB": (deep_png(3, 2), "is 9×7×3 uint16, but"),
    "16 bits of RGBA": (deep_png(4, 6), "has transparency"),
    "16 bits of grey and alpha": (deep_png(2, 4), "has transparency"),
    "a bomb": (png(60_000, 60_000, 8, 2, bytes(1000)), "pixels"),
    "a bomb of twice Pillow's limit": (png(9_500, 9_500, 8, 2, bytes(1000)), "pixels"),
    "a wide bomb": (png(2**31 - 1, 1, 8, 2, bytes(1000)), "pixels"),
}


@pytest.mark.parametrize("bad", BAD_IMAGES)
def test_a_bad_image_is_refused(pets: tuple[Path, Rows, Rows], cache: Path, bad: str) -> None:
    """One image among many that is damaged or unlike the others is named, and why."""
    content, reason = BAD_IMAGES[bad]
    path = pets[0] / "train" / "cat" / "004.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        save(path, content)
    error = refused(cache, pets[0], path, reason)
    assert error.hint
    assert refused(cache, pets[0], path, reason, workers=1, on_error="fail").hint == error.hint


@pytest.mark.parametrize("name", ["a b.png", "a\nb.png", os.fsdecode(b"\xff\xfe.png")])
def test_a_bad_image_of_any_name_is_one_line(
    pets: tuple[Path, Rows, Rows], cache: Path, name: str
) -> None:
    """Whatever bytes a damaged image's name has, the command says one line of it, and a hint."""
    (pets[0] / "train" / "cat" / name).write_bytes(b"no picture")
    error, hint = failure(run("prepare", str(pets[0])))
    assert error.startswith(str(pets[0] / "train" / "cat"))
    assert error.endswith("cannot read the image: not an image")
    assert hint == "leave out damaged images: --on-error skip"


def bad_folder(top: Path, bad: str) -> tuple[Path, str]:  # noqa: C901 - a table with statements
    """Make a folder bad in one way; the path that must be named, and the reason."""
    cat, dog = top / "train" / "cat", top / "train" / "dog"
    image = cat / "004.png"
    match bad:
        case "an empty class":
            for split in ("train", "test"):
                (top / split / "emu").mkdir()
            return top / "train" / "emu", "an empty class"
        case "a class of other files":
            for path in cat.glob("*.png"):
                path.rename(path.with_suffix(".Psd"))
            (cat / "notes.txt").write_bytes(b"none yet")
            (cat / "more").mkdir()
            count = len(list(cat.glob("*.Psd")))
            return cat, f"expected images of a class, got {count} .psd, 1 .txt"
        case "a split without train":
            shutil.rmtree(top / "train")
            write(top / "Val", numbered({"cat": 1, "dog": 1}))
            return Path(
                "pets"
            ), "expected a train split to fit the scaling to, found val and test alone"
        case "a split twice":
            for name in ("val", "Validation"):
                write(top / name, numbered({"cat": 1, "dog": 1}))
            return top, "expected one folder for val, found Validation and val"
        case "one class":
            shutil.rmtree(dog)
            return top, "two classes or more, found 1: cat"
        case "no class":
            shutil.rmtree(top / "train")
            (top / "train").mkdir()
            return top, "two classes or more, found 0: none"
        case "a class missing in train":
            write(top / "test", {"emu": ["0.png"]})
            return top / "test", "these differ: emu"
        case "a link that goes out and in":
            image.unlink()
            image.symlink_to(top.parent / ".." / top.parent.name / "outside.png")
            save(top.parent / "outside.png", RGB)
            return image, "a link that leaves"
        case "a link that goes round":
            (cat / "round").symlink_to("..")
            return cat / "round", "a link that leads back"
        case "a link to nowhere":
            (cat / "x.png").symlink_to("nowhere.png")
            return cat / "x.png", "leads nowhere"
        case "a link to itself":
            (cat / "x.png").symlink_to("x.png")
            return cat / "x.png", ""
        case "a class name of odd bytes":
            for split in ("train", "test"):
                write(top / split, {os.fsdecode(b"\xff"): ["0.png"]})
            return top, "a class name is not valid text"
        case "images of no class":
            shutil.rmtree(top)
            save(top / "a.png", RGB)
            return top, "class"
    raise AssertionError(bad)


@pytest.mark.parametrize(
    "bad",
    [
        "an empty class",
        "a class of other files",
        "a split without train",
        "a split twice",
        "one class",
        "no class",
        "a class missing in train",
        "a link that goes out and in",
        "a link that goes round",
        "a link to nowhere",
        "a link to itself",
        "a class name of odd bytes",
        "images of no class",
    ],
)
def test_a_bad_folder_is_refused(pets: tuple[Path, Rows, Rows], cache: Path, bad: str) -> None:
    """A folder without what it takes, or that leads out of itself, is refused by name."""
    path, reason = bad_folder(pets[0], bad)
    refused(cache, pets[0], path, reason)


def test_what_is_not_read_is_told(
    pets: tuple[Path, Rows, Rows], recwarn: pytest.WarningsRecorder
) -> None:
    """Files of other kinds are counted by their endings; hidden folders are named."""
    top = pets[0]
    for name in ("a.psd", "b.psd", "notes"):
        (top / "train" / "cat" / name).write_bytes(b"")
    write(top / "more", numbered({"cat": 2}))
    for name in ("__MACOSX", ".thumbs", "train/__MACOSX"):
        (top / name / "cat").mkdir(parents=True)
    check(prepared(top), in_order(pets[1], 0), in_order(pets[2], 2), ("cat", "dog"))
    told = "\n".join(str(one.message) for one in recwarn)
    assert "not used: 5 files (2 .png, 2 .psd, 1 without ending), such as" in told
    assert f"{top}: hidden folders, not used: .thumbs, __MACOSX, train/__MACOSX" in told


def test_a_share_of_a_folder_with_a_test_split_is_not_taken(
    pets: tuple[Path, Rows, Rows],
) -> None:
    """The data has the split that --test-fraction is to take: that is said, and no other entry."""
    entry = prepared(pets[0])
    told = "pets: `test_fraction` is not used: the data has a test split of its own"
    with pytest.warns(PixelprepWarning, match=told):
        assert prepared(pets[0], test_fraction=0.5).path == entry.path


def test_what_was_told_is_told_again_of_an_entry_in_the_cache(
    pets: tuple[Path, Rows, Rows],
) -> None:
    """That files were not used, and images left out, is said by every later call too."""
    top = pets[0]
    (top / "train" / "cat" / "notes.txt").write_text("none")
    (top / "train" / "cat" / "000.png").write_bytes(b"no picture")
    lines = []
    for cached in (False, True, True):
        with pytest.warns(PixelprepWarning) as told:
            assert prepared(top, on_error="skip").cached == cached
        lines.append([str(one.message) for one in told])
    assert lines[0] == lines[1] == lines[2]
    assert [line.split(":")[1] for line in lines[0]] == [" not used", " left out of train"]


# Leaving out what is damaged


@pytest.mark.parametrize("places", [[0], [13], [5, 9]])
def test_damaged_images_can_be_left_out(
    pets: tuple[Path, Rows, Rows], cache: Path, places: list[int]
) -> None:
    """Skipped images are listed; the others keep their order, and theirs are the statistics."""
    top, train, test = pets
    images, labels = in_order(train, 0)
    listed = sorted((top / "train").glob("*/*.png"))
    order = permutation(len(listed), 0, 0, 4, 0)
    gone = [listed[order[place]] for place in places]
    for path in gone:
        path.write_bytes(b"no picture")
    refused(cache, top, gone[0], "not an image")
    entry = prepared(top, on_error="skip")
    names = sorted(str(path.relative_to(top)) for path in gone)
    rest = np.delete(images, places, 0), np.delete(labels, places, 0)
    check(entry, rest, in_order(test, 2), ("cat", "dog"), {"skipped": names})
    for path in gone:
        path.unlink()
    without = prepared(top, on_error="skip")
    assert without.manifest.source.decode == IMAGE_FACTS
    assert without.manifest.to_dict()["scaling"] == entry.manifest.to_dict()["scaling"]
    assert without.manifest.to_dict()["statistics"] == entry.manifest.to_dict()["statistics"]
    found = [sorted(map(bytes, one.train.to_numpy()[0])) for one in (entry, without)]
    assert found[0] == found[1]


# By the ending of the one picture: bytes of its header that are damaged, and what the rest says.
UNREAD: dict[str, tuple[slice, bytes, str]] = {
    "bmp": (slice(30, 34), b"\0\0\4\0", "Unsupported BMP compression (262144)"),
    "png": (slice(None), png(60_000, 60_000, 8, 2, bytes(50)), "pixels"),
}


@pytest.mark.parametrize("ending", UNREAD)
def test_what_cannot_be_read_is_left_out_with_the_reason(
    pets: tuple[Path, Rows, Rows], ending: str, cache: Path
) -> None:
    """A header that is damaged so that it means another kind of file does not block a folder; but
    where most files are of such a kind, they are no exceptions.
    """
    at, damage, reason = UNREAD[ending]
    bad = save(pets[0] / f"train/cat/bad.{ending}", RGB)
    content = bytearray(bad.read_bytes())
    content[at] = damage
    bad.write_bytes(content)
    error = refused(cache, pets[0], bad, reason)
    assert "on_error" not in str(error.hint)
    with pytest.warns(
        PixelprepWarning, match=rf"such as train/cat/bad\.{ending}: .*(pixels|Unsup)"
    ):
        entry = prepared(pets[0], on_error="skip")
    assert entry.manifest.source.decode["skipped"] == [f"train/cat/bad.{ending}"]
    for number in range(40):
        shutil.copy(bad, pets[0] / f"train/cat/{number}.{ending}")
    with pytest.raises(SourceError, match=r"41 of \d+ images are of no kind that is read"):
        prepared(pets[0], on_error="skip")


def test_what_is_mixed_is_not_left_out(pets: tuple[Path, Rows, Rows], cache: Path) -> None:
    """--on-error skip is for damaged images: a whole one of another size is still refused."""
    path = save(pets[0] / "train" / "cat" / "004.png", picture(0, (3, 3, 3)))
    refused(cache, pets[0], path, "is 3×3×3 uint8, but", on_error="skip")


@pytest.mark.parametrize(("split", "classes"), [("test", ["dog"]), ("train", ["cat", "dog"])])
def test_a_class_may_not_be_left_out(
    pets: tuple[Path, Rows, Rows], cache: Path, split: str, classes: list[str]
) -> None:
    """Where every image of a class is damaged, there is nothing left to prepare."""
    for name in classes:
        for path in (pets[0] / split / name).iterdir():
            path.write_bytes(b"no picture")
    refused(cache, pets[0], pets[0], "", on_error="skip")


@pytest.mark.parametrize("name", ["a\nb.png", os.fsdecode(b"\xff.png")], ids=ascii)
def test_what_was_left_out_is_listed_by_any_name(pets: tuple[Path, Rows, Rows], name: str) -> None:
    """The list of skipped images holds odd names as text, and the entry opens again."""
    (pets[0] / "train" / "cat" / name).write_bytes(b"no picture")
    entry = prepared(pets[0], on_error="skip")
    written = os.fsencode(name).decode(errors="backslashreplace")
    assert entry.manifest.source.decode == IMAGE_FACTS | {"skipped": [f"train/cat/{written}"]}
    assert json.loads((entry.path / "manifest.json").read_bytes()) == entry.manifest.to_dict()
    assert prepared(pets[0], on_error="skip").cached


# Again

WATCH = """
import json, os, sys
import pixelprep

top, opened = sys.argv[1], []

def note(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".png"):
        opened.append(os.path.relpath(arguments[0], top))

sys.addaudithook(note)
found = []
for change in (None, None, None, "touch", None, "write", None, "replace", None, "add", "remove"):
    path = os.path.join(top, "train", "cat", "004.png")
    if change == "touch":
        os.utime(path, (1, 1))
    elif change:
        before, content = os.stat(path), open(path, "rb").read()
        if change == "write":  # of the same size, and its time set back
            other = open(os.path.join(top, "train", "cat", "003.png"), "rb").read()
            open(path, "r+b").write(other)
        elif change == "replace":
            open(path + ".new", "wb").write(content)
            os.replace(path + ".new", path)
        elif change == "add":
            open(os.path.join(top, "train", "dog", "new.png"), "wb").write(content)
        else:
            os.unlink(os.path.join(top, "train", "dog", "new.png"))
        if change in ("write", "replace"):
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    opened.clear()
    entry = pixelprep.prepare(top + "/", quiet=True)
    found.append([change, len(set(opened)), entry.cached, entry.key])
print(json.dumps(found))
"""


def test_a_hit_opens_no_image(pets: tuple[Path, Rows, Rows]) -> None:
    """While no file changed none is opened; a new time, content, place or number is looked at."""
    top = pets[0]
    size = max(path.stat().st_size for path in (top / "train" / "cat").iterdir())
    for path in (top / "train" / "cat").iterdir():
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))  # all of one size
    command = [sys.executable, "-c", WATCH, str(top)]
    done = execute(command)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [line[:3] for line in found] == [
        [None, 19, False],
        [None, 0, True],
        [None, 0, True],
        ["touch", 19, True],
        [None, 0, True],
        ["write", 19, False],
        [None, 0, True],
        ["replace", 19, True],
        [None, 0, True],
        ["add", 20, False],
        ["remove", 0, True],  # as it was before
    ]
    keys = [line[3] for line in found]
    assert len(set(keys[:5])) == len({*keys[5:9], keys[10]}) == 1
    assert len(set(keys)) == 3


def test_options_are_remembered_apart(pets: tuple[Path, Rows, Rows], cache: Path) -> None:
    """What was read with other options is never taken for what these options give."""
    top, train, test = pets
    plain = prepared(top)
    grey = prepared(top, color="grey")
    small = prepared(top, size="3x3")
    rgb = prepared(top, color="rgb")
    assert len({entry.key for entry in (plain, grey, small, rgb)}) == 4
    assert (grey.train.shape[1:], small.train.shape[1:]) == ((9, 7, 1), (3, 3, 3))
    check(prepared(top), in_order(train, 0), in_order(test, 2), ("cat", "dog"))
    assert prepared(top).cached
    (top / "test" / "dog" / "000.png").write_bytes(b"no picture")
    assert prepared(top, on_error="skip").test.shape[0] == 4
    with pytest.raises(SourceError):
        prepared(top)


def test_a_worker_refuses_as_one_process_does(pets: tuple[Path, Rows, Rows], cache: Path) -> None:
    """An image that another process finds unlike the others ends in the same one error."""
    path = save(pets[0] / "train" / "cat" / "004.png", picture(0, (3, 3, 3)))
    refused(cache, pets[0], path, "is 3×3×3", workers=2)


def test_without_pillow_the_extra_is_named(pets: tuple[Path, Rows, Rows]) -> None:
    """A folder of images needs the extra `images`, and says so."""
    code = "import sys; sys.modules['PIL'] = None; import pixelprep; "
    code += f"pixelprep.prepare({str(pets[0])!r})"
    done = execute([sys.executable, "-c", code])
    assert install_command("images") in done.stderr


def test_an_error_survives_the_way_between_processes() -> None:
    """A worker's error comes back as the same class with the same words."""
    error = pickle.loads(pickle.dumps(SourceError("where: what", "do this")))
    assert (type(error), error.message, error.hint) == (SourceError, "where: what", "do this")


# All problems at once


def write_troubled(top: Path) -> None:
    """Add to a folder of 9×7 RGB PNGs an image of each problem that an option solves."""
    save(top / "train" / "cat" / "size.png", picture(0, (3, 4, 3)))
    save(top / "train" / "cat" / "grey.png", GREY)
    save(top / "train" / "dog" / "clear.png", picture(0, (9, 7, 4)))
    (top / "train" / "dog" / "damaged.png").write_bytes(b"no picture")
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    save(top / "test" / "cat" / "pages.webp", frames[0], save_all=True, append_images=frames[1:])
    save(top / "test" / "cat" / "pages2.webp", frames[0], save_all=True, append_images=frames[1:])


@pytest.mark.parametrize("workers", [1, 2])
def test_all_problems_are_told_together(
    pets: tuple[Path, Rows, Rows], cache: Path, workers: int
) -> None:
    """One error names an image of each kind, how many there are, and all options that help."""
    top = pets[0]
    write_troubled(top)
    error = refused(
        cache, top, "size.png", "is 3×4×3 uint8, but", workers=workers, orientation="ignore"
    )
    told = error.message
    assert "grey.png: is 9×7×1 uint8" in told
    assert "clear.png: has transparency" in told
    assert "damaged.png: cannot read the image: not an image (1 of 25 images)" in told
    assert "has 2 pages or frames, of which an image is one (2 of 25 images)" in told
    assert error.hint is not None
    command, words = error.hint.split("; ")
    assert words == "or `alpha=black`, drop, keep"
    start = f"pixelprep prepare {shlex.quote(str(top))} --orientation ignore "
    assert command.startswith(start)
    options = ["size=9x7", "color=rgb", "alpha=white", "on_error=skip", "page=first"]
    assert set(command.removeprefix(start).split()) == {f"`{one}`" for one in options}


def test_an_image_of_two_problems_is_told_of_once(
    pets: tuple[Path, Rows, Rows], cache: Path
) -> None:
    """One that differs in size and in colour is named once, with how many do in each."""
    for number in (1, 2):
        save(pets[0] / "train" / "cat" / f"odd{number}.png", picture(number, (3, 4, 1))[..., 0])
    error = refused(cache, pets[0], "cat/odd", "is 3×4×1 uint8, but")
    assert error.message.count("is 3×4×1 uint8") == 1
    every = sum(1 for _ in pets[0].rglob("*.png"))
    assert f"(size: 2 of {every} images; color: 2 of {every} images)" in error.message


@pytest.mark.filterwarnings("ignore::pixelprep.PixelprepWarning")
def test_the_command_of_the_hint_works(pets: tuple[Path, Rows, Rows]) -> None:
    """What the hint says, typed as it stands up to the words, prepares the folder."""
    top = pets[0].rename(pets[0].with_name("my pets"))
    write_troubled(top)
    _, hint = failure(run("prepare", str(top), "--fit", "pad", "--size", "8x8"))
    command = shlex.split(hint.split(";")[0])
    assert command[:3] == ["pixelprep", "prepare", str(top)]
    assert {"--fit", "--alpha", "--page", "--on-error"} <= set(command)
    assert run(*command[1:]).returncode == 0


def test_what_most_images_are_is_advised(tmp_path: Path, cache: Path) -> None:
    """Whichever image comes first, those of another size or colour are the fewer ones."""
    for seed in range(8):
        top = tmp_path / str(seed)
        write(top, numbered({"a": 3, "b": 3}))
        odd = sorted(top.glob("*/*.png"))[seed % 6]
        save(odd, picture(0, (5, 4)))
        error = refused(cache, top, odd, "is 5×4×1 uint8, but", test_fraction=0.5)
        assert "is 9×7×3 uint8" in error.message
        assert str(error.hint).endswith(" --test-fraction 0.5 `size=9x7` `color=rgb`")


def test_the_options_of_the_error_work(pets: tuple[Path, Rows, Rows]) -> None:
    """Given all of them, the folder is read, and the manifest has what was done."""
    top = pets[0]
    write_troubled(top)
    options = {"size": "9x7", "color": "rgb", "alpha": "white", "on_error": "skip"}
    entry = prepared(top, page="first", **options)
    assert (len(entry.train), len(entry.test)) == (17, 7)
    assert entry.manifest.source.decode == {
        "orientation": "followed",
        "alpha": "white",
        "size": [9, 7],
        "fit": "stretch",
        "filter": "bilinear",
        "color": "rgb",
        "page": "first",
        "class_order": "code points",
        "skipped": ["train/dog/damaged.png"],
    }


def test_choices_are_recorded_and_remembered_apart(pets: tuple[Path, Rows, Rows]) -> None:
    """Each choice is an entry of its own; `keep` gives images of four channels."""
    top = pets[0]
    turned = Image.Exif()
    turned[274] = 3
    save(top / "train" / "cat" / "000.png", RGB, exif=turned)
    followed, ignored = prepared(top), prepared(top, orientation="ignore")
    assert ignored.manifest.source.decode == IMAGE_FACTS | {"orientation": "ignored"}
    rows = [
        next(i for i, name in enumerate(e.train.names) if "cat/000" in name)  # type: ignore[arg-type] # has names
        for e in (followed, ignored)
    ]
    pixels = [
        e.scaling.invert(e.train.to_numpy()[0][row])
        for e, row in zip((followed, ignored), rows, strict=True)
    ]
    assert np.array_equal(pixels[0], RGB[::-1, ::-1])
    assert np.array_equal(pixels[1], RGB)
    kept = prepared(top, alpha="keep")
    assert (kept.train.shape[1:], kept.manifest.source.decode["alpha"]) == ((9, 7, 4), "kept")
    assert len({followed.key, ignored.key, kept.key}) == 3


@pytest.mark.parametrize("on_error", ["fail", "skip"])
@pytest.mark.parametrize(
    "number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE, errno.ENOENT]
)
def test_a_failing_file_system_stops(
    pets: tuple[Path, Rows, Rows],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    on_error: str,
) -> None:
    """Whatever the system says of one image, none is left out; afterwards all are there."""
    top, train, test = pets
    path = str(top / "train" / "cat" / "004.png")

    def failing(file: Any, *args: Any, **options: Any) -> Any:
        if file == path:
            raise OSError(number, os.strerror(number), path)
        return Path(file).open(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("pixelprep.sources.pictures.image_file.open", failing, raising=False)
        error = refused(cache, top, path, os.strerror(number), on_error=on_error)
        assert "on_error" not in (error.hint or "")
    check(prepared(top, on_error=on_error), in_order(train, 0), in_order(test, 2), ("cat", "dog"))


@pytest.mark.parametrize("name", ["", "train", "test", "train/dog"])
def test_a_folder_that_cannot_be_listed_stops(
    pets: tuple[Path, Rows, Rows], cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What the system does not list is neither empty nor absent."""
    where, scandir = pets[0] / name, os.scandir

    def failing(path: Any) -> Any:
        if Path(path) == where:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return scandir(path)

    monkeypatch.setattr("os.scandir", failing)
    refused(cache, pets[0], where, "cannot read: Input/output error", on_error="skip")


def test_a_lack_of_memory_is_no_damage(
    pets: tuple[Path, Rows, Rows], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that could not be decoded for want of memory is not left out."""

    def failing(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("pixelprep.sources.pictures.plain_png._decoder", lambda: failing)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", failing)
    refused(cache, pets[0], pets[0], "not enough memory", on_error="skip")


def test_images_of_cmyk_are_counted(pets: tuple[Path, Rows, Rows]) -> None:
    """They become RGB, as Pillow converts them, and that is said."""
    save(pets[0] / "train/cat/c.tif", Image.fromarray(RGB).convert("CMYK"))
    with pytest.warns(PixelprepWarning, match=r"1 of \d+ images of CMYK, taken as RGB"):
        prepared(pets[0])


@pytest.mark.filterwarnings("ignore::pixelprep.PixelprepWarning")
def test_what_the_files_are_is_counted(tmp_path: Path, cache: Path) -> None:
    """Formats, types and sizes of the files, and how many were resized, stretched and turned."""
    top = tmp_path / "mixed"
    for number in range(4):
        save(top / f"a/{number}.png", picture(number, (8, 8)))
        save(top / f"b/{number}.jpg", picture(number, (8, 16, 3)))
    exif = Image.Exif()
    exif[274] = 6
    save(top / "b/turned.png", Image.fromarray(picture(9, (8, 8, 3))), exif=exif)
    entry = prepared(top, size="8x8", color="rgb", workers=2)
    files = pixelprep.cache.describe(entry).files
    assert files == {
        "done": {"resized": 4, "stretched": 4, "turned": 1},
        "format": {"PNG": 5, "JPEG": 4},
        "size": {"8×8": 5, "8×16": 4},
        "type": {"RGB": 5, "L": 4},
    }
    again = prepared(top, size="8x8", color="rgb")
    assert (again.cached, pixelprep.cache.describe(again).files) == (True, files)
