#!/usr/bin/env bash
# pyarrow 26.0.1: ParquetFile.iter_batches keeps all row groups of the file in memory.
#
# Guess:     batches are streamed, so with one row group a batch about one row group is held, perhaps
#            some more that are read ahead; what was given out and dropped is let go.
# Behaviour: With pre_buffer, which is the default, the bytes of each row group stay as long as the
#            ParquetFile does: as much is held as the whole file is long, also after close(), though no
#            batch was kept. Asked for one row group a call, iter_batches and read_row_group of
#            one ParquetFile hold few. So does iter_batches of all with pre_buffer=False, which the
#            documentation names for little memory; it does not say that what is done with stays.
# Seen:      held at most, in row groups of 256 KiB, of 32
#            iter_batches: 33, closed 32
#            iter_batches of one row group a call: fewer than 4, closed fewer than 4
#            read_row_group: fewer than 4, closed fewer than 4
#            iter_batches, pre_buffer=False: fewer than 4, closed fewer than 4
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyarrow==26.0.1 numpy==2.4.6
venv/bin/python - <<'PYTHON'
import os
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

rows, groups = 2**15, 32
values = np.random.default_rng(0).integers(0, 2**62, rows * groups)
pq.write_table(
    pa.table({"values": values}), "a.parquet", rows, compression="none", use_dictionary=False
)
size = os.path.getsize("a.parquet")
start = pa.total_allocated_bytes()
print(f"held at most, in row groups of {size // groups // 1024} KiB, of {groups}")


def most(name, read, **options):
    held = []
    with pq.ParquetFile("a.parquet", **options) as file:
        for part in read(file):
            held.append(pa.total_allocated_bytes() - start)
        part = None
    assert len(held) == groups
    time.sleep(0.5)
    closed = pa.total_allocated_bytes() - start
    del file
    time.sleep(0.5)
    counts = [round(held_bytes / (size / groups)) for held_bytes in (max(held), closed)]
    shown = [str(count) if count >= 4 else "fewer than 4" for count in counts]
    print(f"{name}: {shown[0]}, closed {shown[1]}")
    return counts


def all_at_once(file):
    return file.iter_batches(rows)


def one_by_one(file):
    return (part for i in range(groups) for part in file.iter_batches(rows, row_groups=[i]))


def tables(file):
    return (file.read_row_group(i) for i in range(groups))


whole, kept = most("iter_batches", all_at_once)
others = [
    most("iter_batches of one row group a call", one_by_one),
    most("read_row_group", tables),
    most("iter_batches, pre_buffer=False", all_at_once, pre_buffer=False),
]
raise SystemExit(min(whole, kept) < groups or max(map(max, others)) >= 4)
PYTHON
