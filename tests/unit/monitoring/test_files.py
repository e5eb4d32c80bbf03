"""What watches a cluster: where it listens, who is asked, what is secret, and that off is off."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.errors import HpcstateError
from hpcstate.judge import watching
from hpcstate.model import Cluster, LdapDirectory
from hpcstate.monitoring import files, places, secrets, units, unused
from hpcstate.monitoring.secrets import Credentials
from hpcstate.node import base_files
from tests.unit.monitoring.judges import program_of
from tests.unit.monitoring.watched import cluster as watched
from tests.unit.monitoring.watched import credentials


@pytest.fixture
def of(tmp_path: Path) -> Cluster:
    return watched(tmp_path)


@pytest.fixture
def real(of: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Credentials:
    """Real ones: promtool reads keys and certificates."""
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    return secrets.ensure(of)


def text(of: Cluster, path: str) -> str:
    found = files.files(of, of.controller, credentials(of))
    return next(file.content for file in found if file.path == path)


def test_a_file_that_says_nothing_of_it_has_nothing_of_it(tmp_path: Path) -> None:
    of = watched(tmp_path, "")
    for node in of.nodes:
        assert places.packages(of, node) == ()
        assert units.unit_files(of, node) == {}
        assert files.files(of, node, credentials(of)) == ()
        gone = unused.not_wanted(of, node)
        assert set(gone.folders) == {
            *(places.DATA, places.RULES, places.ALERTS_DATA, places.FOLDER),
            *(places.EXPORTERS, places.DASHBOARDS),
        }
        assert "9100" not in base_files.cluster_files(of, node)[base_files.FIREWALL]


@pytest.mark.parametrize("runs", [True, False])
def test_what_runs_by_an_old_unit_file_starts_anew(tmp_path: Path, runs: bool) -> None:
    """Else another retention or interval of the file would count after the next boot."""
    log = tmp_path / "log"
    systemctl = tmp_path / "systemctl"
    answer = f"case $* in *is-active*) exit {0 if runs else 3};; esac"
    systemctl.write_text(f'#!/bin/sh\necho "$*" >>{log}\n{answer}\n')
    systemctl.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.defpath}"}
    subprocess.run(["dash", "-c", units.count_unit(places.SERVER)], env=env, check=True, timeout=30)
    assert log.read_text().splitlines() == [
        "daemon-reload",
        "--quiet is-active prometheus.service",
        *(["restart prometheus.service"] if runs else []),
    ]


def test_every_watcher_has_its_unit_file(of: Cluster) -> None:
    for node in of.nodes:
        paths_of = {units.drop_in(watcher) for watcher in places.watchers(of, node)}
        assert set(units.unit_files(of, node)) == paths_of


def test_programs_of_go_keep_little_and_prometheus_alone_may_use_two_threads(of: Cluster) -> None:
    """docs/monitoring.md, Cost."""
    found = {path.split("/")[4]: unit for path, unit in units.unit_files(of, of.controller).items()}
    threads = {name: re.findall(r"GOMAXPROCS=(\d)", unit) for name, unit in found.items() if ".d" in name}
    assert threads.pop("prometheus.service.d") == ["2"]
    assert set(map(tuple, threads.values())) == {("1",)} and len(threads) == 4
    assert all("Environment=GOGC=50\n" in found[name] for name in threads)


def test_nothing_of_it_listens_everywhere(of: Cluster) -> None:
    for node in of.nodes:
        found = units.unit_files(of, node)
        assert len(found) == len(places.watchers(of, node))
        for path, unit in found.items():
            own = [word for word in unit.split() if "listen-address=" in word and word[-1:].isdigit()]
            own += [word for word in unit.splitlines() if "--address" in word]
            assert own, path
            assert all(str(node.address) in word or "127.0.0.1" in word for word in own), path
    alerts = units.unit_files(of, of.controller)[units.drop_in(places.ALERTS)]
    assert "--cluster.listen-address=\n" in alerts


def test_the_firewall_lets_the_controller_ask_and_people_look(of: Cluster) -> None:
    worker = base_files.cluster_files(of, of.workers[0])[base_files.FIREWALL]
    assert "tcp dport { 9100, 9256, 9342 } ip saddr { 192.168.150.10 } accept" in worker
    assert "tcp dport { 9100, 9256, 9342 } drop" in worker
    assert worker.index("9342 } drop") < worker.index("ip saddr 192.168.150.0/24 accept")
    controller = base_files.cluster_files(of, of.controller)[base_files.FIREWALL]
    assert "tcp dport { 9093, 9090 } ip saddr { 192.168.150.1 } accept" in controller.replace(
        "9090, 9093", "9093, 9090"
    )


def test_every_node_is_asked_by_its_name_and_tls_knows_it(of: Cluster) -> None:
    prometheus = text(of, places.PROMETHEUS)
    for node in of.nodes:
        assert f'targets: ["{node.name}:9100"]' in prometheus
    assert prometheus.count("scheme: https") == len(set(prometheus.split("job_name:")[1:])) + 1
    assert "insecure_skip_verify" not in prometheus and "scheme: http\n" not in prometheus


def test_secrets_are_for_root_and_the_group_of_the_exporters(of: Cluster) -> None:
    known = credentials(of)
    for node in of.nodes:
        for file in files.files(of, node, known):
            has = any(word in file.content for word in ("a key", "$2b$", "a password", "chat.example.org"))
            assert file.secret == has, file.path
            assert known.scrape_password not in file.content or node is of.controller


def test_a_receiver_is_told_what_it_asked_for(of: Cluster) -> None:
    alertmanager = text(of, places.ALERTMANAGER)
    assert alertmanager.count('severity=~"warning|critical"') == 1
    assert alertmanager.count('severity=~"critical"') == 1
    assert 'smtp_smarthost: "smtp.example.org:587"' in alertmanager


def test_a_controller_without_accounting_asks_no_database(tmp_path: Path) -> None:
    of = watched(tmp_path, "    monitoring: {enabled: true}\n    accounting: {enabled: false}\n")
    assert places.DATABASE not in places.watchers(of, of.controller)
    assert "SlurmdbdDown" not in text(of, f"{places.RULES}/alerts.yml")
    assert places.MYSQLD in unused.not_wanted(of, of.controller).files


def test_jobs_that_others_must_not_see_are_asked_for_by_slurm_itself(tmp_path: Path) -> None:
    on = "    monitoring: {enabled: true}\n"
    of = watched(tmp_path, on)
    assert "User=prometheus\n" in units.unit_files(of, of.controller)[units.drop_in(places.SLURM)]
    hidden = watched(
        tmp_path, on, {"slurm_config:\n": "slurm_config:\n      parameters: {PrivateData: jobs}\n"}
    )
    assert "User=slurm\n" in units.unit_files(hidden, hidden.controller)[units.drop_in(places.SLURM)]


def certificate(folder: Path, days: int) -> str:
    """One that ends in so many days, as a site would make it."""
    name = folder / "site.crt"
    words = ["-subj", "/CN=site", "-keyout", str(folder / "site.key"), "-out", str(name)]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    subprocess.run([*command, "-days", str(days), *words], check=True, capture_output=True, timeout=60)
    return name.read_text()


def test_what_else_ends_is_told_by_the_controller_alone(of: Cluster, real: Credentials) -> None:
    (authority,) = real.ends
    assert authority == places.AUTHORITY
    assert real.ends[authority] - time.time() > 3600 * 86400
    for node in of.nodes:
        (told,) = [file for file in files.files(of, node, real) if file.path == places.STATIC]
        assert (f'"{places.AUTHORITY}"' in told.content) == (node is of.controller)
        assert told.content.count("# TYPE hpcstate_certificate_not_after_timestamp_seconds gauge\n") == 1


def test_the_first_certificate_of_a_bundle_that_ends_counts(tmp_path: Path) -> None:
    soon, late = certificate(tmp_path, 9), certificate(tmp_path, 99)
    found = secrets.first_end(f"Subject: a comment\n{late}\nanother\n{soon}")
    assert found is not None and 8.9 < (found - time.time()) / 86400 < 9.1
    assert secrets.first_end("nothing") is None
    assert secrets.first_end("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n") is None


def test_one_that_has_ended_counts_where_no_other_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = {"a": 5.0, "b": time.time() + 90, "c": 7.0}
    texts = {name: f"-----BEGIN CERTIFICATE-----{name}-----END CERTIFICATE-----" for name in ends}
    monkeypatch.setattr(secrets, "_not_after", lambda text: ends[text[27]])
    assert secrets.first_end(texts["a"] + texts["b"]) == ends["b"]
    assert secrets.first_end(texts["a"] + texts["c"]) == 7.0


def test_the_directory_s_certificate_is_among_them(
    of: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    ca = tmp_path / "ldap.pem"
    ca.write_text(certificate(tmp_path, 9))
    directory = LdapDirectory(uri=("ldaps://ldap.example.org",), base="dc=example,dc=org", ca_file=ca)
    known = secrets.ensure(replace(of, directory=directory))
    assert known.ends.keys() == {places.AUTHORITY, str(ca)}
    ca.unlink()
    assert secrets.ensure(replace(of, directory=directory)).ends.keys() == {places.AUTHORITY}


TOOLS = {name: (path,) for name in ("promtool", "amtool") if (path := program_of(name))}
needs_tools = pytest.mark.skipif(len(TOOLS) < 2, reason="promtool and amtool are not installed here")


@needs_tools
def test_prometheus_own_tools_take_the_files(of: Cluster, real: Credentials) -> None:
    texts = watching.relative(of, real)
    assert {"prometheus.yml", "alertmanager.yml", "rules/alerts.yml", "web.yml"} <= set(texts)
    assert watching.judge(texts, TOOLS) == []


@needs_tools
@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        ("prometheus.yml", "scrape_interval: 30s", "scrape_interval: often", "often"),
        ("rules/alerts.yml", "for: 3m", "for: soon", "soon"),
        ("rules/alerts.yml", "up{job=", "up{{job=", "parse error"),
        ("alertmanager.yml", "receiver: page", "receiver: nobody", "nobody"),
        ("web.yml", "min_version: TLS12", "min_version: TLS9", "TLS9"),
    ],
)
def test_a_fault_in_a_file_is_found_by_them(
    of: Cluster, real: Credentials, path: str, old: str, new: str, said: str
) -> None:
    texts = watching.relative(of, real)
    assert old in texts[path]
    texts[path] = texts[path].replace(old, new, 1)
    assert said in "\n".join(watching.judge(texts, TOOLS))


def test_an_image_without_alertmanager_judges_the_rest(tmp_path: Path) -> None:
    """hpcstate's own image: packer/hpc-base/image.yaml has prometheus, and no alertmanager."""
    image = (paths.ROOT / "packer/hpc-base/image.yaml").read_text()
    assert "  monitoring: [prometheus, prometheus-node-exporter]\n" in image
    promtool = tmp_path / "usr/bin/promtool"
    promtool.parent.mkdir(parents=True)
    promtool.write_text("")
    assert set(watching.started(tmp_path)) == {"promtool"}
    no_fault = {"promtool": ("true",)}
    assert watching.judge({"alertmanager.yml": "no: {"}, no_fault) == []


def test_the_controller_judges_alertmanagers_file_before_it_is_read_again(of: Cluster) -> None:
    found = files.files(of, of.controller, credentials(of))
    judged = {file.path: file.judge for file in found if file.judge}
    assert judged == {places.ALERTMANAGER: f"amtool check-config {places.ALERTMANAGER}"}


def test_a_root_without_the_tools_says_so(tmp_path: Path) -> None:
    with pytest.raises(HpcstateError, match="has no promtool"):
        watching.started(tmp_path)
