"""What an image is made of: the inputs of its key."""

from __future__ import annotations

import hashlib
from typing import Any

from hpcstate import paths
from hpcstate.artifact.imports import DEPLOYED, SHOWS_ONLY, code_of, digests, imported_files
from hpcstate.errors import HpcstateError
from hpcstate.image import seed
from hpcstate.image.declared import PACKER, ImageSpec
from hpcstate.node import apptainer_files, base_files


def inputs(spec: ImageSpec) -> dict[str, Any]:
    """What the image of ``spec`` is made of, for its key: the code that makes it, the seed's key, what boots
    and seals the build, the deploy's code, and the rendered files of an image (the text, not the templates:
    one that is not in an image changes no key).

    Raises HpcstateError when a file is missing.
    """
    rendered = dict(base_files.image_files())
    if "compute" in spec.groups:  # elsewhere there are no containers, and no daemons of Slurm
        rendered |= base_files.service_files()
        rendered |= apptainer_files.image_files()
    try:
        deploy = digests(
            imported_files([paths.ROOT / spec.deploy], paths.ROOT, DEPLOYED, SHOWS_ONLY), paths.ROOT
        )
        files = digests([PACKER / "image.pkr.hcl", PACKER / "seed" / "seal.sh"], paths.ROOT)
    except FileNotFoundError as error:
        raise HpcstateError(
            "a file that goes into the image is missing", where=str(error.filename), hint=f"see {spec.deploy}"
        ) from error
    return {
        "code": code_of("hpcstate.image.packer"),
        "seed": seed.recipe(spec).key,
        "groups": sorted(spec.groups),
        "files": files,
        "deploy": deploy,
        "rendered": {path: hashlib.sha256(text.encode()).hexdigest() for path, text in rendered.items()},
    }
