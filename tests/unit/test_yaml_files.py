"""YAML files with a schema: what is wrong with one is said in one line, with its place."""

from __future__ import annotations

import pytest
import strictyaml as sy

from hpcstate import yaml_files as strict_yaml
from hpcstate.errors import HpcstateError

SCHEMA = sy.Map({"schema": sy.Int(), sy.Optional("names"): sy.Seq(sy.Str())})


def test_data() -> None:
    assert strict_yaml.load("schema: 1\nnames:\n- a\n", SCHEMA, where="f") == {
        "schema": 1,
        "names": ["a"],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema: many\n", "f:1: when expecting an integer, found arbitrary text"),
        ("names:\n- a\n", "f:2: while parsing a mapping, required key(s) 'schema' not found"),
        ("schema: 1\nother: 2\n", "f:2: while parsing a mapping, unexpected key not in schema 'other'"),
        ("schema: 1\nschema: 2\n", "f:2: While parsing, Duplicate key 'schema' found"),
        ("schema: 1\n\na:  - b\n", "f:3: sequence entries are not allowed here"),
        ("schema: 1\nnames: [a]\n", "f:2: While scanning, Found ugly disallowed JSONesque flow mapping"),
        (
            "names:\n- " + "long " * 40 + "\n- b\nschema: x\n",
            "f:4: when expecting an integer, found arbitrary text",
        ),
        ("schema: 1\n\n\n# why\nnames: no list\n", "f:5: when expecting a sequence"),
        ('schema: "\\UFFFFFFFF"\n', "f: not valid YAML: "),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, said: str) -> None:
    with pytest.raises(HpcstateError) as caught:
        strict_yaml.load(text, SCHEMA, where="f", hint="look at g")
    assert str(caught.value).startswith(said)
    assert str(caught.value).endswith("\n  hint: look at g")
    assert "\n" not in caught.value.message


def test_flow_style_where_it_is_allowed() -> None:
    found = strict_yaml.load("{schema: 1, names: [a]}", SCHEMA, where="f", flow_style=True)
    assert found == {"schema": 1, "names": ["a"]}
