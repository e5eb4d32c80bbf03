"""``users`` and ``groups``: what becomes of them, and every way in which they can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.errors import Problem, ProblemsError
from hpcstate.model import Cluster, Group, User
from hpcstate.schema.ssh_key import is_private, ssh_key

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAefDR2rSyGLYlFIhQw99swjx8UnLhql34ZgUt6R034u"
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\n"


def parsed(people: str) -> Cluster:
    text = (
        "clusters:\n  hpc:\n    name: lab\n    network: {subnet: 10.1.2.0/24}\n    controller: {}\n"
        f"    compute_nodes: [{{}}]\n{people}"
    )
    cluster = schema.parse(text, Path("lab.yaml")).cluster("hpc")
    assert cluster is not None
    return cluster


def problems(people: str) -> list[Problem]:
    with pytest.raises(ProblemsError) as caught:
        parsed(people)
    return [problem for problem in caught.value.problems if problem.severity == "error"]


def wrong(people: str) -> Problem:
    """The only error of the file."""
    (problem,) = problems(people)
    return problem


def user(more: str = "", name: str = "alice", uid: str = "2001") -> str:
    return f"    users: [{{name: {name}, uid: {uid}{', ' if more else ''}{more}}}]\n"


def test_a_person_with_everything() -> None:
    cluster = parsed(
        "    users:\n      - name: alice\n        uid: 2001\n        groups: [physics]\n"
        "        full_name: Alicia Müller\n        shell: /bin/sh\n        admin: true\n"
        f'        ssh_keys: ["  {KEY}   alice@laptop "]\n'
        "    groups: [{name: physics, gid: 3001}]\n"
    )
    assert cluster.users == (
        User("alice", 2001, ("physics",), "Alicia Müller", "/bin/sh", (f"{KEY} alice@laptop",), admin=True),
    )
    assert cluster.groups == (Group("physics", 3001),)


def test_one_who_has_only_what_is_required() -> None:
    assert parsed(user()).users == (User("alice", 2001, shell="/bin/bash"),)
    assert parsed("").users == ()


def test_one_without_a_key_is_a_warning() -> None:
    text = "clusters: {hpc: {name: lab, network: {subnet: 10.1.2.0/24}, controller: {}, compute_nodes: [{}], "
    description = schema.parse(f"{text}users: [{{name: alice, uid: 2001}}]}}}}\n", Path("lab.yaml"))
    (warning,) = description.warnings
    assert (warning.place, warning.severity) == (".clusters.hpc.users[0]", "warning")
    assert warning.message == "alice has no ssh_keys, and so cannot log in"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (user(name="root"), "name", "expected another name, found 'root'"),
        (user(name="slurm"), "name", "expected another name"),
        (user(name="admin"), "name", "expected another name"),
        (user(name="systemd-x"), "name", "expected another name"),
        (user(name="Alice"), "name", "expected a name of lower-case letters"),
        (user(name="0alice"), "name", "expected a name of lower-case letters"),
        (user(name="a" * 33), "name", "expected a name of lower-case letters"),
        (user(uid="999"), "uid", "expected a whole number from 1000 to 60000, found '999'"),
        (user(uid="60001"), "uid", "expected a whole number from 1000 to 60000"),
        (user(uid="1000"), "uid", "expected another number, found '1000'"),
        (user(uid="2000"), "uid", "expected another number, found '2000'"),
        (user("groups: [physics]"), "groups[0]", "there is no group 'physics'"),
        (user("full_name: 'a:b'"), "full_name", "expected a name without colons"),
        (user("shell: bash"), "shell", "expected one of /bin/bash, /bin/sh"),
        (user("shell: /bin/zsh"), "shell", "expected one of /bin/bash, /bin/sh"),
        (user("ssh_keys: [x]"), "ssh_keys[0]", "expected a public SSH key: one line"),
        (user("admin: maybe"), "admin", "expected true or false"),
        ("    groups: [{name: sudo, gid: 3001}]\n", "name", "expected another name"),
        ("    groups: [{name: physics, gid: 50}]\n", "gid", "expected a whole number"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(text: str, place: str, message: str) -> None:
    problem = wrong(text)
    assert problem.place.split("]", 1)[1] == f".{place}"
    assert problem.message.startswith(message)


def test_what_is_required_and_missing_is_said_at_once() -> None:
    places = [problem.place for problem in problems("    users: [{}]\n    groups: [{}]\n")]
    assert sorted(places) == [
        ".clusters.hpc.groups[0].gid",
        ".clusters.hpc.groups[0].name",
        ".clusters.hpc.users[0].name",
        ".clusters.hpc.users[0].uid",
    ]


@pytest.mark.parametrize(
    ("people", "place", "message"),
    [
        ("alice 2001, alice 2002", "users[1].name", "the name 'alice' is already taken"),
        ("alice 2001, bob 2001", "users[1].uid", "the number 2001 is already taken"),
        ("physics 2002", "users[0].name", "the name 'physics' is already taken"),
        ("alice 3001", "users[0].uid", "the number 3001 is already taken"),
    ],
)
def test_names_and_numbers_stand_once(people: str, place: str, message: str) -> None:
    entries = ", ".join("{{name: {}, uid: {}}}".format(*each.split()) for each in people.split(", "))
    text = f"    groups: [{{name: physics, gid: 3001}}]\n    users: [{entries}]\n"
    problem = wrong(text)
    assert (problem.place, problem.message) == (f".clusters.hpc.{place}", message)
    assert problem.hint.startswith("see line ")


def test_a_private_key_is_refused_and_not_shown() -> None:
    for text in (PRIVATE, PRIVATE.splitlines()[1]):
        problem = wrong(user(f"ssh_keys: [{text.strip()!r}]".replace("\\n", " ")))
        assert problem.message == "this is a private key, which belongs to its owner alone"
        assert "b3Blb" not in f"{problem.message}{problem.hint}"
        assert ".pub" in problem.hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        KEY[:-4],
        KEY.replace("ssh-ed25519 ", "ssh-rsa "),
        KEY.replace("AAAAC3", "AAAAC*"),
        f'command="/bin/sh" {KEY}',
        f"ssh-dss {KEY.split()[1]}",
        f"{KEY}\n{KEY}",
        f"{KEY} \x1b[31m",
        f"{KEY} {'x' * 9000}",
        "ssh-ed25519 AAAA",
    ],
)
def test_what_is_no_public_key(text: str) -> None:
    with pytest.raises(ValueError, match="a public SSH key"):
        ssh_key(text)


def test_public_keys() -> None:
    assert ssh_key(KEY) == KEY
    assert ssh_key(f"{KEY}  Alice's  laptop") == f"{KEY} Alice's laptop"
    assert not is_private(KEY)


def test_slurm_must_have_a_step_for_who_logs_in() -> None:
    setting = "    slurm_config: {{partitions: [{{name: a}}], parameters: {{PrologFlags: '{}'}}}}\n"
    problem = wrong(setting.format("Alloc"))
    assert problem.message.startswith("PrologFlags without Contain")
    assert problem.hint == "write PrologFlags: Contain,Alloc"
    for flags in ("Alloc,Contain", "X11", "alloc, runinjob"):
        assert parsed(setting.format(flags)).slurm is not None


def test_users_are_of_slurm_clusters() -> None:
    text = (
        "clusters: {cloud: {name: lab, network: {subnet: 10.1.2.0/24}, control_plane: {}, "
        "worker_nodes: [{}], users: []}}\n"
    )
    with pytest.raises(ProblemsError, match="this key belongs to clusters"):
        schema.parse(text, Path("lab.yaml"))
