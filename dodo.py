"""The build graph: `doit list` shows its families. Settings and names only; the work is in hpcstate/tasks."""

from hpcstate.tasks.cluster import (
    task_announce,
    task_check,
    task_containers_of_cluster,
    task_deploy,
    task_host,
    task_images_of_cluster,
    task_start,
    task_up,
)
from hpcstate.tasks.configuration import task_judge, task_render
from hpcstate.tasks.containers import task_build_containers
from hpcstate.tasks.graph import settings
from hpcstate.tasks.images import task_build_images, task_seed
from hpcstate.tasks.test import task_test

DOIT_CONFIG = settings()

__all__ = [
    "task_announce",
    "task_build_containers",
    "task_build_images",
    "task_check",
    "task_containers_of_cluster",
    "task_deploy",
    "task_host",
    "task_images_of_cluster",
    "task_judge",
    "task_render",
    "task_seed",
    "task_start",
    "task_test",
    "task_up",
]
