"""Definitions of the user's own: what is refused, with its line, and how their files are found."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from hpcstate.container import deffile, definition
from hpcstate.errors import HpcstateError, ProblemsError

GOOD = """\
# a comment
Bootstrap: docker
From: debian@sha256:{digest}

%arguments
    version=1
%files
    data/table.csv /opt/
    "data/with space" /opt/other
    # a comment
%post
    echo header: not one
%labels
    A b
%runscript
    exec sh "$@"
%appinstall foo
    true
""".replace("{digest}", "0" * 64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/table.csv").touch()
    (tmp_path / "data/with space").touch()
    (tmp_path / "data/out").symlink_to("/etc/hostname")
    (tmp_path / "base.sif").write_bytes(b"hsqs")
    return tmp_path


def problems(folder: Path, text: str) -> list[tuple[int, str, str]]:
    found = definition.check(text.splitlines(), folder)
    return [(problem.line, problem.place, problem.message) for problem in found]


def test_a_good_one_has_no_problems_and_finds_its_files(folder: Path) -> None:
    (folder / "container.def").write_text(GOOD, encoding="utf-8")
    made = definition.checked(folder / "container.def", "/container")
    expected = GOOD.replace("data/table.csv", "/container/data/table.csv").replace(
        '"data/with space"', '"/container/data/with space"'
    )
    assert made == expected


def test_stages_and_their_files(folder: Path) -> None:
    text = (
        "Bootstrap: docker\nFrom: a\nStage: one\n%post\n  true\n\n"
        "Bootstrap: localimage\nFrom: base.sif\n%files from one\n  opt/x /opt/x\n%files\n  data/t* /opt\n"
    )
    assert problems(folder, text) == []
    located = definition.located(text.splitlines(), folder, "/container")
    assert "From: a" in located and "From: /container/base.sif" in located
    assert "  opt/x /opt/x" in located and "  /container/data/t* /opt" in located


DEBOOTSTRAP = """\
Bootstrap: debootstrap
OSVersion: bookworm
MirrorURL: http://deb.debian.org/debian/
Include: ca-certificates \\
    python3-minimal

%post
    echo hi >/made
"""


@pytest.mark.parametrize(
    ("text", "line", "place", "said"),
    [
        ("", 1, "Bootstrap", "does not say where to start"),
        ("%post\n true\n", 1, "Bootstrap", "does not say where to start"),
        ("Bootstrap: dockr\nFrom: a\n", 1, "Bootstrap", "no bootstrap 'dockr'"),
        ("Bootstrap: docker\n%post\n true\n", 1, "From", "does not say which image"),
        ("Bootstrap: docker\nFrom:\n", 2, "From", "names no image"),
        ("Bootstrap: localimage\nFrom: other.sif\n", 2, "From", "no other.sif beside it"),
        ("Bootstrap: docker\nFrom: a\nstray words\n", 3, "header", "stray words"),
        ("Bootstrap: docker\nFrom: a\n%pst\n true\n", 3, "%pst", "no such section"),
        ("Bootstrap: docker\nFrom: a\n%setup\n rm -rf /\n", 3, "%setup", "on this machine"),
        ("Bootstrap: docker\nFrom: a\n%pre\n true\n", 3, "%pre", "on this machine"),
        ("Bootstrap: docker\nFrom: a\n%apprun\n true\n", 3, "%apprun", "of which app"),
        ("Bootstrap: docker\nFrom: a\n%files\n none.txt /x\n", 4, "%files", "no none.txt beside it"),
        ("Bootstrap: docker\nFrom: a\n%files\n ../x /x\n", 4, "%files", "out of the folder"),
        ("Bootstrap: docker\nFrom: a\n%files\n 'data /x\n", 4, "%files", "plainly"),
        ('Bootstrap: docker\nFrom: a\n%files\n "data /x\n', 4, "%files", "plainly"),
        ("Bootstrap: docker\nFrom: a\n%files\n data/with\\ space /x\n", 4, "%files", "in double quotes"),
        ("Bootstrap: docker\nFrom: a\n%files\n data/{.,}. /x\n", 4, "%files", "plainly"),
        ("Bootstrap: docker\nFrom: a\n%files\n $(id) /x\n", 4, "%files", "plainly"),
        ("Bootstrap: docker\nFrom: a\n%files\n /etc/shadow /x\n", 4, "%files", "out of the folder"),
        ("Bootstrap: docker\nFrom: a\n%files # all\n /etc/shadow /x\n", 4, "%files", "out of the folder"),
        ("Bootstrap: docker\nFrom: a\n%appfiles app\n ../x /x\n", 4, "%files", "out of the folder"),
        ("Bootstrap: docker\nFrom: a\n%files\n data/out /x\n", 4, "%files", "a link that leads out"),
        ("Bootstrap: docker\nFrom: a\n%files\n data /x\n", 4, "%files", "a link that leads out"),
        ("Bootstrap: localimage\nFrom: /etc\n", 2, "From", "out of the folder"),
        ("Bootstrap: localimage\nFrom: ../base.sif\n", 2, "From", "out of the folder"),
        ("Bootstrap: docker\nFrom: a\n%appfiles app\n *.txt x\n", 4, "%appfiles", "neither quotes nor patt"),
        ("Bootstrap: docker-daemon\nFrom: a\n", 1, "Bootstrap", "does not work where Apptainer builds"),
        ("Bootstrap: shub\nFrom: a\n", 1, "Bootstrap", "does not work where Apptainer builds"),
        ("From: a\nBootstrap: docker\n", 1, "From", "stands before Bootstrap"),
        ("Bootstrap: docker\nFrom: a\nFrm: b\n", 3, "frm", "no header has this keyword"),
        ("Bootstrap: localimage\nFrom: ../other/base.sif\n\n%post\n true\n", 2, "From", "out of the folder"),
        (DEBOOTSTRAP, 1, "Bootstrap", "debootstrap runs programs on this machine"),
        ("Bootstrap: busybox\nMirrorURL: http://x\n", 1, "Bootstrap", "runs programs on this machine"),
        ("Bootstrap: yum\nInclude: x\n", 1, "Bootstrap", "runs programs on this machine"),
        ("Bootstrap: docker\nFrom: a\n%%setup\n true\n", 3, "%%setup", "on this machine"),
        ("Bootstrap: docker\nFrom: a\n \t%SetUp -c x\n true\n", 3, "%setup", "on this machine"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    folder: Path, text: str, line: int, place: str, said: str
) -> None:
    ((found_line, found_place, message),) = problems(folder, text)
    assert (found_line, found_place) == (line, place)
    assert said in message


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("# c\nBootstrap: docker   # local\nFrom: a   # base\n", None),
        ("Bootstrap: docker\nFrom: reg.example/\\\n   a:1\n%post\n true", "From: reg.example/a:1\n\n%post"),
        ("Bootstrap: docker\nFrom: a\nInclude: x \\ # c\n y \\\n z\n", "Include: x y z\n\n"),
        ("Bootstrap: docker\nFrom: a\n%post\n true \\\n", "From: a\n%post\n true \\\n"),
        ("Bootstrap: docker\nFrom: a\nIncludeCmd: yes\nOtherURL1: http://x\n", None),
        (
            "Bootstrap: docker\nFrom: a\n%files\n  data/t*\n",
            '    "/container/data/table.csv" "/data/table.csv"',
        ),
        ("Bootstrap: docker\nFrom: a\n%appfiles x\n  base.sif\n", "    /container/base.sif base.sif\n"),
        (
            "Bootstrap: docker\nFrom: a\n%appfiles x\n  base.sif lib/a # c\n",
            "    /container/base.sif lib/a\n",
        ),
    ],
)
def test_what_apptainer_takes_is_taken(folder: Path, text: str, made: str | None) -> None:
    assert problems(folder, text) == []
    (folder / "container.def").write_text(text, encoding="utf-8")
    assert (text if made is None else made) in definition.checked(folder / "container.def", "/container")


LOCAL = "Bootstrap: localimage\nFrom: base.sif\n"
ONE = LOCAL + "Stage: one\n%post\n true\n"


@pytest.mark.parametrize(
    ("text", "line", "place", "said"),
    [
        (LOCAL + "Include: \\\n  vim\n", 3, "Include", "followed by nothing"),
        (LOCAL + "Include: a \\\n# more\n\n", 3, "Include", "followed by nothing"),
        ("Bootstrap: localimage\nFrom: base.sif\\\n%post\n true\n", 2, "From", "followed by nothing"),
        (LOCAL + "OtherURL: http://x\n", 3, "otherurl", "no header has this keyword"),
        (LOCAL + "From2: base.sif\n", 3, "from2", "no header has this keyword"),
        ("%help\n words\n" + LOCAL, 1, "section", "stands before Bootstrap"),
        (ONE + "Bootstrap: docker\n%post\n true\n", 6, "From", "does not say which image"),
        ("Bootstrap: Docker\nFrom: debian\n", 1, "Bootstrap", "no bootstrap 'Docker'"),
        (ONE + "Bootstrap: docker\nFrom: go:1 as builder\n", 7, "From", "is no name of an image"),
        ("Bootstrap: docker\nFrom: Debian:12\n", 2, "From", "is no name of an image"),
        ('Bootstrap: docker\nFrom: "debian:12"\n', 2, "From", "is no name of an image"),
        ("Bootstrap: docker\nFrom: debian: 12\n", 2, "From", "is no name of an image"),
        ("Bootstrap: docker\nFrom: host:port/a/b\n", 2, "From", "is no name of an image"),
        ("Bootstrap: docker\nFrom: ghcr.io/a/b:1+2\n", 2, "From", "is no name of an image"),
        ("Bootstrap: docker\nFrom: ${BASE}\n", 2, "From", "is no name of an image"),
        ("Bootstrap: docker\nFrom: debian@sha256:abc\n", 2, "From", "is no name of an image"),
        ("Bootstrap: docker\nFrom: docker://debian:12\n", 2, "From", "for the name of a registry"),
        ("Bootstrap: oras\nFrom: oras://ghcr.io/a/b:1\n", 2, "From", "for the name of a registry"),
        (
            "Bootstrap: docker\nFrom: a\nRegistry: https://ghcr.io\n",
            3,
            "Registry",
            "for the name of a registry",
        ),
        ("Bootstrap: library\nFrom: lolcow\n", 1, "Bootstrap", "comes without a library"),
        ("Bootstrap: library\nLibrary: x.org\nFrom: lolcow\n", 2, "Library", "no address of the web"),
        (LOCAL + "  %post\n true\n", 3, "%post", "a blank before it"),
        (LOCAL + "\u00a0%post\n true\n", 3, "%post", "a blank before it"),
        (LOCAL + "%post\t\n true\n", 3, "%post", "a blank behind it"),
        (LOCAL + "%files\tfrom one\n /a /b\n", 3, "%files", "a blank behind it"),
        (LOCAL + "%appinstall\tfoo\n true\n", 3, "%appinstall", "a blank behind it"),
        (LOCAL + "%appinstall  foo\n true\n", 3, "%appinstall", "of which app"),
        (LOCAL + "%appInstall foo\n true\n", 3, "%appInstall", "in small letters only"),
        (LOCAL + "%appinstall ../../x\n true\n", 3, "%appinstall", "out of the container"),
        (LOCAL + "%appfiles x\n base.sif lib/../../../../etc/x\n", 4, "%appfiles", "out of the app"),
        (LOCAL + "%post\n" + " : a long line\n" * 5000, 3, "section", "longer than Apptainer can read"),
        (LOCAL + "%files  \n base.sif /x\n", 3, "%files", "copies nothing"),
        (LOCAL + "%files all\n base.sif /x\n", 3, "%files", "copies nothing"),
        (ONE + LOCAL + "%files from\n /a /b\n", 8, "%files", "copies nothing"),
        (ONE + LOCAL + "%files from one as x\n /a /b\n", 8, "%files", "copies nothing"),
        (ONE + LOCAL + "%files from One\n /a /b\n", 8, "%files", "no stage 'One'"),
        (ONE + LOCAL + "%files from 0\n /a /b\n", 8, "%files", "no stage '0'"),
        (LOCAL + "%files from one\n /a /b\n" + ONE, 3, "%files", "built after this one"),
        (LOCAL + "%files\n base.sif\u00a0/x\n", 4, "%files", "plainly"),
    ],
)
def test_what_apptainer_refuses_or_loses_is_refused(
    folder: Path, text: str, line: int, place: str, said: str
) -> None:
    (found_line, found_place, message), *_ = problems(folder, text)
    assert (found_line, found_place) == (line, place)
    assert said in message


@pytest.mark.parametrize(
    "text",
    [
        "Bootstrap: scratch\nFrom:\n",
        "Bootstrap: scratch\n%files\n data/table.csv /x\n",
        LOCAL + "%%post\n true\n",
        LOCAL + "%post # why\n true\n",
        LOCAL + "%files # why\n data/table.csv /x\n",
        LOCAL + "%files \n data/table.csv /x\n",
        LOCAL + "%files\n x#y /x\n",
        LOCAL + "%files\n tree/. /x\n ./tree /y\n tree/** /z\n",
        LOCAL + "%appinstall a/b c\n true\n",
        ONE + LOCAL + "%files FROM one # why\n /etc/shadow /x\n",
        ONE + LOCAL + "%files  of   one\n /etc/shadow /x\n",
        ONE + ONE + LOCAL + "%files from one\n /a /b\n",
        LOCAL + "Stage: me\n%files from me\n /a /b\n",
        LOCAL + "%post\n" + " : a long line\n" * 4000 + "%post\n" + " : a long line\n" * 4000,
        "Bootstrap: docker\nFrom: ubuntu:\n",
        "Bootstrap: docker\nFrom: localhost:5000/a__b/c.d-e:V_1\n",
        "Bootstrap: docker\nFrom: //debian\nRegistry: ghcr.io/\nNamespace: a\n",
        "Bootstrap: library\nFrom: library://lolcow\nLibrary: https://library.sylabs.io\n",
        "Bootstrap: docker\nFrom: none.tar\n Bootstrap: localimage\nFrom: base.sif\n",
    ],
)
def test_what_looks_odd_and_is_right_is_taken(folder: Path, text: str) -> None:
    (folder / "x#y").touch()
    (folder / "tree").mkdir()
    (folder / "tree/a").touch()
    (folder / "tree/.hidden").touch()
    assert problems(folder, text) == []


def test_the_whole_folder_and_patterns_are_those_of_a_shell(folder: Path) -> None:
    (folder / "data/out").unlink()
    assert problems(folder, LOCAL + "%files\n . /opt\n ./\n") == []
    (folder / "data/.hidden").touch()
    lines = (LOCAL + "%files\n data/*\n data/[ab\n .\n").splitlines()
    assert definition.located(lines, folder, "/own")[3:] == [
        '    "/own/data/table.csv" "/data/table.csv"',
        '    "/own/data/with space" "/data/with space"',
        '    "/own/." "/."',
    ]
    assert [message for _, _, message in problems(folder, LOCAL + "%files\n data/[ab /x\n")] == [
        "there is no data/[ab beside it"
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Bootstrap: docker\nFrom: a:1\nFrom: b:1\n", ["base:b:1"]),
        ("Bootstrap: docker\nFrom: t:1\nRegistry: ghcr.io/\nNamespace: g\n", ["base:ghcr.io/g/t:1"]),
        ("Bootstrap: scratch\nFrom: scratch\n", []),
        ("From: base.sif\n Bootstrap: localimage\n", ["base:base.sif"]),
    ],
)
def test_the_base_is_that_of_apptainer(folder: Path, text: str, names: list[str]) -> None:
    (folder / "container.def").write_text(text, encoding="utf-8")
    assert list(definition.bases(folder / "container.def")) == names


def test_a_local_base_is_found_wherever_its_line_stands(folder: Path) -> None:
    text = "From: base.sif\n Bootstrap: localimage\n"
    assert definition.located(text.splitlines(), folder, "/own")[0] == "From: /own/base.sif"


def test_a_setup_without_commands_is_left_out(folder: Path) -> None:
    text = LOCAL + "%setup -c x\n\n  # nothing\n%post\n true\n%pre\n"
    assert problems(folder, text) == []
    made = definition.located(text.splitlines(), folder, "/own")
    assert made[2:] == ["", "", "", "%post", " true", ""]
    definition.demand_harmless("\n".join(made), "it")
    for more in ("%setup\n # a \\\n touch /x\n", "%setup\n\n%setup\n touch /x\n", " %setup\n"):
        assert [place for _, place, _ in problems(folder, LOCAL + more)] == ["%setup"]


def test_arguments_come_before_the_defaults(folder: Path) -> None:
    (folder / "container.def").write_text(
        "Bootstrap: docker\nFrom: debian:{{ tag }}\n%arguments\n tag=12\n%post\n echo {{ word }}\n"
    )
    given = {"tag": "13", "word": "x y"}
    made = definition.checked(folder / "container.def", "/container", given)
    assert "From: debian:13\n" in made and "echo x y\n" in made
    assert definition.bases(folder / "container.def", given) == {"base:debian:13": "not pinned"}
    with pytest.raises(ProblemsError, match=r"\{\{ other \}\}: no line uses this value"):
        definition.checked(folder / "container.def", "/container", {**given, "other": "1"})
    (folder / "container.def").write_text(START + "%post\n true # {{ word }}\n")
    with pytest.raises(ProblemsError, match=r"\{\{ word \}\}: no line uses this value"):
        definition.checked(folder / "container.def", "/container", {"word": "1"})


def test_without_a_section() -> None:
    text = "Bootstrap: docker\nFrom: a\n%runscript\n exec x\n%post\n true\n%RunScript -c sh\n y\n"
    assert deffile.without(text, "runscript") == "Bootstrap: docker\nFrom: a\n%post\n true"


@pytest.mark.parametrize("agent", ["docker-archive", "oci", "oci-archive"])
def test_an_image_of_another_machine_is_refused(folder: Path, agent: str) -> None:
    from tests.unit.container.test_archive import DOCKER, OCI, blob, written

    arm = {"architecture": "arm64", "config": {}}
    if agent == "docker-archive":
        written(folder / "image", {**DOCKER, "c.json": arm})
    elif agent == "oci-archive":
        written(folder / "image", {**OCI, blob("c"): arm})
    else:
        for name, content in {**OCI, blob("c"): arm}.items():
            (folder / "image" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "image" / name).write_text(json.dumps(content))
    ((line, place, message),) = problems(folder, f"Bootstrap: {agent}\nFrom: image\n")
    assert (line, place) == (2, "From") and "for arm64, not for" in message


TWO = [{"digest": "sha256:m", "annotations": {"org.opencontainers.image.ref.name": name}} for name in "xy"]


@pytest.mark.parametrize(
    ("agent", "origin", "said"),
    [
        ("docker-archive", "d.tar", ""),
        ("docker-archive", "d.tar:demo:1", ""),
        ("docker-archive", "o.tar", ""),
        ("docker-archive", "d.tar:demo:2", "no image called 'demo:2'"),
        ("docker-archive", "two.tar", "there are 2 images in it: x; y"),
        ("docker-archive", "empty", "no tar archive"),
        ("docker-archive", "layout", "is a folder"),
        ("oci-archive", "o.tar:x", ""),
        ("oci-archive", "d.tar", "is a docker-archive"),
        ("oci", "layout", ""),
        ("oci", "layout/", ""),
        ("oci", "layout:x", ""),
        ("oci", "layout@sha256:m", ""),
        ("oci", "layout@sha256:n", "no image called 'sha256:n'"),
        ("oci", "o.tar", "is a file"),
        ("localimage", "d.tar", "no image that Apptainer knows"),
        ("localimage", "empty", "no image that Apptainer knows"),
        ("localimage", "pointer.sif", "no image that Apptainer knows"),
        ("localimage", "data", ""),
    ],
)
def test_an_image_beside_it_is_looked_into(folder: Path, agent: str, origin: str, said: str) -> None:
    from tests.unit.container.test_archive import DOCKER, OCI, written

    written(folder / "d.tar", DOCKER)
    written(folder / "o.tar", OCI)
    written(folder / "two.tar", {**OCI, "index.json": {"manifests": TWO}})
    for name, content in OCI.items():
        (folder / "layout" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "layout" / name).write_text(json.dumps(content))
    (folder / "empty").touch()
    (folder / "pointer.sif").write_text("version https://git-lfs.github.com/spec/v1\n")
    found = problems(folder, f"Bootstrap: {agent}\nFrom: {origin}\n")
    assert [said in message for _, _, message in found] == ([True] if said else [])


VALUED = """\
Bootstrap: docker
From: {{ image }}:{{tag}}
%arguments
    image = debian
    tag=13-{{flavour}}
    flavour=slim
%post
    echo {{ tag }} # not {{ this }}
    echo '{{ .Other }}' #{{tag}}
"""


def test_values_are_filled_in_where_apptainer_does_it(folder: Path) -> None:
    (folder / "container.def").write_text(VALUED, encoding="utf-8")
    made = definition.checked(folder / "container.def", "/container")
    assert "From: debian:13-slim\n" in made
    assert "    echo 13-slim # not {{ this }}\n    echo '{{ .Other }}' #13-slim\n" in made
    assert definition.bases(folder / "container.def") == {"base:debian:13-slim": "not pinned"}


START = "Bootstrap: docker\nFrom: a\n"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (START + "%arguments\n S=%setup\n%post\n true\n{{ S }}\n touch /hole\n", 7, "on this machine"),
        (START + "%arguments\n S=se\n%post\n true\n%{{ S }}tup\n touch /hole\n", 7, "on this machine"),
        (START + "%arguments\n S={{T}}\n T=%pre\n{{ S }}\n touch /hole\n", 6, "on this machine"),
        (START + "%arguments\n P=%\n{{P}}{{P}}setup -c sh\n touch /hole\n", 5, "on this machine"),
        (START + "%arguments\n F=/etc/shadow\n%files\n {{ F }} /x\n", 6, "out of the folder"),
        (START + "%arguments\n F=..\n%files\n data/{{ F }}/x /x\n", 6, "out of the folder"),
        (START + "%arguments\n B=busybox\n\nBootstrap: {{ B }}\n", 6, "no %arguments of this stage has it"),
        ("Bootstrap: {{ B }}\nMirrorURL: x\n%arguments\n B=busybox\n", 1, "runs programs on this"),
        (START + "%arguments\n A={{B}}\n B={{C}}\n C=x\n%post\n {{A}}\n", 8, "would replace this"),
        (START + "%arguments\n S=Bootstrap: docker\n%post\n true\n{{ S }}\n", 1, "makes a line with Boot"),
        (START + "%post\n echo {{ X }}\n", 4, "no %arguments of this stage has it"),
        (START + "%post\n true\x85%setup\n", 4, "no character of a definition"),
        (START + "%post\n true\r%setup\n", 4, "no character of a definition"),
    ],
)
def test_the_text_that_apptainer_gets_is_judged(folder: Path, text: str, line: int, said: str) -> None:
    (folder / "container.def").write_text(text, encoding="utf-8", newline="")
    with pytest.raises(ProblemsError) as raised:
        definition.checked(folder / "container.def", "/container")
    assert line in [problem.line for problem in raised.value.problems if said in problem.message]


def test_a_file_of_windows_is_read_as_any_other(folder: Path) -> None:
    (folder / "container.def").write_bytes(b"Bootstrap: docker\r\nFrom: a\r\n%setup\r\n true\r\n")
    with pytest.raises(ProblemsError, match="on this machine"):
        definition.checked(folder / "container.def", "/container")


def test_all_problems_come_at_once_and_name_the_file(folder: Path) -> None:
    (folder / "container.def").write_text("Bootstrap: x\nFrom: a\n%nope\n", encoding="utf-8")
    with pytest.raises(ProblemsError) as raised:
        definition.checked(folder / "container.def", "/container")
    assert [problem.line for problem in raised.value.problems] == [1, 3]
    assert "container.def:3: error: %nope" in str(raised.value)


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (b"Bootstrap: docker\nFrom: a\n# Andr\xe9\n", 3, "the byte 0xe9 is no character"),
        (b"\xef\xbb\xbfBootstrap: docker\nFrom: a\n", 1, "a mark of byte order"),
    ],
)
def test_another_encoding_is_told_with_its_line(folder: Path, content: bytes, line: int, said: str) -> None:
    (folder / "container.def").write_bytes(content)
    with pytest.raises(ProblemsError) as raised:
        definition.checked(folder / "container.def", "/container")
    ((found, message),) = ((problem.line, problem.message) for problem in raised.value.problems)
    assert found == line and said in message


def test_a_file_that_cannot_be_read_is_a_message(folder: Path) -> None:
    with pytest.raises(HpcstateError, match="cannot be read"):
        definition.checked(folder / "container.def", "/container")


def test_what_it_starts_from_is_on_record(folder: Path) -> None:
    (folder / "base.sif").write_bytes(b"one")
    file = folder / "container.def"
    file.write_text(
        "Bootstrap: localimage\nFrom: base.sif\nStage: one\n%post\n    From: nowhere\n"
        f"Bootstrap: docker\nFrom: reg.example/a:1@sha256:{'0' * 64}\n\n"
        "Bootstrap: docker\nFrom: debian:{{ release }}\n%arguments\n release=13\n"
    )
    assert definition.bases(file) == {
        "base:base.sif": f"sha256:{hashlib.sha256(b'one').hexdigest()}",
        "base:reg.example/a:1": f"sha256:{'0' * 64}",
        "base:debian:13": "not pinned",
    }
