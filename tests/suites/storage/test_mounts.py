"""What the cluster file mounts on the nodes is there, and a server that is away hangs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from hpcstate.check.jobs import new_name
from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster, Mount, Node
from hpcstate.node.data_volume import UNITS
from hpcstate.node.mounts import MARK, SECONDS, units
from hpcstate.node.ssh import Live
from hpcstate.probe import mounts
from hpcstate.probe.mounts import MountsState

SILENT = "does not answer in"

WAIT_S = SECONDS + 15
"""How long a mount may take that somebody looks at for the first time."""


def test_mounts(live: Live, cluster: Cluster, record_property: RecordProperty) -> None:
    """Every mount of the cluster file answers on its nodes; where it is read-only nobody writes"""
    having = [node for node in live.nodes if node.mounts]
    if not having:
        pytest.skip("the cluster file has no storage.mounts and no virtio_fs_mounts")
    longest = max(len(node.mounts) for node in having)
    said = live.run_each(
        {node.name: _look(node.mounts) for node in having},
        user="root",
        timeout=longest * (WAIT_S + 10) + 30,
        check=False,
    )
    states = live.run_each({node.name: _question(node) for node in having}, user="root")
    wrong = [
        f"{node.name}: {text}"
        for node in having
        for text in wrongs(
            node.mounts, answers(said[node.name].stdout), mounts.parse(states[node.name].stdout)
        )
    ]
    if wrong:
        raise CheckFailed(
            f"each mount is there within {WAIT_S} s, from where the cluster file says, for whom it says",
            "; ".join(wrong),
            next_step(wrong),
        )
    observed = [f"{mount.mount_point} from {mount.source}" for node in having for mount in node.mounts]
    record_property("observed", ", ".join(dict.fromkeys(observed)))


def _look(wanted: tuple[Mount, ...]) -> str:
    """Asks each mount for its root, and tries to write where nobody may: ``PLACE yes|no`` and ``PLACE
    written`` a line. Bounded, and killed where it hangs."""
    lines = []
    for mount in wanted:
        place = mount.mount_point
        lines.append(
            f"if timeout --kill-after=5 {WAIT_S} stat -t {place}/. >/dev/null 2>&1; "
            f"then echo {place} yes; else echo {place} no; fi"
        )
        if mount.read_only:
            path = f"{place}/{new_name()}"
            lines.append(
                f"if timeout --kill-after=5 10 touch {path} 2>/dev/null; "
                f"then echo {place} written; rm -f {path}; fi"
            )
    return "\n".join(lines)


def answers(text: str) -> Mapping[str, list[str]]:
    """What ``_look`` printed: the words of each place."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        place, _, word = line.rpartition(" ")
        found.setdefault(place, []).append(word)
    return found


def wrongs(wanted: tuple[Mount, ...], said: Mapping[str, list[str]], state: MountsState) -> Iterator[str]:
    """What is wrong with the mounts of a node, in words."""
    for mount in wanted:
        place, made = mount.mount_point, units(mount)
        real = [each for each in state["mounts"].get(place, []) if each["type"] != "autofs"]
        if "yes" not in said.get(place, []):
            yield f"{place} {SILENT} {WAIT_S} s ({mount.source})"
        elif not real:
            yield f"{place} is a folder of the node's own disk"
        elif real[-1]["type"] not in made.types or real[-1]["source"] != made.source:
            yield f"{place} is mounted from {real[-1]['source']} ({real[-1]['type']})"
        elif mount.read_only and ("written" in said[place] or "ro" not in real[-1]["options"]):
            yield f"{place} can be written to"
        elif not {"nosuid", "nodev"} <= set(real[-1]["options"]):
            yield f"{place} has it without nosuid, nodev"


def next_step(wrong: list[str]) -> str:
    """What to do: a deploy mends no server."""
    look = "systemctl status of the .mount and .automount on the node, the server and its exports"
    if all(SILENT in each for each in wrong):
        return look
    return (
        f"{look}; a folder of the host comes as its node goes off and on (hpcstate plan FILE tells); "
        + DEPLOY_AGAIN
    )


def _question(node: Node) -> str:
    made = [units(mount) for mount in node.mounts]
    return mounts.command([each.place for each in made], [each.automount_name for each in made], MARK, UNITS)


def _victim(live: Live) -> tuple[str, Mount]:
    """The last node with a mount, and its first one."""
    nodes = [node for node in live.nodes if node.mounts]
    if not nodes:
        pytest.skip("the cluster file has no mounts")
    return nodes[-1].name, nodes[-1].mounts[0]


@fault("a mount of a node is stopped", "storage.mounts")
def not_mounted(live: Live) -> Iterator[None]:
    name, mount = _victim(live)
    made = units(mount)
    both = f"'{made.mount_name}' '{made.automount_name}'"
    try:
        live.run(name, f"systemctl stop {both}; mkdir -p {mount.mount_point}", user="root")
        yield
    finally:
        live.run(name, f"systemctl start '{made.automount_name}'", user="root")


@fault("a server does not answer", "storage.mounts")
def no_server(live: Live) -> Iterator[None]:
    name, mount = _victim(live)
    made = units(mount)
    drop_in = f"/run/systemd/system/{made.mount_name}.d"
    stop = f"systemctl stop '{made.mount_name}'"
    try:
        # An address that nobody has (RFC 5737); for a folder of the host, a tag.
        live.run(
            name,
            f"mkdir -p '{drop_in}' && printf '[Mount]\\nWhat=192.0.2.1:/none\\n' >'{drop_in}/lab.conf' && "
            f"{stop} && systemctl daemon-reload",
            user="root",
            timeout=120,
        )
        yield
    finally:
        # A mount that failed counts as failed until somebody asks for it again.
        reset = f"systemctl reset-failed '{made.mount_name}'"
        live.run(
            name,
            f"rm -rf '{drop_in}'; {stop}; systemctl daemon-reload; {reset} || :",
            user="root",
            timeout=120,
        )
