#!/bin/sh
# Managed by hpcstate: changes made here are undone by the next deploy. slurmd runs it as root before a job (Prolog): it
# looks at the node and records that in /var/log/slurm/job_events.jsonl. A failure drains the node and the job waits for
# another: that is for a node that health would drain too (7), never for an accident of the look itself.
timeout --kill-after=5 70 /usr/local/lib/hpcstate/health/job prolog </dev/null >/dev/null
[ $? -ne 7 ] || exit 1
exit 0
