"""Templates to text: Jinja, where a name that has no value is an error and never an empty string.

A site may put templates of its own in the place of ours. They are texts that its cluster has; ``of_site``
marks the functions that render for a cluster, which is their first argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cache, wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
    select_autoescape,
)

from hpcstate import paths
from hpcstate.errors import HpcstateError


class OfSite(Protocol):
    """A cluster, as far as templates go."""

    @property
    def templates(self) -> Mapping[str, str]:
        """Names of templates of ours, to the texts in their place."""


C = TypeVar("C", bound=OfSite)
P = ParamSpec("P")
R = TypeVar("R")

_NONE: Mapping[str, str] = {}
_replaced: ContextVar[Mapping[str, str]] = ContextVar("replaced", default=_NONE)


def of_site(function: Callable[Concatenate[C, P], R]) -> Callable[Concatenate[C, P], R]:
    """``function`` with the templates of the cluster that is its first argument, while it runs."""

    @wraps(function)
    def with_templates(cluster: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
        before = _replaced.set(cluster.templates)
        try:
            return function(cluster, *args, **kwargs)
        finally:
            _replaced.reset(before)

    return with_templates


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(paths.TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=select_autoescape(["html.j2"], default=False),
    )


def render(template: str, **values: object) -> str:
    """The text of ``templates/<template>`` with ``values``; it ends with a newline as the template does.

    Within a function that is ``of_site``, the text of the cluster's site of that name takes its place. Raises
    HpcstateError when the template does not exist, uses a name that ``values`` lacks, or is a site's that
    fails.
    """
    if (text := _replaced.get().get(template)) is not None:
        return _render_site(template, text, values)
    try:
        return _environment().get_template(template).render(**values)
    except TemplateNotFound as error:
        raise HpcstateError(f"there is no template {error.name!r}", where=str(paths.TEMPLATES)) from error
    except UndefinedError as error:
        raise HpcstateError(f"{error.message}", where=f"templates/{template}") from error


def demand_syntax(name: str, text: str) -> None:
    """Raises HpcstateError, with the line, where ``text`` is no template of Jinja."""
    _compiled(name, text)


@cache
def _compiled(name: str, text: str) -> Template:
    try:
        return _environment().from_string(text)
    except TemplateSyntaxError as error:
        raise HpcstateError(
            f"line {error.lineno}: {error.message}", where=f"site.templates: {name}"
        ) from error


def _render_site(name: str, text: str, values: Mapping[str, object]) -> str:
    """A template of a site is somebody's own program: whatever it stops at is said as its mistake."""
    template = _compiled(name, text)
    try:
        return template.render(**values)
    except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise HpcstateError(
            f"{error}", where=f"site.templates: {name}", hint=f"templates/{name} shows what it is given"
        ) from error
