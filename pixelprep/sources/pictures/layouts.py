"""Find splits and classes in the names of files below a folder: by the names alone.

```
CLASS/*.png                     all of it train; pictures may lie at any depth below a class
CLASS/train/*.png               likewise val and test, where every class has such folders alone
train/CLASS/*.png               likewise val and test, under any of the words for them
seg_train/CLASS/*.png           likewise, with a word for the split in the name
train/train/CLASS/*.png         likewise, a split's folder in one of the same split
NAME/train/CLASS/*.png          a single folder around it all, as archives have
val/images/*, val/val_annotations.txt   a table of classes instead of folders (Tiny ImageNet)
test/*                          no classes: not used
```
"""

import shlex
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, NoReturn  # Any: labels of two kinds

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError
from pixelprep.format.recipe import SPLITS
from pixelprep.sources.pictures.members import printable
from pixelprep.sources.split_names import SPLIT_WORDS, split_in, split_of
from pixelprep.system import formatting, notices

ANNOTATIONS = "_annotations.txt"  # the end of the name of a table of classes
MOST_NAMED = 20  # classes in a hint
FLAT = {"images", "image", "imgs", "img", "pictures", "data", "all", "unknown", "unlabeled"}


class FewClassesError(SourceError):
    """There are no folders of classes."""


@dataclass(frozen=True, slots=True)
class ImageList:
    """The images of one split before they are decoded: names, and labels as of `RawSplit`."""

    names: Sequence[str]
    labels: NDArray[Any]  # int64 (N,), or uint8 (N, K)
    groups: Sequence[str] = ()  # of each image, where they are known

    def take(self, rows: NDArray[np.int64]) -> "ImageList":
        """Select the images with these indices, in this order."""
        groups = [self.groups[row] for row in rows] if self.groups else ()
        return ImageList([self.names[row] for row in rows], self.labels[rows], groups)


@dataclass(frozen=True, slots=True)
class Layout:
    """Which images there are: by split, sorted by class and name; and what else was met."""

    class_names: tuple[str, ...]
    splits: Mapping[str, ImageList]
    unused: Sequence[str] = ()  # files that are no image of a split
    task: str = "classification"  # or "multilabel": labels are 0 and 1, (N, K)
    decode: Mapping[str, object] = field(default_factory=lambda: {"class_order": "code points"})
    told: Sequence[str] = ()  # what was guessed or left out, each a line


def find_layout(
    where: str,
    names: Iterable[str],
    is_picture: Callable[[str], bool],
    read_text: Callable[[str], str],
    least: int = 2,
    is_wanted: Callable[[str], bool] = lambda name: True,
) -> Layout:
    """Find the splits and classes of files.

    `names` are those of files and, with a slash behind them, of folders; `read_text` returns the
    content of a file. There must be `least` classes. One that is not wanted, which is left out
    later, may be empty, and need not be in train.
    """
    return _Finder(where, is_picture, read_text, least, is_wanted).find(names)


def tell_numbers(where: str, class_names: Sequence[str]) -> None:
    """Tell the labels of classes whose names are numbers, if these sort otherwise."""
    if all(map(str.isdecimal, class_names)) and sorted(class_names, key=int) != [*class_names]:
        listed = formatting.shorten(f"{i} is {name}" for i, name in enumerate(class_names))
        notices.tell("%s: classes sort by code points: label %s", where, listed)


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder's content: names by the first folder below it, and of its own files."""

    prefix: str  # its name with a slash behind it; of the top, nothing
    folders: Mapping[str, list[str]]
    files: list[str]

    @classmethod
    def of(cls, prefix: str, names: Iterable[str]) -> "_Folder":
        folders, files, start = dict[str, list[str]](), list[str](), len(prefix)
        for name in names:
            head, slash, _ = name[start:].partition("/")
            if slash:
                folders.setdefault(head, []).append(name)
            elif head:
                files.append(name)
        return cls(prefix, folders, files)

    def enter(self, name: str) -> "_Folder":
        """Return one of the folders in it."""
        return _Folder.of(f"{self.prefix}{name}/", self.folders[name])

    def all_files(self, but: Iterable[str] = ()) -> list[str]:
        """Return the files in it and, but for those in some folders, below it."""
        below = chain(*(names for name, names in self.folders.items() if name not in but))
        return [*self.files, *(name for name in below if not name.endswith("/"))]


@dataclass(slots=True)
class _Finder:
    where: str
    is_picture: Callable[[str], bool]
    read_text: Callable[[str], str]
    least: int  # classes
    is_wanted: Callable[[str], bool]
    unused: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def find(self, names: Iterable[str]) -> Layout:
        top = self._start(_Folder.of("", names))
        tops = self._tops(top)
        first = next((split for split in SPLITS if split in tops), None)  # train, where it is there
        if first is None and (below := self._splits_below(top)):
            return below
        if first is None:
            folder = top
        else:
            used = [path.prefix[len(top.prefix) :].partition("/")[0] for path in tops.values()]
            self.unused += top.all_files(but=used)
            folder = tops.pop(first)
        self.unused += folder.files
        class_names, images = self._first(folder)
        splits = {first or "train": images}
        for split, folder in tops.items():
            class_names += self._unwanted(folder, class_names)
            if found := self._split(split, folder, class_names):
                splits[split] = found
        return Layout(class_names, splits, self.unused, told=self.told)

    def _splits_below(self, top: _Folder) -> Layout | None:
        """Read the splits below each class; None where not all folders there are of splits."""
        class_names = tuple(sorted(top.folders))
        inside = {name: top.enter(name) for name in class_names}
        words = {name: self._words_below(one) for name, one in inside.items()}
        if len(inside) < 2 or not all(
            len(words[name]) == len(one.folders) > 0 and not self._pictures(one.files)
            for name, one in inside.items()
        ):
            if mixed := [name for name, found in words.items() if len(set(found.values())) > 1]:
                such = f"{', '.join(words[mixed[0]])} in {formatting.shorten(mixed)}"
                merged = "are all taken as train: not every class has folders of splits alone"
                self.told.append(f"{self._path(top)}: {such} {merged}")
            return None
        folders = dict[str, dict[str, list[str]]]()  # files by split and class
        for name, one in inside.items():
            for word, split in words[name].items():
                of_class = folders.setdefault(split, {}).setdefault(name, [])
                of_class += one.folders[word]
        self.unused += [*top.files, *(file for one in inside.values() for file in one.files)]
        tops = {s: _Folder(top.prefix, folders[s], []) for s in SPLITS if s in folders}
        self.told.append(f"{self._path(top)}: in each class, folders of splits: {', '.join(tops)}")
        splits = {split: self._by_class(folder, class_names) for split, folder in tops.items()}
        return Layout(class_names, splits, self.unused, told=self.told)

    def _words_below(self, folder: _Folder) -> dict[str, str]:
        """Return the splits of the folders in a class, by a word in their names if one is train."""
        found = {name: split for name in sorted(folder.folders) if (split := split_in(name))}
        return found if "train" in found.values() or all(map(split_of, found)) else {}

    def _path(self, folder: _Folder, name: str = "") -> str:
        return f"{self.where}/{folder.prefix}{name}".removesuffix("/")

    def _pictures(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if not name.endswith("/") and self.is_picture(name)]

    def _start(self, top: _Folder) -> _Folder:
        """Return the folder that all else lies in: a single one in the top, or the top itself."""
        inner = top
        while len(inner.folders) == 1 and not any(map(split_of, inner.folders)):
            inner = inner.enter(*inner.folders)
            if self._pictures(inner.files):
                break  # a class
        is_start = len(inner.folders) > 1 and not self._pictures(inner.files)
        if inner is top or not (is_start or "train" in map(split_of, inner.folders)):
            return top
        self.told.append(f"{self.where}: all is read from its folder {inner.prefix[:-1]}")
        self.unused += [name for name in top.all_files() if not name.startswith(inner.prefix)]
        return inner

    def _tops(self, top: _Folder) -> dict[str, _Folder]:
        """Return the folders of splits; none where all is train."""
        by_word = self._by_word(top)
        found = dict[str, list[str]]()
        for split in SPLIT_WORDS:
            named = [name for name in sorted(top.folders) if split_of(name) == split]
            if named := named or sorted(name for name, one in by_word.items() if one == split):
                found[split] = named
        meant = sorted(chain(*found.values()))
        if "train" not in found:
            is_split = meant and len(meant) == len(top.folders)
            for name in () if is_split else meant:
                taken = f"{self._path(top, name)}: taken for a class: there is no folder train"
                self.told.append(taken)
            if not is_split:
                return {}
        for split, several in found.items():
            if len(several) > 1:
                twice = f"{self._path(top)}: expected one folder for {split}, found"
                raise SourceError(f"{twice} {' and '.join(several)}", "rename or merge them")
        named = [f"{name} as {split}" for split, [name] in found.items() if name != split]
        if named:
            self.told.append(f"{self._path(top)}: folders are read so: {', '.join(named)}")
        return {split: self._inside(top.enter(name), split) for split, [name] in found.items()}

    def _by_word(self, top: _Folder) -> dict[str, str]:
        """Return the splits of folders that have a word for one in their names, such as
        ``seg_train``; none where these hold no folders of the same classes, but pictures.
        """
        words = {name: split for name in sorted(top.folders) if (split := split_in(name))}
        if len(set(words.values())) < 2 or "train" not in words.values():
            return {}
        inside = {name: self._inside(top.enter(name), split) for name, split in words.items()}
        classes = {
            name: set[str]() if self._pictures(one.files) else set(one.folders)
            for name, one in inside.items()
        }
        of_train = set[str]().union(*(classes[name] for name in words if words[name] == "train"))
        shared = [name for name in words if words[name] != "train" and classes[name] & of_train]
        if len(of_train) >= self.least and (shared or len(words) == len(top.folders)):
            return words
        loose = [name for name in words if not split_of(name)]
        if loose and "train" not in map(split_of, words):
            taken = "taken for classes, though the names have words for splits"
            self.told.append(f"{self._path(top)}: {taken}: {formatting.shorten(loose)}")
        return {}

    def _inside(self, folder: _Folder, split: str) -> _Folder:
        """Return the folder of the same split that is alone in one, as Kaggle's archives have."""
        while len(folder.folders) == 1 and not self._pictures(folder.files):
            [name] = folder.folders
            inner = folder.enter(name)
            if split_in(name) != split or not inner.folders:
                break
            self.unused += folder.files
            folder = inner
        return folder

    def _first(self, folder: _Folder) -> tuple[tuple[str, ...], ImageList]:
        """List the images of the split that says which classes there are."""
        class_names = tuple(sorted(folder.folders))
        if len(class_names) < self.least:
            raise self._few_classes(folder, class_names)
        images = self._by_class(folder, class_names)
        counts = np.bincount(images.labels, minlength=len(class_names))
        there = dict(zip(class_names, counts.tolist(), strict=True))
        if empty := [n for n, count in there.items() if not count and self.is_wanted(n)]:
            others = _choice(name for name, count in there.items() if count)
            self._refuse_empty(folder, empty[0], others)
        return class_names, images

    def _few_classes(self, folder: _Folder, class_names: Sequence[str]) -> FewClassesError:
        """Make the error of a folder that has no folders of classes, or too few."""
        number = {1: "one class", 2: "two classes"}[self.least]
        expected = f"expected a folder of images for each of {number} or more"
        found = f"found {len(class_names)}: {formatting.shorten(class_names) or 'none'}"
        message = f"{self.where}: {expected}, {found}"
        hint = "sort the images into folders: CLASS/*.png, or train/CLASS/*.png"
        loose = len(self._pictures(folder.files))
        if split := split_of(folder.prefix.rstrip("/").rpartition("/")[2]):
            message += f" ({self._path(folder)} is taken for the split {split})"
            hint += "; rename that folder if it is a class"
        elif not class_names and loose:
            lie = "1 picture lies" if loose == 1 else f"{loose:,} pictures lie"
            message = f"{self._path(folder)}: {lie} in it, in no class folder: {expected}"
            hint = "give the folder above, if this is one class of it; or a table: `labels=FILE`"
        elif not class_names and not folder.files:
            message = f"{self._path(folder)}: it is empty: {expected}"
            hint = "give the folder that has the images: CLASS/*.png, or train/CLASS/*.png"
        return FewClassesError(message, hint)

    def _refuse_empty(self, folder: _Folder, name: str, others: str) -> NoReturn:
        path, files = self._path(folder, name), folder.enter(name).all_files()
        if not files:
            hint = f"remove it, or take the others: {others}"
            raise SourceError(f"{path}: an empty class: no image in it", hint)
        no_image = f"{path}: expected images of a class, got {kinds(files)}"
        hint = f"none of these is a picture that is read; take the others: {others}"
        raise SourceError(no_image, hint)

    def _unwanted(self, folder: _Folder, class_names: Sequence[str]) -> tuple[str, ...]:
        """Return those classes of val or test that train lacks, and that are left out anyway."""
        flat = FLAT if len(folder.folders) == 1 else set[str]()
        unknown = sorted(folder.folders.keys() - set(class_names) - flat)
        return tuple(name for name in unknown if not self.is_wanted(name))

    def _by_class(self, folder: _Folder, class_names: Sequence[str]) -> ImageList:
        """List the pictures at any depth below each class, by name."""
        names, counts = list[str](), []
        for name in class_names:
            inside = folder.folders.get(name, [])
            pictures = sorted(self._pictures(inside))
            self.unused += _others(inside, pictures)
            names += pictures
            counts.append(len(pictures))
        return ImageList(names, np.repeat(np.arange(len(counts)), counts))

    def _split(self, split: str, folder: _Folder, class_names: tuple[str, ...]) -> ImageList | None:
        """List the images of val or test; none where they have no classes."""
        if tables := [name for name in folder.files if name.endswith(ANNOTATIONS)]:
            return self._annotated(folder, tables[0], class_names)
        found = {name for name in folder.folders if self._pictures(folder.folders[name])}
        if not found or (len(found) == 1 and found <= FLAT - set(class_names)):
            self._tell_flat(split, folder)
            return None
        if unknown := sorted(found - set(class_names)):
            differ = f"these differ: {formatting.shorten(unknown)}"
            expected = f"{self._path(folder)}: expected the classes of train, {differ}"
            hint = f"add them to train, or take the others: {_choice(class_names)}"
            if alike := _alike(unknown, class_names):
                expected += f"; {alike}, in other Unicode characters"
                hint = "give these folders one name"
            raise SourceError(expected, hint)
        self.unused += folder.all_files(but=class_names)
        return self._by_class(folder, class_names)

    def _tell_flat(self, split: str, folder: _Folder) -> None:
        files = folder.all_files()
        pictures = self._pictures(files)
        self.unused += _others(files, pictures)
        what = formatting.pluralize(len(pictures), "image") if pictures else "no image"
        way = f": `{split}_fraction` takes such a split from train"
        told = f"{self._path(folder)}: not used: {what}, in no folder of a class{way}"
        self.told.append(told)

    def _annotated(self, folder: _Folder, table: str, class_names: Sequence[str]) -> ImageList:
        """List the pictures that a table has classes of: lines of name, tab, class."""
        lines = [line.split("\t") for line in self.read_text(table).splitlines() if line.strip()]
        if short := next((line for line in lines if len(line) < 2), None):
            wrong = (
                f"{self.where}/{table}: expected lines of FILE, tab, CLASS, got {short[0]!r:.80}"
            )
            raise SourceError(wrong)
        classes = {name: class_name for name, class_name, *_ in lines}
        labels = {name: label for label, name in enumerate(class_names)}
        if unknown := sorted(set(classes.values()) - labels.keys()):
            listed = formatting.shorten(unknown)
            differ = f"expected the classes of train, these differ: {listed}"
            raise SourceError(f"{self.where}/{table}: {differ}")
        found = list[tuple[int, str]]()
        for name in folder.all_files():
            class_name = classes.get(PurePosixPath(name).name)
            if class_name is None or not self.is_picture(name):
                self.unused += [name] * (name != table)
            else:
                found.append((labels[class_name], name))
        told = f"{self.where}/{table}: names the classes of {len(found):,} images"
        absent = len(classes) - len({PurePosixPath(name).name for _, name in found})
        self.told.append(told + (f"; no image of {absent:,} more" if absent else ""))
        found.sort()
        return ImageList([name for _, name in found], np.array([i for i, _ in found], np.int64))


def _choice(class_names: Iterable[str]) -> str:
    """Spell the option that takes these classes alone; of many, without their names."""
    names = list(class_names)
    return f"`classes={shlex.quote(','.join(names))}`" if len(names) <= MOST_NAMED else "`classes`"


def _alike(names: Iterable[str], others: Iterable[str]) -> str:
    """Tell of a name that is shown as one of the others, but has other characters."""
    same = {unicodedata.normalize("NFC", one): one for one in others}
    found = (same.get(unicodedata.normalize("NFC", name)) for name in names)
    return next((f"{name} is there" for name in found if name), "")


def _others(names: Sequence[str], pictures: Sequence[str]) -> list[str]:
    """Return the files that are no pictures; mostly there are none."""
    if len(names) == len(pictures):
        return []
    known = set(pictures)
    return [name for name in names if name not in known and not name.endswith("/")]


def kinds(names: Sequence[str]) -> str:
    """Count files by their endings: 4 .pgm, 1 without ending."""
    counts = dict[str, int]()
    for name in names:
        kind = PurePosixPath(name).suffix.lower() or "without ending"
        counts[kind] = counts.get(kind, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return formatting.shorten(f"{count:,} {printable(kind)}" for kind, count in ordered)
