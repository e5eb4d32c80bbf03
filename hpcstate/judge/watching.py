"""Prometheus' own tools judge the files of what watches a cluster: promtool of the nodes' image, amtool too
where that has it. (Alertmanager is no part of hpcstate's image: its amtool reads the file on the controller.)

They are taken out of it once, with the libraries that they need, and read the files in a folder that is made
as the controller's would be.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from hpcstate.errors import HpcstateError
from hpcstate.files import alone, write_atomically
from hpcstate.judge.judge import JudgeUnavailableError, image_key, image_of
from hpcstate.judge.root import take_out
from hpcstate.model import Cluster
from hpcstate.monitoring import files, places
from hpcstate.monitoring.secrets import Credentials
from hpcstate.paths import shown, throwaway_root
from hpcstate.run import run

PROGRAMS = ("/usr/bin/promtool", "/usr/bin/amtool")
_LOADER = "usr/lib64/ld-linux-x86-64.so.2"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_SECONDS = 60.0


def require(cluster: Cluster, known: Credentials, say: Callable[[str], None]) -> None:
    """Judge the files of ``cluster``. Where nothing can be judged, that is said. Raises HpcstateError with
    the tools' words when a daemon would not start with them."""
    if not cluster.monitoring.on:
        return
    try:
        said = judge(relative(cluster, known), tools(image_of(cluster)))
    except JudgeUnavailableError as error:
        say(f"{cluster.name}: not judged by promtool and amtool: {error}")
        return
    if said:
        raise HpcstateError("Prometheus' tools refuse these files:\n" + "\n".join(said), where=cluster.name)


def relative(cluster: Cluster, known: Credentials) -> dict[str, str]:
    """The files of the controller below their folder."""
    found = files.files(cluster, cluster.controller, known)
    texts = {file.path: file.content for file in found}
    texts[places.MAIL_PASSWORD] = "\n"
    prefix = f"{places.FOLDER}/"
    return {path.removeprefix(prefix): text for path, text in texts.items() if path.startswith(prefix)}


def judge(texts: Mapping[str, str], tools: Mapping[str, tuple[str, ...]]) -> list[str]:
    """What the ``tools`` (name to the words that start it) say against ``texts`` (path below their folder to
    content): a line each; none is agreement."""
    with tempfile.TemporaryDirectory(prefix="hpcstate-watching.") as name:
        folder = Path(name)
        for path, text in texts.items():
            write_atomically(folder / path, text, mode=0o600)
        said: list[str] = []
        calls = (
            ("promtool", "check", "config", "--lint=none", "prometheus.yml"),
            ("promtool", "check", "web-config", "web.yml", "web-people.yml"),
            ("amtool", "check-config", "alertmanager.yml"),
        )
        for tool, *words in (call for call in calls if call[0] in tools):
            done = run([*tools[tool], *words], cwd=folder, timeout=_SECONDS, check=False)
            if done.code != 0:
                lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
                said += [line for line in lines if line and not _is_well(line)]
        return said


def _is_well(line: str) -> bool:
    """Whether a line of theirs says nothing against a file (``Checking x``, ``SUCCESS: x``)."""
    return "SUCCESS" in line or (line.startswith("Checking") and "FAILED" not in line)


def tools(image: Path) -> dict[str, tuple[str, ...]]:
    """promtool of ``image``, and amtool if it has it: their names to the words that start them here, by the
    image's own loader and libraries. Raises JudgeUnavailableError when it is not built or lacks promtool."""
    key = image_key(image)
    if not key:
        message = f"the image {shown(image)} is not built here"
        raise JudgeUnavailableError(message, hint="`./hpc build_images` builds the images of packer/")
    root = throwaway_root(image).with_name("watching")
    mark = root / "key"
    root.parent.mkdir(parents=True, exist_ok=True)
    with alone(root.parent):
        if not mark.is_file() or mark.read_text() != key:
            shutil.rmtree(root, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=root.parent, prefix=".watching.") as name:
                fresh = Path(name) / "root"
                fresh.mkdir()
                take_out(image, (*PROGRAMS, "/usr/lib64"), fresh, Path(name))
                (fresh / "key").write_text(key)
                fresh.rename(root)
    return started(root)


def started(root: Path) -> dict[str, tuple[str, ...]]:
    """The words that start the tools below ``root``. Raises JudgeUnavailableError without promtool."""
    paths = [root / program.lstrip("/") for program in PROGRAMS]
    found: dict[str, tuple[str, ...]] = {
        path.name: (str(root / _LOADER), "--library-path", str(root / _LIBRARIES), str(path))
        for path in paths
        if path.is_file()
    }
    if "promtool" not in found:
        raise JudgeUnavailableError(
            "the image has no promtool", hint="`./hpc build_images` builds the image anew"
        )
    return found
