"""The command: exit codes, JSON, tables."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hpcstate import cli, paths
from hpcstate.cli import COULD_NOT_RUN, FINDINGS, INTERRUPTED, OK
from hpcstate.cluster import lifecycle
from hpcstate.errors import HpcstateError
from hpcstate.hypervisor import fit as validate
from hpcstate.passthrough import verdict as pcie
from tests.unit.hypervisor.test_fit import HOST
from tests.unit.pci_hosts import WORKSTATION
from tests.unit.pci_hosts import host as pci_host

NOTHING = pci_host((), {})

CORPUS = Path(__file__).parent / "schema" / "corpus"
GPU = str(paths.ROOT / "inventories" / "gpu.yaml")
PASSTHROUGH = str(paths.ROOT / "inventories" / "passthrough.yaml")


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks of this module look at a made-up host."""

    def state(*, pcie_devices: bool = True) -> validate.HostState:
        return HOST if pcie_devices else replace(HOST, pci=None)

    monkeypatch.setattr(validate, "host_state", state)


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["validate", GPU], OK),
        (["validate", PASSTHROUGH], OK),
        (["validate", str(CORPUS / "tab.yaml")], FINDINGS),
        (["validate", str(CORPUS / "binary.yaml"), "--json"], FINDINGS),
        (["validate", "/nonexistent.yaml"], COULD_NOT_RUN),
        (["validate", str(CORPUS)], COULD_NOT_RUN),
        (["validate"], COULD_NOT_RUN),
        (["validate", GPU, "--jsn"], COULD_NOT_RUN),
        (["inventory", "show", GPU], OK),
        (["inventory", "show", str(CORPUS / "tab.yaml")], FINDINGS),
        (["inventory", "show", "/nonexistent.yaml"], COULD_NOT_RUN),
        (["inventory", "pcie"], OK),
        (["inventory"], COULD_NOT_RUN),
        (["completion", "bash"], OK),
        (["completion", "tcsh"], COULD_NOT_RUN),
        (["no-such-command"], COULD_NOT_RUN),
        ([], COULD_NOT_RUN),
        (["--help"], OK),
    ],
)
def test_exit_codes(argv: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(path.name for path in CORPUS.iterdir()))
def test_no_broken_file_gives_a_traceback(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", str(CORPUS / name)]) == FINDINGS
    printed = capsys.readouterr()
    assert f"{CORPUS / name}:" in printed.out
    assert printed.err == ""


def test_validate_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(CORPUS / "misspelt-key.yaml")
    cli.main(["validate", "--json", file])
    assert json.loads(capsys.readouterr().out) == {
        "file": file,
        "ok": False,
        "problems": [
            {
                "line": 9,
                "place": ".clusters.hpc.controller.memroy_gb",
                "severity": "error",
                "message": "unknown key 'memroy_gb' in controller",
                "hint": "did you mean 'memory_gb'?",
            }
        ],
    }


def test_findings_about_the_host_are_findings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(validate, "host_state", lambda **_: replace(HOST, pci=NOTHING))
    assert cli.main(["validate", PASSTHROUGH, "--json"]) == FINDINGS
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 4


def test_pci_devices_are_skipped_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", PASSTHROUGH, "--skip-pcie-validation"]) == OK
    assert "fine: passthrough (hpc): 3 nodes, 2 GPUs" in capsys.readouterr().out


def test_warnings_alone_are_fine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(validate, "host_state", lambda **_: replace(HOST, memory_mb=100))
    assert cli.main(["validate", GPU, "--json"]) == OK
    shown = json.loads(capsys.readouterr().out)
    assert (shown["ok"], [problem["severity"] for problem in shown["problems"]]) == (True, ["warning"])
    assert cli.main(["validate", GPU]) == OK
    assert "fine (1 warning): gpu (hpc): 3 nodes, 4 simulated GPUs" in capsys.readouterr().out


def test_the_inventory_marks_simulated_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["inventory", "show", GPU])
    shown = capsys.readouterr().out
    assert "compute-02  192.168.150.12  compute, gpu  2     2 GiB   20 GiB  2 simulated" in shown
    assert "NodeName=compute-02 Name=gpu Type=simulated File=/dev/nvidia1   # simulated" in shown
    assert "partition gpu: compute-[01-02], at most 24:00:00, default" in shown
    cli.main(["inventory", "show", PASSTHROUGH])
    shown = capsys.readouterr().out
    assert "simulated" not in shown
    assert "NodeName=compute-01 Name=gpu Type=rtx4060ti File=/dev/nvidia0\n" in shown


def test_the_inventory_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["inventory", "show", GPU, "--json"])
    (cluster,) = json.loads(capsys.readouterr().out)["clusters"]
    node = cluster["nodes"][1]
    assert node["groups"] == ["compute", "gpu"]
    assert node["gres"] == "gpu:simulated:2"
    assert node["gpus"][1] == {"type": "simulated", "file": "/dev/nvidia1", "simulated": True}
    assert node["gres_lines"][1] == "NodeName=compute-01 Name=gpu Type=simulated File=/dev/nvidia1"
    assert [partition["name"] for partition in cluster["partitions"]] == ["gpu", "debug"]


def test_the_gpus_of_the_host(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(pcie, "local_host", lambda **_: WORKSTATION)
    assert cli.main(["inventory", "pcie"]) == OK
    shown = capsys.readouterr().out
    assert "12           nvidia    0000:01:00.1  needs binding\n" in shown
    cli.main(["inventory", "pcie", "--json", "--all"])
    first, audio, *_ = json.loads(capsys.readouterr().out)["devices"]
    assert (first["iommu_group"], first["companions"]) == (12, ["0000:01:00.1"])
    assert (audio["device_type"], audio["verdict"]) == ("audio", "needs binding")


def test_a_libvirt_that_keeps_us_out_does_not_hide_the_gpus(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> dict[str, str]:
        raise HpcstateError("libvirt does not answer: authentication failed")

    monkeypatch.setattr(pcie, "local_host", lambda **_: WORKSTATION)
    monkeypatch.setattr(lifecycle, "held_here", refuse)
    assert cli.main(["inventory", "pcie"]) == OK
    printed = capsys.readouterr()
    assert "0000:01:00.0" in printed.out
    assert "not known: libvirt does not answer: authentication failed" in printed.err


def test_a_host_without_gpus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(pcie, "local_host", lambda **_: NOTHING)
    assert cli.main(["inventory", "pcie"]) == OK
    assert "no GPU" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            HpcstateError("it went wrong", hint="try `hpcstate start FILE --remove`"),
            COULD_NOT_RUN,
            f"hpcstate: it went wrong\n  hint: try `hpcstate start {GPU} --remove`",
        ),
        (KeyboardInterrupt(), INTERRUPTED, ""),
    ],
)
def test_errors_of_a_command_become_a_message_and_a_code(
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def raising(**_: object) -> None:
        raise error

    monkeypatch.setattr(validate, "host_state", raising)
    assert cli.main(["validate", GPU]) == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(("number", "ignored"), [("TERM", False), ("HUP", False), ("HUP", True)])
def test_what_must_be_put_back_is_put_back_when_a_command_is_killed(number: str, ignored: bool) -> None:
    """A closed terminal, a kill; under nohup SIGHUP is ignored and stays so."""
    code = (
        "import os, signal, sys, time\n"
        f"signal.signal(signal.SIGHUP, signal.{'SIG_IGN' if ignored else 'SIG_DFL'})\n"
        "from hpcstate import cli\n"
        "from hpcstate.commands import inventory\n"
        "def show(args):\n"
        "    try:\n"
        f"        os.kill(os.getpid(), signal.SIG{number})\n"
        "        time.sleep(0.1)\n"
        "        return 0\n"
        "    finally:\n"
        "        print('put back')\n"
        "inventory.show = show\n"
        "sys.exit(cli.main(['inventory', 'show', 'x.yaml']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=paths.ROOT)
    assert done.stdout == "put back\n"
    assert done.returncode == (0 if ignored else {"TERM": 143, "HUP": 129}[number])


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon"])
def test_a_time_to_wait_is_one(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stop", "x.yaml", "--drain", f"--timeout={seconds}"]) == COULD_NOT_RUN
    assert "seconds are expected" in capsys.readouterr().err
    assert cli.main(["stop", "x.yaml", "--timeout", "5"]) == COULD_NOT_RUN
    assert "how long --drain waits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stop", GPU, "nope"], "no node is called 'nope'"),
        (["start", GPU, "compute-01", "nope"], "no node is called 'nope'"),
        (["stop", GPU, "compute-01"], "a node is chosen by --node: --node compute-01"),
        (["stop", GPU, "--fast"], "hpcstate stop: error: unrecognized arguments: --fast"),
        (["stop", GPU, "--clustr=hpc"], "arguments: --clustr=hpc; did you mean --cluster?"),
        (["lint", "--strikt", "x"], "unrecognized arguments: --strikt; did you mean --strict?"),
        (["status", GPU, "nope"], "hpcstate status: error: unrecognized arguments: nope"),
        (["stop", "/nonexistent.yaml", "nope"], "no such file"),
    ],
)
def test_a_word_too_many_is_an_error_of_its_command(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == COULD_NOT_RUN
    printed = capsys.readouterr().err
    assert said in printed and "usage: hpcstate [-h]" not in printed
    if "no node is" in said:
        assert "nodes: controller, compute-01, compute-02" in printed


def test_what_is_built_does_not_depend_on_the_umask_of_who_builds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = os.umask(0o077)
    try:
        assert cli.main(["inventory", "show", str(paths.ROOT / "inventories" / "gpu.yaml")]) == OK
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_help_and_completion_load_nothing_that_they_do_not_need() -> None:
    """A shell asks for them while a person waits: no schema, no model, nothing from outside of Python."""
    code = (
        "import sys; from hpcstate.cli import main; main(['--help']); "
        "print(*sorted(name for name in sys.modules if not name.startswith('__editable__')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    rooms = {name for name in loaded if name.startswith(("hpcstate.schema", "hpcstate.model"))}
    assert rooms == set()
    assert not loaded & {"strictyaml", "jinja2", "libvirt", "requests", "asyncio", "pyinfra"}


def test_it_runs_as_a_module_into_a_closed_pipe() -> None:
    done = subprocess.run(
        f"{sys.executable} -m hpcstate inventory show {GPU} | true",
        shell=True,
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_a_terminal_that_lacks_the_characters_of_a_file() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hpcstate", "validate", CORPUS / "arabic-digits.yaml"],
        cwd=paths.ROOT,
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (FINDINGS, "")
    assert "found '\\u0664'" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["statsu"], "there is no 'statsu'; did you mean status?"),
        (["roll", "resum", GPU], "there is no 'resum'; did you mean resume?"),
        (["lint", "--kind", "slrm", "x"], "argument --kind: there is no 'slrm'; did you mean slurm?"),
        (["xyzzy"], "invalid choice: 'xyzzy' (choose from "),
    ],
)
def test_a_misspelt_command_is_told_with_the_one_that_was_meant(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == COULD_NOT_RUN
    assert said in capsys.readouterr().err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == OK
    assert re.fullmatch(r"hpcstate \d+\.\d+\.\d+( \([\w.-]+\))?\n", capsys.readouterr().out)
