"""Find the pictures that a table names: by their path, or by as much of it as both have."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from pixelprep.errors import SourceError
from pixelprep.sources.split_names import split_of
from pixelprep.system import formatting


def match(
    where: str,
    pictures: Sequence[str],
    names: Sequence[str],
    splits: Sequence[str | None] | None = None,
) -> list[int | None]:
    """Return for each name the number of the picture that it means, None where there is none.

    A name means a picture if the one's path ends in the other's, with or without the ending of the
    file: ``train/7.png``, ``7.png`` and ``7`` mean ``photos/train/7.png``; so does
    ``/data/photos/train/7.png``. Of several pictures it means the one in the folder of its split,
    where `splits` has one for each name.
    """
    by_last = defaultdict[str, list[int]](list)
    for number, picture in enumerate(pictures):
        path = PurePosixPath(picture)
        for last in {path.name, path.stem}:
            by_last[last].append(number)
    parts = [PurePosixPath(picture).parts[:-1] for picture in pictures]
    found = list[int | None]()
    for row, name in enumerate(names):
        *folders, last = PurePosixPath(name.strip().replace("\\", "/")).parts or ("",)
        means = [n for n in by_last.get(last, []) if _agree(parts[n], folders)]
        exact = [n for n in means if len(parts[n]) == len(folders)]
        if len(means) > 1 and len(exact) != 1 and splits and splits[row]:
            of_split = [n for n in means if split_of_folders(parts[n]) == splits[row]]
            means = of_split or means
        if len(means) > 1 and len(exact) != 1:
            such = formatting.shorten([pictures[n] for n in means])
            hint = f"name it with its folder, such as {pictures[means[0]]}"
            if not splits and all(split_of_folders(parts[n]) for n in means):
                hint += "; or name a column of train, val and test: `columns=split=NAME`"
            raise SourceError(f"{where}: {name} means several pictures: {such}", hint)
        found.append(next(iter(exact if len(exact) == 1 else means), None))
    return found


def split_of_folders(folders: Sequence[str]) -> str | None:
    """Return the split that the folders of a picture name, the outermost first."""
    return next(filter(None, map(split_of, folders)), None)


def _agree(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether one list of folders ends in the other."""
    shared = min(len(one), len(other))
    return list(one[len(one) - shared :]) == list(other[len(other) - shared :])
