"""What continuous integration keeps for its next run."""

from __future__ import annotations

from fnmatch import fnmatch

from hpcstate import paths
from hpcstate.artifact.store import LIMIT, size_of
from hpcstate.image import declared

TEXT = (paths.ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_the_cache_has_the_store_and_the_seeds() -> None:
    kept = TEXT.partition("path: |\n")[2].partition("key:")[0].split()
    for name in declared.names():
        for path in (declared.load(name).seed_path, paths.sidecar(declared.load(name).seed_path)):
            folder = str(path.parent.relative_to(paths.ROOT))
            assert any(fnmatch(folder, pattern) for pattern in kept), folder
    assert str(paths.STORE.relative_to(paths.ROOT)) in kept


def test_its_store_has_a_limit_below_that_of_the_cache() -> None:
    given = next(line.split(": ")[1] for line in TEXT.splitlines() if LIMIT in line)
    assert 10**9 <= size_of(given, LIMIT) < 10 * 10**9 / 2, "two releases of Debian share it"
