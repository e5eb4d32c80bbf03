#!/usr/bin/python3 -I
"""``diagnose_training_failure.py [JOBID]`` on a node: why a job failed, by what this node knows of it.

Installed as /opt/slurm/bin/diagnose_training_failure.py, beside the rules of ``hpcstate diagnose``
(/opt/slurm/lib/hpcstate: the same files). It needs Debian's Python alone, changes nothing, and reads what
its user may read: of the logs of other nodes nothing, and where it is not root not the kernel's. ``hpcstate
diagnose`` on the workstation reads all nodes."""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

sys.dont_write_bytecode = True
LIBRARY = Path(__file__).resolve().parent.parent / "lib"
if (LIBRARY / "hpcstate").is_dir():
    sys.path.insert(0, str(LIBRARY))

from hpcstate.diagnose import collect, lines, output_paths, record, sources, text  # noqa: E402
from hpcstate.diagnose.decide import diagnose  # noqa: E402

SECONDS = 60
ENDED_BADLY = "FAILED,OUT_OF_MEMORY,TIMEOUT,NODE_FAIL,CANCELLED,PREEMPTED,DEADLINE,BOOT_FAIL"


def main(arguments: list[str]) -> int:
    """Exit codes: 0 the job did not fail, 1 it did, 2 it could not be looked at."""
    parser = argparse.ArgumentParser(
        prog="diagnose_training_failure",
        description="Why a job failed: Slurm's record, its output and what this node logged. Without a "
        "number, your last job that failed.",
    )
    parser.add_argument("job", nargs="?", metavar="JOBID", help="123, or of an array 123_4")
    parser.add_argument("--log", action="append", default=[], metavar="FILE", help="read this (repeatable)")
    parser.add_argument("--no-slurm", action="store_true", help="judge the --log alone")
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse_args(arguments)
    if args.no_slurm:
        if not args.log:
            parser.error("--no-slurm needs a --log")
        return _of_files(args)
    if args.job and not re.fullmatch(r"[0-9]{1,10}(_[0-9]{1,10})?", args.job):
        parser.error(f"the number of a job is expected, not {args.job!r}")
    try:
        job = args.job or _last()
        known = record.find(record.parse(_run(record.sacct_words(job))), job)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        print(f"diagnose_training_failure: sacct does not answer: {error}", file=sys.stderr)
        return 2
    if known is None:
        print(f"diagnose_training_failure: job {job or ''} is not recorded", file=sys.stderr)
        return 2
    paths = args.log or output_paths.candidates(known)
    answer = collect.collect(sources.request(known, paths))
    node = str(answer["node"])
    others = () if known.nodes in ("", node) else (f"the logs of other nodes than {node} of {known.nodes}",)
    found = sources.judge(sources.gathered({node: answer}, known.job, others), known)
    print(json.dumps(text.as_dict(found), indent=1) if args.json else text.as_text(found))
    return 0 if found.cause.name == "none" else 1


def _of_files(args: argparse.Namespace) -> int:
    rows: list[lines.LogLine] = []
    for path in args.log:
        try:
            kept = collect.read(path)
        except OSError as error:
            print(f"diagnose_training_failure: {path}: {error.strerror}", file=sys.stderr)
            return 2
        rows += lines.of_job(kept["rows"], path)
    found = replace(diagnose(rows), looked=tuple(args.log))
    print(json.dumps(text.as_dict(found), indent=1) if args.json else text.as_text(found))
    return 1


def _last() -> str:
    """The last job of this user that ended badly; empty where there is none."""
    user = pwd.getpwuid(os.getuid()).pw_name
    words = [
        "sacct",
        "--noheader",
        "--parsable2",
        "--allocations",
        "--format=JobID",
        f"--state={ENDED_BADLY}",
    ]
    words += ["--starttime=now-14days", "--endtime=now"]
    words += ["--allusers"] if os.getuid() == 0 else [f"--user={user}"]
    found = _run(words).split()
    if not found:
        raise ValueError("no job of yours failed in the last 14 days: give a number")
    return found[-1]


def _run(words: list[str]) -> str:
    """What a command of Slurm prints. Raises ValueError with what it says where it fails."""
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode:
        raise ValueError(done.stderr.strip() or f"{words[0]} ended with {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
