"""Export to WebDataset tars, with the raw pixels as PNG pictures."""

import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import count, groupby
from pathlib import Path
from typing import Any  # Any: JSON values

from pixelprep.dataset.entry import Entry
from pixelprep.exporters._pictures import PictureExporter, Put, Row, has_names, picture_content
from pixelprep.exporters.base import Content


class WebDatasetExporter(PictureExporter):
    """``train-000000.tar``: ``0000012.png`` and ``0000012.cls``, the number being the row.

    ``0000012.json`` has the ``name`` that a row has, and where it may have several classes, in the
    place of ``.cls``, 0 or 1 of each as ``label``.
    """

    to, ending = "webdataset", ".tar"
    program = """\
import webdataset

rows = webdataset.WebDataset("$split-000000.tar", shardshuffle=False).decode("pil")
image, label = next(iter(rows.to_tuple("png", "$ending")))
"""
    row_bytes = 3 * 2 * tarfile.BLOCKSIZE  # the headers of three members, and what fills them up

    def contents(self, entry: Entry) -> list[Content]:
        """List the tars, and their members."""
        several = entry.manifest.source.task == "multilabel"
        files = [
            Content(f"{name}-000000.tar, …", "", "in the order of rows") for name in entry.splits
        ]
        found = [*files, picture_content("  0000012.png", entry)]
        if several:
            found.append(Content("  0000012.json", "label", "0 or 1 of each class"))
        else:
            found.append(Content("  0000012.cls", "text", "its class by number"))
        if has_names(entry):
            found.append(Content("  0000012.json", "name", "the name of the row"))
        return [*found, Content("0000012", "", "the row")]

    def file_name(self, split: str, number: int, total: int) -> str:
        """Name it by its number alone, as the library's own writer does."""
        return f"{split}-{number:06}{self.ending}"

    @contextmanager
    def create(self, path: Path, entry: Entry, first: int) -> Iterator[Put]:
        """Write members of no time and no owner: equal rows give equal bytes."""
        numbers = count(first)
        with tarfile.open(path, "x", format=tarfile.USTAR_FORMAT) as tar:

            def put(rows: list[Row]) -> None:
                for row in rows:
                    key = next(numbers)
                    for ending, content in _parts(row).items():
                        member = tarfile.TarInfo(f"{key:07}.{ending}")
                        member.size = len(content)
                        tar.addfile(member, BytesIO(content))

            yield put

    def read(self, path: Path, entry: Entry) -> Iterator[Row]:
        """Read by tarfile, member by member."""
        with tarfile.open(path, "r|") as tar:
            parts = ((*one.name.partition(".")[::2], _content(tar, one)) for one in tar)
            for _, files in groupby(parts, lambda part: part[0]):
                yield _row({ending: content for _, ending, content in files})


EXPORTER = WebDatasetExporter()


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    if file is None:
        raise ValueError(f"{member.name} is no file")
    return file.read()


def _parts(row: Row) -> dict[str, bytes]:
    """Return the files of a row by their endings."""
    about: dict[str, Any] = {} if row.name is None else {"name": row.name}
    parts = {"png": row.png}
    if isinstance(row.label, list):
        about["label"] = row.label
    else:
        parts["cls"] = b"%d" % row.label
    return parts | ({"json": json.dumps(about).encode()} if about else {})


def _row(parts: dict[str, bytes]) -> Row:
    about = json.loads(parts.get("json", b"{}"))
    label = int(parts["cls"]) if "cls" in parts else about["label"]
    return Row(parts["png"], label, about.get("name"))
