"""The least that preparing can be: unpack, convert, write, sync, digest. SOURCE TARGET."""

import gzip
import hashlib
import os
import sys
from pathlib import Path

import numpy as np

source, target = map(Path, sys.argv[1:])
for path in sorted(source.glob("*-ubyte.gz")):
    content = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8)
    if "images" not in path.name:
        continue
    images = content[16:].astype(np.float32)
    with (target / path.stem).open("wb") as file:
        images.tofile(file)
        file.flush()
        os.fsync(file.fileno())
    print(path.stem, hashlib.sha256(images.data).hexdigest())
