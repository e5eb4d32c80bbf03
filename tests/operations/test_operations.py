"""Runs every recorded case of every operation; harness.py says what a case is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.operations.harness import case_files, run_case_file

ROOT = Path(__file__).parent


@pytest.mark.parametrize("path", case_files(ROOT), ids=lambda path: str(path.relative_to(ROOT)))
def test_case(path: Path) -> None:
    run_case_file(path)
