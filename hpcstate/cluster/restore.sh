# What a backup had is put back on a Slurm cluster's controller, run there as root: sh restore.sh ACTION
#   database   standard input is a dump, compressed; it is loaded beside the database that is in use
#   state      standard input is a compressed tar; it is unpacked in $spool
#   tree PATH  standard input is a compressed tar; it is unpacked over what is below PATH
#   swap       both take the places of what is in use; slurmctld and slurmdbd stop meanwhile, and have to answer afterwards.
#              Where they do not, what was in use comes back
#   clear      removes what was loaded and unpacked, and not used
# By environment: state (slurmctld's folder, where slurm.conf does not say another), spool (a folder beside it), database (its
# name, empty for a backup without one), cluster, user (who slurmctld runs as), accounting (yes: slurmdbd belongs to the
# cluster), client (a slurm.conf for sacctmgr), wait_s (for how long a daemon is waited for).
set -eu
state=${state:?} spool=${spool:?} database=${database-} cluster=${cluster:?} user=${user:?} accounting=${accounting-}
client=${client:?} wait_s=${wait_s:?}
said=$(sed -n 's/^[[:blank:]]*StateSaveLocation[[:blank:]]*=[[:blank:]]*\([^[:blank:]#]*\).*/\1/Ip' /etc/slurm/slurm.conf 2>/dev/null |
  tail -n 1) || :
state=${said:-$state}
loaded=${database}_restored before=${database}_before_restore

query() { mariadb --batch --skip-column-names --execute "$1"; }

# Whether slurmdbd's tables for the cluster are in the database $1.
has_tables() {
  [ "$(query "SELECT COUNT(*) FROM information_schema.tables
    WHERE table_schema = '$1' AND table_name IN ('cluster_table', '${cluster}_job_table')")" = 2 ]
}

database() {
  query "DROP DATABASE IF EXISTS \`$loaded\`; CREATE DATABASE \`$loaded\`"
  (umask 077 && mkdir -p "$spool")
  rm -f "$spool/broken"
  { zstd -q -dc || : >"$spool/broken"; } | mariadb "$loaded"
  [ ! -e "$spool/broken" ] || { echo "the dump cannot be decompressed" >&2; exit 1; }
  has_tables "$loaded" || { echo "the dump has no tables of the cluster $cluster" >&2; exit 1; }
}

state() {
  rm -rf "$spool/state"
  (umask 077 && mkdir -p "$spool/state")
  tar --use-compress-program='zstd -q' -C "$spool/state" -xpf -
  # The number of the user may be another on this node's disk.
  chown -R "$user:" "$spool/state"
  [ -f "$spool/state/job_state" ] || { echo "this is no state of slurmctld: it has no job_state" >&2; exit 1; }
}

tree() { tar --numeric-owner --acls --xattrs --use-compress-program='zstd -q' -C "$1" -xpf -; }

# move_tables FROM TO: all of them; TO is made anew, FROM is empty then. slurmdbd makes its procedures when it starts.
move_tables() {
  query "DROP DATABASE IF EXISTS \`$2\`; CREATE DATABASE \`$2\`"
  renames=$(query "SELECT GROUP_CONCAT(CONCAT('\`$1\`.\`', table_name, '\` TO \`$2\`.\`', table_name, '\`') SEPARATOR ', ')
    FROM information_schema.tables WHERE table_schema = '$1' AND table_type = 'BASE TABLE'")
  if [ -n "$renames" ] && [ "$renames" != NULL ]; then query "RENAME TABLE $renames"; fi
}

# move_files FROM TO: what is in a folder into another, which is emptied first. The folder itself may be mounted.
move_files() {
  mkdir -p "$2"
  find "$2" -mindepth 1 -delete
  find "$1" -mindepth 1 -maxdepth 1 -exec mv -t "$2" {} +
}

# wait_for UNIT COMMAND...: until COMMAND succeeds.
wait_for() {
  unit=$1
  shift
  until=$(($(date +%s) + wait_s))
  until "$@" >/dev/null 2>&1; do
    if systemctl --quiet is-failed "$unit" || [ "$(date +%s)" -ge "$until" ]; then
      echo "$unit does not answer; the end of its journal:" >&2
      journalctl --unit="$unit" --lines=15 --no-pager --output=cat >&2 || :
      return 1
    fi
    sleep 1
  done
}

stop() {
  systemctl stop slurmctld
  if [ -n "$accounting" ]; then systemctl stop slurmdbd; fi
}

# slurmctld stops where slurmdbd has another number for the cluster than its own note (clustername) says.
agree() {
  id=$(query "SELECT id FROM \`$1\`.cluster_table WHERE name = '$cluster' AND deleted = 0")
  if [ -n "$id" ] && [ -f "$state/clustername" ]; then printf '%s|%s' "$cluster" "$id" >"$state/clustername"; fi
}

begin() {
  systemctl reset-failed slurmctld slurmdbd 2>/dev/null || :
  if [ -n "$accounting" ]; then
    systemctl start slurmdbd
    wait_for slurmdbd timeout 20 env SLURM_CONF="$client" sacctmgr ping
  fi
  systemctl start slurmctld
  wait_for slurmctld timeout 20 scontrol ping
}

# What a swap that was killed has moved out, and nothing stands in the place of: it would be thrown away by the next one.
take_up() {
  if [ -n "$database" ] && has_tables "$before" && ! has_tables "$database"; then move_tables "$before" "$database"; fi
  if [ -f "$spool/before/job_state" ] && [ ! -f "$state/job_state" ]; then
    find "$spool/before" -mindepth 1 -maxdepth 1 -exec mv -t "$state" {} +
  fi
}

swap() {
  [ -d "$spool/state" ] || { echo "nothing was unpacked yet" >&2; exit 1; }
  take_up
  files=''
  if [ -n "$database" ]; then query "DROP DATABASE IF EXISTS \`$before\`"; fi
  # shellcheck disable=SC2317 # the trap calls it
  back() {
    trap - EXIT
    echo "it goes back to what was in use" >&2
    stop || :
    case $files in
    out) find "$spool/before" -mindepth 1 -maxdepth 1 -exec mv -t "$state" {} + || : ;;
    in) move_files "$spool/before" "$state" ;;
    esac
    if [ -n "$database" ] && has_tables "$before"; then move_tables "$before" "$database"; fi
    begin || echo "and that does not start, either" >&2
    exit 1
  }
  trap back EXIT
  trap 'exit 1' HUP INT TERM
  stop
  if [ -n "$database" ]; then
    move_tables "$database" "$before"
    move_tables "$loaded" "$database"
    query "DROP DATABASE \`$loaded\`"
  fi
  rm -rf "$spool/before"
  files=out
  move_files "$state" "$spool/before"
  files=in
  move_files "$spool/state" "$state"
  if [ -n "$accounting" ]; then agree "${database:-slurm_acct_db}"; fi
  begin
  trap - EXIT
  rm -rf "$spool/state"
}

case ${1:?} in
database | state | swap) "$1" ;;
tree) "$1" "${2:?}" ;;
clear)
  rm -rf "$spool/state" "$spool/broken"
  if [ -n "$database" ]; then query "DROP DATABASE IF EXISTS \`$loaded\`"; fi
  ;;
esac
