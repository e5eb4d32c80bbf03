"""The SSH transport that pyinfra's connections to the nodes use."""

from __future__ import annotations

import socket
from typing import Any

import paramiko


def prompt_transport(sock: socket.socket, **options: Any) -> paramiko.Transport:
    """paramiko's transport over ``sock``, with small packets sent at once (TCP_NODELAY, tcp(7)).

    paramiko leaves Nagle's algorithm on: each command writes several small packets, and each waits up to
    40 ms for the acknowledgement of the one before. ``options`` are those of paramiko.Transport.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return paramiko.Transport(sock, **options)
