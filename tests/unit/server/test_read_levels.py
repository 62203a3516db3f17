"""Read levels of a connection, tokens, and reads of a follower by the leader's index."""

from __future__ import annotations

import pytest

from raftkv.seams import NOT_LEADER, Failure, Slot
from raftkv.server.routing import FORWARD_COMMANDS_MAX
from tests.unit.server.harness import Cluster, Node, encode, pipeline


class TestLevels:
    @pytest.mark.parametrize(
        ("chosen", "shown"),
        [
            ("linearizable", b"linearizable"),
            ("lease", b"lease"),
            ("stale", b"stale"),
            ("bounded 250", b"bounded 250"),
            ("BOUNDED", b"bounded 1000"),
        ],
    )
    def test_a_level_is_chosen_and_shown(self, chosen: str, shown: bytes) -> None:
        client = Node().client()
        assert client.ask(f"RAFT READS {chosen}") == b"OK"
        assert client.ask("RAFT READS") == shown

    @pytest.mark.parametrize(
        ("words", "error"),
        [
            ("often", "ERR read level is one of linearizable, lease, bounded, stale, default"),
            ("lease 5", "ERR wrong number of arguments for 'raft|reads' command"),
            ("bounded 5 5", "ERR wrong number of arguments for 'raft|reads' command"),
            ("bounded 0", "ERR the bound is a number of milliseconds above 0"),
            ("bounded -1", "ERR the bound is a number of milliseconds above 0"),
            ("bounded x", "ERR the bound is a number of milliseconds above 0"),
            ("bounded 9999999999", "ERR the bound is a number of milliseconds above 0"),
        ],
    )
    def test_bad_levels_change_nothing(self, words: str, error: str) -> None:
        client = Node().client()
        assert client.ask(f"RAFT READS {words}") == error
        assert client.ask("RAFT READS") == b"linearizable"

    def test_default_is_the_level_of_the_config(self) -> None:
        client = Node(level="lease").client()
        client.ask("RAFT READS stale")
        assert client.ask("RAFT READS default") == b"OK"
        assert client.ask("RAFT READS") == b"lease"

    @pytest.mark.parametrize("level", ["linearizable", "lease", "bounded", "stale"])
    def test_the_config_sets_the_level_of_new_connections(self, level: str) -> None:
        shown = Node(level=level).client().ask("RAFT READS")
        assert shown.split()[0] == level.encode()


class TestLease:
    def test_a_leased_read_is_answered_without_a_turn(self) -> None:
        node = Node(level="lease")
        node.replica.leased = True
        client = node.client()
        client.ask("SET a 1")
        client.send("GET a")
        assert client.replies() == [b"1"]

    def test_without_a_lease_a_read_waits_for_its_round(self) -> None:
        node = Node(level="lease")
        client = node.client()
        client.send("GET a")
        assert client.replies() == []
        node.replica.turn()
        assert client.replies() == [None]

    def test_a_read_that_waits_is_not_overtaken_by_a_leased_one(self) -> None:
        node = Node(level="lease")
        client = node.client()
        client.send("GET a")
        node.replica.leased = True
        client.send("GET b")
        assert [kind for kind, _ in node.replica.asked] == ["read", "read"]

    def test_a_read_behind_a_write_goes_with_it(self) -> None:
        node = Node(level="lease")
        node.replica.leased = True
        client = node.client()
        client.send(pipeline("SET a 1", "GET a"))
        assert client.replies() == []
        node.replica.turn()
        assert client.replies() == [b"OK", b"1"]


class TestBounded:
    def test_any_node_answers_while_it_is_new_enough(self) -> None:
        node = Node("n2", level="bounded")
        client = node.client()
        node.replica.stale_ms = 1000
        assert client.ask("GET a") is None
        node.replica.stale_ms = 1001
        assert client.ask("GET a") == "NOTAPPLIED stale 1001"
        assert client.ask("KEYS *") == "NOTAPPLIED stale 1001"
        assert client.ask("SCAN 0") == "NOTAPPLIED stale 1001"

    def test_the_leader_keeps_the_bound_too(self) -> None:
        node = Node()
        client = node.client()
        client.ask("RAFT READS bounded 10")
        node.replica.stale_ms = 11
        assert client.ask("GET a") == "NOTAPPLIED stale 11"
        assert client.ask("KEYS *") == "NOTAPPLIED stale 11"

    def test_staleness_is_told(self) -> None:
        node = Node("n2")
        client = node.client()
        node.replica.stale_ms = 17
        assert client.ask("RAFT STALENESS") == 17
        node.replica.stale_ms = None
        assert client.ask("RAFT STALENESS") is None


class TestTokens:
    def test_a_token_waits_for_the_answers_before_it(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("SET a 1", "RAFT TOKEN"))
        assert node.replica.asked == [("propose", node.replica.asked[0][1])]
        node.replica.turn()
        assert client.replies() == [b"OK", b"1/1"]

    def test_after_holds_what_is_behind_it_until_the_token_is_applied(self) -> None:
        node = Node("n2", level="stale")
        client = node.client()
        client.send(pipeline("RAFT AFTER 1/1", "GET a"))
        assert client.replies() == []
        writer = Node("n1", shared=node.shared).client()
        writer.ask("SET a 1")
        _, _, slot = node.replica.awaited.pop()
        slot.resolve(["OK"])
        node.replica.turn()
        assert client.replies() == [b"OK", b"1"]

    def test_reads_behind_a_token_that_is_late_are_refused(self) -> None:
        node = Node("n2", level="stale")
        client = node.client()
        client.send(pipeline("RAFT AFTER 1/9", "GET a", "KEYS *"))
        _, _, slot = node.replica.awaited.pop()
        slot.fail(Failure("behind the token", definite=True))
        node.replica.turn()
        assert client.replies() == ["NOTAPPLIED behind the token"] * 3

    @pytest.mark.parametrize("token", ["1", "/", "1/", "/1", "x/1", "1/x", "-1/1", "1/" + "9" * 60])
    def test_what_is_no_token_is_refused(self, token: str) -> None:
        client = Node().client()
        assert client.ask(f"RAFT AFTER {token}") == "ERR a token is what RAFT TOKEN returns"

    def test_a_token_asks_the_leader_once_another_node_has_answered(self) -> None:
        cluster = Cluster(on_follower="proxy")
        follower = cluster["n2"]
        client = follower.client()
        client.ask("RAFT TOKEN")
        client.send("SET a 1")
        follower.network.deliver()
        cluster.turn()
        cluster["n1"].network.deliver()
        client.send("RAFT TOKEN")
        kinds = [kind for kind, _ in follower.replica.asked]
        assert kinds == ["token", "token, asked"]

    def test_a_token_asks_on_a_node_that_leads_meanwhile_too(self) -> None:
        """The leader before it may have acknowledged what it has not applied yet."""
        node = Node()
        client = node.client()
        client.connection.was_forwarded = True
        client.send("RAFT TOKEN")
        assert [kind for kind, _ in node.replica.asked] == ["token, asked"]

    @pytest.mark.parametrize(("leader", "limit_ms"), [(None, 2000), ("n1", 4000)])
    def test_a_token_for_which_nobody_can_be_asked_is_refused_in_time(
        self, leader: str | None, limit_ms: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node = Node("n2", leader=leader, on_follower="proxy")
        asked: list[Slot] = []
        monkeypatch.setattr(node.replica, "take_token", lambda slot, *, ask: asked.append(slot))
        client = node.client()
        client.connection.was_forwarded = True
        client.send(pipeline("RAFT TOKEN", "PING"))
        for passed_ms in range(0, limit_ms, 50):
            assert client.replies() == []
            if asked:
                asked.pop().fail(NOT_LEADER)
            node.replica.end_turn()
            assert asked == [], f"asked again at once, behind {passed_ms} ms"
            node.wait(50)
        assert client.replies() == ["CLUSTERDOWN no leader elected", b"PONG"]

    def test_a_token_is_asked_for_again_once_there_is_a_leader(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node = Node("n2", leader=None, on_follower="proxy")
        asked: list[Slot] = []
        monkeypatch.setattr(node.replica, "take_token", lambda slot, *, ask: asked.append(slot))
        client = node.client()
        client.connection.was_forwarded = True
        client.send("RAFT TOKEN")
        asked.pop().fail(NOT_LEADER)
        node.replica.end_turn()
        assert asked == []
        node.replica.lead("n1")
        asked.pop().resolve([b"1/1"])
        node.replica.end_turn()
        assert client.replies() == [b"1/1"]


class TestReadsByIndex:
    def node(self) -> Node:
        node = Node("n2", on_follower="proxy")
        node.network.is_holding = True
        node.replica.can_read_by_index = True
        return node

    def test_a_stretch_of_reads_is_answered_here(self) -> None:
        node = self.node()
        client = node.client()
        client.send(pipeline("GET a", "EXISTS a", "SET a 1"))
        ((commands, slot),) = node.replica.indexed
        assert len(commands) == 2
        assert node.network.frames == []
        slot.resolve([b"x", 1])
        node.replica.end_turn()
        assert client.replies() == [b"x", 1]
        assert len(node.network.frames) == 1

    def test_a_read_waits_for_the_forward_before_it(self) -> None:
        node = self.node()
        client = node.client()
        client.send(pipeline("SET a 1", "GET a"))
        # A forward carries reads behind its first write with it.
        assert node.replica.indexed == []

    def test_long_stretches_come_one_after_the_other(self) -> None:
        node = self.node()
        client = node.client()
        client.send(b"".join(encode("GET", "a") for _ in range(FORWARD_COMMANDS_MAX + 1)))
        ((commands, slot),) = node.replica.indexed
        assert len(commands) == FORWARD_COMMANDS_MAX
        slot.resolve([None] * len(commands))
        node.replica.end_turn()
        assert len(node.replica.indexed) == 2

    def test_reads_whose_leader_changed_are_routed_again_when_there_is_news(self) -> None:
        node = self.node()
        client = node.client()
        client.send("GET a")
        node.replica.indexed.pop()[1].fail(NOT_LEADER)
        node.replica.end_turn()
        assert client.replies() == []
        assert node.replica.indexed == []
        node.replica.lead("n2")
        node.replica.turn()
        assert client.replies() == [None]

    def test_a_node_that_is_behind_forwards(self) -> None:
        node = self.node()
        node.replica.can_read_by_index = False
        node.client().send("GET a")
        assert node.replica.indexed == []
        assert len(node.network.frames) == 1
