"""Ports for the servers under measurement, on loopback, apart from those of the tests."""

from __future__ import annotations

import socket

# Clusters of raftkv have three rows of ports; everything else lies behind them.
ROWS = range(34_000, 34_100)
ROW_STEPS = (0, 100, 200)
SINGLE = range(34_300, 35_000)


class Ports:
    """Hands out free ports, each once."""

    def __init__(self) -> None:
        self._next_row = ROWS.start
        self._next_single = SINGLE.start

    def take(self, count: int = 1) -> int:
        """Return the first of some consecutive ports that nobody listens on.

        Raises:
            RuntimeError: There are no more.
        """
        while self._next_single + count <= SINGLE.stop:
            first = self._next_single
            self._next_single += count
            if all(_can_listen(first + place) for place in range(count)):
                return first
        raise RuntimeError("no free ports")

    def take_rows(self, width: int) -> int:
        """Return a base from which `width` ports are free in each of the three rows.

        Raises:
            RuntimeError: There are no more.
        """
        while self._next_row + width <= ROWS.stop:
            base = self._next_row
            self._next_row += width
            wanted = [base + step + place for step in ROW_STEPS for place in range(width)]
            if all(_can_listen(port) for port in wanted):
                return base
        raise RuntimeError("no free ports")


def _can_listen(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
