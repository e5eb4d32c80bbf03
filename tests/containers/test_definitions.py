"""How Apptainer reads a definition, by Apptainer itself: what it runs outside the container is refused here,
and the values that it fills in are those that are filled in here.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from hpcstate.container import architecture, archive
from hpcstate.container import definition as container_definition
from hpcstate.container import template as container_template
from hpcstate.container.toolbox import Toolbox
from hpcstate.errors import ProblemsError
from hpcstate.files import remove_tree
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

ONE = f"{HEADER}Stage: one\n%post\n    echo 1 >/etc/st\n\n"
MADE = "%post\n    echo made >/etc/made\n"

TAKEN = {
    "a header in odd letters": "# by\n  BOOTSTRAP :localimage\n\n FrOm\t: base # here\n" + MADE,
    "the last From of a header": HEADER.replace("From: base", "From: none\nFrom: base") + MADE,
    "a Bootstrap that is not at the start": "From: base\n  Bootstrap: localimage\n" + MADE,
    "a value over three lines": HEADER + "Include: a \\ # one\n  b \\\n  c\n" + MADE,
    "scratch without a From": "Bootstrap: scratch\nFrom:\n",
    "lines of Windows": (HEADER + MADE).replace("\n", "\r\n"),
    "a section twice": HEADER + "%post\n    echo ma >/etc/x\n%labels\n    a b\n" + MADE,
    "two signs": HEADER + "%" + MADE,
    "a comment behind a section": HEADER + MADE.replace("\n", " # why\n", 1),
    "files of a stage": ONE + HEADER + "%files of one # why\n    /etc/st /etc/made\n",
    "files of the first of two stages": ONE
    + ONE.replace("1", "2")
    + HEADER
    + "%files from one\n    /etc/st /etc/made\n",
    "a stage named by a value": ONE.replace("one\n", "{{ s }}\n%arguments\n    s=one\n")
    + HEADER
    + "%files from one\n    /etc/st /etc/made\n",
    "a name with a number sign": HEADER + "%files\n    x#y /etc/made\n",
    "a setup without commands": HEADER + "%setup\n    # none\n\n" + MADE,
    "an app": HEADER + "%appinstall a/b c\n    echo 1 >in\n%appfiles foo\n    x#y\n".replace("#y", "y"),
}
"""What Apptainer builds: so does hpcstate, to the same /etc/made."""

NOT_TAKEN = {
    "nothing": "",
    "a mark of byte order": "\ufeff" + HEADER,
    "another letter in a bootstrap": HEADER.replace("local", "Local"),
    "no From in the second stage": ONE + "Bootstrap: docker\n" + MADE,
    "a name with a stage": "Bootstrap: docker\nFrom: golang:1.18 as builder\n",
    "a name in quotes": 'Bootstrap: docker\nFrom: "debian:12"\n',
    "a name with a capital": "Bootstrap: docker\nFrom: Debian:12\n",
    "a scheme": "Bootstrap: docker\nFrom: docker://debian:12\n",
    "no library": "Bootstrap: library\nFrom: lolcow\n",
    "a library without a scheme": "Bootstrap: library\nLibrary: x.invalid\nFrom: lolcow\n",
    "a value that begins on the next line": HEADER + "Include: \\\n  vim\n",
    "a comment within a value": HEADER + "Include: a \\\n# b\nIncludeCmd: yes\n",
    "a number behind a keyword": HEADER + "From2: base\n",
    "a section before all": "%help\n    words\n" + HEADER,
    "a section that is indented": HEADER + "  " + MADE,
    "a tabulator behind a section": HEADER + MADE.replace("\n", "\t\n", 1),
    "a blank of Unicode before a section": HEADER + "\u00a0" + MADE,
    "a section of 70 KiB": HEADER + "%post\n" + "    : a long line, and one more\n" * 2500,
    "an app with two blanks": HEADER + "%appinstall  foo\n    true\n",
    "an app with a capital": HEADER + "%appInstall foo\n    true\n",
    "a stage that is not there": ONE + HEADER + "%files from 0\n    /etc/st /etc/made\n",
    "a stage that comes later": HEADER + "%files from one\n    /etc/st /etc/made\n" + ONE,
}
"""What Apptainer does not build, by itself and not by a command of the user's: refused here, at once."""

LOST = {
    "two blanks": HEADER + "%files  \n    x#y /etc/made\n",
    "a word": HEADER + "%files all\n    x#y /etc/made\n",
    "no stage": ONE + HEADER + "%files from\n    x#y /etc/made\n",
    "two stages": ONE + HEADER + "%files from one two\n    /etc/st /etc/made\n",
}
"""What Apptainer builds without the files that it names, and says nothing: refused here."""

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
    for name in ("x#y", "xy"):
        (tmp_path / name).write_text("a file\n")
    return tmp_path


def build(tools: Toolbox, folder: Path, text: str) -> tuple[int, bool, str]:
    """What Apptainer does with the definition ``text``: its exit code, whether a script ran outside of the
    container, and /etc/made.
    """
    (folder / "raw.def").write_text(text.replace("From: base", "From: /work/base"), newline="")
    binds = {folder: "/work"}
    remove_tree(folder / "made")
    line = "cd /work && exec apptainer build --force --sandbox made raw.def"
    environment = {"APPTAINER_TMPDIR": "/work", "HOME": "/work", "PATH": os.environ["PATH"]}
    done = run(tools.words(["sh", "-c", line], binds), env=environment, check=False)
    made = folder / "made/etc/made"
    return done.code, (folder / "outside").exists(), made.read_text() if made.exists() else done.stderr


def text_of(file: Path) -> str:
    return file.read_text() if file.is_file() else ""


def checked(folder: Path, text: str) -> str:
    (folder / "container.def").write_text(text, newline="")
    return container_definition.checked(folder / "container.def", "/work")


def refused(folder: Path, text: str) -> bool:
    try:
        checked(folder, text)
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


@pytest.mark.parametrize("text", TAKEN.values(), ids=TAKEN)
def test_what_apptainer_builds_is_taken_and_means_the_same(text: str, folder: Path, tools: Toolbox) -> None:
    made = []
    for definition in (text, checked(folder, text)):
        code, _, said = build(tools, folder, definition)
        assert code == 0, said
        made.append(
            {name: text_of(folder / "made" / name) for name in ("etc/made", "etc/x", "scif/apps/foo/xy")}
        )
    assert made[0] == made[1] and (any(made[0].values()) or "scratch" in text)


@pytest.mark.parametrize("text", NOT_TAKEN.values(), ids=NOT_TAKEN)
def test_what_apptainer_does_not_build_is_refused(text: str, folder: Path, tools: Toolbox) -> None:
    assert build(tools, folder, text)[0], "Apptainer builds it: is this case still one?"
    assert refused(folder, text)


@pytest.mark.parametrize("text", LOST.values(), ids=LOST)
def test_what_apptainer_loses_is_refused(text: str, folder: Path, tools: Toolbox) -> None:
    assert build(tools, folder, text)[0] == 0
    assert not (folder / "made/etc/made").exists(), "Apptainer copies it: is this case still one?"
    assert refused(folder, text)


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


def layout(at: Path, tree: Path) -> Path:
    """A folder in the layout of OCI with two images, `x` and `y`, of the files of the tar ``tree``."""
    at.joinpath("blobs/sha256").mkdir(parents=True)

    def blob(content: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        (at / "blobs/sha256" / digest).write_bytes(content)
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(content)}

    files = blob(tree.read_bytes(), "layer.v1.tar")
    entries = []
    for name in "xy":
        config = {
            "architecture": architecture.own(),
            "os": "linux",
            "config": {"Env": [f"NAME={name}"]},
            "rootfs": {"type": "layers", "diff_ids": [files["digest"]]},
        }
        told = blob(json.dumps(config).encode(), "config.v1+json")
        manifest = {"schemaVersion": 2, "config": told, "layers": [files]}
        entry = blob(json.dumps(manifest).encode(), "manifest.v1+json")
        entries.append({**entry, "annotations": {"org.opencontainers.image.ref.name": name}})
    (at / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    (at / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return at


def test_images_that_apptainer_cannot_read_are_made_readable(
    folder: Path, tree: Path, tools: Toolbox, tmp_path: Path
) -> None:
    images = layout(folder / "images", tree)
    made = archive.readable(images, "y", tmp_path)
    run(["tar", "-czf", folder / "images.tar.gz", "-C", images, "oci-layout", "index.json", "blobs"])
    aside = folder / "aside"
    aside.mkdir()
    unpacked = archive.readable(folder / "images.tar.gz", "y", aside)
    digest = archive.digest_of(images, "y")
    for start in (
        f"oci-archive\nFrom: {made.name}",
        f"oci-archive\nFrom: aside/{unpacked.name}",
        f"oci\nFrom: images@{digest}",
    ):
        code, _, said = build(tools, folder, f"Bootstrap: {start}\n")
        assert code == 0, said
        assert 'NAME:-"y"' in (folder / "made/.singularity.d/env/10-docker2singularity.sh").read_text()
    for start in ("oci-archive\nFrom: images.tar.gz", "oci\nFrom: images", "oci\nFrom: images:y"):
        assert build(tools, folder, f"Bootstrap: {start}\n")[0], "Apptainer reads it: is it still a case?"
