"""Mails about jobs: the settings of the file, and the program that slurmctld runs."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import paths, programs, schema
from hpcstate.errors import ProblemsError
from hpcstate.model import MailSettings
from hpcstate.node import mail
from hpcstate.node.base_files import controller_files
from hpcstate.slurm.conf import JOB_SUBMIT, MAIL_PROG, slurm_conf

GPU = schema.load(paths.ROOT / "inventories" / "gpu.yaml").clusters[0]
PLAIN = replace(GPU, mail=MailSettings("smtp.example.org", 25, "hpc@example.org", tls="none"))
LOGIN = MailSettings(
    "smtp.example.org", 465, "hpc@example.org", "example.org", "tls", "hpc", Path("/x/secret")
)
PROGRAM = Path(mail.__file__).with_name("mail_prog.sh")


def test_without_a_relay_who_asks_is_told() -> None:
    assert mail.files(GPU) == {} and "MailProg" not in slurm_conf(GPU)
    assert JOB_SUBMIT in controller_files(GPU) and "JobSubmitPlugins=lua" in slurm_conf(GPU)


def test_with_a_relay_slurmctld_has_a_program() -> None:
    conf = slurm_conf(replace(GPU, mail=LOGIN))
    assert f"MailProg={MAIL_PROG}\n" in conf and "MailDomain=example.org\n" in conf
    assert "JobSubmitPlugins" not in conf and JOB_SUBMIT not in controller_files(PLAIN)
    assert "MailDomain" not in slurm_conf(PLAIN)


def test_the_relay_as_msmtp_has_it() -> None:
    text, mode = mail.files(PLAIN)[mail.RELAY]
    assert mode == "644"
    assert {"host smtp.example.org", "port 25", "tls off", "auth off"} <= set(text.splitlines())
    text, _ = mail.files(replace(GPU, mail=LOGIN))[mail.RELAY]
    lines = set(text.splitlines())
    assert {"tls on", "tls_starttls off", "auth on", "user hpc", "port 465"} <= lines
    assert 'passwordeval "head -n 1 /etc/slurm/mail_password"' in lines and "secret" not in text


@pytest.fixture
def send(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Runs the program and returns its exit code and what msmtp got: its words, then the mail."""
    got = tmp_path / "got"
    msmtp = tmp_path / "msmtp"
    msmtp.write_text(f'#!/bin/sh\n{{ echo "$*"; cat; }} >{got}\nexit "${{FAIL:-0}}"\n')
    msmtp.chmod(0o755)
    text = programs.command(PROGRAM, sender="hpc@example.org", cluster="lab", relay="/etc/slurm/msmtprc")
    text = text.replace("PATH=/usr/local/bin", f"PATH={tmp_path}:/usr/local/bin")
    script = tmp_path / "prog"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)

    def run(*words: str, **environment: str) -> tuple[int, list[str]]:
        got.unlink(missing_ok=True)
        done = subprocess.run(
            [script, *words], env={"PATH": os.defpath, **environment}, capture_output=True, check=False
        )
        return done.returncode, got.read_text().splitlines() if got.exists() else []

    return run


def test_a_mail_about_a_job(send) -> None:  # type: ignore[no-untyped-def]
    code, got = send(
        "-s", "Slurm Job_id=7 Name=x Ended", "a@example.org", SLURM_JOB_ID="7", SLURM_JOB_STATE="COMPLETED",
        SLURM_CONF="/x",
    )  # fmt: skip
    assert code == 0 and got[0] == "--file=/etc/slurm/msmtprc -- a@example.org"
    assert {"To: a@example.org", "Subject: Slurm Job_id=7 Name=x Ended"} <= set(got)
    assert {"JOB_ID=7", "JOB_STATE=COMPLETED", "seff 7 on the cluster lab says what it used."} <= set(got)
    assert not [line for line in got if "CONF" in line]


def test_more_than_one_and_one_without_a_domain(send) -> None:  # type: ignore[no-untyped-def]
    assert send("-s", "x", "alice,b@example.org")[1][0].endswith("-- alice b@example.org")


def test_a_name_of_a_job_makes_no_header(send) -> None:  # type: ignore[no-untyped-def]
    _, got = send("-s", "Name=a\nBcc: x@y", "a@b")
    head = got[1 : got.index("")]
    assert "Subject: Name=aBcc: x@y" in head and not [line for line in head if line.startswith("Bcc")]
    _, got = send("-s", "Name=Ä", "a@b")
    assert "Subject: =?UTF-8?B?TmFtZT3DhA==?=" in got


@pytest.mark.parametrize("to", ["", "-oX", "a@b\nBcc: x@y", "a b", "$(id)", "|x"])
def test_what_is_no_address_is_refused(send, to: str) -> None:  # type: ignore[no-untyped-def]
    assert send("-s", "x", to) == (65, [])


def test_a_relay_that_fails_is_a_failure(send) -> None:  # type: ignore[no-untyped-def]
    assert send("-s", "x", "a@b", FAIL="75")[0] == 75
    assert send("-s", "x")[0] == 64


def parsed(settings: str, more: str = "") -> MailSettings | None:
    whole = (
        "clusters:\n  hpc:\n    name: lab\n    network: {subnet: 10.1.2.0/24}\n    controller: {}\n"
        f"    compute_nodes: [{{}}]\n    mail: {{{settings}}}\n{more}"
    )
    (cluster,) = schema.parse(whole, Path("lab.yaml")).clusters
    return cluster.mail


OWN = "    slurm_config: {parameters: {MailProg: /usr/bin/mail}}\n"


def test_the_settings_of_the_file() -> None:
    assert parsed("relay: smtp, sender: a@b") == MailSettings("smtp", 25, "a@b")
    text = (
        "relay: 'smtp.example.org:465', sender: hpc@example.org, domain: example.org, tls: tls, user: hpc, "
    )
    assert parsed(text + "password_file: /x/secret") == LOGIN


@pytest.mark.parametrize(
    ("settings", "more", "words"),
    [
        ("sender: a@b", "", r"mail\.relay: is missing"),
        ("relay: smtp", "", r"mail\.sender: is missing"),
        ("relay: 'smtp:x', sender: a@b", "", r"mail\.relay: expected a host"),
        ("relay: 'smtp:99999', sender: a@b", "", r"mail\.relay: expected a port"),
        ("relay: smtp, sender: me", "", r"mail\.sender: expected an address"),
        ("relay: smtp, sender: a@b, user: x", "", r"mail\.password_file: a login at the relay needs both"),
        (
            "relay: smtp, sender: a@b, user: x, password_file: /p, tls: none",
            "",
            r"mail\.tls: the password would travel in the clear",
        ),
        ("relay: smtp, sender: a@b", OWN, r"mail: slurm_config\.parameters name MailProg"),
    ],
)
def test_settings_that_cannot_be(settings: str, more: str, words: str) -> None:
    with pytest.raises(ProblemsError, match=words):
        parsed(settings, more)
