"""Turn an image of Pillow's the way up that its file says, and take its transparency apart."""

from typing import TYPE_CHECKING, Any  # Any: pixels of whichever type

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

ORIENTATION = 274  # the tag of EXIF and TIFF
BACKGROUNDS = {"white": 255, "black": 0}
GREY_STEPS = {"L;2": 85, "L;4": 17}  # by raw mode: how far apart 8-bit greys of fewer bits are


def load(image: "PillowImage", follow: bool) -> tuple["PillowImage", bool]:
    """Decode an image, turned as its file says, or as the pixels are stored; tell if it was turned.

    Pillow itself turns those of TIFF alone. A block of EXIF that is broken says nothing.
    """
    from PIL.Image import Transpose

    turns: dict[Any, Transpose] = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    stored: Any = getattr(image, "tag_v2", {}).get(ORIENTATION)  # Pillow forgets it as it turns
    image.load()
    if not follow:
        turn = turns.get({6: 8, 8: 6}.get(stored, stored))  # back again
    else:
        turn = turns.get(orientation(image))
    is_turned = follow and (turn is not None or stored in turns)
    return (image if turn is None else image.transpose(turn)), is_turned


def orientation(image: "PillowImage") -> Any:  # Any: whatever the file says
    """Return the value of EXIF's that says the way up; None where none can be read."""
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # Pillow's parser raises errors of all kinds
        return None


def alpha_of(image: "PillowImage", raw_mode: str = "") -> NDArray[np.uint8] | None:
    """Return how opaque each pixel is, 0 to 255 (H, W); None where all are.

    `raw_mode` is Pillow's name of how the file stores them.
    """
    if not image.has_transparency_data:
        return None
    if image.mode.startswith("I;16"):  # of which Pillow knows no transparent shade
        alpha = np.where(np.asarray(image) == image.info["transparency"], 0, 255).astype(np.uint8)
    else:
        if raw_mode in GREY_STEPS:  # Pillow spreads pixels over 8 bits, but not this
            image = image.copy()
            image.info["transparency"] *= GREY_STEPS[raw_mode]
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return None if alpha.min() == 255 else alpha


def on_background(pixels: NDArray[Any], alpha: NDArray[Any], color: str) -> NDArray[Any]:
    """Lay unsigned pixels, (H, W) or (H, W, C), on a colour, rounded once; alpha is of their type.

    Only 8 and 16 bits: the sums fit into twice as many.
    """
    kind = pixels.dtype
    top, wide = np.iinfo(kind).max, np.dtype(f"u{2 * kind.itemsize}")
    alpha = alpha.astype(wide)
    if pixels.ndim == 3:
        alpha = alpha[:, :, None]
    background = wide.type(BACKGROUNDS[color] * (top // 255))
    laid: NDArray[Any] = (pixels * alpha + background * (top - alpha) + top // 2) // top
    return laid.astype(kind)


def turned(pixels: NDArray[Any], orientation: object) -> NDArray[Any]:
    """Turn pixels (H, W, ...) the way up that a value of EXIF's and TIFF's means."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels
