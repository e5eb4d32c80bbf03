# Timers of this machine that back clusters up.
#   ROOT= sh backup_timer.sh look
#   ROOT= sh backup_timer.sh put UNIT TIMER SERVICE        (the texts of the units)
#   ROOT= sh backup_timer.sh remove UNIT
# Without systemd (a container) the units lie below /run, for the look, and start nothing. ROOT is for tests.
set -eu
if [ -d "$ROOT/run/systemd/system" ]; then
    manager=systemd units=$ROOT/etc/systemd/system
else
    manager=none units=$ROOT/run/hpcstate/backups
fi

# as systemctl: where there is no systemd, nothing.
manage() {
    if [ "$manager" = systemd ]; then systemctl "$@"; fi
}

write() {
    printf '%s' "$2" >"$1.new"
    chmod 0644 "$1.new"
    mv "$1.new" "$1"
}

case $1 in
look)
    for timer in "$units"/hpcstate-backup-*.timer; do
        [ -e "$timer" ] || continue
        unit=${timer##*/}
        unit=${unit%.timer}
        state=off
        if manage is-active --quiet "$unit.timer" && manage is-enabled --quiet "$unit.timer"; then state=on; fi
        digest=$(cat "$timer" "$units/$unit.service" 2>/dev/null | sha256sum)
        echo "timer $state ${digest%% *} $unit $(sed -n 's/^# hpcstate backup: //p' "$timer" | head -n 1)"
    done
    ;;
put)
    mkdir -p "$units"
    write "$units/$2.service" "$4"
    write "$units/$2.timer" "$3"
    manage daemon-reload
    manage enable --quiet "$2.timer"
    manage restart "$2.timer"
    ;;
remove)
    manage disable --quiet --now "$2.timer" 2>/dev/null || :
    rm -f "$units/$2.timer" "$units/$2.service"
    manage daemon-reload
    ;;
esac
