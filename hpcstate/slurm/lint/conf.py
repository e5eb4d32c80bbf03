"""What Slurm 24.11 would refuse, ignore or warn about in its configuration files, before a daemon reads them.

Pure: a text in, problems out, all of them at once. An error stops a daemon that reads the file; a warning is
what Slurm ignores, changes or only logs. What is known of each key is in keys.toml, with its source;
what is wrong only in company is in whole.py.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from hpcstate.errors import Problem
from hpcstate.slurm.keys import KINDS, LENIENT, Family, Key, Kind, ValueRule, keys
from hpcstate.slurm.lint import whole
from hpcstate.slurm.read import Pair, ReadInclude, Statement, statements

_TRUE_OR_FALSE = frozenset(("yes", "up", "true", "1", "no", "down", "false", "0"))
_NO_LIMIT = frozenset(("unlimited", "infinite"))
_LARGEST = {"uint16": 2**16 - 1, "uint32": 2**32 - 1, "uint64": 2**64 - 1}
_INTEGER = re.compile(r"\+?(?P<digits>0x[0-9a-f]+|0[0-7]*|[1-9][0-9]*)(?P<kilo>k?)", re.IGNORECASE)
_FLOAT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?|[-+]?(inf(inity)?|nan)", re.IGNORECASE)
_DIGITS_OF_UINT64 = 22
_CLIP = 60
_SPACES = " \t\n\v\f\r"
"""Spaces to Slurm; those of Unicode are none."""
_NONE_IS_A_PLUGIN = frozenset(("auth", "cred", "preempt", "tls"))
"""Families of which `none` is a plugin or a name that Slurm compares as it is."""
_NAMES = frozenset(("nodename", "partitionname", "nodes", "nodeset", "switchname", "blockname", "switches"))


def kind_of(file_name: str) -> Kind | None:
    """The kind of a file by its name: ``slurm.conf``, and also ``slurm.conf.j2`` or ``old-slurm.conf``."""
    stem = re.search(
        r"(slurmdbd|cgroup|gres|slurm|job_container|mpi|topology|acct_gather|helpers|oci)\.conf",
        file_name.lower(),
    )
    return next((kind for kind in KINDS if stem and kind == stem[1]), None)


def lint(
    text: str, kind: Kind, read_include: ReadInclude = lambda name: None, fragment: bool = False
) -> tuple[Problem, ...]:
    """All problems of ``text``, a configuration file of ``kind``, in the order of its lines.

    ``read_include`` gives the text of an included file by the name in the Include line, None when it cannot
    be read; a problem in one has the line of the Include and a place that names the file and its line. Of a
    ``fragment``, which another file includes, what that one may have is not missed.
    """
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        return (
            Problem(line, kind + ".conf", "not a text file: it has a zero byte", "is this the right file?"),
        )
    read = tuple(statements(text, kind, read_include))
    own_plugins = any(pair.key.lower() == "plugindir" for statement in read for pair in statement.pairs)
    found = [problem for statement in read for problem in _statement_problems(kind, statement, own_plugins)]
    found += _repeated(kind, read)
    found += whole.problems(kind, read, fragment)
    if kind == "oci":
        # No daemon reads it: slurmstepd does, when a step with a container starts.
        found = [replace(problem, severity="warning") for problem in found]
    return tuple(sorted(set(found)))


def _statement_problems(kind: Kind, statement: Statement, own_plugins: bool) -> Iterator[Problem]:
    if statement.included:
        yield from _include_problems(statement)
    for pair in statement.pairs:
        yield from _pair_problems(kind, statement, pair, own_plugins)
    later = statement.pairs and ("", statement.pairs[0].key.lower()) in keys(kind).new
    # Not of a line of a later release, which may have more keys than one: its first is told.
    if statement.rest and not later:
        problem = _syntax_problem(statement)
        # An Include without a name is passed over.
        harmless = kind in LENIENT or statement.rest.lower() == "include"
        yield replace(problem, severity="warning") if harmless else problem


_NOT_THERE = "the daemons wait a minute for it, and stop"
"""src/common/parse_config.c, s_p_parse_file."""


def _include_problems(statement: Statement) -> Iterator[Problem]:
    where = statement.place("Include")
    line, name = statement.line, _clip(statement.file)
    if statement.file.startswith('"'):
        message = f"{name}: the quotes are taken for a part of the name: {_NOT_THERE}"
        yield Problem(line, where, message, "write the name without quotes")
    elif statement.included == "absent":
        yield Problem(line, where, f"{name} is not beside this file: {_NOT_THERE}", "put it there")
    elif statement.included == "unread":
        yield Problem(line, where, f"{name} is not looked at: it cannot be read here", severity="warning")
    elif statement.included == "loop":
        yield Problem(
            line, where, f"{name} includes itself: Slurm would read it for ever", "remove one Include"
        )
    elif statement.included == "pattern" and "*" in statement.file:
        hint = "one Include line for each file"
        yield Problem(line, where, f"{name}: Slurm expands no patterns: the daemon stops", hint)
    elif statement.included == "pattern":
        message = f"{name} is not looked at: its name depends on the cluster"
        yield Problem(line, where, message, severity="warning")


def _syntax_problem(statement: Statement) -> Problem:
    """Why Slurm stops at what is left of a line ("Parse error in file")."""
    rest = statement.rest
    last = statement.pairs[-1] if statement.pairs else Pair("", "", "")
    word = re.split(r"[\s=]", rest, maxsplit=1)[0] or rest[:1]
    where = statement.place(last.key or _clip(word))
    strange = next((character for character in rest if ord(character) > 126 or ord(character) < 9), "")
    if last.value.startswith('"') or rest.count('"') % 2:
        message = "a quote is not closed"
        hint = 'write Key="a b"; # begins a comment within quotes as well, where it is written \\#'
    elif re.match(r"[A-Za-z0-9_.]+\s*[-*+/]?=(\s|\Z)", rest, re.ASCII):
        message, hint = f"{word} has no value", 'remove the key, or write Key="" for an empty value'
    elif last.key and re.match(r"[A-Za-z0-9_.]+\s*[-*+/]?=", rest, re.ASCII):
        message, hint = (
            f"{word} follows on the same line",
            "one key on a line, records like NodeName excepted",
        )
    elif not last.key and (colon := re.match(r"([A-Za-z0-9_.]+)\s*:", rest, re.ASCII)):
        message, hint = "no Key=value here", f"write {colon[1]}=, with = in place of :"
    elif last.key:
        # Not shown: what follows may be the rest of a password.
        message, hint = "text follows the value", 'a value with spaces is written Key="a b"'
    else:
        message, hint = "no Key=value here", "a comment begins with #"
    if strange:
        hint = f"the line has the character U+{ord(strange):04X}; was it pasted? Slurm's keys are plain ASCII"
    return Problem(statement.line, where, f"{message}: the daemon stops", hint)


def _pair_problems(kind: Kind, statement: Statement, pair: Pair, own_plugins: bool) -> Iterator[Problem]:
    known = keys(kind)
    line, where, lower = statement.line, statement.place(pair.key), pair.key.lower()
    if not statement.begins and lower in known.records:
        return
    is_record_key = statement.begins and pair is statement.pairs[0]
    key = known.lines[statement.begins].get(lower)
    verdict = known.verdicts.get(("" if is_record_key else statement.begins, lower))
    if key is None and not is_record_key:
        yield _unknown(kind, statement, pair)
        return
    strange = next((character for character in pair.value if not " " <= character <= "~"), "")
    if lower in _NAMES and strange and strange not in _SPACES:
        message = f"has the character U+{ord(strange):04X}, which no name of a node has"
        yield Problem(line, where, f"{message}: no slurmd finds itself", "was it pasted? write plain ASCII")
    elif strange and unicodedata.category(strange) in ("Zs", "Cf") and key and key.type == "string":
        message = (
            f"has the character U+{ord(strange):04X}, which is no space to Slurm but a part of the value"
        )
        yield Problem(line, where, message, "was it pasted? write plain ASCII", "warning")
    elif pair.value.startswith('"') and not statement.rest:
        message = "begins with a quote that is not closed: it is a part of the value, and what follows is cut"
        hint = "# begins a comment, within quotes as well: write \\#"
        yield Problem(line, where, message, hint, "warning")
    if pair.operator:
        message = f"{pair.operator}= is read as =: Slurm sets the value, it adds and removes nothing"
        yield Problem(line, where, message, f"write {pair.key}=", "warning")
    if verdict:
        yield Problem(line, where, verdict.says, verdict.hint, verdict.severity)
    if key:
        yield from _type_problems(line, where, key, pair.value)
        rule = known.rules.get((statement.begins, lower))
        if rule:
            later = known.new_words_of(statement.begins, lower)
            yield from _rule_problems(line, where, rule, pair.value, later)
        if not statement.begins and lower in known.families:
            yield from _plugin_problems(line, where, known.families[lower], pair.value, own_plugins)
        yield from _new_words(line, where, pair.value, known.new_words_of(statement.begins, lower), rule)


def _new_words(
    line: int, where: str, value: str, later: Mapping[str, str], rule: ValueRule | None
) -> Iterator[Problem]:
    """Words of later releases, which 24.11 ignores without a word, or with a line in its log."""
    for word in value.split(","):
        since = later.get(word.partition("=")[0].strip().lower())
        stops = rule is not None and rule.severity == "error" and not rule.fits(word)
        if since and not stops:
            message = f"{_quoted(word)} is new in Slurm {since}: 24.11 does not know it"
            yield Problem(line, where, message, f"remove it, or run Slurm {since}", "warning")


def _unknown(kind: Kind, statement: Statement, pair: Pair) -> Problem:
    known, lower = keys(kind), pair.key.lower()
    here = known.lines[statement.begins]
    gone = known.gone.get(lower)
    where = statement.place(pair.key)
    since = known.new.get((statement.begins, lower))
    if since:
        # A plugin may be newer than the key that names it.
        since = max(since, known.new_words_of("", lower).get(pair.value.lower(), since))
        message = f"is new in Slurm {since}, and 24.11 does not know it: the daemon stops"
        hint = f"remove it, or run Slurm {since}"
        if lower == "namespacetype":
            hint = "write JobContainerType=job_container/tmpfs"
        return Problem(statement.line, where, message, hint)
    if gone and not statement.begins:
        message = f"no key of Slurm 24.11 any more, it was until {gone.until}: the daemon stops"
        return Problem(statement.line, where, message, gone.hint)
    what = f"{statement.begins} lines" if statement.begins else f"{kind}.conf"
    message = f"not a key of {what}: {LENIENT.get(kind, 'the daemon stops')}"
    hint = _hint_for_unknown(kind, statement.begins, here, lower)
    return Problem(statement.line, where, message, hint, "warning" if kind in LENIENT else "error")


def _hint_for_unknown(kind: Kind, begins: str, here: Iterable[str], lower: str) -> str:
    known = keys(kind)
    if lower == "uptime":
        return "remove it: it is the last line that slurmd -C prints, and no key"
    if lower == "include":
        return "write Include and the name of the file, without ="
    if (begins, lower) in known.printed:
        return known.printed[begins, lower]
    for (other, key), since in known.new.items():
        if key == lower and other:
            return f"it is a key of {other} lines in Slurm {since}"
    names = {key: known.lines[begins][key].name for key in here}
    if not begins:
        names |= dict(known.records)
    close = difflib.get_close_matches(lower, names, n=1, cutoff=0.8)
    if close:
        return f"did you mean {names[close[0]]}?"
    for other, table in known.lines.items():
        if lower in table or (begins and lower in known.records):
            line = f"{other}= lines" if other and lower in table else "lines of its own"
            return f"{pair_name(kind, lower)} belongs on {line}"
    for file in KINDS:
        if lower in keys(file).lines[""]:
            return f"{keys(file).lines[''][lower].name} is a key of {file}.conf"
        if lower in keys(file).gone:
            return f"it was a key of {file}.conf: {keys(file).gone[lower].hint}"
    distant = difflib.get_close_matches(lower, names, n=1, cutoff=0.6)
    return f"did you mean {names[distant[0]]}?" if distant else f"the keys are in {kind}.conf(5)"


def pair_name(kind: Kind, lower: str) -> str:
    """A key as Slurm spells it, from any kind of line of the file."""
    known = keys(kind)
    tables = (table[lower].name for table in known.lines.values() if lower in table)
    return known.records.get(lower) or next(tables, lower)


def _type_problems(line: int, where: str, key: Key, value: str) -> Iterator[Problem]:
    """What src/common/parse_value.c says of ``value``; it reads integers with a base that they begin with."""
    lower = value.lower()
    if key.type == "boolean" and lower not in _TRUE_OR_FALSE:
        yield Problem(
            line, where, f"{_quoted(value)} is neither yes nor no: the daemon stops", "write YES or NO"
        )
    elif key.type == "float" and lower not in _NO_LIMIT and not _FLOAT.fullmatch(value.strip(_SPACES)):
        yield Problem(line, where, f"{_quoted(value)} is not a number: the daemon stops")
    elif key.type in _LARGEST and lower not in _NO_LIMIT and value:
        yield from _integer_problems(line, where, key.type, value.strip(_SPACES))


def _integer_problems(line: int, where: str, type_: str, value: str) -> Iterator[Problem]:
    found = _INTEGER.fullmatch(value)
    if found is None or (found["kilo"] and type_ == "uint16"):
        hint = (
            "a number that begins with 0 is octal: leave the 0 out" if re.fullmatch("0[0-9]+", value) else ""
        )
        yield Problem(line, where, f"{_quoted(value)} is not a whole number: the daemon stops", hint)
        return
    digits = found["digits"]
    octal = len(digits) > 1 and digits[0] == "0" and digits[1] not in "xX"
    short = len(digits.lstrip("0")) <= _DIGITS_OF_UINT64
    number = int(digits, 8 if octal else 0) * (1024 if found["kilo"] else 1) if short else None
    if number is None or number > _LARGEST[type_]:
        yield Problem(line, where, f"{_quoted(value)} is more than {_LARGEST[type_]}: the daemon stops")
    elif octal and number:
        message = f"{value} begins with 0: Slurm reads it as octal, which is {number}"
        yield Problem(line, where, message, "leave the 0 out", "warning")


def _rule_problems(
    line: int, where: str, rule: ValueRule, value: str, later: Mapping[str, str]
) -> Iterator[Problem]:
    for part in [part for part in value.split(",") if part] if rule.is_list else [value]:
        since = later.get(part.lower())
        if rule.fits(part) or (rule.severity == "warning" and since):
            continue
        if since:
            message = f"{_quoted(part)} is new in Slurm {since}, and 24.11 does not know it: the daemon stops"
            yield Problem(line, where, message, f"remove it, or run Slurm {since}")
            continue
        says = rule.says or (
            f"is none of {', '.join(rule.one_of)}" if len(rule.one_of) < 12 else "is not known"
        )
        if rule.severity == "error" and "stop" not in says:
            says = f"{says}: the daemon stops"
        elif not rule.says:
            says = f"{says}: it is ignored"
        close = difflib.get_close_matches(part.lower(), [word.lower() for word in rule.one_of], n=1)
        spelled = next((word for word in rule.one_of if close and word.lower() == close[0]), "")
        hint = rule.hint or (f"did you mean {spelled}?" if spelled else "")
        yield Problem(line, where, f"{_quoted(part)} {says}", hint, rule.severity)


def _plugin_problems(
    line: int, where: str, family: Family, value: str, own_plugins: bool
) -> Iterator[Problem]:
    """Plugins are files of PluginDir: one that is not there stops the daemon that needs it
    (src/interfaces/*.c; seen with the daemons of Debian 13).
    """
    if "none" in family.names and family.name not in _NONE_IS_A_PLUGIN and "none" in value.lower():
        # xstrcasestr(..., "none") in src/common/read_config.c: anywhere, in any case.
        return
    ends = "the daemon stops" if family.severity == "error" else "it is not found when a job needs it"
    for part in [part for part in value.split(",") if part]:
        prefix, slash, name = part.rpartition("/")
        bare = name == "none" or not family.prefix
        if name in family.names and (prefix in (family.name, *family.also) or (bare and not slash)):
            package = family.elsewhere.get(name)
            if package is not None:
                have = f"is in Debian's package {package}" if package else "is in no package of Debian 13"
                severity = "warning" if package or own_plugins else family.severity
                yield Problem(line, where, f"{part} {have}: without it, {ends}", "", severity)
            continue
        if name in family.new:
            message = f"{part} is new in Slurm {family.new[name]}, and 24.11 does not have it: {ends}"
            yield Problem(line, where, message, _default_plugin(family), family.severity)
            continue
        close = difflib.get_close_matches(name, sorted(family.names), n=1, cutoff=0.5)
        if name in family.removed:
            hint = f"write {family.name}/{close[0]}" if close else ""
            yield Problem(line, where, f"{part} was removed from Slurm: {ends}", hint, family.severity)
            continue
        hint = f"did you mean {family.name}/{close[0]}?" if close else _default_plugin(family)
        message = f"{_quoted(part)} is no plugin of Slurm 24.11: {ends}"
        if own_plugins:
            message = f"{_quoted(part)} is no plugin of Slurm 24.11; is it in PluginDir? Without it, {ends}"
        yield Problem(line, where, message, hint, "warning" if own_plugins else family.severity)


def _default_plugin(family: Family) -> str:
    names = sorted(family.names - {"none"})
    return f"24.11 has {', '.join(names[:6])}" if names else ""


def _repeated(kind: Kind, read: Iterable[Statement]) -> Iterator[Problem]:
    """Keys that are given twice: the last one counts, and Slurm logs an error (_handle_common)."""
    known = keys(kind)
    first: dict[str, Statement] = {}
    for statement in read:
        seen = {} if statement.begins else first
        for pair in statement.pairs[1:] if statement.begins else statement.pairs:
            lower = pair.key.lower()
            key = known.lines[statement.begins].get(lower)
            if (
                key is None
                or key.type in ("array", "ignored")
                or (not statement.begins and lower in known.records)
            ):
                continue
            if lower in seen:
                before = seen[lower].origin or f"line {seen[lower].line}"
                message = f"given again, after {before}: Slurm logs an error and takes this one"
                yield Problem(
                    statement.line, statement.place(pair.key), message, "keep one of them", "warning"
                )
            seen[lower] = statement


def _clip(text: str) -> str:
    return text if len(text) <= _CLIP else f"{text[:_CLIP]}..."


def _quoted(value: str) -> str:
    return f'"{_clip(value)}"'
