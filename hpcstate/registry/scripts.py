"""What looks at a node's registry of containers and changes it, run there as root: calls of change.sh.

What is wrong with a file is not told by an exit code but by a line ``damaged …`` (other bytes) or
``refused …`` (its signature) on standard output, which :func:`refusal` reads: the person wants a sentence.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from hpcstate import programs
from hpcstate.node.apptainer_files import PUBLIC_KEY
from hpcstate.probe import registry as probe
from hpcstate.registry.layout import (
    FILE_MODE,
    INCOMING,
    OWNER,
    ROOT,
    Stored,
    folders,
)

RELAY_PORT = 8730
RELAY_UNIT = "hpcstate-registry-relay"

_RELAY_CONF = f"/run/{RELAY_UNIT}.conf"
_LOCK = "/run/hpcstate-registry.lock"
_REFUSED = "refused "
_DAMAGED = "damaged "
_ROOM = "=== room "


def look(*, rehash: bool = False) -> str:
    """The registry's state, then the bytes that are free where it is (or will be)."""
    return (
        f"{probe.command(rehash=rehash)}\n"
        f'd={ROOT}; [ -d "$d" ] || d=/opt; '
        f"printf '{_ROOM}%s\\n' \"$(df --output=avail -B1 \"$d\" | tail -n 1 | tr -d ' ')\""
    )


def read_look(text: str) -> tuple[probe.RegistryState, int]:
    """What :func:`look` printed: the state, and how many bytes are free.

    Raises HpcstateError when it cannot be understood.
    """
    state, _, room = text.rpartition(_ROOM)
    return probe.parse(state), int(room) if room.strip().isdigit() else 0


def _change(action: str, *words: object, text: str = "") -> str:
    """The program change.sh; ``text`` is the content of the file that ``action`` replaces."""
    return programs.command(
        programs.REPLACE,
        Path(__file__).with_name("change.sh"),
        arguments=(action, *words),
        top=ROOT,
        owner=OWNER,
        mode=FILE_MODE,
        key=PUBLIC_KEY,
        unit=RELAY_UNIT,
        port=RELAY_PORT,
        conf=_RELAY_CONF,
        text=text,
    )


def layout(config: str) -> str:
    """Make the folders with their modes, and config.yaml."""
    words = [word for path, (mode, owner) in folders().items() for word in (path, mode, owner)]
    return _change("layout", *words, text=config)


def give_key(text: str) -> str:
    """Give a node that has none the public key ``text``. It prints ``given``, and ``other`` where another key
    is there, which stays."""
    return _change("key", hashlib.sha256(text.encode()).hexdigest(), text=text)


def incoming(stored: Stored) -> str:
    """Where ``stored`` lies on its way: by its whole digest, so that the part of it that is there after an
    interruption is a part of nothing else."""
    return f"{INCOMING}/{stored.digest}.sif"


def receive(stored: Stored, source: str, *, kib_per_s: int = 0) -> str:
    """Fetch ``stored`` from the relay on ``source`` (an address), going on where an earlier try stopped.

    ``--append`` sends what is beyond the length of the part that is there (rsync(1)); that the whole is right
    is seen afterwards, by its digest. One transfer at a time: one whose caller was killed may still run.
    """
    limit = f"--bwlimit={kib_per_s} " if kib_per_s else ""
    return (
        f"exec 9>{_LOCK}; flock -w 600 9 || exit 1\n"
        f"rsync --append --contimeout=20 --timeout=120 {limit}"
        f"rsync://{source}:{RELAY_PORT}/containers/{shlex.quote(stored.file)} {incoming(stored)}"
    )


def forget(stored: Stored) -> str:
    """Remove what is there of a file on its way."""
    return f"rm -f {incoming(stored)}"


def pull(stored: Stored, reference: str, *, plain_http: bool) -> str:
    """Fetch ``stored`` from an OCI registry. Apptainer's cache would keep a copy (apptainer-pull(1))."""
    http = "--no-https " if plain_http else ""
    return (
        f"exec 9>{_LOCK}; flock -w 600 9 || exit 1\n"
        f"apptainer --silent pull --force --disable-cache {http}{incoming(stored)} {shlex.quote(reference)}"
    )


def push(stored: Stored, reference: str, *, plain_http: bool) -> str:
    """Give ``stored``, which is in the registry of this node, to an OCI registry."""
    http = "--no-https " if plain_http else ""
    return f"apptainer --silent push {http}{ROOT}/{shlex.quote(stored.file)} {shlex.quote(reference)}"


def progress(stored: Stored) -> str:
    """How many bytes of ``stored`` have arrived."""
    return f"stat -c %s {incoming(stored)} 2>/dev/null || echo 0"


def place(stored: Stored, *, require_signature: bool) -> str:
    """Verify what has arrived, give it its mode and owner, then its name, and record its digest.

    A file that is not what it should be is removed and reported (:func:`refusal`).
    """
    return _change("place", stored.file, stored.digest, stored.size, "yes" if require_signature else "no")


def verify(files: Sequence[Stored], *, require_signature: bool) -> str:
    """Verify the signatures of files that are in place; nothing is removed."""
    if not require_signature:
        return ":"
    return _change("verify", *(stored.file for stored in files))


def refusal(output: str) -> tuple[str, bool]:
    """Why a script refused a file, and whether because its bytes are others; empty when it did not."""
    for line in output.splitlines():
        for word in (_DAMAGED, _REFUSED):
            if line.startswith(word):
                return line.removeprefix(word), word == _DAMAGED
    return "", False


def finish(
    *, links: Sequence[tuple[str, str]], stale: Sequence[str], closed: Sequence[Stored], catalog: str
) -> str:
    """What comes after the files: modes and owners of ``closed``, links (path to target) switched in one step
    each, ``stale`` links removed, what nobody waits for any more removed, and last the catalog."""
    words = [word for stored in closed for word in ("closed", stored.file)]
    words += [word for path, target in links for word in ("link", path, target)]
    words += [word for path in stale for word in ("stale", path)]
    return _change("finish", *words, text=catalog)


def write_catalog(text: str) -> str:
    """Replace the catalog."""
    return _change("catalog", text=text)


def remove(files: Sequence[str]) -> str:
    """Take ``files`` out of the registry."""
    return _change("remove", *files)


def serve(peers: str) -> str:
    """Let ``peers`` (addresses, or a subnet) read this node's containers, until :func:`stop_serving`, or
    six hours."""
    return _change("serve", peers)


def stop_serving() -> str:
    """End the relay; nothing happens when there is none."""
    return _change("stop")
