"""What the server answers itself: connection, CLIENT, COMMAND, CONFIG, INFO, CLUSTER, SENTINEL."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.server.topology import cluster_node_id, split_host_port
from raftkv.types import Index
from tests.unit.server.harness import Cluster, Node, encode, pipeline


def lines(text: bytes) -> dict[str, str]:
    """The fields of INFO-like text."""
    return dict(
        line.split(":", 1) for line in text.decode().split("\r\n") if ":" in line and line[0] != "#"
    )


def pairs(flat: list[Any]) -> dict[bytes, Any]:
    """A map in RESP2."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


class TestConnection:
    def test_small_ones(self) -> None:
        client = Node().client()
        assert client.ask("PING") == b"PONG"
        assert client.ask("PING hello") == b"hello"
        assert client.ask("ECHO hello") == b"hello"
        assert client.ask("SELECT 0") == b"OK"
        assert client.ask("SELECT 1") == "ERR SELECT is not allowed in cluster mode"
        assert client.ask("AUTH default anything") == b"OK"
        assert client.ask("ASKING") == b"OK"
        seconds, microseconds = client.ask("TIME")
        assert int(seconds) == 1_700_001_000
        assert 0 <= int(microseconds) < 1_000_000

    def test_hello(self) -> None:
        client = Node().client()
        reply = pairs(client.ask("HELLO 2 AUTH default x SETNAME me"))
        assert reply[b"server"] == b"redis"
        assert reply[b"proto"] == 2
        assert reply[b"mode"] == b"cluster"
        assert reply[b"role"] == b"master"
        assert int(reply[b"version"].split(b".")[0]) >= 7
        assert client.ask("CLIENT GETNAME") == b"me"
        assert client.ask("HELLO 3")[b"proto"] == 3
        assert client.ask("HELLO")[b"proto"] == 3
        assert client.ask("CLIENT GETNAME") == b"me"

    def test_hello_that_fails_changes_nothing(self) -> None:
        client = Node().client()
        assert client.ask("HELLO 3 SETNAME me AUTH who x").startswith("WRONGPASS")
        assert client.ask("HELLO 3 SETNAME") == "ERR Syntax error in HELLO option 'SETNAME'"
        assert client.ask("HELLO 5") == "NOPROTO unsupported protocol version"
        assert client.connection.protocol == 2
        assert client.ask("CLIENT GETNAME") is None

    def test_reset(self) -> None:
        client = Node("n2").client()
        client.send(pipeline("HELLO 3 SETNAME me", "READONLY", "RAFT READS stale", "RESET"))
        assert client.replies()[-1] == b"RESET"
        connection = client.connection
        assert (connection.protocol, connection.name) == (2, b"")
        assert not connection.readonly
        assert not connection.stale_reads

    @pytest.mark.parametrize("words", ["lease", "bounded 5", "stale"])
    def test_reset_takes_back_the_level_of_reads_and_the_token(self, words: str) -> None:
        client = Node("n2").client()
        assert client.ask(f"RAFT READS {words}") == b"OK"
        client.connection.floor_index = Index(5)
        assert client.ask("RESET") == b"RESET"
        assert client.connection.floor_index == 0
        assert client.ask("RAFT READS") == b"linearizable"


class TestClient:
    def test_id_and_names(self) -> None:
        node = Node()
        first, second = node.client(), node.client()
        assert [first.ask("CLIENT ID"), second.ask("CLIENT ID")] == [1, 2]
        assert first.ask("CLIENT SETNAME me") == b"OK"
        assert first.ask("CLIENT SETINFO LIB-NAME lib") == b"OK"
        assert first.ask("CLIENT SETINFO lib-ver 1.2") == b"OK"
        assert first.ask("CLIENT SETINFO nope 1") == "ERR Unrecognized option 'nope'"
        assert first.ask(encode("CLIENT", "SETINFO", "LIB-VER", "1 2")).startswith("ERR lib-ver")
        described = first.ask("CLIENT INFO").decode()
        for part in ("id=1 ", "addr=127.0.0.1:50000 ", "laddr=127.0.0.1:7001 ", "name=me "):
            assert part in described
        assert described.endswith("lib-name=lib lib-ver=1.2\n")
        assert first.ask(encode("CLIENT", "SETNAME", "")) == b"OK"
        assert first.ask("CLIENT GETNAME") is None

    def test_list(self) -> None:
        node = Node()
        clients = [node.client() for _ in range(3)]
        node.wait(5000)
        listed = clients[0].ask("CLIENT LIST").decode().splitlines()
        assert [line.split()[0] for line in listed] == ["id=1", "id=2", "id=3"]
        assert " age=5 idle=0 " in listed[0]
        assert " age=5 idle=5 " in listed[1]
        assert clients[0].ask("CLIENT LIST ID 2 77").decode().startswith("id=2 ")
        assert clients[0].ask("CLIENT LIST TYPE pubsub") == b""
        assert clients[0].ask("CLIENT LIST TYPE normal").count(b"\n") == 3

    def test_kill(self) -> None:
        node = Node()
        clients = [node.client() for _ in range(4)]
        assert clients[0].ask("CLIENT KILL ID 2") == 1
        assert clients[1].transport.aborted
        clients[1].lose()
        assert clients[0].ask("CLIENT KILL TYPE normal USER default") == 2
        assert clients[2].transport.aborted
        assert clients[3].transport.aborted
        assert not clients[0].transport.closed
        assert clients[0].ask("CLIENT KILL ID 1") == 0
        assert clients[0].ask("CLIENT KILL ID 1 SKIPME no") == 1
        assert clients[0].transport.closed

    def test_kill_by_address_ends_the_caller_after_its_reply(self) -> None:
        client = Node().client()
        client.send(pipeline("CLIENT KILL 127.0.0.1:50000", "PING"))
        assert client.replies() == [b"OK"]
        assert client.transport.closed

    @pytest.mark.parametrize("name", ["NO-EVICT", "NO-TOUCH"])
    def test_a_switch_that_changes_nothing_is_accepted(self, name: str) -> None:
        client = Node().client()
        assert client.ask(f"CLIENT {name} on") == b"OK"
        assert client.ask(f"CLIENT {name} OFF") == b"OK"
        assert client.ask(f"CLIENT {name} perhaps") == "ERR syntax error"

    def test_help(self) -> None:
        client = Node().client()
        for container in ("CLIENT", "COMMAND", "CONFIG", "CLUSTER", "RAFT", "SENTINEL", "OBJECT"):
            assert client.ask(f"{container} HELP")[0].startswith(f"{container} <sub".encode())

    @pytest.mark.parametrize("words", ["MAINT_NOTIFICATIONS ON", "TRACKING ON", "REPLY OFF"])
    def test_what_a_client_would_rely_on_is_refused_not_pretended(self, words: str) -> None:
        reply = Node().client().ask(f"CLIENT {words}")
        assert reply == f"ERR unknown subcommand '{words.split()[0]}'. Try CLIENT HELP."


class TestCommand:
    def test_listing(self) -> None:
        client = Node().client()
        described = client.ask("COMMAND")
        assert client.ask("COMMAND COUNT") == len(described)
        assert all(len(entry) == 10 for entry in described)
        assert sorted(client.ask("COMMAND LIST")) == sorted(entry[0] for entry in described)
        assert client.ask("COMMAND LIST FILTERBY PATTERN get?el") == [b"getdel"]
        assert b"set" in client.ask("COMMAND LIST FILTERBY ACLCAT write")
        assert client.ask("COMMAND LIST FILTERBY MODULE x") == []

    def test_info(self) -> None:
        client = Node().client()
        get, nothing, subcommand = client.ask("COMMAND INFO get nope client|id")
        assert get[:2] == [b"get", 2]
        assert get[3:6] == [1, 1, 1]
        assert nothing is None
        assert subcommand[0] == b"client|id"
        assert len(client.ask("COMMAND INFO")) == client.ask("COMMAND COUNT")

    def test_docs(self) -> None:
        client = Node().client()
        client.ask("HELLO 3")
        docs = client.ask("COMMAND DOCS set nope client")
        assert set(docs) == {b"set", b"client"}
        assert docs[b"set"][b"group"] == b"string"
        assert b"client|id" in docs[b"client"][b"subcommands"]
        assert len(client.ask("COMMAND DOCS")) == client.ask("COMMAND COUNT")

    def test_getkeys(self) -> None:
        client = Node().client()
        assert client.ask("COMMAND GETKEYS MSET a 1 b 2") == [b"a", b"b"]
        assert client.ask("COMMAND GETKEYS OBJECT ENCODING a") == [b"a"]


class TestConfig:
    def test_what_clients_ask_for(self) -> None:
        client = Node().client()
        expected = {
            "save": b"",
            "appendonly": b"yes",
            "appendfsync": b"always",
            "maxmemory": b"0",
            "databases": b"1",
            "cluster-require-full-coverage": b"yes",
            "maxclients": b"10000",
        }
        for name, value in expected.items():
            assert client.ask(f"CONFIG GET {name.upper()}") == [name.encode(), value]
        assert set(pairs(client.ask("CONFIG GET maxm* time*"))) == {
            b"maxmemory",
            b"maxmemory-policy",
            b"timeout",
        }
        assert client.ask("CONFIG GET nope") == []

    def test_what_may_change(self) -> None:
        node = Node()
        client = node.client()
        assert client.ask("CONFIG SET maxclients 1 timeout 5") == b"OK"
        assert node.client().transport.closed
        assert client.ask("CONFIG GET timeout") == [b"timeout", b"5"]
        node.wait(7000)
        assert client.transport.closed

    @pytest.mark.parametrize(
        ("line", "text"),
        [
            ("port 1", "'port') - can't set immutable config"),
            ("maxclients 0", "'maxclients') - argument must be between 1 and 1000000 inclusive"),
            ("timeout 5 timeout 6", "'timeout') - duplicate parameter"),
            ("timeout 5 port 6", "'port') - can't set immutable config"),
        ],
    )
    def test_refusals_change_nothing(self, line: str, text: str) -> None:
        client = Node().client()
        prefix = "ERR CONFIG SET failed (possibly related to argument "
        assert client.ask(f"CONFIG SET {line}") == prefix + text
        assert client.ask("CONFIG GET timeout") == [b"timeout", b"0"]

    def test_resetstat(self) -> None:
        node = Node()
        client = node.client()
        client.ask("GET a")
        assert client.ask("CONFIG RESETSTAT") == b"OK"
        assert node.service.statistics.connections_accepted == 0
        assert node.service.table.by_word[b"get"].calls == 0


class TestInfo:
    def test_keys_that_expire_are_counted(self) -> None:
        client = Node().client()
        for command in ("SET a 1", "SET b 1 EX 100", "HSET c d e", "EXPIRE c 100"):
            client.ask(command)
        assert lines(client.ask("INFO keyspace"))["db0"] == "keys=3,expires=2,avg_ttl=0"
        client.ask("PERSIST b")
        assert lines(client.ask("INFO keyspace"))["db0"] == "keys=3,expires=1,avg_ttl=0"

    def test_default_sections_have_what_clients_read(self) -> None:
        node = Node()
        client = node.client()
        client.ask("SET a 1")
        text = client.ask("INFO")
        fields = lines(text)
        assert fields["redis_version"].startswith("7.")
        assert fields["redis_mode"] == "cluster"
        assert fields["loading"] == "0"
        assert fields["cluster_enabled"] == "1"
        assert fields["role"] == "master"
        assert fields["connected_slaves"] == "2"
        assert fields["slave0"].startswith("ip=127.0.0.1,port=7002,state=online,offset=1,lag=0")
        assert fields["db0"].startswith("keys=1,")
        assert fields["connected_clients"] == "1"
        assert int(fields["used_memory"]) > 1_000_000
        assert fields["total_commands_processed"] == "2"
        for name in ("raft_node_id", "raft_role", "raft_term", "raft_leader_id"):
            assert name in fields
        assert "# Commandstats" not in text.decode()

    def test_chosen_sections(self) -> None:
        client = Node().client()
        assert client.ask("INFO cluster") == b"# Cluster\r\ncluster_enabled:1\r\n"
        assert client.ask("INFO CPU").startswith(b"# CPU\r\nused_cpu_sys:")
        assert client.ask("INFO nope") == b""
        titles = [line for line in client.ask("INFO raft server").split(b"\r\n") if b"#" in line]
        assert titles == [b"# Server", b"# Raft"]
        assert b"# Commandstats" in client.ask("INFO all")
        assert b"# Commandstats" in client.ask("INFO everything")

    def test_raft_fields_of_the_interface(self) -> None:
        fields = lines(Node("n2").client().ask("INFO raft"))
        assert list(fields)[:14] == [
            "raft_node_id",
            "raft_role",
            "raft_term",
            "raft_leader_id",
            "raft_leader_addr",
            "raft_commit_index",
            "raft_applied_index",
            "raft_last_index",
            "raft_first_index",
            "raft_snapshot_index",
            "raft_members",
            "raft_quorum",
            "raft_state_hash",
            "raft_state_hash_index",
        ]
        assert fields["raft_node_id"] == "n2"
        assert fields["raft_role"] == "follower"
        assert fields["raft_leader_addr"] == "127.0.0.1:7001"

    def test_replication_of_a_follower(self) -> None:
        node = Node("n2")
        fields = lines(node.client().ask("INFO replication"))
        assert fields["role"] == "slave"
        assert (fields["master_host"], fields["master_port"]) == ("127.0.0.1", "7001")
        assert fields["master_link_status"] == "up"
        node.replica.lead(None)
        assert lines(node.client().ask("INFO replication"))["master_link_status"] == "down"

    def test_commandstats(self) -> None:
        client = Node().client()
        client.send(pipeline("GET a", "GET a", "GET", "CLIENT ID"))
        client.node.replica.turn()
        client.replies()
        fields = lines(client.ask("INFO commandstats"))
        assert fields["cmdstat_get"].startswith("calls=2,")
        assert "rejected_calls=1" in fields["cmdstat_get"]
        assert fields["cmdstat_client|id"].startswith("calls=1,")

    def test_role(self) -> None:
        leader, follower = Node(), Node("n2")
        assert leader.client().ask("ROLE") == [
            b"master",
            0,
            [[b"127.0.0.1", b"7002", b"0"], [b"127.0.0.1", b"7003", b"0"]],
        ]
        assert follower.client().ask("ROLE") == [b"slave", b"127.0.0.1", 7001, b"connected", 0]
        follower.replica.lead(None)
        assert follower.client().ask("ROLE")[3] == b"connect"


class TestCluster:
    def test_slots_names_the_leader_first_and_is_the_same_everywhere(self) -> None:
        cluster = Cluster(leader="n2")
        answers = [cluster[name].client().ask("CLUSTER SLOTS") for name in ("n1", "n2", "n3")]
        assert answers[0] == answers[1] == answers[2]
        ((first, last, *nodes),) = answers[0]
        assert (first, last) == (0, 16383)
        assert [node[1] for node in nodes] == [7002, 7001, 7003]
        assert all(len(node[2]) == 40 for node in nodes)

    def test_slots_is_never_empty(self) -> None:
        node = Node("n2", leader=None)
        ((_, _, *nodes),) = node.client().ask("CLUSTER SLOTS")
        assert len(nodes) == 3
        node.replica.lead("n3")
        node.replica.lead(None)
        ((_, _, *nodes),) = node.client().ask("CLUSTER SLOTS")
        assert nodes[0][1] == 7003

    def test_shards(self) -> None:
        client = Node().client()
        client.ask("HELLO 3")
        (shard,) = client.ask("CLUSTER SHARDS")
        assert shard[b"slots"] == [0, 16383]
        assert [node[b"role"] for node in shard[b"nodes"]] == [b"master", b"replica", b"replica"]
        assert all(node[b"health"] == b"online" for node in shard[b"nodes"])

    def test_nodes(self) -> None:
        client = Node("n2").client()
        listed = [line.split() for line in client.ask("CLUSTER NODES").decode().splitlines()]
        master, myself, _ = listed
        assert master[0] == cluster_node_id("n1")
        assert master[1] == "127.0.0.1:7001@7101"
        assert master[2:4] == ["master", "-"]
        assert master[7:] == ["connected", "0-16383"]
        assert myself[2:4] == ["myself,slave", cluster_node_id("n1")]
        assert client.ask("CLUSTER MYID").decode() == myself[0]

    def test_info_tells_whether_there_is_a_leader(self) -> None:
        node = Node("n2")
        assert lines(node.client().ask("CLUSTER INFO"))["cluster_state"] == "ok"
        node.replica.lead(None)
        fields = lines(node.client().ask("CLUSTER INFO"))
        assert (fields["cluster_state"], fields["cluster_slots_ok"]) == ("fail", "0")

    def test_slots_of_keys(self) -> None:
        client = Node().client()
        assert client.ask("CLUSTER KEYSLOT a") == 15495
        assert client.ask("CLUSTER KEYSLOT {a}b") == 15495
        client.ask("SET {a}1 x")
        assert client.ask("CLUSTER COUNTKEYSINSLOT 15495") == 1
        assert client.ask("CLUSTER COUNTKEYSINSLOT 16384") == "ERR Invalid slot"
        assert client.ask("CLUSTER COUNTKEYSINSLOT x").startswith("ERR value is not an integer")

    def test_addresses(self) -> None:
        assert split_host_port("[::1]:7001") == ("::1", 7001)
        assert split_host_port("node.example:7001") == ("node.example", 7001)


class TestRaft:
    def test_status_has_the_fields_of_info(self) -> None:
        client = Node().client()
        status = pairs(client.ask("RAFT STATUS"))
        fields = lines(client.ask("INFO raft"))
        assert [name.decode() for name in status] == list(fields)
        assert status[b"raft_role"] == b"leader"
        assert status[b"raft_term"] == int(fields["raft_term"])

    def test_members(self) -> None:
        client = Node().client()
        client.ask("HELLO 3")
        first, second, _ = client.ask("RAFT MEMBERS")
        assert first == {
            b"id": b"n1",
            b"client": b"127.0.0.1:7001",
            b"peer": b"127.0.0.1:7101",
            b"voter": 1,
            b"leader": 1,
        }
        assert second[b"connected"] == 1

    def test_transfer_is_handed_to_the_replica(self) -> None:
        node = Node()
        client = node.client()
        client.send(b"RAFT TRANSFER n2\r\n")
        target, slot = node.replica.transfers.pop()
        assert target == "n2"
        slot.resolve([b"n2"])
        node.replica.turn()
        assert client.replies() == [b"n2"]
        assert client.ask("RAFT TRANSFER n9") == "ERR n9 is not a voter"
        assert client.ask("RAFT TRANSFER n1") == "ERR n1 leads already"
        expected = "ERR wrong number of arguments for 'raft|transfer' command"
        assert client.ask("RAFT TRANSFER a b") == expected

    def test_a_member_change_is_handed_to_the_replica(self) -> None:
        node = Node()
        client = node.client()
        client.send(b"RAFT MEMBER add n4 h4:7001 h4:7101\r\n")
        change, slot = node.replica.changes.pop()
        assert (change.kind, change.node, change.client, change.peer) == (
            "add", "n4", "h4:7001", "h4:7101",
        )  # fmt: skip
        slot.resolve(["OK"])
        node.replica.turn()
        assert client.replies() == [b"OK"]

    @pytest.mark.parametrize(
        ("line", "error"),
        [
            (
                "RAFT MEMBER x n4",
                "ERR a member change is one of add, promote, demote, remove, move",
            ),
            ("RAFT MEMBER ADD n4", "ERR wrong number of arguments for 'raft|member' command"),
            ("RAFT MEMBER REMOVE", "ERR wrong number of arguments for 'raft|member' command"),
            ("RAFT MEMBER REMOVE n4 x", "ERR wrong number of arguments for 'raft|member' command"),
            ("RAFT MEMBER ADD n4 h4 h4:1", "ERR address has no port"),
            ("RAFT MEMBER ADD n4 h4:1 h4:0", "ERR address has the port '0' outside 1..65535"),
        ],
    )
    def test_a_member_change_with_wrong_words(self, line: str, error: str) -> None:
        assert Node().client().ask(line) == error

    def test_changes_and_transfers_are_the_leaders(self) -> None:
        client = Node("n2").client()
        for line in ("RAFT MEMBER REMOVE n3", "RAFT TRANSFER", "RAFT TRANSFER n2"):
            assert client.ask(line) == "MOVED 0 127.0.0.1:7001"
        client.ask("RAFT ROUTING proxy")
        assert client.ask("RAFT MEMBER REMOVE n3") == "MOVED 0 127.0.0.1:7001"

    def test_reads(self) -> None:
        client = Node().client()
        assert client.ask("RAFT READS") == b"linearizable"
        assert client.ask("RAFT READS STALE") == b"OK"
        assert client.ask("RAFT READS") == b"stale"

    def test_snapshot(self) -> None:
        client = Node().client()
        client.ask("SET a 1")
        assert client.ask("RAFT SNAPSHOT") == 1


class TestSentinel:
    def test_every_node_names_the_leader(self) -> None:
        cluster = Cluster(leader="n3")
        for name in ("n1", "n2", "n3"):
            client = cluster[name].client()
            assert client.ask("SENTINEL get-master-addr-by-name raftkv") == [b"127.0.0.1", b"7003"]
            assert pairs(client.ask("SENTINEL MASTER raftkv"))[b"port"] == b"7003"
            (master,) = client.ask("SENTINEL MASTERS")
            assert pairs(master)[b"flags"] == b"master"
            assert pairs(master)[b"name"] == b"raftkv"
            replicas = [pairs(entry) for entry in client.ask("SENTINEL REPLICAS raftkv")]
            assert {entry[b"port"] for entry in replicas} == {b"7001", b"7002"}
            assert client.ask("SENTINEL SLAVES raftkv") == client.ask("SENTINEL REPLICAS raftkv")
            assert len(client.ask("SENTINEL SENTINELS raftkv")) == 2
            assert client.ask("SENTINEL CKQUORUM raftkv").startswith(b"OK 3 ")

    def test_other_names_are_unknown(self) -> None:
        client = Node().client()
        assert client.ask("SENTINEL get-master-addr-by-name mymaster") is None
        for word in ("MASTER", "REPLICAS", "SENTINELS", "CKQUORUM"):
            reply = client.ask(f"SENTINEL {word} mymaster")
            assert reply == "ERR No such master with that name"

    def test_without_a_leader(self) -> None:
        node = Node("n2")
        node.replica.lead(None)
        client = node.client()
        assert client.ask("SENTINEL CKQUORUM raftkv") == "NOQUORUM 3 members. No leader is known"
        assert pairs(client.ask("SENTINEL MASTER raftkv"))[b"flags"] == b"master,s_down"
