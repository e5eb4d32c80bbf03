"""The built images, each in a machine of its own. Like the lab, and beside it, in a network of its own."""

from tests.lab.conftest import pytest_sessionstart

__all__ = ["pytest_sessionstart"]
