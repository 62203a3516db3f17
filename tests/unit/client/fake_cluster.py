"""A scripted cluster of three ports on loopback, for tests of the client and the CLI.

All nodes share one dict of keys. The leader can be switched; each node can be
told what to do with the next data command (`act`), can be stopped and started,
and everything that was executed is in `executed`, so that a test can see that a
write ran once, or not at all.
"""

from __future__ import annotations

import contextlib
import fnmatch
import socket
import threading
import time
from collections import deque
from typing import Any

import hiredis

Reply = Any


class Failing(Exception):
    """An error reply."""


def encode(value: Reply) -> bytes:
    """Encode a reply; maps as in RESP3."""
    if value is None:
        return b"_\r\n"
    if isinstance(value, Failing):
        return b"-" + str(value).encode() + b"\r\n"
    if isinstance(value, bool):
        return b"#t\r\n" if value else b"#f\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, float):
        return b"," + repr(value).encode() + b"\r\n"
    if isinstance(value, str):
        return b"+" + value.encode() + b"\r\n"
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if isinstance(value, dict):
        parts = [encode(key) + encode(item) for key, item in value.items()]
        return b"%%%d\r\n" % len(parts) + b"".join(parts)
    return b"*%d\r\n" % len(value) + b"".join(encode(item) for item in value)


class FakeNode:
    """One port.

    Attributes:
        acts: What to do with the next data commands, one each: `drop before`,
            `drop after`, `hang`, or the text of an error reply. Empty: as usual.
        connections: How many were accepted so far.
    """

    def __init__(self, cluster: FakeCluster, position: int) -> None:
        self.cluster = cluster
        self.position = position
        self.name = f"n{position + 1}"
        self.acts: deque[str] = deque()
        self.connections = 0
        self.port = 0
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._spawn(self._accept, listener)

    def _spawn(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.drop_connections()
        for thread in self._threads:
            thread.join(5)
        self._threads.clear()

    def drop_connections(self) -> None:
        """Close what is connected, as a leader does that steps down."""
        for connection in list(self._sockets):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.add(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        reader = hiredis.Reader(notEnoughData=self)
        try:
            while data := connection.recv(65536):
                reader.feed(data)
                while (request := reader.gets()) is not self:
                    reply = self._answer(request)
                    if reply is None:
                        return
                    connection.sendall(reply)
        except OSError:
            pass
        finally:
            self._sockets.discard(connection)
            connection.close()

    def _answer(self, request: list[bytes]) -> bytes | None:
        """Return the bytes of the reply, or None to drop the connection."""
        cluster = self.cluster
        name = request[0].upper()
        if name == b"QUIT":
            return None
        local = cluster.local(self, name, request)
        if local is not NotImplemented:
            return encode(local)
        is_session = name == b"KV" and request[1].upper() == b"SESSION"
        act = self.acts.popleft() if self.acts and not is_session else ""
        if act == "drop before":
            return None
        refusal = cluster.sessions.once_refusal
        if not act and refusal and [name, request[1].upper()] == [b"KV", b"ONCE"]:
            return encode(Failing(refusal))
        if act == "hang":
            cluster.hanging.set()
            cluster.released.wait(30)
            return None
        if act and act != "drop after":
            return encode(Failing(act))
        if cluster.leader is None:
            return encode(Failing("CLUSTERDOWN no leader elected"))
        if cluster.leader is not self:
            return encode(Failing(f"MOVED 0 {cluster.leader.address}"))
        with cluster.lock:
            try:
                reply = cluster.sessions.answer(self.name, request)
            except Failing as failing:
                reply = failing
            if reply is NotImplemented:
                reply = cluster.execute_here(self.name, request)
        return None if act == "drop after" else encode(reply)


class FakeSessions:
    """What the cluster remembers of numbered writes.

    Attributes:
        open: Lowest unfinished number and results, by session.
        asked: Every request about sessions, in order.
        is_known: False for a server that has none.
        refusal: Of every new session.
        once_refusal: Of every numbered write that no act concerns.
    """

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.open: dict[int, tuple[list[int], dict[int, Reply]]] = {}
        self.asked: list[tuple[bytes, ...]] = []
        self.is_known = True
        self.refusal = ""
        self.once_refusal = ""
        self._last = 0

    def answer(self, node: str, request: list[bytes]) -> Reply:
        """Answer what is about sessions, or NotImplemented."""
        words = [word.upper() for word in request[:3]]
        if words[0] != b"KV" or words[1] not in (b"SESSION", b"ONCE", b"OUTCOME"):
            return NotImplemented
        self.asked.append(tuple(request))
        if not self.is_known:
            return Failing("ERR unknown command 'KV'")
        if words[1] == b"SESSION":
            return self._session(words[2], request[3:])
        held = self.open.get(int(request[2]))
        if held is None:
            return Failing("UNKNOWN session expired")
        (lowest,), results = held
        number = int(request[3])
        if words[1] == b"ONCE":
            lowest = max(lowest, int(request[4]))
            held[0][0] = lowest
            for old in [one for one in results if one < lowest]:
                del results[old]
        if number < lowest:
            return Failing("UNKNOWN session expired")
        if words[1] == b"OUTCOME":
            result = results.setdefault(number, self)
            return ["fenced"] if result is self else ["applied", result]
        if number not in results:
            results[number] = self.cluster.execute_here(node, request[5:])
        result = results[number]
        return Failing("NOTAPPLIED fenced") if result is self else result

    def _session(self, action: bytes, words: list[bytes]) -> Reply:
        if action == b"OPEN":
            if self.refusal:
                return Failing(self.refusal)
            self._last += 1
            self.open[self._last] = ([1], {})
            return self._last
        if action == b"KEEPALIVE":
            return int(int(words[0]) in self.open)
        return int(self.open.pop(int(words[0]), None) is not None)


class FakeCluster:
    """Three nodes with one dict; use as a context manager."""

    def __init__(self, count: int = 3) -> None:
        self.nodes = [FakeNode(self, position) for position in range(count)]
        self.leader: FakeNode | None = self.nodes[0]
        self.keys: dict[bytes, bytes] = {}
        self.deadlines: dict[bytes, float] = {}
        self.revision = 0
        self.revisions: dict[bytes, tuple[bytes, int]] = {}
        self.executed: list[tuple[str, tuple[bytes, ...]]] = []
        self.sessions = FakeSessions(self)
        self.canned: dict[bytes, Reply] = {}
        self.lock = threading.Lock()
        self.hanging = threading.Event()
        self.released = threading.Event()
        self.announces_members = True

    def __enter__(self) -> FakeCluster:
        for node in self.nodes:
            node.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        for node in self.nodes:
            node.stop()

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.nodes]

    def names(self) -> list[bytes]:
        """Names of the executed commands, in order."""
        return [request[0].upper() for _, request in self.executed]

    def local(self, node: FakeNode, name: bytes, request: list[bytes]) -> Reply:
        """Answer what every node answers by itself, or NotImplemented."""
        if name in self.canned:
            return self.canned[name]
        second = request[1].upper() if len(request) > 1 else b""
        if name == b"HELLO":
            return {b"server": b"redis", b"proto": 3}
        if name == b"PING":
            return request[1] if len(request) > 1 else "PONG"
        if name == b"CLIENT" or name in (b"SELECT", b"READONLY"):
            return "OK"
        if name == b"INFO":
            return b"# Raft\r\nraft_role:leader\r\nraft_term:7\r\n"
        if name == b"CLUSTER" and second == b"SLOTS":
            if not self.announces_members:
                return Failing("ERR unknown command 'CLUSTER'")
            ordered = sorted(self.nodes, key=lambda each: each is not self.leader)
            listed = [[b"127.0.0.1", each.port, each.name.encode() * 20] for each in ordered]
            return [[0, 16383, *listed]]
        if name == b"RAFT" and second == b"STATUS":
            return self.status_of(node)
        if name == b"RAFT" and second == b"STALENESS":
            return 0
        if name == b"RAFT" and second == b"MEMBERS":
            return [
                {b"id": each.name.encode(), b"client": each.address.encode(),
                 b"peer": b"127.0.0.1:1", b"voter": 1}
                for each in self.nodes
            ]  # fmt: skip
        return NotImplemented

    def status_of(self, node: FakeNode) -> dict[bytes, Reply]:
        leads = node is self.leader
        applied = 40 if leads else 38
        return {
            b"raft_node_id": node.name.encode(),
            b"raft_role": b"leader" if leads else b"follower",
            b"raft_term": 7,
            b"raft_leader_id": self.leader.name.encode() if self.leader else b"",
            b"raft_leader_addr": self.leader.address.encode() if self.leader else b"",
            b"raft_commit_index": applied,
            b"raft_applied_index": applied,
            b"raft_last_index": applied,
        }

    def execute_here(self, node: str, request: list[bytes]) -> Reply:
        """Execute a data command on a node, and note that."""
        self.executed.append((node, tuple(request)))
        try:
            return self.execute(request[0].upper(), request[1:])
        except Failing as failing:
            return failing

    def execute(self, name: bytes, arguments: list[bytes]) -> Reply:
        """Run a data command on the shared dict."""
        keys = self.keys
        for key, deadline in list(self.deadlines.items()):
            if deadline <= time.monotonic():
                keys.pop(key, None)
                del self.deadlines[key]
        handler = getattr(self, "do_" + name.decode().lower(), None)
        if handler is None:
            raise Failing(f"ERR unknown command '{name.decode('utf-8', 'replace')}'")
        return handler(*arguments)

    def do_delex(self, key: bytes, *condition: bytes) -> Reply:
        return self.do_del(key) if self.meets(key, list(condition)) else 0

    def meets(self, key: bytes, condition: list[bytes]) -> bool:
        """Whether IFEQ and IFNE, with their values, allow something."""
        equal = not condition or self.keys.get(key) == condition[1]
        return equal == (b"IFNE" not in condition)

    def do_set(self, key: bytes, value: bytes, *options: bytes) -> Reply:
        words = [option.upper() for option in options]
        before = self.keys.get(key)
        if words[:1] in ([b"IFEQ"], [b"IFNE"]) and not self.meets(key, list(options[:2])):
            return None
        if (b"NX" in words and before is not None) or (b"XX" in words and before is None):
            return before if b"GET" in words else None
        self.keys[key] = value
        if b"KEEPTTL" not in words:
            self.deadlines.pop(key, None)
        for word, scale in ((b"EX", 1.0), (b"PX", 0.001)):
            if word in words:
                seconds = int(words[words.index(word) + 1]) * scale
                self.deadlines[key] = time.monotonic() + seconds
        return before if b"GET" in words else "OK"

    def do_get(self, key: bytes) -> Reply:
        return self.keys.get(key)

    def do_getdel(self, key: bytes) -> Reply:
        return self.keys.pop(key, None)

    def do_del(self, *names: bytes) -> Reply:
        return sum(self.keys.pop(key, None) is not None for key in names)

    def do_exists(self, *names: bytes) -> Reply:
        return sum(key in self.keys for key in names)

    def do_mget(self, *names: bytes) -> Reply:
        return [self.keys.get(key) for key in names]

    def do_mset(self, *pairs: bytes) -> Reply:
        self.keys.update(zip(pairs[::2], pairs[1::2], strict=True))
        return "OK"

    def do_incrby(self, key: bytes, amount: bytes) -> Reply:
        try:
            number = int(self.keys.get(key, b"0")) + int(amount)
        except ValueError:
            raise Failing("ERR value is not an integer or out of range") from None
        self.keys[key] = b"%d" % number
        return number

    def do_incr(self, key: bytes) -> Reply:
        return self.do_incrby(key, b"1")

    def do_decrby(self, key: bytes, amount: bytes) -> Reply:
        return self.do_incrby(key, b"%d" % -int(amount))

    def do_decr(self, key: bytes) -> Reply:
        return self.do_incrby(key, b"-1")

    def do_incrbyfloat(self, key: bytes, amount: bytes) -> Reply:
        number = float(self.keys.get(key, b"0")) + float(amount)
        self.keys[key] = b"%.17g" % number
        return self.keys[key]

    def do_append(self, key: bytes, value: bytes) -> Reply:
        self.keys[key] = self.keys.get(key, b"") + value
        return len(self.keys[key])

    def do_strlen(self, key: bytes) -> Reply:
        return len(self.keys.get(key, b""))

    def do_getrange(self, key: bytes, first: bytes, last: bytes) -> Reply:
        value = self.keys.get(key, b"")
        end = int(last) + 1 if int(last) >= 0 else len(value) + int(last) + 1
        return value[int(first) : end]

    def do_expire(self, key: bytes, seconds: bytes, *_: bytes) -> Reply:
        if key not in self.keys:
            return 0
        self.deadlines[key] = time.monotonic() + int(seconds)
        return 1

    def do_ttl(self, key: bytes) -> Reply:
        if key not in self.keys:
            return -2
        return round(self.deadlines[key] - time.monotonic()) if key in self.deadlines else -1

    def do_pexpiretime(self, key: bytes) -> Reply:
        return -1 if key in self.keys else -2

    def do_persist(self, key: bytes) -> Reply:
        return int(self.deadlines.pop(key, None) is not None)

    def do_type(self, key: bytes) -> Reply:
        return "string" if key in self.keys else "none"

    def do_keys(self, pattern: bytes) -> Reply:
        return [key for key in sorted(self.keys) if fnmatch.fnmatchcase(key, pattern)]

    def do_scan(self, cursor: bytes, *options: bytes) -> Reply:
        words = [option.upper() for option in options]
        count = int(options[words.index(b"COUNT") + 1]) if b"COUNT" in words else 10
        pattern = options[words.index(b"MATCH") + 1] if b"MATCH" in words else b"*"
        names = sorted(self.keys)
        first = int(cursor)
        page = [key for key in names[first : first + count] if fnmatch.fnmatchcase(key, pattern)]
        following = first + count if first + count < len(names) else 0
        return [b"%d" % following, page]

    def do_rename(self, source: bytes, target: bytes) -> Reply:
        if source not in self.keys:
            raise Failing("ERR no such key")
        self.keys[target] = self.keys.pop(source)
        return "OK"

    def do_copy(self, source: bytes, target: bytes, *options: bytes) -> Reply:
        if source not in self.keys or (target in self.keys and not options):
            return 0
        self.keys[target] = self.keys[source]
        return 1

    def do_dbsize(self) -> Reply:
        return len(self.keys)

    def do_flushall(self) -> Reply:
        self.keys.clear()
        return "OK"

    def do_kv(self, subcommand: bytes, *words: bytes) -> Reply:
        if subcommand.upper() == b"REVISIONS":
            return [self.revision_of(key) for key in words]
        if subcommand.upper() == b"RANGE":
            return self.range_of(*words)
        if subcommand.upper() == b"GET":
            value = self.keys.get(words[0])
            return None if value is None else [b"value", value, b"type", b"string"]
        rest = list(words)
        for _ in range(int(rest.pop(0))):
            if self.revision_of(rest.pop(0)) != int(rest.pop(0)):
                return None
        replies = []
        for _ in range(int(rest.pop(0))):
            size = int(rest.pop(0))
            request, rest = rest[:size], rest[size:]
            try:
                replies.append(self.execute(request[0].upper(), request[1:]))
            except Failing as failing:
                replies.append(failing)
        return replies

    def range_of(self, start: bytes, end: bytes, *words: bytes) -> Reply:
        """One page of keys; REV is believed."""
        if start == b"PREFIX":
            start, end = end, end + b"\xff"
        flags = {b"KEYSONLY", b"COUNT"}
        named = [word for word in words if word not in flags]
        options = dict(zip(named[::2], named[1::2], strict=True))
        first = max(start, options.get(b"FROM", b""))
        keys = sorted(key for key in self.keys if key >= first and (not end or key < end))
        if b"COUNT" in words:
            return len(keys)
        limit = int(options.get(b"LIMIT", 1000))
        following = keys[limit] if len(keys) > limit else None
        revision = int(options.get(b"REV", 99))
        items: list[Reply] = [
            key if b"KEYSONLY" in words else [key, self.keys[key], 1, 1, 1] for key in keys[:limit]
        ]
        return [b"revision", revision, b"more", 1, b"next", following, b"items", items]

    def revision_of(self, key: bytes) -> int:
        """Another number whenever another value was written."""
        value = self.keys.get(key)
        if value is None:
            return 0
        known = self.revisions.get(key)
        if known is None or known[0] is not value:
            self.revision += 1
            self.revisions[key] = (value, self.revision)
        return self.revisions[key][1]

    def do_echo(self, message: bytes) -> Reply:
        return message

    def do_time(self) -> Reply:
        return [b"1700000000", b"250000"]
