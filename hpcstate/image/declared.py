"""Images of nodes: what packer/<name>/image.yaml declares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import strictyaml as sy

from hpcstate import paths, yaml_files
from hpcstate.errors import HpcstateError
from hpcstate.host import tools

PACKER = paths.ROOT / "packer"

HOOKS = PACKER / "seed"
"""What mmdebstrap runs in the tree of a seed, and the files that it puts there."""

_NAME = yaml_files.whole(r"[a-z0-9][a-z0-9.+-]*")
_SCHEMA = sy.Map(
    {
        "name": _NAME,
        sy.Optional("release", default="trixie"): _NAME,
        sy.Optional("disk_gb", default=8): sy.Int(),
        "deploy": yaml_files.whole(r"deploys/[a-z_]+\.py"),
        "groups": sy.Seq(sy.Enum(["controller", "compute", "gpu", "control_plane", "worker"])),
        sy.Optional("kernel_parameters", default=""): sy.Str(),
        sy.Optional("packages"): sy.MapPattern(_NAME, sy.Seq(_NAME)),
        sy.Optional("debs"): sy.Seq(_NAME),
        sy.Optional("source"): sy.Map({"url": sy.Url(), "sha256": yaml_files.whole(r"[0-9a-f]{64}")}),
    }
)


@dataclass(frozen=True)
class CloudImage:
    """A published cloud image that serves as seed instead of our own."""

    url: str
    sha256: str


@dataclass(frozen=True)
class ImageSpec:
    """One image as declared. ``package_names`` is every package of every list, ``disk_gb`` is GiB.

    ``debs`` are package files of other releases, by their names in tools.toml.
    """

    name: str
    release: str
    disk_gb: int
    deploy: str
    groups: tuple[str, ...]
    kernel_parameters: str
    package_names: tuple[str, ...]
    source: CloudImage | None
    debs: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Where the built image is."""
        return paths.image(self.name)

    @property
    def seed_path(self) -> Path:
        """Where its seed is."""
        return paths.BUILD / "packer" / self.name / "seed" / f"{self.name}.raw"


def image_word(name: str, key: str) -> str:
    """How the image called ``name`` with the ``key`` of its inputs is told from others, on the nodes made
    from it and by Slurm (hpcstate/probe/node_runs.py)."""
    return f"{name}-{key[:12]}"


def names() -> list[str]:
    """The images of the project: the folders of packer/ that have an image.yaml."""
    return sorted(path.parent.name for path in PACKER.glob("*/image.yaml"))


def load(name: str) -> ImageSpec:
    """Read packer/<name>/image.yaml. Raises HpcstateError with file and line when it is wrong."""
    path = PACKER / name / "image.yaml"
    try:
        text = path.read_text()
    except FileNotFoundError as error:
        known = ", ".join(names())
        raise HpcstateError(
            f"no image is called {name!r}", where=str(path), hint=f"there are: {known}"
        ) from error
    data = yaml_files.load(
        text,
        _SCHEMA,
        where=str(path),
        hint="packer/hpc-base/image.yaml is an example",
        flow_style=True,
    )
    if ("packages" in data) == ("source" in data):
        raise HpcstateError(
            "an image has either `packages` (built from a Debian mirror) or `source` (a cloud image)",
            where=str(path),
        )
    debs = tuple(data.get("debs", ()))
    known_debs = tools.load().debs
    if unknown := [deb for deb in debs if deb not in known_debs]:
        raise HpcstateError(
            f"tools.toml has no deb {unknown[0]!r}",
            where=str(path),
            hint=f"there are: {', '.join(sorted(known_debs))}; pin it there, with its digest",
        )
    if debs and "source" in data:
        raise HpcstateError("`debs` go with `packages`: a cloud image is taken as it is", where=str(path))
    packages = tuple(sorted({package for names in data.get("packages", {}).values() for package in names}))
    return ImageSpec(
        name=data["name"],
        release=data["release"],
        disk_gb=data["disk_gb"],
        deploy=data["deploy"],
        groups=tuple(data["groups"]),
        kernel_parameters=data["kernel_parameters"],
        package_names=packages,
        source=CloudImage(**data["source"]) if "source" in data else None,
        debs=debs,
    )
