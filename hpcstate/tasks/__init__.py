"""The build graph's tasks, for doit."""
