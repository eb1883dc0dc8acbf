"""Raw storage: a quarter of the room, and the very values of a scaled entry."""

from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import pixelprep
from pixelprep import Arrays
from tests.helpers.data import content
from tests.helpers.malicious import forge
from tests.helpers.recipes import pair

MODES, PER = ("normalize", "center", "standardize"), ("dataset", "channel", "pixel", "image")


def both(raw_dtype: str, **options: Any) -> tuple[pixelprep.Entry, pixelprep.Entry]:
    """Return the scaled and the raw entry of the same data and options, in several files."""
    source = Arrays("numbers", pair(700, raw_dtype), pair(15, raw_dtype))
    options |= {"shard_rows": 300, "quiet": True}
    one = pixelprep.prepare(source, **options)
    return one, pixelprep.prepare(source, storage="raw", **options)


LONG = pytest.mark.long


@pytest.mark.parametrize("storage", ["raw", "scaled"])
def test_feeds_deliver_raw_pixels(storage: str) -> None:
    """Shuffled raw batches are the scaled ones before scaling, of the raw type, in each feed."""
    entry = both("uint8", per="image")[storage == "raw"]
    plan: dict[str, Any] = {"shuffle": True, "seed": 2}
    scaled = [images for images, _ in entry.train.batches(64, **plan)]
    raw = [images for images, _ in entry.train.batches(64, raw=True, **plan)]
    for one, other in zip(raw, scaled, strict=True):
        assert one.dtype == np.uint8
        assert entry.scaling.apply(one).tobytes() == other.tobytes()
    tf = pytest.importorskip("tensorflow", reason="the extra `train` is not installed")
    fed = entry.train.to_tf(64, raw=True, **plan)
    assert fed.element_spec[0].dtype == tf.uint8
    for (images, _), expected in zip(fed.as_numpy_iterator(), raw, strict=True):
        assert images.tobytes() == expected.tobytes()


def test_what_was_rounded_away_is_not_delivered_as_raw() -> None:
    """16 bits cannot be had back from float16; floats come back up to rounding."""
    scaled, raw = both("uint16", dtype="float16", mode="normalize")
    with pytest.raises(pixelprep.UsageError, match="uint16 pixels cannot be recovered") as caught:
        scaled.train.batches(8, raw=True)
    assert caught.value.hint == "prepare the dataset with `storage=raw`"
    assert len(raw.train.batches(8, raw=True)) == 88
    images, labels = pair(50, "float32")
    floats = pixelprep.prepare(Arrays("floats", (images, labels)), quiet=True)
    (found, _), *_ = floats.train.batches(50, raw=True)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, images, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "rescale"),
    [
        ("uint8", False),
        ("uint16", True),
        *(pytest.param(kind, False, marks=LONG) for kind in ("uint16", "int8", "int16")),
        *(pytest.param(kind, True, marks=LONG) for kind in ("uint8", "int8", "int16")),
    ],
)
def test_raw_and_scaled_storage_deliver_the_same_bits(dtype: str, rescale: bool) -> None:
    """In file order and shuffled, of every mode and `per`; and what is recovered, and recorded."""
    for mode, per in product(MODES, PER):
        scaled, raw = both(dtype, mode=mode, per=per, rescale=rescale)
        assert raw.train.to_numpy()[0].tobytes() == scaled.train.to_numpy()[0].tobytes()
        options: dict[str, Any] = {"shuffle": True, "seed": 1, "epoch": 3}
        one, other = (entry.train.batches(32, **options) for entry in (scaled, raw))
        assert content(one) == content(other)
        one, other = (entry.train.batches(700, raw=True) for entry in (scaled, raw))
        assert content(one) == content(other) == [tuple(x.tobytes() for x in pair(700, dtype))]
        records = [entry.manifest.splits["train"] for entry in (scaled, raw)]
        assert records[0].first_batch == records[1].first_batch
        assert scaled.manifest.scaling == raw.manifest.scaling
        assert scaled.key != raw.key


@pytest.mark.parametrize(
    ("compression", "dtype"),
    [("none", "float32"), ("gzip", "float16"), pytest.param("lzf", "float32", marks=LONG)],
)
def test_every_type_and_compression_is_stored_raw(compression: str, dtype: str) -> None:
    """The files hold the raw pixels themselves, and `verify` finds nothing amiss."""
    scaled, raw = both("uint8", compression=compression, dtype=dtype)
    assert raw.train.to_numpy()[0].tobytes() == scaled.train.to_numpy()[0].tobytes()
    assert raw.train.read_raw(0, 700).tobytes() == pair(700, "uint8")[0].tobytes()  # type: ignore[union-attr]
    assert scaled.train.read_raw(0, 1) is None
    assert raw.is_exact
    assert [result.problems for result in pixelprep.verify(raw, scaled, quiet=True)] == [(), ()]


@pytest.mark.parametrize("compression", ["gzip", "lzf", "lz4", "zstd"])
def test_packed_rows_are_those_of_an_unpacked_entry(compression: str) -> None:
    """Of noise too, which gains nothing, so that some chunks are stored as they are; any rows."""
    numbers = np.random.default_rng(0)
    noise = numbers.random((700, 9, 5, 2), np.float32)
    noise[:500] *= 0
    source = Arrays("noise", (noise, np.arange(700) % 3))
    plain = pixelprep.prepare(source, shard_rows=512, quiet=True)
    packed = pixelprep.prepare(source, shard_rows=512, compression=compression, quiet=True)
    assert packed.size < plain.size
    for start, stop in ((0, 700), (0, 0), (510, 515), (699, 700)):
        read = packed.train.read(start, stop)
        assert read.tobytes() == plain.train.read(start, stop).tobytes()
    batches = zip(
        *(e.train.batches(64, shuffle=True, seed=3) for e in (plain, packed)), strict=True
    )
    for (images, labels), (images_too, labels_too) in batches:
        assert len(images) == len(labels) == len(images_too) == len(labels_too)


def test_raw_storage_takes_a_quarter_of_the_room() -> None:
    """Pixels of one byte are stored in one byte, not in four."""
    images = np.zeros((2000, 28, 28, 1), np.uint8)
    source = Arrays("zeros", (images, np.arange(2000) % 2))
    scaled, raw = (
        pixelprep.prepare(source, storage=name, quiet=True).size for name in ("scaled", "raw")
    )
    assert 0.25 < raw / scaled < 0.27


def test_a_forged_raw_pixel_is_found() -> None:
    """With all digests of files made right, `verify` still compares pixels with the source's."""
    _, raw = both("uint8")
    with h5py.File(raw.path / "train-00000-of-00003.h5", "r+") as file:
        file["images"][7, 3, 2, 1] ^= 1
    forge(raw.path)
    [result] = pixelprep.verify(raw.path, quiet=True)
    assert any("not those of the source's digest" in problem for problem in result.problems)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_are_stored_scaled(dtype: str) -> None:
    """Raw storage of floats, which would save nothing, is refused."""
    with pytest.raises(pixelprep.UsageError, match="`storage=raw`: expected integers"):
        both(dtype)


def test_exports_of_raw_and_scaled_entries_are_equal(tmp_path: Path) -> None:
    """What is exported is scaled, whatever is stored."""
    scaled, raw = both("uint8", per="image")
    for to in ("npz", "hdf5-single"):
        files = []
        for entry in (scaled, raw):
            out = tmp_path / f"{to}-{entry.manifest.recipe.storage}"
            pixelprep.export(entry, out, to, quiet=True)
            (file,) = [path for path in out.iterdir() if path.suffix not in (".json", ".txt")]
            files.append(file.read_bytes())
        assert files[0] == files[1]
