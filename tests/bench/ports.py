"""Ports for the servers under measurement, on loopback, apart from those of the tests.

They lie below those that Linux gives to outgoing connections, of which a benchmark makes
thousands. BENCH_BASE_PORT moves all of them.
"""

from __future__ import annotations

import os

from tests.free_ports import can_listen

BASE_PORT = int(os.environ.get("BENCH_BASE_PORT", "31000"))
# Clusters of raftkv have three rows of ports; everything else lies behind them.
ROWS = range(BASE_PORT, BASE_PORT + 100)
ROW_STEPS = (0, 100, 200)
SINGLE = range(BASE_PORT + 300, BASE_PORT + 1000)


class Ports:
    """Hands out free ports; those that were closed come around again."""

    def __init__(self) -> None:
        self._next_row = ROWS.start
        self._next_single = SINGLE.start

    def take(self, count: int = 1) -> int:
        """Return the first of some consecutive ports that nobody listens on.

        Raises:
            RuntimeError: There are none.
        """
        for _ in range(len(SINGLE) // count):
            if self._next_single + count > SINGLE.stop:
                self._next_single = SINGLE.start
            first = self._next_single
            self._next_single += count
            if all(can_listen(first + place) for place in range(count)):
                return first
        raise RuntimeError("no free ports")

    def take_rows(self, width: int) -> int:
        """Return a base from which `width` ports are free in each of the three rows.

        Raises:
            RuntimeError: There is none.
        """
        for _ in range(len(ROWS)):
            if self._next_row + width > ROWS.stop:
                self._next_row = ROWS.start
            base = self._next_row
            self._next_row += width
            wanted = [base + step + place for step in ROW_STEPS for place in range(width)]
            if all(can_listen(port) for port in wanted):
                return base
        raise RuntimeError("no free ports")
