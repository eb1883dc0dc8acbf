"""What the pages say is so: their commands and programs run, their links lead somewhere."""

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import pixelprep
from pixelprep.cli.app import app
from pixelprep.sources import REGISTRY
from pixelprep.training.models import reference_cnn
from pixelprep.training.serving import serving_model
from tests.helpers import shapes
from tests.helpers.cli import command_line, parse, run
from tests.helpers.packages import ROOT
from tests.helpers.pages import (
    PAGES,
    TEXTS,
    Block,
    anchors,
    arguments,
    blocks,
    links,
    programs,
    prose,
)

BLOCKS = [block for page in PAGES for block in blocks(page)]
# Each program of these pages is run by a module of its own.
ELSEWHERE = {
    "augmentation.md": "package/test_docs_augmentation.py",
    "exports.md": "exporters/test_readme.py",
    "feeds.md": "package/test_docs_feeds.py",
    "readers.md": "format/test_other_readers.py",
    "serving.md": "training/test_portable.py",
    "sharing.md": "package/test_docs_sharing.py",
}
NOT_OURS = ("python3 -m venv ", "pip install ", "export ")  # what packages and shells do
COMMANDS = [(b.page, line) for b in BLOCKS for line in b.commands if not b.reason]
COMMANDS = [(page, line) for page, line in COMMANDS if not line.startswith(NOT_OURS)]
INLINE = re.findall(r"`(pixelprep [^`]+)`", PAGES["data.md"].read_text())


# Blocks


def test_every_block_is_run_or_tells_why_not() -> None:
    """A block is a program or commands, which tests run, or a figure; those of other languages are
    on a page that has tests of its own.
    """
    for page, module in ELSEWHERE.items():
        assert page not in PAGES or page in (ROOT / "tests" / module).read_text(), page
    for block in BLOCKS:
        known = block.language in ("python", "sh", "console", "text")
        assert known or block.reason or block.page in ELSEWHERE, block
        assert block.language not in ("sh", "console") or block.commands, block


def test_every_fence_is_found() -> None:
    """No block is overlooked, because its fence is indented or has no end."""
    for page, path in PAGES.items():
        assert len(re.findall(r"(?m)^ *```", path.read_text())) == 2 * len(blocks(page)), page


# Commands


@pytest.mark.parametrize("page", dict.fromkeys(page for page, _ in COMMANDS))
def test_commands_are_taken(page: str) -> None:
    """A command line is understood: the command is there, and all its options and values."""
    for line in [one for at, one in COMMANDS if at == page]:
        assert line.startswith("pixelprep "), line
        if not line.endswith("--help"):
            parse(arguments(line))


def test_commands_in_tables_are_taken() -> None:
    """Likewise those of the page about data that stand in a sentence or a table."""
    for line in INLINE:
        parse(arguments(line))


def test_commands_that_are_none_are_found_out() -> None:
    """What is no command, no option or no value of it is not taken."""
    assert len(COMMANDS) > 50
    for wrong in ("prepair", "prepare --modus center", "prepare --workers many", "cache clear"):
        with pytest.raises(Exception, match=r"prepair|modus|integer|clear"):
            parse(wrong.split())


def test_options_are_there() -> None:
    """Every option that a text names is one of a command's, or of a script beside it."""
    named = {one for path in PAGES.values() for one in re.findall(r"`(--[a-z-]+)", prose(path))}
    assert named >= {"--workers", "--cache-dir", "--group-pattern"}
    assert named - {"--help"} <= options_of(get_command(app))


def options_of(command: Any) -> set[str]:
    """Return the options of a command and of all below it."""
    own = {option for parameter in command.params for option in parameter.opts}
    return own.union(*(options_of(one) for one in getattr(command, "commands", {}).values()))


def test_the_readme_shows_what_prepare_prints(tmp_path: Path) -> None:
    """But for times and folders, what stands there is what a first `prepare sample` prints."""
    done = run("prepare", "sample", "--cache-dir", str(tmp_path / "cache"), text=True)
    shown = console("README.md")["pixelprep prepare sample"]
    said = (done.stderr + done.stdout).replace(str(tmp_path / "cache"), "~/.cache/pixelprep")
    assert masked(shown, r"in [\d.]+ s") == masked(said, r"in [\d.]+ s")


@pytest.mark.long
def test_the_readme_shows_what_train_prints(here: Path) -> None:
    """But for times, losses and accuracies, which another processor rounds differently."""
    pytest.importorskip("tensorflow", reason="the extra `train` is not installed")
    pixelprep.prepare("sample", quiet=True)
    done = run("train", "sample", cold=True)  # that has yet to start TensorFlow
    assert done.returncode == 0, done.stderr
    differs = r"\d\.\d{4}\b|[\d.]+%|[\d.]+ s\b|\S*runs/sample-standardize-[\d-]+"
    shown = console("README.md")["pixelprep train sample"]
    assert masked(shown, differs) == masked(done.stderr + done.stdout, differs)


def console(page: str) -> dict[str, str]:
    """Return what a page shows as printed by each command."""
    (block,) = (one for one in blocks(page) if one.language == "console")
    parts = re.split(r"(?m)^\$ (.+)$", block.text)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def masked(text: str, differs: str) -> list[str]:
    """Return the lines of a text, without what differs from run to run."""
    return [re.sub(differs, "…", line) for line in text.strip().splitlines()]


# Commands on data that is made here, without network or training

NOT_MADE_HERE = re.compile(r"\.tgz|200\.zip|icml_face|sign_mnist|usps|catvnoncat")
GROUPS = [block.commands for block in blocks("data.md")] + [[line] for line in INLINE]


def is_local(line: str) -> bool:
    """Return whether a command prepares what is made here."""
    command, *rest = arguments(line)
    name = "".join(rest[:1])
    made = name.startswith("./") and not NOT_MADE_HERE.search(name)
    return command == "prepare" and made and "--workers" not in rest  # which start for seconds


LOCAL = [group for group in GROUPS if group and all(map(is_local, group))]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all that the page's commands name."""
    pytest.importorskip("pyarrow", reason="the extra `hub` is not installed")
    pytest.importorskip("scipy", reason="the extra `matlab` is not installed")
    top = tmp_path_factory.mktemp("data")
    shapes.write_all(top)
    return top


@pytest.mark.parametrize("group", LOCAL, ids=" ".join)
def test_commands_do_what_they_should(
    group: list[str],
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A command of the page gives an entry, of the data that the page says is there."""
    assert len(LOCAL) > 40
    monkeypatch.chdir(data)
    for line in group:
        command_line().main([*arguments(line), "--json"], standalone_mode=False)
        answer = json.loads(capsys.readouterr().out)
        assert Path(answer["path"], "manifest.json").is_file()


# What takes a network, a browser, a terminal, or a run that was broken off is parsed above.
FAR = re.compile(r"mnist|s3:|https:|hf:|tfds:|torchvision:|sklearn:|remote ls|--resume|--install-")
ON_PAGES = ["README.md", "cache.md", "commands.md", "install.md", "scalings.md", "training.md"]


@pytest.mark.long
@pytest.mark.parametrize("page", ON_PAGES)
def test_all_other_commands_run(
    page: str, here: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, in a folder with the pictures, the run and the module that they name;
    trainings are of one epoch.
    """
    pytest.importorskip("tensorflow", reason="the extra `train` is not installed")
    monkeypatch.setenv("PIXELPREP_CACHE_DIR", "cache")
    monkeypatch.setattr("webbrowser.open", lambda _: True)
    shutil.copytree(data / "photos", "photos")
    Path("mine.py").write_text(programs("augmentation.md")[0])
    entry = pixelprep.prepare("sample", quiet=True)
    if page == "training.md":
        pixelprep.train(entry, epochs=1, run_dir="runs/NAME", quiet=True)
        pixelprep.export(entry, "new-photos", "png", quiet=True)
        shutil.copy(next(Path("new-photos").rglob("*.png")), "photo.png")
    for line in [one for at, one in COMMANDS if at == page and not FAR.search(one)]:
        given = arguments(line)
        few = ["--epochs", "1"] if given[0] == "train" else []
        yes = ["--yes"] if given[:2] in (["cache", "remove"], ["cache", "prune"]) else []
        command_line().main([*given, *few, *yes], standalone_mode=False)


# Programs


def own_programs() -> list[Any]:
    """Return each program of a page without tests of its own."""
    found = [b for b in BLOCKS if b.language == "python" and b.page not in ELSEWHERE]
    return [pytest.param(b, id=f"{b.page}{'-keras' * needs_tensorflow(b)}") for b in found]


def needs_tensorflow(block: Block) -> bool:
    """Return whether a program takes TensorFlow."""
    return bool(re.search("to_tf|to_keras|import keras", block.text))


@pytest.mark.parametrize("block", own_programs())
def test_programs_run(block: Block, here: Path) -> None:
    """A program runs as it stands, where the files that it names are; some need no pixelprep."""
    if needs_tensorflow(block) and find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed")
    entry = pixelprep.prepare("sample", mode="standardize", quiet=True)
    if "serving.keras" in block.text:
        model = reference_cnn((28, 28, 1), 10)
        classes = entry.class_names
        serving_model(model, entry.scaling, (28, 28, 1), "float32", classes).save("serving.keras")
    exec(block.text, {})


# Links


# Pages that others write; a link to them is right before they are there.
@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    """The file is there, and the heading in it."""
    for link in links(path):
        to, _, anchor = link.partition("#")
        target = (path.parent / to).resolve() if to else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_messages_and_docstrings_name_pages_that_are_there() -> None:
    """What the package and the scripts say of a page, or of a section of the format, is so."""
    sections = {int(n) for n in re.findall(r"(?m)^## (\d+)\. ", TEXTS[-4].read_text())}
    found = set()
    for path in [*(ROOT / "pixelprep").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]:
        text = path.read_text()
        for name in re.findall(r"\b(?:docs|data|scripts)/\w+\.(?:md|ipynb)\b", text):
            found.add(name)
            assert (ROOT / name).exists(), (path, name)
        for number in re.findall(r"FORMAT\.md, section (\d+)", text):
            assert int(number) in sections, (path, number)
        assert not re.search(r"\bREADME, [A-Z][a-z]", re.sub("(?m)^from .*", "", text)), (
            f"{path}: README has no such sections; docs/ has them"
        )
    assert found >= {"docs/sharing.md", "data/FORMAT.md"}


def test_the_readme_is_short() -> None:
    """It has 165 lines at most; prose has 100 columns at most, and tables and pictures more."""
    lines = PAGES["README.md"].read_text().splitlines()
    assert len(lines) <= 165
    assert [one for one in lines if len(one) > 100 and not one.startswith(("|", "!["))] == []


# Facts


def test_known_sets_are_as_the_page_has_them() -> None:
    """The rows of each known set are those that it is checked against; each group is named, and
    README has their number.
    """
    page = PAGES["data.md"].read_text()
    rows = re.findall(
        r"(?m)^\| `pixelprep prepare ([\w/-]+)` \| ([\d,–]+), ([\d,–]+), ([\d,–]+)", page
    )
    told = {
        name: dict(zip(("train", "val", "test"), counts, strict=True)) for name, *counts in rows
    }
    for name, counts in told.items():
        known = REGISTRY[name.replace("/", "-")]
        held = {split: f"{count:,}" for split, count in known.rows.items()}
        assert {split: count for split, count in counts.items() if count != "–"} == held
    groups = {known.group or name for name, known in REGISTRY.items()}
    named = {name.partition("/")[0] for name in re.findall(r"prepare ([\w/-]+)", page)}
    assert groups <= named
    assert f"one of {len(REGISTRY)} datasets known by name" in PAGES["README.md"].read_text()
