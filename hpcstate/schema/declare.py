"""What a table of keys is made of: a class of ``Keys`` for each section of a cluster file, a row for a key.

hpcstate.schema.keys has the tables. A row says what may stand under its key, what counts when it is absent,
and what it means; the walk (hpcstate.schema.section), its messages and docs/cluster-file.md
(hpcstate.schema.reference) take it from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, TypeVar

from hpcstate.schema.leaf import Leaf

T = TypeVar("T")
Row = TypeVar("Row", bound="AnyKey")


@dataclass(frozen=True, eq=False)
class AnyKey:
    """One key. ``meaning`` is its sentence in docs/cluster-file.md.

    ``required``: absent, it is reported with ``missing`` (message and next step; a text of its own when
    empty). ``default_text`` is Markdown that says the default where its value cannot. ``same_as`` is the row
    of which this is another spelling. ``name`` is the name of the attribute that the row is assigned to.
    """

    meaning: str
    required: bool = field(default=False, kw_only=True)
    missing: tuple[str, str] | None = field(default=None, kw_only=True)
    default_text: str = field(default="", kw_only=True)
    same_as: AnyKey | None = field(default=None, kw_only=True)
    name: str = field(default="", init=False)

    def __set_name__(self, owner: type, name: str) -> None:
        if self.name:
            raise TypeError(f"{owner.__name__}.{name}: this row is {self.name!r}; another needs .but(...)")
        object.__setattr__(self, "name", name)

    def but(self: Row, meaning: str, **changes: Any) -> Row:
        """This key for another section: the same but for its meaning, and what ``changes`` says."""
        return replace(self, meaning=meaning, **changes)

    def alias(self: Row) -> Row:
        """Another spelling of this key."""
        return replace(self, same_as=self, default_text="")

    @property
    def tables(self) -> tuple[type[Keys], ...]:
        """The tables of what stands under this key; none for plain values."""
        return ()

    @property
    def shown_meaning(self) -> str:
        """The meaning as Markdown."""
        return f"the same as `{self.same_as.name}`" if self.same_as else self.meaning

    @property
    def shown_default(self) -> str:
        """The default as Markdown; empty when the key is simply left out."""
        if self.same_as:
            return ""
        return "**required**" if self.required else self.default_text


@dataclass(frozen=True, eq=False)
class ValueKey(AnyKey, Generic[T]):
    """A key with a single value, which ``leaf`` reads.

    ``default`` counts when the key is absent or wrong. It is None where the reader makes it of other keys,
    and what lets the walk go on where the key is required. A field of the model that has a default of its
    own is named here (``Acceleration.enable_kvm``), never written again.
    """

    leaf: Leaf[T]
    default: T

    @classmethod
    def written(cls, meaning: str, leaf: Leaf[T], text: str) -> ValueKey[T]:
        """A key whose default is ``text`` as somebody would write it in the file, in the file's unit."""
        return cls(meaning, leaf, leaf(text), default_text=f"`{text}`")

    @property
    def shown_default(self) -> str:
        """The default as Markdown: its text, or the value as the file has it."""
        if self.required or self.same_as or self.default_text or self.default in ("", None):
            return super().shown_default
        value = str(self.default).lower() if isinstance(self.default, bool) else str(self.default)
        return f"`{value}`"


@dataclass(frozen=True, eq=False)
class ListKey(AnyKey, Generic[T]):
    """A key with a list of single values, each read by ``leaf``; absent, it is empty."""

    leaf: Leaf[T]


@dataclass(frozen=True, eq=False)
class MappingKey(AnyKey):
    """A key with a mapping whose keys are the user's: ``name_leaf`` reads them, ``leaf`` their values."""

    name_leaf: Leaf[str]
    leaf: Leaf[str]


@dataclass(frozen=True, eq=False)
class SectionKey(AnyKey):
    """A key with a mapping, whose keys ``table`` has."""

    table: type[Keys]

    @property
    def tables(self) -> tuple[type[Keys], ...]:
        """The table of the section."""
        return (self.table,)


@dataclass(frozen=True, eq=False)
class EntriesKey(AnyKey):
    """A key with a list of mappings, whose keys ``table`` has.

    ``groups`` is the table of the mapping that may stand in the list's place.
    """

    table: type[Keys]
    groups: type[Keys] | None = field(default=None, kw_only=True)

    @property
    def tables(self) -> tuple[type[Keys], ...]:
        """The table of an entry, then that of the groups."""
        return (self.table, self.groups) if self.groups else (self.table,)


class Keys:
    """The keys of one section, in the order of docs/cluster-file.md; its rows are the class's attributes.

    ``title`` is the section's heading there. ``labels`` are keys for the reader of the file; ``earlier`` are
    keys of the earlier system that hpcstate knows and does not act on: they are accepted, with a warning.
    ``notes`` has what the document says of one of them.
    """

    title: ClassVar[str]
    rows: ClassVar[Mapping[str, AnyKey]]
    aliases: ClassVar[Mapping[str, AnyKey]]
    used: ClassVar[tuple[str, ...]]
    labels: ClassVar[tuple[str, ...]]
    earlier: ClassVar[tuple[str, ...]]
    notes: ClassVar[Mapping[str, str]]
    all: ClassVar[tuple[str, ...]]

    def __init_subclass__(
        cls,
        *,
        title: str,
        labels: Sequence[str] = (),
        earlier: Sequence[str] = (),
        notes: Mapping[str, str] | None = None,
    ) -> None:
        found = {name: row for name, row in vars(cls).items() if isinstance(row, AnyKey)}
        cls.title = title
        cls.rows = found
        cls.aliases = {row.same_as.name: row for row in found.values() if row.same_as}
        cls.used = tuple(found)
        cls.labels = tuple(labels)
        cls.earlier = tuple(earlier)
        cls.notes = notes or {}
        cls.all = (*cls.used, *cls.labels, *cls.earlier)
        twice = {name for name in cls.all if cls.all.count(name) > 1}
        if twice or not cls.notes.keys() <= {*cls.labels, *cls.earlier}:
            raise TypeError(f"{title}: each key stands once, and notes are of labels and earlier keys")
