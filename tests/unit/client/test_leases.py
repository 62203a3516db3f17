"""What a client believes of its leases, and what it does for them."""

from __future__ import annotations

import pytest

from raftkv.client import leases
from raftkv.client.leases import BELIEVED_SHARE, Tenure, grant, ttl_to_ms
from raftkv.client.policy import CLOSED, CLOSED_UNDER_WAY, Pause
from raftkv.errors import (
    CommandError,
    ConnectFailedError,
    ConnectionLostError,
    NoLeaderError,
    OutcomeUnknownError,
)
from raftkv.kv.lease_commands import LEASE_EXISTS, TOO_MANY_LEASES
from tests.unit.client.store_driver import World


def granted(world: World, ttl_s: float = 3.0) -> Tenure:
    steps = grant(7, int(ttl_s * 1000), end_s=world.now_s + 10, outside=world.outside)
    return world.drive(steps)


def is_alive(world: World, lease_id: int = 7) -> bool:
    return world.execute("KV", "LEASE", "TTL", str(lease_id)) is not None


def test_belief_counts_from_the_sending_and_leaves_room_for_clocks() -> None:
    tenure = Tenure(7, 10.0, sent_s=100.0)
    assert tenure.remaining_s(101.0) == pytest.approx(10 * BELIEVED_SHARE - 1)
    tenure.renew(103.0, 104.0)
    assert tenure.remaining_s(104.0) == pytest.approx(8.0)
    tenure.renew(102.0, 104.0)  # of an older request
    assert tenure.remaining_s(104.0) == pytest.approx(8.0)


def test_what_was_given_up_once_is_never_believed_again() -> None:
    tenure = Tenure(7, 10.0, sent_s=100.0)
    assert tenure.remaining_s(109.1) == 0
    tenure.renew(108.0, 109.2)
    assert tenure.remaining_s(108.5) == 0
    late = Tenure(8, 10.0, sent_s=100.0)
    late.renew(108.0, 109.1)  # nobody asked meanwhile, but it was over
    assert late.remaining_s(109.1) == 0


def test_a_lease_is_kept_as_long_as_it_is_wanted() -> None:
    world = World()
    tenure = granted(world)
    ended: list[None] = []
    world.start(tenure.keep(world.outside), ended.append)
    world.run(60)
    assert is_alive(world)
    assert tenure.remaining_s(world.now_s) > 1.5
    renewals = [words for words in world.sent if words[2] == b"KEEPALIVE"]
    assert 55 <= len(renewals) <= 65
    tenure.ended = True
    world.run(5)
    assert ended == [None]
    assert not is_alive(world)


def test_lost_answers_are_outlived() -> None:
    world = World(seed=1)
    tenure = granted(world)
    world.lose = lambda words: world.random.choice(["", "", "request", "reply"])
    world.start(tenure.keep(world.outside), lambda _: None)
    for _ in range(300):
        world.run(0.2)
        if tenure.remaining_s(world.now_s):
            assert is_alive(world)
    assert tenure.remaining_s(world.now_s) > 0


def test_belief_ends_before_the_lease_does() -> None:
    world = World()
    tenure = granted(world)
    world.start(tenure.keep(world.outside), lambda _: None)
    world.run(10)
    world.lose = lambda words: "request"
    while tenure.remaining_s(world.now_s):
        world.run(0.01)
        assert is_alive(world)
    world.run(0.25)
    assert is_alive(world)
    world.run(0.2)
    assert not is_alive(world)


def test_a_lease_that_somebody_revoked_is_lost_at_the_next_renewal() -> None:
    world = World()
    tenure = granted(world)
    ended: list[None] = []
    world.start(tenure.keep(world.outside), ended.append)
    world.execute("KV", "LEASE", "REVOKE", "7")
    world.run(1.1)
    assert ended == [None]
    assert tenure.remaining_s(world.now_s) == 0


def test_another_error_is_no_loss() -> None:
    world = World()
    tenure = Tenure(7, 3.0, sent_s=world.now_s)
    steps = tenure.keep(world.outside)
    next(steps)
    world.now_s += 1.1
    steps.send(None)
    pause = steps.throw(CommandError("ERR something else"))
    assert pause is not None
    assert tenure.remaining_s(world.now_s) > 0


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_a_grant_is_sent_again_and_counts_from_the_first(lost: str) -> None:
    world = World()
    losses = [lost, lost]
    world.lose = lambda words: losses.pop() if losses else ""
    began_s = world.now_s
    tenure = granted(world)
    assert len(world.sent) == 3
    assert is_alive(world)
    if lost == "reply":
        assert tenure.renewed_s == began_s
    else:
        assert tenure.renewed_s > began_s


def test_a_grant_that_is_refused_behind_a_lost_request_is_not_believed() -> None:
    world = World()
    steps = grant(7, 3000, end_s=world.now_s + 10, outside=world.outside)
    next(steps)
    steps.throw(OutcomeUnknownError("timeout"))
    steps.send(None)
    with pytest.raises(CommandError, match="too many"):
        steps.throw(CommandError(TOO_MANY_LEASES))
    assert leases.LEASE_EXISTS == LEASE_EXISTS


def test_a_grant_behind_a_lost_request_is_not_said_to_be_definitely_refused() -> None:
    world = World()
    steps = grant(7, 3000, end_s=world.now_s + 1, outside=world.outside)
    next(steps)
    steps.throw(OutcomeUnknownError("timeout"))
    steps.send(None)
    # The first request may have been executed: this says nothing about it.
    assert isinstance(steps.throw(NoLeaderError("no leader")), Pause)
    steps.send(None)
    world.now_s += 2
    with pytest.raises(OutcomeUnknownError):
        steps.throw(NoLeaderError("no leader"))


def test_a_client_that_is_closed_waits_no_longer_for_what_became_of_a_grant() -> None:
    world = World()
    steps = grant(7, 3000, end_s=world.now_s + 10, outside=world.outside)
    next(steps)
    steps.throw(ConnectionLostError(CLOSED_UNDER_WAY))
    steps.send(None)
    with pytest.raises(ConnectionLostError):
        steps.throw(ConnectFailedError(CLOSED))


def test_a_grant_that_stays_unknown_is_raised() -> None:
    world = World()
    world.lose = lambda words: "request"
    with pytest.raises(OutcomeUnknownError):
        granted(world)


def test_a_grant_that_is_refused_is_raised() -> None:
    world = World()
    world.execute("KV", "LEASE", "GRANT", "1000", "ID", "7")
    with pytest.raises(CommandError, match="exists"):
        granted(world)


def test_times() -> None:
    assert ttl_to_ms(0.1) == 100
    assert ttl_to_ms(1.2345) == 1234
    with pytest.raises(ValueError, match=r"0\.1 seconds"):
        ttl_to_ms(0.0999)
