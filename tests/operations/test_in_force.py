"""What is in force is mended, and what is not mended is named; the table of docs/drift.md has all of it."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from hpcstate.errors import HpcstateError
from hpcstate.node import managed as page_of
from hpcstate.node.drift import NAMED
from hpcstate.node.managed import rewritten
from hpcstate.paths import ROOT
from operations import in_force
from operations.util import commands, managed
from tests.lab.drifts import BREAKS, ORDER
from tests.operations.harness import Outcome, run
from tests.unit.node import test_drift
from tests.unit.node.test_drift import WANTED, as_wanted

FACT = "facts.in_force.InForce"


def drifted() -> Any:
    """A host with one drift that is mended and one that is named."""
    host = as_wanted()
    host["rules_loaded"] = ""
    host["units"]["slurmd"]["drop_ins"].append("/etc/systemd/system/slurmd.service.d/x.conf")
    return host


def mended(*states: Any) -> Outcome:
    return run(in_force.mended, WANTED, facts={FACT: {"*": {"sequence": list(states)}}})


def test_what_is_in_force_is_left_alone() -> None:
    outcome = mended(as_wanted())
    assert (outcome.commands, len(outcome.noops)) == ([], 1)


def test_what_differs_is_mended_and_looked_at_again() -> None:
    outcome = mended(drifted(), as_wanted())
    assert (outcome.commands, outcome.noops) == (["nft --file /etc/nftables.conf"], [])


def test_what_does_not_stay_mended_stops_the_host() -> None:
    mend, stop = mended(drifted(), drifted()).commands
    assert mend == "nft --file /etc/nftables.conf"
    assert isinstance(stop, dict)
    assert "something else on this node changes it" in stop["args"][0]


def test_what_is_only_named_changes_nothing() -> None:
    host = drifted()
    host["rules_loaded"] = host["rules_file"]
    assert mended(host).commands == []


def test_what_is_named_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_named", set())
    for said in (1, 0):
        outcome = run(in_force.named, WANTED, facts={FACT: {"*": drifted()}})
        assert (outcome.commands, len(outcome.noops), len(outcome.host.said)) == ([], 1, said)
        assert all(line.startswith(f"{NAMED}slurmd.service also runs by") for line in outcome.host.said)


# the table


def test_the_page_has_the_table_of_the_operations() -> None:
    page = managed.PAGE.read_text()
    assert rewritten(page, managed.ROWS) == page, (
        f"{managed.PAGE} is out of date: {managed.COMMAND} writes it"
    )


def test_the_page_is_written_where_it_differs(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- managed -->\nold\n<!-- end -->\nb\n")
    assert managed.main([str(page)]) == 0
    assert page_of.table(managed.ROWS) in page.read_text()
    assert managed.main([str(page)]) == 0
    assert "as it was" in capsys.readouterr().out
    page.write_text("no place")
    assert managed.main([str(page)]) == 2
    with pytest.raises(HpcstateError, match="0 places"):
        rewritten("", managed.ROWS)


def test_each_row_has_a_key_of_its_own() -> None:
    keys = [row.key for row in managed.ROWS]
    assert len(keys) == len(set(keys))


def test_every_drift_has_its_row_and_does_what_the_row_says() -> None:
    rows = {row.key: row.then for row in in_force.MANAGED}
    seen = {key: "mended" for _, key, _ in test_drift.MENDED.values()}
    seen |= {key: "named" for _, key, _ in test_drift.NAMED.values()}
    assert seen == rows


def test_every_operation_of_a_node_declares_what_it_manages() -> None:
    """Those without: order between hosts, and what only hosts of guests have."""
    lacking = {
        path.stem
        for path in (ROOT / "operations").glob("[a-z]*.py")
        if not any(
            isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "MANAGED"
            for node in ast.parse(path.read_text()).body
        )
    }
    assert lacking == {"barrier", "vfio"}


def test_the_lab_breaks_every_row_that_it_can() -> None:
    then = {row.key: row.then for row in managed.ROWS if not row.needs}
    assert then.keys() == BREAKS.keys()
    assert sorted(ORDER) == sorted(BREAKS)
    for key, drift in BREAKS.items():
        assert bool(drift.said) == bool(drift.undo) == (then[key] != "mended"), key
