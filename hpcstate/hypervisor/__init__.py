"""libvirt: domains, volumes and networks of a cluster, whose they are, and whether the host can run them."""
