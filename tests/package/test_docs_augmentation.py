"""The programs of docs/augmentation.md run, and say what is so of colours."""

import numpy as np
import pytest

import pixelprep
from tests.helpers.pages import programs

TRAIN, KERAS, TORCH = programs("augmentation.md")


@pytest.fixture(autouse=True)
def cache(here: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the programs' cache into the current folder."""
    monkeypatch.setenv("PIXELPREP_CACHE_DIR", "cache")


@pytest.mark.long
def test_the_program_with_keras_learns() -> None:
    """The model that takes raw pixels, changed on the way, is better than chance on the test."""
    pytest.importorskip("tensorflow", reason="the extra `train` is not installed")
    names: dict[str, object] = {}
    exec(KERAS, names)
    accuracy = names["accuracy"]
    assert isinstance(accuracy, float)
    assert accuracy > 0.3


def test_the_function_for_train_keeps_shape_and_range() -> None:
    """Each seed gives other images, the same ones again, all within the raw pixels' range."""
    tf = pytest.importorskip("tensorflow", reason="the extra `train` is not installed")
    names: dict[str, object] = {}
    exec(TRAIN, names)
    augment = names["augment"]
    assert callable(augment)
    images = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 1)).astype(np.float32)
    one, again, other = (np.asarray(augment(tf.constant(images), [0, s])) for s in (1, 1, 2))
    assert one.tobytes() == again.tobytes() != other.tobytes()
    assert one.shape == images.shape
    assert 0 <= one.min() <= one.max() <= 255


@pytest.mark.long
def test_the_program_with_torchvision_learns() -> None:
    """Its loss on the images that it saw is below that of chance."""
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    pytest.importorskip("torchvision.transforms.v2", reason="torchvision is not installed")
    names: dict[str, object] = {}
    exec(TORCH, names)
    model, scale, entry = names["model"], names["scale"], names["entry"]
    assert isinstance(entry, pixelprep.Entry)
    assert callable(model)
    assert callable(scale)
    images, labels = next(iter(entry.test.to_torch(1000, raw=True)))
    assert torch.nn.functional.cross_entropy(model(scale(images)), labels) < 2.2


def test_colours_change_wrongly_after_scaling() -> None:
    """Keras's brightness makes 0 of all that is below the mean, where pixels are standardized; raw
    ones it keeps within 0 to 255, as the page says.
    """
    keras = pytest.importorskip("keras", reason="the extra `train` is not installed")
    raw = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), np.uint8)
    scaling = pixelprep.Scaling.fit(raw, "standardize")
    layer = keras.layers.RandomBrightness([0.2, 0.2])
    moved = np.asarray(layer(scaling.apply(raw), training=True))
    assert moved.min() >= 0  # what was below the mean is gone
    kept = np.asarray(layer(raw.astype(np.float32), training=True))
    np.testing.assert_allclose(kept, np.minimum(raw + 51.0, 255))
