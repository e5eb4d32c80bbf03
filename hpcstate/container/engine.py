"""What builds a Dockerfile: Docker where an engine answers, else buildah, which needs no daemon.

Both keep the layer of each step that succeeded, so that a build that failed or was killed goes on from there:
Docker in its own store, buildah below build/containers/.buildah (which may be removed at any time).
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from hpcstate import paths
from hpcstate.artifact.debian import EPOCH
from hpcstate.container import credentials, progress, refusal
from hpcstate.container.dockerfile_needs import BUILDKIT
from hpcstate.container.order import BuildOrder
from hpcstate.container.toolbox import OF_THE_HOST, entered, is_root
from hpcstate.errors import HpcstateError, from_os
from hpcstate.files import alone
from hpcstate.run import Result, run, run_with_lines, tail, which

STORAGE = paths.BUILD / "containers" / ".buildah"

INSTALL = "apt-get install --no-install-recommends buildah"

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

_STEPS = (
    # buildah; Docker without BuildKit; BuildKit (--progress plain), whose names of steps are in brackets.
    re.compile(r"^(?:\[\d+/\d+\] )?STEP (?P<step>\d+/\d+): (?P<what>.+)"),
    re.compile(r"^Step (?P<step>\d+/\d+) : (?P<what>.+)"),
    re.compile(r"^#\d+ \[(?:\S+ +)?(?P<step>\d+/\d+)\] (?P<what>.+)"),
)
_BUILDKIT_FAILED = re.compile(r"^ > \[(?:\S+ +)?(?P<step>\d+/\d+)\] (?P<what>.+?):?$")
_WIDEST = 300
"""Characters of a line that is quoted; buildah prints the options of a copy that failed, 4,000 of them."""

_SHORTEST_SECRET = 6
"""Characters; to look for less would blot out words of the output."""

_UNKNOWN = re.compile(
    r"only supports the|flag provided but not defined|nsupported modifier|Missing ':'|[Uu]nknown instruction"
)
"""What buildah and imagebuilder say of a form that they do not know."""

_NO_SPACE = re.compile(r"no space left on device|ENOSPC", re.IGNORECASE)


@dataclass(frozen=True)
class Engine:
    """What builds Dockerfiles here. ``program`` are the first words of each of its calls, ``sealed`` whether
    it runs without the rights of who calls it, and sees of what is theirs only what it is shown.
    """

    name: Literal["docker", "buildah"]
    version: str
    program: tuple[str, ...] = ("docker",)
    environment: Mapping[str, str] = field(default_factory=dict)
    sealed: bool = False

    def words(self, *arguments: str | Path, see: Sequence[Path] = ()) -> list[str | Path]:
        """The command line of ``arguments``, which name the folders ``see``, by :meth:`at`."""
        line = [*self.program, *arguments]
        if not self.sealed:
            return line
        return entered(Path("/"), line, {path: str(path) for path in (STORAGE, *see)})

    def at(self, path: Path) -> Path:
        """How the engine sees ``path``, which lies at or below its storage or a folder that it is shown."""
        return Path(f"{OF_THE_HOST}{path}") if self.sealed else path

    def variables(self) -> dict[str, str]:
        """The environment of a call."""
        return {**os.environ, **self.environment}

    def run(self, *arguments: str | Path, check: bool = True, see: Sequence[Path] = ()) -> Result:
        """Run ``arguments``. Raises HpcstateError with their last lines when they fail."""
        return run(self.words(*arguments, see=see), env=self.variables(), check=check)


@dataclass(frozen=True)
class Built:
    """An image in the engine's store: its name there, and what went in."""

    tag: str
    labels: dict[str, str]
    versions: dict[str, str]


def find() -> Engine:
    """The engine of this machine. Raises HpcstateError when it has none."""
    if version := docker_version():
        return Engine("docker", version)
    if which("buildah") is None:
        client = " (its client is here, its engine does not answer)" if which("docker") else ""
        raise HpcstateError(
            f"a Dockerfile needs Docker{client} or buildah",
            hint=f"as root: {INSTALL} (Debian 12 and 13 have it; it needs no daemon)",
        )
    return buildah()


def docker_version() -> str:
    """The version of the Docker engine that answers; empty where there is none (a client alone is none)."""
    if which("docker") is None:
        return ""
    try:
        done = run(["docker", "version", "--format", "{{.Server.Version}}"], timeout=30, check=False)
    except HpcstateError:
        return ""
    return done.stdout.strip() if done.code == 0 else ""


def buildah() -> Engine:
    """buildah with a storage of its own; with overlay file systems where the kernel gives them to this user,
    else with a copy for each layer.

    Its steps are foreign, and a chroot(2) keeps nobody in who is root in it: with root's rights, buildah runs
    in subordinate ids as Apptainer does (toolbox.entered). A user's makes a user namespace of its own.
    """
    sealed = is_root()
    registries = _registries()
    version = run(["buildah", "--version"]).stdout.split()[2]
    for driver in ("overlay", "vfs"):
        # What real root kept has other attributes (overlay: trusted.* instead of user.*, for opaque folders).
        kept = f"{driver}-subordinate" if sealed else driver
        engine = Engine("buildah", version, sealed=sealed)
        root, volatile = (engine.at(STORAGE / name) for name in (kept, f"{kept}-run"))
        # Else it is in /var/cache, where nobody but the machine's root may lock it: every name without a
        # registry (FROM debian:13) would fail.
        aliases = ("--short-name-alias-conf", str(engine.at(STORAGE / "short-names.conf")))
        options = (*aliases, "--root", str(root), "--runroot", str(volatile), "--storage-driver", driver)
        environment = {
            "BUILDAH_ISOLATION": "chroot",
            "CONTAINERS_REGISTRIES_CONF": str(engine.at(registries)),
        }
        environment |= {"HOME": str(OF_THE_HOST)} if sealed else {}
        engine = replace(engine, program=("buildah", *options), environment=environment)
        answer = engine.run("info", check=False)
        if answer.code == 0:
            return engine
    raise HpcstateError(
        f"buildah cannot use its storage:\n{tail(answer.stderr, 4)}",
        where=paths.shown(STORAGE),
        hint="it is a cache: remove the folder, and run again",
    )


def buildkit(engine: Engine) -> bool:
    """Whether Docker builds by BuildKit: its client needs a plugin for that."""
    return engine.name == "docker" and engine.run("buildx", "version", check=False).code == 0


def build(engine: Engine, name: str, version: str, order: BuildOrder, report: Callable[[str], None]) -> Built:
    """Build ``order`` as the image of the container ``name``. The digests of the images that it reads are
    recorded.

    Raises HpcstateError with the failing step and its last lines. The layers before it stay.
    """
    tag = f"localhost/hpcstate/{name}:{version}"
    # One build at a time in our own storage: what another left half done is removed before it.
    with alone(STORAGE, report) if engine.name == "buildah" else nullcontext():
        if engine.name == "buildah":
            engine.run("rm", "--all", check=False)
        for remark in order.remarks:
            report(f"{paths.shown(order.file)}: {remark}")
        digests = {base: _digest(engine, base, report) for base in order.images.used}
        before = identity(engine, tag)
        _run_build(engine, tag, order, report)
        if before and before != identity(engine, tag):
            # Its own layers go with it, those that the new one shares stay.
            engine.run("rmi", before, check=False)
    labels = {}
    if base := order.images.base:
        digest = digests[base]
        labels = {"org.opencontainers.image.base.name": base, "org.opencontainers.image.base.digest": digest}
    versions = {engine.name: engine.version, **{f"base:{base}": digest for base, digest in digests.items()}}
    return Built(tag, labels, versions)


def save(engine: Engine, tag: str, archive: Path, report: Callable[[str], None]) -> None:
    """Write the image ``tag`` of the engine's store to ``archive``: Docker a docker-archive, buildah an
    oci-archive (a docker-archive of it has the name of the build's machine in it).

    Raises HpcstateError when there is no such image, or no room for it.
    """
    began = time.monotonic()
    if engine.name == "docker":
        words: tuple[str, ...] = ("save", "--output", str(archive), tag)
    else:
        words = ("push", "--quiet", "--format", "oci", "--disable-compression", tag)
        words += (f"oci-archive:{engine.at(archive)}",)
    done = engine.run(*words, check=False, see=[archive.parent])
    if done.code:
        archive.unlink(missing_ok=True)
        raise _failure(f"{engine.name} did not write the image {tag}", done.stderr or done.stdout)
    report(f"{tag}: {archive.stat().st_size / 1e6:.0f} MB as archive ({time.monotonic() - began:.0f} s)")


def identity(engine: Engine, tag: str) -> str:
    """What the engine calls the image ``tag`` by itself; empty when it has none."""
    if engine.name == "docker":
        done = engine.run("image", "inspect", "--format", "{{.Id}}", tag, check=False)
        return done.stdout.strip() if done.code == 0 else ""
    done = engine.run("images", "--json", tag, check=False)
    if done.code:
        return ""
    try:
        images = json.loads(done.stdout)
        return str(images[0]["id"]) if images else ""
    except (ValueError, LookupError, TypeError):
        return ""


def step(line: str) -> tuple[str, str] | None:
    """The step that starts with ``line`` of a build's output: its number (``3/7``) and its instruction."""
    for pattern in _STEPS:
        if found := pattern.match(line):
            return found["step"], found["what"].strip()
    return None


def failing_step(output: str) -> str:
    """The step at which a build with that ``output`` ended, as a person reads it; empty when it had none."""
    lines = output.splitlines()
    named = [(match["step"], match["what"]) for line in lines if (match := _BUILDKIT_FAILED.match(line))]
    started = named or [found for line in lines if (found := step(line))]
    return f"STEP {started[-1][0]}: {started[-1][1]}" if started else ""


def _run_build(engine: Engine, tag: str, order: BuildOrder, report: Callable[[str], None]) -> None:
    shown = [order.context, *{file.parent for file in order.secrets.values()}]
    words = engine.words("build", "--tag", tag, "--file", engine.at(order.file), see=shown)
    for name, value in order.arguments.items():
        words += ["--build-arg", f"{name}={value}"]
    words += ["--target", order.target] if order.target else []
    for name, file in order.secrets.items():
        words += ["--secret", f"id={name},src={engine.at(file)}"]
    environment = engine.variables()
    if engine.name == "buildah":
        # Docker's format keeps SHELL and HEALTHCHECK; the time makes two builds of the same steps the same.
        words += ["--layers", "--format", "docker", "--timestamp", str(EPOCH)]
    else:
        modern = buildkit(engine)
        environment["DOCKER_BUILDKIT"] = str(int(modern))
        words += ["--progress", "plain"] if modern else []
        for proxy in _PROXIES:
            # Without a value: Docker takes it from the environment.
            words += ["--build-arg", proxy] if proxy in os.environ else []
    began = time.monotonic()
    steps: set[str] = set()

    hidden = _hidden(order)
    with progress.followed(report) as heard:

        def told(line: str) -> None:
            line = hidden(line)
            found = step(line)
            if found and found[0] + found[1] not in steps:
                steps.add(found[0] + found[1])
                report(f"STEP {found[0]} ({time.monotonic() - began:.0f} s): {_short(found[1])}")
            else:
                heard(line)

        done = run_with_lines([*words, engine.at(order.context)], told, env=environment)
    if done.code:
        output = hidden(done.stdout)
        at = failing_step(output)
        failure = _failure(f"{at} failed" if at else f"{engine.name} build failed", output, order.file)
        hints = [*order.remarks, failure.hint]
        if not order.remarks and engine.name == "buildah" and _UNKNOWN.search(output):
            hints.insert(0, f"{engine.name} {engine.version} does not know it; {BUILDKIT} may")
        raise HpcstateError(failure.message, where=failure.where, hint="; ".join(hints))


def _hidden(order: BuildOrder) -> Callable[[str], str]:
    """What takes the secrets of ``order`` out of an output: a step may print what it was given."""
    values: set[str] = set()
    for file in order.secrets.values():
        text = file.read_text(encoding="utf-8", errors="replace")
        values |= {part for part in (text.strip(), *text.split()) if len(part) >= _SHORTEST_SECRET}
    among = sorted(values, key=len, reverse=True)

    def without(text: str) -> str:
        for value in among:
            text = text.replace(value, "***")
        return text

    return without


def _digest(engine: Engine, base: str, report: Callable[[str], None]) -> str:
    """The digest of the image ``base``, which is fetched when it is not there."""
    questions = {
        "docker": ("image", "inspect", "--format", "{{json .RepoDigests}}"),
        "buildah": ("inspect", "--type", "image", "--format", "{{.FromImageDigest}}"),
    }
    question = (*questions[engine.name], base)
    known = engine.run(*question, check=False)
    if known.code:
        report(f"FROM {base}: fetching it")
        with _credentials(engine, base) as options:
            done = engine.run("pull", "--quiet", *options, base, check=False)
        if done.code:
            said = done.stderr or done.stdout
            raise HpcstateError(
                f"FROM {base} failed:\n{tail(said, 8)}",
                hint=refusal.next_step(said, [credentials.registry_of(base)])
                or "is the registry reachable, and does it have that image? what was fetched is kept",
            )
        known = engine.run(*question)
    # Docker may have it of several registries, by other digests.
    own = re.search(rf'"{re.escape(_repository(base))}@(sha256:[0-9a-f]{{64}})"', known.stdout)
    found = own or re.search(r"(sha256:[0-9a-f]{64})", known.stdout)
    return found[1] if found else "built on this machine"


@contextmanager
def _credentials(engine: Engine, base: str) -> Iterator[list[str | Path]]:
    """Options that give the credentials of this user for ``base`` to an engine that cannot read them itself.
    No foreign code runs meanwhile. Raises HpcstateError for a file of credentials that is broken.
    """
    file = STORAGE / "auth.json" if engine.sealed else None
    try:
        written = file and credentials.write([credentials.registry_of(base)], file)
        yield ["--authfile", engine.at(written)] if written else []
    finally:
        if file:
            file.unlink(missing_ok=True)


def _repository(image: str) -> str:
    """The name of ``image`` without tag and digest, as Docker shows it: its own registry is left out."""
    name = image.partition("@")[0]
    folder, slash, last = name.rpartition("/")
    name = f"{folder}{slash}{last.partition(':')[0]}"
    return name.removeprefix("docker.io/").removeprefix("library/")


def _failure(what: str, output: str, file: Path | None = None) -> HpcstateError:
    hint = "mend this step; those before it are kept and not run again"
    if _NO_SPACE.search(output):
        hint = "free some space; the steps that succeeded are kept, the next run goes on from there"
    where = paths.shown(file) if file else ""
    last = "\n".join(_shortened(line) for line in output.splitlines())
    return HpcstateError(f"{what}:\n{tail(last)}", where=where, hint=hint)


def _shortened(line: str) -> str:
    """The start and the end of a long line: the reason comes last."""
    half = _WIDEST // 2
    return line if len(line) <= _WIDEST else f"{line[:half]} … {line[-half:]}"


def _short(text: str) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= 90 else joined[:89] + "…"


def _registries() -> Path:
    """registries.conf(5): a name without a registry is one of Docker Hub's, as in Docker."""
    path = STORAGE / "registries.conf"
    text = 'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "permissive"\n'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Programs in layers may be root's with the setuid bit: for no other user to start.
        path.parent.chmod(0o700)
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
    except OSError as error:
        raise from_os(error) from error
    return path
