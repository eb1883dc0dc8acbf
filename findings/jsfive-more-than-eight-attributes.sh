#!/usr/bin/env bash
# jsfive 0.4.2 shows none of the attributes of a group that has more than eight, and says nothing.
#
# Guess:     a reader shows the attributes that it can read, or raises an error for those it cannot.
# Behaviour: With HDF5's bounds 1.8 and the library's defaults, eight attributes lie in the object
#            header, and jsfive shows them. With nine, HDF5 moves all of them into dense storage: `attrs`
#            is then an empty object, while datasets are read right. pyfive 1.3.0 shows all nine.
# Seen:      8 attributes: jsfive 8, pyfive 8; 9 attributes: jsfive 0, pyfive 9; values right
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check h5py==3.16.0 numpy==2.4.6 pyfive==1.3.0
npm install --silent --no-audit --no-fund jsfive@0.4.2 >/dev/null
cat >look.mjs <<'JAVASCRIPT'
import fs from "fs";
import * as hdf5 from "jsfive";

for (const count of [8, 9]) {
  const bytes = fs.readFileSync(`${count}.h5`);
  const start = bytes.byteOffset;
  const file = new hdf5.File(bytes.buffer.slice(start, start + bytes.length), "x.h5");
  const values = file.get("values").value;
  console.log(Object.keys(file.attrs).length, values.join(" ") === "1 2 3");
}
JAVASCRIPT
venv/bin/python - <<'PYTHON'
import subprocess

import h5py
import pyfive

ours = []
for count in (8, 9):
    with h5py.File(f"{count}.h5", "w", libver=("v108", "v108")) as file:
        file["values"] = [1, 2, 3]
        for number in range(count):
            file.attrs[f"attribute {number}"] = number
    with pyfive.File(f"{count}.h5") as file:
        ours.append(len(file.attrs))
said = subprocess.run(["node", "look.mjs"], check=True, capture_output=True, text=True).stdout
theirs = [line.split() for line in said.splitlines()]
print(
    f"8 attributes: jsfive {theirs[0][0]}, pyfive {ours[0]};"
    f" 9 attributes: jsfive {theirs[1][0]}, pyfive {ours[1]}; values", "right"
    if [right for _, right in theirs] == ["true", "true"] else "wrong",
)
raise SystemExit(theirs != [["8", "true"], ["0", "true"]] or ours != [8, 9])
PYTHON
