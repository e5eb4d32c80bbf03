"""How Apptainer reads a definition, by Apptainer itself: what it runs outside the container is refused here,
and the values that it fills in are those that are filled in here.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate.container import definition as container_definition
from hpcstate.container import template as container_template
from hpcstate.container.toolbox import Toolbox
from hpcstate.errors import ProblemsError
from hpcstate.run import run

HEADER = "Bootstrap: localimage\nFrom: base\n"
HOLE = "    echo ran >/work/outside\n"

TRICKS = {
    "as it is": f"%setup\n{HOLE}",
    "before all": f"%pre\n{HOLE}",
    "written large": f"%SetUp\n{HOLE}",
    "twice the sign": f"%%setup\n{HOLE}",
    "with another shell": f"%setup -c /bin/sh\n{HOLE}",
    "with a comment": f"%setup # for good\n{HOLE}",
    "as a value": f"%arguments\n    S=%setup\n%post\n    true\n{{{{ S }}}}\n{HOLE}",
    "as a value of a value": f"%arguments\n    S={{{{T}}}}\n    T=%pre\n%post\n    true\n{{{{S}}}}\n{HOLE}",
    "after a line of Windows": f"%post\r\n    true\r\n%setup\r\n{HOLE}",
    "in a stage before": f"Stage: one\n%setup\n{HOLE}\n{HEADER}%post\n    true\n",
    "in a stage after": f"Stage: one\n%post\n    true\n\n{HEADER.replace('Boot', 'boot')}%setup\n{HOLE}",
    "in a label": f"%labels\n    a b\n%setup\n{HOLE}",
    "in what is exported": f"%environment\n    export A='b\n%setup\n{HOLE}    : '\n",
}
"""What runs outside, by Apptainer 1.4.5."""

HARMLESS = {
    "as a part of a word": f"%arguments\n    S=set\n%post\n    true\n%{{{{S}}}}up\n{HOLE}",
    "with blanks before": f"%post\n    true\n  %setup\n{HOLE}",
    "after a tabulator": f"%post\n    true\n\t%setup\n{HOLE}",
    "after a blank of Unicode": f"%post\n    true\n\u00a0%setup\n{HOLE}",
    "with a tabulator behind it": f"%setup\t-c\n{HOLE}",
    "in two words": f"% setup\n{HOLE}",
    "an app's": f"%appsetup one\n{HOLE}",
    "after another line break": "%post\n    true \x85%setup\n    true \u2028%setup\n    true \f%setup\n",
    "in a comment": "%post\n    # %setup\n    true\n",
}
"""What looks like it and is not run; all but the last is refused here."""

VALUES = """\
%arguments
    one=1
    two = {{ one }}2
    three=3 # and a word
    # four=4
    five=5=5
%post
    {
    echo {{ one }} {{two}} {{	three	}}
    echo '{{five}}' '{{ .Other }}' '{{}}' # {{ none }}
    echo a#{{ one }}; echo 'b#b {{ none }}'; echo '#!{{ one }}'
    echo '{{ one }}#x{{ none }}'
    } >/etc/made
"""


@pytest.fixture
def folder(tmp_path: Path, tree: Path) -> Path:
    base = tmp_path / "base"
    base.mkdir()
    run(["tar", "-xf", tree, "-C", base])
    (base / "etc/hosts").touch()
    return tmp_path


def build(tools: Toolbox, folder: Path, text: str) -> tuple[int, bool, str]:
    """What Apptainer does with the definition ``text``: its exit code, whether a script ran outside of the
    container, and /etc/made.
    """
    (folder / "raw.def").write_text(text.replace("From: base", "From: /work/base"), newline="")
    binds = {folder: "/work"}
    words = ["build", "--force", "--sandbox", "/work/made", "/work/raw.def"]
    done = tools.apptainer(words, binds=binds, environment={"APPTAINER_TMPDIR": "/work"}, check=False)
    made = folder / "made/etc/made"
    return done.code, (folder / "outside").exists(), made.read_text() if made.exists() else done.stderr


def refused(folder: Path, text: str) -> bool:
    (folder / "container.def").write_text(text, newline="")
    try:
        container_definition.checked(folder / "container.def", "/own")
    except ProblemsError:
        return True
    return False


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS)
def test_what_apptainer_runs_outside_of_the_container_is_refused(
    trick: str, folder: Path, tools: Toolbox
) -> None:
    assert refused(folder, HEADER + trick)
    assert build(tools, folder, HEADER + trick)[1], "Apptainer does not run it: is this case still one?"


@pytest.mark.parametrize("text", HARMLESS.values(), ids=HARMLESS)
def test_what_only_looks_like_it(text: str, folder: Path, tools: Toolbox) -> None:
    assert not build(tools, folder, HEADER + text)[1]
    assert refused(folder, HEADER + text) is ("# %setup" not in text)


def test_the_values_are_those_that_apptainer_fills_in(folder: Path, tools: Toolbox) -> None:
    code, _, theirs = build(tools, folder, HEADER + VALUES)
    assert code == 0, theirs
    text = container_template.filled(HEADER + VALUES)
    assert not list(container_template.active(text))
    code, _, ours = build(tools, folder, text)
    assert code == 0, ours
    assert ours == theirs
    assert theirs.startswith("1 12 3\n5=5 {{ .Other }} {{}}\n")


def test_a_value_that_is_not_there_is_an_error_for_both(folder: Path, tools: Toolbox) -> None:
    text = HEADER + "%post\n    echo {{ none }}\n"
    assert refused(folder, text)
    code, _, said = build(tools, folder, text)
    assert code != 0 and "none" in said
