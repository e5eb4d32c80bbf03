"""What `up` says before it begins, what it asks, and what a person may choose for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpcstate.cluster import plan_look
from hpcstate.cluster.plan import Observed, Plan, plan_of
from hpcstate.cluster.plan_text import changed_since, in_short, read_saved
from hpcstate.cluster.pyinfra import DeployChoice
from hpcstate.errors import HpcstateError
from hpcstate.model import Description
from hpcstate.terminal import Say

_BOOLEAN = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "": False}

AGAIN = "look at it again: hpcstate plan {file} --json > {plan}"


@dataclass(frozen=True)
class UpChoice:
    """What a person chose for a run of `up`: agreed to beforehand, a saved plan, and what reaches the
    deploys."""

    yes: bool = False
    plan: Path | None = None
    deploy: DeployChoice = field(default_factory=DeployChoice)


def choice_of(variables: Mapping[str, str]) -> UpChoice:
    """The choice in doit's variables, those that are not given left out or empty. Raises HpcstateError for a
    value that is none.
    """

    def boolean(name: str) -> bool:
        text = variables.get(name, "").lower()
        if text not in _BOOLEAN:
            raise HpcstateError(f"{name} is {text!r}", hint="it is yes or no")
        return _BOOLEAN[text]

    seconds: float | None = None
    if text := variables.get("drain_seconds", ""):
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1
        if not 0 < seconds < float("inf"):
            raise HpcstateError(f"drain_seconds is {text!r}", hint="it is a number of seconds, like 600")
    plan = variables.get("plan", "")
    return UpChoice(
        boolean("yes"),
        Path(plan) if plan else None,
        DeployChoice(drain_seconds=seconds, force=boolean("force"), reboot=boolean("reboot")),
    )


def concerns(plan: Plan, choice: UpChoice) -> list[str]:
    """Why a person has to agree to ``plan`` before it is carried out, a line each; none where nobody is
    concerned. Pure.
    """
    lines = [f"{step.what}: {step.does} ({step.impact})" for step in plan.by_up if step.removes]
    if plan.jobs:
        numbers = ", ".join(str(job.number) for job in plan.jobs)
        users = ", ".join(sorted({job.user for job in plan.jobs}))
        verb = "may be hurt (force)" if choice.deploy.force else "are waited for"
        lines.append(f"running jobs of {users} {verb}: {numbers}")
    if plan.unseen:
        lines.append(f"whether jobs run on {', '.join(plan.unseen)} is not known")
    return lines


def announce(
    description: Description,
    choice: UpChoice,
    say: Say,
    ask: Callable[[str], bool] | None,
    look: Callable[..., Observed] = plan_look.look,
) -> None:
    """Say what `up` will do, and make sure of the agreement that it needs: ``ask`` puts a question to the
    person at the terminal; None where there is none.

    The nodes are not asked, which takes as long as the deploy that follows; but for a saved plan that has it.
    Raises HpcstateError, with nothing touched, when something stands in the way, when nobody agrees, and when
    the world is not the one that the saved plan was made for.
    """
    file = description.path
    saved = None if choice.plan is None else read_saved(choice.plan)
    if saved is not None and saved["unknown"]:
        raise HpcstateError(
            "this plan was made without having seen everything: " + "; ".join(map(str, saved["unknown"])),
            where=str(choice.plan),
            hint=AGAIN.format(file=file, plan=choice.plan),
        )
    with_nodes = saved is not None and saved["nodes_asked"]
    plan = plan_of(description, look(description, say, nodes=with_nodes, host=False))
    for line in in_short(plan):
        say(line)
    if plan.obstacles:
        raise HpcstateError("nothing was touched\n" + "\n".join(plan.obstacles), where=str(file))
    if saved is not None:
        if lines := [*changed_since(saved, plan), *plan.unknown]:
            raise HpcstateError(
                "the world is not the one that this plan was made for; nothing was touched\n"
                + "\n".join(f"    {line}" for line in lines),
                where=str(choice.plan),
                hint=AGAIN.format(file=file, plan=choice.plan),
            )
        say(f"as {choice.plan} has it")
        return
    lines = concerns(plan, choice)
    if not lines or choice.yes:
        return
    if ask is None:
        raise HpcstateError(
            "this needs somebody's agreement, and there is no terminal to ask at; nothing was touched\n"
            + "\n".join(f"    {line}" for line in lines),
            where=str(file),
            hint=f"./hpc up {file} --yes agrees; `hpcstate plan {file}` shows all of it",
        )
    for line in lines:
        say(line)
    if not ask("Go on?"):
        raise HpcstateError("nobody agreed; nothing was touched", where=str(file), hint="--yes does not ask")
