"""Who gets in on a compute node: the rules of PAM as they are written, followed like pam.conf(5) says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from hpcstate import paths, schema
from hpcstate.model import PortForward
from hpcstate.node import base_files, homes, work_files

CLUSTER = schema.load(paths.ROOT / "inventories/gpu.yaml").clusters[0]
FILES = base_files.cluster_files(CLUSTER, CLUSTER.workers[0])
PAM = FILES[base_files.PAM]
SSHD = FILES[base_files.SSHD]

GROUPS: Mapping[str, set[str]] = {
    "admin": {"admin"},
    "bob": {"bob", "sudo"},
    "alice": {"alice"},
    "hpc": {"hpc"},
}
RULE = re.compile(r"-?(?P<kind>\w+)\s+(?P<control>\[[^]]*\]|\w+)\s+(?P<module>\S+)\s*(?P<words>.*)")


def asked(
    kind: str, user: str, fails: Callable[[str], bool] = lambda module: False, rules: str = PAM
) -> tuple[list[str], bool]:
    """The modules that are asked about ``user`` in the rules of ``kind``, and whether the user gets in.
    ``fails`` says which of the modules refuse; what is included lets everybody in."""
    modules, refused, skip = [], False, 0
    for line in rules.splitlines():
        rule = RULE.fullmatch(line)
        if rule is None or rule["kind"] != kind:
            continue
        if skip:
            skip -= 1
            continue
        module, words = rule["module"], rule["words"].split()
        modules.append(module)
        if module == "pam_succeed_if.so":
            *_, field, test, value = words
            assert field == "user"
            result = {"=": user == value, "ingroup": value in GROUPS[user]}[test]
        else:
            result = not fails(module)
        control = rule["control"]
        if control.startswith("["):
            actions = dict(word.split("=") for word in control.strip("[]").split())
            action = actions["success" if result and "success" in actions else "default"]
            assert action == "ignore" or action.isdecimal()
            skip = int(action) if action.isdecimal() else 0
        elif control == "required":
            refused = refused or not result
    return modules, not refused


def no_job(module: str) -> bool:
    return module == "pam_slurm_adopt.so"


@pytest.mark.parametrize("user", ["admin", "bob"])
def test_who_may_mend_the_node_is_never_locked_out(user: str) -> None:
    modules, gets_in = asked("account", user, no_job)
    assert gets_in and "pam_slurm_adopt.so" not in modules
    assert "pam_systemd.so" in asked("session", user)[0]


@pytest.mark.parametrize("user", ["alice", "hpc"])
def test_anybody_else_needs_a_job_and_stays_in_it(user: str) -> None:
    modules, gets_in = asked("account", user, no_job)
    assert not gets_in and modules[-1] == "pam_slurm_adopt.so"
    assert asked("account", user)[1]
    modules, gets_in = asked("session", user)
    assert gets_in and "pam_systemd.so" not in modules
    assert {"pam_limits.so", "pam_env.so", "pam_motd.so"} <= set(modules)


def test_pam_slurm_adopt_works_in_our_service_and_lets_nobody_in_by_failing() -> None:
    (line,) = [line for line in PAM.splitlines() if "pam_slurm_adopt.so" in line and not line.startswith("#")]
    service = re.search(r"^PAMServiceName (\S+)$", SSHD, re.MULTILINE)
    assert service and f"/etc/pam.d/{service[1]}" == base_files.PAM
    assert f" service={service[1]} " in line
    assert "action_adopt_failure=deny action_generic_failure=deny" in line


def test_an_account_that_ended_is_refused_before_all() -> None:
    lines = [line for line in PAM.splitlines() if line.startswith(("account", "@include"))]
    assert lines.index("account    substack     common-account") < next(
        number for number, line in enumerate(lines) if "pam_succeed_if" in line
    )


def test_what_another_package_adds_to_debians_rules_does_not_end_ours() -> None:
    """libpam-sss has `account sufficient pam_localuser.so` in common-account: included as text, it would let
    every account of the node's own files in (pam.conf(5), substack)."""
    closed = replace(CLUSTER.workers[0], name="login-01", role="login", simulated_gpus=None)
    cluster = replace(CLUSTER, nodes=(*CLUSTER.nodes, closed))
    for node in (cluster.controller, cluster.workers[0]):
        rules = base_files.cluster_files(cluster, node)[base_files.PAM]
        assert "@include common-account" not in rules and "@include sshd" not in rules
        kinds = [line.split()[:2] for line in rules.splitlines() if line.startswith("account")]
        assert not [kind for kind in kinds if kind[1] in ("include", "sufficient")]


def test_no_included_file_brings_pam_systemd() -> None:
    assert "@include common-session" not in PAM


def test_keys_are_in_homes_only_for_those_who_are_root_anyway() -> None:
    for node in CLUSTER.nodes:
        text = base_files.cluster_files(CLUSTER, node)[base_files.SSHD]
        head, *blocks = text.split("\nMatch ")
        assert f"\nAuthorizedKeysFile {base_files.KEYS}/%u" in head and ".ssh/authorized_keys" not in head
        assert [block.splitlines()[0] for block in blocks] == ["User admin", "Group sudo", "all"]


def test_on_the_controller_everybody_gets_in_by_debians_rules() -> None:
    files = base_files.cluster_files(CLUSTER, CLUSTER.controller)
    assert base_files.PAM not in files and "PAMServiceName" not in files[base_files.SSHD]


def test_one_who_is_refused_does_not_close_the_way_to_others() -> None:
    assert f"\nPerSourcePenaltyExemptList {CLUSTER.network.subnet}\n" in SSHD


def test_an_image_has_debians_ways_in() -> None:
    files = base_files.image_files()
    assert base_files.PAM not in files and "AuthorizedKeysFile" not in files[base_files.SSHD]


def test_from_node_to_node_the_node_vouches_for_who_comes() -> None:
    for node in CLUSTER.workers:
        files = base_files.cluster_files(CLUSTER, node)
        head, *blocks = files[base_files.SSHD].split("\nMatch ")
        assert "\nHostbasedAuthentication yes\nIgnoreUserKnownHosts yes\n" in head
        # Who may become root comes with a key.
        by_name = {block.splitlines()[0]: block for block in blocks}
        for who in ("User admin", "Group sudo"):
            assert "\n    HostbasedAuthentication no" in by_name[who]
        named = [line for line in files[base_files.SHOSTS_EQUIV].splitlines() if not line.startswith("#")]
        assert named == [word for each in CLUSTER.nodes for word in (each.name, str(each.address))]


def test_the_controller_takes_no_nodes_word() -> None:
    files = base_files.cluster_files(CLUSTER, CLUSTER.controller)
    assert "HostbasedAuthentication" not in files[base_files.SSHD]
    assert all(line.startswith("#") for line in files[base_files.SHOSTS_EQUIV].splitlines())


def test_ssh_on_a_node_shows_its_own_host_key_and_trusts_no_new_one() -> None:
    for node in CLUSTER.nodes:
        hosts, _, rest = base_files.cluster_files(CLUSTER, node)[base_files.SSH].partition("\nHost *\n")
        assert all(f" {each.name} {each.address}" in hosts for each in CLUSTER.nodes)
        assert "StrictHostKeyChecking yes" in hosts and rest == "    EnableSSHKeysign yes\n"


def test_who_comes_by_a_port_of_the_host_shuts_nobody_out() -> None:
    port = PortForward(2222, CLUSTER.controller.name)
    cluster = replace(CLUSTER, network=replace(CLUSTER.network, ports=(port,)))
    sshd = base_files.login_files(cluster, cluster.controller)[base_files.SSHD]
    assert f"PerSourcePenaltyExemptList {CLUSTER.network.gateway}\n" in sshd
    (worker, *_) = cluster.workers
    assert base_files.login_files(cluster, worker) == base_files.login_files(CLUSTER, worker)
    assert "PerSource" not in base_files.login_files(CLUSTER, CLUSTER.controller)[base_files.SSHD]


def test_beside_login_nodes_the_controller_is_for_who_may_become_root() -> None:
    login = replace(CLUSTER.workers[0], name="login-01", role="login", simulated_gpus=None)
    cluster = replace(CLUSTER, nodes=(*CLUSTER.nodes, login))
    files = base_files.cluster_files(cluster, cluster.controller)
    rules, sshd = files[base_files.PAM], files[base_files.SSHD]
    assert f"PAMServiceName {base_files.PAM_SERVICE}\n" in sshd
    assert f"PerSourcePenaltyExemptList {cluster.network.subnet}\n" in sshd
    assert "HostbasedAuthentication" not in sshd
    assert rules.index("account    substack     sshd") < rules.index("pam_succeed_if")

    def denied(module: str) -> bool:
        return module == "pam_deny.so"

    assert [asked("account", user, denied, rules)[1] for user in GROUPS] == [True, True, False, False]
    assert asked("account", "alice", denied, rules)[0][-2:] == ["pam_echo.so", "pam_deny.so"]
    assert f"{base_files.CLOSED} login-01\n" in rules

    of_login = base_files.cluster_files(cluster, login)
    assert base_files.PAM not in of_login
    assert of_login[base_files.SSHD] == base_files.cluster_files(CLUSTER, CLUSTER.controller)[base_files.SSHD]
    worker = base_files.cluster_files(cluster, cluster.workers[0])
    assert worker[base_files.PAM] == PAM
    assert "\nlogin-01\n" in worker[base_files.SHOSTS_EQUIV]


def test_login_nodes_have_the_homes_and_the_message_of_the_day() -> None:
    login = replace(CLUSTER.workers[0], name="login-01", role="login", address=IPv4Address("192.168.150.9"))
    cluster = replace(CLUSTER, nodes=(*CLUSTER.nodes, login))
    assert "192.168.150.9" in base_files.cluster_files(cluster, cluster.controller)[base_files.FIREWALL]
    assert "192.168.150.9" in homes.server_files(cluster)[homes.EXPORTS]
    having = [node.name for node in cluster.nodes if work_files.MOTD in work_files.files(cluster, node)]
    assert having == ["controller", "login-01"]
