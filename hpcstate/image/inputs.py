"""What an image is made of: the inputs of its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpcstate import paths, programs
from hpcstate.digest import file_digests, key_of
from hpcstate.errors import HpcstateError
from hpcstate.image import seed
from hpcstate.image.declared import PACKER, ImageSpec
from hpcstate.image.imports import imported_files
from hpcstate.node import apptainer_files
from hpcstate.node.base_files import image_files

VERSION = 1
"""Raise it when the code that builds images changes what comes out."""


def input_files(spec: ImageSpec) -> list[Path]:
    """The files that decide what the deploy does to the image: its code as imported, the programs that this
    runs there, and what boots and seals the build.
    """
    code = imported_files(paths.ROOT / spec.deploy, paths.ROOT, ("deploys", "operations", "facts"))
    replace = paths.ROOT / "hpcstate" / programs.REPLACE.name  # by which the operations write every file
    return [*code, replace, PACKER / "image.pkr.hcl", PACKER / "seed" / "seal.sh"]


def inputs(spec: ImageSpec) -> dict[str, Any]:
    """What the image of ``spec`` is made of, for its key: the seed's key, the deploy's code, and the rendered
    files of an image (the text, not the templates: one that is not in an image changes no key).

    Raises HpcstateError when a file is missing.
    """
    rendered = dict(image_files())
    if "compute" in spec.groups:  # deploys/containers.py does nothing elsewhere
        rendered |= apptainer_files.image_files()
    try:
        files = file_digests(input_files(spec), paths.ROOT)
    except FileNotFoundError as error:
        raise HpcstateError(
            "a file that goes into the image is missing", where=str(error.filename), hint=f"see {spec.deploy}"
        ) from error
    return {
        "builder": VERSION,
        "seed": key_of(seed.inputs(spec)),
        "groups": sorted(spec.groups),
        "files": files,
        "rendered": key_of(rendered),
    }
