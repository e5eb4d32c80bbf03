"""Keeps CUDA's libraries once: what a wheel of nvidia-* has as well becomes a link to it in the toolkit.

    link_cuda_once.py PACKAGES LIBRARIES

PACKAGES is the folder of Python's packages, LIBRARIES that of the toolkit's libraries. Linked is only what
both have in the same version: the toolkit's ``libcublas.so.12.1.3.1`` is the ``libcublas.so.12`` of
nvidia-cublas-cu12 12.1.3.1. The wheels keep theirs, which torch was tested with. Prints each link, and what
it saved.
"""

import sys
from importlib.metadata import distributions
from pathlib import Path


def link(packages: Path, libraries: Path) -> int:
    """Make the links. Returns the bytes saved."""
    saved = 0
    for distribution in distributions(path=[str(packages)]):
        if not distribution.metadata["Name"].startswith("nvidia-"):
            continue
        for file in distribution.files or ():
            name, _, major = file.name.partition(".so.")
            own = libraries / f"{name}.so.{distribution.version}"
            if not major or own.is_symlink() or not own.is_file():
                continue
            size = own.stat().st_size
            own.unlink()
            own.symlink_to(Path(file.locate()).resolve())
            print(f"{own} -> {own.readlink()}: {size / 1e6:.0f} MB", flush=True)
            saved += size
    return saved


if __name__ == "__main__":
    print(f"saved {link(Path(sys.argv[1]), Path(sys.argv[2])) / 1e6:.0f} MB", flush=True)
