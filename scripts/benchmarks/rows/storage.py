"""Shuffled batches of entries that are packed or hold raw pixels, beside plain float32."""

from functools import partial

from benchmarks.contest import Contest
from benchmarks.made import LARGE, SMALL
from benchmarks.rows.streaming import ours

PACKED = Contest("packed", "shuffled batches of 64 of packed entries", "images/s", 5)
RAW = Contest("raw", "shuffled batches of 64 of MNIST stored raw", "images/s", 5)

PLAIN = "uncompressed, float32"
TARGETS = {  # of packed entries' rates, against the uncompressed entry of the build before
    SMALL: {"lz4": "≥ 0.3", "zstd": "≥ 0.25", "gzip": "≥ 0.12"},
    LARGE: {"lz4": "≥ 0.5", "zstd": "", "gzip": ""},
}

for _size, _targets in TARGETS.items():
    _plain = f"{PLAIN}, {_size}"
    PACKED.contestant(_plain, "arrays")(partial(ours, size=_size))
    _before = PACKED.before(_plain)
    for _codec, _target in _targets.items():
        _name = f"{_codec}, {_size}"
        PACKED.contestant(_name, "arrays")(partial(ours, size=_size, compression=_codec))
        PACKED.duel(_name, _before, _target)
        PACKED.duel(_name, _plain)
        PACKED.before(_name)
_name = f"lz4, stored raw, {SMALL}"
PACKED.contestant(_name, "arrays")(partial(ours, size=SMALL, compression="lz4", storage="raw"))
PACKED.duel(_name, f"{PLAIN}, {SMALL}, the build before", "≥ 0.6", "the same bits")

RAW.contestant(PLAIN, "arrays")(partial(ours, size=SMALL))
_before = RAW.before(PLAIN)
for _name, _raw, _target, _note in (
    ("stored raw", False, "≥ 1", "float32, the same bits"),
    ("stored raw, raw=True", True, "≥ 3", "uint8, as stored: the device scales"),
):
    RAW.contestant(_name, "arrays")(partial(ours, size=SMALL, raw=_raw, storage="raw"))
    RAW.duel(_name, _before, _target, _note)
    RAW.before(_name)
