#!/usr/bin/env bash
# datasets 5.2.0: imagefolder gives no labels at all once one picture lies deeper than the others.
#
# Guess:     The class is the folder that a picture lies in, or the first one, as in torchvision and
#            Keras; at any rate a warning says that there are no labels.
# Behaviour: The column `label` is missing for all pictures, without a warning.
# Seen:      one depth: ['image', 'label']
#            a picture moved to cat/more: ['image']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check datasets==5.2.0 pillow==13.0.0
cat >read.py <<'PYTHON'
import sys
import warnings
from pathlib import Path

import datasets
from PIL import Image

warnings.simplefilter("error")
datasets.disable_progress_bars()
for name in ("cat", "dog"):
    Path("f", name).mkdir(parents=True)
    for i in range(3):
        Image.new("L", (8, 8), i).save(f"f/{name}/{i}.png")


def columns(cache):
    found = datasets.load_dataset("imagefolder", data_dir="f", cache_dir=cache)["train"]
    return sorted(found.column_names)


alike = columns("one")
Path("f/cat/more").mkdir()
Path("f/cat/2.png").rename("f/cat/more/2.png")
deeper = columns("two")
print("one depth:", alike)
print("a picture moved to cat/more:", deeper)
sys.exit((alike, deeper) != (["image", "label"], ["image"]))
PYTHON
venv/bin/python read.py
