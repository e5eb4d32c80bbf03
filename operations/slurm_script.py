"""The shell that changes Slurm on a node, as text: pure functions, so that tests can read what would run.

One script does one change from its check to its record. It runs as root by ``sh``; on failure it says why,
shows the end of the daemon's journal and leaves the configuration that the running daemon has.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from hpcstate.slurm.conf import CONF_DIRECTORY
from operations.slurm_drain import REASON_PREFIX

STATE = "/var/lib/hpcstate/slurm"

STAGED = f"{STATE}/staged"
"""New files, before they are checked and moved to Slurm's directory."""

APPLIED = f"{STATE}/applied"
"""A copy of the files that the running daemon was last started or reconfigured with. What differs from it is
still to be done: so an interrupted run is taken up, and a change by hand is seen."""

CONTROLLER_SECONDS = 60
RELOAD_SECONDS = 40
RESTORED_SECONDS = 30
KEPT_SECONDS = 8


def change(
    unit: str,
    names: Sequence[str],
    staged: Sequence[str],
    act: Sequence[str],
    wait: Sequence[str],
    node: str = "",
) -> str:
    """The whole change on ``unit`` (``slurmd``): check, install, ``act``, ``wait``, record.

    ``names`` are all the files that the daemon reads, ``staged`` those that differ. ``act`` and ``wait`` are
    lines of this module. ``$since`` is the time (s) after which a daemon surely has read the new files.
    ``node`` is the NodeName of a slurmd: when the change fails, it stays drained with the reason.
    """
    lines = [*_functions(unit, names, node)]
    if "slurm.conf" in staged:
        lines += [
            f"SLURM_CONF={STAGED}/slurm.conf scontrol show hostnames x > /dev/null || "
            "stop 'Slurm does not accept the new slurm.conf; nothing was changed'"
        ]
    for name in staged:
        file = shlex.quote(name)
        lines.append(f"install -m 644 {STAGED}/{file} {CONF_DIRECTORY}/{file}.hpcstate-new")
        lines.append(f"mv -f {CONF_DIRECTORY}/{file}.hpcstate-new {CONF_DIRECTORY}/{file}")
    return "\n".join(("set -eu", *lines, "since=$(date +%s)", *act, *wait, *_record(names)))


def start(unit: str) -> list[str]:
    """Starts and enables a daemon that is not running."""
    return [
        f"systemctl reset-failed {unit} 2> /dev/null || :",
        f"systemctl enable --quiet --no-reload {unit}",
        *_begin(unit, "start"),
    ]


def enable(unit: str) -> list[str]:
    """Makes a running daemon start at boot as well."""
    return [f"systemctl enable --quiet --no-reload {unit}"]


def restart(unit: str) -> list[str]:
    """Restarts a daemon; with the old configuration again when it does not start with the new one."""
    return _begin(unit, "restart")


def _begin(unit: str, verb: str) -> list[str]:
    """``systemctl verb unit``; when that fails and there are new files, with the old ones."""
    return [
        f"if ! systemctl {verb} {unit}; then",
        "    restore",
        f"    [ -n \"$restored\" ] || stop '{unit} does not start'",
        f"    systemctl reset-failed {unit} 2> /dev/null || :",
        f"    systemctl {verb} {unit} || stop '{unit} starts with neither configuration, new or old'",
        f"    stop '{unit} does not start with the new configuration; it runs with the old one again'",
        "fi",
    ]


def reconfigure_slurmctld() -> list[str]:
    """Makes slurmctld and every slurmd read their files again.

    It fails when the new process of slurmctld does, and the old one goes on (scontrol(1), since 23.11).
    """
    return [
        "scontrol reconfigure || { restore; "
        "stop 'slurmctld refuses the new configuration and goes on with the old one'; }"
    ]


def reload_slurmd() -> list[str]:
    """Makes the slurmd of this host read its files again, and no other.

    slurmd does not tell whether that went well: its new process takes over, or the old one goes on (slurmd.c,
    _try_to_reconfig). So the start time of its main process is watched. ps(1) rounds the age to seconds: two
    seconds of pause keep a process that started before the files were written from being taken for a new one.
    A slurmd that slurmctld reconfigures at that moment may miss the signal: it is sent again.
    """
    return [
        "fresh() {",
        "    pid=$(systemctl show --property=MainPID --value slurmd)",
        '    age=$(ps -o etimes= -p "$pid") && [ $(($(date +%s) - age)) -ge "$since" ]',
        "}",
        "sleep 2; since=$(date +%s); tries=0",
        "until fresh; do",
        "    [ $((tries % 10)) -ne 0 ] || systemctl reload slurmd || { restore; "
        "stop 'slurmd cannot be told to read its files again'; }",
        "    tries=$((tries + 1))",
        f"    [ $tries -le {RELOAD_SECONDS} ] || {{ restore; "
        "stop 'slurmd refuses the new configuration and goes on with the old one'; }",
        "    sleep 1",
        "done",
    ]


def wait_for_slurmctld(seconds: int = CONTROLLER_SECONDS) -> list[str]:
    """Waits until slurmctld answers."""
    return [
        f"until=$(($(date +%s) + {seconds}))",
        "until scontrol ping 2> /dev/null | grep --quiet 'is UP'; do",
        f"    [ $(date +%s) -lt $until ] || stop 'slurmctld does not answer after {seconds} s'",
        "    sleep 1",
        "done",
    ]


def wait_for_registration(node: str, gpus: int, seconds: int) -> list[str]:
    """Waits until slurmctld has heard of the slurmd that read the new files, and counts ``gpus`` GPUs on it.

    A drained node counts as registered: whether jobs may run there is another question. INVALID_REG does not,
    nor does ``*`` (not responding). When it does not come to that, slurmd gets its old files again.
    """
    return [
        "registered() {",
        "    seen || return 1",
        '    case "$state" in *UNKNOWN* | *DOWN* | *INVAL* | *NOT_RESPONDING* | *"*"*) return 1 ;; esac',
        "    gpus=0; gres=${node#* Gres=}; gres=$(echo \"${gres%% *}\" | sed 's/([^)]*)//g; s/,/ /g')",
        '    for one in $gres; do case "$one" in gpu:*) gpus=$((gpus + ${one##*:})) ;; esac; done',
        f"    [ $gpus -eq {gpus} ]",
        "}",
        f"node=; gres=; until=$(($(date +%s) + {seconds}))",
        "until registered; do",
        "    if [ $(date +%s) -ge $until ]; then",
        '        [ -n "$node" ] || stop "slurmctld is silent, or has no such node: deploy the controller"',
        '        reason=; case "$node" in *" Reason="*) reason=", ${node#* Reason=}" ;; esac',
        f'        why="{node} did not register with {gpus} GPUs within {seconds} s: its state is '
        '${state:-unknown}, its GRES ${gres:-none}$reason"',
        '        restore; [ -z "$restored" ] || { since=$(date +%s); systemctl restart slurmd || :; }',
        '        stop "$why"',
        "    fi",
        "    sleep 1",
        "done",
    ]


def _functions(unit: str, names: Sequence[str], node: str) -> list[str]:
    """``stop``: fail with a message and the journal; ``node`` stays drained with that message. ``restore``:
    the files that the running daemon has; ``$restored`` says whether that was a change.
    """
    files = " ".join(shlex.quote(name) for name in names)
    return [
        "restored=; since=0",
        *(_of_node(node) if node else []),
        "stop() {",
        '    echo "$1" >&2',
        *(['    keep_drained "$1"'] if node else []),
        f'    echo "--- the end of the journal of {unit}:" >&2',
        f"    journalctl --unit={unit} --lines=25 --no-pager --output=cat >&2 || :",
        f"    tail -n 15 /var/log/slurm/{unit}.log >&2 2> /dev/null || :",
        "    exit 1",
        "}",
        "restore() {",
        f"    [ -d {APPLIED} ] || return 0",
        f"    for file in {files}; do",
        f'        ! cmp --silent "{APPLIED}/$file" "{CONF_DIRECTORY}/$file" || continue; restored=yes',
        f'        if [ -e "{APPLIED}/$file" ]; then cp -f "{APPLIED}/$file" "{CONF_DIRECTORY}/$file"',
        f'        else rm -f "{CONF_DIRECTORY}/$file"; fi',
        "    done",
        "}",
    ]


def _of_node(node: str) -> list[str]:
    """``seen``: whether slurmctld has heard of a slurmd that started at ``$since`` or later; sets ``$node``
    and ``$state``. ``keep_drained``: a node that is drained, or got its old files back, has our reason for
    it. That comes after Slurm's own, which it gives to a node that registers with less than configured, and
    again when the node registers once more (in the lab a node that slurmctld had just accepted lost ours). A
    drain that somebody else had set before the change keeps its reason: with ours it would be lifted.
    """
    name = shlex.quote(node)
    return [
        "seen() {",
        f"    node=$(timeout 20 scontrol --oneliner show node {name} 2> /dev/null) || return 1",
        "    state=${node#* State=}; state=${state%% *}",
        "    started=${node#* SlurmdStartTime=}; started=${started%% *}",
        '    [ "$(date --date="$started" +%s 2> /dev/null || echo 0)" -ge "$since" ]',
        "}",
        "foreign=",
        "if scontrol ping 2> /dev/null | grep --quiet 'is UP' && { seen || [ -n \"$node\" ]; }; then",
        '    case "$state" in *DRAIN*) case "$node" in '
        f'*" Reason={REASON_PREFIX}"*) ;; *) foreign=yes ;; esac ;; esac',
        "fi",
        "keep_drained() {",
        '    [ -z "$foreign" ] || return 0',
        f'    [ -z "$restored" ] || for _ in $(seq {RESTORED_SECONDS}); do ! seen || break; sleep 1; done',
        '    [ -n "$restored" ] || seen || :',
        '    case "$restored${state:-}" in yes* | *DRAIN*) ;; *) return 0 ;; esac',
        f'    reason="{REASON_PREFIX}$(printf %.110s "$1")"',
        f'    scontrol update nodename={name} state=drain reason="$reason" 2> /dev/null || :',
        f'    [ -z "$restored" ] || for _ in $(seq {KEPT_SECONDS}); do',
        "        sleep 1; seen || continue",
        f'        case "$node" in *" Reason={REASON_PREFIX}"*) ;; *)',
        f'            scontrol update nodename={name} state=drain reason="$reason" 2> /dev/null || : ;;',
        "        esac",
        "    done",
        "}",
    ]


def _record(names: Sequence[str]) -> list[str]:
    """Remembers that the daemon runs with the files as they are now."""
    files = " ".join(shlex.quote(f"{CONF_DIRECTORY}/{name}") for name in names)
    return [f"mkdir -p {APPLIED}", f"cp -f {files} {APPLIED}/", f"rm -rf {STAGED}"]
