"""The libvirt URIs of a cluster file: those that connect, and those that run programs or trust anybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.errors import ProblemsError
from hpcstate.paths import ROOT
from hpcstate.schema.leaf import LeafError
from hpcstate.schema.libvirt_uri import libvirt_uri


@pytest.mark.parametrize(
    "uri",
    [
        "qemu:///system",
        "qemu:///session",
        "qemu+unix:///system",
        "qemu+ssh://root@host/system",
        "qemu+ssh://ann.b@node-1.example.org:2222/system?keyfile=/home/ann/.ssh/id_ed25519&no_tty=1",
        "qemu+libssh2://host/system?known_hosts=/etc/ssh/known&sshauth=privkey,agent",
        "qemu+ssh://[2001:db8::1]/system?mode=direct",
        "qemu://host/system?pkipath=/etc/pki/lab",
    ],
)
def test_what_only_connects_is_taken(uri: str) -> None:
    assert libvirt_uri(uri) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "qemu+ext:///system?command=/tmp/x",
        "qemu+ssh://host/system?command=/tmp/x",
        "qemu+ssh://host/system?COMMAND=/tmp/x",
        "qemu+ssh://host/system?%63ommand=/tmp/x",
        "qemu+ssh://host/system?no_tty=1;command=/tmp/x",
        "qemu+ssh://host/system?netcat=/tmp/x",
        "qemu+ssh://host/system?socket=/tmp/x",
        "qemu+unix:///system?socket=/tmp/x",
        "qemu+ssh://host/system?no_verify=1",
        "qemu+libssh://host/system?known_hosts_verify=ignore",
        "qemu+ssh://host/system?keyfile=-oProxyCommand=x",
        "qemu+ssh://host/system?keyfile=/a%0ab",
        "qemu+ssh://-oProxyCommand=touch/system",
        "qemu+ssh://-oProxyCommand=x@host/system",
        "qemu+ssh://host:99999/system",
        "qemu+ssh://host:0/system",
        "qemu+ssh://host%20-x/system",
        "QEMU+EXT:///system",
        "qemu+tcp://host/system",
        "qemu:///system#x",
        "qemu:///system\n",
        "qemu:///embed?root=/",
        "test:///default",
        "vbox:///session",
        "qemu:///system?" + "a" * 2000,
        "",
    ],
)
def test_what_runs_programs_or_trusts_anybody_is_refused(uri: str) -> None:
    with pytest.raises(LeafError):
        libvirt_uri(uri)


def test_the_place_is_said(tmp_path: Path) -> None:
    text = (ROOT / "inventories" / "gpu.yaml").read_text()
    assert "    name: gpu\n" in text
    text = text.replace("    name: gpu\n", "    name: gpu\n    uri: qemu+ext:///system?command=/tmp/x\n")
    with pytest.raises(ProblemsError) as caught:
        schema.parse(text, tmp_path / "x.yaml")
    (problem,) = caught.value.problems
    assert problem.place == ".clusters.hpc.uri"
    assert "ext runs programs" in problem.hint
