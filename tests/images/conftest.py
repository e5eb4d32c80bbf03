"""The built images, each in a machine of its own. Like the lab, in a network of their own."""

from tests.lab.conftest import pytest_sessionstart

__all__ = ["pytest_sessionstart"]
