"""The Dockerfile route and `convert` with a real Docker engine and a registry, by BuildKit and without."""

from __future__ import annotations

import json
import os
import re
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.container import inspect as container_inspect
from hpcstate.container import routes as container_routes
from hpcstate.container import signing
from hpcstate.errors import HpcstateError
from hpcstate.run import run
from tests.containers import docker
from tests.containers.command import hpcstate
from tests.containers.tiny import DOCKERFILE, NAME, Workplace, said_in

VERSION = "{{.Server.Version}}"


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """The tree with Docker in it."""
    if os.geteuid() != 0:
        pytest.skip("a Docker engine of the test's own needs root")
    with docker.tree() as root:
        yield root


@pytest.fixture(scope="module", params=["BuildKit", "classic"])
def builder(request: pytest.FixtureRequest, root: Path) -> Iterator[docker.Engine]:
    """An engine with nothing in its store; its client has the plugin for BuildKit, or has not."""
    # The engine's own processes may outlive it by a moment, and write.
    own = tempfile.TemporaryDirectory(prefix="docker.", ignore_cleanup_errors=True)
    with own as at, docker.engine(root, Path(at)) as engine:
        if request.param == "BuildKit":
            docker.add_buildkit(root, engine.environment)
        yield engine


@pytest.fixture(autouse=True)
def client(builder: docker.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in builder.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def pushed(client: None, tree: Path) -> str:
    """The digest of an image in the registry, which the engine itself has no more."""
    name = f"{docker.REGISTRY}/base:1"
    run(["docker", "import", "--change", 'CMD ["sh", "-c", "echo from the registry"]', tree, name])
    said = run(["docker", "push", name]).stdout
    forget_everything()
    return said.split("digest: ")[1].split()[0]


def forget_everything() -> None:
    """Remove all images and layers of the engine."""
    run(["docker", "system", "prune", "--all", "--force"])
    assert run(["docker", "images", "--quiet"]).stdout == ""


def test_a_dockerfile_becomes_a_signed_container_and_the_same_bytes_again(
    workplace: Workplace, tree: Path
) -> None:
    declared = workplace.declare({"Dockerfile": DOCKERFILE}, (tree,))
    said: list[str] = []
    first = workplace.build(declared, "first", said)
    assert any(re.match(r"STEP \d/\d .*: RUN ", line) for line in said), said
    file = paths.container(NAME)
    assert first.versions["docker"] == run(["docker", "version", "--format", VERSION]).stdout.strip()
    assert signing.verified(workplace.tools, file) == ""
    labels = container_inspect.inspect(file, workplace.tools).labels
    assert labels["hpcstate.source"] == "containers/tiny" and labels["hpcstate.key"] == first.key
    assert workplace.says("sh", "-c", "read line </etc/made && echo $line") == "by the Dockerfile"
    assert workplace.says(verb="run") == "hello from /bin/sh"
    forget_everything()
    assert workplace.build(declared, "second").digest == first.digest


def test_a_step_that_fails_is_named_and_those_before_it_are_kept(workplace: Workplace, tree: Path) -> None:
    timed = 'RUN ["/bin/sh", "-c", "read up idle </proc/uptime; echo $up >/etc/made"]'
    broken = 'RUN ["/bin/sh", "-c", "echo no such wheel; exit 3"]'
    steps = DOCKERFILE.replace("ENTRYPOINT", f"{timed}\n{broken}\nENTRYPOINT", 1)
    with pytest.raises(
        HpcstateError, match=r"(?s)STEP \d/\d: RUN .*exit 3.* failed:.*no such wheel"
    ) as failed:
        workplace.build(workplace.declare({"Dockerfile": steps}, (tree,)), "first")
    assert "those before it are kept" in failed.value.hint
    assert not paths.container(NAME).exists()
    failed_at = float(Path("/proc/uptime").read_text().split()[0])
    workplace.build(workplace.declare({"Dockerfile": steps.replace("exit 3", "exit 0")}), "first")
    assert float(workplace.says("sh", "-c", "read up </etc/made && echo $up")) < failed_at


def test_a_base_that_the_engine_has_is_not_fetched(workplace: Workplace, tree: Path) -> None:
    run(["docker", "import", tree, "localhost/base:1"])
    text = 'ARG BASE=localhost/base:1\nFROM ${BASE}\nCMD ["sh", "-c", "echo based"]\n'
    declared = workplace.declare({"Dockerfile": text})
    made = workplace.build(declared, "first")
    assert made.versions["base:localhost/base:1"] == "built on this machine"
    assert workplace.says(verb="run") == "based"


def test_a_base_is_fetched_by_its_digest_which_is_recorded(workplace: Workplace, pushed: str) -> None:
    base = f"{docker.REGISTRY}/base:1@{pushed}"
    made = workplace.build(workplace.declare({"Dockerfile": f"FROM {base}\n"}), "first")
    assert made.versions[f"base:{base}"] == pushed
    labels = container_inspect.inspect(paths.container(NAME), workplace.tools).labels
    assert labels["org.opencontainers.image.base.digest"] == pushed
    assert workplace.says(verb="run") == "from the registry"


def test_an_image_of_a_registry_is_converted_without_the_engine(
    workplace: Workplace,
    builder: docker.Engine,
    pushed: str,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By TLS with an authority of this machine's own, and with what `docker login` leaves."""
    logins = tmp_path / "logins.json"
    with docker.registry(root, tmp_path, builder.images) as (address, certificate):
        # docker-registry itself would read this variable as one of its settings.
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(logins))
        declared = workplace.declare({}, more=f"base: {{image: docker://{address}/base@{pushed}}}")
        with pytest.raises(HpcstateError, match="certificate"):
            workplace.build(declared, "first")
        authorities = {certificate: "/etc/ssl/certs/ca-certificates.crt"}
        monkeypatch.setattr(container_routes, "network", lambda: authorities)
        with pytest.raises(HpcstateError, match="authentication required") as refused:
            workplace.build(declared, "first")
        assert f"docker login {address}" in refused.value.hint
        secret = b64encode(f"user:{docker.PASSWORD}".encode()).decode()
        logins.write_text(json.dumps({"auths": {address: {"auth": secret}}}))
        found = [workplace.build(declared, run) for run in ("second", "third")]
    assert found[0].digest == found[1].digest
    assert found[0].versions[f"base:{address}/base"] == pushed
    assert workplace.says(verb="run") == "from the registry"
    kept = [file for file in tmp_path.rglob("*") if file.is_file() and file != logins]
    assert kept and not [file for file in kept if secret.encode() in file.read_bytes()]


def test_a_base_that_cannot_be_fetched_is_said_as_such(workplace: Workplace) -> None:
    declared = workplace.declare({"Dockerfile": "FROM registry.invalid/base:1\n"})
    with pytest.raises(HpcstateError, match=r"(?s)FROM registry.invalid/base:1 failed:.*registry\.invalid"):
        workplace.build(declared, "first")


def test_an_image_of_the_engine_is_converted_by_the_command(
    workplace: Workplace, tree: Path, tmp_path: Path
) -> None:
    workplace.build(workplace.declare({"Dockerfile": DOCKERFILE}, (tree,)), "first")
    name = f"localhost/hpcstate/{NAME}:1"
    done = hpcstate("convert", f"docker-daemon:{name}", tmp_path / "of-docker.sif")
    assert done.returncode == 0, done.stderr
    assert signing.verified(workplace.tools, tmp_path / "of-docker.sif") == ""
    assert said_in(workplace.tools, tmp_path / "of-docker.sif", verb="run") == "hello from /bin/sh"
    missing = hpcstate("convert", "docker-daemon:localhost/none:1", tmp_path / "none.sif")
    assert missing.returncode == 2 and not (tmp_path / "none.sif").exists()
    assert "docker did not write the image localhost/none:1" in missing.stderr
    assert "Traceback" not in missing.stderr
