"""Read arrays that a user's files hold: one file, a file a split, or a folder of them."""

import logging
import os
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import takewhile
from pathlib import Path, PurePath
from typing import Any, ClassVar, Protocol  # Any: JSON values

import numpy as np

from pixelprep.errors import SourceError
from pixelprep.sources import axes
from pixelprep.sources.assemble import assemble
from pixelprep.sources.base import Raw, SourceContext, scaled_already
from pixelprep.sources.containers import array_names, exported
from pixelprep.sources.containers.array_names import SPLIT, Header, Keys, Place
from pixelprep.sources.lazy_arrays import LazyArray, copied_arrays
from pixelprep.sources.local import LocalSource
from pixelprep.sources.split_names import split_of
from pixelprep.system import formatting, fs, notices

DIGITS = tuple("0123456789")
SVHN = re.compile(r"(train|test|extra)_32x32\.mat|.*svhn.*\.mat", re.IGNORECASE)

LOG = logging.getLogger("pixelprep")

Stored = tuple[tuple[int, ...], str]  # shape and dtype of an array that was copied to a file


class Container(Protocol):
    """A file that holds arrays, open for reading."""

    def headers(self, wanted: Iterable[str]) -> Mapping[str, Header]:
        """Return the arrays by key; those `wanted`, too, wherever they are."""

    def copy(self, key: str, role: str, target: Path) -> Generator[None, None, Stored]:
        """Copy an array to a new file, C order; yield as signs of life."""

    def texts(self, key: str) -> list[str]:
        """Return an array of text."""

    def exported_key(self, split: str, column: str) -> str | None:
        """Return the key of a split's column in an export of ours; None in any other file."""


class Opener(Protocol):
    """What opens a container."""

    def __call__(self, path: Path, stack: ExitStack, layout: str | None) -> Container: ...


class ArrayFiles(LocalSource):
    """Files that hold arrays; subclasses open them."""

    supported_options: ClassVar[frozenset[str]] = frozenset(
        {"images_key", "labels_key", "layout", "shape"}
        | {"labels_from", "renumber", "on_leak", "on_error"}
    )
    endings: ClassVar[tuple[str, ...]]
    usual_layout: ClassVar[str | None] = None  # of images that are no flat rows

    def load(self, context: SourceContext) -> Raw:
        """Read train and what other splits there are; without splits, all images as train."""
        where = os.fspath(self.path)
        options = self.options
        keys = {role: getattr(options, f"{role}_key") for role in array_names.ROLES}
        arguments = {
            "path": where,
            "files": {name: os.fspath(path) for name, path in self._main().items()},
            "others": {name: os.fspath(path) for name, path in self._others().items()},
            "keys": keys,
            "family": family_of(self.path),
            "folder": os.fspath(context.folder()),
            "layout": options.layout,
            "export": exported.columns(self.path),
        }
        found = self._copied(arguments)
        if "export" in found:
            arrays = {split: copied_arrays(columns) for split, columns in found["export"].items()}
            return exported.undone(self.path, arrays, options, context)
        LOG.info("%s: %s", self.name, found["taken"])
        for split, name in found["unlabelled"].items():
            notices.tell("%s: no labels for %s: %s is left out", self.name, name, split)
        if found["unused"]:
            notices.tell("%s: arrays not used: %s", self.name, formatting.shorten(found["unused"]))
        if found["class_names"]:
            told = (self.name, found["names_from"], formatting.shorten(found["class_names"]))
            LOG.info("%s: classes are named by %s: %s", *told)
        arrays = {split: copied_arrays(pair) for split, pair in found["pairs"].items()}
        pairs: dict[str, tuple[LazyArray, LazyArray]] = {
            split: (axes.shaped(f"{where}: {split}", pair["images"], options.shape), pair["labels"])
            for split, pair in arrays.items()
        }
        if all(len(pair["images"].shape) > 2 for pair in arrays.values()):
            options = replace(options, layout=options.layout or self.usual_layout)
        if found["class_names"] or not _are_svhn(self._main(), pairs):
            return assemble(where, pairs, options, class_names=found["class_names"])
        names, says = DIGITS, "10 is taken as the digit 0, as in SVHN"
        if options.labels_from == 1:
            names = (*DIGITS[1:], DIGITS[0])
        elif options.labels_from is None:
            pairs = {n: (images, np.asarray(y[:]) % 10) for n, (images, y) in pairs.items()}
        LOG.info("%s: labels 1 to 10: %s", self.name, says)
        raw = assemble(where, pairs, options, class_names=names)
        return replace(raw, decode={**raw.decode, "labels": "10 is 0"})

    def _copied(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return what `copied` finds, of these arguments."""
        raise NotImplementedError

    def _stamps(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        files = self._main() | self._others() | exported.beside(self.path)
        return [(name, fs.file_stamp(files[name])) for name in sorted(files)]

    def _main(self) -> dict[str, Path]:
        """Return the files that the path stands for, by name."""
        if is_family(self.path):
            paths = list(expand(self.path).values())
        elif self.path.is_dir():
            folders = split_folders(self.path) or [self.path]
            held = [path for folder in folders for path in fs.sorted_dir(folder)]
            shown = [path for path in held if not path.name.startswith(".")]
            paths = [p for p in shown if p.suffix.lower() in self.endings and p.is_file()]
        else:
            paths = [self.path]
        return {os.fspath(path.relative_to(folder_of(self.path))): path for path in paths}

    def _others(self) -> dict[str, Path]:
        """Return the files that options name, by the name there."""
        folder = folder_of(self.path)
        found: dict[str, Path] = {}
        for role in array_names.ROLES:
            name, _ = array_names.file_and_key(getattr(self.options, f"{role}_key") or "")
            if SPLIT in name:
                paths = expand(folder / name).values()
                found |= {os.fspath(path.relative_to(folder)): path for path in paths}
            elif name:
                found[name] = folder / name
            if name and not name.endswith(self.endings):
                ours = " or ".join(self.endings)
                raise SourceError(f"`{role}_key`: {name}: expected a file that ends in {ours}")
        for name, path in found.items():
            if not path.is_file():
                raise SourceError(f"{path}: no such file", f"write FILE:KEY, FILE beside {name}")
        return found


def _are_svhn(files: Iterable[str], pairs: Mapping[str, tuple[LazyArray, LazyArray]]) -> bool:
    """Tell files in SVHN's form, whose label 10 is the digit 0, by their names and labels."""
    if not all(map(SVHN.fullmatch, files)):
        return False
    values = np.unique(np.concatenate([np.unique(labels[:]) for _, labels in pairs.values()]))
    return np.array_equal(values, range(1, 11))


def is_family(path: Path) -> bool:
    """Tell whether a path has {split} in its name, or in its folder's, and stands for several."""
    return SPLIT in os.fspath(path) and not path.exists()


def folder_of(path: Path) -> Path:
    """Return the folder that all files are in that a path stands for."""
    if is_family(path):
        return Path(*takewhile(lambda part: SPLIT not in part, path.parts))
    return path if path.is_dir() else path.parent


def split_folders(folder: Path) -> list[Path]:
    """Return the folders of splits that are all that a folder has, but for notes; else none."""
    shown = [one for one in fs.sorted_dir(folder) if not one.name.startswith(".")]
    # Not links, which may lead out of the folder.
    folders = [one for one in shown if one.is_dir() and not one.is_symlink()]
    splits = {array_names.meaning(one.name).split for one in folders}
    is_alone = not any(one.name.lower().endswith(array_names.ENDINGS) for one in shown)
    return folders if is_alone and len(splits) > 1 and None not in splits else []


def expand(path: Path) -> dict[str, Path]:
    """Return the files that a path with {split} in it stands for, by split; refuse none."""
    above = folder_of(path)
    named, *below = path.parts[len(above.parts) :]
    pattern = "(.*)".join(map(re.escape, named.split(SPLIT, 1)))
    found: dict[str, Path] = {}
    for other in fs.sorted_dir(above):
        match = re.fullmatch(pattern, other.name)
        if match and (split := split_of(match[1])):
            file = other.joinpath(*(part.replace(SPLIT, match[1]) for part in below))
            if below and not file.exists():
                continue
            if split in found:
                both = f"{found[split].relative_to(above)} and {file.relative_to(above)}"
                raise SourceError(f"{path}: two files are {split}: {both}", "move one away")
            found[split] = file
    if not found:
        expected = f"{SPLIT} stands for train, val or test, or another word for these"
        raise SourceError(f"{path}: no such files: {expected}")
    return found


def family_of(path: Path) -> str | None:
    """Return what stands for a file, or a folder, and for those of other splits beside it: a path
    with {split}, or the folder above.
    """
    if SPLIT in os.fspath(path):
        return None
    if path.is_dir():
        above = path.absolute().parent
        is_one = split_of(path.name) and path.absolute() in split_folders(above)
        return _spelled(path.parent) if is_one else None
    for word in re.finditer("[A-Za-z][a-z]*", path.stem):
        if split_of(word[0]):
            name = path.name[: word.start()] + SPLIT + path.name[word.end() :]
            if len(expand(path.with_name(name))) > 1:
                return _spelled(path.with_name(name))
    if split_of(path.parent.name):
        every = path.parent.with_name(SPLIT) / path.name
        return _spelled(every) if len(expand(every)) > 1 else None
    return None


def copied(
    opener: Opener,
    path: str,
    files: Mapping[str, str],
    others: Mapping[str, str],
    keys: Mapping[str, str | None],
    family: str | None,
    folder: str,
    layout: str | None,
    export: Mapping[str, list[str]] | None,
) -> Iterator[Any]:  # what the sandbox passes on
    """Copy arrays to files; yield None as signs of life, and in the end what was found.

    Of an export of ours, copy these columns of its splits.
    """
    asked = Keys(list(files), keys, PurePath(path).name not in files)
    wanted = [place for role, key in keys.items() if key for _, place in asked.wanted(role)]
    with ExitStack() as stack:
        opened = {n: opener(Path(p), stack, layout) for n, p in {**files, **others}.items()}
        if any(one.exported_key("", "images") for one in opened.values()):
            if export is None or len(opened) > 1:
                raise scaled_already(path)
            (one,) = opened.values()
            yield from _copied_export(path, one, export, folder)
            return
        arrays = {
            Place(name, key): header
            for name, one in opened.items()
            for key, header in one.headers([k for n, k in wanted if n == name]).items()
        }
        if [header.dtype for header in arrays.values()] == [array_names.UNREADABLE]:
            [(file, key)] = arrays
            yield from opened[file].copy(key, "images", Path(folder, "unread.0"))  # which says why
        selection = array_names.select(path, arrays, asked)
        places = [place for pair in selection.pairs.values() for place in pair.values()]
        _refuse_part_of_family(path, selection, arrays, asked, family)
        texts = {p: tuple(opened[p.file].texts(p.key)) for p in selection.class_names}
        names = {found for found in texts.values() if found}
        naming = [place for place, found in texts.items() if found]
        if len(names) > 1:
            listed = formatting.shorten(map(array_names.spell, naming))
            raise SourceError(f"{path}: class names differ: {listed}", "keep one of them")
        pairs: dict[str, dict[str, Any]] = {}
        for split, pair in selection.pairs.items():
            pairs[split] = {}
            for role, place in pair.items():
                if place.file not in opened or place not in arrays:
                    may_be = array_names.likely(place, role, selection.unused)
                    if may_be and not keys[role]:
                        raise _open_choice(path, split, role, may_be)
                    _raise_missing(path, place, arrays, opened)
                target = Path(folder, f"{split}-{role}.0")
                shape, dtype = yield from opened[place.file].copy(place.key, role, target)
                pairs[split][role] = os.fspath(target), shape, dtype
    several = len({place.file for place in places}) > 1
    yield {
        "pairs": pairs,
        "taken": selection.describe(),
        "unlabelled": {n: array_names.spell(p, several) for n, p in selection.unlabelled.items()},
        "unused": sorted(
            array_names.spell(place, len(opened) > 1)
            for place in [*selection.unused, *(texts.keys() - {*naming})]
        ),
        "class_names": list(*names),
        "names_from": formatting.shorten(array_names.spell(place, several) for place in naming),
    }


def _copied_export(
    path: str, opened: Container, export: Mapping[str, list[str]], folder: str
) -> Iterator[Any]:
    found: dict[str, dict[str, Any]] = {split: {} for split in export}
    held = opened.headers([])
    for split, columns in export.items():
        for column in columns:
            key, target = opened.exported_key(split, column), Path(folder, f"{split}-{column}.0")
            if key is None or key not in held:
                raise SourceError(f"{path}: no array under the key {key}", "export it again")
            role = "labels" if column == "names" else "images"
            shape, dtype = yield from opened.copy(key, role, target)
            found[split][column] = os.fspath(target), shape, dtype
    yield {"export": found}


def _refuse_part_of_family(
    path: str,
    selection: array_names.Selection,
    arrays: Mapping[Place, Header],
    asked: Keys,
    family: str | None,
) -> None:
    """Refuse a file that holds one split, where files of the others lie beside it."""
    found = [set(pair.values()) & arrays.keys() for pair in selection.pairs.values()]
    found = [places for places in found if places]
    if not family or len(found) != 1 or any(asked.given.values()):
        return
    if len(found[0]) < len(array_names.ROLES):  # the labels lie in another file, too
        raise SourceError(
            f"{path}: is one file of several",
            f"give their folder: {_spelled(folder_of(Path(family)))}",
        )
    pair = next(pair for pair in selection.pairs.values() if found[0] & set(pair.values()))
    keys = {role: array_names.spell(place, several=False) for role, place in pair.items()}
    alone = " ".join(f"`{role}_key={key}`" for role, key in keys.items())
    beside = f"{path}: is one split, and files of others lie beside it"
    raise SourceError(beside, f"give them all: {family}; or this one alone: {alone}")


def _open_choice(path: str, split: str, role: str, found: Mapping[Place, str]) -> SourceError:
    """Make the error for what is not known by its name, but may be one of some arrays."""
    listed = formatting.shorten(place.key for place in found)
    key = next(iter(found.values()))
    unknown = f"{path}: no {role} of {split} under a usual name; it may be {listed}"
    return SourceError(unknown, f"name it: `{role}_key={key}`")


def _raise_missing(
    path: str,
    place: Place,
    arrays: Mapping[Place, Header],
    opened: Mapping[str, Container],
) -> None:
    if place.file in opened:
        opened[place.file].headers([place.key])  # says more where the key is a link
    name = array_names.spell(place, len(opened) > 1 or place.file not in opened)
    missing = f"{path}: no array under the key {name}; it holds"
    folder = _spelled(folder_of(Path(path)))
    hint = f"where other files hold the rest, give their folder: {folder}"
    named = array_names.meaning(PurePath(path).stem)[:2] != (None, None)
    beside = not Path(path).is_dir() and named
    raise SourceError(f"{missing} {array_names.describe_held(arrays)}", hint if beside else None)


def _spelled(path: Path) -> str:
    """Spell a path with a slash, which tells it from a name."""
    return os.fspath(path) if "/" in os.fspath(path) else f"./{path}"
