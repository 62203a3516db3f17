#!/usr/bin/env python3
"""What a lock protects: a process that refuses every token below the highest it has seen.

    python tests/chaos/fenced_resource.py SOCKET LOG

Serves lines `token holder` on a Unix socket with `accepted` or `refused`, and writes each
into LOG: time, token, holder, 1 or 0.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO


class FencedResource:
    """Remembers the highest token."""

    def __init__(self, log: TextIO) -> None:
        self.highest = 0
        self._log = log

    def write(self, token: int, holder: str) -> bool:
        """Take a write, unless a newer holder was there before."""
        accepted = token >= self.highest
        self.highest = max(self.highest, token)
        self._log.write(f"{time.monotonic():.6f} {token} {holder} {int(accepted)}\n")
        return accepted

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one holder until it goes, or is killed."""
        with suppress(ConnectionError):
            while line := await reader.readline():
                token, holder = line.decode().split()
                accepted = self.write(int(token), holder)
                writer.write(b"accepted\n" if accepted else b"refused\n")
                await writer.drain()
        writer.close()


async def serve(resource: FencedResource, path: str) -> None:
    """Serve all holders until the process is killed."""
    server = await asyncio.start_unix_server(resource.serve, path)
    print("serving", flush=True)
    async with server:
        await server.serve_forever()


def main() -> int:
    path, log_path = sys.argv[1:]
    # Line by line: it is killed at the end.
    with Path(log_path).open("w", encoding="utf-8", buffering=1) as log:
        asyncio.run(serve(FencedResource(log), path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
