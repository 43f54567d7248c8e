"""Carries bytes between its own input and output and a socket: stands in for ssh where a test serves
by itself. Run with its port."""

import os
import socket
import sys
import threading


def carry(source: int, target: int) -> None:
    try:
        while data := os.read(source, 1 << 20):
            while data:
                data = data[os.write(target, data) :]
    except OSError:
        pass


with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as link:
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def there() -> None:
        carry(0, link.fileno())
        try:
            link.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    threading.Thread(target=there, daemon=True).start()
    carry(link.fileno(), 1)
    os._exit(0)
