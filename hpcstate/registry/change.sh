# Changes the registry of containers of this node, for root:
#   layout [PATH MODE OWNER]...         make the folders; config.yaml gets $text
#   catalog                             catalog.yaml gets $text
#   key DIGEST                          where there is no key, $text becomes it ("given"); "other" where it has another digest
#   place FILE DIGEST SIZE SIGNED       what has arrived is verified (its signature where SIGNED is yes), and gets its mode
#                                       and owner, then its name; its digest is recorded
#   verify FILE...                      the signatures of files that are in place; nothing is removed
#   remove FILE...                      take files out
#   finish [closed FILE | link PATH TARGET | stale PATH]...    what comes after the files: modes and owners, links switched
#                                       in one step each, those that lead nowhere removed, what nobody waits for any more
#                                       removed, and last the catalog
#   serve SUBNET, stop                  let the nodes of a subnet read the containers by rsync, for six hours at most
# What is wrong with a file is not told by an exit code but by a line "damaged REASON" (other bytes; the file is removed)
# or "refused REASON" (its signature; removed where it is not in place yet): a person wants a sentence.
#
# cat hpcstate/replace_file.sh hpcstate/registry/change.sh | NAME=VALUE... sh -s ACTION ARGUMENT...
# By environment: top (its folder), owner and mode of its files, key (verifies signatures), text; of the relay unit (of
# systemd), port and conf (rsync's configuration).
set -e
top=${top:-/opt/containers} owner=${owner:-root:root} mode=${mode:-644} key=${key-} text=${text-}
unit=${unit:-hpcstate-registry-relay} port=${port:-8730} conf=${conf:-/run/hpcstate-registry-relay.conf}

meta=$top/.registry digests=$top/.registry/digests incoming=$top/.registry/incoming arrived=''

# told WORD REASON: report it and end; what has arrived is removed.
told() {
  if [ -n "$arrived" ]; then rm -f "$arrived"; fi
  printf '%s %s\n' "$1" "$2"
  exit 0
}

verify_signature() {
  [ -r "$key" ] || told refused "$key is missing: run deploys/containers.py"
  said=$(apptainer --silent verify --all --key "$key" "$1" 2>&1) ||
    told refused "its signature does not hold: $(printf %s "$said" | tail -n 1)"
}

own() {
  chown "$owner" "$1"
  chmod "$mode" "$1"
}

# The records of other files than FILE...; a record is "digest size inode time path".
other_records() {
  touch "$digests"
  printf '%s\n' "$@" | awk '
    NR==FNR { gone[$0]; next }
    { path = $0; sub(/^[^ ]* [^ ]* [^ ]* [^ ]* /, "", path) }
    !(path in gone)' - "$digests"
}

place() {
  file=$1 digest=$2 size=$3 signed=$4
  arrived=$incoming/$digest.sif
  [ -f "$arrived" ] || told damaged 'nothing arrived'
  there=$(stat -c %s "$arrived")
  [ "$there" = "$size" ] || told damaged "$there bytes have arrived instead of $size"
  sum=$(sha256sum <"$arrived")
  sum=${sum%% *}
  [ "$sum" = "$digest" ] || told damaged "it has the digest $sum instead of $digest"
  if [ "$signed" = yes ]; then verify_signature "$arrived"; fi
  own "$arrived"
  sync "$arrived"
  mv -f "$arrived" "$top/$file"
  records=$(other_records "$file")
  # find's own format of the time, which hpcstate/probe/registry.sh compares with.
  state=$(find "${file%/*}" -mindepth 1 -maxdepth 1 -name "${file##*/}" -printf '%s %i %T@ %p')
  printf '%s\n' ${records:+"$records"} "$digest $state" | replace_file "$digests" "$mode" "$owner"
}

remove() {
  rm -f "$@"
  records=$(other_records "$@")
  printf '%s' "$records${records:+
}" | replace_file "$digests" "$mode" "$owner"
}

finish() {
  while [ $# -gt 0 ]; do
    case $1 in
    closed)
      own "$2"
      shift 2
      ;;
    link)
      ln -sfn "$3" "$meta/${2##*/}.link"
      mv -Tf "$meta/${2##*/}.link" "$2"
      shift 3
      ;;
    stale)
      rm -f "$2"
      shift 2
      ;;
    esac
  done
  find "$incoming" -mindepth 1 -delete
}

stop() {
  systemctl stop "$unit" 2>/dev/null || :
  rm -f "$conf"
}

serve() {
  stop
  # rsync's own protocol, without SSH: an emulated CPU encrypts slowly, every user of the cluster may read these files
  # anyway, and what arrives is verified by a digest that came over SSH.
  printf '%s\n' 'use chroot = no' 'list = no' '[containers]' "path = $top" 'read only = yes' \
    "hosts allow = 127.0.0.1 $1" 'exclude = /.registry' >"$conf"
  systemd-run --quiet --collect --unit="$unit" -p DynamicUser=yes -p RuntimeMaxSec=6h \
    rsync --daemon --no-detach --config="$conf" --port="$port"
  for _ in $(seq 50); do
    if rsync -q "rsync://127.0.0.1:$port/" 2>/dev/null; then return 0; fi
    sleep 0.2
  done
  echo "rsync did not begin to listen on port $port" >&2
  return 1
}

action=$1
shift
case $action in
layout)
  umask 022
  while [ $# -gt 0 ]; do
    mkdir -p "$1"
    chown "$3" "$1"
    chmod "$2" "$1"
    shift 3
  done
  printf %s "$text" | replace_file "$meta/config.yaml" "$mode" "$owner"
  ;;
catalog) printf %s "$text" | replace_file "$meta/catalog.yaml" "$mode" "$owner" ;;
key)
  if [ ! -e "$key" ]; then
    printf %s "$text" | replace_file "$key" "$mode" "$owner"
    echo given
  elif [ "$(sha256sum <"$key")" != "$1  -" ]; then
    echo other
  fi
  ;;
place | remove)
  cd "$top"
  "$action" "$@"
  ;;
verify) for file; do (verify_signature "$top/$file"); done ;;
finish)
  cd "$top"
  finish "$@"
  printf %s "$text" | replace_file "$meta/catalog.yaml" "$mode" "$owner"
  ;;
serve | stop) "$action" "$@" ;;
*)
  echo "there is no action $action" >&2
  exit 2
  ;;
esac
