"""Dockerfiles: how they are read, what is refused, and what the shipped one has in it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.container import declared as container
from hpcstate.container import dockerfile, order
from hpcstate.errors import HpcstateError
from hpcstate.model.container import Container

SHIPPED = container.folder("pytorch-cuda12.1-mpi4.1")
CUDA = (SHIPPED / "Dockerfile").read_text(encoding="utf-8")
LOCK = (SHIPPED / "requirements.lock").read_text(encoding="utf-8")


def test_lines_are_joined_and_comments_and_here_documents_left_out() -> None:
    text = "# top\n\nFROM a\nRUN one \\\n  # between\n\n  two\nRUN <<END sh\nFROM inside\nEND\ncopy x y\n"
    found = [
        (instruction.line, instruction.keyword, instruction.words) for instruction in dockerfile.parse(text)
    ]
    assert found == [(3, "FROM", "a"), (4, "RUN", "one   two"), (8, "RUN", "<<END sh"), (11, "COPY", "x y")]


def test_the_directive_chooses_what_continues_a_line() -> None:
    found = dockerfile.parse("# escape=`\nFROM a\nRUN dir C:\\ `\n more\n")
    assert [instruction.words for instruction in found] == ["a", "dir C:\\  more"]


@pytest.mark.parametrize(
    "text",
    ["", "RUN true\n", "FROM scratch\nCOPY\n", "FROM a\nRUNN true\n", "FROM \xff\n", "FROM ${A:?none}\n"],
)
def test_nothing_is_refused_that_can_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "Dockerfile").write_bytes(text.encode("latin-1"))
    read = dockerfile.read(tmp_path / "Dockerfile")
    assert dockerfile.images(read).used in ((), ("a",))


def test_a_file_that_is_not_there_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(HpcstateError, match="cannot be read"):
        dockerfile.read(tmp_path / "missing")


PLATFORM = {"TARGETARCH": "amd64", "TARGETOS": "linux"}


@pytest.mark.parametrize(
    ("text", "used", "base"),
    [
        ("", "", ""),
        ("FROM scratch", "", ""),
        ("FROM debian:13", "debian:13", "debian:13"),
        ("FROM --platform=linux/amd64 a AS one\nFROM b\nCOPY --from=one x y", "a b", "b"),
        ("FROM a AS One\nFROM one\n", "a", "a"),
        ("ARG TAG=13\nARG BASE=debian:${TAG}\nFROM ${BASE}", "debian:13", "debian:13"),
        ("FROM ${BASE:-debian:12}", "debian:12", "debian:12"),
        ("ARG BASE='x:1'\nFROM $BASE", "x:1", "x:1"),
        ('ARG A=a B="b c" TAG=1\nFROM $A:${TAG}', "a:1", "a:1"),
        ("FROM a\nFROM a", "a", "a"),
        # What no stage needs is not fetched; a stage by its number, an image as a source.
        ("FROM big AS gpu\nFROM small", "small", "small"),
        ("FROM a AS x\nFROM b AS y\nFROM x\nCOPY --from=y p q", "a b", "a"),
        ("FROM a\nFROM b\nCOPY --from=0 p q", "a b", "b"),
        (
            "FROM a\nCOPY --chown=1:1 --from=ghcr.io/astral-sh/uv:0.5 /uv /bin/",
            "a ghcr.io/astral-sh/uv:0.5",
            "a",
        ),
        ("FROM a\nRUN --mount=type=bind,from=b:2,target=/m true", "a b:2", "a"),
        ("FROM a\nRUN --mount=type=cache,target=/c --mount=from=c,target=/m true", "a c", "a"),
        ("FROM a\nARG V=2\nCOPY --from=b:$V p q", "a b:2", "a"),
        ("ARG V=2\nFROM a\nARG V\nCOPY --from=b:${V} p q", "a b:2", "a"),
        ("FROM a AS b\nFROM c AS b\nFROM b", "c", "c"),
        ("ARG S=one\nFROM a AS ${S}\nFROM b AS x\nFROM $S", "a", "a"),
        (
            "ARG R=reg.example\nARG O=me\nARG B=$R/$O/base\nFROM $B",
            "reg.example/me/base",
            "reg.example/me/base",
        ),
        ("FROM scratch AS base\nADD t /\nFROM base\nCOPY --from=x:1 a b", "x:1", ""),
        # Forms of variables.
        ("ARG GPU\nFROM base${GPU:+-gpu}", "base", "base"),
        ("ARG GPU=1\nFROM base${GPU:+-gpu}", "base-gpu", "base-gpu"),
        ("ARG SUFFIX\nFROM base${SUFFIX}", "base", "base"),
        ("ARG V=1.2.3\nFROM a:${V%.*}", "a:1.2", "a:1.2"),
        ("ARG V=v1\nFROM a:${V#v}", "a:1", "a:1"),
        ("ARG V=a+b\nFROM x:${V/+/-}", "x:a-b", "x:a-b"),
        ("FROM x-${TARGETARCH}:1", "x-amd64:1", "x-amd64:1"),
        ("FROM debian:${TAG}", "", ""),
        ("FROM a\nARG BASE=b\nFROM $BASE", "", ""),
        # Comments, continuation, here-documents, a mark of byte order, tabs.
        ("\ufeffFROM a\r\nRUN x\r\n", "a", "a"),
        ("FROM\ta\tAS\tone\nFROM\tone", "a", "a"),
        ("FR\\\nOM a\\\n:1", "a:1", "a:1"),
        ("FROM a\nRUN <<one <<-two\nFROM b\none\nFROM c\n\ttwo\nCOPY --from=d p q", "a d", "a"),
        ('FROM a AS build\nRUN bash -c "cat <<< hello"\nFROM b', "b", "b"),
        ('FROM a\nRUN echo "cat <<EOF"\nFROM b', "b", "b"),
        ("FROM a\nRUN echo $((1 << 2))\nFROM b", "b", "b"),
        ('FROM a\nCOPY <<"CFG" /x\nFROM c\nCFG\nFROM b', "b", "b"),
        ("FROM a\nRUN x=1 <<NEVER\nFROM b", "b", "b"),
        ("# escape=`\nFROM a`\n:1\nRUN dir c:\\\nFROM b", "b", "b"),
    ],
)
def test_the_images_that_a_build_reads(text: str, used: str, base: str) -> None:
    found = dockerfile.images(dockerfile.parse(text), platform=PLATFORM)
    assert (" ".join(found.used), found.base) == (used, base)


JUDGED = {
    "platform-arg": (
        "ARG PLATFORM=linux/amd64\nFROM --platform=${PLATFORM} localhost/a:1\nARG PLATFORM\n",
        "localhost/a:1",
    ),
    "arg-tag-no-default": ("ARG TAG\nFROM localhost/a:${TAG:-1}\n", "localhost/a:1"),
    "from-lower": ("from localhost/a:1 as x\nlabel a=b\n", "localhost/a:1"),
    "stage-number": (
        "FROM localhost/a:1\nLABEL a=b\nFROM localhost/b:1\nCOPY --from=0 /whicha /x\n",
        "localhost/a:1 localhost/b:1",
    ),
    "default-latest": ("FROM localhost/a\nLABEL a=b\n", "localhost/a"),
    "arg-global-later": (
        "ARG V=1\nFROM localhost/a:1 AS x\nARG V=9\nFROM localhost/b:${V}\n",
        "localhost/b:1",
    ),
    "arg-refers": ("ARG REG=localhost\nARG NAME=${REG}/a\nFROM $NAME:1\n", "localhost/a:1"),
    "quoted-arg": ('ARG NAME="localhost/a:1"\nFROM ${NAME}\n', "localhost/a:1"),
    "single-quoted-arg": ("ARG NAME='localhost/a:1'\nFROM ${NAME}\n", "localhost/a:1"),
    "quoted-from": ('FROM "localhost/a:1"\nLABEL a=b\n', "localhost/a:1"),
    "continued-from": ("FROM \\\n  localhost/a:1 \\\n  AS x\nLABEL a=b\n", "localhost/a:1"),
    "comment-in-continuation": ("FROM localhost/a:1\nLABEL a=b \\\n# comment\n  c=d\n", "localhost/a:1"),
    "blank-in-continuation": ("FROM localhost/a:1\nLABEL a=b \\\n\n  c=d\n", "localhost/a:1"),
    "crlf": ("FROM localhost/a:1\r\nLABEL a=b\r\n", "localhost/a:1"),
    "indented": ("  FROM localhost/a:1\n  LABEL a=b\n", "localhost/a:1"),
    "escape-backtick": ("# escape=`\nFROM localhost/a:1\nLABEL a=b `\n  c=d\n", "localhost/a:1"),
    "syntax-line": ("# syntax=docker/dockerfile:1.7\n\nFROM localhost/a:1\n", "localhost/a:1"),
    "onbuild": ("FROM localhost/a:1\nONBUILD COPY f /y\n", "localhost/a:1"),
    "colon-plus": ("ARG GPU=1\nFROM localhost/a${GPU:+-gpu}:1\n", "localhost/a-gpu:1"),
    "colon-plus-empty": ("ARG GPU=\nFROM localhost/a${GPU:+-gpu}:1\n", "localhost/a:1"),
    "nested-default": ("ARG A\nARG B=1\nFROM localhost/a:${A:-$B}\n", "localhost/a:1"),
    "hash-in-value": ('ARG T=1\nFROM localhost/a:$T\nENV X="a # b"\n', "localhost/a:1"),
    "targetarch-declared": ("ARG TARGETARCH\nFROM localhost/a:${TARGETARCH}\n", "localhost/a:amd64"),
    "buildplatform": (
        "FROM --platform=$BUILDPLATFORM localhost/a:1 AS x\nFROM localhost/b:1\nCOPY --from=x /whicha /x\n",
        "localhost/a:1 localhost/b:1",
    ),
    "three-stages-chain": (
        "FROM localhost/a:1 AS one\nLABEL a=b\nFROM one AS two\nLABEL a=c\nFROM two\nLABEL a=d\n",
        "localhost/a:1",
    ),
    "unused-between": (
        "FROM localhost/a:1 AS one\nFROM localhost/b:1 AS unused\nLABEL x=y\nFROM one\nLABEL a=d\n",
        "localhost/a:1",
    ),
    "name-like-image": ("FROM localhost/a:1 AS b\nLABEL a=b\nFROM b\nLABEL c=d\n", "localhost/a:1"),
    "stage-named-as-image": (
        "FROM localhost/a:1 AS localhost\nLABEL a=b\nFROM localhost/b:1\n",
        "localhost/b:1",
    ),
    "copy-from-digit-name": (
        "FROM localhost/a:1 AS 1st\nLABEL a=b\nFROM localhost/b:1\nCOPY --from=1st /whicha /x\n",
        "localhost/a:1 localhost/b:1",
    ),
    "copy-chown-from": (
        "FROM localhost/a:1 AS x\nLABEL a=b\nFROM localhost/b:1\nCOPY --chown=0:0 --from=x /whicha /x\n",
        "localhost/a:1 localhost/b:1",
    ),
    "add-from": (
        "FROM localhost/a:1 AS x\nLABEL a=b\nFROM localhost/b:1\nCOPY --from=x --chmod=755 /whicha /x\n",
        "localhost/a:1 localhost/b:1",
    ),
    "json-copy": (
        'FROM localhost/a:1 AS x\nLABEL a=b\nFROM localhost/b:1\nCOPY --from=x ["/whicha", "/x"]\n',
        "localhost/a:1 localhost/b:1",
    ),
    "arg-two-names": ("ARG N=a T=1\nFROM localhost/$N:$T\n", "localhost/a:1"),
    "arg-override-twice": ("ARG T=0\nARG T=1\nFROM localhost/a:$T\n", "localhost/a:1"),
    "brace-only": ("ARG T=1\nFROM localhost/a:${T}\nLABEL x=${UNSET}\n", "localhost/a:1"),
    "dollar-escaped": ("FROM localhost/a:1\nENV P=\\$HOME\n", "localhost/a:1"),
    "maintainer": ("FROM localhost/a:1\nMAINTAINER someone <a@b>\n", "localhost/a:1"),
    "empty-first-lines": ("\n\n# c\n\nARG T=1\n\n# d\nFROM localhost/a:$T\n", "localhost/a:1"),
    "tab-arg": ("ARG\tT=1\nFROM\tlocalhost/a:$T\tAS\tx\n", "localhost/a:1"),
    "trailing-backslash-end": ("FROM localhost/a:1\nLABEL a=b \\\n", "localhost/a:1"),
    "two-defaults-in-a-name": (
        "ARG BASE_IMAGE\nARG ARCH\nFROM ${BASE_IMAGE:-ghcr.io/o/base:2021-06-27_17}-${ARCH:-linux-amd64}\n",
        "ghcr.io/o/base:2021-06-27_17-linux-amd64",
    ),
    "arg-between-stages-is-of-a-stage": (
        "FROM golang:1 AS builder\nLABEL a=b\nARG BASE_IMAGE=other:1\n"
        "FROM ${BASE_IMAGE:-reg.example/d:nonroot}\nCOPY --from=builder /bin/sh /x\n",
        "golang:1 reg.example/d:nonroot",
    ),
    "no-arg-at-all": ("FROM ${BASE_IMAGE:-quay.io/c/c:stream9}\nLABEL a=b\n", "quay.io/c/c:stream9"),
    "scratch-context": (
        "ARG BASE_IMAGE=ghcr.io/u/dx:stable\nFROM scratch AS ctx\nCOPY f /\nFROM $BASE_IMAGE\n"
        "RUN --mount=type=bind,from=ctx,source=/,target=/ctx \\\n  --mount=type=tmpfs,dst=/tmp \\\n  true\n",
        "ghcr.io/u/dx:stable",
    ),
    "copy-from-an-image-with-a-tag": (
        "FROM scratch AS ctx\nCOPY f /\nFROM ghcr.io/h/a:latest\n"
        "COPY --from=ghcr.io/u/brew:latest /bin/sh /sh\n",
        "ghcr.io/h/a:latest ghcr.io/u/brew:latest",
    ),
    "all-lower": (
        "arg BASE_IMAGE=creatio-base:8.0-v1\nfrom ${BASE_IMAGE}\nlabel a=b\n",
        "creatio-base:8.0-v1",
    ),
    "scratch-arg": ("ARG BASE=scratch\nFROM ${BASE}\nCOPY f /f\n", ""),
}
"""After the files of others; buildah 1.28.2 built each, and these are the images that it started from."""


@pytest.mark.parametrize("name", JUDGED)
def test_the_images_are_those_that_buildah_started_from(name: str) -> None:
    text, used = JUDGED[name]
    assert " ".join(dockerfile.images(dockerfile.parse(text), platform=PLATFORM).used) == used


def test_arguments_and_a_target_choose_other_images() -> None:
    read = dockerfile.parse("ARG T=1\nFROM a:$T AS one\nFROM b AS two\nCOPY --from=one x y\nFROM c\n")
    assert dockerfile.images(read, {"T": "9"}, "two").used == ("a:9", "b")
    assert dockerfile.images(read, {}, "0").base == "a:1"
    assert dockerfile.images(read, {"OTHER": "x"}).used == ("c",)


def test_defaults_that_name_a_stage() -> None:
    text = (
        "ARG V=gpu TAG=1\nARG W=x\nFROM a:$TAG AS base-gpu-x\nARG W=y\nFROM base-${V}-$W AS b\nARG V\n"
        "FROM c:${TAG}\nARG TAG=2\n"
    )
    assert dockerfile.stage_defaults(dockerfile.parse(text)) == ({"V": "gpu", "W": "x"}, [(4, "W")])


REMARKS = [
    ("FROM a\nRUN <<E\ntrue\nE", "buildah 1.28.2", ["line 2", "here-document", "buildah 1.35"]),
    ("FROM a\nRUN <<E\ntrue\nE", "buildah 1.39.3", []),
    ("FROM a\nRUN <<E\ntrue\nE", "docker 28.2.2", ["without BuildKit", "docker-buildx"]),
    ("FROM a\nRUN <<E\ntrue\nE", "docker 28.2.2 buildkit", []),
    ("FROM a\nCOPY --link x y", "buildah 1.39.3", ["line 2: COPY --link", "buildah 1.41"]),
    ("FROM a\nRUNN x", "buildah 1.39.3", ["line 2: RUNN"]),
    ("FROM b-$TARGETARCH", "buildah 1.28.2", ["line 1: $TARGETARCH", "`ARG TARGETARCH` stands before"]),
    ("ARG TARGETARCH\nFROM b-$TARGETARCH", "buildah 1.28.2", []),
    ("FROM b-$TARGETARCH", "buildah 1.39.3", []),
    ("FROM a AS Builder\nFROM b\nCOPY --from=builder x y", "buildah 1.28.2", ["line 3", "stage Builder"]),
    ("FROM a AS Base\nFROM base", "buildah 1.28.2", ["line 2", "stage Base"]),
    ("FROM a AS Builder\nFROM b\nCOPY --from=Builder x y", "buildah 1.28.2", []),
    ("FROM a AS Builder\nFROM b\nCOPY --from=builder x y", "docker 28.2.2 buildkit", []),
    ("FROM a AS s\nFROM b\nARG I=s\nCOPY --from=$I x y", "buildah 1.28.2", ["line 4: --from=$I", "stage"]),
    ("FROM a\nARG V=1\nCOPY --from=b:$V x y", "buildah 1.28.2", []),
    ("ARG T=1\nFROM a:${T-1}", "buildah 1.28.2", ["line 2", "without a colon"]),
    # Refused and taken by buildah 1.28.2 itself (`buildah build`, vfs, from scratch); the later ones by their
    # tags (imagebuilder's dispatchers.go and shell_parser.go).
    ("FROM a\nADD --checksum=sha256:00 a /a", "buildah 1.28.2", ["line 2: ADD --checksum", "buildah 1.33"]),
    ("FROM a\nADD --checksum=sha256:00 a /a", "buildah 1.39.3", []),
    ("FROM a\nADD --checksum=sha256:00 a /a", "docker 28.2.2", ["without BuildKit"]),
    ("FROM a\nADD --keep-git-dir=true a /a", "buildah 1.44.0", ["--keep-git-dir", "no buildah up to 1.44"]),
    ("FROM a\nADD --keep-git-dir=true a /a", "docker 28.2.2 buildkit", []),
    ("FROM a\nADD --unpack=false a /a", "buildah 1.28.2", ["line 2: ADD --unpack", "docker-buildx"]),
    ("FROM a\nADD --chmod=u+x a /a", "buildah 1.28.2", ["line 2: ADD --chmod with a mode in letters"]),
    ("FROM a\nCOPY --chmod=go-w a /a", "buildah 1.39.3", ["line 2: COPY --chmod"]),
    ("FROM a\nCOPY --chmod=755 a /a\nADD --chmod=$M a /a", "buildah 1.28.2", []),
    ("FROM a\nHEALTHCHECK --start-interval=5s CMD x", "buildah 1.28.2", ["--start-interval", "buildah 1.37"]),
    ("FROM a\nHEALTHCHECK --start-interval=5s CMD x", "docker 28.2.2", []),
    ("FROM a\nHEALTHCHECK --start-period=5s CMD x", "buildah 1.28.2", []),
    ("FROM a\nRUN --device=nvidia.com/gpu x", "buildah 1.39.3", ["line 2: RUN --device", "no buildah"]),
    ("FROM a\nRUN --network=none x", "buildah 1.28.2", ["line 2: RUN --network", "buildah 1.30"]),
    ("FROM a\nRUN --security=insecure x", "buildah 1.28.2", ["line 2: RUN --security"]),
    ("FROM a\nENV X=${V#v}", "buildah 1.28.2", ["line 2: ENV with ${NAME#…}", "buildah 1.37"]),
    ("FROM a\nENV X=${V#v}", "buildah 1.39.3", []),
    ("FROM a\nENV X=${V#v}", "docker 28.2.2", []),
    ("FROM a\nWORKDIR /${V%%.*}", "buildah 1.28.2", ["line 2: WORKDIR with ${NAME%%…}"]),
    ("FROM a\nCOPY ${V//a/b} /x", "buildah 1.28.2", ["line 2: COPY with ${NAME//…}"]),
    ('FROM a\nLABEL x="${W:-${V/a/b}}"', "buildah 1.28.2", ["line 2: LABEL with ${NAME/…}"]),
    ("FROM a\nARG W=${V:?need}", "buildah 1.28.2", ["line 2: ARG with ${NAME:?…}", "buildah 1.30"]),
    ("FROM a\nUSER ${V-b}", "buildah 1.44.0", ["line 2: USER with ${NAME-…}, without a colon"]),
    ("FROM a\nENV X=${V:-b} Y=${V:+b} Z=$V", "buildah 1.28.2", []),
    ("FROM a\nENV X='${V#v}' Y=\\${V#v}", "buildah 1.28.2", []),
    ('FROM a\nRUN echo ${V#v}\nENTRYPOINT ["${V#v}"]\nONBUILD ENV X=${V#v}', "buildah 1.28.2", []),
    ("FROM b:$TAG", "buildah 1.39.3", ["line 1: $TAG has no value", "`ARG TAG=VALUE`"]),
]


@pytest.mark.parametrize(("text", "engine", "said"), REMARKS)
def test_what_the_engine_lacks_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, engine: str, said: list[str]
) -> None:
    monkeypatch.setattr(paths, "CONTAINERS", tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/Dockerfile").write_text(text)
    chosen = Container("demo", "1", "", "custom-images", "dockerfile", file="Dockerfile")
    name, version, *buildkit = engine.split()
    made = order.order(chosen, name, version, buildkit=bool(buildkit))
    assert len(made.remarks) == bool(said)
    assert not [part for part in said if part not in made.remarks[0]]


def test_the_shipped_one_starts_from_a_pinned_cuda_12_1() -> None:
    (base,) = dockerfile.images(dockerfile.read(SHIPPED / "Dockerfile")).used
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
