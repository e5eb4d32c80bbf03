# Removes the folders of jobs that slurmctld has no more, on the controller, as root: each as the user that owns it, for
# a server may know no root of ours. Leftovers of nodes that died are among them. A job that waits again after a requeue
# keeps its folder. Nothing is removed unless slurmctld says which jobs there are; a server that is away is not waited for.
# By environment: scratch, prefix (of a folder's name, before the job's number), mount (where the file system of $scratch is
# mounted: what lies below a mount that is missing is none of ours), mountinfo.
set -u
PATH=/usr/sbin:/usr/bin:/sbin:/bin
scratch=${scratch:?} prefix=${prefix-} mount=${mount:?}
newline='
'

mount=$mount awk '$5 == ENVIRON["mount"] { found = 1 } END { exit !found }' "${mountinfo:-/proc/self/mountinfo}" || exit 0
# shellcheck disable=SC2016 # $1 is that of the inner shell
timeout --kill-after=5 60 sh -c '[ -d "$1" ] || { mkdir "$1" && chmod 1777 "$1"; }' sh "$scratch" 2>/dev/null || exit 0

# Before the jobs are asked for: whoever is in this list was a job then.
folders=$(timeout --kill-after=5 60 find "$scratch" -mindepth 1 -maxdepth 1 -type d -name "${prefix}[0-9]*" \
  -printf '%U %G %f\n' 2>/dev/null) || exit 0
[ -n "$folders" ] || exit 0
# --all: those of hidden partitions too.
jobs=$(timeout --kill-after=5 60 squeue --noheader --all --format='%A %U' 2>/dev/null) || exit 0
jobs="$newline$(printf '%s\n' "$jobs" | awk '{ print $1, $2 }')$newline"

# remove USER GROUP FOLDER
remove() {
  # shellcheck disable=SC2016 # $1 is that of the inner shell
  timeout --kill-after=5 1800 setpriv --reuid="$1" --regid="$2" --clear-groups \
    sh -c 'cd / && { rm -rf --one-file-system "$1" 2>/dev/null || { chmod -R u+rwX "$1"; rm -rf --one-file-system "$1"; }; }' \
    sh "$3" </dev/null
}

printf '%s\n' "$folders" | while read -r user group name; do
  job=${name#"$prefix"}
  case $job in *[!0-9]*) continue ;; esac
  if [ "$user" = 0 ]; then continue; fi
  case $jobs in *"$newline$job $user$newline"*) continue ;; esac
  remove "$user" "$group" "$scratch/$name" || echo "$scratch/$name of user $user is not removed whole" >&2
done
exit 0
