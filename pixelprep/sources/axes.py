"""Turn images to (N, H, W, C), lazily, from whichever order their axes have."""

import math
from collections.abc import Mapping

from pixelprep.errors import SourceError
from pixelprep.format.options import MATLAB
from pixelprep.sources import lazy_arrays
from pixelprep.sources.lazy_arrays import LazyArray, TurnedView

ORDER = "nhwc"
USUAL_CHANNELS, MAX_USUAL = (1, 3, 4), 4


def turned(where: str, images: LazyArray, order: str | None) -> LazyArray:
    """Return images as (N, H, W, C), given the `resolved` order of their axes."""
    if len(images.shape) == 3:
        images = lazy_arrays.reshape_rows(images, (*images.shape[1:], 1))
        order = f"{order}c" if order else None
    if order is None:
        _refuse_channels_first(where, images.shape)
        return images
    if len(images.shape) != len(order):
        shape, axes = images.shape, len(order)
        raise SourceError(f"{where}: `layout={order}`: expected {axes} axes, got {shape}")
    return images if order == ORDER else TurnedView(images, tuple(map(order.index, ORDER)))


def shaped(where: str, images: LazyArray, shape: tuple[int, ...] | None) -> LazyArray:
    """Give flat rows this shape; refuse them without one, with a hint of what it may be."""
    if len(images.shape) != 2:
        if shape:
            flat = f"{where}: `shape`: expected flat rows (N, {math.prod(shape):,})"
            raise SourceError(f"{flat}, got {images.shape}", "leave the option out")
        return images
    length = images.shape[1]
    if shape and math.prod(shape) == length:
        return lazy_arrays.reshape_rows(images, shape)
    expected = f"{where}: expected images of (N, H, W, C) or (N, H, W), got {images.shape}"
    hint = f"say the shape of an image, of {length:,} values: `shape=HxW` or `shape=HxWxC`"
    side, of_color = math.isqrt(length), math.isqrt(length // 3)
    if side**2 == length:
        hint = f"if they are square: `shape={side}x{side}`"
    elif 3 * of_color**2 == length:
        color = f"`shape={of_color}x{of_color}x3`"
        hint = f"if they are square: {color}, or `shape=3x{of_color}x{of_color}` `layout=nchw`"
    raise SourceError(f"{expected}: flat rows", hint)


def _refuse_channels_first(where: str, shape: tuple[int, ...]) -> None:
    if len(shape) == 4 and shape[1] in USUAL_CHANNELS and shape[3] > MAX_USUAL:
        looks = f"{where}: expected images (N, H, W, C), {shape} looks like channels first"
        raise SourceError(looks, "`layout=nchw` turns them; `layout=nhwc` takes them as they are")


def resolved(where: str, layout: str | None, shape: tuple[int, ...], rows: int) -> str | None:
    """Return the order of axes that a layout stands for: letters of `ORDER`, or None.

    MATLAB's arrays, whose axes an HDF5 file has reversed, are H×W×C×N or N×H×W×C: the number of
    labels tells which.
    """
    if layout != MATLAB:
        return layout
    orders = {"ncwh": 0, "cwhn": -1} if len(shape) == 4 else {"nwh": 0, "whn": -1}
    fitting = [order for order, axis in orders.items() if shape and shape[axis] == rows]
    if len(fitting) != 1:
        either = f"expected {rows:,} images along one of its outer axes, got {shape}"
        hint = "write the order of the axes, as h5py shows them: `layout=ncwh`"
        raise SourceError(f"{where}: `layout={MATLAB}`: {either}", hint)
    return fitting[0]


def record(order: str | None) -> Mapping[str, object]:
    """Return what the source digest covers of an order of axes (data/FORMAT.md, section 4)."""
    return {} if order in (None, ORDER, ORDER[:3]) else {"layout": order}
