"""A folder of Debian packages as the nodes' mirror: the lab reaches no other.

HPCSTATE_LAB_DEBS names it. Tests that need packages are skipped without it; each says which.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from hpcstate.node.ssh import Live

DEBS = os.environ.get("HPCSTATE_LAB_DEBS", "")
GATEWAY, PORT = "192.168.170.1", 8099
SOURCES = "/etc/apt/sources.list.d/lab.sources"


@pytest.fixture(scope="module")
def mirror(live: Live) -> Iterator[None]:
    """The folder of packages as a source of the nodes."""
    folder = Path(DEBS)
    entries = []
    for deb in sorted(folder.glob("*.deb")):
        fields = subprocess.run(
            ["dpkg-deb", "--field", deb], check=True, capture_output=True, text=True
        ).stdout
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        entries.append(f"{fields}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n")
    (folder / "Packages").write_text("\n".join(entries))
    handler = partial(SimpleHTTPRequestHandler, directory=DEBS)
    server = ThreadingHTTPServer((GATEWAY, PORT), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    text = f"Types: deb\nURIs: http://{GATEWAY}:{PORT}/\nSuites: ./\nTrusted: yes\n"
    for node in live.nodes:
        live.put(node.name, SOURCES, text, mode=0o644)
    live.run_each(
        {node.name: "apt-get -q update" for node in live.nodes}, user="root", timeout=300, check=False
    )
    yield
    live.run_each({node.name: f"rm -f {SOURCES}" for node in live.nodes}, user="root")
    server.shutdown()
