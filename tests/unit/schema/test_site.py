"""``site``: the user's own deploys and templates, and what of them cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import cli, paths, schema
from hpcstate.check.proof import configuration_digest
from hpcstate.cluster import rendered
from hpcstate.errors import HpcstateError, ProblemsError
from hpcstate.model import Cluster
from hpcstate.model.site import Site
from hpcstate.node import runs, work_files
from hpcstate.schema.site import KEPT, replaceable

GPU = paths.ROOT / "inventories" / "gpu.yaml"
MOTD = "base/motd.sh.j2"


def with_site(tmp_path: Path, site: str, files: Mapping[str, str | bytes]) -> Cluster:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    file = tmp_path / "lab.yaml"
    file.write_text(f"{GPU.read_text()}    site: {site}\n")
    cluster = schema.load(file).cluster("hpc")
    assert cluster
    return cluster


def plain() -> Cluster:
    return schema.load(GPU).clusters[0]


def motd(cluster: Cluster) -> str:
    return work_files.files(cluster, cluster.controller)[work_files.MOTD]


def test_what_a_site_has_is_read_with_the_file(tmp_path: Path) -> None:
    files = {"own/b.py": "b = 1\n", "a.py": "a = 1\n", f"mine/{MOTD}": "# {{ program }}\n"}
    cluster = with_site(tmp_path, "{deploys: [own/b.py, a.py], templates: mine}", files)
    assert list(cluster.site.deploys.items()) == [
        (str(tmp_path / "own/b.py"), "b = 1\n"),
        (str(tmp_path / "a.py"), "a = 1\n"),
    ]
    assert cluster.site.templates == {MOTD: "# {{ program }}\n"}
    assert not plain().site


@pytest.mark.parametrize(
    ("site", "files", "place", "said"),
    [
        ("{deploys: [none.py]}", {}, "deploys[0]", "No such file"),
        ("{deploys: [a.py]}", {"a.py": "x = (\n"}, "deploys[0]", "a.py is no Python: line 1"),
        ("{deploys: [a.py, ./a.py]}", {"a.py": ""}, "deploys[1]", "is there twice"),
        ("{deploys: [a.py]}", {"a.py": b"\xff"}, "deploys[0]", "no text in UTF-8"),
        ("{deploys: a.py}", {}, "deploys", "expected a list"),
        ("{templates: none}", {}, "templates", "there is no folder"),
        ("{templates: t}", {"t/base/mtd.sh.j2": ""}, "templates", "base/mtd.sh.j2 is no template"),
        (
            "{templates: t}",
            {"t/libvirt/domain.xml.j2": ""},
            "templates",
            "libvirt/domain.xml.j2 is no template",
        ),
        ("{templates: t}", {"t/base/sudoers.j2": ""}, "templates", "base/sudoers.j2 is no template"),
        ("{templates: t}", {f"t/{MOTD}": "\n{% if %}\n"}, "templates", f"{MOTD}: line 2"),
        ("{template: t}", {}, "template", "unknown key"),
    ],
)
def test_what_cannot_be(
    site: str, files: dict[str, str | bytes], place: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ProblemsError) as caught:
        with_site(tmp_path, site, files)
    (found,) = caught.value.problems
    assert (found.place, said in found.message) == (f".clusters.hpc.site.{place}", True), found


def test_an_unknown_name_is_told_with_those_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError) as caught:
        with_site(tmp_path, "{templates: t}", {"t/base/mtd.sh.j2": ""})
    hint = caught.value.problems[0].hint
    assert "did you mean" in hint and "slurm/slurm.conf.j2" in hint
    assert all((paths.TEMPLATES / name).is_file() for name in (*replaceable(), *KEPT))


def every_file(cluster: Cluster) -> str:
    """All that is rendered for the nodes of ``cluster``."""
    work = (text for node in cluster.nodes for text in work_files.files(cluster, node).values())
    return "".join((*rendered.files(cluster).values(), *work))


@pytest.mark.parametrize("name", replaceable())
def test_no_name_is_accepted_without_effect(name: str) -> None:
    """Each template that may be replaced is one that some cluster's nodes have."""
    text = GPU.read_text()
    shapes = [
        plain(),
        schema.parse(f"{text}    login_nodes: [{{}}]\n", GPU).clusters[0],
        replace(plain(), home="virtio_fs", home_path="/srv/home"),
    ]
    marked = Site(templates={name: "# the mark of a site\n"})
    assert any("# the mark of a site" in every_file(replace(shape, site=marked)) for shape in shapes)


def test_it_is_this_clusters_alone(tmp_path: Path) -> None:
    ours = motd(plain())
    own = with_site(tmp_path, "{templates: t}", {f"t/{MOTD}": '# own\n{% include "base/motd.sh.j2" %}'})
    assert motd(own) == f"# own\n{ours}"
    assert motd(plain()) == ours


def test_what_is_rendered_is_still_judged(tmp_path: Path) -> None:
    bad = (paths.TEMPLATES / "slurm/slurm.conf.j2").read_text() + "SelectType=select/cons_res\n"
    cluster = with_site(tmp_path, "{templates: t}", {"t/slurm/slurm.conf.j2": bad})
    (problem, *_) = rendered.findings(cluster)["slurm.conf"]
    assert "SelectType" in problem.place


def test_what_a_node_runs_and_a_proof_are_other_ones(tmp_path: Path) -> None:
    files = {"a.py": "a = 1\n", "t/base/hosts.j2": "# own\n"}
    own = with_site(tmp_path, "{templates: t}", files)
    node = plain().workers[0]
    assert runs.configuration_of(own, node) != runs.configuration_of(plain(), node)
    digests = {configuration_digest(cluster) for cluster in (plain(), own)}
    deploys = with_site(tmp_path, "{deploys: [a.py]}", files)
    digests.add(configuration_digest(deploys))
    digests.add(configuration_digest(replace(deploys, site=Site({str(tmp_path / "a.py"): "a = 2\n"}))))
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ nothing }}", "'nothing' is undefined"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% include 'x' %}", "x"),
    ],
)
def test_a_template_that_fails_is_said_as_the_sites(text: str, said: str, tmp_path: Path) -> None:
    cluster = with_site(tmp_path, "{templates: t}", {f"t/{MOTD}": text})
    with pytest.raises(HpcstateError) as caught:
        rendered.demand_templates(cluster)
    assert said in caught.value.message
    assert caught.value.where == f"site.templates: {MOTD}"


def test_validate_says_where_a_template_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_site(tmp_path, "{templates: t}", {f"t/{MOTD}": "{{ nothing }}"})
    assert cli.main(["validate", str(tmp_path / "lab.yaml"), "--skip-pcie-validation"]) == cli.FINDINGS
    said = capsys.readouterr().out
    assert f".clusters.hpc.site.templates: site.templates: {MOTD}: 'nothing' is undefined" in said
