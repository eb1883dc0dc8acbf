"""Read WebDataset tars: files that follow each other and share a key are one row.

```
KEY.jpg, KEY.cls    the picture, and its class: a number or text
KEY.jpg, KEY.json   likewise, the class as label, class or cls of an object, or as it is
```

Splits are told by the names of tars or of their folders, or else by folders in all keys: train/KEY.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any  # Any: JSON values

from pixelprep.errors import SourceError
from pixelprep.format.recipe import SPLITS
from pixelprep.sources import shards
from pixelprep.sources.base import Raw, SourceContext
from pixelprep.sources.containers import exported
from pixelprep.sources.containers.array_names import SPLIT
from pixelprep.sources.lazy_arrays import LazyArray
from pixelprep.sources.libraries.spool import GROUPED, Row, RowStreams, load_rows
from pixelprep.sources.local import LocalSource
from pixelprep.sources.pictures import image_file, members
from pixelprep.sources.split_names import files_by_split, split_of
from pixelprep.system import formatting, fs, notices

# As the library webdataset has it: a key ends at the first point of the last part of a name.
KEY = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
LABELS, IN_JSON = ("cls", "json"), ("label", "class", "cls")
SOME = 1000  # names of a tar, by which it is known
TOGETHER = "a key's picture and class must follow each other: tar --sort=name writes them so"
NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")  # in a name that stands for several: {000..009}


@dataclass(frozen=True, slots=True)
class _Kinds:
    """The endings that were met, each once."""

    pictures: dict[str, None] = field(default_factory=dict)
    labels: dict[str, None] = field(default_factory=dict)
    unused: dict[str, None] = field(default_factory=dict)

    def __str__(self) -> str:
        named = {"pictures": self.pictures, "labels": self.labels, "not used:": self.unused}
        return ", ".join(f"{what} {_listed(kinds)}" for what, kinds in named.items() if kinds)


def _listed(kinds: Iterable[str]) -> str:
    return formatting.shorten(f".{kind}" for kind in kinds)


class WebDataset(LocalSource):
    """A tar, several of a name with numbers, {000..009}, or a folder of them."""

    supported_options = GROUPED

    @property
    def name(self) -> str:
        """The name without endings and numbers."""
        bare = NUMBERS.sub("", self.path.name)
        ending = next((one for one in members.TAR if bare.lower().endswith(one)), "")
        stem = bare.removesuffix(bare[len(bare) - len(ending) :]).rstrip("-_.")
        return LocalSource(self.path.with_name(stem or "images"), self.options).name

    def _stamps(self) -> list[tuple[str, tuple[int, ...]]]:
        paths = tars_at(self.path)
        return [(os.path.relpath(path, self.path), fs.file_stamp(path)) for path in paths]

    def load(self, context: SourceContext) -> Raw:
        """Read all tars once, in the order of their names."""
        tars, kinds = tars_at(self.path), _Kinds()
        own = exported.source_of(self.path)
        splits = {"train": tars}
        if self.path.is_dir():
            splits = files_by_split(os.fspath(self.path), tars, self.path)
        elif SPLIT in self.path.name:
            splits = _family(self.path)
        shards.refuse_missing(os.fspath(self.path), chain(*splits.values()), tars)
        group = self.options.group_column
        read = partial(_rows, kinds=kinds, group=group, named=own is not None)
        readers = {split: partial(read, paths) for split, paths in splits.items()}
        if splits.keys() == {"train"} and (words := self._splits_of_keys(tars)):
            readers = {split: partial(read, tars, split=split) for split in words}
        rows = RowStreams(readers, grouped=group is not None)
        if own is not None:
            rows = replace(rows, class_names=own.class_names, task=own.task)
        raw = load_rows(self.name, rows, self.options, context)
        raw = exported.recognized(self.path, raw, context.pool)
        if readers.keys() == {"train"} and (names := raw.splits["train"].names) is not None:
            self._tell_folders(names)
        what = formatting.pluralize(sum(map(len, splits.values())), "tar")
        notices.tell("%s: a WebDataset of %s: %s", self.path, what, kinds)
        return raw

    def _splits_of_keys(self, tars: Sequence[Path]) -> list[str]:
        """Return the splits whose folders all pictures are in; none where some are in none."""
        found = set[str | None]()
        for name in chain(*map(members.tar_names, tars)):
            if name.lower().endswith(image_file.SUFFIXES) and not _is_hidden(name):
                found.add(_split_of_key(name))
                if None in found:
                    return []
        words = [split for split in SPLITS if split in found]
        if words:
            notices.tell("%s: splits are folders in it: %s", self.path, ", ".join(words))
        return words

    def _tell_folders(self, names: LazyArray) -> None:
        """Tell of folders of splits among others, all of which are taken as train."""
        found = {_split_of_key(name.decode()): name.decode() for name in names[:].tolist()}
        if len(found) > 1:
            some = formatting.shorten(found.values())
            notices.tell("%s: all taken as train: not all lie in a split: %s", self.path, some)


def is_webdataset(path: Path) -> bool:
    """Return whether the first picture in a tar has its class beside it, or a class is in a file,
    which no other tar has.
    """
    try:
        for _, parts in _samples(path):
            if pictures := _pictures(parts):
                if len(pictures) == 1 and _label(path, parts) is not None:
                    return True
                break
        return any(one.lower().endswith(".cls") for one in islice(members.tar_names(path), SOME))
    except SourceError:  # damaged, which is told when it is read
        pass
    return False


def tars_at(path: Path) -> list[Path]:
    """List the tars that a path means, by name; of a folder that holds other data, none."""
    if is_family(path):
        return sorted(chain(*_family(path).values()))
    if numbers := NUMBERS.search(path.name):
        first, last = numbers.groups()
        every = (f"{n:0{len(first)}}" for n in range(int(first), int(last) + 1))
        return [path.with_name(NUMBERS.sub(number, path.name, count=1)) for number in every]
    if not path.is_dir():
        return [path]
    found = list[Path]()
    for one in fs.sorted_dir(path):
        if members.is_hidden(one.name):
            continue
        if one.is_dir() and split_of(one.name) and not one.is_symlink():
            found += tars_at(one)
        elif one.is_dir() or one.name.lower().endswith(image_file.SUFFIXES):
            return []
        elif one.name.lower().endswith(members.TAR):
            found.append(one)
    return found


def is_family(path: Path) -> bool:
    """Return whether a path with {split} in its name stands for tars."""
    return SPLIT in path.name and path.name.lower().endswith(members.TAR) and not path.exists()


def _family(path: Path) -> dict[str, list[Path]]:
    """Return by split the tars that {split}, and perhaps * for their numbers, stand for."""
    parts = map(re.escape, path.name.split(SPLIT, 1))
    pattern = "([A-Za-z]+)".join(parts).replace(r"\*", ".*")
    found, words = dict[str, list[Path]](), dict[str, str]()
    for one in fs.sorted_dir(path.parent):
        match = re.fullmatch(pattern, one.name)
        if match and (split := split_of(match[1])):
            found.setdefault(split, []).append(one)
            if words.setdefault(split, match[1]) != match[1]:
                both = f"{words[split]} and {match[1]}"
                raise SourceError(f"{path}: two words mean {split}: {both}", "move one away")
    if not found:
        expected = f"{SPLIT} stands for train, val or test, or another word for these, * for any"
        raise SourceError(f"{path}: no such files: {expected}")
    return {split: found[split] for split in SPLITS if split in found}


def _split_of_key(name: str) -> str | None:
    """Return the split whose folder a file of a tar is in."""
    return next(filter(None, map(split_of, name.split("/")[:-1])), None)


def _is_hidden(name: str) -> bool:
    return any(map(members.is_hidden, name.split("/")))


def _samples(path: Path, split: str | None = None) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield each key of a tar, or of the folder of a split, and its files by their endings."""
    key, parts = "", dict[str, bytes]()

    def is_wanted(name: str) -> bool:
        return not _is_hidden(name) and split in (None, _split_of_key(name))

    for name, content in members.read_tar(path, is_wanted):
        match = KEY.fullmatch(name)
        if match is None:
            continue
        if match[1] != key and parts:
            yield key, parts
            parts = {}
        key, ending = match[1], match[2].lower()
        if ending in parts:
            raise SourceError(f"{path}: contains {name} twice", members.NEW_COPY)
        parts[ending] = content
    if parts:
        yield key, parts


def _pictures(parts: Iterable[str]) -> list[str]:
    """Return the endings of pictures: png; or where there is none such, img.png."""
    exact = [ending for ending in parts if f".{ending}" in image_file.SUFFIXES]
    return exact or [one for one in parts if one.endswith(image_file.SUFFIXES)]


def _label(path: Path, parts: dict[str, bytes]) -> tuple[str, Any] | None:
    """Return the ending of the file that has a row's class, and the class; None without one."""
    for kind in LABELS:
        if kind not in parts:
            continue
        try:
            text = parts[kind].decode().strip()
            label = _in_json(json.loads(text)) if kind == "json" else _number_or_text(text)
        except ValueError as error:
            raise SourceError(f"{path}: a .{kind} file: cannot read: {error}") from error
        if label is not None and label != "":
            return kind, label
    return None


def _number_or_text(text: str) -> int | str:
    return int(text) if re.fullmatch("-?[0-9]{1,18}", text) else text


def _in_json(value: Any) -> Any:
    if isinstance(value, dict):
        return next((value[key] for key in IN_JSON if value.get(key) is not None), None)
    return value


def _value(where: str, parts: dict[str, bytes], name: str) -> Any:
    """Return the value of this name in the object of a row's .json file, if it has any."""
    try:
        found = json.loads(parts.get("json", b"null"))
    except ValueError as error:
        raise SourceError(f"{where}: a .json file: cannot read: {error}") from error
    return found.get(name) if isinstance(found, dict) else None


def _group(where: str, parts: dict[str, bytes], name: str) -> str:
    if (found := _value(where, parts, name)) is None:
        raise SourceError(
            f"{where}: `group_column={name}`: expected it in the object of a .json file"
        )
    return str(found)


def _rows(
    paths: Sequence[Path],
    kinds: _Kinds,
    group: str | None,
    named: bool,
    split: str | None = None,
) -> Iterator[Row]:
    """Yield the rows of tars; of those that are `named` by their .json files, or not at all."""
    for path in paths:
        for key, parts in _samples(path, split):
            pictures, label = _pictures(parts), _label(path, parts)
            if not pictures and label is None:  # of no row
                kinds.unused.update(dict.fromkeys(parts))
                continue
            if label is None or len(pictures) != 1:
                found = "no class" if label is None else f"{len(pictures)} pictures"
                expected = "expected one picture, and its class in a .cls or .json file"
                hint = "keep one in each key" if len(pictures) > 1 else TOGETHER
                raise SourceError(f"{path}: {key}: {expected}, got {found}: {_listed(parts)}", hint)
            kinds.pictures[pictures[0]] = kinds.labels[label[0]] = None
            used = {pictures[0], label[0], "json" if group or named else None}
            kinds.unused.update(dict.fromkeys(parts.keys() - used))
            where, name = f"{path}: {key}", f"{key}.{pictures[0]}"
            name = _value(where, parts, "name") if named else name
            groups = [] if group is None else [_group(where, parts, group)]
            yield parts[pictures[0]], label[1], name, *groups
