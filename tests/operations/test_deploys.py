"""Whole deploys, planned by pyinfra for hosts that only pretend (@fake): which operations, where, in order.

pyinfra runs as a process of its own: as a program it patches the standard library (gevent).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploys.util import context
from hpcstate import paths
from hpcstate.paths import ClusterPaths

INVENTORY = """
from pathlib import Path
from hpcstate import schema
from hpcstate.cluster import inventory
_groups = inventory.groups(schema.load(Path({file!r})))
def _fake(host):
    name, data = host
    return "@fake/" + name, {{k: v for k, v in data.items() if not k.startswith("ssh_")}}
globals().update({{group: [_fake(host) for host in hosts] for group, hosts in _groups.items()}})
"""

IMAGE = """
_host = ("@fake/image-build", {"build_mode": True})
controller = compute = [_host]
"""

ALL = {"controller", "compute-01", "compute-02"}
NODES = {"compute-01", "compute-02"}

FULL_STACK = [
    ("base.py | The way in", set()),
    ("base.py | Names, time, users, firewall and SSH", ALL),
    ("base.py | No rules of login of another role", set()),
    ("base.py | What is in force", ALL),
    ("base.py | Firewall, time and rotation of logs are on", ALL),
    ("munge.py | The cluster's munge key", ALL),
    ("munge.py | munge is on", ALL),
    ("containers.py | Apptainer is installed", ALL),
    ("containers.py | Containers: settings, policy and container-exec", ALL),
    ("containers.py | Subordinate numbers of the users", ALL),
    ("vacate.py | Drain where slurmd must restart", set()),
    ("vacated.py | Nodes are vacated", set()),
    ("vacated.py | No job is in slurmctld's way", set()),
    ("vacated.py | slurmctld may change", set()),
    ("vacated.py | As it was where slurmctld may not change", set()),
    ("homes_change.py | Homes that come from elsewhere", set()),
    ("gpu.py | Simulated GPUs", NODES),
    ("gpu.py | Declared GPUs are there", NODES),
    ("All nodes are ready for slurmctld", set()),
    ("data.py | Data volume", {"controller"}),
    ("data.py | Quotas of users", set()),
    ("data.py | To whom the homes are served", {"controller"}),
    ("data.py | Homes are served", {"controller"}),
    ("users.py | What the directory leaves to the file", set()),
    ("users.py | Users and groups", set()),
    ("accounting.py | slurmdbd and its database", {"controller"}),
    ("controller.py | slurmctld and its configuration", {"controller"}),
    ("controller.py | Partitions as slurm.conf says", set()),
    ("controller.py | No relay of mails that the file has not", set()),
    ("slurmctld is ready for the nodes", set()),
    ("homes.py | Units of the homes", NODES),
    ("homes.py | Homes are mounted", NODES),
    ("mounts.py | Mounts", set()),
    ("associations.py | Accounts, users and QOS", set()),
    ("compute.py | cgroup controllers", NODES),
    ("compute.py | slurmd and its configuration", NODES),
    ("health_off.py | Nothing watches the node", set()),
    ("work.py | seff, modules, message of the day", ALL),
    ("work.py | Packages of the file", set()),
    ("directory.py | People of the directory", set()),
    ("timers.py | Timers", set()),
    ("registry.py | Registry of containers", ALL),
    ("runs.py | Slurm's note of what the node runs", set()),
    ("reservations.py | Reservations", set()),
    ("monitoring.py | Packages of what watches", set()),
    ("monitoring.py | Nothing watches that the file has not", set()),
    ("monitoring.py | No datacenter-gpu-manager-exporter that the file has not", set()),
    ("monitoring.py | No grafana that the file has not", set()),
    ("named.py | What is left as it is", set()),
    ("named.py | What Apptainer lacks", set()),
]
"""The operations for hosts that have nothing yet, in order, and the hosts that each would change."""


def pyinfra(
    tmp_path: Path, inventory: str, deploy: str, *options: str, cwd: Path = paths.ROOT
) -> subprocess.CompletedProcess[str]:
    """pyinfra's plan for ``deploy`` on the hosts of ``inventory``."""
    file = tmp_path / "inventory.py"
    file.write_text(inventory)
    for cluster in ("gpu", "passthrough"):
        key = tmp_path / ClusterPaths.of(cluster).munge_key.relative_to(paths.BUILD)
        key.parent.mkdir(parents=True, exist_ok=True)
        key.write_bytes(b"k" * 1024)
    environment = {
        **os.environ,
        "HPCSTATE_BUILD": str(tmp_path),
        "PYINFRA_FAKE_DELAY": "0",
        "PYINFRA_FAKE_DELAY_JITTER": "0",
        "PYTHONPATH": str(paths.ROOT),
    }
    program = [sys.executable, "-m", "pyinfra", str(file), deploy, "--dry", "--json", *options]
    return subprocess.run(
        program, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def plan(
    tmp_path: Path, inventory: str, deploy: str, *options: str, cwd: Path = paths.ROOT
) -> list[tuple[str, set[str]]]:
    """What pyinfra would do: the operations in order, and the hosts that each would change."""
    done = pyinfra(tmp_path, inventory, deploy, *options, cwd=cwd)
    assert done.returncode == 0, done.stderr
    planned: list[dict[str, Any]] = json.loads(done.stdout)["plan"]
    return [
        (
            operation["name"].removeprefix(f"{paths.ROOT}/").removeprefix("deploys/"),
            {host.removeprefix("@fake/") for host in operation["hosts_with_change"]},
        )
        for operation in planned
    ]


def inventory_of(name: str) -> str:
    return INVENTORY.format(file=str(paths.ROOT / "inventories" / f"{name}.yaml"))


def test_the_full_stack_has_its_operations_in_order(tmp_path: Path) -> None:
    assert plan(tmp_path, inventory_of("gpu"), "deploys/full_stack.py") == FULL_STACK


def test_some_nodes_can_be_asked_without_the_others(tmp_path: Path) -> None:
    """What `hpcstate plan` does where not all of them run (cluster/plan_look.py)."""
    some = {"controller", "compute-01"}
    limits = [word for name in sorted(some) for word in ("--limit", f"@fake/{name}")]
    planned = plan(tmp_path, inventory_of("gpu"), "deploys/full_stack.py", *limits)
    assert planned == [(name, hosts & some) for name, hosts in FULL_STACK]


@pytest.mark.parametrize("deploy", ["munge", "containers", "data", "homes", "compute", "work"])
def test_a_deploy_can_be_run_by_itself(tmp_path: Path, deploy: str) -> None:
    planned = plan(tmp_path, inventory_of("gpu"), f"deploys/{deploy}.py")
    own = f"{deploy}.py | "
    alone = [(name.removeprefix(own), hosts) for name, hosts in FULL_STACK if name.startswith(own)]
    assert planned == alone


def test_the_way_in_is_laid_out_where_homes_may_be_away(tmp_path: Path) -> None:
    key = tmp_path / ClusterPaths.of("gpu").ssh_key.relative_to(paths.BUILD)
    key.parent.mkdir(parents=True)
    key.with_name(f"{key.name}.pub").write_text("ssh-ed25519 AAAA hpcstate\n")
    planned = plan(tmp_path, inventory_of("gpu"), "deploys/users.py")
    assert planned == [
        ("hpcstate's own key", ALL),
        ("What the directory leaves to the file", set()),
        ("Users and groups", set()),
    ]


def test_a_cluster_that_is_watched_has_its_units_before_its_packages(tmp_path: Path) -> None:
    """Debian's packages start what they bring, which would listen everywhere."""
    file = tmp_path / "watched.yaml"
    good = (paths.ROOT / "inventories" / "gpu.yaml").read_text()
    file.write_text(f"{good}    monitoring: {{enabled: true}}\n")
    planned = plan(tmp_path, INVENTORY.format(file=str(file)), "deploys/monitoring.py")
    assert planned == [
        ("How systemd runs what watches", ALL),
        ("Packages of what watches", ALL),
        ("MariaDB lets its exporter in", {"controller"}),
        ("What watches this node", ALL),
        ("What watches runs", ALL),
        ("Nothing watches that the file has not", set()),
        ("No datacenter-gpu-manager-exporter that the file has not", set()),
        ("No grafana that the file has not", set()),
    ]


def test_a_repository_that_is_not_debians_is_there_before_its_package(tmp_path: Path) -> None:
    key = paths.ROOT / "tests" / "unit" / "monitoring" / "recorded" / "key.asc"
    source = f"{{repository: 'https://apt.grafana.com stable main', key_file: {key}, version: 12.3.1}}"
    file = tmp_path / "watched.yaml"
    good = (paths.ROOT / "inventories" / "gpu.yaml").read_text()
    file.write_text(
        f"{good}    monitoring:\n      enabled: true\n      gpus: true\n      grafana: {source}\n"
    )
    planned = plan(tmp_path, INVENTORY.format(file=str(file)), "deploys/monitoring.py")
    assert planned[:3] == [
        ("How systemd runs what watches", ALL),
        ("Repositories of what watches", {"controller"}),
        ("Packages of what watches", ALL),
    ]


def test_only_nodes_that_are_given_a_gpu_are_asked_for_their_bus(tmp_path: Path) -> None:
    planned = plan(tmp_path, inventory_of("passthrough"), "deploys/full_stack.py")
    assert planned[10:12] == [("nvidia.py | NVIDIA's driver", set()), FULL_STACK[10]]
    assert plan(tmp_path, inventory_of("gpu"), "deploys/nvidia.py") == []


def test_an_image_gets_what_is_common_and_starts_nothing(tmp_path: Path) -> None:
    planned = plan(tmp_path, IMAGE, "deploys/full_stack.py")
    assert [name for name, _ in planned] == [
        "base.py | Lay out users, firewall and SSH",
        "base.py | Start nothing of a cluster at boot",
        "munge.py | No munge key in an image",
        "containers.py | Containers: settings, policy and container-exec",
        "containers.py | Subordinate numbers of the users",
        "All nodes are ready for slurmctld",
        "slurmctld is ready for the nodes",
    ]


def test_a_login_node_has_what_a_person_needs_and_no_daemon_of_slurm(tmp_path: Path) -> None:
    file = tmp_path / "login.yaml"
    good = (paths.ROOT / "inventories" / "gpu.yaml").read_text()
    file.write_text(f"{good}    login_nodes: [{{}}]\n")
    inventory = INVENTORY.format(file=str(file))
    limits = [word for name in ("controller", "login-01") for word in ("--limit", f"@fake/{name}")]
    planned = plan(tmp_path, inventory, "deploys/full_stack.py", *limits)
    changed = [name for name, hosts in planned if "login-01" in hosts]
    everybody = [name for name, hosts in FULL_STACK if hosts == ALL]
    assert [name for name in changed if name in everybody] == everybody
    assert [name for name in changed if name not in everybody] == [
        "homes.py | Units of the homes",
        "homes.py | Homes are mounted",
        "login.py | Slurm's commands and their configuration",
    ]


def test_the_deploys_of_a_site_run_behind_ours_with_our_data(tmp_path: Path) -> None:
    file, own = tmp_path / "site.yaml", tmp_path / "own"
    own.mkdir()
    good = (paths.ROOT / "inventories" / "gpu.yaml").read_text()
    file.write_text(f"{good}    site: {{deploys: [own/one.py, own/two.py]}}\n")
    shell = "from pyinfra import host\nfrom pyinfra.operations import server\n"
    (own / "one.py").write_text(f"{shell}server.shell(name='for all', commands=['true'])\n")
    only = "if host.data.role == 'compute':\n    server.shell(name='on GPUs', commands=['true'])\n"
    (own / "two.py").write_text(f"{shell}{only}")
    planned = plan(tmp_path, INVENTORY.format(file=str(file)), "deploys/full_stack.py")
    assert planned[: len(FULL_STACK)] == FULL_STACK
    assert [(name.rpartition(" | ")[2], hosts) for name, hosts in planned[len(FULL_STACK) :]] == [
        ("for all", ALL),
        ("on GPUs", NODES),
    ]


def test_it_is_the_same_from_any_folder(tmp_path: Path) -> None:
    """Also from one that has a folder `deploys` of its own, as those of pyinfra's users do."""
    own = tmp_path / "mine"
    (own / "deploys").mkdir(parents=True)
    (own / "deploys" / "base.py").write_text("raise SystemExit('not meant')\n")
    deploy = str(paths.ROOT / "deploys" / "full_stack.py")
    assert plan(tmp_path, inventory_of("gpu"), deploy, cwd=own) == FULL_STACK


DEPLOY = str(paths.ROOT / "deploys" / "vacate.py")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["@local", "{root}/deploys/base.py"],
            "@local is no node of a cluster (no data cluster_file, cluster_kind, node)",
        ),
        (["{mine}", DEPLOY, "--data", "slurm_drain_seconds=soon"], "slurm_drain_seconds=soon: a number of"),
        (["{mine}", DEPLOY, "--data", "slurm_force=maybe"], "slurm_force=maybe: true or false is meant"),
        (["{root}/inventories/chosen.py", DEPLOY], "whose nodes? Set HPCSTATE_CLUSTER_FILE to a cluster"),
        (["{root}/inventories/image_build.py", DEPLOY], "HPCSTATE_IMAGE_SECRETS is not set"),
        (
            ["{root}/inventories/gpu.py", DEPLOY],
            "there is no key for the nodes of cluster 'gpu': it was never",
        ),
        (
            ["{root}/inventories/gpu.py", DEPLOY, "--data", "slurm_forse=true"],
            "did you mean slurm_force=true",
        ),
        (["@local", DEPLOY, "--chdir", "{root}", "--data", "force"], "--data force: KEY=VALUE is meant"),
        (
            ["@local", "operations.text_files.absent", "paths=/etc/x"],
            "paths takes a list, not the text '/etc/x'",
        ),
        (["@local", "fact", "facts.text_files.TextFiles", "paths=/etc/x"], "takes a list, not the text"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_mistake_is_told_in_a_line(tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "mine.py").write_text(inventory_of("gpu"))
    words = [word.format(mine=tmp_path / "mine.py", root=paths.ROOT) for word in words]
    environment = {**os.environ, "HPCSTATE_BUILD": str(tmp_path), "PYTHONPATH": str(paths.ROOT)}
    for variable in ("HPCSTATE_CLUSTER_FILE", "HPCSTATE_IMAGE_SECRETS"):
        environment.pop(variable, None)
    program = [sys.executable, "-m", "pyinfra", *words, *([] if "fact" in words else ["--dry"])]
    done = subprocess.run(
        program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "pyinfra-debug.log").exists()


@pytest.mark.parametrize("value", ["no", "false", "0"])
def test_no_is_no(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """pyinfra hands on what it takes for text, and any text is true."""
    host = SimpleNamespace(data={"slurm_force": value})
    monkeypatch.setattr(context, "host", host)
    assert context.flag("slurm_force") is False
    host.data["slurm_force"] = {"no": "yes", "false": True, "0": 1}[value]
    assert context.flag("slurm_force") is True


def test_a_template_of_a_site_that_fails_ends_the_run_without_a_traceback(tmp_path: Path) -> None:
    file, own = tmp_path / "site.yaml", tmp_path / "own" / "base"
    own.mkdir(parents=True)
    good = (paths.ROOT / "inventories" / "gpu.yaml").read_text()
    file.write_text(f"{good}    site: {{templates: own}}\n")
    (own / "motd.sh.j2").write_text("{{ nobody_gives_this }}\n")
    done = pyinfra(tmp_path, INVENTORY.format(file=str(file)), "deploys/base.py")
    assert done.returncode != 0
    assert "base/motd.sh.j2" in done.stderr and "nobody_gives_this" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_accounting_it_is_turned_off_behind_slurmctld(tmp_path: Path) -> None:
    file = tmp_path / "off.yaml"
    good = (paths.ROOT / "inventories" / "gpu.yaml").read_text()
    file.write_text(f"{good}    accounting: {{enabled: false}}\n")
    planned = [name for name, _ in plan(tmp_path, INVENTORY.format(file=str(file)), "deploys/full_stack.py")]
    assert "accounting.py | slurmdbd and its database" not in planned
    slurmctld = planned.index("controller.py | slurmctld and its configuration")
    assert planned[slurmctld + 1] == "controller.py | No slurmdbd and no database"


@pytest.mark.parametrize("deploy", ["full_stack", "controller", "compute"])
def test_what_slurm_would_die_of_is_not_pushed(tmp_path: Path, deploy: str) -> None:
    file = tmp_path / "bad.yaml"
    good = (paths.ROOT / "inventories" / "gpu.yaml").read_text()
    file.write_text(f"{good}      parameters:\n        SelectType: select/cons_res\n")
    done = pyinfra(tmp_path, INVENTORY.format(file=str(file)), f"deploys/{deploy}.py")
    assert done.returncode != 0
    assert "slurm.conf" in done.stderr
    assert "SelectType" in done.stderr
    assert "Traceback" not in done.stderr
