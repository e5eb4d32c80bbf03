# What a node runs: the image that its disk was made from, its configuration as it lies there, its containers.
#   image WORD            the line that the build of the image left; none for one of somebody else's
#   file SHA256  PATH     for each of the files that is there
#   container NAME FILE   what NAME stands for in the registry, where that file is there
# sh node_runs.sh IMAGE REGISTRY FILE…
image=$1 registry=$2
shift 2
[ ! -r "$image" ] || printf 'image %s\n' "$(head -c 200 -- "$image" | head -n 1)"
sha256sum -- "$@" 2>/dev/null | sed 's/^/file /'
for link in "$registry"/*/*.sif; do
  if [ -L "$link" ] && [ -f "$link" ]; then
    name=${link##*/}
    printf 'container %s %s\n' "${name%.sif}" "$(readlink -- "$link")"
  fi
done
