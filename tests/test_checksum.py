"""The fast checksum of a chunk is the one that data/FORMAT.md describes."""

import numpy as np
import reference
from hypothesis import example, given
from hypothesis import strategies as st

from pixelprep.store.checksum import fletcher32


@given(st.binary(max_size=20_000) | st.integers(0, 300_000).map(lambda n: b"\xff" * n))
@example(b"\xff\xff" * 65_535)
@example(bytes(2 * 65_535))
def test_the_checksum_is_that_of_the_page(content: bytes) -> None:
    """Whatever the length, and for extreme bytes too."""
    found = fletcher32(np.frombuffer(content, np.uint8))
    assert found == reference.fletcher32(content)
