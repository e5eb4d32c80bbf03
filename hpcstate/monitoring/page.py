"""The page of a cluster below Prometheus' /consoles/: one file, with what draws its charts within it. Pure.

Prometheus serves its consoles as HTML alone (web/web.go of 2.53, consoles: a template of Go's), so script and
style of uPlot go into the page; it asks nobody but the Prometheus that it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpcstate.model import Cluster
from hpcstate.paths import TEMPLATES

LIBRARY = "uplot"
"""Its name in tools.toml, below npm."""

SCRIPT, STYLE, LICENCE = "dist/uPlot.iife.min.js", "dist/uPlot.min.css", "LICENSE"
FILES = (SCRIPT, STYLE, LICENCE)
"""What of it is in the page."""


@dataclass(frozen=True)
class ChartLibrary:
    """What draws charts in a browser: its texts, and its ``name`` with its version."""

    name: str
    script: str
    style: str
    licence: str


def library(name: str, texts: Mapping[str, str]) -> ChartLibrary:
    """uPlot of its FILES. Raises ValueError for a text that would end the element that it stands in, or that
    Prometheus would take for a template."""
    for path, text in texts.items():
        if any(word in text.lower() for word in ("</script", "</style", "<!--", "{{")):
            raise ValueError(f"{path} cannot stand in a page")
    return ChartLibrary(name, texts[SCRIPT], texts[STYLE], texts[LICENCE])


def page(cluster: Cluster, charts: ChartLibrary | None) -> str:
    """The text of the page of ``cluster``; without ``charts`` it says in their place that there are none."""
    text = (TEMPLATES / "monitoring" / "cluster.html").read_text(encoding="utf-8")
    licence = f"Charts: {charts.name}\n\n{charts.licence.strip()}" if charts else ""
    words = {
        "CLUSTER": cluster.name,
        "CHART_STYLE": charts.style.strip() if charts else "",
        "CHART_SCRIPT": charts.script.strip() if charts else "",
        "LICENCES": f"<details><summary>Licences</summary><pre>{_plain(licence)}</pre></details>"
        if charts
        else "",
    }
    for word, content in words.items():
        text = text.replace(f"@{word}@", content)
    return text


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
