"""The line of a definition's %post, %appinstall or %test at which a build ended.

Apptainer runs %post by `/bin/sh -ex /.post.script` (internal/pkg/build/stage.go), in an environment of its
own, and what the apps install in the same script behind it (internal/pkg/build/apps/apps.go, HandlePost): the
shell says the commands that it starts (``+ words``), and the number of a line only for its own errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_SECTION = re.compile(r"^\s*%+(\S+)[ ]*(\S*)")
_STAGE = re.compile(r"^bootstrap:", re.IGNORECASE)
_OWN = re.compile(r"/\.post\.script: (?:line )?(\d+):")
_OWN_OF_A_TEST = re.compile(r"/\.singularity\.d/test: (?:line )?(\d+):")
_BEFORE_AN_APP = 5
"""Lines of Apptainer's that enter the app: an empty one, `cd /`, `. …/01-base.sh`, an empty one, `cd …`."""
_BEHIND_AN_APP = 3
_TRACED = re.compile(r"^\++ (.+)$")
_WORD = re.compile(r"[\w./=:@%+-]{2,}")


def ended(output: str) -> str:
    """The section (``%post``, ``%test``) whose commands ended the build that said ``output``; empty where it
    was none of them.
    """
    if "%post" in output:
        return "%post"
    return "%test" if "failed to execute %test" in output else ""


def failing(definition: str, output: str) -> tuple[int, str]:
    """The line (1-based) of ``definition``, and its text, at which the %post, the %appinstall or the %test
    ended whose build said ``output``. 0 where it is not known, with the command that was started last, if
    any.
    """
    stages = _stages(definition.split("\n"))
    if ended(output) == "%test":
        return _of_a_test([stage["test"] for stage in stages if "test" in stage], output)
    scripts = [script for stage in stages if (script := _script(stage))]
    *before, said = output.split("Running post scriptlet")
    if not before or len(before) > len(scripts):
        return 0, ""
    script = scripts[len(before) - 1]
    command, found = "", (0, "")
    for line in said.splitlines():
        own = _OWN.search(line)
        if own and 0 < int(own[1]) <= len(script):
            at, text = script[int(own[1]) - 1]
            found = (at, text.strip())
        elif traced := _TRACED.match(line):
            command, found = traced[1], (0, "")
    return found if found[0] else _place(script, command)


_Lines = list[tuple[int, str]]


def _of_a_test(tests: Sequence[_Lines], output: str) -> tuple[int, str]:
    """The last error of a test's shell: Apptainer writes `#!` and an empty line before it (metadata.go)."""
    *before, said = output.split("Running testscript")
    numbers = _OWN_OF_A_TEST.findall(said)
    if not numbers or not 0 < len(before) <= len(tests):
        return 0, ""
    script = tests[len(before) - 1]
    at = int(numbers[-1]) - (2 if script and script[0][1].strip().startswith("#!") else 3)
    return (script[at][0], script[at][1].strip()) if 0 <= at < len(script) else (0, "")


def _stages(lines: Sequence[str]) -> list[dict[str, _Lines]]:
    """The sections of each stage, those of an app by their name and that of the app: their lines with their
    numbers. What comes twice is joined.
    """
    stages: list[dict[str, _Lines]] = [{}]
    section: _Lines = []
    for number, line in enumerate(lines, 1):
        if _STAGE.match(line):
            stages.append({})
            section = []
        elif named := _SECTION.match(line):
            name = named[1].lower()
            section = stages[-1].setdefault(f"{name} {named[2]}" if name.startswith("app") else name, [])
        else:
            section.append((number, line))
    return stages


def _script(stage: Mapping[str, _Lines]) -> _Lines:
    """The %post of ``stage`` with what its apps install, as Apptainer joins them; lines of its own have 0."""
    apps = dict.fromkeys(name.partition(" ")[2] for name in stage if name.startswith("app"))
    script = list(stage.get("post", ()))
    for app in apps:
        script += [(0, "")] * _BEFORE_AN_APP
        script += [*stage.get(f"appinstall {app}", ()), *[(0, "")] * _BEHIND_AN_APP]
    return script


def _place(script: Sequence[tuple[int, str]], command: str) -> tuple[int, str]:
    """The line that has most of the words of ``command``, which a shell has expanded: its first one at least.
    The last of several, for those before were passed.
    """
    words = _WORD.findall(command)
    best, most = (0, command), 0
    for number, text in script:
        if not words or text.lstrip().startswith("#") or words[0] not in _WORD.findall(text):
            continue
        common = sum(word in _WORD.findall(text) for word in words)
        if common >= most:
            best, most = (number, text.strip()), common
    return best
