"""Templates to text: Jinja, where a name that has no value is an error and never an empty string."""

from __future__ import annotations

from functools import cache

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateNotFound,
    UndefinedError,
    select_autoescape,
)

from hpcstate import paths
from hpcstate.errors import HpcstateError


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

    Raises HpcstateError when the template does not exist, or uses a name that ``values`` lacks.
    """
    try:
        return _environment().get_template(template).render(**values)
    except TemplateNotFound as error:
        raise HpcstateError(f"there is no template {error.name!r}", where=str(paths.TEMPLATES)) from error
    except UndefinedError as error:
        raise HpcstateError(f"{error.message}", where=f"templates/{template}") from error
