"""Generated data and MNIST's, as arrays and as folders, made by whoever asks first."""

from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.place import Place

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pixelprep import Entry

SMALL, LARGE = "28×28×1", "160×160×3"
SIZES = (SMALL, LARGE)
CLASSES = 10


class Images(NamedTuple):
    """Training images, uint8 (N, H, W, C), with labels, int64 (N,), and what scales them."""

    x: "NDArray[np.uint8]"
    y: "NDArray[np.int64]"
    mean: "NDArray[np.float32]"
    std: "NDArray[np.float32]"

    def scaled(self, pixels: Any) -> Any:
        """Return (…, C) pixels as float32, as a user writes it."""
        return (pixels.astype("float32") - self.mean) / self.std


def once(place: Place, name: str, write: Callable[[Path], object]) -> Path:
    """Return the file or folder of this name; a process that is killed leaves no half of it."""
    path = place.work / f"{'quick-' if place.quick else ''}{name}"
    if not path.exists():
        part = path.with_name(f"part-{name}")
        write(part)
        part.rename(path)
    return path


def picture(number: int, side: int) -> Any:
    """Return waves with a little noise, uint8 (side, side, 3): no two are the same."""
    import numpy as np

    random = np.random.default_rng(number)
    y, x = np.mgrid[0:side, 0:side]
    f = random.random(6)
    waves = [np.sin(x * (0.05 + 0.1 * f[c]) + y * 0.1 * f[c + 3] + number) for c in range(3)]
    pixels = 127 + 90 * np.stack(waves, -1) + random.normal(0, 6, (side, side, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _write_large(path: Path, count: int) -> None:
    import numpy as np

    x = np.stack([picture(number, 160) for number in range(count)])
    labels = np.arange(count) % CLASSES
    tests = count // 10
    with path.open("wb") as file:
        np.savez(
            file, x_train=x[tests:], y_train=labels[tests:], x_test=x[:tests], y_test=labels[:tests]
        )


def _large(place: Place) -> Path:
    count = 660 if place.quick else 3300
    return once(place, "large.npz", partial(_write_large, count=count))


def entry(place: Place, size: str, **options: Any) -> "Entry":
    """Return the data of this size, prepared with these options."""
    return place.entry("mnist" if size == SMALL else str(_large(place)), **options)


def images(place: Place, size: str) -> Images:
    """Return the training images of this size, a tenth of MNIST's where it has to be quick."""
    import numpy as np

    if size == SMALL:
        x, y = place.raw()
        x, y = (x[::10], y[::10]) if place.quick else (x, y)
    else:
        with np.load(_large(place)) as file:
            x, y = file["x_train"], file["y_train"]
    mean = x.mean((0, 1, 2)).astype(np.float32)
    return Images(x, y, mean, x.std((0, 1, 2)).astype(np.float32))


def encoded(pixels: Any) -> tuple[str, bytes]:
    """Return the suffix and the file of a picture: PNG of a grey one, as MNIST comes, or JPEG."""
    from PIL import Image

    buffer = BytesIO()
    if pixels.shape[-1] == 1:
        Image.fromarray(pixels[..., 0]).save(buffer, "PNG")
        return "png", buffer.getvalue()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return "jpg", buffer.getvalue()


def write_folder(path: Path, data: Images) -> None:
    """Write a folder a class."""
    for label in range(CLASSES):
        (path / f"class{label}").mkdir(parents=True)
    for number, (pixels, label) in enumerate(zip(data.x, data.y, strict=True)):
        suffix, content = encoded(pixels)
        (path / f"class{label}" / f"{number:06d}.{suffix}").write_bytes(content)


def write_photos(path: Path, count: int, size: tuple[int, int] = (1600, 1200)) -> None:
    """Write JPEG photos of this width and height: clouds of all sizes with grain, a tenth test."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    clouds = np.zeros((1200, 1600, 3), np.float32)
    for cells in (4, 16, 64, 256):
        seeds = random.integers(0, 256, (3 * cells // 4, cells, 3), np.uint8)
        clouds += np.asarray(Image.fromarray(seeds).resize((1600, 1200), Image.Resampling.BICUBIC))
    base = np.clip(clouds / 4 + random.normal(0, 4, clouds.shape), 0, 255).astype(np.uint8)
    for number in range(count):  # moved, and lighter or darker: no two are the same
        split = "test" if number % 10 == 9 else "train"
        name = path / split / f"class{number // 2 % CLASSES}" / f"{number:05d}.jpg"
        name.parent.mkdir(parents=True, exist_ok=True)
        moved = np.roll(base, (number * 37 % 1200, number * 101 % 1600), (0, 1))
        lit = np.clip(moved.astype(np.int16) + number % 32 - 16, 0, 255).astype(np.uint8)
        Image.fromarray(lit).resize(size).save(name, quality=90)
