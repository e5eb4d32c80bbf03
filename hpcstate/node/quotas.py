"""How much of the data volume each user may take, and the difference to what its file system has. Pure.

They are ext4's own (the feature ``quota``), by user: those by project could be left by chattr(1), which the
owner of a file may call on the controller. A file system that was made without the feature gets it while it
is not mounted (tune2fs(8)): as the controller boots.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hpcstate import programs
from hpcstate.node.data_volume import DEVICE, TOP, UNITS, unit
from hpcstate.node.timers import PROGRAMS
from hpcstate.probe.quotas import QuotasState
from hpcstate.render import render

RECORD = f"{TOP}/quotas"
"""The numbers of users whose limit is ours, a line each: on the volume, as the limits."""

SERVICE = "hpcstate-quota.service"
"""What gives the file system the feature as the controller boots."""

KIB_OF_GIB = 1 << 20


def boot_files() -> Mapping[str, tuple[str, str]]:
    """Path to content and mode of that service and its program."""
    program = f"{PROGRAMS}/{SERVICE.removesuffix('.service')}"
    text = programs.command(Path(__file__).with_name("quota_feature.sh"), device=DEVICE)
    return {
        program: (f"#!/bin/sh\n{text}\n", "755"),
        f"{UNITS}/{SERVICE}": (render("base/quota.service.j2", program=program, mount=unit(TOP)), "644"),
    }


def changes(limits: Mapping[int, int], found: QuotasState) -> Mapping[int, int]:
    """What differs: hard limits in KiB by the number of a user, 0 for none any more. ``limits`` are in GiB.
    A limit that is not ours is left alone."""
    wanted = {uid: gb * KIB_OF_GIB for uid, gb in limits.items()}
    gone = {uid: 0 for uid in found["record"] if uid not in wanted}
    differing = {uid: kib for uid, kib in wanted.items() if found["limits"].get(uid, 0) != kib}
    return {**gone, **differing}
