"""A Docker engine and a registry of images for tests: Debian's, in a tree of their own, gone with the test.

The host's own engine, if it has one, is neither asked nor touched, and nothing is installed.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcstate import paths
from hpcstate.artifact.debian import write_tar
from hpcstate.artifact.imports import code_of
from hpcstate.artifact.recipe import Recipe
from hpcstate.artifact.store import Store
from hpcstate.container import toolbox as tools_root
from hpcstate.files import remove_tree, unpack
from hpcstate.run import run

RELEASE = "trixie"
PACKAGES = ("containerd", "docker-buildx", "docker-cli", "docker-registry", "docker.io", "iptables")

STARTS_IN = 60
"""Seconds that the engine has to answer; it takes two."""

REGISTRY = "localhost:5000"
"""What the engine calls the registry beside it, which it may reach without TLS."""

PASSWORD = "a:secret"
USERS = "user:$2b$05$CB8Dhde.Wm1ukXyXpcfcFu7MhFfkwCa.5BHYd/LzlkSbTed5HtAm6\n"
"""htpasswd(1) of a registry that lets in only ``user``, by PASSWORD."""

_STATE = "/state"
"""Where the engine sees the folder of its images and its socket."""

_OPTIONS = ("--iptables=false", "--ip6tables=false")
"""The steps of the tests use no network, and this network has no rules to write."""


@contextmanager
def tree() -> Iterator[Path]:
    """The tree with Docker in it, unpacked anew; its tar is made once and kept in the store."""
    folder = paths.BUILD / "test" / "docker"
    folder.mkdir(parents=True, exist_ok=True)
    tar, root = folder / "docker.tar", folder / "root"
    code = code_of("hpcstate.artifact.debian")
    inputs = {"code": code, "release": RELEASE, "packages": list(PACKAGES)}
    Recipe(tar, inputs, lambda target: write_tar(target, RELEASE, PACKAGES)).provide(Store.default())
    # That of a run which was killed, or half unpacked.
    remove_tree(root)
    root.mkdir()
    try:
        unpack(tar, root)
        yield root
    finally:
        remove_tree(root)


@dataclass(frozen=True)
class Engine:
    """The environment in which ``docker`` is its client, and where the registry beside it keeps images."""

    environment: dict[str, str]
    images: Path


@contextmanager
def engine(root: Path, at: Path) -> Iterator[Engine]:
    """Docker of the tree ``root``, running, with a registry beside it; all they have lies below ``at``.

    In a network of their own, for Docker makes a bridge. The socket's path may have 107 bytes (unix(7)).
    """
    state, programs = at / "state", at / "programs"
    for folder in (state, programs):
        folder.mkdir(parents=True)
    (state / "registry.json").write_text(_registry(f"{_STATE}/registry", REGISTRY))
    words = ["dockerd", "--data-root", f"{_STATE}/images", "--exec-root", f"{_STATE}/run"]
    words += ["--pidfile", f"{_STATE}/pid", "--host", f"unix://{_STATE}/docker.sock", *_OPTIONS]
    both = f"docker-registry serve {_STATE}/registry.json & exec {shlex.join(words)}"
    entered = tools_root.entered(root, ["sh", "-c", both], {state: _STATE}, trusted=True)
    _client(root, "usr/bin/docker", programs / "docker")
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "DOCKER_HOST": f"unix://{state}/docker.sock",
        "DOCKER_CONFIG": str(at / "config"),
    }
    network = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    asked = ["docker", "version", "--format", "{{.Server.Version}}"]
    with _running([*network, *entered], at / "log", asked, environment):
        yield Engine(environment, state / "registry")


@contextmanager
def registry(root: Path, at: Path, images: Path) -> Iterator[tuple[str, Path]]:
    """A registry of ``images`` on this machine: by TLS, for one user. Yields address and certificate."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    certificate, key, settings = at / "certificate.pem", at / "key.pem", at / "registry.json"
    words = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=a test's registry"]
    run([*words, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate])
    (at / "htpasswd").write_text(USERS)
    tls = {"certificate": str(certificate), "key": str(key)}
    auth = {"htpasswd": {"realm": "a test", "path": str(at / "htpasswd")}}
    settings.write_text(_registry(str(images), address, tls=tls, auth=auth))
    _client(root, "usr/bin/docker-registry", at / "docker-registry")
    connect = ["openssl", "s_client", "-brief", "-connect", address]
    with _running([str(at / "docker-registry"), "serve", str(settings)], at / "log", connect, {}):
        yield address, certificate


def _registry(
    images: str,
    address: str,
    *,
    tls: Mapping[str, str] | None = None,
    auth: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """The settings of docker-registry(1): YAML, of which JSON is a part."""
    settings: dict[str, Any] = {"version": "0.1", "storage": {"filesystem": {"rootdirectory": images}}}
    settings["http"] = {"addr": address, **({"tls": tls} if tls else {})}
    return json.dumps({**settings, **({"auth": auth} if auth else {})})


def add_buildkit(root: Path, environment: dict[str, str]) -> None:
    """Give the client the plugin by which `docker build` uses BuildKit."""
    plugins = Path(environment["DOCKER_CONFIG"], "cli-plugins")
    plugins.mkdir(parents=True)
    _client(root, "usr/libexec/docker/cli-plugins/docker-buildx", plugins / "docker-buildx")


def _client(root: Path, program: str, at: Path) -> None:
    """Write the command ``at``: ``program`` of the tree, with the tree's own C library, on this machine."""
    loader = [root / "lib64/ld-linux-x86-64.so.2", "--library-path", root / "usr/lib/x86_64-linux-gnu"]
    line = shlex.join([*map(str, loader), str(root / program)])
    at.write_text(f'#!/bin/sh\nexec {line} "$@"\n')
    at.chmod(0o755)


@contextmanager
def _running(
    words: Sequence[str | Path], log: Path, asked: Sequence[str], environment: Mapping[str, str]
) -> Iterator[None]:
    """The daemon ``words``, once the command ``asked`` succeeds."""
    with log.open("w") as stream:
        daemon = subprocess.Popen(words, stdout=stream, stderr=stream)
    try:
        until = time.monotonic() + STARTS_IN
        while run(asked, env={**os.environ, **environment}, check=False).code:
            if daemon.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"{words[0]} does not answer:\n{log.read_text()[-3000:]}")
            time.sleep(0.5)
        yield
    finally:
        daemon.kill()
        daemon.wait()
