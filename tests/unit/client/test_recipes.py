"""What recipes promise, with answers lost and holders that die, against a store."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from raftkv.client.leases import Tenure
from raftkv.client.recipes.claims import MARK_BYTES, Claim, marked, read_holding, unmarked
from raftkv.client.recipes.conditions import until_gone, until_held_anew
from raftkv.client.recipes.queues import ID_BYTES, QueueSteps, Taken
from raftkv.errors import CommandError
from tests.unit.client.store_driver import World

TTL_S = 2.0


class Contender:
    """Takes a key again and again, and writes down when it believed to hold it."""

    def __init__(self, world: World, name: str, keys: list[str], *, dies: float = 0.0) -> None:
        self.world, self.name, self.keys = world, name, keys
        self.dies = dies
        self.periods: list[tuple[float, float, int, str]] = []
        self.refused = 0
        self.go_on()

    def go_on(self) -> None:
        lease_id = self.world.random.randrange(1, 2**53)
        claim = Claim(
            self.keys,
            marked("", b"%032d" % lease_id),
            lease_id,
            own_ttl_ms=int(TTL_S * 1000),
            request_s_max=3.0,
        )
        steps = claim.take(end_s=self.world.now_s + 5, outside=self.world.outside)
        self.world.start(steps, lambda held: self.taken(claim, held), failed=self.failed)

    def failed(self, error: Any) -> None:
        self.world.after(0.1, self.go_on)

    def taken(self, claim: Claim, held: bool) -> None:
        if not held:
            self.refused += 1
            self.world.after(0.1, self.go_on)
            return
        assert claim.tenure is not None
        tenure, began_s = claim.tenure, self.world.now_s
        alive = self.world.random.random() >= self.dies
        if alive:
            self.world.start(tenure.keep(self.world.outside), lambda _: None)
        work_s = self.world.random.uniform(0.0, 3 * TTL_S)
        self.world.after(work_s, lambda: self.leave(claim, tenure, began_s, alive=alive))

    def leave(self, claim: Claim, tenure: Tenure, began_s: float, *, alive: bool) -> None:
        end_s = self.world.now_s
        if not tenure.remaining_s(end_s):
            # It stopped believing then, or earlier.
            end_s = min(end_s, tenure.renewed_s + TTL_S * 0.9)
        if end_s > began_s:
            self.periods.append((began_s, end_s, claim.token, str(claim.key)))
        if alive:
            tenure.ended = True
            self.world.start(
                claim.give_back(end_s=self.world.now_s + 1, outside=self.world.outside),
                lambda _: None,
                failed=lambda error: None,
            )
        self.world.after(self.world.random.uniform(0, 0.5), self.go_on)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("keys", [["lock"], ["s/0", "s/1", "s/2"]], ids=["lock", "semaphore"])
def test_two_never_believe_to_hold_the_same_and_tokens_grow(seed: int, keys: list[str]) -> None:
    world = World(seed)
    world.lose = lambda words: world.random.choices(["", "request", "reply"], [80, 10, 10])[0]
    contenders = [
        Contender(world, f"c{number}", keys, dies=0.3 if number % 2 else 0.0) for number in range(5)
    ]
    world.run(150)
    for key in keys:
        periods = sorted(period for one in contenders for period in one.periods if period[3] == key)
        assert len(periods) > 5
        for before, after in pairwise(periods):
            assert before[1] <= after[0]
            assert before[2] < after[2]


def test_a_claim_finds_its_own_key_behind_a_lost_answer() -> None:
    world = World()
    losses = ["reply"]
    world.lose = lambda words: losses.pop() if losses else ""
    claim = Claim(["k"], b"mine", 7, own_ttl_ms=2000, request_s_max=3.0)
    began_s = world.now_s
    assert world.drive(claim.take(end_s=None, outside=world.outside))
    assert claim.tenure is not None
    assert claim.tenure.renewed_s == began_s
    holding = world.drive(read_holding("k"))
    assert holding is not None
    assert (holding.value, holding.token) == (b"mine", claim.token)


@pytest.mark.parametrize("own", [True, False])
def test_a_claim_whose_fate_is_unknown_is_taken_back(own: bool) -> None:
    world = World()
    world.execute("KV", "LEASE", "GRANT", "60000", "ID", "8")
    world.lose = lambda words: "reply" if words[1] == b"TXN" else ""
    claim = Claim(
        ["k"], b"mine", 7 if own else 8, own_ttl_ms=60_000 if own else None, request_s_max=1.0
    )
    assert not world.drive(claim.take(end_s=None, outside=world.outside))
    assert world.execute("EXISTS", "k") == 0


@pytest.mark.parametrize("own", [True, False])
def test_a_claim_is_taken_back_though_the_last_request_was_certainly_not_executed(
    own: bool,
) -> None:
    world = World()
    world.execute("KV", "LEASE", "GRANT", "60000", "ID", "8")
    claim = Claim(
        ["k"], b"mine", 7 if own else 8, own_ttl_ms=60_000 if own else None, request_s_max=1.0
    )
    losses = ["reply", *["unreachable"] * 100]

    def lose(words: tuple[bytes, ...]) -> str:
        return losses.pop(0) if words[1] == b"TXN" and losses else ""

    world.lose = lose
    assert not world.drive(claim.take(end_s=None, outside=world.outside))
    assert world.execute("EXISTS", "k") == 0


def test_a_claim_waits_as_long_as_it_is_told() -> None:
    world = World()
    world.execute("SET", "k", "other")
    for wait_s in (0.0, 2.5):
        began_s = world.now_s
        claim = Claim(["k"], b"mine", 7, own_ttl_ms=2000, request_s_max=3.0)
        assert not world.drive(claim.take(end_s=began_s + wait_s, outside=world.outside))
        assert wait_s <= world.now_s - began_s < wait_s + 0.1
    assert world.execute("KV", "LEASE", "LIST") == []


def test_a_claim_that_is_refused_says_so() -> None:
    world = World()
    claim = Claim(["k"], b"mine", 7, own_ttl_ms=None, request_s_max=3.0)
    with pytest.raises(CommandError, match="NOLEASE"):
        world.drive(claim.take(end_s=None, outside=world.outside))


def test_a_leader_says_something_else_and_keeps_token_and_lease() -> None:
    world = World()
    mark = b"m" * MARK_BYTES
    claim = Claim(["e"], marked("first", mark), 7, own_ttl_ms=2000, request_s_max=3.0)
    assert world.drive(claim.take(end_s=None, outside=world.outside))
    first = world.drive(until_held_anew("e", None, end_s=None, outside=world.outside))
    assert first is not None
    assert unmarked(first).value == b"first"
    assert world.drive(claim.change(marked("second", mark)))
    second = world.drive(until_held_anew("e", first, end_s=None, outside=world.outside))
    assert second is not None
    assert (unmarked(second).value, second.token) == (b"second", first.token)
    nothing = until_held_anew("e", second, end_s=world.now_s + 1, outside=world.outside)
    assert world.drive(nothing) is None
    world.run(2.5)
    assert world.execute("EXISTS", "e") == 0
    assert not world.drive(claim.change(marked("third", mark)))


def test_a_barrier_opens_when_its_key_is_gone() -> None:
    world = World()
    world.execute("SET", "b", "")
    assert not world.drive(until_gone("b", end_s=world.now_s + 1, outside=world.outside))
    world.after(1, lambda: world.execute("DEL", "b"))
    began_s = world.now_s
    assert world.drive(until_gone("b", end_s=None, outside=world.outside))
    assert 1 <= world.now_s - began_s <= 1.6


# ----------------------------------------------------------------------- queues


def put(world: World, number: int) -> None:
    world.execute("RPUSH", "q", (b"%0" + b"%dd" % ID_BYTES + b"%d") % (number, number))


class Worker:
    """Takes items, is slow, dies now and then, and writes down what it has done."""

    def __init__(self, world: World, done: list[bytes], *, dies: float) -> None:
        self.world, self.finished, self.dies = world, done, dies
        self.worked_on: list[bytes] = []
        self.queue = QueueSteps("q", request_s_max=3.0, outside=world.outside)
        self.begin()

    def begin(self) -> None:
        self.lease_id = self.world.random.randrange(1, 2**53)
        self.world.execute("KV", "LEASE", "GRANT", "2000", "ID", str(self.lease_id))
        self.tenure = Tenure(self.lease_id, TTL_S, self.world.now_s)
        self.world.start(self.tenure.keep(self.world.outside), lambda _: None)
        self.take()

    def take(self) -> None:
        mark = b"%d" % self.world.random.getrandbits(60)
        steps = self.queue.take(self.lease_id, mark, end_s=self.world.now_s + 5)
        self.world.start(steps, self.taken, failed=lambda error: self.die())

    def die(self) -> None:
        self.tenure.ended = True
        self.world.after(3, self.begin)

    def taken(self, taken: Taken | None) -> None:
        if taken is None:
            self.take()
            return
        self.worked_on.append(taken.value)
        if self.world.random.random() < self.dies:
            self.die()
            return
        work_s = self.world.random.uniform(0, 1.0)
        self.world.after(work_s, lambda: self.world.start(
            self.queue.done(taken), lambda told: self.told(taken, told),
            failed=lambda error: self.die()))  # fmt: skip

    def told(self, taken: Taken, is_done: bool) -> None:
        if is_done:
            self.finished.append(taken.value)
        self.take()


@pytest.mark.parametrize("seed", range(4))
def test_every_item_is_done_once_whoever_dies(seed: int) -> None:
    world = World(seed)
    for number in range(150):
        put(world, number)
    world.lose = lambda words: world.random.choices(["", "request", "reply"], [85, 5, 10])[0]
    done: list[bytes] = []
    workers = [Worker(world, done, dies=0.1) for _ in range(4)]
    world.run(400)
    assert world.execute("LLEN", "q") == 0
    # One whose last answer stayed unknown was done and nobody heard of it.
    assert set(done) <= {b"%d" % number for number in range(150)}
    assert len(done) == len(set(done)) >= 130
    assert {one for worker in workers for one in worker.worked_on} == {
        b"%d" % number for number in range(150)
    }


def test_items_come_in_order_and_go_back() -> None:
    world = World()
    for number in range(3):
        put(world, number)
    world.execute("KV", "LEASE", "GRANT", "60000", "ID", "7")
    queue = QueueSteps("q", request_s_max=3.0, outside=world.outside)
    first = world.drive(queue.take(7, b"a", end_s=None))
    second = world.drive(queue.take(7, b"b", end_s=None))
    assert first is not None
    assert second is not None
    assert (first.value, second.value) == (b"0", b"1")
    assert first.token < second.token
    assert world.drive(queue.put_back(first))
    assert not world.drive(queue.put_back(first))
    assert not world.drive(queue.done(first))
    again = world.drive(queue.take(7, b"c", end_s=None))
    assert again is not None
    assert again.value == b"0"
    assert world.drive(queue.done(second))
    assert world.execute("LLEN", "q") == 2
    assert world.execute("KV", "LEASE", "TTL", "7", "KEYS")[b"keys"] == [again.claim_key]


def test_a_lost_item_cannot_be_reported_as_done() -> None:
    world = World()
    put(world, 5)
    world.execute("KV", "LEASE", "GRANT", "1000", "ID", "7")
    queue = QueueSteps("q", request_s_max=3.0, outside=world.outside)
    taken = world.drive(queue.take(7, b"a", end_s=None))
    assert taken is not None
    world.run(2)
    assert not world.drive(queue.done(taken))
    assert world.execute("LLEN", "q") == 1
