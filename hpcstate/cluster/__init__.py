"""A cluster as a whole: planned, started, deployed, shown, stopped and destroyed."""
