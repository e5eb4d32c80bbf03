# The release's codename, and all files of apt's sources: "file PATH", then its lines, each behind a "|".
# Parameter by environment: root (before each path).
root=${root-}

grep -sh ^VERSION_CODENAME= "$root/etc/os-release"
for file in "$root/etc/apt/sources.list" "$root"/etc/apt/sources.list.d/*.list \
  "$root"/etc/apt/sources.list.d/*.sources; do
  [ -r "$file" ] || continue
  printf 'file %s\n' "$file"
  while IFS= read -r line || [ -n "$line" ]; do printf '|%s\n' "$line"; done <"$file"
done
:
