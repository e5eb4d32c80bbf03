"""Small SIF files for tests: a real header and real descriptors around a few bytes."""

from __future__ import annotations

import time
from pathlib import Path

from hpcstate.container.sif import DESCRIPTOR, HEADER, MAGIC

_DATA = 32176
_KINDS = {"definition": 0x4001, "partition": 0x4004, "signature": 0x4005, "JSON": 0x4006}


def write_sif(
    path: Path,
    content: bytes = b"squashfs",
    *,
    json: bytes = b"",
    signed: bool = True,
    uuid: bytes = b"u" * 16,
) -> Path:
    """Write a SIF file with the file system ``content`` and the object ``json`` where there is one, laid out
    as by Apptainer 1.4.5; return ``path``.
    """
    objects = [("definition", b"Bootstrap: scratch\n")]
    objects += [("JSON", json)] if json else []
    objects += [("partition", content)]
    objects += [("signature", b"{}")] if signed else []
    now, at, table, data = int(time.time()), _DATA, b"", b""
    for number, (kind, text) in enumerate(objects, 1):
        size = len(text)
        table += DESCRIPTOR.pack(
            _KINDS[kind],
            True,
            number,
            0xF0000001,
            0,
            at,
            size,
            size,
            now,
            now,
            1000,
            1000,
            b"oci-config.json" if kind == "JSON" else b"",
            b"",
        )
        at += size
        data += text
    free = 48 - len(objects)
    table += DESCRIPTOR.pack(0, False, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b"", b"") * free
    launch = b"#!/usr/bin/env run-singularity\n"
    header = HEADER.pack(
        launch, MAGIC, b"01", b"02", uuid, now, now, free, 48, 4096, len(table), _DATA, len(data)
    )
    path.write_bytes(header.ljust(4096, b"\0") + table + data)
    return path
