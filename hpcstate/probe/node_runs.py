"""What a node runs: the image of its disk, the configuration that lies there, the containers in its
registry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from hpcstate import programs
from hpcstate.errors import HpcstateError
from hpcstate.model.container import NAME, REGISTRY, VERSION

IMAGE = "/etc/hpcstate/image"
"""The file in which an image says which one it is. The last step of its build writes it
(packer/seed/seal.sh)."""

_IMAGE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,99}-[0-9a-f]{12}")
_FILE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<path>/.*)")
_CONTAINER = re.compile(
    rf"(?P<name>{NAME.pattern}) (?P<file>{NAME.pattern})-({VERSION.pattern})-(?P<digest>[0-9a-f]{{12}})\.sif"
)


class NodeRuns(TypedDict):
    """``image`` is its name and the first 12 digits of its key, empty where the image does not say;
    ``files`` has the sha256 of those that are there, by path; ``containers`` the first 12 digits of the
    sha256 of the current version, by name."""

    image: str
    files: dict[str, str]
    containers: dict[str, str]


def command(paths: Sequence[str], image: str = IMAGE, registry: str = REGISTRY) -> str:
    """The program node_runs.sh for the files ``paths``."""
    program = Path(__file__).with_name("node_runs.sh")
    return programs.command(program, arguments=[image, registry, *paths])


def parse(text: str) -> NodeRuns:
    """What ``command`` printed; nothing at all for no text.

    Raises HpcstateError for a line that it does not print: what a node says goes into Slurm and before
    people.
    """
    runs = NodeRuns(image="", files={}, containers={})
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "image" and _IMAGE.fullmatch(rest):
            runs["image"] = rest
        elif kind == "file" and (file := _FILE.fullmatch(rest)):
            runs["files"][file["path"]] = file["digest"]
        elif kind == "container" and (container := _CONTAINER.fullmatch(rest)):
            runs["containers"][container["name"]] = container["digest"]
        else:
            raise HpcstateError(
                f"this is nothing that a node runs: {line[:200]!r}",
                hint=f"the line of {IMAGE}, or a link in {REGISTRY} that no deploy made",
            )
    return runs
