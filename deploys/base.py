"""What every node of every cluster has: names, time, users, firewall, SSH. The hostname is cloud-init's."""

from __future__ import annotations

from pyinfra.context import config

from deploys.util.context import is_build, target
from hpcstate.node import base_files
from operations import services, text_files
from operations.text_files import TextFile

config.SUDO = True

THEN = {
    base_files.SSHD: "systemctl reload ssh",
    base_files.FIREWALL: "systemctl reload-or-restart nftables",
    base_files.CHRONY: "systemctl try-restart chrony",
    base_files.SYSUSERS: "systemd-sysusers && systemd-tmpfiles --create /etc/tmpfiles.d/hpcstate.conf",
    base_files.TMPFILES: "systemd-sysusers && systemd-tmpfiles --create /etc/tmpfiles.d/hpcstate.conf",
}
IN_IMAGE = (base_files.SYSUSERS, base_files.TMPFILES)
"""Files whose follow-up also belongs into an image: users are laid out there, daemons are not started."""

ALWAYS_ON = ("nftables.service", "ssh.service")
OF_A_CLUSTER = (
    "chrony.service",
    "slurmctld.service",
    "slurmd.service",
    "slurmdbd.service",
    "munge.service",
    "mariadb.service",
    "prometheus.service",
    "prometheus-node-exporter.service",
    "containerd.service",
)
"""What the deploys of a cluster turn on where it belongs, and an image must not start by itself."""

if is_build():
    text_files.put(
        name="Lay out users, firewall and SSH",
        files=[
            TextFile(path, content, then=THEN[path] if path in IN_IMAGE else "")
            for path, content in base_files.image_files().items()
        ],
    )
    services.state(name="Start nothing of a cluster at boot", on=ALWAYS_ON, off=OF_A_CLUSTER, now=False)
else:
    this = target()
    text_files.put(
        name="Names, time, users, firewall and SSH",
        files=[
            TextFile(path, content, then=THEN.get(path, ""))
            for path, content in base_files.cluster_files(this.cluster, this.node).items()
        ],
    )
    services.state(name="Firewall and time are on", on=("nftables.service", "chrony.service"))
