"""In how many ways a host uses a disk or a card: trees of sysfs and proc, and tools that answer as real ones.

The paths are those of Linux 6.1 and 6.12; what zpool and ip print is as zfs 2.3 and iproute2 6.1 print it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hpcstate.probe import pci_use

NVME = "devices/pci0000:00/0000:00:1d.0/0000:3d:00.0"
SATA = "devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block"
CARD = "devices/pci0000:00/0000:00:1c.0/0000:02:00.0"
OTHER = "devices/pci0000:00/0000:00:1c.1/0000:03:00.0"


class Tree:
    """A machine: its sysfs and proc below a folder whose name needs quoting, and its tools."""

    def __init__(self, root: Path) -> None:
        self.sys, self.proc, self.tools = root / "sy s", root / "pro c", root / "bin"
        self.sbin = root / "sbin"
        for folder in (self.sys, self.proc / "self", self.proc / "net", self.tools, self.sbin):
            folder.mkdir(parents=True)
        for name in ("basename", "find", "readlink", "sed", "sort", "tr", "sh"):
            program = next(Path(at) / name for at in ("/usr/bin", "/bin") if (Path(at) / name).exists())
            (self.tools / name).symlink_to(program)

    def block(self, path: str, number: str = "", *, partition: bool = False) -> None:
        """A block device at ``path`` below sysfs, with its links by name and number."""
        folder = self.sys / path
        folder.mkdir(parents=True, exist_ok=True)
        if partition:
            (folder / "partition").write_text("1\n")
        for link in (f"class/block/{folder.name}", *([f"dev/block/{number}"] if number else [])):
            self.link(link, path)

    def link(self, link: str, target: str) -> None:
        at = self.sys / link
        at.parent.mkdir(parents=True, exist_ok=True)
        (self.sys / target).mkdir(parents=True, exist_ok=True)
        at.symlink_to(os.path.relpath(self.sys / target, at.parent))

    def mount(self, number: str, at: str, kind: str, source: str, options: str = "rw") -> None:
        with (self.proc / "self/mountinfo").open("a") as file:
            file.write(f"22 1 {number} / {at} rw,relatime shared:1 - {kind} {source} {options}\n")

    def tool(self, name: str, script: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / name).chmod(0o755)

    def card(self, name: str, path: str) -> None:
        self.link(f"class/net/{name}/device", path)

    def file(self, path: str, text: str) -> None:
        at = self.sys / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text)

    def opened(self, pid: int, program: str, *nodes: str) -> None:
        """A process that has these nodes open."""
        folder = self.proc / f"{pid}/fd"
        folder.mkdir(parents=True)
        (self.proc / f"{pid}/comm").write_text(f"{program}\n")
        for number, node in enumerate(nodes, 3):
            (folder / str(number)).symlink_to(node)

    def look(self) -> pci_use.PciUses:
        done = subprocess.run(
            ["sh", "-c", pci_use.command(str(self.sys), str(self.proc), str(self.sbin))],
            env={"PATH": str(self.tools)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return pci_use.parse(done.stdout)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def traced(**devices: list[str]) -> pci_use.PciUses:
    addresses = {
        "nvme": "0000:3d:00.0",
        "sata": "0000:00:1f.2",
        "card": "0000:02:00.0",
        "other": "0000:03:00.0",
    }
    return {"devices": {addresses[name]: uses for name, uses in devices.items()}, "untraced": {}}


def test_a_partition_of_an_nvme(tree: Tree) -> None:
    tree.block(f"{NVME}/nvme/nvme0/nvme0n1/nvme0n1p2", "259:2", partition=True)
    tree.mount("259:2", "/", "ext4", "/dev/nvme0n1p2")
    assert tree.look() == traced(nvme=["mounted at /"])


def test_lvm_on_luks_on_md_over_two_disks(tree: Tree) -> None:
    tree.block(f"{NVME}/nvme/nvme0/nvme0n1/nvme0n1p2", partition=True)
    tree.block(f"{SATA}/sda/sda1", partition=True)
    tree.block("devices/virtual/block/md0")
    tree.block("devices/virtual/block/dm-0")
    tree.block("devices/virtual/block/dm-1", "253:1")
    tree.link("devices/virtual/block/md0/slaves/nvme0n1p2", f"{NVME}/nvme/nvme0/nvme0n1/nvme0n1p2")
    tree.link("devices/virtual/block/md0/slaves/sda1", f"{SATA}/sda/sda1")
    tree.link("devices/virtual/block/dm-0/slaves/md0", "devices/virtual/block/md0")
    tree.link("devices/virtual/block/dm-1/slaves/dm-0", "devices/virtual/block/dm-0")
    tree.mount("253:1", "/", "xfs", "/dev/mapper/vg-root")
    assert tree.look() == traced(sata=["mounted at /"], nvme=["mounted at /"])


def test_a_partition_of_an_md_array(tree: Tree) -> None:
    tree.block(f"{SATA}/sda/sda1", partition=True)
    tree.block("devices/virtual/block/md0")
    tree.block("devices/virtual/block/md0/md0p1", "259:9", partition=True)
    tree.link("devices/virtual/block/md0/slaves/sda1", f"{SATA}/sda/sda1")
    tree.mount("259:9", "/", "ext4", "/dev/md0p1")
    assert tree.look() == traced(sata=["mounted at /"])


def test_nvme_with_native_multipath(tree: Tree) -> None:
    subsystem = "devices/virtual/nvme-subsystem/nvme-subsys0"
    tree.block(f"{subsystem}/nvme0n1/nvme0n1p1", "259:1", partition=True)
    tree.link(f"{subsystem}/nvme0", f"{NVME}/nvme/nvme0")
    tree.mount("259:1", "/", "ext4", "/dev/nvme0n1p1")
    assert tree.look() == traced(nvme=["mounted at /"])


def test_every_disk_of_a_btrfs(tree: Tree) -> None:
    tree.block(f"{SATA}/sda")
    tree.block(f"{NVME}/nvme/nvme0/nvme0n1")
    tree.mount("0:41", "/home", "btrfs", "/dev/sda", "rw,subvol=/@home")
    tree.link("fs/btrfs/4c2a/devices/sda", f"{SATA}/sda")
    tree.link("fs/btrfs/4c2a/devices/nvme0n1", f"{NVME}/nvme/nvme0/nvme0n1")
    assert tree.look() == traced(
        sata=["mounted at /home", "in the mounted btrfs 4c2a"], nvme=["in the mounted btrfs 4c2a"]
    )


def test_a_bcachefs_names_all_its_disks(tree: Tree) -> None:
    tree.block(f"{SATA}/sda")
    tree.block(f"{NVME}/nvme/nvme0/nvme0n1")
    tree.mount("0:41", "/srv", "bcachefs", "/dev/sda:/dev/nvme0n1")
    assert tree.look() == traced(sata=["mounted at /srv"], nvme=["mounted at /srv"])


ZPOOL = """\
case "$*" in
"list -H -o name") printf 'rpool\\ntank\\n' ;;
"status -LP rpool")
  printf '  pool: rpool\\n state: ONLINE\\nconfig:\\n\\n\\tNAME              STATE     READ WRITE CKSUM\\n'
  printf '\\trpool             ONLINE       0     0     0\\n'
  printf '\\t  /dev/nvme0n1p3  ONLINE       0     0     0\\n' ;;
"status -LP tank")
  printf '\\ttank  ONLINE 0 0 0\\n\\t  mirror-0  ONLINE 0 0 0\\n\\t    /dev/sda  ONLINE 0 0 0\\n' ;;
esac"""


def test_the_disks_of_zfs_are_those_that_zpool_names(tree: Tree) -> None:
    """Also of a pool that nothing is mounted from: another machine's disks may be in it."""
    tree.block(f"{NVME}/nvme/nvme0/nvme0n1/nvme0n1p3", partition=True)
    tree.block(f"{SATA}/sda")
    tree.mount("0:25", "/", "zfs", "rpool/ROOT/debian", "rw,xattr,noacl")
    tree.tool("zpool", ZPOOL)
    assert tree.look() == traced(sata=["in the ZFS pool tank"], nvme=["in the ZFS pool rpool"])


@pytest.mark.parametrize("tool", ["", "exit 1", "exec true"], ids=["no zpool", "it fails", "it says nothing"])
def test_a_zfs_that_nobody_can_look_into_may_be_on_any_disk(tree: Tree, tool: str) -> None:
    if tool:
        tree.tool("zpool", tool)
    tree.mount("0:25", "/", "zfs", "rpool/ROOT/debian", "rw,xattr,noacl")
    assert tree.look() == {"devices": {}, "untraced": {"storage": ["/"]}}


def test_swap(tree: Tree) -> None:
    tree.block(f"{SATA}/sda/sda3", partition=True)
    (tree.proc / "swaps").write_text(
        "Filename\tType\tSize\tUsed\tPriority\n/dev/sda3 partition 8 0 -2\n/swapfile file 8 0 -3\n"
    )
    assert tree.look() == traced(sata=["swap on /dev/sda3"])


IP = """\
case "$*" in
"-o route get 192.0.2.9") echo '192.0.2.9 via 192.0.2.1 dev eth0 src 192.0.2.5 uid 0 \\\\    cache' ;;
"-4 -o route show table all")
  printf 'default via 10.0.0.1 dev eth1 table 100 \\n10.0.0.0/24 dev eth1 scope link\\n' ;;
esac"""


@pytest.mark.parametrize("known", [True, False])
def test_a_root_over_the_network(tree: Tree, known: bool) -> None:
    tree.card("eth0", CARD)
    tree.mount("0:30", "/", "nfs4", "192.0.2.9:/srv/root", "rw,vers=4.2,clientaddr=192.0.2.5,addr=192.0.2.9")
    if known:
        tree.tool("ip", IP.replace("-4 -o", "never"))
        assert tree.look() == traced(card=["network by /"])
    else:
        assert tree.look() == {"devices": {}, "untraced": {"network": ["/"]}}


def test_a_disk_of_iscsi(tree: Tree) -> None:
    tree.block("devices/platform/host3/session7/target3:0:0/3:0:0:1/block/sdb/sdb1", "8:17", partition=True)
    tree.mount("8:17", "/", "ext4", "/dev/sdb1")
    tree.card("eth0", CARD)
    connection = tree.sys / "class/iscsi_connection/connection7:0"
    connection.mkdir(parents=True)
    (connection / "address").write_text("192.0.2.9\n")
    assert tree.look() == {"devices": {}, "untraced": {"network": ["/"]}}
    tree.tool("ip", IP.replace("-4 -o", "never"))
    assert tree.look() == traced(card=["network by /"])


def test_a_default_route_by_ipv6(tree: Tree) -> None:
    tree.card("eth0", CARD)
    zeros = "0" * 32
    (tree.proc / "net/ipv6_route").write_text(
        f"{zeros} 00 {zeros} 00 fe80{zeros[8:]}0001 00000400 00000003 00000000 00000003     eth0\n"
        f"{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200       lo\n"
    )
    assert tree.look() == traced(card=["default route by eth0"])


def test_a_default_route_of_another_table(tree: Tree) -> None:
    tree.card("eth1", OTHER)
    tree.tool("ip", IP)
    assert tree.look() == traced(other=["default route by eth1"])


def test_a_bridge_over_a_bond_over_two_cards(tree: Tree) -> None:
    for name, path in (("eth0", CARD), ("eth1", OTHER)):
        tree.card(name, path)
        tree.link(f"class/net/bond0/lower_{name}", f"class/net/{name}")
        tree.link(f"class/net/{name}/upper_bond0", "class/net/bond0")
    tree.link("class/net/br0/lower_bond0", "class/net/bond0")
    (tree.proc / "net/route").write_text("Iface\tDestination\nbr0\t00000000\t0101A8C0\nbr0\t0001A8C0\t0\n")
    expected = ["default route by br0", "a port of bond0"]
    assert tree.look() == traced(card=expected, other=expected)


def test_a_network_without_a_default_route_counts_too(tree: Tree) -> None:
    tree.card("eth1", OTHER)
    (tree.proc / "net/route").write_text("Iface\tDestination\neth1\t0000000A\t0\n")
    assert tree.look() == traced(other=["network by eth1"])


def test_what_is_in_memory_or_in_a_file_uses_no_device(tree: Tree) -> None:
    tree.block("devices/virtual/block/loop0", "7:0")
    tree.block("devices/virtual/block/zram0")
    tree.mount("7:0", "/snap/core", "squashfs", "/dev/loop0")
    tree.mount("0:5", "/dev", "devtmpfs", "udev")
    tree.mount("0:50", "/mnt", "overlay", "overlay")
    (tree.proc / "swaps").write_text("Filename\tType\n/dev/zram0 partition 8 0 100\n")
    assert tree.look() == {"devices": {}, "untraced": {}}


def test_a_disk_behind_vmd_is_a_use_of_its_controller_too(tree: Tree) -> None:
    """The controller is an endpoint: given away, it takes all its disks along (Linux: vmd.c)."""
    vmd = "devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0/10000:e1:00.0/nvme/nvme0/nvme0n1"
    tree.block(f"{vmd}/nvme0n1p2", "259:2", partition=True)
    tree.mount("259:2", "/", "ext4", "/dev/nvme0n1p2")
    expected = {"0000:00:0e.0": ["mounted at /"], "10000:e1:00.0": ["mounted at /"]}
    assert tree.look() == {"devices": expected, "untraced": {}}


def test_a_disk_below_something_that_nothing_is_mounted_from(tree: Tree) -> None:
    """A logical volume with the store of a Ceph OSD, or a guest's disk."""
    tree.block(f"{NVME}/nvme/nvme0/nvme0n1")
    tree.block("devices/virtual/block/dm-3")
    tree.link("devices/virtual/block/dm-3/slaves/nvme0n1", f"{NVME}/nvme/nvme0/nvme0n1")
    tree.link(f"{NVME}/nvme/nvme0/nvme0n1/holders/dm-3", "devices/virtual/block/dm-3")
    assert tree.look() == traced(nvme=["a disk below dm-3"])


def test_holders_are_not_said_beside_what_they_are_for(tree: Tree) -> None:
    tree.block(f"{SATA}/sda")
    tree.block("devices/virtual/block/dm-0", "253:0")
    tree.link("devices/virtual/block/dm-0/slaves/sda", f"{SATA}/sda")
    tree.link(f"{SATA}/sda/holders/dm-0", "devices/virtual/block/dm-0")
    tree.mount("253:0", "/", "ext4", "/dev/mapper/vg-root")
    assert tree.look() == traced(sata=["mounted at /"])


@pytest.mark.parametrize("tool", ["", "exit 1"], ids=["no zpool", "it fails"])
def test_a_pool_that_only_the_kernel_knows_may_be_on_any_disk(tree: Tree, tool: str) -> None:
    """Imported, with nothing mounted: volumes for guests. Not every folder of kstat is a pool."""
    if tool:
        tree.tool("zpool", tool)
    for folder in ("tank", "arcstats"):
        (tree.proc / "spl/kstat/zfs" / folder).mkdir(parents=True)
    (tree.proc / "spl/kstat/zfs/tank/state").write_text("ONLINE\n")
    assert tree.look() == {"devices": {}, "untraced": {"storage": ["ZFS:tank"]}}


def test_a_volume_of_zfs_that_nobody_can_look_into(tree: Tree) -> None:
    tree.block("devices/virtual/block/zd0", "230:0")
    tree.mount("230:0", "/", "ext4", "/dev/zd0")
    tree.tool("zpool", "exit 1")
    assert tree.look() == {"devices": {}, "untraced": {"storage": ["/"]}}


def test_an_ordinary_users_path_has_no_sbin(tree: Tree) -> None:
    """Debian: zpool is in /usr/sbin, which is not in a user's PATH."""
    tree.block(f"{NVME}/nvme/nvme0/nvme0n1/nvme0n1p3", partition=True)
    tree.block(f"{SATA}/sda")
    tree.mount("0:25", "/", "zfs", "rpool/ROOT/debian")
    tree.tool("zpool", ZPOOL)
    (tree.tools / "zpool").rename(tree.sbin / "zpool")
    assert tree.look() == traced(sata=["in the ZFS pool tank"], nvme=["in the ZFS pool rpool"])


def test_multipath_without_a_controller_is_untraced(tree: Tree) -> None:
    tree.block("devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", "259:1")
    tree.mount("259:1", "/", "ext4", "/dev/nvme0n1")
    assert tree.look() == {"devices": {}, "untraced": {"storage": ["/"]}}


def test_a_default_route_by_two_cards_at_once(tree: Tree) -> None:
    """As routing daemons write it, by link-local neighbours: the cards have no other route."""
    tree.card("eth0", CARD)
    tree.card("eth1", OTHER)
    hops = "".join(f"\\\\\\tnexthop via inet6 fe80::{n} dev eth{n} weight 1 " for n in (0, 1))
    tree.tool(
        "ip", f"case \"$*\" in '-4 -o route show table all') printf 'default proto bgp {hops}\\n' ;; esac"
    )
    assert tree.look() == traced(card=["default route by eth0"], other=["default route by eth1"])


def test_a_network_by_ipv6_without_a_default_route(tree: Tree) -> None:
    tree.card("eth0", CARD)
    tree.card("eth1", OTHER)
    end = f"00 {'0' * 32} 00000100 00000001 00000000 00000001"
    (tree.proc / "net/ipv6_route").write_text(
        f"fd00{'0' * 28} 40 {'0' * 32} {end}     eth0\n"
        f"fe80{'0' * 28} 40 {'0' * 32} {end}     eth1\n"
        f"ff00{'0' * 28} 08 {'0' * 32} {end}     eth1\n"
    )
    assert tree.look() == traced(card=["network by eth0"])


def test_the_log_of_xfs_on_a_disk_of_its_own(tree: Tree) -> None:
    tree.block(f"{SATA}/sda", "8:0")
    tree.block(f"{NVME}/nvme/nvme0/nvme0n1")
    tree.mount("8:0", "/srv", "xfs", "/dev/sda", "rw,logbufs=8,logdev=/dev/nvme0n1,noquota")
    assert tree.look() == traced(sata=["mounted at /srv"], nvme=["mounted at /srv"])


@pytest.mark.parametrize(
    ("backing", "uses"),
    [
        ("/dev/nvme0n1\n", ["mounted at /data"]),
        ("/var/lib/images/a disk.img\n", None),
        ("/dev/shm/a.img\n", None),
    ],
)
def test_a_loop_device_over_a_whole_disk(tree: Tree, backing: str, uses: list[str] | None) -> None:
    """losetup /dev/nvme0n1: the kernel has no holder for it."""
    tree.block(f"{NVME}/nvme/nvme0/nvme0n1")
    tree.block("devices/virtual/block/loop0", "7:0")
    tree.block("devices/virtual/block/loop0/loop0p1", "259:5", partition=True)
    tree.file("devices/virtual/block/loop0/loop/backing_file", backing)
    tree.mount("259:5", "/data", "ext4", "/dev/loop0p1")
    assert tree.look() == (traced(nvme=uses) if uses else {"devices": {}, "untraced": {}})


def test_the_disk_that_compressed_swap_is_written_back_to(tree: Tree) -> None:
    tree.block(f"{SATA}/sda")
    tree.block("devices/virtual/block/zram0")
    tree.block("devices/virtual/block/zram1")
    tree.file("devices/virtual/block/zram0/backing_dev", "/dev/sda\n")
    tree.file("devices/virtual/block/zram1/backing_dev", "none\n")
    assert tree.look() == traced(sata=["what zram0 is written back to"])


def test_disks_that_this_host_serves_to_others(tree: Tree) -> None:
    """iSCSI by LIO, NVMe over fabrics by nvmet; one that serves a file, and one that is not set up yet."""
    tree.block(f"{SATA}/sda")
    tree.block(f"{NVME}/nvme/nvme0/nvme0n1")
    tree.file("kernel/config/target/core/iblock_0/vol1/udev_path", "/dev/sda\n")
    tree.file("kernel/config/target/core/fileio_0/vol2/udev_path", "/srv/vol2.img\n")
    tree.file("kernel/config/target/core/iblock_1/vol3/udev_path", "")
    tree.file("kernel/config/nvmet/subsystems/nqn.a/namespaces/1/device_path", "/dev/nvme0n1\n")
    assert tree.look() == traced(sata=["served to others as vol1"], nvme=["served to others as 1"])


def test_a_disk_that_a_program_drives_itself(tree: Tree) -> None:
    """A guest with a whole disk (libvirt: <disk type='block'>), one by its SCSI node."""
    tree.block(f"{NVME}/nvme/nvme0/nvme0n1")
    tree.block(f"{SATA}/sda")
    tree.link("class/scsi_generic/sg0", "devices/pci0000:00/0000:00:1f.2/ata1/host0/scsi_generic/sg0")
    tree.opened(77, "qemu-system-x86", "/dev/null", "/dev/nvme0n1", "/dev/nvme0n1", "/dev/kvm")
    tree.opened(78, "my database", "/dev/sg0", "/dev/sdz")
    tree.opened(79, "(udev-worker)", "/dev/sda")
    assert tree.look() == traced(
        sata=["a disk that my_database[78] has open"], nvme=["a disk that qemu-system-x86[77] has open"]
    )


def test_a_program_on_a_disk_with_several_ways_has_each(tree: Tree) -> None:
    subsystem = "devices/virtual/nvme-subsystem/nvme-subsys0"
    tree.block(f"{subsystem}/nvme0n1")
    tree.link(f"{subsystem}/nvme0", f"{NVME}/nvme/nvme0")
    tree.opened(77, "qemu-system-x86", "/dev/nvme0n1")
    assert tree.look() == traced(nvme=["a disk that qemu-system-x86[77] has open"])


def test_ppp_over_a_card_without_an_address(tree: Tree) -> None:
    """A line of a provider: the default route is ppp0's, and only /proc/net/pppoe knows the card."""
    tree.card("eth0", CARD)
    tree.link("class/net/ppp0", "devices/virtual/net/ppp0")
    (tree.proc / "net/route").write_text("Iface\tDestination\nppp0\t00000000\t0\n")
    (tree.proc / "net/pppoe").write_text(
        "Id       Address              Device\n00000100 02:00:00:00:00:01 eth0\n"
    )
    assert tree.look() == traced(card=["PPP connection by eth0"])
