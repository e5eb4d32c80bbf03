# What an ordinary user of a node may do in the registry of containers and should not, or cannot and should: a sentence
# without a subject for each. sh registry_access.sh ROOT
cd "$1" || {
  echo 'cannot enter .'
  exit 0
}
# A failed redirection of a special built-in ends a POSIX shell: hence the subshells.
for file in */*.sif .registry/catalog.yaml .registry/config.yaml; do
  if [ ! -L "$file" ] && [ ! -e "$file" ]; then continue; fi
  head -c 32 "$file" >/dev/null 2>&1 || echo "cannot read $file"
  if (: >>"$file") 2>/dev/null; then echo "may write $file"; fi
done
for folder in . * .registry; do
  ls "$folder" >/dev/null 2>&1 || echo "cannot read $folder"
  if (: >"$folder/hpcstate-try") 2>/dev/null; then
    echo "may write $folder"
    rm -f "$folder/hpcstate-try"
  fi
done
:
