"""Export to Parquet files in Hugging Face's form, with the raw pixels as PNG pictures."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any  # Any: pyarrow's objects, which have no types

from pixelprep.dataset.entry import Entry
from pixelprep.errors import UsageError, missing_extra
from pixelprep.exporters._pictures import (
    ELSEWHERE,
    PictureExporter,
    Put,
    Row,
    has_names,
    picture_content,
)
from pixelprep.exporters.base import Content

GROUP_BYTES = 8 << 20  # of pictures that are read at once: a row group, as the hub's viewer does


class ParquetExporter(PictureExporter):
    """``train-00000-of-00001.parquet``: ``image`` as `datasets` has pictures, and ``label``.

    Where rows have several classes, ``labels`` lists their numbers.
    """

    to, ending = "parquet", ".parquet"
    program = """\
from datasets import load_dataset

rows = load_dataset("parquet", data_files={"$split": "$split-*.parquet"}, split="$split")
image, label = rows[0]["image"], rows[0]["$label"]
"""

    def contents(self, entry: Entry) -> list[Content]:
        """List the files, and the columns."""
        several = entry.manifest.source.task == "multilabel"
        files = [Content(f"{name}-*.parquet", "", "in the order of rows") for name in entry.splits]
        image = picture_content("  image.bytes", entry)
        path = [Content("  image.path", "string", "the name of a row")] if has_names(entry) else []
        kind, told = ("list of int64", "its classes") if several else ("int64", "its class")
        label = Content("  labels" if several else "  label", kind, f"{told} by number")
        return [*files, image, *path, label]

    def require(self, entry: Entry) -> None:
        """Refuse classes of one name, too, which `datasets` refuses to load; need pyarrow."""
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise missing_extra("pyarrow", "hub", f"`to={self.to}`") from error
        super().require(entry)
        if len(set(entry.class_names)) < len(entry.class_names):
            raise UsageError(f"`to={self.to}`: two classes have the same name", ELSEWHERE)

    def file_name(self, split: str, number: int, total: int) -> str:
        """Name it as the hub does, which shows what is named so."""
        return f"{split}-{number:05}-of-{total:05}{self.ending}"

    @contextmanager
    def create(self, path: Path, entry: Entry, first: int) -> Iterator[Put]:
        """Write groups of `GROUP_BYTES`: pages with sums, and an index that finds a row."""
        import pyarrow
        from pyarrow import parquet

        schema, waiting = _schema(entry), list[Row]()
        options = {"write_page_checksum": True, "write_page_index": True, "use_dictionary": False}
        with (
            path.open("xb") as file,
            parquet.ParquetWriter(file, schema, compression="none", **options) as writer,
        ):

            def flush() -> None:
                if waiting:
                    table = pyarrow.Table.from_pylist(list(map(_cells, waiting)), schema)
                    writer.write_table(table, row_group_size=len(waiting))
                    waiting.clear()

            def put(rows: list[Row]) -> None:
                waiting.extend(rows)
                if sum(len(row.png) for row in waiting) >= GROUP_BYTES:
                    flush()

            yield put
            flush()

    def read(self, path: Path, entry: Entry) -> Iterator[Row]:
        """Read by pyarrow, which compares the sums of pages."""
        from pyarrow import parquet

        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            if not file.schema_arrow.equals(_schema(entry), check_metadata=True):
                raise ValueError(f"{path.name}: its schema differs")
            # One by one: `iter_batches` keeps all that it has read of a file.
            for group in range(file.num_row_groups):
                for cells in file.read_row_group(group, use_threads=False).to_pylist():
                    yield _row(entry, cells)


EXPORTER = ParquetExporter()


def _schema(entry: Entry) -> Any:
    """Return the columns, and what `datasets` writes of them."""
    import pyarrow

    picture = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    classes: dict[str, Any] = {"names": list(entry.class_names), "_type": "ClassLabel"}
    kind, label = pyarrow.int64(), "label"
    several = pyarrow.list_(pyarrow.field("element", kind))
    if entry.manifest.source.task == "multilabel":
        kind, label, classes = several, "labels", {"feature": classes, "_type": "List"}
    features = {"image": {"_type": "Image"}, label: classes}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    return pyarrow.schema({"image": picture, label: kind}, metadata=about)


def _cells(row: Row) -> dict[str, Any]:
    cells: dict[str, Any] = {"image": {"bytes": row.png, "path": row.name}, "label": row.label}
    if isinstance(row.label, list):
        cells["labels"] = [number for number, has in enumerate(row.label) if has]
    return cells


def _row(entry: Entry, cells: dict[str, Any]) -> Row:
    label = cells.get("label")
    if label is None:
        label = [int(number in cells["labels"]) for number in range(len(entry.class_names))]
    return Row(cells["image"]["bytes"], label, cells["image"]["path"])
