# Which ports answer this node: "open ADDRESS PORT" for each that takes a connection within three seconds.
# sh knock.sh ADDRESS:PORT...
for each; do
  # shellcheck disable=SC2016 # for bash
  timeout 3 bash -c ': <"/dev/tcp/$0/$1"' "${each%:*}" "${each##*:}" 2>/dev/null && echo "open ${each%:*} ${each##*:}"
done
:
