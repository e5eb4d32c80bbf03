"""What a plan says to a person."""

from __future__ import annotations

from hpcstate.cluster.plan import Plan, as_text


def test_what_is_left_as_it_is_is_named_and_is_nothing_to_do() -> None:
    plan = Plan((), (), (), (), named=("[a] slurmd.service also runs by x.conf",))
    assert plan.empty
    first, title, line = as_text(plan).splitlines()
    assert first.startswith("nothing to do")
    assert (title, line) == ("left as it is:", "  [a] slurmd.service also runs by x.conf")


def test_a_plan_with_nothing_is_one_line() -> None:
    assert len(as_text(Plan((), (), (), ())).splitlines()) == 1
