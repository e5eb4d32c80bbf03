"""The nodes trust each other, agree on the time and the configuration, and run all their daemons."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.model import Node
from hpcstate.node.ssh import SSH_USER, Live
from hpcstate.terminal import plural
from tests.suites.breaking import SLURM_CONF, Edit, append, begin, edited, last_worker, stopped, wait_idle

CLOCK_SECONDS = 1.0
"""How far the clocks may differ. munge itself forgives five minutes; logs and make do not."""

MUNGE_KEY = "/etc/munge/munge.key"

_SENDER = "=== credential of "


def test_munge(live: Live, record_property: RecordProperty) -> None:
    """A credential of each node is accepted on every other node"""
    names = _names(live)
    encoded = live.run_each(dict.fromkeys(names, "munge --no-input"), check=False)
    failed = {name: answer for name, answer in encoded.items() if answer.code != 0}
    problems = [f"{name} cannot encode: {_last(answer.stderr)}" for name, answer in failed.items()]
    tokens = {name: answer.stdout.strip() for name, answer in encoded.items() if answer.code == 0}
    # Each munged accepts a credential once (replays are refused): one of each node serves all others.
    scripts = {name: _decode_script(tokens, name) for name in names if tokens.keys() - {name}}
    pairs = 0
    for receiver, answer in live.run_each(scripts, check=False).items():
        for sender, verdict in verdicts(answer.stdout).items():
            pairs += 1
            if verdict:
                problems.append(f"{receiver} refuses that of {sender}: {verdict}")
    if problems or pairs != len(names) * (len(names) - 1):
        raise CheckFailed(
            f"all {len(names) * (len(names) - 1)} ordered pairs of nodes accept",
            "; ".join(problems) or f"{pairs} answered",
            "the munge key must be the same on all nodes, the clocks too, and munge must run",
        )
    record_property("observed", f"{plural(pairs, 'ordered pair')} of {plural(len(names), 'node')}")


def _decode_script(tokens: Mapping[str, str], receiver: str) -> str:
    """Decode every token but the receiver's own. The tokens travel by standard input."""
    return "\n".join(
        f"echo '{_SENDER}{sender}'; unmunge --keys=STATUS,UID 2>&1 <<'end' || :\n{token}\nend"
        for sender, token in tokens.items()
        if sender != receiver
    )


def verdicts(text: str) -> dict[str, str]:
    """For each sender in the output of the decode script: empty when its credential was accepted as that of
    the right account, otherwise what munge says."""
    found = {}
    for block in text.split(_SENDER)[1:]:
        sender, _, answer = block.partition("\n")
        fields = {
            key: value.strip() for key, _, value in (line.partition(":") for line in answer.splitlines())
        }
        account = fields.get("UID", "").partition(" ")[0]
        if fields.get("STATUS") != "Success (0)":
            found[sender] = fields.get("STATUS") or _last(answer)
        else:
            found[sender] = "" if account == SSH_USER else f"it decodes as {account or 'nobody'}"
    return found


@fault("a node has another munge key", "nodes.munge")
def another_key(live: Live) -> Iterator[None]:
    name = last_worker(live).name
    kept = f"{MUNGE_KEY}.hpcstate-kept"
    try:
        live.run(
            name,
            # The old key is moved, never rewritten; the new one is secret from the start.
            f"set -e; [ -e {kept} ] || mv {MUNGE_KEY} {kept}\n"
            f"install -o munge -g munge -m 0400 /dev/null {MUNGE_KEY}\n"
            f"head -c 1024 /dev/urandom >{MUNGE_KEY}; systemctl restart munge",
            user="root",
        )
        yield
    finally:
        live.run(name, f"[ ! -e {kept} ] || mv -f {kept} {MUNGE_KEY}; systemctl restart munge", user="root")
        begin(live, name, "slurmd", "restart")
        wait_idle(live)


@dataclass(frozen=True)
class Clock:
    """How far a node's clock is ahead of this machine's, in seconds, and how well that is known."""

    ahead: float
    uncertainty: float


def test_clocks(live: Live, record_property: RecordProperty) -> None:
    """The clocks of all nodes are within 1 s of each other"""
    names = _names(live)
    with ThreadPoolExecutor(max_workers=min(16, len(names))) as pool:
        observed = dict(zip(names, pool.map(lambda name: _clock(live, name), names), strict=True))
    apart = {
        f"{one} and {two}": _least_difference(observed[one], observed[two])
        for one, two in itertools.combinations(names, 2)
    }
    far = {pair: seconds for pair, seconds in apart.items() if seconds > CLOCK_SECONDS}
    if far:
        raise CheckFailed(
            f"less than {CLOCK_SECONDS:.0f} s between any two nodes",
            ", ".join(f"{pair} differ by {seconds:.1f} s" for pair, seconds in far.items()),
            "`chronyc tracking` on the node tells whether chrony is running and what it follows",
        )
    spread = max(clock.ahead for clock in observed.values()) - min(clock.ahead for clock in observed.values())
    accuracy = max(clock.uncertainty for clock in observed.values())
    record_property("observed", f"at most {spread:.2f} s apart (measured to within {accuracy:.2f} s)")


def _clock(live: Live, name: str) -> Clock:
    # The best of three: a busy emulator can hold one answer back for long.
    samples = []
    for _ in range(3):
        before = time.time()
        there = float(live.run(name, "date +%s.%N").stdout)
        after = time.time()
        samples.append(Clock(there - (before + after) / 2, (after - before) / 2))
    return min(samples, key=lambda sample: sample.uncertainty)


def _least_difference(one: Clock, two: Clock) -> float:
    """The difference that is certain, whatever the answers' delays were."""
    return max(0.0, abs(one.ahead - two.ahead) - one.uncertainty - two.uncertainty)


@fault("chrony is stopped and a node's clock is 30 s ahead", "nodes.clocks")
def clock_off(live: Live) -> Iterator[None]:
    name, controller = last_worker(live).name, live.cluster.controller.name
    # In a container the clock is that of the whole machine.
    live.run(name, "systemd-detect-virt --quiet --vm && ! systemd-detect-virt --quiet --container")
    try:
        live.run(name, "systemctl stop chrony; date --set=@$(( $(date +%s) + 30 ))", user="root")
        yield
    finally:
        now = live.run(controller, "date +%s.%N").stdout.strip()
        live.run(name, f"date --set=@{now}; systemctl start chrony", user="root")
        wait_idle(live)


def test_configuration(live: Live, controller: Node, record_property: RecordProperty) -> None:
    """slurm.conf is the same on all nodes"""
    names = _names(live)
    answers = live.run_each(dict.fromkeys(names, f"sha256sum <{SLURM_CONF}"), check=False)
    digests = {name: answer.stdout[:12] or _last(answer.stderr) for name, answer in answers.items()}
    reference = digests[controller.name]
    if set(digests.values()) != {reference} or answers[controller.name].code != 0:
        raise CheckFailed(
            f"one {SLURM_CONF}",
            ", ".join(f"{name} {digest}" for name, digest in digests.items()),
            DEPLOY_AGAIN,
        )
    record_property("observed", f"sha256 {reference}… on {plural(len(names), 'node')}")


@fault("slurm.conf of a node has another comment", "nodes.configuration", "nodes.runs")
def other_comment(live: Live) -> Iterator[None]:
    with edited(live, [Edit(last_worker(live).name, SLURM_CONF, append("# hpcstate: fault"))]):
        yield


def test_daemons(
    live: Live, controller: Node, nodes: tuple[Node, ...], record_property: RecordProperty
) -> None:
    """No systemd unit has failed, and the daemons of Slurm and munge run"""
    units: dict[str, tuple[str, ...]] = {node.name: ("munge", "slurmd") for node in nodes}
    units |= {node.name: ("munge",) for node in live.nodes if node.role == "login"}
    units[controller.name] = ("munge", "slurmctld")
    scripts = {
        name: f"systemctl --failed --plain --no-legend | awk '{{ print $1, \"failed\" }}'\n"
        f'for u in {" ".join(wanted)}; do s=$(systemctl is-active $u) || echo "$u $s"; done'
        for name, wanted in units.items()
    }
    # A silent one hides nothing of the others.
    silent = [name for name in scripts if not live.answers(name)]
    asked = {name: script for name, script in scripts.items() if name not in silent}
    answers = live.run_each(asked, check=False)
    bad = {name: sorted(set(answer.stdout.splitlines())) for name, answer in answers.items()}
    findings = [f"{name}: {line}" for name, lines in bad.items() for line in lines]
    if findings:
        findings += [f"{name} does not answer on SSH" for name in silent]
        raise CheckFailed(
            "every unit active, none failed",
            "; ".join(findings),
            "`systemctl status UNIT` on the node says why",
        )
    for name in silent:
        live.demand(name)
    record_property(
        "observed",
        f"{sum(map(len, units.values()))} daemons active on {plural(len(units), 'node')}, no unit failed",
    )


@fault("a unit fails on a node", "nodes.daemons")
def failing_unit(live: Live) -> Iterator[None]:
    name = last_worker(live).name
    try:
        live.run(name, "systemd-run --quiet --wait --unit=hpcstate-fault false", user="root", check=False)
        yield
    finally:
        live.run(name, "systemctl reset-failed hpcstate-fault.service", user="root", check=False)


@fault("munge is stopped on a node", "nodes.daemons")
def munge_stopped(live: Live) -> Iterator[None]:
    with stopped(live, last_worker(live).name, "munge"):
        yield


def _names(live: Live) -> list[str]:
    return [node.name for node in live.nodes]


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
