"""Where a job's output is: the patterns of sbatch and srun expanded. Pure; standard library only."""

from __future__ import annotations

import re

from hpcstate.diagnose.record import JobRecord

_PATTERN = re.compile(r"%(?P<width>\d*)(?P<key>[%a-zA-Z])")


def expanded(path: str, record: JobRecord) -> str:
    """``path`` with what is known of ``record`` (sbatch(1), "filename pattern"): ``%j %A %a %J %x %u %N %n
    %t %s %b``. What differs from task to task or is not known becomes ``*``, and what glob would take for a
    sign is protected. A path with a backslash is not expanded."""
    if "\\" in path:
        return _literal(path.replace("\\", ""))
    task = record.array_task
    known = {
        "%": "%",
        "j": str(record.job),
        "A": str(record.array_job or record.job),
        # NO_VAL where there is no array.
        "a": str(task) if task is not None else "4294967294",
        "b": str(task % 10) if task is not None else "4",
        "J": str(record.job),
        "x": record.name,
        "u": record.user,
    }
    out, end = "", 0
    for found in _PATTERN.finditer(path):
        out += _literal(path[end : found.start()])
        end = found.end()
        key, width = found["key"], min(int(found["width"] or 0), 10)
        if key in "tnsN":
            out += "*"
        elif key in known:
            value = known[key]
            out += _literal(value.zfill(width) if key in "jAaJ" and width else value)
        else:
            out += _literal(found.group())
    return out + _literal(path[end:])


def _literal(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def candidates(record: JobRecord) -> list[str]:
    """Where the job's output may be: what Slurm has, or where sbatch writes where nothing is said (sbatch(1),
    --output)."""
    default = "slurm-%A_%a.out" if record.array_task is not None else "slurm-%j.out"
    paths = [expanded(path, record) for path in record.outputs or (default,)]
    return list(dict.fromkeys(path for path in paths if path not in ("/dev/null", "")))
