"""SIF files: reading the header, and making two builds of the same content the same bytes.

The format: https://github.com/apptainer/sif, pkg/sif/sif.go and descriptor.go (version 2.20): a header of 128
bytes, then descriptors of 585 bytes each, all little-endian without padding.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hpcstate.errors import HpcstateError, from_os

MAGIC = b"SIF_MAGIC\x00"
HEADER = struct.Struct("<32s10s3s3s16sqqqqqqqq")
DESCRIPTOR = struct.Struct("<i?IIIqqqqqqq128s384s")

_UUID = 48
"""Where the UUID lies (16 bytes); after it the times of creation and of the last change."""

_MOST_DESCRIPTORS = 1 << 16
_KINDS = {
    0x4001: "definition",
    0x4002: "environment",
    0x4003: "labels",
    0x4004: "partition",
    0x4005: "signature",
    0x4006: "JSON",
    0x4007: "generic",
    0x4008: "cryptographic message",
    0x4009: "SBOM",
    0x400A: "OCI root index",
    0x400B: "OCI blob",
}
_ARCHITECTURES = {"01": "386", "02": "amd64", "03": "arm", "04": "arm64"}
_OFFSET, _SIZE, _NAME = 5, 6, 12
_TIMES_AND_OWNERS = slice(8, 12)


@dataclass(frozen=True)
class SifObject:
    """One data object of a SIF file: what it is, where it lies (byte), how many bytes it has, its name."""

    kind: str
    offset: int
    size: int
    name: str = ""


@dataclass(frozen=True)
class SifHeader:
    """``size`` is the number of bytes that the file must have for all of its objects to be whole."""

    version: str
    architecture: str
    objects: tuple[SifObject, ...]
    size: int

    @property
    def signed(self) -> bool:
        """Whether there is a signature; apptainer verify(1) tells whether it is good."""
        return any(entry.kind == "signature" for entry in self.objects)


def read(path: Path) -> SifHeader:
    """The header of the SIF file ``path``.

    Raises HpcstateError when it cannot be read, is no SIF file, or ends before its last object does.
    """
    try:
        with path.open("rb") as stream:
            header, descriptors = _tables(stream, path)
        actual = path.stat().st_size
    except OSError as error:
        raise from_os(error) from error
    objects = tuple(
        SifObject(
            _KINDS.get(descriptor[0], hex(descriptor[0])),
            descriptor[_OFFSET],
            descriptor[_SIZE],
            descriptor[_NAME].rstrip(b"\0").decode("utf-8", "replace"),
        )
        for descriptor in descriptors
        if descriptor[1]
    )
    if not any(entry.kind == "partition" for entry in objects):
        raise HpcstateError("this SIF file has no file system in it", where=str(path))
    size = max(entry.offset + entry.size for entry in objects)
    if actual < size:
        raise HpcstateError(
            f"this SIF file ends after {actual} bytes, its objects need {size}",
            where=str(path),
            hint="it was cut off while it was written or copied: build or fetch it again",
        )
    version = header[2].rstrip(b"\0").decode("ascii", "replace")
    architecture = header[3].rstrip(b"\0").decode("ascii", "replace")
    return SifHeader(version, _ARCHITECTURES.get(architecture, architecture), objects, size)


def normalise(path: Path, identity: bytes, epoch: int) -> None:
    """Write ``identity`` (16 bytes) as UUID, ``epoch`` (seconds) as every time and 0 as every owner into the
    header and the descriptors of ``path``. Objects are not touched.

    Raises HpcstateError as :func:`read` does.
    """
    if len(identity) != 16:
        raise ValueError("a UUID has 16 bytes")
    read(path)
    with path.open("r+b") as stream:
        header, descriptors = _tables(stream, path)
        stream.seek(_UUID)
        stream.write(identity + struct.pack("<qq", epoch, epoch))
        stream.seek(header[9])
        for descriptor in descriptors:
            fields = list(descriptor)
            if descriptor[1]:
                fields[_TIMES_AND_OWNERS] = [epoch, epoch, 0, 0]
            stream.write(DESCRIPTOR.pack(*fields))


def image_config(path: Path) -> dict[str, Any]:
    """How the OCI image runs that the SIF file ``path`` was made of (image-spec, config.md, ``config``);
    empty for one that was made of none. Raises HpcstateError as :func:`read` does.
    """
    with path.open("rb") as stream:
        for entry in read(path).objects:
            if entry.kind == "JSON" and entry.name == _CONFIG:
                stream.seek(entry.offset)
                found = json.loads(stream.read(entry.size))
                return found if isinstance(found, dict) else {}
    return {}


_CONFIG = "oci-config.json"
"""What Apptainer calls it."""


def forget_parents(path: Path) -> None:
    """Blank, in the JSON objects of ``path``, the name of the image before the last step of a Dockerfile.

    Docker's classic builder leaves it in the image's config (docker-image-spec v1, ``config.Image``), which
    Apptainer takes over. It is another one in each build from nothing, for there is a time in that image.

    Raises HpcstateError as :func:`read` does.
    """
    objects = [entry for entry in read(path).objects if entry.kind == "JSON"]
    with path.open("r+b") as stream:
        for entry in objects:
            stream.seek(entry.offset)
            content = stream.read(entry.size)
            stream.seek(entry.offset)
            stream.write(_PARENT.sub(_blank, content))


_PARENT = re.compile(rb'"Image":"sha256:[0-9a-f]{64}"')


def _blank(found: re.Match[bytes]) -> bytes:
    """An empty name in as many bytes: blanks after a value mean nothing (RFC 8259, section 2)."""
    return b'"Image":""'.ljust(len(found[0]))


def _tables(stream: BinaryIO, path: Path) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
    """The fields of the header, and of each descriptor."""
    start = stream.read(HEADER.size)
    if len(start) < HEADER.size or HEADER.unpack(start)[1] != MAGIC:
        raise HpcstateError(
            "this is no SIF file",
            where=str(path),
            hint="`hpcstate container convert` makes one of an archive",
        )
    header = HEADER.unpack(start)
    total, at = header[8], header[9]
    if not 0 < total <= _MOST_DESCRIPTORS:
        raise HpcstateError(f"its header counts {total} descriptors: the file is damaged", where=str(path))
    stream.seek(at)
    table = stream.read(total * DESCRIPTOR.size)
    if len(table) < total * DESCRIPTOR.size:
        raise HpcstateError(
            "this SIF file ends within its header", where=str(path), hint="build or fetch it again"
        )
    return header, list(DESCRIPTOR.iter_unpack(table))
