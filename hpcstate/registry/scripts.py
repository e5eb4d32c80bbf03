"""Shell scripts that look at a node's registry of containers and change it, run there as root. Pure.

What is wrong with a file is not told by an exit code but by a line ``damaged …`` (other bytes) or
``refused …`` (its signature) on standard output, which :func:`refusal` reads: the person wants a sentence.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from hpcstate.node.apptainer_files import PUBLIC_KEY
from hpcstate.probe import registry as probe
from hpcstate.registry.layout import (
    CATALOG,
    CONFIG,
    DIGESTS,
    FILE_MODE,
    INCOMING,
    META,
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


def layout(config: str) -> str:
    """Make the folders with their modes, and config.yaml."""
    steps = ["set -e", "umask 022"]
    for path, (mode, owner) in folders().items():
        steps += [f"mkdir -p {path}", f"chown {owner} {path}", f"chmod {mode} {path}"]
    return "\n".join([*steps, _write(CONFIG, config)])


def _write(path: str, content: str) -> str:
    """Replace a small file of the registry in one step: a reader sees the old one or the new one."""
    return (
        f"printf %s {shlex.quote(content)} >{path}.new && chown {OWNER} {path}.new "
        f"&& chmod {FILE_MODE} {path}.new && mv -f {path}.new {path}"
    )


def incoming(one: Stored) -> str:
    """Where ``one`` lies on its way: by its whole digest, so that the part of it that is there after an
    interruption is a part of nothing else."""
    return f"{INCOMING}/{one.digest}.sif"


def receive(one: Stored, source: str, *, kib_per_s: int = 0) -> str:
    """Fetch ``one`` from the relay on ``source`` (an address), going on where an earlier try stopped.

    ``--append`` sends what is beyond the length of the part that is there (rsync(1)); that the whole is right
    is seen afterwards, by its digest. One transfer at a time: one whose caller was killed may still run.
    """
    limit = f"--bwlimit={kib_per_s} " if kib_per_s else ""
    return (
        f"exec 9>{_LOCK}; flock -w 600 9 || exit 1\n"
        f"rsync --append --contimeout=20 --timeout=120 {limit}"
        f"rsync://{source}:{RELAY_PORT}/containers/{shlex.quote(one.file)} {incoming(one)}"
    )


def forget(one: Stored) -> str:
    """Remove what is there of a file on its way."""
    return f"rm -f {incoming(one)}"


def pull(one: Stored, reference: str, *, plain_http: bool) -> str:
    """Fetch ``one`` from an OCI registry. Apptainer's cache would keep a second copy (apptainer-pull(1))."""
    http = "--no-https " if plain_http else ""
    return (
        f"exec 9>{_LOCK}; flock -w 600 9 || exit 1\n"
        f"apptainer --silent pull --force --disable-cache {http}{incoming(one)} {shlex.quote(reference)}"
    )


def push(one: Stored, reference: str, *, plain_http: bool) -> str:
    """Give ``one``, which is in the registry of this node, to an OCI registry."""
    http = "--no-https " if plain_http else ""
    return f"apptainer --silent push {http}{ROOT}/{shlex.quote(one.file)} {shlex.quote(reference)}"


def progress(one: Stored) -> str:
    """How many bytes of ``one`` have arrived."""
    return f"stat -c %s {incoming(one)} 2>/dev/null || echo 0"


def place(one: Stored, *, require_signature: bool) -> str:
    """Verify what has arrived, give it its mode and owner, then its name, and record its digest.

    A file that is not what it should be is removed and reported (:func:`refusal`).
    """
    new, target = incoming(one), f"{ROOT}/{shlex.quote(one.file)}"
    return "\n".join(
        [
            "set -e",
            f"cd {ROOT}",
            _says("refuse", _REFUSED, new),
            _says("damaged", _DAMAGED, new),
            f"[ -f {new} ] || damaged 'nothing arrived'",
            f"size=$(stat -c %s {new})",
            f'[ "$size" = {one.size} ] || damaged "$size bytes have arrived instead of {one.size}"',
            f"sum=$(sha256sum <{new}); sum=${{sum%% *}}",
            f'[ "$sum" = {one.digest} ] || damaged "it has the digest $sum instead of {one.digest}"',
            *([_verify(new)] if require_signature else []),
            f"chown {OWNER} {new}; chmod {FILE_MODE} {new}; sync {new}",
            f"mv -f {new} {target}",
            _record([one.file], {one.file: one.digest}),
        ]
    )


def _verify(path: str) -> str:
    return (
        f"[ -r {PUBLIC_KEY} ] || refuse '{PUBLIC_KEY} is missing: run deploys/containers.py'\n"
        f"said=$(apptainer --silent verify --all --key {PUBLIC_KEY} {path} 2>&1) || "
        'refuse "its signature does not hold: $(printf %s "$said" | tail -n 1)"'
    )


def verify(files: Sequence[Stored], *, require_signature: bool) -> str:
    """Verify the signatures of files that are in place; nothing is removed."""
    if not require_signature:
        return ":"
    tests = "\n".join(f"( {_verify(f'{ROOT}/{shlex.quote(one.file)}')} )" for one in files)
    return f"{_says('refuse', _REFUSED)}\n{tests}"


def _says(function: str, word: str, remove: str = "") -> str:
    """A shell function that removes a file, reports its argument after ``word`` and ends the script."""
    return f"{function}() {{ rm -f {remove}; printf '{word}%s\\n' \"$1\"; exit 0; }}"


def refusal(output: str) -> tuple[str, bool]:
    """Why a script refused a file, and whether because its bytes are others; empty when it did not."""
    for line in output.splitlines():
        for word in (_DAMAGED, _REFUSED):
            if line.startswith(word):
                return line.removeprefix(word), word == _DAMAGED
    return "", False


def _record(files: Sequence[str], digests: Mapping[str, str]) -> str:
    """Forget the records of ``files``, and record those of ``digests`` (path to sha256)."""
    keep = 'NR==FNR { gone[$0]; next } { p=$0; sub(/^[^ ]* [^ ]* [^ ]* [^ ]* /, "", p) } !(p in gone)'
    names = "\\n".join(files)
    lines = [f"touch {DIGESTS}", f"printf '{names}\\n' >{DIGESTS}.gone"]
    lines.append(f"awk '{keep}' {DIGESTS}.gone {DIGESTS} >{DIGESTS}.new; rm -f {DIGESTS}.gone")
    for path, digest in digests.items():
        folder, _, name = path.rpartition("/")
        # find's own format of the time, which hpcstate.probe.registry compares with.
        find = (
            f"find {folder} -mindepth 1 -maxdepth 1 -name {shlex.quote(name)} -printf '%s %i %T@ {folder}/%P'"
        )
        lines.append(f"printf '{digest} %s\\n' \"$({find})\" >>{DIGESTS}.new")
    lines.append(
        f"chown {OWNER} {DIGESTS}.new; chmod {FILE_MODE} {DIGESTS}.new; mv -f {DIGESTS}.new {DIGESTS}"
    )
    return "\n".join(lines)


def finish(
    *, links: Sequence[tuple[str, str]], stale: Sequence[str], closed: Sequence[Stored], catalog: str
) -> str:
    """What comes after the files: modes and owners of ``closed``, links (path to target) switched in one step
    each, ``stale`` links removed, what nobody waits for any more removed, and last the catalog."""
    lines = ["set -e", f"cd {ROOT}"]
    for one in closed:
        file = shlex.quote(one.file)
        lines.append(f"chown {OWNER} {file}; chmod {FILE_MODE} {file}")
    for path, target in links:
        link = shlex.quote(path)
        new = shlex.quote(f"{META}/{path.rpartition('/')[2]}.link")
        lines.append(f"ln -sfn {shlex.quote(target)} {new} && mv -Tf {new} {link}")
    if stale:
        lines.append(f"rm -f {' '.join(shlex.quote(path) for path in stale)}")
    lines.append(f"find {INCOMING} -mindepth 1 -delete")
    return "\n".join([*lines, _write(CATALOG, catalog)])


def write_catalog(text: str) -> str:
    """Replace the catalog."""
    return _write(CATALOG, text)


def remove(files: Sequence[str]) -> str:
    """Take ``files`` out of the registry."""
    words = " ".join(shlex.quote(path) for path in files)
    return "\n".join(["set -e", f"cd {ROOT}", f"rm -f {words}", _record(list(files), {})])


def serve(subnet: str) -> str:
    """Let the nodes of ``subnet`` read this node's containers, until :func:`stop_serving` or six hours later.

    rsync's own protocol, without SSH: an emulated CPU encrypts slowly, every user of the cluster may read
    these files anyway, and what arrives is verified by a digest that came over SSH.
    """
    conf = (
        f"use chroot = no\nlist = no\n[containers]\npath = {ROOT}\nread only = yes\n"
        f"hosts allow = 127.0.0.1 {subnet}\nexclude = /.registry\n"
    )
    return "\n".join(
        [
            "set -e",
            stop_serving(),
            f"printf %s {shlex.quote(conf)} >{_RELAY_CONF}",
            f"systemd-run --quiet --collect --unit={RELAY_UNIT} -p DynamicUser=yes -p RuntimeMaxSec=6h "
            f"rsync --daemon --no-detach --config={_RELAY_CONF} --port={RELAY_PORT}",
            f"for i in $(seq 50); do rsync -q rsync://127.0.0.1:{RELAY_PORT}/ 2>/dev/null && exit 0",
            "sleep 0.2; done",
            f"echo 'rsync did not begin to listen on port {RELAY_PORT}' >&2; exit 1",
        ]
    )


def stop_serving() -> str:
    """End the relay; nothing happens when there is none."""
    return f"systemctl stop {RELAY_UNIT} 2>/dev/null || :; rm -f {_RELAY_CONF}"
