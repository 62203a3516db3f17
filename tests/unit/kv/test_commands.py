"""Opcodes are part of the log format: their numbers and traits are pinned here."""

from __future__ import annotations

from raftkv.kv import (
    bits,
    commands,
    expiry,
    families,
    generic,
    hashes,
    lease_commands,
    lists,
    once,
    ranges,
    revisions,
    scan,
    sets,
    sorted_algebra,
    sorted_ranges,
    sorted_sets,
    sorting,
    strings,
    transactions,
)
from raftkv.kv.commands import Opcode

# A number that appeared in a log once keeps its meaning. Rows are added, never changed.
NUMBERS = {
    "SET": 1, "SET_WITH": 2, "GET": 3, "MGET": 4, "MSET": 5, "MSETNX": 6, "GETSET": 7,
    "GETDEL": 8, "GETEX": 9, "STRLEN": 10, "APPEND": 11, "GETRANGE": 12, "SETRANGE": 13,
    "INCRBY": 14, "INCRBYFLOAT": 15, "SET_IF": 16, "DELEX": 17,
    "DEL": 50, "EXISTS": 51, "TYPE": 52, "RENAME": 53, "RENAMENX": 54, "COPY": 55,
    "OBJECT_ENCODING": 56, "OBJECT_FREQ": 57, "OBJECT_IDLETIME": 58, "OBJECT_REFCOUNT": 59,
    "OBJECT_HELP": 60, "MEMORY_USAGE": 61, "MEMORY_HELP": 62, "SORT": 63, "SORT_STORE": 64,
    "EXPIRE": 80, "PERSIST": 81, "TTL": 82, "PTTL": 83, "EXPIRETIME": 84, "PEXPIRETIME": 85,
    "EXPIRE_IF": 86,
    "KEYS": 100, "SCAN": 101, "RANDOMKEY": 102, "DBSIZE": 103, "FLUSH": 104,
    "COUNTKEYSINSLOT": 105, "CHECKPOINT": 106, "LIMIT_DATASET": 107,
    "HSET": 120, "HDEL": 121, "HINCRBY": 122, "HINCRBYFLOAT": 123, "HGET": 124, "HMGET": 125,
    "HGETALL": 126, "HKEYS": 127, "HVALS": 128, "HEXISTS": 129, "HLEN": 130, "HSTRLEN": 131,
    "HSCAN": 132, "HRANDFIELD": 133,
    "SADD": 150, "SREM": 151, "SPOP": 152, "SMOVE": 153, "SINTERSTORE": 154, "SUNIONSTORE": 155,
    "SDIFFSTORE": 156, "SISMEMBER": 157, "SMISMEMBER": 158, "SMEMBERS": 159, "SCARD": 160,
    "SRANDMEMBER": 161, "SSCAN": 162, "SINTER": 163, "SUNION": 164, "SDIFF": 165,
    "SINTERCARD": 166,
    "LIST_PUSH": 180, "LIST_POP": 181, "LMPOP": 182, "LMOVE": 183, "LSET": 184, "LINSERT": 185,
    "ZADD": 210, "ZREM": 211, "ZPOP": 212, "ZMPOP": 213, "ZREMRANGE": 214, "ZRANGESTORE": 215,
    "ZUNIONSTORE": 216, "ZINTERSTORE": 217, "ZDIFFSTORE": 218, "ZSCORE": 219, "ZMSCORE": 220,
    "ZCARD": 221, "ZRANK": 222, "ZSCAN": 223, "ZRANDMEMBER": 224, "ZRANGE": 225, "ZCOUNT": 226,
    "ZUNION": 227, "ZINTER": 228, "ZDIFF": 229, "ZINTERCARD": 230,
    "SETBIT": 250, "BITOP": 251, "BITFIELD": 252, "GETBIT": 253, "BITCOUNT": 254, "BITPOS": 255,
    "BITFIELD_RO": 256,
    "EXEC": 270, "TXN": 271, "REVISIONS": 272, "KV_GET": 273, "ANSWER": 274,
    "LEASE_GRANT": 300, "LEASE_KEEPALIVE": 301, "LEASE_REVOKE": 302, "LEASE_TTL": 303,
    "LEASE_LIST": 304, "LEASE_ATTACH": 305, "LEASE_DETACH": 306, "LEASE_SET": 307,
    "COMPACT": 275, "KV_GET_AT": 276, "KV_RANGE": 277, "HISTORY": 278,
    "ONCE": 310, "OUTCOME": 311, "SESSION_OPEN": 312, "SESSION_KEEPALIVE": 313,
    "SESSION_CLOSE": 314, "SESSION_INFO": 315, "SESSION_LIST": 316,
    "LREM": 186, "LTRIM": 187, "LLEN": 188, "LRANGE": 189, "LINDEX": 190, "LPOS": 191,
    "LIST_POP_FIRST": 192, "ZPOP_FIRST": 231,
}  # fmt: skip


def test_opcode_numbers_never_change() -> None:
    assert {opcode.name: opcode.value for opcode in Opcode} == NUMBERS


def test_flag_bits_never_change() -> None:
    assert [flag.value for flag in commands.SetFlag] == [1, 2, 4, 8, 16]
    assert [flag.value for flag in commands.ExpireFlag] == [1, 2, 4, 8]
    assert [kind.value for kind in commands.Extension] == [0, 1, 2]
    assert [flag.value for flag in commands.CopyFlag] == [1]
    assert [flag.value for flag in commands.GetexFlag] == [1]
    assert [flag.value for flag in commands.HashFlag] == [1, 2]
    assert [flag.value for flag in commands.ListFlag] == [1]
    assert [flag.value for flag in commands.ZaddFlag] == [1, 2, 4, 8, 16, 32]
    assert [flag.value for flag in commands.RangeFlag] == [1, 2]
    assert [flag.value for flag in commands.SortFlag] == [1, 2]
    assert [kind.value for kind in commands.RangeKind] == [0, 1, 2]
    assert [kind.value for kind in commands.Aggregate] == [0, 1, 2]
    assert [kind.value for kind in commands.BitOperation] == [0, 1, 2, 3]
    assert [kind.value for kind in commands.BitfieldKind] == [0, 1, 2]
    assert [kind.value for kind in commands.Overflow] == [0, 1, 2]
    assert [kind.value for kind in commands.AnswerKind] == [0, 1, 2]
    assert [target.value for target in commands.CompareTarget] == [0, 1, 2, 3, 4]
    assert [kind.value for kind in commands.Comparison] == [0, 1, 2, 3]
    assert [flag.value for flag in commands.RangeReadFlag] == [1, 2]
    assert [kind.value for kind in commands.ValueCondition] == [0, 1, 2]


def test_every_opcode_has_exactly_one_handler() -> None:
    modules = (
        *(strings, generic, expiry, scan, hashes, sets, lists),
        *(sorted_sets, sorted_ranges, sorted_algebra, bits, revisions, sorting, lease_commands),
    )
    handled = [opcode for module in modules for opcode in module.HANDLERS]
    assert sorted(handled) == sorted(families.HANDLERS)
    sliced = [opcode for module in (scan, revisions, ranges) for opcode in module.SLICED_HANDLERS]
    assert sorted(sliced) == sorted(families.SLICED_HANDLERS)
    others = [*sliced, *transactions.HANDLERS, *once.HANDLERS]
    assert sorted([*handled, *others]) == sorted(Opcode)


def test_traits() -> None:
    assert set(families.SLICED_HANDLERS) == commands.SLICED_OPCODES
    assert not commands.SLICED_OPCODES & commands.WRITE_OPCODES
    assert commands.is_write((Opcode.SET, b"k", b"v"))
    assert commands.is_write((1, b"k", b"v"))
    assert not commands.is_write((Opcode.GET, b"k"))
    assert commands.is_sliced((int(Opcode.KEYS), b"*"))
    assert not commands.is_sliced((Opcode.GET, b"k"))
