"""Spell how a run's images were decoded: the options, and the same as a program of Pillow."""

from collections.abc import Mapping
from typing import Any  # Any: options of `prepare`

from pixelprep.format.manifest import Manifest
from pixelprep.format.options import FIXED, DecodeOptions
from pixelprep.sources.pictures.image_pixels import BACKGROUNDS
from pixelprep.training.evaluation_data import decoding

IN_FULL = ("size", "color", "fit", "filter", "jpeg", "orientation", "alpha", "page")  # as shown
assert set(IN_FULL) == FIXED

LAY = """\
rgba = np.asarray(image.convert("RGBA")).astype(np.uint16)
alpha = rgba[:, :, 3:]
laid = (rgba[:, :, :3] * alpha + {background} * (255 - alpha) + 127) // 255
image = Image.fromarray(laid.astype(np.uint8))
"""
KEEP = """\
alpha = image.convert("RGBA").getchannel("A")
image = image.convert("RGB"){grey}
image.putalpha(alpha)
"""
FIT = {
    "stretch": "image = image.resize(({width}, {height}), Image.Resampling.{filter})\n",
    "crop": "image = ImageOps.fit(image, ({width}, {height}), Image.Resampling.{filter})\n",
    "pad": """\
scale = min({width} / image.width, {height} / image.height)
inner = [max(1, round(side * scale)) for side in image.size]
padded = Image.new(image.mode, ({width}, {height}))
corner = ({width} - inner[0]) // 2, ({height} - inner[1]) // 2
padded.paste(image.resize(inner, Image.Resampling.{filter}), corner)
image = padded
""",
}


def decoding_in_full(manifest: Manifest) -> dict[str, Any]:
    """Return the options by which `predict` decodes images like an entry's, defaults included."""
    told = {name: getattr(DecodeOptions, name) for name in IN_FULL} | decoding(manifest)
    return {name: told[name] for name in IN_FULL}


def decode_program(manifest: Manifest) -> str | None:
    """Return the program that decodes an image as those of training, bit for bit.

    It is that of files of 8 bits, which Pillow decodes whole; None where there were none.
    """
    told = decoding_in_full(manifest)
    decode, dtype = manifest.source.decode, manifest.scaling.raw_dtype
    is_plain = dtype == "uint8" and told["color"] and told["jpeg"] == "full"
    if not is_plain or "orientation" not in decode or "values" in decode:
        return None
    *size, channels = manifest.splits[manifest.first_split].shape[1:]
    height, width = size
    turn = "image = ImageOps.exif_transpose(image)\n" if told["orientation"] == "follow" else ""
    return (
        "import numpy as np\nfrom PIL import Image, ImageOps\n\n"
        f'image = Image.open("image.jpg")\n{turn}{_colors(told)}'
        + FIT[told["fit"]].format(height=height, width=width, filter=told["filter"].upper())
        + f"raw = np.asarray(image, np.float32).reshape(1, {height}, {width}, {channels})\n"
    )


def _colors(told: Mapping[str, Any]) -> str:
    """Return the lines that make an image grey or RGB; without its alpha, unless that is kept."""
    grey = '.convert("L")' if told["color"] == "grey" else ""
    if told["alpha"] == "keep":
        return KEEP.format(grey=grey)
    if told["alpha"] in BACKGROUNDS:
        lay = LAY.format(background=BACKGROUNDS[told["alpha"]])
        return lay + (f"image = image{grey}\n" if grey else "")
    return f'image = image.convert("RGB"){grey}\n'
