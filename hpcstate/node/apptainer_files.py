"""The files by which Apptainer runs containers on a node. Pure: the model in, text out.

apptainer.conf is the seeds' security policy (TASK-009) in the words of Apptainer 1.4; what became of each of
theirs is in docs/container-runtime.md. The directives' meaning: the comments of the file that the package
ships, and Apptainer's admin guide, "Configuration Files".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpcstate import paths
from hpcstate.model import ContainerSettings, User
from hpcstate.node.base_files import JOB_UID
from hpcstate.node.ssh import JOB_USER
from hpcstate.render import render

CONF = "/etc/apptainer/apptainer.conf"
POLICY = "/etc/hpcstate/containers.conf"
PUBLIC_KEY = "/etc/hpcstate/containers.pub.pem"
CONTAINER_EXEC = "/usr/bin/container-exec"
PROFILE = "/etc/profile.d/hpcstate-containers.sh"
OCI_CONF = "/etc/slurm/oci.conf"
TMPFILES = "/etc/tmpfiles.d/hpcstate-containers.conf"

CACHE = "/var/cache/hpcstate-containers"
"""Each user's own folder below it: Apptainer's cache and temporary files, and what container-exec verified.
On the node's disk, and not in a home that many nodes may share."""

AT_LEAST = "1.2"
"""The oldest Apptainer that will do (TASK-008)."""

SUBIDS = 65536
"""How many user and group numbers a user's containers may have (subuid(5); login.defs(5), SUB_UID_COUNT)."""

UNPRIVILEGED = "These bind only the setuid program: no effect while users may make user namespaces."


@dataclass(frozen=True)
class Directive:
    """One line of apptainer.conf, and the reason for its value where that is not plain."""

    name: str
    value: str
    why: str = ""


def directives(settings: ContainerSettings) -> tuple[tuple[str, tuple[Directive, ...]], ...]:
    """Every directive of Apptainer 1.4 that has a value here, by title of its part of the file.

    Not among them are the lists ``limit container …``, ``allow net …`` and ``allow netns paths``, which mean
    "none" when they are absent. The package's comments say that NULL means the same: 1.4.5 then stops with
    "failed to resolve path NULL" whenever a container is started.
    """
    return (
        (
            "Privileges",
            (
                Directive(
                    "allow setuid", "no", "Debian's package has no setuid program; none is used if one comes."
                ),
                Directive(
                    "root default capabilities",
                    "no",
                    "Root, too, has no capabilities in a container unless it asks (--keep-privs).",
                ),
                Directive(
                    "allow user ns", "yes", "The only way in which containers run without a setuid program."
                ),
                Directive("allow pid ns", "yes"),
                Directive("allow ipc ns", "yes"),
                Directive("allow uts ns", "yes"),
            ),
        ),
        (
            "What a container has of its host",
            (
                Directive("mount hostfs", "no", "Not every file system that happens to be mounted."),
                Directive("mount proc", "yes"),
                Directive("mount sys", "yes"),
                Directive(
                    "mount dev", "yes", "GPUs and /dev/shm; Slurm's device filter holds in the container too."
                ),
                Directive("mount devpts", "yes"),
                Directive("mount home", "yes"),
                Directive("mount tmp", "yes"),
                Directive(
                    "mount slave", "yes", "File systems that the host mounts later appear; not the reverse."
                ),
                Directive("bind path", "/etc/localtime"),
                Directive(
                    "bind path", "/etc/hosts", "The nodes' names, for programs that connect to each other."
                ),
                Directive("user bind control", "yes", "Users name further folders of their own (--bind)."),
                Directive("enable fusemount", "yes"),
                Directive(
                    "config passwd", "yes", "The calling user's entry is added to the container's passwd."
                ),
                Directive("config group", "yes"),
                Directive("config resolv_conf", "yes"),
            ),
        ),
        (
            "What is written over a container",
            (
                Directive("enable overlay", "yes", "The kernel's overlayfs, fuse-overlayfs where it cannot."),
                Directive("enable underlay", "no", "Deprecated in favour of overlay."),
                Directive(
                    "sessiondir max size",
                    str(settings.session_dir_mb),
                    "MiB, of memory: containers.session_dir_mb.",
                ),
                Directive("memory fs type", "tmpfs"),
            ),
        ),
        (
            "Kinds of containers, and where they come from",
            (
                Directive("allow container sif", "yes", UNPRIVILEGED),
                Directive("allow container squashfs", "yes", "The same."),
                Directive("allow container extfs", "yes", "The same; mounted by fuse2fs."),
                Directive("allow container dir", "yes", "The same."),
                Directive(
                    "allow container encrypted",
                    "yes",
                    "The same; running one needs gocryptfs, which no node has.",
                ),
                Directive(
                    "allow setuid-mount encrypted",
                    "no",
                    "Were there a setuid program: no kernel mounts of what users write.",
                ),
                Directive("allow setuid-mount squashfs", "no"),
                Directive("allow setuid-mount extfs", "no"),
                Directive("download concurrency", "3"),
            ),
        ),
        (
            "GPUs: container-exec asks for NVIDIA's libraries (--nv) when the job has a GPU",
            (
                Directive("always use nv", "no"),
                Directive("always use rocm", "no"),
                Directive("use nvidia-container-cli", "no", "Experimental, and not in Debian."),
            ),
        ),
        (
            "Programs that Apptainer starts",
            (
                Directive(
                    "binary path",
                    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "The node's squashfuse and fuse-overlayfs, whatever a job's PATH is.",
                ),
                Directive("mksquashfs procs", "0"),
                Directive(
                    "max loop devices", "256", "Without effect: a user's containers are mounted by FUSE."
                ),
                Directive("shared loop devices", "no"),
                Directive("systemd cgroups", "yes", "Only for --apply-cgroups; a job's limits are Slurm's."),
                Directive("allow monitoring", "no"),
            ),
        ),
    )


def apptainer_conf(settings: ContainerSettings) -> str:
    """The text of /etc/apptainer/apptainer.conf."""
    return render("apptainer/apptainer.conf.j2", sections=directives(settings))


def policy(settings: ContainerSettings) -> str:
    """The text of /etc/hpcstate/containers.conf, which container-exec reads."""
    return render("apptainer/containers.conf.j2", require_signature=settings.require_signature)


def container_exec() -> str:
    """The text of /usr/bin/container-exec. Not a template: a shell's ``${#`` is a comment to Jinja."""
    return (paths.TEMPLATES / "apptainer" / "container-exec").read_text(encoding="utf-8")


def image_files() -> Mapping[str, str]:
    """Path to content of what is the same in every cluster, so that the image has it already, with the
    defaults of a cluster file."""
    return cluster_files(ContainerSettings())


def cluster_files(settings: ContainerSettings) -> Mapping[str, str]:
    """Path to content on every node of a cluster that declares ``settings``. The public key is not among
    them: it is made with the first container that is signed."""
    return {
        CONF: apptainer_conf(settings),
        POLICY: policy(settings),
        CONTAINER_EXEC: container_exec(),
        # Read by slurmstepd for each step (src/slurmd/slurmstepd/container.c, setup_container), by no daemon.
        OCI_CONF: render("apptainer/oci.conf.j2", container_exec=CONTAINER_EXEC),
        PROFILE: render("apptainer/profile.sh.j2", cache=CACHE),
        TMPFILES: render("apptainer/tmpfiles.conf.j2", cache=CACHE),
    }


MODES: Mapping[str, str] = {CONTAINER_EXEC: "755"}
"""Modes of those files that are not 644."""


def subid_users(users: Sequence[User] = ()) -> Mapping[str, int]:
    """The users who get ranges of subordinate numbers, and their own numbers: the job user and ``users``."""
    return {JOB_USER: JOB_UID, **{user.name: user.uid for user in users}}


def subid_start(uid: int) -> int:
    """The first subordinate number of the user ``uid``: the same on every node, and no two users share one.

    65536 times the user's number, for users up to 65535 (numbers have 32 bits). The ranges that useradd gives
    begin at 100000 (login.defs(5), SUB_UID_MIN): by this rule they are those of users who are no persons.
    """
    return uid * SUBIDS
