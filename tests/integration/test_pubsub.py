"""Messages between the clients of real nodes, through the loss of a leader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.integration.cluster import Cluster
from tests.integration.wire import ReplyError, Wire, encode, split_address

pytestmark = pytest.mark.slow

COUNT = 500
OVERRIDES = ("limits.push_buffer_bytes_max=262144",)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("pubsub"), overrides=OVERRIDES) as cluster:
        yield cluster


def test_what_is_published_anywhere_is_heard_everywhere_in_order(cluster: Cluster) -> None:
    cluster.wait_until_settled()
    listeners = [Wire(node.client) for node in cluster.nodes for _ in (2, 3)]
    publishers = [Wire(node.client) for node in cluster.nodes]
    for position, listener in enumerate(listeners):
        listener.call("HELLO", 2 + position % 2)
        assert listener.call("SUBSCRIBE", "news") == [b"subscribe", b"news", 1]
    for number, publisher in enumerate(publishers):
        requests: list[tuple[Any, ...]] = [
            ("PUBLISH", "news", f"{number}:{count}") for count in range(COUNT)
        ]
        assert publisher.pipeline(requests) == [2] * COUNT
    for listener in listeners:
        heard = [listener.read()[2].split(b":") for _ in range(COUNT * len(publishers))]
        for number in range(len(publishers)):
            of_one = [int(count) for name, count in heard if int(name) == number]
            assert of_one == list(range(COUNT))
    for wire in (*listeners, *publishers):
        wire.close()


def test_redis_py_listens_to_patterns_beside_keys(cluster: Cluster) -> None:
    leader = cluster.wait_until_settled()
    other = cluster.others(leader)[0]
    host, port = split_address(leader.client)
    store = redis.Redis(host, port, decode_responses=True)
    listener = store.pubsub(ignore_subscribe_messages=True)
    listener.psubscribe("user:*")
    listener.subscribe("all")
    cluster.wait_until(lambda: store.pubsub_numsub("all") == [("all", 1)], "both subscriptions")
    store.set("name", "ada")
    call = redis.Redis(*split_address(other.client), decode_responses=True)
    call.publish("user:7", "changed")
    call.publish("all", "done")
    messages: list[Any] = []

    def both_came() -> bool:
        # The confirmations of the subscriptions are None, too.
        if (message := listener.get_message(timeout=0.1)) is not None:
            messages.append((message["type"], message["channel"], message["data"]))
        return len(messages) == 2

    cluster.wait_until(both_came, "both messages")
    assert messages == [("pmessage", "user:7", "changed"), ("message", "all", "done")]
    listener.close()
    store.close()
    call.close()


def test_a_subscriber_that_does_not_read_is_told_and_costs_nobody_else(cluster: Cluster) -> None:
    leader = cluster.wait_until_settled()
    with (
        Wire(leader.client) as slow,
        Wire(leader.client) as quick,
        Wire(leader.client) as publisher,
    ):
        for listener in (slow, quick):
            listener.call("SUBSCRIBE", "flood")
        text = bytes(16 * 1024)

        def flood() -> bool:
            counts = publisher.pipeline([("PUBLISH", "flood", text)] * 10)
            for _ in range(10):
                assert quick.read() == [b"message", b"flood", text]
            return bool(counts[-1] == 1)

        cluster.wait_until(flood, "the slow one is noticed")
        last: Any = None
        while not isinstance(last, ReplyError):
            last = slow.read()
        assert str(last).startswith("ERR client too slow")
        with pytest.raises(ConnectionError):
            slow.read()
        assert publisher.call("SET", "k", "v") == b"OK"


def test_subscribers_of_the_others_hear_of_the_new_leader(cluster: Cluster) -> None:
    leader = cluster.wait_until_settled()
    others = cluster.others(leader)
    listeners = [Wire(node.client) for node in others]
    for listener in listeners:
        listener.call("SUBSCRIBE", "+switch-master")
        listener.send(encode("SUBSCRIBE", "news"))
        listener.read()
    leader.kill()
    new_leader = cluster.wait_for_leader()
    old, new = leader.client.split(":"), new_leader.client.split(":")
    for listener in listeners:
        text = " ".join(("raftkv", *old, *new))
        assert listener.read() == [b"message", b"+switch-master", text.encode()]
    with Wire(others[0].client) as publisher:
        assert publisher.call("PUBLISH", "news", "on") == 1
    for listener in listeners:
        assert listener.read() == [b"message", b"news", b"on"]
        listener.close()
