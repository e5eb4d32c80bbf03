"""The linter: what Slurm 24.11 refuses, ignores or changes in its configuration files."""
