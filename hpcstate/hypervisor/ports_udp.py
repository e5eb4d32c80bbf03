"""Carries datagrams of a hypervisor's port to a node and the answers back; systemd hands it the socket.

    ListenDatagram=… ; ExecStart=python3 ports_udp.py ADDRESS:PORT

systemd-socket-proxyd(8) knows streams only. It stands alone on the hypervisor: standard library, nothing of
hpcstate. Each client has a socket of its own to the node, by which its answers are told from others', for as
long as something goes through it; an answer leaves from the address that the client asked (ip(7),
IP_PKTINFO), without which a host with several addresses answers from another one.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import sys
import time

LISTENING = 3
"""The first socket that systemd passes (sd_listen_fds(3))."""

IDLE_SECONDS = 180.0
"""As long as netfilter remembers a stream of datagrams (nf_conntrack_udp_timeout_stream)."""

MOST_CLIENTS = 1024
_IP_PKTINFO = 8
_LARGEST = 65_535
_ANY = bytes(4)

Client = tuple[tuple[str, int], bytes]


def main(target: str) -> None:
    """Carry datagrams to ``target`` until the process is ended."""
    address, _, port = target.rpartition(":")
    front = socket.socket(fileno=LISTENING)
    front.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    front.setblocking(False)
    relay = _Relay(front, (address, int(port)))
    while True:
        relay.turn()


class _Relay:
    """``backs`` has the socket of each client to the node, that of the longest silence first, and when
    something last went through it. A client is its address and the one that it asked."""

    def __init__(self, front: socket.socket, node: tuple[str, int]) -> None:
        self.front = front
        self.node = node
        self.backs: dict[Client, tuple[socket.socket, float]] = {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(front, selectors.EVENT_READ, None)

    def turn(self) -> None:
        for key, _ in self.selector.select(timeout=IDLE_SECONDS):
            # A node where nothing listens is heard of as ConnectionRefusedError: its client hears nothing.
            with contextlib.suppress(OSError):
                if key.data is None:
                    self._to_node()
                else:
                    self._to_client(key.data)
        before = time.monotonic() - IDLE_SECONDS
        for client in [client for client, (_, at) in self.backs.items() if at < before]:
            self._close(client)

    def _to_node(self) -> None:
        data, ancillary, _, address = self.front.recvmsg(_LARGEST, socket.CMSG_SPACE(12))
        asked = next((value[8:12] for _, kind, value in ancillary if kind == _IP_PKTINFO), _ANY)
        client = (address, asked)
        if client not in self.backs:
            # Strangers with invented addresses cannot use up sockets: the longest silence gives way.
            while len(self.backs) >= MOST_CLIENTS:
                self._close(next(iter(self.backs)))
            back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            back.connect(self.node)
            self.selector.register(back, selectors.EVENT_READ, client)
        else:
            back = self.backs.pop(client)[0]
        self.backs[client] = back, time.monotonic()
        back.send(data)

    def _to_client(self, client: Client) -> None:
        back, _ = self.backs.pop(client)
        self.backs[client] = back, time.monotonic()
        source = struct.pack("@i4s4s", 0, client[1], _ANY)
        data = back.recv(_LARGEST)
        self.front.sendmsg([data], [(socket.IPPROTO_IP, _IP_PKTINFO, source)], 0, client[0])

    def _close(self, client: Client) -> None:
        back, _ = self.backs.pop(client)
        self.selector.unregister(back)
        back.close()


if __name__ == "__main__":
    main(sys.argv[1])
