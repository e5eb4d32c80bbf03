"""Who may use how much: what a cluster file asks of slurmdbd, and the calls of sacctmgr that make it so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcstate import schema
from hpcstate.model import Cluster
from hpcstate.probe.associations import ASSOCIATION_PLACES, QOS_PLACES, AssociationsState, ChargedJob, Made
from hpcstate.schema.accounting_keys import AccountKeys, AccountUserKeys, QosKeys, setting_rows
from hpcstate.slurm.associations import WORDS, Wanted, difference, record_text, wanted
from hpcstate.slurm.conf import ENFORCE, slurm_conf

FILE = """\
clusters:
  hpc:
    name: lab
    network: {{subnet: 192.168.150.0/24}}
    controller: {{}}
    compute_nodes: [{{simulated_gpus: {{count: 2}}}}]
    users:
      - {{name: alice, uid: 2001, ssh_keys: []}}
      - {{name: bob, uid: 2002, ssh_keys: []}}
    accounting: {accounting}
"""
ML = "accounts: [{name: ml, fairshare: 10, grp_tres: 'cpu=4,mem=8G'}]"
TRES = ["cpu", "mem", "node", "billing", "gres/gpu"]


def cluster(accounting: str) -> Cluster:
    return schema.parse(FILE.format(accounting=f"{{{accounting}}}"), Path("test.yaml")).clusters[0]


def want(accounting: str, *others: str) -> Wanted:
    return wanted(cluster(accounting), others)


def state(wants: Wanted | None = None, **changes: Any) -> AssociationsState:
    """A slurmdbd that has all of ``wants``, made by us."""
    things = {name: dict(values) for name, values in wants.things.items()} if wants else {}
    for name in things:
        if name.startswith("user "):
            things[name] = {}
        if name.startswith("account "):
            things[name] = {"Description": name, "Organization": "", **things[name]}
    found = AssociationsState(
        record={name: Made(made=True, set=sorted(values)) for name, values in wants.things.items()}
        if wants
        else {},
        things={"qos normal": {}, "association root": {"QosLevel": "normal"}, "user root": {}, **things},
        tres=TRES,
        nobody=[],
        elsewhere=[],
        jobs=[],
        answers=True,
    )
    return AssociationsState(**{**found, **changes})  # type: ignore[typeddict-item]


def steps(wants: Wanted, found: AssociationsState, *, ahead: bool = False) -> list[str]:
    return [" ".join(step) for step in difference(wants, found, ahead=ahead).steps]


def test_every_key_has_a_word_that_the_fact_knows() -> None:
    for table, places in (
        (AccountKeys, ASSOCIATION_PLACES),
        (AccountUserKeys, ASSOCIATION_PLACES),
        (QosKeys, QOS_PLACES),
    ):
        assert {WORDS[row.name] for row in setting_rows(table)} <= set(places)


def test_without_a_declaration_nothing_is_wanted_and_nothing_enforced() -> None:
    assert want("enabled: true", "hpc").things == {}
    assert "AccountingStorageEnforce" not in slurm_conf(cluster("enabled: true"))
    assert f"AccountingStorageEnforce={ENFORCE}\n" in slurm_conf(cluster(ML))


def test_everybody_gets_an_association_where_they_are_enforced() -> None:
    things = want(f"{ML}, users: [{{name: alice, accounts: [ml]}}]", "hpc").things
    assert things["association ml"] == {
        "Parent": "root",
        "Fairshare": "10",
        "GrpTRES cpu": "4",
        "GrpTRES mem": "8192",
    }
    assert things["association ml alice"] == {"Default": "yes"}
    assert things["association default"] == {"Parent": "root"}
    assert {"association default bob", "association default hpc"} <= things.keys()


def test_the_account_of_a_user_of_the_cluster() -> None:
    given = cluster(ML)
    bob = replace(given.users[1], account="ml")
    things = wanted(replace(given, users=(given.users[0], bob))).things
    assert "association ml bob" in things and "association default bob" not in things


def test_all_of_it_is_made_in_its_order() -> None:
    accounting = (
        "qos: [{name: high, priority: 5, preempt: [low], flags: [NoDecay, DenyOnLimit]}, {name: low}], "
        'accounts: [{name: vision, parent: ml}, {name: ml, description: "it\'s it"}], '
        "users: [{name: alice, accounts: [ml, vision], default_account: vision, admin_level: Operator, "
        "qos: [normal, high]}, {name: bob, accounts: [ml], max_wall: 2-0}]"
    )
    assert steps(want(accounting), state()) == [
        "add qos name=high Priority=5 Flags=DenyOnLimit,NoDecay",
        "add qos name=low",
        'add account name=ml cluster=lab Parent=root Description="it\'s it"',
        "add account name=vision cluster=lab Parent=ml",
        "add user name=alice account=vision cluster=lab QosLevel=high,normal",
        "add user name=alice account=ml cluster=lab QosLevel=high,normal",
        "add user name=bob account=ml cluster=lab MaxWall=2880",
        "modify qos where name=high set Preempt=low",
        "modify user where name=alice set AdminLevel=Operator",
    ]


def test_what_is_there_is_not_done_again() -> None:
    wants = want(f"{ML}, qos: [{{name: high, priority: 5}}]", "hpc")
    found = state(wants)
    done = difference(wants, found)
    assert (done.steps, done.held, done.named, done.record) == ((), (), (), found["record"])


def test_a_quote_of_a_description_is_stored_as_a_backtick() -> None:
    wants = want('accounts: [{name: ml, description: "It\'s it"}]')
    found = state(wants)
    found["things"]["account ml"]["Description"] = "it`s it"
    assert steps(wants, found) == []


def test_a_limit_is_changed_and_one_that_left_the_file_is_cleared() -> None:
    before = want(
        f"{ML}, qos: [{{name: high, priority: 5, flags: [NoDecay], preempt: [low]}}, {{name: low}}]"
    )
    after = want("accounts: [{name: ml, grp_tres: cpu=6}], qos: [{name: high}, {name: low}]")
    assert steps(after, state(before)) == [
        "modify qos where name=high set Flags=-1 Preempt= Priority=-1",
        "modify account where name=ml cluster=lab set GrpTRES=cpu=6,mem=-1 Fairshare=1",
    ]


def test_an_account_that_moves() -> None:
    before = want("accounts: [{name: ml}, {name: vision, parent: ml}]")
    after = want("accounts: [{name: ml}, {name: vision}]")
    assert steps(after, state(before)) == ["modify account where name=vision cluster=lab set Parent=root"]


def test_a_user_that_moves_gets_the_other_default_before_it_loses_the_first() -> None:
    accounts = "accounts: [{name: ml}, {name: bio}]"
    before = want(f"{accounts}, users: [{{name: alice, accounts: [ml]}}]")
    after = want(f"{accounts}, users: [{{name: alice, accounts: [bio]}}]")
    assert steps(after, state(before)) == [
        "add user name=alice account=bio cluster=lab",
        "modify user where name=alice cluster=lab set defaultaccount=bio",
        "remove user where name=alice account=ml cluster=lab",
    ]


def test_all_of_it_goes_children_first() -> None:
    before = want("accounts: [{name: ml}, {name: vision, parent: ml}], qos: [{name: high}]")
    done = difference(want("enabled: true"), state(before))
    assert [" ".join(step) for step in done.steps] == [
        "remove user where name=alice",
        "remove user where name=bob",
        "remove account where name=vision",
        "remove account where name=ml",
        "remove account where name=default",
        "remove qos where name=high",
    ]
    assert done.record == {}


def test_what_another_cluster_has_too_goes_here_only() -> None:
    before = want(ML)
    found = state(before, elsewhere=["account ml", "user alice"])
    gone = steps(want("enabled: true"), found)
    assert "remove account where name=ml cluster=lab" in gone
    assert "remove user where name=alice cluster=lab" in gone


def test_what_jobs_need_stays_and_is_said() -> None:
    before = want(f"{ML}, users: [{{name: alice, accounts: [ml]}}], qos: [{{name: high}}]")
    jobs = [ChargedJob(account="ml", user="alice", qos="high")]
    done = difference(want("enabled: true"), state(before, jobs=jobs))
    assert [" ".join(step) for step in done.steps] == [
        "remove user where name=bob",
        "remove account where name=default",
    ]
    assert len(done.held) == 3 and "jobs of alice run or wait there" in done.held[0]
    assert set(done.record) == {
        "account ml",
        "association ml",
        "association ml alice",
        "user alice",
        "qos high",
    }


def test_without_slurmctld_nothing_is_removed() -> None:
    before = want(ML)
    done = difference(want("enabled: true"), state(before, jobs=None))
    assert done.steps == () and "scontrol ping" in done.held[0]
    assert set(done.record) == set(before.things)


def test_what_others_made_is_named_and_stays() -> None:
    wants = want(ML)
    found = state(wants)
    found["things"] |= {
        "association theirs": {"Parent": "ml"},
        "association ml carol": {},
        "qos fast": {"Priority": "9"},
    }
    found["things"]["association ml"]["MaxJobs"] = "3"
    done = difference(wants, found)
    assert done.steps == ()
    assert done.named == (
        "made by hand in slurmdbd: the account theirs; the user carol of the account ml; the QOS fast",
        "set by hand in slurmdbd: MaxJobs of the account ml",
    )
    gone = difference(want("enabled: true"), found)
    assert "remove account where name=ml" not in [" ".join(step) for step in gone.steps]
    assert any("the account ml stays: the account theirs and the user carol" in text for text in gone.held)


def test_what_was_there_before_it_was_declared_stays_when_it_leaves() -> None:
    wants = want(ML)
    found = state(
        things={
            **state()["things"],
            "account ml": {"Description": "", "Organization": ""},
            "association ml": {"Parent": "root"},
        }
    )
    first = difference(wants, found)
    assert first.record["association ml"]["made"] is False
    there = state(wants, record=first.record)
    gone = [" ".join(step) for step in difference(want("enabled: true"), there).steps]
    assert "modify account where name=ml cluster=lab set Fairshare=1 GrpTRES=cpu=-1,mem=-1" in gone
    assert "remove account where name=ml" not in gone


def test_ahead_of_slurmctld_nothing_goes_and_what_is_unknown_waits() -> None:
    before = want("accounts: [{name: old}], qos: [{name: low}]")
    after = want("accounts: [{name: ml, grp_tres: 'cpu=4,gres/gpu=1'}]")
    found = state(before, tres=["cpu"], nobody=["bob"])
    assert steps(after, found, ahead=True) == ["add account name=ml cluster=lab Parent=root GrpTRES=cpu=4"]
    found["things"].pop("association default bob")
    assert "bob" not in " ".join(steps(after, found, ahead=True))


def test_the_record_is_there_before_the_first_step() -> None:
    wants = want(ML)
    done = difference(wants, state())
    assert done.interim == done.record and done.record["association ml"]["made"]
    assert "\n" not in record_text(done.record)


@pytest.mark.parametrize("priority", ["0", "7"])
def test_no_priority_is_that_of_zero(priority: str) -> None:
    wants = want(f"qos: [{{name: high, priority: {priority}}}]")
    found = state(wants)
    if priority == "0":
        del found["things"]["qos high"]["Priority"]
    assert steps(wants, found) == []


def test_limits_by_hand_of_what_slurm_made_itself_are_named() -> None:
    wants = want(ML)
    found = state(wants)
    for name, values in (
        ("qos normal", {"MaxJobsPerUser": "0", "Description": "Normal QOS default"}),
        ("association root", {"GrpJobs": "0", "Fairshare": "1"}),
    ):
        found["things"][name] = {**found["things"].get(name, {}), **values}
    done = difference(wants, found)
    assert done.steps == ()
    assert sorted(done.named[0].partition(": ")[2].split("; ")) == [
        "GrpJobs of the account root",
        "MaxJobsPerUser of the QOS normal",
    ]
