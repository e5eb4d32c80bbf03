# What somebody does on the first day, run by their shell through SSH on the node where people log in. Each part stands
# behind a line "=== NAME". By environment: name (of the folder and the jobs), two (words of sbatch for two nodes), one
# (for the last of them, `node`), feature (that it has, or nothing), ring (an MPI program in C).
# shellcheck disable=SC2086 # words of sbatch, everywhere: before the first command
name=${name:?} two=${two:?} one=${one:?} node=${node:?} feature=${feature-} ring=${ring:?}

part() { printf '\n=== %s\n' "$1"; }
cd "$HOME" && mkdir -p "$name/out" && cd "$name" || exit 1
limits="--job-name=$name --time=3 --ntasks-per-node=1 --cpus-per-task=1 --mem=400M"

part refused
# A job of what was before may be ending.
for _ in 1 2 3 4 5 6 7 8 9 10; do
  [ -n "$(timeout 20 squeue --me --noheader --nodelist="$node" --states=RUNNING,COMPLETING,SUSPENDED)" ] || break
  sleep 1
done
ssh -o BatchMode=yes -o ConnectTimeout=20 "$node" true 2>&1 && echo in

part prepared
printf '%s\n' "$ring" | mpicc -x c -o ring - && python3 -m venv --without-pip env && echo yes

# Where it runs, ssh goes to the other node of the job; both tasks run a Python and a program of this folder.
cat >job.sh <<'end'
#!/bin/sh
echo "from $(hostname) to $(ssh -o BatchMode=yes -o ConnectTimeout=20 "$1" hostname 2>&1 | tail -n 1)"
srun sh -c 'env/bin/python -c "import sys; print(\"prefix\", sys.prefix)"; exec ./ring'
end
{
  timeout 100 sbatch --wait --parsable --output=out/%x.txt $limits $one ${feature:+--constraint=$feature} \
    --wrap 'hostname; pwd' >folder.id 2>&1 &
  id=$(timeout 100 sbatch --wait --parsable $limits $two job.sh "$node" 2>&1)
  wait
}

part job
echo "$id"
part output
cat "slurm-$id.out" 2>&1
part folder
cat "out/$name.txt" 2>&1 || cat folder.id
part seff
# What slurmctld has told slurmdbd is there in a moment.
for _ in 1 2 3 4 5; do
  said=$(timeout 20 seff "$id" 2>&1)
  case $said in *COMPLETED*) break ;; esac
  sleep 1
done
printf '%s\n' "$said"

part constraint
timeout 20 sbatch --parsable $limits --constraint=no_such_feature --wrap true 2>&1
part nice
for words in --nice=0 --nice=1000; do
  # A check that is killed leaves them to end by themselves.
  timeout 20 sbatch --parsable $limits $one --begin=now+10minutes $words --wrap true 2>&1
done
timeout 20 squeue --noheader --name="$name" --states=PENDING --format='priority %i %Q'
