"""Facts about who has a host's GPUs open (hpcstate.probe.device_holders). Needs root to see all processes."""

from __future__ import annotations

from collections.abc import Sequence

from facts.probed import ProbedFact
from hpcstate.probe import device_holders
from hpcstate.probe.device_holders import Holder


class DeviceHolders(ProbedFact[Sequence[Holder]]):
    """The processes that have a GPU open; ``sysfs`` and ``proc`` are where these are mounted."""

    command = staticmethod(device_holders.command)
    parse = staticmethod(device_holders.parse)
