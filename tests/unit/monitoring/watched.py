"""A cluster that is watched, and credentials that open nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hpcstate import paths, schema
from hpcstate.model import Cluster
from hpcstate.monitoring.secrets import Certificate, Credentials

PEM = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"
ON = """    monitoring:
      enabled: true
      receivers:
        - webhook: https://chat.example.org/hooks/1
        - {email: admins@example.org, severity: critical}
    mail: {relay: "smtp.example.org:587", sender: c@example.org}
    backup: {every: daily, path: /srv/backups}
"""


def cluster(folder: Path, text: str = ON, changes: Mapping[str, str] | None = None) -> Cluster:
    """That of inventories/gpu.yaml with ``changes`` (old text to new), and ``text`` behind it."""
    file = folder / "watched.yaml"
    good = (paths.ROOT / "inventories" / "gpu.yaml").read_text(encoding="utf-8")
    for old, new in (changes or {}).items():
        assert old in good
        good = good.replace(old, new)
    file.write_text(good + text, encoding="utf-8")
    return schema.load(file).clusters[0]


def credentials(of: Cluster) -> Credentials:
    """With the texts that real ones have, but no secret."""
    hashes = dict.fromkeys((*of.monitoring.users, "scrape"), f"$2b$10${'x' * 53}")
    nodes = {node.name: Certificate(PEM, "a key\n", 1_900_000_000) for node in of.nodes}
    return Credentials(hashes, "a password", PEM, nodes)
