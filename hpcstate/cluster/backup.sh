# What a backup takes from a Slurm cluster's controller, run there as root: sh backup.sh ACTION
#   look        a line for each: "slurm VERSION", "mariadb VERSION", "next JOB" (the number of the next one), "jobs COUNT STATE"
#               of the queue, "recorded COUNT" of jobs in the database, "since COUNT" of those after $since, "created SECONDS"
#               (when the database learned of the cluster), "associations COUNT", "state BYTES", "room BYTES"; nothing where it
#               does not answer
#   take        slurmctld stops for a moment: what it keeps and the database are of the same time then, and lie in $spool.
#               "stopped SECONDS" is how long it stood still, "taken SECONDS" since 1970 when
#   show PART   prints one of them, compressed: state, database; catalog as it is
#   tree PATH   prints what is below PATH, as a compressed tar
#   clear       removes $spool
# By environment: state (slurmctld's folder, where slurm.conf does not say another), spool (a folder beside it, for copies),
# database (its name, empty without accounting), cluster, catalog (a file), since (seconds since 1970).
set -eu
state=${state:?} spool=${spool:?} database=${database-} cluster=${cluster:?} catalog=${catalog:?} since=${since:-0}
said=$(sed -n 's/^[[:blank:]]*StateSaveLocation[[:blank:]]*=[[:blank:]]*\([^[:blank:]#]*\).*/\1/Ip' /etc/slurm/slurm.conf 2>/dev/null |
  tail -n 1) || :
state=${said:-$state}

ask() { timeout 60 mariadb --batch --skip-column-names --execute "$1" 2>/dev/null || :; }

# line WORD VALUE: where there is a value.
line() { if [ -n "$2" ]; then echo "$1 $2"; fi; }

bytes() { du --summarize --block-size=1 "$1" 2>/dev/null | cut -f 1; }

room() { df --output=avail --block-size=1 "$1" | tail -n 1 | tr -d ' '; }

look() {
  line slurm "$(slurmctld -V 2>/dev/null | sed -n 's/^[^ ]* *\([0-9][0-9.]*\).*/\1/p')"
  if config=$(timeout 20 scontrol show config 2>/dev/null); then
    printf '%s\n' "$config" | sed -n 's/^NEXT_JOB_ID *= *\([0-9][0-9]*\).*/next \1/p'
    timeout 30 squeue --noheader --states=all --format=%T 2>/dev/null | sort | uniq -c | sed 's/^ *\([0-9]*\) /jobs \1 /' || :
  fi
  line state "$(bytes "$state")"
  line room "$(room "$state")"
  [ -n "$database" ] || return 0
  line mariadb "$(ask 'SELECT VERSION()' | sed 's/^\([0-9.]*\).*/\1/')"
  line created "$(ask "SELECT creation_time FROM \`$database\`.cluster_table WHERE name = '$cluster' AND deleted = 0")"
  jobs="\`$database\`.\`${cluster}_job_table\`"
  line recorded "$(ask "SELECT COUNT(*) FROM $jobs")"
  line since "$(ask "SELECT COUNT(*) FROM $jobs WHERE time_submit > $since OR time_end > $since")"
  line associations "$(ask "SELECT COUNT(*) FROM \`$database\`.\`${cluster}_assoc_table\` WHERE deleted = 0")"
}

# Room for the copy of the state, and for the database as text, which is compressed to a fraction of it: MariaDB lies on the
# same volume, and must never be what fills it.
demand_room() {
  need=$(($(bytes "$state") + 67108864))
  if [ -n "$database" ]; then
    held=$(ask "SELECT COALESCE(SUM(data_length), 0) FROM information_schema.tables WHERE table_schema = '$database'")
    need=$((need + ${held:-0}))
  fi
  have=$(room "$spool")
  if [ "$have" -lt "$need" ]; then
    echo "no room for the copies at $spool: $((need / 1048576)) MiB are needed, $((have / 1048576)) MiB are free" >&2
    exit 1
  fi
}

begin_dump() {
  : >"$spool/dump.said"
  # One transaction, as InnoDB has it: nobody waits for it, and it sees one moment. What it says tells when that is fixed.
  {
    mariadb-dump --single-transaction --quick --routines --hex-blob --default-character-set=utf8mb4 --verbose "$database" \
      2>>"$spool/dump.said" || : >"$spool/dump.failed"
  } | zstd -q -3 -o "$spool/database.sql.zst" - || : >"$spool/dump.failed"
  : >"$spool/dump.ended"
}

dump_failed() {
  echo "the database cannot be dumped:" >&2
  grep -v '^--' "$spool/dump.said" | tail -n 5 >&2 || :
  exit 1
}

take() {
  rm -rf "$spool"
  (umask 077 && mkdir -p "$spool")
  again=''
  if systemctl --quiet is-active slurmctld; then again=yes; fi
  # shellcheck disable=SC2317 # the trap calls it
  undo() {
    if [ -n "$again" ]; then systemctl start slurmctld; fi
    rm -rf "$spool"
  }
  trap undo EXIT
  trap 'exit 1' HUP INT TERM
  demand_room
  begun=$(date +%s)
  if [ -n "$again" ]; then systemctl stop slurmctld; fi
  taken=$(date +%s)
  if [ -n "$database" ]; then
    begin_dump &
    until grep -q '^-- Retrieving table structure' "$spool/dump.said" || [ -e "$spool/dump.ended" ]; do sleep 0.1; done
    if [ -e "$spool/dump.failed" ]; then dump_failed; fi
  fi
  # Each file of the state is replaced in one step, but not all of them in the same; what slurmctld has not told slurmdbd yet
  # (dbd.messages) is written when it ends.
  cp -a "$state" "$spool/state"
  if [ -n "$again" ]; then systemctl start slurmctld; fi
  again=''
  echo "stopped $(($(date +%s) - begun))"
  echo "taken $taken"
  wait
  if [ -e "$spool/dump.failed" ]; then dump_failed; fi
  trap - EXIT
}

show() {
  case $1 in
  state) tar --numeric-owner --use-compress-program='zstd -q -3' -C "$spool/state" -cf - . ;;
  database) cat "$spool/database.sql.zst" ;;
  catalog) if [ -f "$catalog" ]; then cat "$catalog"; fi ;;
  esac
}

# A file that changes as it is read is no failure (tar's 1): people go on working.
tree() {
  code=0
  tar --numeric-owner --acls --xattrs --one-file-system --warning=no-file-ignored --use-compress-program='zstd -q -3' \
    --exclude=./.registry/incoming --exclude=./lost+found -C "$1" -cf - . || code=$?
  [ "$code" -le 1 ] || exit "$code"
}

case ${1:?} in
look | take) "$1" ;;
show | tree) "$1" "${2:?}" ;;
clear) rm -rf "$spool" ;;
esac
