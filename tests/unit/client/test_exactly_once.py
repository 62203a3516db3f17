"""Writes of both clients take effect once, whatever happens to connections and leaders."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from raftkv import Outcome
from raftkv.client import once, sessions
from raftkv.client.async_client import AsyncClient
from raftkv.client.calls import _KV_WRITES, READS, WRITES, request_of
from raftkv.client.sync_client import Client
from raftkv.errors import (
    CommandError,
    ConnectFailedError,
    ConnectionLostError,
    DeadlineExceededError,
    IndefiniteError,
    NotAppliedError,
    OutcomeUnknownError,
)
from raftkv.server.command_set import standard_commands
from raftkv.server.command_table import Kind
from tests.unit.client.fake_cluster import FakeCluster

Connect = Callable[..., Any]


@pytest.fixture
def client(cluster: FakeCluster, connect: Connect) -> Any:
    return connect(cluster.addresses, exactly_once=True, deadline_s=5)


def until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def test_the_lists_of_commands_are_those_of_the_server() -> None:
    for spec in standard_commands().all():
        name = spec.name.upper().encode()
        if spec.kind == Kind.WRITE and b"|" not in name:
            assert name in WRITES
        elif b"|" not in name:
            assert name not in WRITES
    assert not READS & WRITES
    assert {b"EXEC", b"TXN", b"SET"} == _KV_WRITES
    assert not request_of((b"KV", b"SESSION", b"OPEN")).once
    assert not request_of((b"GETEX", b"k")).once
    assert request_of((b"getex", b"k", b"PERSIST")).once
    for text in ("SORT k", "SORT k BY store GET # LIMIT 0 5 DESC", "sort k get STORE alpha"):
        request = request_of(tuple(text.encode().split()))
        assert request.reads
        assert not request.once
    for text in ("SORT k STORE t", "sort k alpha get STORE LIMIT 0 1 store t"):
        request = request_of(tuple(text.encode().split()))
        assert request.once
        assert not request.reads
    assert not request_of((b"MSET", *[b"k"] * 66_000)).once


def test_a_number_that_is_sent_again_was_not_finished(cluster: FakeCluster, client: Any) -> None:
    client.set("n", 5)
    # As a follower does that refuses bad commands itself before it says who leads.
    cluster.nodes[0].acts.extend(["CLUSTERDOWN no leader elected", "ERR syntax error"])
    pipeline = client.pipeline()
    pipeline.get("n")
    pipeline.incr("n")
    assert pipeline.execute() == [b"5", 6]
    cluster.nodes[0].acts.extend(
        ["CLUSTERDOWN no leader elected", "ERR syntax error", "CLUSTERDOWN no leader elected"]
    )
    assert client.pipeline().incr("n").incr("n").incr("n").execute() == [7, 8, 9]


@pytest.mark.parametrize(
    "trouble",
    [
        ["drop after"],
        ["drop before"],
        ["drop after", "drop after", "drop after"],
        ["UNKNOWN timeout"],
        ["drop after", "UNKNOWN leadership lost", "NOTAPPLIED overloaded"],
        ["drop after", "CLUSTERDOWN no leader elected", "drop before"],
    ],
)
def test_a_write_takes_effect_once(cluster: FakeCluster, client: Any, trouble: list[str]) -> None:
    client.set("n", 5)
    cluster.nodes[0].acts.extend(trouble)
    assert client.incr("n") == 6
    assert cluster.names() == [b"SET", b"INCR"]
    assert cluster.keys[b"n"] == b"6"


def test_another_leader_answers_a_copy(cluster: FakeCluster, client: Any) -> None:
    client.incr("n")
    cluster.nodes[0].acts.append("drop after")
    cluster.nodes[1].acts.append("drop before")
    execute = cluster.execute

    def then_die(name: bytes, arguments: list[bytes]) -> Any:
        cluster.leader = cluster.nodes[2]
        return execute(name, arguments)

    cluster.execute = then_die  # type: ignore[method-assign]
    assert client.incr("n") == 2
    assert [node for node, _ in cluster.executed] == ["n1", "n1"]


def test_an_error_of_a_command_is_its_answer(cluster: FakeCluster, client: Any) -> None:
    client.set("n", "text")
    cluster.nodes[0].acts.append("drop after")
    with pytest.raises(CommandError, match="not an integer"):
        client.incr("n")
    assert cluster.names() == [b"SET", b"INCR"]


def test_one_session_serves_all_and_frees_what_is_finished(
    cluster: FakeCluster, client: Any
) -> None:
    for _ in range(20):
        client.incr("n")
    client.within(3).set("a", 1)
    client.pipeline().incr("n").get("n").delete("a").execute()
    client.transaction(lambda transaction: transaction.incr("n"))
    opened = [words for words in cluster.sessions.asked if words[1] == b"SESSION"]
    assert len(opened) == 1
    ((_, results),) = cluster.sessions.open.values()
    # The last one, and in a pipeline all are freed with the next write.
    assert len(results) == 1
    assert cluster.keys[b"n"] == b"22"


def test_reads_open_no_session(cluster: FakeCluster, client: Any) -> None:
    client.get("a")
    client.mget("a", "b")
    client.execute("EXISTS", "a")
    assert cluster.sessions.asked == []


def test_closing_ends_the_session(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses, exactly_once=True)
    client.incr("n")
    assert cluster.sessions.open
    client.close()
    until(lambda: not cluster.sessions.open)


def test_without_a_number_a_lost_write_is_raised(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses, exactly_once=False)
    cluster.nodes[0].acts.append("drop after")
    with pytest.raises(ConnectionLostError) as caught:
        client.incr("n")
    assert caught.value.session is None
    with pytest.raises(ValueError, match="session"):
        client.outcome(caught.value)
    assert cluster.sessions.asked == []


def test_a_server_without_sessions_gets_writes_without_numbers(
    cluster: FakeCluster, client: Any
) -> None:
    cluster.sessions.is_known = False
    assert client.incr("n") == 1
    assert client.incr("n") == 2
    assert len(cluster.sessions.asked) == 1
    cluster.nodes[0].acts.append("drop after")
    with pytest.raises(ConnectionLostError):
        client.incr("n")


def test_a_cluster_with_too_many_sessions_gets_writes_without_numbers_for_a_while(
    cluster: FakeCluster, client: Any
) -> None:
    cluster.sessions.refusal = "NOTAPPLIED too many sessions"
    assert client.incr("n") == 1
    assert client.incr("n") == 2
    assert len(cluster.sessions.asked) == 1


def test_where_nobody_leads_nothing_is_unknown(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses, exactly_once=True, deadline_s=0.2)
    cluster.leader = None
    with pytest.raises((NotAppliedError, ConnectFailedError, Exception)) as caught:
        client.incr("n")
    assert not isinstance(caught.value, IndefiniteError)
    cluster.leader = cluster.nodes[1]
    assert client.within(5).incr("n") == 1


def test_a_session_that_had_expired_before_is_replaced(cluster: FakeCluster, client: Any) -> None:
    client.incr("n")
    cluster.sessions.open.clear()
    assert client.incr("n") == 2
    pipeline = client.pipeline()
    cluster.sessions.open.clear()
    assert pipeline.incr("n").get("n").incr("n").execute() == [3, b"3", 4]
    assert len(cluster.sessions.open) == 1


def test_a_write_that_may_have_been_executed_is_never_sent_in_another_session(
    cluster: FakeCluster, client: Any
) -> None:
    client.incr("n")
    execute = cluster.execute

    def expire_then(name: bytes, arguments: list[bytes]) -> Any:
        cluster.sessions.open.clear()
        return execute(name, arguments)

    cluster.execute = expire_then  # type: ignore[method-assign]
    cluster.nodes[0].acts.append("drop after")
    with pytest.raises(OutcomeUnknownError, match="session expired") as caught:
        client.incr("n")
    assert caught.value.number == 2
    with pytest.raises(OutcomeUnknownError, match="session expired"):
        client.outcome(caught.value)
    assert cluster.keys[b"n"] == b"2"
    cluster.execute = execute  # type: ignore[method-assign]
    assert client.incr("n") == 3


class TestDeadline:
    def test_short_of_it_the_outcome_is_asked_for(
        self, cluster: FakeCluster, connect: Connect
    ) -> None:
        client = connect(cluster.addresses, exactly_once=True, deadline_s=1)
        client.incr("n")
        cluster.sessions.once_refusal = "NOTAPPLIED overloaded"
        cluster.nodes[0].acts.append("drop after")
        assert client.incr("n") == 2
        assert cluster.sessions.asked[-1][:2] == (b"KV", b"OUTCOME")
        assert cluster.keys[b"n"] == b"2"

    def test_what_never_arrived_is_fenced_and_definite(
        self, cluster: FakeCluster, connect: Connect
    ) -> None:
        client = connect(cluster.addresses, exactly_once=True, deadline_s=1)
        client.incr("n")
        cluster.sessions.once_refusal = "NOTAPPLIED overloaded"
        cluster.nodes[0].acts.append("drop before")
        with pytest.raises(NotAppliedError, match="fenced"):
            client.incr("n")
        cluster.sessions.once_refusal = ""
        assert cluster.keys[b"n"] == b"1"
        assert client.incr("n") == 2

    def test_the_outcomes_of_a_pipeline_are_asked_for_from_its_end(
        self, cluster: FakeCluster, connect: Connect
    ) -> None:
        client = connect(cluster.addresses, exactly_once=True, deadline_s=1)
        client.incr("n")
        cluster.sessions.once_refusal = "NOTAPPLIED overloaded"
        cluster.nodes[0].acts.append("drop before")
        results = client.pipeline().incr("n").incr("n").execute(raise_first=False)
        assert [str(result) for result in results] == ["fenced", "fenced"]
        assert [words[3] for words in cluster.sessions.asked[-2:]] == [b"3", b"2"]

    @pytest.mark.parametrize("act", ["drop after", "drop before"])
    def test_behind_it_the_error_can_be_asked_about(
        self, cluster: FakeCluster, connect: Connect, act: str
    ) -> None:
        client = connect(cluster.addresses, exactly_once=True, deadline_s=0.3)
        client.incr("n")
        cluster.nodes[0].acts.extend([act, *["NOTAPPLIED overloaded"] * 1000])
        with pytest.raises(IndefiniteError) as caught:
            client.incr("n")
        assert (caught.value.session, caught.value.number) == (1, 2)
        cluster.nodes[0].acts.clear()
        applied = act == "drop after"
        expected = Outcome(applied=True, result=2) if applied else Outcome(applied=False)
        assert client.outcome(caught.value) == expected
        assert client.outcome(caught.value) == expected
        assert cluster.keys[b"n"] == (b"2" if applied else b"1")
        assert client.incr("n") == 2 + applied

    def test_a_refusal_is_not_definite_behind_a_copy_of_which_nothing_is_known(
        self, cluster: FakeCluster, connect: Connect
    ) -> None:
        client = connect(cluster.addresses, exactly_once=True, deadline_s=0.3)
        client.incr("n")
        cluster.nodes[0].acts.append("drop after")
        cluster.nodes[0].acts.extend(["CLUSTERDOWN no leader elected"] * 1000)
        for node in cluster.nodes[1:]:
            node.acts.extend(["CLUSTERDOWN no leader elected"] * 1000)
        with pytest.raises(OutcomeUnknownError):
            client.incr("n")

    def test_a_hanging_leader_is_left_for_another(
        self, cluster: FakeCluster, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("raftkv.client.policy.READ_REPLY_S_MAX", 0.1)
        client = connect(cluster.addresses, exactly_once=True, deadline_s=5)
        client.incr("n")
        cluster.nodes[0].acts.append("hang")
        assert client.incr("n") == 2


class TestPipelines:
    def test_only_what_was_lost_goes_again_and_in_order(
        self, cluster: FakeCluster, client: Any
    ) -> None:
        client.set("n", 0)
        cluster.nodes[0].acts.extend(["", "", "drop after"])
        pipeline = client.pipeline().incr("n").append("t", "a").append("t", "b").append("t", "c")
        assert pipeline.get("t").execute() == [1, 1, 2, 3, b"abc"]
        assert cluster.keys == {b"n": b"1", b"t": b"abc"}

    def test_what_follows_an_unknown_write_goes_again_with_it(
        self, cluster: FakeCluster, client: Any
    ) -> None:
        client.set("n", 0)
        behind = ["NOTAPPLIED earlier command unknown"] * 2
        cluster.nodes[0].acts.extend(["", "UNKNOWN timeout", *behind])
        pipeline = client.pipeline().incr("n").incr("n").get("n").incr("n")
        assert pipeline.execute() == [1, 2, b"2", 3]

    def test_a_long_one_goes_in_parts(
        self, cluster: FakeCluster, client: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(once, "PART_NUMBERS_MAX", 10)
        monkeypatch.setattr(sessions, "WINDOW_NUMBERS_MAX", 12)
        pipeline = client.pipeline()
        for _ in range(35):
            pipeline.incr("n").get("n")
        results = pipeline.execute()
        assert results[::2] == list(range(1, 36))
        assert results[1::2] == [b"%d" % number for number in range(1, 36)]

    def test_multi_is_sent_as_it_is(self, cluster: FakeCluster, client: Any) -> None:
        pipeline = client.pipeline().command("MULTI").incr("n").command("EXEC")
        pipeline.execute(raise_first=False)
        assert cluster.names() == [b"MULTI", b"INCR", b"EXEC"]

    def test_a_node_of_its_own_gets_writes_without_numbers(
        self, cluster: FakeCluster, client: Any
    ) -> None:
        client.node(cluster.addresses[0]).incr("n")
        assert cluster.sessions.asked == []


def test_a_result_that_no_session_keeps_is_fetched_without_a_number(
    cluster: FakeCluster, client: Any
) -> None:
    client.set("a", "large")
    reason = "NOTAPPLIED result exceeds what a session keeps (1048576 bytes)"
    cluster.nodes[0].acts.append(reason)
    assert client.getdel("a") == b"large"
    cluster.nodes[0].acts.extend([reason, "drop before"])
    with pytest.raises(ConnectionLostError):
        client.getdel("a")


def test_a_session_with_a_token_and_writes_with_numbers(cluster: FakeCluster, client: Any) -> None:
    cluster.canned[b"RAFT"] = b"1/5"
    view = client.session()
    cluster.nodes[0].acts.append("drop after")
    assert view.incr("n") == 1
    assert cluster.keys[b"n"] == b"1"


class TestThreads:
    def test_they_share_one_session_and_every_write_counts_once(self, cluster: FakeCluster) -> None:
        with Client(cluster.addresses, deadline_s=20) as client:
            cluster.nodes[0].acts.extend(["drop after", "", "drop before", ""] * 30)

            def write() -> None:
                for _ in range(25):
                    client.incr("n")

            threads = [threading.Thread(target=write) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert client.get("n") == b"200"
            opened = [words for words in cluster.sessions.asked if words[2] == b"OPEN"]
            assert len(opened) == 1

    def test_a_client_that_nobody_holds_ends_its_thread(self, cluster: FakeCluster) -> None:
        client = Client(cluster.addresses)
        client.incr("n")
        keeper = [one for one in threading.enumerate() if one.name == "raftkv-session"]
        assert keeper
        client._pool.close()
        del client
        gc.collect()
        until(lambda: not any(one.is_alive() for one in keeper))

    def test_closing_ends_the_thread(self, cluster: FakeCluster) -> None:
        with Client(cluster.addresses) as client:
            client.incr("n")
            keeper = [one for one in threading.enumerate() if one.name == "raftkv-session"]
        until(lambda: not any(one.is_alive() for one in keeper))

    def test_a_process_that_is_forked_off_has_a_session_of_its_own(
        self, cluster: FakeCluster
    ) -> None:
        with Client(cluster.addresses) as client:
            assert client.incr("n") == 1
            child = os.fork()
            if child == 0:
                # Nothing of the test run itself may happen here.
                code = 1
                with contextlib.suppress(BaseException):
                    code = 0 if [client.incr("n"), client.incr("n")] == [2, 3] else 2
                os._exit(code)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert client.incr("n") == 4
            assert len(cluster.sessions.open) == 2


class TestKeeper:
    def test_what_was_given_up_is_asked_for_so_that_the_window_moves_on(
        self, cluster: FakeCluster, connect: Connect
    ) -> None:
        client = connect(cluster.addresses, exactly_once=True, deadline_s=0.3)
        client.incr("n")
        cluster.nodes[0].acts.extend(["drop before", *["NOTAPPLIED overloaded"] * 1000])
        with pytest.raises(IndefiniteError) as caught:
            client.incr("n")
        cluster.nodes[0].acts.clear()
        end_s = time.monotonic() + 10
        while cluster.sessions.asked[-1][1] != b"OUTCOME":
            assert time.monotonic() < end_s
            client.get("n")
        assert client.within(5).incr("n") == 2
        assert client.outcome(caught.value) == Outcome(applied=False)
        until(lambda: client.within(5).incr("n") and list(cluster.sessions.open[1][0]) > [2])

    def test_a_session_is_kept_alive_and_replaced(
        self, cluster: FakeCluster, connect: Connect
    ) -> None:
        client = connect(cluster.addresses, exactly_once=True)
        client._sessions.ttl_ms = 60
        client.incr("n")

        def kept() -> bool:
            client.get("n")  # lets the loop of the asynchronous client run
            return any(words[2] == b"KEEPALIVE" for words in cluster.sessions.asked)

        until(kept)
        cluster.sessions.open.clear()
        assert client.incr("n") == 2


@pytest.mark.asyncio
async def test_a_cancelled_write_leaves_the_window(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.addresses) as client:
        await client.incr("n")
        cluster.nodes[0].acts.append("hang")
        task = asyncio.create_task(client.incr("n"))
        await asyncio.to_thread(cluster.hanging.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        end_s = time.monotonic() + 10
        while not any(words[1] == b"OUTCOME" for words in cluster.sessions.asked):
            assert time.monotonic() < end_s
            await asyncio.sleep(0.01)
        assert await client.incr("n") == 2


@pytest.mark.asyncio
async def test_closing_while_a_write_is_under_way_is_indefinite(cluster: FakeCluster) -> None:
    client = AsyncClient(cluster.addresses)
    await client.incr("n")
    cluster.nodes[0].acts.append("hang")
    task = asyncio.create_task(client.incr("n"))
    await asyncio.to_thread(cluster.hanging.wait, 5)
    await client.close()
    with pytest.raises((ConnectionLostError, DeadlineExceededError)):
        await task
