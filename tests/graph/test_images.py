"""The keys of artifacts: what rebuilds which, and what rebuilds nothing."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcstate import paths, render
from hpcstate.artifact import imports
from hpcstate.artifact.store import Store
from hpcstate.container import build as container_build
from hpcstate.container import convert, layers, signing, toolbox
from hpcstate.container import declared as container
from hpcstate.digest import key_of
from hpcstate.errors import HpcstateError
from hpcstate.host import tools
from hpcstate.image import declared as image
from hpcstate.image import inputs as image_inputs
from hpcstate.image import packer, seed
from hpcstate.image.declared import ImageSpec
from hpcstate.judge import root as judge_root

NAMES = ("cloud-base", "hpc-base")
HPC = {"hpc-base", "judge root of hpc-base"}
IMAGES = {*HPC, "cloud-base", "judge root of cloud-base"}
SEEDS = {"seed of hpc-base", "seed of cloud-base"}
CONTAINERS = {"mpi-minimal.sif", "converted.sif"}
TOOLS = {"tools root", *CONTAINERS}
DEBIAN = {*SEEDS, *IMAGES, *TOOLS, "layer of packages", "Docker tree"}
PLAIN = "name: x\ndeploy: deploys/base.py\ngroups: [worker]\n"


def keys() -> dict[str, str]:
    """The keys of all kinds of artifacts, as a process that begins now finds them."""
    imports._read.cache_clear()
    render._environment.cache_clear()
    store, minimal = Store(Path("store")), container.load("mpi-minimal")
    specs = [image.load(name) for name in NAMES]
    images = {spec.name: packer.recipe(spec, store).key for spec in specs}
    return {
        **{f"seed of {spec.name}": seed.recipe(spec).key for spec in specs},
        **images,
        **{f"judge root of {name}": judge_root.recipe(Path(name), images[name]).key for name in images},
        "tools root": toolbox.recipe().key,
        "layer of packages": layers.recipes(minimal)[0].key,
        "mpi-minimal.sif": container_build.recipe(minimal, store).key,
        "converted.sif": key_of(convert.inputs("docker://a", {})),
        "Docker tree": key_of(imports.code_of("hpcstate.artifact.debian")),
    }


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what artifacts are made of, that a test may change."""
    for folder in ("packer", "deploys", "operations", "facts", "templates", "hpcstate", "containers"):
        shutil.copytree(paths.ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "CONTAINERS", tmp_path / "containers")
    for module in (image, image_inputs):
        monkeypatch.setattr(module, "PACKER", tmp_path / "packer")
    monkeypatch.setattr(seed, "ROOT", tmp_path)
    monkeypatch.setattr(seed, "HOOKS", tmp_path / "packer" / "seed")
    monkeypatch.setattr(paths, "TEMPLATES", tmp_path / "templates")
    monkeypatch.setattr(signing, "fingerprint", lambda: "ours")
    return tmp_path


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    ("touched", "rebuilt"),
    [
        ("templates/slurm/slurm.conf.j2", set()),
        ("templates/base/hosts.j2", set()),
        ("templates/cloud-init/user-data.j2", set()),
        ("templates/libvirt/domain.xml.j2", set()),
        ("templates/base/sshd.conf.j2", IMAGES),
        ("operations/slurm.py", set()),
        ("operations/munge.py", HPC),
        ("operations/munge_install.sh", HPC),
        ("hpcstate/slurm/change.sh", set()),
        ("operations/text_files.py", IMAGES),
        ("operations/vfio_bind.sh", set()),
        *((f"{module.replace('.', '/')}.py", set()) for module in sorted(imports.SHOWS_ONLY)),
        ("packer/seed/customize.sh", {*SEEDS, *IMAGES}),
        ("packer/seed/debs.sh", {*SEEDS, *IMAGES}),
        ("packer/seed/seal.sh", IMAGES),
        ("containers/mpi-minimal/container.yaml", {"mpi-minimal.sif"}),
        # What makes them.
        ("hpcstate/artifact/debian.py", DEBIAN),
        ("hpcstate/files.py", {*SEEDS, *IMAGES, *TOOLS, "layer of packages"}),
        ("hpcstate/image/disk.py", {*SEEDS, *IMAGES}),
        ("hpcstate/image/seed_tree.py", {*SEEDS, *IMAGES}),
        ("hpcstate/image/packer.py", IMAGES),
        ("hpcstate/judge/root.py", {f"judge root of {name}" for name in NAMES}),
        ("hpcstate/container/layers.py", {"layer of packages", *CONTAINERS}),
        ("hpcstate/container/sif.py", CONTAINERS),
        ("hpcstate/container/engine.py", CONTAINERS),
        ("hpcstate/container/convert.py", {"converted.sif"}),
        ("hpcstate/container/toolbox.py", {*TOOLS, "layer of packages"}),
        ("hpcstate/container/toolbox_enter.py", {*TOOLS, "layer of packages"}),
        ("hpcstate/probe/text_files.py", IMAGES),
        ("hpcstate/probe/munge.py", HPC),
        ("hpcstate/programs.py", IMAGES),
        ("hpcstate/replace_file.sh", IMAGES),
        # What only puts them in their place, finds what they need, says what goes on, or comes later.
        *(
            (f"hpcstate/{module.removeprefix('hpcstate.').replace('.', '/')}.py", set())
            for module in sorted(imports.LEFT_OUT)
            if module not in ("hpcstate.host", "hpcstate.node")
        ),
        ("hpcstate/host/tools.py", set()),
        ("hpcstate/node/cidata.py", set()),
        ("hpcstate/model/gpu.py", set()),
        ("hpcstate/schema/cluster.py", set()),
        ("hpcstate/slurm/gres_conf.py", set()),
        ("hpcstate/cluster/status.py", set()),
        ("hpcstate/hypervisor/xml.py", set()),
        ("hpcstate/commands/container.py", set()),
        ("hpcstate/tasks/images.py", set()),
        ("hpcstate/judge/judge.py", set()),
    ],
)
def test_what_rebuilds_what(project: Path, touched: str, rebuilt: set[str]) -> None:
    before = keys()
    line = {".py": "_touched = 1", ".sh": "touched=1", ".hcl": "touched {}"}.get(
        Path(touched).suffix, "# touched"
    )
    append(project / touched, f"\n{line}\n")
    assert changed(before, keys()) == rebuilt


def test_another_comment_or_docstring_rebuilds_nothing(project: Path) -> None:
    before = keys()
    for name in ("hpcstate/image/disk.py", "operations/munge.py"):
        text = (project / name).read_text()
        assert text.startswith('"""')
        (project / name).write_text(f'"""Other words. {text[3:]}\n\n\n# and a comment\n')
    assert keys() == before
    append(project / "hpcstate/image/disk.py", "print()")
    assert changed(before, keys()) == {*SEEDS, *IMAGES}


def test_a_comment_in_a_program_or_template_rebuilds_nothing(project: Path) -> None:
    before = keys()
    for name in ("packer/image.pkr.hcl", "packer/seed/seal.sh", "packer/seed/customize.sh"):
        append(project / name, "\n\n# a comment\n")
    assert keys() == before
    append(project / "packer/seed/customize.sh", "true\n")
    assert changed(before, keys()) == {*SEEDS, *IMAGES}


def test_every_recipe_has_its_code_among_its_inputs() -> None:
    """Found by the makers of Recipe in the source: the one who adds a recipe is told."""
    minimal, spec = container.load("pytorch-cpu-mpi"), image.load("hpc-base")
    store = Store(Path("store"))
    recipes = {
        "container/build.py": container_build.recipe(minimal, store).made_of["code"],
        "container/convert.py": convert.inputs("docker://a", {})["code"],
        "container/layers.py": layers.recipes(minimal)[0].made_of["code"],
        "container/toolbox.py": toolbox.recipe().made_of["code"],
        "image/packer.py": packer.recipe(spec, store).made_of["code"],
        "image/seed.py": seed.recipe(spec).made_of["code"],
        "judge/root.py": judge_root.recipe(Path("x"), "k").made_of["code"],
    }
    room = paths.ROOT / "hpcstate"
    makers = {str(file.relative_to(room)) for file in room.rglob("*.py") if " Recipe(" in file.read_text()}
    assert makers == recipes.keys()
    assert all(f"hpcstate/{maker}" in code for maker, code in recipes.items())


def test_a_package_list_rebuilds_just_its_image(project: Path) -> None:
    before = keys()
    path = project / "packer/hpc-base/image.yaml"
    path.write_text(path.read_text().replace("gpu: [pciutils]", "gpu: [pciutils, hwloc]"))
    assert changed(before, keys()) == {"seed of hpc-base", *HPC}


def test_another_package_file_rebuilds_just_what_installs_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, wanted = keys(), tools.load()
    other = dataclasses.replace(wanted.debs["apptainer"], sha256="0" * 64)
    changed_file = dataclasses.replace(wanted, debs={**wanted.debs, "apptainer": other})
    monkeypatch.setattr(tools, "load", lambda: changed_file)
    assert changed(before, keys()) == {"seed of hpc-base", *HPC, *TOOLS}


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
    doit = [sys.executable, "-m", "doit"]  # a worktree's, too (docs/contributing.md)
    done = subprocess.run(
        [*doit, "list", "--all"], cwd=paths.ROOT, capture_output=True, text=True, check=True
    )
    families = {line.split()[0].split(":")[0] for line in done.stdout.splitlines()}
    assert {"build_images", "seed", "start", "deploy", "check", "up", "test"} <= families
