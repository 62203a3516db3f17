"""Runs `tests.unit.server.serve` in a process of its own, for clients with sockets."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
WAIT_S = 60.0


@contextmanager
def serving() -> Iterator[str]:
    """Serve one store without consensus; gives the address.

    Time moves in it only with what goes through the log.
    """
    with socket.socket() as claimed:
        claimed.bind(("127.0.0.1", 0))
        port = claimed.getsockname()[1]
    program = [sys.executable, "-m", "tests.unit.server.serve", str(port)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"ready")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=WAIT_S)
