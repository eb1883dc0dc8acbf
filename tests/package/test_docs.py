"""What docs/data.md says is so: its commands run, its programs too, its options are there."""

import json
import re
import shlex
from pathlib import Path

import pytest

from pixelprep.sources import REGISTRY
from tests.helpers import shapes
from tests.helpers.cli import command_line, parse
from tests.helpers.packages import ROOT
from tests.package.test_api import blocks

pytest.importorskip("pyarrow", reason="the extra `hub` is not installed")
pytest.importorskip("scipy", reason="the extra `matlab` is not installed")

PAGE = (ROOT / "docs" / "data.md").read_text()
INLINE = re.findall(r"`(pixelprep [^`]+)`", PAGE)
IN_BLOCKS = [text for language, text in blocks(PAGE) if not language]
GROUPS = [text.splitlines() for text in [*IN_BLOCKS, *dict.fromkeys(INLINE)]]


def arguments(line: str) -> list[str]:
    """Return the arguments of a command, as a shell divides them."""
    return shlex.split(line.replace("\\|", "|"), comments=True)[1:]


def is_run(line: str) -> bool:
    """Return whether a command works on data that is made here, without network or training."""
    command, *rest = arguments(line)
    name = "".join(rest[:1])
    return command == "prepare" and name.startswith("./") and not OF_KNOWN_SETS.search(name)


OF_KNOWN_SETS = re.compile(r"\.tgz|200\.zip|icml_face|sign_mnist|usps|catvnoncat")  # not made here
RUN = [group for group in GROUPS if all(map(is_run, group))]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all that the page's commands name."""
    top = tmp_path_factory.mktemp("data")
    shapes.write_all(top)
    return top


@pytest.mark.parametrize("group", RUN, ids=" ".join)
def test_commands_do_what_they_should(
    group: list[str],
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A command of the page gives an entry, of the data that the page says is there."""
    monkeypatch.chdir(data)
    for line in group:
        command_line().main([*arguments(line), "--json"], standalone_mode=False)
        answer = json.loads(capsys.readouterr().out)
        assert Path(answer["path"], "manifest.json").is_file()


def test_all_others_are_taken() -> None:
    """The commands that download, train or read what others publish have no unknown option."""
    assert len(RUN) > 40
    for line in (line for group in GROUPS if group not in RUN for line in group):
        parse(arguments(line))


@pytest.mark.parametrize("program", [text for language, text in blocks(PAGE) if language])
def test_programs_run(program: str) -> None:
    """A program of the page runs as it stands."""
    exec(program, {})


def test_known_sets_are_as_the_page_has_them() -> None:
    """The rows of each known set are those that it is checked against; each group is named."""
    rows = re.findall(
        r"(?m)^\| `pixelprep prepare ([\w/-]+)` \| ([\d,–]+), ([\d,–]+), ([\d,–]+)", PAGE
    )
    told = {
        name: dict(zip(("train", "val", "test"), counts, strict=True)) for name, *counts in rows
    }
    for name, counts in told.items():
        known = REGISTRY[name.replace("/", "-")]
        held = {split: f"{count:,}" for split, count in known.rows.items()}
        assert {split: count for split, count in counts.items() if count != "–"} == held
    groups = {known.group or name for name, known in REGISTRY.items()}
    named = {name.partition("/")[0] for name in re.findall(r"prepare ([\w/-]+)", PAGE)}
    assert groups <= named
