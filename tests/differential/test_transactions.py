"""Scripts of several connections around MULTI and WATCH, compared with Redis in both protocols."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

import pytest

from tests.differential.pair import words
from tests.differential.redis_process import RedisConnection
from tests.differential.replies import read_reply
from tests.unit.server.harness import Client, Node, encode

# One test a line: what connections 1, 2, ... send, in order. Without a number it is 1.
SCRIPTS = r"""
multi; exec; multi; set a 1; get a; incr a; exec; get a; exec; discard; unwatch
multi; multi; set a 1; multi; exec; get a
multi; watch a; set a 1; exec; multi; discard; discard
multi; set a 1; discard; get a; multi; get a; exec
multi; set a; exec; exec; multi; foo; set a 1; exec; get a; multi; set a 1; exec
multi; get; discard; multi; set a 1; exec
multi; set k v foo; set k v ex 0; incrby k x; getex k ex 0; set k v; lpush k x; exec
multi; exec x; exec; multi; set a 1; exec x; get a; discard
multi; discard x; exec; multi; watch; exec; multi; unwatch x; exec
multi x; watch; exec x; watch a; multi; exec; multi; multi x; exec
multi; ping; ping x; echo y; select 0; unwatch; exec; multi; ping a b; exec
multi; set a 1; reset; get a; exec; watch a; reset; 2 set a 2; multi; exec
multi; hset h f v; hgetall h; smembers s; sadd s m; smembers s; zadd z 1.5 m; zscore z m; exec
multi; lpop l 2; lpush l x; lpop l 2; zrange z 0 -1 withscores; exec; multi; mget a b; exec
multi; flushall; set a 1; dbsize; exec; dbsize; multi; del a b; exists a; exec
multi; expire a 100; persist a; set a 1; pexpireat a 1; get a; exec; ttl a
multi; rename a b; set a 1; rename a b; renamenx b b; copy b c; exec; mget a b c
watch a; multi; set a 1; exec; watch a; set a 2; multi; set a 3; exec; get a
watch a; 2 set a 1; multi; set a 2; exec; get a; multi; set a 3; exec; get a
watch a; 2 set b 1; multi; get b; exec; watch b; 2 del b; multi; exec; multi; exec
set a 1; watch a; 2 set a 1; multi; exec; watch a; 2 pexpireat a 1; multi; exec; get a
set a 1; watch a; 2 del a; 2 set a 1; multi; exec; watch a; 2 flushall; multi; exec
watch none; 2 flushall; multi; exec; watch none; 2 del none; multi; ping; exec
watch a b a; unwatch; 2 set a 1; multi; get a; exec
watch a; multi; discard; 2 set a 2; multi; exec
watch a; 2 set a 1; multi; foo; exec; multi; get a; exec
watch a; 2 multi; 2 set a 9; 2 exec; multi; exec
watch a; 2 multi; 2 get a; 2 exec; multi; set a 1; exec
watch a; 2 watch a; 2 multi; 2 set a 2; 2 exec; multi; exec
watch a; 2 multi; 2 set a 2; multi; set a 1; exec; 2 exec; get a
set a 1; watch a; 2 expire a 100; multi; exec; watch a; 2 persist a; multi; exec
watch a; 2 ttl a; multi; exec
rpush l a; watch l; 2 lpush l b; multi; lrange l 0 -1; exec; watch l; 2 llen l; multi; exec
set a 1; watch b; 2 rename a b; multi; exec; watch b; 2 copy b c; multi; exec
watch c; 2 copy b c; multi; exec
watch a; 2 setnx a 1; multi; exec; watch a; 2 setnx a 1; multi; exec
watch a; 2 getdel a; multi; exec
multi; set a 1; 2 get a; exec; 2 get a; 2 multi; set a 2; 2 get a; set a 3; 2 exec
"""


class Side:
    """Connections of ours to one node without sockets."""

    def __init__(self, protocol: int) -> None:
        self._node = Node()
        self._protocol = protocol
        self._clients: dict[str, Client] = {}

    def call(self, name: str, *request: bytes) -> Any:
        """Send one request on a connection and return its reply."""
        if name not in self._clients:
            self._clients[name] = self._node.client()
            if self._protocol == 3:
                self.call(name, b"HELLO", b"3")
        client = self._clients[name]
        client.send(encode(*request))
        self._node.replica.turn()
        reply = BytesIO(bytes(client.transport.written))
        client.transport.written.clear()
        return read_reply(reply)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("script", SCRIPTS.strip().split("\n"))
def test_connections_see_what_they_see_in_redis(
    redis_connection: RedisConnection, script: str, protocol: int
) -> None:
    redis_connection.call(b"FLUSHALL")
    ours = Side(protocol)
    theirs: dict[str, RedisConnection] = {}
    try:
        for line in script.split(";"):
            found = re.match(r" *(?:(\d) )?(.*)", line)
            assert found is not None
            name, request = found[1] or "1", words(found[2])
            if name not in theirs:
                theirs[name] = RedisConnection(redis_connection.path)
                if protocol == 3:
                    theirs[name].call(b"HELLO", b"3")
            expected = theirs[name].call(*request)
            assert ours.call(name, *request) == expected, line
            if request == [b"reset"] and protocol == 3:
                theirs[name].call(b"HELLO", b"3")
                ours.call(name, b"HELLO", b"3")
    finally:
        for connection in theirs.values():
            connection.close()
