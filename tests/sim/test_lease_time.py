"""Lease time is judged at every committed stamp, and a wrong one is noticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftkv.kv.store import KvStore
from raftkv.replica.clockwork import BatchClock
from raftkv.replica.log_time import LogTime
from raftkv.types import Term
from tests.sim.cluster import Violation
from tests.sim.lease_time import LeaseTimeWatch
from tests.sim.run import run_seed


class Stores:
    """Applies stamps one after the other."""

    def __init__(self) -> None:
        self.watch = LeaseTimeWatch()
        self.store = KvStore()

    def apply(self, now_ms: float, lease_time_ms: int, term: int = 1) -> str:
        """Let a leader stamp a batch that is committed; return what was wrong."""
        self.watch.stamped(now_ms, Term(term), 0, lease_time_ms)
        return self.applied(lease_time_ms, term)

    def applied(self, lease_time_ms: int, term: int = 1) -> str:
        """Apply a batch that was stamped so in that term; return what was wrong."""
        self.store.applied_index += 1
        self.store._keyspace.lease_time_ms = lease_time_ms
        self.watch.note(self.store, Term(term))
        return self.watch.problem


def test_time_that_passes_under_one_leader_is_counted() -> None:
    stores = Stores()
    assert [stores.apply(1000 + passed, passed) for passed in (0, 50, 5000)] == ["", "", ""]
    assert "lost" in stores.apply(8000, 6000)


def test_the_gap_between_two_leaders_is_not() -> None:
    stores = Stores()
    assert stores.apply(1000, 500) == ""
    assert stores.apply(4000, 500, term=2) == ""
    assert stores.watch.gaps_ms == pytest.approx(2940)
    assert stores.apply(5000, 1500, term=2) == ""


def test_what_the_next_leader_stamps_alike_is_told_apart() -> None:
    """It begins where its store is, which has not applied all of its log yet."""
    stores = Stores()
    assert stores.apply(1000, 500) == ""
    for made_ms, lease_time_ms in ((1100, 600), (1200, 700)):
        stores.watch.stamped(made_ms, Term(1), 0, lease_time_ms)
        stores.watch.stamped(2000 + made_ms // 100, Term(2), 0, lease_time_ms)
        assert stores.applied(lease_time_ms) == ""
    assert stores.watch.gaps_ms == 0


def test_it_never_gains_more_than_clocks_drift() -> None:
    stores = Stores()
    assert stores.apply(1000, 500) == ""
    assert stores.apply(2000, 1520) == ""
    assert "gained" in stores.apply(3000, 2560, term=2)


def _too_fast(time: LogTime) -> int:
    return time._lease_base + 2 * (time._read_ms - time._started_ms)


def _too_slow(time: LogTime) -> int:
    return time._lease_base + (time._read_ms - time._started_ms) // 2


@pytest.mark.parametrize(
    ("wrong", "invariant"),
    [(_too_fast, "leases_end_in_time"), (_too_slow, "time_goes_on_under_a_leader")],
)
def test_a_leader_that_counts_wrongly_is_noticed(
    wrong: Callable[[LogTime], int], invariant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LogTime, "lease_time_ms", property(wrong))
    with pytest.raises(Violation) as caught:
        run_seed(1, duration_ms=8000)
    assert caught.value.invariant == invariant


def test_a_leader_that_counts_the_time_before_it_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lead = BatchClock.lead

    def ahead(self: BatchClock, term: Term, quorum_wall_ms: int, store: KvStore) -> None:
        lead(self, term, quorum_wall_ms, store)
        assert self._time is not None
        self._time._lease_base += 2000

    monkeypatch.setattr(BatchClock, "lead", ahead)
    with pytest.raises(Violation) as caught:
        run_seed(2, duration_ms=8000)
    assert caught.value.invariant == "leases_end_in_time"
