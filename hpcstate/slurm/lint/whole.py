"""What is wrong with a Slurm configuration file as a whole: keys that need or exclude each other.

Each rule names the function of Slurm 24.11.5 that stops or complains. Names of nodes and partitions are in
nodes.py, devices in gres.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from hpcstate.errors import Problem
from hpcstate.slurm.keys import Kind
from hpcstate.slurm.lint import gres, nodes
from hpcstate.slurm.read import Statement, Whole, number

_CONTAIN = frozenset(("contain", "runinjob", "x11"))
_UNITS = frozenset(
    ("cr_core", "cr_core_memory", "cr_cpu", "cr_cpu_memory", "cr_memory", "cr_socket", "cr_socket_memory")
)

_STATIC_TRES = frozenset(("billing", "cpu", "energy", "fs/disk", "mem", "node", "pages", "vmem"))
"""What Slurm counts without a database (src/common/slurmdb_defs.h, TRES_... numbers)."""


def problems(kind: Kind, statements: Sequence[Statement]) -> list[Problem]:
    """The problems of a whole file of ``kind``."""
    whole = Whole.of(statements)
    rules: dict[Kind, Sequence[Callable[[Whole], Iterator[Problem]]]] = {
        "slurm": (_controller, _exclusions, _requirements, nodes.problems),
        "cgroup": (_cgroup,),
        "gres": (gres.problems,),
        "slurmdbd": (_slurmdbd,),
        "job_container": (_job_container,),
        "mpi": (),
    }
    return [problem for rule in rules[kind] for problem in rule(whole)]


def _controller(whole: Whole) -> Iterator[Problem]:
    """ClusterName and the controllers (_validate_and_set_defaults, _load_slurmctld_host)."""
    if whole.complete and not whole.value("ClusterName"):
        yield whole.problem("ClusterName", "is missing: the daemons stop", "write ClusterName=name")
    hosts = whole.named("SlurmctldHost")
    if whole.complete and not hosts and not whole.value("ControlMachine"):
        hint = "write SlurmctldHost=name(address)"
        yield whole.problem("SlurmctldHost", "is missing: the daemons stop", hint)
    seen: set[str] = set()
    for host in hosts:
        if not re.fullmatch(r"[^()]*(\([^()]*\))?", host.name):
            yield host.problem("SlurmctldHost", "is not name(address): the daemons stop", "close the bracket")
        name = host.name.partition("(")[0]
        if name in seen:
            yield host.problem("SlurmctldHost", f"{name} is given twice: the daemons stop", "remove one line")
        seen.add(name)


def _exclusions(whole: Whole) -> Iterator[Problem]:
    """Keys and values that exclude each other (_validate_and_set_defaults unless said otherwise)."""
    for ignored, other in (("DefMemPerCPU", "DefMemPerNode"), ("MaxMemPerCPU", "MaxMemPerNode")):
        if whole.value(ignored) and whole.value(other):
            message = f"is ignored, because {other} is set too; Slurm logs an error"
            yield whole.problem(ignored, message, "keep one of them", "warning")
    for key, value, other in (
        ("JobAcctGatherParams", "usepss", "noshared"),
        ("LaunchParameters", "enable_nss_slurm", "disable_send_gids"),
    ):
        if value in whole.value(key) and other in whole.value(key):
            yield whole.problem(key, f"{value} and {other} exclude each other: the daemons stop")
    flags = _parts(whole.value("PrologFlags"))
    if "nohold" in flags and flags & _CONTAIN:
        yield whole.problem("PrologFlags", "NoHold excludes Contain, RunInJob and X11: the daemons stop")
    linear = whole.value("SelectType") == "select/linear"
    parameters = whole.value("SelectTypeParameters")
    # src/interfaces/select.c, select_g_init
    if linear and re.search("cr_(cpu|core|socket)", parameters):
        message = "select/linear knows CR_Memory only: the daemons stop"
        yield whole.problem("SelectTypeParameters", message, "SelectType=select/cons_tres allocates cores")
    units = [part for part in parameters.split(",") if part in _UNITS]
    if len(units) > 1:
        yield whole.problem("SelectTypeParameters", f"{units[0]} excludes {units[1]}: the daemons stop")
    if linear and whole.value("TopologyPlugin") == "topology/tree":
        yield whole.problem("TopologyPlugin", "select/linear excludes topology/tree: the daemons stop")
    mode = _parts(whole.value("PreemptMode"))
    if mode & {"suspend", "on"} and not mode & {"gang", "within"}:
        yield whole.problem("PreemptMode", "SUSPEND needs GANG: the daemons stop", "write SUSPEND,GANG")


def _requirements(whole: Whole) -> Iterator[Problem]:
    """Keys and values that need another one (_validate_and_set_defaults unless said otherwise)."""
    flags = _parts(whole.value("PrologFlags"))
    if not whole.complete:
        return
    if "tmpfs" in whole.value("JobContainerType") and not flags & _CONTAIN:
        hint = "write PrologFlags=Contain"
        yield whole.problem("JobContainerType", "tmpfs needs PrologFlags=Contain: the daemons stop", hint)
    # src/slurmctld/read_config.c, read_slurm_conf
    if "enable_stepmgr" in whole.value("SlurmctldParameters") and not flags & _CONTAIN:
        message = "enable_stepmgr needs PrologFlags=Contain: slurmctld stops"
        yield whole.problem("SlurmctldParameters", message, "write PrologFlags=Contain")
    if "oomkillstep" in _parts(whole.value("TaskPluginParam")) and "cgroup" not in whole.value("TaskPlugin"):
        yield whole.problem("TaskPluginParam", "OOMKillStep needs TaskPlugin=task/cgroup: the daemons stop")
    if whole.value("SlurmSchedLogLevel").strip("0") and not whole.value("SlurmSchedLogFile"):
        yield whole.problem("SlurmSchedLogLevel", "needs SlurmSchedLogFile: the daemons stop")
    if whole.value("MCSParameters") and not whole.value("MCSPlugin"):
        yield whole.problem("MCSParameters", "needs MCSPlugin: the daemons stop")
    if whole.value("MCSPlugin") == "mcs/group" and not whole.value("MCSParameters"):
        yield whole.problem("MCSPlugin", "mcs/group needs MCSParameters: the daemons stop")
    if whole.value("MaxNodeCount") and "linear" in whole.value("SelectType"):
        yield whole.problem("MaxNodeCount", "needs SelectType=select/cons_tres: the daemons stop")
    parameters = whole.value("CommunicationParameters")
    if "disableipv4" in parameters and "enableipv6" not in parameters:
        message = "DisableIPv4 without EnableIPv6 leaves no way to communicate: the daemons stop"
        yield whole.problem("CommunicationParameters", message, "write EnableIPv6,DisableIPv4")
    preempts = whole.value("PreemptType") not in ("", "preempt/none")
    mode = _parts(whole.value("PreemptMode"))
    if preempts == (not mode - {"gang", "within", "off", "cluster"}):
        hint = "PreemptType and PreemptMode go together"
        stop = "the daemons stop"
        if preempts:
            yield whole.problem("PreemptMode", f"is OFF, and PreemptType is set: {stop}", hint)
        else:
            yield whole.problem("PreemptMode", f"is set, and PreemptType is not: {stop}", hint)
    # src/interfaces/gres.c, gres_init
    gres = _parts(whole.value("GresTypes"))
    if gres & {"mps", "shard"} and "gpu" not in gres:
        hint = "write GresTypes=gpu,shard"
        yield whole.problem("GresTypes", "mps and shard need gpu as well: the daemons stop", hint)
    # src/slurmctld/controller.c, _init_tres
    tres = sorted(_parts(whole.value("AccountingStorageTRES")) - _STATIC_TRES)
    if tres and "slurmdbd" not in whole.value("AccountingStorageType"):
        message = f"{tres[0]} needs a slurmdbd: slurmctld stops"
        hint = "remove it, or set up slurmdbd and write AccountingStorageType=accounting_storage/slurmdbd"
        yield whole.problem("AccountingStorageTRES", message, hint)
    message_timeout = number(whole.value("MessageTimeout"), 10)
    unkillable = number(whole.value("UnkillableStepTimeout"), 5 * message_timeout)
    if unkillable < 5 * message_timeout:
        message = (
            f"is less than five times MessageTimeout ({message_timeout}): nodes may be drained without need"
        )
        hint = f"write {5 * message_timeout} or more"
        yield whole.problem("UnkillableStepTimeout", message, hint, "warning")


def _cgroup(whole: Whole) -> Iterator[Problem]:
    if number(whole.value("MemorySwappiness"), 0) > 100:
        message = "is more than 100: Slurm logs an error and takes 100"
        yield whole.problem("MemorySwappiness", message, severity="warning")


def _slurmdbd(whole: Whole) -> Iterator[Problem]:
    """src/slurmdbd/read_config.c, read_slurmdbd_conf."""
    if not whole.complete:
        return
    if not whole.value("StorageType"):
        hint = "write StorageType=accounting_storage/mysql"
        yield whole.problem("StorageType", "is missing: slurmdbd stops", hint)
    if not whole.value("DbdHost"):
        message = "is missing: slurmdbd logs an error and takes localhost"
        yield whole.problem("DbdHost", message, "write DbdHost=name", "warning")


def _job_container(whole: Whole) -> Iterator[Problem]:
    """src/plugins/job_container/tmpfs/read_jcconf.c, _read_slurm_jc_conf."""
    for begins in ("BasePath", "NodeName"):
        for record in whole.named(begins):
            base = record.name if begins == "BasePath" else record.attributes.get("basepath", "")
            if not base:
                hint = "write BasePath=path"
                yield record.problem("BasePath", "is missing on this line: slurmd stops", hint)
            dirs = record.attributes.get("dirs") or whole.value("Dirs") or "/tmp,/dev/shm"
            if base.lower() in dirs.lower().split(","):
                # Debian's slurmd compares with its node's name behind it, and does not see it.
                message = f"{base} is one of Dirs too: it would be hidden from the jobs"
                yield record.problem("BasePath", message, "take a folder that is none of them", "warning")


def _parts(value: str) -> frozenset[str]:
    return frozenset(part for part in value.split(",") if part)
