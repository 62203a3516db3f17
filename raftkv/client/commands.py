"""One typed builder for each command: arguments in, a `Call` out.

Owns names and order of arguments and their documentation, shared by the
synchronous client, the asynchronous client and pipelines: a builder `build_x`
becomes the method `x` of each. Owns no I/O and no retry.

Options that exclude each other are for the server to refuse, with the texts of
Redis; only what cannot be sent at all raises here.

Source: names, arguments and replies are documented at redis.io/commands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from raftkv.client.calls import Call, request_of
from raftkv.client.protocol import Argument, encode_arguments
from raftkv.client.replies import (
    to_bytes,
    to_decimal,
    to_info,
    to_integer,
    to_list,
    to_name,
    to_nothing,
    to_optional,
    to_optional_integer,
    to_optional_list,
    to_page,
    to_seconds,
    to_truth,
    to_was_set,
)

T = TypeVar("T")
Text = bytes | bytearray | memoryview | str


def make_call(
    convert: Callable[[Any], T], *arguments: Argument, holds_text: bool = False
) -> Call[T]:
    """Return the call of a command; see `Call` for `convert` and `holds_text`."""
    return Call(request_of(encode_arguments(arguments)), convert, holds_text)


def _keys(name: str, keys: tuple[Text, ...]) -> tuple[Argument, ...]:
    if not keys:
        raise ValueError(f"{name} needs at least one key")
    return (name, *keys)


# ------------------------------------------------------------ any command


def _same(reply: Any) -> Any:
    return reply


def build_execute(*arguments: Argument) -> Call[Any]:
    """Send any command and return its reply unconverted.

    Args:
        arguments: Name and arguments. A command that this client does not know
            as a read is treated as a write: it is never sent twice.
    """
    if not arguments:
        raise ValueError("the name of a command is missing")
    return make_call(_same, *arguments, holds_text=True)


# ---------------------------------------------------------------- strings


def _expiry(ex: int | None, px: int | None, exat: int | None, pxat: int | None) -> list[Argument]:
    """Return the option for a time to live; more than one is for the server to refuse."""
    options: list[Argument] = []
    for name, value in (("EX", ex), ("PX", px), ("EXAT", exat), ("PXAT", pxat)):
        if value is not None:
            options += [name, value]
    return options


def _set_options(
    ex: int | None, px: int | None, exat: int | None, pxat: int | None,
    nx: bool, xx: bool, keepttl: bool, ifeq: Argument | None, ifne: Argument | None,
) -> list[Argument]:  # fmt: skip
    flags = (("NX", nx), ("XX", xx), ("KEEPTTL", keepttl))
    options = _expiry(ex, px, exat, pxat) + [name for name, wanted in flags if wanted]
    return options + _condition(ifeq, ifne)


def _condition(ifeq: Argument | None, ifne: Argument | None) -> list[Argument]:
    """Return the options for a condition on the value."""
    options: list[Argument] = []
    for name, value in (("IFEQ", ifeq), ("IFNE", ifne)):
        if value is not None:
            options += [name, value]
    return options


def build_set(
    key: Text, value: Argument, *,
    ex: int | None = None, px: int | None = None,
    exat: int | None = None, pxat: int | None = None,
    nx: bool = False, xx: bool = False, keepttl: bool = False,
    ifeq: Argument | None = None, ifne: Argument | None = None, lease: int | None = None,
) -> Call[bool]:  # fmt: skip
    """Set a key to a value.

    Args:
        key: Name of the key.
        value: Any bytes, text or number.
        ex: Seconds to live.
        px: Milliseconds to live.
        exat: Unix time in seconds at which the key dies.
        pxat: Unix time in milliseconds at which the key dies.
        nx: Only if the key does not exist.
        xx: Only if the key exists.
        keepttl: Keep the time to live that the key has.
        ifeq: Only if the key holds this string.
        ifne: Only if the key does not hold this string, or does not exist.
        lease: Id of a lease to bind the key to.

    Returns:
        False when a condition kept it from being set.
    """
    options = _set_options(ex, px, exat, pxat, nx, xx, keepttl, ifeq, ifne)
    if lease is not None:
        return make_call(to_was_set, "KV", "SET", key, value, "LEASE", lease, *options)
    return make_call(to_was_set, "SET", key, value, *options)


def build_set_get(
    key: Text, value: Argument, *,
    ex: int | None = None, px: int | None = None,
    exat: int | None = None, pxat: int | None = None,
    nx: bool = False, xx: bool = False, keepttl: bool = False,
    ifeq: Argument | None = None, ifne: Argument | None = None,
) -> Call[bytes | None]:  # fmt: skip
    """Set a key as `set` does and return the value it had (SET with GET).

    Returns:
        The value before, or None where there was none.
    """
    options = _set_options(ex, px, exat, pxat, nx, xx, keepttl, ifeq, ifne)
    return make_call(to_optional, "SET", key, value, *options, "GET", holds_text=True)


def build_get(key: Text) -> Call[bytes | None]:
    """Return the value of a key, or None."""
    return make_call(to_optional, "GET", key, holds_text=True)


def build_getdel(key: Text) -> Call[bytes | None]:
    """Return the value of a key and delete it."""
    return make_call(to_optional, "GETDEL", key, holds_text=True)


def build_getex(
    key: Text, *,
    ex: int | None = None, px: int | None = None,
    exat: int | None = None, pxat: int | None = None, persist: bool = False,
) -> Call[bytes | None]:  # fmt: skip
    """Return the value of a key and change its time to live, as in `set`."""
    options = _expiry(ex, px, exat, pxat) + (["PERSIST"] if persist else [])
    return make_call(to_optional, "GETEX", key, *options, holds_text=True)


def build_getset(key: Text, value: Argument) -> Call[bytes | None]:
    """Set a key and return the value it had."""
    return make_call(to_optional, "GETSET", key, value, holds_text=True)


def build_setnx(key: Text, value: Argument) -> Call[bool]:
    """Set a key only if it does not exist; False if it did."""
    return make_call(to_truth, "SETNX", key, value)


def build_setex(key: Text, seconds: int, value: Argument) -> Call[None]:
    """Set a key that lives for some seconds."""
    return make_call(to_nothing, "SETEX", key, seconds, value)


def build_psetex(key: Text, milliseconds: int, value: Argument) -> Call[None]:
    """Set a key that lives for some milliseconds."""
    return make_call(to_nothing, "PSETEX", key, milliseconds, value)


def build_mget(*keys: Text) -> Call[list[bytes | None]]:
    """Return the values of several keys at one moment, None for each missing one."""
    return make_call(to_optional_list, *_keys("MGET", keys), holds_text=True)


def _pairs(name: str, mapping: Mapping[Any, Argument]) -> list[Argument]:
    if not mapping:
        raise ValueError(f"{name} needs at least one key")
    arguments: list[Argument] = [name]
    for key, value in mapping.items():
        arguments += [key, value]
    return arguments


def build_mset(mapping: Mapping[Any, Argument]) -> Call[None]:
    """Set several keys at one moment."""
    return make_call(to_nothing, *_pairs("MSET", mapping))


def build_msetnx(mapping: Mapping[Any, Argument]) -> Call[bool]:
    """Set several keys at one moment, only if none of them exists."""
    return make_call(to_truth, *_pairs("MSETNX", mapping))


def build_strlen(key: Text) -> Call[int]:
    """Return the size of a value in bytes; 0 for a missing key."""
    return make_call(to_integer, "STRLEN", key)


def build_append(key: Text, value: Argument) -> Call[int]:
    """Append to a value and return its size in bytes."""
    return make_call(to_integer, "APPEND", key, value)


def build_getrange(key: Text, first: int, last: int) -> Call[bytes]:
    """Return the bytes of a value from `first` to `last`, both inclusive; negative from the end."""
    return make_call(to_bytes, "GETRANGE", key, first, last, holds_text=True)


def build_substr(key: Text, first: int, last: int) -> Call[bytes]:
    """Return what `getrange` returns, under its old name."""
    return make_call(to_bytes, "SUBSTR", key, first, last, holds_text=True)


def build_setrange(key: Text, position: int, value: Argument) -> Call[int]:
    """Overwrite a value from a position on and return its size in bytes."""
    return make_call(to_integer, "SETRANGE", key, position, value)


def build_incr(key: Text, amount: int = 1) -> Call[int]:
    """Add to a number and return it; a missing key counts as 0."""
    if amount == 1:
        return make_call(to_integer, "INCR", key)
    return make_call(to_integer, "INCRBY", key, amount)


def build_decr(key: Text, amount: int = 1) -> Call[int]:
    """Subtract from a number and return it; a missing key counts as 0."""
    if amount == 1:
        return make_call(to_integer, "DECR", key)
    return make_call(to_integer, "DECRBY", key, amount)


def build_incrby(key: Text, amount: int) -> Call[int]:
    """Add `amount` to a number and return it."""
    return make_call(to_integer, "INCRBY", key, amount)


def build_decrby(key: Text, amount: int) -> Call[int]:
    """Subtract `amount` from a number and return it."""
    return make_call(to_integer, "DECRBY", key, amount)


def build_incrbyfloat(key: Text, amount: float | str) -> Call[float]:
    """Add `amount` to a decimal number and return it."""
    return make_call(to_decimal, "INCRBYFLOAT", key, amount)


# --------------------------------------------------------------- any key


def build_delete(*keys: Text) -> Call[int]:
    """Delete keys and return how many existed (DEL)."""
    return make_call(to_integer, *_keys("DEL", keys))


def build_delex(
    key: Text, *, ifeq: Argument | None = None, ifne: Argument | None = None
) -> Call[bool]:
    """Delete a key if it holds (`ifeq`), or does not hold (`ifne`), a string; say if it was."""
    return make_call(to_truth, "DELEX", key, *_condition(ifeq, ifne))


def build_unlink(*keys: Text) -> Call[int]:
    """Delete keys and return how many existed; memory is freed bit by bit."""
    return make_call(to_integer, *_keys("UNLINK", keys))


def build_exists(*keys: Text) -> Call[int]:
    """Return how many of the keys exist; one named twice counts twice."""
    return make_call(to_integer, *_keys("EXISTS", keys))


def build_touch(*keys: Text) -> Call[int]:
    """Return how many of the keys exist."""
    return make_call(to_integer, *_keys("TOUCH", keys))


def _expire(
    name: str, key: Text, amount: int, conditions: tuple[bool, bool, bool, bool]
) -> Call[bool]:
    words = [
        word for word, wanted in zip(("NX", "XX", "GT", "LT"), conditions, strict=True) if wanted
    ]
    return make_call(to_truth, name, key, amount, *words)


def build_expire(
    key: Text, seconds: int, *,
    nx: bool = False, xx: bool = False, gt: bool = False, lt: bool = False,
) -> Call[bool]:  # fmt: skip
    """Let a key die after some seconds.

    Args:
        key: Name of the key.
        seconds: Time to live from now; zero or less deletes the key at once.
        nx: Only if it has no time to live.
        xx: Only if it has one.
        gt: Only if that makes it live longer.
        lt: Only if that makes it live shorter.

    Returns:
        False when the key is missing or the condition does not hold.
    """
    return _expire("EXPIRE", key, seconds, (nx, xx, gt, lt))


def build_pexpire(
    key: Text, milliseconds: int, *,
    nx: bool = False, xx: bool = False, gt: bool = False, lt: bool = False,
) -> Call[bool]:  # fmt: skip
    """Let a key die after some milliseconds; conditions as in `expire`."""
    return _expire("PEXPIRE", key, milliseconds, (nx, xx, gt, lt))


def build_expireat(
    key: Text, unix_seconds: int, *,
    nx: bool = False, xx: bool = False, gt: bool = False, lt: bool = False,
) -> Call[bool]:  # fmt: skip
    """Let a key die at a Unix time in seconds; conditions as in `expire`."""
    return _expire("EXPIREAT", key, unix_seconds, (nx, xx, gt, lt))


def build_pexpireat(
    key: Text, unix_milliseconds: int, *,
    nx: bool = False, xx: bool = False, gt: bool = False, lt: bool = False,
) -> Call[bool]:  # fmt: skip
    """Let a key die at a Unix time in milliseconds; conditions as in `expire`."""
    return _expire("PEXPIREAT", key, unix_milliseconds, (nx, xx, gt, lt))


def build_ttl(key: Text) -> Call[int]:
    """Return the seconds a key has to live; -1 for ever, -2 if it is missing."""
    return make_call(to_integer, "TTL", key)


def build_pttl(key: Text) -> Call[int]:
    """Return the milliseconds a key has to live; -1 for ever, -2 if it is missing."""
    return make_call(to_integer, "PTTL", key)


def build_expiretime(key: Text) -> Call[int]:
    """Return the Unix time in seconds at which a key dies; -1 never, -2 if it is missing."""
    return make_call(to_integer, "EXPIRETIME", key)


def build_pexpiretime(key: Text) -> Call[int]:
    """Return the Unix time in milliseconds at which a key dies; -1 never, -2 if missing."""
    return make_call(to_integer, "PEXPIRETIME", key)


def build_persist(key: Text) -> Call[bool]:
    """Let a key live for ever; False if it is missing or did so already."""
    return make_call(to_truth, "PERSIST", key)


def build_type(key: Text) -> Call[str]:
    """Return the kind of value a key has, or `none`."""
    return make_call(to_name, "TYPE", key)


def build_keys(pattern: Text = "*") -> Call[list[bytes]]:
    """Return all keys that match a pattern, at one moment; `scan` is gentler."""
    return make_call(to_list, "KEYS", pattern, holds_text=True)


def build_scan(
    cursor: int = 0, *, match: Text | None = None, count: int | None = None,
    kind: str | None = None,
) -> Call[tuple[int, list[bytes]]]:  # fmt: skip
    """Return one page of keys; `scan_iter` turns the pages.

    Args:
        cursor: 0 at first, then what the page before returned.
        match: Pattern that the keys must match.
        count: How many keys to look at, about.
        kind: Kind of value that the keys must have, such as `string`.

    Returns:
        The cursor of the next page, 0 at the end, and the keys of this one.
    """
    options: list[Argument] = []
    if match is not None:
        options += ["MATCH", match]
    if count is not None:
        options += ["COUNT", count]
    if kind is not None:
        options += ["TYPE", kind]
    return make_call(to_page, "SCAN", cursor, *options, holds_text=True)


def build_randomkey() -> Call[bytes | None]:
    """Return one of the keys, or None where there is none."""
    return make_call(to_optional, "RANDOMKEY", holds_text=True)


def build_rename(source: Text, target: Text) -> Call[None]:
    """Give a key another name, over whatever has that name."""
    return make_call(to_nothing, "RENAME", source, target)


def build_renamenx(source: Text, target: Text) -> Call[bool]:
    """Give a key another name, unless something has that name."""
    return make_call(to_truth, "RENAMENX", source, target)


def build_copy(source: Text, target: Text, *, replace: bool = False) -> Call[bool]:
    """Copy a value with its time to live; False if `target` exists and is not replaced."""
    return make_call(to_truth, "COPY", source, target, *(["REPLACE"] if replace else []))


def build_staleness() -> Call[int | None]:
    """Return how old, in ms, what the asked node has is at most; None if nobody knows.

    In front of reads in a pipeline of `reading(level)` it says so of what they return.
    """
    return make_call(to_optional_integer, "RAFT", "STALENESS")


def build_dbsize() -> Call[int]:
    """Return the number of keys."""
    return make_call(to_integer, "DBSIZE")


def build_flushdb() -> Call[None]:
    """Delete all keys."""
    return make_call(to_nothing, "FLUSHDB")


def build_flushall() -> Call[None]:
    """Delete all keys."""
    return make_call(to_nothing, "FLUSHALL")


# ---------------------------------------------------------------- server


def build_ping(message: Text | None = None) -> Call[bytes]:
    """Return `PONG`, or the message, from a node that is up."""
    return make_call(to_bytes, "PING", *(() if message is None else (message,)),
                 holds_text=True)  # fmt: skip


def build_echo(message: Text) -> Call[bytes]:
    """Return the message."""
    return make_call(to_bytes, "ECHO", message, holds_text=True)


def build_time() -> Call[float]:
    """Return the wall clock of a node in seconds since the Unix epoch."""
    return make_call(to_seconds, "TIME")


def build_info(section: str | None = None) -> Call[dict[str, str]]:
    """Return the fields of INFO, of one section or of the default ones."""
    return make_call(to_info, "INFO", *(() if section is None else (section,)))
