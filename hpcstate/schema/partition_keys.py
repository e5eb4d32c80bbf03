"""The keys of a partition: our own few, and those of slurm.conf(5), PARTITION CONFIGURATION, by their names.
What such a value may be is up to the linter, which reads the rendered file (hpcstate.slurm.lint).
"""

from __future__ import annotations

from hpcstate.model import Partition
from hpcstate.schema import leaf
from hpcstate.schema.declare import Keys, ListKey, ValueKey

_SLURMS = "Slurm's"


def _option(meaning: str, default: str = _SLURMS) -> ValueKey[str]:
    return ValueKey(meaning, leaf.SLURM_VALUE, "", default_text=default)


class PartitionKeys(Keys, title="partitions"):
    name = ValueKey("letters, digits, `_`, `-`", leaf.PARTITION_NAME, "", required=True)
    nodes = ListKey(
        'a list of names or host lists (`"compute-[01-04]"`)',
        leaf.host_list,
        default_text="as for a name alone",
    )
    default = ValueKey("the same as naming it in `default_partition`", leaf.boolean, Partition.default)
    max_time = ValueKey(
        "the limit of its jobs, as in slurm_config", leaf.time_limit, None, default_text="`max_job_time`"
    )
    MaxTime = max_time.alias()
    default_time = ValueKey(
        "the limit of a job that names none, not more than `max_time`",
        leaf.time_limit,
        None,
        default_text="`default_job_time`",
    )
    DefaultTime = default_time.alias()
    AllocNodes = _option("the nodes that jobs may be submitted from")
    AllowAccounts = _option("only jobs of these accounts, with commas; needs accounting")
    AllowGroups = _option("only users of these Unix groups, with commas: `students,staff`")
    AllowQos = _option("only jobs with these QOS, with commas; needs accounting")
    Alternate = _option("the partition that takes its jobs while its state is not `UP`")
    CpuBind = _option("how tasks are bound: `none`, `socket`, `ldom`, `core`, `thread`")
    DefCPUPerGPU = _option("CPUs for each GPU, where a job names no CPUs")
    DefMemPerCPU = _option("MiB for each CPU, where a job names no memory", "that of all partitions")
    DefMemPerGPU = _option("MiB for each GPU, where a job names no memory")
    DefMemPerNode = _option("MiB of a node, where a job names no memory")
    DenyAccounts = _option("no jobs of these accounts, with commas; needs accounting")
    DenyQos = _option("no jobs with these QOS, with commas; needs accounting")
    DisableRootJobs = _option("`YES`: root has no jobs here")
    ExclusiveTopo = _option("`YES`: a job has its whole segment of the topology for itself")
    ExclusiveUser = _option("`YES`: the nodes of a job run other jobs of its user only")
    GraceTime = _option("seconds that a preempted job has to end")
    Hidden = _option("`YES`: `sinfo` and `squeue` show it with `--all` only")
    LLN = _option("`YES`: jobs go to the least loaded nodes")
    MaxCPUsPerNode = _option("CPUs of a node that all its jobs together may have")
    MaxCPUsPerSocket = _option("the same for a socket")
    MaxMemPerCPU = _option("MiB that a job may have for each CPU")
    MaxMemPerNode = _option("MiB that a job may have of a node")
    MaxNodes = _option("nodes that a job may have")
    MinNodes = _option("nodes that a job must have")
    OverSubscribe = _option("`NO`, `YES`, `FORCE`, `EXCLUSIVE`: whether jobs share what they were given")
    OverTimeLimit = _option("minutes that a job may go on after its limit")
    PowerDownOnIdle = _option("`YES`: its nodes power down as soon as they are idle")
    PreemptMode = _option("`OFF`, `CANCEL`, `REQUEUE`, `SUSPEND`: how its jobs make room, see below")
    PriorityJobFactor = _option("the priority of its jobs, compared with other partitions")
    PriorityTier = _option("jobs of a higher tier are looked at first, and may preempt those of a lower one")
    QOS = _option("the QOS whose limits hold for it; needs accounting")
    ReqResv = _option("`YES`: only jobs with a reservation")
    ResumeTimeout = _option("seconds that a node may take to come up")
    RootOnly = _option("`YES`: only root submits jobs here")
    SelectTypeParameters = _option("`CR_Core`, `CR_Core_Memory`, `CR_Socket`, …: what is given to jobs")
    State = ValueKey(
        "`UP`, `DOWN` (jobs wait), `DRAIN` (no new ones), `INACTIVE` (neither)",
        leaf.SLURM_VALUE,
        Partition.state,
    )
    SuspendTime = _option("seconds that a node is idle before it powers down")
    SuspendTimeout = _option("seconds that a node may take to power down")
    TRESBillingWeights = _option("what a job costs: `CPU=1,Mem=0.25G,GRES/gpu=8`; needs accounting")
    tres_billing_weights = TRESBillingWeights.alias()


OPTIONS: tuple[ValueKey[str], ...] = tuple(
    row
    for name, row in PartitionKeys.rows.items()
    if isinstance(row, ValueKey) and name[0].isupper() and not row.same_as and name != "State"
)
"""The rows that go to slurm.conf as they are."""
