"""What `pixelprep doctor` says is so, and it says what is wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import pixelprep
from pixelprep.reports import doctor as doctors
from pixelprep.system import disk_check, machine
from tests.helpers.process import Process, execute

COMMAND = [sys.executable, "-m", "pixelprep", "doctor"]


def examine_cache(path: Path) -> tuple[dict[str, object], list[doctors.Problem]]:
    """Return what is said of a cache at a path, and the problems."""
    problems: list[doctors.Problem] = []
    return doctors._cache(path, problems), problems


def test_all_is_examined_and_nothing_left(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A working installation has no problem but the package that does not import, which is told by
    its last line; nothing stays in the cache or in the place for temporary files, and neither the
    home folder nor a password is told.
    """
    (tmp_path / "broken.py").write_text("raise ImportError('lib.so.7: no such file')")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(doctors, "FRAMEWORKS", {"broken": "import broken"})
    monkeypatch.setattr(doctors, "IMPORTED", ("images",))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIXELPREP_CACHE_DIR", str(cache))
    monkeypatch.setenv("https_proxy", "http://me:hunter22@proxy:3128")
    monkeypatch.setenv("MY_TOKEN", "hunter22hunter22")
    before = sorted(tmp_path.rglob("*"))
    found = pixelprep.doctor()
    [problem] = [one for one in found.problems if "needs" not in one.message]
    assert problem.message == "importing broken fails: ImportError: lib.so.7: no such file"
    assert found.self_test["result"] == "right, to the last bit"
    assert found.cache["chosen_by"] == "PIXELPREP_CACHE_DIR"
    assert found.settings["https_proxy"] == "http://proxy:3128"
    told = json.dumps(found.to_dict())
    assert "hunter22" not in told
    assert str(tmp_path) not in told
    after = [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in path.parts]
    assert after == before


def test_a_disk_does_what_is_said(tmp_path: Path) -> None:
    """Of a folder here: renames, locks and names work, times are fine; and nothing is invented of
    its type and its room, by `df`.
    """
    tried = disk_check.check(tmp_path)
    assert (tried["renames"], tried["locks"], tried["keeps_composed_names"]) == (True, True, True)
    assert tried["case_sensitive"] == (not (tmp_path / "OLD").exists())
    columns = ["df", "--output=fstype", str(tmp_path)]
    assert machine.file_system(tmp_path) == execute(columns, check=True).stdout.split()[-1]


def test_a_file_in_place_of_the_cache(tmp_path: Path) -> None:
    """A cache that is a file, or lies below one, is a problem, with the way out."""
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "cache"):
        found, [problem] = examine_cache(path)
        assert (found["writable"], str(file) in problem.message) == (False, True)
        assert problem.hint.startswith("choose a folder")


def test_limits_of_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lowest limit of the group and of those above it counts, in both versions."""
    for name, group in (("two", "a/b"), ("one", "memory/a"), ("one", "cpu/a")):
        (tmp_path / name / group).mkdir(parents=True)
    (tmp_path / "two/a/memory.max").write_text("1000\n")
    (tmp_path / "two/a/b/memory.max").write_text("max\n")
    (tmp_path / "two/a/b/cpu.max").write_text("150000 100000\n")
    (tmp_path / "one/memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "one/memory/a/memory.limit_in_bytes").write_text("2000\n")
    (tmp_path / "one/cpu/a/cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "one/cpu/a/cpu.cfs_period_us").write_text("100000\n")
    text, groups = Path.read_text, "0::/a/b\n"
    monkeypatch.setattr(
        Path, "read_text", lambda p: groups if p == Path("/proc/self/cgroup") else text(p)
    )
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "two")
    assert (machine._cgroup_memory(), machine._cgroup_cores()) == (1000, 1.5)
    groups = "4:memory:/a\n3:cpu,cpuacct:/a\n"
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "one")
    assert (machine._cgroup_memory(), machine._cgroup_cores()) == (2000, 0.5)


def test_bounds_are_those_of_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """What everybody needs is there; a package below its bound is a problem, with the command."""
    problems: list[doctors.Problem] = []
    versions = {"h5py": "3.1", "tqdm": None}
    real = doctors._version
    monkeypatch.setattr(doctors, "_version", lambda name: versions.get(name, real(name)))
    found = doctors._extras(problems)["base"]
    assert isinstance(found, dict)
    assert (found["missing"], found["not_within"][0][:6]) == (["tqdm"], "h5py>=")
    assert problems[0] == doctors.Problem("pixelprep lacks tqdm", "pip install tqdm")


@pytest.mark.long
@pytest.mark.parametrize("unset", ["HOME", "PATH"])
def test_an_environment_that_lacks_all(tmp_path: Path, unset: str) -> None:
    """Without a home or a path of programs the command says what it finds, and no more."""
    environment = {name: value for name, value in os.environ.items() if name != unset}
    done = execute([*COMMAND, "--json", "--cache-dir", tmp_path / "cache"], env=environment)
    assert json.loads(done.stdout)["self_test"]["result"] == "right, to the last bit", done.stderr


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root")
def test_a_full_disk_a_read_only_one_and_no_network(tmp_path: Path) -> None:
    """A cache on a full tmpfs and one that is read-only are problems, and no socket is missed."""
    place = tmp_path / "disk"
    place.mkdir()
    for options, said in (("size=64k", "No space left"), ("size=9m,ro", "Read-only")):
        script = f'mount -t tmpfs -o {options} none {place} && exec "$@"'
        command = ["unshare", "-m", "-n", "sh", "-c", script, "sh", *COMMAND]
        done = execute([*command, "--json", "--cache-dir", place])
        found = json.loads(done.stdout)
        assert (done.returncode, found["cache"]["file_system"]) == (1, "tmpfs")
        assert any(said in problem["message"] for problem in found["problems"])
        assert found["self_test"]["result"] == "right, to the last bit"


@pytest.mark.long
def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    """Interrupted while all is being tried, the command leaves no file and no process behind."""
    place = tmp_path / "tmp"
    place.mkdir()
    environment = os.environ | {"TMPDIR": str(place), "PIXELPREP_CACHE_DIR": str(tmp_path / "c")}
    with Process(COMMAND, env=environment, stdout=subprocess.PIPE, text=True) as process:
        while not any(place.glob("*/sample")) and process.poll() is None:
            pass
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 130
    assert list(place.iterdir()) == []
