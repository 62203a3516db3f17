"""What a call is: a request, what its reply means, and what may be done with it.

Owns the classification of commands: reads, and those that change their
connection. Owns no names of methods, no conversions (`replies`) and no I/O.

Invariants: a command counts as a read only if it is in `READS`, and as a write that
the cluster can execute once only if it is in `WRITES`; anything else is treated as a
write that is never sent twice.

Users: client.commands, client.pipeline and both shells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from raftkv.client.policy import Request
from raftkv.client.replies import decoded
from raftkv.errors import RequestError

T = TypeVar("T")

# Certainly without effect on data, so that they may be sent again.
READS = frozenset(
    b"GET EXISTS MGET STRLEN GETRANGE SUBSTR TTL PTTL EXPIRETIME PEXPIRETIME TYPE KEYS SCAN "
    b"RANDOMKEY DBSIZE SORT_RO PING ECHO TIME INFO ROLE COMMAND OBJECT MEMORY CLUSTER LASTSAVE LCS "
    b"HGET HMGET HGETALL HEXISTS HLEN HSTRLEN HKEYS HVALS HRANDFIELD HSCAN "
    b"LLEN LRANGE LINDEX LPOS "
    b"SISMEMBER SMISMEMBER SMEMBERS SCARD SRANDMEMBER SSCAN SINTER SUNION SDIFF SINTERCARD "
    b"ZSCORE ZMSCORE ZCARD ZCOUNT ZLEXCOUNT ZRANK ZREVRANK ZRANGE ZREVRANGE ZRANGEBYSCORE "
    b"ZREVRANGEBYSCORE ZRANGEBYLEX ZREVRANGEBYLEX ZRANDMEMBER ZSCAN ZUNION ZINTER ZDIFF "
    b"ZINTERCARD GETBIT BITCOUNT BITPOS BITFIELD_RO".split()
)
# Writes about keys, which a session takes.
WRITES = frozenset(
    b"SET DEL UNLINK MSET MSETNX SETNX SETEX PSETEX GETSET GETDEL GETEX APPEND SETRANGE INCR "
    b"DECR INCRBY DECRBY INCRBYFLOAT EXPIRE PEXPIRE EXPIREAT PEXPIREAT PERSIST RENAME RENAMENX "
    b"COPY FLUSHDB FLUSHALL DELEX HSET HSETNX HMSET HDEL HINCRBY HINCRBYFLOAT LPUSH RPUSH LPUSHX "
    b"RPUSHX LPOP RPOP LMPOP LSET LINSERT LREM LTRIM LMOVE RPOPLPUSH SADD SREM SPOP SMOVE "
    b"SINTERSTORE SUNIONSTORE SDIFFSTORE ZADD ZINCRBY ZREM ZRANGESTORE ZREMRANGEBYRANK "
    b"ZREMRANGEBYSCORE ZREMRANGEBYLEX ZPOPMIN ZPOPMAX ZMPOP ZUNIONSTORE ZINTERSTORE ZDIFFSTORE "
    b"SETBIT BITOP BITFIELD SORT EVAL EVALSHA".split()
)
# The second execution of which the cluster prevents by itself.
_KV_REPEATS = frozenset({b"ONCE", b"OUTCOME"})
_KV_WRITES = frozenset({b"EXEC", b"TXN", b"SET"})
_LEASE_WRITES = frozenset({b"GRANT", b"REVOKE", b"ATTACH", b"DETACH"})
# Nothing comes of a second execution.
_LEASE_REPEATS = frozenset({b"KEEPALIVE", b"TTL", b"LIST"})
# With more words a command would not fit the default limit of a request once it has a number.
_ONCE_WORDS_MAX = 65_000
_KV_READS = frozenset({b"GET", b"RANGE", b"HISTORY", b"REVISIONS", b"HELP"})
_RAFT_READS = frozenset({b"STATUS", b"MEMBERS", b"STALENESS"})
# They change the connection, which must not serve another caller afterwards.
_STATEFUL = frozenset(
    b"HELLO AUTH QUIT RESET SELECT READONLY READWRITE ASKING CLIENT MULTI EXEC DISCARD WATCH "
    b"UNWATCH SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUNSUBSCRIBE "
    b"MONITOR".split()
)
_RAFT_STATEFUL = frozenset({b"ROUTING", b"READS"})
# They wait for an element; the timeout is the last word, or the first one.
_WAIT_LAST = frozenset(b"BLPOP BRPOP BLMOVE BRPOPLPUSH BZPOPMIN BZPOPMAX".split())
_WAIT_FIRST = frozenset({b"BLMPOP", b"BZMPOP"})

# Words of the options of SORT that have more than one.
_SORT_OPTION_WORDS = {b"BY": 2, b"GET": 2, b"LIMIT": 3}


class Call(NamedTuple, Generic[T]):
    """A request and what its reply means.

    Attributes:
        request: What is sent.
        convert: Makes the result from a reply that is no error.
        holds_text: True when the result carries keys or values, which a client
            with `decode=True` turns into text.
    """

    request: Request
    convert: Callable[[Any], T]
    holds_text: bool = False

    def result(self, reply: object, *, decode: bool = False) -> T:
        """Return what the caller gets.

        Raises:
            RequestError: The reply is one.
            ProtocolError: The reply is of a kind that this command never has.
        """
        if isinstance(reply, RequestError):
            raise reply
        value = self.convert(reply)
        return decoded(value) if decode and self.holds_text else value


def request_of(arguments: tuple[bytes, ...]) -> Request:
    """Return the request with what the policy has to know about it."""
    name = arguments[0].upper()
    second = arguments[1].upper() if len(arguments) > 1 else b""
    if name == b"RAFT":
        return Request(arguments, second in _RAFT_READS, second in _RAFT_STATEFUL)
    if name == b"KV":
        third = arguments[2].upper() if second == b"LEASE" and len(arguments) > 2 else b""
        writes = second in _KV_WRITES or third in _LEASE_WRITES
        once = writes and len(arguments) <= _ONCE_WORDS_MAX
        reads, repeats = second in _KV_READS, second in _KV_REPEATS or third in _LEASE_REPEATS
        return Request(arguments, reads, stateful=False, once=once, repeats=repeats)
    # Without options GETEX only reads, and without STORE so does SORT.
    reads = name in READS or (name == b"GETEX" and len(arguments) == 2)
    reads = reads or (name == b"SORT" and not _stores(arguments))
    once = name in WRITES and not reads and len(arguments) <= _ONCE_WORDS_MAX
    return Request(arguments, reads, name in _STATEFUL, once, waits_s=_waits_s(name, arguments))


def _stores(arguments: tuple[bytes, ...]) -> bool:
    """Whether a SORT has the option STORE; the name of a pattern may be the same word."""
    position = 2
    while position < len(arguments):
        option = arguments[position].upper()
        if option == b"STORE":
            return True
        position += _SORT_OPTION_WORDS.get(option, 1)
    return False


def _waits_s(name: bytes, arguments: tuple[bytes, ...]) -> float:
    """Return for how long a command may wait; 0 for one that never ends, or is malformed."""
    if len(arguments) < 2 or name not in _WAIT_LAST | _WAIT_FIRST:
        return 0.0
    try:
        seconds = float(arguments[1 if name in _WAIT_FIRST else -1])
    except ValueError:
        return 0.0
    return seconds if 0 < seconds < float("inf") else 0.0
