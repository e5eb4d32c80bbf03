"""Slurm's own daemons judge a cluster's configuration files: those of the image, in a throwaway root of it.

The linter (hpcstate.slurm.lint) knows what was read in Slurm's source; the daemons know. slurmctld starts
with the files, a slurmd for each kind of node registers with it, all in namespaces that reach nothing and
leave nothing (hpcstate.judge.inside). What this cannot see: control groups, the hardware and memory of real
nodes, devices that slurmd would find by itself (AutoDetect), and slurmdbd with what needs it (the weights
of age and fair share, NO_FAIR_TREE and DEPTH_OBLIVIOUS of PriorityFlags).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hpcstate import paths
from hpcstate.artifact.imports import code_of
from hpcstate.artifact.recipe import built
from hpcstate.artifact.store import Store
from hpcstate.digest import key_of
from hpcstate.errors import HpcstateError, Problem, format_problem
from hpcstate.files import write_atomically
from hpcstate.judge import messages
from hpcstate.judge import root as judge_root
from hpcstate.judge.case import Configuration, case_of
from hpcstate.judge.inside import Case, Hearing
from hpcstate.model import Cluster
from hpcstate.paths import ClusterPaths
from hpcstate.run import run, tail
from hpcstate.slurm.conf import JOB_SUBMIT, configuration, job_submit, refuses_mail
from hpcstate.slurm.gres import assign_declared, declared_gres

_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork")
_TIMEOUT_SECONDS = 120.0


class JudgeUnavailableError(HpcstateError):
    """Slurm's daemons cannot be asked: their image is not built, or this machine cannot run them."""


@dataclass(frozen=True)
class Judgement:
    """What the daemons said: file name to problems. ``key`` is what they were asked, see judgement_key."""

    key: str
    problems: Mapping[str, tuple[Problem, ...]]

    @property
    def errors(self) -> int:
        """How many problems stop a daemon or a node."""
        return sum(problem.severity == "error" for some in self.problems.values() for problem in some)

    def to_json(self) -> str:
        """Sorted and indented."""
        found = {name: [asdict(problem) for problem in some] for name, some in self.problems.items()}
        return json.dumps({"key": self.key, "problems": found}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: Path) -> Judgement | None:
        """The judgement in ``path``, None when there is none."""
        try:
            data = json.loads(path.read_text())
            found = {
                name: tuple(Problem(**problem) for problem in some) for name, some in data["problems"].items()
            }
            return cls(data["key"], found)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None


def configuration_of(cluster: Cluster) -> Configuration:
    """The files that a deploy of ``cluster`` would push, with the devices that it declares.

    A deploy numbers the device files as it finds them; here they are numbered as they are declared.
    """
    gres = {node.name: assign_declared(node.name, declared_gres(node)).text for node in cluster.workers}
    # slurmctld looks for it beside slurm.conf (src/common/read_config.c, get_extra_conf_path).
    beside = {Path(JOB_SUBMIT).name: job_submit()} if refuses_mail(cluster) else {}
    return Configuration({**configuration(cluster), **beside}, gres)


def image_of(cluster: Cluster) -> Path:
    """The image whose daemons judge: the controller's."""
    return paths.ROOT / cluster.controller.image


def known(cluster: Cluster) -> Judgement | None:
    """The judgement of exactly these files by exactly this image, if there was one."""
    judgement = Judgement.read(ClusterPaths.of(cluster.name).judgement)
    key = image_key(image_of(cluster)) if judgement else ""
    wanted = judgement_key(configuration_of(cluster), key) if key else ""
    return judgement if judgement and judgement.key == wanted else None


def require(cluster: Cluster, say: Callable[[str], None]) -> None:
    """Judge what ``cluster`` is rendered to, unless it was; say what the daemons warn of.

    Where nothing can be judged (JudgeUnavailableError), that is said. Raises HpcstateError with the daemons'
    words when one of them, or a node, would stop.
    """
    try:
        judgement = judge_cluster(cluster)
    except JudgeUnavailableError as error:
        say(f"{cluster.name}: not judged by Slurm's daemons: {error}")
        return
    found = [format_problem(name, problem) for name, some in judgement.problems.items() for problem in some]
    if judgement.errors:
        raise HpcstateError(
            "Slurm's daemons refuse what this cluster is rendered to:\n" + "\n".join(found),
            where=cluster.name,
            hint=f"the files are below {paths.shown(ClusterPaths.of(cluster.name).rendered)}/slurm; "
            "slurm_config.parameters of the cluster file is where most of it is from",
        )
    for text in found:
        say(text)


def judge_cluster(cluster: Cluster) -> Judgement:
    """What the daemons say of what ``cluster`` is rendered to.

    The answer is kept in build/<cluster>/ and given again while neither the image nor the files change.
    Raises JudgeUnavailableError.
    """
    judgement = known(cluster)
    if judgement is None:
        judgement = judge(configuration_of(cluster), image_of(cluster))
        write_atomically(ClusterPaths.of(cluster.name).judgement, judgement.to_json())
    return judgement


def image_named(name: str) -> Path:
    """The image called ``name``: one of packer/, or the path of a .qcow2 that hpcstate built."""
    return Path(name) if name.endswith(".qcow2") else paths.image(name)


def image_key(image: Path) -> str:
    """The key of a built image, empty when it is not there, or not from here."""
    manifest = built(image)
    return manifest.key if manifest else ""


def judgement_key(files: Configuration, image: str) -> str:
    """What a judgement depends on: the judge's code, the key of the ``image``, every file."""
    return key_of(
        {
            "code": code_of("hpcstate.judge.judge"),
            "image": image,
            "files": dict(files.files),
            "gres": dict(files.gres),
        }
    )


def judge(files: Configuration, image: Path) -> Judgement:
    """Let the daemons of ``image`` (a built qcow2) read ``files`` and say what they say.

    Takes about a second; the first time for an image some seconds more, for its throwaway root.
    Raises JudgeUnavailableError when there is no such image, this machine cannot run them, or slurmctld was
    not up in time.
    """
    key = image_key(image)
    if not key:
        message = f"the image {paths.shown(image)} is not built here"
        raise JudgeUnavailableError(message, hint="`./hpc build_images` builds the images of packer/")
    root = judge_root.recipe(image, key)
    root.provide(Store.default())
    hearing = hear(case_of(files, root.path))
    if last_words := messages.undecided(hearing):
        hint = "this machine may have too much other work: try it again"
        raise JudgeUnavailableError(f"the daemons could not be heard: {last_words}", hint=hint)
    found = messages.problems(hearing, files.files, files.gres)
    return Judgement(judgement_key(files, key), {name: tuple(some) for name, some in sorted(found.items())})


def hear(case: Case) -> Hearing:
    """What the daemons say of a case. Raises JudgeUnavailableError when this machine cannot run them."""
    words = [*_UNSHARE, "--kill-child", sys.executable, "-m", "hpcstate.judge.inside"]
    done = run(words, stdin=json.dumps(asdict(case)), cwd=paths.ROOT, timeout=_TIMEOUT_SECONDS, check=False)
    try:
        if done.code:
            raise ValueError
        return Hearing.from_json(done.stdout)
    except (ValueError, KeyError, TypeError) as error:
        raise JudgeUnavailableError(
            f"Slurm's daemons cannot be run in a throwaway root:\n{tail(done.stderr, 5)}",
            hint="they need user namespaces: sysctl user.max_user_namespaces must not be 0, and on Ubuntu "
            "kernel.apparmor_restrict_unprivileged_userns must be 0; a container needs the right to unshare",
        ) from error
