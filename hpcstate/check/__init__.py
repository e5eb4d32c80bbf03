"""Checks of a running cluster, and the proof that comes of them."""
