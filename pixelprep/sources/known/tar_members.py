"""Stream the files of a tar archive; no name in the archive is used as a path."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

from pixelprep.errors import SourceError


def read_members(
    path: Path, wanted: Collection[str], limit: int
) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the regular files of these names, in the archive's order, until all were found.

    Parameters
    ----------
    path : Path
        The archive, compressed or not.
    wanted : collection of str
        The names of the files.
    limit : int
        The most bytes of any file: the stream would have to be read past a larger one.
    """
    import tarfile  # most datasets need neither
    import zlib

    found: set[str] = set()
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                if member.size > limit:
                    raise SourceError(f"{path}: {member.name} is larger than it can be")
                if not (member.isfile() and member.name in wanted):
                    continue
                if member.name in found:
                    twice = f"{path}: contains a file twice: {member.name}"
                    raise SourceError(twice, "get a new copy of it")
                file = archive.extractfile(member)
                assert file is not None  # a regular file has content
                found.add(member.name)
                yield member.name, file
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise SourceError(f"{path}: cannot read: {error}", "get a new copy of it") from error
    if lacking := sorted(set(wanted) - found):
        listed, count = ", ".join(lacking), len(found)
        raise SourceError(f"{path}: expected {len(wanted)} files, found {count}: lacks {listed}")
