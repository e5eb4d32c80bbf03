"""What a .sif says of itself, from answers of Apptainer 1.4.5."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcstate.container.inspect import Inspection, inspect, parse
from hpcstate.errors import HpcstateError
from tests.unit.fake_toolbox import FakeToolbox

ATTRIBUTES = {
    "environment": {
        "/.singularity.d/env/90-environment.sh": "#!/bin/sh\n# Custom\n\n    export LC_ALL=C.UTF-8\n"
        "    export GREETING='it is'\n"
    },
    "labels": {"hpcstate.source": "containers/one"},
    "runscript": '#!/bin/sh\n\n    exec python3 "$@"',
    "deffile": "Bootstrap: localimage\n",
}


def test_the_whole_answer() -> None:
    assert parse(ATTRIBUTES) == Inspection(
        labels={"hpcstate.source": "containers/one"},
        environment={"LC_ALL": "C.UTF-8", "GREETING": "'it is'"},
        runscript='exec python3 "$@"',
        definition="Bootstrap: localimage\n",
        set_by_the_definition=frozenset({"LC_ALL", "GREETING"}),
    )


def test_what_is_absent_is_empty() -> None:
    assert parse({"labels": None}) == Inspection({}, {}, "", "")


@pytest.mark.parametrize("said", ["FATAL:   could not open image: not a SIF", "{"])
def test_what_apptainer_cannot_read_is_a_message(tmp_path: Path, said: str) -> None:
    toolbox = FakeToolbox(fails={"inspect": said})
    with pytest.raises(HpcstateError, match="Apptainer cannot inspect it") as error:
        inspect(tmp_path / "a.sif", toolbox)  # type: ignore[arg-type]
    assert error.value.where.endswith("a.sif")
