"""Grafana's dashboards of what jobs do: the cluster at a glance, Slurm, one job."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from hpcstate.monitoring.panels import JOB, NONE_IS_GOOD, board, chart, lines, number, states


def overview() -> dashboard.Dashboard:
    """Is the cluster well, and who uses it."""
    return board(
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


def slurm() -> dashboard.Dashboard:
    """What slurmctld says of its queue, its nodes and itself."""
    return board(
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


def job() -> dashboard.Dashboard:
    """One job on its nodes."""
    of = 'jobid="$jobid"'
    return board(
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
