"""Know a split by the words that people have for it."""

import re
from collections.abc import Sequence
from pathlib import Path

from pixelprep.system import formatting, notices

SPLIT_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval"),
}
SPLITS_BY_WORD = {word: split for split, words in SPLIT_WORDS.items() for word in words}


def split_of(word: str) -> str | None:
    """Return the split that a word names, whatever its case; None if it names none."""
    return SPLITS_BY_WORD.get(word.lower())


def split_in(name: str) -> str | None:
    """Return the split that a word in a name names, as in ``seg_train``, ``TestSet`` or
    ``train2017``; None if no word does, or words name several.
    """
    words = re.findall("[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    found = {split_of(word) or split_of(word.lower().removesuffix("set")) for word in words}
    found -= {None}
    return found.pop() if len(found) == 1 else None


def files_by_split(where: str, files: Sequence[Path], top: Path = Path()) -> dict[str, list[Path]]:
    """Tell the splits of files by a word in their names, or else in their folder's below `top`; all
    are train where none has such a word.
    """
    splits, others = dict[str, list[Path]](), list[str]()
    for path in files:
        split = split_of_file(path.relative_to(top))
        if split is None:
            others.append(path.name)
        else:
            splits.setdefault(split, []).append(path)
    if splits and others:
        notices.tell("%s: of no split, not used: %s", where, formatting.shorten(others))
    return splits or {"train": list(files)}


def split_of_file(path: Path) -> str | None:
    """Return the split that a word in a file's name is, or else one in its folder's."""
    words = [
        word for name in (path.stem, path.parent.name) for word in re.split("[^A-Za-z]+", name)
    ]
    return next(filter(None, map(split_of, words)), None)
