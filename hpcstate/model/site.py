"""What a site adds to ours, or puts in its place: ``site`` of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Site:
    """``deploys`` are pyinfra's deploy files that run behind ours, in order: absolute path to text.
    ``templates`` are texts in the place of templates of ours, by the names of these (``base/motd.sh.j2``).
    """

    deploys: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.deploys or self.templates)
