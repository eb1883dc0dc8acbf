"""What is said of operating systems holds, as far as can be tried on one that is none of them."""

import errno
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pixelprep
from pixelprep.format import sandbox
from pixelprep.system import fs, os_calls
from tests.helpers.data import arrays
from tests.helpers.packages import ROOT
from tests.helpers.process import execute

FEED = """
import hashlib, sys
import pixelprep
for path in sys.argv[3:]:
    [verdict] = pixelprep.verify(path)
    assert verdict.ok, verdict
    digest = hashlib.sha256()
    for images, labels in pixelprep.open(path).train.batches(64, shuffle=True, seed=3):
        digest.update(images)
        digest.update(labels)
    print(digest.hexdigest())
"""
COMMANDS = """
import sys
from pixelprep.cli.main import main
for words in sys.argv[3:]:
    sys.argv = ["pixelprep", *words.split()]
    try:
        main()
    except SystemExit as error:
        print(error.code)
"""
MAKE = """
import pixelprep, sys
from pixelprep.system import locks
print(locks.owner_tag().split("-")[1])
entry = pixelprep.prepare("sample", quiet=True)
print(*(file.sha256 for _, file in entry.manifest.files()))
"""


@pytest.fixture
def sample(cache: Path) -> Path:
    """Return an entry of the cache."""
    return pixelprep.prepare("sample", quiet=True).path


def elsewhere(platform: str, program: str, *arguments: "str | Path") -> list[str]:
    """Return the command of a program for `tests.helpers.elsewhere`."""
    command = [sys.executable, "-m", "tests.helpers.elsewhere", platform, program]
    return [*command, *map(str, arguments)]


def test_an_entry_is_read_on_windows(tmp_path: Path) -> None:
    """Without any name that Windows lacks, an entry of the cache and a copy of it are opened,
    verified and fed, bit for bit.
    """
    made = pixelprep.prepare(arrays(300, 70, (12, 12, 1))).path
    digest = hashlib.sha256()
    for images, labels in pixelprep.open(made).train.batches(64, shuffle=True, seed=3):
        digest.update(images.data)
        digest.update(labels.data)
    copy = shutil.copytree(made, tmp_path / "copy")
    done = execute(elsewhere("win32", FEED, made, copy), cwd=ROOT)
    assert (done.stdout.split(), done.stderr) == ([digest.hexdigest()] * 2, "")


def test_what_needs_posix_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that writes entries, runs or exports is refused on Windows before it writes anything."""
    calls: list[Callable[[], object]] = [
        lambda: pixelprep.prepare("sample"),
        lambda: pixelprep.stats("sample"),
        lambda: pixelprep.train("sample"),
        lambda: pixelprep.resume("runs/mine"),
        lambda: pixelprep.compare("sample"),
        lambda: pixelprep.export("sample", "out", "npz"),
        lambda: pixelprep.push("sample", "memory://here"),
        lambda: pixelprep.pull("memory://here/sample"),
        lambda: pixelprep.verify("sample", repair=True),
        lambda: pixelprep.cache.remove("sample"),
        pixelprep.cache.prune,
        lambda: next(sandbox.run_in_sandbox("any:function")),
    ]
    monkeypatch.setattr(sys, "platform", "win32")
    for call in calls:
        with pytest.raises(pixelprep.PixelprepError, match="POSIX system") as caught:
            call()
        assert str(caught.value.hint).startswith("use WSL")
    assert not cache.exists()


@pytest.mark.long
def test_commands_refuse_on_windows(cache: Path, sample: Path) -> None:
    """A command that needs a POSIX system says so in one line, with the way on; nothing changes."""
    commands = ["prepare", "stats sample", "train sample", "cache remove sample --yes"]
    before = [(path, path.stat().st_mtime_ns) for path in sorted(cache.rglob("*"))]
    done = execute(elsewhere("win32", COMMANDS, *commands), cwd=ROOT)
    assert done.stdout.split()[-1] == "1"
    said = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "hint: "))]
    assert len(said) == 2 * len(commands)
    for error, hint in zip(said[::2], said[1::2], strict=True):
        assert error.endswith("needs a POSIX system, and this is Windows")
        assert hint.startswith("hint: use WSL")
    assert [(path, path.stat().st_mtime_ns) for path in sorted(cache.rglob("*"))] == before


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root")
def test_the_same_bytes_without_proc(sample: Path) -> None:
    """Without /proc and the names that macOS lacks, an entry of the same bytes is made."""
    command = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    environment = {**os.environ, "PIXELPREP_CACHE_DIR": str(sample.parent.parent / "other")}
    done = execute([*command, *elsewhere("darwin", MAKE)], cwd=ROOT, env=environment, check=True)
    started, digests = done.stdout.splitlines()
    manifest = pixelprep.open(sample).manifest
    assert (started, digests.split()) == ("0", [file.sha256 for _, file in manifest.files()])


def test_reads_and_writes_by_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `pread` and its like the same bytes are read and written at the same places; short
    at the file's end.
    """
    for name in ("preadv", "pread", "pwrite"):
        monkeypatch.delattr(os, name)
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        assert os_calls.pwrite(fd, memoryview(b"0123456789"), 2) == 10
        assert os_calls.pread(fd, 4, 3) == b"1234"
        buffer = bytearray(8)
        assert os_calls.read_into(fd, memoryview(buffer), 10) == 2
        assert buffer == b"89" + bytes(6)
    finally:
        os.close(fd)


def test_no_limit_of_memory_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the system does not tell how much memory a process has, so that there is no limit for
    the one that parses HDF5, this is said, once.
    """
    monkeypatch.setattr(sandbox, "MEMORY_IN_USE", Path("/proc/no/statm"))
    sandbox._tell_of_no_limit.cache_clear()
    for _ in range(2):
        with pytest.raises(sandbox.SandboxError):
            next(sandbox.run_in_sandbox("no_such_module:function"))
    assert [record.getMessage() for record in caplog.records] == [
        "this system does not limit the memory of the process that reads HDF5 files"
    ]


def test_a_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link is refused also where the system has no flag for that."""
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "file").touch()
    for flag in (os_calls.NO_FOLLOW, 0):
        monkeypatch.setattr(os_calls, "NO_FOLLOW", flag)
        with pytest.raises(OSError, match="symbolic links") as caught:
            fs.read_regular_file(tmp_path / "link", 10)
        assert caught.value.errno == errno.ELOOP


def test_macos_writes_to_the_disk_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is F_FULLFSYNC, it is what is called; `fsync` where a file system has it not."""
    asked: list[object] = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, operation: asked.append(operation))
    monkeypatch.setattr(os, "fsync", lambda fd: asked.append("fsync"))
    fs.fsync(tmp_path)
    assert asked == [51]

    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    fs.fsync(tmp_path)
    assert asked == [51, "fsync"]


@pytest.mark.long
@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_types_hold_elsewhere(platform: str) -> None:
    """No name is used that an operating system lacks, by mypy's knowledge of it."""
    folder = ROOT / ".mypy_cache" / platform
    command = [sys.executable, "-m", "mypy", "--platform", platform, f"--cache-dir={folder}"]
    done = execute([*command, "pixelprep"], cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stdout
