"""A second reader of the cache, written from data/FORMAT.md and HDF5's public specification alone.

``python second_reader.py ENTRY_FOLDER`` checks an entry, reads every value and prints one JSON
object with the digests of each split's columns (little-endian, C order). What is not as the page
says is one line on standard error and exit status 1. It needs nothing but Python: no HDF5, no
NumPy, no pixelprep.
"""

import json
import struct
import sys
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Place = tuple[int, int, int]  # of a chunk: where it is, its bytes, which filters were left out

VERSION = 1
FORM = {  # fields of a recipe that one mode may have
    "channel_order": "fixed",
    "limits": "normalize",
    "target_range": "normalize",
    "quantiles": "robust",
    "clip": "robust",
}
CODES = {"float16": "e", "float32": "f", "float64": "d", "int64": "q"}
CODES |= {"uint8": "B", "int8": "b", "uint16": "H", "int16": "h"}
UNREAD = {32000: "LZF", 32004: "LZ4", 32015: "Zstandard"}
SPACE, LINK_INFO, TYPE, FILL, LINK, LAYOUT, PIPELINE, CONTINUATION = 1, 2, 3, 5, 6, 8, 11, 16
UNKNOWN = b"\xff" * 8  # an address that there is not
WORD = 0xFFFFFFFF


class Refused(Exception):
    """The entry is not what data/FORMAT.md says; the message is one line."""


def need(condition: object, message: str) -> None:
    """Go on only if the condition holds."""
    if not condition:
        raise Refused(message)


# The manifest (sections 4 and 6)


def canonical(value: Any) -> bytes:
    """Canonical JSON, over which digests are taken."""
    options: Json = {"ensure_ascii": False, "sort_keys": True, "allow_nan": False}
    return json.dumps(value, separators=(",", ":"), **options).encode()


def unique(pairs: list[tuple[str, Any]]) -> Json:
    """Return an object of JSON, once no name is in it twice."""
    found: Json = {}
    for name, value in pairs:
        need(name not in found, f"the name {name!r} is twice in one object")
        found[name] = value
    return found


def contents(path: Path) -> bytes:
    """Return the bytes of a plain file."""
    need(path.is_file() and not path.is_symlink(), "missing, or no plain file")
    return path.read_bytes()


def read_manifest(folder: Path) -> Json:
    """Return the manifest, once its digest, version and all that follows from it are right."""
    data = contents(folder / "manifest.json")
    line = f"{sha256(data).hexdigest()}  manifest.json\n".encode()
    need((folder / "manifest.sha256").exists(), "no manifest.sha256 beside it")
    need(contents(folder / "manifest.sha256") == line, "its digest is not that in manifest.sha256")
    manifest: Json = json.loads(data, object_pairs_hook=unique)
    need(manifest.get("format") == "pixelprep", "not a manifest of pixelprep")
    version = manifest.get("format_version")
    need(type(version) is int and version >= 1, f"format version {version!r}")
    need(version == VERSION, f"format version {version}; this reads version {VERSION}")
    need(canonical(manifest) + b"\n" == data, "not canonical JSON")
    check_recipe(manifest)
    for name in manifest["splits"]:
        check_split(manifest, name)
    return manifest


def check_recipe(manifest: Json) -> None:
    """Refuse a key, a source digest or splits that are not the recipe's."""
    recipe, source = manifest["recipe"], manifest["source"]
    key = sha256(canonical(recipe)).hexdigest()[:12]
    need(manifest["key"] == key, f"key {manifest['key']}, but its recipe has {key}")
    parts = {name: source[name] for name in ("splits", "task", "class_names", "decode")}
    digest = sha256(canonical(parts)).hexdigest()
    need(source["digest"] == recipe["source"] == digest, "wrong source digest")
    for name in ("format_version", "mode", "per"):
        need(manifest[name] == recipe[name], f"{name} is not the recipe's")
    own, taken = source["splits"].keys(), {n for n in ("val", "test") if recipe[f"{n}_fraction"]}
    origins = dict.fromkeys(own, "source") | dict.fromkeys(taken, "train")
    fitted = {"train"} if recipe["constants"] is None and recipe["per"] != "image" else set()
    named = own and fitted <= own <= {"train", "val", "test"} and not own & taken
    need(named, "splits of the source")
    need(manifest["splits"].keys() == recipe["splits"].keys(), "splits are not the recipe's")
    need(recipe["splits"] == origins, f"splits {recipe['splits']}, expected {origins}")
    if (given := recipe["constants"]) is not None:
        scaling, image = manifest["scaling"], next(iter(source["splits"].values()))["shape"][1:]
        count = {"dataset": 1, "channel": image[2]}[recipe["per"]]
        need(len(given["shift"]) == len(given["divisor"]) == count, "constants")
        need(scaling["mean"] == given["shift"] and scaling["std"] == given["divisor"], "constants")
        need(scaling["minimum"] == scaling["maximum"] == [], "constants have no extremes")
        need(0 not in given["divisor"], "a divisor of 0")
    for name, mode in FORM.items():
        need(recipe[name] is None or recipe["mode"] == mode, f"{name} is not for this mode")
    words = recipe["channel_order"], recipe["limits"], recipe["clip"]
    known = words[0] in (None, "bgr") and words[1] in (None, "data") and words[2] in (None, True)
    need(known, "a scaling that no mode of this version has")
    counted = recipe["mode"] == "robust" and recipe["constants"] is None
    need(counted == (recipe["quantiles"] is not None), "quantiles of the recipe")
    need(counted == (manifest["scaling"]["quantiles"] is not None), "quantiles of the scaling")
    need(recipe["mode"] != "fixed" or recipe["constants"], "no constants")


def check_split(manifest: Json, name: str) -> None:
    """Refuse rows, shapes and names of files that are not those of sections 2 and 4."""
    split, recipe = manifest["splits"][name], manifest["recipe"]
    rows, *image = split["shape"]
    need(len(image) == 3 and min(rows, *image) > 0, f"{name}: shape {split['shape']}")
    source = source_of(manifest, name)
    need(rows == split["rows"] and image == source["shape"][1:], f"{name}: shape, rows or source")
    need(split["dtype"] == recipe["dtype"] in ("float16", "float32"), f"{name}: dtype")
    most = 1_048_576 // (prod(image) * struct.calcsize(CODES[split["dtype"]]))
    need(recipe["chunk_rows"] == 1 << max(most, 1).bit_length() - 1, f"{name}: chunk_rows")
    expected = files_of(name, rows, recipe["shard_rows"] or rows)
    found = [(file["name"], file["rows"]) for file in split["files"]]
    need(found == expected, f"{name}: files {found}, expected {expected}")
    need(split["bytes"] == sum(file["bytes"] for file in split["files"]), f"{name}: bytes")


def source_of(manifest: Json, name: str) -> Json:
    """Return the source's split that a split comes from."""
    own: Json = manifest["source"]["splits"]
    split: Json = own[name if name in own else "train"]
    return split


def files_of(split: str, rows: int, full: int) -> list[tuple[str, int]]:
    """Return the names and rows of a split's files, which have so many rows, but for the last."""
    counts = [min(full, rows - start) for start in range(0, rows, full)]
    stem = f"{split}-{{:05}}-of-{len(counts):05}.h5" if counts[1:] else f"{split}.h5"
    return [(stem.format(i), count) for i, count in enumerate(counts)]


# HDF5's blocks of metadata, each with its checksum


class Fields:
    """Reads a block from its start, field by field."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    @property
    def left(self) -> int:
        """The bytes not yet read."""
        return len(self.data) - self.at

    def bytes(self, count: int) -> bytes:
        """Return the next bytes."""
        need(count <= self.left, "a block of metadata ends early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size: int = 8) -> int:
        """Return the next field, an unsigned number."""
        return int.from_bytes(self.bytes(size), "little")


def rotated(word: int, by: int) -> int:
    """Return a 32-bit word, rotated to the left."""
    return (word << by | word >> 32 - by) & WORD


def lookup3(data: bytes) -> int:
    """Bob Jenkins's hash of that name with initial value 0, the checksum of HDF5's metadata."""
    a = b = c = (0xDEADBEEF + len(data)) & WORD
    triples = list(struct.iter_unpack("<3I", data + bytes(-len(data) % 12)))
    for i, (x, y, z) in enumerate(triples, 1):
        a, b, c = a + x & WORD, b + y & WORD, c + z & WORD
        for by in (4, 6, 8, 16, 19, 4) if i < len(triples) else ():
            a, b, c = b, b + c & WORD, (a - c & WORD) ^ rotated(c, by)
    for by in (14, 11, 25, 16, 4, 14, 24):
        a, b, c = b, (c ^ b) - rotated(b, by) & WORD, a
    return b


def block(data: bytes, at: int, size: int, signature: bytes) -> Fields:
    """Return a block after its signature, once the checksum at its end is right."""
    found = data[at : at + size]
    whole = len(found) == size >= len(signature) + 4 and found.startswith(signature)
    right = whole and lookup3(found[:-4]) == int.from_bytes(found[-4:], "little")
    need(right, f"damaged metadata {signature[:4]!r} at byte {at}")
    return Fields(found[len(signature) : -4])


def root_header(data: bytes) -> int:
    """Return where the root group's header is, from a superblock of version 2."""
    fields = block(data, 0, 48, b"\x89HDF\r\n\x1a\n\2")
    need(fields.bytes(3) == b"\x08\x08\0", "superblock: sizes of fields, or flags")
    base, extension, end, root = (fields.number() for _ in range(4))
    need((base, extension, end) == (0, 2**64 - 1, len(data)), "superblock: base, extension or end")
    return root


def messages(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Types and contents of the messages of a version-2 object header."""
    start = Fields(data[at : at + 14])
    need(start.bytes(5) == b"OHDR\2" and (flags := start.number(1)) <= 3, "no plain object header")
    size = start.number(1 << flags)
    parts = [block(data, at, start.at + size + 4, start.data[: start.at])]
    for part in parts:  # a continuation is appended on the way
        while part.left >= 4:
            kind, size, flags = part.number(1), part.number(2), part.number(1)
            body = part.bytes(size)
            need(not flags & 2 and len(parts) < 9, "a shared message, or parts without end")
            if kind == CONTINUATION:
                place, size = struct.unpack("<QQ", body)
                parts.append(block(data, place, size, b"OCHK"))
            elif kind:
                yield kind, body


def links(data: bytes) -> dict[str, int]:
    """Return names in the root group, and where the headers of what they name are."""
    found: dict[str, int] = {}
    for kind, body in messages(data, root_header(data)):
        if kind == LINK_INFO:
            need(body[2:10] == UNKNOWN, "links in a heap of their own")
        if kind == LINK:
            need(body[:2] == b"\1\0" and len(body) == body[2] + 11, "a link that is not hard")
            need(body[3:-8].decode() not in found, "two links of one name")
            found[body[3:-8].decode()] = int.from_bytes(body[-8:], "little")
    return found


def leaves(data: bytes, at: int, rank: int, levels: int) -> Iterator[tuple[list[int], Place]]:
    """Yield the first numbers and the places of the chunks below a node of a version-1 B-tree."""
    fields = Fields(data[at:])
    need(fields.bytes(5) == b"TREE\1", f"no B-tree of chunks at byte {at}")
    level, count = fields.number(1), fields.number(2)
    need(level < levels, "a B-tree that does not get lower")
    fields.bytes(16)  # the neighbours
    for _ in range(count):
        size, left_out = fields.number(4), fields.number(4)
        first = [fields.number() for _ in range(rank)]
        child = fields.number()
        if level:
            yield from leaves(data, child, rank, level)
        else:
            yield first, (child, size, left_out)


def places(data: bytes, layout: bytes, chunk: list[int], count: int) -> Iterator[Place]:
    """Yield where each chunk is, in the order of rows; the chunk's last side is the bytes of a
    number.
    """
    fields = Fields(layout)
    need(fields.bytes(2) == b"\3\2", "layout: not chunked, or not of version 3")
    rank = fields.number(1)
    root = fields.number()
    found = [fields.number(4) for _ in range(rank)]
    need(found == chunk, f"chunks {found}, expected {chunk}")
    listed = list(leaves(data, root, rank, 9))
    firsts = [[i * chunk[0], *(rank - 1) * [0]] for i in range(count)]
    need([first for first, _ in listed] == firsts, "chunks are missing, or not in their order")
    yield from (place for _, place in listed)


# The values of a file (section 2)


DATATYPES = {  # class and bits, size, offset, precision, exponent, mantissa, bias
    **{
        name: bytes([0x10, 8 * signed, 0, 0, size, 0, 0, 0, 0, 0, 8 * size, 0])
        for name, signed, size in (
            ("uint8", 0, 1),
            ("int8", 1, 1),
            ("uint16", 0, 2),
            ("int16", 1, 2),
            ("int64", 1, 8),
        )
    },
    "float16": bytes.fromhex("11200f00 02000000 0000 1000 0a05 000a 0f000000"),
    "float32": bytes.fromhex("11201f00 04000000 0000 2000 1708 0017 7f000000"),
    "float64": bytes.fromhex("11203f00 08000000 0000 4000 340b 0034 ff030000"),
}


def datatype(dtype: str) -> bytes:
    """Return HDF5's description of a type; of text: UTF-8, padded with zeros."""
    if dtype.startswith("text"):
        return b"\x13\x11\0\0" + int(dtype[4:]).to_bytes(4, "little")
    return DATATYPES[dtype]


def filters(pipeline: bytes) -> Iterator[tuple[int, ...]]:
    """Yield each filter's number and parameters, in the order in which they were applied."""
    fields = Fields(pipeline)
    need(fields.number(1) == 2, "filters: not of version 2")
    for _ in range(fields.number(1)):
        number = fields.number(2)
        need(number in (1, 2, 3), f"filter {number} ({UNREAD.get(number, 'unknown')}) is not read")
        fields.bytes(2)  # whether a chunk may go without it
        yield number, *(fields.number(4) for _ in range(fields.number(2)))


def fletcher32(data: bytes) -> int:
    """Return the checksum of a chunk's bytes."""
    words = array("H", data + bytes(len(data) % 2))
    if sys.byteorder == "little":
        words.byteswap()
    sums = sum(accumulate(words)), sum(words)
    second, first = ((total - 1) % 65535 + 1 if total else 0 for total in sums)
    return second << 16 | first


def inflated(body: bytes, size: int, item: int) -> bytes:
    """Return what deflate and, before it, shuffle made these bytes of."""
    inflate = zlib.decompressobj()
    shuffled = inflate.decompress(body, size + 1)
    need(inflate.eof and not inflate.unused_data, f"a chunk is not just {size} bytes, compressed")
    values, step = bytearray(len(shuffled)), len(shuffled) // item
    for i in range(item):  # the first bytes of all numbers come first, then the second ones
        values[i::item] = shuffled[i * step : (i + 1) * step]
    return bytes(values)


def column(
    data: bytes, at: int, dtype: str, shape: list[int], chunk: list[int], packed: bool
) -> Iterator[bytes]:
    """Yield a dataset's values, chunk by chunk, as little-endian bytes."""
    header = dict(found := sorted(messages(data, at)))
    need([kind for kind, _ in found] == [SPACE, TYPE, FILL, LAYOUT, PIPELINE], "messages")
    sizes = struct.pack(f"<{len(shape)}Q", *shape)
    need(header[SPACE] == bytes([2, len(shape), 1, 1]) + sizes + sizes, f"shape: not {shape}")
    need(header[TYPE] == datatype(dtype), f"type: not {dtype}")
    need(header[FILL] == b"\3\x0b", "fill value, or times of allocation and fill")
    left, row, item = shape[0], prod(chunk[1:]), chunk[-1]
    expected = [*([(2, item), (1, 4)] if packed else []), (3,)]
    need([*filters(header[PIPELINE])] == expected, f"filters: not {expected}")
    for start, length, left_out in places(data, header[LAYOUT], chunk, -(-left // chunk[0])):
        need(left_out == 0 and length >= 4, "a chunk without its filters")
        stored = data[start : start + length]
        need(fletcher32(stored[:-4]) == int.from_bytes(stored[-4:], "little"), "a chunk's checksum")
        values = inflated(stored[:-4], prod(chunk), item) if packed else stored[:-4]
        need(len(values) == prod(chunk), f"a chunk of {len(values)} bytes")
        need(not any(values[left * row :]), "rows after the last are not zero")
        yield values[: left * row]
        left -= chunk[0]


def columns(folder: Path, manifest: Json, name: str, file: Json) -> Iterator[tuple[str, bytes]]:
    """Yield the columns of one file in pieces, name and bytes, once its digest is right."""
    data = contents(folder / file["name"])
    need(len(data) == file["bytes"], f"{len(data)} bytes, expected {file['bytes']}")
    need(sha256(data).hexdigest() == file["sha256"], "its digest is not the manifest's")
    split, recipe = manifest["splits"][name], manifest["recipe"]
    source, classes = source_of(manifest, name), len(manifest["source"]["class_names"])
    image, rows = split["shape"][1:], file["rows"]
    stored = source["dtype"] if recipe["storage"] == "raw" else split["dtype"]
    several = manifest["source"]["task"] == "multilabel"
    kinds: dict[str, tuple[str, list[int], int]] = {  # type, shape of a row, bytes of a number
        "images": (stored, image, struct.calcsize(CODES[stored])),
        "labels": ("uint8", [classes], 1) if several else ("int64", [], 8),
    }
    if manifest["per"] == "image":
        kinds |= {title: ("float64", [], 8) for title in ("mean", "std")}
    if length := source["name_bytes"]:
        kinds["names"] = (f"text{length}", [], length)
    found = links(data)
    need(found.keys() == kinds.keys(), f"datasets {', '.join(found)}")
    for title, (dtype, shape, item) in kinds.items():
        most = (
            recipe["chunk_rows"] if title == "images" else max(1, 524_288 // prod([item, *shape]))
        )
        chunk = [min(most, rows), *shape, item]
        packed = title == "images" and recipe["compression"] != "none"
        for piece in column(data, found[title], dtype, [rows, *shape], chunk, packed):
            yield title, piece


# The whole entry


@contextmanager
def located(path: Path) -> Iterator[None]:
    """Say with every error in which file it is, in one line."""
    try:
        yield
    except Exception as error:  # bytes that are not what they should be can raise almost any
        message = str(error) if isinstance(error, Refused) else repr(error)
        raise Refused(f"{path}: {' '.join(message.split())}") from None


def summary(folder: Path, manifest: Json, name: str) -> Json:
    """Rows, shape, type and the digests of a split's columns."""
    split = manifest["splits"][name]
    digests: dict[str, Any] = {}
    for file in split["files"]:
        with located(folder / file["name"]):
            for title, piece in columns(folder, manifest, name, file):
                digests.setdefault(title, sha256()).update(piece)
    found = {title: split[title] for title in ("rows", "shape", "dtype")}
    return found | {title: digest.hexdigest() for title, digest in digests.items()}


def main(folder: Path) -> int:
    """Check and read an entry; the exit status."""
    try:
        with located(folder / "manifest.json"):
            manifest = read_manifest(folder)
        splits = {name: summary(folder, manifest, name) for name in manifest["splits"]}
    except Refused as error:
        print(error, file=sys.stderr)
        return 1
    found = {name: manifest[name] for name in ("dataset", "mode", "per", "key")}
    print(json.dumps(found | {"splits": splits}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
