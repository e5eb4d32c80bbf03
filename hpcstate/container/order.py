"""What an engine is asked to build: the Dockerfile, what goes in, what container.yaml gives to it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hpcstate import paths
from hpcstate.container import architecture, declared, dockerfile, dockerfile_needs
from hpcstate.container.dockerfile import Images
from hpcstate.errors import HpcstateError, from_os
from hpcstate.model.container import BuildSecret, Container


@dataclass(frozen=True)
class BuildOrder:
    """A build of the folder ``context`` by ``file``, up to the stage ``target`` (empty: the last).

    ``images`` are those that it reads, ``arguments`` build arguments by name, ``secrets`` files by their id,
    which a step sees by RUN --mount=type=secret. ``remarks`` are said before the build.
    """

    context: Path
    file: Path
    images: Images = field(default_factory=Images)
    arguments: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    secrets: Mapping[str, Path] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def order(
    chosen: Container,
    engine: str,
    version: str,
    *,
    buildkit: bool = False,
    secrets: Mapping[str, Path] | None = None,
) -> BuildOrder:
    """What ``engine`` (``docker``, ``buildah``) is asked for the container ``chosen``. Raises HpcstateError
    when its Dockerfile cannot be read.
    """
    at = declared.folder(chosen.name)
    file = at / chosen.file
    instructions = dockerfile.read(file)
    given, platform = dict(chosen.arguments), architecture.platform_arguments()
    modern = buildkit or (
        engine == "buildah" and dockerfile_needs.release(version) >= dockerfile_needs.PLATFORM_IN_FROM
    )
    if not modern:
        # Where a file declares them before its first FROM, the engine takes them as arguments.
        known = dockerfile.first_arguments(instructions)
        given = {name: value for name, value in platform.items() if name in known} | given
    remarks: list[str] = []
    if engine == "buildah" and dockerfile_needs.release(version) < dockerfile_needs.DEFAULT_IN_FROM:
        # As arguments of the build, it has them when it looks which stages are needed.
        defaults, other = dockerfile.stage_defaults(instructions)
        remarks += [
            f"line {line}: ARG {name} has another default than before the first FROM, where it names a stage:"
            f" buildah {version} does not find that; name the stage itself, or give this one another name"
            for line, name in other
            if name not in given
        ]
        taken = {name for _, name in other}
        given = {name: value for name, value in defaults.items() if name not in taken} | given
    images = dockerfile.images(instructions, given, chosen.target, platform if modern else {})
    remarks += dockerfile_needs.lines(instructions, images, engine, version, buildkit=buildkit)
    if secrets and engine == "docker" and not buildkit:
        remarks.append(f"`secrets`: docker {version} needs BuildKit for them: install docker-buildx")
    return BuildOrder(at, file, images, given, chosen.target, secrets or {}, tuple(remarks))


@contextmanager
def secret_files(wanted: tuple[BuildSecret, ...], folder: Path) -> Iterator[dict[str, Path]]:
    """Files with the ``wanted`` secrets, by their id, below ``folder``, for this user alone and gone with the
    block: an engine need see no other file of the user's, and a value stands in no command line.

    Raises HpcstateError for one that is not there.
    """
    found: dict[str, Path] = {}
    at = folder / "secrets"
    try:
        for secret in wanted:
            value = _value(secret)
            at.mkdir(mode=0o700, parents=True, exist_ok=True)
            found[secret.name] = at / secret.name
            with os.fdopen(
                os.open(found[secret.name], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
            ) as to:
                to.write(value)
        yield found
    finally:
        for file in found.values():
            file.unlink(missing_ok=True)


def _value(secret: BuildSecret) -> bytes:
    where = f"container.yaml .secrets.{secret.name}"
    if secret.environment:
        if secret.environment not in os.environ:
            hint = f"export {secret.environment}=… before the build"
            raise HpcstateError(f"the variable {secret.environment} is not set", where=where, hint=hint)
        return os.environ[secret.environment].encode()
    file = Path(secret.file).expanduser()
    try:
        return file.read_bytes()
    except OSError as error:
        raise HpcstateError(
            f"the secret cannot be read: {from_os(error).message}",
            where=where,
            hint=f"put it into {paths.shown(file)}, mode 600, or name another file",
        ) from error
