"""``hpcstate adopt``: a cluster that another folder, or another host, made is taken over on purpose."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.connection import LibvirtHost
from hpcstate.hypervisor.mark import Stranger, listed, new_mark
from hpcstate.model import Cluster
from hpcstate.paths import ClusterPaths
from hpcstate.terminal import Say


@dataclass(frozen=True)
class Adoption:
    """What taking over a cluster means: ``strangers`` change their owner. ``copied`` is the folder whose keys
    are taken, None where they are here already; ``lost`` says that there are none, so that nodes get new ones
    as they boot.
    """

    strangers: tuple[Stranger, ...]
    copied: Path | None = None
    lost: bool = False

    def lines(self) -> list[str]:
        """What will be done, a line each."""
        keys = "with the keys that are here"
        if self.lost:
            keys = "its keys are lost: the nodes get new ones as they boot, their disks stay"
        elif self.copied:
            keys = f"with the keys of {self.copied}"
        return [*(f"takes over {line}" for line in listed(self.strangers)), keys]


def plan(
    cluster: Cluster, host: LibvirtHost, keys: Path | None = None, *, lost_keys: bool = False
) -> Adoption:
    """What ``adopt`` would do. ``keys`` is a copy of the secrets of the cluster, where those below build/ are
    not its own; ``lost_keys`` says that nobody has them any more.

    Raises HpcstateError when something is there that hpcstate never made, when the keys are not those of the
    nodes, and when nodes run whose keys are lost: nobody could let us in.
    """
    if keys is not None:
        _refuse_no_keys(cluster, keys)
    strangers = host.strangers(cluster)
    foreign = [stranger for stranger in strangers if not stranger.ours_once]
    if foreign:
        raise HpcstateError(
            "\n".join(listed(foreign)),
            where=cluster.name,
            hint="only what hpcstate made under this cluster's name can be taken over",
        )
    if lost_keys:
        _refuse_running(cluster, host)
        return Adoption(tuple(strangers), lost=True)
    if not strangers:
        return Adoption(())
    at = ClusterPaths.of(cluster.name)
    if keys is None or keys.resolve() == at.secrets.resolve() or _same_keys(keys, at):
        _refuse_wrong_keys(cluster, host, at.secrets)
        return Adoption(tuple(strangers))
    _refuse_other_keys(at)
    _refuse_wrong_keys(cluster, host, keys)
    return Adoption(tuple(strangers), copied=keys)


def adopt(cluster: Cluster, file: Path, host: LibvirtHost, adoption: Adoption, say: Say) -> None:
    """Take the cluster over as planned: the keys, then the marks."""
    at = ClusterPaths.of(cluster.name)
    if adoption.copied is not None:
        _copy_keys(adoption.copied, at)
        say(f"keys copied to {at.secrets}")
    for what in host.take(cluster, new_mark(cluster, file)):
        say(f"took over {what}")


def _refuse_no_keys(cluster: Cluster, keys: Path) -> None:
    if not (keys / ClusterPaths.of(cluster.name).ssh_key.name).is_file():
        raise HpcstateError(
            "this is no folder with the keys of a cluster: it has no ssh_key",
            where=str(keys),
            hint=f"build/{cluster.name}/secrets of the folder that made the cluster is meant, or a copy",
        )


def _refuse_running(cluster: Cluster, host: LibvirtHost) -> None:
    running = [domain.name() for domain in host.named_domains(cluster) if domain.isActive()]
    if running:
        raise HpcstateError(
            f"running, with keys that nobody has: {', '.join(running)}",
            where=cluster.name,
            hint="shut them down first (virsh shutdown): they get new keys as they boot",
        )
    saved = [domain.name() for domain in host.named_domains(cluster) if domain.hasManagedSaveImage()]
    if saved:
        raise HpcstateError(
            f"saved, with keys that nobody has: {', '.join(saved)}",
            where=cluster.name,
            hint="they would go on from their memory, without a boot that gives them new keys: "
            f"`virsh managedsave-remove {saved[0]}` drops the memory, the disk stays",
        )


def _same_keys(keys: Path, at: ClusterPaths) -> bool:
    """Whether the keys that are here are those in the folder ``keys``."""
    here = at.ssh_key
    return here.is_file() and here.read_bytes() == (keys / here.name).read_bytes()


def _refuse_other_keys(at: ClusterPaths) -> None:
    """Keys that are here are never replaced."""
    if at.ssh_key.exists():
        raise HpcstateError(
            "there are keys of a cluster of this name already",
            where=str(at.secrets),
            hint="`hpcstate adopt` without --keys takes these; if no cluster of yours needs them any more, "
            "move that folder away, and adopt again",
        )


def _refuse_wrong_keys(cluster: Cluster, host: LibvirtHost, keys: Path) -> None:
    answers = {node.name: host.volumes.opened_by(cluster, node, keys) for node in cluster.nodes}
    at = ClusterPaths.of(cluster.name)
    if not any(fits is not None for fits in answers.values()) and all(
        (keys / at.host_key(name).name).is_file() for name in answers
    ):
        return  # no node was made yet: nothing was locked with other keys
    wrong = [name for name, fits in answers.items() if fits is False]
    if wrong or True not in answers.values():
        names = ", ".join(wrong or answers)
        raise HpcstateError(
            f"the keys in {keys} are not those of {names}",
            where=cluster.name,
            hint="--keys FOLDER names a copy of the right ones; --lost-keys has nodes get new ones",
        )


def _copy_keys(source: Path, at: ClusterPaths) -> None:
    """Copy keys, but not the owner: that one stays with whoever had the cluster."""
    at.root.mkdir(parents=True, exist_ok=True)
    aside = at.root / ".secrets.adopted"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700)
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name != at.owner.name:
            target = aside / path.name
            target.touch(mode=0o600)
            target.write_bytes(path.read_bytes())
    if at.secrets.is_dir():
        for path in at.secrets.iterdir():
            if not (aside / path.name).exists():
                path.rename(aside / path.name)
        shutil.rmtree(at.secrets)
    aside.rename(at.secrets)
