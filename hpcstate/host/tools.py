"""Programs from other releases of Debian, and the file that names every program: ``tools.toml``.

Standard library only: this module runs before the project's Python environment exists.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcstate.errors import HpcstateError
from hpcstate.files import alone
from hpcstate.paths import ROOT, TOOLS
from hpcstate.run import run

TOOLS_FILE = ROOT / "tools.toml"

SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Where Debian has programs. An ordinary user's PATH lacks the sbin folders."""


@dataclass(frozen=True)
class Package:
    """A Debian package of the host, the reason for it, and its stage of the installation."""

    name: str
    why: str
    stage: str
    releases: frozenset[str]


@dataclass(frozen=True)
class Backport:
    """Packages that must have at least version ``at_least``, taken from ``suite`` on hosts of ``release``.

    ``tested`` is the version the project was tested with; a newer one of the suite is taken and named.
    """

    why: str
    release: str
    suite: str
    packages: tuple[str, ...]
    at_least: str
    tested: str
    only_without_kvm: bool


@dataclass(frozen=True)
class Deb:
    """One pinned package file of another release, unpacked below ``build/tools`` and never installed.

    ``pool`` is its path on any Debian mirror; ``program`` the path of its program once unpacked;
    ``releases`` those hosts whose setup includes it.
    """

    name: str
    why: str
    suite: str
    version: str
    pool: str
    sha256: str
    program: str
    releases: frozenset[str]

    def root(self, tools: Path) -> Path:
        """Where this version is unpacked below the folder ``tools``."""
        return tools / f"{self.name}-{self.version}"


@dataclass(frozen=True)
class Tools:
    """The content of ``tools.toml``. ``packages`` is in the order of installation."""

    releases: tuple[str, ...]
    packages: tuple[Package, ...]
    backports: tuple[Backport, ...]
    debs: Mapping[str, Deb]
    hypervisor: tuple[str, ...]


def load(path: Path = TOOLS_FILE) -> Tools:
    """Read ``tools.toml``.

    Raises HpcstateError when it is not TOML or lacks a key.
    """
    try:
        return parse(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise HpcstateError(f"cannot be read: {error}", where=str(path)) from error
    except (AttributeError, KeyError, TypeError) as error:
        raise HpcstateError(f"not as expected: {error}", where=str(path)) from error


def parse(data: Mapping[str, Any]) -> Tools:
    """Types from the parsed file. Raises what Python does where the file has another shape."""
    releases = tuple(data["releases"])
    packages = []
    for stage, entries in data["packages"].items():
        for name, entry in entries.items():
            table = {"why": entry} if isinstance(entry, str) else entry
            of = frozenset(table.get("releases", releases))
            packages.append(Package(name=name, why=table["why"], stage=stage, releases=of))
    backports = tuple(
        Backport(**{**entry, "packages": tuple(entry["packages"])}) for entry in data["backports"].values()
    )
    debs = {
        name: Deb(**{**entry, "name": name, "releases": frozenset(entry["releases"])})
        for name, entry in data["debs"].items()
    }
    return Tools(
        releases=releases,
        packages=tuple(packages),
        backports=backports,
        debs=debs,
        hypervisor=tuple(data["hypervisor"]["packages"]),
    )


def program(name: str, *, tools: Path = TOOLS, environ: Mapping[str, str] = os.environ) -> Path:
    """The path of the program ``name``: from ``HPCSTATE_<NAME>``, else PATH, else fetched below ``tools``.

    Raises HpcstateError when it is in none of these places.
    """
    variable = f"HPCSTATE_{name.upper().replace('-', '_')}"
    if chosen := environ.get(variable):
        if not os.access(chosen, os.X_OK):
            raise HpcstateError(f"{chosen} is not a program", where=variable)
        return Path(chosen)
    search = os.pathsep.join((environ.get("PATH", ""), *SYSTEM_PATH))
    if found := shutil.which(name, path=search):
        return Path(found)
    deb = load().debs.get(name)
    if deb and (unpacked := deb.root(tools) / deb.program).is_file():
        return unpacked
    raise HpcstateError(
        f"the program {name!r} is not installed", hint=f"./hpc installs it; or set {variable} to its path"
    )


def mirror(indextargets: str, codename: str) -> str:
    """The base address of the Debian mirror that apt uses, from the output of ``debian_indexes``.

    The host's own release is looked for first; its origin must be Debian, for other vendors use the
    same release names. Raises HpcstateError when apt knows no Debian index.
    """
    rows = _debian_rows(indextargets)
    for row in sorted(rows, key=lambda row: row[1] != codename):
        if not row[1].endswith("-security"):
            return row[3].rstrip("/")
    raise HpcstateError(
        "apt knows no Debian mirror on this machine",
        hint="run `apt-get update`; apt's sources must name a Debian mirror (component main)",
    )


def security_mirror(indextargets: str) -> str | None:
    """The base address of Debian's security archive, from the output of ``debian_indexes``; None without."""
    for row in _debian_rows(indextargets):
        if row[1].endswith("-security"):
            return row[3].rstrip("/")
    return None


def _debian_rows(indextargets: str) -> list[list[str]]:
    rows = [line.split("|") for line in indextargets.splitlines()]
    return [row for row in rows if len(row) == 4 and row[0] == "Debian" and row[2] == "main"]


def debian_indexes() -> str:
    """What apt has indexes of, a line each: origin, codename, component, base address (apt-get(8))."""
    layout = "$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)"
    return run(["apt-get", "indextargets", "--format", layout, "Created-By: Packages"]).stdout


def host_mirror() -> str:
    """The base address of the Debian mirror that this machine's apt uses."""
    return mirror(debian_indexes(), os_release()["VERSION_CODENAME"])


def host_security_mirror() -> str | None:
    """The base address of the security archive that this machine's apt uses; None when it uses none."""
    return security_mirror(debian_indexes())


def os_release(path: Path = Path("/etc/os-release")) -> dict[str, str]:
    """The assignments of os-release(5)."""
    pairs = (line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines() if "=" in line)
    return {"ID": "", "VERSION_CODENAME": ""} | {key: value.strip("\"'") for key, value in pairs}


def fetch_deb(name: str, *, tools: Path = TOOLS, base: str | None = None) -> Path:
    """Fetch, verify and unpack the package ``name`` of ``tools.toml``; return the folder it lies in.

    Does nothing when this version is there. ``base`` is the address of a Debian mirror; None takes that
    of the host's apt. apt's own helper fetches, so that proxies and apt's other settings apply.

    Raises HpcstateError when the file cannot be fetched or is not the pinned one; then nothing is left.
    """
    deb = load().debs[name]
    return unpack_deb(deb, tools=tools, base=base)


def unpack_deb(deb: Deb, *, tools: Path, base: str | None = None) -> Path:
    """``fetch_deb`` for a package description; apart, so that any description can be fetched."""
    root = deb.root(tools)
    if (root / deb.program).is_file():
        return root
    with alone(tools):
        # Somebody else may have unpacked it while this run waited.
        if not (root / deb.program).is_file():
            _unpack(deb, root, base)
    return root


def _unpack(deb: Deb, root: Path, base: str | None) -> None:
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{deb.name}-") as scratch:
        file = _download(deb, Path(scratch), base)
        unpacked = Path(scratch, "root")
        run(["dpkg-deb", "-x", file, unpacked])
        if not (unpacked / deb.program).is_file():
            raise HpcstateError(f"{deb.pool} does not contain {deb.program}", where=_where(deb))
        shutil.rmtree(root, ignore_errors=True)
        unpacked.rename(root)


def deb_path(deb: Deb, *, tools: Path = TOOLS) -> Path:
    """Where ``deb_file`` puts the package file of ``deb``."""
    return tools / Path(deb.pool).name


def deb_file(deb: Deb, *, tools: Path = TOOLS, base: str | None = None) -> Path:
    """The package file of ``deb`` itself, fetched below ``tools`` and verified, for machines that install it.

    A file that is there is verified each time: it is installed as root. ``base`` and errors are those of
    ``fetch_deb``.
    """
    file = deb_path(deb, tools=tools)
    if file.is_file() and _sha256(file) == deb.sha256:
        return file
    tools.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tools, prefix=f".{deb.name}-") as scratch:
        # apt links a file of a mirror on this machine (file:) instead of copying it.
        aside = Path(shutil.copyfile(_download(deb, Path(scratch), base), Path(scratch, "copy.deb")))
        aside.replace(file)
    return file


def _download(deb: Deb, folder: Path, base: str | None) -> Path:
    """The package file in ``folder``, fetched and verified."""
    file = folder / "package.deb"
    address = f"{host_mirror() if base is None else base}/{deb.pool}"
    fetched = run(["/usr/lib/apt/apt-helper", "download-file", address, file], check=False)
    if fetched.code != 0:
        raise HpcstateError(
            f"{address} could not be fetched:\n{fetched.stderr.strip()}",
            where=_where(deb),
            hint=f"is the network there? When {deb.suite} has a newer version, "
            f"set HPCSTATE_{deb.name.upper()} to a program, or renew version, pool and sha256",
        )
    digest = _sha256(file)
    if digest != deb.sha256:
        raise HpcstateError(
            f"{address} has sha256 {digest}, pinned is {deb.sha256}",
            where=_where(deb),
            hint="the mirror serves another file than the one tested: do not use it",
        )
    return file


def _where(deb: Deb) -> str:
    return f"tools.toml: debs.{deb.name}"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
