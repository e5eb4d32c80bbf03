"""Facts about Slurm: nodes, jobs, configuration and daemons. hpcstate.probe.slurm describes the values."""

from __future__ import annotations

from facts.probed import ProbedFact
from hpcstate.probe import slurm
from hpcstate.probe.slurm import SlurmDaemon, SlurmNode


class SlurmNodes(ProbedFact[dict[str, SlurmNode]]):
    """All the nodes by name, as slurmctld sees them; {} when Slurm is absent or slurmctld silent.

    >>> host.get_fact(SlurmNodes)["compute-01"]["states"]
    ['MIXED', 'DRAIN']
    """

    command = staticmethod(slurm.nodes_command)
    parse = staticmethod(slurm.parse_nodes)


class SlurmJobs(ProbedFact[list[int]]):
    """The ids of the jobs that hold resources on the node named by the argument ``node``.

    On that node itself it is answered even with slurmctld down; asked elsewhere then, the run ends with an
    error, because "nobody knows" must never be taken for "no job". Needs root (``_sudo=True``) where Slurm
    hides jobs of others (PrivateData).

    >>> host.get_fact(SlurmJobs, node="compute-01")
    [7, 12]
    """

    command = staticmethod(slurm.jobs_command)
    parse = staticmethod(slurm.parse_jobs)


class SlurmFiles(ProbedFact[dict[str, str]]):
    """The content of each ``*.conf`` in ``directory`` by file name, without those that hold secrets.

    {} when the directory is absent; a file that cannot be read ends the run with an error.
    """

    command = staticmethod(slurm.files_command)
    parse = staticmethod(slurm.parse_files)


class SlurmDaemons(ProbedFact[dict[str, SlurmDaemon]]):
    """slurmctld, slurmd, slurmdbd and munge of this host: installed, version, active, enabled."""

    command = staticmethod(slurm.daemons_command)
    parse = staticmethod(slurm.parse_daemons)


class SlurmFilesRead(ProbedFact[dict[str, list[str]]]):
    """The ``*.conf`` in ``directory`` that slurmctld and slurmd of this host may have read, by daemon: those
    changed before its main process started. [] for a daemon that does not run.
    """

    command = staticmethod(slurm.read_command)
    parse = staticmethod(slurm.parse_read)
