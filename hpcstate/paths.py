"""Where things are. Every path of the project's artifacts is made here and nowhere else."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The project's root: the folder of dodo.py."""

BUILD = Path(os.environ.get("HPCSTATE_BUILD", ROOT / "build"))
"""Everything that was built. Set HPCSTATE_BUILD to put it on another disk."""

TEMPLATES = ROOT / "templates"
CONTAINERS = ROOT / "containers"
STORE = BUILD / "store"
TOOLS = BUILD / "tools"

BACKUPS = BUILD / "backups"
"""Where `hpcstate backup` leaves its archives, unless told another folder; `destroy` leaves it alone."""

RESERVED = frozenset({"packer", "containers", "store", "tools", "keys", "backups"})
"""Folders of build/ that are no cluster's: no cluster may have one of these names."""


def shown(path: Path) -> str:
    """``path`` as a person reads it: from the project's root where it lies below."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


_COMMAND = re.compile(r"((?:hpcstate|\./hpc)(?: [a-z]+)+) FILE\b")


def named(text: str, file: Path) -> str:
    """``text`` with the cluster file ``file`` in the commands that it names (``hpcstate start FILE``): where
    they can be typed as they are read. It stands as it was given: they are typed in the same folder."""
    return _COMMAND.sub(lambda found: f"{found[1]} {shlex.quote(str(file))}", text)


def image(name: str) -> Path:
    """The built image ``name``, where the earlier system had it, so that its files keep working."""
    return BUILD / "packer" / name / name / f"{name}.qcow2"


def container_names() -> list[str]:
    """The containers of the project: the folders of containers/ that have a container.yaml."""
    return sorted(path.parent.name for path in CONTAINERS.glob("*/container.yaml"))


def container(name: str) -> Path:
    """The built container ``name``."""
    return BUILD / "containers" / name / f"{name}.sif"


SIGNING_KEY = BUILD / "keys" / "containers.pem"
"""The private key (ed25519, PEM, mode 0600) that signs the containers built here."""

PUBLIC_KEY = BUILD / "keys" / "containers.pub.pem"
"""Its public half, which verifies them here and on the nodes."""


def throwaway_root(image_path: Path) -> Path:
    """Slurm's daemons of an image, taken out of it (hpcstate.judge.root)."""
    return BUILD / "packer" / image_path.stem / "judge" / f"{image_path.stem}.tar"


def sidecar(artifact: Path) -> Path:
    """The small description beside an artifact; downstream tasks depend on it, never on the artifact."""
    return artifact.with_name(artifact.name + ".json")


@dataclass(frozen=True)
class ClusterPaths:
    """Everything one cluster owns on this machine, below ``build/<cluster name>/``."""

    root: Path

    @classmethod
    def of(cls, cluster_name: str) -> ClusterPaths:
        """The paths of the cluster called ``cluster_name``."""
        return cls(BUILD / cluster_name)

    @property
    def secrets(self) -> Path:
        """Generated once, directory mode 0700, files 0600: keys, passwords."""
        return self.root / "secrets"

    @property
    def logs(self) -> Path:
        """What the commands about the cluster did, a file a run."""
        return self.root / "logs"

    @property
    def draining(self) -> Path:
        """The nodes that are drained to go off, a line each, as long as a drain of that may be left."""
        return self.root / "draining"

    @property
    def ssh_key(self) -> Path:
        """The private key that opens the nodes."""
        return self.secrets / "ssh_key"

    @property
    def owner(self) -> Path:
        """The random id that everything made for the cluster on the hypervisor carries (mark.py)."""
        return self.secrets / "owner"

    @property
    def known_hosts(self) -> Path:
        """The nodes' host keys, generated before their first boot."""
        return self.secrets / "known_hosts"

    @property
    def munge_key(self) -> Path:
        """The cluster's munge key (1024 random bytes)."""
        return self.secrets / "munge.key"

    @property
    def monitoring(self) -> Path:
        """Passwords and certificates of what watches the cluster (hpcstate.monitoring.secrets)."""
        return self.secrets / "monitoring"

    def host_key(self, node: str) -> Path:
        """The SSH host key (ed25519) that cloud-init gives to ``node``."""
        return self.secrets / f"host_key.{node}"

    @property
    def rendered(self) -> Path:
        """The rendered configuration files."""
        return self.root / "rendered"

    @property
    def judgement(self) -> Path:
        """What Slurm's daemons said of the configuration files (hpcstate.judge.judge)."""
        return self.root / "judgement.json"

    @property
    def turn(self) -> Path:
        """Who changes the cluster now (cluster/turn.py)."""
        return self.root / "turn"

    @property
    def claims(self) -> Path:
        """The devices of the host that the nodes have, with their identifiers (passthrough/claims.py)."""
        return self.root / "claims.json"

    @property
    def proof(self) -> Path:
        """The result of the last ``hpcstate check`` of everything."""
        return self.root / "proof.json"

    @property
    def proof_page(self) -> Path:
        """The same, for a person to read."""
        return self.root / "proof.html"

    @property
    def failed_checks(self) -> Path:
        """Where pytest remembers which checks failed (``hpcstate check --lf``)."""
        return self.root / "checks"
