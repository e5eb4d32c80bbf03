"""Which of a node's GPUs become generic resources of Slurm. Pure: declared and observed in, devices out.

``assign`` decides for a node as it is (the deploy and its checks), ``assign_declared`` for one that has just
what it declares (the judge, `hpcstate inventory show`, a deploy that has yet to make simulated GPUs): the
same rule, so that what is judged and shown is what is pushed.

Every way in which a node can differ from its description has a message with the next step, and nothing is
papered over: a node that cannot offer what it declares is stopped, with its Slurm as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from hpcstate.model import GresSettings, Node
from hpcstate.model.gpu import instance_type
from hpcstate.model.gres import EXPLICIT
from hpcstate.probe.gpu import GpuDevice, Gpus, device_of
from hpcstate.probe.mig import CAPS, MigInstance
from hpcstate.slurm.gres_conf import GresDevice, gres_conf, gres_lines

_UNCHANGED = "Nothing of Slurm was changed on this node."

GPU_MAJOR = 195
"""The major number of NVIDIA's character devices (Linux, Documentation/admin-guide/devices.txt)."""


@dataclass(frozen=True)
class DeclaredGpu:
    """One GPU that the cluster file promises. ``gres_type`` is its type in Slurm; a passed-through GPU is
    recognised on the node by its PCI ``device_id`` (any real GPU without one), a ``simulated`` one by its
    type. ``mig`` are the profiles of the MIG instances that it is split into.
    """

    gres_type: str
    device_id: str = ""
    simulated: bool = False
    mig: tuple[str, ...] = ()

    def is_met_by(self, device: GpuDevice) -> bool:
        """Whether ``device`` is such a GPU, whatever it is split into."""
        if self.simulated or device["simulated"]:
            return self.simulated and device["simulated"] and device["gres_type"] == self.gres_type
        return device["gres_type"] == self.device_id or not self.device_id

    def __str__(self) -> str:
        if self.simulated or not self.device_id or self.device_id == self.gres_type:
            return self.gres_type
        return f"{self.gres_type} (PCI device {self.device_id})"


@dataclass(frozen=True)
class DeclaredGres:
    """What the cluster file promises of a node's GPUs, and how they become GRES. Falsy without GPUs."""

    gpus: tuple[DeclaredGpu, ...] = ()
    settings: GresSettings = EXPLICIT

    def __bool__(self) -> bool:
        return bool(self.gpus)

    @property
    def simulated(self) -> bool:
        """Whether there are GPUs and all are simulated."""
        return bool(self.gpus) and all(gpu.simulated for gpu in self.gpus)

    @property
    def count(self) -> int:
        """How many GRES of the name gpu Slurm has to count: a MIG instance is one."""
        return sum(len(gpu.mig) or 1 for gpu in self.gpus)


@dataclass(frozen=True)
class Assignment:
    """The devices of ``node`` for gres.conf; or ``problem``, why the node cannot offer what it declares.
    ``note`` tells of GPUs that are there and not declared: they are not used. ``unusable`` says in a line
    which GPU must get no jobs, where that is the problem: until it is mended the node gets none.
    """

    node: str
    devices: tuple[GresDevice, ...] = ()
    settings: GresSettings = EXPLICIT
    problem: str = ""
    note: str = ""
    unusable: str = ""

    @property
    def lines(self) -> list[str]:
        """What gres.conf says of the devices."""
        return gres_lines(self.node, self.devices, self.settings)

    @property
    def text(self) -> str:
        """The whole gres.conf."""
        return gres_conf(self.node, self.devices, self.settings)


def declared_gres(node: Node) -> DeclaredGres:
    """The GPUs that ``node`` declares, in the order of ``Node.gres_types``."""
    gpus = tuple(
        DeclaredGpu(device.whole_type, device.device_id, mig=device.mig)
        for device in node.passthrough
        if device.device_type == "gpu"
    )
    if node.simulated_gpus is not None:
        gpus += (DeclaredGpu(node.simulated_gpus.gres_type, simulated=True),) * node.simulated_gpus.count
    return DeclaredGres(gpus, node.gres_settings)


def simulated_devices(count: int, gres_type: str) -> list[GpuDevice]:
    """The devices that the fact GpuDevices reports once ``count`` simulated GPUs are there."""
    return [device_of(f"/dev/nvidia{n}", GPU_MAJOR, n, gres_type, simulated=True) for n in range(count)]


def pairs(
    declared: Sequence[DeclaredGpu], devices: Sequence[GpuDevice]
) -> list[tuple[DeclaredGpu, GpuDevice | None]]:
    """Each declared GPU with the device that is taken for it, None where there is none.

    A GPU that names its PCI device chooses before one that takes any.
    """
    free = list(devices)
    found: list[tuple[DeclaredGpu, GpuDevice | None]] = []
    for gpu in sorted(declared, key=lambda gpu: not gpu.device_id):
        device = next((device for device in free if gpu.is_met_by(device)), None)
        if device is not None:
            free.remove(device)
        found.append((gpu, device))
    return found


HEALTHY: Mapping[str, str] = MappingProxyType({})


def assign(
    node: str, declared: DeclaredGres, gpus: Gpus, unusable: Mapping[str, str] = HEALTHY
) -> Assignment:
    """A device for each declared GPU of ``node``, in the order of the device files. ``unusable`` are those
    that health calls so, by address, with what is wrong and the next step in lines: they are not offered.

    Slurm sets a node INVALID that reports fewer than configured (slurm.conf(5), NODE CONFIGURATION), and a
    type that is not there as configured counts as missing: both are refused here, before anything changes.
    """
    taken: list[tuple[DeclaredGpu, GpuDevice]] = []
    well = [device for device in gpus["devices"] if device["address"] not in unusable]
    for gpu, device in pairs(declared.gpus, well):
        if device is None:
            bad = {d["address"]: unusable[d["address"]] for d in gpus["devices"] if d["address"] in unusable}
            if bad and all(device for _, device in pairs(declared.gpus, gpus["devices"])):
                return _not_usable(node, declared.gpus, bad)
            return Assignment(node, problem=_missing(node, declared.gpus, gpus))
        if problem := _mig_problem(node, gpu, device) or _autodetect_problem(
            node, gpu, device, declared, gpus
        ):
            return Assignment(node, problem=problem)
        taken.append((gpu, device))
    used = [device["file"] for _, device in taken]
    spare = ", ".join(device["file"] for device in well if device["file"] not in used)
    note = f"{node} has GPUs that it does not declare, they are not used: {spare}" if spare else ""
    return _assignment(node, declared, taken, note)


def assign_declared(node: str, declared: DeclaredGres) -> Assignment:
    """What ``assign`` answers where the hardware is as declared: the device files are numbered in the order
    of the declaration, cores near a GPU are not known.
    """
    return _assignment(
        node, declared, [(gpu, _as_declared(number, gpu)) for number, gpu in enumerate(declared.gpus)]
    )


def _assignment(
    node: str, declared: DeclaredGres, taken: Iterable[tuple[DeclaredGpu, GpuDevice]], note: str = ""
) -> Assignment:
    devices = [gres_device for gpu, device in taken for gres_device in _gres_devices(gpu, device)]
    in_order = tuple(sorted(devices, key=lambda device: _numbers(device.files)))
    return Assignment(node, in_order, declared.settings, note=note)


def _as_declared(number: int, gpu: DeclaredGpu) -> GpuDevice:
    """The device that the fact GpuDevices would report for ``gpu``, the ``number``-th GPU of its node.

    The kernel numbers the capability files of MIG so (/proc/driver/nvidia-caps/mig-minors): from 3, 15 GPU
    instances for each GPU, for each of them its own file and those of 8 compute instances. nvidia-smi
    chooses the instances by their place on the GPU; here they are counted from 1.
    """
    found = device_of(f"/dev/nvidia{number}", GPU_MAJOR, number, gpu.gres_type, simulated=gpu.simulated)
    for instance, profile in enumerate(gpu.mig, start=1):
        own = 3 + 9 * (15 * number + instance)
        files = [f"{CAPS}{own}", f"{CAPS}{own + 1}"]
        found["mig"].append(
            MigInstance(profile=profile, gpu_instance=instance, compute_instance=0, files=files)
        )
    return found


def mig_profiles(device: GpuDevice) -> list[str]:
    """The profiles of the MIG instances of ``device``, sorted; one that nvidia-smi did not tell is ``?``."""
    return sorted(instance["profile"] or "?" for instance in device["mig"])


def nvml_name(model: str, mig: str = "") -> str:
    """The name that slurmd's AutoDetect has for a GPU (gpu_common_underscorify_tolower), or for its MIG
    instance of profile ``mig`` (gpu_nvml.c: what follows the first hyphen of the GPU's name is cut off).
    """
    name = model.lower().replace(" ", "_")
    return f"{name.partition('-')[0]}_{mig}" if mig else name


def _gres_devices(gpu: DeclaredGpu, device: GpuDevice) -> list[GresDevice]:
    cores = tuple(device["cores"])
    if not gpu.mig:
        return [GresDevice(gpu.gres_type, (device["file"],), device["simulated"], cores)]
    return [
        GresDevice(
            instance_type(gpu.gres_type, instance["profile"]),
            (device["file"], *instance["files"]),
            False,
            cores,
        )
        for instance in device["mig"]
    ]


def _not_usable(node: str, declared: Sequence[DeclaredGpu], bad: Mapping[str, str]) -> Assignment:
    """The assignment of a node with GPUs that must get no jobs: ``bad`` by address."""
    wanted = _counted(Counter(str(gpu) for gpu in declared))
    reasons = {address: text.splitlines() for address, text in bad.items()}
    told = "\n".join(f"  {address}: {'; '.join(lines)}" for address, lines in reasons.items())
    address, lines = next(iter(reasons.items()))
    return Assignment(
        node,
        problem=f"{node} declares {wanted}, and must give no jobs to:\n{told}\n"
        f"hpcstate inventory gpus shows the rest. The node is drained until it is mended. {_UNCHANGED}",
        unusable=f"GPU {address}: {lines[0]}",
    )


def _missing(node: str, declared: Sequence[DeclaredGpu], gpus: Gpus) -> str:
    wanted = _counted(Counter(str(gpu) for gpu in declared))
    found = _counted(Counter(device["gres_type"] for device in gpus["devices"]))
    return (
        f"{node} declares {wanted} and has {found}.\n{_why_missing(gpus, len(declared))}\n"
        f"{_UNCHANGED} Mend it, or correct the GPUs of this node in the cluster file."
    )


_POWER = (
    "One that fell off the bus stays away over a reboot: power the hypervisor off and on (its plug, not its "
    "reset), then deploy again"
)


def _why_missing(gpus: Gpus, declared: int) -> str:
    """The reason, as far as the facts tell it, and the next step; ``declared`` GPUs were promised."""
    known = [device["address"] for device in gpus["devices"]] + [gpu["address"] for gpu in gpus["nodeless"]]
    left_out = ", ".join(gpus["excluded"])
    silent = ", ".join(address for address in gpus["bus"] if address not in (*known, *gpus["excluded"]))
    if gpus["bus"] and not gpus["driver"]:
        return (
            f"NVIDIA's driver is not loaded, and the bus has NVIDIA's GPU at {silent}: `modprobe nvidia` and "
            "`dmesg | grep -i -e nvrm -e nouveau` say why; deploys/nvidia.py installs the driver."
        )
    if gpus["nodeless"]:
        gpu = gpus["nodeless"][0]
        return (
            f"The driver has the GPU at {gpu['address']}, and its device file {gpu['file']} is missing: "
            f"`nvidia-modprobe -c {gpu['file'].removeprefix('/dev/nvidia')}` makes it, "
            "nvidia-persistenced does so at every boot."
        )
    if left_out:
        return (
            f"The driver was told to leave out the GPU at {left_out}: NVreg_ExcludedGpus in /etc/modprobe.d."
        )
    if silent:
        return (
            f"The GPU at {silent} is on the bus and the driver could not start it: "
            "`dmesg | grep -e NVRM -e Xid` says why; one that fell off the bus needs its host powered off."
        )
    there = {*gpus["bus"], *known}
    if any(not device["simulated"] for device in gpus["devices"]) and len(there) < declared:
        return (
            f"Its bus has {len(there)} of {declared} GPUs. {_POWER}. If it never was there: is the device "
            "passed through (hpcstate inventory pcie on the hypervisor)?"
        )
    if any(not device["simulated"] for device in gpus["devices"]):
        return "`lspci -nn -d 10de:` on the node shows the PCI device numbers, device_id in the cluster file."
    return (
        "No GPU is on its bus: look whether the device is passed through (`lspci -nn`, `ls /dev/nvidia*`). "
        f"{_POWER}."
    )


def _mig_problem(node: str, gpu: DeclaredGpu, device: GpuDevice) -> str:
    """Why the instances of ``device`` are not those of ``gpu``; empty when they are."""
    wanted, found = sorted(gpu.mig), mig_profiles(device)
    if wanted == found:
        return ""
    has = (
        f"is split into the MIG instances {', '.join(found)}" if found else "is not split into MIG instances"
    )
    step = "deploys/gpu.py makes the declared instances" if wanted else "declare them as mig of the device"
    if "?" in found:
        step = "nvidia-smi does not tell their profiles: run `nvidia-smi mig -lgi` on the node"
    declares = f"{gpu} split into {', '.join(wanted)}" if wanted else f"{gpu} as a whole GPU"
    return f"{node} declares {declares}, and the GPU at {device['address']} {has}.\n{step}. {_UNCHANGED}"


def _autodetect_problem(
    node: str, gpu: DeclaredGpu, device: GpuDevice, declared: DeclaredGres, gpus: Gpus
) -> str:
    """Why slurmd would not find ``gpu`` by itself; empty when it does, or need not."""
    how = declared.settings.autodetect
    if how == "off":
        return ""
    if how not in gpus["autodetect"]:
        return (
            f"{node} cannot use autodetect: {how}: {_why_not(how, gpus)}.\n"
            f"Leave autodetect out: hpcstate then writes the devices that it finds. {_UNCHANGED}"
        )
    for profile in gpu.mig or ("",):
        kind = instance_type(gpu.gres_type, profile) if profile else gpu.gres_type
        name = nvml_name(device["model"], profile)
        if "+" in profile:
            return (
                f"slurmd would call an instance of the GPU at {device['address']} of {node} {name}, and here "
                "no type of Slurm has a plus.\n"
                f"Leave autodetect out: hpcstate then writes the devices that it finds. {_UNCHANGED}"
            )
        if kind.lower() not in name:
            return (
                f"slurmd would call the GPU at {device['address']} of {node} {name}, and {kind} is not a "
                "part of that: with autodetect, types are matched so (gres.conf(5), AutoDetect).\n"
                f"Set gres_type of the device to {'the end' if profile else 'a part'} of "
                f"{name.removesuffix(f'_{profile}')}. {_UNCHANGED}"
            )
    return ""


def _why_not(how: str, gpus: Gpus) -> str:
    if how == "nvml" and not gpus["nvml_library"]:
        return "NVML's library libnvidia-ml.so.1 is not there (Debian: libnvidia-ml1, with NVIDIA's driver)"
    package = "slurm-wlm-nvml-plugin (contrib)" if how == "nvml" else "slurm-wlm-basic-plugins"
    return f"Slurm's plugin gpu_{how}.so is not there (Debian: {package})"


def _counted(counts: Counter[str]) -> str:
    """``2 GPUs (1 of type 2805, 1 of type simulated)``; ``no GPU`` for none."""
    parts = [f"{count} of type {kind}" for kind, count in counts.items()]
    total = counts.total()
    return f"{total} GPU{'s' if total > 1 else ''} ({', '.join(parts)})" if parts else "no GPU"


def _numbers(files: Sequence[str]) -> list[int]:
    """The numbers in the names of ``files``, to sort by: /dev/nvidia10 comes after /dev/nvidia9."""
    return [int("".join(filter(str.isdigit, file)) or 0) for file in files]
