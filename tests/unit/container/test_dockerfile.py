"""Dockerfiles: how they are read, what is refused, and what the shipped one has in it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hpcstate.container import declared as container
from hpcstate.container import dockerfile
from hpcstate.errors import HpcstateError, ProblemsError

SHIPPED = container.folder("pytorch-cuda12.1-mpi4.1")
CUDA = (SHIPPED / "Dockerfile").read_text(encoding="utf-8")
LOCK = (SHIPPED / "requirements.lock").read_text(encoding="utf-8")


def test_lines_are_joined_and_comments_and_here_documents_left_out() -> None:
    text = "# top\n\nFROM a\nRUN one \\\n  # between\n\n  two\nRUN <<END sh\nFROM inside\nEND\ncopy x y\n"
    found = [
        (instruction.line, instruction.keyword, instruction.words) for instruction in dockerfile.parse(text)
    ]
    assert found == [(3, "FROM", "a"), (4, "RUN", "one two"), (8, "RUN", "<<END sh"), (11, "COPY", "x y")]


def test_the_directive_chooses_what_continues_a_line() -> None:
    found = dockerfile.parse("# escape=`\nFROM a\nRUN dir C:\\ `\n more\n")
    assert [instruction.words for instruction in found] == ["a", "dir C:\\ more"]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "FROM has to come first"),
        ("RUN true\n", 1, "FROM has to come first"),
        ("ARG A=1\nRUN true\nFROM a\n", 2, "FROM has to come first"),
        ("FROM scratch\n\nRUNN true\n", 3, "no such instruction"),
        ("FROM scratch\nCOPY\n", 2, "says nothing"),
    ],
)
def test_what_no_engine_would_build_is_said_with_its_line(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    (tmp_path / "Dockerfile").write_text(text, encoding="utf-8")
    with pytest.raises(ProblemsError, match=said) as raised:
        dockerfile.read(tmp_path / "Dockerfile")
    assert [problem.line for problem in raised.value.problems] == [line]


def test_a_file_that_cannot_be_read_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_bytes(b"FROM \xff\n")
    for name in ("Dockerfile", "missing"):
        with pytest.raises(HpcstateError, match="cannot be read"):
            dockerfile.read(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "bases"),
    [
        ("FROM scratch", ()),
        ("FROM debian:13", ("debian:13",)),
        ("FROM --platform=linux/amd64 a AS one\nFROM b\nCOPY --from=one x y", ("a", "b")),
        ("FROM a AS One\nFROM one\n", ("a",)),
        ("ARG TAG=13\nARG BASE=debian:${TAG}\nFROM ${BASE}", ("debian:13",)),
        ("FROM ${BASE:-debian:12}", ("debian:12",)),
        ("ARG BASE='x:1'\nFROM $BASE", ("x:1",)),
        ("FROM a\nARG BASE=b\nFROM $BASE", ("a",)),
        ("FROM a\nFROM a", ("a",)),
    ],
)
def test_bases(text: str, bases: tuple[str, ...]) -> None:
    assert dockerfile.bases(dockerfile.parse(text)) == bases


def test_the_shipped_one_starts_from_a_pinned_cuda_12_1() -> None:
    (base,) = dockerfile.bases(dockerfile.read(SHIPPED / "Dockerfile"))
    assert re.fullmatch(r"docker\.io/nvidia/cuda:12\.1\.1-devel-ubuntu22\.04@sha256:[0-9a-f]{64}", base)


# TASK-019 of both documents.
IN_THE_LOCK = [
    "torch==2.4.1",
    "torchvision==",
    "torchaudio==",
    "mpi4py==",
    "tensorboard==",
    "wandb==",
    "nvitop==",
    "py-spy==",
    "memory-profiler==",
    "psutil==",
    "ipython==",
    "jupyter==",
    "matplotlib==",
    "pandas==",
    "scikit-learn==",
    "pytest==",
    "pytest-cov==",
    "black==",
    "flake8==",
    "mypy==",
    "nvidia-cuda-runtime-cu12==12.1.",
    "nvidia-nccl-cu12==",
]
IN_THE_DOCKERFILE = [
    "OPENMPI_VERSION=4.1.4",
    "--with-cuda=",
    "--with-pmix=",
    "build-essential",
    "cmake",
    "git",
    "vim",
    "gdb",
    "python3-dev",
    "pkg-config",
    "openssh-client",
    "openssh-server",
    "wget",
    "curl",
    "WORKDIR",
    "ENTRYPOINT",
]


@pytest.mark.parametrize("package", IN_THE_LOCK)
def test_every_package_of_task_019_is_in_the_lock(package: str) -> None:
    assert re.search(rf"^{re.escape(package)}", LOCK, re.MULTILINE)


@pytest.mark.parametrize("word", IN_THE_DOCKERFILE)
def test_every_component_of_task_019_is_in_the_dockerfile(word: str) -> None:
    instructions = (f" {instruction.keyword} {instruction.words} " for instruction in dockerfile.parse(CUDA))
    assert any(f" {word}" in text for text in instructions)


def test_what_is_asked_for_is_locked_with_digests() -> None:
    asked = re.findall(r"^([a-z0-9-]+)", (SHIPPED / "requirements.in").read_text(), re.MULTILINE)
    blocks = re.split(r"\n(?=\S)", "\n".join(line for line in LOCK.splitlines() if line[:1] != "#"))
    locked = {block.split("==")[0]: block for block in blocks if "==" in block}
    assert [name for name in asked if name not in locked] == []
    assert [name for name, block in locked.items() if "--hash=sha256:" not in block] == []


def test_nothing_fetched_is_run_unverified_and_nothing_is_secret() -> None:
    runs = [instruction.words for instruction in dockerfile.parse(CUDA) if instruction.keyword == "RUN"]
    assert not [words for words in runs if re.search(r"(curl|wget)\b[^&]*\|", words)]
    fetching = [words for words in runs if re.search(r"\b(curl|wget) -", words)]
    assert fetching and all("sha256sum --check" in words for words in fetching)
    assert "--require-hashes" in CUDA and "--only-binary=:all:" in CUDA
    assert not re.search(r"(?i)(token|passw|secret|api_?key)", CUDA)


def test_its_entry_point_is_there_and_a_shell_understands_it() -> None:
    assert 'ENTRYPOINT ["/usr/local/bin/entrypoint.sh"]' in CUDA
    assert subprocess.run(["sh", "-n", SHIPPED / "entrypoint.sh"], check=False).returncode == 0
    done = subprocess.run(
        ["sh", SHIPPED / "entrypoint.sh", "echo", "a b"], check=True, capture_output=True, text=True
    )
    assert done.stdout == "a b\n"


def test_libraries_of_cuda_are_kept_once_where_the_versions_agree(tmp_path: Path) -> None:
    packages, libraries = tmp_path / "dist-packages", tmp_path / "lib"
    libraries.mkdir()
    for name, version, file in [
        ("nvidia-cublas-cu12", "12.1.3.1", "nvidia/cublas/lib/libcublas.so.12"),
        ("nvidia-nvjitlink-cu12", "12.9.86", "nvidia/nvjitlink/lib/libnvJitLink.so.12"),
        ("other", "3.0", "other/libother.so.3"),
    ]:
        record = packages / f"{name.replace('-', '_')}-{version}.dist-info"
        record.mkdir(parents=True)
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (record / "RECORD").write_text(f"{file},,\n")
        (packages / file).parent.mkdir(parents=True)
        (packages / file).write_text(f"the wheel's {version}")
    same = libraries / "libcublas.so.12.1.3.1"
    others = [libraries / "libnvJitLink.so.12.1.105", libraries / "libother.so.3.0"]
    for library in (same, *others):
        library.write_text("the toolkit's")
    (libraries / "libcublas.so.12").symlink_to(same.name)

    words = [sys.executable, str(SHIPPED / "link_cuda_once.py"), str(packages), str(libraries)]
    first, second = (subprocess.run(words, check=True, capture_output=True, text=True).stdout for _ in (1, 2))

    assert (libraries / "libcublas.so.12").read_text() == "the wheel's 12.1.3.1"
    assert same.readlink() == packages / "nvidia/cublas/lib/libcublas.so.12"
    assert [file.read_text() for file in others] == ["the toolkit's", "the toolkit's"]
    assert str(same) in first
    assert second == "saved 0 MB\n"
