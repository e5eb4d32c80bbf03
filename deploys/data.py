"""The data volume of a Slurm cluster's controller: slurmctld's state, the registry, the database and shared
homes lie on it, and the homes are served to the nodes.

    pyinfra inventories/gpu.py deploys/data.py

Before slurmctld is changed, and after the nodes were vacated, which asks slurmctld: it stops while its state
moves.
"""

from __future__ import annotations

from pyinfra.context import config, host

from deploys.util.context import is_build, target
from hpcstate.node import scratch
from hpcstate.node.data_volume import binds, units
from hpcstate.node.homes import EXPORTS, SERVER, SERVER_DROP_IN, client_files, served, server_files, source
from operations import data_volume, homes, quotas, text_files
from operations.text_files import TextFile

config.SUDO = True

THEN = {
    SERVER: homes.follow("restart"),
    SERVER_DROP_IN: "systemctl daemon-reload",
}

if not is_build() and "controller" in host.groups and target().node.data_gb:
    this = target()
    on_it = binds(this.cluster)
    data_volume.state(
        name="Data volume", units=units(on_it, quotas=bool(this.cluster.home_quotas)), binds=on_it
    )
    quotas.state(name="Quotas of users", limits=this.cluster.home_quotas)
    if this.cluster.home == "nfs":
        # What is exported has to be there.
        place = f"{scratch.MAKE}\n" if scratch.is_served(this.cluster) else ""
        then = {**THEN, EXPORTS: place + homes.follow("exports")}
        text_files.put(
            name="To whom the homes are served",
            files=[
                TextFile(path, content, then=then[path])
                for path, content in server_files(this.cluster).items()
            ],
        )
        homes.served(
            name="Homes are served",
            clients=[str(node.address) for node in this.cluster.others],
            places=served(this.cluster),
        )
    if this.cluster.home == "virtio_fs":
        units_of_homes = client_files(this.cluster)
        homes.folder(
            name="Homes are a folder of the hypervisor",
            source=source(this.cluster),
            units=units_of_homes,
            force=this.force,
        )
        text_files.put(
            name="Units of the controller's homes",
            files=[
                TextFile(path, content, then="systemctl daemon-reload")
                for path, content in units_of_homes.items()
            ],
        )
