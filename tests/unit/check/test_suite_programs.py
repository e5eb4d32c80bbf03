"""The programs of the suites, run against folders and processes of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from hpcstate import programs
from hpcstate.paths import ROOT

SUITES = ROOT / "tests" / "suites"


def sh(program: Path, *words: object, user: int | None = None) -> str:
    done = subprocess.run(
        ["sh", "-c", programs.command(program, arguments=words)],
        cwd="/",
        user=user,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def test_what_a_job_left_is_told_and_ended(tmp_path: Path) -> None:
    for group in ("job_7", "job_424242"):
        (tmp_path / "n1_slurmstepd.scope" / group).mkdir(parents=True)
    scopes = f"{tmp_path}/*slurmstepd.scope"
    sleep = shutil.which("sleep")
    daemon = subprocess.Popen(["left-behind", "60"], executable=sleep)
    step = subprocess.Popen(["slurmstepd: [424242.0]", "60"], executable=sleep)
    try:
        found = sh(SUITES / "job_remains.sh", daemon.pid, "left-behind", scopes, 0)
        assert found.splitlines() == ["group job_7", "daemon"]
        assert daemon.wait(timeout=60) == -9
        shutil.rmtree(tmp_path / "n1_slurmstepd.scope" / "job_7")
        assert sh(SUITES / "job_remains.sh", daemon.pid, "left-behind", scopes, 0) == ""
    finally:
        for process in (daemon, step):
            process.kill()
            process.wait()


def test_what_a_user_may_do_in_the_registry() -> None:
    nobody = 65534 if os.geteuid() == 0 else None  # root may do everything
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in (".registry", "ml", "open"):
            (root / name).mkdir(mode=0o755)
        (root / "ml/good.sif").write_text("x")
        (root / "ml/hidden.sif").write_text("x")
        (root / "ml/hidden.sif").chmod(0)
        (root / "ml/shared.sif").write_text("x")
        (root / ".registry/catalog.yaml").write_text("x")
        if nobody is None:
            for path in (root, root / "ml", root / ".registry"):
                path.chmod(0o555)
            (root / "ml/good.sif").chmod(0o444)
            (root / ".registry/catalog.yaml").chmod(0o444)
        else:
            root.chmod(0o755)
        (root / "ml/shared.sif").chmod(0o666)
        (root / "open").chmod(0o777)
        found = sh(SUITES / "registry_access.sh", root, user=nobody)
        for path in (root, root / "ml", root / ".registry"):
            path.chmod(0o755)
        assert found.splitlines() == [
            "cannot read ml/hidden.sif",
            "may write ml/shared.sif",
            "may write open",
        ]
        assert list((root / "open").iterdir()) == []
        assert sh(SUITES / "registry_access.sh", root / "none", user=nobody) == "cannot enter .\n"


STAND_INS = {
    "mksquashfs": "echo squashfs >$2",
    "openssl": ":",
    "apptainer": """case "$*" in
*"sif new"*) echo unsigned >$4 ;;
*sign*) for file; do :; done; echo somebody >$file ;;
esac""",
    "container-exec": """case $1 in
*.sif) if cmp -s "$1" "$REGISTRY/ml/own.sif"; then exit 0; fi; echo "no signature of ours: $1"; exit 2 ;;
own) echo fine ;;
esac""",
}


def test_what_container_exec_makes_of_signatures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, script in STAND_INS.items():
        stand_in = tmp_path / "bin" / name
        stand_in.parent.mkdir(exist_ok=True)
        stand_in.write_text(f"#!/bin/sh\n{script}\n".replace("$REGISTRY", str(tmp_path / "registry")))
        stand_in.chmod(0o755)
    (tmp_path / "registry/ml").mkdir(parents=True)
    (tmp_path / "registry/ml/own.sif").write_bytes(b"x" * 100_000)
    text = programs.command(
        SUITES / "container_runtime" / "signatures.sh",
        arguments=[tmp_path / "made here", "own"],
        registry=tmp_path / "registry",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        *(f"{name} 2 no signature of ours: {name}.sif" for name in ("unsigned", "foreign", "altered")),
        "signed 0 fine",
    ]
    assert done.stderr == ""
    assert not (tmp_path / "made here").exists()
