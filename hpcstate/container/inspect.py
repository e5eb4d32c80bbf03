"""What a .sif says of itself, by spython: its labels, environment, entry point and definition.

spython is used for this and not for running commands or for building: its `execute` returns a text without
the exit code, `build` returns None when it fails, and its reader of definitions drops what it does not know
(0.3.14).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcstate.container.toolbox import Toolbox
from hpcstate.errors import HpcstateError

_SIF = "/image.sif"
_EXPORT = re.compile(r"^\s*export (\w+)=(.*)$", re.MULTILINE)

_ASSIGNED = re.compile(r"(?:^|[\s;&({])(\w+)\+?=|\bunset\s+(?:-\w\s+)?(\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Inspection:
    """``environment`` is what the definition sets, as written; ``runscript`` what `apptainer run` starts;
    ``set_by_the_definition`` are the names that an ``%environment`` may set.
    """

    labels: dict[str, str]
    environment: dict[str, str]
    runscript: str
    definition: str
    set_by_the_definition: frozenset[str] = frozenset()


def inspect(target: Path, toolbox: Toolbox) -> Inspection:
    """What ``target`` says of itself. Raises HpcstateError when Apptainer cannot read it."""
    from spython.main import get_client

    binds = {target: _SIF}
    client = get_client(quiet=True)
    # It would call `singularity` of PATH.
    client._init_command = lambda action, flags=None: [
        str(word) for word in toolbox.words(["apptainer", "--silent", action, *(flags or [])], binds)
    ]
    found: dict[str, Any] = client.inspect(toolbox.at(target, binds))
    try:
        return parse(found["attributes"])
    except (KeyError, TypeError, AttributeError) as error:
        said = " ".join(map(str, found.get("message", ()))).strip() if isinstance(found, dict) else str(found)
        raise HpcstateError(f"Apptainer cannot inspect it: {said or error}", where=str(target)) from error


def parse(attributes: dict[str, Any]) -> Inspection:
    """The attributes of `apptainer inspect --json`. Raises what Python does where they have another shape."""
    exported = "\n".join((attributes.get("environment") or {}).values())
    return Inspection(
        labels=dict(attributes["labels"] or {}),
        environment=dict(_EXPORT.findall(exported)),
        runscript=attributes.get("runscript", "").removeprefix("#!/bin/sh").strip(),
        definition=attributes.get("deffile", ""),
        set_by_the_definition=frozenset(
            name
            for file, text in (attributes.get("environment") or {}).items()
            if not file.endswith("/10-docker2singularity.sh")
            for found in _ASSIGNED.findall(text)
            for name in filter(None, found)
        ),
    )
