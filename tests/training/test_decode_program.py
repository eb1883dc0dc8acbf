"""The program in README.txt of an exported model decodes images as `prepare` did."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixelprep
from pixelprep.dataset.raw import raw_view
from pixelprep.training.decode_program import decode_program, decoding_in_full
from tests.exporters.test_readme import ran
from tests.helpers.data import arrays

MODES = ("RGBA", "LA", "P", "CMYK", "L")


def draw(folder: Path) -> Path:
    """Write pictures of several sizes, turned ones and transparent ones, into two classes."""
    random = np.random.default_rng(3)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(10):
            pixels = random.integers(0, 256, (21 + 3 * i, 40 - i, 4), np.uint8)
            image, exif = Image.fromarray(pixels), Image.Exif()
            exif[274] = i % 8 + 1
            if i < 5:
                image.convert("RGB").save(folder / name / f"{i}.jpg", exif=exif)
            elif MODES[i - 5] == "CMYK":
                image.convert("CMYK").save(folder / name / f"{i}.jpg", exif=exif)
            elif MODES[i - 5] == "P":
                image.convert("P").save(folder / name / f"{i}.png", transparency=3, exif=exif)
            else:
                image.convert(MODES[i - 5]).save(folder / name / f"{i}.png", exif=exif)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {"fit": "crop", "color": "rgb", "alpha": "drop"},
        {"fit": "pad", "filter": "lanczos", "color": "rgb", "alpha": "black"},
        {"color": "grey", "alpha": "white", "orientation": "ignore"},
        {"color": "grey", "alpha": "keep", "filter": "box", "fit": "crop"},
    ],
    ids=str,
)
def test_it_gives_the_pixels_that_were_stored(options: dict[str, Any], tmp_path: Path) -> None:
    """Of JPEG that is turned by EXIF, and of every kind of transparency, bit for bit."""
    photos = draw(tmp_path / "photos")
    own: dict[str, Any] = {"size": (24, 17), "storage": "raw", "cache_dir": tmp_path / "cache"}
    entry = pixelprep.prepare(photos, quiet=True, **own, **options)
    code = decode_program(entry.manifest)
    assert code is not None
    assert options.items() <= decoding_in_full(entry.manifest).items()
    names, raw = entry.train.names, raw_view(entry.train, entry.scaling)[: len(entry.train)]
    assert names is not None
    for name, wanted in zip(names, raw, strict=True):
        (tmp_path / "image.jpg").write_bytes((photos / name).read_bytes())
        found = ran(code, tmp_path)["raw"]
        assert found.dtype == np.float32
        assert np.array_equal(found[0], wanted), name


def test_there_is_none_where_pillow_does_not_do_it() -> None:
    """Arrays were not decoded; how `predict` reads pictures is told all the same."""
    manifest = pixelprep.prepare(arrays(shape=(12, 11, 3)), quiet=True).manifest
    assert decode_program(manifest) is None
    told = decoding_in_full(manifest)
    assert (told["size"], told["color"], told["filter"]) == ((12, 11), "rgb", "bilinear")
