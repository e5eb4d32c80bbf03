"""The seed of an image: a Debian tree with its packages, on a disk that boots and waits for cloud-init."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from hpcstate.artifact.imports import code_of, digests
from hpcstate.artifact.recipe import Recipe
from hpcstate.digest import file_digests
from hpcstate.errors import HpcstateError
from hpcstate.host import tools
from hpcstate.image.declared import HOOKS, ImageSpec
from hpcstate.paths import ROOT
from hpcstate.run import run


def recipe(spec: ImageSpec) -> Recipe:
    """How the seed of ``spec`` is made. No store keeps it: the image that it becomes is smaller."""
    return Recipe(spec.seed_path, lambda: inputs(spec), lambda target: make(spec, target), keep=False)


def inputs(spec: ImageSpec) -> dict[str, Any]:
    """What the seed of ``spec`` is made of, for its key."""
    code = code_of("hpcstate.image.seed")
    if spec.source is not None:
        return {"code": code, "url": spec.source.url, "sha256": spec.source.sha256}
    return {
        "code": code,
        "release": spec.release,
        "packages": sorted(spec.package_names),
        "debs": {name: tools.load().debs[name].sha256 for name in sorted(spec.debs)},
        "disk_gb": spec.disk_gb,
        "kernel_parameters": spec.kernel_parameters,
        "hooks": digests([HOOKS / name for name in _HOOK_PROGRAMS], ROOT) | file_digests(_hook_files(), ROOT),
    }


_HOOK_PROGRAMS = ("essential.sh", "debs.sh", "customize.sh")


def _hook_files() -> list[Path]:
    """What the hooks put into the tree, as it is."""
    folders = (HOOKS / "files", HOOKS / "initramfs")
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def make(spec: ImageSpec, target: Path) -> dict[str, str]:
    """Build the seed of ``spec`` at ``target``, in a folder of its own, and return its packages' versions.

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
    words: list[str | Path] = [sys.executable, "-m", "hpcstate.image.seed_tree"]
    words += [spec.name, target, target.parent]
    if _fits_in_memory(spec):
        words = ["unshare", "--mount", "--propagation", "private", *words, "--in-memory"]
    done = run(words, cwd=ROOT, check=False)
    if done.code:
        raise HpcstateError(done.stderr.strip() or f"the builder exited with {done.code}", where=spec.name)
    return dict(json.loads(done.stdout))


def _fits_in_memory(spec: ImageSpec) -> bool:
    """Whether a tree that fills the whole disk of the image would leave the host 2 GiB of memory."""
    if run(["unshare", "--mount", "true"], check=False).code:
        return False
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    available_kib = next((int(words[1]) for words in lines if words[0] == "MemAvailable:"), 0)
    return available_kib >> 20 >= spec.disk_gb + 2


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
