"""Remotes: what is pushed is pulled byte for byte, and no fault leaves half an entry anywhere."""

import json
import os
import resource
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import pixelprep
from pixelprep import RemoteError, SourceError, UsageError
from pixelprep.cache import remotes as cache_remotes
from pixelprep.format import manifest as manifests
from pixelprep.sources import Raw, RegisteredSource
from pixelprep.system import fs, remote
from tests.helpers import cli
from tests.helpers.data import arrays
from tests.helpers.server import Server, Twist

pytest.importorskip("fsspec", reason="remotes are reached by fsspec, of the extra `remote`")

from tests.helpers import remotes
from tests.helpers.remotes import FaultyFileSystem

FAULTS = ("drop", "deny", "truncate", "flip")


@pytest.fixture
def entry() -> pixelprep.Entry:
    """Return an entry whose larger file takes five pieces to read."""
    return pixelprep.prepare(arrays(200, 20), mode="center", quiet=True)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder that is a remote, at the URL that `url` tells."""
    for module in (remote, cache_remotes):
        monkeypatch.setattr(module, "PIECE", remotes.PIECE)
    monkeypatch.setattr(remote, "BACK_OFF", 0.0)
    remotes.faulty(tmp_path / "shared")
    yield tmp_path / "shared"
    FaultyFileSystem.set()


def url(shared: Path) -> str:
    return f"faulty://{shared}"


def files(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, but for records, locks and empty folders."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in found}
    hidden = (".locks/", ".trust/", ".origins/", ".sources/")
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(hidden)}


def pulled(entry: pixelprep.Entry, shared: Path, cache: Path) -> bool:
    """Pull an entry and tell whether it is, byte for byte, the one that was pushed."""
    got = pixelprep.pull(place(entry), remote=url(shared), cache_dir=cache, quiet=True)
    assert files(got.path) == files(entry.path)
    return files(cache).keys() == {f"{place(entry)}/{name}" for name in files(entry.path)}


def place(entry: pixelprep.Entry) -> str:
    return f"{entry.path.parent.name}/{entry.path.name}"


# Fine


def test_what_is_pushed_is_pulled(entry: pixelprep.Entry, shared: Path, tmp_path: Path) -> None:
    """An entry comes back byte for byte, is right, and is not sent or fetched twice."""
    done = pixelprep.push(entry, url(shared), quiet=True)
    assert (done.files, done.bytes, done.present) == (2, entry.size, False)
    assert pulled(entry, shared, tmp_path / "other")
    assert pixelprep.verify(every=True, cache_dir=tmp_path / "other", quiet=True)[0].ok
    FaultyFileSystem.set()
    assert pixelprep.push(entry, url(shared), quiet=True).present
    assert not {"put", "pipe", "list"} & set(FaultyFileSystem.requests)
    FaultyFileSystem.set()
    assert pixelprep.pull(place(entry), remote=url(shared), cache_dir=tmp_path / "other").cached
    assert FaultyFileSystem.requests == []


@pytest.mark.parametrize("name", ["little", "key", "whole"])
def test_names_of_what_is_pulled(entry: pixelprep.Entry, shared: Path, name: str) -> None:
    """A dataset with one entry, a key and the whole URL stand for an entry."""
    there = pixelprep.push(entry, url(shared), quiet=True).url
    shutil.rmtree(entry.path)
    meant = {"key": entry.key[:6], "whole": there}.get(name, name)
    assert pixelprep.pull(meant, remote=url(shared), quiet=True).path == entry.path


def test_a_plain_copy_of_a_cache_is_a_remote(
    entry: pixelprep.Entry, cache: Path, tmp_path: Path
) -> None:
    """A folder to which somebody copied a cache's entries is read as one that was pushed to."""
    got = pixelprep.pull(place(entry), remote=str(cache), cache_dir=tmp_path / "other", quiet=True)
    assert files(got.path) == files(entry.path)
    assert pixelprep.push(entry, str(cache), quiet=True).present


# prepare


def test_prepare_takes_what_is_there(
    digits: str, cache: Path, shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`push` stores what was made, and another machine's `prepare` scales nothing."""
    caplog.set_level("INFO", "pixelprep")
    options: dict[str, Any] = {"remote": str(shared), "quiet": True}
    made = pixelprep.prepare(digits, push=True, **options)
    assert f"{shared}/{place(made)}: pushed" in caplog.text
    got = pixelprep.prepare(digits, cache_dir=tmp_path / "other", **options)
    assert f"found at {shared}/{place(made)}" in caplog.text
    assert files(got.path) == files(made.path)


def test_a_known_name_needs_no_raw_byte(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a remote has a set that is known by name, `prepare` does not read it; offline, it does
    not ask.
    """
    options: dict[str, Any] = {"storage": "raw", "quiet": True, "remote": str(shared)}
    made = pixelprep.prepare("sample", push=True, **options)

    def load(*_: object) -> Raw:
        raise SourceError("is read")

    monkeypatch.setattr(RegisteredSource, "load", load)
    with pytest.raises(SourceError, match="is read"):
        pixelprep.prepare("sample", **options, offline=True, cache_dir=tmp_path / "offline")
    got = pixelprep.prepare("sample", **options, cache_dir=tmp_path / "other")
    assert files(got.path) == files(made.path)
    del options["remote"]  # nor the next time
    assert pixelprep.prepare("sample", **options, cache_dir=tmp_path / "other").cached


def test_prepare_goes_on_without_a_remote_that_fails(
    digits: str, shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is wrong with a remote is one line; it is asked no more, and the entry is made here."""
    FaultyFileSystem.set("deny", 0)
    made = pixelprep.prepare(digits, remote=url(shared), quiet=True)
    assert pixelprep.verify(made.path, quiet=True)[0].ok
    [line] = [one for one in caplog.messages if "denied" in one]
    assert line.endswith("going on without the remote")
    assert len(FaultyFileSystem.requests) == 1


def test_push_wants_a_remote() -> None:
    """`push` without a remote, or offline, is wrong usage."""
    with pytest.raises(UsageError, match="expected a `remote`"):
        pixelprep.prepare("sample", push=True)
    with pytest.raises(UsageError, match="offline"):
        pixelprep.prepare("sample", push=True, remote="memory://x", offline=True)


def test_a_damaged_remote_is_repaired(
    digits: str, cache: Path, shared: Path, tmp_path: Path
) -> None:
    """A file of the right size with other bytes is sent again by `force`, as a failed pull says,
    and by a `prepare` that found it damaged; nothing of it is left here.
    """
    made = pixelprep.prepare(digits, quiet=True)
    for repair in ("push", "prepare"):
        pixelprep.push(made, str(shared), quiet=True)
        [damaged] = shared.glob("*/*/train-*.h5")
        content = bytearray(damaged.read_bytes())
        content[len(content) // 2] ^= 1
        damaged.write_bytes(content)
        with pytest.raises(RemoteError, match="expected SHA-256") as failed:
            pixelprep.pull(place(made), remote=str(shared), cache_dir=tmp_path / "one", quiet=True)
        assert failed.value.hint == "push the entry again, with `force=True`"
        if repair == "push":
            assert not pixelprep.push(made, str(shared), force=True, quiet=True).present
        else:
            options: dict[str, Any] = {"remote": str(shared), "push": True, "quiet": True}
            pixelprep.prepare(digits, cache_dir=tmp_path / "two", **options)
            assert not list((tmp_path / "two").glob(".raw/**/*.part"))
        got = pixelprep.pull(place(made), remote=str(shared), cache_dir=tmp_path / repair)
        assert files(got.path) == files(made.path)


def test_a_url_with_a_password_is_refused(tmp_path: Path, entry: pixelprep.Entry) -> None:
    """Where it means nothing: before any backend sees it, which would put it into its messages."""
    for url in ("s3://user:secret@bucket/team", "gs://me:secret@bucket/x"):
        for action in (
            lambda url=url: pixelprep.pull("little", remote=url),
            lambda url=url: pixelprep.push(entry, url),
            lambda url=url: pixelprep.cache.list_remote(url),
        ):
            with pytest.raises(UsageError, match="without '::', '\\?' and a password") as refused:
                action()
            assert "secret" not in str(refused.value)
    with pytest.raises(UsageError, match="expected a protocol that fsspec knows, got foo"):
        pixelprep.push(entry, "foo://bar/x")


# Faults


def count(action: str, entry: pixelprep.Entry, shared: Path, tmp_path: Path) -> int:
    """Return how many requests an undisturbed push or pull sends."""
    pixelprep.push(entry, url(shared), quiet=True)
    if action == "pull":
        FaultyFileSystem.set()
        pulled(entry, shared, tmp_path / "first")
    return len(FaultyFileSystem.requests)


@pytest.mark.parametrize(
    "step", [pytest.param(1, marks=pytest.mark.long), 9], ids=["every", "some"]
)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("action", ["push", "pull"])
def test_one_fault_at_a_request(
    action: str, fault: str, step: int, entry: pixelprep.Entry, shared: Path, tmp_path: Path
) -> None:
    """Whichever request goes wrong, for once or for good, there is a whole entry or none, and an
    error of one line without a secret; the next call does it.
    """
    requests = count(action, entry, shared, tmp_path)
    for at in range(FAULTS.index(fault) if step > 1 else 0, requests, step):
        for for_good in (False, True):
            other = tmp_path / f"{at}-{for_good}"
            if action == "push":
                shutil.rmtree(shared)
            FaultyFileSystem.set(fault, at, for_good)
            told = ""
            try:
                if action == "push":
                    pixelprep.push(entry, url(shared), quiet=True)
                else:
                    assert pulled(entry, shared, other)
            except RemoteError as error:
                told = str(error)
            assert not any(word in told for word in ("\n", "secret@", "sig="))
            assert told == "" or list(other.glob("[!.]*/*")) == []
            FaultyFileSystem.set()
            if action == "push" and (shared / place(entry) / manifests.DIGEST).exists():
                assert pulled(entry, shared, other)
                shutil.rmtree(other)
            pixelprep.push(entry, url(shared), quiet=True)
            assert pulled(entry, shared, other)
            shutil.rmtree(other)


def killed(action: str, fault: str, at: int, entry: pixelprep.Entry, shared: Path) -> None:
    """Let a process be killed at a request, and the next one do what it left."""
    code, other = remotes.code(shared, fault, at), shared.with_name("killed")
    arguments = {
        "push": ("push", str(entry.path), url(shared)),
        "pull": ("pull", place(entry), "--from", url(shared), "--cache-dir", str(other)),
    }[action]
    assert cli.run(*arguments, code=code).returncode == -9
    assert list(other.glob("[!.]*/*")) == []
    if action == "push":
        if (shared / place(entry) / manifests.DIGEST).exists() and fault == "kill":
            assert pulled(entry, shared, other)
        pixelprep.push(entry, url(shared), quiet=True)
    assert pulled(entry, shared, other)
    shutil.rmtree(other)


@pytest.mark.parametrize(("action", "at"), [("push", 6), ("pull", 8)])
def test_killed(action: str, at: int, entry: pixelprep.Entry, shared: Path, tmp_path: Path) -> None:
    """A process that is killed leaves no half entry, and the next one does it."""
    if action == "pull":
        pixelprep.push(entry, url(shared), quiet=True)
    killed(action, "kill", at, entry, shared)


@pytest.mark.long
@pytest.mark.parametrize("fault", ["kill", "die"])
@pytest.mark.parametrize("action", ["push", "pull"])
def test_killed_at_every_request(
    action: str, fault: str, entry: pixelprep.Entry, shared: Path, tmp_path: Path
) -> None:
    """Likewise at every request, and in the middle of every file that goes up."""
    requests = count(action, entry, shared, tmp_path)
    names = list(FaultyFileSystem.requests)
    for at in range(requests):
        if fault == "die" and names[at] not in ("put", "pipe"):
            continue
        if action == "push":
            shutil.rmtree(shared)
        FaultyFileSystem.set()
        killed(action, fault, at, entry, shared)


def test_a_pull_goes_on_where_it_broke_off(
    entry: pixelprep.Entry, shared: Path, tmp_path: Path
) -> None:
    """What has come of a file is not asked for again."""
    requests = count("pull", entry, shared, tmp_path)
    reads = [n for n, name in enumerate(FaultyFileSystem.requests) if name == "read"]
    FaultyFileSystem.set("deny", reads[-1])
    with pytest.raises(RemoteError, match="access denied"):
        pulled(entry, shared, tmp_path / "other")
    FaultyFileSystem.set()
    assert pulled(entry, shared, tmp_path / "other")
    before = [n for n in reads[:-1] if n > reads[0] + 3]  # those of the two files
    assert len(FaultyFileSystem.requests) <= requests - len(before) + 1


def test_two_push_other_bytes_of_one_recipe(
    shared: Path, entry: pixelprep.Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pushed at once, both whole: what is published is one of them, never a mixture."""
    other = pixelprep.prepare(
        arrays(200, 20), mode="center", quiet=True, cache_dir=tmp_path / "second"
    )
    with (other.path / "train.h5").open("ab") as out:  # no part of the images
        out.write(bytes(8))
    content = json.loads((other.path / manifests.NAME).read_bytes())
    digest = fs.sha256(other.path / "train.h5")
    content["splits"]["train"]["files"][0] |= {"sha256": digest}
    for record in (content["splits"]["train"], content["splits"]["train"]["files"][0]):
        record["bytes"] += 8
    manifest = manifests.Manifest.from_dict(content)
    for name, data in manifest.to_files().items():
        (other.path / name).write_bytes(data)
    changed = pixelprep.Entry(other.path, manifest, {})
    with ThreadPoolExecutor(2) as pool:
        pushes = [pool.submit(pixelprep.push, e, str(shared), force=True) for e in (entry, changed)]
    assert all(push.result().url for push in pushes)
    line = (shared / place(entry) / manifests.DIGEST).read_bytes()
    winner = next(e for e in (entry, other) if (e.path / manifests.DIGEST).read_bytes() == line)
    for name, file in manifests.read(winner.path).files():
        stored = shared / place(entry) / f"{name}-{file.sha256[:16]}.h5"
        assert fs.sha256(stored) == file.sha256


@pytest.mark.parametrize("limit", [20_000, 60_000])
def test_a_full_disk(entry: pixelprep.Entry, shared: Path, tmp_path: Path, limit: int) -> None:
    """A file that cannot be written ends a pull in one line, and nothing is left."""
    pixelprep.push(entry, str(shared), quiet=True)
    other = tmp_path / "other"
    arguments = ("pull", place(entry), "--from", str(shared), "--cache-dir", str(other))
    error, hint = cli.failure(cli.run(*arguments, limits={resource.RLIMIT_FSIZE: limit}))
    assert error == f"cannot write in {other}: File too large"
    assert hint.startswith("free some space")
    assert files(other) == {}


# Hostile


def lying(entry: pixelprep.Entry, shared: Path, **changes: object) -> None:
    """Publish a manifest that says other things of the first file."""
    pixelprep.push(entry, str(shared), quiet=True)
    folder = shared / place(entry)
    content = json.loads((entry.path / manifests.NAME).read_bytes())
    record = content["splits"]["train"]["files"][0]
    if "bytes" in changes:
        content["splits"]["train"]["bytes"] += int(str(changes["bytes"])) - record["bytes"]
    content["splits"]["train"]["files"][0] = record | changes
    data = json.dumps(content).encode()
    line = manifests.digest_line(data)
    (folder / f"manifest-{line[:16].decode()}.json").write_bytes(data)
    (folder / manifests.DIGEST).write_bytes(line)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "not found"),
        ({"name": "../train.h5"}, "not a manifest"),
        ({"name": "/etc/passwd"}, "not a manifest"),
        ({"bytes": 10**15}, "is too large"),
        ({"bytes": 100}, "got"),
    ],
)
def test_a_manifest_that_lies(
    entry: pixelprep.Entry, shared: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    """Wrong digests, sizes and names are refused, and no file is left, inside or outside."""
    lying(entry, shared, **changes)
    (shared / place(entry) / "train.h5").unlink(missing_ok=True)
    before = files(tmp_path)
    with pytest.raises(RemoteError, match=message):
        pixelprep.pull(place(entry), remote=str(shared), cache_dir=tmp_path / "other", quiet=True)
    new = files(tmp_path).keys() - before.keys()
    assert {name for name in new if not name.endswith((".part", ".lock"))} == set()


def test_an_entry_under_another_name(entry: pixelprep.Entry, shared: Path, tmp_path: Path) -> None:
    """A manifest of another entry than was asked for is refused."""
    pixelprep.push(entry, str(shared), quiet=True)
    (shared / place(entry)).rename(shared / "little" / "center-000000000000")
    with pytest.raises(RemoteError, match="expected the manifest of little/center-0"):
        pixelprep.pull("little/center-000000000000", remote=str(shared))


def test_a_stale_digest_is_asked_for_again(
    entry: pixelprep.Entry, shared: Path, tmp_path: Path
) -> None:
    """A digest whose manifest is not there yet is an error of one line, not another entry."""
    pixelprep.push(entry, str(shared), quiet=True)
    (shared / place(entry) / manifests.DIGEST).write_bytes(manifests.digest_line(b"old"))
    with pytest.raises(RemoteError, match="expected a manifest of the digest"):
        pulled(entry, shared, tmp_path / "other")
    assert not pixelprep.push(entry, str(shared), quiet=True).present
    assert pulled(entry, shared, tmp_path / "other")


# HTTP, of a cache that is served


@pytest.fixture
def server(cache: Path, shared: Path) -> Iterator[Server]:
    """Return a server of the cache."""
    pytest.importorskip("aiohttp", reason="fsspec's HTTP, of the extra `remote`")
    with Server(cache) as running:
        yield running


@pytest.mark.parametrize(
    "twist",
    [
        Twist(),
        Twist(cut=20_000),
        Twist(endless=True),
        Twist(undeclared=True),
        Twist(drop=20_000, ignore_range=True),
    ],
)
def test_http(
    server: Server, entry: pixelprep.Entry, shared: Path, tmp_path: Path, twist: Twist
) -> None:
    """A cache behind any HTTP server is pulled, with ranges and without, whatever breaks once."""
    server.twist(f"{place(entry)}/train.h5", twist)
    got = pixelprep.pull(place(entry), remote=server.url, cache_dir=tmp_path / "http", quiet=True)
    assert files(got.path) == files(entry.path)


def test_http_goes_on_by_range(server: Server, shared: Path, tmp_path: Path) -> None:
    """What came before a connection broke is not asked for again: no more is lost than what the
    client had in its buffers.
    """
    entry = pixelprep.prepare(arrays(60, 20, (32, 32, 3)), quiet=True)
    train = f"{place(entry)}/train.h5"
    server.twist(train, Twist(drop=600_000))
    got = pixelprep.pull(place(entry), remote=server.url, cache_dir=tmp_path / "http", quiet=True)
    assert files(got.path) == files(entry.path)
    first, second = server.asked(train)
    assert first is None
    assert second is not None
    assert int(second.removeprefix("bytes=").rstrip("-")) > 200_000


@pytest.mark.parametrize(
    "twist", [Twist(wrong_byte=30_000), Twist(content=b"<html>log in</html>"), Twist(status=403)]
)
def test_http_that_is_wrong(
    server: Server, entry: pixelprep.Entry, tmp_path: Path, twist: Twist
) -> None:
    """Other bytes, a page and a refusal are one line, and nothing comes into the cache."""
    server.twist(f"{place(entry)}/train.h5", then=twist)
    with pytest.raises(RemoteError):
        pixelprep.pull(place(entry), remote=server.url, cache_dir=tmp_path / "http", quiet=True)
    assert {name for name in files(tmp_path / "http") if not name.endswith(".part")} == set()


def test_http_is_only_read(server: Server, entry: pixelprep.Entry) -> None:
    """`push` to a web server is wrong usage."""
    with pytest.raises(UsageError, match="can only be read"):
        pixelprep.push(entry, server.url, quiet=True)


# ls, du, prune


def test_list_and_prune(shared: Path) -> None:
    """The entries pushed longest ago go first, and `--dry-run` takes none; broken pushes go after
    a day.
    """
    modes = ("center", "normalize", "standardize")
    made = [pixelprep.prepare(arrays(), mode=mode, quiet=True) for mode in modes]
    for age, one in enumerate(made):
        pixelprep.push(one, str(shared), quiet=True)
        for path in (shared / place(one)).iterdir():
            os.utime(path, (10**9 + age * 86400,) * 2)
    (shared / place(made[2]) / manifests.DIGEST).unlink()
    listed = {item.name: item for item in pixelprep.cache.list_remote(str(shared))}
    assert {n: i.published for n, i in listed.items()} == {place(e): e.mode[0] != "s" for e in made}
    most = listed[place(made[1])].bytes + 100
    limits = ("--max-size", str(most), "--json")
    shown = json.loads(cli.run("remote", "prune", str(shared), "--dry-run", *limits).stdout)
    assert {item["name"] for item in shown["entries"]} == {place(made[0]), place(made[2])}
    assert len(pixelprep.cache.list_remote(str(shared))) == 3
    assert cli.run("remote", "prune", str(shared), "--yes", *limits).returncode == 0
    left = pixelprep.cache.list_remote(str(shared))
    assert [item.name for item in left] == [place(made[1])]
    total = json.loads(cli.run("remote", "du", str(shared), "--json").stdout)
    assert total["bytes"] == sum(item.bytes for item in left)


def test_what_was_replaced_is_pruned(entry: pixelprep.Entry, shared: Path, tmp_path: Path) -> None:
    """Files that no manifest names any more go after a day; the entry stays."""
    pixelprep.push(entry, str(shared), quiet=True)
    folder = shared / place(entry)
    old = [folder / name for name in ("manifest-0.json", "train-0.h5", "test.h5.1.part")]
    for path in old:
        path.write_bytes(b"old")
    assert pixelprep.cache.prune_remote(str(shared)) == ()
    for path in old:
        os.utime(path, (10**9, 10**9))
    [gone] = pixelprep.cache.prune_remote(str(shared))
    assert set(gone.paths) == {f"{place(entry)}/{path.name}" for path in old}
    assert not any(path.exists() for path in old)
    assert pulled(entry, shared, tmp_path / "other")


# Messages


def test_secrets_stay_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """No message has a password, a query or the value of a secret variable."""
    monkeypatch.setenv("MY_SECRET_KEY", "abcdef123")
    said = remote.scrub("no s3://me:pw@host/a/b?sig=1#x abcdef123")
    assert said == "no s3://host/a/b …"
    for wrong in ("s3://b/p?token=1", "simplecache::s3://b/p"):
        with pytest.raises(UsageError) as raised:
            remote.open_remote(wrong)
        assert "token" not in str(raised.value)


def test_a_backend_that_there_is_not_is_named() -> None:
    """A URL of a protocol that fsspec has never heard of is wrong usage."""
    with pytest.raises(UsageError, match="nope://x/y: expected a protocol that fsspec knows"):
        remote.open_remote("nope://x/y")
