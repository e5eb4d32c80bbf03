"""Facts about the disk for data. hpcstate.probe.data_volume describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import data_volume
from hpcstate.probe.data_volume import DataVolumeState


class DataVolume(ProbedFact[DataVolumeState]):
    """The disk, its file system, its mounts and their units. Needs root (``_sudo=True``).

    >>> host.get_fact(DataVolume, device="/dev/disk/by-id/virtio-hpcstate-data")["content"]
    'ext4 hpcstate-data'
    """

    command = staticmethod(data_volume.command)
    parse = staticmethod(data_volume.parse)
