#!/usr/bin/env bash
# Pillow 13.0.0: the transparent shade of a grey PNG of 2 or 4 bits stays opaque.
#
# Guess:     as pixels of 1, 2 and 4 bits are spread over 0 to 255, so is the shade that the PNG names
#            as transparent.
# Behaviour: With 2 and 4 bits the pixels are multiplied by 85 and 17, the shade is not: converted to
#            RGBA, pixels of that shade are opaque. With 1 and 8 bits they are transparent. pypng
#            0.20220715.0 makes them transparent with each.
# Seen:      1 bits: Pillow [255, 0], pypng [255, 0]
#            2 bits: Pillow [255, 255, 255, 255], pypng [255, 255, 255, 0]
#            4 bits: Pillow [255, 255], pypng [255, 0]
#            8 bits: Pillow [255, 0], pypng [255, 0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pillow==13.0.0 pypng==0.20220715.0 numpy==2.4.6
venv/bin/python - <<'PYTHON'
import io

import numpy as np
import png
from PIL import Image

seen = {1: [255, 0], 2: [255] * 4, 4: [255, 255], 8: [255, 0]}
changed = False
for bits, expected in seen.items():
    most = 2**bits - 1
    shades = list(range(4)) if bits == 2 else [0, most]
    file = io.BytesIO()
    writer = png.Writer(len(shades), 1, greyscale=True, bitdepth=bits, transparent=most)
    writer.write(file, [shades])
    with Image.open(io.BytesIO(file.getvalue())) as image:
        pillow = np.asarray(image.convert("RGBA"))[0, :, 3].tolist()
    rows = png.Reader(bytes=file.getvalue()).asRGBA8()[2]
    other = list(next(iter(rows)))[3::4]
    print(f"{bits} bits: Pillow {pillow}, pypng {other}")
    changed |= pillow != expected or other != [255] * (len(shades) - 1) + [0]
raise SystemExit(changed)
PYTHON
