"""The accept loop on its own; what comes in through it is tested in test_link."""

from __future__ import annotations

import asyncio
import socket

import pytest

from raftkv.transport.listener import Listener
from tests.unit.transport.wiring import RawPeer, RecordingObserver, free_port, run, until


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.no_delay = transport.get_extra_info("socket").getsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY
        )
        transport.write(b"hello")  # type: ignore[attr-defined]
        transport.close()


def make_listener(address: str) -> tuple[Listener, list[Greeter], RecordingObserver]:
    greeters: list[Greeter] = []

    def make() -> Greeter:
        greeters.append(Greeter())
        return greeters[-1]

    observer = RecordingObserver()
    return Listener(address, make, observer, failure_event="x_failed"), greeters, observer


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_it_accepts_and_counts(host: str) -> None:
    async def scenario() -> None:
        port = free_port()
        listener, greeters, observer = make_listener(f"{host}:{port}")
        await listener.start()
        peers = [await RawPeer.connect(port) for _ in range(40)]
        for peer in peers:
            assert await peer.reader.read() == b"hello"
        assert listener.accepted_count == len(greeters) == 40
        assert all(greeter.no_delay for greeter in greeters)
        assert not observer.events
        listener.stop()
        with pytest.raises(OSError):
            await RawPeer.connect(port)

    run(scenario())


def test_ipv6() -> None:
    with socket.socket(socket.AF_INET6) as trial:
        try:
            trial.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 loopback on this machine")

    async def scenario() -> None:
        port = free_port()
        listener, _, _ = make_listener(f"[::1]:{port}")
        await listener.start()
        reader, writer = await asyncio.open_connection("::1", port)
        assert await RawPeer(reader, writer).reader.read() == b"hello"
        listener.stop()

    run(scenario())


def test_a_failed_start_leaves_nothing_bound() -> None:
    async def scenario() -> None:
        port = free_port()
        first, _, _ = make_listener(f"127.0.0.1:{port}")
        second, _, _ = make_listener(f"127.0.0.1:{port}")
        await first.start()
        with pytest.raises(OSError, match="in use"):
            await second.start()
        assert not second._sockets
        first.stop()
        await second.start()
        second.stop()

    run(scenario())


def test_stop_during_a_pause_after_a_failure() -> None:
    """The end of the pause must not listen on a closed socket."""

    class Failing(socket.socket):
        def accept(self):
            raise OSError(24, "Too many open files")

    async def scenario() -> None:
        port = free_port()
        listener, greeters, observer = make_listener(f"127.0.0.1:{port}")
        await listener.start()
        healthy = listener._sockets[0]
        failing = Failing(fileno=healthy.fileno())
        listener._take(failing)
        assert observer.events == [("x_failed", {"error": "[Errno 24] Too many open files"})]
        assert listener.failed_count == 1
        listener._resume(failing)
        failing.detach()
        peer = await RawPeer.connect(port)
        listener.stop()
        listener._resume(healthy)
        assert not greeters
        await until(lambda: peer.reader.at_eof() or peer.reader.exception() is not None)

    run(scenario())
