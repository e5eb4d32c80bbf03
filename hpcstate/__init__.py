"""hpcstate: a GPU SLURM cluster from one description, and kept in that state."""
