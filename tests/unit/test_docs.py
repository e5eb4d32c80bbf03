"""What the documents name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpcstate.paths import ROOT
from tests.unit.test_layers import FLOOR_OF, GROUND

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = "hpcstate|facts|operations|deploys|templates|inventories|tests|bench|docs|packer|containers"
ROOMS = "|".join(sorted(FLOOR_OF.keys() - {GROUND}))


def named(text: str) -> set[str]:
    """The files that a document names, from the root or from hpcstate/; not those with a part to fill in."""
    words = set(
        re.findall(rf"(?<![\w/.<>-])(?:{FOLDERS}|{ROOMS})/[\w./-]*\w\.(?:py|md|sh|toml|j2|yaml)\b", text)
    )
    return {word for word in words if "/…" not in word}


def is_there(name: str) -> bool:
    """Below the root, below hpcstate/, or in the folder of a container."""
    places = [ROOT / name, ROOT / "hpcstate" / name, *(ROOT / "containers").glob(f"*/{name}")]
    return name in OF_USERS or any(place.exists() for place in places)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_named_is_there(document: Path) -> None:
    assert [name for name in sorted(named(document.read_text())) if not is_there(name)] == []


OF_USERS = {"inventories/local.yaml"}
"""What the reader is to make."""


def test_every_room_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert [room for room in FLOOR_OF if room != GROUND and f"`{room}`" not in text] == []
