"""Slurm's configuration files: written from the model, read, compared, judged."""
