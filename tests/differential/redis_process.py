"""A real redis-server to compare with, and the replies as both sides give them.

Starts the server on a socket file in a fresh directory, so that no port is
needed, and ends it by its process id. Replies of both sides become the same
Python values: `Simple` and `Failed` keep apart what a client would tell apart.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_SECONDS_MAX = 20.0


@dataclass(frozen=True)
class Simple:
    """A simple string such as OK."""

    text: str


@dataclass(frozen=True)
class Failed:
    """An error reply."""

    text: str


class RedisConnection:
    """One connection in RESP2, one request at a time."""

    def __init__(self, path: str) -> None:
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
        parts = [b"*%d\r\n" % len(arguments)]
        parts += [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments]
        self._socket.sendall(b"".join(parts))
        return self._read()

    def _read(self) -> Any:
        line = self._reader.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return Simple(rest.decode())
        if kind == b"-":
            return Failed(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else self._reader.read(size + 2)[:-2]
        assert kind == b"*", line
        return [self._read() for _ in range(int(rest))]


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
