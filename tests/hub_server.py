"""A stand-in for the Hugging Face Hub on this machine: what its client libraries ask for, and no more.

Repositories live in memory; each has one branch, ``main``, whose commit is a hash of its content. Files are served
whole. Uploads come as plain files in one commit; nobody may write below ``refused/``. Anything else is answered 404, as
the Hub does for what it does not have.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_" + "a" * 34
"""The one token that the stand-in takes."""


class Hub:
    """Use as a context manager; ``endpoint`` is its address, ``requests`` what it was asked: "METHOD path"."""

    def __init__(self):
        self.repos: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, repo: str, files: Mapping[str, bytes]) -> None:
        """Add files to a repository: "models/NAMESPACE/NAME" or "datasets/NAMESPACE/NAME"."""
        self.repos.setdefault(repo, {}).update(files)

    def add_model(self, name: str, folder: str | Path) -> None:
        self.add(f"models/{name}", {file.name: file.read_bytes() for file in Path(folder).iterdir()})

    def commit(self, repo: str) -> str:
        """The commit that ``main`` points to: 40 hex digits."""
        digest = hashlib.sha1(repo.encode())
        for path, content in sorted(self.repos[repo].items()):
            digest.update(path.encode() + hashlib.sha1(content).digest())
        return digest.hexdigest()

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.query = {name: values[0] for name, values in parse_qs(address.query).items()}
        self.hub.requests.append(f"{self.command} {path}")
        for pattern, method in ROUTES:
            if match := re.fullmatch(pattern, path):
                getattr(self, method)(**match.groupdict())
                return
        self._fail(404, "EntryNotFound")

    # --- reading -----------------------------------------------------------------------------------------------------

    def root(self) -> None:
        self._send(b"a stand-in for the Hub")

    def info(self, kind: str, repo: str, revision: str = "main") -> None:
        if self._has(f"{kind}/{repo}", revision):
            files = self.hub.repos[f"{kind}/{repo}"]
            self._send_json(
                {
                    "_id": "0" * 24,
                    "id": repo,
                    "sha": self.hub.commit(f"{kind}/{repo}"),
                    "private": False,
                    "gated": False,
                    "disabled": False,
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                    "siblings": [{"rfilename": path} for path in sorted(files)],
                }
            )

    def tree(self, kind: str, repo: str, revision: str, under: str | None = None) -> None:
        if not self._has(f"{kind}/{repo}", revision):
            return
        prefix = f"{under.strip('/')}/" if under else ""
        entries, folders = [], set()
        for path, content in sorted(self.hub.repos[f"{kind}/{repo}"].items()):
            if not path.startswith(prefix):
                continue
            head, _, rest = path.removeprefix(prefix).partition("/")
            if rest and self.query.get("recursive", "").lower() not in ("1", "true"):
                folders.add(prefix + head)
            else:
                entries.append(_file(path, content))
        entries += [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)]
        if entries:
            self._send_json(entries)
        else:
            self._fail(404, "EntryNotFound")

    def paths_info(self, kind: str, repo: str, revision: str) -> None:
        if self._has(f"{kind}/{repo}", revision):
            files = self.hub.repos[f"{kind}/{repo}"]
            if self.headers.get("Content-Type", "").startswith("application/json"):
                paths = json.loads(self.body)["paths"]
            else:
                paths = parse_qs(self.body.decode()).get("paths", [])
            self._send_json([_file(path, files[path]) for path in paths if path in files])

    def file(self, repo: str, revision: str, path: str, kind: str = "models") -> None:
        if self._has(f"{kind}/{repo}", revision):
            content = self.hub.repos[f"{kind}/{repo}"].get(path)
            if content is None:
                self._fail(404, "EntryNotFound", commit=self.hub.commit(f"{kind}/{repo}"))
            else:
                self._send(content, commit=self.hub.commit(f"{kind}/{repo}"))

    # --- writing -----------------------------------------------------------------------------------------------------

    def whoami(self) -> None:
        if self._logged_in():
            self._send_json({"type": "user", "name": "tester", "fullname": "A Tester", "orgs": [], "auth": {}})

    def create(self) -> None:
        if self._logged_in():
            asked = json.loads(self.body)
            repo = f"{asked.get('organization') or 'tester'}/{asked['name']}"
            if repo.startswith("refused/"):
                self._fail(403, None)
            elif f"models/{repo}" in self.hub.repos:
                self._send_json({"error": "exists", "url": f"{self.hub.endpoint}/{repo}"}, status=409)
            else:
                self.hub.add(f"models/{repo}", {})
                self._send_json({"url": f"{self.hub.endpoint}/{repo}", "name": repo, "id": "0" * 24})

    def preupload(self, kind: str, repo: str, revision: str) -> None:
        if self._logged_in() and self._has(f"{kind}/{repo}", revision):
            paths = [file["path"] for file in json.loads(self.body)["files"]]
            self._send_json(
                {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]}
            )

    def commit(self, kind: str, repo: str, revision: str) -> None:
        if self._logged_in() and self._has(f"{kind}/{repo}", revision):
            for line in map(json.loads, self.body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.hub.add(f"{kind}/{repo}", {value["path"]: base64.b64decode(value["content"])})
            commit = self.hub.commit(f"{kind}/{repo}")
            self._send_json({"success": True, "commitOid": commit, "commitUrl": f"{self.hub.endpoint}/{repo}"})

    # --- answers -----------------------------------------------------------------------------------------------------

    def _has(self, repo: str, revision: str) -> bool:
        if repo not in self.hub.repos:
            self._fail(401 if "Authorization" not in self.headers else 404, "RepoNotFound")
        elif revision not in ("main", self.hub.commit(repo)):
            self._fail(404, "RevisionNotFound")
        else:
            return True
        return False

    def _logged_in(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self._fail(401, None)
        return False

    def _send_json(self, content, status: int = 200) -> None:
        self._send(json.dumps(content).encode(), status, kind="application/json")

    def _fail(self, status: int, code: str | None, commit: str | None = None) -> None:
        self._send(b'{"error": "no"}', status, {"X-Error-Code": code} if code else {}, "application/json", commit)

    def _send(self, content: bytes, status: int = 200, headers=None, kind: str = "text/plain", commit=None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        if commit:
            self.send_header("X-Repo-Commit", commit)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


KIND, REPO, REVISION = r"(?P<kind>models|datasets)", r"(?P<repo>[^/]+(/[^/]+)?)", r"(?P<revision>[^/]+)"
ROUTES = [
    (r"/", "root"),
    (r"/api/whoami-v2", "whoami"),
    (r"/api/repos/create", "create"),
    (rf"/api/{KIND}/{REPO}/preupload/{REVISION}", "preupload"),
    (rf"/api/{KIND}/{REPO}/commit/{REVISION}", "commit"),
    (rf"/api/{KIND}/{REPO}/tree/{REVISION}(?P<under>/.+)?", "tree"),
    (rf"/api/{KIND}/{REPO}/paths-info/{REVISION}", "paths_info"),
    (rf"/api/{KIND}/{REPO}/revision/{REVISION}", "info"),
    (rf"/api/{KIND}/{REPO}", "info"),
    (rf"/{KIND}/{REPO}/resolve/{REVISION}/(?P<path>.+)", "file"),
    (rf"/{REPO}/resolve/{REVISION}/(?P<path>.+)", "file"),
]


def _file(path: str, content: bytes) -> dict:
    return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


# --- the data set ----------------------------------------------------------------------------------------------------


def glue_files(tasks: Mapping[str, Mapping[str, list[dict]]], labels: Mapping[str, list[str]]) -> dict[str, bytes]:
    """The files of ``nyu-mll/glue``: for every task one parquet file a split, and a card that says which is which.

    ``tasks`` is task -> split -> rows; ``labels`` names the classes of each task, none for a regression.
    """
    import pyarrow
    from pyarrow import parquet

    files, infos, configs = {}, [], []
    for task, splits in tasks.items():
        for split, rows in splits.items():
            table = pyarrow.table({name: [row[name] for row in rows] for name in rows[0]})
            label = pyarrow.int64() if labels[task] else pyarrow.float32()
            table = table.set_column(table.column_names.index("label"), "label", table["label"].cast(label))
            buffer = io.BytesIO()
            parquet.write_table(table, buffer)
            files[f"{task}/{split}-00000-of-00001.parquet"] = buffer.getvalue()
        configs.append({"config_name": task, "data_files": [{"split": s, "path": f"{task}/{s}-*"} for s in splits]})
        kind = {"class_label": {"names": dict(enumerate(labels[task]))}} if labels[task] else "float32"
        texts = [name for name in next(iter(splits.values()))[0] if name not in ("label", "idx")]
        features = [{"name": name, "dtype": "string"} for name in texts]
        infos.append({"config_name": task, "features": [*features, {"name": "label", "dtype": kind}, IDX]})
    card = json.dumps({"dataset_info": infos, "configs": configs})  # JSON is YAML
    return files | {"README.md": f"---\n{card}\n---\nGLUE, a few rows of it\n".encode()}


IDX = {"name": "idx", "dtype": "int32"}
