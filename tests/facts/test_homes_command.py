"""homes.sh for real, on a tree in the place of the kernel's and NFS's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate.probe import homes
from tests.facts.machine import programs, run, stand_in

TOOLS = ("sh", "sed", "awk", "timeout", "cat")

MOUNTINFO = """\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
70 22 0:44 / /home rw,relatime shared:40 - autofs systemd-1 rw,fd=54,direct
71 70 0:61 / /home rw,nosuid,nodev,relatime shared:41 master:2 - nfs4 192.168.150.10:/home rw,vers=4.2,hard
72 22 254:1 /x /home/other rw,relatime - ext4 /dev/vda1 rw
"""
SHOWN = """\
cat <<'END'
LoadState=loaded
ActiveState=active
UnitFileState=enabled
Id=home.automount

LoadState=masked
ActiveState=inactive
UnitFileState=masked
Id=rpcbind.socket
END
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    folder = programs(tmp_path / "tools", TOOLS)
    stand_in(folder, "getent", 'echo "$2:x:1000:1000:a:/var/lib/hpcstate/$2:/bin/bash"')
    stand_in(folder, "systemctl", SHOWN)
    return folder


def ask(tools: Path, root: Path, files: tuple[str, ...] = ()) -> homes.HomesState:
    question = homes.command("admin", "/home", ("home.automount", "rpcbind.socket"), files, str(root))
    return homes.parse(run(question, tools, root))


def test_a_node_with_all_of_it(tools: Path, tmp_path: Path) -> None:
    for path, text in {
        "proc/self/mountinfo": MOUNTINFO,
        "proc/fs/nfsd/versions": "-3 +4 -4.0 -4.1 +4.2\n",
        "var/lib/nfs/etab": "/home\t192.168.150.11(rw,sync,anonuid=65534)\n/a\\040b\t*(ro)\n",
        "usr/sbin/rpc.nfsd": "",
        "etc/exports.d/hpcstate.exports": "",
        "etc/systemd/system/home.mount": "[Mount]\nWhat=x\nType=nfs4\n",
        "sys/fs/virtiofs/0/tag": "hpcstate-home\n",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "usr/sbin/rpc.nfsd").chmod(0o755)
    found = ask(tools, tmp_path, ("/etc/exports.d/hpcstate.exports", "/etc/nfs.conf.d/hpcstate.conf"))
    assert found == {
        "way": "/var/lib/hpcstate/admin",
        "mounts": [
            {"type": "autofs", "source": "systemd-1", "options": ["rw", "relatime", "rw", "fd=54", "direct"]},
            {
                "type": "nfs4",
                "source": "192.168.150.10:/home",
                "options": ["rw", "nosuid", "nodev", "relatime", "rw", "vers=4.2", "hard"],
            },
        ],
        "kind": "nfs4",
        "tags": ["hpcstate-home"],
        "units": {
            "home.automount": {"load": "loaded", "active": "active", "enabled": "enabled"},
            "rpcbind.socket": {"load": "masked", "active": "inactive", "enabled": "masked"},
        },
        "programs": ["rpc.nfsd"],
        "versions": ["-3", "+4", "-4.0", "-4.1", "+4.2"],
        "exports": {"/home": ["192.168.150.11"], "/a\\040b": ["*"]},
        "files": ["/etc/exports.d/hpcstate.exports"],
    }


def test_a_node_with_nothing_of_it(tools: Path, tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("")
    stand_in(tools, "getent", "exit 2")
    stand_in(tools, "systemctl", "exit 1")
    assert ask(tools, tmp_path) == homes.parse("")
