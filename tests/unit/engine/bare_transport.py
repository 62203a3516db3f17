"""Scenarios on PySyncObj's own TCP transport, on loopback; see `bare_library`.

The nodes read a clock that moves where a scenario moves it, so nothing of theirs expires
by itself. Real time bounds only how long a scenario waits for what has to come.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import resource
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pysyncobj.syncobj
import pysyncobj.tcp_connection
import pysyncobj.transport
from pysyncobj import SyncObjConf

from tests.unit.engine.bare_world import PATIENT, Clock, Counter

_HOST = "127.0.0.1"
_WAIT_S = 60.0
_POLL_S = 0.001
# Longer than the period of append entries, so that a tick after it sends.
_TURN_S = 0.11
_SECRET = "told to nobody"


class _Network:
    """Nodes of the library that speak TCP, on ports that were free.

    Attributes:
        clock: What the nodes read.
        addresses: Of the nodes; the last one dials.
        nodes: In the same order.
    """

    def __init__(self, count: int, **settings: Any) -> None:
        self.clock = Clock()
        for module in pysyncobj.syncobj, pysyncobj.tcp_connection, pysyncobj.transport:
            module.monotonicTime = self.clock
        self.addresses = _free_addresses(count)
        self.nodes = [
            Counter(
                address, [other for other in self.addresses if other != address],
                conf=SyncObjConf(**{
                    "autoTick": False, "useFork": False, "bindAddress": address,
                    "connectionRetryTime": 0, **PATIENT, **settings,
                }),
            )
            for address in self.addresses
        ]  # fmt: skip
        self.until(self.are_linked)

    def until(self, is_so: Callable[[], Any], *, turn_s: float = 0.0) -> None:
        """Let all nodes tick until something is so.

        Args:
            is_so: Asked between ticks.
            turn_s: Time that passes for the nodes with every tick.
        """
        deadline_s = time.monotonic() + _WAIT_S
        while not is_so():
            assert time.monotonic() < deadline_s, "it does not come"
            self.clock.now_s += turn_s
            for node in self.nodes:
                node.doTick(_POLL_S)

    def are_linked(self) -> bool:
        """Return whether all ports are bound and every node is connected to all others."""
        return all(
            node._SyncObj__transport.ready
            and len(node._SyncObj__connectedNodes) == len(self.nodes) - 1
            for node in self.nodes
        )

    def campaign(self, node: Counter) -> None:
        """Let a node stand for election."""
        node._SyncObj__raftElectionDeadline = 0
        node.doTick()


def _free_addresses(count: int) -> list[str]:
    """Return addresses with ports that were free, as the library sorts them."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((_HOST, 0))
        return sorted(f"{_HOST}:{one.getsockname()[1]}" for one in sockets)


class _Stranger:
    """Whoever reaches the port, with nothing but the format of the frames."""

    def __init__(self, address: str) -> None:
        self.socket = socket.create_connection((_HOST, int(address.rpartition(":")[2])))
        self.socket.setblocking(False)
        self._received = b""
        self._heard: list[Any] = []

    def say(self, message: Any) -> None:
        data = zlib.compress(pickle.dumps(message))
        self.socket.sendall(struct.pack("i", len(data)) + data)

    def heard(self) -> list[Any]:
        """Return every message that has arrived so far."""
        with contextlib.suppress(BlockingIOError):
            while part := self.socket.recv(65536):
                self._received += part
        while len(self._received) >= 4:
            end = 4 + struct.unpack("i", self._received[:4])[0]
            if len(self._received) < end:
                break
            self._heard.append(pickle.loads(zlib.decompress(self._received[4:end])))
            self._received = self._received[end:]
        return self._heard

    def entries(self) -> list[tuple[bytes, int, int]]:
        """Return the log entries that were told: command, index, term."""
        return [
            tuple(entry)
            for message in self.heard() if isinstance(message, dict)
            for entry in message.get("entries", ())
        ]  # fmt: skip


_ran: list[str] = []


class _Bomb:
    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _go_off, ()


def _go_off() -> None:
    _ran.append("code")


def stranger() -> dict[str, Any]:
    """S: who reaches the port runs code, writes, reads the log and adds a member."""
    network = _Network(1, dynamicMembershipChange=True)
    (node,) = network.nodes
    network.campaign(node)
    told: list[Any] = []
    node.add(1, _SECRET, callback=lambda result, _: told.append(result))
    network.until(lambda: told)
    bomber = _Stranger(network.addresses[0])
    bomber.say(_Bomb())
    network.until(lambda: _ran)
    reader = _Stranger(network.addresses[0])
    reader.say("readonly")
    reader.say({"type": "next_node_idx", "reset": True, "success": False, "next_node_idx": 2})
    network.until(reader.entries, turn_s=_TURN_S)
    command = pickle.dumps((node._methodToID["add_v0"], (40,)))
    reader.say({"type": "apply_command", "command": b"\0" + command})
    network.until(lambda: node.total > 1)
    administrator = _Stranger(network.addresses[0])
    administrator.say(["add", f"{_HOST}:1"])
    network.until(lambda: node.otherNodes)
    return {
        "ran": _ran, "told": any(_SECRET.encode() in entry[0] for entry in reader.entries()),
        "total": node.total, "members": 1 + len(node.otherNodes),
    }  # fmt: skip


def forged_hello() -> dict[str, Any]:
    """T: who says the address of a peer takes its place, and its word makes a majority."""
    network = _Network(2)
    peer, leader = network.nodes
    network.campaign(leader)
    network.until(leader._isLeader)
    network.until(lambda: peer.raftLastApplied == 2, turn_s=_TURN_S)
    forger = _Stranger(network.addresses[1])
    forger.say(network.addresses[0])
    network.until(forger.heard, turn_s=_TURN_S)
    told: list[Any] = []
    leader.add(1, _SECRET, callback=lambda _, reason: told.append(reason))
    network.until(forger.entries, turn_s=_TURN_S)
    index = forger.entries()[-1][1]
    forger.say({
        "type": "next_node_idx", "reset": False, "success": True, "next_node_idx": index + 1,
    })  # fmt: skip
    network.until(lambda: told, turn_s=_TURN_S)
    return {"told": told, "index": index, "peer_last_index": peer._SyncObj__raftLog[-1][1]}


def frame_without_limit() -> dict[str, Any]:
    """T: a stranger declares 2 GiB, and the node keeps whatever comes of it."""
    network = _Network(1)
    (node,) = network.nodes
    flood = _Stranger(network.addresses[0])
    data = struct.pack("i", 2**31 - 1) + bytes(1 << 20)
    sent = 0

    def held() -> int:
        nonlocal sent
        with contextlib.suppress(BlockingIOError):
            sent += flood.socket.send(data[sent:])
        connections = node._SyncObj__transport._unknownConnections
        return sum(len(one._TcpConnection__readBuffer) for one in connections)

    network.until(lambda: held() == len(data))
    return {"sent": sent, "held": held()}


@contextlib.contextmanager
def _no_more_descriptors() -> Iterator[None]:
    """Let the process open none: its limit becomes the lowest number that is free."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def failed_accept() -> dict[str, Any]:
    """T: one accept that fails, for want of a descriptor, ends the listener for good."""
    network = _Network(1)
    (node,) = network.nodes
    transport = node._SyncObj__transport
    client = socket.socket()
    with _no_more_descriptors():
        # Returns at once: the kernel accepts on its own account.
        client.connect((_HOST, int(network.addresses[0].rpartition(":")[2])))
        network.until(lambda: transport._server._TcpServer__fileno is None)
    client.close()
    for _ in range(20):
        network.clock.now_s += 10
        node.doTick()
    try:
        _Stranger(network.addresses[0])
    except ConnectionRefusedError:
        return {"is_listening": False, "believes_so": transport.ready}
    return {"is_listening": True, "believes_so": transport.ready}


def idle_link() -> dict[str, Any]:
    """T: over a link that was idle for its timeout, the first request for votes is lost."""
    return {"heard_soon": _is_heard_after(0), "heard_when_idle": _is_heard_after(4)}


def _is_heard_after(idle_s: float) -> bool:
    """Let a follower campaign when its link has been idle, until its voice came or was lost."""
    network = _Network(2, raftMinTimeout=0.4, raftMaxTimeout=1.4, connectionTimeout=3.5)
    voter, candidate = network.nodes
    voter._SyncObj__raftElectionDeadline = math.inf
    connections = voter._SyncObj__transport._connections
    (candidate_id,) = voter.otherNodes
    link = connections[candidate_id]
    network.clock.now_s += idle_s
    network.campaign(candidate)
    network.until(
        lambda: (
            voter.raftCurrentTerm
            or (connections[candidate_id] is not link and network.are_linked())
        )
    )
    return bool(voter.raftCurrentTerm)


SCENARIOS: tuple[Callable[[], dict[str, Any]], ...] = (
    stranger, forged_hello, frame_without_limit, failed_accept, idle_link,
)  # fmt: skip
