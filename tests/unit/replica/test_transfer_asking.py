"""A question of the sender that nobody answers is asked again soon, a silent transfer later."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from raftkv.replica.transfer import (
    ASK_AGAIN_MS,
    RETRY_MS,
    SnapshotAnswer,
    SnapshotChunk,
    SnapshotSender,
    decode,
)
from raftkv.types import NodeId

FOLLOWER = NodeId("n2")


class Network:
    def __init__(self) -> None:
        self.sent: list[SnapshotChunk | SnapshotAnswer] = []

    def send(self, node: NodeId, kind: int, body: bytes) -> None:
        self.sent.append(decode(body))

    def flush(self) -> None:
        pass


class OneSnapshot:
    """A store with one file of 1000 bytes."""

    def newest(self) -> object:
        return SimpleNamespace(index=7)

    def open_raw(self, meta: object) -> object:
        return SimpleNamespace(
            size=1000, content_id="c", meta=meta, close=lambda: None,
            read=lambda offset, size: bytes(size),
        )  # fmt: skip


class Worker:
    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        done(job())


class Nobody:
    def event(self, name: str, **fields: object) -> None:
        pass


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def sender(network: Network) -> SnapshotSender:
    def fail(error: BaseException) -> None:
        raise error

    return SnapshotSender(
        network=network, snapshots=OneSnapshot(), background=Worker(), observer=Nobody(),
        chunk_bytes=4096, match_index=lambda node: 0, fail=fail,
    )  # type: ignore[arg-type]  # fmt: skip


def test_a_question_without_answer_is_asked_again_soon(
    sender: SnapshotSender, network: Network
) -> None:
    now_ms = 0
    for now_ms in range(0, 3 * ASK_AGAIN_MS + 50, 10):
        sender.turn((FOLLOWER,), 1, now_ms)
    assert [(chunk.offset, chunk.data) for chunk in network.sent] == [(0, b"")] * 4


def test_a_transfer_under_way_is_left_alone_for_longer(
    sender: SnapshotSender, network: Network
) -> None:
    sender.turn((FOLLOWER,), 1, 0)
    sender.answered(FOLLOWER, SnapshotAnswer(1, "c", 0), 10)
    assert [len(chunk.data) for chunk in network.sent] == [0, 1000]
    sender.turn((FOLLOWER,), 1, 10 + RETRY_MS)
    assert len(network.sent) == 2
    sender.turn((FOLLOWER,), 1, 11 + RETRY_MS)
    assert [len(chunk.data) for chunk in network.sent] == [0, 1000, 0]


def test_a_follower_that_holds_it_and_still_needs_one_gets_the_newest(network: Network) -> None:
    """The log behind the snapshot was cut while it travelled."""
    snapshots = OneSnapshot()
    held = {FOLLOWER: 0}
    newest = [7]
    snapshots.newest = lambda: SimpleNamespace(index=newest[0])  # type: ignore[method-assign]
    snapshots.open_raw = lambda meta: SimpleNamespace(  # type: ignore[method-assign]
        size=1000, content_id=f"c{meta.index}", meta=meta, close=lambda: None,
        read=lambda offset, size: bytes(size),
    )  # fmt: skip
    sender = SnapshotSender(
        network=network, snapshots=snapshots, background=Worker(), observer=Nobody(),
        chunk_bytes=4096, match_index=held.__getitem__, fail=pytest.fail,
    )  # type: ignore[arg-type]  # fmt: skip
    sender.turn((FOLLOWER,), 1, 0)
    newest[0] = 9
    sender.turn((FOLLOWER,), 1, 10)
    assert [chunk.content_id for chunk in network.sent] == ["c7"]
    held[FOLLOWER] = 7
    sender.turn((FOLLOWER,), 1, 20)
    assert [chunk.content_id for chunk in network.sent] == ["c7", "c9"]
