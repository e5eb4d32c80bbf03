"""What a device of the host is to Slurm; and that gres.conf and slurm.conf have one answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcstate.model import PassthroughDevice
from hpcstate.model.gpu import DeviceType
from hpcstate.slurm.gres import assign_declared, declared_gres
from tests.unit.slurm_clusters import node

GPU = PassthroughDevice("0000:01:00.0", "gpu")


@pytest.mark.parametrize(
    ("device", "whole", "types"),
    [
        (replace(GPU, gres_type="h100", device_id="2330"), "h100", ("h100",)),
        (replace(GPU, device_id="2330"), "2330", ("2330",)),
        (GPU, "passthrough", ("passthrough",)),
        (
            replace(GPU, gres_type="a100", mig=("3g.20gb", "2g.10gb")),
            "a100",
            ("a100_3g.20gb", "a100_2g.10gb"),
        ),
        (replace(GPU, mig=("3g.20gb",)), "passthrough", ("passthrough_3g.20gb",)),
    ],
)
def test_the_type_is_the_declared_one_else_the_number_of_the_device_else_a_word_of_ours(
    device: PassthroughDevice, whole: str, types: tuple[str, ...]
) -> None:
    owner = replace(node(1), passthrough=(device,))
    assert (device.whole_type, device.gres_types, owner.gres_types) == (whole, types, types)
    promised = declared_gres(owner)
    assert [gpu.gres_type for gpu in promised.gpus] == [whole]
    assert tuple(device.gres_type for device in assign_declared(owner.name, promised).devices) == types


@pytest.mark.parametrize("kind", ["audio", "network", "storage", "other"])
def test_what_is_no_gpu_is_no_gres(kind: DeviceType) -> None:
    device = replace(GPU, device_type=kind, device_id="10f8")
    assert (device.whole_type, device.gres_types) == ("", ())
