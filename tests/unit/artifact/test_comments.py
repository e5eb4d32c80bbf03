"""Comments are not in keys, and nothing else is left out: bash prints a program as it understood it, and must
print the same of what is left (`bash --pretty-print`)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.artifact.comments import meaning

PROGRAMS = sorted(
    path
    for folder in ("hpcstate", "operations", "packer", "tests", "facts", "deploys")
    for path in (paths.ROOT / folder).rglob("*.sh")
)


def understood(text: str) -> str:
    done = subprocess.run(
        ["bash", "--pretty-print", "/dev/stdin"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return "\n".join(line for line in done.stdout.split("\n") if line)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(paths.ROOT)))
def test_what_is_left_of_ours_is_the_same_program(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    left = meaning(text, path.name)
    assert understood(left) == understood(text)


IN_IMAGES = [path for path in PROGRAMS if {"operations", "packer", "probe"} & set(path.parts)]


@pytest.mark.parametrize("path", IN_IMAGES, ids=lambda path: str(path.relative_to(paths.ROOT)))
def test_a_comment_before_each_line_that_can_have_one_changes_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    head, _, rest = text.partition("\n")
    commented = f"{head}\n# another\n\n   # one more\n{rest}"
    assert meaning(commented, path.name) == meaning(text, path.name)


SHELL = {
    "a line": ("#!/bin/sh\n# why\nset -eu\n\n\necho a\n", "#!/bin/sh\nset -eu\necho a\n"),
    "the end of a line": ("echo a # why\nb; # x\n", "echo a\nb;\n"),
    "within a word": ("echo a#b ${x#y} ${x##*/} $#\n", None),
    "within quotes": ("echo 'a # b' \"c # d\"\n# x\n", "echo 'a # b' \"c # d\"\n"),
    "quotes within a substitution within quotes": (
        'echo "$(echo "a # b")"\n# x\n',
        'echo "$(echo "a # b")"\n',
    ),
    "over lines": ("echo 'a\n# no comment\n\nb'\n", None),
    "over lines in double quotes": ('echo "a\n# no comment\n\nb"\n', None),
    "here-document": ("cat <<EOF\n# text\n\nEOF\n# x\necho\n", "cat <<EOF\n# text\n\nEOF\necho\n"),
    "here-document, quoted": ("cat <<'E F'\n# text\nE F\n", None),
    "here-document with tabs": ("cat <<-EOF\n\t# text\n\tEOF\n", None),
    "two here-documents": ("cat <<A; cat <<B\n# a\nA\n# b\nB\n# x\n", "cat <<A; cat <<B\n# a\nA\n# b\nB\n"),
    "here-document, then a comment": ("cat <<EOF # x\n# text\nEOF\n", "cat <<EOF\n# text\nEOF\n"),
    "continued": ("echo a \\\n  b\n", None),
    "escaped": ("echo \\# a\n# x\n", "echo \\# a\n"),
    "escaped blank": ("echo a\\ #b\n", None),
    "pattern": ("case $x in\n# one\na) echo ;; # x\nesac\n", "case $x in\na) echo ;;\nesac\n"),
    "subshell": ("(cd a; b) # x\n", "(cd a; b)\n"),
    "arithmetic": ("echo $((1 << 2)) # x\n", "echo $((1 << 2))\n"),
    "backquotes": ("echo `ls # a`\n", None),
    "blank at the end within quotes": ("echo 'a  \nb'  \n", "echo 'a  \nb'\n"),
    "not closed": ("echo 'a\n# x\n", None),
    "here-string": ("cat <<< a # b\n", None),
}


@pytest.mark.parametrize("name", SHELL)
def test_shell(name: str) -> None:
    text, expected = SHELL[name]
    assert meaning(text, "a.sh") == (text if expected is None else expected)


HCL = {
    "lines": ('# a\n// b\nx = 1 # c\n/* d\n e */\ny = "#//" // f\n', 'x = 1\ny = "#//"\n'),
    "template": ('a = "${var.x}#b" # c\n', 'a = "${var.x}#b"\n'),
    "template with a quote": ('a = "${f("#")}"\n# c\n', None),
    "heredoc": ("a = <<EOT\n# text\n\nEOT\n# c\n", "a = <<EOT\n# text\n\nEOT\n"),
    "not closed": ("a {\n# b\n", None),
}


@pytest.mark.parametrize("name", HCL)
def test_hcl(name: str) -> None:
    text, expected = HCL[name]
    assert meaning(text, "a.hcl") == (text if expected is None else expected)


@pytest.mark.parametrize("path", sorted((paths.ROOT / "packer").glob("*.hcl")), ids=lambda path: path.name)
def test_our_templates_lose_comments_only(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert meaning(f"# another\n{text}\n\n// one\n", path.name) == meaning(text, path.name)
    assert "# another" not in meaning(f"# another\n{text}", path.name)


def test_other_files_stay_as_they_are() -> None:
    assert meaning("# a\nb\n", "a.conf") == "# a\nb\n"
