# Removes what watched the health of this node: files, folders, records, what slurmctld has of it. For root; the last of the
# files says that it is not done yet. A drain by health ends: nobody would look again.
# ... | NAME=VALUE... sh -s FILE...; by environment: node, prefix (of our Comment and reasons), folders, records
set -eu
node=${node:?} prefix=${prefix:?} folders=${folders:?} records=${records:?}

shown=$(timeout 20 scontrol --oneliner show node "$node" 2>/dev/null) || shown=
case $shown in
*" Comment=$prefix"*) timeout 20 scontrol update nodename="$node" comment= || : ;;
esac
case $shown in
*" Reason=$prefix"*)
  state=${shown#* State=}
  case ${state%% *} in *DRAIN*) timeout 20 scontrol update nodename="$node" state=resume reason=none || : ;; esac
  ;;
esac
# shellcheck disable=SC2086 # words
rm -rf $folders
for record in $records; do rm -f "$record" "$record".[0-9]*; done
rm -f "$@"
