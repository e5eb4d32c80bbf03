# shellcheck shell=bash
# Runs on each node as an ordinary user, in a login shell: a line "missing: NAME" for what cannot be worked with.
for name in cc gcc g++ gfortran mpicc mpicxx mpifort make git python python3 pip nano vi tmux curl man; do
    command -v "$name" >/dev/null || echo "missing: $name"
done
[ "$(python -c 'print(6 * 7)' 2>/dev/null)" = 42 ] || echo "missing: a python that runs"
# ensurepip is what python3-venv adds; making an environment with it takes an emulated node a minute.
python -c 'import ensurepip, venv' 2>/dev/null || echo "missing: venv"
module --version >/dev/null 2>&1 || echo "missing: module (Lmod)"
for page in srun slurm.conf git; do
    man -w "$page" >/dev/null 2>&1 || echo "missing: the manual page of $page"
done
