"""What the inventory of a cluster file imports: ``inventories/<name>.py`` is two lines that call it.

A door, as cli.py is: files of users have this name in them, wherever the code behind it lies.
"""

from __future__ import annotations

from hpcstate.cluster.inventory import groups_beside, groups_of, groups_of_environment, refuse_wrong_data

__all__ = ["groups_beside", "groups_of", "groups_of_environment", "refuse_wrong_data"]
