"""The links of the lab, carrying real connections between nodes that only shake hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from raftkv.cli.lab_links import Doorway, Links
from raftkv.framing import HEADER_SIZE, decode_frame_header, encode_frame
from raftkv.transport.handshake import Handshake, LocalHello, LocalIdentity, claimed_sender
from raftkv.types import NodeId

HELLO = LocalHello(cluster_id="", disk_id="", term=0, last_index=0, founding=True, admitted=False)
WAIT_S = 10.0


def handshake(node_id: str, target: str | None) -> Handshake:
    local = LocalIdentity(
        node_id=NodeId(node_id), secret=b"", incarnation=bytes(16), hello=lambda: HELLO,
        is_member=lambda peer: True,
    )  # fmt: skip
    return Handshake(local, bytes(32), target=None if target is None else NodeId(target))


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readexactly(HEADER_SIZE)
    header = decode_frame_header(head)
    assert header is not None
    return header.kind, await reader.readexactly(header.length)


class Node:
    """Accepts one link and keeps its streams."""

    def __init__(self, node_id: str) -> None:
        self.id = node_id
        self.linked: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = (
            asyncio.Queue()
        )

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        acceptor = handshake(self.id, None)
        try:
            writer.write(acceptor.receive(*await read_frame(reader)))
            acceptor.receive(*await read_frame(reader))
        except EOFError:
            # Of a stranger, or of a link that ends; the streams of asyncio leave it open.
            writer.close()
            return
        writer.write(acceptor.admit())
        self.linked.put_nowait((reader, writer))


def free_address() -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@asynccontextmanager
async def a_link() -> AsyncIterator[tuple[Links, Node, str]]:
    """Give the links between n1, which listens, and n2; and where n1 is dialed."""
    node = Node("n1")
    server = await asyncio.start_server(node.accept, "127.0.0.1", 0)
    listens = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    dialed = free_address()
    links = Links({"n1": Doorway(dialed, listens), "n2": Doorway(free_address(), free_address())})
    await links.start()
    try:
        yield links, node, dialed
    finally:
        await links.close()
        server.close()


async def dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    dialer = handshake("n2", "n1")
    writer.write(dialer.start())
    writer.write(dialer.receive(*await read_frame(reader)))
    return reader, writer


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def linked(node: Node, address: str) -> tuple[Streams, Streams]:
    """Return both ends of an established link: of n2, of n1."""
    reader, writer = await dial(address)
    await read_frame(reader)
    return (reader, writer), await node.linked.get()


async def stays_silent(reader: asyncio.StreamReader) -> bool:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await reader.read(1)
    return True


def test_a_link_carries_both_directions_and_its_end() -> None:
    async def body() -> None:
        async with asyncio.timeout(WAIT_S), a_link() as (_, node, address):
            (reader, writer), (node_reader, node_writer) = await linked(node, address)
            writer.write(b"there")
            assert await node_reader.readexactly(5) == b"there"
            node_writer.write(b"back")
            assert await reader.readexactly(4) == b"back"
            node_writer.close()
            assert await reader.read() == b""
            writer.close()

    asyncio.run(body())


def test_a_cut_holds_one_direction_back_until_it_is_mended() -> None:
    async def body() -> None:
        async with asyncio.timeout(WAIT_S), a_link() as (links, node, address):
            (reader, writer), (node_reader, node_writer) = await linked(node, address)
            links.cut([("n2", "n1")])
            assert links.is_cut_off("n1")
            writer.write(b"late")
            assert await stays_silent(node_reader)
            node_writer.write(b"heard")
            assert await reader.readexactly(5) == b"heard"
            links.mend()
            assert await node_reader.readexactly(4) == b"late"
            writer.close()
            node_writer.close()

    asyncio.run(body())


def test_nobody_is_let_through_while_the_link_is_cut() -> None:
    async def body() -> None:
        async with asyncio.timeout(WAIT_S), a_link() as (links, node, address):
            links.cut(links.of("n2"))
            reader, writer = await dial(address)
            assert await stays_silent(reader)
            assert node.linked.empty()
            links.mend()
            _, node_writer = await node.linked.get()
            node_writer.close()
            writer.close()

    asyncio.run(body())


def test_a_slow_link_is_late_by_the_same_time_for_all() -> None:
    async def body() -> None:
        async with asyncio.timeout(WAIT_S), a_link() as (links, node, address):
            (_, writer), (node_reader, node_writer) = await linked(node, address)
            links.slow(links.directions, 0.2)
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            for _ in range(5):
                writer.write(b"x")
                await asyncio.sleep(0)
            assert await node_reader.readexactly(5) == b"xxxxx"
            assert loop.time() - began_s > 0.19
            node_writer.close()
            writer.close()

    asyncio.run(body())


def test_a_stranger_is_closed() -> None:
    async def body() -> None:
        async with asyncio.timeout(WAIT_S), a_link() as (_, _node, address):
            host, _, port = address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET / HTTP/1.1\r\n\r\n" * 20)
            assert await reader.read() == b""
            writer.close()

    asyncio.run(body())


def test_the_sender_of_a_hello_is_read_without_proof() -> None:
    dialer, acceptor = handshake("n2", "n1"), handshake("n1", None)
    challenge = acceptor.receive(240, dialer.start()[HEADER_SIZE:])
    hello = dialer.receive(240, challenge[HEADER_SIZE:])
    assert claimed_sender(hello[HEADER_SIZE:]) == "n2"
    assert claimed_sender(encode_frame(241, b"x" * 50)) is None
    assert claimed_sender(b"") is None


def test_two_groups_are_parted_in_both_directions() -> None:
    doorways = {name: Doorway("127.0.0.1:1", "127.0.0.1:2") for name in ("n1", "n2", "n3")}

    async def body() -> None:
        links = Links(doorways)
        apart = links.between(["n1"], ["n2", "n3"])
        assert sorted(apart) == [("n1", "n2"), ("n1", "n3"), ("n2", "n1"), ("n3", "n1")]

    asyncio.run(body())
