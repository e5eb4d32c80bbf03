"""The environment of an image as a .sif sets it; what Apptainer's own shell makes of it: tests/containers."""

from __future__ import annotations

import subprocess

import pytest

from hpcstate.container import environment

VALUES = {
    "PATH": "/opt/bin:/bin",
    "DATE": "$(date)",
    "TICKS": "`date`",
    "QUOTES": "a\"b'c",
    "BACK": "a\\nb\\\\c",
    "DOLLAR": "$HOME ${HOME}",
    "LINES": "a\nb",
    "EMPTY": "",
    "LETTERS": "grüße",
    "AFTER": "still",
}


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_each_value_arrives_literally(shell: str) -> None:
    said = [*(f"{name}={value}" for name, value in VALUES.items()), "NO NAME=x", "a.b=c"]
    done = subprocess.run(
        [shell, "-c", environment.script(said) + "/usr/bin/env -0"],
        env={"PATH": "/bin"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    found = dict(line.partition("=")[::2] for line in done.stdout.split("\0") if line)
    assert environment.differences(VALUES, found) == []


@pytest.mark.parametrize(
    ("there", "said", "expected"),
    [
        ({"N": "8"}, "N=1", "8"),
        ({"N": ""}, "N=1", "1"),
        ({"LANG": "C"}, "LANG=C.UTF-8", "C.UTF-8"),
        ({"LANG": "de_DE.UTF-8"}, "LANG=C.UTF-8", "de_DE.UTF-8"),
        ({"PATH": "/usr/bin"}, "PATH=/opt:/usr/bin", "/opt:/usr/bin"),
    ],
)
def test_who_starts_it_comes_first_but_for_the_path(there: dict[str, str], said: str, expected: str) -> None:
    name = said.partition("=")[0]
    line = environment.script([said]) + f'printf %s "${name}"'
    done = subprocess.run(["/bin/sh", "-c", line], env=there, check=True, capture_output=True, text=True)
    assert done.stdout == expected


@pytest.mark.parametrize(
    ("value", "plain"),
    [("a b", True), ("/opt:/bin", True), ("a=b;c", True), ("$x", False), ("`x`", False), ("it's", False)],
)
def test_what_apptainers_own_conversion_gets_right(value: str, plain: bool) -> None:
    assert environment.is_plain([f"A={value}"]) is plain
    assert environment.is_plain([f"no name={value}"])


def test_differences() -> None:
    expected = {"A": "1", "B": "2", "PATH": "/x", "LD_LIBRARY_PATH": "/l", "HOME": "/h", "C": ""}
    found = {"A": "1", "B": "3", "PATH": "/x:/bin", "LD_LIBRARY_PATH": "/l2", "HOME": "/root"}
    assert environment.differences(expected, found) == [
        "B is '3', the image says '2'",
        "LD_LIBRARY_PATH is '/l2', the image says '/l'",
        "C is gone, the image says ''",
    ]
