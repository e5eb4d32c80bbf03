"""What people of a Slurm cluster work with: packages that the file adds, seff, what says why a job failed,
modules, message of the day.

    pyinfra inventories/gpu.py deploys/work.py

Late, when Slurm is there: where a mirror is away, a package that is missing stops that node, and its jobs run
all the same. Never in an image: what the file adds is a cluster's.
"""

from __future__ import annotations

from pyinfra.context import config

from deploys.util.context import is_build, target
from hpcstate.diagnose import deployed
from hpcstate.node import directory, mail, work_files
from operations import packages, text_files
from operations.text_files import TextFile

config.SUDO = True

if not is_build() and target().cluster.kind == "hpc":
    this = target()
    text_files.put(
        name="seff, modules, message of the day",
        files=[
            TextFile(path, content, work_files.MODES.get(path, "644"))
            for path, content in work_files.files(this.cluster, this.node).items()
        ]
        + [
            TextFile(path, content, deployed.MODES.get(path, "644"))
            for path, content in deployed.files().items()
        ],
    )
    sends = this.cluster.mail is not None and this.node is this.cluster.controller
    of_mail = [mail.PACKAGE] if sends else []
    of_directory = directory.PACKAGES if this.cluster.directory else ()
    packages.added(
        name="Packages of the file",
        wanted=tuple(sorted({*this.cluster.packages_of(this.node), *of_mail, *of_directory})),
    )
