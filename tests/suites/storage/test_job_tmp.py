"""What a job writes to /tmp and /dev/shm is seen by it alone, on disk, and gone when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hpcstate.check.jobs import new_name, srun, together
from hpcstate.check.suite import CheckFailed, RecordProperty, fault
from hpcstate.node.ssh import Live
from hpcstate.slurm.conf import CONF_DIRECTORY, JOB_TMP
from tests.suites.breaking import Edit, edited, last_worker, set_key
from tests.suites.slurm import reports

JOB_CONTAINER_CONF = f"{CONF_DIRECTORY}/job_container.conf"
FOLDERS = ("/tmp", "/dev/shm")
MEMORY = ("tmpfs", "ramfs")

_LOOK = """
for folder in /tmp /dev/shm; do
  seen=no; [ ! -e "$folder/$0.node" ] || seen=yes
  : >"$folder/$0.job" || exit 1
  printf '{"host": "%s", "folder": "%s", "type": "%s", "sees": "%s", "tmpdir": "%s"}\\n' \
    "$(hostname)" "$folder" "$(stat -f -c %T "$folder")" "$seen" "${TMPDIR-/tmp}"
done
"""


@dataclass(frozen=True)
class Folder:
    """A folder as a task met it: the ``type`` of its file system, whether it ``sees`` what lies there on the
    node, and what ``tmpdir`` says."""

    host: str
    folder: str
    type: str
    sees: str
    tmpdir: str


def test_job_tmp(live: Live, record_property: RecordProperty) -> None:
    """A job's /tmp and /dev/shm are its own, /tmp is on disk, and both are gone with it"""
    name = new_name()
    names = [node.name for node in live.workers]
    places = together(live, live.workers)
    put = "; ".join(f"touch {folder}/{name}.node" for folder in FOLDERS)
    found: list[Folder] = []
    try:
        live.run_each(dict.fromkeys(names, put), user="root")
        for place in places:
            words = (*place, "--ntasks-per-node=1", "--mem=100M", "--tmp=100")
            found += [Folder(**report) for report in reports(srun(live, words, ("sh", "-c", _LOOK, name)))]
        # The job's own step may take a moment to clean up after the last task.
        look = (
            "for try in 1 2 3 4 5 6 7 8 9 10; do "
            f"left=$(find {' '.join(FOLDERS)} {JOB_TMP} -name {name}.job 2>/dev/null); "
            '[ "$left" ] || break; sleep 1; done; printf "%s\\n" $left'
        )
        left = {
            node: answer.stdout.split()
            for node, answer in live.run_each(dict.fromkeys(names, look), user="root").items()
        }
    finally:
        clean = "; ".join(f"rm -f {folder}/{name}.node {folder}/{name}.job" for folder in FOLDERS)
        live.run_each(dict.fromkeys(names, clean), user="root")
    remains = [f"{node}: {' '.join(some)} is left" for node, some in left.items() if some]
    if wrong := [*wrongs(found, names), *remains]:
        raise CheckFailed(
            "/tmp and /dev/shm of the job's own, /tmp on disk, nothing left of them",
            "; ".join(wrong),
            f"JobContainerType and PrologFlags=Contain in slurm.conf, {JOB_CONTAINER_CONF}; slurmd.log",
        )
    kinds = sorted({f"{each.folder} on {each.type}" for each in found})
    record_property("observed", f"{', '.join(kinds)} on {', '.join(names)}; nothing of them is left")


def wrongs(found: list[Folder], names: list[str]) -> list[str]:
    """What is wrong with the folders that tasks on the nodes ``names`` met, in words."""
    missing = sorted(
        f"{name}: no task told of {folder}"
        for name in names
        for folder in FOLDERS
        if not any((each.host, each.folder) == (name, folder) for each in found)
    )
    shared = [f"{each.host}: {each.folder} is the node's" for each in found if each.sees != "no"]
    memory = [
        f"{each.host}: {each.folder} is in memory ({each.type})"
        for each in found
        if each.folder == "/tmp" and each.type in MEMORY
    ]
    elsewhere = [
        f"{each.host}: TMPDIR is {each.tmpdir}"
        for each in found
        if each.folder == "/tmp" and each.tmpdir != "/tmp"
    ]
    return [*missing, *shared, *memory, *elsewhere]


@fault("jobs of a node have the node's own /tmp", "storage.job_tmp")
def shared_tmp(live: Live) -> Iterator[None]:
    name = last_worker(live).name
    edit = Edit(name, JOB_CONTAINER_CONF, set_key("Dirs", "/dev/shm"))
    with edited(live, [edit], restart=[(name, "slurmd")]):
        yield
