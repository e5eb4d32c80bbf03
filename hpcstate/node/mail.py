"""What the controller has to send mails about jobs (``mail`` of the file). Pure.

slurmctld runs MailProg as its own user: ``PROGRAM -s SUBJECT RECIPIENT``, what the mail is about in the
environment (slurm.conf(5), MailProg). Ours makes a mail of that and hands it to msmtp, which takes it to the
relay or fails; slurmctld's log says so then.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hpcstate import programs
from hpcstate.model import Cluster
from hpcstate.render import render
from hpcstate.slurm.conf import CONF_DIRECTORY, MAIL_PROG

RELAY = f"{CONF_DIRECTORY}/msmtprc"
PASSWORD = f"{CONF_DIRECTORY}/mail_password"
"""Only slurmctld's user reads it."""

PACKAGE = "msmtp"
FILES = (MAIL_PROG, RELAY, PASSWORD)
"""All that there may be of it."""


def files(cluster: Cluster) -> Mapping[str, tuple[str, str]]:
    """Path to content and mode on the controller, but for the password; none where there is no relay."""
    mail = cluster.mail
    if mail is None:
        return {}
    text = programs.command(
        Path(__file__).with_name("mail_prog.sh"), sender=mail.sender, cluster=cluster.name, relay=RELAY
    )
    return {
        MAIL_PROG: (f"#!/bin/sh\n{text}\n", "755"),
        RELAY: (render("slurm/msmtprc.j2", mail=mail, password=PASSWORD), "644"),
    }
