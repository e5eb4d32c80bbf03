"""Devices of a host that a node is to have: whether it may, what for, and how the host lets them go."""
