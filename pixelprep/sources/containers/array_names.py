"""Know images and labels by the names of arrays, whatever holds them; read nothing."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import PurePath
from typing import NamedTuple

from pixelprep.errors import SourceError, UsageError
from pixelprep.format.recipe import SPLITS
from pixelprep.sources.split_names import SPLIT_WORDS, split_of
from pixelprep.system import formatting

SPLIT = "{split}"  # in a key or a file's name: stands for train, val and test
ENDINGS = (".npz", ".npy", ".h5", ".hdf5", ".mat")  # of files that hold arrays
ROLES = ("images", "labels")
PARTNERS = {  # words for images, each with the one for labels that goes with it
    **{"x": "y", "images": "labels", "image": "label", "imgs": "labels", "img": "label"},
    **{"pixels": "labels", "data": "target"},
}
LABEL_WORDS = ("y", "labels", "label", "target", "targets", "ans")
WEAK = "data"  # means images where nothing else says what an array is
FILLERS = ("set", "dataset", "arr", "0")  # say nothing; arr_0 is NumPy's own name
CLASS_NAMES = ("list_classes", "label_names", "class_names", "classes")
TEXT = ("char", "cell")  # of MATLAB's classes those that may be text
UNREADABLE = "unreadable"  # a type
SHORT_SPLITS = {"tr": "train", "va": "val", "te": "test"}  # beside a word for images or labels
ATTRIBUTE = "@"  # between an array's key and the name of its attribute


class Place(NamedTuple):
    """Where an array is: the file's name, and the array's key in it (a .npy file has none)."""

    file: str
    key: str


class Header(NamedTuple):
    """What a container says of an array."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def is_text(self) -> bool:
        is_numpy = self.dtype.strip("|<>=")[:1] in ("S", "U", "o")  # h5py's text is `object`
        return is_numpy or self.dtype in TEXT


class Meaning(NamedTuple):
    """What words say: a split and a role, each None where they name none, or several."""

    split: str | None
    role: str | None
    weak: bool  # whether only `WEAK` says that it is images
    known: bool  # whether there is no other word


@dataclass(frozen=True, slots=True)
class Keys:
    """Which arrays are asked for, by role: ``KEY`` or ``FILE:KEY``, None where it is guessed."""

    files: Sequence[str]  # names of the files that the dataset's path stands for
    given: Mapping[str, str | None]
    by_file: bool  # whether the files' names tell of splits

    def wanted(self, role: str) -> Iterator[tuple[str, Place]]:
        """Yield the places that a given key may stand for, each with its split."""
        file, key = file_and_key(self.given[role] or "")
        for name in [file] if file else self.files:
            own = file_meaning(name).split if self.by_file and not file else None
            for split, words in _spellings().items():
                if own not in (None, split):
                    continue
                found = [(name.replace(SPLIT, word), key.replace(SPLIT, word)) for word in words]
                for place in dict.fromkeys(found) if own or self.has_splits(role) else found[:1]:
                    yield split, Place(*place)
                if not own and not self.has_splits(role):
                    break  # without splits, all of it is train

    def has_splits(self, role: str) -> bool:
        """Return whether a given key stands for an array of each split."""
        given = self.given[role] or ""
        return SPLIT in given or (self.by_file and not file_and_key(given)[0])


@dataclass(frozen=True, slots=True)
class Selection:
    """The arrays to read, by split and role; those of class names; and those of no use.

    `unlabelled` are images of splits other than train without labels, which are left out.
    """

    pairs: Mapping[str, Mapping[str, Place]]
    unlabelled: Mapping[str, Place]
    class_names: Sequence[Place]
    unused: Sequence[Place]

    def describe(self) -> str:
        """Say in a line what was taken for what."""
        several = len({place.file for pair in self.pairs.values() for place in pair.values()}) > 1
        return "; ".join(
            f"{split} is {spell(pair['images'], several)}, {spell(pair['labels'], several)}"
            for split, pair in self.pairs.items()
        )


def spell(place: Place, several: bool = True) -> str:
    """Write a place as the options take it; only the key if all is in one file."""
    return place.key or place.file if not several else ":".join(filter(None, place))


def meaning(text: str) -> Meaning:
    """Return what a key or a file's name says."""
    found = _words(text)
    splits = {split for split in map(_split, found) if split}
    roles = {role for word in found if (role := _role(word)) and word != WEAK}
    weak = not roles and WEAK in found
    roles = {"images"} if weak else roles
    rest = [w for w in found if not (_split(w) or _role(w) or w in FILLERS)]
    known = not rest and len(splits) < 2 and len(roles) < 2
    one_split, one_role = (next(iter(s)) if len(s) == 1 else None for s in (splits, roles))
    return Meaning(one_split, one_role, weak, known)


def file_meaning(name: str) -> Meaning:
    """Return what a file's name says, with its folder's where that is a part of it."""
    path = PurePath(name)
    return meaning(str(path.parent / path.stem))


def select(where: str, arrays: Mapping[Place, Header], keys: Keys) -> Selection:
    """Choose the images and labels of each split.

    What is missing of a pair is in it all the same, by the name that it should have. Raises
    `SourceError` where nothing is known by its name, or two arrays are known as the same.
    """
    given = {role: key for role, key in keys.given.items() if key}
    splits_of = {role: keys.has_splits(role) for role in given}
    if len(set(splits_of.values())) > 1:
        raise UsageError(f"`images_key` and `labels_key`: expected {SPLIT} in both or none")
    guessed = _guess(arrays, keys.by_file)
    if not given and all("train" not in f and len(f.get(None, ())) == 1 for f in guessed.values()):
        for found in guessed.values():  # X beside X_test, or all there is
            found["train"] = found.pop(None)
    by_split = any(splits_of.values()) if given else any(any(found) for found in guessed.values())
    columns = {
        role: _given(arrays, keys, role)
        if role in given
        else _only(where, role, _of_splits(guessed[role], by_split, bool(given)), keys)
        for role in ROLES
    }
    if not any(columns.values()):
        held = describe_held(arrays)
        none = f"{where}: no images and labels under the usual names; it holds {held}"
        if len(arrays) > 2 and all(re.fullmatch("arr_[0-9]+", place.key) for place in arrays):
            way = "save them by name: numpy.savez(FILE, x_train=…, y_train=…, x_test=…, y_test=…)"
            raise SourceError(none, way)
        named = f"name them: `images_key=KEY` `labels_key=KEY`, {SPLIT} in them for train, val"
        raise SourceError(none, f"{named} and test; FILE:KEY for another file")
    present = {split for column in columns.values() for split in column}
    pairs = {name: _pair(columns, name) for name in SPLITS if name in present}
    unlabelled = {
        split: pair["images"]
        for split, pair in pairs.items()
        if split != "train" and pair["images"] in arrays and pair["labels"] not in arrays
    }
    if "train" not in pairs or pairs["train"]["labels"] not in arrays:
        unlabelled = {}  # which says that labels are elsewhere
    pairs = {split: pair for split, pair in pairs.items() if split not in unlabelled}
    used = {place for pair in pairs.values() for place in pair.values()} | {*unlabelled.values()}
    names = [place for place, header in arrays.items() if _names_classes(place, header, used)]
    unused = [p for p in arrays if p not in used and p not in names and ATTRIBUTE not in p.key]
    return Selection(pairs, unlabelled, names, unused)


def describe_held(arrays: Mapping[Place, Header]) -> str:
    """List arrays with their shapes and types."""
    several = len({place.file for place in arrays}) > 1
    shown = {spell(place, several): header for place, header in sorted(arrays.items())}
    found = [f"{name} {h.shape} {h.dtype}" for name, h in shown.items() if ATTRIBUTE not in name]
    return formatting.shorten(found) or "nothing"


def likely(place: Place, role: str, unused: Iterable[Place]) -> dict[Place, str]:
    """Return the arrays that may be what is missing at a place, each with its key of any split."""
    split = meaning(place.key).split

    def of_any(word: re.Match[str]) -> str:
        return SPLIT if split and _split(word[0]) == split else word[0]

    return {
        other: re.sub("[A-Za-z][a-z]*", of_any, other.key)
        for other in unused
        if meaning(other.key)[:2] == (split, role)
    }


def _words(text: str) -> list[str]:
    """Divide a name at signs, between small and capital letters, and before numbers."""
    return [w.lower() for w in re.findall("[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+", text)]


def _split(word: str) -> str | None:
    return split_of(word) or SHORT_SPLITS.get(word.lower())


def _role(word: str) -> str | None:
    return "images" if word in PARTNERS else "labels" if word in LABEL_WORDS else None


def file_and_key(given: str) -> tuple[str, str]:
    """Divide ``FILE:KEY``; a file is known by its ending."""
    found = re.fullmatch(rf"(.*(?:{'|'.join(map(re.escape, ENDINGS))}))(?::(.*))?", given)
    return (found[1], found[2] or "") if found else ("", given)


def _spellings() -> dict[str, list[str]]:
    """Return by split all words for it, in the usual cases."""
    forms = (str.lower, str.capitalize, str.upper)
    short = {split: word for word, split in SHORT_SPLITS.items()}
    return {
        split: [form(word) for word in (*words, short[split]) for form in forms]
        for split, words in SPLIT_WORDS.items()
    }


def _guess(
    arrays: Mapping[Place, Header], by_file: bool
) -> dict[str, dict[str | None, list[Place]]]:
    """Return the arrays whose names say it, by role and split."""
    found: dict[str, dict[str | None, list[Place]]] = {role: defaultdict(list) for role in ROLES}
    silent = _silent_groups(arrays)
    for place in arrays:
        *groups, name = place.key.split("/")
        telling = [group for group in groups if group not in silent[place.file]]
        own, file = meaning("/".join([*telling, name])), file_meaning(place.file)
        if not own.known or ATTRIBUTE in place.key or not _is_plain(place.key):
            continue
        role = file.role if own.role is None or (own.weak and file.role) else own.role
        if role:
            found[role][own.split or (file.split if by_file else None)].append(place)
    return found


def _silent_groups(arrays: Iterable[Place]) -> dict[str, list[str]]:
    """Return by file those groups that all of it is in whose names say nothing."""
    groups = defaultdict[str, list[list[str]]](list)
    for place in (place for place in arrays if ATTRIBUTE not in place.key):
        groups[place.file].append(place.key.split("/")[:-1])
    silent = dict[str, list[str]]()
    for file, every in groups.items():
        shared = takewhile(lambda names: len(set(names)) == 1, zip(*every, strict=False))
        around = [(group, meaning(group)) for group, *_ in shared]
        silent[file] = [
            group
            for group, says in around
            if not (says.known or says.split or (says.role and not says.weak))
        ]
    return silent


def _is_plain(key: str) -> bool:
    """Tell a key from a path that leads out of an archive."""
    return not (key.startswith("/") or "\\" in key or ".." in key.split("/"))


def _of_splits(
    found: Mapping[str | None, list[Place]], by_split: bool, is_given: bool
) -> dict[str, list[Place]]:
    if by_split:
        return {split: places for split, places in found.items() if split}
    places = found.get(None) or (found.get("train") if is_given else None)
    return {"train": places} if places else {}


def _only(where: str, role: str, found: Mapping[str, list[Place]], keys: Keys) -> dict[str, Place]:
    for split, places in found.items():
        if len(places) > 1:
            listed = formatting.shorten(spell(p, len(keys.files) > 1) for p in places)
            option = f"`{role}_key={'FILE:' if len(keys.files) > 1 else ''}KEY`"
            either = f"{where}: several arrays may be the {role} of {split}: {listed}"
            raise SourceError(either, f"name them: {option}, {SPLIT} in it for train, val and test")
    return {split: places[0] for split, places in found.items()}


def _given(arrays: Mapping[Place, Header], keys: Keys, role: str) -> dict[str, Place]:
    """Return the places of a given key; that of train also where it is not there."""
    found: dict[str, Place] = {}
    wanted = list(keys.wanted(role))
    for split, place in [one for one in wanted if one[1] in arrays] or wanted[:1]:
        found.setdefault(split, place)
    return found


def _pair(columns: Mapping[str, Mapping[str, Place]], split: str) -> dict[str, Place]:
    """Return the images and labels of a split, the missing by the name that they should have."""
    pair = {role: column[split] for role, column in columns.items() if split in column}
    for role in (role for role in ROLES if role not in pair):
        if pair:  # of the same split, of the other role
            [like] = pair.values()
        else:
            like = next(iter((columns[role] or next(filter(None, columns.values()))).values()))
        pair[role] = Place(*(_renamed(text, split, role) for text in like))
    return {role: pair[role] for role in ROLES}


def _renamed(text: str, split: str, role: str) -> str:
    """Return the name of a split and role that is like another's."""
    partners = {v: k for k, v in PARTNERS.items()} if role == "images" else PARTNERS

    def rename(word: re.Match[str]) -> str:
        is_split, small = _split(word[0]), word[0].lower()
        return split if is_split and is_split != split else partners.get(small, word[0])

    stem, dot, ending = text.rpartition(".") if text.endswith(ENDINGS) else (text, "", "")
    return re.sub("[A-Za-z][a-z]*", rename, stem) + dot + ending


def _names_classes(place: Place, header: Header, used: Iterable[Place]) -> bool:
    """Tell whether this names the classes: an array; an attribute of one used, or of its groups."""
    owner, is_attribute, name = place.key.rpartition(ATTRIBUTE)
    around = f"{owner}/" if owner else ""
    owned = (f"{other.key}/".startswith(around) for other in used if other.file == place.file)
    if is_attribute and not any(owned):
        return False
    return header.is_text and name.rpartition("/")[2].lower() in CLASS_NAMES
