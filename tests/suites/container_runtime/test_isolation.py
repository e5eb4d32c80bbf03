"""A container is a file system to its user and nothing more: no rights, no files of root, no other GPU."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.node.base_files import JOB_UID
from hpcstate.node.ssh import JOB_USER, Live
from tests.suites.breaking import Edit, edited, last_worker
from tests.suites.containers import WRAPPER
from tests.suites.inside import CONTAINER, HOST, Inside
from tests.suites.job_view import JobView, own_device_problem

OWN_NAMESPACES = {"user", "mnt"}
"""What Apptainer makes anew without further options; the others are the job's, so that its network, its
processes and its shared memory are those of the other tasks."""

MOUNTED = re.compile(
    rf"/|/(dev|proc|sys)(/.*)?|/etc/(hosts|localtime|resolv\.conf|passwd|group)|/usr/share/zoneinfo/.*"
    rf"|/tmp|/var/tmp|/home/{JOB_USER}|/.*/pmix\.[0-9.]+"
)
"""The mount points that apptainer.conf makes in every container, and PMIx's, which container-exec makes."""

WITHOUT_NOSUID = ("/", "/dev/shm")
"""Mount points whose options are not ours: the container's own root is an overlay, and /dev/shm is the
job's, mounted without options by Slurm (job_container/tmpfs, _mount_private_shm). "No new privileges" stands
in for nosuid there, and container-runtime.privileges looks at that."""


@pytest.mark.needs(containers=(CONTAINER,))
def test_job(inside: list[Inside], record_property: RecordProperty) -> None:
    """srun container-exec runs a user's command in the container, as that user"""
    wrong = [view for view in inside if view.container != f"{CONTAINER}.sif" or view.user != JOB_UID]
    if wrong:
        raise CheckFailed(
            f"{CONTAINER}.sif as user {JOB_UID} on every node",
            "; ".join(
                f"{view.host}: {view.container or 'no container'} as user {view.user}" for view in wrong
            ),
            f"`srun -w NODE container-exec {CONTAINER} true` says why",
        )
    record_property("observed", f"{CONTAINER}.sif as {JOB_USER} on {', '.join(view.host for view in inside)}")


@pytest.mark.needs(containers=(CONTAINER,))
def test_privileges(inside: list[Inside], record_property: RecordProperty) -> None:
    """In a container a user has no capability, is nobody else, and gains nothing by a setuid program"""
    findings = [finding for view in inside for finding in privilege_findings(view)]
    if findings:
        raise CheckFailed(
            f"no capabilities, only the user {JOB_UID}, no new privileges",
            "; ".join(findings),
            "apptainer.conf: allow setuid = no; is container-exec that of this version?",
        )
    record_property(
        "observed", f"a setuid program of root's runs as {JOB_UID} inside, as 0 outside; CapBnd 0"
    )


def privilege_findings(view: Inside) -> list[str]:
    """What a task in a container could do beyond its user, one sentence each."""
    findings = [
        f"{view.host}: Cap{kind} is {value}" for kind, value in view.capabilities.items() if int(value, 16)
    ]
    if view.uid_map != [str(JOB_UID), str(JOB_UID), "1"]:
        findings.append(f"{view.host}: the users {' '.join(view.uid_map)} are mapped")
    if view.no_new_privileges != "1":
        findings.append(f"{view.host}: NoNewPrivs is {view.no_new_privileges}")
    if view.setuid_inside != str(JOB_UID):
        findings.append(f"{view.host}: a setuid program of root's runs as {view.setuid_inside}")
    if view.setuid_outside != "0":
        findings.append(f"{view.host}: outside it runs as {view.setuid_outside}, so this proves nothing")
    return findings


@pytest.mark.needs(containers=(CONTAINER,))
def test_namespaces(inside: list[Inside], record_property: RecordProperty) -> None:
    """A container has user and mount namespaces of its own, and shares the others with its job"""
    seen = {view.host: own_namespaces(view) for view in inside}
    wrong = {host: own for host, own in seen.items() if own != OWN_NAMESPACES}
    if wrong:
        raise CheckFailed(
            f"its own: {', '.join(sorted(OWN_NAMESPACES))}",
            "; ".join(f"{host}: {', '.join(sorted(own)) or 'none'}" for host, own in wrong.items()),
            "a namespace more comes from an option of the user's (--pid, --net); one less from no container",
        )
    record_property(
        "observed",
        f"its own: {', '.join(sorted(OWN_NAMESPACES))}; those of the job: ipc, net, pid, uts, cgroup",
    )


def own_namespaces(view: Inside) -> set[str]:
    """The kinds of namespaces that the container does not share with the task that entered it."""
    return {kind for kind, number in view.namespaces.items() if view.outside.get(kind) != number}


@pytest.mark.needs(containers=(CONTAINER,))
def test_host_files(inside: list[Inside], record_property: RecordProperty) -> None:
    """A container has only the declared parts of its host, and root's files stay closed when all is bound"""
    findings = [finding for view in inside for finding in host_findings(view)]
    if findings:
        raise CheckFailed(
            "the mount points of apptainer.conf, nosuid, and EACCES for root's files",
            "; ".join(findings),
            "apptainer.conf: bind path, mount hostfs; `deploys/containers.py` puts it back",
        )
    record_property(
        "observed",
        f"{len(inside[0].mounts)} mount points; with the host at {HOST}: "
        + ", ".join(f"{path} {said}" for path, said in inside[0].secrets.items()),
    )


def host_findings(view: Inside) -> list[str]:
    """What a container has of its host that it should not have, one sentence each."""
    findings = [f"{view.host}: {path} is mounted" for path in view.mounts if not MOUNTED.fullmatch(path)]
    findings += [
        f"{view.host}: {path} is mounted without nosuid"
        for path, options in view.mounts.items()
        if path not in WITHOUT_NOSUID and "nosuid" not in options.split(",")
    ]
    findings += [f"{view.host}: {path}: {said}" for path, said in view.secrets.items() if said != "EACCES"]
    if not view.host_is_there:
        findings.append(f"{view.host}: the host could not be bound at {HOST}, so this proves nothing")
    return findings


@pytest.mark.needs(gpus=1, containers=(CONTAINER,))
def test_devices(live: Live, inside_with_gpu: list[JobView], record_property: RecordProperty) -> None:
    """A job with --gres=gpu:1 opens one GPU in a container too, the others are refused"""
    problems = [own_device_problem(live.node(view.host), view) for view in inside_with_gpu]
    if any(problems):
        raise CheckFailed(
            "one device passes the filter, the others answer EPERM",
            "; ".join(filter(None, problems)),
            "ConstrainDevices=yes in cgroup.conf; a container changes nothing of Slurm's device filter",
        )
    record_property("observed", "; ".join(str(view) for view in inside_with_gpu))


def without_container(text: str) -> str:
    """container-exec as it would be if it ran the command where it is."""
    here = 'while [ "$1" != "$file" ]; do shift; done\nshift\nexec "$@"'
    return text.replace('exec apptainer --silent "$verb" "$@"', here)


@fault(
    "container-exec of a node runs commands outside of the container",
    "container-runtime.job",
    "container-runtime.privileges",
    "container-runtime.namespaces",
    "container-runtime.host_files",
    needs_containers=(CONTAINER,),
)
def not_entered(live: Live) -> Iterator[None]:
    with edited(live, [Edit(last_worker(live).name, WRAPPER, without_container)]):
        yield
