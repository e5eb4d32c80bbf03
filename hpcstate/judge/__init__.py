"""Slurm's own daemons say what they think of the configuration, in a throwaway root."""
