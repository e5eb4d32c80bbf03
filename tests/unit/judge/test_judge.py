"""The judge: what is made of the daemons' words, what they find around them, and when it is asked at all."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from hpcstate import cli, paths, schema
from hpcstate.errors import HpcstateError, Problem
from hpcstate.judge import judge
from hpcstate.judge import messages as judge_words
from hpcstate.judge.case import Configuration, case_of, configuration_of_files
from hpcstate.judge.inside import Hearing, Registered, Said
from hpcstate.judge.judge import Judgement, JudgeUnavailableError
from hpcstate.judge.root import needed_libraries
from hpcstate.model import Cluster
from hpcstate.slurm.keys import Kind
from tests.unit.judge_cases import CASES, agrees, build_image, load, seen

RECORDINGS = Path(__file__).parent


@pytest.mark.parametrize("name", CASES)
def test_what_the_daemons_said_is_told_with_file_and_line(name: str) -> None:
    configuration, hearing = load(name)
    found = seen(judge_words.problems(hearing, configuration.files, configuration.gres))
    assert agrees(found, CASES[name]), found


def test_every_recording_is_looked_at() -> None:
    assert {path.stem for path in RECORDINGS.glob("*.json")} == set(CASES)


def test_the_reason_and_the_end_are_told_once_with_the_end_as_hint() -> None:
    configuration, hearing = load("unknown-key-slurm")
    found = judge_words.problems(hearing, configuration.files, configuration.gres)
    assert [problem.hint for problem in found["slurm.conf"]] == [
        "slurmctld then stops: Unable to process configuration file"
    ]


@pytest.mark.parametrize(
    ("said", "message", "severity"),
    [
        (
            Said("slurmctld", "", None, "slurmctld: debug: waiting"),
            "slurmctld did not come up in time; its last words: slurmctld: debug: waiting",
            "error",
        ),
        (
            Said("slurmctld", "", 127, ""),
            "slurmctld ended with exit code 127; its last words: nothing",
            "error",
        ),
        (
            Said("munged", "", 1, "munged: Error: Found insecure keyfile"),
            "munged ended with exit code 1; its last words: munged: Error: Found insecure keyfile",
            "error",
        ),
        (
            Said("slurmd", "n1", -11, "slurmd-n1: something"),
            "slurmd of n1 ended with exit code -11; its last words: slurmd-n1: something",
            "warning",
        ),
    ],
)
def test_a_daemon_that_ends_without_a_reason_is_not_taken_for_content(
    said: Said, message: str, severity: str
) -> None:
    found = judge_words.problems(Hearing([said]), {"slurm.conf": ""}, {})
    assert [(problem.message, problem.severity) for problem in found["slurm.conf"]] == [(message, severity)]


def test_the_words_of_a_broken_include_do_not_break_the_judge() -> None:
    text = "Include /etc/slurm/x.conf\nNodeName=n[1- CPUs=x\n\0"
    said = Said("slurmctld", "", 1, "slurmctld: error: lookup failure for node n1\nslurmctld: fatal: x\n")
    found = judge_words.problems(Hearing([said]), {"slurm.conf": text}, {})
    assert {problem.severity for problem in found["slurm.conf"]} == {"error"}


SLURM = "ClusterName=c\nSlurmctldHost=ctl(10.0.0.1)\nSlurmUser=slurm\n"


def case_for(slurm: str, **gres: str) -> dict[str, object]:
    return vars(case_of(Configuration({"slurm.conf": slurm, "cgroup.conf": ""}, gres), Path("root.tar")))


@pytest.mark.parametrize(
    ("slurm", "gres", "expected"),
    [
        (SLURM, {}, {"controller": "ctl", "addresses": ["10.0.0.1"], "hosts": {"ctl": "127.0.0.1"}}),
        (SLURM.replace("(10.0.0.1)", ""), {}, {"controller": "ctl", "addresses": ["192.0.2.1"]}),
        ("ControlMachine=old\nControlAddr=10.0.0.2\n", {}, {"controller": "old", "addresses": ["10.0.0.2"]}),
        ("", {}, {"controller": "controller", "user": "slurm"}),
        (
            SLURM + "SlurmctldHost=two\nNodeName=r[0-1]n[1-2] NodeAddr=10.0.0.[3-6]\n",
            {},
            {
                "hosts": {
                    **dict.fromkeys(("r0n1", "r0n2", "r1n1", "r1n2"), "127.0.0.1"),
                    "two": "198.51.100.1",
                    "ctl": "127.0.0.1",
                }
            },
        ),
        (SLURM + "NodeName=n[1-\n", {}, {"controller": "ctl"}),
        (
            SLURM + "StateSaveLocation=/var/a\nSlurmdLogFile=/var/b/c.log\n",
            {},
            {"folders": ["/var/a", "/var/b", "/var/spool/slurmd"]},
        ),
        (
            SLURM,
            {
                "n1": "Name=gpu File=/dev/nvidia[0-1]\nName=gpu MultipleFiles=/dev/a,/dev/b\n",
                "n2": "Name=gpu File=/dev/nvidia[0-\nAutoDetect=nvml\n",
            },
            {"devices": ["/dev/a", "/dev/b", "/dev/nvidia0", "/dev/nvidia1"], "autodetect": ["n2"]},
        ),
        (SLURM, {"n1": "AutoDetect=off\n"}, {"autodetect": []}),
    ],
)
def test_the_daemons_find_what_the_files_name(
    slurm: str, gres: dict[str, str], expected: dict[str, object]
) -> None:
    found = case_for(slurm, **gres)
    assert {key: found[key] for key in expected} == expected


def test_own_files_are_one_configuration_with_what_they_include() -> None:
    texts: dict[Kind, str] = {"slurm": "Include n.conf\nInclude gone.conf\n", "gres": "Name=gpu\n"}
    found = configuration_of_files(texts, {"n.conf": "NodeName=n[1-2]\n"}.get)
    assert found.files == {"slurm.conf": texts["slurm"], "n.conf": "NodeName=n[1-2]\n"}
    assert found.gres == {"n1": "Name=gpu\n", "n2": "Name=gpu\n"}


def test_a_statement_of_an_included_file_is_named_with_its_origin() -> None:
    files = {"slurm.conf": "ClusterName=c\nInclude n.conf\n", "n.conf": "NodeName=n[1-2]\n"}
    heard = Hearing(nodes=[Registered("n2", "UNKNOWN+INVALID_REG", "gres/gpu count reported lower")])
    (problem,) = judge_words.problems(heard, files, {})["slurm.conf"]
    assert (problem.line, problem.place) == (2, "n.conf:1 NodeName=n[1-2] Gres")


@pytest.mark.parametrize(
    ("line", "overrides"),
    [
        ("ProctrackType=proctrack/pgid", {"SlurmdUser": "slurm"}),
        ("ProctrackType=proctrack/cgroup", {"SlurmdUser": "slurm", "ProctrackType": "proctrack/pgid"}),
        (
            "TaskPlugin=task/cgroup,task/affinity\nTaskPluginParam=OOMKillStep",
            {
                "SlurmdUser": "slurm",
                "ProctrackType": "proctrack/pgid",
                "TaskPlugin": "task/affinity",
                "TaskPluginParam": "Verbose",
            },
        ),
    ],
)
def test_a_slurmd_that_registers_is_told_to_do_without_control_groups(
    line: str, overrides: dict[str, str]
) -> None:
    found = case_for(f"{SLURM}{line}\n")["overrides"]
    assert found == {"slurmctld": {}, "slurmd": overrides}


def test_only_elf_files_need_libraries() -> None:
    assert needed_libraries(b"#!/bin/sh\n") == []
    assert needed_libraries(b"\x7fELF\x02") == []
    assert "libc.so.6" in needed_libraries(Path("/proc/self/exe").read_bytes())
    static = bytearray(64)
    static[:5] = b"\x7fELF\x02"
    struct.pack_into("<HH", static, 54, 56, 0)
    assert needed_libraries(bytes(static)) == []


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(judge, "image_of", lambda cluster: paths.image("hpc-base"))
    return schema.load(paths.ROOT / "inventories" / "gpu.yaml").clusters[0]


def test_without_an_image_it_is_said_that_nothing_was_judged(cluster: Cluster) -> None:
    said: list[str] = []
    judge.require(cluster, said.append)
    assert len(said) == 1
    assert "not judged by Slurm's daemons" in said[0]
    assert "is not built here" in said[0]


def test_a_refused_configuration_stops_with_the_daemons_words(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_image()
    problem = Problem(3, "TCPTimeout", "slurmctld: error: no number")
    monkeypatch.setattr(judge, "judge", lambda files, image: Judgement("k", {"slurm.conf": (problem,)}))
    with pytest.raises(HpcstateError, match=r"slurm\.conf:3: error: TCPTimeout: slurmctld: error: no number"):
        judge.require(cluster, pytest.fail)


def test_a_warning_is_said_and_stops_nothing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    build_image()
    problem = Problem(3, "CPUs", "slurmctld: error: Resetting CPUs.", severity="warning")
    monkeypatch.setattr(judge, "judge", lambda files, image: Judgement("k", {"slurm.conf": (problem,)}))
    said: list[str] = []
    judge.require(cluster, said.append)
    assert said == ["slurm.conf:3: warning: CPUs: slurmctld: error: Resetting CPUs."]


def test_a_machine_that_cannot_run_the_daemons_is_told_what_it_needs(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_image()
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setattr(judge, "_UNSHARE", (str(refusing),))
    monkeypatch.setattr("hpcstate.judge.root.make", lambda image, to: to.write_bytes(b"tar") and {})
    with pytest.raises(JudgeUnavailableError, match=r"(?s)Operation not permitted.*user namespaces"):
        judge.judge(Configuration({"slurm.conf": ""}), paths.image("hpc-base"))
    said: list[str] = []
    judge.require(cluster, said.append)
    assert "not judged" in said[0]
    assert judge.known(cluster) is None


def test_a_judgement_is_read_back_as_it_was(tmp_path: Path) -> None:
    judgement = Judgement("k", {"slurm.conf": (Problem(1, "a", "b", "c", "warning"),)})
    path = tmp_path / "judgement.json"
    path.write_text(judgement.to_json())
    assert Judgement.read(path) == judgement
    for damaged in ("", "{}", '{"key": 1}', '{"key": "k", "problems": {"a": [{"x": 1}]}}', "[]"):
        path.write_text(damaged)
        assert Judgement.read(path) is None


def own_files(folder: Path, **texts: str) -> list[str]:
    for name, text in texts.items():
        (folder / f"{name}.conf").write_text(text)
    return [str(folder / f"{name}.conf") for name in texts if name != "nodes"]


def test_lint_with_an_image_tells_what_its_daemons_say_of_each_file(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build_image()
    asked: list[Configuration] = []

    def answer(files: Configuration, image: Path) -> Judgement:
        asked.append(files)
        problem = Problem(1, "Name=gpu", "slurmd: fatal: no")
        return Judgement("k", {f"gres.conf of n{number}": (problem,) for number in (1, 2)})

    monkeypatch.setattr(judge, "judge", answer)
    slurm = "ClusterName=c\nSlurmctldHost=h\nGresTypes=gpu\nInclude nodes.conf\n"
    files = own_files(
        tmp_path, slurm=slurm, nodes="NodeName=n[1-2] Gres=gpu:1\n", gres="Name=gpu File=/dev/nvidia0\n"
    )
    assert cli.main(["lint", "--image", "hpc-base", *files]) == cli.FINDINGS
    output = capsys.readouterr().out
    assert output.count("slurmd: fatal: no") == 1
    assert f"{files[1]}:1: error: Name=gpu: slurmd: fatal: no" in output
    assert f"{files[0]}: fine" in output
    assert set(asked[0].gres) == {"n1", "n2"}


def test_lint_with_an_image_needs_a_slurm_conf_and_the_image(
    tmp_path: Path, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm, gres = own_files(tmp_path, slurm=SLURM, gres="")
    assert cli.main(["lint", "--image", "hpc-base", gres]) == cli.COULD_NOT_RUN
    assert "without a slurm.conf" in capsys.readouterr().err
    assert cli.main(["lint", "--image", "hpc-base", slurm]) == cli.COULD_NOT_RUN
    assert "is not built here" in capsys.readouterr().err


def test_what_stands_for_a_controller_and_a_database() -> None:
    text = (
        "ClusterName=c\nSlurmctldHost=h\nSlurmUser=slurm\nAccountingStorageType=accounting_storage/slurmdbd\n"
        "PriorityWeightFairshare=5\nJobCompType=jobcomp/filetxt\nJobCompLoc=/srv/x/jobs\nJobSubmitPlugins=a,lua\n"
    )
    case = case_of(Configuration({"slurm.conf": text}), Path("root.tar"))
    assert case.overrides["slurmctld"]["PriorityWeightFairshare"] == "0"
    assert "PriorityWeightAge" not in case.overrides["slurmctld"]
    assert "/srv/x" in case.folders
    assert "slurm_job_submit" in case.files["job_submit.lua"]
    own = case_of(Configuration({"slurm.conf": text, "job_submit.lua": "own"}), Path("root.tar"))
    assert own.files["job_submit.lua"] == "own"
    plain = case_of(Configuration({"slurm.conf": "ClusterName=c\nSlurmctldHost=h\n"}), Path("root.tar"))
    assert "job_submit.lua" not in plain.files


def test_the_script_that_is_asked_about_jobs_is_judged_too() -> None:
    cluster = schema.load(paths.ROOT / "inventories" / "minimal.yaml").clusters[0]
    assert "slurm_job_submit" in judge.configuration_of(cluster).files["job_submit.lua"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Said("slurmctld", "", None, "slurmctld: debug: waiting"), "slurmctld did not come up in time"),
        (Said("munged", "", None, ""), "munged did not come up in time"),
        (Said("munged", "", 1, "munged: Error: no"), "munged ended with exit code 1"),
        # Thousands of nodes: it runs, and takes longer to end than it is waited for.
        (Said("slurmctld", "", None, "slurmctld: Running as primary controller"), ""),
        (Said("slurmctld", "", 0, "slurmctld: Running as primary controller"), ""),
        (Said("slurmctld", "", None, "slurmctld: fatal: no"), ""),
        (Said("slurmctld", "", -11, "slurmctld: Running as primary controller"), ""),
    ],
)
def test_a_slurmctld_that_was_not_heard_is_no_finding(
    said: Said,
    words: str,
    tmp_path: Path,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert words in judge_words.undecided(Hearing([said]))
    assert bool(judge_words.undecided(Hearing([said]))) == bool(words)
    build_image()
    monkeypatch.setattr(judge, "hear", lambda case: Hearing([said]))
    monkeypatch.setattr("hpcstate.judge.root.make", lambda image, to: to.write_bytes(b"tar") and {})
    (slurm,) = own_files(tmp_path, slurm=SLURM)
    failed = "fatal" in said.output or said.code == -11
    code = cli.COULD_NOT_RUN if words else cli.FINDINGS if failed else cli.OK
    assert cli.main(["lint", "--image", "hpc-base", slurm]) == code
    heard = capsys.readouterr()
    # What the linter itself knows is told all the same.
    assert f"{slurm}: " in heard.out
    assert ("could not be heard" in heard.err) == bool(words)


@pytest.mark.parametrize(
    ("address", "given"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("127.0.0.1", "192.0.2.1"),
        ("127.0.1.1", "192.0.2.1"),
        ("::1", "192.0.2.1"),
        ("0.0.0.0", "192.0.2.1"),
        ("ctl.example.org", "192.0.2.1"),
    ],
)
def test_the_machine_of_the_judge_has_an_address_beside_the_loopback(address: str, given: str) -> None:
    text = f"ClusterName=c\nSlurmctldHost=h({address})\n"
    assert case_of(Configuration({"slurm.conf": text}), Path("root.tar")).addresses == [given]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("NO_FAIR_TREE", "FAIR_TREE"),
        ("MAX_TRES,depth_oblivious", "MAX_TRES"),
        ("MAX_TRES", None),
    ],
)
def test_what_needs_a_slurmdbd_is_not_asked_of_one_without(flags: str, told: str | None) -> None:
    text = f"ClusterName=c\nSlurmctldHost=h\nPriorityFlags={flags}\n"
    database = "AccountingStorageType=accounting_storage/slurmdbd\n"
    case = case_of(Configuration({"slurm.conf": text + database}), Path("root.tar"))
    assert case.overrides["slurmctld"].get("PriorityFlags") == told
    alone = case_of(Configuration({"slurm.conf": text}), Path("root.tar"))
    assert "PriorityFlags" not in alone.overrides["slurmctld"]


def test_lint_with_an_image_takes_along_what_lies_beside_slurm_conf(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_image()
    asked: list[Configuration] = []

    def answer(files: Configuration, image: Path) -> Judgement:
        asked.append(files)
        return Judgement("k", {})

    monkeypatch.setattr(judge, "judge", answer)
    text = SLURM + "TopologyPlugin=topology/tree\nGresTypes=gpu\nInclude /etc/slurm/nodes.conf\n"
    slurm, *_ = own_files(
        tmp_path,
        slurm=text,
        nodes="NodeName=x1 Gres=gpu:1\n",
        topology="SwitchName=s Nodes=x1\n",
        gres="Name=gpu File=/dev/nvidia0\n",
    )
    (tmp_path / "job_submit.lua").write_text("-- own\n")
    cli.main(["lint", "--image", "hpc-base", slurm])
    assert set(asked[0].files) == {"slurm.conf", "topology.conf", "/etc/slurm/nodes.conf", "job_submit.lua"}
    assert "x1" in asked[0].gres


def test_weights_of_what_a_slurmdbd_tracks_are_not_judged() -> None:
    text = (
        "ClusterName=c\nSlurmctldHost=h\nAccountingStorageTRES=gres/gpu,gres/gpu:a\n"
        "PriorityWeightTRES=CPU=1,GRES/gpu=10\nNodeName=n1 TRESWeights=gres/gpu:a=2 # all\n"
        'PartitionName=p TRESBillingWeights="CPU=1.0,Mem=0.25G,GRES/gpu=2" Nodes=n1\n'
        "PartitionName=q TRESBillingWeights=GRES/fpga=2 Nodes=n1\n"
    )
    database = "AccountingStorageType=accounting_storage/slurmdbd\n"
    case = case_of(Configuration({"slurm.conf": text + database}), Path("root.tar"))
    assert case.files["slurm.conf"].splitlines()[3:7] == [
        'PriorityWeightTRES="CPU=1"',
        'NodeName=n1 TRESWeights="CPU=1" # all',
        'PartitionName=p TRESBillingWeights="CPU=1.0,Mem=0.25G" Nodes=n1',
        "PartitionName=q TRESBillingWeights=GRES/fpga=2 Nodes=n1",
    ]
    assert case_of(Configuration({"slurm.conf": text}), Path("root.tar")).files["slurm.conf"] == text


@pytest.mark.parametrize(("database", "told"), [("", 1), ("accounting_storage/slurmdbd", 0)])
def test_what_a_slurmctld_says_for_want_of_its_slurmdbd_is_not_told(database: str, told: int) -> None:
    said = Said(
        "slurmctld",
        "",
        0,
        "slurmctld: error: We have no QOS on the system Ignoring invalid Allow/DenyQOS value(s) x\n"
        "slurmctld: Running as primary controller",
    )
    text = "Include more.conf\nPartitionName=p Nodes=ALL AllowQos=x\n"
    files = {
        "slurm.conf": text,
        "more.conf": f"AccountingStorageType={database or 'accounting_storage/none'}\n",
    }
    assert len(judge_words.problems(Hearing([said]), files, {}).get("slurm.conf", ())) == told
