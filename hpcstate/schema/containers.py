"""``containers`` of an hpc cluster: what its registry holds, and what may run."""

from __future__ import annotations

from hpcstate import paths
from hpcstate.model import ContainerSettings
from hpcstate.schema.keys import ContainersKeys, HpcKeys
from hpcstate.schema.leaf import closest
from hpcstate.schema.section import Section


def read_containers(cluster: Section) -> ContainerSettings:
    """The section, its defaults where it is absent. One that the project does not have is reported."""
    section = cluster.section(HpcKeys.containers)
    known = tuple(paths.container_names())
    names: list[str] = []
    for place, name in section.items(ContainersKeys.deploy):
        if name not in known:
            hint = closest(name, known) or f"the folders of containers/ are: {', '.join(known)}"
            section.report.error(place, f"there is no container {name!r}", hint)
        elif name in names:
            section.report.error(place, f"the container {name!r} is listed twice")
        else:
            names.append(name)
    return ContainerSettings(
        deploy=tuple(names),
        require_signature=section.value(ContainersKeys.require_signature),
        session_dir_mb=section.value(ContainersKeys.session_dir_mb),
    )
