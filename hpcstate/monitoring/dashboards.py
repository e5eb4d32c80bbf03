"""Grafana's dashboards as code. ``python -m hpcstate.monitoring.dashboards`` writes the files of
templates/monitoring/dashboards.

With grafana-foundation-sdk, which is pinned in pyproject.toml: 0.0.21 is made from Grafana's main branch, of
which 12 is; what pip takes by itself has an epoch in its version and is for Grafana 10.1. A deploy reads the
files that are written here and needs no SDK. Grafana 11 and 12 read this kind of document (schema v1).

Queries have Grafana's variables: ``$node``, ``$jobid``, ``$__rate_interval``. They ask for our own rules
(templates/monitoring/jobs.yml.j2, gpus.yml.j2) where there are some.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
)
from grafana_foundation_sdk.builders import timeseries as graph
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    DataSourceRef,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataTransformerConfig,
    Threshold,
    ThresholdsMode,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from hpcstate.paths import TEMPLATES

FOLDER = TEMPLATES / "monitoring" / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH = 24
"""Columns of Grafana's grid."""

Panel = Any
"""A builder of the SDK: each kind has a class of its own, without a common one that has these methods."""

Query = tuple[str, str]
"""An expression, and the legend of its series."""

REAL = 'fstype!~"tmpfs|ramfs|nfs.*|virtiofs|overlay|squashfs"'
"""Filesystems of a node's own disks."""


def _asked(queries: Sequence[Query], *, instant: bool = False, as_table: bool = False) -> list[Any]:
    found = []
    for letter, (expression, legend) in zip("ABCDEFGH", queries, strict=False):
        query = prometheus.Dataquery().expr(expression).ref_id(letter).datasource(SOURCE)
        query = query.instant() if instant else query.range()
        if legend:
            query = query.legend_format(legend)
        found.append(query.format(PromQueryFormat.TABLE) if as_table else query)
    return found


def _bounds(*steps: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    found = [Threshold(value=value, color=colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(found)


GOOD = ((None, "green"),)
NONE_IS_GOOD = ((None, "green"), (1, "red"))


def chart(
    title: str, *queries: Query, unit: str = "short", span: int = 12, stacked: bool = False, most: float = 0
) -> Panel:
    """Lines over time. ``most`` is the end of the axis, 0 for that of the data."""
    legend = common.VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST)
    panel = (
        graph.Panel()
        .title(title)
        .unit(unit)
        .span(span)
        .height(8)
        .min(0)
        .fill_opacity(25 if stacked else 5)
        .line_width(1)
        .legend(legend.placement(LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .datasource(SOURCE)
        .targets(_asked(queries))
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    return panel.max(most) if most else panel


def number(
    title: str,
    query: str,
    unit: str = "short",
    span: int = 4,
    bounds: Sequence[tuple[float | None, str]] = GOOD,
) -> Panel:
    """The number now."""
    return (
        stat.Panel()
        .title(title)
        .unit(unit)
        .span(span)
        .height(4)
        .thresholds(_bounds(*bounds))
        .datasource(SOURCE)
        .targets(_asked([(query, "")], instant=True))
    )


def bars(title: str, query: str, legend: str, unit: str = "short", span: int = 12, most: float = 0) -> Panel:
    """A bar for each series, now."""
    panel = (
        bargauge.Panel()
        .title(title)
        .unit(unit)
        .span(span)
        .height(8)
        .min(0)
        .thresholds(_bounds(*GOOD))
        .datasource(SOURCE)
        .targets(_asked([(query, legend)], instant=True))
    )
    return panel.max(most) if most else panel


def lines(title: str, query: str, hidden: Sequence[str] = (), span: int = WIDTH) -> Panel:
    """A table with a line for each series: its labels but those that are ``hidden``, and its value."""
    away = dict.fromkeys(("Time", "__name__", "job", *hidden), True)
    return (
        table.Panel()
        .title(title)
        .span(span)
        .height(8)
        .datasource(SOURCE)
        .targets(_asked([(query, "")], instant=True, as_table=True))
        .with_transformation(DataTransformerConfig(id_val="organize", options={"excludeByName": away}))
    )


def states(title: str, query: str, legend: str, span: int = WIDTH) -> Panel:
    """1 is well and 0 is not, over time."""
    return (
        statetimeline.Panel()
        .title(title)
        .span(span)
        .height(8)
        .thresholds(_bounds((None, "red"), (1, "green")))
        .datasource(SOURCE)
        .targets(_asked([(query, legend)]))
    )


def _variable(name: str, label: str, query: str, *, every: bool) -> Any:
    found = (
        dashboard.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(SOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
    return found.multi(True).include_all(True).all_value(".*") if every else found


NODE = ("node", "Node", 'label_values(up{job="node"}, instance)', True)
JOB = ("jobid", "Job", "label_values(hpcstate_slurm_job_info, jobid)", False)


def _board(
    name: str,
    title: str,
    meaning: str,
    rows: Sequence[tuple[str, Sequence[Panel]]],
    *variables: tuple[str, str, str, bool],
) -> dashboard.Dashboard:
    board = (
        dashboard.Dashboard(f"hpcstate: {title}")
        .uid(f"hpcstate-{name}")
        .description(meaning)
        .tags(["hpcstate"])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource")
            .label("Prometheus")
            .type("prometheus")
            .hide(VariableHide.DONT_HIDE)
            .current(VariableOption(text="Prometheus", value="hpcstate"))
        )
        .link(
            dashboard.DashboardLink("hpcstate")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["hpcstate"])
            .as_dropdown(True)
            .keep_time(True)
        )
    )
    for key, label, query, every in variables:
        board = board.with_variable(_variable(key, label, query, every=every))
    count = 0
    for row, panels in rows:
        count += 1
        board = board.with_row(dashboard.Row(row).id(count))
        for panel in panels:
            count += 1
            board = board.with_panel(panel.id(count))
    return board


def overview() -> dashboard.Dashboard:
    """Is the cluster well, and who uses it."""
    return _board(
        "overview",
        "Overview",
        "The whole cluster: what is up, what runs, what is wrong.",
        [
            (
                "Now",
                [
                    number("Nodes that answer", 'count(up{job="node"} == 1)'),
                    number(
                        "Nodes that do not", 'count(up{job="node"} == 0) or vector(0)', bounds=NONE_IS_GOOD
                    ),
                    number("Nodes drained", "slurm_nodes_drain", bounds=((None, "green"), (1, "orange"))),
                    number("Jobs that run", "slurm_jobs_running"),
                    number("Jobs that wait", "slurm_jobs_pending"),
                    number("Alerts", 'count(ALERTS{alertstate="firing"}) or vector(0)', bounds=NONE_IS_GOOD),
                ],
            ),
            (
                "Alerts",
                [lines("Alerts that fire", 'ALERTS{alertstate="firing"}', ("alertstate", "Value"))],
            ),
            (
                "Use",
                [
                    chart(
                        "Cores",
                        ("sum(slurm_node_cpus_alloc)", "given to jobs"),
                        ("sum(slurm_node_cpus)", "all"),
                    ),
                    chart(
                        "GPUs",
                        ("sum(slurm_node_gpus_alloc)", "given to jobs"),
                        ("sum(slurm_node_gpus)", "all"),
                    ),
                    chart(
                        "Memory",
                        ("sum(slurm_node_memory_alloc_bytes)", "given to jobs"),
                        ("sum(slurm_node_memory_bytes)", "all"),
                        unit="bytes",
                    ),
                    chart(
                        "Jobs", ("slurm_jobs_running", "run"), ("slurm_jobs_pending", "wait"), stacked=True
                    ),
                    chart(
                        "Cores by account", ("slurm_account_jobs_cpus_alloc > 0", "{{account}}"), stacked=True
                    ),
                    chart("Cores by user", ("slurm_user_jobs_cpus_alloc > 0", "{{username}}"), stacked=True),
                ],
            ),
        ],
    )


def nodes() -> dashboard.Dashboard:
    """What node exporter tells of the nodes that are chosen."""
    of = 'instance=~"$node"'
    rate = "[$__rate_interval]"
    return _board(
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


def slurm() -> dashboard.Dashboard:
    """What slurmctld says of its queue, its nodes and itself."""
    return _board(
        "slurm",
        "Slurm",
        "The queue, the nodes as Slurm sees them, and slurmctld itself.",
        [
            (
                "Queue",
                [
                    chart(
                        "Jobs by state",
                        *(
                            (f"slurm_jobs_{state}", state)
                            for state in ("running", "pending", "suspended", "hold")
                        ),
                        ("slurm_jobs_completing", "completing"),
                        stacked=True,
                    ),
                    chart(
                        "Jobs that wait",
                        ("hpcstate_slurm_jobs_eligible", "for resources"),
                        ("hpcstate_slurm_jobs_dependency", "for another job"),
                        ("slurm_jobs_hold", "held"),
                    ),
                    chart("Jobs that wait, by partition", ("slurm_partition_jobs_pending", "{{partition}}")),
                    chart("Jobs that wait, by user", ("slurm_user_jobs_pending > 0", "{{username}}")),
                    chart(
                        "Cores in use, by partition", ("slurm_partition_nodes_cpus_alloc", "{{partition}}")
                    ),
                    chart("GPUs in use, by node", ("slurm_node_gpus_alloc", "{{node}}")),
                ],
            ),
            (
                "Nodes",
                [
                    chart(
                        "Nodes by state",
                        *(
                            (f"slurm_nodes_{state}", state)
                            for state in ("idle", "mixed", "alloc", "drain", "down")
                        ),
                        ("slurm_nodes_noresp", "do not answer"),
                    ),
                    lines(
                        "Drained: seconds since, by whom, and why",
                        "time() - hpcstate_slurm_node_drained_since_timestamp_seconds",
                        ("instance", "role"),
                        span=12,
                    ),
                    lines("What nodes run", "hpcstate_slurm_node_runs", ("instance", "role", "Value")),
                ],
            ),
            (
                "slurmctld",
                [
                    chart(
                        "Cycle of the scheduler",
                        ("slurm_schedule_cycle_last / 1e6", "main, last"),
                        ("slurm_sched_mean_cycle / 1e6", "main, mean"),
                        ("slurm_bf_cycle_last / 1e6", "backfill, last"),
                        unit="s",
                    ),
                    chart(
                        "Jobs since midnight",
                        ("slurm_sdiag_jobs_submitted", "submitted"),
                        ("slurm_sdiag_jobs_started", "started"),
                        ("slurm_backfilled_jobs", "by backfill"),
                    ),
                    chart(
                        "Threads and queues",
                        ("slurm_server_thread_cnt", "threads"),
                        ("slurm_agent_queue_size", "messages for nodes"),
                        ("slurm_slurmdbd_queue_size", "records for slurmdbd"),
                    ),
                    chart(
                        "How long it takes to answer",
                        ("hpcstate_slurm_asked_seconds", "{{command}}"),
                        unit="s",
                    ),
                    states("It answers", "hpcstate_slurm_answers", "{{command}}"),
                ],
            ),
        ],
    )


def gpu() -> dashboard.Dashboard:
    """What DCGM or nvidia-smi tells of GPUs."""
    of = 'instance=~"$node"'
    by = "{{instance}} GPU {{gpu}}"
    return _board(
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


def job() -> dashboard.Dashboard:
    """One job on its nodes."""
    of = 'jobid="$jobid"'
    return _board(
        "job",
        "Job",
        "What a job has and what it uses, on each of its nodes, by its control group.",
        [
            (
                "Job",
                [lines("Whose it is", f"hpcstate_slurm_job_info{{{of}}}", ("instance", "role", "Value"))],
            ),
            (
                "Use",
                [
                    chart(
                        "Cores",
                        (f"job:cpus_used{{{of}}}", "{{instance}} used"),
                        (f"job:cpus{{{of}}}", "{{instance}} given"),
                    ),
                    chart(
                        "Memory",
                        (f"job:memory_used_bytes{{{of}}}", "{{instance}} used"),
                        (f"job:memory_rss_bytes{{{of}}}", "{{instance}} of its processes"),
                        (f"job:memory_limit_bytes{{{of}}}", "{{instance}} limit"),
                        unit="bytes",
                    ),
                    chart("Most memory", (f"job:memory_peak_bytes{{{of}}}", "{{instance}}"), unit="bytes"),
                    chart("Kills for lack of memory", (f"job:memory_oom_kills{{{of}}}", "{{instance}}")),
                    chart(
                        "Its tasks wait for",
                        (f"job:pressure_cpu_waiting{{{of}}}", "{{instance}} cores"),
                        (f"job:pressure_memory_waiting{{{of}}}", "{{instance}} memory"),
                        (f"job:pressure_io_waiting{{{of}}}", "{{instance}} disks"),
                        unit="percentunit",
                    ),
                    chart(
                        "All of its tasks wait for",
                        (f"job:pressure_memory_stalled{{{of}}}", "{{instance}} memory"),
                        (f"job:pressure_io_stalled{{{of}}}", "{{instance}} disks"),
                        unit="percentunit",
                    ),
                ],
            ),
        ],
        JOB,
    )


def storage() -> dashboard.Dashboard:
    """Room and speed of disks, and the age of the backup."""
    of = f'{REAL}, instance=~"$node"'
    disk = 'instance=~"$node"'
    rate = "[$__rate_interval]"
    by = "{{instance}} {{mountpoint}}"
    return _board(
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


BOARDS: dict[str, Callable[[], dashboard.Dashboard]] = {
    "overview": overview,
    "nodes": nodes,
    "slurm": slurm,
    "gpu": gpu,
    "job": job,
    "storage": storage,
}


def text(name: str) -> str:
    """The JSON of the dashboard ``name``: a line for each panel, so that a change is seen."""
    document = json.loads(JSONEncoder(sort_keys=True).encode(BOARDS[name]().build()))
    panels = document.pop("panels")
    head = json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False)
    body = ",\n".join("  " + json.dumps(panel, sort_keys=True, ensure_ascii=False) for panel in panels)
    return f'{head[:-2]},\n "panels": [\n{body}\n ]\n}}\n'


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for name in BOARDS:
        (FOLDER / f"{name}.json").write_text(text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
