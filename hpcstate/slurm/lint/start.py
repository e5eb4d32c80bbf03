"""Keys of slurm.conf that meet when slurmctld starts its plugins and builds its tables.

Each rule names its place in Slurm 24.11.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hpcstate.errors import Problem
from hpcstate.hostlist import refusal
from hpcstate.slurm.keys import keys
from hpcstate.slurm.lint import power
from hpcstate.slurm.lint.defaults import UNITS, integer, option, parts
from hpcstate.slurm.lint.nodes import known_nodes
from hpcstate.slurm.lint.tres import weight_problems
from hpcstate.slurm.read import Record, Whole, names, number

_STOP = "slurmctld stops"


def problems(whole: Whole) -> Iterator[Problem]:
    """The rules that need nothing that another file may have, then those that do."""
    yield from _licenses(whole)
    yield from _requeue(whole)
    yield from _scheduler(whole)
    yield from _gres_types(whole)
    yield from _reserved_sockets(whole)
    for record in whole.named("NodeName"):
        # src/common/node_conf.c, config_record_from_conf_node
        yield from weight_problems(whole, record, "TRESWeights")
    if _is_multifactor(whole):
        # src/plugins/priority/multifactor/priority_multifactor.c, _internal_setup
        yield from weight_problems(whole, None, "PriorityWeightTRES")
    if whole.complete:
        yield from _select(whole)
        yield from _plugins(whole)
        yield from power.problems(whole)


def _is_multifactor(whole: Whole) -> bool:
    """The default of PriorityType (src/common/read_config.h, DEFAULT_PRIORITY_TYPE)."""
    return whole.value("PriorityType") in ("", "priority/multifactor")


def _select(whole: Whole) -> Iterator[Problem]:
    words = parts(whole.value("SelectTypeParameters"))
    linear = whole.value("SelectType") == "select/linear"
    if linear and any(re.match("cr_(cpu|core|socket)(_memory)?$", word) for word in words):
        # src/interfaces/select.c, select_g_init
        message = f"select/linear knows CR_Memory only: {_STOP}"
        yield whole.problem("SelectTypeParameters", message, "SelectType=select/cons_tres allocates cores")
    if not linear and words and not words & (UNITS - {"cr_memory"}):
        # src/plugins/select/cons_tres/select_cons_tres.c, select_p_node_init
        message = f"names none of CR_CPU, CR_Core and CR_Socket, which select/cons_tres needs: {_STOP}"
        yield whole.problem("SelectTypeParameters", message, "write CR_Core_Memory as well")


def _gres_types(whole: Whole) -> Iterator[Problem]:
    """src/interfaces/gres.c, gres_init."""
    listed = [word for word in whole.value("GresTypes").split(",") if word]
    shared = [word for word in listed if word in ("mps", "shard")]
    exact = whole.values["grestypes"][0].split(",") if listed else []
    if shared and "gpu" not in exact:
        message = f"mps and shard need gpu as well: {_STOP}"
        yield whole.problem("GresTypes", message, "write GresTypes=gpu,shard")
    elif shared and whole.value("SelectType") == "select/linear":
        message = f"{shared[0]} needs SelectType=select/cons_tres: {_STOP}"
        yield whole.problem("GresTypes", message, "write SelectType=select/cons_tres")
    if len(set(exact)) < len(exact):
        twice = next(word for word in exact if exact.count(word) > 1)
        message = f"{twice} is given twice; Slurm logs an error"
        yield whole.problem("GresTypes", message, "remove one", "warning")


def _licenses(whole: Whole) -> Iterator[Problem]:
    """src/slurmctld/licenses.c, _build_license_list."""
    value = whole.values["licenses"][0] if "licenses" in whole.values else ""
    for token in re.split("[,;]", value):
        name, sign, count = (*re.split("([:=])", token, maxsplit=1), "", "")[:3]
        if re.search(r"\s", name):
            message = f'"{token}" has a space: {_STOP}'
        elif sign and not re.fullmatch(r"\s*\+?[0-9]*", count):
            message = f'"{count}" is no count of licenses: {_STOP}'
        else:
            continue
        yield whole.problem("Licenses", message, "write Licenses=name:count,name:count")


def _requeue(whole: Whole) -> Iterator[Problem]:
    """src/slurmctld/job_mgr.c, _make_requeue_array: a list of numbers and ranges, read as a host list."""
    for key in ("RequeueExit", "RequeueExitHold"):
        if key.lower() not in whole.values:
            continue
        value = whole.values[key.lower()][0]
        codes = None if re.search(r"[][]", value) or refusal(f"[{value}]") else names(f"[{value}]")
        high = next((code for code in codes or () if integer(code) > _MAX_EXIT), None)
        if codes is None:
            message = "is no list of exit codes: slurmctld logs an error, and no job is requeued for it"
        elif high is not None:
            message = f"{high} is no exit code, the highest is {_MAX_EXIT}; slurmctld logs an error"
        else:
            continue
        yield whole.problem(key, message, f"write {key}=1-3,142", "warning")


_MAX_EXIT = 255


_RANGES: tuple[tuple[str, int, int], ...] = (
    ("bf_interval", 1, 10800),
    ("bf_max_time", 1, 3600),
    ("bf_window", 1, 43200),
    ("bf_max_job_test", 1, 1_000_000),
    ("bf_node_space_size", 2, 2_000_000),
    ("bf_resolution", 1, 3600),
    ("bf_max_job_array_resv", 0, 1000),
    ("bf_max_job_part", 0, 2**31),
    ("bf_max_job_start", 0, 10_000),
    ("bf_max_job_user", 0, 2**31),
    ("bf_job_part_count_reserve", 0, 100_000),
    ("bf_max_job_user_part", 0, 2**31),
    ("bf_max_job_assoc", 0, 2**31),
    ("bf_min_age_reserve", 0, 2_592_000),
    ("bf_min_prio_reserve", 1, 2**32),
    ("max_rpc_cnt", 0, 1000),
    ("bf_yield_interval", 1, 10_000_000),
    ("bf_yield_sleep", 1, 10_000_000),
    ("bf_topopt_iterations", 2, 2**31),
)
"""Of src/plugins/sched/backfill/backfill.c, _load_config, with its MAX_... numbers."""

_MINIMA = (
    ("batch_sched_delay", 0),
    ("build_queue_timeout", 100),
    ("default_queue_depth", 0),
    ("partition_job_depth", 0),
    ("sched_interval", -1),
    ("sched_max_job_start", 0),
    ("sched_min_interval", 0),
)
"""Of src/slurmctld/job_scheduler.c, _schedule."""


def _scheduler(whole: Whole) -> Iterator[Problem]:
    parameters = whole.value("SchedulerParameters")
    backfill = whole.value("SchedulerType") in ("", "sched/backfill")
    if backfill and option(parameters, "bf_max_job_test") is None and "max_job_bf=" in parameters:
        message = f"max_job_bf is not known any more: {_STOP}"
        yield whole.problem("SchedulerParameters", message, "write bf_max_job_test=")
    for name, least, most in (*(_RANGES if backfill else ()), *((name, low, 2**31) for name, low in _MINIMA)):
        value = option(parameters, name)
        never = name == "bf_interval" and value is not None and integer(value) == -1
        if value is not None and not never and not least <= integer(value) <= most:
            message = f"{name}={value} is out of range: Slurm logs an error and takes the default"
            yield whole.problem("SchedulerParameters", message, f"write {least} or more", "warning")
    prio = option(parameters, "bf_hetjob_prio")
    if prio is not None and prio[:3] not in ("min", "max", "avg"):
        message = f"bf_hetjob_prio={prio} is none of min, max and avg: Slurm logs an error"
        yield whole.problem("SchedulerParameters", message, "write bf_hetjob_prio=min", "warning")
    limits = (option(parameters, name) or "" for name in ("bf_max_job_user", "bf_max_job_assoc"))
    if backfill and all(integer(text) > 0 for text in limits):
        message = "bf_max_job_assoc goes before bf_max_job_user: Slurm logs an error"
        yield whole.problem("SchedulerParameters", message, "keep one of them", "warning")
    tests = integer(option(parameters, "bf_max_job_test") or "500")
    per_partition = integer(option(parameters, "bf_max_job_part") or "0")
    if backfill and per_partition and per_partition >= tests:
        message = f"bf_max_job_part is not less than bf_max_job_test ({tests}): Slurm logs an error"
        yield whole.problem("SchedulerParameters", message, "make bf_max_job_test larger", "warning")


def _plugins(whole: Whole) -> Iterator[Problem]:
    flags = parts(whole.value("PrologFlags"))
    if "enable_stepmgr" in whole.value("SlurmctldParameters") and not flags & {"contain", "x11", "runinjob"}:
        # src/slurmctld/read_config.c, read_slurm_conf
        message = f"enable_stepmgr needs PrologFlags=Contain: {_STOP}"
        yield whole.problem("SlurmctldParameters", message, "write PrologFlags=Contain")
    if whole.value("TopologyPlugin") == "topology/3d_torus":
        # src/plugins/topology/3d_torus/hilbert_slurm.c, nodes_to_hilbert_curve; seen with Debian's slurmctld
        message = f"3d_torus needs a Slurm that is built with three dimensions: {_STOP}"
        yield whole.problem("TopologyPlugin", message, "write topology/tree or topology/block")
    yield from _connections(whole)
    yield from _old_names(whole)
    yield from _authentication(whole)
    known, all_known = known_nodes(whole)
    most = whole.value("MaxNodeCount")
    if all_known and number(most, len(known)) < len(known):
        # src/common/node_conf.c, create_node_record
        message = f"is {most}, and {len(known)} nodes are configured: {_STOP}"
        yield whole.problem("MaxNodeCount", message, f"write {len(known)} or more, or leave it out")
    parameters = whole.value("AuthAltParameters")
    for key in ("AuthType", "AuthAltTypes"):
        if "auth/jwt" in whole.value(key) and "jwt_key=" not in parameters and "jwks=" not in parameters:
            # src/plugins/auth/jwt/auth_jwt.c, _init_hs256
            message = (
                f"auth/jwt has no key, and looks for StateSaveLocation/jwt_hs256.key: without it, {_STOP}"
            )
            yield whole.problem(key, message, "write AuthAltParameters=jwt_key=/path/of/the/key")
    completion, where = whole.value("JobCompType"), whole.value("JobCompLoc")
    for name, what in (("script", "a program"), ("elasticsearch", "a URL"), ("kafka", "a file")):
        if f"jobcomp/{name}" in completion and not where:
            # src/plugins/jobcomp/script/jobcomp_script.c, jobcomp_p_set_location, and the others'
            yield whole.problem("JobCompType", f"jobcomp/{name} needs JobCompLoc: {_STOP}", f"it is {what}")
    for key in ("PrologSlurmctld", "EpilogSlurmctld"):
        # src/plugins/prep/script/prep_script_slurmctld.c, _validate_slurmctld_scripts
        if key.lower() in whole.values and not re.fullmatch(r"/\S+", whole.values[key.lower()][0]):
            message = f"is no absolute path of a program: {_STOP}"
            yield whole.problem(key, message, "write the path alone, without arguments")
    preemption = option(whole.value("PreemptParameters"), "reorder_count")
    if preemption is not None and integer(preemption) < 0:
        # src/plugins/select/cons_tres/select_cons_tres.c, select_p_node_init
        message = "reorder_count is below zero: slurmctld logs an error and takes 1"
        yield whole.problem("PreemptParameters", message, "", "warning")
    ports = re.match("([0-9]{1,9})(?:-([0-9]{1,9}))?", whole.value("SlurmctldPort"))
    slurmd = number(whole.value("SlurmdPort"), 6818)
    if ports and int(ports[1]) <= slurmd <= int(ports[2] or ports[1]):
        # src/common/read_config.c, seen with slurmctld 24.11.5
        message = f"has the port of slurmd, {slurmd}: slurmctld logs that it talks with itself"
        yield whole.problem("SlurmctldPort", message, "leave SlurmdPort out of the range", "warning")
    database = "slurmdbd" in whole.value("AccountingStorageType")
    for record in whole.named("PartitionName") if not database else ():
        for key in ("AllowQos", "DenyQos"):
            if record.attributes.get(key.lower(), "all").lower() != "all":
                # src/slurmctld/read_config.c, qos_list_build
                message = "has no effect without a slurmdbd; slurmctld logs an error"
                yield record.problem(key, message, "set up slurmdbd, or remove it", "warning")
    if whole.value("AccountingStorageEnforce") not in ("", "0", "none") and not database:
        # src/slurmctld/controller.c, main
        message = (
            "has no effect without AccountingStorageType=accounting_storage/slurmdbd; an error is logged"
        )
        yield whole.problem("AccountingStorageEnforce", message, "set up slurmdbd, or remove it", "warning")
    flags_of_priority = whole.value("PriorityFlags")
    fair_tree_off = next((word for word in FAIR_TREE_OFF if word.lower() in flags_of_priority), "")
    if _is_multifactor(whole) and fair_tree_off and not database:
        # src/plugins/priority/multifactor/priority_multifactor.c, _decay_thread: there is no root association
        message = f"{fair_tree_off} needs a slurmdbd: without one slurmctld ends with SIGSEGV"
        yield whole.problem("PriorityFlags", message, f"set up slurmdbd, or remove {fair_tree_off}")
    if _is_multifactor(whole) and not database:
        # src/plugins/priority/multifactor/priority_multifactor.c, init
        for key in ("PriorityWeightAge", "PriorityWeightFairshare"):
            if number(whole.value(key), 0):
                message = "needs a slurmdbd: slurmctld logs an error and ignores it"
                yield whole.problem(key, message, "set up slurmdbd, or remove it", "warning")


FAIR_TREE_OFF = ("DEPTH_OBLIVIOUS", "NO_FAIR_TREE")
"""Words of PriorityFlags that end the default, Fair Tree (src/common/read_config.c)."""


def _connections(whole: Whole) -> Iterator[Problem]:
    """src/conmgr/conmgr.c, conmgr_set_params; src/conmgr/workers.c, workers_init."""
    for key, daemon in (("SlurmctldParameters", "slurmctld"), ("SlurmdParameters", "slurmd")):
        words = [word.partition("=") for word in whole.value(key).split(",")]
        for name, _, value in words:
            if name == "conmgr_max_connections" and integer(value) < 1:
                message = f"{name}={value} allows none: {daemon} stops"
                yield whole.problem(key, message, "leave it out")
        threads = next((value for name, _, value in reversed(words) if name == "conmgr_threads"), "")
        # What is below zero is read as 0, the default.
        if integer(threads) > 0 and not _MIN_THREADS <= integer(threads) <= _MAX_THREADS:
            message = f"conmgr_threads={threads} is not within {_MIN_THREADS} and {_MAX_THREADS}"
            yield whole.problem(key, f"{message}: {daemon} stops", "leave it out: the default is 10")


_MIN_THREADS, _MAX_THREADS = 2, 1024
"""src/conmgr/conmgr.h, CONMGR_THREAD_COUNT_MIN and CONMGR_THREAD_COUNT_MAX."""


def _old_names(whole: Whole) -> Iterator[Problem]:
    """Old keys of plugins, read where the new one is absent (src/common/read_config.c)."""
    own = "plugindir" in whole.values
    for old, key, before, after in (
        ("CryptoType", "CredType", "crypto", "cred"),
        ("AcctGatherInfinibandType", "AcctGatherInterconnectType", "infiniband", "interconnect"),
    ):
        family = keys("slurm").families[key.lower()]
        value = whole.value(old)
        read = value.replace(before, after)
        name = read.removeprefix(f"{family.name}/")
        there = name in family.names and family.elsewhere.get(name) is None
        if value and not whole.value(key) and not there and (after == "cred" or "none" not in value):
            message = f"is read as {key}={read}, a plugin that Slurm 24.11 of Debian does not have"
            hint = f"remove it, or write {key}= with a plugin that there is"
            yield whole.problem(old, f"{message}: {_STOP}", hint, "warning" if own else "error")


def _authentication(whole: Whole) -> Iterator[Problem]:
    value = whole.values["authinfo"][0] if "authinfo" in whole.values else ""
    munge = whole.value("AuthType") in ("", "munge", "auth/munge")
    # src/common/slurm_protocol_api.c, slurm_auth_opts_to_socket
    socket = value if "=" not in value else option(value, "socket") or ""
    if socket and munge and not socket.startswith("/"):
        message = f'"{socket}" is taken for the path of munged\'s socket: {_STOP}'
        yield whole.problem("AuthInfo", message, "write socket=/path, ttl=60 or the like, or leave it out")
    expire = option(value, "cred_expire")
    if expire is not None and integer(expire) < _LEAST_EXPIRE:
        # src/interfaces/cred.c, cred_g_init
        message = (
            f"cred_expire={expire} is less than {_LEAST_EXPIRE} seconds: Slurm logs an error and takes 120"
        )
        yield whole.problem("AuthInfo", message, "write cred_expire=120, or leave it out", "warning")


_LEAST_EXPIRE = 5


def _reserved_sockets(whole: Whole) -> Iterator[Problem]:
    """src/plugins/select/cons_tres/select_cons_tres.c, _check_allocatable_sockets."""
    if "cr_socket" not in whole.value("SelectTypeParameters"):
        return
    if whole.value("AllowSpecResourcesUsage") in ("yes", "up", "true", "1"):
        return
    for record in whole.named("NodeName"):
        key = _fills_every_socket(record)
        if key:
            message = f"takes cores of every socket, and CR_Socket allocates whole sockets: {_STOP}"
            yield record.problem(key, message, "write CR_Core_Memory, or AllowSpecResourcesUsage=YES")


def _fills_every_socket(record: Record) -> str:
    """The key that does, empty for none. Slurm takes the reserved cores from the last ones of each socket."""
    cpus, sockets, cores, threads = (
        number(record.attributes.get(key, ""), 0)
        for key in ("cpus", "sockets", "corespersocket", "threadspercore")
    )
    cores, threads = cores or 1, threads or 1
    sockets = sockets or max(1, cpus // (cores * threads))
    count = number(record.attributes.get("corespeccount", ""), 0)
    listed = record.attributes.get("cpuspeclist", "")
    if re.fullmatch("[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*", listed):
        reserved: set[int] = set()
        for part in listed.split(","):
            low, _, high = part.partition("-")
            reserved.update(range(int(low), int(high or low) + 1))
        per = cores * threads
        used = {cpu // per for cpu in reserved}
        return "CPUSpecList" if used >= set(range(sockets)) else ""
    # Reserved from the last socket down, round and round (src/common/node_conf.c, _select_spec_cores).
    return "CoreSpecCount" if 0 < count < sockets * cores and count >= sockets else ""
