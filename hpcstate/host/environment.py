"""The project's Python environment ``.venv``: made from ``requirements.lock``, by pip, with digests.

Standard library only: this module runs before the environment exists.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hpcstate.errors import HpcstateError
from hpcstate.paths import ROOT
from hpcstate.run import run, tail

PYTHON = Path("/usr/bin/python3")
"""Debian's own: libvirt-python is compiled against its headers."""

PIP_WHEELS = Path("/usr/share/python-wheels")
"""Debian's python3-venv brings pip here. Run from there, it need not be installed first (5 s less)."""

SOURCE_ONLY = ("libvirt-python",)
"""What the package index has no wheels of: compiled here, with the pinned setuptools of the environment."""


@dataclass(frozen=True)
class Stamp:
    """What an environment was made from. Written last: an environment without its stamp is not finished.

    ``folder`` is part of it, for an environment cannot be moved; of Python's version the part that
    decides about compiled modules (``3.11``). ``project`` is empty as long as only the lock is installed.
    """

    folder: str
    python: str
    lock: str
    project: str


def wanted_stamp(root: Path = ROOT) -> Stamp:
    """The stamp of an environment made now."""
    return Stamp(
        folder=str(root),
        python=".".join(platform.python_version_tuple()[:2]),
        lock=_digest(root / "requirements.lock"),
        project=_digest(root / "pyproject.toml"),
    )


def read_stamp(venv: Path) -> Stamp | None:
    """The stamp of ``venv``, or None where it is missing or not readable as one."""
    try:
        return Stamp(**json.loads((venv / "hpcstate.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def split_lock(text: str) -> tuple[str, str]:
    """The lock in two: what comes as wheels, and what is compiled here (``SOURCE_ONLY``)."""
    wheels: list[str] = []
    sources: list[str] = []
    part = wheels
    for line in text.splitlines(keepends=True):
        if line[0].isalnum():
            part = sources if line.split("==")[0].strip() in SOURCE_ONLY else wheels
        part.append(line)
    return "".join(wheels), "".join(sources)


def make(venv: Path, root: Path, wait_for_compiler: Callable[[], None]) -> None:
    """Make ``venv`` from the lock, or only renew the project's own entry where nothing else differs.

    ``wait_for_compiler`` returns when the packages to compile with are installed; the wheels are
    installed meanwhile. A later call takes up an interrupted one by starting again.

    Raises HpcstateError with pip's last lines.
    """
    now, before = wanted_stamp(root), read_stamp(venv)
    locked = replace(now, project="")
    if before is None or replace(before, project="") != locked:
        shutil.rmtree(venv, ignore_errors=True)
        run([PYTHON, "-m", "venv", "--without-pip", venv])
        wheels, sources = split_lock((root / "requirements.lock").read_text(encoding="utf-8"))
        _install_locked(venv, wheels, ["--only-binary", ":all:"])
        wait_for_compiler()
        _install_locked(venv, sources, ["--no-build-isolation"])
        write_stamp(venv, locked)
    # With its folder on Python's path, and before the one that somebody stands in: who writes deploys of his
    # own has a folder `deploys`, too (setuptools, "Development Mode", "Legacy Behavior").
    _pip(venv, ["--no-build-isolation", "--config-settings", "editable_mode=compat", "--editable", str(root)])
    write_stamp(venv, now)


def write_stamp(venv: Path, stamp: Stamp) -> None:
    """Note that ``venv`` was made from what ``stamp`` says."""
    new = venv / "hpcstate.json.new"
    new.write_text(json.dumps(asdict(stamp), indent=1) + "\n", encoding="utf-8")
    new.replace(venv / "hpcstate.json")


def _install_locked(venv: Path, requirements: str, options: Sequence[str]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write(requirements)
        file.flush()
        _pip(venv, ["--require-hashes", *options, "--requirement", file.name])


def pip_program() -> Path:
    """pip as a Python program: a path within Debian's wheel of it. Raises HpcstateError when it has none."""
    pip = next(iter(sorted(PIP_WHEELS.glob("pip-*.whl"))), None)
    if pip is None:
        raise HpcstateError(f"{PIP_WHEELS} has no pip", hint="apt-get install --reinstall python3-pip-whl")
    return pip / "pip"


def _pip(venv: Path, words: Sequence[str]) -> None:
    """Install without dependencies (the lock has them all) and without compiling (Python does, once used)."""
    unset = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    done = run(
        [venv / "bin/python", pip_program(), "install", "--quiet", "--no-deps", "--no-compile", *words],
        env=environment,
        check=False,
    )
    if done.code:
        raise HpcstateError(
            f"pip could not install {'the project itself' if '--editable' in words else 'its packages'}:\n"
            f"{cause(done.stderr or done.stdout)}",
            hint="if the package index was not reached: pip's own settings (pip.conf, PIP_INDEX_URL) apply",
        )


def cause(said: str) -> str:
    """What pip said: of its tries to reach the package index, whose reason is the cause, the last alone."""
    lines = said.splitlines()
    tries = [line for line in lines if line.startswith(_TRY)]
    return tail("\n".join(line for line in lines if line not in tries[:-1]))


_TRY = "WARNING: Retrying"
