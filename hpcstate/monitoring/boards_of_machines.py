"""Grafana's dashboards of the machines: nodes, their GPUs, their disks."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from hpcstate.monitoring.panels import NODE, NONE_IS_GOOD, bars, board, chart, number, states

REAL = 'fstype!~"tmpfs|ramfs|nfs.*|virtiofs|overlay|squashfs"'
"""Filesystems of a node's own disks."""


def nodes() -> dashboard.Dashboard:
    """What node exporter tells of the nodes that are chosen."""
    of = 'instance=~"$node"'
    rate = "[$__rate_interval]"
    return board(
        "nodes",
        "Nodes",
        "Processors, memory, network, disks and services of each node.",
        [
            (
                "Load",
                [
                    chart(
                        "Processors",
                        (
                            f'1 - avg by (instance) (rate(node_cpu_seconds_total{{mode="idle", {of}}}'
                            f"{rate}))",
                            "{{instance}}",
                        ),
                        unit="percentunit",
                        most=1,
                    ),
                    chart("Load, 5 minutes", (f"node_load5{{{of}}}", "{{instance}}")),
                    chart(
                        "Memory in use",
                        (
                            f"1 - node_memory_MemAvailable_bytes{{{of}}}"
                            f" / node_memory_MemTotal_bytes{{{of}}}",
                            "{{instance}}",
                        ),
                        unit="percentunit",
                        most=1,
                    ),
                    chart(
                        "Tasks wait for",
                        (
                            f"rate(node_pressure_cpu_waiting_seconds_total{{{of}}}{rate})",
                            "{{instance}} processors",
                        ),
                        (
                            f"rate(node_pressure_memory_waiting_seconds_total{{{of}}}{rate})",
                            "{{instance}} memory",
                        ),
                        (f"rate(node_pressure_io_waiting_seconds_total{{{of}}}{rate})", "{{instance}} disks"),
                        unit="percentunit",
                    ),
                ],
            ),
            (
                "Network and disks",
                [
                    chart(
                        "Received",
                        (
                            f'sum by (instance) (rate(node_network_receive_bytes_total{{device!="lo", {of}}}'
                            f"{rate}))",
                            "{{instance}}",
                        ),
                        unit="Bps",
                    ),
                    chart(
                        "Sent",
                        (
                            f'sum by (instance) (rate(node_network_transmit_bytes_total{{device!="lo", {of}}}'
                            f"{rate}))",
                            "{{instance}}",
                        ),
                        unit="Bps",
                    ),
                    chart(
                        "Errors and drops of the network",
                        (
                            f"sum by (instance) (rate(node_network_receive_errs_total{{{of}}}{rate})"
                            f" + rate(node_network_receive_drop_total{{{of}}}{rate}))",
                            "{{instance}}",
                        ),
                        unit="pps",
                    ),
                    chart(
                        "Disks are busy",
                        (f"rate(node_disk_io_time_seconds_total{{{of}}}{rate})", "{{instance}} {{device}}"),
                        unit="percentunit",
                    ),
                ],
            ),
            (
                "Services and clocks",
                [
                    states(
                        "Services that run",
                        f'node_systemd_unit_state{{state="active", {of}}}',
                        "{{instance}} {{name}}",
                    ),
                    chart(
                        "Clock against the controller's",
                        (
                            f"abs(node_time_seconds{{{of}}} - timestamp(node_time_seconds{{{of}}}))",
                            "{{instance}}",
                        ),
                        unit="s",
                    ),
                    chart("Up since", (f"time() - node_boot_time_seconds{{{of}}}", "{{instance}}"), unit="s"),
                    chart(
                        "Kills for lack of memory",
                        (f"increase(node_vmstat_oom_kill{{{of}}}[1h])", "{{instance}}"),
                    ),
                    chart(
                        "Certificates end in",
                        (
                            f"hpcstate_certificate_not_after_timestamp_seconds{{{of}}} - time()",
                            "{{instance}}",
                        ),
                        unit="s",
                    ),
                ],
            ),
        ],
        NODE,
    )


def gpu() -> dashboard.Dashboard:
    """What DCGM or nvidia-smi tells of GPUs."""
    of = 'instance=~"$node"'
    by = "{{instance}} GPU {{gpu}}"
    return board(
        "gpu",
        "GPUs",
        "By DCGM or nvidia-smi. Simulated GPUs have the label simulated; they have no temperature.",
        [
            (
                "Now",
                [
                    number("GPUs", f"sum(hpcstate_gpus_declared{{{of}}})"),
                    number("of them simulated", f"sum(hpcstate_gpus_simulated{{{of}}})"),
                    number("GPUs in use", 'sum(slurm_node_gpus_alloc{node=~"$node"})'),
                    number("GPUs that answer", f"sum(instance:gpus_answering{{{of}}})"),
                    number("slowed by heat or power", f"sum(gpu:slowed{{{of}}})", bounds=NONE_IS_GOOD),
                    number(
                        "Xids in a day",
                        f"sum(increase(hpcstate_gpu_xids_total{{{of}}}[1d]))",
                        bounds=((None, "green"), (0.5, "red")),
                    ),
                ],
            ),
            (
                "Use",
                [
                    chart("Busy", (f"gpu:utilization{{{of}}}", by), unit="percentunit", most=1),
                    chart("Memory", (f"gpu:memory_used_bytes{{{of}}}", by), unit="bytes"),
                    chart("Power", (f"gpu:power_watts{{{of}}}", by), unit="watt"),
                    chart("Clock", (f"gpu:sm_clock_hertz{{{of}}}", by), unit="hertz"),
                ],
            ),
            (
                "Health",
                [
                    chart(
                        "Temperature",
                        (f"gpu:temperature_celsius{{{of}}}", by),
                        (f"gpu:memory_temperature_celsius{{{of}}}", by + " memory"),
                        unit="celsius",
                    ),
                    chart("Slowed by heat or power", (f"gpu:slowed{{{of}}}", by), most=1),
                    chart(
                        "Xids an hour",
                        (f"increase(hpcstate_gpu_xids_total{{{of}}}[1h])", "{{instance}} {{pci_bus_id}}"),
                    ),
                    chart(
                        "Memory errors since the driver was loaded",
                        (f"gpu:uncorrected_errors{{{of}}}", by + " uncorrected"),
                        (f"gpu:corrected_errors{{{of}}}", by + " corrected"),
                    ),
                    chart("Remapped rows", (f"gpu:remapped_rows{{{of}}}", by)),
                    states(
                        "What is asked answers",
                        f"hpcstate_gpu_answers{{{of}}}",
                        "{{instance}} {{command}}",
                        span=12,
                    ),
                ],
            ),
        ],
        NODE,
    )


def storage() -> dashboard.Dashboard:
    """Room and speed of disks, and the age of the backup."""
    of = f'{REAL}, instance=~"$node"'
    disk = 'instance=~"$node"'
    rate = "[$__rate_interval]"
    by = "{{instance}} {{mountpoint}}"
    return board(
        "storage",
        "Storage",
        "Room on the nodes' own disks and on the data volume, their speed, and what Prometheus itself keeps.",
        [
            (
                "Room",
                [
                    bars(
                        "In use",
                        f"1 - node_filesystem_avail_bytes{{{of}}} / node_filesystem_size_bytes{{{of}}}",
                        by,
                        unit="percentunit",
                        most=1,
                    ),
                    bars("Left", f"node_filesystem_avail_bytes{{{of}}}", by, unit="bytes"),
                    chart("Left", (f"node_filesystem_avail_bytes{{{of}}}", by), unit="bytes"),
                    chart(
                        "Left in a day, at the pace of the last six hours",
                        (f"predict_linear(node_filesystem_avail_bytes{{{of}}}[6h], 86400)", by),
                        unit="bytes",
                    ),
                    chart(
                        "Files left",
                        (f"node_filesystem_files_free{{{of}}} / node_filesystem_files{{{of}}}", by),
                        unit="percentunit",
                        most=1,
                    ),
                    chart("Mounted read-only", (f"node_filesystem_readonly{{{of}}}", by), most=1),
                ],
            ),
            (
                "Speed",
                [
                    chart(
                        "Read",
                        (f"rate(node_disk_read_bytes_total{{{disk}}}{rate})", "{{instance}} {{device}}"),
                        unit="Bps",
                    ),
                    chart(
                        "Written",
                        (f"rate(node_disk_written_bytes_total{{{disk}}}{rate})", "{{instance}} {{device}}"),
                        unit="Bps",
                    ),
                    chart(
                        "Time of a read",
                        (
                            f"rate(node_disk_read_time_seconds_total{{{disk}}}{rate})"
                            f" / (rate(node_disk_reads_completed_total{{{disk}}}{rate}) > 0 or "
                            f"rate(node_disk_reads_completed_total{{{disk}}}{rate}) + 1)",
                            "{{instance}} {{device}}",
                        ),
                        unit="s",
                    ),
                    chart(
                        "Time of a write",
                        (
                            f"rate(node_disk_write_time_seconds_total{{{disk}}}{rate})"
                            f" / (rate(node_disk_writes_completed_total{{{disk}}}{rate}) > 0 or "
                            f"rate(node_disk_writes_completed_total{{{disk}}}{rate}) + 1)",
                            "{{instance}} {{device}}",
                        ),
                        unit="s",
                    ),
                ],
            ),
            (
                "Kept",
                [
                    chart("Prometheus' series", ("prometheus_tsdb_head_series", "")),
                    chart(
                        "Prometheus' database",
                        ("prometheus_tsdb_storage_blocks_bytes", "blocks"),
                        ("prometheus_tsdb_wal_storage_size_bytes", "log"),
                        unit="bytes",
                    ),
                    number(
                        "Last backup, ago; none where it is not made by a timer",
                        "time() - hpcstate_backup_taken_timestamp_seconds",
                        unit="s",
                        span=12,
                    ),
                ],
            ),
        ],
        NODE,
    )
