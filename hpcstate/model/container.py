"""Containers as declared: what containers/<name>/container.yaml builds, and what a cluster file deploys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from hpcstate.categories import Category

REGISTRY = "/opt/containers"
"""The registry, where containers lie on the nodes of a Slurm cluster: ``<category>/<name>.sif``."""

NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
"""What a container may be called."""

VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+]{0,31}")
"""A version has no hyphen, so that the name of a file of the registry can be taken apart again."""

Route = Literal["declared", "dockerfile", "definition", "converted"]
"""How a container is built: from Debian packages and wheels, from a Dockerfile, from an Apptainer definition,
or from an image or archive that somebody else built."""


@dataclass(frozen=True)
class ContainerTest:
    """One thing that a built container must be able to do before it counts as built.

    ``command`` runs in the container; a ``script`` (a file of the container's folder) follows as its last
    argument. ``ranks`` above 0 run it under the container's own mpirun. ``expect`` is a regular expression
    that its output must contain. ``needs_gpu`` tests run with ``--nv``, and only where a GPU is.
    ``timeout_s`` is in seconds.
    """

    name: str
    command: tuple[str, ...]
    script: str = ""
    ranks: int = 0
    expect: str = ""
    needs_gpu: bool = False
    timeout_s: int = 300


@dataclass(frozen=True)
class BuildSecret:
    """What a step of a Dockerfile may read by ``RUN --mount=type=secret,id=NAME``, and no image keeps: the
    content of ``file`` (absolute, or from ``~``), or the value of the variable ``environment`` of who builds.
    """

    name: str
    file: str = ""
    environment: str = ""


@dataclass(frozen=True)
class Container:
    """One container as declared in containers/<name>/container.yaml.

    Exactly one of ``release`` (a Debian release: the declared route), ``image`` (an address of a Docker or
    OCI image, with its digest) and ``archive`` (a docker-archive or oci-archive in the folder) is given,
    unless the folder has a Dockerfile or ``container.def``, which name their own base. ``wheels`` is a pip
    requirements file of the folder with hashes, installed for ``python`` (``3.11``); ``index`` is asked for
    those that the host's own package index does not have. ``exclude`` are patterns of paths below the root
    that are left out. ``entry_point`` is what ``apptainer run`` starts. ``size_limit_mb`` is in MB (10^6
    bytes).

    ``file`` is the Dockerfile or definition, below the folder. ``arguments`` are the build arguments of the
    one or the values of the other (``%arguments``); ``target`` is the stage of a Dockerfile that is built
    (empty: the last), ``secrets`` what its steps may read.
    """

    name: str
    version: str
    summary: str
    category: Category
    route: Route
    release: str = ""
    image: str = ""
    archive: str = ""
    package_names: tuple[str, ...] = ()
    wheels: str = ""
    index: str = ""
    python: str = ""
    exclude: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    entry_point: tuple[str, ...] = ()
    tests: tuple[ContainerTest, ...] = ()
    gpu: bool = False
    size_limit_mb: int = 5000
    file: str = ""
    arguments: tuple[tuple[str, str], ...] = ()
    target: str = ""
    secrets: tuple[BuildSecret, ...] = ()


@dataclass(frozen=True)
class ContainerSettings:
    """``containers`` of a Slurm cluster.

    ``deploy`` are names of containers that every node has in its registry. ``require_signature``: only what
    the project's key signed gets into the registry, and jobs run nothing else through Slurm.
    ``session_dir_mb`` is the size of what a running container may write outside its binds, in MiB
    (apptainer.conf, sessiondir max size).
    """

    deploy: tuple[str, ...] = ()
    require_signature: bool = True
    session_dir_mb: int = 64
