"""packer/qemu.sh: a QEMU that aborts, or whose guest stalls, is started once more; others are not."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from hpcstate.image.packer import QEMU


@pytest.mark.parametrize(
    ("ends", "starts", "code"),
    [
        (["kill -ABRT $$", "exit 0"], 2, 0),
        (["kill -ABRT $$", "kill -ABRT $$"], 2, -6),
        (["exit 0"], 1, 0),
        (["exit 1"], 1, 1),
        (["kill -TERM $$"], 1, 143),
    ],
)
def test_once_more_after_an_abort(tmp_path: Path, ends: list[str], starts: int, code: int) -> None:
    cases = "\n".join(f"{number}) {end};;" for number, end in enumerate(ends, 1))
    program = tmp_path / "qemu-system-x86_64"
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\ncase $(wc -l <{tmp_path}/calls) in\n{cases}\nesac\n'
    )
    program.chmod(0o755)
    done = subprocess.run(
        [QEMU, "-name", "two words"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == code
    assert (tmp_path / "calls").read_text().splitlines() == ["-name two words"] * starts


@pytest.mark.parametrize(("stalls", "starts"), [(2, 2), (1, 1), (0, 1)])
def test_once_more_when_the_kernel_has_stalled(tmp_path: Path, stalls: int, starts: int) -> None:
    """Once could be a host that was busy for a while."""
    program, console = tmp_path / "qemu-system-x86_64", tmp_path / "con sole"
    line = "[ 276.5] rcu: rcu_preempt kthread starved for 5252 jiffies! g-1135 f0x0"
    first = "; ".join([f"echo '{line}' >>'{console}'"] * stalls)
    program.write_text(
        f"#!/bin/sh\necho x >>{tmp_path}/calls\n"
        f"[ $(wc -l <{tmp_path}/calls) = 1 ] || exit 0\n{first or ':'}; exec sleep 4\n"
    )
    program.chmod(0o755)
    words = ["-serial", f"file:{console}", "-drive", "file=x,if=virtio"]
    subprocess.run([QEMU, *words], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, check=True)
    assert len((tmp_path / "calls").read_text().splitlines()) == starts


def test_its_machine_ends_with_it(tmp_path: Path) -> None:
    program = tmp_path / "qemu-system-x86_64"
    program.write_text(
        f"#!/bin/sh\necho $$ >{tmp_path}/pid.new\nmv {tmp_path}/pid.new {tmp_path}/pid\nexec sleep 60\n"
    )
    program.chmod(0o755)
    with subprocess.Popen([QEMU], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}) as process:
        while not (tmp_path / "pid").exists():
            time.sleep(0.01)
        process.kill()
    status = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    deadline = time.monotonic() + 50
    while status.exists() and ") Z " not in status.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not status.exists() or ") Z " in status.read_text()
