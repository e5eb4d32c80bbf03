"""The map of the cases from the field to the tests that hold their right answers: a test that goes takes its
case with it, and this one fails.

Each row: the case, the file, the test, and a text of that test or its table which is the case's own.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

_SLURM = ("unit/slurm/test_lint_field.py", "test_a_case_of_the_field_has_its_answer")
_DOCKERFILE = ("unit/container/test_dockerfile.py", "test_the_images_that_a_build_reads")
_BUILT = ("containers/test_cases.py", "test_what_the_engine_takes_is_built")
_LACKS = ("containers/test_cases.py", "test_what_this_engine_lacks_is_said_before_it_fails")
_WRONG = ("unit/container/test_definition.py", "test_what_is_wrong_is_said_with_its_line")
_DEFINED = (
    "containers/test_cases.py",
    "test_a_definition_with_files_apps_values_and_an_entry_point_of_container_yaml",
)
_SIDECAR = (
    "containers/test_cases.py",
    "test_each_image_is_in_the_sidecar_and_the_base_is_that_of_the_last_stage",
)
_PCI = "unit/passthrough/test_field_machines.py"
_SMI = ("unit/gpu/test_findings.py", "test_one_thing_wrong_is_one_finding")
_GPU = "unit/gpu/test_field.py"
_HOST = "unit/hypervisor/test_fit_host.py"
_FIT = "unit/hypervisor/test_fit.py"
_SAID = "unit/hypervisor/test_messages.py"

SLURM = [
    "02",
    "04",
    "07",
    "11",
    "14",
    "16",
    "17",
    "19",
    "22",
    "23",
    "24",
    "25",
    "26b",
    "26c",
    "27",
    "30",
    "31",
    "32",
    "33",
]

CASES: list[tuple[str, str, str, str]] = [
    *((f"slurm/{number}", *_SLURM, f'"{number}",') for number in SLURM),
    ("containers/02", *_LACKS, "RUN with a here-document"),
    ("containers/03", *_BUILT, '"tabs"'),
    ("containers/04", *_LACKS, "FROM tree-$TARGETARCH"),
    ("containers/05b", *_DOCKERFILE, 'ARG A=a B="b c" TAG=1'),
    ("containers/06", *_BUILT, "tree${{GPU:+-gpu}}"),
    ("containers/07b", *_BUILT, '"an unused stage"'),
    (
        "containers/08",
        "unit/container/test_context.py",
        "test_whatever_the_engine_would_copy_is_in_the_key",
        "",
    ),
    ("containers/09", "containers/test_cases.py", "test_what_the_image_says_arrives", "`date`"),
    ("containers/11b", *_BUILT, '"a here-string"'),
    ("containers/12", *_SIDECAR, "FROM base"),
    ("containers/13", *_BUILT, '"a mark of byte order"'),
    ("containers/16", *_SIDECAR, "COPY --from=localhost/c:1"),
    ("containers/20", *_WRONG, "stands before Bootstrap"),
    ("containers/22", *_DEFINED, "%appfiles idl"),
    ("containers/24", *_DEFINED, "of container.yaml args"),
    ("containers/26", *_DEFINED, "From: said.\\\\"),
    ("containers/28", *_WRONG, "From: ../"),
    ("containers/30", *_DEFINED, "docker-archive   # local"),
    ("gpu/1", _PCI, "test_a_disk_of_the_host_in_the_group_of_a_gpu_keeps_it_here", "ZFS_ROOT"),
    ("gpu/1, other uses", "facts/test_pci_use.py", "test_nvme_with_native_multipath", ""),
    ("gpu/2", _PCI, "test_a_virtual_function_goes_alone_and_its_maker_stays", "SRIOV"),
    ("gpu/3", _PCI, "test_nvswitches_are_seen_and_go_together_or_not_at_all", "HGX"),
    ("gpu/4", _PCI, "test_an_isa_bridge_with_a_driver_spoils_its_group", "ISA_BRIDGE"),
    ("gpu/5", _PCI, "test_accelerators_are_gpus_and_the_screen_of_a_bmc_is_none", "MI300X"),
    (
        "gpu/5, GRES",
        _PCI,
        "test_gpus_of_other_makers_are_refused_as_gres_before_anything_is_built",
        "OTHER_MAKERS",
    ),
    ("gpu/6", _PCI, "test_a_variant_driver_of_vfio_is_ready", "GRACE"),
    ("gpu/7", _PCI, "test_a_domain_that_libvirt_cannot_name_is_left_out_with_a_word", "VMD"),
    (
        "gpu/8",
        "unit/schema/test_schema.py",
        "test_mig_profiles_are_those_that_nvidia_smi_lists",
        "1g.24gb+gfx",
    ),
    ("gpu/9", *_SMI, '"In Progress"'),
    ("gpu/10", _GPU, "test_a_gpu_off_nvlink", 'off={6: "NODE"}'),
    ("gpu/11", _GPU, "test_nvswitches", "20034, Fatal"),
    ("gpu/12", _GPU, "test_severity_comes_from_number_and_text", "RLW_RXPIPE Nonfatal"),
    ("gpu/13", _GPU, "test_one_that_fell_off_the_bus_is_not_for_jobs_and_its_neighbour_is", ""),
    (
        "gpu/13, deploy",
        "operations/test_node.py",
        "test_what_health_calls_unusable_is_not_offered",
        "",
    ),
    ("gpu/14", *_SMI, "a channel of its memory waits"),
    ("gpu/15", _GPU, "test_a_memory_region_without_an_address", "BAR1 is 0M"),
    (
        "workstation/1",
        "unit/hypervisor/test_firewall.py",
        "test_the_cause_is_named_with_the_next_step",
        "moby#52612",
    ),
    (
        "workstation/1, tried",
        "unit/cluster/test_reach.py",
        "test_nodes_that_do_not_reach_each_other_stop_the_start",
        "",
    ),
    (
        "workstation/2",
        "unit/hypervisor/test_firewall.py",
        "test_rules_that_are_gone_are_put_back",
        "firehol#368",
    ),
    (
        "workstation/3",
        "unit/hypervisor/test_routes.py",
        "test_what_the_kernel_takes_elsewhere_is_an_error",
        "",
    ),
    ("workstation/3, severity", _FIT, "test_routes_that_overlap_the_subnet", ""),
    (
        "workstation/4",
        "unit/hypervisor/test_rivals.py",
        "test_who_has_port_53_and_how_it_is_bound",
        "NethServer",
    ),
    ("workstation/5", _HOST, "test_who_may_not_use_libvirt_or_kvm_is_told_how", "usermod"),
    ("workstation/5, kvm", _HOST, "test_a_kvm_that_cannot_be_opened_does_not_work", ""),
    ("workstation/6", _SAID, "test_a_refusal_names_its_cause_and_the_next_step", "failed to initialize kvm"),
    (
        "workstation/7",
        _HOST,
        "test_a_device_that_another_took_the_place_of_stops_before_anything_is_built",
        "",
    ),
    (
        "workstation/7, boot",
        "operations/test_vfio.py",
        "test_at_boot_only_the_devices_that_were_meant_are_claimed",
        "",
    ),
    (
        "workstation/8",
        "operations/test_vfio.py",
        "test_who_has_a_gpu_open_is_named_before_anything_is_unbound",
        "",
    ),
    (
        "workstation/8, limit",
        "operations/test_vfio.py",
        "test_a_driver_that_does_not_let_go_is_not_waited_for_without_limit",
        "",
    ),
    ("workstation/9", _PCI, "test_the_boot_display_goes_only_where_the_file_says_so", "boot_vga"),
    ("workstation/10", _PCI, "test_what_a_reset_does_not_bring_back_is_said", "gnif/vendor-reset#46"),
    ("workstation/11", _FIT, "test_regions_of_devices_are_added_up", "kubevirt#11093"),
    ("workstation/12", _HOST, "test_vfio_pins_memory_that_the_host_needs", ""),
    ("workstation/13", _HOST, "test_huge_pages_without_a_file_system_are_told_how_to_mount_it", ""),
    ("workstation/14", _HOST, "test_a_rom_file_is_judged_as_the_user_that_qemu_runs_as", ""),
    ("workstation/15", _SAID, "test_libvirts_reason_for_a_state_is_said", "no space left"),
    (
        "workstation/15, stop",
        "unit/cluster/test_leave.py",
        "test_of_a_paused_node_the_controller_is_asked",
        "",
    ),
    (
        "workstation/16",
        "unit/hypervisor/test_autostart.py",
        "test_network_pool_and_nodes_come_with_the_host",
        "",
    ),
    (
        "workstation/17",
        "operations/test_vfio.py",
        "test_how_a_host_boots_is_found_out_before_anything_is_written",
        "",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[row[0] for row in CASES])
def test_a_case_of_the_field_has_its_test(case: tuple[str, str, str, str]) -> None:
    _, file, test, own = case
    text = (ROOT / file).read_text(encoding="utf-8")
    tests = {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    assert test in tests
    assert own in text


def test_every_number_is_there() -> None:
    assert {f"gpu/{number}" for number in range(1, 16)} <= {row[0] for row in CASES}
    assert {f"workstation/{number}" for number in range(1, 18)} <= {row[0] for row in CASES}
