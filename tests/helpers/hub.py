"""A hub of one's own on 127.0.0.1: it answers what `huggingface_hub` asks of a dataset."""

import hashlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class Hub(ThreadingHTTPServer):
    """Serves the datasets of `repositories`: by name, by commit, by path, the content.

    `heads` are the commits that branches mean: by (name, branch).
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.heads: dict[tuple[str, str], str] = {}
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def publish(self, name: str, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Make a commit of these files the head of a branch; return it."""
        parts = [name, *(f"{path}{hashlib.sha1(files[path]).hexdigest()}" for path in files)]
        commit = hashlib.sha1("".join(parts).encode()).hexdigest()
        self.repositories.setdefault(name, {})[commit] = dict(files)
        self.heads[name, branch] = commit
        return commit

    def stop(self) -> None:
        """Close the port; a second time, do nothing."""
        if not self._thread.is_alive():
            return
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        api = path.startswith("/api/datasets/")
        parts = path.removeprefix("/api").removeprefix("/datasets/").split("/")
        name, rest = "/".join(parts[:2]), parts[2:]
        commits = self.server.repositories.get(name)
        if commits is None:
            return self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        word = rest[0] if rest else ""
        asked = "/".join(rest[1:]) if word else "main"
        revision, inside = self._revision(name, asked)
        if revision is None:
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        files = commits[revision]
        if api:
            return self._send(200, json.dumps(self._about(word, name, revision, files)).encode())
        if inside not in files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        tag = {"ETag": f'"{_blob(files[inside])}"', "X-Repo-Commit": revision}
        return self._send(200, files[inside], tag)

    def _revision(self, name: str, asked: str) -> tuple[str | None, str]:
        """Split what is asked for into a commit and a path inside it."""
        for (repository, branch), commit in self.server.heads.items():
            for word in (branch, commit):
                if repository == name and (asked == word or asked.startswith(f"{word}/")):
                    return commit, asked.removeprefix(word).removeprefix("/")
        return None, ""

    def _about(self, word: str, name: str, commit: str, files: Mapping[str, bytes]) -> Any:
        if word == "tree":
            return [
                {"type": "file", "path": path, "size": len(content), "oid": _blob(content)}
                for path, content in files.items()
            ]
        siblings = [{"rfilename": path} for path in files]
        return {"id": name, "sha": commit, "siblings": siblings, "private": False, "tags": []}

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for header, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
