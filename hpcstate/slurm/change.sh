# One change of Slurm on this node, from its check to its record: new files are checked and moved to Slurm's folder, the
# daemon is told, and what it runs with is recorded. For root. On failure it says why, shows the end of the daemon's
# journal and leaves the configuration that the running daemon has.
#
# cat hpcstate/replace_file.sh hpcstate/slurm/change.sh | NAME=VALUE... sh -s FILE...
# FILE... are the names of all files that the daemon reads. By environment:
#   unit      slurmd or slurmctld
#   staged    the files that differ: /slurm.conf/gres.conf/
#   act       what makes the daemon read them: start, restart, reconfigure (slurmctld and every slurmd), reload (this slurmd
#             and no other), or empty
#   enable    yes: the daemon starts at boot as well
#   wait_s    so many seconds slurmctld is waited for, until it answers, or slurmd, until it is registered; empty: not
#   node      the NodeName of slurmd: when the change fails, it stays drained with the reason, behind `prefix`
#   gpus      so many GPUs slurmctld must count on it
#   conf      Slurm's folder; new files lie in `fresh`, in `applied` those that the running daemon was last started with
set -eu
unit=${unit:?} staged=${staged-} act=${act-} enable=${enable-} wait_s=${wait_s-} node=${node-} gpus=${gpus:-0}
prefix=${prefix:-hpcstate: } conf=${conf:-/etc/slurm}
fresh=${fresh:-/var/lib/hpcstate/slurm/staged} applied=${applied:-/var/lib/hpcstate/slurm/applied}

restored='' since=0 shown='' state='' gres=''

# Fail with a message and the journal; the node stays drained with that message.
stop() {
  echo "$1" >&2
  if [ -n "$node" ]; then keep_drained "$1"; fi
  echo "--- the end of the journal of $unit:" >&2
  journalctl --unit="$unit" --lines=25 --no-pager --output=cat >&2 || :
  tail -n 15 "/var/log/slurm/$unit.log" >&2 2>/dev/null || :
  exit 1
}

# restore FILE...: the files that the running daemon has; $restored says whether that was a change.
restore() {
  [ -d "$applied" ] || return 0
  for file; do
    if cmp --silent "$applied/$file" "$conf/$file"; then continue; fi
    restored=yes
    if [ -e "$applied/$file" ]; then cp -f "$applied/$file" "$conf/$file"; else rm -f "$conf/$file"; fi
  done
}

# Whether slurmctld has heard of a slurmd that started at $since (s) or later; sets $shown and $state.
seen() {
  shown=$(timeout 20 scontrol --oneliner show node "$node" 2>/dev/null) || return 1
  state=${shown#* State=}
  state=${state%% *}
  started=${shown#* SlurmdStartTime=}
  started=${started%% *}
  [ "$(date --date="$started" +%s 2>/dev/null || echo 0)" -ge "$since" ]
}

# Whether slurmctld answers within half a minute.
answers() {
  for _ in 1 2 3; do
    if timeout 20 scontrol ping 2>/dev/null | grep --quiet 'is UP'; then return 0; fi
    sleep 3
  done
  return 1
}

drain() { scontrol update nodename="$node" state=drain reason="$1" 2>/dev/null || :; }

# A node that is drained, or got its old files back, has our reason for it. That comes after Slurm's own, which it gives
# to a node that registers with less than configured, and again when the node registers once more (in the lab a node that
# slurmctld had just accepted lost ours). A drain that somebody else had set before the change keeps its reason: with
# ours it would be lifted.
keep_drained() {
  if [ -n "$foreign" ]; then return 0; fi
  if [ -n "$restored" ]; then
    for _ in $(seq 30); do
      if seen; then break; fi
      sleep 1
    done
  else
    seen || :
  fi
  case $restored$state in yes* | *DRAIN*) ;; *) return 0 ;; esac
  reason=$prefix$(printf %.110s "$1")
  drain "$reason"
  if [ -z "$restored" ]; then return 0; fi
  for _ in $(seq 8); do
    sleep 1
    seen || continue
    case $shown in *" Reason=$prefix"*) ;; *) drain "$reason" ;; esac
  done
}

# begin VERB FILE...: systemctl VERB; when that fails and there are new files, with the old ones.
begin() {
  verb=$1
  shift
  # Starts that were tried before count towards the limit of the unit, which may have been reached.
  systemctl reset-failed "$unit" 2>/dev/null || :
  if systemctl "$verb" "$unit"; then return 0; fi
  restore "$@"
  [ -n "$restored" ] || stop "$unit does not start"
  systemctl reset-failed "$unit" 2>/dev/null || :
  systemctl "$verb" "$unit" || stop "$unit starts with neither configuration, new or old"
  stop "$unit does not start with the new configuration; it runs with the old one again"
}

# Whether the main process of slurmd is younger than the new files. ps(1) rounds the age to seconds.
is_fresh() {
  pid=$(systemctl show --property=MainPID --value slurmd)
  age=$(ps -o etimes= -p "$pid") && [ $(($(date +%s) - age)) -ge "$since" ]
}

# A drained node counts as registered: whether jobs may run there is another question. INVALID_REG does not, nor does
# "*" (not responding).
is_registered() {
  seen || return 1
  case $state in *UNKNOWN* | *DOWN* | *INVAL* | *NOT_RESPONDING* | *"*"*) return 1 ;; esac
  counted=0
  gres=${shown#* Gres=}
  gres=$(echo "${gres%% *}" | sed 's/([^)]*)//g; s/,/ /g')
  for word in $gres; do
    case $word in gpu:*) counted=$((counted + ${word##*:})) ;; esac
  done
  [ "$counted" -eq "$gpus" ]
}

foreign=
if [ -n "$node" ] && scontrol ping 2>/dev/null | grep --quiet 'is UP' && { seen || [ -n "$shown" ]; }; then
  case $state in
  *DRAIN*) case $shown in *" Reason=$prefix"*) ;; *) foreign=yes ;; esac ;;
  esac
fi

case $staged in
*/slurm.conf/*)
  SLURM_CONF=$fresh/slurm.conf scontrol show hostnames x >/dev/null ||
    stop 'Slurm does not accept the new slurm.conf; nothing was changed'
  ;;
esac
for file; do
  case $staged in */"$file"/*) replace_file "$conf/$file" 644 <"$fresh/$file" ;; esac
done

since=$(date +%s) # a daemon that starts from now on has read the new files
case $act in
start)
  systemctl enable --quiet "$unit"
  begin start "$@"
  ;;
restart) begin restart "$@" ;;
reconfigure)
  # Fails when the new process of slurmctld does, and the old one goes on (scontrol(1), since 23.11).
  timeout 120 scontrol reconfigure || {
    if answers; then
      restore "$@"
      stop 'slurmctld refuses the new configuration and goes on with the old one'
    fi
    # Seen twice with 24.11.5: all its threads wait for each other as it takes the signal, and it stays so.
    echo 'slurmctld hangs as it reads its files anew; it is ended and started again, jobs go on' >&2
    systemctl kill --signal=KILL slurmctld || :
    begin restart "$@"
  }
  ;;
reload)
  # slurmd does not tell whether that went well: its new process takes over, or the old one goes on (slurmd.c,
  # _try_to_reconfig). So the start time of its main process is watched. Two seconds of pause keep a process that started
  # before the files were written from being taken for a new one. A slurmd that slurmctld reconfigures at that moment may
  # miss the signal: it is sent again.
  sleep 2
  since=$(date +%s) tries=0
  until is_fresh; do
    [ $((tries % 10)) -ne 0 ] || systemctl reload slurmd || {
      restore "$@"
      stop 'slurmd cannot be told to read its files again'
    }
    tries=$((tries + 1))
    [ "$tries" -le 40 ] || {
      restore "$@"
      stop 'slurmd refuses the new configuration and goes on with the old one'
    }
    sleep 1
  done
  ;;
esac
if [ "$enable" = yes ]; then systemctl enable --quiet "$unit"; fi

if [ -n "$wait_s" ]; then
  until=$(($(date +%s) + wait_s))
  case $unit in
  slurmctld)
    until scontrol ping 2>/dev/null | grep --quiet 'is UP'; do
      [ "$(date +%s)" -lt "$until" ] || stop "slurmctld does not answer after $wait_s s"
      sleep 1
    done
    ;;
  *)
    shown='' gres=''
    until is_registered; do
      if [ "$(date +%s)" -ge "$until" ]; then
        [ -n "$shown" ] || stop "slurmctld is silent, or has no such node: deploy the controller"
        reason=
        case $shown in *" Reason="*) reason=", ${shown#* Reason=}" ;; esac
        why="$node did not register with $gpus GPUs within $wait_s s: its state is ${state:-unknown}, its GRES"
        why="$why ${gres:-none}$reason"
        restore "$@"
        if [ -n "$restored" ]; then
          since=$(date +%s)
          systemctl restart slurmd || :
        fi
        stop "$why"
      fi
      sleep 1
    done
    ;;
  esac
fi

mkdir -p "$applied"
for file; do cp -f "$conf/$file" "$applied/"; done
rm -rf "$fresh"
