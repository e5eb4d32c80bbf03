"""The page of the cluster in real headless Chromium, as Prometheus serves it: as wide as a phone and as a
desk's screen, light and dark. HPCSTATE_CHROMIUM names another program than that of Debian (tools.toml).
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpcstate.monitoring.page import page
from tests.unit.monitoring.asked import ON, Watching, watching
from tests.unit.monitoring.judges import chart_library
from tests.unit.monitoring.watched import cluster as watched

__all__ = ["watching"]

CHROMIUM = os.environ.get("HPCSTATE_CHROMIUM") or shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed here")

# Chromium has no window that is narrower than 500: the page is in a frame.
PROBE = """<html><body style="margin:0">
<iframe src="NAME" style="border:0;width:WIDTHpx;height:900px"></iframe><pre></pre><script>
const frame = document.querySelector("iframe"), wrong = [];
frame.onload = () => {
  const page = frame.contentWindow, seen = page.document;
  page.addEventListener("error", event => wrong.push(event.message));
  const look = setInterval(() => {
    if (!seen.getElementById("when").textContent) return;
    clearInterval(look);
    seen.querySelectorAll(".ranges button")[0].click();
    setTimeout(() => {
      const canvas = [...seen.querySelectorAll("canvas")];
      const drawn = canvas.map(each =>
        each.getContext("2d").getImageData(0, 0, each.width, each.height).data);
      document.querySelector("pre").textContent = JSON.stringify({
        wrong: wrong, error: seen.getElementById("error").textContent,
        page: seen.documentElement.scrollWidth, window: page.innerWidth,
        canvases: canvas.length, empty: drawn.filter(each => !each.some(value => value)).length,
        wide: canvas.filter(each => each.getBoundingClientRect().right > page.innerWidth).length,
        ground: page.getComputedStyle(seen.body).backgroundColor,
        chosen: seen.querySelector("[aria-pressed=true]").textContent,
        nodes: seen.querySelectorAll("#nodes tr").length, charts: seen.getElementById("charts").innerText,
      });
    }, 1500);
  }, 100);
};
</script></body></html>"""


@pytest.fixture(autouse=True)
def told_for_long_enough(watching: Watching) -> None:
    """The charts have a point each quarter of a minute; on a busy machine a scrape is missed."""
    assert watching.wait_for({"expr": "gpu:utilization offset 50s", "instant": True})


def seen(
    watching: Watching, folder: Path, *, width: int, dark: bool, name: str = "cluster.html"
) -> dict[str, Any]:
    (watching.consoles / "probe.html").write_text(PROBE.replace("WIDTH", str(width)).replace("NAME", name))
    assert CHROMIUM is not None
    words = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --window-size=1500,1000"
    words += f" --virtual-time-budget=15000 --dump-dom --blink-settings=preferredColorScheme={int(not dark)}"
    done = subprocess.run(
        [CHROMIUM, *words.split(), f"--user-data-dir={folder}", f"{watching.at}/consoles/probe.html"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    found = re.search(r"<pre>(.*?)</pre>", done.stdout, re.S)
    assert found and found[1], done.stderr[-2000:] + done.stdout[-500:]
    return dict(json.loads(html.unescape(found[1])))


@pytest.mark.parametrize("width", [390, 1320])
@pytest.mark.parametrize("dark", [True, False])
def test_it_is_whole_at_this_width(watching: Watching, tmp_path: Path, width: int, dark: bool) -> None:
    if chart_library() is None:
        pytest.skip("uPlot is not here: `./hpc test` fetches it")
    found = seen(watching, tmp_path, width=width, dark=dark)
    assert (found["wrong"], found["error"]) == ([], "")
    # Only tables may be wider than the window, within their own frame.
    assert found["window"] == width >= found["page"] and found["wide"] == 0
    assert (found["canvases"], found["empty"]) == (6, 0), found["charts"]
    assert found["nodes"] == 1 + 3 and found["chosen"] == "1 h"
    light = sum(map(int, re.findall(r"\d+", found["ground"])[:3])) > 3 * 128
    assert light is not dark


def test_without_charts_it_says_so_and_shows_the_rest(watching: Watching, tmp_path: Path) -> None:
    (watching.consoles / "bare.html").write_text(page(watched(tmp_path, ON), None))
    found = seen(watching, tmp_path, width=390, dark=True, name="bare.html")
    assert (found["wrong"], found["error"], found["canvases"]) == ([], "", 0)
    assert found["nodes"] == 1 + 3 and "uPlot could not be fetched" in found["charts"]
    assert found["page"] <= found["window"]
