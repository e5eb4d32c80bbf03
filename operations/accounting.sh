# What records the jobs of a cluster, on its controller, run there as root:
#
# cat hpcstate/replace_file.sh operations/accounting.sh | NAME=VALUE... sh -s ACTION
#   database   MariaDB runs with the file that lies in $fresh, if one does; it has the database, and the user for slurmdbd
#   configure  slurmdbd's file lies in its place; it is not started
#   convert OLD NEW
#              the database is dumped, and its tables, which are of the version OLD, are converted to NEW
#   daemon     slurmdbd runs with its file from there, and answers; it knows the cluster, and slurmctld's state has the number
#              that it gave to it
#   off        neither runs nor starts at boot, and their files are gone; what they recorded stays
# By environment: database, user, cluster (their names), mariadb_conf, slurmdbd_conf, client_conf (where the files go),
# data (the databases' folder), dumps (a folder for dumps), fresh (new files by their names), applied (copies of those that
# the daemons were last started with), clustername (slurmctld's note of the number), wait_s (for how long each daemon is waited for).
set -eu
database=${database:?} user=${user:?} cluster=${cluster:?} wait_s=${wait_s:?}
mariadb_conf=${mariadb_conf:?} slurmdbd_conf=${slurmdbd_conf:?} client_conf=${client_conf:?} data=${data:?} dumps=${dumps:?}
fresh=${fresh:?} applied=${applied:?} clustername=${clustername:?}

# Fail with a message, and what the daemon UNIT said last.
fail() {
  echo "$2" >&2
  echo "--- the end of the journal of $1:" >&2
  journalctl --unit="$1" --lines=25 --no-pager --output=cat >&2 || :
  exit 1
}

# install_new PATH MODE OWNER: the new file, if there is one.
install_new() {
  if [ -f "$fresh/${1##*/}" ]; then replace_file "$1" "$2" "$3" <"$fresh/${1##*/}"; fi
}

# run_with UNIT FILE: UNIT runs, as it was started with FILE, and starts at boot.
run_with() {
  # Starts that were tried before count towards the limit of the unit, which may have been reached.
  systemctl reset-failed "$1" 2>/dev/null || :
  systemctl enable --quiet "$1"
  if cmp --silent "$2" "$applied/${2##*/}"; then verb=start; else verb=restart; fi
  systemctl "$verb" "$1" || fail "$1" "$1 does not start"
}

# wait_for UNIT COMMAND...: until COMMAND succeeds.
wait_for() {
  unit=$1
  shift
  until=$(($(date +%s) + wait_s))
  until "$@" >/dev/null 2>&1; do
    ! systemctl --quiet is-failed "$unit" || fail "$unit" "$unit does not stay up"
    [ "$(date +%s)" -lt "$until" ] || fail "$unit" "$unit does not answer after $wait_s s"
    sleep 1
  done
}

# applied_now PATH: the daemon runs with this file.
applied_now() {
  mkdir -p "$applied"
  install --mode=600 "$1" "$applied/"
  rm -f "$fresh/${1##*/}"
}

manage() { timeout 60 env SLURM_CONF="$client_conf" sacctmgr "$@"; }

query() { timeout 60 mariadb --batch --skip-column-names --execute "$1"; }

database() {
  install_new "$mariadb_conf" 644 root:root
  # The image has this folder; the one on a data volume may be new.
  if [ ! -d "$data/mysql" ]; then
    said=$(mariadb-install-db --user=mysql --skip-test-db 2>&1) || fail mariadb "MariaDB cannot begin at $data: $said"
  fi
  run_with mariadb "$mariadb_conf"
  wait_for mariadb timeout 20 mariadb-admin ping
  # The user has no password: MariaDB asks the kernel who is at the other end of the socket.
  query "CREATE DATABASE IF NOT EXISTS \`$database\`;
    CREATE USER IF NOT EXISTS '$user'@'localhost' IDENTIFIED VIA unix_socket;
    ALTER USER '$user'@'localhost' IDENTIFIED VIA unix_socket;
    GRANT ALL PRIVILEGES ON \`$database\`.* TO '$user'@'localhost';"
  applied_now "$mariadb_conf"
}

configure() {
  # No reader of the node has to be kept from it, but slurmdbd refuses any other mode.
  install_new "$slurmdbd_conf" 600 "$user:$user"
  install_new "$client_conf" 644 root:root
  chown "$user:$user" "$slurmdbd_conf"
  chmod 600 "$slurmdbd_conf"
}

# A conversion has no way back but the dump, and slurmdbd answers nobody until it has ended: it may take hours.
convert() {
  old=$1 new=$2
  (umask 077 && mkdir -p "$dumps")
  held=$(query "SELECT COALESCE(SUM(data_length + index_length), 0) FROM information_schema.tables
    WHERE table_schema = '$database'")
  have=$(df --output=avail --block-size=1 "$dumps" | tail -n 1 | tr -d ' ')
  # The dump, and the tables that MariaDB copies while it changes them.
  if [ "$have" -lt $((2 * held + 67108864)) ]; then
    need=$((2 * held / 1048576 + 64))
    echo "no room at $dumps for a dump and a conversion: $need MiB are needed, $((have / 1048576)) are free" >&2
    exit 1
  fi
  dump=$dumps/$database-version-$old.sql.zst
  rm -f "$dump.new" "$dump.broken"
  (
    umask 077
    { mariadb-dump --single-transaction --quick --routines --hex-blob --default-character-set=utf8mb4 "$database" ||
      : >"$dump.broken"; } | zstd -q -3 -o "$dump.new" -
  )
  [ ! -e "$dump.broken" ] || { echo "the database cannot be dumped: it is not converted" >&2; exit 1; }
  # The dump of a conversion that did not end is the true one: what is there now is half converted.
  if [ ! -e "$dump" ]; then mv "$dump.new" "$dump"; else rm -f "$dump.new"; fi
  sync "$dump"
  echo "the tables of version $old are dumped to $dump; slurmdbd converts them to $new"
  systemctl stop slurmdbd 2>/dev/null || :
  said=$dumps/conversion.log
  setpriv --reuid="$user" --regid="$user" --init-groups slurmdbd -D >"$said" 2>&1 </dev/null &
  process=$!
  trap 'kill "$process" 2>/dev/null || :' EXIT
  trap 'exit 1' HUP INT TERM
  begun=$(date +%s) told=0
  until manage ping >/dev/null 2>&1; do
    if ! kill -0 "$process" 2>/dev/null; then
      echo "slurmdbd ended while it converted the tables; it goes on where it is started again. $dump has those of before" >&2
      tail -n 20 "$said" >&2
      exit 1
    fi
    now=$(($(date +%s) - begun))
    if [ "$now" -ge $((told + 30)) ]; then
      told=$now
      echo "converting since $now s: $(tail -n 1 "$said")"
    fi
    sleep 1
  done
  kill "$process"
  wait "$process" || :
  trap - EXIT HUP INT TERM
  is=$(query "SELECT version FROM \`$database\`.convert_version_table LIMIT 1")
  [ "$is" = "$new" ] || { echo "the tables are of version $is after the conversion, and not $new" >&2; exit 1; }
  echo "converted in $(($(date +%s) - begun)) s"
}

daemon() {
  configure
  run_with slurmdbd "$slurmdbd_conf"
  wait_for slurmdbd manage ping
  if [ -z "$(manage --noheader --parsable2 show cluster "$cluster" format=cluster)" ]; then
    manage --immediate add cluster "$cluster"
  fi
  agree
  applied_now "$slurmdbd_conf"
  rm -rf "$fresh"
}

# slurmctld takes a number for its cluster when it begins without slurmdbd, and stops where slurmdbd has another ("Running
# multiple clusters from a shared StateSaveLocation"): its message says to remove the note. The name in it stays a guard.
# A slurmctld that runs reads the note when it starts again.
agree() {
  id=$(query "SELECT id FROM \`$database\`.cluster_table WHERE name = '$cluster' AND deleted = 0")
  [ -n "$id" ] || fail slurmdbd "slurmdbd does not know the cluster $cluster, which it was told of"
  [ -f "$clustername" ] || return 0
  noted=$(cat "$clustername")
  if [ "${noted%%|*}" = "$cluster" ] && [ "$noted" != "$cluster|$id" ]; then
    echo "the number of the cluster in slurmctld's state was ${noted#*|}, and is that of slurmdbd now: $id"
    printf '%s|%s' "$cluster" "$id" | replace_file "$clustername" "$(stat --format %a "$clustername")" "$user:$user"
  fi
}

off() {
  for unit in slurmdbd mariadb; do
    systemctl disable --quiet --now "$unit" 2>/dev/null || ! systemctl --quiet is-active "$unit" ||
      fail "$unit" "$unit does not stop"
  done
  rm -f "$slurmdbd_conf" "$mariadb_conf" "$client_conf"
  rm -rf "$fresh" "$applied"
}

"$@"
