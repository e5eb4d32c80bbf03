"""A Docker engine for tests: Debian's, in a tree and in namespaces of its own, gone with the test.

The host's own engine, if it has one, is neither asked nor touched, and nothing is installed.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpcstate import paths, tools_root
from hpcstate.artifact import provide
from hpcstate.debian_tree import write_tar
from hpcstate.run import run
from hpcstate.store import Store
from hpcstate.trees import remove_tree, unpack

RELEASE = "trixie"
PACKAGES = ("containerd", "docker-buildx", "docker-cli", "docker.io", "iptables")

STARTS_IN = 60
"""Seconds that the engine has to answer; it takes two."""

_STATE = "/state"
"""Where the engine sees the folder of its images and its socket."""

_OPTIONS = ("--iptables=false", "--ip6tables=false")
"""The steps of the tests use no network, and this network has no rules to write."""


def tree(at: Path) -> Path:
    """The tree with Docker in it, unpacked below ``at``; its tar is made once and kept in the store."""
    tar = paths.BUILD / "test" / "docker" / "docker.tar"
    tar.parent.mkdir(parents=True, exist_ok=True)
    inputs = {"release": RELEASE, "packages": list(PACKAGES)}
    provide(tar, inputs, lambda target, _: write_tar(target, RELEASE, PACKAGES), store=Store.default())
    root = at / "root"
    root.mkdir()
    unpack(tar, root)
    return root


@contextmanager
def engine(root: Path, at: Path) -> Iterator[dict[str, str]]:
    """Docker of the tree ``root``, running; its images lie below ``at``. Yields the environment in which
    ``docker`` is its client. In a network of its own: it makes a bridge.

    The socket's path may have 107 bytes (unix(7)).
    """
    state, programs = at / "state", at / "programs"
    for folder in (state, programs):
        folder.mkdir(parents=True)
    words = ["dockerd", "--data-root", f"{_STATE}/images", "--exec-root", f"{_STATE}/run"]
    words += ["--pidfile", f"{_STATE}/pid", "--host", f"unix://{_STATE}/docker.sock", *_OPTIONS]
    entered = tools_root.entered(root, words, {state: _STATE})
    _client(root, "usr/bin/docker", programs / "docker")
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "DOCKER_HOST": f"unix://{state}/docker.sock",
        "DOCKER_CONFIG": str(at / "config"),
    }
    with (at / "log").open("w") as log:
        daemon = subprocess.Popen(["unshare", "--net", *entered], stdout=log, stderr=log)
    try:
        _wait(daemon, environment, at / "log")
        yield environment
    finally:
        daemon.kill()
        daemon.wait()
        remove_tree(state)


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


def _wait(daemon: subprocess.Popen[bytes], environment: dict[str, str], log: Path) -> None:
    until = time.monotonic() + STARTS_IN
    asked = ["docker", "version", "--format", "{{.Server.Version}}"]
    while run(asked, env={**os.environ, **environment}, check=False).code:
        if daemon.poll() is not None or time.monotonic() > until:
            raise AssertionError(f"the Docker engine does not answer:\n{log.read_text()[-3000:]}")
        time.sleep(0.5)
