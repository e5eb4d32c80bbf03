"""The files by which Apptainer runs containers, and container-exec run with stand-ins for what it starts."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpcstate import hostlist, paths
from hpcstate.model import ContainerSettings
from hpcstate.node import apptainer_files
from hpcstate.probe import apptainer

SEEDS_POLICY = {
    "allow setuid": ["no"],
    "mount hostfs": ["no"],
    "enable overlay": ["yes"],
    "enable underlay": ["no"],
    "bind path": ["/etc/localtime", "/etc/hosts"],
    "user bind control": ["yes"],
    "mount slave": ["yes"],
    "always use nv": ["no"],
}
"""What TASK-009 wants, in the names of Apptainer 1.4."""


def settings_of(text: str) -> Mapping[str, list[str]]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return apptainer.parse("\n".join(f"setting {line}" for line in lines))["settings"]


def test_the_policy_is_that_of_the_seeds() -> None:
    found = settings_of(apptainer_files.apptainer_conf(ContainerSettings()))
    assert {name: found[name] for name in SEEDS_POLICY} == SEEDS_POLICY
    assert [name for name, values in found.items() if len(values) > 1] == ["bind path"]


def test_lists_that_are_empty_are_left_out() -> None:
    found = settings_of(apptainer_files.apptainer_conf(ContainerSettings()))
    assert not [name for name, values in found.items() if "NULL" in values or "" in values]


def test_the_cluster_file_decides_on_size_and_signatures() -> None:
    files = apptainer_files.cluster_files(ContainerSettings(require_signature=False, session_dir_mb=512))
    assert settings_of(files[apptainer_files.CONF])["sessiondir max size"] == ["512"]
    assert "require_signature=no\n" in files[apptainer_files.POLICY]
    assert "require_signature=yes\n" in apptainer_files.image_files()[apptainer_files.POLICY]


def test_no_key_of_a_project_is_in_an_image() -> None:
    assert apptainer_files.PUBLIC_KEY not in apptainer_files.image_files()


def test_ranges_of_subordinate_numbers_do_not_meet() -> None:
    starts = [apptainer_files.subid_start(uid) for uid in (1000, 1001, 2000, 65535)]
    assert all(b - a >= apptainer_files.SUBIDS for a, b in itertools.pairwise(starts))
    assert starts[-1] + apptainer_files.SUBIDS <= 1 << 32


# container-exec


@dataclass(frozen=True)
class Node:
    """A node as container-exec sees it: a registry, a policy, a key, and a stand-in for Apptainer that prints
    how it was called and verifies files that contain ``signed``."""

    root: Path

    def run(
        self, *words: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        variables = {"PATH": f"{self.root}/bin:{os.environ['PATH']}", **(environment or {})}
        return subprocess.run(
            [self.root / "container-exec", *words],
            env=variables,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def container(self, name: str, content: str = "signed", category: str = "base-images") -> Path:
        folder = self.root / "opt/containers" / category
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{name}-1.0-0123456789ab.sif"
        file.write_text(content)
        (folder / f"{name}.sif").symlink_to(file.name)
        return file

    @property
    def verified(self) -> int:
        log = self.root / "verified"
        return len(log.read_text().splitlines()) if log.exists() else 0


APPTAINER = """\
#!/bin/sh
[ "$1" != --silent ] || shift
if [ "$1" = verify ]; then
    for file; do :; done
    echo "$file" >>{root}/verified
    grep -q signed "$file" && exit 0
    echo 'INFO:    Verifying image' >&2
    echo 'FATAL:   Failed to verify container: no signatures found' >&2
    exit 255
fi
printf '%s\\n' "$@"
env | grep -E '^(APPTAINER|OMPI|MASTER|WORLD|RANK|LOCAL_RANK|NODE_RANK|FROM_FILE)' | sort
pwd
"""


@pytest.fixture
def node(tmp_path: Path) -> Node:
    text = apptainer_files.container_exec()
    for path in ("/opt/containers", "/etc/hpcstate", "/var/cache/hpcstate-containers", "/proc/driver"):
        assert path in text
        text = text.replace(path, f"{tmp_path}{path}")
        (tmp_path / path.strip("/")).mkdir(parents=True)
    for name, content in (("container-exec", text), ("bin/apptainer", APPTAINER.format(root=tmp_path))):
        program = tmp_path / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(content)
        program.chmod(0o755)
    (tmp_path / "etc/hpcstate/containers.conf").write_text(apptainer_files.policy(ContainerSettings()))
    (tmp_path / "etc/hpcstate/containers.pub.pem").write_text("key\n")
    return Node(tmp_path)


def test_a_container_of_the_registry_runs_by_its_name(node: Node) -> None:
    node.container("mpi-minimal")
    done = node.run("mpi-minimal", "--", "echo", "two words")
    link = f"{node.root}/opt/containers/base-images/mpi-minimal.sif"
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:4] == ["exec", link, "echo", "two words"]


def test_a_file_runs_by_its_path_and_without_a_command_its_own_program(node: Node) -> None:
    (node.root / "my.sif").write_text("signed")
    for word in ("my.sif", "./my.sif", f"{node.root}/my.sif"):
        assert node.run(word).stdout.splitlines()[:2] == ["run", word]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mpi-minmal"], "there are: mpi-minimal torch"),
        (["../mpi-minimal"], "there is no such file"),
        (["missing.sif"], "there is no such file"),
        (["twice"], "two categories have a container 'twice'"),
        (
            ["unsigned", "true"],
            "its signature is not the cluster's: Failed to verify container: no signatures",
        ),
        (["--nv", "mpi-minimal"], "there is no option --nv"),
        (["opt/containers/base-images"], "it is no file that you can read"),
    ],
)
def test_what_cannot_run_is_refused_with_the_next_step(node: Node, words: list[str], message: str) -> None:
    node.container("mpi-minimal")
    node.container("torch", category="ml-frameworks")
    if "twice" in words:
        node.container("twice")
        node.container("twice", category="custom-images")
    if "unsigned" in words:
        node.container("unsigned", "plain")
    done = node.run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "hint: " in done.stderr


def test_without_words_it_says_how_it_is_called(node: Node) -> None:
    assert node.run().returncode == 2
    assert node.run("--help").returncode == 0
    assert "usage: container-exec NAME|FILE.sif" in node.run().stderr


def test_a_file_is_verified_once_until_it_changes(node: Node) -> None:
    file = node.container("mpi-minimal")
    for _ in range(3):
        assert node.run("mpi-minimal", "true").returncode == 0
    assert node.verified == 1
    before = file.stat()
    file.write_text("altere")  # as long as before, and with the times of before
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert node.run("mpi-minimal", "true").returncode == 2
    assert node.run("mpi-minimal", "true").returncode == 2
    assert node.verified == 3


def test_another_key_verifies_again(node: Node) -> None:
    node.container("mpi-minimal")
    node.run("mpi-minimal", "true")
    (node.root / "etc/hpcstate/containers.pub.pem").write_text("other key\n")
    node.run("mpi-minimal", "true")
    assert node.verified == 2


def test_without_a_folder_of_its_own_it_verifies_each_time(node: Node) -> None:
    node.container("mpi-minimal")
    (node.root / "var/cache/hpcstate-containers").rmdir()
    for _ in range(2):
        done = node.run("mpi-minimal", "true")
        assert done.returncode == 0
        assert "APPTAINER_CACHEDIR" not in done.stdout
    assert node.verified == 2


@pytest.mark.parametrize("policy", ["require_signature=yes\n", "", None, "require_signature=maybe\n"])
def test_unless_the_policy_says_no_a_signature_is_required(node: Node, policy: str | None) -> None:
    file = node.root / "etc/hpcstate/containers.conf"
    file.unlink() if policy is None else file.write_text(policy)
    node.container("unsigned", "plain")
    assert node.run("unsigned", "true").returncode == 2
    file.write_text("# comment\nrequire_signature=no\n")
    assert node.run("unsigned", "true").returncode == 0
    file.unlink()
    (node.root / "etc/hpcstate/containers.pub.pem").unlink()
    refused = node.run("unsigned", "true")
    assert refused.returncode == 2
    assert "public key is missing" in refused.stderr


STEP = {
    "SLURM_JOB_ID": "70",
    "SLURM_STEP_ID": "3",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NODELIST": "compute-[01-02]",
    "SLURM_JOB_NODELIST": "compute-[01-04]",
}


def test_a_step_gets_the_environment_of_torch_distributed(node: Node) -> None:
    node.container("torch")
    lines = node.run("torch", "true", environment=STEP).stdout.splitlines()
    assert {
        "MASTER_ADDR=compute-01",
        "MASTER_PORT=21123",
        "WORLD_SIZE=4",
        "RANK=3",
        "LOCAL_RANK=1",
        "NODE_RANK=1",
        "OMPI_MCA_btl_vader_single_copy_mechanism=none",
        "OMPI_MCA_smsc=^cma",
    } <= set(lines)


def test_what_the_user_set_stays(node: Node) -> None:
    node.container("torch")
    own = {"MASTER_ADDR": "elsewhere", "RANK": "0", "OMPI_MCA_smsc": "xpmem"}
    lines = node.run("torch", "true", environment=STEP | own).stdout.splitlines()
    assert {"MASTER_ADDR=elsewhere", "RANK=0", "OMPI_MCA_smsc=xpmem", "WORLD_SIZE=4"} <= set(lines)


def test_outside_of_a_step_there_are_no_ranks(node: Node) -> None:
    node.container("torch")
    batch = {key: STEP[key] for key in ("SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_PROCID")}
    assert "RANK" not in node.run("torch", "true", environment=batch).stdout


@pytest.mark.parametrize(
    "names",
    [
        ["compute-01"],
        ["compute-01", "compute-02"],
        ["compute-01", "compute-03", "other"],
        ["a", "b", "c"],
        ["n9", "n10", "n11"],
        ["gpu-a1", "gpu-b1"],
    ],
)
def test_the_master_is_the_first_host(node: Node, names: list[str]) -> None:
    node.container("torch")
    environment = STEP | {"SLURM_STEP_NODELIST": hostlist.compress(names)}
    assert f"MASTER_ADDR={names[0]}" in node.run("torch", "true", environment=environment).stdout.splitlines()


@pytest.mark.parametrize(
    ("listed", "first"),
    [("r[1-2]n[05-9]", "r1n05"), ("n[3,7]-ib", "n3-ib"), ("a,b[1-2]", "a"), ("x[2],y", "x2")],
)
def test_lists_of_several_brackets(node: Node, listed: str, first: str) -> None:
    node.container("torch")
    done = node.run("torch", "true", environment=STEP | {"SLURM_STEP_NODELIST": listed})
    assert f"MASTER_ADDR={first}" in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("driver", "environment", "nv"),
    [
        (True, {"SLURM_STEP_GPUS": "0"}, True),
        (True, {"SLURM_JOB_GPUS": "0,1"}, True),
        (True, {"CUDA_VISIBLE_DEVICES": "0"}, True),
        (True, {"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, False),
        (True, {}, False),
        (False, {"SLURM_STEP_GPUS": "0", "CUDA_VISIBLE_DEVICES": "0"}, False),
    ],
)
def test_nvidias_libraries_come_with_a_real_gpu(
    node: Node, driver: bool, environment: dict[str, str], nv: bool
) -> None:
    node.container("torch")
    if driver:
        (node.root / "proc/driver/nvidia").mkdir()
    done = node.run("torch", "true", environment=environment)
    assert ("--nv" in done.stdout.splitlines()) == nv


def test_the_folder_of_pmix_is_bound(node: Node, tmp_path: Path) -> None:
    node.container("mpi-minimal")
    folder = tmp_path / "pmix.7.0"
    folder.mkdir()
    lines = node.run(
        "mpi-minimal", "true", environment={"PMIX_SERVER_TMPDIR": str(folder)}
    ).stdout.splitlines()
    assert lines[:3] == ["exec", "--bind", str(folder)]
    assert (
        "--bind" not in node.run("mpi-minimal", "true", environment={"PMIX_SERVER_TMPDIR": "/nowhere"}).stdout
    )


def test_the_folder_of_the_step_is_bound_for_srun_container(node: Node, tmp_path: Path) -> None:
    node.container("mpi-minimal")
    folder = tmp_path / "slurmd/oci-job25-0/pmix.25.0"
    folder.mkdir(parents=True)
    server = f"{tmp_path}/slurmd/oci-job25-0//pmix.25.0/"
    lines = node.run("mpi-minimal", "true", environment={"PMIX_SERVER_TMPDIR": server}).stdout.splitlines()
    assert lines[:3] == ["exec", "--bind", str(folder.parent)]


def test_a_batch_script_is_bound(node: Node, tmp_path: Path) -> None:
    node.container("mpi-minimal")
    script = tmp_path / "slurmd/job00015/slurm_script"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\n")
    lines = node.run("mpi-minimal", str(script), "a").stdout.splitlines()
    assert lines[:3] == ["exec", "--bind", f"{script}:{script}:ro"]
    assert lines[4:6] == [str(script), "a"]


def test_for_oci_conf_the_environment_comes_from_a_file(node: Node, tmp_path: Path) -> None:
    node.container("mpi-minimal")
    work = tmp_path / "home of hpc"
    work.mkdir()
    file = tmp_path / "environment"
    file.write_text(
        f"PATH={node.root}/bin:{os.environ['PATH']}\nPWD={work}\nFROM_FILE=it's $(reboot) = x\n"
        "BASH_FUNC_module%%=() {  eval x\n}\n9x=1\n"
    )
    done = node.run(
        "--environment", str(file), "--", "mpi-minimal", "true", environment={"PATH": "/usr/bin:/bin"}
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "FROM_FILE=it's $(reboot) = x" in lines
    assert lines[-1] == str(work)


def test_it_is_portable_shell(tmp_path: Path) -> None:
    for shell in ("sh", "bash"):
        subprocess.run([shell, "-n", paths.TEMPLATES / "apptainer/container-exec"], check=True)
