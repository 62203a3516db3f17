"""What a call is: a request, what its reply means, and what may be done with it.

Owns the classification of commands (reads, and those that change their
connection) and the conversion of replies to Python values. Owns no names of
methods and no I/O.

Invariants: a command counts as a read only if it is in `READS`, and as a write that
the cluster can execute once only if it is in `WRITES`; anything else is treated as a
write that is never sent twice. Replies of
either protocol version are understood; one of an unexpected kind raises
`ProtocolError`.

Users: client.commands, client.pipeline and both shells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

from raftkv.client.policy import Request
from raftkv.client.protocol import decode_text
from raftkv.errors import ProtocolError, RequestError

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
_RAFT_READS = frozenset({b"STATUS", b"MEMBERS"})
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


def decoded(value: Any) -> Any:
    """Return `value` with all bytes inside turned into text."""
    if isinstance(value, bytes):
        return decode_text(value)
    if isinstance(value, list | tuple | set):
        return type(value)([decoded(item) for item in value])
    if isinstance(value, dict):
        return {decoded(key): decoded(item) for key, item in value.items()}
    return value


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


# ------------------------------------------------------------------ replies


def _unexpected(reply: object) -> ProtocolError:
    return ProtocolError(f"a reply of an unexpected kind: {reply!r:.200}")


def to_integer(reply: Any) -> int:
    """Take a number."""
    if isinstance(reply, int):
        return int(reply)
    raise _unexpected(reply)


def to_truth(reply: Any) -> bool:
    """Take a number as yes or no."""
    return to_integer(reply) != 0


def to_bytes(reply: Any) -> bytes:
    """Take bytes."""
    if isinstance(reply, bytes):
        return reply
    raise _unexpected(reply)


def to_optional(reply: Any) -> bytes | None:
    """Take bytes or nil."""
    return None if reply is None else to_bytes(reply)


def to_list(reply: Any) -> list[bytes]:
    """Take a list of bytes."""
    if isinstance(reply, list):
        return [to_bytes(item) for item in reply]
    raise _unexpected(reply)


def to_optional_list(reply: Any) -> list[bytes | None]:
    """Take a list of bytes and nils."""
    if isinstance(reply, list):
        return [to_optional(item) for item in reply]
    raise _unexpected(reply)


def to_name(reply: Any) -> str:
    """Take bytes as text."""
    return decode_text(to_bytes(reply))


def to_nothing(reply: Any) -> None:
    """Take a reply that only says that it is done."""
    to_bytes(reply)


def to_was_set(reply: Any) -> bool:
    """Take nil as no, anything else as yes."""
    return to_optional(reply) is not None


def to_decimal(reply: Any) -> float:
    """Take a decimal number."""
    return float(reply) if isinstance(reply, float | int) else float(to_bytes(reply))


def to_page(reply: Any) -> tuple[int, list[bytes]]:
    """Take a cursor and the keys of one page."""
    if isinstance(reply, list) and len(reply) == 2:
        return int(to_bytes(reply[0])), to_list(reply[1])
    raise _unexpected(reply)


def to_optional_integer(reply: Any) -> int | None:
    """Take a number or nil."""
    return None if reply is None else to_integer(reply)


def to_optional_decimal(reply: Any) -> float | None:
    """Take a decimal number or nil."""
    return None if reply is None else to_decimal(reply)


def _items(reply: Any) -> list[Any]:
    if isinstance(reply, list):
        return reply
    raise _unexpected(reply)


def to_optional_decimals(reply: Any) -> list[float | None]:
    """Take a list of decimal numbers and nils."""
    return [to_optional_decimal(item) for item in _items(reply)]


def to_truths(reply: Any) -> list[bool]:
    """Take a list of numbers as yes or no."""
    return [to_truth(item) for item in _items(reply)]


def to_members(reply: Any) -> set[bytes]:
    """Take a set of bytes, also where RESP2 made a list of it."""
    return set(to_list(reply))


def to_popped(reply: Any) -> tuple[bytes, bytes] | None:
    """Take a key and what was popped from it, or nil."""
    if reply is None:
        return None
    key, element = to_list(reply)
    return key, element


def to_popped_member(reply: Any) -> tuple[bytes, bytes, float] | None:
    """Take a key and the member and score that were popped from it, or nil."""
    if reply is None:
        return None
    key, member, score = _items(reply)
    return to_bytes(key), to_bytes(member), to_decimal(score)


def to_fields(reply: Any) -> dict[bytes, bytes]:
    """Take a map of bytes, also where RESP2 made a flat list of it."""
    if isinstance(reply, dict):
        return {to_bytes(field): to_bytes(value) for field, value in reply.items()}
    flat = to_list(reply)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def to_scores(reply: Any) -> list[tuple[bytes, float]]:
    """Take members and scores, in pairs or as the flat list of RESP2."""
    items = _items(reply)
    if items and isinstance(items[0], list):
        return [(to_bytes(member), to_decimal(score)) for member, score in items]
    return [
        (to_bytes(member), to_decimal(score))
        for member, score in zip(items[::2], items[1::2], strict=True)
    ]


def _page(reply: Any) -> tuple[int, Any]:
    if isinstance(reply, list) and len(reply) == 2:
        return int(to_bytes(reply[0])), reply[1]
    raise _unexpected(reply)


def to_fields_page(reply: Any) -> tuple[int, dict[bytes, bytes]]:
    """Take a cursor and the fields and values of one page."""
    cursor, items = _page(reply)
    return cursor, to_fields(items)


def to_scores_page(reply: Any) -> tuple[int, list[tuple[bytes, float]]]:
    """Take a cursor and the members and scores of one page."""
    cursor, items = _page(reply)
    return cursor, to_scores(items)


def to_seconds(reply: Any) -> float:
    """Take seconds and microseconds."""
    seconds, microseconds = to_list(reply)
    return int(seconds) + int(microseconds) / 1e6


def to_info(reply: Any) -> dict[str, str]:
    """Return the fields of an INFO text, without its section titles."""
    fields: dict[str, str] = {}
    for line in decode_text(to_bytes(reply)).splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            fields[name] = value
    return fields


def to_mapping(reply: Any) -> dict[str, Any]:
    """Return a map with text keys, also where RESP2 made a flat list of it."""
    if isinstance(reply, dict):
        pairs: Iterable[tuple[Any, Any]] = reply.items()
    elif isinstance(reply, list) and len(reply) % 2 == 0:
        pairs = zip(reply[::2], reply[1::2], strict=True)
    else:
        raise _unexpected(reply)
    return {decode_text(to_bytes(key)): decoded(value) for key, value in pairs}
