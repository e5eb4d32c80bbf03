"""Keys of slurm.conf that meet as slurmctld validates them and sets defaults.

All of it is _validate_and_set_defaults of src/common/read_config.c (Slurm 24.11.5), in its order, unless a
rule names another place. What is wrong with a value alone is in keys.toml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hpcstate.errors import Problem
from hpcstate.slurm.read import Whole, number

_CONTAIN = frozenset(("contain", "runinjob", "x11"))
_MAX_JOB_ID = 0x03FFFFFF
"""slurm/slurm.h, MAX_JOB_ID, which is the default as well."""
_MIN_DBD_MSGS = 10_000
_MAX_NODES = 64 * 1024
_MODES = frozenset(("off", "cluster", "cancel", "requeue", "on", "suspend"))
_STOP = "the daemons stop"
_WARN_IGNORED = "Slurm logs an error and ignores it"


def problems(whole: Whole) -> Iterator[Problem]:
    """The rules that need nothing that another file may have, then those that do."""
    yield from _numbers(whole)
    yield from _excluded(whole)
    yield from _preemption(whole)
    yield from _task_plugin(whole)
    yield from _limits(whole)
    yield from _only_logged(whole)
    if whole.complete:
        yield from _needed(whole)


def parts(value: str) -> frozenset[str]:
    """The words of a list with commas."""
    return frozenset(part for part in value.split(",") if part)


def option(parameters: str, name: str) -> str | None:
    """The value of ``name=`` in a list, as Slurm finds it: anywhere (xstrcasestr), up to a comma.

    ``parameters`` and ``name`` are in lower case.
    """
    at = parameters.find(f"{name}=")
    return None if at < 0 else parameters[at + len(name) + 1 :].partition(",")[0]


def integer(text: str) -> int:
    """What atoi(3) makes of ``text``: 0 for what begins with no number."""
    found = re.match(r"\s*([-+]?[0-9]{1,18})", text)
    return int(found[1]) if found else 0


def _numbers(whole: Whole) -> Iterator[Problem]:
    first, last = (number(whole.value(key), default) for key, default in _JOB_IDS.items())
    if last > _MAX_JOB_ID:
        message = f"is more than {_MAX_JOB_ID}: Slurm logs an error and takes that"
        yield whole.problem("MaxJobId", message, "make it smaller", "warning")
    if first > min(last, _MAX_JOB_ID):
        hint = "job numbers go from FirstJobId to MaxJobId"
        yield whole.problem("FirstJobId", f"is more than MaxJobId ({min(last, _MAX_JOB_ID)}): {_STOP}", hint)
    if number(whole.value("MaxDBDMsgs"), _MIN_DBD_MSGS) < _MIN_DBD_MSGS:
        hint = "leave it out: Slurm then computes it from MaxJobCount and the nodes"
        yield whole.problem("MaxDBDMsgs", f"is less than {_MIN_DBD_MSGS}: {_STOP}", hint)
    if number(whole.value("MaxNodeCount"), 0) > _MAX_NODES:
        yield whole.problem("MaxNodeCount", f"is more than {_MAX_NODES}: {_STOP}", "make it smaller")
    ports = re.fullmatch("([0-9]{1,18})-([0-9]{1,18})", whole.value("SlurmctldPort"))
    if ports and int(ports[2]) <= int(ports[1]):
        message = f"the last port is not after the first: {_STOP}"
        yield whole.problem("SlurmctldPort", message, "write 6817-6820")
    for name, largest in (("max_script_size", 512 << 20), ("max_submit_line_size", 2 << 20)):
        value = option(whole.value("SchedulerParameters"), name)
        if value and integer(value) > largest:
            yield whole.problem("SchedulerParameters", f"{name} is more than {largest}: {_STOP}")


_JOB_IDS = {"FirstJobId": 1, "MaxJobId": _MAX_JOB_ID}


def _excluded(whole: Whole) -> Iterator[Problem]:
    for ignored, other in (("DefMemPerCPU", "DefMemPerNode"), ("MaxMemPerCPU", "MaxMemPerNode")):
        if whole.value(ignored) and whole.value(other):
            message = f"is ignored, because {other} is set too; Slurm logs an error"
            yield whole.problem(ignored, message, "keep one of them", "warning")
    for key, value, other in (
        ("JobAcctGatherParams", "usepss", "noshared"),
        ("LaunchParameters", "enable_nss_slurm", "disable_send_gids"),
    ):
        if value in whole.value(key) and other in whole.value(key):
            yield whole.problem(key, f"{value} and {other} exclude each other: {_STOP}")
    flags = parts(whole.value("PrologFlags"))
    if "nohold" in flags and flags & _CONTAIN:
        yield whole.problem("PrologFlags", f"NoHold excludes Contain, RunInJob and X11: {_STOP}")
    if "x11" in flags and whole.value("ProctrackType") == "proctrack/linuxproc":
        message = f"X11 excludes ProctrackType=proctrack/linuxproc: {_STOP}"
        yield whole.problem("PrologFlags", message, "write ProctrackType=proctrack/cgroup")
    linear = whole.value("SelectType") == "select/linear"
    if linear and whole.value("TopologyPlugin") == "topology/tree":
        yield whole.problem("TopologyPlugin", f"select/linear excludes topology/tree: {_STOP}")
    # _parse_select_type_param
    chosen = [part for part in whole.value("SelectTypeParameters").split(",") if part]
    units = [part for part in chosen if part in UNITS]
    if len(units) > 1:
        yield whole.problem("SelectTypeParameters", f"{units[0]} excludes {units[1]}: {_STOP}")
    if "cr_one_task_per_core" in chosen and {"cr_cpu", "cr_cpu_memory"} & set(chosen):
        message = f"CR_ONE_TASK_PER_CORE excludes CR_CPU: {_STOP}"
        yield whole.problem("SelectTypeParameters", message, "write CR_Core")


UNITS = frozenset(
    ("cr_core", "cr_core_memory", "cr_cpu", "cr_cpu_memory", "cr_memory", "cr_socket", "cr_socket_memory")
)
"""What select/cons_tres may allocate; CR_Memory alone is for select/linear."""


def _preemption(whole: Whole) -> Iterator[Problem]:
    """With preempt_mode_num of src/common/slurm_protocol_defs.c."""
    words = [part for part in whole.value("PreemptMode").split(",") if part]
    modes = [word for word in words if word in _MODES]
    if len(modes) > 1:
        yield whole.problem("PreemptMode", f"{modes[0]} excludes {modes[1]}: {_STOP}", "keep one of them")
        return
    if {"gang", "within"} <= set(words):
        yield whole.problem("PreemptMode", f"GANG excludes WITHIN: {_STOP}", "keep one of them")
        return
    if set(modes) & {"suspend", "on"} and not set(words) & {"gang", "within"}:
        yield whole.problem("PreemptMode", f"SUSPEND needs GANG: {_STOP}", "write SUSPEND,GANG")
    if not whole.complete:
        return
    preempts = whole.value("PreemptType") not in ("", "preempt/none")
    off = not set(words) - {"gang", "within", "off", "cluster"}
    hint = "PreemptType and PreemptMode go together"
    if preempts and off:
        yield whole.problem("PreemptMode", f"is OFF, and PreemptType is set: {_STOP}", hint)
    elif not preempts and (not off or "within" in words):
        yield whole.problem("PreemptMode", f"is set, and PreemptType is not: {_STOP}", hint)


def _task_plugin(whole: Whole) -> Iterator[Problem]:
    words = whole.value("TaskPluginParam").split(",")
    units = [word for word in words if word in ("none", "sockets", "cores", "threads")]
    if len(units) > 1:
        yield whole.problem("TaskPluginParam", f"{units[0]} excludes {units[1]}: {_STOP}", "keep one of them")
    if sum(word.startswith("autobind=") for word in words) > 1:
        yield whole.problem("TaskPluginParam", f"autobind= is given twice: {_STOP}", "keep one of them")
    if whole.complete and "oomkillstep" in words and "task/cgroup" not in whole.value("TaskPlugin"):
        message = f"OOMKillStep needs TaskPlugin=task/cgroup: {_STOP}"
        yield whole.problem("TaskPluginParam", message, "write the plugin with its family's name")


_LIMITS = frozenset(("CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS"))


def _limits(whole: Whole) -> Iterator[Problem]:
    """src/common/slurm_rlimits_info.c, parse_rlimits; the one key is not read where the other is set."""
    key = "PropagateResourceLimits"
    if whole.value(f"{key}Except"):
        key = f"{key}Except"
    if key.lower() not in whole.values:
        return
    value = whole.values[key.lower()][0]
    words = [word.removeprefix("RLIMIT_") for word in re.split(r"[,\s]+", value, flags=re.ASCII) if word]
    wrong = [word for word in words if word not in _LIMITS]
    if value not in ("ALL", "NONE") and wrong:
        hint = f"the limits are {', '.join(sorted(_LIMITS))}"
        if wrong[0].upper() in (*_LIMITS, "ALL", "NONE"):
            hint = "write it in capitals" if wrong[0].upper() != wrong[0] else f"{wrong[0]} stands alone"
        yield whole.problem(key, f'"{wrong[0]}" is no limit: {_STOP}', hint)


def _needed(whole: Whole) -> Iterator[Problem]:
    """Keys and values that need another one."""
    flags = parts(whole.value("PrologFlags"))
    if "tmpfs" in whole.value("JobContainerType") and not flags & _CONTAIN:
        hint = "write PrologFlags=Contain"
        yield whole.problem("JobContainerType", f"tmpfs needs PrologFlags=Contain: {_STOP}", hint)
    never_less = re.fullmatch(r"0+(:0+){0,2}|0+-(0+(:0+){0,2})?", whole.value("PriorityDecayHalfLife"))
    if never_less and not whole.value("PriorityUsageResetPeriod"):
        message = f"is 0, and PriorityUsageResetPeriod is not set: {_STOP}"
        hint = "write PriorityUsageResetPeriod=MONTHLY, or leave PriorityDecayHalfLife out"
        yield whole.problem("PriorityDecayHalfLife", message, hint)
    if whole.value("SlurmSchedLogLevel").strip("0") and not whole.value("SlurmSchedLogFile"):
        yield whole.problem("SlurmSchedLogLevel", f"needs SlurmSchedLogFile: {_STOP}")
    if whole.value("MCSParameters") and not whole.value("MCSPlugin"):
        yield whole.problem("MCSParameters", f"needs MCSPlugin: {_STOP}")
    elif whole.value("MCSParameters") and "none" in whole.value("MCSPlugin"):
        yield whole.problem(
            "MCSParameters", "has no effect with MCSPlugin=mcs/none; Slurm warns", "", "warning"
        )
    if whole.value("MCSPlugin") == "mcs/group" and not whole.value("MCSParameters"):
        yield whole.problem("MCSPlugin", f"mcs/group needs MCSParameters: {_STOP}")
    if whole.value("MaxNodeCount") and "cons_tres" not in (whole.value("SelectType") or "cons_tres"):
        yield whole.problem("MaxNodeCount", f"needs SelectType=select/cons_tres: {_STOP}")
    parameters = whole.value("CommunicationParameters")
    if "disableipv4" in parameters and "enableipv6" not in parameters:
        message = f"DisableIPv4 without EnableIPv6 leaves no way to communicate: {_STOP}"
        yield whole.problem("CommunicationParameters", message, "write EnableIPv6,DisableIPv4")
    if not whole.named("SlurmctldHost") and whole.value("ControlMachine"):
        # _load_slurmctld_host
        if whole.value("BackupAddr") and not whole.value("BackupController"):
            yield whole.problem("BackupAddr", f"needs BackupController: {_STOP}", "write SlurmctldHost lines")
        if "," in whole.value("ControlMachine") and not whole.value("ControlAddr"):
            message = f"has several names, and needs ControlAddr: {_STOP}"
            yield whole.problem("ControlMachine", message, "write SlurmctldHost=name(address)")


def _only_logged(whole: Whole) -> Iterator[Problem]:
    """What is an error in the log and stops nothing."""
    communication = whole.value("CommunicationParameters")
    for name in ("keepaliveinterval", "keepaliveprobes", "keepalivetime"):
        value = option(communication, name)
        if value is not None and not 0 <= integer(value) < 2**31:
            message = f"{name}={value} is out of range: {_WARN_IGNORED}"
            yield whole.problem("CommunicationParameters", message, "", "warning")
    flags = parts(whole.value("PrologFlags"))
    if flags & _CONTAIN and whole.value("ProctrackType") not in ("", "proctrack/cgroup"):
        message = "Contain is of use to pam_slurm_adopt with proctrack/cgroup only: slurmctld logs an error"
        yield whole.problem("PrologFlags", message, "write ProctrackType=proctrack/cgroup", "warning")
    gather = whole.value("JobAcctGatherParams")
    if re.search("usepss|noshared", gather) and "linux" not in whole.value("JobAcctGatherType"):
        message = "UsePSS and NoShared are for jobacct_gather/linux: Slurm logs an error"
        yield whole.problem("JobAcctGatherParams", message, "remove them", "warning")
    slurmd = whole.value("SlurmdParameters")
    if "l3cache_as_socket" in slurmd and "numa_node_as_socket" in slurmd:
        message = "l3cache_as_socket excludes numa_node_as_socket, which is ignored; Slurm logs an error"
        yield whole.problem("SlurmdParameters", message, "keep one of them", "warning")
    filters = whole.value("CliFilterPlugins")
    if "none" in filters and "," in filters:
        message = "none excludes the others: Slurm logs an error and takes none of them"
        yield whole.problem("CliFilterPlugins", message, "remove none", "warning")
    weights = ("Age", "Assoc", "Fairshare", "JobSize", "Partition", "QOS")
    if sum(number(whole.value(f"PriorityWeight{name}"), 0) for name in weights) > 2**32 - 1:
        key = next(name for name in weights if number(whole.value(f"PriorityWeight{name}"), 0))
        message = "the weights together are more than 4294967295: priorities overflow, Slurm logs an error"
        yield whole.problem(f"PriorityWeight{key}", message, "make the weights smaller", "warning")
    message_timeout = number(whole.value("MessageTimeout"), 10)
    unkillable = number(whole.value("UnkillableStepTimeout"), 5 * message_timeout)
    if unkillable < 5 * message_timeout:
        message = (
            f"is less than five times MessageTimeout ({message_timeout}): nodes may be drained without need"
        )
        hint = f"write {5 * message_timeout} or more"
        yield whole.problem("UnkillableStepTimeout", message, hint, "warning")
    for key, wrong, says in (
        ("MaxArraySize", number(whole.value("MaxArraySize"), 0) > 4_000_001, "is more than 4000001"),
        ("MessageTimeout", message_timeout > 100, "is too high for a failure to be seen in time"),
        ("MinJobAge", number(whole.value("MinJobAge"), 2) < 2, "is less than 2, which is taken"),
        ("TreeWidth", number(whole.value("TreeWidth"), 1) == 0, "is 0: the default is taken"),
    ):
        if wrong:
            yield whole.problem(key, f"{says}; Slurm logs an error", "", "warning")
