"""Every file that the nodes of every cluster under inventories/ get, compared with its golden copy.

A change of a template shows here as a diff that a person reads. Write the copies anew with
``HPCSTATE_GOLDEN=write pytest tests/render`` and read the diff before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.hypervisor import ports
from hpcstate.model import Cluster, PortForward
from hpcstate.node import apptainer_files
from hpcstate.node import base_files as node_files
from hpcstate.slurm import accounting, gres
from hpcstate.slurm.conf import configuration

GOLDEN = Path(__file__).parent / "golden"
INVENTORIES = sorted((paths.ROOT / "inventories").glob("*.yaml"))


def rendered(cluster: Cluster) -> dict[str, str]:
    """Name of the golden copy to content, for all nodes of ``cluster``."""
    files: dict[str, str] = {}
    if cluster.kind == "hpc":
        files.update(configuration(cluster))
        of_accounting = accounting.files(cluster).items()
        files |= {_golden_name("controller", path): content for path, content in of_accounting}
        for node in cluster.workers:
            declared = gres.declared_gres(node)
            files[f"{node.name}.gres.conf"] = gres.assign_declared(node.name, declared).text
    image = {**node_files.image_files(), **node_files.service_files()}
    for role, node in (("controller", cluster.controller), ("worker", cluster.workers[0])):
        for path, content in node_files.cluster_files(cluster, node).items():
            if content != image.get(path):
                files[_golden_name(role, path)] = content
    return files


def _golden_name(owner: str, path: str) -> str:
    return owner + path.replace("/", ".")


def compare(folder: Path, files: dict[str, str]) -> None:
    """``files`` are those of ``folder``, which are written first when the environment asks for it."""
    if os.environ.get("HPCSTATE_GOLDEN") == "write":
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(content, encoding="utf-8")
    golden = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())}
    assert sorted(files) == sorted(golden)
    for name, content in files.items():
        assert content == golden[name], f"{folder.name}/{name}"


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.stem)
def test_the_files_of_the_nodes_are_the_golden_ones(inventory: Path) -> None:
    for cluster in schema.load(inventory).clusters:
        compare(GOLDEN / inventory.stem / cluster.kind, rendered(cluster))


def test_the_files_of_the_image_are_the_golden_ones() -> None:
    files = {**node_files.image_files(), **node_files.service_files(), **apptainer_files.image_files()}
    compare(GOLDEN / "image", {_golden_name("image", path): content for path, content in files.items()})


def test_the_image_has_the_files_that_no_cluster_changes() -> None:
    cluster = schema.load(paths.ROOT / "inventories" / "gpu.yaml").clusters[0]
    of_node = node_files.cluster_files(cluster, cluster.controller)
    of_image = node_files.image_files()
    assert {path for path, content in of_image.items() if of_node[path] != content} == {
        node_files.FIREWALL,
        node_files.SSHD,
    }
    assert str(cluster.network.subnet) in of_node[node_files.FIREWALL]
    assert "saddr" not in of_image[node_files.FIREWALL]


def test_the_units_of_a_port_are_the_golden_ones() -> None:
    cluster = schema.load(paths.ROOT / "inventories" / "gpu.yaml").clusters[0]
    port = PortForward(2222, cluster.controller.name)
    name = ports.unit_name(cluster, port)
    texts = ports.texts(cluster, port, "6d5e7c1e-0000-4000-8000-000000000001")
    compare(GOLDEN / "ports", dict(zip((f"{name}.socket", f"{name}.service"), texts, strict=True)))


def test_the_files_of_a_login_node_are_the_golden_ones(tmp_path: Path) -> None:
    file = tmp_path / "login.yaml"
    text = (paths.ROOT / "inventories" / "gpu.yaml").read_text(encoding="utf-8")
    file.write_text(f"{text}    login_nodes: [{{}}]\n", encoding="utf-8")
    cluster = schema.load(file).clusters[0]
    image = {**node_files.image_files(), **node_files.service_files()}
    before = schema.load(paths.ROOT / "inventories" / "gpu.yaml").clusters[0]
    known = node_files.cluster_files(before, before.controller)
    files = {
        _golden_name(node.name, path): content
        for node in (cluster.controller, *cluster.login_nodes)
        for path, content in node_files.cluster_files(cluster, node).items()
        if content not in (image.get(path), known.get(path))
    }
    compare(GOLDEN / "login", files)
    assert configuration(cluster) == configuration(before)
