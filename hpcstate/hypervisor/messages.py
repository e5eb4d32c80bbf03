"""What libvirt and QEMU say when they refuse, in words that name the cause and the next step. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpcstate.errors import HpcstateError

LOG = "the log of a node: /var/log/libvirt/qemu/<cluster>-<node>.log on the hypervisor"


@dataclass(frozen=True)
class _Known:
    """A refusal: the words it is known by, what it means, the next step; ``{1}`` is a group of the words."""

    words: re.Pattern[str]
    message: str
    hint: str


def _known(words: str, message: str, hint: str) -> _Known:
    return _Known(re.compile(words, re.IGNORECASE | re.DOTALL), message, hint)


_REFUSALS = (
    _known(
        r"no space left on device",
        "the hypervisor's disk is full",
        "free some space (df /var/lib/libvirt/images): nothing is lost, the next run goes on from here",
    ),
    _known(
        r"authentication (unavailable|failed)|access denied|libvirt-sock'?: permission denied",
        "this user may not use libvirt",
        "sudo usermod -aG libvirt $USER, then log in again; or run it as root",
    ),
    _known(
        r"cannot acquire state change lock.*held by (?:monitor=)?([\w-]+)",
        "another operation is working on this machine ({1})",
        "wait for it, then run this again; virsh domjobinfo shows what it does",
    ),
    _known(
        r"failed to initialize kvm: device or resource busy|ioctl\(KVM_CREATE_VM\) failed: 16",
        "another hypervisor holds the processor's virtualization (VirtualBox, VMware)",
        "end its machines, or set enable_kvm: false",
    ),
    _known(
        r"could not access kvm kernel module|kvm is not supported|"
        r"invalid argument: could not get preferred machine.*type=kvm",
        "KVM cannot be used here",
        "is virtualization on in the firmware, and may QEMU open /dev/kvm? without it: enable_kvm: false",
    ),
    _known(
        r"hugetlbfs filesystem is not mounted|hugepages are disabled|no hugetlbfs mount",
        "no huge pages of that size are set aside on the hypervisor",
        "HPCSTATE_CLUSTER_FILE=FILE pyinfra @local deploys/hypervisor.py sets them aside",
    ),
    _known(
        r"no FLR, PM reset or bus reset available|unable to reset PCI device (\S+)",
        "the device cannot be reset, which libvirt wants before a node gets it",
        "hpcstate inventory pcie tells what is known of its kind; one that hangs needs the host's power off",
    ),
    _known(
        r"vfio_dma_map\(.*?\) = -12|failed to setup container.*cannot allocate memory|VFIO_MAP_DMA.*-12",
        "the memory of this node cannot be pinned for its devices",
        "free -g there: VFIO pins all of it; for a user's own libvirt its limit counts (ulimit -l)",
    ),
    _known(
        r"phys-bits too low|vfio_dma_map\(.*?\) = -(?:14|22)\b",
        "the node has too few address bits for its memory and devices, or more than the host's IOMMU",
        "hpcstate validate adds up; hardware.acceleration: {{cpu_model: host-passthrough}} gives the host's",
    ),
    _known(
        r"host doesn't support passthrough of host PCI devices|host doesn't support VFIO",
        "the IOMMU of the hypervisor is off",
        "hpcstate inventory pcie says what to switch on",
    ),
    _known(
        r"PCI device (\S+) is in use by driver \S+, domain (\S+)",
        "another machine ({2}) has the device {1}",
        "stop it first: virsh shutdown {2}",
    ),
    _known(
        r"/dev/vfio/(\d+): (?:device or resource busy|operation not permitted)",
        "another program has the IOMMU group {1}",
        "hpcstate inventory pcie, as root, names the program; end it",
    ),
    _known(
        r"verify all devices in group (\d+) are bound",
        "IOMMU group {1} has a device with a driver of the host in it",
        "hpcstate inventory pcie --all shows the group; all of it goes to one node",
    ),
    _known(
        r"firewalld.*zone|failed to (?:apply|run) firewall|ip6?tables.*(?:failed|unexpected)|nft.*unexpected",
        "the hypervisor's firewall refused libvirt's rules for the network",
        "what the line names has to work there; after a change of the firewall: systemctl restart libvirtd. "
        "docs/host.md, When it does not start",
    ),
    _known(
        r"(?:creating|create) bridge (?:interface )?(\S+): file exists",
        "this host has an interface {1} already",
        "take another name for network.bridge; if nobody uses it: ip link delete {1}",
    ),
    _known(
        r"dnsmasq.*no such file|cannot (?:find|check).*dnsmasq",
        "the hypervisor has no dnsmasq, which gives the nodes addresses and names",
        "apt-get install dnsmasq-base there",
    ),
    _known(
        r"/dev/net/tun",
        "the hypervisor has no /dev/net/tun",
        "modprobe tun there; in a container it has to be given",
    ),
    _known(
        r"cannot set up guest memory|unable to map backing store.*cannot allocate memory",
        "the hypervisor does not have enough free memory for this node",
        "free -g there; lower memory_gb, or stop what else runs (with huge pages: grep Huge /proc/meminfo)",
    ),
    _known(
        r"group (\d+) is not viable",
        "IOMMU group {1} has a device with a driver of the host in it",
        "hpcstate inventory pcie --all shows the group; all of it goes to one node",
    ),
    _known(
        r"network is already in use by interface (\S+)",
        "the subnet is in use by the interface {1}",
        "give the cluster another subnet",
    ),
    _known(
        r"failed to bind|address already in use",
        "an address of the network is taken, most often port 53 by a DNS server that listens everywhere",
        "ss -lunp 'sport = 53' shows it; have it listen on its own addresses only",
    ),
    _known(
        r"connection reset by peer|client socket is closed|end of file while reading data|"
        r"cannot (recv|send|write) data|broken pipe",
        "libvirtd ended in the middle of this",
        "journalctl -u libvirtd says why; when it runs again, run this again",
    ),
)


def refused(text: str, where: str, what: str = "libvirt refused it") -> HpcstateError:
    """The error for a refusal of libvirt with the words ``text``: at ``where``, when ``what`` was tried."""
    for known in _REFUSALS:
        if found := known.words.search(text):
            words = (found[0], *(group or "" for group in found.groups()))
            said = f"{known.message.format(*words)} (libvirt: {_one_line(text)})"
            return HpcstateError(said, where=where, hint=known.hint.format(*words))
    return HpcstateError(f"{what}: {_one_line(text)}", where=where, hint=LOG)


def _one_line(text: str) -> str:
    """The text in one line, without the date and name that QEMU puts before its own, and without the line
    that points at a place in XML.
    """
    plain = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z qemu-system-\S+: ", "", text)
    return "; ".join(line.strip() for line in plain.splitlines() if line.strip(" -^"))
