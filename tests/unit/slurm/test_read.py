"""The one reader of Slurm's configuration files, case by case from parse_config.c of Slurm 24.11.5."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate.judge.case import Configuration, case_of
from hpcstate.slurm.impact import Level, impact
from hpcstate.slurm.keys import Kind
from hpcstate.slurm.lint.conf import lint
from hpcstate.slurm.read import UNREADABLE, Pair, Subject, Whole, logical_lines, meaning, statements

LINES = [
    # _strip_comments comes first: a comment takes its backslash and its newline with it.
    ("# a \\\nb\n", [(2, "b")]),
    ("a # why \\\nb\n", [(1, "a "), (2, "b")]),
    ('a="x # y"\n', [(1, 'a="x ')]),
    ("a\\#b#c", [(1, "a#b")]),
    ("a\\\\#b", [(1, "a\\")]),
    ("a\\\\\\#b", [(1, "a\\#b")]),
    # _strip_continuation: an odd number of backslashes, blanks after them allowed; nothing is put between.
    ("a \\\nb\n", [(1, "a b")]),
    ("Alloc,\\\nContain\n", [(1, "Alloc,Contain")]),
    ("Alloc,\\\n  Contain\n", [(1, "Alloc,  Contain")]),
    ("a \\ \t\nb\n", [(1, "a b")]),
    ("a \\ # why\nb\n", [(1, "a b")]),
    ("a\\\\\nb", [(1, "a\\"), (2, "b")]),
    ("a\\\\\\\nb", [(1, "a\\b")]),
    ("a \\\nb \\\nc\nd", [(1, "a b c"), (4, "d")]),
    # ... and a line that is empty once its comment is cut continues nothing.
    ("a \\\n\nb\n", [(1, "a "), (3, "b")]),
    ("a \\\n# why\nb\n", [(1, "a "), (3, "b")]),
    ("\\\na\n", [(1, "a")]),
    # _strip_escapes, once all is joined
    ("a\\b\\ c\n", [(1, "ab c")]),
    # files that were written elsewhere: \r is a blank to isspace()
    ("a \\\r\nb\r\nc\r\n", [(1, "a b\r"), (3, "c\r")]),
    ("# a \\\r\nb\r\n", [(2, "b\r")]),
    # the last line without newline, and one that continues into nothing
    ("a\nb", [(1, "a"), (2, "b")]),
    ("a \\", [(1, "a ")]),
    ("\n\n a", [(3, " a")]),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), LINES)
def test_logical_lines_are_those_of_slurms_parser(text: str, expected: list[tuple[int, str]]) -> None:
    assert list(logical_lines(text)) == expected


def values(text: str, kind: Kind = "slurm") -> dict[str, str]:
    return {key: value for key, (value, _) in Whole.of(list(statements(text, kind))).values.items()}


FLAGS = "PrologFlags=Alloc,\\\nContain\nSlurmdTimeout=5\n"
COMMENT = "# by hand \\\nSlurmdTimeout=5\n"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_all_views_of_a_file_agree(end: str) -> None:
    """The two readers that were there before did not: one joined lines before it cut comments."""
    for text, expected in (
        (FLAGS, {"prologflags": "Alloc,Contain", "slurmdtimeout": "5"}),
        (COMMENT, {"slurmdtimeout": "5"}),
    ):
        text = text.replace("\n", end)
        assert values(text) == expected
        assert dict(meaning(text, "slurm.conf").parameters) == expected
        base = f"ClusterName=c{end}SlurmctldHost=h{end}"
        assert lint(base + text, "slurm") == ()


def test_a_comment_that_ends_in_a_backslash_hides_no_change() -> None:
    assert impact(COMMENT, COMMENT.replace("5", "6"), "slurm.conf").why() == "SlurmdTimeout"


def test_a_value_that_goes_on_in_the_next_line_is_compared_whole() -> None:
    (change,) = impact(FLAGS, FLAGS.replace("Contain", "X11"), "slurm.conf").changes
    assert (change.key, change.old, change.new) == ("PrologFlags", "Alloc,Contain", "Alloc,X11")
    assert impact(FLAGS, "SlurmdTimeout=5\nPrologFlags=Alloc,Contain", "slurm.conf").level == "none"


def test_a_blank_before_the_rest_of_a_value_ends_it() -> None:
    (statement,) = statements("PrologFlags=Alloc,\\\n  Contain\n", "slurm")
    assert (statement.pairs, statement.rest) == ((Pair("PrologFlags", "", "Alloc,"),), "Contain")


def test_an_escaped_hash_is_part_of_the_value() -> None:
    assert values("MailProg=/bin/a\\#b # why\n") == {"mailprog": "/bin/a#b"}
    assert meaning("MailProg=/bin/a\\#b\n", "slurm.conf").parameters == {"mailprog": "/bin/a#b"}


@pytest.mark.parametrize(
    ("line", "pairs"),
    [
        ('MailDomain="a b"', [Pair("MailDomain", "", "a b")]),
        ('MailDomain="a b"c', [Pair("MailDomain", "", '"a')]),
        ("PreemptMode += OFF", [Pair("PreemptMode", "+", "OFF")]),
        ("a.b_1=c", [Pair("a.b_1", "", "c")]),
        ("SlurmdTimeout=", []),
        # Only a record has several pairs (_parse_next_key).
        ("SlurmdTimeout=5 UsePAM=no", [Pair("SlurmdTimeout", "", "5")]),
        ("nodename=n1 CPUs=2", [Pair("nodename", "", "n1"), Pair("CPUs", "", "2")]),
    ],
)
def test_pairs_are_those_of_keyvalue_pattern(line: str, pairs: list[Pair]) -> None:
    (statement,) = statements(line, "slurm")
    assert list(statement.pairs) == pairs


INCLUDED = {"a.conf": "UsePAM=1\ninclude b.conf\n", "b.conf": "SlurmdTimeout=5", "c.conf": "Include c.conf\n"}


@pytest.mark.parametrize(
    ("text", "outcomes"),
    [
        ("Include a.conf", ["read", "read"]),
        ("INCLUDE\ta.conf\r\n", ["read", "read"]),
        ("Include absent.conf\n", ["unread"]),
        ("Include c.conf\n", ["read", "loop"]),
        ("Include *.conf\n", ["pattern"]),
        ("Include %c.conf\n", ["pattern"]),
        # _parse_include_directive knows it in column one, and with a blank behind it.
        (" Include a.conf\n", []),
        ("IncludeFile=a.conf\n", []),
        ("# \\\nInclude a.conf\n", ["read", "read"]),
        ("UsePAM=1 \\\nInclude a.conf\n", []),
    ],
)
def test_an_include_begins_its_line(text: str, outcomes: list[str]) -> None:
    read = list(statements(text, "slurm", INCLUDED.get))
    assert [statement.included for statement in read if statement.included] == outcomes


def test_what_is_included_stands_in_its_place() -> None:
    read = list(statements("UsePAM=0\nInclude a.conf\nSlurmdTimeout=9\n", "slurm", INCLUDED.get))
    assert [(statement.origin, pair.key) for statement in read for pair in statement.pairs] == [
        ("", "UsePAM"),
        ("a.conf:1", "UsePAM"),
        ("b.conf:1", "SlurmdTimeout"),
        ("", "SlurmdTimeout"),
    ]
    assert Whole.of(read).value("SlurmdTimeout") == "9"


def test_an_include_counts_by_its_name_when_files_are_compared() -> None:
    assert meaning("Include a.conf\n", "slurm.conf").parameters == {"include": "a.conf"}
    assert impact("Include a.conf\n", "Include b.conf\n", "slurm.conf").why() == "Include"


def test_default_lines_are_known_in_any_case() -> None:
    """src/common/read_config.c, _parse_nodename compares with xstrcasecmp."""
    found = meaning("NodeName=default CPUs=2\nNodeName=n[1-2]\n", "slurm.conf")
    assert found.records == {Subject("NodeName", f"n{n}"): {"cpus": "2"} for n in (1, 2)}


def test_what_slurm_cannot_read_makes_a_difference() -> None:
    (change,) = impact("UsePAM=1\n", "UsePAM=1 SlurmdTimeout=5\n", "slurm.conf").changes
    assert (change.key, change.new, change.slurmd) == (UNREADABLE, "SlurmdTimeout=5", Level.RESTART)


MIG = "NodeName=n1 Name=gpu Type=a_1g.5gb MultipleFiles=/dev/nvidia0,/dev/nvidia-caps/nvidia-cap{},/dev/x{}\n"


def test_mig_instances_of_a_node_are_told_apart() -> None:
    """One record for both hid that the first went away."""
    both = MIG.format(12, 1) + MIG.format(21, 2)
    assert len(meaning(both, "gres.conf").records) == 2
    assert impact(both, MIG.format(21, 2), "gres.conf").level == "drain"


def test_types_without_files_are_told_apart() -> None:
    both = "NodeName=n1 Name=gpu Type=a Count=1\nNodeName=n1 Name=gpu Type=b Count=1\n"
    assert impact(both, both.splitlines()[1], "gres.conf").level == "drain"


def test_a_file_that_is_not_slurms_is_refused() -> None:
    with pytest.raises(ValueError, match="munge"):
        meaning("", "munge.key")


@pytest.mark.parametrize(
    ("gres", "devices", "autodetect"),
    [
        ("NodeName=n1 Name=gpu File=/dev/nvidia[0-1]\n", ["/dev/nvidia0", "/dev/nvidia1"], False),
        ("NodeName=n1 Name=gpu \\\n File=/dev/nvidia0 # File=/dev/nvidia9\n", ["/dev/nvidia0"], False),
        ("# AutoDetect=nvml\n", [], False),
        ("AutoDetect=nvml\n", [], True),
        ("AutoDetect=nvml\nNodeName=n[1-2] AutoDetect=off\n", [], False),
        ("AutoDetect=off\nNodeName=n1 AutoDetect=nvidia\n", [], True),
        ("NodeName=n2 AutoDetect=nvml\n", [], False),
    ],
)
def test_the_judge_reads_gres_conf_with_it(gres: str, devices: list[str], autodetect: bool) -> None:
    files = {"slurm.conf": "ClusterName=c\nSlurmctldHost=h\nNodeName=n[1-2]\n"}
    case = case_of(Configuration(files, {"n1": gres}), Path("root.tar"))
    assert (case.devices, case.autodetect) == (devices, ["n1"] * autodetect)
