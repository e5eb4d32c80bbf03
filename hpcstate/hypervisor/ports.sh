# Ports of a hypervisor that lead to nodes.
#   ROOT= sh ports.sh look
#   ROOT= sh ports.sh put UNIT SOCKET SERVICE ADDRESS:PORT TARGET [PROGRAM]
#                                       (SOCKET and SERVICE are the texts of the units, PROGRAM that of one for UDP)
#   ROOT= sh ports.sh remove UNIT
# With systemd a port is a socket unit, and its service is systemd-socket-proxyd(8). In a container without it the same
# program is started by systemd-socket-activate(1); the units lie below /run then, for the look, and do nothing.
# ROOT is for tests.
set -eu
proxy=/usr/lib/systemd/systemd-socket-proxyd
if [ -d "$ROOT/run/systemd/system" ]; then
    manager=systemd units=$ROOT/etc/systemd/system
else
    manager=none units=$ROOT/run/hpcstate/ports
fi

# The process that listens for the unit $1, where there is no systemd.
process() {
    pid=$(cat "$units/$1.pid" 2>/dev/null) || return 1
    grep -aqs -e systemd-socket -e "$1.py" "/proc/$pid/cmdline" || return 1
    echo "$pid"
}

is_on() {
    if [ "$manager" = systemd ]; then
        systemctl is-active --quiet "$1.socket" && systemctl is-enabled --quiet "$1.socket"
    else
        process "$1" >/dev/null
    fi
}

off() {
    if [ "$manager" = systemd ]; then
        systemctl disable --quiet --now "$1.socket" 2>/dev/null || :
        systemctl stop "$1.socket" "$1.service" 2>/dev/null || :
    elif pid=$(process "$1"); then
        kill "$pid"
        while process "$1" >/dev/null; do sleep 0.05; done
    fi
}

write() {
    printf '%s' "$2" >"$1.new"
    chmod 0644 "$1.new"
    mv "$1.new" "$1"
}

case $1 in
look)
    echo "manager $manager"
    for socket in "$units"/hpcstate-port-*.socket; do
        [ -e "$socket" ] || continue
        unit=${socket##*/}
        unit=${unit%.socket}
        state=off
        if is_on "$unit"; then state=on; fi
        digest=$(cat "$socket" "$units/$unit.service" "$units/$unit.py" 2>/dev/null | sha256sum)
        echo "port $state ${digest%% *} $unit $(sed -n 's/^# hpcstate port: //p' "$socket" | head -n 1)"
    done
    # ss(8) of iproute2: state, queues, local address, peer, and for root the processes.
    if command -v ss >/dev/null; then
        ss -H -l -n -t -p | while read -r _ _ _ local _ users; do echo "listen $local $users"; done
        ss -H -l -n -u -p | while read -r _ _ _ local _ users; do echo "listen-udp $local $users"; done
    fi
    ;;
put)
    unit=$2
    [ -x "$proxy" ] || { echo "there is no $proxy here (Debian: package systemd)" >&2; exit 1; }
    [ -z "${7-}" ] || command -v python3 >/dev/null || { echo "UDP needs python3 here" >&2; exit 1; }
    mkdir -p "$units"
    off "$unit"
    write "$units/$unit.socket" "$3"
    write "$units/$unit.service" "$4"
    if [ -n "${7-}" ]; then write "$units/$unit.py" "$7"; fi
    if [ "$manager" = systemd ]; then
        systemctl daemon-reload
        systemctl enable --quiet --now "$unit.socket"
    else
        listen=$5 target=$6
        if [ -n "${7-}" ]; then
            set -- --datagram --listen="$listen" python3 -I "$units/$unit.py" "$target"
        else
            set -- --listen="$listen" "$proxy" "$target"
        fi
        setsid systemd-socket-activate "$@" </dev/null >"$units/$unit.log" 2>&1 &
        echo $! >"$units/$unit.pid"
        sleep 0.3
        process "$unit" >/dev/null || { cat "$units/$unit.log" >&2; exit 1; }
    fi
    ;;
remove)
    unit=$2
    off "$unit"
    rm -f "$units/$unit.socket" "$units/$unit.service" "$units/$unit.py" "$units/$unit.pid" "$units/$unit.log"
    if [ "$manager" = systemd ]; then systemctl daemon-reload; fi
    ;;
esac
