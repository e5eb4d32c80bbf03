# Holds a connection to a port of this host for twenty seconds, or until the other side ends it: ADDRESS PORT.
timeout 20 python3 -I -c '
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as door:
    door.settimeout(20)
    while door.recv(4096):
        pass
' "$1" "$2" 2>&1 || :
