"""The way in for a person: a shell on a node, and what ssh has to know to open one.

The host keys are those that the nodes were given; a key that is not known is never taken on trust.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster, Node
from hpcstate.node.known_hosts import complete_known_hosts, knows
from hpcstate.node.ssh import (
    ALIVE,
    CONNECT_SECONDS,
    NOT_LET_IN,
    OTHER_HOST_KEY,
    SSH_FAILED,
    SSH_USER,
    NotLetInError,
    OtherHostKeyError,
    UnreachableError,
    option_value,
)
from hpcstate.paths import ClusterPaths, shown
from hpcstate.run import hand_over, run

_WARNING = "@" * 59
"""How ssh begins to tell of a host key that is another one (OpenSSH, sshconnect.c, warn_changed_key): a dozen
lines with an advice that is none here, because the file that it names is written anew."""


def open_shell(
    cluster: Cluster, node: Node, user: str, command: Sequence[str], *, file: Path, tty: bool = False
) -> int:
    """Run ``command`` on ``node`` as ``user``, or a shell without one, with this process's terminal; returns
    what it exits with. Its words are joined by spaces and read by the login shell there, as ssh(1) does;
    ``tty`` gives it a terminal.

    Raises HpcstateError where the node's host key is not known, UnreachableError when no connection came
    about; ``file`` is the cluster file, for the next step.
    """
    demand_host_key(cluster, node, file)
    words = ssh_words(cluster, user)
    target = f"{user}@{node.address}"
    code, held = hand_over([*words, *(["-t"] if tty else []), "--", target, *command], hold=_WARNING)
    if code == SSH_FAILED and OTHER_HOST_KEY in held:
        raise OtherHostKeyError(node, str(shown(file)))
    if held:
        sys.stderr.write(held)
    if code != SSH_FAILED:
        return code
    # ssh has said what is wrong, or the command ended so by itself: a second connection tells which.
    tried = run([*words, "-oBatchMode=yes", "--", target, "true"], timeout=CONNECT_SECONDS + 10, check=False)
    if tried.code == SSH_FAILED:
        raise _refusal(cluster, node, user, tried.stderr, file)
    return code


def demand_host_key(cluster: Cluster, node: Node, file: Path) -> None:
    """Raises HpcstateError unless the host key of ``node`` is known here; ``file`` is for the next step."""
    complete_known_hosts(cluster)
    known_hosts = ClusterPaths.of(cluster.name).known_hosts
    known = known_hosts.read_text(encoding="utf-8", errors="replace") if known_hosts.is_file() else ""
    if not knows(known, str(node.address)):
        raise HpcstateError(
            f"there is no host key of {node.name} ({node.address}) here",
            where=shown(known_hosts),
            hint=f"`hpcstate start {shown(file)}` makes those that are missing, and the nodes that are new",
        )


def ssh_words(cluster: Cluster, user: str) -> list[str]:
    """``ssh`` with its options for a person who becomes ``user`` on the nodes of ``cluster``.

    ``admin`` has the project's key. Anybody else comes with keys of their own, as ``~/.ssh/config`` and an
    agent have them; the host keys are the cluster's all the same.
    """
    at = ClusterPaths.of(cluster.name)
    options = [
        "StrictHostKeyChecking=yes",
        f"UserKnownHostsFile={option_value(at.known_hosts)}",
        "GlobalKnownHostsFile=/dev/null",
        "KnownHostsCommand=none",
        "VerifyHostKeyDNS=no",
        f"ConnectTimeout={CONNECT_SECONDS}",
        *ALIVE,
        "LogLevel=ERROR",
    ]
    own = []
    if user == SSH_USER:
        own = ["-F", "/dev/null"]
        options += [f"IdentityFile={option_value(at.ssh_key)}", "IdentitiesOnly=yes", "IdentityAgent=none"]
    return ["ssh", *own, *(f"-o{option}" for option in options)]


def host_blocks(cluster: Cluster, user: str) -> str:
    """The ``Host`` blocks of ssh_config(5) for the nodes of ``cluster``, by the names of their domains
    (``gpu-controller``), for ``user``; with the project's key where that is ``admin``. What known_hosts lacks
    of them is added."""
    complete_known_hosts(cluster)
    at = ClusterPaths.of(cluster.name)
    identity: tuple[str, ...] = ()
    if user == SSH_USER:
        identity = (f"IdentityFile {option_value(at.ssh_key)}", "IdentitiesOnly yes")
    blocks = []
    for node in cluster.nodes:
        lines = (
            f"HostName {node.address}",
            f"User {user}",
            *identity,
            f"UserKnownHostsFile {option_value(at.known_hosts)}",
            "GlobalKnownHostsFile /dev/null",
            "StrictHostKeyChecking yes",
        )
        blocks.append("\n".join([f"Host {cluster.domain_name(node)}", *(f"    {line}" for line in lines)]))
    return "\n\n".join(blocks) + "\n"


def _refusal(cluster: Cluster, node: Node, user: str, stderr: str, file: Path) -> UnreachableError:
    """Why ssh came to nothing, with the next step."""
    lines = stderr.strip().splitlines()
    if OTHER_HOST_KEY in stderr:
        return OtherHostKeyError(node, str(shown(file)))
    if NOT_LET_IN in stderr and user == SSH_USER:
        return NotLetInError(node, str(shown(file)))
    if NOT_LET_IN in stderr:
        hint = (
            f"is {user} a user there, with a key of yours (`ssh-add -l`)? `hpcstate ssh {shown(file)}` "
            f"without --user is {SSH_USER}"
        )
    elif hypervisor := urlsplit(cluster.uri).hostname:
        hint = f"does it run (`hpcstate status {shown(file)}`), and is its network on {hypervisor} routed to?"
    else:
        hint = f"does it run? `hpcstate status {shown(file)}`; `hpcstate start {shown(file)}` starts it"
    why = lines[-1] if lines else "the connection ended without a word"
    if not lines:
        hint += "; sshd ends each connection so while the node has an /etc/nologin"
    return UnreachableError(node.name, f"{user}@{node.address} opens no shell: {why}", hint=hint)
