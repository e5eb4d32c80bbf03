"""The keys of a node's GPUs: simulated ones, PCI devices of the hypervisor, and what Slurm shares of them."""

from __future__ import annotations

from hpcstate.model import GresSettings, PassthroughDevice, SimulatedGpus
from hpcstate.model.gpu import DeviceType
from hpcstate.schema import leaf
from hpcstate.schema.declare import EntriesKey, Keys, ListKey, ValueKey

MAX_SHARES = 10_000
"""Shares of one GPU; Slurm has no limit that is nearer."""


class SimulatedGpusKeys(Keys, title="simulated_gpus"):
    count = ValueKey("device nodes `/dev/nvidia0` and on, 0 to 64", leaf.integer(0, 64), 0, required=True)
    type = ValueKey("the GRES type: letters, digits, `_`, `-`, `.`", leaf.GRES_TYPE, SimulatedGpus.gres_type)


class GresKeys(Keys, title="gres", earlier=("gpu",)):
    autodetect = ValueKey(
        "`nvml` or `nvidia`: slurmd finds the GPUs by itself (AutoDetect in gres.conf(5)). `nvml` needs "
        "NVML's library and Slurm's plugin for it, `nvidia` needs neither and sees no MIG instances. Types "
        "are then matched as parts of the GPU's name",
        leaf.autodetect,
        GresSettings.autodetect,
    )
    shard = ValueKey(
        "each GPU can be shared by this many jobs (`--gres=shard:1`), which Slurm counts and nothing "
        "keeps apart",
        leaf.integer(0, MAX_SHARES),
        GresSettings.shard,
    )
    mps = ValueKey(
        "each GPU has this many shares under CUDA's Multi-Process Service (`--gres=mps:50`), usually 100; a "
        "Prolog of your own has to start its servers (Slurm's gres.html, MPS Management)",
        leaf.integer(0, MAX_SHARES),
        GresSettings.mps,
    )


class DeviceKeys(Keys, title="devices", labels=("vendor",)):
    pci_address = ValueKey(
        "like `0000:01:00.0`, once in a cluster; `hpcstate inventory pcie` lists them",
        leaf.pci_address,
        "",
        required=True,
    )
    device_type = ValueKey[DeviceType](
        "`gpu`, `audio`, `network`, `storage`, `other`", leaf.one_of_devices, "other", required=True
    )
    vendor_id = ValueKey(
        "four hexadecimal digits; checked against the host", leaf.hex_id, PassthroughDevice.vendor_id
    )
    device_id = vendor_id.but(vendor_id.meaning, default=PassthroughDevice.device_id)
    iommu_group = ValueKey(
        "a number; another one on the host is a warning",
        leaf.integer(0, 65535),
        PassthroughDevice.iommu_group,
    )
    gres_type = ValueKey(
        "the GRES type of a GPU",
        leaf.GRES_TYPE,
        PassthroughDevice.gres_type,
        default_text="the `device_id`, else `passthrough`",
    )
    mig = ListKey(
        "a list of MIG profiles like `3g.20gb`: the GPU is split into these instances, each a GRES "
        "`<gres_type>_<profile>`; `nvidia-smi mig -lgip` lists what a GPU can have",
        leaf.MIG_PROFILE,
    )
    description = ValueKey("a sentence", leaf.text, PassthroughDevice.description)
    rom_file = ValueKey(
        "an absolute path on the host: an image that stands in for the device's ROM, readable by QEMU; "
        "variables as in `host_path` of virtio_fs_mounts",
        leaf.host_path,
        PassthroughDevice.rom_file,
        default_text="the device's own",
    )
    in_use = ValueKey(
        "`false` says that the host does not use this device, where hpcstate cannot tell "
        '("may be the host\'s own"), or that its boot display may go; it has no say where another use is '
        "known",
        leaf.boolean,
        PassthroughDevice.in_use,
    )
    rom_bar = ValueKey(
        "`false` hides the device's ROM from the node", leaf.boolean, PassthroughDevice.rom_bar
    )
    x_vga = ValueKey(
        "the GPU gets the legacy VGA registers of the machine, see below; one GPU of a node",
        leaf.boolean,
        PassthroughDevice.x_vga,
    )


class PciePassthroughKeys(Keys, title="pcie_passthrough"):
    enabled = ValueKey("without it the devices are not passed through", leaf.boolean, False)
    devices = EntriesKey("a list, see devices; the GPU before its companions", DeviceKeys)
