"""Docker and buildah: which one builds, what they are told, and what is said when they fail.

The engines are scripts on PATH that write down how they were called.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcstate.container import engine
from hpcstate.container.dockerfile import Images
from hpcstate.container.order import BuildOrder
from hpcstate.errors import HpcstateError
from hpcstate.paths import ROOT

NAMED = "case $* in"
DOCKER = """
"version --format"*) echo 27.1.0;;
"buildx version") exit 0;;
"image inspect --format {{json"*) echo '["debian@sha256:BASE"]';;
"image inspect --format {{.Id}}"*) [ -e "$LOG.built" ] && echo sha256:new || echo sha256:old;;
"save --output "*) echo archive >"$3";;
build*) touch "$LOG.built"; printf '%s\\n' '#5 [1/2] FROM debian' '#6 [2/2] RUN true' '#6 DONE 0.1s';;
""".replace("BASE", "b" * 64)
BUILDAH = """
"--version") echo 'buildah version 1.28.2 (image-spec 1)';;
*" info") ;;
*" rm --all") ;;
*" images --json "*) [ -e "$LOG.built" ] && echo '[{"id":"new"}]' || echo '[{"id":"old"}]';;
*" inspect --type image "*) echo sha256:BASE;;
*" rmi old") ;;
*" build --tag "*) touch "$LOG.built"; printf 'STEP 1/2: FROM debian\\nSTEP 2/2: RUN true\\n';;
*" push --quiet "*) for last; do :; done; echo archive >"${last#oci-archive:}";;
""".replace("BASE", "b" * 64)


class Machine:
    """A machine with some programs: ``said`` are the lines that were reported, ``calls`` what was called."""

    def __init__(self, root: Path) -> None:
        self.bin, self.log = root / "bin", root / "log"
        self.bin.mkdir()
        self.said: list[str] = []

    def program(self, name: str, cases: str) -> None:
        path = self.bin / name
        header = f'#!/bin/sh\nLOG={self.log}\necho "{name} $*" >>"$LOG"\n'
        path.write_text(f'{header}{NAMED}\n{cases}\n*) echo "unexpected: $*" >&2; exit 64;;\nesac\n')
        path.chmod(0o755)

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def build(self, context: Path, bases: tuple[str, ...] = ("debian:13",)) -> engine.Built:
        wanted = BuildOrder(context, context / "Dockerfile", Images(bases, bases[0] if bases else ""))
        return engine.build(engine.find(), "demo", "1", wanted, self.said.append)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Nothing on PATH but what is needed to run scripts and what the test adds."""
    found = Machine(tmp_path)
    for name in ("sh", "setpriv", "touch", "printf", "sleep", "env"):
        path = next(folder / name for folder in (Path("/usr/bin"), Path("/bin")) if (folder / name).exists())
        (found.bin / name).symlink_to(path)
    monkeypatch.setenv("PATH", str(found.bin))
    monkeypatch.setattr(engine, "STORAGE", tmp_path / "storage")
    monkeypatch.setattr(engine, "is_root", lambda: False)
    return found


def test_docker_builds_where_its_engine_answers(machine: Machine, tmp_path: Path) -> None:
    machine.program("docker", DOCKER)
    machine.program("buildah", BUILDAH)
    built = machine.build(tmp_path)
    assert built.tag == "localhost/hpcstate/demo:1"
    assert built.versions == {"docker": "27.1.0", "base:debian:13": f"sha256:{'b' * 64}"}
    assert built.labels["org.opencontainers.image.base.digest"] == f"sha256:{'b' * 64}"
    (build,) = [call for call in machine.calls() if call.startswith("docker build ")]
    assert build.endswith(f"--file {tmp_path}/Dockerfile --progress plain {tmp_path}")
    assert "docker rmi sha256:old" in machine.calls()
    assert [line.split(" (")[0] for line in machine.said] == ["STEP 1/2", "STEP 2/2"]
    engine.save(engine.find(), built.tag, tmp_path / "image.tar", machine.said.append)
    assert (tmp_path / "image.tar").is_file()


@pytest.mark.parametrize("first", ["b", "c"])
@pytest.mark.parametrize(
    ("base", "digest"),
    [
        ("debian:13", "b"),
        ("docker.io/library/debian:13", "b"),
        ("mirror:5000/debian:13", "c"),
        ("mirror:5000/debian:13@sha256:" + "c" * 64, "c"),
        # Tagged by hand: it is the first that it came with.
        ("mine/debian:13", ""),
    ],
)
def test_the_digest_of_a_base_is_that_of_its_own_registry(
    machine: Machine, tmp_path: Path, base: str, digest: str, first: str
) -> None:
    known = [f'"debian@sha256:{"b" * 64}"', f'"mirror:5000/debian@sha256:{"c" * 64}"']
    both = ",".join(sorted(known, reverse=first == "c"))
    machine.program("docker", f"\"image inspect --format {{{{json\"*) echo '[{both}]';;\n{DOCKER}")
    built = machine.build(tmp_path, (base,))
    assert built.labels["org.opencontainers.image.base.digest"] == f"sha256:{(digest or first) * 64}"


def test_buildah_builds_where_only_dockers_client_is(machine: Machine, tmp_path: Path) -> None:
    machine.program("docker", '"version --format"*) echo "Cannot connect" >&2; exit 1;;')
    machine.program("buildah", BUILDAH)
    built = machine.build(tmp_path)
    assert built.versions == {"buildah": "1.28.2", "base:debian:13": f"sha256:{'b' * 64}"}
    calls = [call for call in machine.calls() if call.startswith("buildah")]
    (build,) = [call for call in calls if " build " in call]
    assert "--storage-driver overlay build" in build and "--layers" in build and "--timestamp" in build
    # What a killed build left goes first, what the new image replaces goes last.
    assert calls.index(next(call for call in calls if call.endswith(" rm --all"))) < calls.index(build)
    assert calls[-1].endswith(" rmi old")
    engine.save(engine.find(), built.tag, tmp_path / "image.tar", machine.said.append)
    assert (tmp_path / "image.tar").is_file()


def test_a_kernel_without_overlay_gets_copies(machine: Machine) -> None:
    machine.program("buildah", '*"driver overlay info") exit 125;;\n' + BUILDAH)
    assert engine.find().program[-1] == "vfs"


def test_neither_is_a_message_with_the_way_out(machine: Machine) -> None:
    with pytest.raises(HpcstateError, match="needs Docker or buildah") as raised:
        engine.find()
    assert engine.INSTALL in raised.value.hint
    machine.program("docker", "*) exit 1;;")
    with pytest.raises(HpcstateError, match="its client is here, its engine does not answer"):
        engine.find()


def test_a_storage_that_does_not_work_is_a_message(machine: Machine) -> None:
    machine.program("buildah", '*" info") echo "layers.lock: input/output error" >&2; exit 125;;\n' + BUILDAH)
    with pytest.raises(HpcstateError, match=r"(?s)cannot use its storage.*input/output error"):
        engine.find()


FAILED = 'printf "STEP 1/3: FROM x\\nSTEP 2/3: RUN false\\nlast words\\nError: exit status 1\\n"; exit 1;;'


def test_a_step_that_fails_is_named_with_its_last_lines(machine: Machine, tmp_path: Path) -> None:
    machine.program("buildah", f'*" build --tag "*) {FAILED}\n{BUILDAH}')
    with pytest.raises(HpcstateError, match=r"(?s)STEP 2/3: RUN false failed:.*last words") as raised:
        machine.build(tmp_path)
    assert "kept" in raised.value.hint
    # Nothing of an earlier image is removed for a build that failed.
    assert not [call for call in machine.calls() if " rmi " in call]


def test_no_space_is_said_as_such(machine: Machine, tmp_path: Path) -> None:
    full = 'printf "STEP 1/2: FROM x\\nSTEP 2/2: ADD y /\\nwrite: no space left on device\\n"; exit 125;;'
    machine.program("buildah", f'*" build --tag "*) {full}\n{BUILDAH}')
    with pytest.raises(HpcstateError, match="STEP 2/2: ADD y /") as raised:
        machine.build(tmp_path)
    assert "free some space" in raised.value.hint


def test_an_archive_that_does_not_fit_is_removed(machine: Machine, tmp_path: Path) -> None:
    half = 'echo half >"$3"; echo "write: no space left on device" >&2; exit 1;;'
    machine.program("docker", f'"save --output "*) {half}\n{DOCKER}')
    with pytest.raises(HpcstateError, match="did not write the image x:1") as raised:
        engine.save(engine.find(), "x:1", tmp_path / "image.tar", machine.said.append)
    assert "free some space" in raised.value.hint
    assert not (tmp_path / "image.tar").exists()


@pytest.mark.parametrize("name", ["docker", "buildah"])
def test_a_base_that_cannot_be_fetched_is_a_message(machine: Machine, tmp_path: Path, name: str) -> None:
    missing = (
        '*"image inspect --format {{json"*|*" inspect --type image "*) exit 1;;\n'
        '*"pull --quiet nosuch:1"*) echo "manifest unknown" >&2; exit 1;;\n'
    )
    machine.program(name, missing + (DOCKER if name == "docker" else BUILDAH))
    with pytest.raises(HpcstateError, match=r"(?s)FROM nosuch:1 failed:.*manifest unknown") as raised:
        machine.build(tmp_path, ("nosuch:1",))
    assert "registry" in raised.value.hint
    assert machine.said == ["FROM nosuch:1: fetching it"]
    assert not [call for call in machine.calls() if " build " in f"{call} "]


@pytest.mark.parametrize("name", ["docker", "buildah"])
def test_what_container_yaml_gives_reaches_the_engine(machine: Machine, tmp_path: Path, name: str) -> None:
    machine.program(name, DOCKER if name == "docker" else BUILDAH)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/pip").write_text("t0ken-of-mine\n")
    given = {"arguments": {"TAG": "a b"}, "target": "two", "secrets": {"pip": tmp_path / "secrets/pip"}}
    wanted = BuildOrder(tmp_path, tmp_path / "sub/Dockerfile.gpu", remarks=("line 1: old",), **given)  # type: ignore[arg-type]
    engine.build(engine.find(), "demo", "1", wanted, machine.said.append)
    (build,) = [call for call in machine.calls() if " build " in call and "--tag" in call]
    assert f"--file {tmp_path}/sub/Dockerfile.gpu --build-arg TAG=a b --target two" in build
    assert f" --secret id=pip,src={tmp_path}/secrets/pip " in build
    assert machine.said[0].endswith("sub/Dockerfile.gpu: line 1: old")
    told = 'printf "STEP 1/1: RUN echo t0ken-of-mine\\nit is t0ken-of-mine\\n"; exit 1;;'
    pattern = '"build --tag "*)' if name == "docker" else '*" build --tag "*)'
    cases = DOCKER if name == "docker" else BUILDAH
    machine.program(name, f"{pattern} {told}\n{cases}")
    with pytest.raises(HpcstateError, match=r"(?s)RUN echo \*\*\* failed:.*it is \*\*\*") as failed:
        engine.build(engine.find(), "demo", "1", wanted, machine.said.append)
    assert "t0ken" not in str(failed.value) + "".join(machine.said)
    assert failed.value.hint.startswith("line 1: old; ")


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("RUN only supports the --mount flag", "buildah 1.28.2 does not know it; Docker with BuildKit"),
        ("flag provided but not defined: -x", "buildah 1.28.2 does not know it; Docker with BuildKit"),
        ("exit status 1", "mend this step"),
    ],
)
def test_a_refusal_that_was_not_foreseen_says_who_may_have_it(
    machine: Machine, tmp_path: Path, said: str, hint: str
) -> None:
    """The words are those of buildah 1.28.2."""
    refused = f'*" build --tag "*) printf "STEP 1/1: RUN x\\nError: {said}\\n"; exit 1;;'
    machine.program("buildah", f"{refused}\n{BUILDAH}")
    wanted = BuildOrder(tmp_path, tmp_path / "Dockerfile")
    with pytest.raises(HpcstateError) as failed:
        engine.build(engine.find(), "demo", "1", wanted, machine.said.append)
    assert failed.value.hint.startswith(hint)


def test_proxies_reach_docker_by_name_only(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://user:word@proxy")
    machine.program("docker", DOCKER)
    machine.build(tmp_path)
    (build,) = [call for call in machine.calls() if call.startswith("docker build ")]
    assert "--build-arg https_proxy " in build and "word" not in build


BUILDKIT = """\
#6 [2/3] RUN one
#6 DONE 0.2s
#7 [3/3] RUN ls /none
#7 0.213 ls: cannot access
#7 ERROR: process "/bin/sh -c ls /none" did not complete successfully: exit code: 2
------
 > [3/3] RUN ls /none:
0.213 ls: cannot access
------
"""
PARALLEL = """\
#8 [two 2/2] RUN slow
#7 [one 2/4] RUN bad
------
 > [one 2/4] RUN bad:
------
"""


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("", ""),
        ("Error: no context\n", ""),
        ("STEP 1/2: FROM a\nSTEP 2/2: RUN x\nboom\n", "STEP 2/2: RUN x"),
        ("[1/2] STEP 1/2: FROM a\n[2/2] STEP 3/4: COPY y z\n", "STEP 3/4: COPY y z"),
        ("Step 1/2 : FROM a\nStep 2/2 : RUN x\n", "STEP 2/2: RUN x"),
        (BUILDKIT, "STEP 3/3: RUN ls /none"),
        (PARALLEL, "STEP 2/4: RUN bad"),
    ],
)
def test_the_failing_step(output: str, said: str) -> None:
    assert engine.failing_step(output) == said


def test_a_build_that_is_killed_takes_its_engine_with_it(machine: Machine, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    slow = f'echo $$ >{pid_file}; echo "STEP 1/2: RUN slow"; exec sleep 60;;'
    machine.program("buildah", f'*" build --tag "*) {slow}\n{BUILDAH}')
    code = (
        "import sys; from pathlib import Path; from hpcstate.container import engine\n"
        "engine.STORAGE = Path(sys.argv[1]); engine.is_root = lambda: False\n"
        "at = Path(sys.argv[1])\n"
        "engine.build(engine.find(), 'demo', '1', engine.BuildOrder(at, at / 'Dockerfile'), print)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], cwd=ROOT, stdout=subprocess.PIPE
    ) as builder:
        assert builder.stdout is not None
        assert b"STEP 1/2" in builder.stdout.readline()
        builder.send_signal(signal.SIGKILL)
        builder.wait(timeout=60)
    engine_pid = int(pid_file.read_text())
    deadline = time.monotonic() + 50
    while running(engine_pid) and time.monotonic() < deadline:
        os.sched_yield()
    assert not running(engine_pid)
    # The lock went with it: the next build does not wait.
    machine.program("buildah", BUILDAH)
    machine.build(tmp_path, ())
    assert not [line for line in machine.said if "waits for another run" in line]


def running(pid: int) -> bool:
    """Whether the process ``pid`` is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_name_without_a_registry_is_docker_hubs(machine: Machine, tmp_path: Path) -> None:
    machine.program("buildah", BUILDAH)
    environment = engine.find().environment
    text = Path(environment["CONTAINERS_REGISTRIES_CONF"]).read_text()
    assert 'unqualified-search-registries = ["docker.io"]' in text
    assert environment["BUILDAH_ISOLATION"] == "chroot"
