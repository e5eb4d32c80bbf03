"""Who tells of GPUs where, Grafana, and repositories that are not Debian's: by the file, not without it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from hpcstate import paths, schema
from hpcstate.errors import HpcstateError
from hpcstate.model import Cluster, PassthroughDevice
from hpcstate.monitoring import files, foreign, known_metrics, places, secrets, server, units, unused
from hpcstate.node import base_files
from tests.unit.monitoring.watched import cluster as watched
from tests.unit.monitoring.watched import credentials

KEY = Path(__file__).parent / "recorded" / "key.asc"
NVIDIA = "https://developer.download.nvidia.com/compute/cuda/repos/debian13/x86_64/ /"
GRAFANA = "https://apt.grafana.com stable main"
DCGM = f"      dcgm: {{repository: '{NVIDIA}', key_file: {KEY}, version: 4.8.2-1}}\n"
WITH_GRAFANA = f"      grafana: {{repository: '{GRAFANA}', key_file: {KEY}, version: 12.3.1}}\n"
ON = "    monitoring:\n      enabled: true\n"
GPUS = f"{ON}      gpus: true\n"
DEVICE = PassthroughDevice("0000:01:00.0", "gpu")
APT_GET = "DEBIAN_FRONTEND=noninteractive apt-get -q"


def with_real(of: Cluster, count: int = 1) -> Cluster:
    """``of`` with ``count`` GPUs that are passed through to its first compute node."""
    first = of.workers[0]
    real = replace(first, simulated_gpus=None, passthrough=(DEVICE,) * count)
    return replace(of, nodes=tuple(real if node is first else node for node in of.nodes))


def of_gpus(of: Cluster) -> dict[str, set[str]]:
    found = {each.unit for each in (places.GPUS, places.DCGM)}
    return {node.name: {each.unit for each in places.watchers(of, node)} & found for node in of.nodes}


OURS, NVIDIAS = places.GPUS.unit, places.DCGM.unit


@pytest.mark.parametrize(
    ("text", "real", "expected"),
    [
        (ON, True, (set(), set(), set())),
        (GPUS, False, (set(), {OURS}, {OURS})),
        (GPUS, True, (set(), {OURS}, {OURS})),
        # Simulated ones are none for DCGM.
        (GPUS + DCGM, False, (set(), {OURS}, {OURS})),
        (GPUS + DCGM, True, (set(), {OURS, NVIDIAS}, {OURS})),
    ],
)
def test_nodes_with_gpus_tell_of_them_where_the_file_asks(
    tmp_path: Path, text: str, real: bool, expected: tuple[set[str], ...]
) -> None:
    of = watched(tmp_path, text)
    of = with_real(of) if real else of
    assert of_gpus(of) == dict(zip([node.name for node in of.nodes], expected, strict=True))
    assert ("gpus.yml" in "".join(server.rules(of))) == (text != ON)


@pytest.mark.parametrize(
    ("text", "node", "kind"),
    [(GPUS, 0, "all"), (GPUS + DCGM, 0, "xids"), (GPUS, 1, "simulated"), (GPUS + DCGM, 1, "simulated")],
)
def test_our_exporter_is_told_what_of(tmp_path: Path, text: str, node: int, kind: str) -> None:
    of = with_real(watched(tmp_path, text))
    unit = units.unit_files(of, of.workers[node])[units.drop_in(places.GPUS)]
    assert f"gpu_exporter \\\n  {kind} \\\n" in unit
    # It opens the GPUs, and reads the kernel's log.
    assert "PrivateDevices=no\n" in unit and "SupplementaryGroups=systemd-journal\n" in unit
    others = units.unit_files(of, of.workers[node])[units.drop_in(places.JOBS)]
    assert "PrivateDevices=yes\n" in others and "MemoryDenyWriteExecute=yes\n" in others


def test_dcgm_exporter_answers_the_controller_alone_by_tls(tmp_path: Path) -> None:
    of = with_real(watched(tmp_path, GPUS + DCGM))
    node = of.workers[0]
    unit = units.unit_files(of, node)[units.drop_in(places.DCGM)]
    assert f"--address={node.address}:9400" in unit
    assert "StandardOutput=journal\n" in unit
    # DCGM's own daemon would let every user of the node change the GPUs.
    assert places.HOST_ENGINE in {file.path for file in foreign.sources(of, node, APT_GET)}
    assert f"Environment=DCGM_EXPORTER_WEB_CONFIG_FILE={places.WEB}\n" in unit
    firewall = base_files.cluster_files(of, node)[base_files.FIREWALL]
    assert "9343, 9400 } drop" in firewall
    prometheus = server.prometheus(of)
    assert f'targets: ["{node.name}:9400"]' in prometheus and "job_name: dcgm" in prometheus
    assert prometheus.count("regex: Hostname|hostname") == 2
    texts = {file.path: file.content for file in files.files(of, node, credentials(of))}
    assert "DCGM_FI_DEV_XID_ERRORS, gauge" in texts[places.DCGM_FIELDS]


def test_a_gpu_that_mig_splits_is_one(tmp_path: Path) -> None:
    of = with_real(watched(tmp_path, GPUS))
    split = replace(of.workers[0], passthrough=(replace(DEVICE, mig=("3g.20gb", "3g.20gb")),))
    text = known_metrics.static_metrics(of, split, 0)
    assert "hpcstate_gpus_declared 2\n" in text and "hpcstate_gpus_real 1\n" in text


def test_grafana_is_on_the_controller_alone_with_a_login_and_tls(tmp_path: Path) -> None:
    of = watched(tmp_path, ON + WITH_GRAFANA)
    assert [node.role for node in of.nodes if places.GRAFANA in places.watchers(of, node)] == ["controller"]
    unit = units.unit_files(of, of.controller)[units.drop_in(places.GRAFANA)]
    settings = dict(
        line.removeprefix("Environment=").split("=", 1) for line in unit.splitlines() if "=GF_" in line
    )
    assert settings["GF_AUTH_ANONYMOUS_ENABLED"] == settings["GF_METRICS_ENABLED"] == "false"
    assert settings["GF_SERVER_PROTOCOL"] == "https"
    assert settings["GF_SERVER_HTTP_ADDR"] == str(of.controller.address)
    # Its package says how it is started.
    assert "ExecStart=" not in unit and "SupplementaryGroups=prometheus\n" in unit
    known = replace(credentials(of), grafana_password="a secret of grafana")
    found = files.files(of, of.controller, known)
    assert [file.path for file in found if "a secret of grafana" in file.content] == [places.GRAFANA_PASSWORD]
    assert next(file for file in found if file.path == places.GRAFANA_PASSWORD).secret
    (source,) = [file.content for file in found if file.path.endswith("datasources/hpcstate.yml")]
    assert f"$__file{{{places.SCRAPE_PASSWORD}}}" in source and "a password" not in source
    boards = {file.path for file in found if file.path.startswith(places.DASHBOARDS)}
    assert len(boards) == len(foreign.DASHBOARD_NAMES) - 1
    assert "9090, 9093, 3000 } ip saddr" in base_files.cluster_files(of, of.controller)[base_files.FIREWALL]
    assert "grafana" not in server.prometheus(of)


def test_grafanas_password_is_made_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    without = watched(tmp_path, ON)
    assert secrets.ensure(without).grafana_password == ""
    of = watched(tmp_path, ON + WITH_GRAFANA)
    made = secrets.ensure(of).grafana_password
    assert len(made) >= 20 and secrets.ensure(of).grafana_password == made
    assert made not in secrets.ensure(of).hashes.values()


@pytest.mark.parametrize("text", ["", ON, GPUS])
def test_what_the_file_has_no_more_goes(tmp_path: Path, text: str) -> None:
    of = watched(tmp_path, text)
    assert places.DASHBOARDS in unused.not_wanted(of, of.controller).folders
    going_too = unused.not_wanted_foreign(of, of.controller)
    assert set(going_too) == set(places.FOREIGN)
    assert going_too[places.GRAFANA].folders == (places.PROVISIONING, foreign.GRAFANA_DATA)
    for watcher, gone in going_too.items():
        assert {units.drop_in(watcher), *places.source_paths(watcher)} <= set(gone.files)
    full = with_real(watched(tmp_path, GPUS + DCGM + WITH_GRAFANA))
    for node in full.nodes:
        own = {file.path for file in files.files(full, node, credentials(full))}
        own |= {file.path for file in foreign.sources(full, node, APT_GET)} | set(
            units.unit_files(full, node)
        )
        going = [unused.not_wanted(full, node), *unused.not_wanted_foreign(full, node).values()]
        assert not own & {path for each in going for path in each.files}
        if node is full.controller:
            assert not {places.PROVISIONING, places.DASHBOARDS} & {p for each in going for p in each.folders}


def test_a_grafana_of_the_sites_own_is_left_alone(tmp_path: Path) -> None:
    """With dashboards, or with all of it off: nothing of ours tells that it is ours."""
    for text in ("", f"{ON}      dashboards: true\n"):
        of = watched(tmp_path, text)
        gone = unused.not_wanted(of, of.controller)
        assert not [name for name in (*gone.units, *gone.folders) if "grafana" in name]
        tells = unused.not_wanted_foreign(of, of.controller)[places.GRAFANA].files
        assert all("hpcstate" in path for path in tells)


# The repositories, by apt itself --------------------------------------------------------------------------

PACKAGES = """Package: grafana
Version: 12.3.1
Architecture: amd64
Filename: grafana_12.3.1.deb
Size: 1
SHA256: 0000000000000000000000000000000000000000000000000000000000000001

Package: grafana
Version: 13.0.0
Architecture: amd64
Filename: grafana_13.0.0.deb
Size: 1
SHA256: 0000000000000000000000000000000000000000000000000000000000000002

Package: bash
Version: 99
Architecture: amd64
Filename: bash_99.deb
Size: 1
SHA256: 0000000000000000000000000000000000000000000000000000000000000003

Package: datacenter-gpu-manager-exporter
Version: 4.8.2-1
Architecture: amd64
Filename: e_4.8.2.deb
Size: 1
SHA256: 0000000000000000000000000000000000000000000000000000000000000004

Package: datacenter-gpu-manager-exporter
Version: 4.9.0-1
Architecture: amd64
Filename: e_4.9.0.deb
Size: 1
SHA256: 0000000000000000000000000000000000000000000000000000000000000005

Package: datacenter-gpu-manager-4-core
Version: 1:4.6.0-1
Architecture: amd64
Filename: c_4.6.0.deb
Size: 1
SHA256: 0000000000000000000000000000000000000000000000000000000000000006

Package: nvidia-driver
Version: 590
Architecture: amd64
Filename: n_590.deb
Size: 1
SHA256: 0000000000000000000000000000000000000000000000000000000000000007
"""


@pytest.mark.skipif(shutil.which("apt-cache") is None, reason="apt is not installed here")
@pytest.mark.parametrize(
    ("which", "candidates"),
    [
        ("grafana", {"grafana": "12.3.1", "bash": "(none)", "nvidia-driver": "(none)"}),
        (
            "datacenter-gpu-manager-exporter",
            {
                "datacenter-gpu-manager-exporter": "4.8.2-1",
                "datacenter-gpu-manager-4-core": "1:4.6.0-1",
                "nvidia-driver": "(none)",
                "grafana": "(none)",
            },
        ),
    ],
)
def test_apt_takes_the_version_of_the_file_and_nothing_else_from_there(
    tmp_path: Path, which: str, candidates: dict[str, str]
) -> None:
    """A repository of this test on loopback, and apt with folders of its own."""
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "Packages").write_text(PACKAGES)

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *words: object) -> None:
            super().__init__(*words, directory=str(repository))  # type: ignore[arg-type]

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    text = (GPUS + DCGM + WITH_GRAFANA).replace(NVIDIA, f"{url} /").replace(GRAFANA, f"{url} /")
    text = text.replace("stable main", "/")
    of = with_real(watched(tmp_path, ON))
    description = tmp_path / "watched.yaml"
    good = (paths.ROOT / "inventories" / "gpu.yaml").read_text()
    description.write_text(good + text)
    of = with_real(schema.load(description).clusters[0])
    node = of.controller if which == "grafana" else of.workers[0]
    root = tmp_path / "root"
    for folder in (
        "etc/apt/preferences.d",
        "etc/apt/sources.list.d",
        "state/lists/partial",
        "cache/archives/partial",
    ):
        (root / folder).mkdir(parents=True)
    (root / "state/status").touch()
    for file in foreign.sources(of, node, APT_GET):
        path = root / file.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        # The repository of this test is not signed.
        content = file.content
        if path.suffix == ".sources":
            lines = [line for line in content.splitlines() if not line.startswith("Signed-By")]
            content = "\n".join([*lines, "Trusted: yes"]) + "\n"
        path.write_text(content)
    options = [
        *(
            "-o",
            f"Dir::Etc={root}/etc/apt",
            "-o",
            f"Dir::State={root}/state",
            "-o",
            f"Dir::Cache={root}/cache",
        ),
        *("-o", f"Dir::State::status={root}/state/status", "-o", "APT::Architecture=amd64"),
        *("-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none", "-o", "APT::Architectures=amd64"),
    ]
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(tmp_path)}
    try:
        done = subprocess.run(
            ["apt-get", *options, "update"], capture_output=True, text=True, env=env, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        server.shutdown()
    for name, version in candidates.items():
        said = subprocess.run(
            ["apt-cache", *options, "policy", name], capture_output=True, text=True, env=env, check=True
        ).stdout
        assert f"Candidate: {version}\n" in said, said


def test_another_version_of_the_file_is_installed(tmp_path: Path) -> None:
    of = watched(tmp_path, ON + WITH_GRAFANA)
    found = foreign.sources(of, of.controller, APT_GET)
    assert {file.then for file in found} == {
        f"{APT_GET} update >&2 && {APT_GET} install --only-upgrade --allow-downgrades grafana=12.3.1 >&2"
    }
    source = next(file.content for file in found if file.path.endswith(".sources"))
    assert (
        "URIs: https://apt.grafana.com\nSuites: stable\nComponents: main\nSigned-By: /etc/apt/keyrings/"
        in source
    )
    assert foreign.sources(of, of.workers[0], APT_GET) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ON + DCGM, "write gpus: true"),
        (GPUS + DCGM.replace(str(KEY), "/nowhere/key.asc"), "No such file"),
        (GPUS + DCGM.replace(str(KEY), str(paths.ROOT / "hpc")), "ASCII armour"),
        (GPUS + DCGM.replace(" /'", "'"), "an address, a suite"),
        (ON + WITH_GRAFANA.replace("stable main", "stable"), "an address, a suite"),
        (ON + WITH_GRAFANA.replace("12.3.1", "newest"), "a version as dpkg"),
        (ON + WITH_GRAFANA.replace(", version: 12.3.1", ""), "version"),
    ],
)
def test_a_repository_that_cannot_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(HpcstateError, match=said):
        watched(tmp_path, text)


def test_the_page_is_there_where_the_file_asks(tmp_path: Path) -> None:
    for text, there in ((ON, False), (f"{ON}      page: true\n", True)):
        of = watched(tmp_path, text)
        paths_of = {file.path for file in files.files(of, of.controller, credentials(of))}
        assert (places.PAGE in paths_of) == there
        assert (places.PAGE in unused.not_wanted(of, of.controller).files) == (not there)
        unit = units.unit_files(of, of.controller)[units.drop_in(places.SERVER)]
        assert (f"--web.console.templates={places.CONSOLES}" in unit) == there
