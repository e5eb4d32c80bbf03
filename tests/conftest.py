"""The tests run the same however they were started: under nohup, in the background of a script (which ignore
SIGINT for all their children), with another umask, without HOME.
"""

from __future__ import annotations

import os
import pwd
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A machine that is busy with images is no failure, and a run says the same each time.
settings.register_profile(
    "busy", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy")


def pytest_configure() -> None:
    """Before anything is imported that would look at these."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.umask(0o022)
    os.environ.setdefault("HOME", pwd.getpwuid(os.geteuid()).pw_dir)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The suites look at a running cluster: without the plugin that knows it, they are no tests."""
    suites = Path(__file__).parent / "suites"
    if collection_path == suites and not config.pluginmanager.has_plugin("hpcstate.check.plugin"):
        return True
    return None
