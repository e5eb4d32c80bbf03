"""What exporters told once, a real Prometheus that asks for it, and the names of metrics in a query."""

from __future__ import annotations

import json
import re
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
from hpcstate.monitoring import gpu_exporter, job_exporter, known_metrics, server, slurm_exporter
from hpcstate.monitoring.exporter import Sample
from hpcstate.monitoring.page import page
from hpcstate.paths import TEMPLATES
from tests.unit.monitoring.judges import chart_library, program_of
from tests.unit.monitoring.test_job_exporter import FILES, grow
from tests.unit.monitoring.watched import cluster as watched

HERE = Path(__file__).parent

RECORDED = HERE / "recorded"

ON = """    monitoring: {enabled: true, gpus: true, dashboards: true}
    backup: {every: daily, path: /srv/backups}
"""

PROMETHEUS = program_of("prometheus")

PROMETHEUS_OWN = {
    "up",
    "ALERTS",
    "prometheus_tsdb_head_series",
    "prometheus_tsdb_storage_blocks_bytes",
    "prometheus_tsdb_wal_storage_size_bytes",
}

"""What Prometheus tells of itself (2.53)."""

RATE_INTERVAL = "1m"


def expression(target: Mapping[str, Any]) -> str:
    """The query as Grafana would ask it, with all nodes and a job that runs."""
    text = str(target["expr"])
    for variable, value in (("$__rate_interval", RATE_INTERVAL), ("$node", ".*"), ("$jobid", "3029")):
        text = text.replace(variable, value)
    assert "$" not in text
    return text


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
        own = known_metrics.static_metrics(of, each, 1_900_000_000)
        if each is of.controller:
            own += known_metrics.backup_metrics(1_790_000_000)
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
    for text in server.rules(of).values():
        found |= set(re.findall(r"record: (\S+)", text))
    # What dcgm-exporter is asked for.
    return found | set(re.findall(r"\bDCGM_\w+", (TEMPLATES / "monitoring" / "dcgm.csv.j2").read_text()))


class Watching:
    """A Prometheus that watches what is recorded. ``consoles`` is its folder of pages."""

    def __init__(self, at: str, consoles: Path) -> None:
        self.at, self.consoles = at, consoles

    def ask(self, target: Mapping[str, Any]) -> list[Any]:
        """The series of a panel's query. Fails with Prometheus' words where it is none."""
        words = {"query": expression(target)}
        path = "query"
        if not target.get("instant"):
            now = time.time()
            words |= {"start": str(now - 10), "end": str(now), "step": "1"}
            path = "query_range"
        url = f"{self.at}/api/v1/{path}?{urllib.parse.urlencode(words)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as said:
                return list(json.load(said)["data"]["result"])
        except urllib.error.HTTPError as error:
            pytest.fail(f"{words['query']}: {error.read().decode()}")

    def wait_for(self, target: Mapping[str, Any]) -> list[Any]:
        """The same; on a busy machine a scrape may be late, and what has no data has none a minute later."""
        deadline = time.monotonic() + 60
        while not (found := self.ask(target)) and time.monotonic() < deadline:
            time.sleep(1)
        return found

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

    exporters = ThreadingHTTPServer(("127.0.0.1", 0), Exporters)
    Thread(target=exporters.serve_forever, daemon=True).start()
    with ThreadingHTTPServer(("127.0.0.1", 0), Exporters) as free:
        port = free.server_address[1]
    own = f"127.0.0.1:{exporters.server_address[1]}"
    text = configuration(found, own, f"127.0.0.1:{port}")
    (folder / "prometheus.yml").write_text(text)
    (folder / "rules").mkdir()
    for path, rules in server.rules(of).items():
        (folder / "rules" / Path(path).name).write_text(re.sub(r"interval: \d+s", "interval: 1s", rules))
    consoles = folder / "consoles"
    consoles.mkdir()
    (consoles / "cluster.html").write_text(page(of, chart_library()))
    command = PROMETHEUS.split()
    with (folder / "log").open("w") as log:
        program = subprocess.Popen(
            [
                *command,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                f"--web.console.templates={consoles}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        watcher = Watching(f"http://127.0.0.1:{port}", consoles)
        limit = time.monotonic() + 90
        while not watcher.ready():
            assert program.poll() is None and time.monotonic() < limit, (folder / "log").read_text()[-3000:]
            time.sleep(1)
        yield watcher
    finally:
        program.terminate()
        program.wait(20)
        exporters.shutdown()
