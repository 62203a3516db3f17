"""Watches on real nodes: through kills, behind a snapshot, slow, and by foreign clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator

import pytest
import redis

from raftkv import AsyncClient, Client, CompactedError, IndefiniteError
from tests.integration.cluster import SMALL_LOG, SMALL_SEGMENTS, Cluster, run_raftkv
from tests.integration.wire import Wire, encode, split_address
from tests.integration.writers import fill

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(
        tmp_path_factory.mktemp("watches"), overrides=(*SMALL_LOG, *SMALL_SEGMENTS)
    ) as cluster:
        yield cluster


def revision_of(cluster: Cluster) -> int:
    """The newest revision, in which a key of this test is written."""
    with Client(cluster.addresses) as client:
        client.set("newest", "1")
        (revision,) = client.execute("KV", "REVISIONS", "newest")
        return int(revision)


def test_a_watch_follows_through_the_loss_of_its_node_and_of_the_leader(cluster: Cluster) -> None:
    leader = cluster.wait_until_settled()
    count = 300
    with (
        Client(cluster.addresses, deadline_s=30) as client,
        client.watch(prefix="job:", prev=True) as watch,
    ):
        seen: list[tuple[int, str, bytes]] = []
        unknown: set[int] = set()

        def write(number: int) -> None:
            """Write until it is acknowledged; a busy machine may lose a leader by itself."""
            for _ in range(100):
                with contextlib.suppress(IndefiniteError):
                    client.set("job:1", number)
                    client.set("other", number)
                    return
                unknown.add(number)

        def take(goal: int) -> None:
            while not seen or int(seen[-1][2]) < goal - 1:
                change = watch.next_change(timeout_s=20)
                assert change is not None
                for event in change.events:
                    assert event.value is not None
                    seen.append((change.revision, event.kind, event.value))

        for number in range(count):
            write(number)
            if number == count // 3:
                leader.kill()
            elif number == count // 2:
                take(number)
                leader.start()
                for node in cluster.others(leader):
                    node.kill()
                    node.start()
        take(count)
        values = [int(value) for _, _, value in seen]
        assert list(dict.fromkeys(values)) == list(range(count))
        assert values == sorted(values)
        assert {value for value in values if values.count(value) > 1} <= unknown
        revisions = [revision for revision, _, _ in seen]
        assert revisions == sorted(set(revisions))
        assert watch.next_change(timeout_s=0) is None


def test_many_watches_of_asyncio_see_the_same_on_every_node(cluster: Cluster) -> None:
    cluster.wait_until_settled()

    async def run() -> list[list[tuple[int, bytes, bytes | None]]]:
        async with AsyncClient(cluster.addresses) as client:
            tied = [client.node(address) for address in cluster.addresses for _ in range(5)]
            watches = [await one.watch(prefix="shared:") for one in tied]
            for number in range(100):
                await client.set(f"shared:{number % 7}", number)
            seen = []
            for watch in watches:
                events: list[tuple[int, bytes, bytes | None]] = []
                while len(events) < 100:
                    change = await watch.next_change(timeout_s=20)
                    assert change is not None
                    events += [(change.revision, one.key, one.value) for one in change.events]
                seen.append(events)
                await watch.close()
            return seen

    seen = asyncio.run(run())
    assert len(seen) == 15
    assert all(events == seen[0] for events in seen)
    assert [int(value or b"") for _, _, value in seen[0]] == list(range(100))


def test_a_node_fed_by_a_snapshot_goes_on_from_any_revision_of_its_history(
    cluster: Cluster,
) -> None:
    leader = cluster.wait_until_settled()
    fed = cluster.others(leader)[0]
    first = revision_of(cluster) + 1
    status = cluster.wait_until(fed.status, "the follower answers")
    fed.kill()
    log_before = fed.log_text().count("snapshot_installed")
    with Client(cluster.addresses) as client:
        for number in range(200):
            client.set("before", number)

    def dropped() -> bool:
        fill(cluster.wait_for_leader().client, prefix="bulk", count=300, value_bytes=1000)
        others = [node.status() for node in cluster.others(fed)]
        return all(one is not None and one["first_index"] > status["last_index"] for one in others)

    cluster.wait_until(dropped, "the log that it needs is gone")
    fed.start()
    cluster.wait_until_caught_up(fed)
    assert fed.log_text().count("snapshot_installed") > log_before
    with (
        Client(cluster.addresses) as client,
        client.node(fed.client).watch("before", from_revision=first) as watch,
    ):
        changes = [watch.next_change(timeout_s=20) for _ in range(200)]
        values = [int(change.events[0].value or b"") for change in changes if change is not None]
        assert values == list(range(200))
        client.set("before", "after")
        change = watch.next_change(timeout_s=20)
        assert change is not None
        assert change.events[0].value == b"after"


def test_a_watch_from_a_revision_that_is_gone_names_the_oldest(cluster: Cluster) -> None:
    cluster.wait_until_settled()
    with Client(cluster.addresses) as client:
        client.flushall()
        oldest = revision_of(cluster)
        for address in cluster.addresses:
            with pytest.raises(CompactedError) as caught:
                client.node(address).watch(prefix="", from_revision=oldest - 1)
            assert caught.value.oldest == oldest
        with client.watch(prefix="", from_revision=oldest) as watch:
            change = watch.next_change(timeout_s=20)
            assert change is not None
            assert change.revision == oldest


def test_a_client_that_stops_reading_costs_the_node_little_and_misses_nothing(
    cluster: Cluster,
) -> None:
    leader = cluster.wait_until_settled()
    count, size = 300, 32 * 1024
    with Wire(leader.client) as slow, Wire(leader.client) as writer:
        slow.call("HELLO", 3)
        slow.call("KV", "WATCH", "KEY", "large")
        for number in range(count):
            assert writer.call("SET", "large", b"%08d" % number * (size // 8)) == b"OK"
        assert leader.memory_bytes() < 400 * 1024 * 1024
        numbers: list[int] = []
        revisions: list[int] = []
        while len(numbers) < count:
            message = slow.read()
            assert message[2] == b"events"
            revisions.append(message[3])
            numbers.append(int(message[4][0][3][:8]))
        assert numbers == list(range(count))
        assert revisions == sorted(set(revisions))


def test_redis_py_hears_keyspace_notifications_on_a_follower(cluster: Cluster) -> None:
    leader = cluster.wait_until_settled()
    follower = cluster.others(leader)[0]
    store = redis.Redis(*split_address(follower.client), decode_responses=True)
    store.config_set("notify-keyspace-events", "KEA")
    listener = store.pubsub()
    listener.psubscribe("__keyevent@0__:*")
    heard: list[tuple[str, str]] = []

    def all_came() -> bool:
        message = listener.get_message(timeout=0.1)
        if message is not None and message["type"] == "pmessage":
            heard.append((message["channel"], message["data"]))
        return len(heard) >= 3

    cluster.wait_until(lambda: store.pubsub_numpat() == 1, "the subscription")
    leader.call("SET", "session", "x", "PX", "100")
    cluster.wait_until(all_came, "set, expire and expired")
    assert heard == [
        ("__keyevent@0__:set", "session"),
        ("__keyevent@0__:expire", "session"),
        ("__keyevent@0__:expired", "session"),
    ]
    listener.close()
    store.close()


def test_the_command_line_prints_changes_as_they_happen(cluster: Cluster) -> None:
    cluster.wait_until_settled()
    first = revision_of(cluster) + 1
    with Client(cluster.addresses) as client:
        client.set("cli:a", "1")
        client.delete("cli:a")
        client.rpush("cli:b", "x")
    nodes = ("--nodes", ",".join(cluster.addresses))
    options = ("--from", str(first), "--count", "3", "--prev", *nodes)
    plain = run_raftkv("watch", "cli:", "--prefix", *options, directory=cluster.directory)
    assert plain.stdout.splitlines() == [
        f"{first} put cli:a 1",
        f"{first + 1} delete cli:a <- 1",
        f"{first + 2} put cli:b (list)",
    ]
    told = run_raftkv("watch", "cli:", "--prefix", "--json", *options, directory=cluster.directory)
    assert json.loads(told.stdout.splitlines()[1]) == {
        "revision": first + 1, "kind": "delete", "key": "cli:a", "type": None, "value": None,
        "deadline_ms": 0, "create_revision": 0, "version": 0, "previous": "1",
    }  # fmt: skip
    with Client(cluster.addresses) as client:
        client.flushall()
    gone = run_raftkv("watch", "cli:", *options, directory=cluster.directory)
    assert gone.returncode == 1
    assert "compacted" in gone.stderr


def test_resp2_clients_watch_too(cluster: Cluster) -> None:
    leader = cluster.wait_until_settled()
    with Wire(leader.client) as watcher, Wire(leader.client) as writer:
        assert watcher.call("KV", "WATCH", "KEY", "plain")[:2] == [b"watch", 1]
        writer.call("SET", "plain", "1")
        kind, channel, (what, _, events) = watcher.read()
        assert (kind, channel, what) == (b"message", b"kv-watch:1", b"events")
        assert events[0][:4] == [b"put", b"plain", b"string", b"1"]
        watcher.send(encode("KV", "UNWATCH"))
        assert watcher.read() == 1
