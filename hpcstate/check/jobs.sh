# Functions for the jobs of the checks (hpcstate/check/jobs.py), on the controller.
#
# cat jobs.sh - <<'end' | sh -s
# submit NAME OUTPUT srun …
# outputs FOLDER
# end

# Start srun in a session of its own, so that it outlives this shell. The job's number is known once srun has submitted
# it, so waiting for the queue to show it keeps the jobs in their order.
submit() {
    name=$1 output=$2
    shift 2
    setsid "$@" >"$output" 2>&1 </dev/null &
    for _ in $(seq 50); do
        [ -z "$(squeue --noheader --states=all --name="$name" --format=%i)" ] || break
        [ ! -s "$output" ] || break
        sleep 0.1
    done
}

# What the jobs have printed, each behind a line with its name.
outputs() {
    for output in "$1"/*; do
        printf '\n=== output of %s\n' "${output##*/}"
        cat "$output"
    done
}
