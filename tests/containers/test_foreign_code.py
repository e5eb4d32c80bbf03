"""What a container's own code can do to the machine that builds, tries or enters it: nothing, also for root.

Each attack is tried as it is: by a definition's %post, a declared test and a shell. The values written are
the ones that are there, so that a hole would change nothing; no key of /proc/sysrq-trigger is ever sent.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hpcstate import paths
from hpcstate.container import declared as container
from hpcstate.container import engine as container_engine
from hpcstate.container import trial as container_test
from hpcstate.container.toolbox import Toolbox, entered
from hpcstate.run import run
from tests.containers.tiny import NAME, Workplace

PATTERN = Path("/proc/sys/kernel/core_pattern")

ATTACKS = {
    "who answers a crash": f'read line <{PATTERN} && echo "$line" >{PATTERN}',
    "the keys of the console": ": >/proc/sysrq-trigger",
    "a power state": "read line </sys/power/state && echo >/sys/power/state",
    "what udev is": 'read line </sys/kernel/uevent_helper && echo "$line" >/sys/kernel/uevent_helper',
}
"""By what a shell has in itself. Each succeeds only where it harms."""

BY_PROGRAMS = {
    "a disk's node": "mknod /tmp/disk b 254 0",
    "memory's node": "mknod /tmp/mem c 1 1",
    "the disks themselves": "ls /dev/vda /dev/sda /dev/nvme0n1 /dev/mem /dev/kmsg 2>/dev/null | grep .",
    "another process table": ": >/.proc/sysrq-trigger || echo >/.proc/sys/kernel/sysrq",
    "the way back": "ls /.outside/etc 2>/dev/null | grep .",
    "the tools themselves": "touch /usr/bin/apptainer",
    "the tools, written after all": "mount -o remount,bind,rw / && touch /usr/bin/apptainer",
    "settings, written after all": "mount -o remount,bind,rw /proc/sys || umount /proc/sys",
    "settings, mounted anew": "mkdir /tmp/p && mount -t proc proc /tmp/p && : >/tmp/p/sysrq-trigger",
    "a sysfs of its own": "mkdir /tmp/s && mount -t sysfs sysfs /tmp/s && : >/tmp/s/kernel/uevent_helper",
    "processes outside": "ls /proc | grep -E '^[0-9]{3,}$'",
    "files that were left open": "ls -l /proc/self/fd/ | grep passwd",
    "what is typed next": "perl -e 'my $c = qq(x); ioctl(STDIN, 0x5412, $c) or $! == 25 or exit 1'",
    "the machine's name": 'read line </proc/sys/kernel/hostname && echo "$line" >/proc/sys/kernel/hostname',
}
"""In the tools root, where Apptainer runs."""


SCRIPT = (
    "".join(f"( {attack} ) 2>/dev/null && echo 'harm: {what}'\n" for what, attack in ATTACKS.items())
    + "echo tried\n"
)

TRIED_OF_SIF = """\
Bootstrap: localimage
From: first.sif

%post
    echo again >>/etc/made
"""

TESTED = """\
  - {name: attacks, command: [sh], script: attacks.sh, expect: "^tried"}
  - {name: what it sees, command: [sh, -c, "echo /* /own/* /dev/* /proc/[0-9]*"]}
"""


@pytest.fixture
def built(workplace: Workplace, tree: Path) -> Workplace:
    """``tiny`` by a definition whose %post tries all, and what that said in /etc/made; so does its test."""
    base = workplace.own / "base"
    base.mkdir(parents=True)
    run(["tar", "-xf", tree, "-C", base])
    post = "".join(f"    {line}\n" for line in SCRIPT.splitlines())
    text = f"Bootstrap: localimage\nFrom: base\n\n%post\n    set +e\n    exec >/etc/made\n{post}"
    (workplace.own / "attacks.sh").write_text(SCRIPT)
    workplace.declare({"container.def": text})
    declared = workplace.own / "container.yaml"
    declared.write_text(declared.read_text() + TESTED)
    workplace.build(container.load(NAME), "first")
    return workplace


def test_post_a_test_and_a_shell_change_nothing_of_the_machine(
    built: Workplace, capfd: pytest.CaptureFixture[str]
) -> None:
    assert built.says("sh", "-c", "while read line; do echo $line; done </etc/made") == "tried"
    results = container_test.run_tests(container.load(NAME), paths.container(NAME), built.tools)
    said = {result.name: result for result in results}
    assert said["attacks"].said == "tried"
    seen = said["what it sees"].said
    assert "/own/attacks.sh" in seen and "/dev/null" in seen
    assert not re.search(r"/dev/(vd|sd|nvme|mem|kmsg)|/proc/\d{3}", seen)
    done = shell(built, "sh", "-c", SCRIPT)
    assert (done.returncode, done.stdout.strip()) == (0, "tried"), done.stderr


def test_a_container_is_the_base_of_another(built: Workplace) -> None:
    """Apptainer unpacks it in a container of its own."""
    first = paths.container(NAME).read_bytes()
    (built.own / "first.sif").write_bytes(first)
    built.build(built.declare({"container.def": TRIED_OF_SIF}), "second")
    assert built.says("sh", "-c", "while read line; do echo $line; done </etc/made") == "tried\nagain"


OUT = "mkdir q(/x); chroot q(/x) or die; chdir q(..) for 1 .. 60; chroot q(.); "
"""The way out of a chroot(2) for who is root in it, in Perl: who is outside of the new one goes up."""

WRITES = "open my $f, q(>), q({marker}) or die; print $f q(harm)"
READS = "open my $f, q(<), q(/etc/shadow) or die; print <$f>"

DOCKERFILE = """\
FROM scratch
ADD tree.tar /
COPY perl /usr/bin/
COPY lib /lib/x86_64-linux-gnu/
COPY steps.sh /
RUN ["/bin/sh", "/steps.sh"]
"""


def test_a_step_of_a_dockerfile_does_not_come_out_of_its_root(
    workplace: Workplace, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """buildah keeps its steps in a chroot(2). The marker is in a folder of root's, the secret /etc/shadow."""
    monkeypatch.setattr(container_engine, "docker_version", lambda: "")
    root = workplace.tools.root
    assert root is not None
    marker = tmp_path / "outside"
    (workplace.own / "lib").mkdir(parents=True)
    shutil.copy(root / "usr/bin/perl", workplace.own / "perl")
    for name in ("libcrypt.so.1", "libm.so.6"):
        shutil.copy(root / "usr/lib/x86_64-linux-gnu" / name, workplace.own / "lib" / name)
    writes = WRITES.format(marker=marker)
    # An ordinary user's step comes out as that user (docs/containers.md): only what is root's is tried there.
    harms = (writes, READS) if os.geteuid() == 0 else (READS,)
    steps = [f"perl -e '{OUT} {harm}' >/out 2>/out2 && echo harm" for harm in harms]
    script = f"{SCRIPT}{'; '.join(steps)}\n: >/last\n"
    said: list[str] = []
    declared = workplace.declare(
        {"Dockerfile": DOCKERFILE, "steps.sh": f"({script}) >/etc/made 2>&1\n"}, (tree,)
    )
    workplace.build(declared, "first", said)
    assert workplace.says("sh", "-c", "while read line; do echo $line; done </etc/made") == "tried"
    assert not marker.exists()


def test_a_shell_has_the_rights_of_nobody_in_the_folder_where_it_was_called(
    built: Workplace, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "for-all").write_text("for all\n")
    (here / "for-me").write_text("for me\n")
    (here / "for-me").chmod(0o600)
    script = "read line <for-all && echo $line; for f in for-me for-all new; do : >>$f && echo harm; done"
    said = shell(built, "sh", "-c", f"({script}) 2>/dev/null", at=here).stdout
    if os.geteuid() == 0:
        assert said.strip() == "for all"
        assert sorted(file.name for file in here.iterdir()) == ["for-all", "for-me"]
    # Its temporary folders are the container's, and end with it.
    shell(built, "sh", "-c", "echo left >/tmp/left-by-a-shell; echo left >/dev/shm/left-by-a-shell", at=here)
    assert not [path for path in ("/tmp", "/dev/shm") if Path(path, "left-by-a-shell").exists()]


def shell(workplace: Workplace, *words: str, at: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`hpcstate container shell` of the built container, called in the folder ``at``."""
    line = [sys.executable, "-m", "hpcstate", "container", "shell", str(paths.container(NAME)), *words]
    settings = {"PYTHONPATH": str(paths.ROOT), "HPCSTATE_BUILD": os.environ.get("HPCSTATE_BUILD", "")}
    environment = {**os.environ, **{name: value for name, value in settings.items() if value}}
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=at, env=environment)


@pytest.mark.parametrize("attack", BY_PROGRAMS.values(), ids=BY_PROGRAMS)
def test_not_even_beside_apptainer(attack: str, tools: Toolbox) -> None:
    assert tools.root is not None
    script = f"({attack}) >/tmp/said 2>&1 && echo harm || echo refused"
    with Path("/etc/passwd").open() as left_open:
        words = entered(tools.root, ["sh", "-c", script], {})
        done = subprocess.run(
            list(map(str, words)), capture_output=True, text=True, check=False, pass_fds=[left_open.fileno()]
        )
    assert done.stdout.strip() == "refused", done.stderr


def test_a_link_in_a_tree_does_not_lead_root_out_of_it(tmp_path: Path, tools: Toolbox) -> None:
    """A wheel or package may have put it there; what is mounted over would be the machine's."""
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    tree.mkdir()
    outside.mkdir()
    (tree / "mnt").symlink_to(outside)
    words = entered(tree, ["true"], {tmp_path: "/mnt/here"}, writable=True)
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert done.returncode == 127 and "a link in the tree leads out of it" in done.stderr
    assert not list(outside.iterdir())
