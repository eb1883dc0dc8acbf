"""Find the pictures that a table names: by their path, or by as much of it as both have."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from pixelprep.errors import SourceError
from pixelprep.system import formatting


def match(where: str, pictures: Sequence[str], names: Sequence[str]) -> list[int | None]:
    """Return for each name the number of the picture that it means, None where there is none.

    A name means a picture if the one's path ends in the other's, with or without the ending of the
    file: ``train/7.png``, ``7.png`` and ``7`` mean ``photos/train/7.png``; so does
    ``/data/photos/train/7.png``.
    """
    by_last = defaultdict[str, list[int]](list)
    for number, picture in enumerate(pictures):
        path = PurePosixPath(picture)
        for last in {path.name, path.stem}:
            by_last[last].append(number)
    parts = [PurePosixPath(picture).parts[:-1] for picture in pictures]
    found = list[int | None]()
    for name in names:
        *folders, last = PurePosixPath(name.strip().replace("\\", "/")).parts or ("",)
        means = [n for n in by_last.get(last, []) if _agree(parts[n], folders)]
        exact = [n for n in means if len(parts[n]) == len(folders)]
        if len(means) > 1 and len(exact) != 1:
            such = formatting.shorten([pictures[n] for n in means])
            raise SourceError(f"{where}: {name} means several pictures: {such}")
        found.append(next(iter(exact if len(exact) == 1 else means), None))
    return found


def _agree(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether one list of folders ends in the other."""
    shared = min(len(one), len(other))
    return list(one[len(one) - shared :]) == list(other[len(other) - shared :])
