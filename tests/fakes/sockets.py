"""Connected pairs of loopback sockets: the server's end is gevent's, the client's a plain one."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import gevent.socket


@contextmanager
def connection() -> Iterator[tuple[gevent.socket.socket, socket.socket]]:
    """Yield the server's end (gevent) and the client's end (plain) of one TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        raw, _ = listener.accept()
    server = gevent.socket.socket(fileno=raw.detach())
    with client, server:
        yield server, client


def reset(sock: socket.socket) -> None:
    """Close a connection with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
