"""What is done to links, processes, clocks and ports of a cluster under load.

One context manager each, see `tests.chaos.field`. What is done to disks has a module of
its own, `tests.chaos.disk_nemeses`; `NEMESES` here has all of them.
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator

from tests.chaos import disk_nemeses  # registers its own
from tests.chaos.field import EXIT_REFUSED, NEMESES, Field, may_end, nemesis, start_again
from tests.chaos.hurt_cluster import HurtNode
from tests.chaos.world import Direction
from tests.integration.wire import Wire

# Longer than a request may take, so that silence is noticed.
_PROBE_PATIENCE_S = 8.0

__all__ = ["NEMESES", "disk_nemeses"]

# ------------------------------------------------------------------------- partitions


@contextlib.contextmanager
def _cut(field: Field, directions: set[Direction]) -> Iterator[None]:
    field.strikes()
    field.cluster.links.cut(directions)
    try:
        yield
    finally:
        field.cluster.links.mend(directions)


@nemesis
def leader_alone(field: Field) -> Iterator[None]:
    """Nobody but clients reach the leader."""
    with _cut(field, field.links_of(field.leader)):
        yield


@nemesis
def one_way(field: Field) -> Iterator[None]:
    """A node, mostly the leader, hears the others but is not heard, or the reverse."""
    node = field.leader_or_random()
    side = field.dice.randrange(2)
    with _cut(field, {one for one in field.links_of(node) if one[side] == node.number}):
        yield


@nemesis
def bridge(field: Field) -> Iterator[None]:
    """Two halves that only one node reaches, in both directions."""
    nodes = [node.number for node in field.cluster.nodes]
    field.dice.shuffle(nodes)
    half = len(nodes) // 2
    left, right = set(nodes[:half]), set(nodes[half + 1 :])
    with _cut(
        field,
        {
            (source, target)
            for source, target in field.cluster.links.directions
            if (source in left and target in right) or (source in right and target in left)
        },
    ):
        yield


@nemesis
def majority_ring(field: Field) -> Iterator[None]:
    """Every node sees a majority, but no two the same one.

    Five nodes sit in a ring and reach two neighbours each. Of three, where a majority is
    one neighbour, each hears only the one before it.
    """
    nodes = [node.number for node in field.cluster.nodes]
    field.dice.shuffle(nodes)
    count = len(nodes)
    places = {number: place for place, number in enumerate(nodes)}
    near = {1} if count <= 3 else {step for one in range(1, count // 4 + 1) for step in (one, -one)}
    steps = {step % count for step in near}
    with _cut(
        field,
        {
            (source, target)
            for source, target in field.cluster.links.directions
            if (places[target] - places[source]) % count not in steps
        },
    ):
        yield


@nemesis
def flapping(field: Field) -> Iterator[None]:
    """The cables of a node, mostly the leader's, come and go several times a second."""
    node = field.leader_or_random()
    ended = threading.Event()

    def flap() -> None:
        dice = random.Random(node.number)
        directions = field.links_of(node)
        while not ended.is_set():
            links.cut(directions)
            ended.wait(dice.uniform(0.05, 0.4))
            links.mend(directions)
            ended.wait(dice.uniform(0.05, 0.4))

    links = field.cluster.links
    thread = threading.Thread(target=flap, daemon=True)
    field.strikes()
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@nemesis
def bad_links(field: Field) -> Iterator[None]:
    """Packets are late, lost, doubled and out of order, around one node or everywhere."""
    directions = set(field.cluster.links.directions)
    if field.dice.random() < 0.6:
        directions = field.links_of(field.leader_or_random())
    field.strikes()
    field.cluster.links.shape(
        directions,
        delay_ms=field.dice.choice((0, 5, 30, 80)),
        jitter_ms=field.dice.choice((1, 20, 60)),
        loss=field.dice.choice((0, 0.02, 0.1)),
        duplicates=field.dice.choice((0, 0.05)),
    )
    try:
        yield
    finally:
        field.cluster.links.unshape()


# -------------------------------------------------------------------------- processes


@contextlib.contextmanager
def _down(field: Field, nodes: list[HurtNode]) -> Iterator[None]:
    field.strikes()
    for node in nodes:
        if node.is_running:
            node.signal(signal.SIGKILL)
    for node in nodes:
        node.kill()
    try:
        yield
    finally:
        start_again(field, nodes)


@nemesis
def kill_one(field: Field) -> Iterator[None]:
    """kill -9 of the leader, or of any node."""
    with _down(field, [field.leader_or_random()]):
        yield


@nemesis
def kill_majority(field: Field) -> Iterator[None]:
    """kill -9 of a majority at once."""
    with _down(field, field.dice.sample(field.cluster.nodes, field.cluster.majority)):
        yield


@nemesis
def kill_all(field: Field) -> Iterator[None]:
    """kill -9 of every node at once."""
    with _down(field, list(field.cluster.nodes)):
        field.pause(0.0, 0.2)
    yield


@nemesis
def restart_storm(field: Field) -> Iterator[None]:
    """Nodes are killed and started again before they have come up."""
    field.strikes()
    for _ in range(field.dice.randint(4, 8)):
        node = field.leader_or_random()
        node.kill()
        start_again(field, [node])
        field.pause(0.0, 0.4)
    yield


@nemesis
def clean_restart(field: Field) -> Iterator[None]:
    """SIGTERM of a node, mostly the leader: it hands over, syncs, exits 0."""
    node = field.leader_or_random()
    node.resume()
    # Before it serves it may not listen to signals yet, either.
    if node.is_running and node.status() is not None:
        field.strikes()
        code = node.stop()
        assert code == 0, f"{node.id} ended with {code} when asked to stop"
    with may_end(node, 0):
        yield
        start_again(field, [node])


@nemesis
def transfer_leadership(field: Field) -> Iterator[None]:
    """The leader is told to hand over, to anybody or to a node of our choice."""
    leader = field.leader
    words = (
        [field.dice.choice(field.cluster.others(leader)).id] if field.dice.random() < 0.5 else []
    )
    field.strikes()
    field.ask(leader, "TRANSFER", *words)
    yield


@nemesis
def demoted_member(field: Field) -> Iterator[None]:
    """A voter, now and then the leader, becomes a learner; the run promotes it again."""
    leader = field.leader
    node = field.leader_or_random()
    field.strikes()
    field.ask(leader, "MEMBER", "DEMOTE", node.id)
    yield


@nemesis
def removed_member(field: Field) -> Iterator[None]:
    """A member, now and then the leader, is removed, ends with 7 and loses its disk.

    The run adds it again as a new node, which is filled by a snapshot.
    """
    if not field.everybody_counts():
        yield
        return
    leader = field.leader
    node = field.leader_or_random()
    field.strikes()
    node.expected_exits = (*node.expected_exits, EXIT_REFUSED)
    field.ask(leader, "MEMBER", "REMOVE", node.id)
    yield


@nemesis
def pause_leader(field: Field) -> Iterator[None]:
    """SIGSTOP of the leader; reads wait in its sockets until it wakes.

    When it wakes it must not answer them with what was true when it fell asleep. The
    reads are in the history, so the checker judges them.
    """
    leader = field.leader
    number = field.strikes_by_name.total()
    probes = [field.load.probe(f"probe{number}.{part}", leader.client) for part in (1, 2)]
    early, late = (probe if probe.connect() else None for probe in probes)
    field.strikes()
    if leader.is_running:
        leader.pause()
    asked = [early.ask(_PROBE_PATIENCE_S)] if early else []
    try:
        yield
    finally:
        # By now the others have elected and written, unless they are hurt as well.
        asked += [late.ask(_PROBE_PATIENCE_S)] if late else []
        time.sleep(0.01)
        leader.resume()
        for answers in asked:
            for outcome, count in answers.result().items():
                field.facts[f"reads asked of a paused leader: {outcome}"] += count
        for probe in probes:
            probe.close()


@nemesis
def pause_some(field: Field) -> Iterator[None]:
    """SIGSTOP of a minority or of a majority, and back."""
    count = field.dice.randint(1, field.cluster.majority)
    nodes = [node for node in field.dice.sample(field.cluster.nodes, count) if node.is_running]
    field.strikes()
    for node in nodes:
        node.pause()
    try:
        yield
    finally:
        for node in nodes:
            node.resume()


# ----------------------------------------------------------------- clocks and clients


@nemesis
def wall_clock_jump(field: Field) -> Iterator[None]:
    """The wall clocks of some nodes jump by up to a day, either way.

    While the same leader leads, a key must age by the true time, as nearly as slewing
    allows.
    """
    nodes = field.minority() if field.dice.random() < 0.5 else [field.leader]
    witness = _Lifetime(field.leader, f"ttl:{field.strikes_by_name.total()}")
    field.strikes()
    for node in nodes:
        node.faults.wall_offset_ms = field.dice.choice((-1, 1)) * field.dice.choice(
            (500, 60_000, 86_400_000)
        )
    try:
        yield
        field.facts["lifetimes held against the clock"] += witness.check()
    finally:
        for node in nodes:
            node.faults.wall_offset_ms = 0


class _Lifetime:
    """A key with a deadline on one leader, to be compared with the time that passes."""

    TTL_MS = 60_000
    # Log time may run so much faster or slower than the clock (ADR 0004), and it moves
    # with the batches only, at least once a second.
    SLEW = 0.1
    SLACK_MS = 1_500

    def __init__(self, leader: HurtNode, key: str) -> None:
        self._leader = leader
        self._key = key
        self._term = self._ask_term()
        self._set_s = time.monotonic()
        if self._ask("SET", key, "x", "PX", self.TTL_MS) != b"OK":
            self._term = None

    def _ask(self, *words: str | int) -> object:
        try:
            with Wire(self._leader.client, timeout_s=1.0, connect_timeout_s=1.0) as wire:
                return wire.call(*words)
        except OSError:
            return None

    def _ask_term(self) -> int | None:
        status = self._leader.status()
        return status["term"] if status and status["role"] == "leader" else None

    def check(self) -> bool:
        """Compare, if the same leader still leads; tells whether it was compared."""
        left_ms = self._ask("PTTL", self._key)
        passed_ms = (time.monotonic() - self._set_s) * 1000
        if self._term is None or self._ask_term() != self._term or not isinstance(left_ms, int):
            return False
        least_ms = self.TTL_MS - passed_ms * (1 + self.SLEW) - self.SLACK_MS
        most_ms = self.TTL_MS - passed_ms * (1 - self.SLEW) + self.SLACK_MS
        assert least_ms <= left_ms <= most_ms, (
            f"{self._key} has {left_ms} ms left after {passed_ms:.0f} of {self.TTL_MS}; "
            f"allowed: {least_ms:.0f}..{most_ms:.0f}"
        )
        return True


@nemesis
def suspended(field: Field) -> Iterator[None]:
    """The boot clock of a node jumps ahead, as after the suspend of a machine."""
    node = field.leader_or_random()
    field.strikes()
    node.faults.boot_offset_ms += field.dice.choice((200, 1_000, 30_000, 3_600_000))
    yield


@nemesis
def connection_flood(field: Field) -> Iterator[None]:
    """Hundreds of connections to the ports of a node: idle, half a request, junk."""
    node = field.leader_or_random()
    pieces = (b"", b"*3\r\n$3\r\nSET\r\n$5\r\nhal", b"\x00\xff" * 600, b"GET " + b"x" * 500)
    opened: list[socket.socket] = []
    field.strikes()
    for number in range(400):
        address, _, port = (node.peer if number % 4 == 3 else node.client).rpartition(":")
        one = socket.socket()
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError, OSError):
            one.connect((address, int(port)))
        opened.append(one)
        if number % 50 == 49:
            time.sleep(0.01)
    for one in opened:
        with contextlib.suppress(OSError):
            one.send(field.dice.choice(pieces))
    field.facts["connections of floods"] += len(opened)
    try:
        yield
    finally:
        for one in opened:
            one.close()
