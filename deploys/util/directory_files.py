"""The files of a directory of people, with what is read on this machine."""

from __future__ import annotations

from collections.abc import Mapping

from pyinfra.api.exceptions import DeployError

from deploys.util.context import Target
from hpcstate.errors import HpcstateError
from hpcstate.node import directory


def directory_files(this: Target) -> Mapping[str, tuple[str, str]]:
    """Path to content and mode on the node; none without a directory. Raises DeployError."""
    try:
        return {**directory.files(this.cluster, this.node), **directory.secrets(this.cluster)}
    except HpcstateError as error:
        raise DeployError(str(error)) from None
