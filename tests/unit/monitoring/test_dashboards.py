"""Grafana's dashboards: what the code makes is what is deployed, Grafana's schema takes it, and each query of
each panel asks for what is really told.

The judges: Grafana's SDK (round trip), its JSON schema (recorded/dashboard.schema.json: jsonschema/dashboard
of grafana/grafana-foundation-sdk at f178d5a4, Apache-2.0, without descriptions), and a real Prometheus that
asks recorded answers of our exporters, node exporter and dcgm-exporter.

recorded/node.txt is of Debian 13's node exporter 1.9, shortened, with units as its collector tells them.
recorded/dcgm_h100.txt is of an H100's dcgm-exporter (NVIDIA/aicr, docs/conformance/cncf/evidence,
Apache-2.0), dcgm_blank.txt of the README of NVIDIA/dcgm-exporter (Apache-2.0).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hpcstate.monitoring import dashboards, foreign, server
from hpcstate.monitoring.panels import WIDTH
from tests.unit.monitoring.asked import ON, RECORDED, Watching, expression, known_names, names_of, watching
from tests.unit.monitoring.watched import cluster as watched

__all__ = ["watching"]

BOARDS = {
    name: json.loads((dashboards.FOLDER / f"{name}.json").read_text()) for name in foreign.DASHBOARD_NAMES
}


def panels(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Title and target of each query of each panel."""
    return [(panel["title"], target) for panel in panels(board) for target in panel["targets"]]


ALL = [
    pytest.param(target, id=f"{name} {title} {target['refId']}".replace(" ", "_"))
    for name, board in BOARDS.items()
    for title, target in queries(board)
]


@pytest.mark.parametrize("name", foreign.DASHBOARD_NAMES)
def test_the_files_are_what_the_code_makes(name: str) -> None:
    """Else: python -m hpcstate.monitoring.dashboards"""
    assert (dashboards.FOLDER / f"{name}.json").read_text() == dashboards.text(name)
    assert (
        set(dashboards.BOARDS)
        == set(foreign.DASHBOARD_NAMES)
        == {path.stem for path in dashboards.FOLDER.glob("*")}
    )


@pytest.mark.parametrize("name", BOARDS)
def test_grafanas_sdk_reads_what_it_wrote(name: str) -> None:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    again = JSONEncoder().encode(Dashboard.from_json(BOARDS[name]))
    assert json.loads(again) == BOARDS[name]


def faults(value: Any, schema: Mapping[str, Any], whole: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """What ``value`` breaks of ``schema``: the words of JSON Schema (draft 7) that Grafana's uses."""
    known = {"$ref", "type", "properties", "required", "items", "anyOf", "allOf", "enum", "const"}
    known |= {
        *("oneOf", "minLength", "format"),
        "deprecated",
        "x-deprecation-message",
        "additionalProperties",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "minimum",
        "maximum",
        "definitions",
        "$schema",
    }
    assert set(schema) <= known, f"{at}: {set(schema) - known}"
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/definitions/")
        yield from faults(value, whole["definitions"][name], whole, at)
        return
    for each in schema.get("allOf", ()):
        yield from faults(value, each, whole, at)
    if "anyOf" in schema and all(list(faults(value, each, whole, at)) for each in schema["anyOf"]):
        yield f"{at}: none of {len(schema['anyOf'])} kinds"
    if (
        "oneOf" in schema
        and [not list(faults(value, each, whole, at)) for each in schema["oneOf"]].count(True) != 1
    ):
        yield f"{at}: not one of {len(schema['oneOf'])} kinds"
    if len(value) < schema.get("minLength", 0) if isinstance(value, str) else False:
        yield f"{at}: {value!r} is too short"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{at}: {value!r} is not {schema['const']!r}"
    kinds: dict[str, type | tuple[type, ...]] = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "null": type(None),
        "integer": int,
        "number": (int, float),
    }
    wanted = schema.get("type")
    if wanted and (
        not isinstance(value, kinds[wanted]) or (isinstance(value, bool) and wanted in ("integer", "number"))
    ):
        yield f"{at}: {value!r} is no {wanted}"
        return
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        yield f"{at}: {value} is too little"
    if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        yield f"{at}: {value} is too much"
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from faults(item, schema["items"], whole, f"{at}[{number}]")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        yield from (f"{at}: {key} is missing" for key in schema.get("required", ()) if key not in value)
        for key, item in value.items():
            other = schema.get("additionalProperties", True)
            if key in properties:
                yield from faults(item, properties[key], whole, f"{at}.{key}")
            elif other is False:
                yield f"{at}: {key} is not known"
            elif isinstance(other, dict):
                yield from faults(item, other, whole, f"{at}.{key}")


SCHEMA = json.loads((RECORDED / "dashboard.schema.json").read_text())


@pytest.mark.parametrize("name", BOARDS)
def test_grafanas_schema_takes_it(name: str) -> None:
    assert list(faults(BOARDS[name], SCHEMA, SCHEMA)) == []


@pytest.mark.parametrize(
    "change",
    [{"schemaVersion": "42"}, {"colour": 1}, {"tags": "hpcstate"}, {"graphTooltip": 7}, {"time": {}}],
)
def test_the_schema_refuses_what_is_none(change: dict[str, Any]) -> None:
    assert list(faults({**BOARDS["job"], **change}, SCHEMA, SCHEMA))


@pytest.mark.parametrize("name", BOARDS)
def test_panels_have_a_place_of_their_own(name: str) -> None:
    board = BOARDS[name]
    assert board["uid"] == f"hpcstate-{name}"
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= WIDTH
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


def test_a_cluster_gets_those_that_it_has_something_for(tmp_path: Path) -> None:
    def names(text: str) -> set[str]:
        return {Path(path).stem for path in foreign.dashboards(watched(tmp_path, text))}

    assert names("    monitoring: {enabled: true}\n") == set()
    without = names("    monitoring: {enabled: true, dashboards: true}\n")
    assert names(ON) - without == {"hpcstate-gpu"}


def test_each_query_asks_for_what_an_exporter_of_ours_or_debians_tells(tmp_path: Path) -> None:
    known = known_names(watched(tmp_path, ON), tmp_path)
    asked = {
        name: {each for _, t in queries(board) for each in names_of(expression(t))}
        for name, board in BOARDS.items()
    }
    assert {name: found - known for name, found in asked.items() if found - known} == {}
    assert all(asked.values())


def test_each_variable_and_each_recording_rule_asks_for_what_is_told(tmp_path: Path) -> None:
    of = watched(tmp_path, ON)
    known = known_names(of, tmp_path)
    for board in BOARDS.values():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
                assert found is not None and names_of(found[1]) <= known
    rules = server.rules(of)["/etc/hpcstate/monitoring/rules/gpus.yml"]
    lines = [line.strip() for line in rules.splitlines() if not line.strip().startswith("#")]
    asked = re.findall(r"expr: (?:>- )?(.*?)(?= - record|$)", " ".join(lines))
    # The older name of a field that we do not ask for.
    older = {"DCGM_FI_DEV_CLOCK_THROTTLE_REASONS"}
    assert len(asked) == rules.count("record: ")
    assert {name for query in asked for name in names_of(query)} <= known | older


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (
            'sum by (a, b) (rate(x_total{y="z}"}[5m])) / on (c) group_left (d) e:f > bool 1e9',
            {"x_total", "e:f"},
        ),
        ("time() - w or vector(0)", {"w"}),
        ("a unless on (b) c % 2", {"a", "c"}),
    ],
)
def test_the_names_of_a_query_are_found(query: str, names: set[str]) -> None:
    assert names_of(query) == names


def test_a_query_with_a_bracket_too_few_is_none() -> None:
    with pytest.raises(ValueError, match="missing"):
        names_of("sum(rate(x[5m])")


@pytest.mark.parametrize("target", ALL)
def test_a_panel_has_data(watching: Watching, target: dict[str, Any]) -> None:
    assert watching.wait_for(target), expression(target)


def test_what_dcgm_does_not_know_is_no_value(watching: Watching) -> None:
    """Its blank is 9223372036854775794."""
    raw = watching.ask({"expr": 'DCGM_FI_DEV_MEMORY_TEMP{instance="gpu-node-1"}', "instant": True})
    assert [float(each["value"][1]) > 9e18 for each in raw] == [True]
    for name in ("gpu:memory_temperature_celsius", "gpu:utilization", "gpu:memory_bytes"):
        rows = watching.ask({"expr": f"{name} > 1e15", "instant": True})
        assert rows == []


def test_the_node_is_told_by_one_label(watching: Watching) -> None:
    (row, *_) = watching.ask({"expr": 'DCGM_FI_DEV_GPU_TEMP{job="dcgm"}', "instant": True})
    assert row["metric"]["instance"] == "gpu-node-1"
    assert not {"Hostname", "hostname"} & row["metric"].keys()
