"""Scenarios of what PySyncObj spends, as it is installed; see `bare_library`.

What is spent is counted, in pieces, bytes, messages and simulated time; nothing is timed.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from tests.unit.engine.bare_world import World, led_world, world_that_needs_a_dump

_PIECE_BYTES = 5
_BATCH_BYTES = 1000
_TICK_S = 0.001


def transfer_begun_anew() -> dict[str, Any]:
    """H: every new dump begins the transfer anew, so none ends while the leader is busy."""
    world = world_that_needs_a_dump(logCompactionBatchSize=_PIECE_BYTES)
    # A turn has time for a few pieces.
    world.sending_s = 0.02
    pieces: list[tuple[bytes, bool, bool]] = []
    answers: list[bytes] = []

    def exchange() -> None:
        world.turn("A")
        for message in world.take("A", "C"):
            piece = pickle.loads(message).get("serialized")
            if piece is not None:
                pieces.append(piece)
            world.deliver("A", "C", message)
        answers.extend(world.take("C", "A"))
        world.settle("AB")

    for _ in range(12):
        world.add("A")
        for _ in range(3):
            exchange()
        world.nodes["A"].forceLogCompaction()
        exchange()
    busy = list(pieces)
    answers_then = len(answers)
    pieces.clear()
    while not (pieces and pieces[-1][2]) and len(pieces) < 10 * len(busy):
        exchange()
    return {
        "needed": len(pieces), "sent": len(busy), "begun": sum(first for _, first, _ in busy),
        "ended": sum(last for _, _, last in busy), "answers": answers_then,
        "ended_at_rest": sum(last for _, _, last in pieces),
    }  # fmt: skip


class _Copied(bytes):
    """Bytes that count what is copied when something is added to them."""

    count = 0

    def __add__(self, more: bytes) -> _Copied:
        whole = _Copied(bytes(self) + more)
        _Copied.count += len(whole)
        return whole


def pieces_of_a_value() -> dict[str, Any]:
    """I: a follower copies all that it has of a value with every piece of it."""
    world = led_world(appendEntriesBatchSizeBytes=_BATCH_BYTES)
    world.cut_off("C")
    follower = world.nodes["B"]
    copies: list[int] = []
    for pieces in 10, 20, 40, 80:
        size = pieces * _BATCH_BYTES - _BATCH_BYTES // 2
        world.add("A", padding="x" * size)
        world.turn("A")
        world.turn("A")
        _Copied.count = 0
        for message in world.take("A", "B"):
            world.deliver("A", "B", message)
            held = follower._SyncObj__recvTransmission
            if type(held) is bytes:
                follower._SyncObj__recvTransmission = _Copied(held)
        copies.append(_Copied.count // size)
        world.beat("AB")
    return {"copies": copies, "total": follower.total}


def lone_client() -> dict[str, Any]:
    """P: who writes one after the other waits for the period, or everybody for its messages."""
    seen: dict[str, Any] = {}
    for mode, is_batched in ("batch", True), ("single", False):
        world = led_world(appendEntriesUseBatch=is_batched)
        _write(world, 1)
        waits = [_write(world, 1)[0] for _ in range(10)]
        seen[mode] = {"wait_ms": min(waits), "appends": _write(world, 100)[1]}
    return seen


def _write(world: World, count: int) -> tuple[int, int]:
    """Add some at once, and tick until all are acknowledged.

    Returns:
        Milliseconds until then, and messages from A to B.
    """
    told = world.add("A", count)
    ticks = appends = 0
    while len(told) < count:
        ticks += 1
        world.clock.now_s += _TICK_S
        for node in world.nodes.values():
            node.doTick()
        appends += sum(one[:2] == ("A", "B") for one in world.messages)
        world.settle("ABC")
    return round(ticks * _TICK_S * 1000), appends


SCENARIOS: tuple[Callable[[], dict[str, Any]], ...] = (
    transfer_begun_anew, pieces_of_a_value, lone_client,
)  # fmt: skip
