"""What `./hpc up` does after the images: start, deploy, check, and the summary a person wants to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace as replaced
from functools import cache, partial
from pathlib import Path

from hpcstate import schema
from hpcstate.check.page import by_suite, reasons, write_page
from hpcstate.check.proof import Proof, configuration_digest, counted, read_proof, write_proof
from hpcstate.check.prove import prove, result_text
from hpcstate.check.runner import load_suites
from hpcstate.check.suite import CheckResult
from hpcstate.check.target import boots_of, slurm_cluster
from hpcstate.cluster import drains, lifecycle, replace, status, unit_causes
from hpcstate.cluster.pyinfra import AS_USUAL, DeployChoice, DeployReport
from hpcstate.cluster.pyinfra import deploy as run_deploy
from hpcstate.cluster.replace import Due
from hpcstate.cluster.roll import order, roll, slurm_nodes
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor.machine import summed
from hpcstate.log import LOG
from hpcstate.model import Cluster, Description
from hpcstate.node.ssh import Live
from hpcstate.paths import ClusterPaths, named
from hpcstate.terminal import Say, plural


def say(text: str) -> None:
    """One line below a stage's heading."""
    print(f"    {text}", flush=True)
    LOG.info("%s", text)


@cache
def _description(file: Path) -> Description:
    """What ``file`` said when this run began."""
    return schema.load(file)


def _refuse_edited(file: Path) -> None:
    """Raises HpcstateError where ``file`` is another one than this run began with: a deploy reads it itself,
    and would tell Slurm of machines that the start before it has not made."""
    if schema.load(file).clusters != _description(file).clusters:
        raise HpcstateError(
            "the cluster file was changed while this run went on; what it said before is done up to here",
            where=str(file),
            hint=f"`./hpc up {file}` does what it says now",
        )


def start(file: Path) -> None:
    """Power on every cluster of ``file``. Raises HpcstateError with the consoles of silent nodes."""
    for cluster in _description(file).clusters:
        done = lifecycle.start(cluster, file, say)
        if done.changed:
            _void_proof(cluster)
        else:
            say(f"{cluster.name}: all {len(done.running)} nodes run already")
        for line in summed(done.differences):
            say(line)
        _roll(cluster, file, order(cluster, done.differences).before)


def deploy(file: Path, choice: DeployChoice = AS_USUAL) -> None:
    """Run deploys/full_stack.py; nodes that have to become smaller follow, and a roll of images that was
    interrupted goes on. ``choice`` is a person's. Raises HpcstateError naming the nodes that failed and what
    they said.
    """
    report = _deploy(file, say, choice)
    if not report.failed_hosts:
        for cluster in _description(file).clusters:
            _roll(cluster, file, order(cluster, lifecycle.different(cluster)).after)
            _replace_disks(cluster, file, choice)
            for line in drains.left(slurm_nodes(cluster), cluster.controller.name).values():
                say(line)
    if report.failed_hosts:
        messages = "\n".join(f"    {message}" for message in report.messages)
        log = ClusterPaths.of(_description(file).clusters[0].name).root / "deploy.log"
        cause = f"{report.messages[0]}\n" if report.messages else ""
        raise HpcstateError(
            f"{cause}the deploy failed on {', '.join(report.failed_hosts)}; the others are done\n{messages}",
            hint=f"everything pyinfra said is in {log}; the next run goes on from here",
        )


def _deploy(file: Path, say: Say, choice: DeployChoice) -> DeployReport:
    """The deploy itself, said; what was proven before a change is not proven after it."""
    _refuse_edited(file)
    report = run_deploy(_description(file), say, choice=choice)
    report = replaced(report, messages=unit_causes.of_nodes(report.messages, _description(file)))
    say(deploy_text(report))
    if report.changed or report.failed_hosts:
        for cluster in _description(file).clusters:
            _void_proof(cluster)
    return report


def deploy_now(file: Path, say: Say, choice: DeployChoice = AS_USUAL) -> tuple[str, ...]:
    """Run deploys/full_stack.py in the middle of a roll or a removal; the names of the nodes that failed."""
    report = _deploy(file, say, choice)
    for message in report.messages:
        say(message)
    return report.failed_hosts


def out_of_slurm(cluster: Cluster, file: Path, names: Sequence[str], say: Say) -> None:
    """Take nodes that ``file`` no longer has out of Slurm, by a deploy, before their machines go. Nothing
    where slurmctld does not answer or does not know them. Raises HpcstateError where it still has one."""
    if not set(names) & slurm_nodes(cluster).keys():
        return
    say(f"{', '.join(names)}: out of Slurm first, by a deploy")
    deploy_now(file, say)
    if still := [name for name in names if name in slurm_nodes(cluster)]:
        raise HpcstateError(
            f"Slurm still has {', '.join(still)}; no machine was removed",
            where=cluster.name,
            hint=f"`./hpc up {file}` says what is in the deploy's way; then `hpcstate start {file} --remove`",
        )


def _replace_disks(cluster: Cluster, file: Path, choice: DeployChoice) -> None:
    """Go on with a roll of images that was interrupted. A new one is for a person to begin: what users left
    on the disks of nodes goes with them."""
    if cluster.kind != "hpc":
        return
    work = replace.look(cluster)
    replace.release_left(cluster, work)
    if work.unfinished:
        _void_proof(cluster)
        only = Due(work.unfinished, (), {})
        replace.replace(cluster, file, only, lambda: deploy_now(file, say, choice), say)
    for line in work.lines(cluster, str(file)) if work.wait else ():
        say(line)


def deploy_text(report: DeployReport) -> str:
    """What changed, in one paragraph."""
    total = len(report.operations)
    named = [f"      {line}" for line in report.named]
    if named:
        named.insert(0, "left as it is, because somebody may want it so (docs/drift.md):")
    if not report.changed:
        return "\n".join((f"nothing to change: {plural(total, 'operation')} compared", *named))
    lines = [f"{len(report.changed)} of {plural(total, 'operation')} changed something:"]
    lines += [f"      {operation.name}  ({', '.join(operation.changed)})" for operation in report.changed]
    return "\n".join((*lines, *named))


def _roll(cluster: Cluster, file: Path, names: Sequence[str]) -> None:
    if names:
        _void_proof(cluster)
        roll(cluster, file, names, say)


def _void_proof(cluster: Cluster) -> None:
    """What was proven before a change is not proven after it."""
    paths = ClusterPaths.of(cluster.name)
    paths.proof.unlink(missing_ok=True)
    paths.proof_page.unlink(missing_ok=True)


def check(file: Path) -> None:
    """Prove the cluster, unless it is proven: a complete proof of this very configuration stands until a
    start or a deploy changes something, or a node is in another boot. Raises HpcstateError when a check
    failed.
    """
    description = _description(file)
    if description.cluster("hpc") is None:
        say("no Slurm cluster in this file: nothing to prove")
        return
    cluster = slurm_cluster(description)
    at = ClusterPaths.of(cluster.name).proof
    known = read_proof(at)
    same = known is not None and known.configuration == configuration_digest(cluster)
    if known and known.complete and not _bad(known) and same and known.boots == _boots(cluster):
        say(f"proven at {known.when:%Y-%m-%d %H:%M:%S}, and nothing was changed since")
        say(f"`hpcstate check {file}` proves it again")
        return
    suites = load_suites()
    paths = ClusterPaths.of(cluster.name)
    proof = prove(
        description.path,
        cluster,
        suites,
        suites.checks,
        say=say,
        tell=partial(_tell, file),
        remember=paths.failed_checks,
    )
    write_proof(proof, paths.proof)
    write_page(proof, cluster, suites, paths.proof_page)
    bad = _bad(proof)
    if bad:
        say(f"{counted(result.outcome for result in proof.results)}; all of it: {_short(paths.proof_page)}")
        names = ", ".join(result.name for result in bad)
        raise HpcstateError(
            f"{len(bad)} of {plural(len(proof.results), 'check')} did not pass: {names}",
            hint=f"`hpcstate check {file} --lf` makes these again",
        )


def _tell(file: Path, result: CheckResult) -> None:
    """What did not pass is said in full at once; the rest is in the summary, the page and the log."""
    text = named(result_text(result), file)
    if result.outcome in ("failed", "error"):
        say(text)
    else:
        LOG.info("%s", text)


def _boots(cluster: Cluster) -> dict[str, str]:
    """The boots that the nodes are in; none of one that does not answer."""
    with Live(cluster) as live:
        live.reach()
        return boots_of(live)


def _bad(proof: Proof) -> list[CheckResult]:
    return [result for result in proof.results if result.outcome in ("failed", "error")]


def summary(file: Path, stages: Mapping[str, float]) -> str:
    """Nodes, what was proven, durations in seconds, and what to type next."""
    description = _description(file)
    parts = [""]
    parts += [named(status.as_text(status.observe(cluster)), file) for cluster in description.clusters]
    hpc = description.cluster("hpc")
    proof = read_proof(ClusterPaths.of(hpc.name).proof) if hpc else None
    if hpc and proof and proof.configuration == configuration_digest(hpc):
        parts.append(proof_text(proof))
    parts.append("Time: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in stages.items()))
    parts.append(next_steps(file, description.clusters[0]))
    return "\n\n".join(parts)


def proof_text(proof: Proof) -> str:
    """What was proven, a line a suite, and why the rest was not, a line a reason."""
    suites = by_suite(proof.results)
    lines = [f"Proven on the live cluster: {counted(result.outcome for result in proof.results)}"]
    width = max((len(suite.name) for suite in suites), default=0)
    lines += [f"  {suite.name:<{width}}  {suite.counts}" for suite in suites]
    if skipped := reasons(proof.results):
        lines.append("Skipped:")
        lines += [f"  {number:>3}  {reason}" for reason, number in skipped]
    at = _short(ClusterPaths.of(proof.cluster).proof_page)
    lines.append(f"Each check by name: hpcstate check {proof.file} --list; what was seen: {at}")
    return "\n".join(lines)


def next_steps(file: Path, cluster: Cluster) -> str:
    """The commands to type now."""
    lines = [
        "Next:",
        f"  ./hpc ssh {file}",
        f"      opens {cluster.controller.name}; there: sudo -iu hpc srun -N{len(cluster.workers)} hostname",
    ]
    lines += [f"  ./hpc {command} {file}" for command in ("status", "check", "stop", "destroy")]
    return "\n".join(lines)


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
