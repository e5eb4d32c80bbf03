# Managed by hpcstate. Apptainer's cache and temporary files: on this node, not in a home that nodes may share.
container_cache=/var/cache/hpcstate-containers/$(id -u)
# A folder that somebody else made under this user's number is not used: see tmpfiles.d(5) for its parent.
if mkdir -m 700 "$container_cache" 2>/dev/null || [ -O "$container_cache" ]; then
    export APPTAINER_CACHEDIR="${APPTAINER_CACHEDIR:-$container_cache}"
    export APPTAINER_TMPDIR="${APPTAINER_TMPDIR:-$container_cache}"
fi
unset container_cache
