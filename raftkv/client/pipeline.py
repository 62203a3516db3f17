"""Commands gathered to be sent together, with the same methods as the clients.

Owns the list of gathered calls; the shells add `execute`, which sends them.
A pipeline saves round trips; it is no transaction: other clients' commands may
take effect in between, and each command succeeds or fails by itself.

Not thread-safe: a pipeline belongs to the caller that made it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from raftkv.client import collection_commands, commands, lease_commands, revision_commands
from raftkv.client.calls import Call
from raftkv.client.protocol import Argument
from raftkv.errors import RaftKvError

P = ParamSpec("P")
PipelineT = TypeVar("PipelineT", bound="Commands")


def method_of(build: Callable[..., Any], run: Callable[..., Any]) -> Any:
    """Give `run` the name and the documentation of a builder."""
    name = build.__name__.removeprefix("build_")
    run.__name__ = name
    run.__qualname__ = name
    run.__doc__ = build.__doc__
    return run


def _gather(build: Callable[P, Call[Any]]) -> Callable[Concatenate[PipelineT, P], PipelineT]:
    """Return a method that appends what `build` makes."""

    def run(self: PipelineT, *arguments: P.args, **options: P.kwargs) -> PipelineT:
        self.calls.append(build(*arguments, **options))
        return self

    method: Callable[Concatenate[PipelineT, P], PipelineT] = method_of(build, run)
    return method


def results_of(
    calls: list[Call[Any]], replies: list[object], *, decode: bool, raise_first: bool
) -> list[Any]:
    """Return one result a call; an error stands in the place of its result.

    Raises:
        RaftKvError: The first error, if `raise_first`.
    """
    results: list[Any] = []
    for call, reply in zip(calls, replies, strict=True):
        try:
            results.append(call.result(reply, decode=decode))
        except RaftKvError as error:
            if raise_first:
                raise
            results.append(error)
    return results


class Commands:
    """The gathering half of a pipeline; every method returns the pipeline itself."""

    def __init__(self) -> None:
        self.calls: list[Call[Any]] = []

    def __len__(self) -> int:
        return len(self.calls)

    def take_calls(self) -> list[Call[Any]]:
        """Return the gathered calls and forget them."""
        taken, self.calls = self.calls, []
        return taken

    def command(self: PipelineT, *arguments: Argument) -> PipelineT:
        """Add any command; its reply is returned unconverted."""
        self.calls.append(commands.build_execute(*arguments))
        return self

    set = _gather(commands.build_set)
    set_get = _gather(commands.build_set_get)
    get = _gather(commands.build_get)
    getdel = _gather(commands.build_getdel)
    getex = _gather(commands.build_getex)
    getset = _gather(commands.build_getset)
    setnx = _gather(commands.build_setnx)
    setex = _gather(commands.build_setex)
    psetex = _gather(commands.build_psetex)
    mget = _gather(commands.build_mget)
    mset = _gather(commands.build_mset)
    msetnx = _gather(commands.build_msetnx)
    strlen = _gather(commands.build_strlen)
    append = _gather(commands.build_append)
    getrange = _gather(commands.build_getrange)
    substr = _gather(commands.build_substr)
    setrange = _gather(commands.build_setrange)
    incr = _gather(commands.build_incr)
    decr = _gather(commands.build_decr)
    incrby = _gather(commands.build_incrby)
    decrby = _gather(commands.build_decrby)
    incrbyfloat = _gather(commands.build_incrbyfloat)
    delete = _gather(commands.build_delete)
    delex = _gather(commands.build_delex)
    unlink = _gather(commands.build_unlink)
    exists = _gather(commands.build_exists)
    touch = _gather(commands.build_touch)
    expire = _gather(commands.build_expire)
    pexpire = _gather(commands.build_pexpire)
    expireat = _gather(commands.build_expireat)
    pexpireat = _gather(commands.build_pexpireat)
    ttl = _gather(commands.build_ttl)
    pttl = _gather(commands.build_pttl)
    expiretime = _gather(commands.build_expiretime)
    pexpiretime = _gather(commands.build_pexpiretime)
    persist = _gather(commands.build_persist)
    type = _gather(commands.build_type)
    keys = _gather(commands.build_keys)
    scan = _gather(commands.build_scan)
    randomkey = _gather(commands.build_randomkey)
    get_revision = _gather(revision_commands.build_get_revision)
    range_page = _gather(revision_commands.build_range_page)
    range_count = _gather(revision_commands.build_range_count)
    history = _gather(revision_commands.build_history)
    staleness = _gather(commands.build_staleness)
    rename = _gather(commands.build_rename)
    renamenx = _gather(commands.build_renamenx)
    copy = _gather(commands.build_copy)
    dbsize = _gather(commands.build_dbsize)
    flushdb = _gather(commands.build_flushdb)
    flushall = _gather(commands.build_flushall)
    ping = _gather(commands.build_ping)
    echo = _gather(commands.build_echo)
    time = _gather(commands.build_time)
    info = _gather(commands.build_info)
    hset = _gather(collection_commands.build_hset)
    hsetnx = _gather(collection_commands.build_hsetnx)
    hget = _gather(collection_commands.build_hget)
    hmget = _gather(collection_commands.build_hmget)
    hgetall = _gather(collection_commands.build_hgetall)
    hdel = _gather(collection_commands.build_hdel)
    hexists = _gather(collection_commands.build_hexists)
    hlen = _gather(collection_commands.build_hlen)
    hkeys = _gather(collection_commands.build_hkeys)
    hvals = _gather(collection_commands.build_hvals)
    hincrby = _gather(collection_commands.build_hincrby)
    hincrbyfloat = _gather(collection_commands.build_hincrbyfloat)
    hscan = _gather(collection_commands.build_hscan)
    lpush = _gather(collection_commands.build_lpush)
    rpush = _gather(collection_commands.build_rpush)
    lpop = _gather(collection_commands.build_lpop)
    rpop = _gather(collection_commands.build_rpop)
    llen = _gather(collection_commands.build_llen)
    lrange = _gather(collection_commands.build_lrange)
    lindex = _gather(collection_commands.build_lindex)
    lset = _gather(collection_commands.build_lset)
    lrem = _gather(collection_commands.build_lrem)
    ltrim = _gather(collection_commands.build_ltrim)
    lmove = _gather(collection_commands.build_lmove)
    blpop = _gather(collection_commands.build_blpop)
    brpop = _gather(collection_commands.build_brpop)
    blmove = _gather(collection_commands.build_blmove)
    lpos = _gather(collection_commands.build_lpos)
    sadd = _gather(collection_commands.build_sadd)
    srem = _gather(collection_commands.build_srem)
    sismember = _gather(collection_commands.build_sismember)
    smismember = _gather(collection_commands.build_smismember)
    smembers = _gather(collection_commands.build_smembers)
    scard = _gather(collection_commands.build_scard)
    spop = _gather(collection_commands.build_spop)
    srandmember = _gather(collection_commands.build_srandmember)
    smove = _gather(collection_commands.build_smove)
    sinter = _gather(collection_commands.build_sinter)
    sunion = _gather(collection_commands.build_sunion)
    sdiff = _gather(collection_commands.build_sdiff)
    sscan = _gather(collection_commands.build_sscan)
    zadd = _gather(collection_commands.build_zadd)
    zincrby = _gather(collection_commands.build_zincrby)
    zrem = _gather(collection_commands.build_zrem)
    zscore = _gather(collection_commands.build_zscore)
    zmscore = _gather(collection_commands.build_zmscore)
    zcard = _gather(collection_commands.build_zcard)
    zcount = _gather(collection_commands.build_zcount)
    zrank = _gather(collection_commands.build_zrank)
    zrange = _gather(collection_commands.build_zrange)
    bzpopmin = _gather(collection_commands.build_bzpopmin)
    bzpopmax = _gather(collection_commands.build_bzpopmax)
    zpopmin = _gather(collection_commands.build_zpopmin)
    zpopmax = _gather(collection_commands.build_zpopmax)
    zremrangebyscore = _gather(collection_commands.build_zremrangebyscore)
    zscan = _gather(collection_commands.build_zscan)
    setbit = _gather(collection_commands.build_setbit)
    getbit = _gather(collection_commands.build_getbit)
    bitcount = _gather(collection_commands.build_bitcount)
    lease_grant = _gather(lease_commands.build_lease_grant)
    lease_keepalive = _gather(lease_commands.build_lease_keepalive)
    lease_revoke = _gather(lease_commands.build_lease_revoke)
    lease_ttl = _gather(lease_commands.build_lease_ttl)
    lease_list = _gather(lease_commands.build_lease_list)
    lease_attach = _gather(lease_commands.build_lease_attach)
    lease_detach = _gather(lease_commands.build_lease_detach)
