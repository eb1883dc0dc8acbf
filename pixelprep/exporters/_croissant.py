"""Describe an export in Croissant, MLCommons' JSON-LD of data sets, which catalogues read.

It says which files there are, with their digests, what terms hold, what classes and splits there
are, and of Parquet and PNG also where each row's values are. Of other formats it has no words.
"""

from collections.abc import Mapping, Sequence
from typing import Any  # Any: JSON values

from pixelprep.dataset.entry import Entry
from pixelprep.exporters.base import ExportedFile
from pixelprep.format.layout import class_folder
from pixelprep.system import canonical

VERSION = "http://mlcommons.org/croissant/1.1"
# As the specification has it; a reader may know no other way to read a key.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{
        name: f"cr:{name}"
        for name in (
            *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract"),
            *("field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray"),
            *("isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet"),
            *("references", "regex", "repeated", "replace", "samplingRate", "separator", "source"),
            *("subField", "transform"),
        )
    },
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}
MEDIA_TYPES = {
    ".json": "application/json",
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".parquet": "application/x-parquet",
    ".tar": "application/x-tar",
    ".h5": "application/x-hdf5",
    ".npz": "application/x-npz",  # no zip to unpack
    ".tfrecord": "application/x-tfrecord",
}
ROWS = "default/"  # the record set of rows; the names of its fields begin so
FILES = "rows-of-all-splits"


def describe(entry: Entry, to: str, files: Sequence[ExportedFile]) -> bytes:
    """Return the content of ``croissant.json``, given all other files; pictures need no digest."""
    about, records = entry.manifest.provenance, [_splits(entry), _classes(entry, to)]
    distribution = [_file(file) for file in files if not file.name.endswith(".png")]
    found = RECORDS[to](entry) if to in RECORDS else None
    if found is not None:
        includes, media_type, fields = found
        about_files = {"includes": includes, "encodingFormat": media_type}
        distribution.append({"@type": "cr:FileSet", "@id": FILES, "name": FILES, **about_files})
        records.append(_record_set(ROWS[:-1], fields))
    values = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": entry.dataset,
        "description": f"{about.title or entry.dataset}: an entry of pixelprep as {to}",
        "conformsTo": VERSION,
        "license": about.licence,
        "url": about.homepage,
        "citeAs": about.citation,
        "version": f"1.0.0+{entry.key}",
        "distribution": distribution,
        "recordSet": records,
    }
    return canonical.dumps({name: value for name, value in values.items() if value}) + b"\n"


def _file(file: ExportedFile) -> dict[str, Any]:
    media_type = next(kind for end, kind in MEDIA_TYPES.items() if file.name.endswith(end))
    return {
        "@type": "cr:FileObject",
        "@id": file.name,
        "name": file.name,
        "contentUrl": file.name,
        "contentSize": f"{file.bytes} B",
        "encodingFormat": media_type,
        "sha256": file.sha256,
    }


def _record_set(name: str, fields: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": fields, **more}


def _field(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"@type": "cr:Field", "@id": name, "name": name, "dataType": kind, **more}


def _splits(entry: Entry) -> dict[str, Any]:
    name = "splits/name"
    rows = [{name: split} for split in entry.splits]
    key = {"dataType": "cr:Split", "key": {"@id": name}, "data": rows}
    return _record_set("splits", [_field(name, "sc:Text")], **key)


def _classes(entry: Entry, to: str) -> dict[str, Any]:
    """Return the classes: number and name and, of folders, how these are called."""
    fields = {"number": "sc:Integer", "name": "sc:Text"}
    rows = [{"number": at, "name": name} for at, name in enumerate(entry.class_names)]
    if to == "png":
        fields["folder"] = "sc:Text"
        rows = [{**row, "folder": class_folder(str(row["name"]))} for row in rows]
    named = [{f"classes/{name}": value for name, value in row.items()} for row in rows]
    key = {"@id": "classes/folder" if to == "png" else "classes/number"}
    every = [_field(f"classes/{name}", kind) for name, kind in fields.items()]
    return _record_set("classes", every, dataType="sc:Enumeration", key=key, data=named)


Rows = tuple[str, str, list[dict[str, Any]]]  # which files, of what kind, and what is in them


def _parquet(entry: Entry) -> Rows:
    several = entry.manifest.source.task == "multilabel"
    label = "labels" if several else "label"
    # No reference: by one, mlcroissant joins the two, and rows would come sorted by class.
    more: dict[str, Any] = {"description": "of classes/number"}
    more |= {"repeated": True} if several else {}
    fields = [
        _split_of_path(),
        _from_files("image", "sc:ImageObject", {"column": "image"}, {"jsonPath": "bytes"}),
        _from_files(label, "sc:Integer", {"column": label}) | more,
    ]
    if "names" in next(iter(entry.splits.values())).column_names:
        fields.append(_from_files("name", "sc:Text", {"column": "image"}, {"jsonPath": "path"}))
    return "*.parquet", MEDIA_TYPES[".parquet"], fields


def _png(entry: Entry) -> Rows | None:
    if entry.scaling.raw_dtype != "uint8":
        return None  # mlcroissant cuts off 16 bits at 255, and says nothing
    # Not of the property that tells splits, which mlcroissant replaces by what it makes of it.
    source = {"fileProperty": "filepath"}, {"regex": ".*/([^/]+)/[^/]+$"}
    fields = [
        _split_of_path(),
        _from_files("image", "sc:ImageObject", {"fileProperty": "content"}),
        _from_files("label", "sc:Text", *source) | {"description": "of classes/folder"},
    ]
    return "*.png", "image/png", fields


RECORDS = {"parquet": _parquet, "png": _png}


def _split_of_path() -> dict[str, Any]:
    # It is applied to what came of it once more by mlcroissant: it must fit that, too.
    source = {"fileProperty": "fullpath"}, {"regex": "([a-z]+)"}
    references = {"field": {"@id": "splits/name"}}
    return _from_files("split", "sc:Text", *source) | {"references": references}


def _from_files(name: str, kind: str, extract: Any, transform: Any = None) -> dict[str, Any]:
    source = {"fileSet": {"@id": FILES}, "extract": extract}
    if transform is not None:
        source["transform"] = transform
    return _field(ROWS + name, kind, source=source)
