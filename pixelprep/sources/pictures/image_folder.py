"""Read a folder of images that are sorted into folders by class."""

import hashlib
import logging
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, overload  # Any: JSON values

import numpy as np

from pixelprep.errors import SourceError, UsageError
from pixelprep.format.recipe import SPLITS, class_counts
from pixelprep.numerics import permutation
from pixelprep.sources import classes
from pixelprep.sources.base import DECODE_OPTIONS, Options, Raw, RawSplit, SourceContext, with_names
from pixelprep.sources.containers.array_files import expand, family_of, folder_of, is_family
from pixelprep.sources.lazy_arrays import FileArray
from pixelprep.sources.local import LocalSource
from pixelprep.sources.pictures import exported_pictures, groups, image_file, image_survey, tables
from pixelprep.sources.pictures.exported_pictures import Pictures
from pixelprep.sources.pictures.image_file import SUFFIXES, ImageDecoder
from pixelprep.sources.pictures.image_problems import DAMAGE, HELP, ImageError
from pixelprep.sources.pictures.labelled import find_tables, labelled_layout, way_to, with_groups
from pixelprep.sources.pictures.layouts import (
    ANNOTATIONS,
    FewClassesError,
    ImageList,
    Layout,
    find_layout,
    kinds,
    tell_numbers,
)
from pixelprep.sources.pictures.members import (
    PIECE,
    TAR,
    ZIP,
    Archive,
    Archives,
    Folder,
    Listing,
    is_hidden,
    printable,
)
from pixelprep.sources.pictures.met import Met
from pixelprep.sources.split_names import split_in
from pixelprep.system import formatting, fs, notices, parallel, progress, staging

LOG = logging.getLogger("pixelprep")

# Decoding small pictures is Python's work more than Pillow's, and threads are no faster than one;
# so many are worth the start of processes.
MANY, SMALL = 6000, 16 << 10  # pictures; bytes of one
MOST_TABLES = 3  # that are not used are told of
ARCHIVES = (*ZIP, *TAR)  # endings


@dataclass(frozen=True, slots=True)
class _Paths(Sequence[str]):
    """The paths of names below a folder, each made when it is wanted."""

    prefix: str
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self.prefix + name for name in self.names[at]]
        return self.prefix + self.names[at]


@dataclass(slots=True)
class _Findings:
    """What was met in decoding."""

    skipped: list[str] = field(default_factory=list)  # paths of images that were left out
    kinds: Counter[str] = field(default_factory=Counter)  # of why they were
    met: Met = field(default_factory=Met)


class ImageFolder(LocalSource):
    """Pictures sorted into folders by class, as `layouts` has it; all of one size."""

    supported_options = frozenset(
        {"size", "color", "on_error", "on_leak", "orientation", "alpha", "page"}
        | {"fit", "filter", "follow_links", "labels", "columns", "label_delimiter", "group_column"}
        | {"jpeg", "group_pattern", "classes", "class_map", "labels_from", "renumber"}
    )

    chooses_classes: ClassVar[bool] = True  # before anything is decoded

    def load(self, context: SourceContext, shown: str | None = None) -> Raw:
        """Decode every image, the workers sharing the work; `shown` is what the user names it."""
        image_file.require()
        if shown is None and self.options.scaling_of is None:
            self._tell_splits_beside()
        archive = self._archive(context)
        listing = (archive or self._folder()).listing()
        if export := self._export(listing, archive):
            raw = self._decoded(export.layout, archive, context, shown, "rows-of-")
            if found := export.checked(raw, context.pool):
                return classes.apply(os.fspath(self.path), found, self.options)
        return self._decoded(self._layout(listing, archive), archive, context, shown)

    def _tell_splits_beside(self) -> None:
        """Tell where this is one split, by its name, of those that lie side by side."""
        with suppress(OSError, SourceError):  # of what is beside it, which is not read
            if family := family_of(self.path):
                what = "folders" if self.path.is_dir() else "files"
                told = f"{what} of other splits beside it are not used; give all: {family}"
                notices.tell("%s: %s", self.path, told)

    def _export(self, listing: Listing, archive: Archive | None) -> Pictures | None:
        """Return the rows of an export of pixelprep's own; None of any other folder."""
        if self._labels_file() or find_tables(listing.names):
            return None
        read, is_picture = partial(self._read, archive), partial(self._is_picture, archive)
        found = exported_pictures.find_pictures(
            os.fspath(self.path), listing.names, is_picture, read, self.options
        )
        if found:
            self._tell_found(found.layout, listing, archive)
        return found

    def _decoded(
        self,
        layout: Layout,
        archive: Archive | None,
        context: SourceContext,
        shown: str | None,
        kind: str = "",  # of work, begun by which it is kept apart
    ) -> Raw:
        """Decode the images of a layout."""
        prefix, images = f"{self.path}/", layout.splits
        every = _Paths(prefix, list(chain(*(listed.names for listed in images.values()))))
        decoder = replace(ImageDecoder.of(self.options), archive=archive).with_reference(every)
        work = context.work(kind + self.name)
        splits, found = {}, _Findings()
        try:
            pool = context.pool
            small = len(decoder.content(decoder.reference)) < SMALL
            with pool.without_threads(len(every) >= MANY) if small else nullcontext(pool) as pool:
                team = replace(context, pool=pool)
                for name, listed in images.items():
                    splits[name] = self._decode(name, listed, decoder, work, team, found)
        except ImageError as error:
            own = replace(self.options, follow_links=self.options.follow_links and not shown)
            command = _command(shown or self._shown(), own)
            raise image_survey.all_problems(every, decoder, context, command) or error from error
        for name, split in splits.items():
            before, left = (
                np.array(class_counts(labels, len(layout.class_names)))
                for labels in (images[name].labels, split.labels[:])
            )
            if empty := np.flatnonzero(before * (left == 0)).tolist():
                of_class = f"no image of class {layout.class_names[empty[0]]} can be read"
                raise SourceError(f"{self.path}: {name}: {of_class}")
        sound = found.kinds.total() - found.kinds[DAMAGE]
        if 2 * sound > len(every):
            most = f"{self.path}: {sound:,} of {len(every):,} images are of no kind that is read"
            raise SourceError(f"{most}, too many to leave out", HELP["type"])
        self._tell_met(found.met, len(every))
        record = decoder.record() | dict(layout.decode)
        if found.met.count("format", "DICOM"):
            record["values"] = "rescaled"  # also of files without an ending
        if found.skipped:
            record["skipped"] = sorted(found.skipped)
        raw = Raw(splits, layout.class_names, record, layout.task)
        return raw.checked(os.fspath(self.path))

    def _decode(
        self,
        split: str,
        listed: ImageList,
        decoder: ImageDecoder,
        work: Path,
        context: SourceContext,
        found: _Findings,
    ) -> RawSplit:
        """Decode the images of one split; return it, and add to what was found."""
        assert decoder.format is not None  # that of the reference
        total, row_bytes = len(listed.names), decoder.format.bytes
        fs.require_free_space(context.cache, total * row_bytes)
        # A task takes 1/64 of the images, or fewer if they have more than 64 MiB of pixels.
        rows = max(1, min(-(-total // 64), (64 << 20) // row_bytes))
        paths = _Paths(f"{self.path}/", listed.names)
        tasks = (
            (work, f"{split}.{i}", paths[start : start + rows], decoder)
            for i, start in enumerate(range(0, total, rows))
        )
        skipped, reasons = list[int](), dict[str, str]()  # the first of each kind
        with progress.bar(f"decoding {split}", total, " images", context.quiet) as bar:
            for i, receipt in enumerate(context.pool.map(_run_task, tasks)):
                skipped += [i * rows + row for row in receipt["skipped"]]
                for kind, reason in receipt.get("why", ()):
                    found.kinds[kind] += 1
                    reasons.setdefault(kind, reason)
                found.met.add(receipt["met"])
                bar.update(min(rows, total - i * rows))
        stem = os.fspath(work / staging.FILES / f"{split}.")
        shape, dtype = (total, *decoder.format.shape), np.dtype(decoder.format.dtype)
        names = list(map(printable, listed.names))
        decoded = RawSplit(FileArray(stem, rows, shape, dtype), listed.labels)
        decoded = with_names(f"{self.path}: {split}", decoded, names)
        if not skipped:
            return decoded
        found.skipped += (gone := [names[row] for row in skipped])
        left_out = f"left out of {split}: {len(gone)} of {total} images, such as {gone[0]}"
        notices.tell(f"{self.name}: {left_out}: {'; '.join(reasons.values())}")
        return decoded.take(np.setdiff1d(np.arange(total), skipped))

    def _tell_met(self, met: Met, total: int) -> None:
        """Record what the files are; tell of images that are stretched."""
        notices.record_files(met.commonest())
        if count := met.count("done", image_file.FROM_CMYK):
            of = f"{count:,} of {formatting.pluralize(total, 'image')}"
            notices.tell(f"{self.name}: {of} of CMYK, taken as RGB by Pillow, without its profile")
        if met.aspects and self.options.size is not None:
            height, width = self.options.size
            low, high = met.aspects
            of = f"aspect {low:.2f} to {high:.2f} becomes {width / height:.2f}"
            stretched = f"{met.counts['done']['stretched']:,} of {total:,} images are stretched"
            way = "" if self.options.scaling_of else ": `fit=crop|pad` keeps it"
            notices.tell(f"{self.name}: {stretched}, {of}{way}")

    def _archive(self, context: SourceContext) -> Archive | None:
        """Return the archive that the images are in, where they are in one."""
        return None

    def _folder(self) -> Folder:
        return Folder(self.path, self.options.follow_links)

    def _stamps(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield every folder, and every file that may be read, with its `fs.file_stamp`."""
        has_table = False
        for kind, name, entry in self._folder().walk():
            if kind == "folder":
                yield name, ()
            elif kind == "file" and _may_be_read(name):
                try:
                    stamp = fs.file_stamp(entry)
                except OSError as error:
                    raise SourceError(f"{entry.path}: cannot read: {error.strerror}") from error
                yield name, stamp
            has_table |= name.lower().endswith(tables.FOUND_BY_ITSELF)
        yield from self._labels_stamps(has_table)

    def _labels_stamps(self, has_table: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the table that was given; and, where rows may have groups, how they are divided."""
        options = self.options
        if file := self._labels_file():
            try:
                yield os.fspath(file), fs.file_stamp(file)
            except OSError as error:
                raise SourceError(f"{file}: cannot read: {error.strerror}") from error
        if has_table or file or options.group_pattern is not None:
            shares = options.val_fraction, options.test_fraction, options.split_seed
            yield f"divided by {shares}", ()

    def _read(self, archive: Archive | None, name: str) -> bytes:
        path = f"{self.path}/{name}"
        return archive.read(path) if archive else image_file.read_file(path)

    def _is_picture(self, archive: Archive | None, name: str) -> bool:
        if has_suffix(name):
            return name.lower().endswith(image_file.SUFFIXES)
        return image_file.is_picture(self._read(archive, name))

    def _layout(self, listing: Listing, archive: Archive | None) -> Layout:
        """Return the images of each split, in the order of the raw data."""
        read, is_picture = partial(self._read, archive), partial(self._is_picture, archive)

        def read_text(name: str) -> str:
            return read(name).decode(errors="backslashreplace")

        where, given = os.fspath(self.path), self._tables(listing.names, read)
        least = 1 if self.options.scaling_of else 2  # which nothing is fitted to
        layout = None
        if given:
            required = self.options.labels is not None or self.options.group_column is not None
            layout = labelled_layout(
                where, listing.names, given, is_picture, self.options, required=required
            )
        else:
            self._refuse_without_table()
        if layout is None:
            try:
                is_wanted = partial(classes.is_wanted, self.options)
                found = find_layout(where, listing.names, is_picture, read_text, least, is_wanted)
            except FewClassesError as error:
                if archive or not (beside := _tables_in(listing.names)):
                    raise
                hint = self._way_to(beside[0], given, listing.names, read)
                raise SourceError(error.message, hint) from None
            known = {table.path for table in given.values()}  # of which something was told
            unused = [name for name in found.unused if f"{self.path}/{name}" not in known]
            found = exported_pictures.with_classes(where, replace(found, unused=unused), read)
            layout = with_groups(found, given, self.options)
        layout = groups.divided(where, classes.apply(where, layout, self.options), self.options)
        self._tell_found(layout, listing, archive)
        source, splits = permutation.Stream.SOURCE, {}
        for name, split in layout.splits.items():  # what is sorted gets the format's seeded order
            index = SPLITS.index(name)
            order = permutation.permutation(len(split.names), seed=0, stream=source, index=index)
            splits[name] = split.take(order)
        return replace(layout, splits=splits)

    def _way_to(
        self,
        name: str,
        given: Mapping[str, tables.Table],
        names: Sequence[str],
        read: Callable[[str], bytes],
    ) -> str:
        """Spell the options by which a table that is there has the labels."""
        path = f"{self.path}/{name}"
        known = [one for one in given.values() if one.path == path]
        way = "" if known else f"`labels={shlex.quote(path)}`"
        with suppress(SourceError):  # of the table, which may be of something else
            table = known[0] if known else tables.read(path, read(name))
            way = way_to(way, table, names, self.options)
        return f"if {name} has the labels: {way}"

    def _tell_found(self, layout: Layout, listing: Listing, archive: Archive | None) -> None:
        """Tell what was guessed of names, and what is not used."""
        for line in layout.told:
            notices.tell("%s", line)
        if layout.decode.get("class_order") == "code points":
            tell_numbers(os.fspath(self.path), layout.class_names)
        if listing.hidden:
            hidden = formatting.shorten(map(printable, sorted(listing.hidden)))
            notices.tell("%s: hidden folders, not used: %s", self.path, hidden)
        if self.options.labels is None and not archive:
            for name in _tables_in(layout.unused)[:MOST_TABLES]:
                path = f"{self.path}/{printable(name)}"
                notices.tell("%s: not used; if it has the labels: `labels=%s`", path, path)
        if unused := [*layout.unused, *listing.other]:
            such = f"{formatting.pluralize(len(unused), 'file')} ({kinds(unused)}), such as"
            notices.tell(f"{self.name}: not used: {such} {self.path}/{printable(unused[0])}")

    def _shown(self) -> str:
        """Return the path as that of a folder, not the name of a dataset."""
        path = os.fspath(self.path)
        return path if "/" in path else f"./{path}"

    def _labels_file(self) -> Path | None:
        """Return the path of the table that was given, which may be meant in the folder."""
        given = self.options.labels
        if given is None:
            return None
        file = self.path / given  # of two, an absolute one is it
        if not os.path.lexists(file):
            raise SourceError(f"`labels={given}`: no such file, neither here nor in {self.path}")
        return file

    def _refuse_without_table(self) -> None:
        """Refuse options that are about a table where there is none."""
        for name in ("group_column", "columns", "label_delimiter"):
            if getattr(self.options, name) is not None:
                lacks = f"{self.path}: `{name}` is of a table, and there is none"
                hint = f"name one, `labels=FILE`, or call it {tables.FOUND_BY_ITSELF[0]}"
                raise UsageError(lacks, hint)

    def _tables(
        self, names: Sequence[str], read: Callable[[str], bytes]
    ) -> dict[str, tables.Table]:
        """Return the tables that name pictures, each by the folder that it is for."""
        if file := self._labels_file():
            return {"": tables.read(os.fspath(file), image_file.read_file(os.fspath(file)))}
        found = {name[: name.rfind("/") + 1]: name for name in find_tables(names)}
        return {
            folder: tables.read(f"{self.path}/{name}", read(name)) for folder, name in found.items()
        }


class ImageArchive(ImageFolder):
    """A zip or tar of such a folder."""

    supported_options = ImageFolder.supported_options - {"follow_links"}

    @property
    def name(self) -> str:
        """The archive's name without its endings."""
        name = self.path.name
        ending = next((one for one in ARCHIVES if name.lower().endswith(one)), "")
        return LocalSource(
            self.path.with_name(name[: len(name) - len(ending)] or "images"), self.options
        ).name

    def _stamps(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield self.path.name, fs.file_stamp(self.path)
        yield from self._labels_stamps(has_table=True)  # perhaps

    def _archive(self, context: SourceContext) -> Archive:
        return Archive.open(self.path, context.file("members"))


@dataclass(frozen=True, slots=True)
class ImageArchives(ImageArchive):
    """An archive of such a folder for each split: of a folder, or of a path with {split}."""

    parts: Mapping[str, Path] | None = None  # by split; None: those at the path

    def _stamps(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for path in self._parts().values():
            yield path.name, fs.file_stamp(path)
        yield from self._labels_stamps(has_table=True)  # perhaps

    def _archive(self, context: SourceContext) -> Archive:
        parts = self._parts()
        above = folder_of(self.path)
        listed = ", ".join(f"{s} is {path.relative_to(above)}" for s, path in parts.items())
        LOG.info("%s: %s", self.name, listed)
        private = {split: context.file(f"members-of-{split}") for split in parts}
        return Archives.of(self.path, parts, private)

    def _parts(self) -> Mapping[str, Path]:
        return archives_at(self.path) if self.parts is None else self.parts


def archives_at(path: Path) -> dict[str, Path]:
    """Return by split the archives that a path stands for; none of a folder with other data."""
    if is_family(path):
        found = expand(path) if path.name.lower().endswith(ARCHIVES) else {}
        return {split: found[split] for split in SPLITS if split in found}
    by_split = dict[str, Path]()
    for one in fs.sorted_dir(path) if path.is_dir() else ():
        name = one.name.lower()
        if is_hidden(one.name) or not (one.is_dir() or name.endswith((*ARCHIVES, *SUFFIXES))):
            continue
        split = None if one.is_dir() else split_in(one.name.partition(".")[0])
        if not name.endswith(ARCHIVES) or split is None or split in by_split:
            return {}
        by_split[split] = one
    return {split: by_split[split] for split in SPLITS if split in by_split}


def _tables_in(names: Sequence[str]) -> list[str]:
    return [name for name in names if name.lower().endswith(tables.ENDINGS)]


def has_suffix(name: str) -> bool:
    """Return whether the last part of a name has an ending."""
    return "." in name[name.rfind("/") + 1 :]


def _may_be_read(name: str) -> bool:
    ends = (*image_file.SUFFIXES, ANNOTATIONS, *tables.FOUND_BY_ITSELF, *exported_pictures.FILES)
    return not has_suffix(name) or name.lower().endswith(ends)


def _run_task(
    task: tuple[Path, str, Sequence[str], ImageDecoder],
) -> dict[str, Any]:  # a step's receipt
    """Decode images into a file of the work folder, unless an interrupted run did."""
    work, name, paths, decoder = task
    return staging.run_step(work, name, partial(_write_pixels, paths, decoder))


def _write_pixels(
    paths: Sequence[str], decoder: ImageDecoder, private: Path
) -> dict[str, Any]:  # a step's receipt
    """Decode images into a new file one by one.

    So each worker has one in memory: its file, its pixels (of Pillow's 4 bytes, in colour) and what
    is made of them. There are no more workers than processors, unless more were asked for.
    """
    decoder = replace(decoder, met=(met := Met()))
    image_format, skipped, why = decoder.format, list[int](), list[tuple[str, str]]()
    assert image_format is not None  # set before the work is divided
    digest = hashlib.sha256()
    with image_file.strict_pillow(), private.open("wb", PIECE) as file:
        for row, path in enumerate(paths):
            parallel.check_wanted()
            try:
                pixels = np.ascontiguousarray(decoder.read(path), image_format.dtype).data
            except ImageError as error:
                if not (decoder.skip and error.unread):
                    raise
                skipped.append(row)
                why.append((error.unread.kind, error.unread.reason))
                pixels = memoryview(bytes(image_format.bytes))  # to be left out later
            file.write(pixels)
            digest.update(pixels)
    return {
        "sha256": digest.hexdigest(),
        "skipped": skipped,
        "why": why,
        "met": met.to_json(),
    }


def _command(dataset: str, options: Options) -> str:
    """Spell the call of `prepare` as far as a source knows it."""
    given = {
        name: value
        for name in (*DECODE_OPTIONS, "val_fraction", "test_fraction", "split_seed")
        if (value := getattr(options, name)) != getattr(Options, name)
    }
    if isinstance(given.get("classes"), tuple):
        given["classes"] = ",".join(given["classes"])
    if isinstance(given.get("columns"), Mapping):
        given["columns"] = ",".join(f"{role}={name}" for role, name in given["columns"].items())
    if given.get("on_error") == "fail":
        del given["on_error"]  # which is so anyway, and may be what the hint changes
    given.pop("class_map", None)  # of a file that nobody knows any more
    return shlex.join(["pixelprep", "prepare", dataset, *formatting.options(given)])
