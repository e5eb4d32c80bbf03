"""The main job: images, nodes, state, proof. `doit up cluster=inventories/gpu.yaml`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doit import get_var

from hpcstate.tasks.graph import UP_VARIABLES, action, beginning
from hpcstate.terminal import stage

Task = dict[str, Any]

DEFAULT_CLUSTER = "inventories/gpu.yaml"


def cluster_file() -> Path:
    """The cluster file of this run: `doit up cluster=FILE`."""
    return Path(get_var("cluster", DEFAULT_CLUSTER))


def variables() -> dict[str, str]:
    """What was chosen for `up`: `doit up cluster=FILE yes=yes`."""
    return {name: str(get_var(name, "")) for name in UP_VARIABLES}


def _before() -> str:
    """What comes before a build: when all of it is asked for, what `up` will do is said and agreed to first;
    of a part of it (`doit judge`) it is enough that this host can run the cluster."""
    return "announce" if "up" in sys.argv[1:] else "host"


def task_images_of_cluster() -> Task:
    """find the images that the cluster's nodes need (only these are built by `up`)"""
    return {"actions": [(_needed_images, [cluster_file()])], "task_dep": [_before()], "verbosity": 2}


def task_containers_of_cluster() -> Task:
    """find the containers that the cluster's registry holds (only these are built by `up`)"""
    return {"actions": [(_needed_containers, [cluster_file()])], "task_dep": [_before()], "verbosity": 2}


def task_host() -> Task:
    """look whether this host can run the cluster, before anything is built"""
    return {"actions": [(_host, [cluster_file()])], "verbosity": 2}


def task_announce() -> Task:
    """say what `up` will do, and ask where something is removed or running jobs are waited for"""
    return {"actions": [(_announce, [cluster_file(), variables()])], "task_dep": ["host"], "verbosity": 2}


def task_start() -> Task:
    """create and power on the cluster's nodes until they answer on SSH"""
    return {
        "actions": [(_start, [cluster_file()])],
        "calc_dep": ["images_of_cluster", "containers_of_cluster"],
        "task_dep": ["host", "announce", "judge"],
        "verbosity": 2,
    }


def task_deploy() -> Task:
    """bring the nodes into the declared state with pyinfra"""
    return {"actions": [(_deploy, [cluster_file(), variables()])], "task_dep": ["start"], "verbosity": 2}


def task_check() -> Task:
    """prove on the live cluster that it does what the file says"""
    return {"actions": [(_check, [cluster_file()])], "task_dep": ["deploy"], "verbosity": 2}


def task_up() -> Task:
    """the main job: from one file to a running, proven cluster"""
    return {"actions": [(_summary, [cluster_file()])], "task_dep": ["check"], "verbosity": 2}


@action
def _needed_images(file: Path) -> dict[str, list[str]]:
    from hpcstate.cluster.plan_look import needed_images
    from hpcstate.schema import load

    return {"task_dep": [f"build_images:{name}" for name in needed_images(load(file))]}


@action
def _needed_containers(file: Path) -> dict[str, list[str]]:
    from hpcstate.schema import load

    names = {name: None for cluster in load(file).clusters for name in cluster.containers.deploy}
    return {"task_dep": [f"build_containers:{name}" for name in names]}


@action
def _host(file: Path) -> None:
    from hpcstate.hypervisor import fit
    from hpcstate.log import begin, files_of
    from hpcstate.schema import load

    description = load(file)
    fit.demand(description, lambda text: print(f"    {text}", flush=True))
    names = [cluster.name for cluster in description.clusters]
    begin(["doit", *sys.argv[1:]], files_of(names, "doit", make=True))


@beginning
def _announce(file: Path, given: Mapping[str, str]) -> None:
    from hpcstate.cluster import agree, turn, up
    from hpcstate.schema import load
    from hpcstate.terminal import agreed

    choice = agree.choice_of(given)
    description = load(file)
    # Held until doit ends: what was agreed to is true until it is done.
    turn.begin([cluster.name for cluster in description.clusters], ["doit", *sys.argv[1:]], up.say)
    agree.announce(description, choice, up.say, agreed if sys.stdin.isatty() else None)


@action
def _start(file: Path) -> None:
    from hpcstate.cluster import up

    with stage("start", "network, disks and nodes"):
        up.start(file)


@action
def _deploy(file: Path, given: Mapping[str, str]) -> None:
    from hpcstate.cluster import agree, up

    with stage("deploy", "facts, difference, change (pyinfra)"):
        up.deploy(file, agree.choice_of(given).deploy)


@action
def _check(file: Path) -> None:
    from hpcstate.cluster import up

    with stage("check", "jobs on the live cluster"):
        up.check(file)


@action
def _summary(file: Path) -> None:
    from hpcstate.cluster import up
    from hpcstate.terminal import finished_stages

    print(up.summary(file, finished_stages()))
