"""The archive of a backup: one tar file, in the clear or encrypted by gpg, with a manifest at its end.

Each part (the database, the keys, …) is cut into members ``NAME.000000``, ``NAME.000001``, …: its size need
not be known when it begins, and so it goes straight from a node into the file. ``cat NAME.*`` is the part
again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from hpcstate.errors import HpcstateError, from_os
from hpcstate.paths import shown
from hpcstate.run import into, out_of, which

FORMAT = 1
"""Of the archive; a newer one is refused."""

MANIFEST = "manifest.json"
PIECE = 16 << 20
"""The size of a member in bytes; the last one of a part is smaller."""

_LARGEST = 64 << 20
"""More bytes than any member has."""


@dataclass(frozen=True)
class Part:
    """One part: its ``size`` in bytes and its ``sha256`` (64 hex digits) as it lies in the archive, that of
    all its members one after the other. ``what`` is for people."""

    name: str
    what: str
    size: int
    sha256: str
    seconds: float = 0.0


@dataclass(frozen=True)
class BackupManifest:
    """What an archive says of itself. ``taken`` is a time (ISO 8601, UTC) and ``taken_s`` the same in seconds
    since 1970 by the controller's clock: when slurmctld stood still. ``slurm`` and ``mariadb`` are versions
    (``24.11.5``, ``11.8.3``), empty without a database. ``jobs`` are states to numbers of jobs in the queue,
    ``recorded`` is how many jobs the database knows."""

    format: int
    cluster: str
    owner: str
    hpcstate: str
    taken: str
    taken_s: int
    slurm: str
    mariadb: str
    next_job: int
    recorded: int
    associations: int
    jobs: Mapping[str, int] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()

    def part(self, name: str) -> Part | None:
        """The part called ``name``, or None."""
        return next((part for part in self.parts if part.name == name), None)


def parse_manifest(text: bytes | str, where: str = "") -> BackupManifest:
    """Raises HpcstateError for what is no manifest of a format that this hpcstate knows."""
    try:
        raw: dict[str, Any] = json.loads(text)
        version = int(raw["format"])
        if version > FORMAT:
            raise HpcstateError(
                f"the archive has format {version}; this hpcstate knows {FORMAT}",
                where=where,
                hint="a newer hpcstate made it, and reads it",
            )
        raw["parts"] = tuple(Part(**part) for part in raw["parts"])
        return BackupManifest(**raw)
    except (KeyError, TypeError, ValueError) as error:
        raise HpcstateError(f"its {MANIFEST} cannot be read: {error}", where=where) from error


@dataclass(frozen=True)
class Lock:
    """How an archive is encrypted: with the first line of the file ``passphrase``, or to the public key in
    the file ``recipient``; in the clear where both are None."""

    passphrase: Path | None = None
    recipient: Path | None = None

    @property
    def suffix(self) -> str:
        """What is behind the name of the archive."""
        return ".gpg" if self.passphrase or self.recipient else ""


_SYMMETRIC = (
    "--symmetric",
    "--cipher-algo",
    "AES256",
    "--s2k-digest-algo",
    "SHA512",
    "--s2k-count",
    "65011712",
)
"""The count is the most that there is; without one gpg asks an agent how fast this machine is."""


def _gpg() -> str:
    if which("gpg") is None:
        raise HpcstateError("the program 'gpg' is not installed", hint="apt-get install gpg")
    return "gpg"


def _quiet(home: Path | str) -> list[str]:
    """gpg with a folder of its own, no agent and no question: nothing of this user's keyring is touched."""
    words = "--batch --quiet --no-options --no-autostart --no-symkey-cache --pinentry-mode loopback"
    return [_gpg(), "--homedir", str(home), *words.split()]


@contextmanager
def _locked(lock: Lock, target: IO[bytes]) -> Iterator[IO[bytes]]:
    """What is written to the yielded stream lies in ``target``, encrypted as ``lock`` says."""
    if not lock.suffix:
        yield target
        return
    with tempfile.TemporaryDirectory(prefix="hpcs-gpg-") as home:
        if lock.passphrase:
            how = ["--passphrase-file", str(lock.passphrase.absolute()), *_SYMMETRIC]
        else:
            recipient = str(lock.recipient.absolute() if lock.recipient else "")
            how = ["--trust-model", "always", "--recipient-file", recipient, "--encrypt"]
        words = [*_quiet(home), *how, "--compress-algo", "none"]
        with into(
            words, target, hint="what gpg said is above; a full disk, or a key that it cannot use"
        ) as at:
            yield at


@contextmanager
def _unlocked(archive: Path, passphrase: Path | None) -> Iterator[IO[bytes]]:
    """The tar file in ``archive``; gpg asks for the passphrase, or for that of a key, by its own means where
    no file has it."""
    try:
        stream = archive.open("rb")
    except OSError as error:
        raise from_os(error) from error
    with stream:
        if archive.suffix != ".gpg":
            yield stream
            return
        with tempfile.TemporaryDirectory(prefix="hpcs-gpg-") as home:
            words = [_gpg(), "--quiet"]
            if passphrase:
                words = [*_quiet(home), "--passphrase-file", str(passphrase.absolute())]
            hint = "is it the right passphrase (--passphrase-file), or the right secret key in gpg's keyring?"
            with out_of([*words, "--decrypt"], stream, hint=hint) as clear:
                yield clear


class Writer:
    """The parts of one archive, one after the other; ``parts`` are those that are in it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.parts: list[Part] = []

    def add(self, name: str, what: str, chunks: Iterable[bytes], seconds: Callable[[], float]) -> Part:
        """Put the part ``name`` into the archive. ``seconds`` says how long it took, when it is in."""
        digest, size, number, held = hashlib.sha256(), 0, 0, bytearray()
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            held += chunk
            while len(held) >= PIECE:
                self._member(f"{name}.{number:06}", bytes(held[:PIECE]))
                del held[:PIECE]
                number += 1
        if held or not number:
            self._member(f"{name}.{number:06}", bytes(held))
        part = Part(name, what, size, digest.hexdigest(), round(seconds(), 1))
        self.parts.append(part)
        return part

    def finish(self, manifest: BackupManifest) -> None:
        """Put the manifest behind the parts. Nothing may be added afterwards."""
        self._member(MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
        self._stream.write(bytes(2 * tarfile.BLOCKSIZE))

    def _member(self, name: str, content: bytes) -> None:
        # Not by TarFile, which writes on when it is given up.
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(content), 0o600, int(time.time())
        self._stream.write(info.tobuf(tarfile.PAX_FORMAT))
        self._stream.write(content)
        self._stream.write(bytes(-len(content) % tarfile.BLOCKSIZE))


@contextmanager
def new_archive(path: Path, lock: Lock) -> Iterator[Writer]:
    """A new archive, at ``path`` when the block has ended well; nothing is left of it otherwise.

    Nobody but this user can read it (mode 0600). Raises HpcstateError where it cannot be written.
    """
    made = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(".*.partial"):
            if left.name.startswith(f".{path.name.split('-20')[0]}-20"):
                left.unlink()  # of a run that was killed; there is one at a time (turn.py)
        made.touch(mode=0o600, exist_ok=False)
        with made.open("wb") as target:
            with _locked(lock, target) as stream:
                yield Writer(stream)
            target.flush()
            os.fsync(target.fileno())
        made.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise from_os(error) from error
    finally:
        made.unlink(missing_ok=True)


def read(archive: Path, passphrase: Path | None = None) -> BackupManifest:
    """Read ``archive`` whole, and return its manifest when all of it is as it was written.

    Raises HpcstateError for what is cut off, changed, no archive, or cannot be decrypted.
    """
    digests: dict[str, Any] = {}
    manifest: BackupManifest | None = None
    for name, content in _members(archive, passphrase):
        if name == MANIFEST:
            manifest = parse_manifest(content, shown(archive))
            continue
        part, _, number = name.rpartition(".")
        if not part or not number.isdecimal():
            raise HpcstateError(f"{name!r} is no part of a backup", where=shown(archive))
        digests.setdefault(part, hashlib.sha256()).update(content)
    if manifest is None:
        raise HpcstateError(
            f"it has no {MANIFEST}: this is no backup, or it was cut off",
            where=shown(archive),
            hint="take another archive",
        )
    found = {name: digest.hexdigest() for name, digest in digests.items()}
    wrong = [part.name for part in manifest.parts if found.get(part.name) != part.sha256]
    strange = sorted(found.keys() - {part.name for part in manifest.parts})
    if wrong or strange:
        raise HpcstateError(
            f"not as it was written: {', '.join((*wrong, *strange))}",
            where=shown(archive),
            hint="the archive is damaged: take another one",
        )
    return manifest


def chunks(archive: Path, name: str, passphrase: Path | None = None) -> Iterator[bytes]:
    """The part ``name`` of ``archive``, piece by piece. Raises as :func:`read` does."""
    for member, content in _members(archive, passphrase):
        if member.rpartition(".")[0] == name:
            yield content


def _members(archive: Path, passphrase: Path | None) -> Iterator[tuple[str, bytes]]:
    """The members and their contents."""
    damaged: Exception | None = None
    with _unlocked(archive, passphrase) as stream:
        try:
            with tarfile.open(mode="r|", fileobj=stream) as tar:
                for member in tar:
                    file = tar.extractfile(member)
                    if file is None:
                        raise tarfile.TarError(f"{member.name!r} in it is no file")
                    if member.size > _LARGEST:
                        raise tarfile.TarError(f"{member.name!r} in it is too large")
                    yield member.name, file.read()
        except (tarfile.TarError, EOFError) as error:
            damaged = error
        # gpg tells at its end whether all was as it was written, and why there was nothing.
        while stream.read(1 << 20):
            pass
    if damaged:
        raise HpcstateError(
            f"this is no backup, or it was cut off: {damaged}", where=shown(archive), hint="take another one"
        ) from damaged
