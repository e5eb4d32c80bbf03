"""How a cluster is watched: what collects, keeps and judges metrics, and who may look."""
