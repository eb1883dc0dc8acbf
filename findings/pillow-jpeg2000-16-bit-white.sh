#!/usr/bin/env bash
# Pillow 13.0.0: colours of 16-bit JPEG 2000 come as 8 bits, and the brightest of them as 0.
#
# Guess:     a colour image of 16 bits, for which Pillow has no mode, is refused, or each value is cut to
#            its high byte: 65,535 becomes 255.
# Behaviour: It opens as RGB of 8 bits without a warning. Values are rounded, so 65,408 and more would be
#            256, and come out as 0: white is black. imagecodecs 2026.3.6 gives the values that were
#            written.
# Seen:      written [1000, 65407, 65408, 65535]; Pillow RGB [4, 255, 0, 0]; imagecodecs as written
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pillow==13.0.0 imagecodecs==2026.3.6 numpy==2.4.6
venv/bin/python -W error - <<'PYTHON'
import io

import imagecodecs
import numpy as np
from PIL import Image

values = [1000, 65407, 65408, 65535]
written = np.array(values, np.uint16).repeat(16)[None, :, None].repeat(16, 0).repeat(3, 2)
content = imagecodecs.jpeg2k_encode(written, level=0, reversible=True, codecformat="jp2")
with Image.open(io.BytesIO(content)) as image:
    mode, pillow = image.mode, np.asarray(image)[0, ::16, 0].tolist()
same = bool((imagecodecs.jpeg2k_decode(content) == written).all())
print(f"written {values}; Pillow {mode} {pillow}; imagecodecs {'as written' if same else 'differs'}")
raise SystemExit((mode, pillow, same) != ("RGB", [4, 255, 0, 0], True))
PYTHON
