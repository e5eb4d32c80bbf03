"""The folders of the registry of containers. On the ground: help is made without the model."""

from __future__ import annotations

from typing import Literal, get_args

Category = Literal["ml-frameworks", "custom-images", "base-images"]
"""The folder of the registry that a container lies in (TASK-021)."""

CATEGORIES: tuple[Category, ...] = get_args(Category)

DEFAULT_CATEGORY: Category = "custom-images"
"""Of a container, or a file, that names none."""
