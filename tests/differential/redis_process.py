"""A real redis-server to compare with, and the replies as both sides give them.

Starts the server on a socket file in a fresh directory, so that no port is
needed, and ends it by its process id.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.differential.replies import Failed, Simple, read_reply

__all__ = ["Failed", "RedisConnection", "Simple", "running_redis"]

START_SECONDS_MAX = 20.0


class RedisConnection:
    """One connection, in RESP2 until it says HELLO 3."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(30)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise
        self._reader = self._socket.makefile("rb")

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()
        self._socket.close()

    def call(self, *arguments: bytes) -> Any:
        """Send one request and return its reply."""
        return self.call_all([arguments])[0]

    def call_all(self, requests: Sequence[Sequence[bytes]]) -> list[Any]:
        """Send requests in one piece and return their replies."""
        parts = []
        for arguments in requests:
            parts.append(b"*%d\r\n" % len(arguments))
            parts += [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments]
        self._socket.sendall(b"".join(parts))
        return [read_reply(self._reader) for _ in requests]


@contextlib.contextmanager
def running_redis(program: str) -> Iterator[RedisConnection]:
    """Run a server without persistence; yield a connection to it."""
    directory = Path(tempfile.mkdtemp(prefix="raftkv-redis-"))
    path = str(directory / "redis.sock")
    options = ["--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(
        [program, *options, "--dir", str(directory)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        connection = _connect(path, process)
        try:
            yield connection
        finally:
            connection.close()
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(directory, ignore_errors=True)


def _connect(path: str, process: subprocess.Popen[bytes]) -> RedisConnection:
    end = time.monotonic() + START_SECONDS_MAX
    while True:
        with contextlib.suppress(OSError):
            return RedisConnection(path)
        assert process.poll() is None, "redis-server ended at its start"
        assert time.monotonic() < end, "redis-server does not answer"
        time.sleep(0.01)
