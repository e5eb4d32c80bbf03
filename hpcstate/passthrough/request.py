"""The PCI devices that a cluster file asks for, against what is on the bus. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hpcstate.errors import Problem, problem_at
from hpcstate.model import Cluster, Node, PassthroughDevice
from hpcstate.passthrough import kinds
from hpcstate.passthrough import verdict as pcie
from hpcstate.passthrough.verdict import PciHost, Verdict


def findings(clusters: Iterable[Cluster], host: PciHost) -> Iterator[Problem]:
    """What stands between the devices that ``clusters``, to run on this host, ask for and the host."""
    for cluster in clusters:
        for node in cluster.nodes:
            for position, device in enumerate(node.passthrough):
                place = f"{node.place}.pcie_passthrough.devices[{position}]"
                yield from _about(place, device, node, host)
            yield from _without_switches(node, host)


def _about(place: str, device: PassthroughDevice, node: Node, host: PciHost) -> Iterator[Problem]:
    address = device.pci_address
    if address not in host.devices:
        yield problem_at(
            f"{place}.pci_address",
            f"this host has no PCI device {address}",
            _alike(device, host)
            or "see hpcstate inventory pcie; for another host: hpcstate validate --skip-pcie-validation",
        )
        return
    yield from identity(place, device, host)
    here = host.devices[address]
    if device.device_type == "gpu" and kinds.is_gpu(here) and not kinds.becomes_gres(here):
        yield problem_at(
            f"{place}.device_type",
            f"{kinds.described(here)} does not become a GPU of Slurm: {kinds.why_no_gres(here)}",
            "device_type: other passes it through all the same",
        )
    unused = [device.pci_address for device in node.passthrough if not device.in_use]
    verdict = pcie.verdict(host, address, unused)
    given = {device.pci_address for device in node.passthrough}
    missing = [other for other in verdict.companions if other not in given]
    if missing:
        names = ", ".join(kinds.described(host.devices[other]) for other in missing)
        yield problem_at(
            f"{place}.pci_address",
            f"{address} must go together with {names}{_group(verdict)}, which this node does not get",
            "paste below this node's devices:\n" + _indented(pcie.yaml_of(host, *missing)),
        )
    for reason in _of_its_own(verdict, given):
        yield problem_at(f"{place}.pci_address", f"{address}: {reason}", "; ".join(verdict.steps))
    if note := pcie.reset_note(host, address):
        yield problem_at(f"{place}.pci_address", note, "", True)


def _without_switches(node: Node, host: PciHost) -> Iterator[Problem]:
    """A warning where ``node`` gets GPUs that are linked by NVSwitches, and not these."""
    given = [device.pci_address for device in node.passthrough if device.pci_address in host.devices]
    switches = pcie.nvswitches(host)
    gpus = [address for address in given if kinds.becomes_gres(host.devices[address])]
    if gpus and set(switches) - set(given):
        yield problem_at(
            f"{node.place}.pcie_passthrough.devices",
            f"{node.name} gets GPUs of a fabric without its NVSwitches ({', '.join(switches)}): no NVLink, "
            "and CUDA programs fail with error 802",
            "give it all of them, and nvidia-fabricmanager; one GPU alone works with `options nvidia "
            "NVreg_NvLinkDisable=1` in the node's modprobe.d",
            True,
        )


def _of_its_own(verdict: Verdict, given: set[str]) -> Iterator[str]:
    """The reasons that are this device's; those of a companion that is asked for are told at its place."""
    if verdict.state is not pcie.State.BLOCKED:
        return
    others = [other for other in verdict.companions if other in given]
    for reason in verdict.reasons:
        if not any(reason.startswith(other) for other in others):
            yield reason


def identity(place: str, device: PassthroughDevice, host: PciHost) -> Iterator[Problem]:
    """Where the device at that address, which exists, is another than the file at ``place`` says."""
    found = host.devices[device.pci_address]
    for key, declared, actual in (
        ("vendor_id", device.vendor_id, found["vendor"]),
        ("device_id", device.device_id, found["device"]),
    ):
        if declared and declared != actual:
            yield problem_at(
                f"{place}.{key}",
                f"{kinds.described(found)} is not {key} {declared}",
                _alike(device, host) or f"write {actual}, if this is the device you mean",
            )
    kind = kinds.kind_of(found)
    # One that does not become a GPU of Slurm goes as any other device.
    if kind == "gpu" and device.device_type == "other" and not kinds.becomes_gres(found):
        kind = "other"
    if device.device_type != kind and "gpu" in (device.device_type, kind):
        yield problem_at(
            f"{place}.device_type",
            f"{kinds.described(found)} is of the kind {kind}, not {device.device_type}",
            "only a display controller (class 03) or an accelerator (class 12) becomes a GPU of Slurm",
        )
    group = host.group_of(device.pci_address)
    if device.iommu_group is not None and group not in (None, device.iommu_group):
        yield problem_at(
            f"{place}.iommu_group",
            f"{device.pci_address} is in IOMMU group {group}, not {device.iommu_group}",
            "groups can change with firmware and kernel: leave iommu_group out",
            True,
        )


def _alike(device: PassthroughDevice, host: PciHost) -> str:
    """Where the declared device is, if it is elsewhere on the bus."""
    same = [
        found["address"]
        for found in host.devices.values()
        if device.vendor_id and (found["vendor"], found["device"]) == (device.vendor_id, device.device_id)
    ]
    return f"{device.vendor_id}:{device.device_id} is at {', '.join(same)}" if same else ""


def _group(verdict: Verdict) -> str:
    return "" if verdict.group is None else f" (IOMMU group {verdict.group})"


def _indented(text: str) -> str:
    return "\n".join(f"      {line}" for line in text.splitlines())
