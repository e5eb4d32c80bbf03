"""``site``: the user's own deploys and templates, read with the cluster file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from hpcstate import paths
from hpcstate.errors import HpcstateError
from hpcstate.model import Site
from hpcstate.schema.leaf import closest
from hpcstate.schema.section import Section
from hpcstate.schema.site_keys import SiteKeys

REPLACEABLE_FOLDERS = ("base", "slurm")

KEPT = frozenset(
    (
        "base/authorized_keys.j2",
        "base/data-bind.mount.j2",
        "base/data-volume.mount.j2",
        "base/homes.service.j2",
        "base/pam-sshd-login.j2",
        "base/quota.service.j2",
        "base/sssd.conf.j2",
        "base/sssd.service.j2",
        "base/storage.automount.j2",
        "base/storage.mount.j2",
        "base/sudoers.j2",
        "base/timer.service.j2",
        "base/timer.timer.j2",
        "slurm/gres.conf.j2",
        "slurm/msmtprc.j2",
    )
)
"""Templates of these folders that no site replaces: operations read back what they wrote of them, or they are
one thing with a program of ours."""


def replaceable() -> tuple[str, ...]:
    """The names of the templates that a site may replace: files of nodes. Not libvirt's, which carry the mark
    of their owner."""
    found = (path for folder in REPLACEABLE_FOLDERS for path in (paths.TEMPLATES / folder).iterdir())
    names = {path.relative_to(paths.TEMPLATES).as_posix() for path in found}
    return tuple(sorted(names - KEPT))


def read_site(section: Section, folder: Path) -> Site:
    """What ``site`` names, with the texts; paths are relative to ``folder``. What cannot be is reported."""
    deploys = {}
    for place, name in section.items(SiteKeys.deploys):
        path = (folder / name).absolute()
        text = _text(section, place, path)
        if text is None:
            continue
        if str(path) in deploys:
            section.report.error(place, f"{name} is there twice", "keep one of the two")
        try:
            ast.parse(text)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            where = f"line {line}: " if line else ""
            section.report.error(place, f"{name} is no Python: {where}{getattr(error, 'msg', error)}")
        deploys[str(path)] = text
    templates = section.value(SiteKeys.templates)
    return Site(deploys, dict(_templates(section, folder / templates)) if templates else {})


def _templates(section: Section, folder: Path) -> Iterator[tuple[str, str]]:
    # Jinja takes its time to load, and most files have no templates.
    from hpcstate.render import demand_syntax

    place, known = section.at(SiteKeys.templates), replaceable()
    if not folder.is_dir():
        section.report.error(place, f"there is no folder {folder}", "it is relative to the cluster file")
        return
    for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        name = path.relative_to(folder).as_posix()
        if name not in known:
            hint = closest(name, known)
            hint = f"{hint}; " if hint else ""
            section.report.error(
                place, f"{name} is no template that can be replaced", f"{hint}those are {', '.join(known)}"
            )
            continue
        text = _text(section, place, path)
        if text is None:
            continue
        try:
            demand_syntax(name, text)
        except HpcstateError as error:
            section.report.error(place, f"{name}: {error.message}", "it is a template of Jinja")
        yield name, text


def _text(section: Section, place: str, path: Path) -> str | None:
    """The text of a file of the user's; None, and reported, where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        section.report.error(place, f"{path} is no text in UTF-8")
    except OSError as error:
        section.report.error(place, f"{path}: {error.strerror}", "paths are relative to the cluster file")
    return None
