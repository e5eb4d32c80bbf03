"""The keys of images: what rebuilds which, and what rebuilds nothing."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcstate import paths, programs
from hpcstate.digest import key_of
from hpcstate.errors import HpcstateError
from hpcstate.host import tools
from hpcstate.image import declared as image
from hpcstate.image import inputs as image_inputs
from hpcstate.image import seed
from hpcstate.image.declared import ImageSpec
from hpcstate.image.inputs import inputs

NAMES = ("cloud-base", "hpc-base")
PLAIN = "name: x\ndeploy: deploys/base.py\ngroups: [worker]\n"


def keys() -> dict[str, str]:
    return {name: key_of(inputs(image.load(name))) for name in NAMES}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what images are made of, that a test may change."""
    import shutil

    for folder in ("packer", "deploys", "operations", "facts", "templates"):
        shutil.copytree(paths.ROOT / folder, tmp_path / folder)
    (tmp_path / "hpcstate").mkdir()
    shutil.copy(programs.REPLACE, tmp_path / "hpcstate")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    for module in (image, image_inputs):
        monkeypatch.setattr(module, "PACKER", tmp_path / "packer")
    monkeypatch.setattr(seed, "ROOT", tmp_path)
    monkeypatch.setattr(seed, "HOOKS", tmp_path / "packer" / "seed")
    monkeypatch.setattr(paths, "TEMPLATES", tmp_path / "templates")
    from hpcstate import render

    render._environment.cache_clear()
    return tmp_path


def append(path: Path, text: str = "\n# touched\n") -> None:
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    ("touched", "rebuilt"),
    [
        ("templates/slurm/slurm.conf.j2", set()),
        ("templates/base/hosts.j2", set()),
        ("templates/cloud-init/user-data.j2", set()),
        ("templates/libvirt/domain.xml.j2", set()),
        ("templates/base/sshd.conf.j2", {"hpc-base", "cloud-base"}),
        ("operations/slurm.py", set()),
        ("operations/munge.py", {"hpc-base"}),
        ("operations/munge_install.sh", {"hpc-base"}),
        ("operations/slurm_change.sh", set()),
        ("operations/text_files.py", {"hpc-base", "cloud-base"}),
        ("hpcstate/replace_file.sh", {"hpc-base", "cloud-base"}),
        ("packer/seed/customize.sh", {"hpc-base", "cloud-base"}),
        ("packer/seed/debs.sh", {"hpc-base", "cloud-base"}),
        ("packer/seed/seal.sh", {"hpc-base", "cloud-base"}),
    ],
)
def test_what_rebuilds_what(project: Path, touched: str, rebuilt: set[str]) -> None:
    before = keys()
    append(project / touched)
    from hpcstate import render

    render._environment.cache_clear()
    assert changed(before, keys()) == rebuilt


def test_a_package_list_rebuilds_just_its_image(project: Path) -> None:
    before = keys()
    path = project / "packer/hpc-base/image.yaml"
    path.write_text(path.read_text().replace("gpu: [pciutils]", "gpu: [pciutils, hwloc]"))
    assert changed(before, keys()) == {"hpc-base"}


def test_another_package_file_rebuilds_just_the_image_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, wanted = keys(), tools.load()
    other = dataclasses.replace(wanted.debs["apptainer"], sha256="0" * 64)
    changed_file = dataclasses.replace(wanted, debs={**wanted.debs, "apptainer": other})
    monkeypatch.setattr(tools, "load", lambda: changed_file)
    assert changed(before, keys()) == {"hpc-base"}


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: dataclasses.replace(spec, release="forky"),
        lambda spec: dataclasses.replace(spec, disk_gb=5),
        lambda spec: dataclasses.replace(spec, kernel_parameters="quiet"),
        lambda spec: dataclasses.replace(spec, package_names=("bash",)),
        lambda spec: dataclasses.replace(spec, debs=()),
    ],
    ids=["release", "disk_gb", "kernel_parameters", "packages", "debs"],
)
def test_the_seed_follows_its_declaration(change: Callable[[ImageSpec], ImageSpec]) -> None:
    spec = image.load("hpc-base")
    assert key_of(seed.inputs(spec)) != key_of(seed.inputs(change(spec)))


def test_the_order_of_packages_does_not_matter() -> None:
    spec = image.load("hpc-base")
    turned = dataclasses.replace(spec, package_names=tuple(reversed(spec.package_names)))
    assert key_of(seed.inputs(spec)) == key_of(seed.inputs(turned))


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("name: x\n", "deploy"),
        ("name: [\n", "image.yaml"),
        ("name: x\ndeploy: deploys/base.py\ngroups: [worker]\n", "either `packages`"),
        ("name: x\ndeploy: deploys/base.py\ngroups: [nobody]\npackages:\n  a: [bash]\n", "nobody"),
        (f"{PLAIN}packages:\n  a: [bash]\ndebs: [aptainer]\n", "there are: apptainer, packer"),
        (
            f"{PLAIN}source:\n  url: https://a.example/x\n  sha256: {'0' * 64}\ndebs: [apptainer]\n",
            "as it is",
        ),
    ],
)
def test_a_wrong_declaration_is_a_message(project: Path, text: str, fragment: str) -> None:
    (project / "packer/hpc-base/image.yaml").write_text(text)
    with pytest.raises(HpcstateError, match=r"image\.yaml") as caught:
        image.load("hpc-base")
    assert fragment in str(caught.value)


def test_an_unknown_image_names_the_known_ones() -> None:
    with pytest.raises(HpcstateError, match="hpc-base"):
        image.load("hpc-bsae")


def test_doit_lists_the_graph_without_building() -> None:
    doit = Path(sys.executable).with_name("doit")
    done = subprocess.run([doit, "list", "--all"], cwd=paths.ROOT, capture_output=True, text=True, check=True)
    families = {line.split()[0].split(":")[0] for line in done.stdout.splitlines()}
    assert {"build_images", "seed", "start", "deploy", "check", "up", "test"} <= families
