"""``accounting`` of an hpc cluster: whether jobs are recorded in a database of its own."""

from __future__ import annotations

from hpcstate.model import AccountingSettings, SlurmConfig
from hpcstate.schema.keys import AccountingKeys, HpcKeys
from hpcstate.schema.section import Section

_OF_OTHERS = ("accountingstoragetype", "accountingstoragehost", "accountingstorageport")
"""Parameters of slurm.conf, in lower case, by which a file says where its jobs are recorded."""


def read_accounting(cluster: Section, slurm: SlurmConfig) -> AccountingSettings:
    """The section, its defaults where it is absent. A file whose ``slurm_config.parameters`` say where jobs
    are recorded has no database of its own; one that asks for both is reported.
    """
    section = cluster.section(HpcKeys.accounting)
    enabled = section.value(AccountingKeys.enabled)
    elsewhere = next((key for key in slurm.parameters if key.lower() in _OF_OTHERS), None)
    if elsewhere is None:
        return AccountingSettings(enabled)
    if enabled and AccountingKeys.enabled in section:
        section.report.error(
            section.at(AccountingKeys.enabled),
            f"slurm_config.parameters.{elsewhere} already says where jobs are recorded",
            f"remove {elsewhere} for a database on the controller, or write `enabled: false`",
        )
    return AccountingSettings(on=False)
