"""Pushing to a hub: its own client, against a hub on 127.0.0.1; read back by others' libraries."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep.errors import RemoteError, UsageError
from tests.helpers.hub import Hub

ABOUT = ("README.txt", "croissant.json", "entry.json")  # beside the pictures
TOKEN = "hf_" + "hunter2" * 5
URL = "hf://datasets/me/shapes"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Return a hub of one's own, which `huggingface_hub` asks in place of the real one."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="pushing needs it")
    pytest.importorskip("pyarrow", reason="Parquet needs it")
    server = Hub()
    server.tokens.add(TOKEN)
    for name, value in {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)  # read from the environment before
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield server
    server.stop()


def arrays(count: int = 12, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return images of noise, and labels that count up."""
    noise = np.random.default_rng(count)
    return noise.integers(0, 256, (count, 5, 4, channels), np.uint8), np.arange(count) % 3


def entry_of(name: str = "shapes", count: int = 12, **options: Any) -> pixelprep.Entry:
    """Prepare small arrays of two splits."""
    classes = ("disc", "ring: thick", "yes")  # which YAML could take for other things
    data = pixelprep.Arrays(name, arrays(count), arrays(6), class_names=classes)
    return pixelprep.prepare(data, quiet=True, **options)


def files_of(hub: Hub) -> dict[str, bytes]:
    """Return the files of the head."""
    return hub.repositories["me/shapes"][hub.heads["me/shapes", "main"]]


def header(hub: Hub) -> dict[str, Any]:
    """Return what the card tells programs."""
    yaml = pytest.importorskip("yaml", reason="the card's header is YAML")
    found: dict[str, Any] = yaml.safe_load(files_of(hub)["README.md"].decode().split("---\n")[1])
    return found


def test_a_push_is_one_commit_and_prepare_reads_the_very_data_back(hub: Hub) -> None:
    """A private repository is made, its files are there by one commit; the same again is no
    commit, other data replaces all files; and prepared from there it has the entry's key.
    """
    entry = entry_of()
    done = pixelprep.push(entry, URL, quiet=True)
    assert not done.present
    assert done.url == f"{URL}@{hub.heads['me/shapes', 'main']}"
    assert hub.private == {"me/shapes"}
    assert len(hub.repositories["me/shapes"]) == 2  # the empty one, and this
    parquet = [f"data/{name}-00000-of-00001.parquet" for name in ("test", "train")]
    assert sorted(files_of(hub)) == sorted(
        [".gitattributes", "README.md", *(f"data/{name}" for name in ABOUT), *parquet]
    )
    assert pixelprep.push(entry, URL, quiet=True).present
    assert len(hub.repositories["me/shapes"]) == 2
    found = pixelprep.prepare(done.url, quiet=True)
    assert found.manifest.source == entry.manifest.source
    assert found.manifest.key == entry.manifest.key
    assert found.class_names == entry.class_names
    assert pixelprep.prepare(done.url.replace("hf://datasets/", "hf:"), quiet=True).cached
    hub.repositories["me/shapes"][hub.heads["me/shapes", "main"]]["data/train-9.parquet"] = b"old"
    pixelprep.push(entry_of(count=15), URL, quiet=True)
    assert "data/train-9.parquet" not in files_of(hub)
    assert header(hub)["dataset_info"]["splits"][0]["num_examples"] == 15


def test_the_card_tells_programs_and_people(hub: Hub) -> None:
    """Splits, rows, classes and licence in its header; in its text the statistics of train, as
    pixels and over their maximum, by NumPy, in whichever unit the entry has them.
    """
    pixels = arrays()[0].astype(np.float64)
    for mode in ("standardize", "normalize"):
        pixelprep.push(entry_of(mode=mode), URL, quiet=True)
        text = files_of(hub)["README.md"].decode()
        for values in (pixels, pixels / 255):
            assert f"| {values.mean():.10g} | {values.std():.10g} |" in text
    about = header(hub)
    assert about["license"] == "unknown"
    assert about["task_categories"] == ["image-classification"]
    assert about["size_categories"] == ["n<1K"]
    names = about["dataset_info"]["features"][1]["dtype"]["class_label"]["names"]
    assert names == {"0": "disc", "1": "ring: thick", "2": "yes"}
    paths = about["configs"][0]["data_files"]
    assert [one["split"] for one in paths] == ["train", "test"]
    sizes = {one["name"]: one["num_bytes"] for one in about["dataset_info"]["splits"]}
    assert sizes["train"] == len(files_of(hub)["data/train-00000-of-00001.parquet"])


@pytest.mark.parametrize(
    ("route", "status", "told"),
    [
        ("whoami", 401, "401.*hf auth login"),
        ("create", 403, "403.*may write"),
        ("validate-yaml", 400, "400.*said by the server"),
        ("preupload", 403, "403.*may write"),
        ("commit", 412, "412.*push again"),
        ("commit", 400, "400"),
    ],
)
def test_what_the_hub_refuses_is_one_line_and_no_commit(
    hub: Hub, route: str, status: int, told: str, cache: Path
) -> None:
    """Whichever request fails, the repository has nothing of it, nor has the token been told."""
    hub.faults[route] = status, 0
    with pytest.raises(RemoteError) as raised:
        pixelprep.push(entry_of(), URL, quiet=True)
    assert re.search(told, str(raised.value))
    assert "hunter2" not in str(raised.value)
    assert "\n" not in str(raised.value)
    published = hub.repositories.get("me/shapes", {}).values()
    assert all(files.keys() == {".gitattributes"} for files in published)
    assert not list((cache / ".tmp").glob("hub-*"))


def test_a_card_that_somebody_wrote_is_not_replaced(hub: Hub) -> None:
    """Unless that is asked for; and no URL is taken but that of a dataset."""
    hub.publish("me/shapes", {"README.md": b"# Mine\n"})
    with pytest.raises(UsageError, match="written by hand"):
        pixelprep.push(entry_of(), URL, quiet=True)
    assert files_of(hub) == {"README.md": b"# Mine\n"}
    pixelprep.push(entry_of(), URL, force=True, quiet=True)
    assert b"# Mine" not in files_of(hub)["README.md"]
    for wrong in ("hf://datasets/me", "hf://models/me/shapes", f"{URL}/small"):
        with pytest.raises(UsageError, match="expected hf://datasets/OWNER/NAME"):
            pixelprep.push(entry_of(), wrong, quiet=True)


READ = """
import json, sys
import numpy
from datasets import load_dataset
found = load_dataset("me/shapes")
told = {
    name: {
        "images": [numpy.asarray(row["image"]).tolist() for row in split],
        "labels": split["label"][:],
        "names": split.features["label"].names,
    }
    for name, split in found.items()
}
json.dump(told, sys.stdout)
"""


@pytest.mark.long
def test_datasets_loads_what_was_pushed(hub: Hub) -> None:
    """`load_dataset("me/shapes")` has every pixel, label and name, through the same hub."""
    pytest.importorskip("datasets", reason="it is what reads the hub")
    pixelprep.push(entry_of(), URL, quiet=True)
    done = subprocess.run(
        [sys.executable, "-c", READ], env=os.environ, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    for name, count in (("train", 12), ("test", 6)):
        images, labels = arrays(count)
        assert np.array_equal(np.array(found[name]["images"]), images[..., 0])
        assert found[name]["labels"] == labels.tolist()
        assert found[name]["names"] == ["disc", "ring: thick", "yes"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("route", "status"), [("preupload", 429), ("info", 500), ("upload", 500), ("commit", 500)]
)
def test_a_server_that_fails_midway_leaves_nothing(hub: Hub, route: str, status: int) -> None:
    """What the client tries again in vain is one line in the end; pushed again, all is there."""
    hub.faults[route] = status, 0
    with pytest.raises(RemoteError, match=str(status)):
        pixelprep.push(entry_of(), URL, quiet=True)
    assert files_of(hub).keys() == {".gitattributes"}
    hub.faults.clear()
    assert not pixelprep.push(entry_of(), URL, quiet=True).present
    assert "README.md" in files_of(hub)
