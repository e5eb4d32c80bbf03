"""Read Slurm's configuration files back into keys and records, so that two versions can be compared.

The syntax is that of slurm.conf(5), DESCRIPTION: ``Key=value`` pairs, keys without case, ``#`` starts a
comment, a backslash at the end continues a line. Records are the lines that begin with NodeName or
PartitionName (slurm.conf) or with NodeName or Name (gres.conf); ``DEFAULT`` lines give attributes to the
records that follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hpcstate import hostlist

_PAIR = re.compile(r'(?P<key>[A-Za-z0-9_]+)\s*[-+]?=\s*(?P<value>"[^"]*"|\S+)')
_RECORD_KEYS = {
    "slurm.conf": {"nodename": "NodeName", "partitionname": "PartitionName"},
    "gres.conf": {"nodename": "Name", "name": "Name"},
}
_ADDRESS_KEYS = frozenset(("nodeaddr", "nodehostname", "bcastaddr"))
_DEFAULT = "DEFAULT"

Attributes = Mapping[str, str]


@dataclass(frozen=True)
class Record:
    """One node, partition or device. ``kind`` is NodeName, PartitionName or Name."""

    kind: str
    name: str


@dataclass(frozen=True)
class Configuration:
    """The content of a configuration file. Keys are in lower case; ``spelling`` has them as written."""

    parameters: Attributes
    records: Mapping[Record, Attributes]
    spelling: Mapping[str, str]


def parse(text: str, file_name: str) -> Configuration:
    """The keys and records of ``text``, the content of ``file_name`` (``slurm.conf``).

    A key that is given twice has both values, joined by a newline. Comments, the order of lines and how names
    are grouped in hostlist expressions make no difference. Raises HpcstateError for a broken hostlist.
    """
    kinds = _RECORD_KEYS.get(file_name, {})
    parameters: dict[str, str] = {}
    records: dict[Record, Attributes] = {}
    defaults: dict[str, dict[str, str]] = {}
    spelling: dict[str, str] = {}
    for line in _lines(text):
        if line.lower().startswith("include"):
            pairs = [("Include", line[len("include") :].strip())]
        else:
            pairs = [(found["key"], found["value"].strip('"')) for found in _PAIR.finditer(line)]
        spelling.update((key.lower(), key) for key, _ in pairs)
        kind = kinds.get(pairs[0][0].lower()) if pairs else None
        if kind is None:
            for key, value in pairs:
                _add(parameters, key.lower(), value)
            continue
        attributes = {key.lower(): value for key, value in pairs}
        if _is_plain(file_name, attributes):
            _add(parameters, "autodetect", " ".join(f"{key}={value}" for key, value in attributes.items()))
        elif attributes.get(kind.lower()) == _DEFAULT:
            defaults.setdefault(kind, {}).update(_without(attributes, kind))
        else:
            records.update(_records(kind, {**defaults.get(kind, {}), **attributes}))
    return Configuration(parameters, records, spelling)


def _lines(text: str) -> Iterator[str]:
    """The logical lines of ``text``: continued ones joined, comments and blank ones dropped."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        content = re.split(r"(?<!\\)#", line, maxsplit=1)[0].strip()
        if content:
            yield content


def _add(parameters: dict[str, str], key: str, value: str) -> None:
    parameters[key] = f"{parameters[key]}\n{value}" if key in parameters else value


def _is_plain(file_name: str, attributes: Attributes) -> bool:
    """A line of gres.conf that names a node and no device: ``NodeName=x AutoDetect=nvml``."""
    return file_name == "gres.conf" and "name" not in attributes


def _without(attributes: Attributes, *keys: str) -> dict[str, str]:
    dropped = {key.lower() for key in keys}
    return {key: value for key, value in attributes.items() if key not in dropped}


def _records(kind: str, attributes: Attributes) -> Iterator[tuple[Record, Attributes]]:
    if kind == "Name":
        yield from _devices(attributes)
        return
    names = hostlist.expand(attributes[kind.lower()])
    rest = _without(attributes, kind)
    spread = {key: hostlist.expand(value) for key, value in rest.items() if key in _ADDRESS_KEYS}
    for index, name in enumerate(names):
        own = {key: values[index] for key, values in spread.items() if len(values) == len(names)}
        yield Record(kind, name), {**rest, **own}


def _devices(attributes: Attributes) -> Iterator[tuple[Record, Attributes]]:
    """One record for each device file on each node, or one for each node when no file is named."""
    rest = _without(attributes, "NodeName", "Name", "File")
    for node in hostlist.expand(attributes.get("nodename", "")) or ("",):
        for file in hostlist.expand(attributes.get("file", "")) or ("",):
            name = " ".join(word for word in (node, attributes["name"], file) if word)
            yield Record("Name", name), rest
