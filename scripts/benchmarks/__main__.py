"""The command line of `scripts/bench`."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.place import FILES, LeftOut, Place
from benchmarks.rows import ROWS
from benchmarks.table import Line, as_json, as_markdown

INTERRUPTED = 130


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return value


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    data = os.environ.get("PIXELPREP_TEST_DATA")
    made = argparse.ArgumentParser("scripts/bench", description="Measure pixelprep and its peers.")
    made.add_argument(
        "--source",
        type=Path,
        metavar="DIR",
        default=Path(data) / "mnist" if data else None,
        help="MNIST's four gzipped files (default: $PIXELPREP_TEST_DATA/mnist)",
    )
    made.add_argument("--only", metavar="NAME[,NAME]", help="run these rows")
    made.add_argument("--list", action="store_true", help="list the rows and exit")
    made.add_argument("--rounds", type=_positive, metavar="N", help="after one to warm up")
    made.add_argument("--quick", action="store_true", help="fewer rounds, smaller sizes")
    made.add_argument("--json", type=Path, metavar="FILE", help="write every value as JSON")
    made.add_argument("--markdown", type=Path, metavar="FILE", help="write what is printed")
    made.add_argument("--work", type=Path, metavar="DIR", help="keep temporary files here")
    made.add_argument(
        "--keep", type=Path, metavar="DIR", help="measure here, and leave the data to later runs"
    )
    return made


def checked(given: argparse.Namespace) -> list[str]:
    """Return the rows to run; exit where an option makes no sense."""
    names = given.only.split(",") if given.only else list(ROWS)
    if wrong := [name for name in names if name not in ROWS]:
        parser().error(f"no row {', '.join(wrong)}: expected some of {', '.join(ROWS)}")
    if given.source is None:
        parser().error("name the folder of MNIST's files with --source")
    for file in filter(None, (given.json, given.markdown)):
        if not file.parent.is_dir():  # said now, and not after an hour
            parser().error(f"{file}: no such folder")
    wanted = [name for pair in FILES.values() for name in pair]
    if missing := [name for name in wanted if not (given.source / name).is_file()]:
        parser().error(f"--source {given.source}: lacks {', '.join(missing)}")
    return names


def measured(names: Sequence[str], place: Place) -> tuple[list[Line], list[str]]:
    """Return all lines, and what was left out; what fails does not end the run."""
    lines: list[Line] = []
    remarks: list[str] = []

    def say(remark: str) -> None:
        remarks.append(remark)
        _tell(remark)

    for name in names:
        _tell(f"{name}: {ROWS[name].what} …")
        begun = time.monotonic()
        try:
            for line in ROWS[name].run(place, say):
                lines.append(line)
                _tell(str(line))
        except LeftOut as reason:
            say(f"left out: {name}: {reason}")
        except Exception as error:
            say(f"failed: {name}: {type(error).__name__}: {error}")
        _tell(f"{name}: took {time.monotonic() - begun:.0f} s")
    return lines, remarks


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(given: argparse.Namespace, names: Sequence[str]) -> bool:
    """Measure in a folder that is gone at the end, however it ends, or is to be kept; then print.

    Returns
    -------
    bool
        Whether nothing of ours failed; a peer's failure is only mentioned.
    """
    for folder in filter(None, (given.work, given.keep)):
        folder.mkdir(parents=True, exist_ok=True)
    work = given.keep or Path(tempfile.mkdtemp(prefix="pixelprep-bench-", dir=given.work))
    work = work.resolve()
    try:
        facts = machine.facts(work)
        place = Place(given.source.resolve(), work, given.quick, given.rounds)
        place.settle()
        lines, remarks = measured(names, place)
    finally:
        if not given.keep:
            shutil.rmtree(work, ignore_errors=True)
    table = as_markdown(facts, lines, remarks)
    print(table, end="")
    if given.markdown:
        given.markdown.write_text(table)
    if given.json:
        given.json.write_text(as_json(facts, lines, remarks))
    return not any(remark.startswith("failed") for remark in remarks)


def main() -> None:
    """Parse, measure, print."""
    given = parser().parse_args()
    if given.list:
        for name, row in ROWS.items():
            print(f"{name:<15} {row.what}")
        return
    names = checked(given)
    # A terminated run cleans up as well.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        sys.exit(0 if run(given, names) else 1)
    except KeyboardInterrupt:
        _tell("interrupted")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
