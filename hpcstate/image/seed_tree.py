"""A seed's tree and disk, made by a process of its own.

Usage: ``python -m hpcstate.image.seed_tree NAME DISK FOLDER``.

Of its own, so that with ``--in-memory`` the tree can lie on a tmpfs that only this process sees: unpacking
300 packages is a quarter faster there, and the kernel takes it away with the process, however that ends.
Prints the versions of the packages as JSON; exits with 2 and a message when something fails.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

from hpcstate.artifact.debian import KEYRING, sources
from hpcstate.errors import HpcstateError, from_os
from hpcstate.files import remove_tree
from hpcstate.host import tools
from hpcstate.image import declared
from hpcstate.image.declared import HOOKS, ImageSpec
from hpcstate.image.disk import write_disk
from hpcstate.run import run


def build(spec: ImageSpec, disk: Path, folder: Path, *, in_memory: bool) -> dict[str, str]:
    """Make ``disk`` from the packages of ``spec``, by way of a tree below ``folder``; the packages' versions.

    ``in_memory`` needs a mount namespace of this process's own (unshare(1)). Raises HpcstateError when the
    mirror or a tool fails, with the tool's last lines.
    """
    root = folder / "root"
    root.mkdir(mode=0o755)
    if in_memory:
        run(["mount", "-t", "tmpfs", "-o", f"mode=755,size={spec.disk_gb}g", "hpcstate-seed", root])
    words: list[str | Path] = ["mmdebstrap", "--quiet", "--variant=apt", "--mode=root", "--format=directory"]
    words += [f"--keyring={KEYRING}", '--aptopt=APT::Install-Recommends "false"']
    words += ["--dpkgopt=force-unsafe-io"]  # a tree that a crash leaves behind is removed, not repaired
    words += [f'--essential-hook={HOOKS / "essential.sh"} "$1"']
    if files := [tools.deb_file(tools.load().debs[name]) for name in spec.debs]:
        words += [f'--customize-hook={HOOKS / "debs.sh"} "$1" {shlex.join(map(str, files))}']
    words += [f'--customize-hook={HOOKS / "customize.sh"} "$1"']
    words += [f"--include={','.join(sorted(spec.package_names))}"]
    words += [spec.release, root, *sources(spec.release)]
    environment = {
        **os.environ,
        "KERNEL_PARAMETERS": spec.kernel_parameters,
        "MANUAL": "yes" if "man-db" in spec.package_names else "no",
        "LC_ALL": "C.UTF-8",
    }
    hint = "is the Debian mirror reachable? the next run starts this step again"
    try:
        run(words, env=environment, hint=hint)
        versions = _package_versions(root)
        write_disk(root, disk, spec.disk_gb)
    finally:
        if not in_memory:
            remove_tree(root)
    return versions


def _package_versions(root: Path) -> dict[str, str]:
    admin, layout = f"--admindir={root / 'var/lib/dpkg'}", "--showformat=${Package}\t${Version}\n"
    listed = run(["dpkg-query", admin, "--show", layout]).stdout
    return dict(line.split("\t", 1) for line in listed.splitlines())


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m hpcstate.image.seed_tree")
    parser.add_argument("name")
    parser.add_argument("disk", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--in-memory", action="store_true")
    args = parser.parse_args()
    try:
        versions = build(declared.load(args.name), args.disk, args.folder, in_memory=args.in_memory)
    except HpcstateError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(from_os(error), file=sys.stderr)
        return 2
    print(json.dumps(versions))
    return 0


if __name__ == "__main__":
    sys.exit(main())
