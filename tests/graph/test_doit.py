"""What doit users expect of info, list, forget and -a: doit's own program, and tasks that make little."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain

from hpcstate import paths
from hpcstate.artifact.recipe import Recipe
from hpcstate.artifact.store import Store
from hpcstate.errors import HpcstateError
from hpcstate.image import declared
from hpcstate.tasks import artifacts, images

Doit = Callable[..., tuple[int, str]]


class Project:
    """One image of a seed, each made in no time."""

    def __init__(self, folder: Path) -> None:
        self.inputs = {"deploy": {"deploys/base.py": "1", "deploys/munge.py": "1"}, "groups": ["compute"]}
        self.made: list[str] = []
        self.image = folder / "image" / "tiny.qcow2"
        self.seed = folder / "seed" / "tiny.raw"

    def recipe(self, path: Path, *, keep: bool) -> Recipe:
        def make(target: Path) -> dict[str, str]:
            self.made.append(path.name)
            target.write_text(f"{len(self.made)}")
            return {}

        return Recipe(path, lambda: self.inputs, make, keep=keep)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = Project(tmp_path)
    monkeypatch.setattr(declared, "names", lambda: ["tiny"])
    monkeypatch.setattr(
        declared, "load", lambda _: SimpleNamespace(deploy="deploys/base.py", package_names=())
    )
    monkeypatch.setattr(images, "_image", lambda _: made.recipe(made.image, keep=True))
    monkeypatch.setattr(images, "_seed", lambda _: made.recipe(made.seed, keep=False))
    monkeypatch.setattr(Store, "default", classmethod(lambda cls: cls(tmp_path / "store", report=print)))
    return made


@pytest.fixture
def doit(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Doit:
    monkeypatch.chdir(paths.ROOT)  # where pyproject.toml names our commands

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["doit", *words])
        names = {"task_seed": images.task_seed, "task_build_images": images.task_build_images}
        config = {"backend": "sqlite3", "dep_file": str(tmp_path / "doit.sqlite3"), "verbosity": 2}
        code = DoitMain(ModuleTaskLoader({**names, "DOIT_CONFIG": config})).run(list(words))
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_info_tells_what_an_artifact_is_made_of_and_what_differs(doit: Doit, project: Project) -> None:
    code, said = doit("info", "build_images:tiny")
    assert code == 1
    assert "tiny.qcow2 is not there" in said
    doit("build_images")
    code, said = doit("info", "build_images:tiny")
    assert (code, "up-to-date" in said) == (0, True)
    assert "tiny.qcow2 (current)\n - deploys/base.py\n - deploys/munge.py\n" in said
    project.inputs = {"deploy": {"deploys/base.py": "2", "deploys/munge.py": "1"}, "groups": ["login"]}
    code, said = doit("info", "build_images:tiny")
    assert code == 1
    assert "tiny.qcow2 is of others: deploys/base.py, groups" in said
    assert "<function" not in said and "0x" not in said


def test_info_of_a_task_that_is_not_there_is_a_line(doit: Doit) -> None:
    code, said = doit("info", "build_image:tiny")
    assert code == 3
    assert "'build_image:tiny' is not a task" in said
    assert "Traceback" not in said


def test_list_names_the_files_and_costs_no_build(doit: Doit, project: Project) -> None:
    doit("build_images")
    code, said = doit("list", "--deps", "build_images:tiny")
    assert code == 0
    assert said.splitlines()[1:3] == [" -  deploys/base.py", " -  deploys/munge.py"]
    assert doit("list", "--status", "build_images:tiny")[1].startswith("U ")
    assert doit("list", "--deps", "--status", "build_images:tiny")[1].startswith("U "), "asked is the status"
    doit("build_images")
    assert len(project.made) == 2, "a seed and its image, once"


def test_forget_has_it_made_anew_once_though_a_store_has_it(doit: Doit, project: Project) -> None:
    doit("build_images")
    code, said = doit("forget", "build_images:tiny")
    assert not code
    assert "tiny.qcow2 is made anew in the next run" in said
    assert "was forgotten" in doit("info", "build_images:tiny")[1]
    assert "Packer boots the seed" in doit("build_images")[1]
    assert project.made == ["tiny.raw", "tiny.qcow2", "tiny.qcow2"], "its seed is current"
    doit("build_images")
    assert len(project.made) == 3
    assert Store.default().fetch(
        project.recipe(project.image, keep=True).key, project.image.with_name("copy")
    )
    assert project.image.with_name("copy").read_text() == "3"


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["build_images"], ["tiny.qcow2"]),
        (["-s", "build_images"], ["tiny.raw", "tiny.qcow2"]),
        (["--all"], ["tiny.raw", "tiny.qcow2"]),
        (["seed:tiny"], ["tiny.raw"]),
        ([], []),
    ],
)
def test_what_is_forgotten_is_what_doit_forgets(
    doit: Doit, project: Project, words: list[str], made: list[str]
) -> None:
    doit("build_images")
    doit("forget", *(words or ["--disable-default"]))
    doit("build_images")
    assert project.made[2:] == made


def test_what_was_never_made_is_not_forgotten(doit: Doit, project: Project) -> None:
    assert "anew" not in doit("forget", "build_images")[1]
    doit("build_images")
    assert not list(project.image.parent.glob("*.forgotten"))


def test_a_rebuild_is_asked_for_one_artifact(doit: Doit, project: Project) -> None:
    doit("build_images")
    assert "Packer boots the seed" in doit("build_images", "rebuild=tiny")[1]
    assert project.made[2:] == ["tiny.qcow2"]
    doit("build_images", "rebuild=seed:tiny")
    assert project.made[3:] == ["tiny.raw"]
    doit("build_images")
    assert len(project.made) == 4
    with pytest.raises(HpcstateError, match="rebuild=other: there is no such image or container"):
        artifacts.asked_anew("other")


def test_a_rebuild_that_fails_leaves_what_was_there(doit: Doit, project: Project) -> None:
    doit("build_images")
    doit("forget", "build_images")

    def fails(_: Path) -> dict[str, str]:
        raise HpcstateError("the mirror is away")

    recipe = Recipe(project.image, project.inputs, fails)
    with pytest.raises(HpcstateError, match="the mirror is away"):
        recipe.provide(Store.default())
    assert project.image.read_text() == "2"
    assert recipe.forgotten, "and it is made anew the next time"


def test_always_tells_the_truth(doit: Doit, project: Project) -> None:
    doit("build_images")
    code, said = doit("run", "-a", "build_images")
    assert code == 0
    assert "tiny.qcow2 is current: not made again. `doit build_images:tiny rebuild=build_images:tiny`" in said
    assert "needs no seed" in said
    assert "Packer" not in said and "mmdebstrap" not in said
    assert len(project.made) == 2


def test_clean_forgets_that_it_was_forgotten(doit: Doit, project: Project) -> None:
    doit("build_images")
    doit("forget", "build_images")
    doit("clean", "build_images")
    assert not list(project.image.parent.iterdir())
    assert "from the store" in doit("build_images")[1]
    assert project.made == ["tiny.raw", "tiny.qcow2"]


def test_dumpdb_shows_doits_notes(doit: Doit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    code, said = doit("dumpdb")
    assert code == 1
    assert "doit.sqlite3 is not there: no task has run yet" in said
    doit("build_images")
    code, said = doit("dumpdb")
    assert code == 0
    assert "build_images:tiny -> {" in said
    (tmp_path / "other").write_text("no database")
    code, said = doit("dumpdb", "--db-file", str(tmp_path / "other"))
    assert (code, "Traceback" in said) == (1, False)
    assert "file is not a database" in said


def test_a_word_that_is_no_task_is_told_with_the_one_that_was_meant(doit: Doit) -> None:
    code, said = doit("build_image:tiny")
    assert code == 3
    assert "did you mean build_images:tiny?" in said
    assert 'Invalid parameter: "build_image:tiny"' in said
    assert "did you mean" not in doit("quite_another")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["forget", "build_image:tiny"], "did you mean build_images:tiny?"),
        (["clean", "build_image:tiny"], "did you mean build_images:tiny?"),
        (["info", "build_image:tiny"], "did you mean build_images:tiny?"),
        (["list", "--al"], "build_images"),
        (["list", "--statsu"], "did you mean --status?"),
        (["build_images", "--contineu"], "did you mean --continue?"),
        (["clean", "--no-such-option"], "ERROR: there is no option --no-such-option"),
    ],
)
def test_other_commands_tell_what_was_meant_too(doit: Doit, words: list[str], said: str) -> None:
    _, told = doit(*words)
    assert said in told
    assert "parsing options" not in told and "Traceback" not in told


def test_clean_names_what_it_removes(doit: Doit, project: Project) -> None:
    doit("build_images")
    _, said = doit("clean", "-n", "build_images")
    assert f"build_images:tiny: would remove {project.image}" in said
    assert project.image.exists()
    _, said = doit("clean", "build_images")
    assert said == f"build_images:tiny: removes {project.image}\n"
    assert not project.image.exists()
    assert doit("clean", "build_images")[1] == ""
