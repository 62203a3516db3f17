"""An error in the report of a worker stops the node; nothing waits for it for ever."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from raftkv.kv.image import Image
from raftkv.kv.image_loader import ImageLoader
from raftkv.replica.ports import EXIT_INTERNAL
from raftkv.storage.wal import Wal
from tests.sim.cluster import Cluster, SimNode, SimSlot
from tests.sim.healthy_cluster import follower_of, healthy, leader_of, write


def no_memory(*_: object, **__: object) -> NoReturn:
    raise MemoryError("planted")


def comes_back_after_a_stop(
    cluster: Cluster, node: SimNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops for the planted error, and what it has is in order."""
    cluster.run_until(lambda: not node.alive, 5000)
    ((name, stopped),) = cluster.stops
    assert (name, stopped.exit_code, stopped.orderly) == (node.name, EXIT_INTERNAL, False)
    assert "MemoryError: planted" in stopped.reason
    monkeypatch.undo()
    node.start()
    cluster.run_until(cluster.converged)
    write(cluster)


def test_while_a_snapshot_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = healthy()
    write(cluster)
    node = leader_of(cluster)
    slices = Image.slices

    def cut_off(image: Image) -> Any:
        # The first piece is taken in the turn, the next in the report on it.
        yield next(slices(image))
        no_memory()

    monkeypatch.setattr(Image, "slices", cut_off)
    node.guarded(lambda: node.replica.take_snapshot(SimSlot(lambda *_: None)))
    comes_back_after_a_stop(cluster, node, monkeypatch)


def test_while_a_snapshot_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = healthy()
    node = follower_of(cluster)
    node.crash(power_cut=False)
    while "snapshot_taken" not in cluster.events:
        write(cluster, bytes(4096))
    node.start()
    monkeypatch.setattr(ImageLoader, "feed", no_memory)
    comes_back_after_a_stop(cluster, node, monkeypatch)


@pytest.mark.parametrize("on_loop", [True, False])
def test_while_a_sync_is_noted(monkeypatch: pytest.MonkeyPatch, on_loop: bool) -> None:
    cluster = healthy()
    node = follower_of(cluster)
    node.syncer.share_on_loop = float(on_loop)
    node.syncer._on_thread_left = 0
    finished = Wal.finished

    def cut_off(wal: Wal, job: Any) -> None:
        if wal is node.replica._wal:
            no_memory()
        finished(wal, job)

    monkeypatch.setattr(Wal, "finished", cut_off)
    write(cluster)
    comes_back_after_a_stop(cluster, node, monkeypatch)


def test_while_old_entries_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = healthy()
    leader = leader_of(cluster)
    monkeypatch.setattr(leader.replica._reader, "_deliver", no_memory)
    leader.guarded(lambda: leader.replica._reader.start([(1, 2, 1)]))
    comes_back_after_a_stop(cluster, leader, monkeypatch)


def test_a_stop_that_cannot_be_reported_is_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = healthy()
    node = leader_of(cluster)
    monkeypatch.setattr(node.replica._observer, "event", no_memory)
    with pytest.raises(MemoryError):
        node.replica.fail(MemoryError("planted"))
    assert [name for name, _ in cluster.stops] == [node.name]
