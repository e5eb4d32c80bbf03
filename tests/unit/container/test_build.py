"""Building a container, with a fake Apptainer: the order of things, and what fails a build."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from hpcstate import paths, programs
from hpcstate.artifact.debian import EPOCH
from hpcstate.artifact.store import Manifest, Store
from hpcstate.container import build as container_build
from hpcstate.container import declared as container
from hpcstate.container import layers as container_layers
from hpcstate.container import sif, signing, trial
from hpcstate.container import toolbox as tools_root
from hpcstate.container.routes import Source
from hpcstate.container.toolbox import Toolbox
from hpcstate.errors import HpcstateError, ProblemsError
from hpcstate.run import Result
from tests.unit.fake_toolbox import FakeToolbox

DECLARED = """
name: one
version: "1.0"
summary: a container
base: {release: trixie}
packages: {all: [hello]}
environment: {GREETING: "it's me"}
labels: {team: physics}
exclude: ["usr/share/games/*"]
entry_point: [hello, --world]
size_limit_mb: 1
tests:
  - {name: it greets, command: [hello], expect: "^Hello"}
  - {name: two ranks, command: [python3], script: sum.py, ranks: 2}
  - {name: a GPU, command: [nvidia-smi], needs_gpu: true}
"""


STARTED = (0, "GREETING=it's me\0PATH=/bin\0", "WARNING: passwd file doesn't exist\n")
"""What `env -0` in it says: exit code and both outputs."""


@dataclass
class ToolsRoot:
    """What a build asks of the recipe of the tools root."""

    current: bool
    in_store: bool = False

    def stored(self, _: Store) -> bool:
        return self.in_store


@pytest.fixture
def toolbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeToolbox:
    """A container ``one`` whose layer is there, and an Apptainer that does as it should."""
    folder = tmp_path / "containers" / "one"
    folder.mkdir(parents=True)
    (folder / "container.yaml").write_text(DECLARED)
    (folder / "sum.py").write_text("")
    monkeypatch.setattr(paths, "CONTAINERS", folder.parent)
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(paths, "PUBLIC_KEY", tmp_path / "public.pem")
    monkeypatch.setattr(paths, "SIGNING_KEY", tmp_path / "private.pem")
    for key in (paths.PUBLIC_KEY, paths.SIGNING_KEY):
        key.write_text("a key")
    found = FakeToolbox(run=lambda words: (0, "Hello, world"))
    monkeypatch.setattr(tools_root, "toolbox", lambda store: found)
    monkeypatch.setattr(tools_root, "key", lambda: "tools")
    monkeypatch.setattr(tools_root, "recipe", lambda: ToolsRoot(current=True))
    monkeypatch.setattr(container_build, "layers", lambda loaded, store: ([Path("a.tar")], {"hello": "2.10"}))
    monkeypatch.setattr(container_build, "unpack", unpack)
    monkeypatch.setattr("hpcstate.container.trial.has_gpu", lambda: False)
    monkeypatch.setattr("hpcstate.container.trial._probed", lambda *_: STARTED)
    return found


def unpack(tar: Path, tree: Path) -> None:
    """A layer: one program, and games that nobody needs."""
    for name in ("usr/bin/hello", "usr/share/games/chess"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("")


def build(tmp_path: Path, said: list[str] | None = None) -> Manifest:
    loaded, store = container.load("one"), Store(tmp_path / "store", report=lambda text: None)
    lines = said if said is not None else []
    return container_build.recipe(loaded, store, lines.append).provide(store)


def nothing_left(tmp_path: Path) -> bool:
    folder = paths.container("one").parent
    return not (list(folder.glob("*.sif*")) or list(folder.glob(".work*")) or (tmp_path / "store").exists())


@pytest.mark.parametrize(
    ("tools", "named"),
    [(ToolsRoot(current=False), True), (ToolsRoot(current=False, in_store=True), False)],
)
def test_the_tools_root_is_named_where_it_is_made_first(
    tmp_path: Path, toolbox: FakeToolbox, monkeypatch: pytest.MonkeyPatch, tools: ToolsRoot, named: bool
) -> None:
    monkeypatch.setattr(tools_root, "recipe", lambda: tools)
    said: list[str] = []
    build(tmp_path, said)
    assert said[0].startswith("first the tools root") == named


@pytest.mark.parametrize(
    ("mode", "program", "code"),
    [
        (0o755, "./program", 0),
        (0o644, "./program", 126),
        (0o755, "./other", 127),
        (0o755, "sh", 0),
        (0o755, "echo", 0),
        (0o755, "no-such-program", 127),
    ],
)
def test_an_entry_point_is_looked_for_as_it_would_be_started(
    tmp_path: Path, mode: int, program: str, code: int
) -> None:
    """By the shell of Debian, whose `command -v` names files of any mode."""
    (tmp_path / "program").write_text("a text\n")
    (tmp_path / "program").chmod(mode)
    words = ["dash", "-c", programs.command(trial._ENTRY_POINT, arguments=[program])]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")


def test_an_entry_point_that_nobody_may_execute_ends_a_build(tmp_path: Path, toolbox: FakeToolbox) -> None:
    toolbox.run = lambda words: (
        (126, "") if any("command -v" in str(word) for word in words) else (0, "Hello, world")
    )
    with pytest.raises(HpcstateError, match="the entry point 'hello' is a file that cannot be executed"):
        build(tmp_path)


def test_what_is_built_is_signed_tried_and_reported(tmp_path: Path, toolbox: FakeToolbox) -> None:
    said: list[str] = []
    manifest = build(tmp_path, said)
    assert toolbox.commands() == ["build", "sign", "verify", "inspect", "exec", "exec", "exec"]
    assert manifest.versions == {"hello": "2.10"}
    assert said[0] == "one.sif: 0 MB"
    assert "skipped a GPU: needs a GPU, this machine has none" in said
    assert [line.split(" (")[0] for line in said[1:6]] == [
        "passed format and signature",
        "passed labels",
        "passed start and environment",
        "passed entry point",
        "passed it greets",
    ]
    ranks = toolbox.calls[-1]
    assert ranks[ranks.index("mpirun") :] == [
        "mpirun",
        "--oversubscribe",
        "-n",
        "2",
        "python3",
        "/own/sum.py",
    ]
    assert build(tmp_path).digest == manifest.digest
    assert len(toolbox.calls) == 7


def test_the_definition_says_what_the_file_declares(tmp_path: Path, toolbox: FakeToolbox) -> None:
    build(tmp_path)
    text = toolbox.definition
    assert "Bootstrap: localimage" in text
    assert """export GREETING='it'"'"'s me'""" in text
    assert 'exec hello --world "$@"' in text
    assert toolbox._labels() | {"hpcstate.key": ""} == {
        "org.label-schema.build-date": container_build.BUILD_DATE,
        "org.opencontainers.image.title": "one",
        "org.opencontainers.image.version": "1.0",
        "org.opencontainers.image.description": "a container",
        "hpcstate.source": "containers/one",
        "hpcstate.key": "",
        "hpcstate.package.hello": "2.10",
        "team": "physics",
    }


def test_built_again_it_is_the_same_bytes(tmp_path: Path, toolbox: FakeToolbox) -> None:
    first = build(tmp_path / "a").digest
    paths.container("one").unlink()
    assert build(tmp_path / "b").digest == first


def test_the_epoch_is_the_label(toolbox: FakeToolbox) -> None:
    from datetime import UTC, datetime

    assert datetime.fromtimestamp(EPOCH, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") == container_build.BUILD_DATE


def test_over_its_size_limit_it_fails(tmp_path: Path, toolbox: FakeToolbox) -> None:
    toolbox.size = 1_100_000
    with pytest.raises(HpcstateError, match="is 1 MB large, its limit is 1 MB") as error:
        build(tmp_path)
    assert ".size_limit_mb" in error.value.where
    assert nothing_left(tmp_path)


def test_a_failing_step_is_named(tmp_path: Path, toolbox: FakeToolbox) -> None:
    toolbox.fails = {"build": "FATAL: no space left on device"}
    with pytest.raises(HpcstateError, match=r"(?s)apptainer build exited with 255.*no space left on device"):
        build(tmp_path)
    assert nothing_left(tmp_path)


def failing(words: Sequence[str]) -> tuple[int, str]:
    if "mpirun" in words:
        return 1, "ImportError: no module named mpi4py"
    return 0, "Guten Tag"


def test_every_test_that_fails_is_told(tmp_path: Path, toolbox: FakeToolbox) -> None:
    toolbox.run = failing
    with pytest.raises(HpcstateError) as error:
        build(tmp_path)
    assert "the test 'it greets' failed: its output has nothing like '^Hello'" in str(error.value)
    assert "the test 'two ranks' failed: it exited with 1" in str(error.value)
    assert "no module named mpi4py" in str(error.value)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("started", "said"),
    [
        ((0, STARTED[1], "source: /.singularity.d/env/10-x.sh:6: reached EOF\n"), "reached EOF"),
        ((255, "", "FATAL:   exec failed\n"), "exec failed"),
        ((0, "GREETING=it\0", ""), "GREETING is 'it', the image says \"it's me\""),
        ((0, "PATH=/bin\0", ""), "GREETING is gone"),
    ],
)
def test_a_container_that_complains_or_has_another_environment_fails(
    tmp_path: Path,
    toolbox: FakeToolbox,
    monkeypatch: pytest.MonkeyPatch,
    started: tuple[int, str, str],
    said: str,
) -> None:
    monkeypatch.setattr("hpcstate.container.trial._probed", lambda *_: started)
    with pytest.raises(HpcstateError, match="'start and environment' failed") as failed:
        build(tmp_path)
    assert said in str(failed.value)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("answer", "said"),
    [((0, "   183\n", ""), "its image is for arm64"), ((0, " 62\n", ""), ""), ((1, "", "no file"), "")],
)
def test_what_a_definition_fetched_for_another_machine_is_refused(
    tmp_path: Path,
    toolbox: FakeToolbox,
    monkeypatch: pytest.MonkeyPatch,
    answer: tuple[int, str, str],
    said: str,
) -> None:
    monkeypatch.setattr("hpcstate.container.architecture.own", lambda: "amd64")
    monkeypatch.setattr("hpcstate.container.trial._probed", lambda *_: answer)
    refused = ""
    try:
        trial.demand_architecture(tmp_path / "a.sif", cast(Toolbox, toolbox), "docker://a")
    except HpcstateError as error:
        refused = error.message
    assert bool(refused) == bool(said) and said in refused


def test_a_signature_that_does_not_hold_fails(tmp_path: Path, toolbox: FakeToolbox) -> None:
    toolbox.fails = {"verify": "FATAL:   Failed to verify container: integrity"}
    with pytest.raises(HpcstateError, match="'format and signature' failed: Failed to verify"):
        build(tmp_path)
    assert nothing_left(tmp_path)


def test_with_a_gpu_its_test_runs_with_nv(
    tmp_path: Path, toolbox: FakeToolbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcstate.container.trial.has_gpu", lambda: True)
    build(tmp_path)
    assert [words for words in toolbox.calls if "--nv" in words] == [toolbox.calls[-1]]
    assert toolbox.calls[-1][-1] == "nvidia-smi"


def test_an_exclude_that_names_nothing_is_wrong(
    tmp_path: Path, toolbox: FakeToolbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_build, "unpack", lambda tar, tree: None)
    with pytest.raises(HpcstateError, match="names what is not there: usr/share/games"):
        build(tmp_path)


@pytest.mark.parametrize("pattern", ["var/run/*", "up/*", "usr/../../outside/*"])
def test_an_exclude_stays_in_the_container(tmp_path: Path, pattern: str) -> None:
    """Debian has /var/run -> /run: followed here, it would be this machine's /run."""
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    for folder in (tree / "var", tree / "usr", outside):
        folder.mkdir(parents=True)
    (outside / "kept").touch()
    (tree / "var/run").symlink_to(outside)
    (tree / "up").symlink_to("../outside")
    with pytest.raises(HpcstateError, match="leads out of the container"):
        container_build._exclude(tree, (pattern,))
    assert (outside / "kept").exists()
    (tree / "lib").symlink_to("usr")
    (tree / "usr/games").mkdir()
    container_build._exclude(tree, ("lib/games", "up", "var/run"))
    assert sorted(path.name for path in tree.rglob("*")) == ["lib", "usr", "var"]
    assert (outside / "kept").exists()


def test_without_an_apptainer_of_the_machine_a_gpu_test_is_skipped(
    tmp_path: Path, toolbox: FakeToolbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tools root has no libraries of NVIDIA's driver: the test would fail on a sound container."""
    said: list[str] = []
    monkeypatch.setattr("hpcstate.container.trial.has_gpu", lambda: True)
    monkeypatch.setattr("hpcstate.container.trial.which", lambda _: None)
    object.__setattr__(toolbox, "root", tmp_path / "root")
    build(tmp_path, said)
    assert not [words for words in toolbox.calls if "--nv" in words]
    assert [line for line in said if "skipped a GPU: needs an Apptainer of this machine's own" in line]


def test_half_a_key_pair_is_told(tmp_path: Path, toolbox: FakeToolbox) -> None:
    paths.SIGNING_KEY.unlink()
    with pytest.raises(HpcstateError, match="the private key that signs containers is missing"):
        signing.public_key()


def test_an_open_signing_key_is_closed_and_stays(toolbox: FakeToolbox) -> None:
    paths.SIGNING_KEY.chmod(0o644)
    signing.public_key()
    assert stat.S_IMODE(paths.SIGNING_KEY.stat().st_mode) == 0o600
    assert paths.SIGNING_KEY.read_text() == "a key"


def test_a_run_killed_as_it_writes_the_public_key_leaves_no_part_of_it(
    toolbox: FakeToolbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, text: str) -> int:
        path.write_bytes(text.encode()[:20])
        raise KeyboardInterrupt

    replace = Path.replace

    def not_public(path: Path, target: Path) -> Path:
        if target == paths.PUBLIC_KEY:
            raise KeyboardInterrupt
        return replace(path, target)

    for key in (paths.PUBLIC_KEY, paths.SIGNING_KEY):
        key.unlink()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "write_text", killed)
        patched.setattr(Path, "replace", not_public)
        signing.public_key()
    private = paths.SIGNING_KEY.read_bytes()
    assert not paths.PUBLIC_KEY.exists()
    assert signing.public_key().read_text().endswith("-----END PUBLIC KEY-----\n")
    assert paths.SIGNING_KEY.read_bytes() == private


def test_the_layers_have_folders_of_their_own(toolbox: FakeToolbox) -> None:
    loaded = container.load("one")
    places = {container_layers._path(loaded, layer).parent for layer in ("packages", "wheels")}
    assert len(places) == 2


class Asking(FakeToolbox):
    """An Apptainer that looks at the file of credentials it is given: mode and content."""

    given: tuple[int, str] | None = None
    file: Path | None = None

    def apptainer(self, argv: Sequence[str | Path], **options: Any) -> Result:
        words = [str(word) for word in argv]
        if "--authfile" in words:
            self.file = Path(words[words.index("--authfile") + 1])
            self.given = stat.S_IMODE(self.file.stat().st_mode), self.file.read_text()
        return super().apptainer(argv, **options)


def fetch(toolbox: FakeToolbox, tmp_path: Path, definition: str) -> None:
    source = Source(definition, {})
    container_build.write(definition, source, tmp_path / "a.sif", tmp_path, cast("Toolbox", toolbox))


@pytest.fixture
def logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "logins.json"
    file.write_text('{"auths": {"r.example": {"auth": "b25l"}, "other.example": {"auth": "dHdv"}}}')
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
    monkeypatch.setattr(container_build, "seal", lambda target, toolbox: None)
    return file


PRIVATE = "Bootstrap: docker\nFrom: r.example/private:1\n"


@pytest.mark.parametrize("fails", [{}, {"build": "FATAL: unauthorized"}], ids=["built", "refused"])
def test_credentials_are_there_for_the_build_only(
    tmp_path: Path, logins: Path, fails: dict[str, str]
) -> None:
    toolbox = Asking(fails=fails)
    said = ""
    try:
        fetch(toolbox, tmp_path, PRIVATE)
    except HpcstateError as error:
        said = error.hint
    assert said == ("is its name right? if it is private: docker login r.example" if fails else "")
    assert toolbox.given == (0o600, '{"auths": {"r.example": {"auth": "b25l"}}}')
    assert toolbox.file is not None and not toolbox.file.exists()
    assert "b25l" not in " ".join(map(" ".join, toolbox.calls))


def test_who_fetches_nothing_gets_no_credentials(tmp_path: Path, logins: Path) -> None:
    logins.write_text("no JSON")
    toolbox = FakeToolbox()
    fetch(toolbox, tmp_path, "Bootstrap: docker-archive\nFrom: image.tar\n")
    assert "--authfile" not in toolbox.calls[0]


@pytest.mark.parametrize(
    "more",
    [
        "%labels\n    a b\n%setup\n    touch /hole\n",
        "%environment\n    export A='\n%pre\ntouch /hole\n'\n",
        "%runscript\n    %setup\n",
        "%labels\n    a {{ B }}\n",
    ],
)
def test_whatever_the_text_was_made_of_nothing_of_it_runs_on_this_machine(
    more: str, toolbox: FakeToolbox, tmp_path: Path
) -> None:
    source = Source("Bootstrap: docker-archive\nFrom: /archive/image.tar\n", {})
    with pytest.raises(ProblemsError, match=r"the definition of made\.sif"):
        container_build.write(
            source.definition + more, source, tmp_path / "made.sif", tmp_path, cast(Toolbox, toolbox)
        )
    assert toolbox.calls == []


def test_a_failing_post_is_told_with_its_line(toolbox: FakeToolbox, tmp_path: Path) -> None:
    file = tmp_path / "container.def"
    file.write_text("Bootstrap: docker\nFrom: a\n%post\n    true\n    make install\n")
    said = "INFO:    Running post scriptlet\n+ true\n+ make install\n"
    said += "FATAL:   while running %post section: exit status 2"
    failing = FakeToolbox(fails={"build": said})
    reports: list[str] = []
    source = Source(file.read_text(), {}, file=file)
    with pytest.raises(HpcstateError, match=r"%post failed at 'make install'") as failed:
        container_build.write(
            source.definition,
            source,
            tmp_path / "a.sif",
            tmp_path,
            cast(Toolbox, failing),
            report=reports.append,
        )
    assert failed.value.where == f"{file}:5"
    assert reports == ["%post (0 s)"]


FETCHED = "Bootstrap: docker\nFrom: a\n\n%labels\n    a b\n"


@pytest.mark.parametrize(
    ("config", "definition", "more"),
    [
        ({"Env": ["PATH=/bin"], "Cmd": ["sh"], "WorkingDir": "/"}, FETCHED, ()),
        ({}, FETCHED, ()),
        ({"Env": ["A=`x`"], "Cmd": ["sh"]}, FETCHED, ("10-docker2singularity.sh",)),
        ({"WorkingDir": "/srv", "Cmd": ["sh"]}, FETCHED, ("cd /srv || exit", "set -- sh", "/. /srv/\n")),
        ({"WorkingDir": "/srv", "Cmd": ["sh"]}, FETCHED + "\n%runscript\n    exec x\n", ()),
    ],
)
def test_what_a_fetched_image_says_arrives(
    tmp_path: Path,
    toolbox: FakeToolbox,
    monkeypatch: pytest.MonkeyPatch,
    config: dict[str, Any],
    definition: str,
    more: tuple[str, ...],
) -> None:
    monkeypatch.setattr(sif, "image_config", lambda _: config)
    source = Source(definition, {})
    container_build.write(definition, source, tmp_path / "a.sif", tmp_path, cast(Toolbox, toolbox))
    assert toolbox.commands() == ["build"] * (1 + bool(more)) + ["sign"]
    assert not [part for part in more if part not in toolbox.definition]
    assert "%labels\n    a b\n" in toolbox.definition
    assert not (tmp_path / "first.sif").exists() and (tmp_path / "a.sif").exists()
