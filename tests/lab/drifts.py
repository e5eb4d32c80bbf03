"""How each row of docs/drift.md is broken by hand, and how a person sees that it is as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Break:
    """A drift of ``node``. ``sound`` is a shell condition that holds while there is none, ``do`` makes one.

    What is only named, or stops the deploy on the node, is said with the words ``said``; ``undo`` takes it
    back.
    """

    node: str
    do: str
    sound: str
    said: str = ""
    undo: str = ""


DROP_IN = "/run/systemd/system/ssh.service.d/lab.conf"
ACCOUNTS = (
    "getent passwd hpc | grep -q ':2000:2000:.*:/home/hpc:/bin/bash$' "
    '&& [ "$(stat -c %U /home/hpc)" = hpc ]'
)

BREAKS: Mapping[str, Break] = {
    "files": Break("compute-02", "chmod 666 /etc/hosts", '[ "$(stat -c %a /etc/hosts)" = 644 ]'),
    "services": Break(
        "compute-01",
        "systemctl disable --quiet --now chrony",
        "systemctl --quiet is-active chrony && systemctl --quiet is-enabled chrony",
    ),
    "hostname": Break(
        "compute-02", "hostname other; echo other >/etc/hostname", '[ "$(uname -n)" = compute-02 ]'
    ),
    "account.deleted": Break("compute-02", "userdel --force hpc; true", ACCOUNTS),
    "account.uid": Break(
        "compute-01",
        # usermod refuses while a process of the user is there.
        "sed -i 's/^hpc:x:2000:/hpc:x:2345:/' /etc/passwd",
        '[ "$(id -u hpc)" = 2000 ]',
        "hpc has the number 2345",
        "sed -i 's/^hpc:x:2345:/hpc:x:2000:/' /etc/passwd",
    ),
    "account.login": Break(
        "controller",
        "sed -i 's|^\\(munge:.*\\):/usr/sbin/nologin$|\\1:/bin/sh|' /etc/passwd",
        "getent passwd munge | grep -q ':/usr/sbin/nologin$'",
    ),
    "place": Break(
        "compute-02",
        "chmod 777 /etc/slurm && chmod 600 /etc/slurm/slurm.conf && chown daemon /etc/slurm/gres.conf "
        "&& chmod 755 /etc/munge",
        '[ "$(stat -c %a%U /etc/slurm /etc/slurm/slurm.conf /etc/slurm/gres.conf /etc/munge | tr -d "\\n")" '
        "= 755root644root644root700munge ]",
    ),
    "kernel": Break(
        "compute-02",
        "echo 0 >/proc/sys/user/max_user_namespaces",
        '[ "$(cat /proc/sys/user/max_user_namespaces)" = 15000 ]',
    ),
    "kernel.later": Break(
        "controller",
        "echo 'user.max_user_namespaces = 0' >/etc/sysctl.d/99-lab.conf",
        "[ ! -e /etc/sysctl.d/99-lab.conf ]",
        "/etc/sysctl.d/99-lab.conf is read after",
        "rm /etc/sysctl.d/99-lab.conf",
    ),
    "unit.masked": Break(
        "compute-02",
        "systemctl mask --quiet munge",
        "! systemctl show --property=LoadState munge | grep -q masked",
    ),
    "unit.reload": Break(
        "controller",
        "touch /usr/lib/systemd/system/chrony.service",
        "systemctl show --property=NeedDaemonReload chrony | grep -q no",
    ),
    "unit.drop-in": Break(
        "compute-01",
        f"mkdir -p {DROP_IN.rpartition('/')[0]} && printf '[Service]\\nNice=1\\n' >{DROP_IN} "
        "&& systemctl daemon-reload",
        f"[ ! -e {DROP_IN} ]",
        DROP_IN,
        f"rm -r {DROP_IN.rpartition('/')[0]} && systemctl daemon-reload",
    ),
    "unit.file": Break(
        "controller",
        "cp /usr/lib/systemd/system/nftables.service /etc/systemd/system/ && systemctl daemon-reload",
        "[ ! -e /etc/systemd/system/nftables.service ]",
        "nftables.service is /etc/systemd/system/nftables.service",
        "rm /etc/systemd/system/nftables.service && systemctl daemon-reload",
    ),
    "rules": Break("compute-02", "nft flush ruleset", "nft list table inet hpcstate | grep -q 'policy drop'"),
    "time": Break(
        "compute-02",
        "for source in $(chronyc -n -c sources | cut -d, -f3); do chronyc delete $source; done",
        "chronyc -n -c sources | grep -q ,192.168.170.",
    ),
    "beside": Break(
        "compute-01",
        "echo '# nothing' >/etc/ssh/sshd_config.d/99-lab.conf",
        "[ ! -e /etc/ssh/sshd_config.d/99-lab.conf ]",
        "/etc/ssh/sshd_config.d/99-lab.conf is not hpcstate's",
        "rm /etc/ssh/sshd_config.d/99-lab.conf",
    ),
    "options": Break(
        "controller",
        "echo 'OPTIONS=\"--num-threads=2\"' >>/etc/default/munge",
        "! grep -q '^OPTIONS' /etc/default/munge",
        "/etc/default/munge gives the daemon options",
        "sed -i '/^OPTIONS/d' /etc/default/munge",
    ),
    "users": Break(
        "compute-02",
        "usermod --expiredate 1 --shell /bin/sh alice && gpasswd --delete alice physics "
        "&& rm /etc/sudoers.d/hpcstate-users "
        "&& echo 'ssh-ed25519 AAAA lab' >>/etc/ssh/authorized_keys.d/alice",
        "getent shadow alice | grep -q ':::$' && getent passwd alice | grep -q ':/bin/bash$' "
        "&& id -nG alice | grep -qw physics && [ -e /etc/sudoers.d/hpcstate-users ] "
        "&& ! grep -q ' lab$' /etc/ssh/authorized_keys.d/alice",
    ),
    "users.ended": Break(
        "compute-01",
        "chage --expiredate 0 bob",
        "getent shadow bob | grep -q ':::$'",
        "the account of bob has ended",
        "chage --expiredate -1 bob",
    ),
    "munge.key": Break(
        "compute-01", "chmod 644 /etc/munge/munge.key", '[ "$(stat -c %a /etc/munge/munge.key)" = 400 ]'
    ),
    "munge.daemon": Break(
        "compute-01",
        "systemctl disable --quiet --now munge",
        "systemctl --quiet is-active munge && systemctl --quiet is-enabled munge",
    ),
    "apptainer.programs": Break(
        "compute-01",
        "mv /usr/bin/fuse2fs /usr/bin/fuse2fs.away",
        "command -v fuse2fs >/dev/null",
        said="fuse2fs, which Apptainer starts for users, is missing",
        undo="mv /usr/bin/fuse2fs.away /usr/bin/fuse2fs",
    ),
    "subids": Break(
        "compute-01", "sed -i '/^hpc:/d' /etc/subuid", "grep -q '^hpc:131072000:65536$' /etc/subuid"
    ),
    "data_volume": Break(
        "controller",
        "umount --lazy /opt/containers && systemctl disable --quiet opt-containers.mount",
        "mountpoint -q /opt/containers && systemctl --quiet is-enabled opt-containers.mount",
    ),
    "quotas": Break(
        "controller",
        "setquota -u 2001 0 0 0 0 /srv/hpcstate && quotaoff -u /srv/hpcstate",
        "quotaon -p -u /srv/hpcstate | grep -q 'is on' "
        "&& repquota -u -n -O csv /srv/hpcstate | grep -q '^#2001,.*,2097152,'",
    ),
    "homes.way": Break(
        "controller",
        # With the keys, for the deploy logs in with them.
        "cp -a /var/lib/hpcstate/admin /home/ && "
        "sed -i 's|^\\(admin:.*\\):/var/lib/hpcstate/admin:|\\1:/home/admin:|' /etc/passwd",
        "getent passwd admin | grep -q ':/var/lib/hpcstate/admin:'",
    ),
    "homes.served": Break(
        "controller",
        "exportfs -o rw,insecure '*:/home' && systemctl disable --quiet nfs-server",
        "! exportfs -s | grep -q '[*]' && systemctl --quiet is-enabled nfs-server",
    ),
    "homes.mounted": Break(
        "compute-01",
        "systemctl disable --quiet --now home.automount",
        "systemctl --quiet is-active home.automount && systemctl --quiet is-enabled home.automount",
    ),
    "mounts": Break(
        "compute-02",
        "systemctl disable --quiet --now data.automount",
        "systemctl --quiet is-active data.automount && systemctl --quiet is-enabled data.automount",
    ),
    "mounts.foreign": Break(
        "compute-01",
        "systemctl disable --quiet --now data.automount; systemctl stop data.mount; mkdir /run/lab-units "
        "&& mv /etc/systemd/system/data.*mount /run/lab-units/ && systemctl daemon-reload "
        "&& mkdir -p /data && mount -t tmpfs lab /data",
        "! grep -q ' /data .* tmpfs ' /proc/self/mountinfo",
        "/data is mounted from lab (tmpfs)",
        "umount /data; mv /run/lab-units/* /etc/systemd/system/ && rmdir /run/lab-units "
        "&& systemctl daemon-reload && systemctl enable --quiet --now data.automount",
    ),
    # Before the database, without which sacctmgr changes nothing.
    "accounting.associations": Break(
        "controller",
        "sacctmgr --immediate remove user where name=alice cluster=lab "
        "&& sacctmgr --immediate modify qos where name=short set MaxWall=7",
        "sacctmgr --noheader --parsable2 show assoc user=alice format=account | grep -q '^physics$' "
        "&& sacctmgr --noheader --parsable2 show qos short format=maxwall | grep -q '^00:30:00$'",
    ),
    "slurm.reservations": Break(
        "controller",
        "scontrol update reservationname=maintenance flags-=maint",
        "scontrol --oneliner show reservation maintenance | grep -q 'Flags=MAINT.* Users=root '",
    ),
    "slurm.partitions": Break(
        "controller",
        "scontrol update partitionname=debug maxtime=5 state=down",
        "scontrol --oneliner show partition debug | grep -q 'State=UP '",
        "partition debug has State=DOWN, MaxTime=00:05:00",
        "scontrol update partitionname=debug maxtime=1:00:00 state=up",
    ),
    "accounting.database": Break(
        "controller",
        "mariadb -e \"REVOKE ALL PRIVILEGES ON slurm_acct_db.* FROM 'slurm'@'localhost'\"",
        "mariadb -e \"SHOW GRANTS FOR 'slurm'@'localhost'\" | grep -q 'ALL PRIVILEGES ON .slurm_acct_db'",
    ),
    "accounting.daemon": Break(
        "controller",
        "chmod 644 /etc/slurm/slurmdbd.conf && systemctl disable --quiet slurmdbd",
        '[ "$(stat -c %a%U /etc/slurm/slurmdbd.conf)" = 600slurm ] '
        "&& systemctl --quiet is-enabled slurmdbd && sacctmgr ping | grep -q 'is UP'",
    ),
    "slurm.files": Break(
        "compute-02",
        "echo '# by hand' >>/etc/slurm/cgroup.conf",
        "! grep -q '^# by hand' /etc/slurm/cgroup.conf",
    ),
    "slurm.daemons": Break(
        "compute-01", "systemctl disable --quiet slurmd", "systemctl --quiet is-enabled slurmd"
    ),
    "slurm.drain": Break(
        "controller",
        "scontrol update nodename=compute-02 state=drain reason='hpcstate: lab'",
        "! scontrol show node compute-02 | grep -q DRAIN",
    ),
    "slurm.runs": Break(
        "controller",
        'scontrol update nodename=compute-01 extra=\'{"image": "lab-other"}\'',
        "! sinfo --noheader --nodes=compute-01 --Format=Extra:500 | grep -q lab-other",
    ),
    "gpu.simulated": Break("compute-01", "rm /dev/nvidia1", "[ -c /dev/nvidia1 ]"),
    "gres": Break(
        "compute-02",
        "rm -f /dev/nvidia1 && mkdir /dev/nvidia1",
        "[ ! -d /dev/nvidia1 ]",
        "compute-02",
        "rmdir /dev/nvidia1",
    ),
    "timers": Break(
        "controller",
        "systemctl disable --quiet --now hpcstate-scratch.timer "
        "&& echo >/usr/local/lib/hpcstate/hpcstate-scratch",
        "systemctl --quiet is-active hpcstate-scratch.timer "
        "&& systemctl --quiet is-enabled hpcstate-scratch.timer "
        "&& grep -q squeue /usr/local/lib/hpcstate/hpcstate-scratch",
    ),
    "registry": Break(
        "compute-02", "chmod 777 /opt/containers", '[ "$(stat -c %a /opt/containers)" != 777 ]'
    ),
}
"""By the key of the row. They are made all at once, so none may hide another: each has a place of its own."""

ORDER = sorted(BREAKS, key=lambda key: key == "unit.reload")
"""In which they are made: whatever enables, masks or disables a unit reloads systemd."""
