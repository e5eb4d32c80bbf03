"""What the cluster file says of accounts is in force, and what somebody made by hand stays. The long lab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate.model import Cluster
from hpcstate.node.ssh import Live
from tests.lab.conftest import pyinfra, results
from tests.lab.test_6_stop_under_jobs import wait_for

SACCTMGR = "sacctmgr --noheader --parsable2"
DECLARED = """\
    accounting:
      accounts:
        - {name: physics, fairshare: 3}
        - {name: narrow, fairshare: 1, grp_tres: cpu=1, max_tres_per_job: mem=500M}
      users:
        - {name: alice, accounts: [physics], fairshare: 9}
        - {name: bob, accounts: [physics], fairshare: 1}
        - {name: hpc, accounts: [default, narrow], qos: [normal, refusing]}
      qos:
        - {name: refusing, flags: [DenyOnLimit], max_tres_per_job: cpu=1}
"""


@pytest.fixture(scope="module", autouse=True)
def declared(live: Live, cluster_file: Path) -> Iterator[None]:
    """The file with limits; a file without any at the end of it, then as it was."""
    before = cluster_file.read_text()
    head = before.partition("    accounting:\n")[0]
    assert head != before
    try:
        cluster_file.write_text(head + DECLARED)
        done = pyinfra(cluster_file, "-y")
        assert done.returncode == 0, done.stderr
        yield
    finally:
        live.run(live.cluster.controller.name, "scancel --user=hpc", user="hpc", check=False)
        cluster_file.write_text(before)
        assert pyinfra(cluster_file, "-y").returncode == 0


def submit(live: Live, *words: str) -> str:
    script = " ".join(("sbatch --parsable --output=/dev/null", *words, "--wrap='sleep 600'"))
    return live.run(live.cluster.controller.name, script, user="hpc").stdout.strip()


def reason(live: Live, job: str) -> str:
    script = f"sleep 5; squeue --noheader --jobs={job} --format=%r"
    return live.run(live.cluster.controller.name, script, user="hpc").stdout.strip()


def test_a_second_run_changes_nothing(live: Live, cluster_file: Path) -> None:
    assert results(pyinfra(cluster_file, "--json", "-y").stdout) == {}


def test_a_job_over_the_limit_of_its_account_waits(live: Live) -> None:
    first = submit(live, "--account=narrow --ntasks=1 --mem=50M")
    assert wait_for(live, first, "RUNNING")
    second = submit(live, "--account=narrow --ntasks=1 --mem=50M")
    assert reason(live, second) == "AssocGrpCpuLimit"
    beside = submit(live, "--ntasks=1 --mem=50M")
    assert wait_for(live, beside, "RUNNING")
    live.run(live.cluster.controller.name, f"scancel {first}", user="hpc")
    assert wait_for(live, second, "RUNNING")
    live.run(live.cluster.controller.name, f"scancel {second} {beside}", user="hpc")


def test_a_job_over_the_limit_of_a_job_waits_and_says_why(live: Live) -> None:
    job = submit(live, "--account=narrow --ntasks=1 --mem=600M")
    assert reason(live, job) == "AssocMaxMemPerJob"
    live.run(live.cluster.controller.name, f"scancel {job}", user="hpc")


def test_a_qos_that_denies_refuses(live: Live) -> None:
    script = "sbatch --qos=refusing --ntasks=2 --mem=50M --wrap=true"
    done = live.run(live.cluster.controller.name, script, user="hpc", check=False)
    assert done.code != 0 and "QOSMaxCpuPerJobLimit" in done.stderr


def test_shares_order_users(live: Live) -> None:
    script = "sshare --all --noheader --parsable2 --accounts=physics --format=User,NormShares"
    said = live.run(live.cluster.controller.name, script, user="root").stdout
    shares = {
        user: float(share)
        for user, _, share in (line.strip().partition("|") for line in said.split())
        if user
    }
    assert shares["alice"] > 8 * shares["bob"] > 0


def test_what_somebody_made_stays_and_is_named(live: Live, cluster: Cluster, cluster_file: Path) -> None:
    name = cluster.controller.name
    manage = "sacctmgr --immediate"
    live.run(name, f"{manage} add account name=byhand cluster={cluster.name}", user="root")
    live.run(
        name, f"{manage} modify account where name=physics cluster={cluster.name} set MaxJobs=7", user="root"
    )
    try:
        done = pyinfra(cluster_file, "-y")
        assert done.returncode == 0
        assert "the account byhand" in done.stdout + done.stderr
        assert "MaxJobs of the account physics" in done.stdout + done.stderr
        seen = live.run(
            name, f"{SACCTMGR} show assoc account=physics,byhand format=account,user,maxjobs", user="root"
        )
        assert {"byhand||", "physics||7"} <= set(seen.stdout.split())
    finally:
        live.run(name, f"{manage} remove account where name=byhand", user="root")
        live.run(
            name,
            f"{manage} modify account where name=physics cluster={cluster.name} set MaxJobs=-1",
            user="root",
        )


def test_an_account_with_jobs_stays_until_they_end(live: Live, cluster: Cluster, cluster_file: Path) -> None:
    job = submit(live, "--account=narrow --ntasks=1 --mem=50M")
    assert wait_for(live, job, "RUNNING")
    before = cluster_file.read_text()
    after = "".join(line for line in before.splitlines(keepends=True) if "name: narrow" not in line)
    there = f"{SACCTMGR} show assoc account=narrow format=account"
    try:
        cluster_file.write_text(after.replace("[default, narrow]", "[default]"))
        done = pyinfra(cluster_file, "-y")
        assert done.returncode == 0 and "jobs of hpc run or wait there" in done.stdout + done.stderr
        assert "narrow" in live.run(cluster.controller.name, there, user="root").stdout
        live.run(cluster.controller.name, f"scancel {job}; sleep 10", user="hpc")
        assert pyinfra(cluster_file, "-y").returncode == 0
        assert live.run(cluster.controller.name, there, user="root").stdout.strip() == ""
    finally:
        cluster_file.write_text(before)
        assert pyinfra(cluster_file, "-y").returncode == 0
