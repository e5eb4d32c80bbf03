"""Panels of Grafana's dashboards, and what all of the dashboards have, with grafana-foundation-sdk.

It is pinned in pyproject.toml: 0.0.21 is made from Grafana's main branch, of which 12 is; what pip takes by
itself has an epoch in its version and is for Grafana 10.1.
"""

from __future__ import annotations

from collections.abc import Sequence
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

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

WIDTH = 24
"""Columns of Grafana's grid."""

Panel = Any
"""A builder of the SDK: each kind has a class of its own, without a common one that has these methods."""

Query = tuple[str, str]
"""An expression, and the legend of its series."""


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


def board(
    name: str,
    title: str,
    meaning: str,
    rows: Sequence[tuple[str, Sequence[Panel]]],
    *variables: tuple[str, str, str, bool],
) -> dashboard.Dashboard:
    made = (
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
        made = made.with_variable(_variable(key, label, query, every=every))
    count = 0
    for row, panels in rows:
        count += 1
        made = made.with_row(dashboard.Row(row).id(count))
        for panel in panels:
            count += 1
            made = made.with_panel(panel.id(count))
    return made
