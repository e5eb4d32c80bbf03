"""Broken cluster files: each is refused with the line, the place and the words given here."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate import schema
from hpcstate.errors import Problem, ProblemsError

CORPUS = Path(__file__).parent / "corpus"

# (file, line, place, what the message or the hint says)
BROKEN = [
    ("empty", 1, ".", "the file is empty"),
    ("only-comments", 1, ".", "the file is empty"),
    ("binary", 2, ".", "is not UTF-8 text"),
    ("nul-byte", 2, ".", "character '\\x00'"),
    ("latin1", 3, ".", "0xe9 is not UTF-8"),
    ("utf16", 1, ".", "is not UTF-8 text"),
    ("elf", 1, ".", "character '\\x7f'"),
    ("scalar", 1, ".", "expected keys at the top"),
    ("list-at-top", 1, ".", "expected keys at the top"),
    ("tab", 4, ".", "a tab where YAML wants spaces"),
    ("anchor", 8, ".", "anchors and aliases"),
    ("alias", 12, ".", "anchors and aliases"),
    ("tag", 4, ".", "type tags"),
    ("tag-python", 4, ".", "type tags"),
    ("duplicate-key", 5, ".", "the key 'name' is written twice"),
    ("merge-key", 8, ".", "merge keys"),
    ("open-quote", 4, ".", "not closed"),
    ("open-bracket", 14, ".", "not closed"),
    ("bad-indent", 7, ".", "not valid YAML"),
    ("two-documents", 15, ".", "a second document"),
    ("deep-flow", 1, ".", "nested too deeply"),
    ("deep-block", 41, ".", "nested too deeply"),
    ("bad-escape", 1, ".", "not valid YAML"),
    ("list-as-key", 15, ".", "a key must be plain text"),
    ("no-clusters", 1, ".clusters", "no cluster is described"),
    ("clusters-null", 2, ".clusters", "no cluster is described"),
    ("clusters-list", 2, ".clusters", "expected a mapping (key: value), found a list"),
    ("version", 1, ".version", "expected one of 1.0, found '2.0'"),
    ("unknown-cluster", 3, ".clusters.hcp", "unknown key 'hcp'"),
    ("misspelt-key", 9, ".clusters.hpc.controller.memroy_gb", "did you mean 'memory_gb'?"),
    ("key-elsewhere", 9, ".clusters.hpc.controller.simulated_gpus", "belongs to compute_nodes"),
    ("several", 4, ".clusters.hpc.name", "a cluster name"),
    ("many-errors", 4, ".clusters.hpc.name", "a cluster name"),
    ("many-errors", 7, ".clusters.hpc.network.brigde", "did you mean 'bridge'?"),
    ("many-errors", 9, ".clusters.hpc.controller.memory_gb", "a size in GiB"),
    ("many-errors", 12, ".clusters.hpc.compute_nodes[1].ip", "an IPv4 address"),
    ("accounting-twice", 13, ".clusters.hpc.accounting.enabled", "already says where jobs are recorded"),
    ("accounts", 10, ".clusters.hpc.users[0].account", "there is no account 'phisics'"),
    ("accounts", 13, ".clusters.hpc.accounting.accounts[0].parent", "there is no account 'sciences'"),
    ("accounts", 14, ".clusters.hpc.accounting.accounts[1].parent", "a circle: a in b in a"),
    ("accounts", 16, ".clusters.hpc.accounting.accounts[3].name", "'physics' is here twice"),
    ("accounts", 17, ".clusters.hpc.accounting.accounts[4].name", "root is the top of all accounts"),
    ("accounts", 18, ".clusters.hpc.accounting.accounts[5].grp_tres", "does not count 'gres/gpu'"),
    ("accounts", 19, ".clusters.hpc.accounting.accounts[6].max_tres_per_job", "TRES with counts"),
    ("accounts", 20, ".clusters.hpc.accounting.accounts[7].max_wall", "without a limit leave it out"),
    ("accounts", 21, ".clusters.hpc.accounting.accounts[8].fairshare", "`parent` is for users"),
    ("accounts", 23, ".clusters.hpc.accounting.users[0].accounts[0]", "did you mean 'physics'?"),
    ("accounts", 24, ".clusters.hpc.accounting.users[1].accounts", "which is not here"),
    ("accounts", 24, ".clusters.hpc.accounting.users[1].default_account", "there are a"),
    ("accounts", 25, ".clusters.hpc.accounting.users[2].default_qos", "there are high"),
    ("accounts", 27, ".clusters.hpc.accounting.qos[0].preempt[0]", "cannot preempt itself"),
    ("accounts", 27, ".clusters.hpc.accounting.qos[0].preempt[1]", "there is no QOS 'lo'"),
    ("accounts", 28, ".clusters.hpc.accounting.qos[1].flags[0]", "did you mean 'DenyOnLimit'?"),
    ("accounts-off", 11, ".clusters.hpc.accounting.qos", "no database of the cluster's own"),
    ("reservations", 12, ".clusters.hpc.accounting.reservations[0].name", "a roll makes them"),
    ("reservations", 13, ".clusters.hpc.accounting.reservations[1].start", "make it again"),
    ("reservations", 14, ".clusters.hpc.accounting.reservations[2].name", "here twice"),
    ("reservations", 14, ".clusters.hpc.accounting.reservations[2].start", "or now"),
    ("reservations", 14, ".clusters.hpc.accounting.reservations[2].nodes[0]", "no compute node 'n-03'"),
    ("reservations", 15, ".clusters.hpc.accounting.reservations[3].end", "ends before it begins"),
    ("reservations", 15, ".clusters.hpc.accounting.reservations[3].groups", "either users or groups"),
    ("reservations", 16, ".clusters.hpc.accounting.reservations[4].start", "or now"),
    ("reservations", 16, ".clusters.hpc.accounting.reservations[4].users", "nobody may use it"),
    ("reservations", 17, ".clusters.hpc.accounting.reservations[5].duration", "one of end and duration"),
    ("reservations", 17, ".clusters.hpc.accounting.reservations[5].nodes", "it reserves nothing"),
    ("reservations", 18, ".clusters.hpc.accounting.reservations[6].duration", "longer than it takes"),
    (
        "reservations",
        19,
        ".clusters.hpc.accounting.reservations[7].start",
        "the time at which it comes again",
    ),
    ("reservations", 19, ".clusters.hpc.accounting.reservations[7].node_count", "there are 2 compute nodes"),
    ("reservations", 19, ".clusters.hpc.accounting.reservations[7].flags", "not in several"),
    (
        "reservations",
        20,
        ".clusters.hpc.accounting.reservations[8].accounts[0]",
        "`accounting` declares none",
    ),
    ("reservations", 20, ".clusters.hpc.accounting.reservations[8].node_count", "either nodes are named"),
    ("reservations", 21, ".clusters.hpc.accounting.reservations[9].features", "did you mean 'big'"),
    ("reservations", 21, ".clusters.hpc.accounting.reservations[9].partition", "did you mean 'main'"),
    (
        "reservations",
        22,
        ".clusters.hpc.accounting.reservations[10].tres",
        "the cluster has no gres/gpu:a100",
    ),
    ("reservations", 23, ".clusters.hpc.accounting.reservations[11].tres", "counts of cpu, node or gres"),
    ("reservations", 24, ".clusters.hpc.accounting.reservations[12].flags", "is for node_count"),
    ("reservations", 25, ".clusters.hpc.accounting.reservations[13].flags[0]", "one of HOURLY"),
    ("reservations", 26, ".clusters.hpc.accounting.reservations[14].duration", "it lasts no time"),
    ("reservations", 26, ".clusters.hpc.accounting.reservations[14].features", "choose among nodes"),
    ("accounts-none", 10, ".clusters.hpc.users[0].account", "`accounting` declares none"),
    ("gres", 9, ".clusters.hpc.compute_nodes[0].gres.autodetect", "which nothing can detect"),
    ("gres", 9, ".clusters.hpc.compute_nodes[0].gres.mps", "no MPS server"),
    ("gres", 15, ".clusters.hpc.compute_nodes[1].pcie_passthrough.devices[0].mig[1]", "nvidia-smi mig -lgip"),
    ("gres", 18, ".clusters.hpc.compute_nodes[1].pcie_passthrough.devices[1].mig", "no MIG instances"),
    ("gres", 20, ".clusters.hpc.compute_nodes[1].gres.autodetect", "does not see MIG instances"),
    ("gres", 22, ".clusters.hpc.compute_nodes[1].gres.mps", "not by both"),
    ("gres", 21, ".clusters.hpc.compute_nodes[1].gres.shard", "MIG instances are not shared"),
    ("gres", 23, ".clusters.hpc.compute_nodes[2].gres", "declares no GPU"),
    ("gres", 25, ".clusters.hpc.compute_nodes[3].gres.autodetect", "one of off, nvml, nvidia"),
    ("gres", 25, ".clusters.hpc.compute_nodes[3].gres.shard", "a whole number from 0"),
    ("huge-integer", 9, ".clusters.hpc.controller.cpu_cores", "a whole number from 1 to 1024"),
    ("huge-float", 9, ".clusters.hpc.controller.memory_gb", "a size in GiB"),
    ("not-a-number", 9, ".clusters.hpc.controller.memory_gb", "a size in GiB"),
    ("negative", 9, ".clusters.hpc.controller.cpu_cores", "a whole number from 1"),
    ("zero-memory", 9, ".clusters.hpc.controller.memory_gb", "from 0.5"),
    ("octal", 9, ".clusters.hpc.controller.disk_gb", "a whole number"),
    ("arabic-digits", 9, ".clusters.hpc.controller.cpu_cores", "a whole number"),
    ("empty-value", 9, ".clusters.hpc.controller.memory_gb", "found nothing"),
    ("mapping-for-number", 9, ".clusters.hpc.controller.memory_gb", "a size in GiB"),
    ("not-a-boolean", 9, ".clusters.hpc.controller.auto_start", "true or false"),
    ("image-suffix", 9, ".clusters.hpc.controller.base_image_path", ".qcow2"),
    ("subnet-host-bits", 6, ".clusters.hpc.network.subnet", "the network of this address is 10.1.2.0/24"),
    ("subnet-prefix", 6, ".clusters.hpc.network.subnet", "an IPv4 subnet"),
    ("subnet-loopback", 6, ".clusters.hpc.network.subnet", "can be routed"),
    ("subnet-missing", 5, ".clusters.hpc.network.subnet", "is missing"),
    ("bridge-too-long", 7, ".clusters.hpc.network.bridge", "at most 15"),
    ("gateway-outside", 7, ".clusters.hpc.network.gateway", "not an address for a host"),
    ("forward", 7, ".clusters.hpc.network.forward", "one of nat, route, none, bridge"),
    ("bridge", 4, ".clusters.hpc.network.bridge", "is missing: with forward: bridge"),
    ("bridge", 4, ".clusters.hpc.network.gateway", "the router of the site"),
    ("bridge", 4, ".clusters.hpc.network.dns_servers", "the DNS servers of the site"),
    ("bridge", 7, ".clusters.hpc.network.ports", "at their own addresses"),
    ("bridge", 10, ".clusters.hpc.compute_nodes[0].ip", "which controller has"),
    ("bridge", 11, ".clusters.hpc.compute_nodes[1].ip", "outside the subnet"),
    ("bridge", 12, ".clusters.hpc.compute_nodes[2].ip", "that the site gave it"),
    ("ports", 8, ".clusters.hpc.network.ports[0].host", "a whole number from 1 to 65535"),
    ("ports", 9, ".clusters.hpc.network.ports[1].node", "did you mean 'compute-01'?"),
    ("ports", 10, ".clusters.hpc.network.ports[2].protocol", "one of tcp, udp"),
    ("ports", 11, ".clusters.hpc.network.ports[3].host", "is that of ports[2] already"),
    ("ports", 12, ".clusters.hpc.network.ports[4].host", "is missing"),
    ("ports", 13, ".clusters.hpc.network.ports[5].port", "22 is a port of TCP"),
    ("address-outside", 11, ".clusters.hpc.compute_nodes[0].ip", "outside the subnet"),
    ("address-network", 11, ".clusters.hpc.compute_nodes[0].ip", "address of the subnet itself"),
    ("address-broadcast", 11, ".clusters.hpc.compute_nodes[0].ip", "broadcast"),
    ("address-gateway", 11, ".clusters.hpc.compute_nodes[0].ip", "the gateway's address"),
    ("address-twice", 12, ".clusters.hpc.compute_nodes[1].ip", "which compute-01 has"),
    ("address-both-keys", 12, ".clusters.hpc.compute_nodes[1].ip", "the same key"),
    ("range-leaves-subnet", 12, ".clusters.hpc.compute_nodes[1].ip", "compute-07 would have 10.1.2.255"),
    ("too-many-nodes", 12, ".clusters.hpc.compute_nodes[1]", "do not fit into 10.1.2.0/24"),
    ("count-huge", 12, ".clusters.hpc.compute_nodes[1].count", "a whole number"),
    ("count-missing", 10, ".clusters.hpc.compute_nodes.count", "is missing"),
    ("nodes-not-list", 10, ".clusters.hpc.compute_nodes", "expected a list"),
    ("controller-missing", 3, ".clusters.hpc.controller", "is missing"),
    (
        "pci-twice",
        20,
        ".clusters.hpc.compute_nodes[1].pcie_passthrough.devices[0].pci_address",
        "already given to compute-01",
    ),
    (
        "pci-short",
        20,
        ".clusters.hpc.compute_nodes[1].pcie_passthrough.devices[0].pci_address",
        "write 0000:01:00.1",
    ),
    (
        "pci-type",
        21,
        ".clusters.hpc.compute_nodes[1].pcie_passthrough.devices[0].device_type",
        "did you mean 'gpu'?",
    ),
    (
        "pci-vendor",
        22,
        ".clusters.hpc.compute_nodes[1].pcie_passthrough.devices[0].vendor_id",
        "four hexadecimal digits",
    ),
    (
        "pci-options",
        12,
        ".clusters.hpc.compute_nodes[0].pcie_passthrough.devices[1].x_vga",
        "0000:01:00.0 has them",
    ),
    (
        "pci-options",
        15,
        ".clusters.hpc.compute_nodes[0].pcie_passthrough.devices[2].x_vga",
        "has no VGA registers",
    ),
    (
        "pci-options",
        16,
        ".clusters.hpc.compute_nodes[0].pcie_passthrough.devices[2].rom_file",
        "an absolute path",
    ),
    (
        "pci-options",
        17,
        ".clusters.hpc.compute_nodes[0].pcie_passthrough.devices[2].rom_bar",
        "true or false",
    ),
    ("pci-shared-by-count", 11, ".clusters.hpc.compute_nodes[0].count", "cannot share"),
    ("gpus-both", 11, ".clusters.hpc.compute_nodes[0].simulated_gpus", "either simulated GPUs"),
    ("gres-type", 12, ".clusters.hpc.compute_nodes[1].simulated_gpus.type", "a GRES type"),
    ("gres-count", 12, ".clusters.hpc.compute_nodes[1].simulated_gpus.count", "is missing"),
    (
        "partition-unknown-node",
        14,
        ".clusters.hpc.slurm_config.partitions[0].nodes[0]",
        "unknown node 'compute-03'",
    ),
    ("partition-bad-range", 14, ".clusters.hpc.slurm_config.partitions[0].nodes[0]", "counts up"),
    ("partition-huge-range", 14, ".clusters.hpc.slurm_config.partitions[0].nodes[0]", "at most 65536"),
    ("partition-twice", 14, ".clusters.hpc.slurm_config.partitions[1]", "two partitions"),
    ("partition-name", 14, ".clusters.hpc.slurm_config.partitions[0]", "a partition name"),
    ("two-defaults", 14, ".clusters.hpc.slurm_config.partitions", "'b' is marked as default"),
    ("default-partition", 15, ".clusters.hpc.slurm_config.default_partition", "did you mean 'debug'?"),
    ("max-job-time", 15, ".clusters.hpc.slurm_config.max_job_time", "a Slurm time limit"),
    ("parameter-case", 16, ".clusters.hpc.slurm_config.parameters.return_to_service", "CamelCase"),
    ("parameter-derived", 16, ".clusters.hpc.slurm_config.parameters.PartitionName", "made from the rest"),
    ("parameter-list", 15, ".clusters.hpc.slurm_config.parameters", "expected a mapping"),
    ("parameter-newline", 16, ".clusters.hpc.slurm_config.parameters.Prolog", "a single line"),
    ("reserved-name", 4, ".clusters.hpc.name", "folder of hpcstate's own"),
    ("uri", 5, ".clusters.hpc.uri", "a libvirt URI"),
    ("cpu-model", 8, ".clusters.hpc.hardware.acceleration.cpu_model", "did you mean 'host-passthrough'?"),
    (
        "hugepages-odd",
        8,
        ".clusters.hpc.hardware.acceleration.performance",
        "memory of compute-01 is no multiple",
    ),
    ("mount-relative", 10, ".clusters.hpc.controller.virtio_fs_mounts[0].host_path", "an absolute path"),
    (
        "mount-variable",
        10,
        ".clusters.hpc.controller.virtio_fs_mounts[0].host_path",
        "export HPCSTATE_NOT_SET",
    ),
    ("same-cluster-name", 16, ".clusters.cloud.name", "the same name"),
    ("subnets-overlap", 18, ".clusters.cloud.network.subnet", "10.1.0.0/16 overlaps 10.1.2.0/24"),
    ("same-bridge", 19, ".clusters.cloud.network.bridge", "belongs to the cluster hpc"),
    ("same-network-name", 20, ".clusters.cloud.network.name", "belongs to the cluster hpc"),
]


@pytest.mark.parametrize(("name", "line", "place", "words"), BROKEN)
def test_a_broken_file_is_refused_with_its_place(name: str, line: int, place: str, words: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        schema.load(CORPUS / f"{name}.yaml")
    found = [problem for problem in caught.value.problems if problem.place == place]
    assert found, f"nothing at {place}: {_told(caught.value.problems)}"
    assert words in "\n".join(f"{problem.message} {problem.hint}" for problem in found)
    assert {problem.line for problem in found} == {line}


def test_every_file_of_the_corpus_is_expected() -> None:
    assert {path.stem for path in CORPUS.iterdir()} == {name for name, *_ in BROKEN}


@pytest.mark.parametrize("name", sorted({name for name, *_ in BROKEN}))
def test_a_broken_file_has_the_errors_it_was_made_for_and_no_others(name: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        schema.load(CORPUS / f"{name}.yaml")
    errors = {problem.place for problem in caught.value.problems if problem.severity == "error"}
    expected = {place for row, _, place, _ in BROKEN if row == name}
    assert errors == expected


def _told(problems: tuple[Problem, ...]) -> str:
    return "; ".join(f"{problem.line} {problem.place} {problem.message}" for problem in problems)


@pytest.mark.parametrize(
    "text",
    [
        "root:$6$hunter2:1:0:99999:7::\nbin:*:20228:0:99999:7::\n",
        "root:$6$hunter2:1::\nroot:$6$hunter2:1::\n",
        "password = hunter2\n",
        "-----BEGIN KEY-----\nkey: hunter2\n",
        "? [a, hunter2]\n: b\n",
        "password: hunter2\n",
    ],
)
def test_a_file_of_something_else_is_not_shown(text: str) -> None:
    """Whoever names /etc/shadow by mistake has no hashes in the terminal, and none in the log."""
    with pytest.raises(ProblemsError) as raised:
        schema.parse(text, Path("/etc/shadow"))
    assert "hunter2" not in str(raised.value)
    assert len(raised.value.problems) == 1
