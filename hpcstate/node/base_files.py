"""The files that every node has: names, time, users, firewall, SSH. Pure: model in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpcstate.model import Cluster, Node
from hpcstate.monitoring.places import guarded
from hpcstate.node.homes import owns_homes
from hpcstate.node.ssh import JOB_USER, SSH_USER
from hpcstate.render import of_site, render
from hpcstate.slurm.accounting import DATA
from hpcstate.slurm.conf import JOB_SUBMIT, STATE, job_record, job_submit, refuses_mail, slurm_user

JOB_UID = 2000
"""The number of the job user on all nodes: Slurm and munge pass numbers, not names."""

HOSTS = "/etc/hosts"
FIREWALL = "/etc/nftables.conf"
SSHD = "/etc/ssh/sshd_config.d/10-hpcstate.conf"
SSH = "/etc/ssh/ssh_config.d/10-hpcstate.conf"
"""What ssh does on a node on the way to another one."""

SSH_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"
SHOSTS_EQUIV = "/etc/ssh/shosts.equiv"
CHRONY = "/etc/chrony/conf.d/hpcstate.conf"
KEYS = "/etc/ssh/authorized_keys.d"
"""The keys of people, a file for each: root's, so that no job lets others in, and not in a home that may be
away."""

SUDO = "sudo"
"""Debian's group of those who may become root."""

PAM_SERVICE = "hpcstate-sshd"
PAM = f"/etc/pam.d/{PAM_SERVICE}"
"""The rules by which people log in by SSH on a compute node, or a controller that is for admins; OpenSSH 9.8
and newer take their name from sshd's file (PAMServiceName, sshd_config(5)), so that Debian's own file
stays as it is."""

KEYS_OF_DIRECTORY = "/usr/local/lib/hpcstate/hpcstate-directory-keys"
"""What sshd asks for the keys of people who are in the directory only (hpcstate.node.directory)."""

HOME_AT_LOGIN = "/usr/local/lib/hpcstate/hpcstate-directory-home"
"""What makes their home, or asks for it, as they log in."""

CLOSED = "The controller is for admins: log in on"
"""What one is told who logs in on a controller beside login nodes; their names follow."""

SYSUSERS = "/etc/sysusers.d/hpcstate.conf"
TMPFILES = "/etc/tmpfiles.d/hpcstate.conf"
SYSCTL = "/etc/sysctl.d/90-hpcstate.conf"
LOGROTATE = "/etc/logrotate.d/hpcstate"

SYSCTLS: Mapping[str, str] = {"user.max_user_namespaces": "15000", "kernel.unprivileged_userns_clone": "1"}
"""Values of the kernel that have to be in force: Apptainer makes a user namespace for each container. How
many there may be: Apptainer's admin guide, "User Namespaces & Fakeroot". The second key is Debian's own."""

RESTARTING = ("munge", "slurmctld", "slurmd", "slurmdbd", "mariadb")
"""The daemons that start again by themselves after a crash. Debian's units of Slurm do not, those of munge
and MariaDB only after a signal."""

_KEEPS: Mapping[str, str] = {"slurmctld": STATE, "mariadb": DATA}
"""What a daemon must find where it keeps its state."""


def image_files() -> Mapping[str, str]:
    """Path to content of what is the same in every cluster, so that the image has it already.

    The firewall of an image lets in SSH only, until a deploy tells it the cluster's subnet; sshd looks for
    keys where Debian's does until then.
    """
    return {
        SSHD: render(
            "base/sshd.conf.j2",
            keys="",
            service="",
            behind_port="",
            hostbased=False,
            refuses=False,
            directory="",
        ),
        SYSUSERS: render("base/sysusers.conf.j2", user=JOB_USER, uid=JOB_UID),
        TMPFILES: tmpfiles(owns=True),
        SYSCTL: render("base/sysctl.conf.j2", sysctls=SYSCTLS),
        FIREWALL: render("base/nftables.conf.j2", subnet="", homes_for=(), guarded={}),
    }


def tmpfiles(*, owns: bool) -> str:
    """The home of the job user, made at boot on the node that ``owns`` the homes: others must not look at
    them then, before there is a network."""
    return render("base/tmpfiles.conf.j2", user=JOB_USER, owns_homes=owns)


@of_site
def login_files(cluster: Cluster, node: Node) -> Mapping[str, str]:
    """Path to content of what lets people in on ``node`` of a Slurm cluster; on a compute node only who has a
    job there, on a controller beside login nodes only who may become root. People of a directory get their
    home where they log in."""
    computes, closed = node.role == "compute", cluster.is_closed(node)
    directory = cluster.directory is not None and not closed
    home_at_login = HOME_AT_LOGIN if directory and (not computes or owns_homes(cluster, node)) else ""
    own_rules = PAM_SERVICE if computes or closed or home_at_login else ""
    words = {"keys": KEYS, "admin": SSH_USER, "sudo": SUDO, "service": own_rules}
    behind_port = next(
        (cluster.network.gateway for port in cluster.network.ports if port.node == node.name), ""
    )
    sshd = render(
        "base/sshd.conf.j2",
        **words,
        subnet=",".join(cluster.peers),
        known_hosts=SSH_KNOWN_HOSTS,
        equiv=SHOSTS_EQUIV,
        behind_port=behind_port,
        hostbased=computes,
        refuses=computes or closed,
        directory=KEYS_OF_DIRECTORY if directory else "",
    )
    rules = {}
    if computes:
        rules[PAM] = render("base/pam-sshd.j2", sshd=SSHD, home_at_login=home_at_login, **words)
    elif closed:
        logins = " or ".join(each.name for each in cluster.login_nodes)
        rules[PAM] = render("base/pam-sshd-closed.j2", sshd=SSHD, logins=logins, refusal=CLOSED, **words)
    elif home_at_login:
        rules[PAM] = render("base/pam-sshd-login.j2", sshd=SSHD, home_at_login=home_at_login)
    hosts = [word for each in cluster.nodes for word in (each.name, str(each.address))]
    return {
        **rules,
        SHOSTS_EQUIV: render("base/shosts.equiv.j2", nodes=cluster.nodes if computes else ()),
        SSH: render("base/ssh.conf.j2", hosts=hosts),
        SSHD: sshd,
    }


def drop_in(unit: str) -> str:
    """The path of our drop-in for the service ``unit`` (``slurmd``)."""
    return f"/etc/systemd/system/{unit}.service.d/hpcstate.conf"


def service_files() -> Mapping[str, str]:
    """Path to content of what systemd is told of munge's and Slurm's daemons: in the image of a Slurm node,
    and on every node of a Slurm cluster."""
    return {
        drop_in(unit): render("base/restart.conf.j2", seconds=120, times=6, mounts=_KEEPS.get(unit, ""))
        for unit in RESTARTING
    }


@of_site
def controller_files(cluster: Cluster) -> Mapping[str, str]:
    """Path to content of what the controller of a Slurm cluster has by itself. The rotation stays where no
    record is written any more: there may still be one."""
    rotation = render("slurm/logrotate.conf.j2", record=job_record(cluster), user=slurm_user(cluster))
    return {LOGROTATE: rotation, **({JOB_SUBMIT: job_submit()} if refuses_mail(cluster) else {})}


def _nft_set(peers: Sequence[str]) -> str:
    """``peers`` as nft(8) takes them."""
    return peers[0] if len(peers) == 1 else f"{{ {', '.join(peers)} }}"


@of_site
def cluster_files(cluster: Cluster, node: Node) -> Mapping[str, str]:
    """Path to content of all the files of ``node``: the image's, and those that tell of the cluster."""
    peers = cluster.peers
    serves = cluster.home == "nfs" and node is cluster.controller
    homes_for = [str(other.address) for other in cluster.others] if serves else []
    return {
        **image_files(),
        **(login_files(cluster, node) if cluster.kind == "hpc" else {}),
        **(service_files() if cluster.kind == "hpc" else {}),
        **(controller_files(cluster) if cluster.kind == "hpc" and node is cluster.controller else {}),
        HOSTS: render("base/hosts.j2", cluster_name=cluster.name, nodes=cluster.nodes),
        FIREWALL: render(
            "base/nftables.conf.j2",
            subnet=_nft_set(peers),
            homes_for=homes_for,
            guarded=guarded(cluster, node),
        ),
        TMPFILES: tmpfiles(owns=owns_homes(cluster, node)),
        CHRONY: render(
            "base/chrony.conf.j2",
            is_controller=node is cluster.controller,
            peers=peers,
            subnet=cluster.network.subnet,  # for a template of the site's own
            controller_address=cluster.controller.address,
        ),
    }
