"""``hpcstate usage`` against a controller that answers from a table."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from hpcstate import cli, paths
from hpcstate.cli import COULD_NOT_RUN, OK
from hpcstate.commands.usage import job_text
from hpcstate.node import ssh
from hpcstate.run import Result
from hpcstate.slurm.usage import parse_job
from tests.unit.fake_live import FakeLive, failing
from tests.unit.slurm.test_usage import JOB_13, SUMS

GPU = str(paths.ROOT / "inventories" / "gpu.yaml")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that the controller was given; those with an error in them fail with it."""
    seen: list[str] = []

    def answer(node: str, script: str) -> Result | str:
        seen.append(script)
        if "nobody" in script:
            return failing(1, "sacct: error: Invalid user id: nobody")
        if "--accounts=down" in script:
            return failing(1, "sacct: error: Connection refused")
        return (JOB_13 if "--jobs=13" in script else "") if "--jobs=" in script else SUMS

    monkeypatch.setattr(ssh, "Live", lambda cluster: nullcontext(FakeLive(answer, cluster)))
    return seen


def test_the_table(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["usage", GPU]) == OK
    assert capsys.readouterr().out.splitlines() == [
        "  ACCOUNT  USER   JOBS  CPU HOURS  GPU HOURS",
        "  ml       alice  4     4.5        4.0",
        "  root     root   1     2.0        2.0",
        "  root     bob    1     10.0       0.0",
        "  all             6     16.5       6.0",
    ]
    assert "--starttime=now-30days" in asked[0]


def test_for_programs(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "usage",
        GPU,
        "--json",
        "--since",
        "2026-11-01",
        "--user",
        "alice",
        "--user",
        "bob",
        "--account",
        "ml",
    ]
    assert cli.main(words) == OK
    assert json.loads(capsys.readouterr().out)[0] == {
        "account": "ml",
        "user": "alice",
        "jobs": 4,
        "cpu_hours": 4.5,
        "gpu_hours": 4.0,
    }
    assert "--starttime=2026-11-01 --endtime=now --user=alice,bob --accounts=ml" in asked[0]


def test_one_job(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["usage", GPU, "--job", "13"]) == OK
    assert capsys.readouterr().out.splitlines() == [
        "job 13 of bob in root: COMPLETED",
        "  time    0:01:40 of 0:05:00",
        "  CPUs    1, 0% of their time used",
        "  memory  0.02 GiB, 0.00 GiB used (17%)",
    ]
    assert cli.main(["usage", GPU, "--job", "13", "--json"]) == OK
    found = json.loads(capsys.readouterr().out)
    assert (found["memory_used"], round(found["memory_share"], 2)) == (3436 << 10, 0.17)


def test_a_job_that_has_not_begun() -> None:
    found = parse_job("14||||0|UNLIMITED|cpu=1,gres/gpu=2,mem=1G|00:00:00||14|lab||0:0|1\n", 14)
    assert found
    assert job_text(found).splitlines() == [
        "job 14 of - in -: ",
        "  time    0:00:00 of no limit",
        "  CPUs    1, none of their time used",
        "  memory  1.00 GiB, use not measured",
        "  GPUs    2; how busy they were is not recorded",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--job", "99"], "job 99 is not recorded"),
        (["--user", "nobody"], "does not know that user"),
        (["--account", "down"], "--suite accounting"),
        (["--since", "yesterday"], "12h, 30d, 2w or 2026-11-01[T08:00] is expected"),
        (["--job", "x"], "the number of a job is expected"),
        (["--user", "a;b"], "'a;b' is no name"),
    ],
)
def test_what_cannot_be_told(
    asked: list[str], capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    try:
        code = cli.main(["usage", GPU, *words])
    except SystemExit as error:
        code = error.code  # type: ignore[assignment]
    assert code == COULD_NOT_RUN
    assert said in " ".join(capsys.readouterr().err.split())


def test_without_accounting_the_next_step_is_to_turn_it_on(
    asked: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "off.yaml"
    file.write_text(f"{Path(GPU).read_text()}    accounting: {{enabled: false}}\n")
    assert cli.main(["usage", str(file), "--account", "down"]) == COULD_NOT_RUN
    assert "accounting: {enabled: true}" in capsys.readouterr().err


def test_a_file_without_slurm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cloud.yaml"
    file.write_text(
        "clusters:\n  cloud:\n    name: c\n    network: {subnet: 10.1.2.0/24}\n"
        "    control_plane: {}\n    worker_nodes: [{}]\n"
    )
    assert cli.main(["usage", str(file)]) == COULD_NOT_RUN
    assert "describes no Slurm cluster" in capsys.readouterr().err
