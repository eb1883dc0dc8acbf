"""Downloads from a real web server that misbehaves: the right bytes or a clear error, no less.

First with small files of random bytes and with the embedded dataset's own files, which runs
anywhere; then with what the real MNIST files hold.
"""

import gzip
import json
import os
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pixelprep
from pixelprep import DownloadError
from pixelprep.sources import REGISTRY, Options, SourceContext
from pixelprep.sources.containers import idx
from pixelprep.sources.known import download
from pixelprep.sources.known.download import ATTEMPTS, RegistryFile
from pixelprep.sources.known.registered import RegisteredSource, embedded
from tests.helpers import cli
from tests.helpers.cli import failure
from tests.helpers.downloads import ONLY_HERE, pinned
from tests.helpers.server import FINE, Server, Twist

GZIPPED = {"Content-Encoding": "gzip"}
ELSEWHERE = {"Content-Range": "bytes 0-10/11"}


# Small files, and no machine but this one.


def zipped(size: int = 20_000, seed: int = 0) -> bytes:
    """Return a gzip file of so many random bytes, a little longer than they are."""
    return gzip.compress(random.Random(seed).randbytes(size), mtime=0)


@dataclass
class Case:
    """A pinned file, the server that has it, and the folder it is to come into."""

    archive: bytes
    pin: RegistryFile
    server: Server
    folder: Path

    @property
    def path(self) -> Path:
        """Where the whole file goes."""
        return self.folder / self.pin.name

    @property
    def part(self) -> Path:
        """Where it grows."""
        return self.folder / f"{self.pin.name}.part"

    @property
    def asked(self) -> list[str | None]:
        """The Range of every request for the file."""
        return self.server.asked(self.pin.name)

    def twist(self, *twists: Twist, then: Twist = FINE) -> None:
        """Say what is wrong with the server's next answers, and with all later ones."""
        self.server.twist(self.pin.name, *twists, then=then)

    def fetch(self, *mirrors: str, offline: bool = False) -> None:
        """Download from the server, or from the mirrors given."""
        options = Options(offline=offline, quiet=True)
        download.fetch([self.pin], self.folder, mirrors or [self.server.url], "numbers", options)

    def leave(self, content: bytes) -> None:
        """Lay down what an earlier download left."""
        self.part.parent.mkdir(parents=True, exist_ok=True)
        self.part.write_bytes(content)

    def is_right(self) -> bool:
        """Return whether the very archive lies under its final name, and nothing else in the
        folder.
        """
        return self.path.read_bytes() == self.archive and list(self.folder.iterdir()) == [self.path]

    def refusal(self, *mirrors: str) -> str:
        """Return what a download that must fail says; nothing is left under the final name."""
        with pytest.raises(DownloadError) as caught:
            self.fetch(*mirrors)
        assert not self.path.exists()
        return caught.value.message


@pytest.fixture(autouse=True)
def only_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but 127.0.0.1 is asked, and there is no wait between tries."""
    ask = socket.getaddrinfo

    def here(host: str, *rest: Any, **named: Any) -> Any:
        if host != "127.0.0.1":
            raise socket.gaierror(socket.EAI_NONAME, f"{host}: no test asks another machine")
        return ask(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", here)
    monkeypatch.setattr(download, "BACK_OFF", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    """Provide a small file, read from the network in small pieces, so that pieces of it can be
    lost.
    """
    monkeypatch.setattr(download, "CHUNK", 64)
    archive = zipped()
    web = tmp_path / "web"
    web.mkdir()
    (web / "numbers.gz").write_bytes(archive)
    with Server(web) as server:
        yield Case(archive, pinned(archive), server, tmp_path / "raw")


@pytest.fixture
def good(tmp_path: Path, case: Case) -> Iterator[Server]:
    """Provide a second mirror, where all is well."""
    with Server(tmp_path / "web") as server:
        yield server


@pytest.fixture
def nowhere(tmp_path: Path) -> str:
    """Return the URL of a server that is no more."""
    with Server(tmp_path) as server:
        return server.url


def start(asked: str | None) -> int:
    """Return the offset that a Range header asks for."""
    return int((asked or "bytes=0-").removeprefix("bytes=").removesuffix("-"))


# One mirror, one fault.


def test_a_good_mirror_is_asked_once(case: Case) -> None:
    """A file that comes through at once is asked for once, all of it, and is all that is left; it
    costs no more requests, whether online or not. A mirror's URL may end in a slash or not.
    """
    case.fetch(case.server.url.rstrip("/"))
    assert case.is_right()
    case.fetch()
    case.fetch(offline=True)
    assert case.asked == [None]


def test_a_damaged_file_is_replaced(case: Case) -> None:
    """A wrong file under the final name is never accepted: the right one takes its place."""
    case.folder.mkdir()
    case.path.write_bytes(case.archive[:-1])
    case.fetch()
    assert case.is_right()


def test_a_dropped_transfer_goes_on_where_it_broke(case: Case) -> None:
    """After a drop only the rest is asked for and sent."""
    case.twist(Twist(drop=10_000))
    case.fetch()
    assert case.is_right()
    first, second = case.server.requests
    assert first.range is None
    assert 10_000 - download.CHUNK <= start(second.range) <= 10_000
    assert second.status == 206
    assert second.length == len(case.archive) - start(second.range)


def test_progress_keeps_the_tries_going(case: Case) -> None:
    """A server that drops every 1,000 bytes takes many more tries than one that sends nothing."""
    case.twist(then=Twist(drop=1_000))
    case.fetch()
    assert case.is_right()
    starts = [start(asked) for asked in case.asked]
    assert len(starts) > 4 * ATTEMPTS
    assert starts == sorted(set(starts))


def test_waits_grow_until_there_is_progress(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try in vain doubles the wait; a try that brought something makes it short again."""
    waits: list[float] = []
    monkeypatch.setattr(download, "BACK_OFF", 1.0)
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waits.append))
    nothing, something = Twist(hang_up=True), Twist(drop=5_000)
    case.twist(nothing, nothing, nothing, something, nothing)
    case.fetch()
    assert waits[:3] == [1.0, 2.0, 4.0]
    assert waits[3] == waits[0]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(case: Case, status: int) -> None:
    """A status that may pass is tried again, and leaves no trace in the file."""
    case.twist(Twist(status=status), Twist(status=status))
    case.fetch()
    assert case.is_right()
    assert case.asked == [None, None, None]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_refusal_is_final(case: Case, status: int) -> None:
    """A status that will not pass is not tried again, and is named in the error."""
    case.twist(then=Twist(status=status))
    assert str(status) in case.refusal()
    assert case.asked == [None]


@pytest.mark.parametrize("answer", [Twist(drop=10_000), Twist(stall=10_000)])
def test_a_busy_server_does_not_cost_the_start(
    case: Case, monkeypatch: pytest.MonkeyPatch, answer: Twist
) -> None:
    """An error in the middle of a transfer leaves what came before it; silence counts as one."""
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    case.twist(answer, Twist(status=503), Twist(hang_up=True))
    case.fetch()
    assert case.is_right()
    assert start(case.asked[-1]) == start(case.asked[1]) > 0


def other_archive(case: Case) -> bytes:
    """Return its content compressed anew."""
    return gzip.compress(gzip.decompress(case.archive), 1, mtime=1)


LASTING: dict[str, tuple[Callable[[Case], Twist], str]] = {  # what is wrong, and what is said
    "no progress": (lambda case: Twist(drop=0), "numbers.gz"),
    "busy": (lambda case: Twist(status=503), "503"),
    "cut without a word": (lambda case: Twist(cut=10_000), "wrong bytes"),
    "a wrong byte in the rest": (lambda case: Twist(drop=12_000, wrong_byte=15_000), "wrong bytes"),
    "silence": (lambda case: Twist(stall=0), "no answer"),
    "more behind": (lambda case: Twist(content=case.archive + gzip.compress(b"x")), "wrong bytes"),
    "no checksum": (lambda case: Twist(content=case.archive[:-8]), "wrong bytes"),
    "another archive": (lambda case: Twist(content=other_archive(case)), "wrong bytes"),
    "no end": (lambda case: Twist(endless=True), "more than"),
}


@pytest.mark.parametrize("fault", LASTING)
def test_what_lasts_is_a_clear_error(
    case: Case, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """What never becomes the file is given up after some tries, and says what was wrong; where the
    content's digest is not known, another archive of it is refused too. What is written stays
    within twice the file's size.
    """
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    case.pin = pinned(case.archive, by_content="another" not in fault)
    twist, said = LASTING[fault]
    case.twist(then=twist(case))
    assert said in case.refusal()
    assert len(case.asked) <= ATTEMPTS or "wrong byte" in fault
    assert not case.part.exists() or case.part.stat().st_size <= 2 * len(case.archive)


@pytest.mark.parametrize("answer", [Twist(ignore_range=True), Twist(headers=ELSEWHERE)])
@pytest.mark.parametrize("left", [True, False])
def test_what_cannot_be_continued_is_sent_whole(case: Case, answer: Twist, left: bool) -> None:
    """A server that ignores ranges, or sends another than was asked for, can still serve the file,
    whether an earlier run began it or this one.
    """
    if left:
        case.leave(case.archive[:5_000])
    case.twist(*([] if left else [Twist(drop=10_000)]), then=answer)
    case.fetch()
    assert case.is_right()


LEFT: dict[str, tuple[Callable[[bytes], bytes], int]] = {  # and how many requests it costs
    "its start": (lambda archive: archive[:7_000], 1),
    "another start": (lambda archive: zipped(7_000, seed=1), 2),
    "all of it": (lambda archive: archive, 1),
    "as long, but wrong": (lambda archive: bytes(len(archive)), 2),
    "more than it": (lambda archive: archive + b"more", 0),
    "much more": (lambda archive: archive * 5, 0),
    "nothing": (lambda archive: b"", 1),
}


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("left", LEFT)
def test_whatever_was_left_the_result_is_right(case: Case, left: str, ranges: bool) -> None:
    """A ``.part`` of any content ends as the right file, whether the server knows ranges or not; a
    whole one costs not a byte, a wrong start one more request, for all of the file.
    """
    leave, cost = LEFT[left]
    case.leave(leave(case.archive))
    case.twist(then=FINE if ranges else Twist(ignore_range=True))
    case.fetch()
    assert case.is_right()
    if ranges and cost:
        assert case.asked[1:] == [None] * (cost - 1)
        assert left != "all of it" or case.server.requests[0].length == 0


@pytest.mark.parametrize("undeclared", [False, True])
def test_a_wrong_byte_is_found(case: Case, undeclared: bool) -> None:
    """One wrong byte is a clear error, and not a byte of it is left."""
    case.twist(then=Twist(wrong_byte=12_345, undeclared=undeclared))
    message = case.refusal()
    assert "SHA-256" in message
    assert case.pin.pin[:12] in message
    assert not case.folder.exists()


# The same content in other bytes.


@pytest.mark.parametrize("form", [other_archive, lambda case: gzip.decompress(case.archive)])
def test_other_bytes_are_accepted_by_content(case: Case, form: Callable[[Case], bytes]) -> None:
    """An archive with another compression level, or the bare content under the archive's name, is
    kept as it came: its content is the pinned.
    """
    other = form(case)
    assert other != case.archive
    case.twist(then=Twist(content=other, drop=9_000))
    case.fetch()
    assert case.path.read_bytes() == other


@pytest.mark.parametrize("by_content", [True, False])
@pytest.mark.parametrize("drop", [None, 10_000])
def test_an_archive_declared_as_encoded(case: Case, drop: int | None, by_content: bool) -> None:
    """Content-Encoding: gzip, which many servers say of a ``.gz``, does no harm to a download."""
    case.pin = pinned(case.archive, by_content=by_content)
    case.twist(Twist(headers=GZIPPED, drop=drop), then=Twist(headers=GZIPPED))
    case.fetch()
    assert download.hash_matches(case.path, case.pin)
    assert list(case.folder.iterdir()) == [case.path]


# From place to place.


def test_a_redirect_is_followed(case: Case, good: Server) -> None:
    """A redirect leads to the file, also in the middle of a transfer."""
    there = good.url + case.pin.name
    case.twist(then=Twist(status=302, location=there))
    good.twist(case.pin.name, Twist(drop=10_000))
    case.fetch()
    assert case.is_right()
    assert case.asked == good.asked(case.pin.name)
    assert start(good.asked(case.pin.name)[1]) > 0


NOWHERE = (None, "numbers.gz", "file:///etc/hostname", "http://[/", "http://a..b/")
FAULTY = {
    "a wrong byte": Twist(wrong_byte=99),
    "cut": Twist(cut=500),
    "500": Twist(status=500),
    "endless": Twist(endless=True),
    "a page": Twist(content=b"<html>please log in</html>"),
    "no answer": Twist(hang_up=True),
    "nothing": Twist(content=b""),
    **{f"{status} and nothing": Twist(status=status) for status in (204, 304, 416)},
    **{f"sent on to {place}": Twist(status=302, location=place) for place in NOWHERE},
}


@pytest.mark.parametrize("fault", FAULTY)
def test_the_next_mirror_makes_good(case: Case, good: Server, fault: str) -> None:
    """A mirror that fails, answers with nothing, or redirects to itself or to what is no place for
    a file, is an error if it is alone; a second one gives the right file.
    """
    case.twist(then=FAULTY[fault])
    case.refusal()
    case.fetch(case.server.url, good.url)
    assert case.is_right()


@pytest.mark.parametrize("length", ["{0}, {0}", "{0}, 7", "many", "-7"])
def test_an_odd_length_does_no_harm(case: Case, good: Server, length: str) -> None:
    """A Content-Length that is no number stops neither the download nor the next mirror."""
    case.twist(then=Twist(headers={"Content-Length": length.format(len(case.archive))}))
    case.fetch(case.server.url, good.url)
    assert case.is_right()


NO_MIRRORS = """numbers http:// http://[::1 http://127.0.0.1:x/ ftp://127.0.0.1/ file:///etc/
http://a..b/ https://example.org/"""


@pytest.mark.parametrize("mirror", [" ", f"http://{'a' * 70}.org/", *NO_MIRRORS.split()])
def test_a_mirror_that_is_no_mirror(case: Case, mirror: str) -> None:
    """A URL that leads nowhere is named in the error, and the next mirror is asked."""
    assert mirror.strip().rstrip("/") in case.refusal(mirror)
    case.fetch(mirror, case.server.url)
    assert case.is_right()


def test_mirrors_are_asked_in_order(case: Case, good: Server) -> None:
    """The second mirror is asked only when the first did not give the file."""
    case.fetch(case.server.url, good.url)
    assert good.requests == []
    case.path.unlink()
    case.twist(then=Twist(status=404))
    case.fetch(case.server.url, good.url)
    assert case.is_right()
    assert good.asked(case.pin.name) == [None]


@pytest.mark.parametrize("same", [True, False])
def test_another_mirror_continues(case: Case, good: Server, same: bool) -> None:
    """What one mirror began, the next one ends: it is asked for the rest only. A start from a
    mirror with another archive is not kept before the rest of this one.
    """
    content = case.archive if same else other_archive(case)
    case.twist(Twist(content=content, drop=10_000), then=Twist(status=404))
    case.fetch(case.server.url, good.url)
    assert case.is_right()
    first, *again = good.asked(case.pin.name)
    assert start(first) > 9_000
    assert again == [None] * (not same)


@pytest.mark.parametrize("page", [b"<html>Please log in", b"\n<!DOCTYPE html><html>"])
def test_a_login_page_is_no_file(case: Case, page: bytes) -> None:
    """What a network answers in place of the file is called by its name."""
    case.twist(then=Twist(content=page))
    said = case.refusal(case.server.url)
    assert said.endswith("a web page instead of the file, such as a network's login")


def test_what_the_proxy_does_is_not_said_of_the_mirror(
    case: Case, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that is gone, or wants a password, is named, for http and https."""
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, nowhere)
    assert case.refusal("http://mirror.test/").endswith(": no answer from the proxy")
    with closing(socket.create_server(("127.0.0.1", 0))) as proxy:

        def refuse() -> None:
            with suppress(OSError):
                while True:
                    asked, _ = proxy.accept()
                    with asked:
                        asked.recv(4096)
                        asked.sendall(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")

        Thread(target=refuse, daemon=True).start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        assert case.refusal("https://mirror.test/").endswith(": the proxy wants a password (407)")


def test_certificates_that_are_not_there_are_named(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is not blamed for the file that should hold them."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/bundle.pem")
    assert "/no/bundle.pem" in case.refusal("https://127.0.0.1:1/")


def test_the_error_names_every_mirror_and_its_reason(case: Case, nowhere: str) -> None:
    """When no mirror gives the file, the error says what each of them did, and the hint helps. A
    server that knows no HTTPS is not said to be out of reach.
    """
    assert "no connection" not in case.refusal(case.server.url.replace("http:", "https:"))
    case.twist(then=Twist(status=404))
    with pytest.raises(DownloadError) as caught:
        case.fetch(case.server.url, nowhere)
    assert f"{case.server.url}numbers.gz: 404" in caught.value.message
    assert f"{nowhere}numbers.gz: no connection" in caught.value.message
    for way_out in ("`source=DIR`", "`mirror=URL`", "sample"):
        assert way_out in (caught.value.hint or "")


def test_the_built_in_mirrors_can_be_trusted() -> None:
    """MNIST is asked for over HTTPS, and every file of every dataset is pinned by its digest: by
    an MD5 where its makers or their users publish no other.
    """
    assert all(mirror.startswith("https://") for mirror in REGISTRY["mnist"].mirrors)
    pins = [pin for known in REGISTRY.values() for pin in known.files]
    assert all(re.fullmatch("[0-9a-f]{64}|md5:[0-9a-f]{32}", pin.pin) for pin in pins)


# Any order of events.


def attempt(case: Case, mirrors: list[str]) -> bool:
    """Return whether a download succeeded; a wrong file under the final name is never there."""
    try:
        case.fetch(*mirrors)
    except DownloadError:
        assert not case.path.exists()
        return False
    assert case.is_right()
    return True


FEW = zipped(3_000, seed=2)
OFFSETS = st.integers(0, 3_000)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Provide two servers that have an archive of a few thousand bytes."""
    web = tmp_path_factory.mktemp("web")
    (web / "numbers.gz").write_bytes(FEW)
    with Server(web) as first, Server(web) as second:
        yield [first, second]


@contextmanager
def few(server: Server) -> Iterator[Case]:
    """Provide the few thousand bytes, read in small pieces into a new folder."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "CHUNK", 64)
        yield Case(FEW, pinned(FEW, by_content=False), server, Path(folder))


FAULTS = st.one_of(
    st.builds(Twist, drop=OFFSETS),
    st.builds(Twist, drop=OFFSETS, ignore_range=st.just(True)),
    st.builds(Twist, cut=OFFSETS),
    st.builds(Twist, wrong_byte=OFFSETS),
    st.builds(Twist, wrong_byte=OFFSETS, drop=OFFSETS),
    st.builds(Twist, status=st.sampled_from([204, 302, 404, 416, 429, 500, 503])),
    st.builds(Twist, drop=st.none() | OFFSETS, headers=st.sampled_from([ELSEWHERE, GZIPPED])),
    st.builds(Twist, content=st.binary(max_size=50)),
    st.sampled_from([FINE, Twist(hang_up=True), Twist(ignore_range=True), Twist(endless=True)]),
)


@given(
    faults=st.tuples(st.lists(FAULTS, max_size=6), st.lists(FAULTS, max_size=6)),
    left=st.none() | st.binary(max_size=50) | OFFSETS.map(lambda size: FEW[:size]),
)
def test_any_faults(
    two: list[Server], faults: tuple[list[Twist], list[Twist]], left: bytes | None
) -> None:
    """Whatever two mirrors do, never a wrong file; and once one is well again, the right one."""
    with few(two[0]) as case:
        if left is not None:
            case.leave(left)
        for server, twists in zip(two, faults, strict=True):
            server.twist(case.pin.name, *twists)
        if not attempt(case, [server.url for server in two]):
            case.twist()
            assert attempt(case, [two[0].url])


# Whole commands, with the embedded dataset's files behind a server under the name of MNIST.


NO_SOCKETS = """
import os, sys
def watch(event, args):
    if event in ("socket.__new__", "socket.connect", "socket.getaddrinfo"):
        os.write(2, f"a socket was opened: {event}".encode())
        os._exit(99)  # nothing can catch this
sys.addaudithook(watch)
"""

LITTLE_MNIST = """
import dataclasses, sys
from pixelprep.sources import REGISTRY
mirrors = REGISTRY["mnist"].mirrors
little = dataclasses.replace(REGISTRY["sample"], name="mnist", embedded=False, mirrors=mirrors)
sys.modules["pixelprep.sources.resolve"].REGISTRY = {**REGISTRY, "mnist": little}
"""

HERE = {"no_proxy": "127.0.0.1"}


def run(code: str, *arguments: str, **environment: str) -> cli.Done:
    """Run the command to its end, this code first."""
    return cli.run(*arguments, code=code, env={**os.environ, **HERE, **environment})


@pytest.fixture
def shop() -> Iterator[Server]:
    """Provide a server with the embedded dataset's four files."""
    with Server(embedded("sample")) as server:
        yield server


@pytest.fixture
def little_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within this process, ``mnist`` is the embedded dataset, from mirrors that no test asks."""
    monkeypatch.setattr(sys.modules["pixelprep.sources.resolve"], "REGISTRY", REGISTRY)
    exec(LITTLE_MNIST)


@pytest.mark.usefixtures("little_mnist")
def test_raw_files_are_downloaded_once(shop: Server) -> None:
    """A second recipe is made from the raw files in the cache: no server is asked, none need be."""
    first = pixelprep.prepare("mnist", mirror=shop.url, quiet=True)
    assert [request.range for request in shop.requests] == [None] * 4
    second = pixelprep.prepare("mnist", mode="center", mirror=shop.url, quiet=True)
    assert len(shop.requests) == 4
    shop.stop()
    third = pixelprep.prepare("mnist", mode="normalize", offline=True, quiet=True)
    assert [entry.cached for entry in (first, second, third)] == [False] * 3
    assert len({entry.key for entry in (first, second, third)}) == 3


@pytest.mark.usefixtures("little_mnist")
def test_a_download_is_what_the_files_at_hand_are(shop: Server, tmp_path: Path) -> None:
    """Downloaded in pieces or given with `source`, as archives or unpacked, the data is the same:
    the same entry.
    """
    shop.twist("*", Twist(drop=3_000), Twist(status=503), Twist(drop=300_000))
    made = pixelprep.prepare("mnist", mirror=shop.url, quiet=True)
    for pin in REGISTRY["sample"].files:
        archive = (shop.folder / pin.name).read_bytes()
        given = tmp_path / pin.name
        if pin.name.startswith("t10k"):
            given.with_suffix("").write_bytes(gzip.decompress(archive))
        else:
            given.write_bytes(archive)
    again = pixelprep.prepare("mnist", source=tmp_path, quiet=True)
    assert (again.cached, again.key) == (True, made.key)


@pytest.mark.usefixtures("little_mnist")
def test_wrong_bytes_are_never_parsed(
    shop: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is read only after its digest was found right; wrong bytes make no entry."""
    read: list[Path] = []
    monkeypatch.setattr(idx, "read", lambda path, _: read.append(path))
    shop.twist("t10k-labels-idx1-ubyte.gz", then=Twist(wrong_byte=100))
    with pytest.raises(DownloadError, match="wrong bytes"):
        pixelprep.prepare("mnist", mirror=shop.url, quiet=True)
    assert read == []
    assert not (cache / "mnist").exists()
    assert not (cache / ".raw" / "mnist" / "t10k-labels-idx1-ubyte.gz").exists()


@pytest.mark.usefixtures("little_mnist")
def test_the_users_mirror_comes_first(shop: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mirror` is asked before PIXELPREP_MIRROR, and either before the built-in ones."""
    with Server(shop.folder) as other:
        monkeypatch.setenv("PIXELPREP_MIRROR", other.url)
        pixelprep.prepare("mnist", mirror=shop.url, quiet=True)
        assert len(shop.requests) == 4
        assert other.requests == []
        shutil.rmtree(os.environ["PIXELPREP_CACHE_DIR"])
        pixelprep.prepare("mnist", quiet=True)
        assert len(shop.requests) == 4
        assert len(other.requests) == 4


@pytest.mark.usefixtures("little_mnist")
def test_offline_in_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """`offline` and PIXELPREP_OFFLINE forbid a download, and the error says so."""
    with pytest.raises(DownloadError, match="offline") as caught:
        pixelprep.prepare("mnist", offline=True)
    assert "`mirror" not in (caught.value.hint or "`mirror")
    monkeypatch.setenv("PIXELPREP_OFFLINE", "1")
    with pytest.raises(DownloadError, match="offline"):
        pixelprep.prepare("mnist")
    with pytest.raises(DownloadError, match="tried"):
        pixelprep.prepare("mnist", offline=False)
    assert pixelprep.prepare("sample").dataset == "sample"


SLOWLY = "download.CHUNK = 16"


@pytest.mark.usefixtures("little_mnist")
@pytest.mark.parametrize("known", [False, True], ids=["first time", "raw files deleted"])
def test_two_at_once_download_once(shop: Server, cache: Path, known: bool) -> None:
    """Two processes that need the same raw files at once both get them, by one download."""
    if known:
        pixelprep.prepare("mnist", mirror=shop.url, quiet=True)
        shutil.rmtree(cache / ".raw")
        shop.requests.clear()
    command = ("prepare", "mnist", "--quiet", "--mirror", shop.url)
    code = ONLY_HERE + LITTLE_MNIST + SLOWLY
    processes = [cli.start(*command, "--mode", mode, code=code) for mode in ("center", "normalize")]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert len(shop.requests) == 4


def test_all_mirrors_down(cache: Path, nowhere: str) -> None:
    """No mirror answers: one error line with all that was tried, one hint line, status 1."""
    done = run(ONLY_HERE, "prepare", "mnist", "--quiet", "--mirror", nowhere)
    error, hint = failure(done)
    for mirror in (nowhere, *REGISTRY["mnist"].mirrors):
        assert f"{mirror}train-images-idx3-ubyte.gz: no connection" in error
    for way_out in ("--source", "--mirror", "sample"):
        assert way_out in hint
    assert not (cache / ".raw" / "mnist").exists()


def test_the_command_line_takes_its_mirror_from_the_environment(shop: Server) -> None:
    """PIXELPREP_MIRROR is the command line's mirror, too; where no terminal is, no bar is drawn."""
    done = run(ONLY_HERE + LITTLE_MNIST, "prepare", "mnist", "--json", PIXELPREP_MIRROR=shop.url)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["splits"]["train"]["rows"] == 6_000
    assert len(shop.requests) == 4
    assert "ubyte" not in done.stderr


def test_the_watch_for_sockets_is_awake(nowhere: str) -> None:
    """The next tests mean something: a command that does go online is caught by their watch."""
    done = run(NO_SOCKETS, "prepare", "mnist", "--mirror", nowhere)
    assert done.returncode == 99
    assert "a socket was opened" in done.stderr


def test_offline_opens_no_socket(nowhere: str) -> None:
    """Offline, all that needs no download works and all else is an error; no socket is opened. What
    `--source` proved to be the official data is known by its name afterwards.
    """

    def quietly(*arguments: str) -> cli.Done:
        code = NO_SOCKETS + LITTLE_MNIST
        return run(code, "prepare", *arguments, "--offline", PIXELPREP_MIRROR=nowhere)

    error, hint = failure(quietly("mnist"))
    assert "--offline" in error
    assert "--source" in hint
    assert "sample" in hint
    found = []
    for arguments in (["sample"], ["mnist", "--source", str(embedded("sample"))], ["mnist"]):
        done = quietly(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
        assert found[-1]["splits"]["test"]["rows"] == 1_000
    assert [answer["hit"] for answer in found] == [False, False, True]
    assert found[1]["path"] == found[2]["path"]


def test_a_bar_is_drawn_on_a_terminal(shop: Server, tmp_path: Path) -> None:
    """A download shows its progress on a terminal, unless it is to be quiet."""
    command = ("prepare", "mnist", "--mirror", shop.url, "--cache-dir")
    code = ONLY_HERE + LITTLE_MNIST
    _, shown = cli.on_terminal(*command, str(tmp_path / "loud"), code=code)
    for pin in REGISTRY["sample"].files:
        assert pin.name in shown
    assert cli.on_terminal(*command, str(tmp_path / "quiet"), "--quiet", code=code)[1] == ""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_an_ended_download_is_continued(shop: Server, cache: Path, sign: signal.Signals) -> None:
    """Ctrl-C in the middle of a download is one line and status 130, and a kill is none; no file
    seems whole, and what was written is where the next one goes on.
    """
    shop.twist("train-images-idx3-ubyte.gz", Twist(stall=150_000))
    command, code = ("prepare", "mnist", "--mirror", shop.url), ONLY_HERE + LITTLE_MNIST
    process = cli.start(*command, code=f"{code}download.CHUNK = 64")

    def brought() -> int:
        return sum(part.stat().st_size for part in cache.rglob("train-images*.part"))

    while brought() < 100_000:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(sign)
    errors = process.communicate()[1]
    assert (process.returncode, errors) == (
        (130, "error: interrupted\n") if sign == signal.SIGINT else (-sign, "")
    )
    left = brought()
    assert not list(cache.rglob("train-images*.gz"))
    assert run(code, *command).returncode == 0
    assert shop.asked("train-images-idx3-ubyte.gz") == [None, f"bytes={left}-"]


# What the real MNIST files hold.


@pytest.mark.long
def test_mnist_compressed_anew_or_unpacked(mnist: Path, tmp_path: Path) -> None:
    """Other archives of MNIST's files, or the files unpacked, are MNIST, over a line that drops
    every megabyte.
    """
    with Server(mnist) as server:
        for pin in REGISTRY["mnist"].files:
            content = gzip.decompress((mnist / pin.name).read_bytes())
            if pin.name.startswith("t10k"):
                content = gzip.compress(content, 1)
            server.twist(pin.name, then=Twist(content=content, drop=1 << 20))
        source = RegisteredSource(REGISTRY["mnist"], Options(mirror=server.url, quiet=True))
        with SourceContext(tmp_path) as place:
            raw = source.load(place)
    rows = {name: len(split.labels) for name, split in raw.splits.items()}
    assert rows == {"train": 60_000, "test": 10_000}
