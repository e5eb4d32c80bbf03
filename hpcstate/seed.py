"""The seed of an image: a Debian tree with its packages, on a disk that boots and waits for cloud-init."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from hpcstate import tools
from hpcstate.digest import file_digests
from hpcstate.disk import write_disk
from hpcstate.errors import HpcstateError
from hpcstate.image import ImageSpec
from hpcstate.paths import ROOT
from hpcstate.run import run

VERSION = 1
"""Raise it when the code that builds seeds changes what comes out."""

HOOKS = ROOT / "packer" / "seed"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def inputs(spec: ImageSpec) -> dict[str, Any]:
    """What the seed of ``spec`` is made of, for its key."""
    if spec.source is not None:
        return {"builder": VERSION, "url": spec.source.url, "sha256": spec.source.sha256}
    return {
        "builder": VERSION,
        "release": spec.release,
        "packages": sorted(spec.package_names),
        "disk_gb": spec.disk_gb,
        "kernel_parameters": spec.kernel_parameters,
        "hooks": file_digests(_hook_files(), ROOT),
    }


def _hook_files() -> list[Path]:
    folders = (HOOKS / "files", HOOKS / "initramfs")
    return [
        HOOKS / "essential.sh",
        HOOKS / "customize.sh",
        *(path for folder in folders for path in folder.rglob("*") if path.is_file()),
    ]


def make(spec: ImageSpec, target: Path, work: Path) -> dict[str, str]:
    """Build the seed of ``spec`` at ``target`` and return its packages' versions.

    Raises HpcstateError without root's rights (the files of the tree belong to many users) and when the
    mirror or a tool fails, with the tool's last lines.
    """
    if spec.source is not None:
        return _download(spec, target)
    if os.geteuid() != 0:
        raise HpcstateError(
            "building an image from Debian packages needs root: its files belong to many users",
            hint="run ./hpc as root, or give the image a `source` (a Debian cloud image by URL and sha256)",
        )
    root = work / "root"
    words: list[str | Path] = ["mmdebstrap", "--quiet", "--variant=apt", "--mode=root", "--format=directory"]
    words += [f"--keyring={_KEYRING}", '--aptopt=APT::Install-Recommends "false"']
    words += ["--dpkgopt=force-unsafe-io"]  # a tree that a crash leaves behind is removed, not repaired
    words += [f'--essential-hook={HOOKS / "essential.sh"} "$1"']
    words += [f'--customize-hook={HOOKS / "customize.sh"} "$1"']
    words += [f"--include={','.join(sorted(spec.package_names))}"]
    words += [spec.release, root, *_sources(spec.release)]
    environment = {**os.environ, "KERNEL_PARAMETERS": spec.kernel_parameters, "LC_ALL": "C.UTF-8"}
    try:
        run(
            words, env=environment, hint="is the Debian mirror reachable? the next run starts this step again"
        )
        versions = _package_versions(root)
        write_disk(root, target, spec.disk_gb)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return versions


def _sources(release: str) -> list[str]:
    mirror = tools.host_mirror()
    lines = [f"deb {mirror} {release} main", f"deb {mirror} {release}-updates main"]
    if security := tools.host_security_mirror():
        lines.append(f"deb {security} {release}-security main")
    return lines


def _package_versions(root: Path) -> dict[str, str]:
    listed = run(
        [
            "dpkg-query",
            f"--admindir={root / 'var/lib/dpkg'}",
            "--show",
            "--showformat=${Package}\t${Version}\n",
        ]
    ).stdout
    return dict(line.split("\t", 1) for line in listed.splitlines())


def _download(spec: ImageSpec, target: Path) -> dict[str, str]:
    import requests

    from hpcstate.digest import file_digest

    assert spec.source is not None
    aside = target.with_suffix(".download")
    try:
        with requests.get(spec.source.url, stream=True, timeout=30) as response:
            response.raise_for_status()
            with aside.open("wb") as stream:
                for chunk in response.iter_content(1 << 20):
                    stream.write(chunk)
    except requests.RequestException as error:
        raise HpcstateError(
            f"the cloud image could not be fetched: {error}",
            where=spec.source.url,
            hint="try again, or check the URL",
        ) from error
    digest = file_digest(aside)
    if digest != spec.source.sha256:
        raise HpcstateError(
            f"the cloud image's sha256 is {digest}, declared is {spec.source.sha256}",
            where=f"packer/{spec.name}/image.yaml .source.sha256",
            hint="a newer image behind that URL? compare with the publisher's list first",
        )
    run(["qemu-img", "convert", "-O", "raw", aside, target])
    run(["qemu-img", "resize", "-q", "-f", "raw", target, f"{spec.disk_gb}G"], check=False)
    aside.unlink()
    return {"source": spec.source.url}
