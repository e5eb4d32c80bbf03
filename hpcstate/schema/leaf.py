"""Single values: what each may look like, and the type it becomes.

A leaf is a function from the text in the file to a value; it raises LeafError, which says what was
expected. Texts of any length and content are safe: nothing is converted before its form is known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import TypeVar, cast, get_args

from hpcstate import hostlist, paths
from hpcstate.model.cluster import Home
from hpcstate.model.gpu import DeviceType
from hpcstate.model.gres import AutoDetect
from hpcstate.model.network import Forward, Protocol
from hpcstate.model.roll import Share

T = TypeVar("T")
Leaf = Callable[[str], T]

MAX_HOSTS = 65_536
"""Names of one host list: more than Slurm can have (MAX_NODES), few enough to be expanded."""


class LeafError(ValueError):
    """``expected`` completes "expected ..."; ``hint`` is the next step."""

    def __init__(self, expected: str, hint: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.hint = hint


def pattern(expression: str, expected: str, hint: str = "", *, longest: int = 255) -> Leaf[str]:
    """Text that matches ``expression`` as a whole, at most ``longest`` characters."""
    compiled = re.compile(expression, re.ASCII)

    def leaf(text: str) -> str:
        if len(text) > longest or not compiled.fullmatch(text):
            raise LeafError(expected, hint)
        return text

    return leaf


def choice(*allowed: str) -> Leaf[str]:
    """One of ``allowed``."""

    def leaf(text: str) -> str:
        if text not in allowed:
            raise LeafError(f"one of {', '.join(allowed)}", closest(text, allowed))
        return text

    return leaf


def closest(text: str, known: tuple[str, ...]) -> str:
    """The hint "did you mean" for a misspelt word, empty when nothing is near."""
    import difflib  # 8 ms, and only a misspelt file needs it

    near = difflib.get_close_matches(text[:100], known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""


def integer(low: int, high: int) -> Leaf[int]:
    """A whole number from ``low`` to ``high``."""

    def leaf(text: str) -> int:
        # Twelve digits at most: int() of a million digits is slow, then refused by Python itself.
        if re.fullmatch(r"[+-]?[0-9]{1,12}", text) and low <= int(text) <= high:
            return int(text)
        raise LeafError(f"a whole number from {low} to {high}")

    return leaf


def gibibytes_as_mib(low: float, high: int) -> Leaf[int]:
    """A size in GiB, decimals allowed, from ``low`` to ``high``; the value is MiB."""

    def leaf(text: str) -> int:
        if re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,6})?", text) and low <= float(text) <= high:
            return round(float(text) * 1024)
        raise LeafError(f"a size in GiB from {low:g} to {high}, like 8 or 1.5")

    return leaf


def share(text: str) -> Share:
    """Nodes by number, or as a percentage (``25%``)."""
    digits = text.removesuffix("%")
    percent = digits != text
    if not digits.isascii() or not digits.isdigit() or len(digits) > 4 or int(digits) < 1:
        raise LeafError("a number of nodes, or a percentage like 25%")
    if percent and int(digits) > 100:
        raise LeafError("a percentage up to 100%")
    return Share(int(digits), percent)


def boolean(text: str) -> bool:
    """A YAML 1.1 truth value, as the earlier system read it."""
    values = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    try:
        return values[text.lower()]
    except KeyError:
        raise LeafError("true or false") from None


def address(text: str) -> IPv4Address:
    """An IPv4 address in dotted form."""
    try:
        return IPv4Address(text)
    except AddressValueError:
        raise LeafError("an IPv4 address like 192.168.150.11") from None


def address_or_dhcp(text: str) -> IPv4Address | None:
    """An IPv4 address, or None for ``DHCP``: the address is then allotted."""
    if text == "DHCP":
        return None
    try:
        return address(text)
    except LeafError:
        raise LeafError("an IPv4 address like 192.168.150.11, or DHCP") from None


def subnet(text: str) -> IPv4Network:
    """A private-size IPv4 network in CIDR form, /8 to /29, without host bits."""
    expected = "an IPv4 subnet like 192.168.150.0/24 (from /8 to /29)"
    if not re.fullmatch(r"[0-9.]{7,15}/[0-9]{1,2}", text, re.ASCII):
        raise LeafError(expected)
    try:
        network = IPv4Network(text, strict=False)
    except ValueError:
        raise LeafError(expected) from None
    if not 8 <= network.prefixlen <= 29:
        raise LeafError(expected)
    if text != str(network):
        raise LeafError(expected, f"the network of this address is {network}")
    if network.is_loopback or network.is_multicast or network.is_link_local or network.is_reserved:
        raise LeafError(
            "a subnet that can be routed to virtual machines", "take one from 192.168.0.0/16 or 10.0.0.0/8"
        )
    return network


def text(value: str) -> str:
    """Any text a person reads: at most 2000 characters, no control characters but line breaks."""
    if len(value) > 2000 or not value.replace("\n", "").isprintable():
        raise LeafError("text of at most 2000 printable characters")
    return value


def line(value: str) -> str:
    """A single line of text, not empty, without quotes that would end it in a configuration file."""
    if not value.strip() or len(value) > 1000 or not value.isprintable():
        raise LeafError("a single line of text")
    return value.strip()


def one_of_devices(value: str) -> DeviceType:
    """``device_type`` of a PCI device."""
    return cast(DeviceType, choice(*get_args(DeviceType))(value))


def autodetect(value: str) -> AutoDetect:
    """``autodetect`` of ``gres``: AutoDetect of gres.conf(5), as far as it concerns NVIDIA's GPUs."""
    return cast(AutoDetect, choice(*get_args(AutoDetect))(value))


def pci_address(value: str) -> str:
    """A PCI address; lower case. Functions have one digit from 0 to 7 (lspci(8), option -s)."""
    if not re.fullmatch(r"[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]", value, re.ASCII):
        short = re.fullmatch(r"[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]", value, re.ASCII)
        if re.fullmatch(r"[0-9a-fA-F]{5,8}:[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]", value, re.ASCII):
            raise LeafError(
                "a PCI domain of four digits: nothing is given away from behind Intel's VMD",
                "switch Intel's VMD off in the firmware, for the slot of this device at least",
            )
        raise LeafError("a PCI address like 0000:01:00.0", f"write 0000:{value}" if short else "see lspci -D")
    return value.lower()


def hex_id(value: str) -> str:
    """A PCI vendor or device number: four hexadecimal digits; lower case."""
    if not re.fullmatch(r"[0-9a-fA-F]{4}", value, re.ASCII):
        raise LeafError("four hexadecimal digits like 10de", "see lspci -nn")
    return value.lower()


def expanded(known: Mapping[str, str]) -> Leaf[str]:
    """An absolute path in which ``${NAME}`` is replaced from ``known``."""

    def leaf(value: str) -> str:
        def replace(match: re.Match[str]) -> str:
            name = match.group(1)
            if name not in known:
                raise LeafError("a path whose variables are set", f"export {name}, or write the path out")
            return known[name]

        path = re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]{0,63})\}", replace, value)
        if not path.startswith("/") or len(path) > 4096 or not path.isprintable():
            raise LeafError("an absolute path")
        return path

    return leaf


def host_path(value: str) -> str:
    """An absolute path on the host or in a node, ``${NAME}`` replaced from this process's environment.

    ``${TOT}`` is the project's root: the earlier system's word for it (top of tree).
    """
    return expanded({"TOT": str(paths.ROOT), **os.environ})(value)


def time_limit(value: str) -> str:
    """A time limit in Slurm's notation (slurm.conf(5), MaxTime)."""
    forms = r"\d{1,7}|\d{1,5}:\d{2}|\d{1,5}:\d{2}:\d{2}|\d{1,4}-\d{1,2}(:\d{2}(:\d{2})?)?|INFINITE|UNLIMITED"
    if not re.fullmatch(forms, value, re.ASCII):
        raise LeafError("a Slurm time limit: minutes, H:MM:SS, D-HH:MM:SS, or INFINITE")
    return value


def host_list(value: str) -> tuple[str, ...]:
    """The names of Slurm's host list ``value`` (``compute-[01-03,07]``), one bracket at most.

    One that names more than MAX_HOSTS hosts is refused before anything is expanded.
    """
    match = re.fullmatch(
        r"[a-z][a-z0-9-]{0,62}(?:\[(\d{1,6}(?:-\d{1,6})?(?:,\d{1,6}(?:-\d{1,6})?)*)\])?", value, re.ASCII
    )
    if not match:
        raise LeafError("a node name or a host list like compute-[01-04]")
    bounds = [part.partition("-") for part in (match.group(1) or "").split(",") if part]
    sizes = [int(last or first) - int(first) + 1 for first, _, last in bounds]
    if any(size < 1 for size in sizes) or sum(sizes) > MAX_HOSTS:
        raise LeafError("a host list that counts up", f"at most {MAX_HOSTS} nodes")
    return hostlist.expand(value)


def forward(value: str) -> Forward:
    """libvirt's forward mode of the network."""
    return cast(Forward, choice(*get_args(Forward))(value))


def protocol(value: str) -> Protocol:
    """What a port of the hypervisor speaks."""
    return cast(Protocol, choice(*get_args(Protocol))(value))


PORT = integer(1, 65_535)


def home(value: str) -> Home:
    """Where people's homes are."""
    return cast(Home, choice("nfs", "virtio_fs", "local")(value))


CLUSTER_NAME = pattern(
    r"[a-z0-9]([a-z0-9-]*[a-z0-9])?",
    "a cluster name: lower-case letters, digits and hyphens, at most 40 characters",
    "it names libvirt domains, and Slurm wants ClusterName in lower case (slurm.conf(5))",
    longest=40,
)
_NODE_NAME = pattern(
    r"[a-z]([a-z0-9-]*[a-z0-9])?",
    "a node name: lower-case letters, digits and hyphens, beginning with a letter, at most 48 characters",
    "it is the node's hostname and its NodeName",
    longest=48,
)
_TAKEN_NAMES = ("all", "controller", "control-plane", "default", "localhost")


def node_name(value: str) -> str:
    """A hostname (RFC 1123) that is no word of Slurm's (``DEFAULT`` and ``ALL``, slurm.conf(5)) and not the
    name of the head node."""
    if value in _TAKEN_NAMES:
        raise LeafError("another node name", f"{value} has a meaning of its own")
    return _NODE_NAME(value)


def any_node_name(value: str) -> str:
    """The name of a node that is there, the head node's too."""
    return _NODE_NAME(value)


GRES_TYPE = pattern(
    r"[A-Za-z0-9][A-Za-z0-9_.-]*",
    "a GRES type: letters, digits, '_', '-' and '.', beginning with a letter or digit",
    "it becomes the TYPE of --gres=gpu:TYPE:COUNT",
    longest=64,
)
FEATURE = pattern(r"[A-Za-z_][A-Za-z0-9_.-]*", "a feature of letters, digits, '_', '-' and '.'", longest=64)
PACKAGE = pattern(
    r"[a-z0-9][a-z0-9+.-]*[a-z0-9+]",
    "a Debian package: small letters, digits, '+', '-' and '.'",
    "the name alone, without a version: `apt-cache search` on a node finds it",
    longest=128,
)
SLURM_VALUE = pattern(
    r"[^\s\"#\\\x00-\x1f\x7f]+", "a value of slurm.conf without blanks and quotes", longest=4096
)
MIG_PROFILE = pattern(
    r"[1-9]g\.[0-9]{1,4}gb(?:[+-](?:me(?:\.all)?|gfx))*",
    "a MIG profile like 3g.20gb or 1g.18gb+me",
    "`nvidia-smi mig -lgip` lists those of a GPU",
)
PARTITION_NAME = pattern(
    r"[A-Za-z][A-Za-z0-9_-]*",
    "a partition name: letters, digits, '_' and '-', beginning with a letter",
    longest=64,
)
CONTAINER_NAME = pattern(
    r"[a-z0-9][a-z0-9.-]*",
    "a container name: lower-case letters, digits, '.' and '-'",
    "it is the name of a folder of containers/",
    longest=64,
)
BRIDGE = pattern(
    r"[A-Za-z0-9][A-Za-z0-9_.-]*",
    "a bridge name of at most 15 letters, digits, '_', '.' and '-'",
    "Linux allows 15 characters for the name of an interface",
    longest=15,
)
NETWORK_NAME = pattern(
    r"[A-Za-z0-9][A-Za-z0-9_.-]*",
    "a libvirt network name: letters, digits, '_', '.' and '-'",
    longest=64,
)
IMAGE = pattern(r"[^\x00-\x1f\x7f]+\.qcow2", "the path of a .qcow2 file", longest=4096)
CPU_FEATURE = pattern(r"[+-]?[A-Za-z0-9_.-]+", "a CPU feature like +avx2", longest=64)
MOUNT_TAG = pattern(r"[A-Za-z0-9_-]+", "a tag of letters, digits, '_' and '-'", longest=36)
MOUNT_MODE = pattern(r"0[0-7]{3}", "a mode like 0755")
UNIX_NAME = pattern(r"[a-z_][a-z0-9_-]*", "a user or group name", longest=32)
SLURM_PARAMETER = pattern(
    r"[A-Z][A-Za-z0-9]*", "a parameter of slurm.conf in CamelCase, like SchedulerType", longest=64
)
