"""The renderer refuses what it cannot render."""

from __future__ import annotations

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.render import render


def test_a_name_without_a_value_is_an_error_that_names_the_template() -> None:
    with pytest.raises(HpcstateError, match=r"templates/base/hosts\.j2: 'nodes' is undefined"):
        render("base/hosts.j2", cluster_name="c")


def test_a_template_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(HpcstateError, match=r"no template 'base/none\.j2'"):
        render("base/none.j2")
