"""One node: its secrets, its files, and the way into it."""
