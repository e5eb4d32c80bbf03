"""The way of a job into a container: srun --container, and what container-exec must refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate import programs
from hpcstate.check.jobs import new_name, srun, together
from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster, Node
from hpcstate.node.apptainer_files import OCI_CONF, POLICY
from hpcstate.node.ssh import Live
from tests.suites.breaking import Edit, edited, last_worker, moved
from tests.suites.inside import CONTAINER, SECONDS, demand_all
from tests.suites.slurm import reports

GIVEN = "with=two"

_REPORT = (
    'echo "{\\"host\\": \\"$(uname -n)\\", \\"container\\": \\"${APPTAINER_NAME:-}\\", '
    '\\"user\\": \\"$(id -un)\\", \\"given\\": \\"$HPCSTATE_GIVEN\\", \\"words\\": \\"$*\\", '
    '\\"step\\": \\"$SLURM_JOB_ID $SLURM_STEP_NUM_TASKS\\", \\"pmix\\": \\"${PMIX_NAMESPACE:-}\\"}"'
)
"""A line of JSON, without a single quote: Slurm 24.11 loses its way in those (docs/container-runtime.md)."""

REFUSED = {"unsigned", "foreign", "altered"}


@pytest.mark.needs(containers=(CONTAINER,))
def test_srun_container(live: Live, nodes: tuple[Node, ...], record_property: RecordProperty) -> None:
    """srun --container=NAME runs a command in the container, with its words, environment and PMIx"""
    seen = []
    for place in together(live, nodes):
        arguments = (
            *place,
            "--ntasks-per-node=1",
            "--mem=300M",
            f"--export=ALL,HPCSTATE_GIVEN={GIVEN}",
            f"--container={CONTAINER}",
        )
        said = srun(live, arguments, ("sh", "-c", _REPORT, "sh", "two words", "$x"), seconds=SECONDS)
        seen += reports(said)
    demand_all(live, [report["host"] for report in seen])
    wanted = {"container": f"{CONTAINER}.sif", "user": "hpc", "given": GIVEN, "words": "two words $x"}
    wrong = [
        report for report in seen if not report["pmix"] or any(report[key] != wanted[key] for key in wanted)
    ]
    if wrong:
        raise CheckFailed(
            ", ".join(f"{key} {value!r}" for key, value in wanted.items()),
            "; ".join(f"{report['host']}: {_shown(report)}" for report in wrong),
            f"{OCI_CONF} on its node makes container-exec Slurm's runtime (docs/container-runtime.md)",
        )
    record_property("observed", f"{CONTAINER}.sif on {', '.join(sorted(report['host'] for report in seen))}")


def _shown(report: dict[str, str]) -> str:
    return ", ".join(f"{key} {value!r}" for key, value in report.items() if key != "host")


@pytest.mark.needs(containers=(CONTAINER,))
def test_signatures(live: Live, cluster: Cluster, record_property: RecordProperty) -> None:
    """container-exec refuses a .sif without a signature, with somebody else's, and one that was altered"""
    if not cluster.containers.require_signature:
        pytest.skip("the cluster file requires no signatures (containers.require_signature: false)")
    name = last_worker(live).name
    script = signature_script(f"/var/tmp/{new_name()}")
    seen = parse_answers(live.run(name, script, user="hpc", timeout=SECONDS).stdout)
    findings = [
        f"{case}: {seen.get(case, (-1, 'no answer'))[1] or 'it was not refused'}"
        for case in sorted(REFUSED)
        if not _is_refusal(*seen.get(case, (-1, "")))
    ]
    if seen.get("signed", (-1, ""))[0] != 0:
        findings.append(f"the cluster's own: {seen.get('signed', (-1, 'no answer'))[1]}")
    if findings:
        raise CheckFailed(
            "exit code 2 for every one but the cluster's own",
            "; ".join(findings),
            f"{POLICY} says whether signatures are required, containers.pub.pem beside it whose",
        )
    record_property(
        "observed", f"{name}: {', '.join(sorted(REFUSED))} refused, {CONTAINER} of the registry runs"
    )


def _is_refusal(code: int, said: str) -> bool:
    return code == 2 and "signature" in said


def signature_script(folder: str) -> str:
    """The program signatures.sh: make three files in ``folder``, tell what container-exec makes of each."""
    words = (folder, CONTAINER)
    return programs.command(Path(__file__).with_name("signatures.sh"), arguments=words)


def parse_answers(text: str) -> dict[str, tuple[int, str]]:
    """For each case the exit code of container-exec and what it said first."""
    found = {}
    for line in text.splitlines():
        case, code, said = [*line.split(" ", 2), "", ""][:3]
        if case in REFUSED | {"signed"} and code.isdecimal():
            found[case] = (int(code), said)
    return found


@fault("oci.conf is missing on a node", "container-runtime.srun_container", needs_containers=(CONTAINER,))
def without_oci_conf(live: Live) -> Iterator[None]:
    with moved(live, last_worker(live).name, OCI_CONF):
        yield


@fault(
    "a node does not require signatures",
    "container-runtime.signatures",
    "container-runtime.configuration",
    needs_containers=(CONTAINER,),
)
def without_policy(live: Live) -> Iterator[None]:
    name = last_worker(live).name
    change = "require_signature=no"
    with edited(live, [Edit(name, POLICY, lambda text: text.replace("require_signature=yes", change))]):
        yield
