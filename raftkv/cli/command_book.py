"""What the shell knows about commands: names, arguments, one line of explanation.

Owns the syntax lines. Names and explanations come from the server when it
answers COMMAND DOCS, so that a newer server's commands are completed too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raftkv.client.replies import to_mapping
from raftkv.client.sync_client import Client
from raftkv.errors import ProtocolError, RequestError

_SYNTAX = """
APPEND key value
ASKING
AUTH [username] password
BITCOUNT key [start end [BYTE | BIT]]
BITFIELD key [GET type position | [OVERFLOW WRAP|SAT|FAIL] SET|INCRBY type position number] ...
BITFIELD_RO key [GET type position ...]
BITOP AND|OR|XOR|NOT destination key [key ...]
BITPOS key bit [start [end [BYTE | BIT]]]
CLIENT ID | GETNAME | SETNAME name | SETINFO LIB-NAME|LIB-VER value | LIST | INFO | KILL ...
CLUSTER SLOTS | SHARDS | NODES | INFO | MYID | KEYSLOT key | COUNTKEYSINSLOT slot
COMMAND [COUNT | INFO name ... | DOCS name ... | GETKEYS command ...]
CONFIG GET pattern ... | SET name value ... | RESETSTAT
COPY source destination [DB 0] [REPLACE]
DBSIZE
DECR key
DECRBY key amount
DEL key [key ...]
DELEX key [IFEQ value | IFNE value]
DISCARD
ECHO message
EXEC
EXISTS key [key ...]
EXPIRE key seconds [NX | XX | GT | LT]
EXPIREAT key unix-seconds [NX | XX | GT | LT]
EXPIRETIME key
FLUSHALL [ASYNC | SYNC]
FLUSHDB [ASYNC | SYNC]
GET key
GETBIT key position
GETDEL key
GETEX key [EX seconds | PX milliseconds | EXAT unix-seconds | PXAT unix-milliseconds | PERSIST]
GETRANGE key first last
GETSET key value
HDEL key field [field ...]
HELLO [2 | 3 [AUTH username password] [SETNAME name]]
HEXISTS key field
HGET key field
HGETALL key
HINCRBY key field amount
HINCRBYFLOAT key field amount
HKEYS key
HLEN key
HMGET key field [field ...]
HMSET key field value [field value ...]
HRANDFIELD key [count [WITHVALUES]]
HSCAN key cursor [MATCH pattern] [COUNT count]
HSET key field value [field value ...]
HSETNX key field value
HSTRLEN key field
HVALS key
INCR key
INCRBY key amount
INCRBYFLOAT key amount
INFO [section ...]
KEYS pattern
KV GET key | REVISIONS key ... | TXN compares ... commands ... commands ... | EXEC ...
LINDEX key index
LINSERT key BEFORE|AFTER pivot element
LLEN key
LMOVE source destination LEFT|RIGHT LEFT|RIGHT
LMPOP numkeys key [key ...] LEFT|RIGHT [COUNT count]
LPOP key [count]
LPOS key element [RANK rank] [COUNT count] [MAXLEN length]
LPUSH key element [element ...]
LPUSHX key element [element ...]
LRANGE key first last
LREM key count element
LSET key index element
LTRIM key first last
MEMORY USAGE key [SAMPLES count]
MGET key [key ...]
MSET key value [key value ...]
MSETNX key value [key value ...]
MULTI
OBJECT ENCODING key | FREQ key | IDLETIME key | REFCOUNT key
PERSIST key
PEXPIRE key milliseconds [NX | XX | GT | LT]
PEXPIREAT key unix-milliseconds [NX | XX | GT | LT]
PEXPIRETIME key
PING [message]
PSETEX key milliseconds value
PTTL key
QUIT
RAFT STATUS | MEMBERS | ROUTING redirect|proxy | READS linearizable|stale | SNAPSHOT
RANDOMKEY
READONLY
READWRITE
RENAME key new-name
RENAMENX key new-name
RESET
ROLE
RPOP key [count]
RPOPLPUSH source destination
RPUSH key element [element ...]
RPUSHX key element [element ...]
SADD key member [member ...]
SCAN cursor [MATCH pattern] [COUNT count] [TYPE kind]
SCARD key
SDIFF key [key ...]
SDIFFSTORE destination key [key ...]
SELECT 0
SET key value [NX | XX | IFEQ value | IFNE value] [GET] [EX seconds | PX milliseconds | ...]
SETBIT key position 0|1
SETEX key seconds value
SETNX key value
SETRANGE key position value
SINTER key [key ...]
SINTERCARD numkeys key [key ...] [LIMIT limit]
SINTERSTORE destination key [key ...]
SISMEMBER key member
SMEMBERS key
SMISMEMBER key member [member ...]
SMOVE source destination member
SPOP key [count]
SRANDMEMBER key [count]
SREM key member [member ...]
SSCAN key cursor [MATCH pattern] [COUNT count]
STRLEN key
SUBSTR key first last
SUNION key [key ...]
SUNIONSTORE destination key [key ...]
TIME
TOUCH key [key ...]
TTL key
TYPE key
UNLINK key [key ...]
UNWATCH
WATCH key [key ...]
ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]
ZCARD key
ZCOUNT key min max
ZDIFF numkeys key [key ...] [WITHSCORES]
ZDIFFSTORE destination numkeys key [key ...]
ZINCRBY key amount member
ZINTER numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]
ZINTERCARD numkeys key [key ...] [LIMIT limit]
ZINTERSTORE destination numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM|MIN|MAX]
ZLEXCOUNT key min max
ZMPOP numkeys key [key ...] MIN|MAX [COUNT count]
ZMSCORE key member [member ...]
ZPOPMAX key [count]
ZPOPMIN key [count]
ZRANDMEMBER key [count [WITHSCORES]]
ZRANGE key min max [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]
ZRANGEBYLEX key min max [LIMIT offset count]
ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]
ZRANGESTORE destination source min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]
ZRANK key member
ZREM key member [member ...]
ZREMRANGEBYLEX key min max
ZREMRANGEBYRANK key first last
ZREMRANGEBYSCORE key min max
ZREVRANGE key first last [WITHSCORES]
ZREVRANGEBYLEX key max min [LIMIT offset count]
ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]
ZREVRANK key member
ZSCAN key cursor [MATCH pattern] [COUNT count]
ZSCORE key member
ZUNION numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]
ZUNIONSTORE destination numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM|MIN|MAX]
"""


class CommandBook:
    """Names, arguments and explanations of all known commands, in upper case."""

    def __init__(self, summaries: Mapping[str, str] | None = None) -> None:
        self.syntax: dict[str, str] = {}
        for line in _SYNTAX.strip().splitlines():
            name, _, arguments = line.partition(" ")
            self.syntax[name] = arguments
        self.summaries = dict(summaries or {})

    @property
    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({*self.syntax, *self.summaries})

    def subcommands(self, name: str) -> list[str]:
        """Return the subcommands of a command; empty where there are none."""
        alternatives = self.syntax.get(name.upper(), "").strip("[]").split(" | ")
        words = [alternative.split(" ")[0] for alternative in alternatives]
        has_subcommands = name.upper() in ("CLIENT", "CLUSTER", "COMMAND", "CONFIG", "RAFT",
                                           "MEMORY", "OBJECT")  # fmt: skip
        return [word for word in words if word.isupper()] if has_subcommands else []

    def usage(self, name: str) -> str:
        """Return a command with its arguments; empty for an unknown one."""
        known = name.upper() in self.syntax or name.upper() in self.summaries
        return f"{name.upper()} {self.syntax.get(name.upper(), '')}".rstrip() if known else ""

    def hint(self, line: str) -> str:
        """Return in one line what the command at the beginning of `line` takes and does."""
        name = line.split(" ")[0]
        summary = self.summaries.get(name.upper(), "")
        return f"{self.usage(name)}   {summary}".rstrip() if name else ""

    def explanation(self, name: str) -> str:
        """Return what a command takes and does, a line each; empty for an unknown one."""
        return "\n".join(
            line for line in (self.usage(name), self.summaries.get(name.upper())) if line
        )


def load_book(client: Client[Any]) -> CommandBook:
    """Return the book with what the server says of its commands, if it says something."""
    try:
        documents = to_mapping(client.within(2.0).execute("COMMAND", "DOCS"))
        return CommandBook({
            name.upper(): str(to_mapping_text(document).get("summary", ""))
            for name, document in documents.items()
        })  # fmt: skip
    except (RequestError, ProtocolError):
        return CommandBook()


def to_mapping_text(document: Any) -> dict[str, Any]:
    """Return one command's documentation, which RESP2 gives as a flat list."""
    if isinstance(document, dict):
        return document
    if isinstance(document, list) and len(document) % 2 == 0:
        return dict(zip(document[::2], document[1::2], strict=True))
    return {}
