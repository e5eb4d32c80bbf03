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
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from hpcstate.model import Cluster
from hpcstate.monitoring import dashboards, files, gpu_exporter, job_exporter, slurm_exporter
from hpcstate.monitoring.exporter import Sample
from tests.unit.monitoring.test_job_exporter import FILES, grow
from tests.unit.monitoring.watched import cluster as watched

HERE = Path(__file__).parent
RECORDED = HERE / "recorded"
ON = """    monitoring: {enabled: true, gpus: true, dashboards: true}
    backup: {every: daily, path: /srv/backups}
"""
PROMETHEUS = os.environ.get("HPCSTATE_PROMETHEUS") or shutil.which("prometheus")
BOARDS = {
    name: json.loads((dashboards.FOLDER / f"{name}.json").read_text()) for name in files.DASHBOARD_NAMES
}
PROMETHEUS_OWN = {
    "up",
    "ALERTS",
    "prometheus_tsdb_head_series",
    "prometheus_tsdb_storage_blocks_bytes",
    "prometheus_tsdb_wal_storage_size_bytes",
}
"""What Prometheus tells of itself (2.53)."""

RATE_INTERVAL = "1m"


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


def expression(target: Mapping[str, Any]) -> str:
    """The query as Grafana would ask it, with all nodes and a job that runs."""
    text = str(target["expr"])
    for variable, value in (("$__rate_interval", RATE_INTERVAL), ("$node", ".*"), ("$jobid", "3029")):
        text = text.replace(variable, value)
    assert "$" not in text
    return text


# The files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", files.DASHBOARD_NAMES)
def test_the_files_are_what_the_code_makes(name: str) -> None:
    """Else: python -m hpcstate.monitoring.dashboards"""
    assert (dashboards.FOLDER / f"{name}.json").read_text() == dashboards.text(name)
    assert (
        set(dashboards.BOARDS)
        == set(files.DASHBOARD_NAMES)
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
    kinds = {
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
        assert place["x"] + place["w"] <= dashboards.WIDTH
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


def test_a_cluster_gets_those_that_it_has_something_for(tmp_path: Path) -> None:
    def names(text: str) -> set[str]:
        return {Path(path).stem for path in files.dashboards(watched(tmp_path, text))}

    assert names("    monitoring: {enabled: true}\n") == set()
    without = names("    monitoring: {enabled: true, dashboards: true}\n")
    assert names(ON) - without == {"hpcstate-gpu"}


# Their queries: always -----------------------------------------------------------------------------------


def text_of(samples: Iterable[Sample]) -> str:
    """As an exporter prints them."""
    found = []
    for name, value, labels in samples:
        inner = ",".join(f"{key}={json.dumps(text)}" for key, text in labels)
        found.append(f"{name}{{{inner}}} {float(value)!r}" if inner else f"{name} {float(value)!r}")
    return "\n".join(found) + "\n"


def told(of: Cluster, folder: Path) -> dict[tuple[str, str, str], str]:
    """What is told, by job of Prometheus', node and role: what real programs said once, through our exporters
    where they made it."""
    slurm = [
        *slurm_exporter.jobs((HERE / "squeue.txt").read_text()),
        *slurm_exporter.nodes((HERE / "sinfo.txt").read_text(), lambda text: 7.0),
        *slurm_exporter.scheduler((HERE / "sdiag.json").read_text()),
    ]
    for command in slurm_exporter.COMMANDS:
        labels = (("command", command),)
        slurm += [
            Sample("hpcstate_slurm_answers", 1, labels),
            Sample("hpcstate_slurm_asked_seconds", 0.1, labels),
        ]
    jobs = folder / "cgroup"
    grow(jobs, "job_3029", FILES)
    node = (RECORDED / "node.txt").read_text()
    devices = folder / "dev"
    devices.mkdir()
    (devices / "nvidia0").touch()
    real = [
        *gpu_exporter.gpus((RECORDED / "smi_a100_mig_535.xml").read_text()),
        Sample("hpcstate_gpu_xids_total", 0, (("pci_bus_id", "00000000:01:00.0"),)),
        *(Sample("hpcstate_gpu_answers", 1, (("command", name),)) for name in ("nvidia-smi", "journalctl")),
    ]
    found = {
        ("slurm", "controller", "controller"): text_of(slurm),
        ("cgroup", "compute-01", "compute"): text_of(job_exporter.ask(jobs)),
        ("gpu", "compute-01", "compute"): text_of(real),
        ("gpu", "compute-02", "compute"): text_of(gpu_exporter.simulated(devices)),
        ("gpu", "gpu-node-2", "compute"): text_of(
            gpu_exporter.gpus((RECORDED / "smi_blackwell_590.xml").read_text())
        ),
        ("dcgm", "gpu-node-1", "compute"): "".join(
            (RECORDED / f"dcgm_{name}.txt").read_text() for name in ("h100", "blank")
        ),
    }
    for each in of.nodes:
        own = files.static_metrics(of, each, 1_900_000_000)
        if each is of.controller:
            own += files.backup_metrics(1_790_000_000)
        found["node", each.name, each.role] = node + own
    return found


KEYWORDS = {
    "and",
    "or",
    "unless",
    "bool",
    "by",
    "on",
    "ignoring",
    "without",
    "group_left",
    "group_right",
    "offset",
}


def names_of(query: str) -> set[str]:
    """The metrics of a query. Raises ValueError for brackets that do not match."""
    text = re.sub(r'"(?:[^"\\]|\\.)*"', '""', query)
    depth: list[str] = []
    for letter in text:
        if letter in "([{":
            depth.append({"(": ")", "[": "]", "{": "}"}[letter])
        elif letter in ")]}" and (not depth or depth.pop() != letter):
            raise ValueError(f"{letter} closes nothing in {query}")
    if depth:
        raise ValueError(f"{depth[-1]} is missing in {query}")
    text = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", text)
    text = re.sub(r"\b(\w+) (?:by|without) \([^)]*\)\s*\(", r"\1(", text)
    text = re.sub(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\([^)]*\)", " by ", text)
    words = re.findall(r"(?<![\w.:])([A-Za-z_][\w:]*)(?!\w)(\s*\()?", text)
    return {
        word for word, call in words if not call and word not in KEYWORDS and not re.fullmatch(r"e\d+", word)
    }


def known_names(of: Cluster, folder: Path) -> set[str]:
    found = set(PROMETHEUS_OWN)
    for text in told(of, folder).values():
        found |= set(re.findall(r"(?m)^([A-Za-z_]\w*)[{ ]", text))
    for text in files.rules(of).values():
        found |= set(re.findall(r"record: (\S+)", text))
    # What dcgm-exporter is asked for.
    return found | set(
        re.findall(r"\bDCGM_\w+", (files.TEMPLATES / "monitoring" / "dcgm.csv.j2").read_text())
    )


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
    rules = files.rules(of)["/etc/hpcstate/monitoring/rules/gpus.yml"]
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


# Their queries: by a real Prometheus ---------------------------------------------------------------------


class Watching:
    """A Prometheus that watches what is recorded."""

    def __init__(self, at: str) -> None:
        self._at = at

    def ask(self, target: Mapping[str, Any]) -> list[Any]:
        """The series of a panel's query. Fails with Prometheus' words where it is none."""
        words = {"query": expression(target)}
        path = "query"
        if not target.get("instant"):
            now = time.time()
            words |= {"start": str(now - 10), "end": str(now), "step": "1"}
            path = "query_range"
        url = f"{self._at}/api/v1/{path}?{urllib.parse.urlencode(words)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as said:
                return list(json.load(said)["data"]["result"])
        except urllib.error.HTTPError as error:
            pytest.fail(f"{words['query']}: {error.read().decode()}")

    def ready(self) -> bool:
        try:
            return all(
                len(self.ask({"expr": query, "instant": True})) >= least
                for query, least in (
                    ("rate(node_load1[1m])", 2),
                    ("job:cpus_used", 1),
                    ("gpu:slowed", 1),
                    ("instance:gpus_answering", 1),
                    ("rate(prometheus_tsdb_head_series[1m])", 1),
                    ('ALERTS{alertstate="firing"}', 1),
                )
            )
        except OSError:
            return False


def configuration(asked: Iterable[tuple[str, str, str]], at: str, own: str) -> str:
    """Prometheus' file, in JSON, which is YAML too."""
    jobs: dict[str, dict[str, Any]] = {}
    for job, node, role in [*asked, ("prometheus", "controller", "controller")]:
        labels = {"instance": node, "role": role}
        if job != "prometheus":
            labels["__metrics_path__"] = f"/{job}/{node}"
        targets = {"targets": [own if job == "prometheus" else at], "labels": labels}
        jobs.setdefault(job, {"job_name": job, "static_configs": []})["static_configs"].append(targets)
    for job in ("gpu", "dcgm"):
        jobs[job]["metric_relabel_configs"] = [{"action": "labeldrop", "regex": "Hostname|hostname"}]
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    return json.dumps({"global": every, "rule_files": ["rules/*.yml"], "scrape_configs": list(jobs.values())})


@pytest.fixture(scope="module")
def watching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watching]:
    if PROMETHEUS is None:
        pytest.skip("prometheus is not installed here (HPCSTATE_PROMETHEUS names one elsewhere)")
    folder = tmp_path_factory.mktemp("watching")
    of = watched(folder, ON)
    found = told(of, folder)
    answers = {f"/{job}/{node}": text for (job, node, _), text in found.items()}

    class Exporters(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = answers[self.path].encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Exporters)
    Thread(target=server.serve_forever, daemon=True).start()
    with ThreadingHTTPServer(("127.0.0.1", 0), Exporters) as free:
        port = free.server_address[1]
    own = f"127.0.0.1:{server.server_address[1]}"
    text = configuration(found, own, f"127.0.0.1:{port}")
    (folder / "prometheus.yml").write_text(text)
    (folder / "rules").mkdir()
    for path, rules in files.rules(of).items():
        (folder / "rules" / Path(path).name).write_text(re.sub(r"interval: \d+s", "interval: 1s", rules))
    command = PROMETHEUS.split()
    with (folder / "log").open("w") as log:
        program = subprocess.Popen(
            [
                *command,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        watcher = Watching(f"http://127.0.0.1:{port}")
        limit = time.monotonic() + 90
        while not watcher.ready():
            assert program.poll() is None and time.monotonic() < limit, (folder / "log").read_text()[-3000:]
            time.sleep(1)
        yield watcher
    finally:
        program.terminate()
        program.wait(20)
        server.shutdown()


@pytest.mark.parametrize("target", ALL)
def test_a_panel_has_data(watching: Watching, target: dict[str, Any]) -> None:
    assert watching.ask(target), expression(target)


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
