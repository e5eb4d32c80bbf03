"""Packer: boots a seed under QEMU, applies the deploys in build mode, seals, compresses."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from pathlib import Path

from hpcstate.artifact.recipe import Recipe
from hpcstate.artifact.store import Store
from hpcstate.digest import key_of
from hpcstate.errors import HpcstateError
from hpcstate.host import tools
from hpcstate.host.packages import kvm_works
from hpcstate.image import seed
from hpcstate.image.declared import PACKER, ImageSpec, image_word
from hpcstate.image.inputs import inputs
from hpcstate.node.cidata import CloudInit, write_cidata
from hpcstate.node.secrets import known_hosts_line, new_key
from hpcstate.paths import ROOT
from hpcstate.run import run, tail

BUILD_USER = "packer"
MAX_IMAGE_BYTES = 2_000_000_000
QEMU = PACKER / "qemu.sh"
"""Starts QEMU, and once more when its machine comes to nothing as it boots."""

TCG_CPU = "max,svm=off,vmx=off,aes=off,pclmulqdq=off,la57=off"
"""All that TCG can emulate, but what makes the guest load and test modules, or walk five levels of pages."""


def recipe(spec: ImageSpec, store: Store) -> Recipe:
    """How the image of ``spec`` is made; ``store`` is where its seed is looked for."""
    return Recipe(spec.path, lambda: inputs(spec), lambda target: make(spec, target, store))


def make(spec: ImageSpec, target: Path, store: Store) -> dict[str, str]:
    """Build the image of ``spec`` (qcow2, zstd) at ``target``, in a folder of its own, from its seed, and
    return package versions.

    Raises HpcstateError with Packer's last lines, and when the image is larger than 2 GB.
    """
    base = seed.recipe(spec).provide(store)
    disk = _run_packer(spec, target.parent)
    run(["qemu-img", "convert", "-c", "-m", "4", "-O", "qcow2", "-o", "compression_type=zstd", disk, target])
    run(["qemu-img", "check", "-q", target], hint="the disk under build/ may be failing or full")
    size = target.stat().st_size
    if size > MAX_IMAGE_BYTES:
        raise HpcstateError(
            f"the image is {size / 1e9:.1f} GB large, the limit is {MAX_IMAGE_BYTES / 1e9:.0f} GB",
            where=spec.name,
            hint=f"remove packages from packer/{spec.name}/image.yaml",
        )
    return base.versions


def _run_packer(spec: ImageSpec, work: Path) -> Path:
    """Run Packer in ``work`` and return the disk it leaves, an overlay of the seed."""
    packer = tools.program("packer")
    user_key, host_key = new_key(work / "ssh_key"), new_key(work / "host_key")
    port = _free_port()
    known_hosts = work / "known_hosts"
    known_hosts.write_text(known_hosts_line(f"[127.0.0.1]:{port}", host_key.public))
    cidata = work / "cidata.iso"
    write_cidata(
        CloudInit(hostname="image-build", user=BUILD_USER, authorized_key=user_key.public, host_key=host_key),
        cidata,
    )
    # Packer copies the disk it is given: an overlay of the seed is copied in no time.
    overlay = work / "seed.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", spec.seed_path, "-F", "raw", overlay])
    output = work / "output"
    kvm = kvm_works()
    variables = {
        "name": spec.name,
        "seed": str(overlay),
        "output": str(output),
        "accelerator": "kvm" if kvm else "tcg",
        "cpu": "host" if kvm else TCG_CPU,
        "ssh_port": str(port),
        "ssh_key": str(user_key.path),
        "cidata": str(cidata),
        "deploy": shlex.join(_deploy_command(spec)),
        "seal": str(PACKER / "seed" / "seal.sh"),
        "word": image_word(spec.name, key_of(inputs(spec))),
        "qemu": str(QEMU),
    }
    words: list[str | Path] = [packer, "build", "-color=false"]
    for name, value in variables.items():
        words += ["-var", f"{name}={value}"]
    environment = {
        **os.environ,
        "HPCSTATE_IMAGE_PORT": str(port),
        "HPCSTATE_IMAGE_GROUPS": ",".join(spec.groups),
        "HPCSTATE_IMAGE_SECRETS": str(work),
        "PACKER_CACHE_DIR": str(work / "cache"),
        "PACKER_CONFIG_DIR": str(work),
        "CHECKPOINT_DISABLE": "1",
    }
    done = run([*words, PACKER / "image.pkr.hcl"], cwd=ROOT, env=environment, check=False)
    if done.code:
        console = output.with_name(output.name + ".console")
        serial = tail(console.read_text(errors="replace"), 10) if console.exists() else "    (none)"
        raise HpcstateError(
            f"Packer exited with {done.code}:\n{tail(done.stdout, 30)}\n  serial console:\n{serial}",
            where=f"packer/{spec.name}",
            hint="nothing half built stays; the next run starts this image again from its seed",
        )
    return output / f"{spec.name}.qcow2"


def _deploy_command(spec: ImageSpec) -> list[str]:
    pyinfra = Path(sys.executable).with_name("pyinfra")
    return [str(pyinfra), "-y", "inventories/image_build.py", spec.deploy]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
