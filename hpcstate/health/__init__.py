"""Whether nodes are well: the checks that run on them, around their jobs, and as jobs of our own.

What runs on nodes (all but ``files``) is standard library only, as far as it is imported there.
"""
