"""Read a folder of images that are sorted into folders by class."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any  # Any: JSON values

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError
from pixelprep.format.recipe import SPLITS
from pixelprep.numerics import permutation
from pixelprep.sources import image_file
from pixelprep.sources.base import Raw, RawSplit, SourceContext, with_names
from pixelprep.sources.image_file import ImageDecoder, ImageError, ImageFormat, Problem
from pixelprep.sources.lazy_arrays import FileArray
from pixelprep.sources.local import LocalSource
from pixelprep.sources.split_names import split_of
from pixelprep.system import formatting, fs, notices, progress, staging

FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation", "dev"), "test": ("test",)}
SPLIT_HINT = "the folders of splits are called train, val and test: train/CLASS/*.png"


def _is_hidden(name: str) -> bool:
    return name[0] == "." or name == "__MACOSX"  # which macOS puts into archives


def _kinds(paths: Sequence[str]) -> str:
    """Count files by their endings, and folders: 4 .pgm, 1 folder."""
    files = [path for path in map(Path, paths) if not path.is_dir()]
    kinds = Counter(path.suffix.lower() or "without ending" for path in files)
    words = [f"{count:,} {printable(kind)}" for kind, count in kinds.most_common()]
    if folders := len(paths) - len(files):
        words.append(formatting.pluralize(folders, "folder"))
    return formatting.shorten(words)


def printable(path: str) -> str:
    """Spell a path, whatever bytes it has, as text that JSON can hold."""
    return os.fsencode(path).decode(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class _ImageList:
    """The images of one split before they are decoded: paths, and labels int64 (N,)."""

    paths: Sequence[str]
    labels: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> "_ImageList":
        return _ImageList([self.paths[row] for row in rows], self.labels[rows])


class ImageFolder(LocalSource):
    """``train/CLASS/*.png``, likewise ``val`` and ``test``; or ``CLASS/*.png``; all of one size."""

    supported_options = frozenset(
        {"size", "color", "on_error", "on_leak", "orientation", "alpha", "page"}
    )

    def load(self, context: SourceContext) -> Raw:
        """Decode every image, the workers sharing the work."""
        image_file.require()
        class_names, images = self._list_images()
        every = [path for listed in images.values() for path in listed.paths]
        decoder = ImageDecoder.of(self.options).with_reference(every)
        work = context.work(self.name)
        splits, skipped = {}, list[str]()
        try:
            for name, listed in images.items():
                splits[name], damaged = self._decode(name, listed, decoder, work, context)
                skipped += damaged
        except ImageError as error:
            raise _all_problems(every, decoder, context) or error from error
        for name, split in splits.items():
            counts = np.bincount(np.asarray(split.labels[:]), minlength=len(class_names))
            if 0 in counts and self.options.on_error == "skip":
                empty = class_names[int(np.argmin(counts))]
                raise SourceError(f"{self.path}: {name}: no image of class {empty} can be read")
        record = decoder.record() | {"class_order": "code points"}
        if skipped:
            record["skipped"] = sorted(skipped)
        return Raw(splits, class_names, record).checked(os.fspath(self.path))

    def _decode(
        self,
        split: str,
        listed: _ImageList,
        decoder: ImageDecoder,
        work: Path,
        context: SourceContext,
    ) -> tuple[RawSplit, list[str]]:
        """Decode the images of one split; return it, and the paths of skipped images."""
        assert decoder.format is not None  # that of the reference
        total, row_bytes = len(listed.paths), decoder.format.bytes
        fs.require_free_space(context.cache, total * row_bytes)
        # A task takes 1/64 of the images, or fewer if they have more than 64 MiB of pixels.
        rows = max(1, min(-(-total // 64), (64 << 20) // row_bytes))
        tasks = (
            (work, f"{split}.{i}", listed.paths[start : start + rows], decoder)
            for i, start in enumerate(range(0, total, rows))
        )
        skipped: list[int] = []
        with progress.bar(f"decoding {split}", total, " images", context.quiet) as bar:
            for i, damaged in enumerate(context.pool.map(_run_task, tasks)):
                skipped += [i * rows + row for row in damaged]
                bar.update(min(rows, total - i * rows))
        stem = os.fspath(work / staging.FILES / f"{split}.")
        shape, dtype = (total, *decoder.format.shape), np.dtype(decoder.format.dtype)
        paths = [printable(os.path.relpath(path, self.path)) for path in listed.paths]
        decoded = RawSplit(FileArray(stem, rows, shape, dtype), listed.labels)
        decoded = with_names(f"{self.path}: {split}", decoded, paths)
        if not skipped:
            return decoded, []
        names = [paths[row] for row in skipped]
        left_out = f"left out of {split}: {len(names)} of {total} images, such as {names[0]}"
        notices.tell(f"{self.name}: {left_out}")
        return decoded.take(np.setdiff1d(np.arange(total), skipped)), names

    def _stamps(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield every class and image with its `fs.file_stamp`, in a fixed order."""
        for split, top in self._tops().items():
            for name in self._classes(top):
                yield f"{split}/{name}", ()  # even of a class without images
                for image in self._images(top, name, []):
                    try:
                        stamp = fs.file_stamp(image)
                    except OSError as error:
                        raise SourceError(f"{image.path}: cannot read: {error.strerror}") from error
                    yield f"{split}/{name}/{image.name}", stamp

    def _list_images(self) -> tuple[tuple[str, ...], dict[str, _ImageList]]:
        """Return class names, and the images of each split in the order of the raw data."""
        tops, unused = self._tops(), list[str]()  # files that are not images, folders of no split
        class_names = tuple(self._classes(next(iter(tops.values()))))
        if len(class_names) < 2:
            expected = f"{self.path}: expected a folder of images for each of two classes or more"
            found = f"found {len(class_names)}: {formatting.shorten(class_names) or 'none'}"
            hint = "sort the images into folders: CLASS/*.png, or train/CLASS/*.png"
            raise SourceError(f"{expected}, {found}", hint)
        self._add_unused_folders(tops, unused)
        for top in dict.fromkeys([self.path, *tops.values()]):
            hidden = sorted(path.name for path in top.iterdir() if _is_hidden(path.name))
            if folders := [printable(name) for name in hidden if (top / name).is_dir()]:
                notices.tell("%s: hidden folders, not used: %s", top, formatting.shorten(folders))
        splits = {name: self._list_split(top, class_names, unused) for name, top in tops.items()}
        if unused:
            what = formatting.pluralize(len(unused), "file or folder", "files or folders")
            found = f"{what} ({_kinds(unused)}), such as {printable(unused[0])}"
            notices.tell(f"{self.name}: not used: {found}")
        source = permutation.Stream.SOURCE  # images sorted by class get the format's seeded order
        for name, split in splits.items():
            index = SPLITS.index(name)
            order = permutation.permutation(len(split.paths), seed=0, stream=source, index=index)
            splits[name] = split.take(order)
        return class_names, splits

    def _tops(self) -> dict[str, Path]:
        """Return the folders that hold the class folders by split; the whole is train, if one."""
        tops = dict[str, Path]()
        folders = {entry.name for entry in _scan(self.path, os.DirEntry.is_dir)}
        for split, names in FOLDERS.items():
            for top in (self.path / name for name in names):
                self._check_link(top)
                if split not in tops and top.name in folders:
                    tops[split] = top
        # Without train, one that is called test is a class where there are others beside it.
        shown = {name for name in folders if not _is_hidden(name)}
        is_split = "train" in tops or shown == {top.name for top in tops.values()}
        return tops if tops and is_split else {"train": self.path}

    def _add_unused_folders(self, tops: Mapping[str, Path], unused: list[str]) -> None:
        """Count folders beside those of the splits."""
        if self.path not in tops.values():
            others = set(self._classes(self.path)) - {top.name for top in tops.values()}
            unused += [os.fspath(self.path / name) for name in sorted(others)]
            for name in sorted(filter(split_of, others)):
                notices.tell("%s: not used: %s", self.path / name, SPLIT_HINT)

    def _list_split(self, top: Path, class_names: tuple[str, ...], unused: list[str]) -> _ImageList:
        if differing := set(self._classes(top)) ^ set(class_names):
            differ = formatting.shorten(sorted(differing))
            raise SourceError(f"{top}: expected the classes of train, these differ: {differ}")
        paths, counts = list[str](), []
        for name in class_names:
            known = len(unused)
            images = [image.path for image in self._images(top, name, unused)]
            if not images and len(unused) == known:
                raise SourceError(f"{top / name}: an empty class: no image in it")
            if not images:
                no_image = f"{top / name}: expected images of a class, got {_kinds(unused[known:])}"
                endings = ", ".join(image_file.SUFFIXES)
                read = f"files that end in {endings} are read, directly in CLASS/"
                raise SourceError(no_image, SPLIT_HINT if split_of(name) else read)
            paths += images
            counts.append(len(images))
        return _ImageList(paths, np.repeat(np.arange(len(counts)), counts))

    def _classes(self, top: Path) -> list[str]:
        """List the folders in a folder, but hidden ones, by name."""
        folders = _scan(top, lambda entry: not _is_hidden(entry.name) and entry.is_dir())
        for folder in folders:
            self._check_link(folder)
        return sorted(folder.name for folder in folders)

    def _images(self, top: Path, name: str, unused: list[str]) -> Iterator[os.DirEntry[str]]:
        """Yield the images of a class by name, and add other files in its folder to `unused`."""
        for file in sorted(_scan(top / name, lambda _: True), key=lambda entry: entry.name):
            if file.name[0] == ".":
                continue
            self._check_link(file)
            if file.name.lower().endswith(image_file.SUFFIXES) and file.is_file():
                yield file
            else:
                unused.append(file.path)

    def _check_link(self, file: os.DirEntry[str] | Path) -> None:
        """Refuse a link that leads nowhere, or out of the folder."""
        if not file.is_symlink():
            return
        path = Path(file)
        if not os.path.exists(path):  # noqa: PTH110 - pathlib fails on a link to itself
            raise SourceError(f"{path}: a link that leads nowhere")
        if not path.resolve().is_relative_to(self.path.resolve()):
            leaves = f"{path}: a link that leaves {self.path}"
            raise SourceError(leaves, "copy what it leads to into the folder")


def _scan(folder: Path, wanted: Callable[[os.DirEntry[str]], bool]) -> list[os.DirEntry[str]]:
    """List what is wanted of a folder; one that the system does not show is not an empty one."""
    try:
        with os.scandir(folder) as entries:
            return list(filter(wanted, entries))
    except OSError as error:
        raise SourceError(f"{folder}: cannot read: {error.strerror}") from error


def _run_task(task: tuple[Path, str, Sequence[str], ImageDecoder]) -> list[int]:
    """Decode images into a file of the work folder, unless an interrupted run did.

    Return the rows of those skipped.
    """
    work, name, paths, decoder = task
    return list(staging.run_step(work, name, partial(_write_pixels, paths, decoder))["skipped"])


def _write_pixels(
    paths: Sequence[str], decoder: ImageDecoder, private: Path
) -> dict[str, Any]:  # a step's receipt
    image_format, skipped = decoder.format, []
    assert image_format is not None  # set before the work is divided
    # The rows of skipped images stay zero, and are left out later.
    pixels = np.zeros((len(paths), *image_format.shape), image_format.dtype)
    with image_file.strict_pillow():
        for row, path in enumerate(paths):
            try:
                pixels[row] = decoder.read(path)
            except ImageError as error:
                if not (decoder.skip and error.is_damage):
                    raise
                skipped.append(row)
    private.write_bytes(pixels.data)
    return {"sha256": hashlib.sha256(pixels.data).hexdigest(), "skipped": skipped}


def _all_problems(
    paths: Sequence[str], decoder: ImageDecoder, context: SourceContext
) -> SourceError | None:
    """Look at every image, so that the user is told of all that is wrong at once."""
    seen, step = _Survey(), 64
    alone = replace(decoder, format=None)  # what most images are is known at the end
    tasks = ((paths[start : start + step], alone) for start in range(0, len(paths), step))
    with progress.bar("looking for more such", len(paths), " images", context.quiet) as bar:
        for i, some in enumerate(context.pool.map(_survey, tasks)):
            seen.add(some)
            bar.update(min(step, len(paths) - i * step))
    found = seen.problems(decoder)
    if not found:
        return None  # the file is another meanwhile
    problems = [problem for problem, *_ in found]
    if len(found) == 1 and found[0][2] == 1:
        return ImageError.of(found[0][1], problems)
    told = (
        f"{path}: {problem.reason} ({count:,} of {len(paths):,} images)"
        for problem, path, count in found
    )
    return SourceError("; ".join(told), image_file.hint_of(problems))


@dataclass(slots=True)
class _Survey:
    """What images are: of each kind of problem, and of each format, the first path, how many."""

    kinds: dict[str, tuple[Problem, str, int]] = field(default_factory=dict)
    formats: dict[ImageFormat, tuple[str, int]] = field(default_factory=dict)

    def note(self, problem: Problem, path: str, count: int = 1) -> None:
        first, where, before = self.kinds.get(problem.kind, (problem, path, 0))
        self.kinds[problem.kind] = first, where, before + count

    def note_format(self, found: ImageFormat, path: str, count: int = 1) -> None:
        where, before = self.formats.get(found, (path, 0))
        self.formats[found] = where, before + count

    def add(self, other: "_Survey") -> None:
        for problem, path, count in other.kinds.values():
            self.note(problem, path, count)
        for found, (path, count) in other.formats.items():
            self.note_format(found, path, count)

    def problems(self, decoder: ImageDecoder) -> list[tuple[Problem, str, int]]:
        """Return those of each kind, among them that formats are unlike the commonest."""
        if self.formats:
            usual = max(self.formats, key=lambda one: self.formats[one][1])
            decoder = replace(decoder, format=usual, reference=self.formats[usual][0])
        for found, (path, count) in self.formats.items():
            for problem in decoder.differences(found):
                self.note(problem, path, count)
        return list(self.kinds.values())


def _survey(task: tuple[Sequence[str], ImageDecoder]) -> _Survey:
    """Look at some images."""
    paths, decoder = task
    seen = _Survey()
    with image_file.strict_pillow():
        for path in paths:
            pixels, problems = decoder.examine(path)
            if pixels is not None:
                seen.note_format(image_file.format_of(pixels), path)
            for problem in problems:
                if problem.kind != image_file.DAMAGE or not decoder.skip:
                    seen.note(problem, path)
    return seen
