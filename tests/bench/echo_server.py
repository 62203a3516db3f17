"""A server that answers every request with +OK and does nothing else.

    python -m tests.bench.echo_server PORT

One process on uvloop with the parser that the product uses. What a client waits for
here, it waits for because of the machine: the control for stalls.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import cast

import hiredis
import uvloop


class Echo(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._reader.feed(data)
        count = 0
        while self._reader.gets() is not False:
            count += 1
        self._transport.write(b"+OK\r\n" * count)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port, backlog=4096)
    gc.freeze()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
