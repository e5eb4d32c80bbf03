"""Whose a cluster is, on a real libvirtd: two folders with clusters of one name, and what other people have.

The machines of these tests have empty disks: nobody waits for them to answer.
"""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import libvirt
import pytest

from hpcstate import paths, schema
from hpcstate.artifact.store import Manifest
from hpcstate.cluster import adopt, lifecycle, status
from hpcstate.digest import file_digest
from hpcstate.errors import HpcstateError, ProblemsError
from hpcstate.hypervisor import fit as validate
from hpcstate.hypervisor import xml as objects
from hpcstate.hypervisor.connection import LibvirtHost, connect
from hpcstate.hypervisor.daemon import SYSTEM_URI, end_daemon, ensure_daemon
from hpcstate.hypervisor.mark import RECORD, new_mark, owner_of
from hpcstate.hypervisor.xml import HypervisorFacts
from hpcstate.model import Cluster
from hpcstate.node.secrets import ensure_secrets, new_key
from hpcstate.paths import ClusterPaths

FILE = """\
version: "1.0"
clusters:
  hpc:
    name: whose
    base_image_path: {image}
    network: {{subnet: 192.168.171.0/24, bridge: virbr171, forward: none}}
    controller: {{memory_gb: 0.5, cpu_cores: 1, disk_gb: 10}}
    compute_nodes: [{{memory_gb: 0.5, cpu_cores: 1, disk_gb: 10}}]
"""


@dataclass
class Clone:
    """A folder that hpcstate is used from: what is below its build/, and its cluster file."""

    build: Path
    file: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def cluster(self) -> Cluster:
        return schema.load(self.file).clusters[0]

    def use(self) -> Clone:
        self.monkeypatch.setattr(paths, "BUILD", self.build)
        return self

    def start(self, autostart: bool | None = None) -> lifecycle.Started:
        self.use()
        return lifecycle.start(self.cluster, self.file, print, autostart=autostart)

    def stop(self) -> list[str]:
        self.use()
        return lifecycle.stop(self.cluster, self.file, print)

    def destroy(self, **options: bool) -> list[str]:
        self.use()
        return lifecycle.destroy(self.cluster, self.file, print, **{"data": True, **options})

    def adopt(self, keys: Path | None = None, *, lost_keys: bool = False) -> None:
        self.use()
        with connect(SYSTEM_URI) as host:
            planned = adopt.plan(self.cluster, host, keys, lost_keys=lost_keys)
            adopt.adopt(self.cluster, self.file, host, planned, print)

    @property
    def secrets(self) -> Path:
        return self.build / "whose" / "secrets"


@pytest.fixture(scope="module")
def daemon() -> Iterator[None]:
    """A libvirtd for this module: the tests of `start` find none, as a person does."""
    ensure_daemon(SYSTEM_URI, print)
    yield
    end_daemon(print)


@pytest.fixture
def hypervisor(daemon: None) -> Iterator[LibvirtHost]:
    """The lab's libvirtd, without anything of the cluster before and after."""
    with connect(SYSTEM_URI) as host:
        _wipe(host.connection)
        yield host
        _wipe(host.connection)


def _wipe(connection: libvirt.virConnect) -> None:
    for domain in connection.listAllDomains():
        if domain.isActive():
            domain.destroy()
        domain.undefineFlags(
            libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        )
    for pool in connection.listAllStoragePools():
        if not pool.isActive():
            pool.create()
        pool.refresh()
        for volume in pool.listAllVolumes():
            volume.delete()
        pool.destroy()
        pool.delete()
        pool.undefine()
    for network in connection.listAllNetworks():
        if network.isActive():
            network.destroy()
        network.undefine()


@pytest.fixture
def clones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hypervisor: LibvirtHost) -> tuple[Clone, Clone]:
    image = tmp_path / "empty.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "10G"], check=True)
    # What libvirt says of the host takes 6 s each time, and is nothing to these tests.
    monkeypatch.setattr(LibvirtHost, "facts", lambda *_: HypervisorFacts(kvm=False))
    monkeypatch.setattr(lifecycle, "wait_for_ssh", lambda *_, **__: None)
    monkeypatch.setattr(lifecycle, "STOP_TIMEOUT", 2.0)
    monkeypatch.setattr(lifecycle, "_emptied", lambda *_: nullcontext())
    made = []
    for name in ("mine", "theirs"):
        file = tmp_path / name / "gpu.yaml"
        file.parent.mkdir()
        file.write_text(FILE.format(image=image))
        made.append(Clone(tmp_path / name / "build", file, monkeypatch))
    return made[0].use(), made[1]


def names(host: LibvirtHost) -> set[str]:
    """All that libvirt has, by name."""
    connection = host.connection
    kinds = (connection.listAllDomains(), connection.listAllNetworks(), connection.listAllStoragePools())
    return {item.name() for kind in kinds for item in kind}


ALL = {"whose-controller", "whose-compute-01", "whose", "hpcstate-whose"}


def test_another_folder_with_the_same_name_touches_nothing(
    clones: tuple[Clone, Clone], hypervisor: LibvirtHost
) -> None:
    mine, theirs = clones
    mine.start()
    assert names(hypervisor) == ALL
    for attempt in (theirs.start, theirs.destroy, theirs.stop):
        with pytest.raises(HpcstateError) as caught:
            attempt()
        said = str(caught.value)
        assert f"made from {mine.file}" in said
        assert "domain whose-controller, domain whose-compute-01, storage pool hpcstate-whose" in said
        assert f"hpcstate adopt {theirs.file} --keys {mine.secrets}" in said
        assert "hpcstate stop" not in said
    validated = validate.host_findings(schema.load(theirs.use().file), validate.host_state())
    assert [problem.place for problem in validated if f"made from {mine.file}" in problem.message] == [
        ".clusters.hpc.name"
    ]
    report = status.observe(theirs.use().cluster)
    assert [node.domain for node in report.nodes] == ["absent", "absent"]
    assert f"made from {mine.file}" in status.as_text(report)
    assert names(hypervisor) == ALL
    assert all(domain.isActive() for domain in hypervisor.connection.listAllDomains())
    assert not theirs.secrets.exists()
    assert set(mine.destroy()) == {
        "domain whose-controller",
        "domain whose-compute-01",
        "storage pool hpcstate-whose",
        "network whose",
    }
    assert names(hypervisor) == set()


def test_a_cluster_is_taken_over_on_purpose_with_its_keys(
    clones: tuple[Clone, Clone], hypervisor: LibvirtHost
) -> None:
    mine, theirs = clones
    mine.start()
    with pytest.raises(HpcstateError, match="are not those of"):
        theirs.adopt()
    with pytest.raises(HpcstateError, match="with keys that nobody has"):
        theirs.adopt(lost_keys=True)
    with_another = mine.secrets.with_name("mixed")
    shutil.copytree(mine.secrets, with_another)
    for name in ("ssh_key", "ssh_key.pub"):
        (with_another / name).unlink()
    new_key(with_another / "ssh_key")
    with pytest.raises(HpcstateError, match="are not those of"):
        theirs.adopt(with_another)
    theirs.adopt(mine.secrets)
    assert (theirs.secrets / "ssh_key").read_text() == (mine.secrets / "ssh_key").read_text()
    assert theirs.start().powered_on == ()
    with pytest.raises(HpcstateError, match=f"made from {theirs.file}") as caught:
        mine.start()
    # The keys are the same ones: named or not, they do for the way back.
    assert caught.value.hint.endswith(f"with the keys that are here: hpcstate adopt {mine.file}")
    mine.adopt(theirs.secrets)
    assert mine.start().powered_on == ()
    with pytest.raises(HpcstateError, match=f"made from {mine.file}"):
        theirs.destroy()
    assert len(mine.destroy()) == 4


def test_a_cluster_whose_keys_are_lost_goes_on_with_new_ones(
    clones: tuple[Clone, Clone], hypervisor: LibvirtHost
) -> None:
    mine, _ = clones
    mine.start()
    mine.stop()
    mine.secrets.rename(mine.secrets.with_name("lost"))
    with pytest.raises(HpcstateError, match="its keys and owner are gone") as caught:
        mine.start()
    assert "--lost-keys" in caught.value.hint
    mine.adopt(lost_keys=True)
    assert mine.start().powered_on == ("controller", "compute-01")


def test_a_cluster_made_before_there_were_marks_is_known_by_its_keys(
    clones: tuple[Clone, Clone], hypervisor: LibvirtHost
) -> None:
    mine, theirs = clones
    _make_unmarked(mine.use().cluster, hypervisor)
    with pytest.raises(HpcstateError, match="made by hpcstate, with other keys"):
        theirs.start()
    assert [node.domain for node in status.observe(mine.use().cluster).nodes] == ["stopped"] * 2
    mine.start()
    owner = owner_of(mine.cluster)
    assert owner
    with connect(SYSTEM_URI) as host:
        domains = host.domains(mine.cluster)
        assert {owner in domain.XMLDesc() for domain in domains.values()} == {True}
        pool = host.volumes.pool(mine.cluster)
        assert pool is not None
        record = host.volumes.record(pool)
        assert record is not None and record.mark.owner == owner
        assert {"controller.qcow2", "compute-01.iso"} <= set(record.volumes)
    assert len(mine.destroy()) == 4
    assert names(hypervisor) == set()


def _make_unmarked(cluster: Cluster, host: LibvirtHost) -> None:
    """A cluster as hpcstate made it before: no mark, no record, no data volume, volumes that all may read."""
    ensure_secrets(cluster)
    facts = host.facts(cluster)
    host.connection.networkDefineXML(objects.network_xml(cluster))
    with connect(SYSTEM_URI) as made:
        pool = made.volumes.ensure_pool(cluster, new_mark(cluster, Path("gpu.yaml")))
        for node in (replace(node, data_gb=0) for node in cluster.nodes):
            made.volumes.ensure(cluster, node, pool, objects.disk_volume(node))
            host.connection.defineXML(objects.domain_xml(cluster, node, facts))
        for volume in pool.listAllVolumes():
            Path(volume.path()).chmod(0o644)
        pool.storageVolLookupByName(RECORD).delete()
    ClusterPaths.of(cluster.name).owner.unlink()


def test_what_is_not_ours_stays_and_so_does_the_pool(
    clones: tuple[Clone, Clone], hypervisor: LibvirtHost, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, _ = clones
    mine.start()
    pool = hypervisor.connection.storagePoolLookupByName("hpcstate-whose")
    thesis = pool.createXML(
        "<volume><name>thesis.qcow2</name><capacity>1048576</capacity>"
        "<target><format type='qcow2'/></target></volume>"
    )
    # An overlay outside of the pool, which only the domain on it knows.
    overlay = mine.build / "overlay.qcow2"
    below = pool.storageVolLookupByName("compute-01.qcow2").path()
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", below, overlay], check=True
    )
    hypervisor.connection.defineXML(
        "<domain type='qemu'><name>overlaid</name><memory unit='MiB'>64</memory><os><type>hvm</type></os>"
        f"<devices><disk type='file' device='disk'><source file='{overlay}'/><target dev='vda'/></disk>"
        "</devices></domain>"
    )
    clone = pool.createXML(objects.volume_xml("clone.qcow2", 1 << 30, "qcow2", _base(pool).path()))
    guest = (
        "<domain type='qemu'><name>guest</name><memory unit='MiB'>64</memory><os><type>hvm</type></os>"
        "<devices><interface type='network'><source network='whose'/></interface></devices></domain>"
    )
    hypervisor.connection.defineXML(guest)
    lines = list(lifecycle.removal(mine.cluster, mine.file, print).lines())
    assert any(line.startswith("removes domain whose-controller (running") for line in lines)
    removed = mine.destroy(secrets=True)
    said = capsys.readouterr().out
    assert "thesis.qcow2 (not made by hpcstate)" in said
    assert "compute-01.qcow2 (domain overlaid uses it)" in said
    assert "keeps the keys" in said and mine.secrets.is_dir()
    assert f"{_base(pool).name()} (clone.qcow2 stands on it)" in said
    assert "leaves network whose: guest, not of this cluster, uses it" in said
    assert "network whose" not in removed
    assert mine.destroy() == []
    assert "leaves storage pool hpcstate-whose with" in capsys.readouterr().out
    assert names(hypervisor) == {"guest", "overlaid", "hpcstate-whose", "whose"}
    pool.refresh()
    left = {volume.name() for volume in pool.listAllVolumes()}
    base = _base(pool).name()
    assert left == {"thesis.qcow2", "clone.qcow2", "compute-01.qcow2", base, f"{base}.complete", RECORD}
    assert not (mine.build / "whose" / "proof.json").exists()
    # When that is gone, the rest goes: the pool and the network are still the cluster's own.
    for name in ("guest", "overlaid"):
        hypervisor.connection.lookupByName(name).undefine()
    thesis.delete()
    clone.delete()
    assert mine.destroy() == ["storage pool hpcstate-whose", "network whose"]
    assert names(hypervisor) == set()


def _base(pool: libvirt.virStoragePool) -> libvirt.virStorageVol:
    names = (volume for volume in pool.listAllVolumes() if volume.name().startswith("empty-"))
    return next(volume for volume in names if volume.name().endswith(".qcow2"))


def test_a_volume_of_somebody_with_a_name_of_ours_is_not_used(
    clones: tuple[Clone, Clone], hypervisor: LibvirtHost
) -> None:
    mine, _ = clones
    mine.start()
    mine.destroy()
    pool = hypervisor.connection.storagePoolDefineXML(objects.pool_xml(mine.cluster))
    pool.build()
    pool.create()
    pool.createXML(objects.volume_xml("notes", 1024, "raw"))
    with pytest.raises(HpcstateError, match="storage pool hpcstate-whose: made by hpcstate, with other keys"):
        mine.start()


def test_a_network_and_a_domain_of_somebody_with_our_names_stop_us(
    clones: tuple[Clone, Clone], hypervisor: LibvirtHost
) -> None:
    mine, _ = clones
    hypervisor.connection.networkDefineXML("<network><name>whose</name></network>")
    guest = "<domain type='qemu'><name>{}</name><memory>65536</memory><os><type>hvm</type></os></domain>"
    hypervisor.connection.defineXML(guest.format("whose-controller"))
    with pytest.raises(HpcstateError) as caught:
        mine.start()
    assert "network whose, domain whose-controller: not made by hpcstate" in caught.value.message
    assert "adopt" not in caught.value.hint
    with pytest.raises(HpcstateError, match="not made by hpcstate"):
        mine.adopt(lost_keys=True)
    assert names(hypervisor) == {"whose", "whose-controller"}


def test_a_first_start_that_was_interrupted_before_the_record_goes_on(
    clones: tuple[Clone, Clone], hypervisor: LibvirtHost
) -> None:
    mine, _ = clones
    pool = hypervisor.connection.storagePoolDefineXML(objects.pool_xml(mine.cluster))
    pool.build()
    pool.create()
    pool.createXML(objects.volume_xml(RECORD, 1 << 16, "raw"))
    assert mine.start().powered_on == ("controller", "compute-01")


def test_a_start_that_failed_on_its_bridge_goes_on_with_the_corrected_file(
    clones: tuple[Clone, Clone], hypervisor: LibvirtHost
) -> None:
    mine, _ = clones
    right = mine.file.read_text()
    mine.file.write_text(right.replace("virbr171", "lo"))
    with pytest.raises(HpcstateError):
        mine.start()
    mine.file.write_text(right)
    assert mine.start().powered_on == ("controller", "compute-01")


def test_a_bridge_of_somebody_elses_network_is_a_finding_of_validate(
    clones: tuple[Clone, Clone], hypervisor: LibvirtHost
) -> None:
    mine, _ = clones
    hypervisor.connection.networkDefineXML(
        "<network><name>somebody</name><bridge name='virbr171'/></network>"
    )
    with pytest.raises(ProblemsError, match="the bridge virbr171 is that of libvirt's network somebody"):
        validate.demand(schema.load(mine.file), print)
    hypervisor.connection.networkLookupByName("somebody").undefine()
    mine.start()
    validate.demand(schema.load(mine.file), print)


def test_snapshots_are_somebodys_work(clones: tuple[Clone, Clone], hypervisor: LibvirtHost) -> None:
    mine, _ = clones
    mine.start()
    mine.stop()
    domain = hypervisor.connection.lookupByName("whose-compute-01")
    domain.snapshotCreateXML("<domainsnapshot><name>before-upgrade</name></domainsnapshot>")
    mine.start()
    with pytest.raises(HpcstateError, match="whose-compute-01: before-upgrade") as caught:
        mine.destroy()
    assert "--snapshots" in caught.value.hint
    assert all(domain.isActive() for domain in hypervisor.connection.listAllDomains())
    with pytest.raises(HpcstateError, match="before-upgrade"):
        lifecycle.removal(mine.cluster, mine.file, print)
    going = lifecycle.removal(mine.cluster, mine.file, print, snapshots=True)
    assert any("before-upgrade" in line for line in going.lines())
    assert len(mine.destroy(snapshots=True)) == 4


def test_names_of_peoples_own_survive(clones: tuple[Clone, Clone], hypervisor: LibvirtHost) -> None:
    mine, _ = clones
    mine.start()
    mine.stop()
    domain = hypervisor.connection.lookupByName("whose-compute-01")
    domain.rename("the-big-one")
    element, affect = libvirt.VIR_DOMAIN_METADATA_ELEMENT, libvirt.VIR_DOMAIN_AFFECT_CONFIG
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "Ann's", None, None, affect)
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_DESCRIPTION, "do not touch", None, None, affect)
    domain.setMetadata(element, "<room>4</room>", "inventory", "urn:example:inventory", affect)
    domain.setAutostart(1)
    assert mine.start().powered_on == ("controller", "compute-01")
    domain = hypervisor.connection.lookupByName("the-big-one")
    assert domain.isActive() and domain.autostart()
    xml = domain.XMLDesc()
    assert all(
        word in xml for word in ("Ann", "do not touch", "urn:example:inventory", owner_of(mine.cluster))
    )
    mine.start(autostart=False)
    assert not domain.autostart()
    assert "domain the-big-one" in mine.destroy()


def test_paused_and_saved_nodes_are_stopped_and_removed(
    clones: tuple[Clone, Clone], hypervisor: LibvirtHost, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, _ = clones
    mine.start()
    controller, compute = (
        hypervisor.connection.lookupByName(f"whose-{name}") for name in ("controller", "compute-01")
    )
    compute.suspend()
    report = status.observe(mine.cluster)
    assert [node.domain for node in report.nodes] == ["running", "paused"]
    assert "somebody paused it" in status.as_text(report)
    assert mine.stop() == ["compute-01", "controller"]
    assert "compute-01 is paused (somebody paused it): resuming it" in capsys.readouterr().out
    assert not compute.isActive()
    mine.start()
    controller.suspend()
    controller.managedSave()
    compute.destroy()
    with pytest.raises(HpcstateError, match="saved, with keys that nobody has: whose-controller"):
        mine.adopt(lost_keys=True)
    compute.create()
    report = status.observe(mine.cluster)
    assert [node.domain for node in report.nodes] == ["saved", "running"]
    assert mine.stop() == ["compute-01"]
    assert mine.start().powered_on == ("controller", "compute-01")
    assert not controller.hasManagedSaveImage()
    assert controller.state()[0] == libvirt.VIR_DOMAIN_RUNNING
    controller.managedSave()
    assert len(mine.destroy()) == 4


def test_an_image_that_was_altered_since_it_was_built_is_not_used(
    clones: tuple[Clone, Clone], hypervisor: LibvirtHost
) -> None:
    mine, _ = clones
    image = mine.file.parents[1] / "empty.qcow2"
    manifest = Manifest("key", file_digest(image), image.stat().st_size, 0.0)
    paths.sidecar(image).write_text(manifest.to_json())
    with image.open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"x")
    assert image.stat().st_size == manifest.size
    with pytest.raises(HpcstateError, match="is not what was built"):
        mine.start()
    pool = hypervisor.connection.storagePoolLookupByName("hpcstate-whose")
    assert [volume.name() for volume in pool.listAllVolumes()] == [RECORD]


def test_disks_are_closed_and_older_ones_are_mended(
    clones: tuple[Clone, Clone], hypervisor: LibvirtHost
) -> None:
    mine, _ = clones
    mine.start()
    folder = Path(str(objects.pool_path(mine.cluster)))
    disks = {path.name: path for path in folder.iterdir()}
    assert {"controller.qcow2", "compute-01.iso", RECORD} <= disks.keys()
    assert {stat.S_IMODE(path.stat().st_mode) for path in disks.values()} == {0o600}
    disks["controller.qcow2"].chmod(0o644)
    mine.start()
    assert stat.S_IMODE(disks["controller.qcow2"].stat().st_mode) == 0o600


def test_a_data_volume_outlives_its_cluster(
    clones: tuple[Clone, Clone], hypervisor: LibvirtHost, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, theirs = clones
    mine.start()
    data = Path(str(objects.pool_path(mine.cluster))) / "controller_data.qcow2"
    made = data.stat().st_ino
    xml = hypervisor.connection.lookupByName("whose-controller").XMLDesc()
    assert "<serial>hpcstate-data</serial>" in xml
    assert "hpcstate-data" not in hypervisor.connection.lookupByName("whose-compute-01").XMLDesc()
    mine.destroy(secrets=True, data=False)
    assert "controller_data.qcow2 (Slurm's state and the registry" in capsys.readouterr().out
    assert mine.secrets.is_dir() and names(hypervisor) == {"hpcstate-whose"}
    pool = hypervisor.connection.storagePoolLookupByName("hpcstate-whose")
    pool.refresh()
    assert {volume.name() for volume in pool.listAllVolumes()} == {data.name, RECORD}
    for attempt in (theirs.start, theirs.destroy):
        with pytest.raises(HpcstateError, match="is not its own"):
            attempt()
    mine.start()
    assert data.stat().st_ino == made
    mine.stop()
    mine.file.write_text(mine.file.read_text().replace("disk_gb: 10}\n", "disk_gb: 10, data_gb: 30}\n", 1))
    mine.start()
    assert pool.storageVolLookupByName(data.name).info()[1] == 30 << 30
    mine.stop()
    mine.file.write_text(mine.file.read_text().replace("data_gb: 30", "data_gb: 20"))
    with pytest.raises(HpcstateError, match="it cannot shrink to 20"):
        mine.start()
    assert "storage pool hpcstate-whose" in mine.destroy()
    assert names(hypervisor) == set()
