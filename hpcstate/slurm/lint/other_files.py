"""acct_gather.conf, helpers.conf and oci.conf: what their readers of Slurm 24.11.5 stop at."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hpcstate.errors import Problem
from hpcstate.slurm.read import Whole

_STOP = "the daemons stop"

OWNERS = (
    ("EnergyIPMI", "AcctGatherEnergyType", ("ipmi", "xcc")),
    ("EnergyXCC", "AcctGatherEnergyType", ("xcc",)),
    ("ProfileHDF5", "AcctGatherProfileType", ("hdf5",)),
    ("ProfileInfluxDB", "AcctGatherProfileType", ("influxdb",)),
    ("InterconnectOFED", "AcctGatherInterconnectType", ("ofed",)),
    ("InfinibandOFED", "AcctGatherInterconnectType", ("ofed",)),
    ("SysfsInterfaces", "AcctGatherInterconnectType", ("sysfs",)),
)
"""How the keys of acct_gather.conf begin, and the plugins that know them: a key of one that slurm.conf does
not name stops the daemons (src/interfaces/acct_gather.c, acct_gather_conf_init).
"""


def acct_gather(whole: Whole) -> Iterator[Problem]:
    """What a plugin needs as soon as it is set up (acct_gather_profile_p_conf_set of
    acct_gather_profile_influxdb.c and acct_gather_profile_hdf5.c).
    """
    if not whole.complete:
        return
    keys = list(whole.values)
    if any(key.startswith("profileinfluxdb") for key in keys):
        for key in ("ProfileInfluxDBHost", "ProfileInfluxDBDatabase", "ProfileInfluxDBRTPolicy"):
            if not whole.value(key):
                yield whole.problem(key, f"is missing, and influxdb needs it: {_STOP}", f"write {key}=")
        if whole.value("ProfileInfluxDBPass") and not whole.value("ProfileInfluxDBUser"):
            yield whole.problem("ProfileInfluxDBPass", f"needs ProfileInfluxDBUser: {_STOP}")
    if any(key.startswith("profilehdf5") for key in keys) and not whole.value("ProfileHDF5Dir"):
        yield whole.problem("ProfileHDF5Dir", f"is missing, and hdf5 needs it: {_STOP}", "write a folder")


def acct_gather_with(whole: Whole, slurm: Whole) -> Iterator[Problem]:
    """Keys of plugins that slurm.conf does not name."""
    for lower, (_, statement) in whole.values.items():
        owner = next((row for row in OWNERS if lower.startswith(row[0].lower())), None)
        if owner and slurm.complete and not any(name in slurm.value(owner[1]) for name in owner[2]):
            family = owner[1].removesuffix("Type").removeprefix("AcctGather").lower()
            message = (
                f"is a key of acct_gather_{family}/{owner[2][0]}, which slurm.conf does not name: {_STOP}"
            )
            hint = f"write {owner[1]}=acct_gather_{family}/{owner[2][0]} in slurm.conf, or remove the key"
            yield Problem(statement.line, statement.place(statement.pairs[0].key), message, hint)


def helpers(whole: Whole) -> Iterator[Problem]:
    """src/plugins/node_features/helpers/node_features_helpers.c, _feature_register."""
    seen: dict[str, str] = {}
    for record in whole.named("Feature"):
        program = record.attributes.get("helper", "")
        for name in record.name.split(","):
            if name in seen and seen[name] != program:
                message = f"{name} has another Helper on a line before: {_STOP}"
                yield record.problem("Feature", message, "one Helper for each feature")
            seen.setdefault(name, program)
        if not program:
            message = "has no Helper: slurmd logs an error, and the feature does not change"
            yield record.problem("Helper", message, "write Helper=/path", "warning")


def oci(whole: Whole) -> Iterator[Problem]:
    """src/common/oci_config.c, get_oci_conf: read when a step with a container starts."""
    fails = "steps with a container fail"
    value = whole.value("CreateEnvFile")
    words = ("null", "newline", "disabled", "true", "false", "yes", "no", "0", "1")
    if value and not any(value == word for word in words):
        message = f'"{value}" is none of null, newline and disabled: {fails}'
        yield whole.problem("CreateEnvFile", message, "write CreateEnvFile=null", "warning")
    for key in ("EnvExclude", "RunTimeEnvExclude"):
        raw = whole.values[key.lower()][0] if key.lower() in whole.values else ""
        if raw.count("(") != raw.count(")") and not re.search(r"\\[()]", raw):
            message = f"is no regular expression: {fails}"
            yield whole.problem(key, message, "close the bracket", "warning")
    run = {"RunTimeRun": whole.value("RunTimeRun"), "RunTimeCreate": whole.value("RunTimeCreate")}
    if whole.values and not any(run.values()):
        message = f"neither RunTimeRun nor RunTimeCreate is set: {fails}"
        yield whole.problem("RunTimeRun", message, 'write RunTimeRun="runc ..."', "warning")
