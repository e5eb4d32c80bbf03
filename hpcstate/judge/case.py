"""What Slurm's daemons must find around a cluster's files to read them. Pure: files in, a Case out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import islice, product
from pathlib import Path, PurePosixPath

from hpcstate.judge.inside import Case
from hpcstate.slurm.keys import Kind
from hpcstate.slurm.lint.tres import STATIC, configured
from hpcstate.slurm.read import ReadInclude, Record, Statement, Whole, names, statements

_ADDRESS = "192.0.2.1"
"""Of the documentation (RFC 5737). With loopback addresses alone names are not resolved (getaddrinfo(3),
AI_ADDRCONFIG).
"""

_NOBODY = "198.51.100.1"
"""Of the documentation too, and not reached: where the other controllers are."""

_MAX_NODES = 64 * 1024
"""More than Slurm has in one cluster (src/common/read_config.c, MAX_SLURM_NODES)."""

_FOLDERS = {"StateSaveLocation": "/var/spool", "SlurmdSpoolDir": "/var/spool/slurmd"}
"""With the defaults of slurm.conf(5)."""

_FAIR_TREE_OFF = re.compile("DEPTH_OBLIVIOUS|NO_FAIR_TREE", re.IGNORECASE)
"""Words of PriorityFlags with which a slurmctld without a slurmdbd ends with SIGSEGV: it has no root
association (priority_multifactor.c, _decay_thread).
"""

OF_A_DATABASE = ("PriorityWeightAge", "PriorityWeightFairshare")
"""Weights that a slurmctld without a slurmdbd refuses with an error (priority_multifactor.c, init)."""

_ANY_JOB = """function slurm_job_submit() return slurm.SUCCESS end
function slurm_job_modify() return slurm.SUCCESS end
"""
"""The script of job_submit/lua where none is given: slurmctld stops without one (job_submit_lua.c, init)."""

_OWN_AUTH = re.compile("((auth|cred)/)?slurm")
"""Slurm's own credentials (src/interfaces/auth.c and cred.c), which need a key beside slurm.conf."""

_FILE_KEYS = ("SlurmctldPidFile", "SlurmdPidFile", "SlurmctldLogFile", "SlurmdLogFile", "SlurmSchedLogFile")


@dataclass(frozen=True)
class Configuration:
    """The files of one cluster: ``files`` (slurm.conf and its kin, what they include) are those of every
    node, ``gres`` is the gres.conf of each node that has one, by its name.
    """

    files: Mapping[str, str]
    gres: Mapping[str, str] = field(default_factory=dict)


def configuration_of_files(texts: Mapping[Kind, str], read_include: ReadInclude) -> Configuration:
    """A user's own files as one configuration: ``texts`` by kind, the same gres.conf for every node.

    What they include is taken along where ``read_include`` gives it, by the name in the Include line.
    """
    files = {f"{kind}.conf": text for kind, text in texts.items() if kind not in ("gres", "slurmdbd")}
    read = list(statements(texts.get("slurm", ""), "slurm", read_include))
    others = (
        statements(texts[kind], kind, read_include) for kind in texts if kind not in ("slurm", "slurmdbd")
    )
    for statement in (*read, *(statement for other in others for statement in other)):
        if statement.included == "read":
            files[statement.file] = read_include(statement.file) or ""
    nodes = [name for record in Whole.of(read).named("NodeName") for name in _expand(record.name)]
    return Configuration(files, dict.fromkeys(nodes, texts["gres"]) if "gres" in texts else {})


def case_of(configuration: Configuration, root: Path) -> Case:
    """The case of ``configuration`` for daemons of the throwaway root ``root`` (a tar)."""
    whole = _whole(configuration.files, "slurm.conf", "slurm")
    controller, address = _controller(whole)
    nodes = whole.named("NodeName")
    backups = [record.name.partition("(")[0].strip() for record in whole.named("SlurmctldHost")[1:]]
    hosts = dict.fromkeys((name for record in nodes for name in _host_names(record)), "127.0.0.1")
    hosts |= dict.fromkeys(backups, _NOBODY) | {controller: "127.0.0.1"}
    user = _raw(whole, "SlurmUser") or "root"
    gres = {
        node: list(statements(text, "gres", configuration.files.get))
        for node, text in configuration.gres.items()
    }
    slurmctld: dict[str, str] = {}
    files = dict(configuration.files)
    if "slurmdbd" in whole.value("AccountingStorageType"):
        # slurmctld would wait for a slurmdbd that is not there.
        slurmctld |= {"AccountingStorageType": "accounting_storage/none", "AccountingStorageTRES": "cpu"}
        slurmctld |= {key: "0" for key in OF_A_DATABASE if _raw(whole, key)}
        tracked = configured(whole) - STATIC
        files = {name: _without_weights(text, tracked) for name, text in files.items()}
        flags = _raw(whole, "PriorityFlags")
        if _FAIR_TREE_OFF.search(flags):
            # The rest of them is judged; FAIR_TREE is the default.
            rest = [word for word in flags.split(",") if not _FAIR_TREE_OFF.search(word)]
            slurmctld |= {"PriorityFlags": ",".join(rest) or "FAIR_TREE"}
    if user in ("root", "0"):
        # The daemons drop root's groups, which an ordinary user's namespace forbids.
        user = "slurm"
        slurmctld |= {"SlurmUser": user}
    if "lua" in _raw(whole, "JobSubmitPlugins").replace("job_submit/", "").split(","):
        files.setdefault("job_submit.lua", _ANY_JOB)
    return Case(
        root=str(root.resolve()),
        files=files,
        gres=dict(configuration.gres),
        overrides={"slurmctld": slurmctld, "slurmd": slurmctld | _without_cgroups(whole)},
        controller=controller,
        addresses=[address if _is_of_a_host(address) else _ADDRESS],
        hosts={name: address for name, address in hosts.items() if not _is_address(name)},
        devices=sorted({file for text in gres.values() for file in _devices(text)}),
        folders=sorted({*_folders(whole), *_job_folders(configuration.files)}),
        user=user,
        autodetect=sorted(node for node, text in gres.items() if _autodetects(node, text)),
        own_auth=any(_OWN_AUTH.fullmatch(whole.value(key)) for key in ("AuthType", "CredType")),
    )


_WEIGHTS = re.compile(
    r"\b(?P<key>TRESBillingWeights|TRESWeights|PriorityWeightTRES)\s*=\s*"
    r'(?:"(?P<quoted>[^"\n]*)"|(?P<plain>[^\s"]+))',
    re.IGNORECASE,
)


def _without_weights(text: str, tracked: Set[str]) -> str:
    """``text`` without the weights of what AccountingStorageTRES tracks: without a slurmdbd nothing but
    Slurm's own TRES is known, and slurmctld stops at a weight of another (slurm_get_tres_weight_array).
    The lines keep their numbers.
    """

    def rest(found: re.Match[str]) -> str:
        weights = (found["plain"] if found["quoted"] is None else found["quoted"]).split(",")
        kept = [weight for weight in weights if weight.partition("=")[0].strip().lower() not in tracked]
        return found[0] if len(kept) == len(weights) else f'{found["key"]}="{",".join(kept) or "CPU=1"}"'

    return _WEIGHTS.sub(rest, text)


def _without_cgroups(whole: Whole) -> dict[str, str]:
    """What a slurmd that registers is told instead: there are no control groups in the throwaway root."""
    overrides = {"SlurmdUser": "slurm"}
    if whole.value("ProctrackType") in ("", "proctrack/cgroup"):
        # Not proctrack/linuxproc, which PrologFlags=X11 excludes.
        overrides["ProctrackType"] = "proctrack/pgid"
    if "cgroup" in whole.value("JobAcctGatherType"):
        overrides["JobAcctGatherType"] = "jobacct_gather/none"
    plugins = [plugin for plugin in _raw(whole, "TaskPlugin").split(",") if "cgroup" not in plugin.lower()]
    if "cgroup" in whole.value("TaskPlugin"):
        overrides["TaskPlugin"] = ",".join(plugins) or "task/none"
        if "oomkillstep" in whole.value("TaskPluginParam"):
            overrides["TaskPluginParam"] = "Verbose"
    return overrides


def _whole(files: Mapping[str, str], name: str, kind: Kind) -> Whole:
    return Whole.of(list(statements(files.get(name, ""), kind, files.get)))


def _raw(whole: Whole, key: str) -> str:
    """The value of a plain key as it is written."""
    return whole.values[key.lower()][0] if key.lower() in whole.values else ""


def _controller(whole: Whole) -> tuple[str, str]:
    """Name and address of the first controller (slurm.conf(5), SlurmctldHost); the address may be a name."""
    hosts = whole.named("SlurmctldHost")
    if hosts:
        name, _, address = hosts[0].name.partition("(")
        return _host_name(name.strip()), address.strip(") ")
    # Of several names of one machine, the first is the name that this one takes.
    return _host_name(_raw(whole, "ControlMachine").partition(",")[0]), _raw(whole, "ControlAddr")


def _host_name(name: str) -> str:
    """``name``, or another where no machine can be called so: slurmctld then says what is wrong with it."""
    return name if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?", name) else "controller"


def _host_names(record: Record) -> Iterator[str]:
    """The names that slurmctld looks up for a NodeName line."""
    for value in (
        record.name,
        record.attributes.get("nodeaddr", ""),
        record.attributes.get("nodehostname", ""),
    ):
        yield from _expand(value)


def _expand(expression: str) -> Iterator[str]:
    """The names of a hostlist. Slurm knows several brackets in one name, names() one: each by itself."""
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", expression):
        pieces = [names(piece) or () for piece in re.findall(r"[^\[]*\[[^\]]*\]|[^\[\]]+", part)]
        yield from ("".join(chosen) for chosen in islice(product(*pieces), _MAX_NODES))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_of_a_host(text: str) -> bool:
    """Whether an interface can have the address ``text`` beside those of the loopback."""
    if not _is_address(text):
        return False
    address = ip_address(text)
    return not (address.is_loopback or address.is_unspecified or address.is_multicast)


def _devices(gres: Sequence[Statement]) -> Iterator[str]:
    """The device files of a gres.conf."""
    for statement in gres:
        for pair in statement.pairs:
            if pair.key.lower() in ("file", "files", "multiplefiles"):
                yield from (name for name in names(pair.value) or () if name.startswith("/"))


def _autodetects(node: str, gres: Sequence[Statement]) -> bool:
    """Whether the slurmd of ``node`` looks for devices by itself: there are none in the throwaway root.

    What a NodeName line of the node says counts before a line of its own; on a Name line it has no effect
    (src/interfaces/gres.c, _handle_local_autodetect and _parse_gres_config).
    """
    whole = Whole.of(gres)
    for record in whole.named("NodeName"):
        own = record.attributes.get("autodetect", "")
        if own and node in (names(record.name) or (node,)):
            return _LIBRARIES.search(own) is not None
    return _LIBRARIES.search(whole.value("AutoDetect")) is not None


_LIBRARIES = re.compile("nvml|nvidia|rsmi|oneapi|nrt", re.IGNORECASE)
"""src/interfaces/gres.c, _handle_autodetect_flags: another word finds nothing."""


def _job_folders(files: Mapping[str, str]) -> Iterator[str]:
    """Where jobs have their private folders: slurmd looks there for those of jobs that it knows."""
    whole = _whole(files, "job_container.conf", "job_container")
    for record in whole.named("BasePath"):
        yield record.name
    for record in whole.named("NodeName"):
        if path := record.attributes.get("basepath"):
            yield path


def _folders(whole: Whole) -> Iterator[str]:
    """The folders that a deploy makes before it starts the daemons; %n and the like stand for names."""
    for key, default in _FOLDERS.items():
        yield _raw(whole, key) or default
    if value := _raw(whole, "TmpFS"):
        yield value
    for key in _FILE_KEYS:
        if value := _raw(whole, key):
            yield str(PurePosixPath(value).parent)
    if "filetxt" in whole.value("JobCompType") and (value := _raw(whole, "JobCompLoc")):
        yield str(PurePosixPath(value).parent)
