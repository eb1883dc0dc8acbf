"""What `pixelprep doctor` says is so, and it says what is wrong."""

import importlib.metadata
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import pixelprep
from pixelprep.installation import pip_command
from pixelprep.reports import doctor as doctors
from pixelprep.system import disk_check, machine
from pixelprep.system.child import Child, deferred_interrupts
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
    others = "needs", "is not the installed"  # where the environment is an older one
    [problem] = [one for one in found.problems if not any(x in one.message for x in others)]
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


def test_a_path_that_cannot_be_made(tmp_path: Path) -> None:
    """A name or a path too long for the system, and a link to nothing, are problems."""
    (tmp_path / "link").symlink_to("nothing")
    for path, said in (
        (tmp_path / ("x" * 300), "File name too long"),
        (tmp_path / "new" / ("x" * 300), "File name too long"),
        (tmp_path.joinpath(*["x" * 200] * 25), "File name too long"),
        (tmp_path / "link", "found a link to nothing"),
    ):
        found, [problem] = examine_cache(path)
        assert (found["exists"], found["writable"]) == (False, False)
        assert said in problem.message


def test_secrets_and_the_home_are_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a proxy no password is told, whatever is in it; of variables that pixelprep does not read
    only that they are set; and the home folder is ~ where a path begins, behind a link too.
    """
    monkeypatch.setenv("ALL_PROXY", "socks5h://us:sec/ret9@p:1")
    monkeypatch.setenv("http_proxy", "us:s/e,c@p:1")
    monkeypatch.setenv("PIXELPREP_OTHER", "hidden")
    monkeypatch.setenv("PIXELPREP_MIRROR", "https://us:a/b@host/x")
    told = doctors._settings()
    assert (told["ALL_PROXY"], told["http_proxy"]) == ("socks5h://p:1", "p:1")
    assert (told["PIXELPREP_OTHER"], told["PIXELPREP_MIRROR"]) == ("set", "https://host/x")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    text = f"a={tmp_path}/real/x:{tmp_path}/link file://{tmp_path}/link/y /w{tmp_path}/link"
    assert doctors._public(text) == f"a=~/x:~ file://~/y /w{tmp_path}/link"


def test_hints_name_what_can_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package is named as it is installed, not as its module; TensorFlow by its own wheel."""
    problems: list[doctors.Problem] = []
    installed = {"tensorflow-cpu": "2.18"}
    monkeypatch.setattr(doctors, "_version", installed.get)
    monkeypatch.setattr(doctors, "_imported_packages", lambda: {"PIL": "pillow"})
    with Child('print(\'{"PIL": "broken"}\')') as one, Child("import nothing") as other:
        doctors._tell_failed_imports(one, problems)
        doctors._framework("tensorflow", other, problems)
    assert [problem.hint.rpartition(" ")[2] for problem in problems] == ["pillow", "tensorflow-cpu"]
    assert all(pip_command() in problem.hint for problem in problems)


def test_the_running_code_and_its_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata of another version or place is a problem; without any, the checkout is named."""
    home = Path(pixelprep.__file__).resolve().parents[1]
    monkeypatch.setattr(doctors, "_place", lambda _: home / "older")
    [problem] = doctors._of_installation()
    assert f"in {home} is not the installed" in problem.message
    monkeypatch.setattr("importlib.metadata.distribution", missing)
    [problem] = doctors._of_installation()
    assert problem.hint == f"{pip_command()} {shlex.quote(str(home))}"


def missing(name: str) -> None:
    """Be `importlib.metadata.distribution` where there is none of this name."""
    raise importlib.metadata.PackageNotFoundError(name)


def test_a_smaller_tensorflow_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `train-cpu` is whole, `train` lacks nothing."""
    asked = {"train": ["tensorflow", "jinja2"], "train-cpu": ["tensorflow-cpu", "jinja2"]}
    needed = {extra: list(map(Requirement, names)) for extra, names in asked.items()}
    monkeypatch.setattr(doctors, "_requirements", lambda: needed)
    monkeypatch.setattr(doctors, "_version", {"tensorflow-cpu": "2.18", "jinja2": "3.1"}.get)
    train = doctors._extras([])["train"]
    assert train == {"installed": {"jinja2": "3.1"}, "missing": [], "not_within": []}


def test_a_working_directory_that_was_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a problem, and what a child says of it is told without the name of the class."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    [problem] = doctors._of_working_directory()
    assert problem.message.startswith("the working directory cannot be used: No such file")
    found, [problem] = examine_cache(Path("relative"))
    assert (found, problem.message) == ({}, "cannot use relative: No such file or directory")
    problems: list[doctors.Problem] = []
    with Child("import sys; sys.exit('pixelprep.errors.CacheError: cannot use it')") as child:
        doctors._answer("the self-test", child, "", problems)
    assert problems == [doctors.Problem("the self-test fails: cannot use it", "")]


def test_interrupts_wait_for_the_end() -> None:
    """An interrupt within the block comes after it, once, and what is in the block is done."""
    done = []

    def work() -> None:
        with deferred_interrupts():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done.append("whole")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["whole"]


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
    assert problems[0] == doctors.Problem("pixelprep lacks tqdm", f"{pip_command()} tqdm")


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
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """Interrupted twice while all is tried, the command leaves no file and no process behind."""
    place = tmp_path / "tmp"
    place.mkdir()
    environment = os.environ | {"TMPDIR": str(place), "PIXELPREP_CACHE_DIR": str(tmp_path / "c")}
    with Process(COMMAND, env=environment, stdout=subprocess.PIPE, text=True) as process:
        while not any(place.glob("*/sample")) and process.poll() is None:
            pass
        process.send_signal(number)
        process.send_signal(number)
        process.communicate()
    assert process.returncode == 130
    assert list(place.iterdir()) == []
