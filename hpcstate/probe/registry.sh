# What lies in the registry of containers, for root, who alone may look into .registry/incoming. A line each:
#   node NAME                           who says it
#   entry KIND MODE OWNER:GROUP SIZE INODE TIME PATH<tab>TARGET, incoming (the same)
#   odd FOLDER                          has a name with control characters, which no deploy makes
#   record DIGEST SIZE INODE TIME PATH  what is recorded, sum DIGEST PATH what was not and is computed now
#   catalog LINE, config LINE
# Nothing without a registry. Parameters by environment: top (its folder), rehash (yes: no recorded digest is trusted).
top=${top:-/opt/containers} rehash=${rehash-}

meta=$top/.registry records=$top/.registry/digests
if [ "$rehash" = yes ]; then records=/dev/null; fi
# find(1), -printf: kind, mode, owner, size, inode, time of change; the name last, which may have blanks.
fields='%y %m %u:%g %s %i %T@ %P\t%l\n'
odd='*[[:cntrl:]]*'
if [ -d "$top" ]; then
  node=$(uname -n)
  printf 'node %s\n' "${node%%.*}"
  find "$top" -maxdepth 2 \( \( -name "$odd" -o -lname "$odd" \) -printf 'odd %h\n' \) -o -printf "entry $fields"
  find "$meta/incoming" -mindepth 1 -maxdepth 1 ! -name "$odd" -printf "incoming $fields" 2>/dev/null
  sed 's/^/record /' "$records" 2>/dev/null
  # A record is "digest size inode time path": what stands behind the digest is the key.
  find "$top" -mindepth 2 -maxdepth 2 ! -path '*/.registry/*' -type f -name '*.sif' ! -name "$odd" \
    -printf '%s %i %T@ %P\n' | {
    # awk's NR==FNR also holds in the second file when the first is empty: hence the test for one that is not.
    if [ -s "$records" ]; then
      awk 'NR==FNR { known[substr($0, 66)]; next } !($0 in known) { sub(/^[^ ]* [^ ]* [^ ]* /, ""); print }' \
        "$records" -
    else
      sed 's/^[^ ]* [^ ]* [^ ]* //'
    fi
  } | while IFS= read -r file; do printf 'sum %s\n' "$(sha256sum <"$top/$file") $file"; done
  sed 's/^/catalog /' "$meta/catalog.yaml" 2>/dev/null
  sed 's/^/config /' "$meta/config.yaml" 2>/dev/null
fi
:
