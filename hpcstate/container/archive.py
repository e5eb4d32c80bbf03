"""Archives of images: a docker-archive (what ``docker save`` writes) or an oci-archive, and what is in one.

The formats: https://github.com/moby/docker-image-spec (manifest.json), https://github.com/opencontainers/image-spec
(index.json, blobs/).
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shlex
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hpcstate import paths
from hpcstate.container import architecture
from hpcstate.digest import file_digest
from hpcstate.errors import HpcstateError, from_os
from hpcstate.run import out_of, which

Kind = Literal["docker-archive", "oci-archive"]

_COMPRESSED: Mapping[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
"""How the files of a compression begin, and what opens them."""

_ZSTD = b"\x28\xb5\x2f\xfd"
"""RFC 8878; Python has nothing that opens it before 3.14."""

INDEX = "index.json"
_MANIFEST = "manifest.json"
_LARGEST = 16 << 20
"""No description of an image is larger (bytes)."""


@dataclass(frozen=True)
class ImageConfig:
    """What an image says of how it runs (image-spec, config.md): the start of its command line, the words
    that follow where the user gives none, and the folder it runs in.
    """

    entry_point: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    folder: str = ""
    environment: tuple[str, ...] = ()
    """``NAME=VALUE`` each."""

    def runscript(self) -> str:
        """The commands by which ``apptainer run`` does the same; empty where the image says nothing.

        Apptainer's own of an image ignore the folder, and let a shell read the arguments once more.
        """
        if not (self.entry_point or self.command):
            return ""
        lines = [f"cd {shlex.quote(self.folder)} || exit"] if self.folder not in ("", "/") else []
        if self.command:
            lines.append(f"[ $# -gt 0 ] || set -- {shlex.join(self.command)}")
        return "\n".join([*lines, " ".join(["exec", *map(shlex.quote, self.entry_point), '"$@"'])])


def kind(file: Path) -> Kind:
    """Which of the two ``file`` is; a docker-archive where it is both (Docker 25 and later).

    Raises HpcstateError when it is neither.
    """
    names = set(_members(file, (_MANIFEST, "oci-layout")))
    if _MANIFEST in names:
        return "docker-archive"
    if "oci-layout" in names:
        return "oci-archive"
    raise HpcstateError(
        "this is no archive of an image: it has neither manifest.json (docker save) nor oci-layout",
        where=paths.shown(file),
        hint="a plain file system? `FROM scratch` and `ADD` of it in a Dockerfile make an image of it",
    )


def uncompressed(file: Path, work: Path) -> Path:
    """``file``, or where it is compressed, its content in the folder ``work``: Apptainer 1.4 reads no such
    docker-archive ("gzip: invalid header").

    Raises HpcstateError when it is cut off or the disk is full.
    """
    try:
        with file.open("rb") as stream:
            start = stream.read(6)
        opened = next((opener for magic, opener in _COMPRESSED.items() if start.startswith(magic)), None)
        plain = work / "image.tar"
        if start.startswith(_ZSTD):
            with file.open("rb") as begun, plain.open("wb") as target, _unzstd(begun) as source:
                shutil.copyfileobj(source, target, 1 << 20)
            return plain
        if opened is None:
            return file
        with opened(file, "rb") as source, plain.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except (EOFError, lzma.LZMAError, zlib.error) as error:
        raise HpcstateError(
            f"this archive is cut off or damaged: {error}", where=paths.shown(file)
        ) from error
    except OSError as error:
        raise from_os(error) from error
    return plain


def packed(file: Path, work: Path) -> Path:
    """``file``, or where it is a folder in the layout of OCI (what ``skopeo copy … oci:DIR`` writes), a tar
    of it in ``work``: an oci-archive.

    Raises HpcstateError when it is another folder or the disk is full.
    """
    if not file.is_dir():
        return file
    if not (file / INDEX).is_file():
        raise HpcstateError(
            "this folder is no image: it has no index.json",
            where=paths.shown(file),
            hint="`skopeo copy SOURCE oci:DIR` writes one",
        )
    made = work / "packed.tar"
    try:
        with tarfile.open(made, "w") as tar:
            # With its folders: Apptainer 1.4.5 unpacks no file whose folder the tar does not name.
            for path in sorted(file.rglob("*")):
                if path.is_file() or path.is_dir():
                    tar.add(path, path.relative_to(file).as_posix(), recursive=False)
    except OSError as error:
        raise from_os(error) from error
    return made


def digest(file: Path) -> str:
    """The sha256 of the archive ``file``; of a folder that of its index, which names all else by digest."""
    return file_digest(file / INDEX if file.is_dir() else file)


def _unzstd(stream: Any) -> Any:
    if which("zstd") is None:
        raise HpcstateError(
            "zstd(1) is needed for this archive", hint="apt-get install zstd; or compress it by gzip"
        )
    return out_of(["zstd", "--decompress", "--stdout"], stream, hint="the archive is cut off or damaged")


def readable(file: Path, image: str, work: Path) -> Path:
    """What Apptainer 1.4.5 can read of ``file``, made in the folder ``work`` where it cannot read that: a
    folder packed, a compressed one not compressed, with no other image than ``image``, and with its folders.

    Raises HpcstateError as :func:`packed`, :func:`uncompressed` and :func:`of_one_image` do.
    """
    return _with_folders(of_one_image(uncompressed(packed(file, work), work), image, work), work)


def of_one_image(file: Path, image: str, work: Path) -> Path:
    """``file``, or a copy of it in ``work`` that has no other image than ``image`` (empty: there must be one
    only). Apptainer 1.4.5 takes no name with an archive: it looks for a file called FILE:NAME.

    Raises HpcstateError as :func:`demand_one` does, and when the disk is full.
    """
    described, content, chosen, count = _chosen(file, image)
    if count == 1:
        return file
    alone = [chosen] if described == _MANIFEST else {**content, "manifests": [chosen]}
    return _with(file, described, json.dumps(alone).encode(), work / "one-image.tar")


def demand_one(file: Path, image: str = "") -> None:
    """Raises HpcstateError when ``file``, an archive or a folder in the layout of OCI, has no image called
    ``image``, by its name or its digest; with the names of those there are when several could be meant.
    """
    _chosen(file, image)


def digest_of(folder: Path, image: str) -> str:
    """The digest of ``image`` in the ``folder`` in the layout of OCI. Raises as :func:`demand_one` does."""
    return str(_chosen(folder, image)[2]["digest"])


def has_layout(file: Path) -> bool:
    """Whether ``file`` is in the layout of OCI, whatever else it is."""
    return {"oci-layout", INDEX} <= set(_members(file, ("oci-layout", INDEX)))


def _chosen(file: Path, image: str) -> tuple[str, Any, Any, int]:
    """The name and the content of what describes the images of ``file``, the entry of ``image`` in it, and
    how many there are.
    """
    of = kind(file)
    described = _MANIFEST if of == "docker-archive" else INDEX
    with _described(file):
        content = _json(file, described)
        entries = content if of == "docker-archive" else content["manifests"]
        named = [(_names(entry), entry) for entry in entries]
    chosen = [
        entry for names, entry in named if not image or image in names or image == entry.get("digest", "")
    ]
    if image and not chosen:
        raise _absent(file, image)
    if len(chosen) != 1:
        said = "; ".join(", ".join(names) or "(no name)" for names, _ in named)
        raise HpcstateError(
            f"there are {len(chosen)} images in it: {said or 'none'}",
            where=paths.shown(file),
            hint=f"say which: {of}:FILE:NAME; or `docker save NAME` into a file of its own",
        )
    return described, content, chosen[0], len(named)


def _names(entry: Mapping[str, Any]) -> list[str]:
    """What an image is called in its archive: by Docker's manifest.json, or by an OCI index.json."""
    if "Config" in entry:
        return list(entry.get("RepoTags") or ())
    return [str(entry.get("annotations", {}).get(_REFERENCE, entry["digest"]))]


def _with(file: Path, name: str, content: bytes, target: Path) -> Path:
    """A copy of the tar ``file`` at ``target``, whose member ``name`` has ``content``. One of Docker 25 has
    the layout of OCI besides, which Apptainer would read first: without that.
    """
    try:
        with tarfile.open(file) as source, tarfile.open(target, "w") as copy:
            for member in source:
                plain = member.name.removeprefix("./")
                if plain == name:
                    member.size = len(content)
                    copy.addfile(member, io.BytesIO(content))
                elif name != _MANIFEST or plain != "oci-layout":
                    copy.addfile(member, source.extractfile(member) if member.isreg() else None)
    except OSError as error:
        raise from_os(error) from error
    return target


_BLOBS = ("blobs", "blobs/sha256")


def _with_folders(file: Path, work: Path) -> Path:
    """``file``, or a copy of it in ``work`` with the folders that it does not name."""
    try:
        with tarfile.open(file) as source:
            names = {member.name.removeprefix("./").rstrip("/") for member in source}
            if "oci-layout" not in names or set(_BLOBS) <= names:
                return file
            target = work / "with-folders.tar"
            with tarfile.open(target, "w") as copy:
                for name in _BLOBS:
                    folder = tarfile.TarInfo(name)
                    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                    copy.addfile(folder)
                for member in source:
                    copy.addfile(member, source.extractfile(member) if member.isreg() else None)
    except OSError as error:
        raise from_os(error) from error
    return target


_REFERENCE = "org.opencontainers.image.ref.name"


def config(file: Path, image: str = "") -> ImageConfig:
    """How ``image`` of ``file`` runs, empty: its first one. Raises HpcstateError when the archive is damaged
    or has none, and for an image of another architecture than this machine's.
    """
    entry = _chosen(file, image)[2] if image else None
    with _described(file):
        description = _docker(file, entry) if kind(file) == "docker-archive" else _oci(file, entry)
        own = description.get("config") or {}
        architecture.demand(str(description.get("architecture") or ""), paths.shown(file))
        return image_config(own)


def image_config(said: Mapping[str, Any]) -> ImageConfig:
    """The part ``config`` of an image's description (image-spec, config.md)."""
    return ImageConfig(
        tuple(said.get("Entrypoint") or ()),
        tuple(said.get("Cmd") or ()),
        said.get("WorkingDir") or "",
        tuple(said.get("Env") or ()),
    )


@contextmanager
def _described(file: Path) -> Iterator[None]:
    """Raises HpcstateError when the block finds another structure in ``file`` than that of an image."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise HpcstateError(
            f"the archive does not describe its image as it should ({error})", where=paths.shown(file)
        ) from error


def _docker(file: Path, entry: Any) -> dict[str, Any]:
    return dict(_json(file, (entry or _json(file, _MANIFEST)[0])["Config"]))


def _oci(file: Path, entry: Any) -> dict[str, Any]:
    found = _json(file, _blob(entry or _json(file, INDEX)["manifests"][0]))
    if "manifests" in found:
        found = _json(file, _blob(_of_this_machine(file, found["manifests"])))
    return dict(_json(file, _blob(found["config"])))


def _of_this_machine(file: Path, entries: list[dict[str, Any]]) -> dict[str, Any]:
    own = architecture.own()
    machines = [architecture.normal(entry.get("platform", {}).get("architecture", own)) for entry in entries]
    if own not in machines:
        architecture.demand(", ".join(machines) or "no machine", paths.shown(file))
    return entries[machines.index(own)]


def _absent(file: Path, image: str) -> HpcstateError:
    return HpcstateError(f"it has no image called {image!r}", where=paths.shown(file))


def _blob(entry: Mapping[str, Any]) -> str:
    return "blobs/" + str(entry["digest"]).replace(":", "/")


def _json(file: Path, name: str) -> Any:
    text = _members(file, (name,)).get(name)
    if text is None:
        raise HpcstateError(
            f"the archive has no {name}", where=paths.shown(file), hint="it is cut off: make it again"
        )
    try:
        return json.loads(text)
    except ValueError as error:
        raise HpcstateError(f"{name} in it is no JSON: {error}", where=paths.shown(file)) from error


@contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    with file.open("rb") as stream:
        zstd = stream.read(4) == _ZSTD
    if not zstd:
        with tarfile.open(file, "r:*") as archive:
            yield archive
        return
    with file.open("rb") as stream, _unzstd(stream) as source:
        with tarfile.open(fileobj=source, mode="r|") as archive:
            yield archive
        while source.read(1 << 20):
            pass


def _members(file: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The content of those of ``names`` that the archive has; it is read until all are found.

    Raises HpcstateError when the file cannot be read or is no tar.
    """
    found: dict[str, bytes] = {}
    if file.is_dir():
        return {name: (file / name).read_bytes() for name in names if (file / name).is_file()}
    try:
        with _opened(file) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                stream = archive.extractfile(member) if name in names and member.size <= _LARGEST else None
                if stream is not None:
                    found[name] = stream.read()
                    if len(found) == len(names):
                        break
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise HpcstateError(
            f"this is no tar archive, or it is cut off: {error}",
            where=paths.shown(file),
            hint="`docker save NAME -o FILE` writes one",
        ) from error
    except OSError as error:
        raise from_os(error) from error
    return found
