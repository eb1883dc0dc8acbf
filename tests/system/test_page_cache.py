"""Files are brought into the page cache by long reads, where there is memory for them."""

import os
import threading
from pathlib import Path

import pytest

from pixelprep.system import page_cache
from pixelprep.system.page_cache import brought_in


def is_cold(path: Path) -> bool:
    """Return whether a file is out of the page cache; skip where that cannot be seen."""
    try:
        return page_cache._is_cold(path)
    except OSError as error:
        pytest.skip(f"the file system does not tell what is cached: {error}")


@pytest.fixture
def cold(tmp_path: Path) -> Path:
    """Return a file that the page cache does not hold."""
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 20) * 9)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if not is_cold(path):
        pytest.skip("the system does not let go of a file, as tmpfs cannot")
    return path


def test_cold_files_are_read_through_first(cold: Path) -> None:
    """What fits well into memory is in the page cache before the first row is read."""
    with brought_in([cold]) as ready:
        assert ready
        assert not is_cold(cold)


def test_large_files_are_read_meanwhile(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes longer is read in a thread, which ends with the pass."""
    monkeypatch.setattr(page_cache, "FIRST_BYTES", 1 << 20)
    before = threading.active_count()
    with brought_in([cold]) as ready:
        assert ready
    assert threading.active_count() == before


def test_nothing_is_read_where_memory_is_short(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files for which there is no memory are left alone, and so are those that are gone."""
    monkeypatch.setattr(page_cache, "_free_memory", lambda: 9 << 20)
    with brought_in([cold]) as ready:
        assert not ready
        assert is_cold(cold)
    with brought_in([cold.with_name("gone")]) as ready:
        assert not ready


@pytest.mark.parametrize(
    ("limit", "free"), [("max\n", 8192 << 10), ("1048576\n", 1 << 20), (None, 8192 << 10)]
)
def test_a_container_has_no_more_than_its_limit(
    limit: str | None, free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free memory is what the system has, but at most what the container may use."""
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8192 kB\n")
    if limit is not None:
        (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(page_cache, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(page_cache, "LIMITS", (tmp_path / "memory.max",))
    assert page_cache._free_memory() == free
