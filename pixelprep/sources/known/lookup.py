"""Look up the datasets that are known by name, in `registry`, which is loaded when needed."""

import re
from collections.abc import Iterator, Mapping
from functools import cache

from pixelprep.sources.known.mnist_sets import MNIST_SETS, SAMPLE
from pixelprep.sources.known.registered import RegisteredDataset


class _Registry(Mapping[str, RegisteredDataset]):
    """All datasets by name; those like MNIST do not load what reads the others."""

    _light: Mapping[str, RegisteredDataset] = {one.name: one for one in (*MNIST_SETS, SAMPLE)}

    def __getitem__(self, name: str) -> RegisteredDataset:
        return self._light.get(name) or _all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_all())

    def __len__(self) -> int:
        return len(_all())


REGISTRY = _Registry()


@cache
def _all() -> Mapping[str, RegisteredDataset]:
    from pixelprep.sources.known.registry import DATASETS

    return {one.name: one for one in DATASETS}


def known_name(name: str) -> str | None:
    """Return the known name that is spelled like this one, but for case, blanks and signs."""
    return _spelled().get(_letters(name))


@cache
def _spelled() -> dict[str, str]:
    from pixelprep.sources.known.registry import OTHERWISE

    return {_letters(name): known for name, known in OTHERWISE.items()} | {
        _letters(name): name for name in REGISTRY
    }


def _letters(name: str) -> str:
    return re.sub(r"[\s/_-]", "", name).lower()
