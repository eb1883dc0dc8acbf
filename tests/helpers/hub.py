"""A hub of one's own on 127.0.0.1: it answers what `huggingface_hub` asks of a dataset.

It takes pushes, too: as the hub does, with large files by LFS and each commit whole or not at all.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


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
        self.tokens: set[str] = set()  # those that may write
        self.private: set[str] = set()  # repositories
        self.objects: dict[str, bytes] = {}  # of LFS: by SHA-256
        self.faults: dict[str, tuple[int, int]] = {}  # by route: the status after so many requests
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def publish(self, name: str, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Make a commit of these files the head of a branch; return it."""
        parts = [name, *(f"{path}{hashlib.sha1(files[path]).hexdigest()}" for path in files)]
        commit = hashlib.sha1("".join(parts).encode()).hexdigest()
        self.repositories.setdefault(name, {})[commit] = dict(files)
        self.heads[name, branch] = commit
        return commit

    def fault(self, route: str) -> int | None:
        """Return the status that the next request of a route fails with."""
        status, after = self.faults.get(route, (0, 0))
        self.faults[route] = status, after - 1
        return status if status and after <= 0 else None

    def commit(self, name: str, branch: str, lines: list[dict[str, Any]]) -> str | None:
        """Apply the lines of a commit to a branch; None where its parent is not the head."""
        head, values = self.heads.get((name, branch)), [one["value"] for one in lines]
        if values[0].get("parentCommit") not in (None, head):
            return None
        files = dict(self.repositories[name].get(head or "", {}))
        for line, value in zip(lines, values, strict=True):
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        return self.publish(name, files, branch)

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

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if status := self.server.fault("upload"):
            return self._send(status, b"")
        self.server.objects[hashlib.sha256(content).hexdigest()] = content
        return self._send(200, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        match = re.fullmatch(
            r"(?:/api)?/datasets/([^/]+/[^/]+?)(?:\.git)?/(preupload|info|commit|paths-info)/(.+)",
            path,
        )
        name, route, rest = match.groups() if match else ("", path.rpartition("/")[2], "")
        if route not in ("paths-info", "validate-yaml") and not self._may_write():
            return self._send(401, b'{"error": "Invalid username or password."}')
        if status := self.server.fault(route):
            return self._json({"error": "said by the server"}, status)
        if route == "paths-info":
            return self._paths_info(name, rest, body)
        if route == "commit":
            lines = [json.loads(line) for line in body.splitlines()]
            oid = self.server.commit(name, rest, lines)
            if oid is None:
                return self._json({"error": "the head has moved"}, 412)
            return self._json({"commitUrl": f"{self.server.url}/{name}", "commitOid": oid})
        return self._json(self._taken(route, name, json.loads(body)))

    def _taken(self, route: str, name: str, asked: Mapping[str, Any]) -> Any:
        """Return the answer to what leads to a commit."""
        if route == "validate-yaml":
            assert asked["content"].startswith("---\n")
            return {"errors": [], "warnings": []}
        if route == "create":
            full = f"{asked.get('organization', 'me')}/{asked['name']}"
            self.server.publish(full, {".gitattributes": b""})
            if "private" in (asked.get("visibility"), asked.get("private") and "private"):
                self.server.private.add(full)
            return {"url": f"{self.server.url}/datasets/{full}", "name": full}
        if route == "preupload":
            head = self.server.heads.get((name, "main"), "")
            files = self.server.repositories[name].get(head, {})
            return {
                "files": [
                    {
                        "path": path,
                        "uploadMode": "lfs" if path.endswith(".parquet") else "regular",
                        "shouldIgnore": False,
                        "oid": self._oid(path, files[path]) if path in files else None,
                    }
                    for path in (one["path"] for one in asked["files"])
                ]
            }
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}"}}}
            for one in asked["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def _oid(self, path: str, content: bytes) -> str:
        is_lfs = path.endswith(".parquet")
        return hashlib.sha256(content).hexdigest() if is_lfs else _blob(content)

    def _paths_info(self, name: str, revision: str, body: bytes) -> None:
        commit, _ = self._revision(name, revision)
        files = self.server.repositories.get(name, {}).get(commit or "", {})
        content_type = self.headers.get("Content-Type", "")
        asked = json.loads(body) if "json" in content_type else parse_qs(body.decode())
        paths = [asked["paths"]] if isinstance(asked["paths"], str) else asked["paths"]
        found = [_listed(files, path) for path in paths]
        return self._json([one for one in found if one])

    def _may_write(self) -> bool:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") in self.server.tokens

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        if path == "/api/whoami-v2":
            status = self.server.fault("whoami") or (200 if self._may_write() else 401)
            return self._json({"name": "me", "type": "user"}, status)
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
            return self._send(
                200, json.dumps(self._about(word, name, revision, files, inside)).encode()
            )
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

    def _about(
        self, word: str, name: str, commit: str, files: Mapping[str, bytes], inside: str
    ) -> Any:
        if word == "tree":
            below = [path for path in files if path.startswith(f"{inside}/" if inside else "")]
            if "recursive=true" not in self.path.lower():
                depth = len(inside.split("/")) if inside else 0
                below = list(dict.fromkeys("/".join(p.split("/")[: depth + 1]) for p in below))
            return [_listed(files, path) for path in below]
        siblings = [{"rfilename": path} for path in files]
        return {
            "id": name,
            "sha": commit,
            "siblings": siblings,
            "private": name in self.server.private,
            "tags": [],
        }

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for header, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _listed(files: Mapping[str, bytes], path: str) -> dict[str, Any] | None:
    """Return what is told of a file or folder."""
    if path in files:
        content = files[path]
        return {"type": "file", "path": path, "size": len(content), "oid": _blob(content)}
    if any(name.startswith(f"{path}/") for name in files):
        return {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
    return None


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
