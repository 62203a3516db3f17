"""The links between the nodes of `raftkv lab`, which can be cut and slowed.

Every node is dialed at an address that belongs to this module. What arrives there is
carried to the node itself and back, each direction by a pump of its own. Who dials is
read from the hello of the handshake, so each pair of nodes has its own link.

A cut holds the bytes of a direction back and says nothing to either side, as a network
does that drops packets; after the cut they arrive, as sent again. A link that is slow
hands every piece on later by the same time. No privileges are needed.

Not thread-safe: belongs to one event loop. Users: cli.lab_cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from raftkv.client.protocol import split_address
from raftkv.framing import HEADER_SIZE, decode_frame_header
from raftkv.transport.handshake import (
    HANDSHAKE_BODY_BYTES_MAX,
    KIND_HELLO,
    claimed_sender,
)

# From whom, to whom.
Direction = tuple[str, str]
# A node that is down or cannot accept is dialed again by its peer.
_CONNECT_S_MAX = 2.0
_READ_BYTES_MAX = 1 << 16
# Limit: pieces under way in one direction of a slow link; then it is not read.
_PIECES_MAX = 1024


class _Path:
    """One direction between two nodes, whatever connections use it."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.delay_s = 0.0


class Doorway(NamedTuple):
    """Where a node is dialed, and where it listens."""

    dialed: str
    listens: str


class Links:
    """All links of one cluster.

    Args:
        doorways: By node id.
    """

    def __init__(self, doorways: Mapping[str, Doorway]) -> None:
        self._doorways = dict(doorways)
        self._paths = {
            direction: _Path() for direction in itertools.permutations(self._doorways, 2)
        }
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: An address cannot be had.
        """
        for target, doorway in self._doorways.items():
            host, port = split_address(doorway.dialed)
            self._servers.append(
                await asyncio.start_server(self._acceptor(target), host, port, backlog=64)
            )

    async def close(self) -> None:
        """End every connection."""
        for server in self._servers:
            server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    # --------------------------------------------------------------------- faults

    @property
    def directions(self) -> list[Direction]:
        """Every direction between two different nodes."""
        return list(self._paths)

    def of(self, node: str) -> list[Direction]:
        """Every direction to and from a node."""
        return [direction for direction in self._paths if node in direction]

    def between(self, one: Iterable[str], other: Iterable[str]) -> list[Direction]:
        """Every direction between two groups."""
        sides = (set(one), set(other))
        return [
            (source, target)
            for source, target in self._paths
            if any(
                source in side and target in sides[1 - place] for place, side in enumerate(sides)
            )
        ]

    def cut(self, directions: Iterable[Direction]) -> None:
        """Let nothing through in these directions."""
        for direction in directions:
            self._paths[direction].is_open.clear()

    def slow(self, directions: Iterable[Direction], delay_s: float) -> None:
        """Let everything in these directions arrive so much later."""
        for direction in directions:
            self._paths[direction].delay_s = delay_s

    def mend(self) -> None:
        """Make every link whole and fast."""
        for path in self._paths.values():
            path.is_open.set()
            path.delay_s = 0.0

    def is_cut_off(self, node: str) -> bool:
        """Whether something to or from a node is held back."""
        return any(not self._paths[direction].is_open.is_set() for direction in self.of(node))

    # ---------------------------------------------------------------- connections

    def _acceptor(self, target: str):  # type: ignore[no-untyped-def]
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._connections.add(task)
            try:
                await self._carry(target, reader, writer)
            except (OSError, EOFError, TimeoutError, asyncio.CancelledError):
                # A node that ends, or is not there, is what the lab is for. Why not
                # let the cancellation by `close` pass: asyncio would print it.
                pass
            finally:
                self._connections.discard(task)
                writer.close()

        return accept

    async def _carry(
        self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry one connection of a dialer until one of its ends is gone."""
        host, port = split_address(self._doorways[target].listens)
        async with asyncio.timeout(_CONNECT_S_MAX):
            node_reader, node_writer = await asyncio.open_connection(host, port)
        try:
            source, hello = await self._introduce(reader, writer, node_reader, node_writer)
            there = self._paths.get((source, target))
            back = self._paths.get((target, source))
            if there is None or back is None:
                return
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(there, reader, node_writer, hello))
                pumps.create_task(_pump(back, node_reader, writer, b""))
        except* OSError:
            pass
        finally:
            node_writer.close()

    @staticmethod
    async def _introduce(
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        node_reader: asyncio.StreamReader,
        node_writer: asyncio.StreamWriter,
    ) -> tuple[str, bytes]:
        """Exchange the challenges, which say nothing; return who dials and its hello."""
        node_writer.write(await _read_frame(reader))
        writer.write(await _read_frame(node_reader))
        hello = await _read_frame(reader)
        header = decode_frame_header(hello)
        sender = claimed_sender(hello[HEADER_SIZE:])
        if header is None or header.kind != KIND_HELLO or sender is None:
            raise ConnectionError("no handshake of a node")
        return sender, hello


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    """Read one whole frame of a handshake."""
    head = await reader.readexactly(HEADER_SIZE)
    header = decode_frame_header(head)
    if header is None or header.length > HANDSHAKE_BODY_BYTES_MAX:
        raise ConnectionError("no handshake of a node")
    return head + await reader.readexactly(header.length)


async def _pump(
    path: _Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes
) -> None:
    """Carry one direction, `first` before anything else; raises when the sender has ended."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES_MAX)
    if first:
        pieces.put_nowait((loop.time() + path.delay_s, first))

    async def take() -> None:
        data = b"first"
        while data:
            data = await reader.read(_READ_BYTES_MAX)
            await pieces.put((loop.time() + path.delay_s, data))
            # Not read on while it is cut: the sender must notice, as with a real cut.
            await path.is_open.wait()

    taking = asyncio.create_task(take())
    try:
        while True:
            due_s, data = await pieces.get()
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            await path.is_open.wait()
            if not data:
                # Also ends the other direction: a node never closes one side only.
                raise ConnectionResetError("closed")
            writer.write(data)
            await writer.drain()
    finally:
        taking.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await taking
