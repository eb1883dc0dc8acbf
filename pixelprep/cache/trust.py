"""Check the files of an entry, and remember which were found right."""

import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pixelprep.errors import REPAIR_HINT, EntryError
from pixelprep.format.manifest import FileRecord, Manifest
from pixelprep.system import fs, progress, records

Stamps = dict[str, tuple[int, ...]]  # by file name, the `fs.file_stamp` with which it was checked
OnProgress = Callable[[int], object]  # receives the number of bytes that were hashed


@dataclass(frozen=True, slots=True)
class TrustRecord:
    """The record of an entry's files that were found right, and of the entry's last use.

    A file is trusted while its inode, size, times and digest are those of the record, unless it
    was written just now: times do not show two changes in one instant (`fs.is_settled`). The record
    lies in the cache, outside the entry. Entries elsewhere have none, so all their files are hashed
    each time.
    """

    entry: Path  # its folder
    path: Path | None  # the file of the record

    @classmethod
    def of(cls, entry: Path, cache: Path | None) -> Self:
        """Return the record of the entry in this folder, given the cache folder."""
        if cache is None or not in_cache(entry, cache):
            return cls(entry, None)
        return cls(entry, cache / fs.TRUST / entry.parent.name / f"{entry.name}.json")

    def check(self, manifest: Manifest, quiet: bool) -> Stamps:
        """Check every file, hashing those that are not trusted, and trust all from now on."""
        files, stamps = manifest.files(), file_stamps(self.entry, manifest)
        trusted = (records.read(self.path) or {}) if self.path else {}
        if new := [one for one in files if trusted.get(one[1].name) != _mark(one[1], stamps)]:
            with _hashing_bar(new, quiet) as bar:
                for split, file in new:
                    _check_file(self.entry / file.name, split, file, manifest, bar.update)
            self._save(manifest, stamps)
        elif self.path:
            with suppress(OSError):  # a read-only cache keeps no time of last use
                os.utime(self.path)
        return stamps

    def check_all(self, manifest: Manifest, quiet: bool) -> tuple[Stamps, list[str]]:
        """Hash every file, trusted or not; return stamps, and a line for each wrong file."""
        files, stamps, problems = manifest.files(), Stamps(), []
        with _hashing_bar(files, quiet) as bar:
            for split, file in files:
                path = self.entry / file.name
                try:
                    stamps[file.name] = _checked_stamp(path, file.bytes)
                    _check_file(path, split, file, manifest, bar.update)
                except EntryError as error:
                    problems.append(error.message)
        return stamps, problems

    def add_written(self, manifest: Manifest, stamps: Stamps) -> bool:
        """Trust files that were hashed as they were written; return whether they are still there.

        `stamps` are those that the files had then, in whatever folder.
        """
        try:
            if file_stamps(self.entry, manifest) != stamps:
                return False
        except EntryError:  # another process has replaced the entry
            return False
        self._save(manifest, stamps)
        return True

    def forget(self) -> None:
        """Delete the record: all files are hashed again, and the last use is unknown."""
        if self.path:
            records.delete(self.path)

    def last_use(self) -> float:
        """Return when the entry was last opened or, if unknown, made; in seconds since 1970."""
        times = []
        for path in filter(None, (self.path, self.entry)):
            with suppress(OSError):
                times.append(path.stat().st_mtime)
        return max(times, default=0.0)

    def _save(self, manifest: Manifest, stamps: Stamps) -> None:
        """Record files that were found right, but those written just now."""
        if self.path is None:
            return
        try:
            now = self._touch(self.path)
            if any(fs.is_settled_soon(stamp, now) for stamp in stamps.values()):
                time.sleep(fs.FINE_STEP / fs.SECOND)
                now = self._touch(self.path)
        except OSError:
            return
        marks = {
            file.name: _mark(file, stamps)
            for _, file in manifest.files()
            if fs.is_settled(stamps[file.name], now)
        }
        records.write(self.path, marks)

    @staticmethod
    def _touch(path: Path) -> int:
        """Write an empty record; return the time in ns by the clock of the files, not by ours."""
        records.write(path, {})
        return path.stat().st_mtime_ns


def in_cache(entry: Path, cache: Path | None) -> bool:
    """Tell whether an entry's folder is in this cache."""
    return cache is not None and entry.parent.parent == cache


def file_stamps(folder: Path, manifest: Manifest) -> Stamps:
    """Return the stamps of an entry's files, which lie in this folder and have the right sizes."""
    files = [file for _, file in manifest.files()]
    return {file.name: _checked_stamp(folder / file.name, file.bytes) for file in files}


def _mark(file: FileRecord, stamps: Stamps) -> list[int | str]:
    """Return what is recorded of a file that was found right."""
    return [*stamps[file.name], file.sha256]


def _checked_stamp(path: Path, size: int) -> tuple[int, ...]:
    """Return the stamp of a regular file of this size; refuse anything else."""
    try:
        is_regular = stat.S_ISREG(path.lstat().st_mode)
        stamp = fs.file_stamp(path)
    except OSError as error:
        if not fs.is_damage(error):
            raise fs.unreadable(path, error) from error
        raise EntryError(f"{path}: missing, or not a regular file", REPAIR_HINT) from error
    if not is_regular:
        raise EntryError(f"{path}: missing, or not a regular file", REPAIR_HINT)
    if stamp[1] != size:
        raise EntryError(f"{path}: expected {size:,} bytes, found {stamp[1]:,}", REPAIR_HINT)
    return stamp


def _hashing_bar(files: list[tuple[str, FileRecord]], quiet: bool) -> "progress.Bar":
    return progress.bar("hashing", sum(file.bytes for _, file in files), "B", quiet)


def _check_file(
    path: Path, split: str, file: FileRecord, manifest: Manifest, on_progress: OnProgress
) -> None:
    """Refuse a file that has another digest or, after that, is not as the format requires."""
    from pixelprep.format import untrusted  # files that are trusted need it not

    try:
        if fs.sha256(path, on_progress) != file.sha256:
            raise EntryError(f"{path}: differs from its SHA-256 in the manifest", REPAIR_HINT)
        problem = untrusted.validate(path, manifest.file_layout(split, file.rows))
    except OSError as error:
        raise fs.unreadable(path, error) from error
    if problem:
        # A file that was taken away meanwhile is only missing: it may be back in a moment.
        cause = None if path.exists() else FileNotFoundError()
        raise EntryError(f"{path}: {problem}", REPAIR_HINT) from cause
