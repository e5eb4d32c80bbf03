#!/bin/sh
# Managed by hpcstate: changes made here are undone by the next deploy. slurmd runs it as root behind a job (Epilog): it
# records what the job left in /var/log/slurm/job_events.jsonl. It never fails: that would drain the node.
timeout --kill-after=5 70 /usr/local/lib/hpcstate/health/job epilog </dev/null >/dev/null
exit 0
