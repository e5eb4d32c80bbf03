"""Apptainer and buildah before a registry that refuses: each has its next step, by what they print."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hpcstate.container import engine as container_engine
from hpcstate.container.refusal import next_step
from hpcstate.container.toolbox import Toolbox
from hpcstate.run import run

_INDEX = "application/vnd.oci.image.index.v1+json"
_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
ANSWERS: dict[str, tuple[int, str, str, str]] = {
    "limit": (
        429,
        "TOOMANYREQUESTS",
        "You have reached your unauthenticated pull rate limit.",
        "no more for now",
    ),
    "private": (401, "UNAUTHORIZED", "authentication required", "docker login here"),
    "denied": (403, "DENIED", "requested access to the resource is denied", "docker login here"),
    "missing": (404, "MANIFEST_UNKNOWN", "manifest unknown", "list of tags"),
    "noname": (404, "NAME_UNKNOWN", "repository name not known to registry", "no image of this name"),
    "down": (503, "", "", "in trouble"),
    "arm": (200, _INDEX, "", "other machines only"),
    "old": (200, _SCHEMA1, "", "older than 2017"),
}
"""For each repository the status, the code or the type, the message, and the step."""


class _Registry(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.split("/")[2]
        if not name:
            self._say(200, {}, "application/json")
            return
        status, word, message, _ = ANSWERS[name]
        if word == _INDEX:
            platform = {"architecture": "arm64", "os": "linux"}
            kind = "application/vnd.oci.image.manifest.v1+json"
            entry = {"mediaType": kind, "digest": f"sha256:{'a' * 64}", "size": 500, "platform": platform}
            self._say(200, {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}, _INDEX)
        elif word == _SCHEMA1:
            whole = {
                "schemaVersion": 1,
                "name": name,
                "tag": "1",
                "architecture": "amd64",
                "fsLayers": [],
                "history": [],
            }
            self._say(200, whole, _SCHEMA1)
        else:
            self._say(
                status, {"errors": [{"code": word, "message": message}]} if word else {}, "application/json"
            )

    do_HEAD = do_GET

    def _say(self, status: int, body: object, kind: str) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="here"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests look at what the clients say."""


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    """The address of a registry that refuses, on this machine alone."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ANSWERS)
def test_apptainer(name: str, registry: str, tools: Toolbox, tmp_path: Path) -> None:
    words = ["build", "--no-https", "/out/x.sif", f"docker://{registry}/{name}/x:1"]
    done = tools.apptainer(words, binds={tmp_path: "/out"}, check=False)
    assert done.code
    assert ANSWERS[name][3] in next_step(done.stderr, ["here"])


@pytest.mark.parametrize("name", [name for name in ANSWERS if name != "limit"])
def test_buildah(name: str, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the limit, for which it waits and asks again."""
    monkeypatch.setattr(container_engine, "STORAGE", tmp_path / "storage")
    engine = container_engine.buildah()
    words: list[str | Path] = ["pull", "--quiet", "--tls-verify=false", f"{registry}/{name}/x:1"]
    done = run(engine.words(*words), env=engine.variables(), check=False)
    assert done.code
    assert ANSWERS[name][3] in next_step(done.stderr, ["here"])
