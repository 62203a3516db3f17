"""When a leader proposes its memory limit, and that all nodes then have it."""

from __future__ import annotations

from raftkv.kv.commands import Opcode
from raftkv.kv.store import KvStore
from raftkv.replica.dataset_limit import PROPOSAL_GAP_MS, DatasetLimit
from raftkv.seams import NOT_LEADER
from tests.unit.kv.driver import apply


def test_it_is_proposed_by_a_leader_whose_setting_differs_and_only_once_at_a_time() -> None:
    store, limit = KvStore(), DatasetLimit(1000)
    assert not limit.turn(store, 0, leads=False)
    assert limit.turn(store, 0, leads=True)
    assert not limit.turn(store, 10_000, leads=True)
    limit.resolve(apply(store, [limit.command]))
    assert limit.command == (int(Opcode.LIMIT_DATASET), 1000)
    assert store.dataset_bytes_max == 1000
    assert not limit.turn(store, 20_000, leads=True)


def test_what_was_refused_is_proposed_again_but_not_at_once() -> None:
    store, limit = KvStore(), DatasetLimit(1000)
    assert limit.turn(store, 5, leads=True)
    limit.fail(NOT_LEADER)
    assert not limit.turn(store, 5 + PROPOSAL_GAP_MS - 1, leads=True)
    assert limit.turn(store, 5 + PROPOSAL_GAP_MS, leads=True)


def test_without_a_setting_a_limit_of_another_leader_is_taken_back() -> None:
    store, limit = KvStore(), DatasetLimit(0)
    assert not limit.turn(store, 0, leads=True)
    apply(store, [DatasetLimit(5).command])
    assert limit.turn(store, 0, leads=True)
    apply(store, [limit.command])
    assert not store.dataset_is_full
