"""The methods of the blocking client for single commands, one line each.

Owns only the wiring: a builder of client.commands becomes a method with its
arguments, its documentation and a result whose keys and values are `V`, bytes
or text. A test holds this list, the one of the asynchronous client and the one of
pipelines equal to the builders.

Pure: `run` is supplied by client.sync_client.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from raftkv.client import collection_commands, commands, lease_commands, revision_commands
from raftkv.client.calls import Call
from raftkv.client.pipeline import method_of

P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V")


def _method(
    build: Callable[P, Call[T]],
) -> Callable[Concatenate[SyncMethods[Any], P], T]:
    """Return the method that sends what `build` makes."""

    def run(self: SyncMethods[Any], *arguments: P.args, **options: P.kwargs) -> T:
        return self.run(build(*arguments, **options))

    method: Callable[Concatenate[SyncMethods[Any], P], T] = method_of(build, run)
    return method


def _value(
    build: Callable[P, Call[bytes | None]],
) -> Callable[Concatenate[SyncMethods[V], P], V | None]:
    """As `_method`, for a value that may be missing."""
    method: Any = _method(build)
    typed: Callable[Concatenate[SyncMethods[V], P], V | None] = method
    return typed


def _text(
    build: Callable[P, Call[bytes]],
) -> Callable[Concatenate[SyncMethods[V], P], V]:
    """As `_method`, for a value that is always there."""
    method: Any = _method(build)
    typed: Callable[Concatenate[SyncMethods[V], P], V] = method
    return typed


def _values(
    build: Callable[P, Call[list[bytes | None]]],
) -> Callable[Concatenate[SyncMethods[V], P], list[V | None]]:
    """As `_method`, for values that may be missing."""
    method: Any = _method(build)
    typed: Callable[Concatenate[SyncMethods[V], P], list[V | None]] = method
    return typed


def _texts(
    build: Callable[P, Call[list[bytes]]],
) -> Callable[Concatenate[SyncMethods[V], P], list[V]]:
    """As `_method`, for keys."""
    method: Any = _method(build)
    typed: Callable[Concatenate[SyncMethods[V], P], list[V]] = method
    return typed


def _page(
    build: Callable[P, Call[tuple[int, list[bytes]]]],
) -> Callable[Concatenate[SyncMethods[V], P], tuple[int, list[V]]]:
    """As `_method`, for a cursor and keys."""
    method: Any = _method(build)
    typed: Callable[Concatenate[SyncMethods[V], P], tuple[int, list[V]]] = method
    return typed


def _fields(
    build: Callable[P, Call[dict[bytes, bytes]]],
) -> Callable[Concatenate[SyncMethods[V], P], dict[V, V]]:
    """As `_method`, for fields and values."""
    method: Any = _method(build)
    typed: Callable[Concatenate[SyncMethods[V], P], dict[V, V]] = method
    return typed


def _members(
    build: Callable[P, Call[set[bytes]]],
) -> Callable[Concatenate[SyncMethods[V], P], set[V]]:
    """As `_method`, for members."""
    method: Any = _method(build)
    typed: Callable[Concatenate[SyncMethods[V], P], set[V]] = method
    return typed


def _scored(
    build: Callable[P, Call[list[tuple[bytes, float]]]],
) -> Callable[Concatenate[SyncMethods[V], P], list[tuple[V, float]]]:
    """As `_method`, for members and scores."""
    method: Any = _method(build)
    typed: Callable[Concatenate[SyncMethods[V], P], list[tuple[V, float]]] = method
    return typed


def _popped(
    build: Callable[P, Call[tuple[bytes, bytes] | None]],
) -> Callable[Concatenate[SyncMethods[V], P], tuple[V, V] | None]:
    """As `_method`, for a key and an element of it that may be missing."""
    method: Any = _method(build)
    typed: Callable[Concatenate[SyncMethods[V], P], tuple[V, V] | None] = method
    return typed


def _popped_member(
    build: Callable[P, Call[tuple[bytes, bytes, float] | None]],
) -> Callable[Concatenate[SyncMethods[V], P], tuple[V, V, float] | None]:
    """As `_method`, for a key and a member of it with its score that may be missing."""
    method: Any = _method(build)
    typed: Callable[Concatenate[SyncMethods[V], P], tuple[V, V, float] | None] = method
    return typed


def _fields_page(
    build: Callable[P, Call[tuple[int, dict[bytes, bytes]]]],
) -> Callable[Concatenate[SyncMethods[V], P], tuple[int, dict[V, V]]]:
    """As `_method`, for a cursor, fields and values."""
    method: Any = _method(build)
    typed: Callable[Concatenate[SyncMethods[V], P], tuple[int, dict[V, V]]] = method
    return typed


def _scored_page(
    build: Callable[P, Call[tuple[int, list[tuple[bytes, float]]]]],
) -> Callable[Concatenate[SyncMethods[V], P], tuple[int, list[tuple[V, float]]]]:
    """As `_method`, for a cursor, members and scores."""
    method: Any = _method(build)
    typed: Callable[Concatenate[SyncMethods[V], P], tuple[int, list[tuple[V, float]]]] = method
    return typed


class SyncMethods(Generic[V]):
    """One method a command; keys and values come back as `V`."""

    @abstractmethod
    def run(self, call: Call[T]) -> T:
        """Send a call and return its result."""

    set = _method(commands.build_set)
    set_get = _value(commands.build_set_get)
    get = _value(commands.build_get)
    getdel = _value(commands.build_getdel)
    getex = _value(commands.build_getex)
    getset = _value(commands.build_getset)
    setnx = _method(commands.build_setnx)
    setex = _method(commands.build_setex)
    psetex = _method(commands.build_psetex)
    mget = _values(commands.build_mget)
    mset = _method(commands.build_mset)
    msetnx = _method(commands.build_msetnx)
    strlen = _method(commands.build_strlen)
    append = _method(commands.build_append)
    getrange = _text(commands.build_getrange)
    substr = _text(commands.build_substr)
    setrange = _method(commands.build_setrange)
    incr = _method(commands.build_incr)
    decr = _method(commands.build_decr)
    incrby = _method(commands.build_incrby)
    decrby = _method(commands.build_decrby)
    incrbyfloat = _method(commands.build_incrbyfloat)
    delete = _method(commands.build_delete)
    delex = _method(commands.build_delex)
    unlink = _method(commands.build_unlink)
    exists = _method(commands.build_exists)
    touch = _method(commands.build_touch)
    expire = _method(commands.build_expire)
    pexpire = _method(commands.build_pexpire)
    expireat = _method(commands.build_expireat)
    pexpireat = _method(commands.build_pexpireat)
    ttl = _method(commands.build_ttl)
    pttl = _method(commands.build_pttl)
    expiretime = _method(commands.build_expiretime)
    pexpiretime = _method(commands.build_pexpiretime)
    persist = _method(commands.build_persist)
    type = _method(commands.build_type)
    keys = _texts(commands.build_keys)
    scan = _page(commands.build_scan)
    randomkey = _value(commands.build_randomkey)
    get_revision = _method(revision_commands.build_get_revision)
    range_page = _method(revision_commands.build_range_page)
    range_count = _method(revision_commands.build_range_count)
    history = _method(revision_commands.build_history)
    staleness = _method(commands.build_staleness)
    rename = _method(commands.build_rename)
    renamenx = _method(commands.build_renamenx)
    copy = _method(commands.build_copy)
    dbsize = _method(commands.build_dbsize)
    flushdb = _method(commands.build_flushdb)
    flushall = _method(commands.build_flushall)
    ping = _text(commands.build_ping)
    echo = _text(commands.build_echo)
    time = _method(commands.build_time)
    info = _method(commands.build_info)
    hset = _method(collection_commands.build_hset)
    hsetnx = _method(collection_commands.build_hsetnx)
    hget = _value(collection_commands.build_hget)
    hmget = _values(collection_commands.build_hmget)
    hgetall = _fields(collection_commands.build_hgetall)
    hdel = _method(collection_commands.build_hdel)
    hexists = _method(collection_commands.build_hexists)
    hlen = _method(collection_commands.build_hlen)
    hkeys = _texts(collection_commands.build_hkeys)
    hvals = _texts(collection_commands.build_hvals)
    hincrby = _method(collection_commands.build_hincrby)
    hincrbyfloat = _method(collection_commands.build_hincrbyfloat)
    hscan = _fields_page(collection_commands.build_hscan)
    lpush = _method(collection_commands.build_lpush)
    rpush = _method(collection_commands.build_rpush)
    lpop = _value(collection_commands.build_lpop)
    rpop = _value(collection_commands.build_rpop)
    llen = _method(collection_commands.build_llen)
    lrange = _texts(collection_commands.build_lrange)
    lindex = _value(collection_commands.build_lindex)
    lset = _method(collection_commands.build_lset)
    lrem = _method(collection_commands.build_lrem)
    ltrim = _method(collection_commands.build_ltrim)
    lmove = _value(collection_commands.build_lmove)
    blpop = _popped(collection_commands.build_blpop)
    brpop = _popped(collection_commands.build_brpop)
    blmove = _value(collection_commands.build_blmove)
    lpos = _method(collection_commands.build_lpos)
    sadd = _method(collection_commands.build_sadd)
    srem = _method(collection_commands.build_srem)
    sismember = _method(collection_commands.build_sismember)
    smismember = _method(collection_commands.build_smismember)
    smembers = _members(collection_commands.build_smembers)
    scard = _method(collection_commands.build_scard)
    spop = _value(collection_commands.build_spop)
    srandmember = _value(collection_commands.build_srandmember)
    smove = _method(collection_commands.build_smove)
    sinter = _members(collection_commands.build_sinter)
    sunion = _members(collection_commands.build_sunion)
    sdiff = _members(collection_commands.build_sdiff)
    sscan = _page(collection_commands.build_sscan)
    zadd = _method(collection_commands.build_zadd)
    zincrby = _method(collection_commands.build_zincrby)
    zrem = _method(collection_commands.build_zrem)
    zscore = _method(collection_commands.build_zscore)
    zmscore = _method(collection_commands.build_zmscore)
    zcard = _method(collection_commands.build_zcard)
    zcount = _method(collection_commands.build_zcount)
    zrank = _method(collection_commands.build_zrank)
    zrange = _scored(collection_commands.build_zrange)
    bzpopmin = _popped_member(collection_commands.build_bzpopmin)
    bzpopmax = _popped_member(collection_commands.build_bzpopmax)
    zpopmin = _scored(collection_commands.build_zpopmin)
    zpopmax = _scored(collection_commands.build_zpopmax)
    zremrangebyscore = _method(collection_commands.build_zremrangebyscore)
    zscan = _scored_page(collection_commands.build_zscan)
    setbit = _method(collection_commands.build_setbit)
    getbit = _method(collection_commands.build_getbit)
    bitcount = _method(collection_commands.build_bitcount)
    lease_grant = _method(lease_commands.build_lease_grant)
    lease_keepalive = _method(lease_commands.build_lease_keepalive)
    lease_revoke = _method(lease_commands.build_lease_revoke)
    lease_ttl = _method(lease_commands.build_lease_ttl)
    lease_list = _method(lease_commands.build_lease_list)
    lease_attach = _method(lease_commands.build_lease_attach)
    lease_detach = _method(lease_commands.build_lease_detach)
