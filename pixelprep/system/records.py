"""Keep JSON records that only save time: losing one costs work, never data."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any  # Any: JSON values

from pixelprep.system import canonical, fs, os_calls

MAX_BYTES = 64 << 20  # the record of an entry of 400,000 files


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record, unless the cache is read-only or its disk is full.

    It is written in place, so that a process killed meanwhile leaves no other file behind; a record
    that is half written, or written by two processes at once, is invalid JSON and counts as none.
    """
    with suppress(OSError):
        try:
            _write(path, record)
        except FileNotFoundError:  # another process just removed the empty folder (see `delete`)
            _write(path, record)


def _write(path: Path, record: Mapping[str, Any]) -> None:
    fs.ensure_dir(path.parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os_calls.NO_WAIT
    with os.fdopen(os_calls.open_plain(path, flags), "wb") as file:
        file.write(canonical.dumps(record))


def read(path: Path) -> dict[str, Any] | None:
    """Return the record at this path; None if there is none or it is damaged."""
    try:
        record = json.loads(fs.read_regular_file(path, MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def delete(path: Path) -> None:
    """Delete the record at this path, and its folder if it is then empty."""
    path.unlink(missing_ok=True)
    with suppress(OSError):  # it holds other records
        path.parent.rmdir()
