"""The page of the cluster below Prometheus' /consoles/: what it asks for, what it makes of the answers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hpcstate.paths import TEMPLATES
from tests.unit.monitoring.asked import ON, Watching, known_names, names_of, watching
from tests.unit.monitoring.watched import cluster as watched

__all__ = ["watching"]

PAGE = TEMPLATES / "monitoring" / "cluster.html"


def of_page(name: str) -> Any:
    """The JSON of one of the page's scripts."""
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', PAGE.read_text(), re.S)
    assert found is not None
    return json.loads(found[1])


OF_PAGE = [*of_page("queries").values(), *(query for pair in of_page("ranges").values() for query in pair)]

BROWSER = """
const answers = JSON.parse(require("fs").readFileSync(process.argv[2]));
class Element {
  constructor(name) { this.name = name; this.children = []; this.attributes = {}; this.own = ""; }
  append(...found) { this.children.push(...found); }
  replaceChildren(...found) { this.children = found; }
  setAttribute(name, value) { this.attributes[name] = value; }
  set textContent(text) { this.own = text; this.children = []; }
  get textContent() { return this.own + this.children.map(each => each.textContent).join("|"); }
}
const known = {};
for (const [name, text] of Object.entries(answers.scripts)) {
  known[name] = new Element("script");
  known[name].own = text;
}
globalThis.document = {
  hidden: false,
  getElementById: id => known[id] ||= new Element("div"),
  createElement: name => new Element(name),
  createElementNS: (space, name) => new Element(name),
};
globalThis.setTimeout = () => {
  const shown = Object.fromEntries(Object.entries(known).map(([id, each]) => [id, each.textContent]));
  const figures = known.charts ? known.charts.children : [];
  const lines = figures.map(each => each.children[1].children.map(line => line.attributes.points));
  console.log(JSON.stringify({ ...shown, lines }));
};
globalThis.fetch = async url => {
  const query = new URL(url, "https://c/consoles/").searchParams.get("query");
  const found = answers.told[query];
  return { ok: found !== undefined, status: 422, json: async () => ({ data: { result: found } }) };
};
"""


@pytest.mark.parametrize("query", OF_PAGE)
def test_each_query_of_the_page_has_data(watching: Watching, query: str) -> None:
    assert watching.wait_for({"expr": query, "instant": True}), query


def test_prometheus_serves_the_page_as_it_is(watching: Watching) -> None:
    """Its pages are templates of Go."""
    with urllib.request.urlopen(f"{watching.at}/consoles/cluster.html", timeout=20) as said:
        assert said.headers["Content-Type"].startswith("text/html")
        assert said.read().decode() == PAGE.read_text()


NODE = shutil.which("node")


def run_page(folder: Path, told: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows after Prometheus answered with ``told``: its own script, in a browser that has what
    it needs."""
    assert NODE is not None
    text = PAGE.read_text()
    scripts = {name: json.dumps(of_page(name)) for name in ("queries", "ranges")}
    (folder / "answers.json").write_text(json.dumps({"told": told, "scripts": scripts}))
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


@pytest.mark.skipif(NODE is None, reason="node is not installed here")
def test_the_page_shows_what_prometheus_says(watching: Watching, tmp_path: Path) -> None:
    told = {query: watching.ask({"expr": query, "instant": True}) for query in of_page("queries").values()}
    ranges = [query for pair in of_page("ranges").values() for query in pair]
    told |= {query: watching.ask({"expr": query}) for query in ranges}
    shown = run_page(tmp_path, told)
    assert shown["error"] == ""
    assert "NodeDrained|compute-02|warning" in shown["alerts"]
    assert "compute-01|yes|idle" in shown["nodes"] and "simulated" in shown["nodes"]
    assert "compute-02|yes|drained idle|" in shown["nodes"]
    assert "bob|2|" in shown["users"]
    assert "gpu|2|" in shown["queue"]
    assert len(shown["lines"]) == len(of_page("ranges")) and all(all(each) for each in shown["lines"])
    assert "Cores given to jobs: 0 of 4" in shown["charts"]


@pytest.mark.skipif(NODE is None, reason="node is not installed here")
def test_the_page_says_when_prometheus_does_not_answer(tmp_path: Path) -> None:
    assert "Prometheus says 422" in run_page(tmp_path, {})["error"]


def test_the_page_asks_nobody_else_and_makes_no_html_of_what_users_write() -> None:
    text = PAGE.read_text()
    assert re.findall(r"https?://[^\s\"']*", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\b|\{\{", text)


def test_each_query_of_the_page_asks_for_what_is_told(tmp_path: Path) -> None:
    known = known_names(watched(tmp_path, ON), tmp_path)
    assert {name for query in OF_PAGE for name in names_of(query)} <= known
