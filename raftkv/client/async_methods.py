"""The methods of the asynchronous client for single commands, one line each.

Owns only the wiring: a builder of client.commands becomes a method with its
arguments, its documentation and a result whose keys and values are `V`, bytes
or text. A test holds this list, the one of the blocking client and the one of
pipelines equal to the builders.

Pure: `run` is supplied by client.async_client.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from raftkv.client import commands
from raftkv.client.calls import Call
from raftkv.client.pipeline import method_of

P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V")


def _method(
    build: Callable[P, Call[T]],
) -> Callable[Concatenate[AsyncMethods[Any], P], Coroutine[Any, Any, T]]:
    """Return the method that sends what `build` makes."""

    async def run(self: AsyncMethods[Any], *arguments: P.args, **options: P.kwargs) -> T:
        return await self.run(build(*arguments, **options))

    method: Callable[Concatenate[AsyncMethods[Any], P], Coroutine[Any, Any, T]] = method_of(
        build, run
    )
    return method


def _value(
    build: Callable[P, Call[bytes | None]],
) -> Callable[Concatenate[AsyncMethods[V], P], Coroutine[Any, Any, V | None]]:
    """As `_method`, for a value that may be missing."""
    method: Any = _method(build)
    typed: Callable[Concatenate[AsyncMethods[V], P], Coroutine[Any, Any, V | None]] = method
    return typed


def _text(
    build: Callable[P, Call[bytes]],
) -> Callable[Concatenate[AsyncMethods[V], P], Coroutine[Any, Any, V]]:
    """As `_method`, for a value that is always there."""
    method: Any = _method(build)
    typed: Callable[Concatenate[AsyncMethods[V], P], Coroutine[Any, Any, V]] = method
    return typed


def _values(
    build: Callable[P, Call[list[bytes | None]]],
) -> Callable[Concatenate[AsyncMethods[V], P], Coroutine[Any, Any, list[V | None]]]:
    """As `_method`, for values that may be missing."""
    method: Any = _method(build)
    typed: Callable[Concatenate[AsyncMethods[V], P], Coroutine[Any, Any, list[V | None]]] = method
    return typed


def _texts(
    build: Callable[P, Call[list[bytes]]],
) -> Callable[Concatenate[AsyncMethods[V], P], Coroutine[Any, Any, list[V]]]:
    """As `_method`, for keys."""
    method: Any = _method(build)
    typed: Callable[Concatenate[AsyncMethods[V], P], Coroutine[Any, Any, list[V]]] = method
    return typed


def _page(
    build: Callable[P, Call[tuple[int, list[bytes]]]],
) -> Callable[Concatenate[AsyncMethods[V], P], Coroutine[Any, Any, tuple[int, list[V]]]]:
    """As `_method`, for a cursor and keys."""
    method: Any = _method(build)
    typed: Callable[Concatenate[AsyncMethods[V], P], Coroutine[Any, Any, tuple[int, list[V]]]] = (
        method
    )
    return typed


class AsyncMethods(Generic[V]):
    """One method a command; keys and values come back as `V`."""

    @abstractmethod
    async def run(self, call: Call[T]) -> T:
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
