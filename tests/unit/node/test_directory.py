"""A directory of people on the nodes: sssd.conf, what is kept from it, and the programs beside it."""

from __future__ import annotations

import configparser
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcstate import paths, schema
from hpcstate.cluster import rendered
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster, Group, LdapDirectory, User
from hpcstate.node import base_files, directory
from hpcstate.node.directory import CA, CONF, HOMES_SERVICE

GPU = schema.load(paths.ROOT / "inventories" / "gpu.yaml").clusters[0]
LDAP = LdapDirectory(("ldaps://a.example.org", "ldap://b.example.org"), "dc=example,dc=org")
SECRET = "s#c;r=e\"t%'\\ x"
PEM = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"


def with_directory(cluster: Cluster = GPU, **changes: Any) -> Cluster:
    found = replace(
        cluster,
        home="nfs",
        users=(User("alice", 7001),),
        groups=(Group("physics", 3001),),
        directory=replace(LDAP, **changes),
    )
    login = replace(GPU.workers[0], name="login-01", role="login", simulated_gpus=None)
    return replace(found, nodes=(*found.nodes, login))


def conf(cluster: Cluster, password: str = "") -> configparser.RawConfigParser:
    assert cluster.directory is not None
    parser = configparser.RawConfigParser(strict=True)
    parser.read_string(directory.sssd_conf(cluster, cluster.directory, password))
    return parser


def domain(cluster: Cluster, password: str = "") -> configparser.SectionProxy:
    return conf(cluster, password)["domain/directory"]


def test_without_the_key_nothing_is_different() -> None:
    for node in GPU.nodes:
        assert directory.files(GPU, node) == {} == directory.secrets(GPU)
        texts = base_files.cluster_files(GPU, node)
        assert not [path for path, text in texts.items() if "directory" in text], node.name
        # A word of the rules by which a node without a job refuses.
        assert "AuthorizedKeysCommand" not in texts[base_files.SSHD]


def test_tls_is_demanded() -> None:
    found = domain(with_directory())
    assert found["ldap_uri"] == "ldaps://a.example.org, ldap://b.example.org"
    assert (found["ldap_id_use_start_tls"], found["ldap_tls_reqcert"]) == ("true", "demand")
    assert found["ldap_tls_cacert"] == directory.DEBIANS_CA
    assert domain(with_directory(ca_file=Path("/x")))["ldap_tls_cacert"] == CA
    clear = domain(with_directory(tls="none", uri=("ldap://b",)))
    assert clear["ldap_id_use_start_tls"] == "false" and "ldap_tls_cacert" not in clear


def test_nobody_gives_a_password_to_the_directory() -> None:
    found = domain(with_directory())
    assert (found["auth_provider"], found["chpass_provider"]) == ("none", "none")


def test_the_file_comes_before_the_directory() -> None:
    """Seen with sssd 2.10.1: a group of the number 27 in the directory made its members sudo, in spite of
    min_id; names are kept from it by filter_users, numbers by the search bases."""
    whole = conf(with_directory())
    for key in ("filter_users", "filter_groups"):
        names = whole["nss"][key].split(", ")
        assert {"root", "sudo", "slurm", "munge", "admin", "hpc", "alice", "physics"} <= set(names)
    found = whole["domain/directory"]
    users, groups = found["ldap_user_search_base"], found["ldap_group_search_base"]
    assert users.startswith("dc=example,dc=org?subtree?(!(|(uidNumber=2000)(uidNumber=3001)(uidNumber=7001)")
    assert "(gidNumber=3001)" in users and users.count("(") == users.count(")")
    numbers = {int(part.partition(")")[0]) for part in groups.split("gidNumber=")[1:]}
    assert numbers == {*range(1001), 2000, 3001, 7001, 65534, 65535}
    assert groups.count("(") == groups.count(")")


def test_bases_of_people_and_groups() -> None:
    found = domain(with_directory(user_base="ou=p,dc=x", group_base="ou=g,dc=x"))
    assert found["ldap_search_base"] == "dc=example,dc=org"
    assert found["ldap_user_search_base"].startswith("ou=p,dc=x?subtree?(")
    assert found["ldap_group_search_base"].startswith("ou=g,dc=x?subtree?(")


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({}, {"access_provider": "permit"}),
        (
            {"allow_groups": ("hpc users", "b")},
            {"access_provider": "simple", "simple_allow_groups": "hpc users, b"},
        ),
        (
            {"access_filter": "(a=b)"},
            {"access_provider": "ldap", "ldap_access_order": "filter", "ldap_access_filter": "(a=b)"},
        ),
    ],
)
def test_who_may_log_in(changes: dict[str, Any], keys: dict[str, str]) -> None:
    found = domain(with_directory(**changes))
    about = ("access_provider", "simple_allow_groups", "ldap_access_order", "ldap_access_filter")
    assert {key: found[key] for key in about if key in found} == keys


def test_a_shell_that_keeps_somebody_out_stays() -> None:
    """``allowed_shells = *`` would make bash of nologin (sssd.conf(5), shell_fallback)."""
    nss = conf(with_directory())["nss"]
    assert not {"*", "/usr/sbin/nologin", "/bin/false"} & set(nss["allowed_shells"].split(", "))
    assert nss["shell_fallback"] == "/bin/bash"


def test_the_password_is_in_one_file_only(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\nmore\n")
    (tmp_path / "ca").write_text(PEM.rstrip("\n"))
    cluster = with_directory(
        bind_dn="cn=x,dc=y", bind_password_file=tmp_path / "secret", ca_file=tmp_path / "ca"
    )
    found = directory.secrets(cluster)
    assert {path: mode for path, (_, mode) in found.items()} == {CONF: "600", CA: "644"}
    assert domain(cluster, SECRET)["ldap_default_authtok"] == SECRET and SECRET in found[CONF][0]
    assert found[CA][0] == PEM
    others = [text for node in cluster.nodes for text, _ in directory.files(cluster, node).values()]
    assert not [text for text in (*others, *rendered.files(cluster).values()) if SECRET in text]


@pytest.mark.parametrize(
    ("content", "key", "said"),
    [
        (None, "bind_password_file", "No such file"),
        (b"\n", "bind_password_file", "no password that sssd.conf can have"),
        (b" x\n", "bind_password_file", "no password that sssd.conf can have"),
        (b"x\x07\n", "bind_password_file", "no password that sssd.conf can have"),
        (b"\xff\n", "bind_password_file", "it is no text"),
        (b"x", "ca_file", "there is no certificate in it"),
        (f"-----BEGIN PRIVATE KEY-----\n{PEM}".encode(), "ca_file", "a private key is in it"),
    ],
)
def test_files_of_this_machine_that_cannot_be(
    content: bytes | None, key: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HpcstateError, match=said) as caught:
        directory.secrets(with_directory(GPU, **{key: path}))
    assert f"directory.ldap.{key}" in str(caught.value) and "\x07" not in str(caught.value)


def test_where_homes_are_made_and_asked_for() -> None:
    cluster = with_directory()
    controller, worker, login = cluster.controller, cluster.workers[0], cluster.login_nodes[0]
    files = {node.name: directory.files(cluster, node) for node in cluster.nodes}
    assert [name for name, found in files.items() if HOMES_SERVICE in found] == [controller.name]
    own = {node.name: base_files.login_files(cluster, node) for node in cluster.nodes}
    line = f"session    optional     pam_exec.so quiet stdout {base_files.HOME_AT_LOGIN}\n"
    assert line in own[login.name][base_files.PAM] and line not in own[worker.name][base_files.PAM]
    assert "pam_exec" not in own[controller.name][base_files.PAM]
    alone = replace(cluster, nodes=cluster.nodes[:-1])
    assert line in base_files.login_files(alone, controller)[base_files.PAM]
    local = replace(cluster, home="local")
    assert line in base_files.login_files(local, worker)[base_files.PAM]
    assert HOMES_SERVICE not in directory.files(local, controller)


def test_keys_of_the_directory_open_no_closed_controller() -> None:
    cluster = with_directory()
    for node in cluster.nodes:
        sshd = base_files.login_files(cluster, node)[base_files.SSHD]
        asks = f"AuthorizedKeysCommand {base_files.KEYS_OF_DIRECTORY} %u\nAuthorizedKeysCommandUser nobody\n"
        assert (asks in sshd) == (node is not cluster.controller)


PASSWD = {"carol": "carol:*:7010:7000:Carol:/home/carol:/bin/bash"}


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """Programs that stand in for those of a node: carol is in the directory, alice in the node's files."""
    here = tmp_path / "bin"
    here.mkdir()
    programs = {
        "getent": 'case "$*" in\n'
        '*"files passwd alice") echo alice:x:7001 ;;\n'
        '*"sss passwd carol" | *"sss passwd 7010") echo "carol:*:7010:7000:C:$HOMES/carol:/bin/bash" ;;\n'
        '*"sss passwd evil") echo "..:*:7011:7000:C:$HOMES/..:/bin/bash" ;;\n'
        '*"sss passwd low") echo "low:*:12:7000:C:$HOMES/low:/bin/bash" ;;\n'
        "*) exit 2 ;;\nesac",
        "sss_ssh_authorizedkeys": 'echo "key of $1"',
        "timeout": 'while :; do case $1 in -k | -s) shift 2 ;; *) break ;; esac; done; shift; exec "$@"',
        "chown": 'echo "chown $*" >>"$HOMES/log"',
        "setpriv": 'while [ "$1" != sh ]; do shift; done; exec "$@"',
    }
    for name, text in programs.items():
        (here / name).write_text(f"#!/bin/sh\n{text}\n")
        (here / name).chmod(0o755)
    (tmp_path / "homes").mkdir()
    (tmp_path / "skel").mkdir()
    (tmp_path / "skel" / ".profile").write_text("# mine\n")
    return tmp_path


def ran(node: Path, program: str, *words: str, **environment: str) -> str:
    text = Path(directory.__file__).with_name(program).read_text()
    text = text.replace("export PATH=", f"export PATH={node}/bin:")
    done = subprocess.run(
        ["sh", "-s", "--", *words],
        input=text,
        env={"PATH": f"{node}/bin:{os.defpath}", "HOMES": f"{node}/homes", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def home(node: Path, user: str, **environment: str) -> str:
    words = {
        "homes": f"{node}/homes",
        "wanted": f"{node}/homes/.wanted",
        "least": "1001",
        "skeleton": f"{node}/skel",
        "patience": "1",
        "PAM_TYPE": "open_session",
        "PAM_USER": user,
    }
    return ran(node, "directory_home.sh", **{**words, **environment})


def test_keys_are_those_of_the_directory_for_who_is_there_only(node: Path) -> None:
    assert ran(node, "directory_keys.sh", "carol") == "key of carol\n"
    assert ran(node, "directory_keys.sh", "alice") == ran(node, "directory_keys.sh", "-x") == ""


def test_a_home_is_made_once_where_homes_are(node: Path) -> None:
    assert home(node, "carol", owns="yes") == ""
    assert (node / "homes/carol/.profile").read_text() == "# mine\n"
    assert (node / "homes/carol").stat().st_mode & 0o777 == 0o700
    (node / "homes/carol/.profile").write_text("# hers\n")
    assert home(node, "carol", owns="yes") == ""
    assert (node / "homes/carol/.profile").read_text() == "# hers\n"
    assert (node / "homes/log").read_text().count("chown -R 7010:7000 ") == 1


@pytest.mark.parametrize("user", ["alice", "nobody", "evil", "low", "", "../carol"])
def test_nobody_else_gets_one(user: str, node: Path) -> None:
    assert home(node, user, owns="yes") == ""
    assert list((node / "homes").iterdir()) == []


def test_elsewhere_one_is_asked_for(node: Path) -> None:
    (node / "homes/.wanted").mkdir()
    assert (
        home(node, "carol") == f"There is no home {node}/homes/carol yet: tell those who run this cluster.\n"
    )
    assert [path.name for path in (node / "homes/.wanted").iterdir()] == ["7010"]


def test_no_home_is_made_beside_a_volume_that_is_away(node: Path) -> None:
    assert "There is no home" in home(node, "carol", owns="yes", mounted="yes")
    assert list((node / "homes").iterdir()) == []
