"""What every node of every cluster has: names, time, users, firewall, SSH; and that it is in force."""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from hpcstate.monitoring import places
from hpcstate.node import base_files, known_hosts
from hpcstate.node.drift import to_be_in_force
from operations import homes, in_force, services, text_files
from operations.text_files import TextFile

config.SUDO = True

THEN = {
    base_files.SSHD: "systemctl reload ssh",
    base_files.FIREWALL: "systemctl reload-or-restart nftables",
    base_files.CHRONY: "systemctl try-restart chrony",
    base_files.SYSCTL: f"sysctl --quiet --load={base_files.SYSCTL}",
    **dict.fromkeys(base_files.service_files(), "systemctl daemon-reload"),
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
    *(f"{watcher.unit}.service" for watcher in places.ALL if watcher not in places.OURS),
    *places.COLLECTORS_ON,
    *places.COLLECTORS_OFF,
    "containerd.service",
    "nfs-server.service",
    "fsidd.service",
    "nfs-blkmap.service",
    "nfs-client.target",
    "quotarpc.service",
    "rpcbind.service",
    "rpcbind.socket",
)
"""What the deploys of a cluster turn on where it is of use, and an image must not start by itself."""

if is_build():
    laid_out = dict(base_files.image_files())
    if "compute" in host.groups:
        laid_out |= base_files.service_files()
    text_files.put(
        name="Lay out users, firewall and SSH",
        files=[
            TextFile(path, content, then=THEN[path] if path in IN_IMAGE else "")
            for path, content in laid_out.items()
        ],
    )
    services.state(name="Start nothing of a cluster at boot", on=ALWAYS_ON, off=OF_A_CLUSTER, now=False)
else:
    this = target()
    # Before anything is mounted over where it is now.
    homes.way_in(name="The way in")
    files = dict(base_files.cluster_files(this.cluster, this.node))
    if this.cluster.kind == "hpc" and (host_keys := known_hosts.given(this.cluster)):
        files[base_files.SSH_KNOWN_HOSTS] = "".join(host_keys)
    text_files.put(
        name="Names, time, users, firewall and SSH",
        files=[TextFile(path, content, then=THEN.get(path, "")) for path, content in files.items()],
    )
    if this.cluster.kind == "hpc" and base_files.PAM not in files:
        text_files.absent(name="No rules of login of another role", paths=[base_files.PAM])
    # Before the services, which may be masked, and before munge's key, which belongs to an account.
    in_force.mended(name="What is in force", wanted=to_be_in_force(this.cluster, this.node))
    rotated = ("logrotate.timer",) if base_files.LOGROTATE in files else ()
    services.state(
        name="Firewall, time and rotation of logs are on",
        on=("nftables.service", "chrony.service", *rotated),
    )
