"""A key is declared once: what the tables of keys promise, and what they make of a row."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcstate import model, schema
from hpcstate.commands import arguments
from hpcstate.schema import (
    accounting_keys,
    directory_keys,
    gpu_keys,
    health_keys,
    keys,
    leaf,
    mail_keys,
    monitoring_keys,
    mount_keys,
    node_keys,
    partition_keys,
    people_keys,
    reservation_keys,
    site_keys,
)
from hpcstate.schema.addresses import place_nodes
from hpcstate.schema.declare import AnyKey, Keys, ListKey, MappingKey, SectionKey, ValueKey
from hpcstate.schema.leaf import LeafError
from hpcstate.schema.node import Entry
from hpcstate.schema.reference import described
from hpcstate.schema.section import Report, Section

SCHEMA = Path(keys.__file__).parent
ROWS = [(section, row) for section in keys.SECTIONS for row in section.rows.values()]
VALUES = [
    pytest.param(row, id=f"{section.title}.{row.name}") for section, row in ROWS if isinstance(row, ValueKey)
]

NOT_OF_THE_FILE = (model.Container, model.ContainerTest)
"""What container.yaml becomes."""

DERIVED = {
    "Cluster": {"home", "home_path", "scratch"},
    "Mount": {"place"},
    "Node": {"named", "data_gb"},
    "Reservation": {"minutes", "node_count"},
    "Share": {"percent"},
}
"""What follows from other keys, from how a value is written, or from a node's role."""


def constants() -> dict[str, set[str]]:
    """The fields of the model that have a single value as default: the names of each class's."""
    return {
        name: {
            field.name for field in dataclasses.fields(found) if isinstance(field.default, bool | int | str)
        }
        - DERIVED.get(name, set())
        for name in model.__all__
        if dataclasses.is_dataclass(found := getattr(model, name)) and found not in NOT_OF_THE_FILE
    }


def default_arguments() -> Iterator[tuple[str, ast.expr]]:
    """The default that each row of the tables is given, as it is written there, by ``TableKeys.key``."""
    modules = (
        keys,
        directory_keys,
        gpu_keys,
        health_keys,
        mail_keys,
        monitoring_keys,
        mount_keys,
        node_keys,
        partition_keys,
        people_keys,
        accounting_keys,
        reservation_keys,
        site_keys,
    )
    written = [found for module in modules for found in ast.parse(inspect.getsource(module)).body]
    for table in [found for found in written if isinstance(found, ast.ClassDef)]:
        for row in [found for found in table.body if isinstance(found, ast.Assign)]:
            assert isinstance(row.targets[0], ast.Name) and isinstance(row.value, ast.Call)
            name = f"{table.name}.{row.targets[0].id}"
            if "ValueKey" in ast.unparse(row.value.func) and len(row.value.args) == 3:
                yield name, row.value.args[2]
            for keyword in row.value.keywords:
                if keyword.arg == "default":
                    yield name, keyword.value


def test_every_table_is_reached_from_the_file_and_listed_once() -> None:
    reached: dict[type[Keys], None] = {}
    waiting: list[type[Keys]] = [keys.FileKeys]
    while waiting:
        section = waiting.pop()
        if section not in reached:
            reached[section] = None
            waiting += [table for row in section.rows.values() for table in row.tables]
    assert set(reached) == set(keys.SECTIONS)
    assert len(keys.SECTIONS) == len({section.title for section in keys.SECTIONS})
    tables = {found for found in vars(keys).values() if inspect.isclass(found) and found.__base__ is Keys}
    assert tables == set(keys.SECTIONS)


def test_a_default_of_the_model_is_written_in_the_model_only() -> None:
    of_the_model = constants()
    named = set[tuple[str, str]]()
    for key, default in default_arguments():
        if isinstance(default, ast.Attribute):
            named.add((ast.unparse(default.value), default.attr))
        elif ast.unparse(default) not in ("None", "''"):
            field = key.partition(".")[2]
            assert field not in set().union(*of_the_model.values()), f"{key} repeats a default of the model"
    assert {(owner, field) for owner, fields in of_the_model.items() for field in fields} <= named


def test_no_reader_names_a_parser() -> None:
    for path in SCHEMA.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            tables = path.stem.endswith("keys") or path.stem in ("declare", "leaf", "account")
            if tables or not isinstance(node, ast.ImportFrom):
                continue
            names = {alias.name for alias in node.names}
            assert node.module != "hpcstate.schema" or "leaf" not in names, path
            assert node.module != "hpcstate.schema.leaf" or names <= {"Leaf", "LeafError", "closest"}, path


@pytest.mark.parametrize("row", VALUES)
def test_a_default_is_shown_as_the_file_would_have_it(row: ValueKey[object]) -> None:
    shown = row.shown_default
    if row.default is not None and row.default != "" and not row.required and not row.same_as:
        assert shown.count("`") == 2
        if row is not keys.NumaTopologyKeys.nodes:  # 0 is "none", which only an absent key says
            assert row.leaf(shown.strip("`")) == row.default


@pytest.mark.parametrize("row", VALUES)
def test_every_choice_is_in_the_document(row: ValueKey[object]) -> None:
    with pytest.raises(LeafError) as caught:
        row.leaf("\0")
    if caught.value.expected.startswith("one of "):
        choices = caught.value.expected.removeprefix("one of ").split(", ")
        text = f"{row.shown_default} {row.meaning}"
        assert [choice for choice in choices if f"`{choice}`" not in text] == []


@pytest.mark.parametrize("row", [pytest.param(row, id=f"{table.title}.{row.name}") for table, row in ROWS])
def test_a_meaning_is_one_cell_of_a_table(row: AnyKey) -> None:
    for cell in (row.shown_default, row.shown_meaning):
        assert "|" not in cell and "\n" not in cell
        assert not cell.endswith((".", " "))


def test_a_place_that_a_message_names_has_keys_of_the_file() -> None:
    """A place with an unknown key has no line; the message would be at that of a section above it."""
    known = {key for section in keys.SECTIONS for key in section.used}
    places = re.compile(
        r'f"(?P<place>(?:\.clusters\.|\{\w+(?:\[-?\d\])?\.place\}\.|\{here\}\.|\{hardware\}\.)[^" ]*)"'
    )
    found = [
        (path.stem, match["place"])
        for path in SCHEMA.parent.rglob("*.py")
        for match in places.finditer(path.read_text())
    ]
    assert len(found) > 20
    wrong = [
        (module, place)
        for module, place in found
        if not set(re.findall(r"[.](\w+)", re.sub(r"\{[^}]*\}", "", place))) <= known
    ]
    assert wrong == []


def test_the_clusters_of_the_command_line_are_those_of_the_file() -> None:
    assert tuple(schema.KINDS) == keys.ClustersKeys.used
    assert (*keys.ClustersKeys.used, "all") == arguments.KINDS


class LampKeys(Keys, title="lamp"):
    colour = ValueKey("of the light", leaf.choice("red", "green"), "red")
    watts = ValueKey.written("power", leaf.gibibytes_as_mib(0, 9), "2")


class RoomKeys(Keys, title="room", labels=("note",), earlier=("candle",), notes={"candle": "it burnt"}):
    doors = ValueKey("how many", leaf.integer(1, 4), 1, required=True)
    size = ValueKey("in metres", leaf.integer(1, 99), None, default_text="the house's")
    metres = size.alias()
    lamp = SectionKey("see lamp", LampKeys, required=True, missing=("it is dark", "buy a lamp"))
    walls = ListKey("their colours", leaf.choice("white", "grey"))
    prices = MappingKey("of what is in it", leaf.choice("chair"), leaf.line)


def room(value: object) -> tuple[Section, Report]:
    """A section with the keys of a room, and its report."""
    report = Report({".": 1})
    return Section(report, ".room", value, RoomKeys), report


def told(report: Report) -> list[tuple[str, str, str]]:
    """The problems of a report: place, message, hint."""
    return [(problem.place, problem.message, problem.hint) for problem in report.problems]


def test_a_row_is_all_that_a_key_needs() -> None:
    section, report = room(
        {"doors": "2", "metres": "7", "lamp": {}, "walls": ["grey"], "prices": {"chair": "9"}}
    )
    assert section.value(RoomKeys.doors) == 2
    assert section.value(RoomKeys.size) == 7
    assert section.section(RoomKeys.lamp).value(LampKeys.colour) == "red"
    assert section.section(RoomKeys.lamp).value(LampKeys.watts) == 2048
    assert section.values(RoomKeys.walls) == ("grey",)
    assert section.pairs(RoomKeys.prices) == [(".room.prices.chair", "chair", "9")]
    assert told(report) == []


def test_what_is_wrong_is_told_in_the_words_of_the_row() -> None:
    section, report = room({"door": "2", "colour": "red", "candle": "1", "walls": ["white", "whte"]})
    assert section.value(RoomKeys.doors) == 1
    assert section.value(RoomKeys.size) is None
    assert section.section(RoomKeys.lamp).value(LampKeys.colour) == "red"
    assert section.items(RoomKeys.walls) == [(".room.walls[0]", "white")]
    known = "keys here: doors, size, metres, lamp, walls, prices, note"
    assert set(told(report)) == {
        (".room.candle", "known key of the earlier system, not used", "it burnt"),
        (".room.door", "unknown key 'door' in room", "did you mean 'doors'?"),
        (".room.colour", "unknown key 'colour' in room", known),
        (".room.doors", "is missing", "add 'doors'; docs/cluster-file.md lists the keys of room"),
        (".room.lamp", "it is dark", "buy a lamp"),
        (".room.walls[1]", "expected one of white, grey, found 'whte'", "did you mean 'white'?"),
    }
    assert report.ignored == [".room.candle"]


def test_two_spellings_of_a_key_are_one_too_many() -> None:
    section, report = room({"size": "5", "metres": "7"})
    assert section.value(RoomKeys.size) == 5
    assert told(report) == [(".room.size", "size and metres are the same key", "keep one of the two")]


def test_a_key_of_another_section_is_a_mistake_in_the_program() -> None:
    section, _ = room({})
    with pytest.raises(KeyError, match="colour"):
        section.value(LampKeys.colour)


def test_the_document_of_a_section() -> None:
    assert (
        described(RoomKeys)
        == """\
| key | default | meaning |
|---|---|---|
| `doors` | **required** | how many |
| `size` | the house's | in metres |
| `metres` | | the same as `size` |
| `lamp` | **required** | see lamp |
| `walls` | | their colours |
| `prices` | | of what is in it |

Labels: `note`. Earlier: `candle` (it burnt)."""
    )
    assert "| `watts` | `2` | power |" in described(LampKeys)


def test_a_table_with_a_key_twice_is_refused() -> None:
    with pytest.raises(TypeError, match="stands once"):
        type("TwiceKeys", (Keys,), {"a": LampKeys.colour.but("x")}, title="twice", labels=("a",))
    with pytest.raises(TypeError, match="notes are of"):
        type("NotedKeys", (Keys,), {}, title="noted", notes={"a": "x"})


def test_a_row_has_one_name() -> None:
    with pytest.raises((TypeError, RuntimeError)) as caught:
        type("OtherKeys", (Keys,), {"other": LampKeys.colour}, title="other")
    assert "this row is 'colour'" in f"{caught.value} {caught.value.__cause__}"


def test_what_an_entry_says_reaches_its_nodes() -> None:
    """A key that is read, but not handed on by place_nodes, would be lost without a word."""
    (cluster,) = schema.parse(
        "clusters:\n  hpc:\n    name: test\n    network: {subnet: 192.168.150.0/24}\n"
        "    controller: {}\n    compute_nodes: [{}]\n",
        Path("test.yaml"),
    ).clusters
    shared = {field.name for field in dataclasses.fields(Entry)}
    shared &= {field.name for field in dataclasses.fields(model.Node)}
    # These are a node's own: allotted, or compared with those of others.
    said = {name: object() for name in shared - {"address", "role", "place"}}
    entry = Entry(
        place=".clusters.hpc.compute_nodes[0]",
        role="compute",
        count=1,
        cpu_cores=1,
        memory_mb=1,
        disk_gb=1,
        address=None,
        address_place="",
        image="",
        auto_start=True,
    )
    (node,) = place_nodes(
        "test",
        cluster.network,
        [dataclasses.replace(entry, **said)],  # type: ignore[arg-type]
        Report({}),
    )
    assert {name: getattr(node, name) for name in said} == said
    assert {"memory_mb", "image", "simulated_gpus", "gres_settings"} <= said.keys()
