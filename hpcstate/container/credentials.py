"""The credentials of this user for registries of images: what `docker login`, `podman login` and `apptainer
registry login` left, given to Apptainer in a file of its own.

Apptainer builds in another root, where neither the user's files nor the programs that keep passwords for
Docker (credential helpers) are. Docker and buildah find their credentials themselves.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hpcstate.errors import HpcstateError
from hpcstate.files import write_atomically
from hpcstate.run import run, which

DOCKER_HUB = "docker.io"
_HUB_NAMES = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_HUB_KEY = "https://index.docker.io/v1/"
"""What `docker login` calls Docker Hub (docker-login(1))."""

_TOKEN_USER = "<token>"
"""The user name by which a helper says that its secret is an identity token (docker-credential-helpers)."""

_HELPER_SECONDS = 30

Auths = dict[str, dict[str, str]]
"""The part ``auths`` of containers-auth.json(5)."""


def registry_of(image: str) -> str:
    """The registry of the image ``image`` (host, and port where it names one), by Docker's rule for names
    without one: a first part with neither dot nor colon is no host.
    """
    first, slash, _ = image.partition("/")
    named = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return host_of(first) if named else DOCKER_HUB


def host_of(key: str) -> str:
    """The registry that ``key`` names: an address (``https://host/v1/``), a namespace (``host/team``) or a
    host; one name for all those of Docker Hub.
    """
    host = key.partition("://")[2] or key
    host = host.partition("/")[0]
    return DOCKER_HUB if host in _HUB_NAMES else host


def files(environment: Mapping[str, str], home: Path) -> list[Path]:
    """Where credentials may be, the first that has some for a registry counts: REGISTRY_AUTH_FILE, then those
    of Apptainer, Docker and podman (containers-auth.json(5)).
    """
    named = environment.get("REGISTRY_AUTH_FILE")
    runtime = environment.get("XDG_RUNTIME_DIR")
    podman = Path(runtime, "containers") if runtime else Path("/run/containers", str(os.getuid()))
    found = [Path(named)] if named else []
    found.append(home / ".apptainer" / "docker-config.json")
    found.append(Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json")
    found += [podman / "auth.json", home / ".config" / "containers" / "auth.json"]
    return [file for file in found if file.is_file()]


def find(registries: Iterable[str], among: Iterable[Path]) -> Auths:
    """What the files ``among`` have for ``registries``; empty where that is nothing.

    Raises HpcstateError for a file that is no JSON object.
    """
    wanted = sorted(set(registries))
    # Who fetches nothing need not hear of a broken file.
    configs = [_read(file) for file in among] if wanted else []
    found: Auths = {}
    for registry in wanted:
        found |= next(filter(None, (_of(config, registry) for config in configs)), {})
    return found


def write(registries: Iterable[str], at: Path) -> Path | None:
    """Write the credentials of this user for ``registries`` to the file ``at`` (mode 0600), for
    ``apptainer build --authfile``; None where there are none. Raises as :func:`find` does.
    """
    auths = find(registries, files(os.environ, Path.home()))
    if not auths:
        return None
    write_atomically(at, json.dumps({"auths": auths}), mode=0o600)
    return at


def _read(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8") or "{}")
    except (OSError, ValueError) as error:
        raise _unreadable(file, str(error)) from error
    if not isinstance(config, dict):
        raise _unreadable(file, "no object")
    # As Docker and podman read it (Go's encoding/json): null is as if it were not there.
    config = {key: value for key, value in config.items() if value is not None}
    for key in ("auths", "credHelpers"):
        if not isinstance(config.get(key, {}), dict):
            raise _unreadable(file, f"`{key}` is no object")
    return config


def _unreadable(file: Path, why: str) -> HpcstateError:
    hint = "mend it, or move it away and log in again (containers-auth.json(5))"
    return HpcstateError(f"the credentials for registries cannot be read: {why}", where=str(file), hint=hint)


def _of(config: Mapping[str, Any], registry: str) -> Auths:
    """What one file has for ``registry``: written in it, or kept by the helper that it names."""
    own = {key: entry for key, entry in config.get("auths", {}).items() if host_of(key) == registry}
    written = {key: entry for key, entry in own.items() if isinstance(entry, dict) and entry.get("auth")}
    if written:
        return written
    helpers = config.get("credHelpers", {})
    named = next((name for key, name in helpers.items() if host_of(key) == registry), "")
    # credsStore keeps those that `docker login` listed; asking it for others may open a window.
    helper = named or (config.get("credsStore") if own else "")
    return _of_helper(helper, next(iter(own), registry)) if helper else {}


def _of_helper(helper: str, key: str) -> Auths:
    """What `docker-credential-HELPER get` has for ``key``: nothing where it is not there or has none."""
    program = f"docker-credential-{helper}"
    if which(program) is None:
        return {}
    asked = _HUB_KEY if host_of(key) == DOCKER_HUB else key
    done = run([program, "get"], stdin=asked, timeout=_HELPER_SECONDS, check=False)
    try:
        answer = json.loads(done.stdout) if done.code == 0 else {}
        user, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError):
        return {}
    if user == _TOKEN_USER:
        return {key: {"auth": _encoded(user, ""), "identitytoken": secret}}
    return {key: {"auth": _encoded(user, secret)}}


def _encoded(user: str, secret: str) -> str:
    return base64.b64encode(f"{user}:{secret}".encode()).decode()
