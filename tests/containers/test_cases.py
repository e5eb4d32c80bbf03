"""Dockerfiles and definitions as people bring them, built by buildah and Apptainer as they are.

What is right was judged by the engines' own answers; each stands for its kind.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.container import build as build_of_containers
from hpcstate.container import context, routes
from hpcstate.container import engine as container_engine
from hpcstate.container import inspect as container_inspect
from hpcstate.container.order import BuildOrder
from hpcstate.container.routes import Source
from hpcstate.errors import HpcstateError
from hpcstate.run import run
from tests.containers.tiny import Workplace, said_in

TREE = "FROM scratch AS tree\nADD tree.tar /\n"

BUILT = {
    "tabs": ("FROM\tscratch\nADD\ttree.tar /\nENV\tA\t1\nRUN\techo hi > /hi\nCMD echo $A", "", "1"),
    "a mark of byte order": (
        '\ufeffFROM scratch\r\nADD tree.tar /\r\nCMD ["/bin/sh", "-c", "echo bom"]\r\n',
        "",
        "bom",
    ),
    "an empty suffix": (f"ARG GPU\n{TREE}FROM tree${{GPU:+-gpu}}\nCMD echo ok\n", "", "ok"),
    "an unused stage": (f"FROM nosuch.invalid/x:1 AS gpu\n{TREE}FROM tree\nCMD echo ok\n", "", "ok"),
    "TARGETARCH": (
        f"ARG TARGETARCH\n{TREE}FROM tree AS tree-amd64\nFROM tree-${{TARGETARCH}}\n"
        "ARG TARGETARCH\nENV ARCH=$TARGETARCH\nCMD echo $ARCH\n",
        "",
        "amd64",
    ),
    "a stage by a default": (
        f"ARG SRC=cpu\n{TREE}FROM tree AS cpu-base\nFROM nosuch.invalid/x:1 AS gpu-base\n"
        "FROM ${SRC}-base\nARG SRC\nENV SRC=$SRC\nCMD echo $SRC\n",
        "",
        "cpu",
    ),
    "a here-string": (f'{TREE}RUN echo "cat <<< hello"\nFROM tree\nCMD echo ok\n', "", "ok"),
    "a link out of the folder": (f"{TREE}COPY . /app/\nCMD test -L /app/link && echo ok\n", "", "ok"),
    "arguments, a target, a secret": (
        f"{TREE}ARG WORD=none\nRUN --mount=type=secret,id=token read a </run/secrets/token;"
        " echo $WORD ${#a} >/word\nCMD read w </word; echo $w\nFROM nosuch.invalid/x:1\n",
        "target: tree\narguments: {WORD: given}\nsecrets: {token: {environment: A_TOKEN}}",
        "given 6",
    ),
    "another name": ("", "file: docker/Dockerfile.gpu", "of the other"),
}


@pytest.fixture(autouse=True)
def _buildah(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_engine, "docker_version", lambda: "")
    monkeypatch.setenv("A_TOKEN", "s3cret")


def build(workplace: Workplace, tree: Path, files: dict[str, str], more: str = "") -> list[str]:
    """Build the tiny container of ``files``; what was reported."""
    said: list[str] = []
    workplace.own.mkdir(parents=True)
    (workplace.own / "link").symlink_to("/etc/hostname")
    (workplace.own / "docker").mkdir()
    (workplace.own / "docker/Dockerfile.gpu").write_text(f"{TREE}CMD echo of the other\n")
    workplace.build(workplace.declare(files, (tree,), more), "run", said)
    return said


@pytest.mark.parametrize("case", BUILT)
def test_what_the_engine_takes_is_built(case: str, workplace: Workplace, tree: Path) -> None:
    text, more, says = BUILT[case]
    said = build(workplace, tree, {"Dockerfile": text} if text else {}, more)
    assert workplace.says(verb="run") == says
    assert not [line for line in said if "s3cret" in line or "has no value" in line]
    assert b"s3cret" not in paths.container("tiny").read_bytes()


ENVIRONMENT = (
    TREE
    + """\
ENV DATE="$(date)" TICKS="`date`" QUOTES="it's \\"so\\"" BACK='a\\b' DOLLAR='$HOME'
ENV LANG=C.UTF-8 PATH=/opt/own:/bin AFTER=still
LABEL org.example.words="a b"
WORKDIR /srv
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo $DATE $QUOTES $AFTER; pwd"]
"""
)


def test_what_the_image_says_arrives(workplace: Workplace, tree: Path) -> None:
    said = build(workplace, tree, {"Dockerfile": ENVIRONMENT})
    assert any(line.startswith("passed start and environment") for line in said)
    shown = 'printf "%s|" "$DATE" "$TICKS" "$QUOTES" "$BACK" "$DOLLAR" "$LANG" "$AFTER" "$PATH"'
    values = workplace.says("sh", "-c", shown).split("|")
    assert values[:7] == ["$(date)", "`date`", 'it\'s "so"', "a\\b", "$HOME", "C.UTF-8", "still"]
    assert values[7].startswith("/opt/own:/bin")
    assert workplace.says(verb="run").splitlines() == ['$(date) it\'s "so" still', "/srv"]
    labels = container_inspect.inspect(paths.container("tiny"), workplace.tools).labels
    assert labels["org.example.words"] == "a b"


def test_of_a_definition_too(workplace: Workplace, tree: Path) -> None:
    """Its image is known only when it is there."""
    from tests.containers.test_routes import save

    image = save(tree, tree.with_name("said.tar"), environment=["PATH=/bin", "T=`date`", "AFTER=it's"], a="x")
    text = "Bootstrap: docker-archive\nFrom: said.tar\n%post\n    echo hi >/etc/made\n%labels\n    own yes\n"
    workplace.own.mkdir(parents=True)
    (workplace.own / "said.tar").write_bytes(image.read_bytes())
    workplace.build(workplace.declare({"container.def": text}, (tree,), "labels: {team: vision}"), "run")
    assert workplace.says("sh", "-c", 'read m </etc/made; echo "$m $T $AFTER"') == "hi `date` it's"
    labels = container_inspect.inspect(paths.container("tiny"), workplace.tools).labels
    assert (labels["own"], labels["team"]) == ("yes", "vision")


def test_of_an_image_that_is_fetched_too(workplace: Workplace, tree: Path) -> None:
    """As `base.image`, but from a file: Apptainer alone reads what it says."""
    from tests.containers.test_routes import save

    image = save(tree, tree.with_name("fetched.tar"), environment=["PATH=/bin"], folder="/srv/x", a="hello")
    work = workplace.at / "work"
    work.mkdir()
    source = Source("Bootstrap: docker-archive\nFrom: /archive.tar\n", {image: "/archive.tar"})
    made = work / "made.sif"
    text = routes.whole(source, {"own": "yes"})
    build_of_containers.write(text, source, made, work, workplace.tools)
    assert said_in(workplace.tools, made, verb="run") == "hello from /bin/sh"
    assert said_in(workplace.tools, made, "pwd", verb="run") == "/srv/x"
    assert container_inspect.inspect(made, workplace.tools).labels["own"] == "yes"


DEFINED = """\
# my container
Bootstrap: docker-archive   # local
From: said.\\
    tar

%files
    plain.txt
    plain.txt /etc/
%arguments
    word=default
%appfiles idl
    plain.txt plain.txt
%appinstall idl
    read text <plain.txt; echo "$text" >installed
%apprun idl
    read text <"$SCIF_APPROOT/installed"; echo "$text"
%appstart idl
    echo start
%appenv idl
    export FOO=bar
%post
    echo "{{ word }}" >/etc/made
%runscript
    exec /bin/sh -c 'echo of the definition'
"""


def test_a_definition_with_files_apps_values_and_an_entry_point_of_container_yaml(
    workplace: Workplace, tree: Path
) -> None:
    from tests.containers.test_routes import save

    image = save(tree, tree.with_name("said.tar"), a="x")
    files = {"container.def": DEFINED, "plain.txt": "payload\n"}
    more = "arguments: {word: given}\nentry_point: [/bin/sh, -c, 'echo of container.yaml $0']"
    workplace.own.mkdir(parents=True)
    run(["zstd", "-q", image, "-o", workplace.own / "said.tar"])
    workplace.build(workplace.declare(files, (), more), "run")
    shown = "read a </plain.txt; read b </etc/plain.txt; read c </etc/made; echo $a $b $c"
    assert workplace.says("sh", "-c", shown) == "payload payload given"
    assert workplace.says("args", verb="run") == "of container.yaml args"
    file = paths.container("tiny")
    binds = {file: "/image.sif"}
    line = ["--silent", "run", "--userns", *workplace.tools.contained, "--no-home", "--app", "idl"]
    done = workplace.tools.apptainer([*line, workplace.tools.at(file, binds)], binds=binds)
    assert done.stdout.strip() == "payload"


def test_a_base_without_a_registry_in_its_name(workplace: Workplace, tree: Path) -> None:
    """`FROM debian:13`: buildah looks such a name up in a file that it locks."""
    declared = workplace.declare({"Dockerfile": "FROM short:1\nCMD echo short\n"}, (tree,))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(container_engine, "STORAGE", workplace.at / "run" / "buildah")
        engine = container_engine.buildah()
        file = workplace.own / "Containerfile"
        file.write_text("FROM scratch\nADD tree.tar /\n")
        words: list[str | Path] = ["build", "--tag", "short:1", "--file", engine.at(file)]
        run(engine.words(*words, engine.at(workplace.own), see=[workplace.own]), env=engine.variables())
        file.unlink()
    made = workplace.build(declared, "run")
    assert "base:short:1" in made.versions
    assert workplace.says(verb="run") == "short"


def test_each_image_is_in_the_sidecar_and_the_base_is_that_of_the_last_stage(
    workplace: Workplace, tree: Path
) -> None:
    text = "FROM localhost/a:1 AS base\nFROM localhost/b:1 AS build\nRUN echo built >/built\n"
    text += "FROM base\nCOPY --from=build /built /built\nCOPY --from=localhost/c:1 /bin /c\n"
    text += "CMD read b </built; echo $b\n"
    declared = workplace.declare({"Dockerfile": text}, (tree,))
    storage = workplace.at / "run" / "buildah"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(container_engine, "STORAGE", storage)
        engine = container_engine.buildah()
        (workplace.own / "Containerfile").write_text("FROM scratch\nADD tree.tar /\n")
        for name in "abc":
            words: list[str | Path] = [
                "build",
                "--tag",
                f"localhost/{name}:1",
                "--file",
                engine.at(workplace.own / "Containerfile"),
            ]
            run(engine.words(*words, engine.at(workplace.own), see=[workplace.own]), env=engine.variables())
    (workplace.own / "Containerfile").unlink()
    made = workplace.build(declared, "run")
    assert {name for name in made.versions if name.startswith("base:")} == {
        "base:localhost/a:1",
        "base:localhost/b:1",
        "base:localhost/c:1",
    }
    labels = container_inspect.inspect(paths.container("tiny"), workplace.tools).labels
    assert labels["org.opencontainers.image.base.name"] == "localhost/a:1"
    assert workplace.says(verb="run") == "built"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{TREE}RUN <<E\n  echo one >/one\nE\n", "line 3: RUN with a here-document"),
        (f"{TREE}FROM tree AS tree-amd64\nFROM tree-$TARGETARCH\n", "`ARG TARGETARCH` stands before"),
        (f"{TREE}COPY --link tree.tar /x\n", "COPY --link: buildah"),
    ],
)
def test_what_this_engine_lacks_is_said_before_it_fails(
    workplace: Workplace, tree: Path, text: str, said: str
) -> None:
    version = tuple(map(int, run(["buildah", "--version"]).stdout.split()[2].split(".")[:2]))
    if version >= (1, 35):
        pytest.skip("this buildah has it")
    reports: list[str] = []
    declared = workplace.declare({"Dockerfile": text}, (tree,))
    with pytest.raises(HpcstateError) as failed:
        workplace.build(declared, "run", reports)
    # A workplace may have to make its tools root, which is told before.
    before = [line for line in reports if not line.startswith("first the tools root")]
    assert said in before[0] and said in failed.value.hint


IGNORED = [
    "*.md\n**/temp*\nkeep\n!keep/in\na[b-d]e\n",
    "*\n!x\n!keep\n**/*.md\n!Dockerfile\n",
    "a\\*\n/q/\n# x\n # x\n./x/../keep\nx/**\n!x/y/b.md\ntemp?\n",
]
FILES = (
    "a.md",
    "x/a.md",
    "x/y/b.md",
    "x/tempo.txt",
    "tempa",
    "temp",
    "keep/in",
    "keep/out",
    "a*",
    "ab",
    "ace",
)
MORE = ("abe", "# x", "q/w/e", "x/y/temp")


@pytest.mark.parametrize("text", IGNORED)
def test_what_an_ignore_file_leaves_out_is_what_buildah_leaves_out(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "context"
    for name in (*FILES, *MORE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY . /ctx/\n")
    (folder / ".dockerignore").write_text(text)
    monkeypatch.setattr(container_engine, "STORAGE", tmp_path / "storage")
    engine = container_engine.buildah()
    container_engine.build(engine, "ignored", "1", BuildOrder(folder, folder / "Dockerfile"), lambda _: None)
    container_engine.save(engine, "localhost/hpcstate/ignored:1", tmp_path / "i.tar", lambda _: None)
    copied: set[str] = set()
    with tarfile.open(tmp_path / "i.tar") as image:
        for member in image:
            stream = image.extractfile(member) if member.isfile() else None
            try:
                with tarfile.open(fileobj=stream) as layer:
                    copied |= {entry.name.removeprefix("ctx/") for entry in layer if entry.isfile()}
            except (tarfile.TarError, ValueError):
                continue
    rules = context.rules(text)
    every = (*FILES, *MORE, "Dockerfile", ".dockerignore")
    assert copied == {name for name in every if not context.left_out(name, rules)}
