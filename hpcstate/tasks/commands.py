"""doit's own commands, where what they do would not be what is expected of them here (pyproject.toml names
these: ``tool.doit.plugins.command``). Each has the name and the options of doit's.
"""

from __future__ import annotations

import difflib
import io
import json
import pprint
import re
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from doit.cmd_base import check_tasks_exist, opt_depfile, subtasks_iter, tasks_and_deps_iter
from doit.cmd_clean import Clean as DoitsClean
from doit.cmd_dumpdb import DumpDB as DoitsDumpDB
from doit.cmd_forget import Forget as DoitsForget
from doit.cmd_info import Info as DoitsInfo
from doit.cmd_list import List as DoitsList
from doit.cmd_run import Run as DoitsRun
from doit.cmdparse import CmdParseError
from doit.exceptions import InvalidCommand

from hpcstate import paths
from hpcstate.artifact.recipe import forget
from hpcstate.errors import HpcstateError
from hpcstate.tasks.artifacts import Current
from hpcstate.terminal import folded


class _Meant:
    """A word that is no task, and an option that is none, are told with the one that was meant."""

    def parse_execute(self, in_args: list[str]) -> int | None:
        """As doit's. Raises what that raises: doit tells it in a line."""
        try:
            code: int | None = super().parse_execute(in_args)  # type: ignore[misc]
        except InvalidCommand as error:
            quoted = _NO_TASK.search(str(error))
            word = error.not_found or (quoted[1] if quoted else "")
            _mean(word, [task.name for task in getattr(self, "task_list", ())])
            raise
        except CmdParseError as error:
            found = _NO_OPTION.search(str(error))
            if found is None:
                raise
            options: Any = vars(self)["_cmdparser"].options
            _mean(found[1], [f"--{option.long}" for option in options if option.long])
            raise CmdParseError(f"there is no option {found[1]}") from None
        return code


_NO_TASK = re.compile(r"""["']?([^"'\s]+)["']? is not a task""")
_NO_OPTION = re.compile(r"option (-\S+) not recognized")
"""What doit says of a word, and getopt of an option; doit adds all of its options, and what was typed."""


def _mean(word: str, known: list[str]) -> None:
    for near in difflib.get_close_matches(word, known, n=1):
        print(f"doit: did you mean {near}?", file=sys.stderr)


class RunCommand(_Meant, DoitsRun):  # type: ignore[misc]
    """Runs tasks."""

    name = "run"


class Clean(_Meant, DoitsClean):  # type: ignore[misc]
    """Names what is removed, not the function that does it."""

    name = "clean"

    def clean_tasks(self, tasks: Any, dryrun: bool, cleanforget: bool) -> None:
        whole: Any = vars(self)["outstream"]
        for task in {task.name: task for task in tasks}.values():
            made = (task.meta or {}).get("made of")
            if made is None:
                task.clean(whole, dryrun)
            else:
                path = made.recipe().path
                if path.exists():
                    verb = "would remove" if dryrun else "removes"
                    whole.write(f"{task.name}: {verb} {paths.shown(path)}\n")
                task.clean(io.StringIO(), dryrun)
            if cleanforget and not dryrun:
                self.dep_manager.remove(task.name)
        self.dep_manager.close()


class Forget(_Meant, DoitsForget):  # type: ignore[misc]
    """What is forgotten is made anew in the next run: doit's notes say nothing of artifacts here, their own
    descriptions do (artifact/recipe.py)."""

    name = "forget"

    def _execute(self, forget_sub: bool, forget_disable_default: bool, forget_all: bool) -> None:
        super()._execute(forget_sub, forget_disable_default, forget_all)
        tasks = {task.name: task for task in self.task_list}
        if forget_all:
            chosen = list(tasks.values())
        elif self.sel_default_tasks and forget_disable_default:
            return
        elif forget_sub:
            chosen = list(tasks_and_deps_iter(tasks, self.sel_tasks, True))
        else:
            chosen = [
                each for name in self.sel_tasks for each in (tasks[name], *subtasks_iter(tasks, tasks[name]))
            ]
        for made in (task.meta["made of"] for task in chosen if task.meta and "made of" in task.meta):
            try:
                path = made.recipe().path
                if forget(path):
                    self.outstream.write(f"{path.name} is made anew in the next run\n")
            except HpcstateError as error:
                print(f"doit: {error}", file=sys.stderr)


class Info(_Meant, DoitsInfo):  # type: ignore[misc]
    """A condition says why it is not met, an artifact what it is made of; a task that is not there is told in
    a line."""

    name = "info"

    def _execute(self, pos_args: list[str], hide_status: bool = False) -> int:
        tasks = {task.name: task for task in self.task_list}
        check_tasks_exist(tasks, pos_args)
        made_of = [(tasks[name].meta or {}).pop("made of", None) for name in pos_args]
        code = int(super()._execute(pos_args, hide_status))
        for artifact in filter(None, made_of):
            self.outstream.write(f"\nmade of    : {artifact}\n")
        return code

    @staticmethod
    def get_reasons(reasons: Mapping[str, Any]) -> str:
        """As doit's, but for conditions that can tell."""
        unmet = reasons.get("uptodate_false") or []
        told = [f" * {each[0]}" for each in unmet if isinstance(each[0], Current)]
        others = [each for each in unmet if not isinstance(each[0], Current)]
        plain = DoitsInfo.get_reasons(defaultdict(list, {**reasons, "uptodate_false": others}))
        return "\n".join(filter(None, [*told, plain]))


class List(_Meant, DoitsList):  # type: ignore[misc]
    """Files in order; on a terminal, lines no longer than it is wide."""

    name = "list"

    def _print_task(
        self, template: str, task: Any, status: bool, list_deps: bool, tasks: Mapping[str, Any]
    ) -> None:
        whole: Any = vars(self)["outstream"]
        self.outstream = said = io.StringIO()
        try:
            super()._print_task(template, task, status, False, tasks)
            line = said.getvalue().rstrip("\n")
        finally:
            self.outstream = whole
        if task.doc and line.endswith(task.doc):
            line = "\n".join(folded(line, len(line) - len(task.doc)))
        self.outstream.write(f"{line}\n")
        for name in sorted(task.file_dep) if list_deps else ():
            self.outstream.write(f" -  {name}\n")
        if list_deps:
            self.outstream.write("\n")


class DumpDB(DoitsDumpDB):  # type: ignore[misc]
    """doit's notes of the last runs, from the database that dodo.py chooses: doit's own command opens none of
    SQLite, and asks no dodo.py where it is (doit 0.37, cmd_dumpdb.py)."""

    name = "dumpdb"

    def execute(self, opt_values: Mapping[str, Any], pos_args: list[str]) -> int:
        given = opt_values["dep_file"]
        file = Path(given) if given != opt_depfile["default"] else paths.BUILD / "doit.sqlite3"
        if not file.is_file():
            print(f"doit: {paths.shown(file)} is not there: no task has run yet", file=sys.stderr)
            return 1
        try:
            with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
                rows = database.execute("select task_id, task_data from doit order by task_id").fetchall()
        except sqlite3.Error as error:
            print(f"doit: {paths.shown(file)}: {error}", file=sys.stderr)
            return 1
        for task, data in rows:
            print(f"{task} -> {pprint.pformat(json.loads(data), indent=4, width=80)}")
        print("images and containers have notes of their own beside them: `doit info TASK`")
        return 0
