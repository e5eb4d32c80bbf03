"""What a Slurm cluster keeps of its jobs: ``accounting`` of the file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AccountingSettings:
    """``on``: the controller runs slurmdbd and its database, and Slurm records its jobs there."""

    on: bool = True
