"""Runs every recorded case of every fact: ``tests/facts/<module>.<Fact>/<case>.json``.

The keys of a case::

    {
      "about":       what the case shows,
      "recorded":    where the output is from: the tool and its version, or that it was written by hand,
      "arguments":   {"node": "compute-01"},        those of the fact, default {}
      "command":     the command the fact must run; optional
      "programs":    ["pci.sh"],                    the files of hpcstate/probe whose text stands behind it
      "output":      ["line", ...],                 what the command printed, without line ends
      "output_file": "normal.txt",                  or the file beside the case that has it
      "fact":        the answer (JSON has no integer keys: they are written as text)
      "error":       or a part of the error with which the run must end
    }
"""

from __future__ import annotations

import importlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.exceptions import FactError, FactProcessError
from pyinfra.api.facts import FactBase

ROOT = Path(__file__).parent
PROGRAMS = ROOT.parent.parent / "hpcstate" / "probe"
CASES = sorted(ROOT.glob("*.*/*.json"))
CASE_KEYS = {
    "about",
    "recorded",
    "arguments",
    "command",
    "programs",
    "output",
    "output_file",
    "fact",
    "error",
}
KINDS = ("normal", "absent", "malformed", "quoting")
MODULES = (
    "slurm",
    "gpu",
    "cgroup",
    "munge",
    "pci",
    "iommu",
    "vfio",
    "text_files",
    "monitoring",
    "nvidia",
    "apt",
    "apptainer",
    "registry",
    "boot_tools",
    "device_holders",
    "in_force",
    "node_runs",
    "data_volume",
    "homes",
    "mounts",
    "root_disk",
    "users",
    "directory",
    "accounting",
    "packages",
    "associations",
    "timers",
    "quotas",
    "partitions",
    "reservations",
)


def lines_of(text: str) -> list[str]:
    """``text`` as pyinfra hands it to a fact (connectors/util.py, read_buffer): lines without their ends."""
    return [line.rstrip("\n") for line in io.StringIO(text, newline="\n")]


def answer(fact: FactBase, output: list[str]) -> Any:
    """What pyinfra's get_fact makes of ``output``; a fact's parser is not called without any."""
    return fact.process(output) if output else fact.default()


def load(path: Path) -> dict[str, Any]:
    case: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert set(case) <= CASE_KEYS
    assert ("fact" in case) != ("error" in case)
    assert ("output" in case) != ("output_file" in case)
    assert case["about"]
    assert case["recorded"]
    return case


def fact_of(folder: str) -> FactBase:
    module, _, name = folder.partition(".")
    fact: FactBase = getattr(importlib.import_module(f"facts.{module}"), name)()
    return fact


def facts() -> list[str]:
    """Every fact of ours, as ``<module>.<Fact>``."""
    modules = {name: importlib.import_module(f"facts.{name}") for name in MODULES}
    return [
        f"{name}.{attribute}"
        for name, module in modules.items()
        for attribute, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, FactBase) and value.__module__ == module.__name__
    ]


@pytest.mark.parametrize("path", CASES, ids=lambda path: str(path.relative_to(ROOT)))
def test_case(path: Path) -> None:
    case = load(path)
    fact = fact_of(path.parent.name)
    command = fact.command(**case.get("arguments", {}))
    if "command" in case:
        texts = [
            (PROGRAMS / name).read_text(encoding="utf-8").rstrip("\n") for name in case.get("programs", ())
        ]
        assert str(command) == "\n".join((case["command"], *texts))
    if "output_file" in case:
        output = lines_of((path.parent / case["output_file"]).read_text(encoding="utf-8"))
    else:
        output = case["output"]
    if "error" in case:
        with pytest.raises(FactError) as caught:
            answer(fact, output)
        assert case["error"] in str(caught.value)
        # pyinfra would replace this one by the fact's default and go on
        assert not isinstance(caught.value, FactProcessError)
    else:
        assert json.loads(json.dumps(answer(fact, output))) == case["fact"]


@pytest.mark.parametrize("fact", facts())
@pytest.mark.parametrize("kind", KINDS)
def test_every_fact_has_a_case_of_each_kind(fact: str, kind: str) -> None:
    assert [path for path in CASES if path.parent.name == fact and path.name.startswith(kind)]


def test_every_recording_belongs_to_a_case() -> None:
    used = {path.parent / load(path).get("output_file", path.name) for path in CASES}
    assert [path for path in ROOT.glob("*.*/*.txt") if path not in used] == []


def test_every_module_of_facts_is_tested() -> None:
    modules = {path.stem for path in (ROOT.parent.parent / "facts").glob("*.py")}
    assert modules - set(MODULES) == {"__init__", "arguments", "probed"}
