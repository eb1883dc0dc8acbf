#!/usr/bin/env python3
"""Generate `sample`: 28x28 grey images of digits, in MNIST's file format.

Every digit starts as a skeleton written down in this file: control points in a
unit square, joined by smooth strokes.  Each image jitters the points, bends,
turns, slants and scales the result, and draws it as white ink on black.  No
font and no outside data is used.

The same command gives the same pixels on every machine:

* all randomness is raw Philox output, which NumPy promises to keep, and not the
  methods of `numpy.random.Generator`, which may change between versions;
* the arithmetic is only + - * / and square root, which IEEE 754 rounds in one
  way, with no sin, cos or matrix product, whose last bits depend on the library;
* the intensities are rounded to a few grey levels at the end.

The compressed bytes also depend on the zlib in use; the unpacked bytes do not.

Usage: python scripts/make_sample.py [--out DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import math
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Point = tuple[float, float]
Stroke = tuple[int, ...]

SEED = 20240229
SIDE = 28
CLASSES = 10
# (file prefix, Philox stream, images): each split has its own stream, so changing
# the size of one leaves the other as it was.
SPLITS = (("train", 1, 6000), ("t10k", 2, 1000))

STEPS = 5  # straight pieces per spline span
CHUNK = 64  # images drawn together; keeps the work arrays small enough for the cache
MARGIN = 1.0  # pixels of the frame that the skeleton keeps clear of
LEVELS = 15  # grey levels above black
STRAY_CHANCE = 0.25  # of a stray mark in an image
SPECKLES = 4  # most speckles in one image
SPECKLE_CHANCE = 0.4  # of each of them
REACH = 2.6  # most pixels that a digit lies off the middle, each way


class Style(NamedTuple):
    """One way to write a digit: points (x right, y down) and strokes over them.

    A stroke lists point numbers.  A number given twice in a row makes a corner; a
    stroke that ends where it began is a closed loop.  Strokes that share a point
    stay joined when the points are jittered.
    """

    points: tuple[Point, ...]
    strokes: tuple[Stroke, ...]


def read_style(points: str, *strokes: str) -> Style:
    """Read a style: points in hundredths of the square, strokes as point numbers."""
    pairs = [pair.split(",") for pair in points.split()]
    return Style(
        tuple((int(x) / 100, int(y) / 100) for x, y in pairs),
        tuple(tuple(int(number) for number in stroke.split()) for stroke in strokes),
    )


STYLES: tuple[tuple[Style, ...], ...] = (
    (  # 0: a closed oval; an oval whose end overshoots its start
        read_style("52,3 30,13 20,46 27,82 50,97 73,83 80,50 71,15", "0 1 2 3 4 5 6 7 0"),
        read_style("64,9 42,8 24,30 21,66 40,95 66,86 79,52 70,17 50,4", "0 1 2 3 4 5 6 7 8"),
    ),
    (  # 1: a bare stem; a stem with a flag; a stem with a flag and a foot
        read_style("52,3 50,35 50,68 49,97", "0 1 2 3"),
        read_style("32,24 53,4 53,50 52,97", "0 1 1 2 3"),
        read_style("32,22 53,4 52,50 52,95 28,95 77,95", "0 1 1 2 3", "4 3 5"),
    ),
    (  # 2: a sharp foot; a looped foot; a flat angular one
        read_style(
            "21,27 30,10 51,3 72,12 75,32 58,58 37,79 19,95 50,94 82,93", "0 1 2 3 4 5 6 7 7 8 9"
        ),
        read_style(
            "24,22 44,4 69,10 74,32 57,62 36,88 19,93 16,80 31,76 54,91 84,90",
            "0 1 2 3 4 5 6 7 8 9 10",
        ),
        read_style("20,14 48,4 76,16 66,42 20,95 80,96", "0 1 2 3 4 4 5"),
    ),
    (  # 3: two round bowls; a flat top with an angle
        read_style("23,17 44,4 70,13 69,35 44,47 72,57 78,79 51,97 20,86", "0 1 2 3 4 4 5 6 7 8"),
        read_style("23,6 75,5 47,40 72,52 77,76 51,96 21,87", "0 1 1 2 2 3 4 5 6"),
    ),
    (  # 4: open at the top; closed; open with a short upright
        read_style("27,5 20,34 19,58 50,57 84,55 68,7 67,50 65,97", "0 1 2 2 3 4", "5 6 7"),
        read_style("63,4 40,34 15,67 50,67 87,66 63,50 62,97", "0 1 2 2 3 4", "0 5 6"),
        read_style("36,4 28,30 17,54 46,55 80,51 62,33 58,65 54,97", "0 1 2 2 3 4", "5 6 7"),
    ),
    (  # 5: one angular stroke; a rounded shoulder; a separate top bar
        read_style("77,6 32,7 27,44 53,38 76,53 75,80 50,96 20,87", "0 1 1 2 2 3 4 5 6 7"),
        read_style("78,6 52,5 34,13 30,37 54,44 76,61 71,86 46,96 20,88", "0 1 2 3 4 5 6 7 8"),
        read_style("31,11 28,46 54,42 74,60 68,87 43,96 20,86 34,7 83,5", "0 1 1 2 3 4 5 6", "7 8"),
    ),
    (  # 6: a curved back and a wide bowl; a straight back and a small bowl
        read_style("68,5 42,19 25,48 24,77 46,96 72,86 75,65 54,52 30,65", "0 1 2 3 4 5 6 7 8 3"),
        read_style("50,3 34,34 24,68 31,91 54,96 72,80 62,62 40,65 27,82", "0 1 2 3 4 5 6 7 8"),
    ),
    (  # 7: plain; with a bar; with a hook on the left and a bent stem
        read_style("19,8 50,8 81,7 60,45 43,97", "0 1 2 2 3 4"),
        read_style("20,7 50,8 80,6 60,46 42,97 33,51 78,48", "0 1 2 2 3 4", "5 6"),
        read_style("20,22 22,7 50,7 79,6 63,37 54,97", "0 1 1 2 3 3 4 5"),
    ),
    (  # 8: one crossing stroke; two rings that share a point
        read_style(
            "70,17 50,4 29,16 34,36 55,50 76,70 70,90 48,97 25,86 28,67 49,49 67,35",
            "0 1 2 3 4 5 6 7 8 9 10 11 0",
        ),
        read_style(
            "50,47 30,36 32,12 52,4 71,14 69,37 26,60 25,86 50,97 76,85 75,60",
            "0 1 2 3 4 5 0",
            "0 6 7 8 9 10 0",
        ),
    ),
    (  # 9: a straight stem; a stem that curls back; a bowl and a slanted stem
        read_style("72,17 48,4 25,18 27,41 50,49 70,33 72,56 70,97", "0 1 2 3 4 5 0", "0 6 7"),
        read_style(
            "73,22 53,4 28,15 25,38 48,51 71,38 74,56 67,86 45,97 25,88",
            "0 1 2 3 4 5 0",
            "0 6 7 8 9",
        ),
        read_style("74,12 49,5 25,23 31,45 54,42 72,22 66,55 52,97", "0 1 2 3 4 5 0", "0 6 7"),
    ),
)
MOST_POINTS = max(len(one.points) for styles in STYLES for one in styles)


class Stream:
    """Random numbers from one keyed Philox stream."""

    def __init__(self, seed: int, stream: int) -> None:
        """Open stream number `stream` of `seed`."""
        self._bits = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))

    def uniform(self, *shape: int) -> Floats:
        """Return numbers in [0, 1), 53 bits each."""
        raw = np.asarray(self._bits.random_raw(math.prod(shape)), dtype=np.uint64)
        return ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)

    def between(self, low: float, high: float, *shape: int) -> Floats:
        """Return numbers in [low, high)."""
        return low + (high - low) * self.uniform(*shape)

    def normal(self, *shape: int) -> Floats:
        """Return near-normal numbers: twelve uniforms, less six.

        A sum needs no logarithm or cosine, and its bounded tails (never past 6)
        keep a rare draw from tearing a digit apart.
        """
        total = np.full(shape, -6.0)
        for _ in range(12):
            total += self.uniform(*shape)
        return total


class Knobs(NamedTuple):
    """The random settings of a set of images, one row per image."""

    style: Floats  # which of the digit's styles, 0..1
    jitter: Floats  # (n, points, 2) shift of each control point
    warp: Floats  # (n, 2, 5) coefficients of the bend
    turn: Floats  # tangent of half the angle of rotation
    slant: Floats
    scale: Floats  # (n, 2) width and height in pixels
    place: Floats  # (n, 2) position in the free room, -1..1
    radius: Floats  # half the pen's width in pixels
    taper: Floats  # change of the radius from first stroke to last
    soft: Floats  # width of the grey edge in pixels
    ink: Floats  # brightness of the stroke
    stray: Floats  # (n, 6) stray mark: chance, x, y, dx, dy, brightness
    speckle: Floats  # (n, SPECKLES, 4) chance, x, y, brightness


def draw_knobs(rng: Stream, count: int) -> Knobs:
    """Draw the settings of `count` images, always in the same order."""
    return Knobs(
        style=rng.uniform(count),
        jitter=0.028 * rng.normal(count, MOST_POINTS, 2),
        warp=0.06 * rng.normal(count, 2, 5),
        turn=rng.between(-0.13, 0.13, count),
        slant=0.05 + 0.16 * rng.normal(count),
        scale=draw_scale(rng, count),
        place=rng.between(-1.0, 1.0, count, 2),
        radius=rng.between(0.65, 1.55, count),
        taper=rng.between(-0.25, 0.25, count),
        soft=rng.between(0.9, 1.5, count),
        ink=rng.between(0.7, 1.0, count),
        stray=rng.uniform(count, 6),
        speckle=rng.uniform(count, SPECKLES, 4),
    )


def draw_scale(rng: Stream, count: int) -> Floats:
    """Draw widths and heights; the width follows the height, loosely."""
    height = rng.between(16.5, 21.5, count)
    width = height * rng.between(0.78, 1.16, count)
    return np.stack([width, height], axis=1)


def spans(stroke: Stroke) -> list[tuple[int, int, int, int]]:
    """List the spline spans of a stroke as (before, start, end, after) points."""
    closed = stroke[0] == stroke[-1]
    before = stroke[-2] if closed else stroke[0]
    after = stroke[1] if closed else stroke[-1]
    padded = (before, *stroke, after)
    quads = list(zip(padded, padded[1:], padded[2:], padded[3:], strict=False))
    # A doubled point only marks a corner: the span between its copies has no length.
    return [quad for quad in quads if quad[1] != quad[2]]


def spline_weights(t: float) -> tuple[float, float, float, float]:
    """Return the Catmull-Rom weights of a span's four points at `t` in 0..1."""
    return (
        0.5 * t * (-1.0 + t * (2.0 - t)),
        0.5 * (2.0 + t * t * (-5.0 + 3.0 * t)),
        0.5 * t * (1.0 + t * (4.0 - 3.0 * t)),
        0.5 * t * t * (t - 1.0),
    )


def span_points(control: Floats, quad: tuple[int, int, int, int]) -> list[Floats]:
    """Sample one span: STEPS + 1 arrays of shape (n, 2)."""
    sampled = []
    for step in range(STEPS + 1):
        weights = spline_weights(step / STEPS)
        point = weights[0] * control[:, quad[0]]
        for weight, index in zip(weights[1:], quad[1:], strict=True):
            point = point + weight * control[:, index]
        sampled.append(point)
    return sampled


def skeleton(style: Style, jitter: Floats) -> Floats:
    """Return a style's sampled spans, (n, spans, STEPS + 1, 2), about the origin."""
    control = np.array(style.points) + jitter[:, : len(style.points)]
    quads = [quad for stroke in style.strokes for quad in spans(stroke)]
    points = [point for quad in quads for point in span_points(control, quad)]
    shape = (len(jitter), len(quads), STEPS + 1, 2)
    return np.stack(points, axis=1).reshape(shape) - 0.5


def column(values: Floats) -> Floats:
    """Shape one value per image so that it spreads over (n, spans, points)."""
    return values[:, None, None]


def bend(x: Floats, y: Floats, warp: Floats) -> Floats:
    """Return a smooth shift: a low polynomial of the place, one per image."""
    terms = (2.0 * x * x, 2.0 * x * y, 2.0 * y * y, 4.0 * y * y * y, 4.0 * x * x * y)
    shift = np.zeros_like(x)
    for number, term in enumerate(terms):
        shift += column(warp[:, number]) * term
    return shift


def distort(points: Floats, knobs: Knobs) -> tuple[Floats, Floats]:
    """Bend, scale, slant and turn skeletons; return x and y in pixels."""
    x, y = points[..., 0], points[..., 1]
    x, y = x + bend(x, y, knobs.warp[:, 0]), y + bend(x, y, knobs.warp[:, 1])
    x, y = x * column(knobs.scale[:, 0]), y * column(knobs.scale[:, 1])
    x = x - column(knobs.slant) * y
    # The half-angle form of a rotation needs no sine or cosine.
    turn = column(knobs.turn)
    norm = 1.0 + turn * turn
    cos, sin = (1.0 - turn * turn) / norm, 2.0 * turn / norm
    return x * cos - y * sin, x * sin + y * cos


def place(values: Floats, where: Floats) -> Floats:
    """Shift one axis to `where` (-1..1) of the way from the middle to the frame."""
    low, high = values.min(axis=(1, 2)), values.max(axis=(1, 2))
    room = np.maximum(SIDE - 2.0 * MARGIN - (high - low), 0.0) / 2.0
    shift = SIDE / 2.0 - (low + high) / 2.0 + where * np.minimum(room, REACH)
    return values + column(shift)


def segment_distance(a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> Floats:
    """Return the distance of every pixel's centre to one segment per image."""
    centre = np.arange(SIDE) + 0.5
    dx, dy = column(b[0] - a[0]), column(b[1] - a[1])
    from_x, from_y = centre[None, None, :] - column(a[0]), centre[None, :, None] - column(a[1])
    # The small constant gives a segment of no length a distance as well.
    along = (from_x * dx + from_y * dy) / (dx * dx + dy * dy + 1e-9)
    along = np.clip(along, 0.0, 1.0)
    off_x, off_y = from_x - along * dx, from_y - along * dy
    return np.sqrt(off_x * off_x + off_y * off_y)


def draw_digit(x: Floats, y: Floats, knobs: Knobs) -> Floats:
    """Draw sampled spans as ink, 0..1, with grey edges."""
    depth = np.full((len(x), SIDE, SIDE), -1e9)
    number = x.shape[1]
    for span in range(number):
        # The pen widens or thins over the digit, as a hand's pressure changes.
        radius = knobs.radius * (1.0 + knobs.taper * (2.0 * span / number - 1.0))
        for step in range(STEPS):
            a = (x[:, span, step], y[:, span, step])
            b = (x[:, span, step + 1], y[:, span, step + 1])
            np.maximum(depth, column(radius) - segment_distance(a, b), out=depth)
    return column(knobs.ink) * np.clip(depth / column(knobs.soft) + 0.5, 0.0, 1.0)


def draw_stray(stray: Floats) -> Floats:
    """Draw a short thin mark in some images, nothing in the others."""
    x, y = stray[:, 1] * SIDE, stray[:, 2] * SIDE
    end = (x + 8.0 * (stray[:, 3] - 0.5), y + 8.0 * (stray[:, 4] - 0.5))
    mark = np.clip(1.0 - segment_distance((x, y), end), 0.0, 1.0)
    shown = np.where(stray[:, 0] < STRAY_CHANCE, 0.4 + 0.5 * stray[:, 5], 0.0)
    return column(shown) * mark


def draw_speckles(speckle: Floats) -> Floats:
    """Draw up to SPECKLES single grey pixels per image."""
    image = np.zeros((len(speckle), SIDE, SIDE))
    rows = np.arange(len(speckle))
    for spot in speckle.transpose(1, 2, 0):
        x, y = (spot[1] * SIDE).astype(np.int64), (spot[2] * SIDE).astype(np.int64)
        shown = np.where(spot[0] < SPECKLE_CHANCE, 0.25 + 0.6 * spot[3], 0.0)
        image[rows, y, x] = np.maximum(image[rows, y, x], shown)
    return image


def quantise(ink: Floats) -> Bytes:
    """Round ink to LEVELS steps of grey.

    Coarse steps hide what is left of rounding differences, and compress well.
    """
    level = np.floor(np.clip(ink, 0.0, 1.0) * LEVELS + 0.5).astype(np.int64)
    return (level * 255 // LEVELS).astype(np.uint8)


def draw_images(style: Style, knobs: Knobs) -> Bytes:
    """Draw one image of `style` per row of `knobs`."""
    x, y = distort(skeleton(style, knobs.jitter), knobs)
    x, y = place(x, knobs.place[:, 0]), place(y, knobs.place[:, 1])
    ink = draw_digit(x, y, knobs)
    ink = np.maximum(ink, draw_stray(knobs.stray))
    return quantise(np.maximum(ink, draw_speckles(knobs.speckle)))


def draw_labels(rng: Stream, count: int) -> Bytes:
    """Return labels 0..9, equally many of each, in random order."""
    order = np.argsort(rng.uniform(count), kind="stable")
    return (np.arange(count) % CLASSES)[order].astype(np.uint8)


def make_split(seed: int, stream: int, count: int) -> tuple[Bytes, Bytes]:
    """Return the images (n, 28, 28) and the labels (n,) of one split."""
    rng = Stream(seed, stream)
    labels, knobs = draw_labels(rng, count), draw_knobs(rng, count)
    images = np.zeros((count, SIDE, SIDE), dtype=np.uint8)
    for digit, styles in enumerate(STYLES):
        pick = (knobs.style * len(styles)).astype(np.int64)
        for number, style in enumerate(styles):
            rows = np.flatnonzero((labels == digit) & (pick == number))
            for part in np.split(rows, range(CHUNK, len(rows), CHUNK)):
                images[part] = draw_images(style, Knobs(*(knob[part] for knob in knobs)))
    return images, labels


def idx_bytes(array: Bytes) -> bytes:
    """Encode an array of bytes as IDX: type, rank, sizes (big-endian), data."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.tobytes()


def gzip_bytes(payload: bytes) -> bytes:
    """Pack as gzip, level 9, with no time and no file name.

    The header is written here because Python versions differ in its last byte.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = packer.compress(payload) + packer.flush()
    head = struct.pack("<HBBIBB", 0x8B1F, 8, 0, 0, 2, 255)
    return head + body + struct.pack("<II", zlib.crc32(payload), len(payload))


def save(path: Path, array: Bytes) -> None:
    """Write one gzipped IDX file and print its size and digests."""
    payload = idx_bytes(array)
    packed = gzip_bytes(payload)
    path.write_bytes(packed)
    print(f"{path.name} {len(packed)} bytes")
    print(f"  sha256 gzip     {hashlib.sha256(packed).hexdigest()}")
    print(f"  sha256 unpacked {hashlib.sha256(payload).hexdigest()}")


def main() -> None:
    """Write the four files."""
    default = Path(__file__).resolve().parents[1] / "data" / "sample"
    parser = argparse.ArgumentParser(description="Generate the sample data set.")
    parser.add_argument("--out", type=Path, default=default, help="folder to write to")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for prefix, stream, count in SPLITS:
        images, labels = make_split(SEED, stream, count)
        save(out / f"{prefix}-images-idx3-ubyte.gz", images)
        save(out / f"{prefix}-labels-idx1-ubyte.gz", labels)


if __name__ == "__main__":
    main()
