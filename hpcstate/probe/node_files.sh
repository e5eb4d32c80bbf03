# The contents of files, a line for each in their order: base64 of its first LIMIT bytes, `-` where there is no file.
# sh node_files.sh LIMIT FILE...
limit=$1
shift
for file in "$@"; do
  if [ -f "$file" ]; then
    printf '+'
    head -c "$limit" -- "$file" | base64 -w 0
    echo
  else
    echo -
  fi
done
