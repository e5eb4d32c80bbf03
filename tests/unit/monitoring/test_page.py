"""The page of the cluster below Prometheus' /consoles/: what it asks for, what it makes of the answers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hpcstate.monitoring import page
from hpcstate.paths import TEMPLATES
from tests.unit.monitoring.asked import ON, Watching, known_names, names_of, watching
from tests.unit.monitoring.judges import chart_library
from tests.unit.monitoring.watched import cluster as watched

__all__ = ["watching"]

PAGE = TEMPLATES / "monitoring" / "cluster.html"


def of_page(name: str) -> Any:
    """The JSON of one of the page's scripts."""
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', PAGE.read_text(), re.S)
    assert found is not None
    return json.loads(found[1])


RANGES = [query for each in of_page("ranges") for query in each["lines"].values()]
OF_PAGE = [*of_page("queries").values(), *RANGES]

BROWSER = """
const answers = JSON.parse(require("fs").readFileSync(process.argv[2]));
class Element {
  constructor(name) { this.name = name; this.children = []; this.attributes = {}; this.own = ""; }
  append(...found) { this.children.push(...found); }
  replaceChildren(...found) { this.children = found; }
  setAttribute(name, value) { this.attributes[name] = value; }
  set textContent(text) { this.own = text; this.children = []; }
  get textContent() { return this.own + this.children.map(each => each.textContent ?? each).join("|"); }
}
const known = {}, made = [];
for (const [name, text] of Object.entries(answers.scripts)) {
  known[name] = new Element("script");
  known[name].own = text;
}
globalThis.document = {
  hidden: false,
  getElementById: id => known[id] ||= new Element("div"),
  createElement: name => new Element(name),
};
globalThis.getComputedStyle = () => ({ getPropertyValue: name => " #123456" });
if (answers.charts) globalThis.uPlot = class {
  constructor(options, data) { this.cursor = {}; made.push([options, data]); }
};
function pointed(options, data) {
  options.hooks.setCursor[0]({ data: data, cursor: { idx: 240 } });
  const figure = known.charts.children[made.findIndex(each => each[1] === data)];
  const found = figure.children[0].children[1].textContent;
  options.hooks.setCursor[0]({ data: data, cursor: { idx: null } });
  return found;
}
globalThis.setTimeout = () => {
  const shown = Object.fromEntries(Object.entries(known).map(([id, each]) => [id, each.textContent]));
  const lines = made.map(([options, data]) => ({
    labels: options.series.slice(1).map(each => each.label),
    lengths: data.map(each => each.length),
    values: data.slice(1).map(each => each.filter(value => value !== null)),
    most: options.scales.y.range(null, 0, 10)[1],
    when: options.axes[0].values(null, data[0].slice(0, 2)),
    pointed: pointed(options, data),
  }));
  console.log(JSON.stringify({ ...shown, lines }));
};
globalThis.fetch = async url => {
  const asked = new URL(url, "https://c/consoles/"), query = asked.searchParams.get("query");
  const alerts = { data: { alerts: answers.alerts } };
  if (asked.pathname.endsWith("/alerts")) return { ok: true, json: async () => alerts };
  const found = answers.told[(asked.pathname.endsWith("/query_range") ? "range " : "") + query];
  return { ok: found !== undefined, status: 422, json: async () => ({ data: { result: found } }) };
};
"""


@pytest.mark.parametrize("query", OF_PAGE)
def test_each_query_of_the_page_has_data(watching: Watching, query: str) -> None:
    assert watching.wait_for({"expr": query, "instant": True}), query


def plain(text: str) -> str:
    """Without comments, which templates of Go leave out, and blanks."""
    return "".join(re.sub(r"/\*.*?\*/", "", text, flags=re.S).split())


def test_prometheus_serves_the_page_as_it_is(watching: Watching) -> None:
    """Its pages are templates of Go."""
    with urllib.request.urlopen(f"{watching.at}/consoles/cluster.html", timeout=20) as said:
        assert said.headers["Content-Type"].startswith("text/html")
        served = said.read().decode()
    assert plain(served) == plain((watching.consoles / "cluster.html").read_text())
    assert "@" not in re.sub(r"@media", "", served.partition("<script>")[0])
    if chart_library():
        assert "var uPlot=function" in served and "Leon Sorokin" in served


NODE = shutil.which("node")


def run_page(
    folder: Path, told: Mapping[str, Any], alerts: Sequence[Mapping[str, Any]] = (), charts: bool = True
) -> dict[str, Any]:
    """What the page shows after Prometheus answered with ``told``: its own script, in a browser that has what
    it needs, with or without what draws ``charts``."""
    assert NODE is not None
    text = PAGE.read_text()
    scripts = {name: json.dumps(of_page(name)) for name in ("queries", "ranges")}
    answers = {"told": told, "scripts": scripts, "alerts": alerts, "charts": charts}
    (folder / "answers.json").write_text(json.dumps(answers))
    script = text.rpartition("<script>")[2].partition("</script>")[0]
    (folder / "page.js").write_text(BROWSER + script)
    done = subprocess.run(
        [NODE, str(folder / "page.js"), str(folder / "answers.json")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def answers(watching: Watching) -> dict[str, Any]:
    told = {query: watching.ask({"expr": query, "instant": True}) for query in of_page("queries").values()}
    return told | {f"range {query}": watching.ask({"expr": query}) for query in RANGES}


@pytest.mark.skipif(NODE is None, reason="node is not installed here")
def test_the_page_shows_what_prometheus_says(watching: Watching, tmp_path: Path) -> None:
    with urllib.request.urlopen(f"{watching.at}/api/v1/alerts", timeout=20) as said:
        alerts = json.load(said)["data"]["alerts"]
    shown = run_page(tmp_path, answers(watching), alerts)
    assert shown["error"] == ""
    assert "NodeDrained| compute-02 is drained for" in shown["alerts"]
    assert "scontrol update node=NODE state=resume" in shown["alerts"]
    # What only waits to fire is not shown.
    pending = {each["labels"]["alertname"] for each in alerts if each["state"] == "pending"}
    assert pending and not any(f"{name}| " in shown["alerts"] for name in pending)
    assert "compute-01|idle" in shown["nodes"] and "simulated" in shown["nodes"]
    assert "compute-02|drained idle" in shown["nodes"]
    assert "bob|2|" in shown["users"]
    assert "gpu|2|" in shown["queue"]
    assert "Cores given to jobs|0 of 4" in shown["tiles"]
    titles = [each["title"] for each in of_page("ranges")]
    assert len(shown["lines"]) == len(titles)
    for each in shown["lines"]:
        # One time for all lines of a chart: what has no point there is a gap.
        assert set(each["lengths"]) == {241} and all(each["values"])
        assert each["most"] > 10 and len(each["when"]) == 2
    # Where somebody points, the time and what was then.
    assert re.search(r"\d+:\d\d", shown["lines"][0]["pointed"])
    assert shown["lines"][0]["pointed"].endswith("|0| of 4")
    assert shown["lines"][0]["labels"] == ["given to jobs", "all"]
    assert "Cores||0| of 4" in shown["charts"] and "Jobs||2| run, |5| wait" in shown["charts"]


@pytest.mark.skipif(NODE is None, reason="node is not installed here")
def test_without_what_draws_charts_the_page_shows_the_rest(watching: Watching, tmp_path: Path) -> None:
    shown = run_page(tmp_path, answers(watching), charts=False)
    assert shown["error"] == "" and "uPlot could not be fetched" in shown["charts"]
    assert "compute-01|idle" in shown["nodes"] and shown["alerts"] == "None fires."


@pytest.mark.skipif(NODE is None, reason="node is not installed here")
def test_what_users_and_alerts_say_is_text(tmp_path: Path) -> None:
    said = "<img src=x onerror=alert(1)>"
    labels = {"alertname": said, "severity": "critical"}
    alert = {"state": "firing", "labels": labels, "annotations": {"summary": said, "next": said}}
    told: dict[str, Any] = {f"{kind}{query}": [] for kind in ("", "range ") for query in OF_PAGE}
    shown = run_page(tmp_path, told, [{**alert, "activeAt": "2026-11-28T07:01:15Z"}])
    assert shown["alerts"].count(said) == 3 and shown["error"] == ""
    assert shown["nodes"] == "no node is asked" and shown["users"] == "nobody has a job"
    assert shown["lines"] == []


@pytest.mark.skipif(NODE is None, reason="node is not installed here")
def test_the_page_says_when_prometheus_does_not_answer(tmp_path: Path) -> None:
    assert "Prometheus says 422" in run_page(tmp_path, {})["error"]


def test_the_page_asks_nobody_else_and_makes_no_html_of_what_users_write() -> None:
    text = PAGE.read_text()
    assert not re.search(r"https?://|src=|href=|@import|url\(", text)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\b|\{\{", text)


def test_each_query_of_the_page_asks_for_what_is_told(tmp_path: Path) -> None:
    known = known_names(watched(tmp_path, ON), tmp_path)
    assert {name for query in OF_PAGE for name in names_of(query)} <= known


@pytest.mark.parametrize("bad", ["a </script> b", "</STYLE>", "<!-- ", "x={{y:1}}"])
def test_a_library_that_would_end_its_element_is_refused(bad: str) -> None:
    texts = dict.fromkeys(page.FILES, "fine") | {page.SCRIPT: bad}
    with pytest.raises(ValueError, match="cannot stand in a page"):
        page.library("x", texts)


def test_the_page_has_the_licence_of_what_it_brings(tmp_path: Path) -> None:
    of = watched(tmp_path, ON)
    texts = {page.SCRIPT: "var uPlot;", page.STYLE: ".u{}", page.LICENCE: "(c) A <a@b.c> & others"}
    text = page.page(of, page.library("uPlot 1", texts))
    assert "<pre>Charts: uPlot 1\n\n(c) A &lt;a@b.c> &amp; others</pre>" in text
    assert "<script>var uPlot;</script>" in text and "<style>.u{}</style>" in text
    assert f"<title>{of.name}</title>" in text
    bare = page.page(of, None)
    assert "Licences" not in bare and "<script></script>" in bare
