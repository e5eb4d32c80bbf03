"""slurmctld on the controller; what it no longer records jobs with is turned off then."""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from deploys.util.relay import relay_password
from deploys.util.slurm_files import slurm_files
from hpcstate.model import Cluster
from hpcstate.node import mail
from hpcstate.slurm import accounting as accounts
from hpcstate.slurm.conf import slurm_user
from operations import accounting, partitions, slurm, text_files
from operations.text_files import TextFile

config.SUDO = True


def _password(cluster: Cluster) -> list[TextFile]:
    """The password of the relay, for slurmctld alone; it travels on standard input. Raises DeployError."""
    if not (line := relay_password(cluster)):
        return []
    user = slurm_user(cluster)
    return [TextFile(mail.PASSWORD, f"{line}\n", "600", owner=f"{user}:{user}")]


if not is_build() and "controller" in host.groups:
    this = target()
    if sends := mail.files(this.cluster):
        text_files.put(
            name="How mails about jobs are sent",
            files=[
                *(TextFile(path, content, mode) for path, (content, mode) in sends.items()),
                *_password(this.cluster),
            ],
        )
    slurm.controller_daemon(
        name="slurmctld and its configuration", files=slurm_files(this.cluster), force=this.force
    )
    if not accounts.files(this.cluster):
        accounting.off(name="No slurmdbd and no database", cluster=this.cluster.name)
    partitions.named(
        name="Partitions as slurm.conf says",
        files=slurm_files(this.cluster),
        controller=this.cluster.controller.name,
    )
    # Behind slurmctld, which runs it no more.
    unused = [path for path in mail.FILES if path not in sends and path != mail.PASSWORD]
    if not this.cluster.mail or not this.cluster.mail.password_file:
        unused.append(mail.PASSWORD)
    if unused:
        text_files.absent(name="No relay of mails that the file has not", paths=unused)
