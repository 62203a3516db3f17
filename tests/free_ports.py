"""Ports of loopback on which nothing listens."""

from __future__ import annotations

import socket


def can_listen(port: int) -> bool:
    """Whether nothing listens on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_base_port() -> int:
    """Return a port from which a local cluster of three finds all its nine ports free."""
    for base in range(26600, 26690, 3):
        if all(can_listen(base + step + node) for step in (0, 100, 200) for node in range(3)):
            return base
    raise AssertionError("no free ports")
