"""A hint is a command that works: each is given, and what it says is typed."""

import shlex
from pathlib import Path

import numpy as np
import pytest

import pixelprep
from tests.helpers.cli import failure, run
from tests.helpers.damage import flip_a_byte
from tests.helpers.data import arrays
from tests.helpers.raw_files import PAIRS, write_npz

(X, Y), (X2, Y2) = PAIRS
LEAK = np.concatenate([X[:2], X2[2:]]), np.concatenate([Y[:2], Y2[2:]])

# By situation: the command, its hint, and the option of the hint; the last of equal ones counts.
ADDED = {
    "channels first": ("prepare ./nchw.npz", "--layout nchw turns them", "--layout nchw"),
    "labels below 0": ("prepare ./below.npz", "--renumber numbers those", "--renumber"),
    "labels from -1": ("prepare ./below.npz", "--labels-from -1 counts", "--labels-from -1"),
    "labels far apart": ("prepare ./apart.npz", "--renumber numbers those", "--renumber"),
    "a leak": ("prepare ./leak.npz --on-leak fail", "--on-leak drop leaves", "--on-leak drop"),
    **{
        f"{given} is too large for float16": (
            f"prepare ./{data}.npz {given} --dtype float16",
            hint,
            option,
        )
        for data, given, hint, option in (
            ("large", "--mode center", "use --dtype float32", "--dtype float32"),
            ("deep", "--mode center", "or divide integers first: --rescale", "--rescale"),
            ("bytes", "--mode normalize --range -9e9,1", "or a smaller --range", "--range -1,1"),
            ("bytes", "--mode fixed --mean 0 --std 1e-9", "or a larger --std", "--std 1"),
        )
    },
    "not prepared": ("path ./digits", "or here with --prepare", "--prepare"),
}


@pytest.fixture
def files(digits: str) -> str:
    """Put files that need an option beside the digits."""
    first = X.reshape(len(X), *X.shape[1:3], -1)[..., :1].transpose(0, 3, 1, 2).repeat(3, axis=1)
    write_npz(Path("nchw.npz"), ((first, Y), (first[:8] // 2, Y[:8])))
    write_npz(Path("below.npz"), ((X, Y - 1), (X2, Y2 - 1)))
    write_npz(Path("apart.npz"), ((X, Y * 10**6), (X2, Y2 * 10**6)))
    write_npz(Path("leak.npz"), ((X, Y), LEAK))
    write_npz(Path("bytes.npz"), ((X, Y), (X2, Y2)))
    large = X.astype("float32") * 1000
    write_npz(Path("large.npz"), ((large, Y), (large[:8] / 2, Y[:8])))
    deep = X.astype("uint16") // 50
    bright = deep[:8] + np.uint16(65530)  # more than float16 holds
    write_npz(Path("deep.npz"), ((deep, Y), (bright, Y[:8])))
    return digits


@pytest.mark.parametrize("situation", ADDED)
def test_the_option_of_a_hint_is_the_way_on(files: str, situation: str) -> None:
    """The same command with the option that the hint names succeeds."""
    command, expected, option = ADDED[situation]
    _, hint = failure(run(*command.split()), status=2 if "float16" in situation else 1)
    assert expected in hint
    done = run(*command.split(), *option.split())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    ["info {}", "info {} --cache-dir 'two  caches'", "verify {}", "export {} out --to npz"],
)
def test_what_is_not_prepared_is_prepared_as_the_hint_says(digits: str, command: str) -> None:
    """Of data that is there but has no entry, the hint is the whole command, its cache included;
    after it the first command works.
    """
    words = shlex.split(command.format(f"./{Path(digits).name}"))
    _, hint = failure(run(*words))
    assert hint.startswith("prepare it first: pixelprep prepare ")
    _, _, *typed = shlex.split(hint.removeprefix("prepare it first: "))
    assert run("prepare", *typed).returncode == 0
    done = run(*words)
    assert done.returncode == 0, done.stderr


def test_a_known_name_without_an_entry_is_prepared_as_the_hint_says() -> None:
    """The command for a dataset that is known by name is given as it stands."""
    _, hint = failure(run("info", "sample"))
    assert hint == "prepare it first: pixelprep prepare sample"


def test_one_of_several_entries_is_chosen_as_the_hint_says(digits: str) -> None:
    """Each name that an ambiguous one is answered with is one of an entry."""
    made = [pixelprep.prepare(digits, mode=mode, quiet=True) for mode in ("center", "normalize")]
    _, hint = failure(run("info", digits))
    names = [f"{entry.dataset}/{entry.path.name}" for entry in made]
    assert all(name in hint for name in names)
    assert [pixelprep.open(name).key for name in names] == [entry.key for entry in made]


def test_damage_is_repaired_as_the_hint_says(digits: str) -> None:
    """`verify --repair` makes a damaged entry whole."""
    entry = pixelprep.prepare(digits, quiet=True)
    flip_a_byte(entry.path)
    _, hint = failure(run("info", entry.key))
    assert hint.startswith("verify it with --repair")
    assert run("verify", entry.key, "--repair").returncode == 0
    assert run("info", entry.key).returncode == 0


def test_every_command_takes_every_name_of_an_entry(digits: str, tmp_path: Path) -> None:
    """Folder, key, its beginning, DATASET/MODE-KEY, the dataset and the path of its data mean the
    same entry, also in another folder than that of the data.
    """
    entry = pixelprep.prepare(digits, quiet=True)
    data = Path(digits).absolute()
    names = [str(entry.path), entry.key, entry.key[:5], f"digits/{entry.path.name}", str(data)]
    (tmp_path / "elsewhere").mkdir()
    for name in [*names, "digits"]:
        assert pixelprep.open(data if name == "digits" else name).path == entry.path
        assert run("path", name, cwd=tmp_path / "elsewhere").stdout.strip() == str(entry.path)
        done = run("verify", name, cwd=tmp_path / "elsewhere")
        assert done.stdout.startswith(str(entry.path)), done.stderr


def test_a_name_that_is_also_a_folder_here_is_no_entry(digits: str) -> None:
    """A plain word for data of one's own means its entry only where no such folder is."""
    pixelprep.prepare(arrays(name="memory"), quiet=True)
    assert pixelprep.find_entry("memory").dataset == "memory"
    Path("memory").mkdir()
    with pytest.raises(
        pixelprep.EntryError, match="memory, standardize, with these options: not prepared"
    ):
        pixelprep.find_entry("memory")
