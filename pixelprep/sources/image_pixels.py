"""Turn an image of Pillow's the way up that its file says, and take its transparency apart."""

from typing import TYPE_CHECKING, Any  # Any: pixels of whichever type

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

ORIENTATION = 274  # the tag of EXIF and TIFF
BACKGROUNDS = {"white": 255, "black": 0}
GREY_STEPS = {"L;2": 85, "L;4": 17}  # by raw mode: how far apart 8-bit greys of fewer bits are


def load(image: "PillowImage", follow: bool) -> "PillowImage":
    """Decode an image, turned as its file says, or as the pixels are stored.

    Pillow itself turns those of TIFF alone. A block of EXIF that is broken says nothing.
    """
    from PIL.Image import Transpose

    turned: dict[Any, Transpose] = {
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
        turn = turned.get({6: 8, 8: 6}.get(stored, stored))  # back again
    else:
        turn = turned.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: "PillowImage") -> Any:  # Any: whatever the file says
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


def on_background(
    pixels: NDArray[Any], alpha: NDArray[np.uint8], background: int
) -> NDArray[np.uint8]:
    """Lay 8-bit pixels, (H, W) or (H, W, C), on a shade, rounded once."""
    if pixels.ndim == 3:
        alpha = alpha[:, :, None]
    alpha = alpha.astype(np.uint16)  # no sum is above 255 · 255 + 127
    return ((pixels * alpha + background * (255 - alpha) + 127) // 255).astype(np.uint8)
