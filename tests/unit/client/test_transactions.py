"""`transaction` of both clients: what is read, sent, sent again and raised."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from raftkv.client.async_client import AsyncClient
from raftkv.client.transactions import WATCHED_KEYS_CHANGED, Transaction
from raftkv.errors import (
    CommandError,
    ConnectionLostError,
    NotAppliedError,
    OutcomeUnknownError,
    ProtocolError,
)
from tests.unit.client.fake_cluster import FakeCluster

Connect = Callable[..., Any]


def increase(cluster: FakeCluster) -> Callable[[Transaction], None]:
    """Return a function that computes from what is there, without the client."""

    def compute(transaction: Transaction) -> None:
        transaction.set("n", int(cluster.keys.get(b"n", b"0")) + 1).get("n")

    return compute


def test_commands_are_sent_as_one_request(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    assert client.transaction(increase(cluster), "n", "m") == [True, b"1"]
    assert [request for _, request in cluster.executed] == [
        (b"KV", b"REVISIONS", b"n", b"m"),
        (
            *(b"KV", b"EXEC", b"2", b"n", b"0", b"m", b"0"),
            *(b"2", b"3", b"SET", b"n", b"1", b"2", b"GET", b"n"),
        ),
    ]


def test_without_keys_there_is_nothing_to_read(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses, decode=True)
    assert client.transaction(lambda transaction: transaction.incr("n").get("n")) == [1, "1"]
    assert client.transaction(lambda transaction: None) == []
    assert cluster.names() == [b"KV", b"KV"]


def test_a_change_lets_the_function_compute_again(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    seen = []

    def compute(transaction: Transaction) -> None:
        seen.append(cluster.keys.get(b"n"))
        transaction.set("n", int(seen[-1] or 0) + 1)
        if len(seen) < 4:
            with cluster.lock:
                cluster.keys[b"n"] = b"%d" % (100 * len(seen))

    assert client.transaction(compute, "n") == [True]
    assert seen == [None, b"100", b"200", b"300"]
    assert cluster.keys[b"n"] == b"301"


def test_it_gives_up_at_the_deadline(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses, deadline_s=0.3)

    def compute(transaction: Transaction) -> None:
        transaction.set("n", 1)
        with cluster.lock:
            cluster.keys[b"n"] = b"%d" % len(cluster.executed)

    with pytest.raises(NotAppliedError, match=WATCHED_KEYS_CHANGED):
        client.transaction(compute, "n")
    assert cluster.keys[b"n"] != b"1"


def test_what_the_function_raises_ends_it_with_nothing_sent(
    cluster: FakeCluster, connect: Connect
) -> None:
    client = connect(cluster.addresses)

    for error in (LookupError("no"), StopIteration("no")):

        def compute(transaction: Transaction, error: Exception = error) -> None:
            transaction.set("n", 1)
            raise error

        with pytest.raises((LookupError, StopIteration, RuntimeError)):
            client.transaction(compute, "n")
    assert cluster.keys == {}


def test_the_error_of_a_command_stands_in_its_place(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    client.set("t", "text")

    def compute(transaction: Transaction) -> None:
        transaction.set("a", 1).incr("t").get("a")

    with pytest.raises(CommandError, match="not an integer"):
        client.transaction(compute)
    first, error, last = client.transaction(compute, raise_first=False)
    assert (first, last) == (True, b"1")
    assert isinstance(error, CommandError)


@pytest.mark.parametrize(
    ("act", "error"),
    [("drop after", ConnectionLostError), ("UNKNOWN leadership lost", OutcomeUnknownError)],
)
def test_an_unknown_outcome_is_raised_and_nothing_is_sent_again(
    cluster: FakeCluster, connect: Connect, act: str, error: type[Exception]
) -> None:
    client = connect(cluster.addresses)
    cluster.nodes[0].acts.extend(["", act])
    with pytest.raises(error):
        client.transaction(increase(cluster), "n")
    assert cluster.names().count(b"KV") <= 2


def test_a_definite_refusal_is_sent_again(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    cluster.nodes[0].acts.extend(
        ["drop after", "NOTAPPLIED overloaded", "", "NOTAPPLIED overloaded"]
    )
    assert client.transaction(increase(cluster), "n") == [True, b"1"]


def test_a_reply_of_another_kind(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    cluster.canned[b"KV"] = 7
    with pytest.raises(ProtocolError):
        client.transaction(increase(cluster), "n")
    with pytest.raises(ProtocolError):
        client.transaction(increase(cluster))


def test_an_asynchronous_function(cluster: FakeCluster) -> None:
    async def work() -> list[Any]:
        async with AsyncClient(cluster.addresses) as client:
            await client.set("n", 5)

            async def double(transaction: Transaction) -> None:
                transaction.set("n", 2 * int(await client.get("n") or 0)).get("n")

            return await client.transaction(double, "n")

    assert asyncio.run(work()) == [True, b"10"]
