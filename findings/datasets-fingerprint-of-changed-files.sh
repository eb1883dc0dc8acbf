#!/usr/bin/env bash
# datasets 5.2.0: the fingerprint of a data set stays while the pictures that it names change.
#
# Guess:     a fingerprint, by which `map` finds its results again, is of the rows; when what a row
#            holds has changed, it is another.
# Behaviour: of a data set of picture files the rows hold paths. The fingerprint is of the table, so a
#            file that is replaced shows its new pixels under the old fingerprint. Whoever caches
#            by it keeps results of the old pixels.
# Seen:      pixel 10 then 200, the fingerprint is the same: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    datasets==5.2.0 pyarrow==26.0.1 pillow==12.3.0 numpy==2.4.6
cat >read.py <<'PYTHON'
import numpy as np
from datasets import Dataset, Image
from PIL import Image as Pillow


def write(value):
    Pillow.fromarray(np.full((4, 4), value, np.uint8)).save("one.png")


write(10)
data = Dataset.from_dict({"image": ["one.png"]}).cast_column("image", Image())
before = np.asarray(data[0]["image"])[0, 0], data._fingerprint
write(200)
after = np.asarray(data[0]["image"])[0, 0], data._fingerprint
same = before[1] == after[1]
print(f"pixel {before[0]} then {after[0]}, the fingerprint is the same: {same}")
raise SystemExit((int(before[0]), int(after[0]), same) != (10, 200, True))
PYTHON
HF_HOME=$folder HF_HUB_OFFLINE=1 venv/bin/python read.py
