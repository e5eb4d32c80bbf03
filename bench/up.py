"""How long the main job takes: cold by stage, warm, the no-ops, and its peak of memory.

    sudo .venv/bin/python bench/up.py [FILE] [--json]

Runs what a user runs (`./hpc up`), with an empty build folder of its own below build/bench, on this machine's
libvirt; destroys the cluster at the end. Cold means: empty store, no image, no node; the packages and the
Python environment of the host are there (`./hpc` says how long they took when it installs them). Each figure
also stands as a ratio to the cold run, which is what can be compared between machines.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_STAGE = re.compile(r"^==> (.+): done in (\d+) s$", re.MULTILINE)
_NOOPS = 5


@dataclass
class Figures:
    """Seconds and MiB."""

    cold_s: float = 0.0
    cold_stages_s: dict[str, float] = field(default_factory=dict)
    warm_s: float = 0.0
    noop_build_s: float = 0.0
    noop_deploy_s: float = 0.0
    peak_memory_mb: int = 0


class MemoryPeak(threading.Thread):
    """Samples how much memory the machine uses more than at the beginning, in MiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.base = self._used()
        self.peak = 0
        self.done = threading.Event()

    @staticmethod
    def _used() -> int:
        text = Path("/proc/meminfo").read_text()
        total, available = (
            int(re.findall(rf"^{key}:\s+(\d+)", text, re.M)[0]) for key in ("MemTotal", "MemAvailable")
        )
        return (total - available) // 1024

    def run(self) -> None:
        while not self.done.wait(0.5):
            self.peak = max(self.peak, self._used() - self.base)


def timed(words: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """Run a command with its output shown; seconds and output. Ends the benchmark when it fails."""
    started = time.monotonic()
    print("+", " ".join(words), file=sys.stderr, flush=True)
    process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        sys.stderr.write(line)
        lines.append(line)
    if process.wait():
        raise SystemExit(f"{words[0]} exited with {process.returncode}: nothing measured")
    return time.monotonic() - started, "".join(lines)


def measure(file: str, environment: dict[str, str]) -> Figures:
    """Run everything once (the no-ops five times: their median)."""
    figures, memory = Figures(), MemoryPeak()
    memory.start()
    figures.cold_s, output = timed(["./hpc", "up", file], environment)
    memory.done.set()
    figures.peak_memory_mb = memory.peak
    figures.cold_stages_s = {name: float(seconds) for name, seconds in _STAGE.findall(output)}
    figures.warm_s, _ = timed(["./hpc", "up", file], environment)
    bin_folder = ROOT / ".venv" / "bin"
    build = [str(bin_folder / "doit"), "build_images:hpc-base"]
    figures.noop_build_s = statistics.median(timed(build, environment)[0] for _ in range(_NOOPS))
    deploy = [str(bin_folder / "pyinfra"), "-y", "inventories/chosen.py", "deploys/full_stack.py"]
    figures.noop_deploy_s, _ = timed(deploy, {**environment, "HPCSTATE_CLUSTER_FILE": file})
    return figures


def as_text(figures: Figures) -> str:
    """The table, with the ratio of each figure to the cold run."""
    rows = [("cold up", figures.cold_s)]
    rows += [(f"  {name}", seconds) for name, seconds in figures.cold_stages_s.items()]
    rows += [("warm up", figures.warm_s), ("no-op doit build_images", figures.noop_build_s)]
    rows += [("no-op deploy", figures.noop_deploy_s)]
    lines = [f"{name:<28}{seconds:8.2f} s  {seconds / figures.cold_s:7.4f}" for name, seconds in rows]
    return "\n".join([*lines, f"{'peak memory':<28}{figures.peak_memory_mb:8d} MiB"])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="?", default="inventories/gpu.yaml")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    build = ROOT / "build" / "bench"
    shutil.rmtree(build, ignore_errors=True)
    environment = {**os.environ, "HPCSTATE_BUILD": str(build), "PYTHONUNBUFFERED": "1"}
    try:
        figures = measure(args.file, environment)
    finally:
        subprocess.run(
            ["./hpc", "destroy", args.file, "--force", "--secrets", "--data"],
            cwd=ROOT,
            env=environment,
            check=False,
        )
        shutil.rmtree(build, ignore_errors=True)
    print(json.dumps(asdict(figures), indent=1) if args.json else as_text(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
