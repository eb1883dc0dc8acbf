"""Many cases, of which a few are tried by default."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest


def some(*values: Iterable[Any], every: int) -> list[Any]:
    """Return all combinations as parameters; one in so many is tried by default.

    So that every value has its turn, `every` shares no factor with the numbers of values.
    """
    return [
        pytest.param(*case, marks=[] if number % every == 1 else pytest.mark.long)
        for number, case in enumerate(product(*values))
    ]
