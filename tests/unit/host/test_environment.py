"""The Python environment: its lock, its stamp, and when it is made again."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from hpcstate.host import environment
from hpcstate.paths import ROOT

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's root with a lock of two packages, one of which is compiled."""
    (tmp_path / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    (tmp_path / "requirements.lock").write_text(
        "# header\ndoit==1 \\\n    --hash=sha256:aa\nlibvirt-python==2 \\\n    --hash=sha256:bb\n",
        encoding="utf-8",
    )
    return tmp_path


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in order; nothing is installed."""
    done: list[str] = []

    def fake_run(argv: Sequence[str | Path]) -> None:
        Path(argv[-1]).mkdir()
        done.append("venv")

    def fake_pip(venv: Path, words: Sequence[str]) -> None:
        requirements = Path(words[-1])
        done.append(requirements.read_text(encoding="utf-8") if requirements.is_file() else words[-2])

    monkeypatch.setattr(environment, "run", fake_run)
    monkeypatch.setattr(environment, "_pip", fake_pip)
    return done


def make(project: Path, steps: list[str]) -> list[str]:
    """Make the environment of ``project``, and return what was done for it."""
    steps.clear()
    environment.make(project / ".venv", project, lambda: steps.append("wait"))
    return list(steps)


def test_the_lock_names_every_pin_of_the_project_and_no_index() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = data["project"]["optional-dependencies"]
    pins = [*data["project"]["dependencies"], *extras["test"], *extras["build"]]
    locked = set(re.findall(r"^(\S+==\S+)", LOCK, re.MULTILINE))
    assert [pin for pin in pins if pin.lower() not in locked] == []
    assert data["build-system"]["requires"] == extras["build"]
    assert "://" not in LOCK


def test_every_package_of_the_lock_has_a_digest() -> None:
    blocks = re.split(r"^(?=[a-z])", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) > 40
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_the_lock_is_split_into_wheels_and_what_is_compiled() -> None:
    wheels, sources = environment.split_lock(LOCK)
    assert re.findall(r"^([a-z][^=]*)==", sources, re.MULTILINE) == ["libvirt-python"]
    assert "libvirt-python==" not in wheels
    assert sorted(f"{wheels}{sources}") == sorted(LOCK)


def test_the_environment_is_made_once(project: Path, steps: list[str]) -> None:
    first = make(project, steps)
    assert first[0] == "venv"
    assert "doit==1" in first[1]
    assert "libvirt-python" not in first[1]
    assert first[2] == "wait"
    assert first[3].startswith("libvirt-python==2")
    assert first[4] == "--editable"
    assert environment.read_stamp(project / ".venv") == environment.wanted_stamp(project)


def test_the_projects_folder_comes_to_pythons_path(
    project: Path, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyinfra is started anywhere, also beside a folder `deploys` of somebody's own."""
    asked: list[str] = []
    monkeypatch.setattr(environment, "_pip", lambda _, words: asked.extend(words))
    make(project, steps)
    assert asked[asked.index("--config-settings") + 1] == "editable_mode=compat"
    include = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert {"hpcstate*", "facts*", "operations*", "deploys*"} <= {*include["packages"]["find"]["include"]}


def test_a_change_of_the_project_alone_renews_its_entry_alone(project: Path, steps: list[str]) -> None:
    make(project, steps)
    (project / "pyproject.toml").write_text("[project]\nname = 'x'\n", encoding="utf-8")
    assert environment.read_stamp(project / ".venv") != environment.wanted_stamp(project)
    assert make(project, steps) == ["--editable"]


def test_a_change_of_the_lock_makes_it_anew(project: Path, steps: list[str]) -> None:
    make(project, steps)
    (project / ".venv/left_over").touch()
    (project / "requirements.lock").write_text("doit==2\n", encoding="utf-8")
    assert make(project, steps)[0] == "venv"
    assert not (project / ".venv/left_over").exists()


def test_of_the_tries_to_reach_the_index_the_last_is_told() -> None:
    """As pip 23.0 (Debian 12) prints them without a network."""
    tries = [
        f"WARNING: Retrying (Retry(total={left})) after connection broken by 'no route'" for left in (1, 0)
    ]
    error = "ERROR: No matching distribution found for doit==0.37.0"
    assert environment.cause("\n".join([*tries, error])).split("\n") == [f"    {tries[1]}", f"    {error}"]
    assert environment.cause(error) == f"    {error}"


@pytest.mark.parametrize(("stop_at", "taken_up"), [(1, "venv"), (3, "venv"), (4, "--editable")])
def test_an_interrupted_run_is_taken_up(
    project: Path, steps: list[str], monkeypatch: pytest.MonkeyPatch, stop_at: int, taken_up: str
) -> None:
    install = environment._pip

    def interrupted(venv: Path, words: Sequence[str]) -> None:
        if len(steps) == stop_at:
            raise KeyboardInterrupt
        install(venv, words)

    with monkeypatch.context() as patch:
        patch.setattr(environment, "_pip", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make(project, steps)
    assert environment.read_stamp(project / ".venv") != environment.wanted_stamp(project)
    assert make(project, steps)[0] == taken_up


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"folder": 1}', "{"])
def test_an_unreadable_stamp_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "hpcstate.json").write_text(text, encoding="utf-8")
    assert environment.read_stamp(tmp_path) is None
