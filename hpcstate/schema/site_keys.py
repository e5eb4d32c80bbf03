"""The keys of ``site``."""

from __future__ import annotations

from hpcstate.schema.declare import Keys, ListKey, ValueKey
from hpcstate.schema.leaf import LeafError


def own_path(value: str) -> str:
    """The path of a file or folder of the user's, relative to the cluster file or absolute."""
    if not value or not value.isprintable() or len(value) > 4096:
        raise LeafError("a path", "it is relative to the cluster file")
    return value


class SiteKeys(Keys, title="site"):
    deploys = ListKey(
        "a list of pyinfra's deploy files (`[site/monitoring.py]`), relative to this file, that run on each "
        "node behind all of ours, in this order",
        own_path,
    )
    templates = ValueKey(
        "a folder, relative to this file, whose files take the place of those of `templates/` with the "
        "same names (`base/motd.sh.j2`)",
        own_path,
        "",
    )
