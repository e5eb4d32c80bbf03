"""docs/cluster-file.md says what the schema does: the same keys, the same defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpcstate import paths, schema
from hpcstate.schema import keys, node_keys, reference
from hpcstate.schema.declare import Keys

PAGE = (paths.ROOT / "docs" / "cluster-file.md").read_text()


def sections() -> dict[str, str]:
    """The text below each heading."""
    parts = re.split(r"(?m)^## (.+)$", PAGE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(section: str) -> dict[str, str]:
    """The keys of a section's table, each with its default as written; nothing when there is none."""
    found = re.findall(r"(?m)^\| `(\w+)` \|([^|]*)\|", sections()[section])
    return {key: default.strip(" `*") for key, default in found}


def listed(section: str, title: str) -> set[str]:
    """The keys after "Labels:" or "Earlier:" in a section."""
    found = re.search(rf"(?s){title}: (.*?)(?:\. |\.\n|$)", sections()[section])
    return set(re.findall(r"`(\w+)`", found.group(1))) if found else set()


def test_the_tables_are_those_of_the_schema() -> None:
    assert reference.rewritten(PAGE) == PAGE, (
        f"{reference.PAGE} is out of date: {reference.COMMAND} writes it"
    )


def test_the_command_writes_the_tables_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("| `nodes` | `0` |", "| `nodes` | `9` |").replace("`vendor`", "`seller`"))
    assert reference.main([str(page)]) == 0
    assert page.read_text() == PAGE
    assert reference.main([str(page)]) == 0
    assert capsys.readouterr().out == f"{page}: written\n{page}: as it was\n"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<!-- keys: gres -->", "<!-- keys: grse -->", "there is no section 'grse'"),
        ("<!-- keys: gres -->", "", "0 places for the keys of gres"),
        ("<!-- keys: gres -->", "<!-- keys: network -->", "2 places for the keys of network"),
        ("# The cluster file", "<!-- end -->", "a marker without its other half"),
    ],
)
def test_a_page_with_wrong_markers_is_left_as_it_is(
    old: str, new: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace(old, new, 1))
    before = page.read_text()
    assert reference.main([str(page)]) == 2
    assert words in capsys.readouterr().err
    assert page.read_text() == before


def test_a_page_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reference.main([str(tmp_path / "none.md")]) == 2
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize("section", keys.SECTIONS, ids=lambda section: section.title)
def test_every_key_is_described_and_no_other(section: type[Keys]) -> None:
    assert set(rows(section.title)) == set(section.used)
    assert listed(section.title, "Labels") == set(section.labels)
    assert listed(section.title, "Earlier") == set(section.earlier)


def test_every_section_is_one_of_the_schema() -> None:
    assert set(sections()) == {section.title for section in keys.SECTIONS}


def test_the_defaults_are_those_of_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BUILD", paths.ROOT / "build")
    node = "{simulated_gpus: {count: 1}}"
    text = f"""
clusters:
  hpc: {{name: lab, network: {{subnet: 10.1.2.0/24}}, controller: {{}}, compute_nodes: [{node}]}}
  cloud: {{name: sky, network: {{subnet: 10.1.3.0/24}}, control_plane: {{}}, worker_nodes: [{{}}]}}
"""
    description = schema.parse(text, Path("lab.yaml"))
    hpc, cloud = description.clusters
    worker = hpc.workers[0]
    assert worker.simulated_gpus is not None
    assert hpc.slurm is not None
    acceleration = hpc.acceleration
    actual: dict[str, dict[str, object]] = {
        "clusters.hpc": {"uri": hpc.uri, "base_image_path": hpc.controller.image},
        "clusters.cloud": {"uri": cloud.uri, "base_image_path": cloud.controller.image},
        "network": {"forward": hpc.network.forward},
        "hardware.acceleration": {
            "enable_kvm": acceleration.enable_kvm,
            "enable_nested": acceleration.enable_nested,
            "cpu_model": acceleration.cpu_model,
        },
        "numa_topology": {"nodes": acceleration.numa_nodes},
        "performance": {
            "enable_hugepages": acceleration.enable_hugepages,
            "hugepage_size": acceleration.hugepage_size,
            "cpu_pinning": acceleration.cpu_pinning,
            "memory_backing": acceleration.memory_backing,
        },
        "slurm_config": {"max_job_time": hpc.slurm.partitions[0].max_time},
        "containers": {
            "deploy": list(hpc.containers.deploy),
            "require_signature": str(hpc.containers.require_signature).lower(),
            "session_dir_mb": hpc.containers.session_dir_mb,
        },
        "simulated_gpus": {"type": worker.simulated_gpus.gres_type},
        "compute_nodes": {
            "count": len(hpc.workers),
            "cpu_cores": worker.cpu_cores,
            "memory_gb": worker.memory_mb // 1024,
            "disk_gb": worker.disk_gb,
            "auto_start": worker.auto_start,
        },
    }
    actual["controller"] = {
        key: value for key, value in actual["compute_nodes"].items() if key in node_keys.ControllerKeys.used
    }
    for section, defaults in actual.items():
        written = rows(section)
        assert {key: written[key] for key in defaults} == {
            key: str(value).lower() if isinstance(value, bool) else str(value)
            for key, value in defaults.items()
        }
    assert [partition.name for partition in hpc.slurm.partitions] == ["gpu", "debug"]
