"""The registry of containers on the nodes: its layout, its catalog, and how a container gets there."""
