"""The devices of the host that a cluster's nodes have, by address and identifiers, since its first start.

An address is no device: after a card was added, or the firmware updated, another one may be there. Where the
cluster file does not say which device is meant (``vendor_id``, ``device_id``), the first start decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from hpcstate.errors import HpcstateError, Problem, problem_at
from hpcstate.files import write_atomically
from hpcstate.model import Cluster, Node
from hpcstate.probe.pci import PciDevice


def claimed(
    nodes: Iterable[Node], found: Mapping[str, PciDevice], known: Mapping[str, str]
) -> dict[str, str]:
    """The identifiers (``10de:2805``) of the devices of ``nodes`` by address; ``known`` are those claimed
    before, ``found`` is what is on the bus.

    Raises HpcstateError that names each device that is not there, or is another one than was claimed.
    """
    claims, wrong = dict(known), []
    for node in nodes:
        for device in node.passthrough:
            address = device.pci_address
            here = found.get(address)
            if here is None:
                wrong.append(f"{node.name}: there is no PCI device {address}")
                continue
            identifiers = f"{here['vendor']}:{here['device']}"
            declared = (
                f"{device.vendor_id}:{device.device_id}" if device.vendor_id and device.device_id else ""
            )
            meant = declared or known.get(address, identifiers)
            if meant != identifiers:
                same = [
                    where for where, other in found.items() if f"{other['vendor']}:{other['device']}" == meant
                ]
                now = f"; {meant} is at {', '.join(same)}" if same else ""
                wrong.append(f"{node.name}: {address} is {identifiers} now, and not {meant}{now}")
            claims[address] = identifiers
    if wrong:
        raise HpcstateError(
            "\n".join(wrong),
            hint="hpcstate inventory pcie --all shows what is where: mend the addresses in the file, or "
            "write the vendor_id and device_id that are meant",
        )
    return {address: claims[address] for address in sorted(claims)}


def findings(cluster: Cluster, found: Mapping[str, PciDevice], known: Mapping[str, str]) -> Iterator[Problem]:
    """The devices of ``cluster`` that are others than those claimed before (``known``), where the file does
    not say what is meant. What it says is compared elsewhere (request.py), and so is what is not there.
    """
    for node in cluster.nodes:
        for position, device in enumerate(node.passthrough):
            address = device.pci_address
            if address in found and not (device.vendor_id and device.device_id):
                try:
                    claimed([replace(node, passthrough=(device,))], found, known)
                except HpcstateError as error:
                    place = f"{node.place}.pcie_passthrough.devices[{position}].pci_address"
                    yield problem_at(place, error.message, error.hint)


def read_claims(path: Path) -> dict[str, str]:
    """The claims in ``path``; none when there is no such file. Raises HpcstateError when it is damaged."""
    try:
        return {
            str(address): str(identifiers) for address, identifiers in json.loads(path.read_text()).items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise HpcstateError(
            f"these are no claims: {error}", where=str(path), hint="remove it: the next start makes it anew"
        ) from error


def write_claims(path: Path, claims: Mapping[str, str]) -> None:
    """Keep ``claims`` in ``path``."""
    text = json.dumps(claims, indent=1) + "\n"
    if not path.is_file() or path.read_text() != text:
        write_atomically(path, text)
