"""A web server for tests: it serves a folder on 127.0.0.1 and, when told to, does so badly.

It is a real one, with a thread a connection. `Server.twist` says what is wrong with the next
answers for a file; `Server.requests` tells what was asked.
"""

import re
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Twist:
    """What is wrong with one answer; as it stands, nothing."""

    status: int | None = None  # answered in place of the file, with a short text
    location: str | None = None  # where a redirect leads to
    headers: Mapping[str, str] = field(default_factory=dict)  # added, or put in place of the right
    content: bytes | None = None  # served in place of the file's bytes
    wrong_byte: int | None = None  # offset in the file of a byte that is another one
    ignore_range: bool = False  # every request is answered with 200 and the whole file
    cut: int | None = None  # the body ends after so many bytes, which is said to be its length
    drop: int | None = None  # the connection is closed after so many bytes of the body
    stall: int | None = None  # after so many no more is sent, and the connection stays open
    hang_up: bool = False  # the connection is closed with no answer at all
    endless: bool = False  # the body has no declared length and goes on for ever
    undeclared: bool = False  # the body has no declared length; it ends with the connection


FINE = Twist()


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in, and how it was answered."""

    name: str
    range: str | None
    status: int
    length: int  # bytes of the body that were to be sent, before any drop
    method: str = "GET"


class Server(ThreadingHTTPServer):
    """Serves the files of a folder until it is stopped; also a context manager."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.requests: list[Request] = []
        self.stopping = threading.Event()
        self._next: dict[str, list[Twist]] = {}
        self._always: dict[str, Twist] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def twist(self, name: str, *twists: Twist, then: Twist = FINE) -> None:
        """Answer the next requests for a file with `twists`, one each, all later ones with `then`.

        A twist of the name ``"*"`` holds for every file that has none of its own.
        """
        with self._lock:
            self._next[name] = list(twists)
            self._always[name] = then

    def twist_for(self, name: str) -> Twist:
        """Return how the request that has just come for this file is answered."""
        with self._lock:
            key = name if name in self._always else "*"
            waiting = self._next.get(key)
            return waiting.pop(0) if waiting else self._always.get(key, FINE)

    def asked(self, name: str) -> list[str | None]:
        """Return the Range header of each request for a file, or None, in order."""
        return [request.range for request in self.requests if request.name == name]

    def stop(self) -> None:
        """Close the port and every connection."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        self._thread.join()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: clients go away in the middle of things, that is what is tested."""


def hang_up(connection: socket.socket) -> None:
    """End a connection for both sides."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        name = self.path.removeprefix("/")
        twist = self.server.twist_for(name)
        status, headers, body = self._answer(name, twist)
        length = -1 if twist.endless else len(body)
        asked = Request(name, self.headers.get("Range"), status, length, self.command)
        self.server.requests.append(asked)
        if twist.hang_up:
            hang_up(self.connection)
            return
        if not (twist.endless or twist.undeclared):
            headers["Content-Length"] = str(length)
        self.send_response(status)
        for header, value in {**headers, **twist.headers}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self._send(body, twist)

    def _answer(self, name: str, twist: Twist) -> tuple[int, dict[str, str], bytes]:
        if twist.status is not None:
            where = {"Location": twist.location} if twist.location else {}
            return twist.status, where, b"not what you asked for\n"
        path = self.server.folder / name
        if twist.content is None and not path.is_file():
            return 404, {}, b"no such file\n"
        whole = path.read_bytes() if twist.content is None else twist.content
        if twist.wrong_byte is not None:
            at = twist.wrong_byte
            whole = whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]
        status, headers, body = self._ranged(whole, twist)
        return status, headers, body if twist.cut is None else body[: twist.cut]

    def _ranged(self, whole: bytes, twist: Twist) -> tuple[int, dict[str, str], bytes]:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked is None or twist.ignore_range:
            return 200, {}, whole
        start = int(asked[1])
        if start >= len(whole):
            return 416, {"Content-Range": f"bytes */{len(whole)}"}, b""
        headers = {"Content-Range": f"bytes {start}-{len(whole) - 1}/{len(whole)}"}
        return 206, headers, whole[start:]

    def _send(self, body: bytes, twist: Twist) -> None:
        limits = [limit for limit in (twist.drop, twist.stall) if limit is not None]
        sent = body[: min(limits)] if limits else body
        for start in range(0, len(sent), BLOCK):
            self.wfile.write(sent[start : start + BLOCK])
        while twist.endless:
            self.wfile.write(b"more" * 4096)
        if twist.stall is not None:
            self.server.stopping.wait()
        hang_up(self.connection)
