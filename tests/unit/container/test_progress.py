"""What a long step shows as it runs, and the line at which a %post ended."""

from __future__ import annotations

import time

import pytest

from hpcstate.container import progress, scriptlet


def test_the_last_line_is_shown_now_and_then_and_not_twice() -> None:
    said: list[str] = []
    with progress.followed(said.append, every=0.05) as heard:
        for number in range(100):
            heard(f"Get:{number} package")
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
    assert [line.partition(": ")[2] for line in said] == ["Get:99 package"]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("10%\r20%\r", "20%"),
        ("\x1b[32mok\x1b[0m", "ok"),
        ("x" * 200, "x" * 109 + "…"),
        ("  \t", ""),
        ("\x1b]0;title\x07a", "]0;titlea"),
    ],
)
def test_a_line_as_a_person_may_see_it(line: str, shown: str) -> None:
    assert progress.shown(line) == shown


def test_the_phases_have_names() -> None:
    assert progress.phase("INFO:    Running post scriptlet") == "%post"
    assert progress.phase("INFO:    Creating SIF file...") == "Apptainer packs the .sif"
    assert progress.phase("Running post scriptlet") == progress.phase("INFO:    Other") == ""


TWO = """\
Bootstrap: docker
From: a
Stage: one

%post
    echo first
    make -j4 all \\
      install

Bootstrap: docker
From: b

%files from one
    /x /y
%post
    # false is what fails
    export V=1; echo hi >/made
    if true; then
        pip install numpy==$V
    fi
    nosuch --all
%runscript
    exec sh
%post
    false
"""
STARTED = "INFO:    Running post scriptlet\n"


@pytest.mark.parametrize(
    ("output", "line", "text"),
    [
        (STARTED + "+ echo first\nfirst\n+ make -j4 all install\nmake: *** Error\n", 7, "make -j4 all \\"),
        (STARTED * 2 + "+ echo hi\n+ true\n+ pip install numpy==1\nERROR: no\n", 19, "pip install numpy==$V"),
        (STARTED * 2 + "+ true\n+ nosuch --all\n/.post.script: 6: nosuch: not found\n", 21, "nosuch --all"),
        (STARTED * 2 + "+ x\n/.post.script: line 6: nosuch: command not found\n", 21, "nosuch --all"),
        (STARTED * 2 + "+ nosuch\n/.post.script: 6: nosuch: not found\n+ false\n", 25, "false"),
        (STARTED + "+ /opt/other\n", 0, "/opt/other"),
        (STARTED * 3, 0, ""),
        ("FATAL: no image\n", 0, ""),
    ],
)
def test_the_line_at_which_a_post_ended(output: str, line: int, text: str) -> None:
    assert scriptlet.failing(TWO, output) == (line, text)


APPS = """\
Bootstrap: docker
From: a
%post
    true
%appinstall one
    make one
%apprun two
    exec two
%appinstall two
    echo two
    make two
%test
    test -e /bin/sh
    nosuch --all
"""
POST = "FATAL: while running %post section: exit status 1\n"
TEST = "INFO:    Running testscript\n"
FAILED = "FATAL: While performing build: failed to execute %test script: exit status 127\n"


@pytest.mark.parametrize(
    ("definition", "output", "line"),
    [
        (APPS, STARTED + "+ true\n+ make one\n/.post.script: 7: make: not found\n" + POST, 6),
        (APPS, STARTED + "+ true\n+ make one\n+ make two\n/.post.script: 17: make: not found\n" + POST, 11),
        (APPS, STARTED + "+ true\n+ make one\n+ make two\nmake: *** Error\n" + POST, 11),
        (APPS.replace("%post\n    true\n", ""), STARTED + "/.post.script: 6: make: not found\n" + POST, 4),
        (APPS, STARTED + "+ make two\n" + TEST + "/.singularity.d/test: 4: nosuch: not found\n" + FAILED, 14),
        (
            APPS.replace("%test\n", "%test\n#!/bin/bash\n"),
            TEST + "/.singularity.d/test: line 4: nosuch: command not found\n" + FAILED,
            15,
        ),
        (APPS, TEST + FAILED, 0),
        (APPS, "FATAL: failed to execute %test script: exit status 1", 0),
    ],
)
def test_the_line_at_which_an_app_or_a_test_ended(definition: str, output: str, line: int) -> None:
    assert scriptlet.failing(definition, output)[0] == line
