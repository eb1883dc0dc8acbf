"""Change valid content a little: bytes, and JSON values. Pure functions of a `Random`."""

import copy
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

WIDTHS = (1, 2, 4, 8)
NUMBERS = (
    *(0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 64, 100, 127, 128, 255, 256, 511, 512, 1000, 4096),
    *(0x7FFF, 0x8000, 0xFFFF, 0x10000, 1 << 20, 1 << 24, 1 << 28, 1 << 29, 1 << 30),
    *((1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 62, (1 << 63) - 1, 1 << 63),
    *((1 << 64) - 8, (1 << 64) - 2, (1 << 64) - 1),
)
STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 255, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64),
    *(10**30, 10**400, -(10**400), 0.0, -0.0, 0.5, 1.5, 1e-320, 1e308, -1e308),
    *(float("nan"), float("inf"), float("-inf"), "", " ", "x", "0", "1", "\n", "\0", "\ud800"),
    *("../x", "/etc/passwd", "a/b", ".", "..", "é", "١", "\u2028", "\x1b[2J", "a" * 3000),
    *("train", "test", "val", "train.h5", "test.h5", "train-00000-of-00001.h5", "image", "pixel"),
    *("channel", "dataset", "normalize", "center", "standardize", "none", "gzip", "lz4", "float16"),
    *("float32", "float64", "uint8", "int16", ">f4", "f4", "object", "O", "V8", "S3", "U4", "M8"),
    *("complex64", "f4,i4", "bool", "nan", "1e5", "{}", "%s"),
    *([], [[]], [0], [1, 2], [None], ["x"], [[1], [2, 3]], [0.5] * 5, {}, {"x": 1}, {"": []}),
)

Change = Callable[[bytearray, Random], None]


def _place(content: bytearray, random: Random) -> int:
    """Pick any place, but rather one that holds something: much of a file is empty room."""
    place = 0
    for _ in range(3):
        place = random.randrange(len(content)) if content else 0
        if content[place : place + 1] != b"\0":
            break
    return place


def _span(content: bytearray, random: Random, most: int = 64) -> slice:
    start = _place(content, random)
    return slice(start, min(len(content), start + random.choice((1, 2, 4, 8, 16, most))))


def flip(content: bytearray, random: Random) -> None:
    """Flip one bit."""
    if content:
        content[_place(content, random)] ^= 1 << random.randrange(8)


def set_byte(content: bytearray, random: Random) -> None:
    """Set one byte to anything."""
    if content:
        content[_place(content, random)] = random.randrange(256)


def step_byte(content: bytearray, random: Random) -> None:
    """Move one byte up or down a little."""
    if content:
        place = _place(content, random)
        content[place] = (content[place] + random.choice((-2, -1, 1, 2, 16))) % 256


def set_number(content: bytearray, random: Random) -> None:
    """Set a number of 1 to 8 bytes to one that is often mishandled."""
    width, order = random.choice(WIDTHS), random.choice(("little", "little", "big"))
    number = random.choice(NUMBERS) % (1 << 8 * width)
    place = _place(content, random)
    if place + width <= len(content):
        content[place : place + width] = number.to_bytes(
            width, "big" if order == "big" else "little"
        )


def move_inside(content: bytearray, random: Random) -> None:
    """Copy some bytes over others, as an address over another: structures that run in circles."""
    width = random.choice((1, 2, 4, 8, 8, 8, 16, 32))
    source, target = _place(content, random), _place(content, random)
    if max(source, target) + width <= len(content):
        content[target : target + width] = content[source : source + width]


def move_aligned(content: bytearray, random: Random) -> None:
    """Copy 8 bytes between multiples of 8, where addresses often lie."""
    eighths = len(content) // 8
    if eighths:
        source, target = 8 * random.randrange(eighths), 8 * random.randrange(eighths)
        content[target : target + 8] = content[source : source + 8]


def clear(content: bytearray, random: Random) -> None:
    """Set some bytes to all 0 or all 1."""
    span = _span(content, random)
    content[span] = random.choice((b"\0", b"\xff")) * (span.stop - span.start)


def truncate(content: bytearray, random: Random) -> None:
    """Cut off the end."""
    del content[_place(content, random) :]


def remove(content: bytearray, random: Random) -> None:
    """Take some bytes out."""
    del content[_span(content, random)]


def repeat(content: bytearray, random: Random) -> None:
    """Repeat some bytes, there or elsewhere."""
    piece = content[_span(content, random)] * random.choice((1, 1, 2, 100))
    place = random.choice((_place(content, random), len(content)))
    content[place:place] = piece


def insert(content: bytearray, random: Random) -> None:
    """Insert some bytes."""
    place = _place(content, random)
    content[place:place] = random.randbytes(random.choice((1, 2, 4, 8, 100)))


IN_PLACE: tuple[Change, ...] = (
    *(flip, set_byte, step_byte, set_number, set_number, move_inside, move_aligned, clear),
)
MOVING: tuple[Change, ...] = (truncate, remove, repeat, insert)


def mutated(content: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """Return a changed copy: mostly in place, else addresses and lengths would all be wrong."""
    made = bytearray(content)
    if others and random.random() < 0.05:
        other, cut = random.choice(others), _place(made, random)
        made[cut:] = other[cut:]
    changes = 1
    while random.random() < 0.5 and changes < 16:
        changes += 1
    for _ in range(changes):
        random.choice(MOVING if random.random() < 0.1 else IN_PLACE)(made, random)
    return bytes(made)


def mutated_json(value: Any, random: Random) -> Any:
    """Return a changed copy of a JSON value."""
    root = [copy.deepcopy(value)]
    changes = 1
    while random.random() < 0.35 and changes < 8:
        changes += 1
    for _ in range(changes):
        places = list(_places(root)) or [([None], 0)]
        holder, key = random.choice(places)
        other, other_key = random.choice(places)
        _change(holder, key, other[other_key], random)
    return root[0] if root else None


def _places(holder: Any) -> Any:
    """Yield every (container, key) below this one."""
    keys = holder.keys() if isinstance(holder, dict) else range(len(holder))
    for key in list(keys):
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _places(holder[key])


def _change(holder: Any, key: Any, other: Any, random: Random) -> None:
    value, way = holder[key], random.randrange(12)
    if way == 0:
        del holder[key]
    elif way == 1:
        holder[key] = copy.deepcopy(other)
    elif way == 2:
        holder[key] = [value]
    elif way == 3 and isinstance(holder, dict):
        holder[random.choice((key.upper(), key + "s", ""))] = holder.pop(key)
    elif way == 4 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(value))
    elif way <= 7 and type(value) in (int, float):
        holder[key] = _number(value, random)
    elif way == 8 and isinstance(value, str):
        holder[key] = mutated(value.encode(), random).decode(errors="replace")
    elif way == 9 and isinstance(value, str | list):
        holder[key] = value * random.choice((2, 3, 50))
    else:
        holder[key] = copy.deepcopy(random.choice(STRANGE))


def _number(value: Any, random: Random) -> Any:
    return random.choice(
        (value + 1, value - 1, -value, value * 2, value * 1000, float(value), str(value), value**9)
        if abs(value) < 1e30
        else (-value, 0)
    )


def nested(depth: int, random: Random) -> bytes:
    """Return JSON that is nothing but depth."""
    opening, closing = random.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return opening * depth + b"1" + closing * random.choice((depth, 0))
