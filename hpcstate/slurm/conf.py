"""slurm.conf and its kin for Slurm 24.11 on cgroup v2, from the model. gres.conf: gres_conf.py.

Pure: a cluster in, text out. Why each parameter is set and what the earlier system set and we do not is in
docs/slurm-configuration.md; the names and meanings are those of slurm.conf(5), cgroup.conf(5), gres.conf(5).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from hpcstate import hostlist
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster, Node, Partition
from hpcstate.model.cluster import is_derived
from hpcstate.render import of_site, render

CONF_DIRECTORY = "/etc/slurm"
"""Where Debian's Slurm reads its configuration."""

STATE = "/var/lib/slurm/slurmctld"
"""Where slurmctld keeps its state (StateSaveLocation): the queue, drains, the next job's number."""

JOB_SUBMIT = f"{CONF_DIRECTORY}/job_submit.lua"
"""What slurmctld asks about each job that is submitted, where JobSubmitPlugins has lua."""

MAIL_PROG = f"{CONF_DIRECTORY}/mail_prog.sh"
"""What slurmctld runs to send a mail, where the file has a relay."""

TASK_PROLOG = f"{CONF_DIRECTORY}/task_prolog.sh"
"""What slurmd runs before each task, as the job's user, where jobs have a scratch folder or nodes are
watched."""

PROLOG = f"{CONF_DIRECTORY}/prolog.sh"
EPILOG = f"{CONF_DIRECTORY}/epilog.sh"
"""What slurmd runs before and after each job, as root, where nodes are watched."""

HEALTH_PROGRAM = "/usr/local/lib/hpcstate/health/check"
"""What slurmd runs again and again, as root, where nodes are watched."""

PROLOG_SECONDS = 90
"""Slurm's own limit of prolog and epilog: it drains the node (PrologEpilogTimeout). Theirs are shorter."""

JOB_RECORD = "jobcomp.log"
"""The file in the folder of slurmctld's state that gets a line for each job that ended (JobCompLoc)."""

_RECORDING = "jobcomp/filetxt"

SLURM_USER = "slurm"
"""The user of Debian's packages."""

ENFORCE = "associations,limits,qos,safe"
"""AccountingStorageEnforce where accounts, users or QOS are declared. ``safe``: a job that would use
up a limit of minutes before its end does not begin."""

JOB_TMP = "/var/lib/slurm/tmp"
"""Where the /tmp of each job is, on the node's disk (BasePath in job_container.conf(5)); and what slurmd
reports the size of as TmpDisk (TmpFS): Debian's /tmp is in memory."""

DISK_RESERVE_MB = 4096
DISK_SHARE = 0.9
SYSTEM_RESERVE_MB = 256
KERNEL_SHARE = 0.02


@dataclass(frozen=True)
class ConfSection:
    """A titled block of ``Key=value`` lines of slurm.conf."""

    title: str
    parameters: tuple[tuple[str, str], ...]


def real_memory_mb(memory_mb: int) -> int:
    """RealMemory (MiB) for a virtual machine of ``memory_mb`` MiB: surely less than ``slurmd -C`` reports.

    A node that reports less than configured is set INVAL and drained (slurm.conf(5), NODE CONFIGURATION).
    The kernel keeps about 64 MiB and 1.6 % for itself (a 2048 MiB guest reports 1960), and the daemons need
    room that jobs must not take (cgroup.conf(5), example). At least half is left to jobs on tiny machines.
    """
    return max(memory_mb - SYSTEM_RESERVE_MB - math.ceil(memory_mb * KERNEL_SHARE), memory_mb // 2)


def tmp_disk_mb(disk_gb: int) -> int:
    """TmpDisk (MiB) for a node with a disk of ``disk_gb`` GiB: surely less than slurmd reports, which is the
    size of the whole file system (get_mach_stat.c, get_tmp_disk), and less than is free on a new node.

    ext4 keeps less than a twentieth for itself. The system and the containers of a node take some GiB; what
    other jobs have written is not counted by Slurm.
    """
    return int(disk_gb * 1024 * DISK_SHARE) - DISK_RESERVE_MB


def promised_too_much(node: Node, cpus: int | None, memory_mb: int | None, disk_mb: int | None = None) -> str:
    """What slurm.conf would promise of ``node`` that its machine has not, in words; empty when nothing.

    ``cpus``, ``memory_mb`` and ``disk_mb`` (MiB, of the file system at /) are what the node's system sees,
    None when that is not known. A node that registers with less than slurm.conf says becomes INVALID_REG and
    is drained (slurm.conf(5)).
    """
    lacks = []
    if cpus is not None and cpus < node.cpu_cores:
        lacks.append(f"CPUs={node.cpu_cores}, and the machine has {cpus}")
    promised = real_memory_mb(node.memory_mb)
    if memory_mb is not None and memory_mb < promised:
        lacks.append(f"RealMemory={promised}, and the machine has {memory_mb} MiB")
    if disk_mb is not None and disk_mb < tmp_disk_mb(node.disk_gb):
        lacks.append(f"TmpDisk={tmp_disk_mb(node.disk_gb)}, and the machine has {disk_mb} MiB")
    return "; ".join(lacks)


@of_site
def slurm_conf(cluster: Cluster) -> str:
    """The text of slurm.conf, the same on every node of ``cluster``.

    Raises HpcstateError when ``cluster`` has no Slurm, no compute nodes, or its ``slurm_config.parameters``
    set a key that is derived from the rest of the file.
    """
    if cluster.slurm is None or not cluster.workers:
        raise HpcstateError(
            f"the cluster {cluster.name} has no Slurm compute nodes",
            where=f".clusters.{cluster.kind}",
            hint="declare compute_nodes and slurm_config under clusters.hpc",
        )
    return render(
        "slurm/slurm.conf.j2",
        cluster_name=cluster.name,
        sections=_with_overrides(_sections(cluster), cluster.slurm.parameters),
        nodes=node_lines(cluster),
        partitions=[_partition_line(partition) for partition in cluster.slurm.partitions],
    )


@of_site
def configuration(cluster: Cluster) -> dict[str, str]:
    """File name to content of what is the same on every node of ``cluster`` (gres.conf is not)."""
    return {
        "slurm.conf": slurm_conf(cluster),
        "cgroup.conf": cgroup_conf(cluster),
        "job_container.conf": render("slurm/parameters.conf.j2", parameters=JOB_CONTAINER_PARAMETERS),
        "mpi.conf": render("slurm/parameters.conf.j2", parameters=MPI_PARAMETERS),
    }


@of_site
def cgroup_conf(cluster: Cluster) -> str:
    """The text of cgroup.conf, the same on every node. What ``cluster`` declares does not change it."""
    del cluster
    return render("slurm/parameters.conf.j2", parameters=CGROUP_PARAMETERS)


def node_lines(cluster: Cluster) -> list[str]:
    """The NodeName lines: one for each run of neighbours that differ in nothing but name and address."""
    described = ((_node_attributes(cluster, node), node) for node in cluster.workers)
    lines = []
    for attributes, run in groupby(described, lambda pair: pair[0]):
        nodes = [node for _, node in run]
        names = hostlist.compress([node.name for node in nodes])
        addresses = hostlist.compress([str(node.address) for node in nodes])
        lines.append(f"NodeName={names} NodeAddr={addresses} {attributes} State=UNKNOWN")
    return lines


def _node_attributes(cluster: Cluster, node: Node) -> str:
    topology = cluster.acceleration.topology_of(node.cpu_cores)
    attributes = (
        f"CPUs={node.cpu_cores} Sockets={topology.sockets} CoresPerSocket={topology.cores} "
        f"ThreadsPerCore={topology.threads} RealMemory={real_memory_mb(node.memory_mb)}"
    )
    # Of another file system's size nothing is known here.
    known = "tmpfs" not in _own(cluster) and "tmpdisk" not in map(str.lower, node.extra_slurm)
    more = {
        "TmpDisk": str(tmp_disk_mb(node.disk_gb)) if known else "",
        "Gres": node.gres,
        "Feature": ",".join(node.slurm_features),
        "Weight": str(node.weight) if node.weight != Node.weight else "",
        **node.extra_slurm,
    }
    return " ".join([attributes, *(f"{key}={value}" for key, value in more.items() if value)])


def _partition_line(partition: Partition) -> str:
    default = "YES" if partition.default else "NO"
    words = (
        f"PartitionName={partition.name} Nodes={hostlist.compress(partition.nodes)} Default={default}",
        f"MaxTime={partition.max_time} DefaultTime={partition.default_time} State={partition.state}",
        *(f"{key}={value}" for key, value in partition.options.items()),
    )
    return " ".join(words)


def _sections(cluster: Cluster) -> tuple[ConfSection, ...]:
    """The parameters we set, in the order of the file."""
    resources = [
        ("SelectType", "select/cons_tres"),
        ("SelectTypeParameters", "CR_Core_Memory"),
        ("DefMemPerCPU", str(_memory_per_cpu_mb(cluster.workers))),
        ("SchedulerParameters", ",".join(_scheduler(cluster))),
    ]
    if types := _gres_types(cluster):
        resources[:0] = [("GresTypes", ",".join(types)), *_tres(cluster)]
    controller = cluster.controller
    return (
        ConfSection(
            "Cluster and controller",
            (
                ("ClusterName", cluster.name),
                ("SlurmctldHost", f"{controller.name}({controller.address})"),
                ("SlurmUser", SLURM_USER),
                ("AuthType", "auth/munge"),
            ),
        ),
        ConfSection(
            "State, process identifiers and logs",
            (
                ("StateSaveLocation", STATE),
                ("SlurmdSpoolDir", "/var/lib/slurm/slurmd"),
                ("SlurmctldPidFile", "/run/slurmctld/slurmctld.pid"),
                ("SlurmdPidFile", "/run/slurm/slurmd.pid"),
                ("SlurmctldLogFile", "/var/log/slurm/slurmctld.log"),
                ("SlurmdLogFile", "/var/log/slurm/slurmd.log"),
            ),
        ),
        ConfSection("MPI", (("MpiDefault", "pmix"), ("MpiParams", "ports=12000-12999"))),
        ConfSection("Resources", tuple(resources)),
        ConfSection(
            "Isolation and measurement of jobs",
            (
                ("ProctrackType", "proctrack/cgroup"),
                ("TaskPlugin", "task/cgroup,task/affinity"),
                ("JobAcctGatherType", "jobacct_gather/cgroup"),
                ("JobContainerType", "job_container/tmpfs"),
                ("PrologFlags", "Contain"),
                ("TmpFS", JOB_TMP),
                *([("TaskProlog", TASK_PROLOG)] if cluster.scratch or cluster.health.on else []),
            ),
        ),
        *([ConfSection("Health of the nodes", _health(cluster))] if cluster.health.on else []),
        ConfSection("Limits and priorities", _priorities(cluster)),
        ConfSection("What is left of a job that ended", _remains(cluster)),
        *([ConfSection("Accounting", _accounting(cluster))] if cluster.accounting.on else []),
        ConfSection(
            "Patience with slow virtual machines (seconds)",
            (
                ("SlurmctldTimeout", "300"),
                ("SlurmdTimeout", "300"),
                ("MessageTimeout", "30"),
                ("TCPTimeout", "15"),
                ("BatchStartTimeout", "60"),
                ("UnkillableStepTimeout", "180"),
                ("ReturnToService", "2"),
            ),
        ),
        ConfSection(
            "Reboots (`scontrol reboot`)", (("RebootProgram", "/usr/sbin/reboot"), ("ResumeTimeout", "600"))
        ),
    )


def _scheduler(cluster: Cluster) -> tuple[str, ...]:
    """``nohold_on_prolog_fail``: a job that a node's prolog refused waits for another node, without being
    held (slurm.conf(5), SchedulerParameters)."""
    return ("extra_constraints", *(("nohold_on_prolog_fail",) if cluster.health.on else ()))


def _health(cluster: Cluster) -> tuple[tuple[str, str], ...]:
    """What slurmd runs to see whether a node is well, and beside each job."""
    return (
        ("HealthCheckProgram", HEALTH_PROGRAM),
        ("HealthCheckInterval", str(cluster.health.interval_s)),
        ("HealthCheckNodeState", ",".join(cluster.health.node_state)),
        ("Prolog", PROLOG),
        ("Epilog", EPILOG),
        ("PrologEpilogTimeout", str(PROLOG_SECONDS)),
    )


CGROUP_PARAMETERS: tuple[tuple[str, str], ...] = (
    ("CgroupPlugin", "autodetect"),
    ("SystemdTimeout", "30000"),
    ("ConstrainCores", "yes"),
    ("ConstrainRAMSpace", "yes"),
    ("ConstrainSwapSpace", "yes"),
    ("ConstrainDevices", "yes"),
)


def _priorities(cluster: Cluster) -> tuple[tuple[str, str], ...]:
    """Who is refused, and who goes first. All weights are 0 in Slurm: then all jobs have the same priority,
    --nice has nothing to be taken from, and fair share counts for nothing (priority_multifactor.c,
    _get_priority_internal: a priority below 1 is 1). Without a slurmdbd age and fair share are refused
    ("can only be used with SlurmDBD, ignoring").
    """
    weights = [("PriorityWeightPartition", "10000")]
    if _has_database(cluster):
        weights += [
            ("PriorityWeightFairshare", "10000"),
            ("PriorityWeightQOS", "10000"),
            ("PriorityWeightAge", "1000"),
        ]
    asked = [("JobSubmitPlugins", "lua")] if refuses_mail(cluster) else []
    if cluster.mail:
        asked.append(("MailProg", MAIL_PROG))
        asked += [("MailDomain", cluster.mail.domain)] if cluster.mail.domain else []
    return (("EnforcePartLimits", "ALL"), ("PropagateResourceLimitsExcept", "MEMLOCK"), *asked, *weights)


def _remains(cluster: Cluster) -> tuple[tuple[str, str], ...]:
    """How long slurmctld remembers a job, and the file with all of them: also beside a database, which may be
    away, or be turned off again."""
    remembered = (("MinJobAge", "3600"), ("MaxJobCount", "40000"))
    if not keeps_record(cluster):
        return remembered
    return (*remembered, ("JobCompType", _RECORDING), ("JobCompLoc", job_record(cluster)))


def keeps_record(cluster: Cluster) -> bool:
    """Whether slurmctld writes a line for each job that ended to ``job_record``: where
    ``slurm_config.parameters`` names no other plugin for it."""
    return _own(cluster).get("jobcomptype", _RECORDING).endswith("filetxt")


def job_record(cluster: Cluster) -> str:
    """That file on the controller: in the folder of slurmctld's state, which lies on the data volume, unless
    ``slurm_config.parameters`` names another."""
    own = _own(cluster)
    elsewhere = own.get("jobcomploc", "") if keeps_record(cluster) else ""
    return elsewhere or f"{own.get('statesavelocation', STATE)}/{JOB_RECORD}"


def slurm_user(cluster: Cluster) -> str:
    """The user that slurmctld runs as."""
    return _own(cluster).get("slurmuser", SLURM_USER)


def refuses_mail(cluster: Cluster) -> bool:
    """Whether who asks for mail is told that there is none: the file has no relay, and no
    ``slurm_config.parameters`` name a program that sends it, or another plugin in the place of ours."""
    return not cluster.mail and not _own(cluster).keys() & {"mailprog", "jobsubmitplugins"}


def job_submit() -> str:
    """The content of JOB_SUBMIT."""
    return render("slurm/job_submit.lua")


def _own(cluster: Cluster) -> Mapping[str, str]:
    """``slurm_config.parameters`` by key in lower case."""
    return {key.lower(): value for key, value in (cluster.slurm.parameters if cluster.slurm else {}).items()}


def _has_database(cluster: Cluster) -> bool:
    """Whether there is a slurmdbd: the cluster's own, or one that ``slurm_config.parameters`` name."""
    return cluster.accounting.on or "slurmdbd" in _own(cluster).get("accountingstoragetype", "")


JOB_CONTAINER_PARAMETERS: tuple[tuple[str, str], ...] = (
    ("AutoBasePath", "true"),
    ("BasePath", JOB_TMP),
    ("Dirs", "/tmp,/dev/shm"),
    # PMIx's server, in slurmstepd, and the tasks share files below /tmp: they have to see the same one.
    ("EntireStepInNS", "true"),
    # A home that is mounted while the job runs is seen by it (job_container.conf(5), Shared).
    ("Shared", "true"),
)

MPI_PARAMETERS: tuple[tuple[str, str], ...] = (("PMIxCliTmpDirBase", "/tmp"),)
"""Otherwise it is TmpFS (pmixp_info.c), where a user writes nothing, and which a container has not."""


def _gres_types(cluster: Cluster) -> tuple[str, ...]:
    """The kinds of GRES that the nodes have: gpu, and shard or mps where GPUs are shared."""
    names = [item.partition(":")[0] for node in cluster.gpu_nodes for item in node.gres.split(",")]
    return tuple(dict.fromkeys(names))


def _accounting(cluster: Cluster) -> tuple[tuple[str, str], ...]:
    """Where jobs are recorded: by address, so that no name has to be known. What the file declares of
    accounts is enforced; without such a declaration a job of anybody runs."""
    enforced = [("AccountingStorageEnforce", ENFORCE)] if cluster.accounting.declared else []
    return (
        ("AccountingStorageType", "accounting_storage/slurmdbd"),
        ("AccountingStorageHost", str(cluster.controller.address)),
        *enforced,
    )


def _tres(cluster: Cluster) -> list[tuple[str, str]]:
    """AccountingStorageTRES: the GRES as TRES, each kind and each type of GPU, with what Slurm always counts.
    A GRES that is not named there is not counted (slurm.conf(5), AccountingStorageTRES).

    Only where there is a slurmdbd: without one slurmctld stops at it ("slurmdbd is required to run with
    TRES", src/slurmctld/controller.c, _init_tres).
    """
    if not _has_database(cluster):
        return []
    gpus = dict.fromkeys(kind for node in cluster.gpu_nodes for kind in node.gres_types)
    kinds = [f"gres/{name}" for name in _gres_types(cluster)]
    return [("AccountingStorageTRES", ",".join([*kinds, *(f"gres/gpu:{kind}" for kind in gpus)]))]


def _memory_per_cpu_mb(nodes: Sequence[Node]) -> int:
    """DefMemPerCPU (MiB): a job that asks for all CPUs of any node, and for no memory, still fits on it."""
    return min(real_memory_mb(node.memory_mb) // node.cpu_cores for node in nodes)


def _with_overrides(sections: Sequence[ConfSection], parameters: Mapping[str, str]) -> list[ConfSection]:
    """``sections`` with the user's values in the place of ours, and the rest in a section of its own.

    Keys are compared without case, as slurm.conf(5) does.
    """
    for key in parameters:
        if is_derived(key):
            raise HpcstateError(
                f"{key} follows from the rest of the cluster file and cannot be set by hand",
                where=f".clusters.hpc.slurm_config.parameters.{key}",
                hint="change the nodes, the partitions or the name of the cluster instead",
            )
    own = {key.lower(): value for key, value in parameters.items()}
    merged = [
        ConfSection(
            section.title, tuple((key, own.pop(key.lower(), value)) for key, value in section.parameters)
        )
        for section in sections
    ]
    extra = tuple((key, value) for key, value in parameters.items() if key.lower() in own)
    return [*merged, ConfSection("From slurm_config.parameters", extra)] if extra else merged
