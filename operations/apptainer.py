"""Apptainer on a host: the package, and the subordinate numbers of its users."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from pyinfra.api.command import FileUploadCommand, FunctionCommand, PyinfraCommand, StringCommand
from pyinfra.context import host

from facts.apptainer import Apptainer
from hpcstate import programs
from hpcstate.errors import HpcstateError
from hpcstate.host import tools
from hpcstate.node.managed import Managed
from hpcstate.probe.apptainer import PROGRAMS, SubidRange, is_at_least
from operations.packages import APT_GET
from operations.util import difference
from operations.util.arguments import operation
from operations.util.commands import fail, name_once, stop_host, write_file
from operations.util.difference import FileWritten

_KEEP_SETTINGS = ("-o", "Dpkg::Options::=--force-confold")
"""apptainer.conf is ours: dpkg would ask which one to keep, and there is nobody to answer (dpkg(1))."""

FOLDER = "/var/cache/hpcstate"
"""Where the package is until it is installed: below a folder that only root can write to (hier(7)). What lies
in /tmp or /var/tmp, by a name that can be known, any user of the host may have put there before."""

_one_download = Lock()
"""The package is fetched once for all hosts, by the first that needs it."""

MANAGED = (
    Managed(
        "apptainer",
        "Apptainer is there, new enough",
        "the package apptainer",
        "`apptainer --version`",
        "mended",
        "a mirror with Apptainer's dependencies",
    ),
    Managed(
        "apptainer.programs",
        "what Apptainer starts for users, and that nothing of it runs as root",
        "squashfuse, newuidmap and others, starter-suid",
        "that they are there; their modes",
        "named",
    ),
    Managed(
        "subids",
        "subordinate numbers of the users",
        "/etc/subuid, /etc/subgid",
        "the lines of these files",
        "mended",
    ),
)


@operation()
def installed(at_least: str) -> Generator[PyinfraCommand, None, None]:
    """Apptainer is there, in version ``at_least`` or a newer one; else the pinned package of tools.toml is
    uploaded and installed, with its dependencies from the host's mirror.

    A host whose image has it is left alone, whatever the pinned version is.
    """
    version = host.get_fact(Apptainer)["version"]
    if is_at_least(version, at_least):
        host.noop(f"Apptainer {version} is installed")
        return
    deb = tools.load().debs["apptainer"]
    file = tools.deb_path(deb)
    yield FunctionCommand(_fetch, (deb,), {})
    yield StringCommand(f"rm -rf {FOLDER} && install -d -m 700 -o root -g root {FOLDER}")
    # It arrives in the home of who logs in, which is no other user's either (pyinfra's own way is /tmp).
    yield FileUploadCommand(str(file), f"{FOLDER}/{file.name}", remote_temp_filename=f".hpcstate-{file.name}")
    yield StringCommand(f"{APT_GET} update")
    yield StringCommand(_install(f"{FOLDER}/{file.name}", deb.sha256))


def _install(file: str, sha256: str) -> str:
    """The program apptainer_install.sh."""
    words = (file, sha256, *_KEEP_SETTINGS)
    program = Path(__file__).with_name("apptainer_install.sh")
    return programs.command(program, arguments=words, apt_get=APT_GET)


def _fetch(state: Any, host: Any, deb: tools.Deb) -> bool | None:
    """Fetch the package to this machine; fails the host with the reason. pyinfra passes state and host."""
    try:
        with _one_download:
            tools.deb_file(deb)
    except HpcstateError as error:
        return fail(state, host, str(error))
    return None


@operation()
def named() -> Generator[PyinfraCommand, None, None]:
    """Says which programs Apptainer needs and does not have, and which run as root; never changes anything:
    the image had them right, and whoever took them away has a reason or a damaged disk.
    """
    fact = host.get_fact(Apptainer)
    step = f"`hpcstate roll start FILE --node {host.name}` gives the node a new disk from the image"
    for program in PROGRAMS:
        if program not in fact["programs"]:
            name_once(host, f"{program}, which Apptainer starts for users, is missing; {step}")
    for path in fact["setuid"]:
        name_once(host, f"{path} runs as root for every user; {step}")
    host.noop("what is not as the image had it was named")
    yield from ()


@operation()
def subids(users: Mapping[str, int], count: int) -> Generator[PyinfraCommand, None, None]:
    """Each of ``users`` has exactly one range of ``count`` subordinate user and group numbers, from the
    number given; ranges of others stay as they are.

    Stops the host when a range would share numbers with somebody else's: root in that user's container would
    be the other in theirs (user_namespaces(7)).
    """
    fact = host.get_fact(Apptainer)
    wanted = [SubidRange(user=user, start=start, count=count) for user, start in users.items()]
    writes: dict[str, str] = {}
    for path, present in (("/etc/subuid", fact["subuid"]), ("/etc/subgid", fact["subgid"])):
        others = [entry for entry in present if entry["user"] not in users]
        for entry in wanted:
            if clash := next((other for other in others if _overlap(entry, other)), None):
                yield stop_host(
                    f"{path}: the range {entry['start']}:{count} of {entry['user']} shares numbers with "
                    f"{_line(clash)}. Give that user another range, or take the line away."
                )
                return
        if [entry for entry in present if entry["user"] in users] != wanted:
            writes[path] = "".join(f"{_line(entry)}\n" for entry in [*others, *wanted])
    difference.show(FileWritten(path, text) for path, text in writes.items())
    for path, text in writes.items():
        yield write_file(path, text)
    if not writes:
        host.noop(f"{', '.join(users)} have their subordinate numbers")


def _overlap(one: SubidRange, other: SubidRange) -> bool:
    return one["start"] < other["start"] + other["count"] and other["start"] < one["start"] + one["count"]


def _line(entry: SubidRange) -> str:
    return f"{entry['user']}:{entry['start']}:{entry['count']}"
