"""KV LEASE and KV SET: requests about leases to commands of the store.

All of them go through the log, those that only look, too: there lease time is that
of the moment. Times stay relative; limits go into the command, so that nodes with
other settings agree.

Pure functions; the layouts are in `kv.lease_commands`. Called by `handlers_kv`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.commands import Command, Opcode, ValueCondition
from raftkv.kv.leases import LEASE_ID_MAX, TTL_MS_MAX, TTL_MS_MIN
from raftkv.kv.numbers import parse_integer
from raftkv.server.handlers_strings import SYNTAX_ERROR, check_keys, parse_set

# Limit: ids on one page of KV LEASE LIST.
LIST_IDS_MAX: Final = 1000

HELP: Final = """LEASE GRANT <ttl-ms> [ID <id>]
    Grant a lease, to which keys can be bound, and return its id.
LEASE KEEPALIVE <id>
    Let a lease live for its whole time again and return the remaining milliseconds.
LEASE REVOKE <id>
    End a lease and the keys bound to it; return how many they were.
LEASE TTL <id> [KEYS]
    Describe a lease, with its keys; null if there is no such lease.
LEASE LIST [AFTER <id>] [COUNT <n>]
    Return the ids of leases in ascending order, a page at a time.
LEASE ATTACH <id> <key> [<key> ...]
    Bind keys to a lease and return how many of them exist.
LEASE DETACH <key> [<key> ...]
    Release keys and return how many had a lease.
SET <key> <value> LEASE <id> [<option> ...]
    Set a key, with the options of SET, and bind it to a lease in one step."""


def _grant(words: list[bytes], limits: Limits) -> Command:
    """GRANT ttl-ms [ID id]"""
    ttl_ms = parse_integer(words[1])
    if ttl_ms is None or not TTL_MS_MIN <= ttl_ms <= TTL_MS_MAX:
        raise CommandError(f"ERR a lease lives for {TTL_MS_MIN} to {TTL_MS_MAX} milliseconds")
    lease_id = None
    if len(words) > 2:
        if len(words) != 4 or words[2].upper() != b"ID":
            raise CommandError(SYNTAX_ERROR)
        lease_id = parse_lease_id(words[3])
    return (int(Opcode.LEASE_GRANT), ttl_ms, lease_id, limits.leases_max)


def _keep_alive(words: list[bytes], limits: Limits) -> Command:
    """KEEPALIVE id"""
    return (int(Opcode.LEASE_KEEPALIVE), parse_lease_id(words[1]))


def _revoke(words: list[bytes], limits: Limits) -> Command:
    """REVOKE id"""
    return (int(Opcode.LEASE_REVOKE), parse_lease_id(words[1]))


def _describe(words: list[bytes], limits: Limits) -> Command:
    """TTL id [KEYS]"""
    if len(words) == 3 and words[2].upper() != b"KEYS":
        raise CommandError(SYNTAX_ERROR)
    return (int(Opcode.LEASE_TTL), parse_lease_id(words[1]), int(len(words) == 3))


def _list(words: list[bytes], limits: Limits) -> Command:
    """LIST [AFTER id] [COUNT n]"""
    after_id, count = 0, LIST_IDS_MAX
    options = words[1:]
    if len(options) % 2:
        raise CommandError(SYNTAX_ERROR)
    for name, word in zip(options[::2], options[1::2], strict=True):
        if name.upper() == b"AFTER":
            after_id = parse_lease_id(word)
        elif name.upper() == b"COUNT":
            number = parse_integer(word)
            if number is None or number < 1:
                raise CommandError("ERR COUNT is a number from 1")
            count = min(number, LIST_IDS_MAX)
        else:
            raise CommandError(SYNTAX_ERROR)
    return (int(Opcode.LEASE_LIST), after_id, count)


def _attach(words: list[bytes], limits: Limits) -> Command:
    """ATTACH id key [key ...]"""
    lease_id = parse_lease_id(words[1])
    check_keys(words[2:], limits)
    return (int(Opcode.LEASE_ATTACH), lease_id, limits.lease_keys_max, *words[2:])


def _detach(words: list[bytes], limits: Limits) -> Command:
    """DETACH key [key ...]"""
    check_keys(words[1:], limits)
    return (int(Opcode.LEASE_DETACH), *words[1:])


_ANY: Final = 1 << 62
# Name: parser, fewest and most words behind KV LEASE.
_PARSERS: Final[dict[bytes, tuple[Callable[[list[bytes], Limits], Command], int, int]]] = {
    b"GRANT": (_grant, 2, 4),
    b"KEEPALIVE": (_keep_alive, 2, 2),
    b"REVOKE": (_revoke, 2, 2),
    b"TTL": (_describe, 2, 3),
    b"LIST": (_list, 1, 5),
    b"ATTACH": (_attach, 3, _ANY),
    b"DETACH": (_detach, 2, _ANY),
}


def parse_lease(arguments: list[bytes], limits: Limits) -> Command:
    """KV LEASE GRANT | KEEPALIVE | REVOKE | TTL | LIST | ATTACH | DETACH"""
    words = arguments[2:]
    parser = _PARSERS.get(words[0].upper())
    if parser is None:
        shown = words[0][:128].decode("utf-8", "replace")
        raise CommandError(f"ERR unknown subcommand '{shown}'. Try KV HELP.")
    parse, words_min, words_max = parser
    if not words_min <= len(words) <= words_max:
        name = words[0].decode().lower()
        raise CommandError(f"ERR wrong number of arguments for 'kv|lease|{name}' command")
    return parse(words, limits)


def parse_leased_set(arguments: list[bytes], limits: Limits) -> Command:
    """KV SET key value LEASE id [option of SET ...]"""
    _, _, key, value, word, lease_word, *options = arguments
    if word.upper() != b"LEASE":
        raise CommandError(SYNTAX_ERROR)
    lease_id = parse_lease_id(lease_word)
    opcode, *rest = parse_set([b"SET", key, value, *options], limits)
    if opcode == Opcode.SET:
        rest = [ValueCondition.ALWAYS, None, key, value, 0, None, None, b"set"]
    elif opcode == Opcode.SET_WITH:
        rest = [ValueCondition.ALWAYS, None, *rest]
    rest[0] = int(rest[0])
    return (int(Opcode.LEASE_SET), lease_id, limits.lease_keys_max, *rest)


def parse_lease_id(word: bytes) -> int:
    """Read the id of a lease.

    Raises:
        CommandError: It is none.
    """
    lease_id = parse_integer(word)
    if lease_id is None or not 1 <= lease_id <= LEASE_ID_MAX:
        raise CommandError(f"ERR the id of a lease is a number from 1 to {LEASE_ID_MAX}")
    return lease_id
