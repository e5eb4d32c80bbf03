"""Which driver for which GPU, checked against Debian's own lists; sources, packages, reasons for a reboot."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.gpu import driver as nvidia_driver
from hpcstate.probe.apt import AptSources
from hpcstate.probe.nvidia_driver import DriverPackage
from tests.unit.nvidia_states import BARE, BUILT, KERNEL, MAIN, RUNNING, SET, VERSION, source, state
from tests.unit.pci_hosts import AUDIO, BRIDGE, GPU, SECOND, device

IDS = Path(__file__).with_name("nvidia_device_ids.txt")
UNLISTED = {"137d", "1bb3", "1df5", "1f09"}
"""Newer than Kepler and in the lists of 470 only: NVIDIA names them for 550 by their subsystems."""


def lists() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in IDS.read_text().splitlines():
        if line.startswith("["):
            here = found.setdefault(line.strip("[]"), [])
        elif not line.startswith("#"):
            here.extend(line.split())
    return found


LISTS = lists()


def gpu(number: str, address: str = "0000:01:00.0", **more: Any) -> Any:
    return device(address, f"10de:{number}", "030200", **more)


def test_the_lists_are_whole() -> None:
    assert {name: len(ids) for name, ids in LISTS.items()} == {
        "proprietary": 405,
        "open": 235,
        "only-470": 125,
        "only-390": 120,
    }


def refusal(number: str, wanted: str = "") -> str:
    """Why a GPU with this id gets no driver; empty when it gets one."""
    try:
        nvidia_driver.choose_modules([gpu(number)], wanted)
    except HpcstateError as error:
        return error.message
    return ""


@pytest.mark.parametrize(
    ("numbers", "wanted", "words"),
    [
        pytest.param(LISTS["proprietary"], "", "", id="all of 550"),
        pytest.param(UNLISTED, "", "", id="named by subsystem only"),
        pytest.param(LISTS["open"], "open", "", id="open"),
        pytest.param(
            [n for n in LISTS["proprietary"] if n < "1e00"], "open", "older than Turing", id="not open"
        ),
        pytest.param({*LISTS["only-470"]} - UNLISTED, "", "(nvidia-tesla-470)", id="Kepler"),
        pytest.param(LISTS["only-390"], "", "older than Kepler", id="older"),
        pytest.param(
            ["2901", "2b85", "2f04", "3182"], "open", "Blackwell needs 570 or newer", id="Blackwell"
        ),
    ],
)
def test_each_gpu_has_its_answer(numbers: Collection[str], wanted: str, words: str) -> None:
    assert numbers
    others = [n for n in numbers if (words not in refusal(n, wanted) if words else refusal(n, wanted))]
    assert others == []


def test_all_refused_gpus_are_named_at_once() -> None:
    devices = [gpu("1180"), gpu("2805", "0000:02:00.0"), gpu("2b85", "0000:03:00.0", device_name="GB202")]
    with pytest.raises(HpcstateError) as caught:
        nvidia_driver.choose_modules(devices)
    assert "0000:01:00.0 (10de:1180)" in str(caught.value)
    assert "0000:02:00.0" not in str(caught.value)
    assert "0000:03:00.0 (GB202)" in str(caught.value)


def test_a_choice_that_is_none_is_refused() -> None:
    with pytest.raises(HpcstateError, match="no kernel modules 'nouveau'"):
        nvidia_driver.choose_modules([GPU], "nouveau")


def test_gpus_are_display_and_3d_controllers_of_nvidia() -> None:
    amd = device("0000:09:00.0", "1002:73bf", "030000")
    tesla = device("0000:0a:00.0", "10de:20b0", "030200")
    found = nvidia_driver.gpus({d["address"]: d for d in (BRIDGE, GPU, AUDIO, SECOND, amd, tesla)})
    assert [d["address"] for d in found] == ["0000:01:00.0", "0000:07:00.0", "0000:0a:00.0"]


@pytest.mark.parametrize(
    ("release", "flavour"),
    [
        (KERNEL, "cloud-amd64"),
        ("6.12.107+deb13-amd64", "amd64"),
        ("6.12.107+deb13-rt-amd64", "rt-amd64"),
        ("6.1.0-37-cloud-amd64", "cloud-amd64"),
        ("6.16.3+deb13-arm64", "arm64"),
        ("6.12.107+deb13-cloud-arm64", "cloud-arm64"),
    ],
)
def test_the_flavour_of_debians_kernels(release: str, flavour: str) -> None:
    assert nvidia_driver.kernel_flavour(release) == flavour


@pytest.mark.parametrize("release", ["6.18.7", "6.8.0-31-generic", "5.15.0-microsoft-standard-WSL2", ""])
def test_other_kernels_are_refused(release: str) -> None:
    with pytest.raises(HpcstateError, match="none of Debian's"):
        nvidia_driver.kernel_flavour(release)


def test_the_packages_of_a_node() -> None:
    assert nvidia_driver.packages("proprietary", KERNEL) == list(SET)
    opened = nvidia_driver.packages("open", "6.12.107+deb13-amd64", mps=True)
    assert opened[5:] == [
        "nvidia-open-kernel-dkms",
        "linux-image-amd64",
        "linux-headers-amd64",
        "nvidia-cuda-mps",
    ]
    assert nvidia_driver.missing(opened, RUNNING) == opened[5:]
    assert nvidia_driver.missing(SET, RUNNING) == []
    assert nvidia_driver.rivals("open", RUNNING) == ["nvidia-kernel-dkms"]
    assert nvidia_driver.rivals("proprietary", RUNNING) == []


def test_what_a_failed_build_left_is_missing_and_in_the_way() -> None:
    half = DriverPackage(version=f"{VERSION}-2", whole=False, held=False)
    found = state(RUNNING, packages={**RUNNING["packages"], "nvidia-kernel-dkms": half})
    assert nvidia_driver.missing(SET, found) == ["nvidia-kernel-dkms"]
    assert nvidia_driver.rivals("open", found) == ["nvidia-kernel-dkms"]


@pytest.mark.parametrize(
    ("found", "reasons"),
    [
        pytest.param(BARE, [], id="nothing installed"),
        pytest.param(BUILT, [], id="to be loaded"),
        pytest.param(RUNNING, [], id="running"),
        pytest.param(state(BUILT, nouveau_loaded=True), ["nouveau is loaded"], id="nouveau"),
        pytest.param(
            state(BUILT, kernel="6.12.100+deb13-cloud-amd64"),
            [f"the driver is built for {KERNEL}, not for the running kernel 6.12.100+deb13-cloud-amd64"],
            id="newer kernel",
        ),
        pytest.param(
            state(RUNNING, library="550.170.00"),
            [f"the loaded module is {VERSION}, the libraries are 550.170.00"],
            id="older module",
        ),
        pytest.param(
            state(RUNNING, loaded_modules="open"),
            ["the loaded modules are the open ones, not the proprietary ones"],
            id="other modules",
        ),
    ],
)
def test_reasons_for_a_reboot(found: Any, reasons: list[str]) -> None:
    assert nvidia_driver.reboot_reasons("proprietary", found) == reasons


@pytest.mark.parametrize(("secure", "enrolled", "stopped"), [(0, 0, 0), (1, 0, 1), (1, 1, 0), (0, 1, 0)])
def test_secure_boot_without_a_known_key_is_refused(secure: int, enrolled: int, stopped: int) -> None:
    found = state(BARE, secure_boot=bool(secure), key_enrolled=bool(enrolled))
    assert ("mokutil --import" in nvidia_driver.secure_boot_problem(found)) is bool(stopped)


def test_what_dkms_has_built() -> None:
    assert nvidia_driver.not_built("proprietary", BARE)
    assert not nvidia_driver.not_built("proprietary", BUILT)
    assert nvidia_driver.not_built("open", BUILT)


def entries(*sources: Any) -> list[tuple[str, str]]:
    found = nvidia_driver.source_entries(AptSources(codename="trixie", sources=list(sources)))
    return [(" ".join(entry["suites"]), " ".join(entry["components"])) for entry in found]


def test_only_the_components_that_lack_are_added() -> None:
    assert entries(source("trixie", "main")) == [("trixie", "contrib non-free non-free-firmware")]
    assert entries(source("trixie trixie-updates trixie-backports", "main non-free-firmware")) == [
        ("trixie trixie-updates", "contrib non-free")
    ]
    assert entries(source("trixie", "main contrib non-free non-free-firmware")) == []
    apart = source("trixie", "contrib non-free non-free-firmware", "/etc/apt/sources.list.d/x.list")
    assert entries(source("trixie", "main"), apart) == []
    assert entries(source("trixie", "main"), source("trixie-security", "main contrib"), apart) == [
        ("trixie-security", "non-free non-free-firmware")
    ]


def test_our_own_entry_does_not_make_itself_superfluous() -> None:
    own = source("trixie", "contrib non-free non-free-firmware", nvidia_driver.SOURCES)
    assert entries(source("trixie", "main"), own) == [("trixie", "contrib non-free non-free-firmware")]


@pytest.mark.parametrize(
    ("apt", "message"),
    [
        (AptSources(codename="bookworm", sources=MAIN["sources"]), "not for bookworm"),
        (AptSources(codename="", sources=[]), "not for this"),
        (AptSources(codename="trixie", sources=[]), "no source of trixie main"),
        (AptSources(codename="trixie", sources=[source("sid", "main")]), "no source of trixie main"),
    ],
)
def test_without_debian_13_there_is_nothing_to_take_it_from(apt: AptSources, message: str) -> None:
    with pytest.raises(HpcstateError, match=message):
        nvidia_driver.files(apt, 1)


def test_the_files_of_a_node() -> None:
    key = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF"
    signed = AptSources(
        codename="trixie",
        sources=[source("trixie", "main", Signed_By=key), source("trixie-updates", "main", Trusted="yes")],
    )
    files = nvidia_driver.files(signed, 2)
    assert files[nvidia_driver.SOURCES].split("\n\n")[1:] == [
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\n"
        f"Components: contrib non-free non-free-firmware\nSigned-By:{key}",
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie-updates\n"
        "Components: contrib non-free non-free-firmware\nTrusted: yes\n",
    ]
    assert "\nPackage: nvidia-* libnvidia-* libcuda1 firmware-nvidia-*\n" in files[nvidia_driver.PREFERENCES]
    assert "\nblacklist nouveau\n" in files[nvidia_driver.NOUVEAU_OFF]
    assert files[nvidia_driver.MODULES_LOAD].endswith("\nnvidia\nnvidia-uvm\n")
    assert (
        "\nExecStart=/usr/bin/nvidia-modprobe -c 0 -c 1\nExecStart=/usr/bin/nvidia-modprobe -u -c 0\n"
        in files[nvidia_driver.DEVICES]
    )
    assert all(content.endswith("\n") and not content.endswith("\n\n") for content in files.values())


def test_where_all_components_are_there_no_source_is_added() -> None:
    whole = AptSources(
        codename="trixie", sources=[source("trixie", "main contrib non-free non-free-firmware")]
    )
    assert nvidia_driver.SOURCES not in nvidia_driver.files(whole, 1)
