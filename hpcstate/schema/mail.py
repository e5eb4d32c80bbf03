"""``mail`` of an hpc cluster: through which relay mails about jobs go."""

from __future__ import annotations

from pathlib import Path

from hpcstate.model import MailSettings, SlurmConfig
from hpcstate.schema.keys import HpcKeys
from hpcstate.schema.mail_keys import MailKeys
from hpcstate.schema.section import Section


def read_mail(cluster: Section, slurm: SlurmConfig | None) -> MailSettings | None:
    """The section; None where it is absent, or lacks what it needs (reported)."""
    if HpcKeys.mail not in cluster:
        return None
    section = cluster.section(HpcKeys.mail)
    relay, sender = section.value(MailKeys.relay), section.value(MailKeys.sender)
    user, password = section.value(MailKeys.user), section.value(MailKeys.password_file)
    tls = section.value(MailKeys.tls)
    if bool(user) != bool(password):
        row = MailKeys.password_file if user else MailKeys.user
        section.report.error(section.at(row), "a login at the relay needs both", "add it, or leave out both")
    if user and tls == "none":
        section.report.error(
            section.at(MailKeys.tls), "the password would travel in the clear", "write starttls or tls"
        )
    taken = {key.lower() for key in (slurm.parameters if slurm else {})} & {"mailprog", "maildomain"}
    if taken:
        section.report.error(
            section.place, "slurm_config.parameters name MailProg or MailDomain too", "keep one of the two"
        )
    if not relay or not sender:
        return None
    host, port = relay
    return MailSettings(
        host,
        port,
        sender,
        section.value(MailKeys.domain),
        tls,
        user,
        Path(password) if password else None,
    )
