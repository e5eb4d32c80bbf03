"""The units of mounts."""

from __future__ import annotations

import pytest

from hpcstate.model import Mount
from hpcstate.node.data_volume import unit
from hpcstate.node.mounts import SECONDS, options, units


@pytest.mark.parametrize(
    ("mount", "wanted"),
    [
        (
            Mount("nfs", "nas:/x", "/x", ""),
            "rw,nosuid,nodev,vers=4,proto=tcp,softreval,retry=0,hard,timeo=600,retrans=2",
        ),
        (
            Mount("nfs", "nas:/x", "/x", "", read_only=True),
            "ro,nosuid,nodev,vers=4,proto=tcp,softreval,retry=0,softerr,timeo=100,retrans=2",
        ),
        (
            Mount("nfs", "nas:/x", "/x", "", ("nfsvers=4.1", "softerr", "noatime")),
            "rw,nosuid,nodev,proto=tcp,softreval,retry=0,nfsvers=4.1,softerr,noatime",
        ),
        (
            Mount("nfs", "nas:/x", "/x", "", ("timeo=50", "nosuid")),
            "rw,nosuid,nodev,vers=4,proto=tcp,softreval,retry=0,hard,retrans=2,timeo=50",
        ),
        (Mount("virtio_fs", "/x", "/x", "tag", ("noatime",), True), "ro,nosuid,nodev,noatime"),
    ],
    ids=["written", "read", "the file's", "a part of the file's", "a folder"],
)
def test_the_options(mount: Mount, wanted: str) -> None:
    assert ",".join(options(mount)) == wanted


def test_nothing_waits_for_a_server_before_somebody_looks() -> None:
    made = units(Mount("nfs", "nas:/a%b", "/data", ""))
    assert "What=nas:/a%%b\n" in made.mount and "Type=nfs\n" in made.mount
    assert f"TimeoutSec={SECONDS}\n" in made.mount and "[Install]" not in made.mount
    assert "After=basic.target" in made.automount and "WantedBy=multi-user.target" in made.automount
    assert all("StartLimitIntervalSec=0\n" in text for text in (made.mount, made.automount))
    assert set(made.files) == {"/etc/systemd/system/data.mount", "/etc/systemd/system/data.automount"}


def test_a_folder_of_the_host_is_found_by_its_tag() -> None:
    made = units(Mount("virtio_fs", "/data/shared", "/shared", "share"))
    assert "What=share\n" in made.mount and "Type=virtiofs\n" in made.mount
    assert (made.source, made.types) == ("share", ("virtiofs",))


def test_names_of_units() -> None:
    """As `systemd-escape --path --suffix=mount` 252 writes them."""
    names = {"/data": "data.mount", "/srv/a-b": r"srv-a\x2db.mount", "/.x/y": r"\x2ex-y.mount"}
    assert {path: unit(path) for path in names} == names
    assert unit("/a+b@c") == r"a\x2bb\x40c.mount"
