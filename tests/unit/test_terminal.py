"""What a person reads: counts."""

from __future__ import annotations

import pytest

from hpcstate.terminal import plural


@pytest.mark.parametrize(("number", "said"), [(0, "0 checks"), (1, "1 check"), (2, "2 checks")])
def test_counts_are_in_words(number: int, said: str) -> None:
    assert plural(number, "check") == said
