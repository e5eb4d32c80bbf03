"""``containers`` of an hpc cluster: what its registry holds, and what may run."""

from __future__ import annotations

from hpcstate import paths
from hpcstate.model import ContainerSettings
from hpcstate.schema import keys, leaf
from hpcstate.schema.leaf import closest
from hpcstate.schema.section import Section, read


def read_containers(cluster: Section) -> ContainerSettings:
    """The section, its defaults where it is absent. A container that the project has not is reported."""
    section = cluster.section("containers", keys.CONTAINERS)
    known = tuple(paths.container_names())
    names: list[str] = []
    for place, value in section.entries("deploy"):
        name = read(section.report, place, value, leaf.CONTAINER_NAME, "")
        if not name:
            continue
        if name not in known:
            hint = closest(name, known) or f"the folders of containers/ are: {', '.join(known)}"
            section.report.error(place, f"there is no container {name!r}", hint)
        elif name in names:
            section.report.error(place, f"the container {name!r} is listed twice")
        else:
            names.append(name)
    default = ContainerSettings()
    return ContainerSettings(
        deploy=tuple(names),
        require_signature=section.value("require_signature", leaf.boolean, default.require_signature),
        session_dir_mb=section.value("session_dir_mb", leaf.integer(16, 1 << 20), default.session_dir_mb),
    )
