"""Facts about apt. hpcstate.probe.apt describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import apt
from hpcstate.probe.apt import AptSources, AptVersions


class AptSourceEntries(ProbedFact[AptSources]):
    """Where the host's packages come from; ``root`` is put before each path."""

    command = staticmethod(apt.sources_command)
    parse = staticmethod(apt.parse_sources)


class AptPackageVersions(ProbedFact[dict[str, AptVersions]]):
    """Installed and installable versions of ``packages`` by name, by the package lists of the host."""

    command = staticmethod(apt.versions_command)
    parse = staticmethod(apt.parse_versions)
