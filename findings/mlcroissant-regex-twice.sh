#!/usr/bin/env bash
# mlcroissant 1.1.1: the regex of a Croissant field with references is applied to its own result again.
#
# Guess:     a field's regex is applied once to the value of its source, whether or not the field also
#            references a key of another record set.
# Behaviour: With references the regex is applied for the join, and what it gave once more for the record:
#            where it matches its own result, the record has a shorter value than it was joined by. Where
#            it does not match again, the value stays right, with a warning in the log.
# Seen:      without references: [['cat-3'], ['dog-7']]
#            with references: [['cat', 11], ['dog', 22]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check mlcroissant==1.1.1 numpy==2.4.6
cat >read.py <<'PYTHON'
import hashlib
import json
from pathlib import Path

import mlcroissant as mlc

Path("images.csv").write_text("file\ncat-3-small\ndog-7-small\n")
Path("kinds.csv").write_text("kind,count\ncat-3,11\ndog-7,22\ncat,33\ndog,44\n")


def source(file, column, **options):
    return mlc.Source(file_object=file, extract=mlc.Extract(column=column), **options)


def records(joined):
    kind = mlc.Field(
        id="images/kind",
        name="kind",
        data_types=mlc.DataType.TEXT,
        source=source("images.csv", "file", transforms=[mlc.Transform(regex="(.+)-[^-]+")]),
    )
    fields = [kind]
    if joined:
        kind.references = mlc.Source(field="kinds/kind")
        fields.append(
            mlc.Field(
                id="images/count",
                name="count",
                data_types=mlc.DataType.INTEGER,
                source=mlc.Source(field="kinds/count"),
            )
        )
    kinds = [
        mlc.Field(
            id=f"kinds/{name}", name=name, data_types=data, source=source("kinds.csv", name)
        )
        for name, data in (("kind", mlc.DataType.TEXT), ("count", mlc.DataType.INTEGER))
    ]
    files = [
        mlc.FileObject(
            id=name,
            name=name,
            content_url=name,
            encoding_formats=["text/csv"],
            sha256=hashlib.sha256(Path(name).read_bytes()).hexdigest(),
        )
        for name in ("images.csv", "kinds.csv")
    ]
    metadata = mlc.Metadata(
        name="example",
        description="Example.",
        url="https://example.org",
        license="https://creativecommons.org/publicdomain/zero/1.0/",
        version="1.0.0",
        date_published="2026-01-01",
        cite_as="Example.",
        distribution=files,
        record_sets=[
            mlc.RecordSet(id="kinds", name="kinds", key="kinds/kind", fields=kinds),
            mlc.RecordSet(id="images", name="images", fields=fields),
        ],
    )
    Path("croissant.json").write_text(json.dumps(metadata.to_json(), default=str))
    rows = []
    for record in mlc.Dataset("croissant.json").records("images"):
        row = [record["images/kind"].decode()]
        if joined:
            row.append(int(record["images/count"]))
        rows.append(row)
    print(f"{'with' if joined else 'without'} references: {rows}")
    return rows


alone, joined = records(False), records(True)
raise SystemExit((alone, joined) != ([["cat-3"], ["dog-7"]], [["cat", 11], ["dog", 22]]))
PYTHON
venv/bin/python read.py
