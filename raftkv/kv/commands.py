"""What the log may ask of the store: opcodes, results and their traits.

A command is the tuple `(opcode, *arguments)`; arguments are bytes, int or
None, never floats, so that every node decodes the same thing; `kv.codec` checks it. The
docstring of each handler gives the order of its fields.

Owns no state and executes nothing: `store` binds opcodes to handlers. The
numbers are part of the log format and frozen for ever; a retired one is not
used again.

Users: the parsers of `server`, `kv.codec`, `kv.store`.
"""

from __future__ import annotations

import enum
from typing import Any, Final, TypeAlias

import msgspec

from raftkv.errors import ProtocolError

Command: TypeAlias = tuple[Any, ...]

# The simple string that most writes answer with.
OK: Final = "OK"


class ErrorReply(msgspec.Struct, frozen=True, gc=False):
    """A declared error of a command, as a result which is replicated like any other.

    Attributes:
        message: Whole text, starting with the code word (`ERR`, `WRONGTYPE`, ...).
    """

    message: str


INTERNAL_ERROR: Final = ErrorReply("ERR internal error")
OUT_OF_MEMORY: Final = "OOM command not allowed when used memory > 'maxmemory'."

# An error of the machine, or of the log itself, says nothing about the command: the
# node stops.
MACHINE_ERRORS: Final = (MemoryError, OSError, RecursionError, ProtocolError)


class Opcode(enum.IntEnum):
    """First field of a command. Grouped with gaps; numbers never change."""

    # Strings: 1 to 49.
    SET = 1  # without options: the hot path
    SET_WITH = 2
    GET = 3
    MGET = 4
    MSET = 5
    MSETNX = 6
    GETSET = 7
    GETDEL = 8
    GETEX = 9
    STRLEN = 10
    APPEND = 11
    GETRANGE = 12
    SETRANGE = 13
    INCRBY = 14
    INCRBYFLOAT = 15
    SET_IF = 16
    DELEX = 17

    # Keys of any type: 50 to 79.
    DEL = 50
    EXISTS = 51
    TYPE = 52
    RENAME = 53
    RENAMENX = 54
    COPY = 55
    OBJECT_ENCODING = 56
    OBJECT_FREQ = 57
    OBJECT_IDLETIME = 58
    OBJECT_REFCOUNT = 59
    OBJECT_HELP = 60
    MEMORY_USAGE = 61
    MEMORY_HELP = 62
    SORT = 63
    SORT_STORE = 64

    # Deadlines: 80 to 99.
    EXPIRE = 80
    PERSIST = 81
    TTL = 82
    PTTL = 83
    EXPIRETIME = 84
    PEXPIRETIME = 85
    EXPIRE_IF = 86

    # The whole store: 100 to 119.
    KEYS = 100
    SCAN = 101
    RANDOMKEY = 102
    DBSIZE = 103
    FLUSH = 104
    COUNTKEYSINSLOT = 105
    CHECKPOINT = 106  # of the leader itself: compare the images as of this entry
    LIMIT_DATASET = 107  # of the leader itself: what `limits.maxmemory` says

    # Hashes: 120 to 149.
    HSET = 120
    HDEL = 121
    HINCRBY = 122
    HINCRBYFLOAT = 123
    HGET = 124
    HMGET = 125
    HGETALL = 126
    HKEYS = 127
    HVALS = 128
    HEXISTS = 129
    HLEN = 130
    HSTRLEN = 131
    HSCAN = 132
    HRANDFIELD = 133

    # Sets: 150 to 179.
    SADD = 150
    SREM = 151
    SPOP = 152
    SMOVE = 153
    SINTERSTORE = 154
    SUNIONSTORE = 155
    SDIFFSTORE = 156
    SISMEMBER = 157
    SMISMEMBER = 158
    SMEMBERS = 159
    SCARD = 160
    SRANDMEMBER = 161
    SSCAN = 162
    SINTER = 163
    SUNION = 164
    SDIFF = 165
    SINTERCARD = 166

    # Lists: 180 to 209.
    LIST_PUSH = 180
    LIST_POP = 181
    LMPOP = 182
    LMOVE = 183
    LSET = 184
    LINSERT = 185
    LREM = 186
    LTRIM = 187
    LLEN = 188
    LRANGE = 189
    LINDEX = 190
    LPOS = 191
    LIST_POP_FIRST = 192

    # Sorted sets: 210 to 249.
    ZADD = 210
    ZREM = 211
    ZPOP = 212
    ZMPOP = 213
    ZREMRANGE = 214
    ZRANGESTORE = 215
    ZUNIONSTORE = 216
    ZINTERSTORE = 217
    ZDIFFSTORE = 218
    ZSCORE = 219
    ZMSCORE = 220
    ZCARD = 221
    ZRANK = 222
    ZSCAN = 223
    ZRANDMEMBER = 224
    ZRANGE = 225
    ZCOUNT = 226
    ZUNION = 227
    ZINTER = 228
    ZDIFF = 229
    ZINTERCARD = 230
    ZPOP_FIRST = 231

    # Bits of strings: 250 to 259.
    SETBIT = 250
    BITOP = 251
    BITFIELD = 252
    GETBIT = 253
    BITCOUNT = 254
    BITPOS = 255
    BITFIELD_RO = 256

    # Transactions and revisions: 270 to 279.
    EXEC = 270
    TXN = 271
    REVISIONS = 272
    KV_GET = 273
    ANSWER = 274  # only inside the two first
    COMPACT = 275  # of the leader itself: drop old revisions, and the bounds of the history
    KV_GET_AT = 276
    KV_RANGE = 277
    HISTORY = 278

    # Sessions: 310 to 319.
    ONCE = 310
    OUTCOME = 311
    SESSION_OPEN = 312
    SESSION_KEEPALIVE = 313
    SESSION_CLOSE = 314
    SESSION_INFO = 315
    SESSION_LIST = 316

    # Leases: 300 to 309.
    LEASE_GRANT = 300
    LEASE_KEEPALIVE = 301
    LEASE_REVOKE = 302
    LEASE_TTL = 303
    LEASE_LIST = 304
    LEASE_ATTACH = 305
    LEASE_DETACH = 306
    LEASE_SET = 307


WRITE_OPCODES: Final = frozenset(
    (
        Opcode.SET,
        Opcode.SET_WITH,
        Opcode.MSET,
        Opcode.MSETNX,
        Opcode.GETSET,
        Opcode.GETDEL,
        Opcode.GETEX,
        Opcode.APPEND,
        Opcode.SETRANGE,
        Opcode.INCRBY,
        Opcode.INCRBYFLOAT,
        Opcode.SET_IF,
        Opcode.DELEX,
        Opcode.DEL,
        Opcode.RENAME,
        Opcode.RENAMENX,
        Opcode.COPY,
        Opcode.SORT_STORE,
        Opcode.EXPIRE,
        Opcode.EXPIRE_IF,
        Opcode.PERSIST,
        Opcode.FLUSH,
        Opcode.HSET,
        Opcode.HDEL,
        Opcode.HINCRBY,
        Opcode.HINCRBYFLOAT,
        Opcode.SADD,
        Opcode.SREM,
        Opcode.SPOP,
        Opcode.SMOVE,
        Opcode.SINTERSTORE,
        Opcode.SUNIONSTORE,
        Opcode.SDIFFSTORE,
        Opcode.LIST_PUSH,
        Opcode.LIST_POP,
        Opcode.LMPOP,
        Opcode.LIST_POP_FIRST,
        Opcode.LMOVE,
        Opcode.LSET,
        Opcode.LINSERT,
        Opcode.LREM,
        Opcode.LTRIM,
        Opcode.ZADD,
        Opcode.ZREM,
        Opcode.ZPOP,
        Opcode.ZMPOP,
        Opcode.ZPOP_FIRST,
        Opcode.ZREMRANGE,
        Opcode.ZRANGESTORE,
        Opcode.ZUNIONSTORE,
        Opcode.ZINTERSTORE,
        Opcode.ZDIFFSTORE,
        Opcode.SETBIT,
        Opcode.BITOP,
        Opcode.BITFIELD,
        Opcode.EXEC,
        Opcode.TXN,
        Opcode.CHECKPOINT,
        Opcode.COMPACT,
        Opcode.ONCE,
        Opcode.OUTCOME,
        Opcode.SESSION_OPEN,
        Opcode.SESSION_KEEPALIVE,
        Opcode.SESSION_CLOSE,
        Opcode.LIMIT_DATASET,
        Opcode.LEASE_GRANT,
        Opcode.LEASE_KEEPALIVE,
        Opcode.LEASE_REVOKE,
        # They change nothing; in the log lease time is that of the moment.
        Opcode.LEASE_TTL,
        Opcode.LEASE_LIST,
        Opcode.LEASE_ATTACH,
        Opcode.LEASE_DETACH,
        Opcode.LEASE_SET,
    )
)

# Writes that are refused while the dataset exceeds its limit: those of Redis' flag
# `denyoom`, which may make it larger by more than a deadline.
GROWING_OPCODES: Final = frozenset(
    (
        Opcode.SET,
        Opcode.SET_WITH,
        Opcode.MSET,
        Opcode.MSETNX,
        Opcode.GETSET,
        Opcode.APPEND,
        Opcode.SETRANGE,
        Opcode.INCRBY,
        Opcode.INCRBYFLOAT,
        Opcode.SET_IF,
        Opcode.LEASE_SET,
        Opcode.COPY,
        Opcode.SORT_STORE,
        Opcode.HSET,
        Opcode.HINCRBY,
        Opcode.HINCRBYFLOAT,
        Opcode.SADD,
        Opcode.SINTERSTORE,
        Opcode.SUNIONSTORE,
        Opcode.SDIFFSTORE,
        Opcode.LIST_PUSH,
        Opcode.LMOVE,
        Opcode.LSET,
        Opcode.LINSERT,
        Opcode.ZADD,
        Opcode.ZRANGESTORE,
        Opcode.ZUNIONSTORE,
        Opcode.ZINTERSTORE,
        Opcode.ZDIFFSTORE,
        Opcode.SETBIT,
        Opcode.BITOP,
        Opcode.BITFIELD,
    )
)

# Commands that are about sessions, not about keys.
SESSION_OPCODES: Final = frozenset(
    (
        Opcode.ONCE,
        Opcode.OUTCOME,
        Opcode.SESSION_OPEN,
        Opcode.SESSION_KEEPALIVE,
        Opcode.SESSION_CLOSE,
        Opcode.SESSION_INFO,
        Opcode.SESSION_LIST,
    )
)

# Writes that `ONCE` takes: all of clients that are about keys.
ONCE_OPCODES: Final = (
    WRITE_OPCODES - SESSION_OPCODES - {Opcode.CHECKPOINT, Opcode.COMPACT, Opcode.LIMIT_DATASET}
)

# Reads which look at many keys or changes and therefore run in slices, as of one moment.
SLICED_OPCODES: Final = frozenset(
    (Opcode.KEYS, Opcode.COUNTKEYSINSLOT, Opcode.KV_GET_AT, Opcode.KV_RANGE)
)


def is_write(command: Command) -> bool:
    """Whether the command may change the store and must go through the log."""
    return command[0] in WRITE_OPCODES


def is_sliced(command: Command) -> bool:
    """Whether the command is a read that should run in slices (`KvStore.sliced`)."""
    return command[0] in SLICED_OPCODES


class SetFlag(enum.IntFlag):
    """Fourth field of `Opcode.SET_WITH`; part of the log format."""

    NX = 1  # only if there is no such key
    XX = 2  # only if there is such a key
    KEEPTTL = 4
    GET = 8  # answer with the old value
    INTEGER = 16  # answer 1 or 0 (SETNX)


class ExpireFlag(enum.IntFlag):
    """Fifth field of `Opcode.EXPIRE`; part of the log format."""

    NX = 1  # only if the key has no deadline
    XX = 2  # only if the key has a deadline
    GT = 4  # only if later than the present deadline; none counts as infinite
    LT = 8  # only if earlier


class Extension(enum.IntEnum):
    """What `Opcode.EXPIRE_IF` does with the present deadline; part of the log format."""

    REPLACE = 0  # also where there is none
    REPLACE_PRESENT = 1  # only where there is one
    ADD = 2  # to one that is there


class CopyFlag(enum.IntFlag):
    """Fourth field of `Opcode.COPY`; part of the log format."""

    REPLACE = 1


class GetexFlag(enum.IntFlag):
    """Third field of `Opcode.GETEX`; part of the log format."""

    PERSIST = 1


class HashFlag(enum.IntFlag):
    """Third field of `Opcode.HSET`; part of the log format."""

    NX = 1  # only if there is no such field (HSETNX)
    OK = 2  # answer OK (HMSET)


class ListFlag(enum.IntFlag):
    """Fourth field of `Opcode.LIST_PUSH`; part of the log format."""

    XX = 1  # only if there is such a list


class ZaddFlag(enum.IntFlag):
    """Third field of `Opcode.ZADD`; part of the log format."""

    NX = 1  # only new members
    XX = 2  # only members that are there
    GT = 4  # only to a higher score
    LT = 8  # only to a lower score
    CH = 16  # answer with the number of changes
    INCR = 32  # add to the score, and answer with it


class SortFlag(enum.IntFlag):
    """Second field of `Opcode.SORT`; part of the log format."""

    DESCENDING = 1
    ALPHA = 2  # by bytes instead of by number


class RangeKind(enum.IntEnum):
    """What the bounds of a range of a sorted set are; part of the log format."""

    RANK = 0
    SCORE = 1
    NAME = 2


class RangeFlag(enum.IntFlag):
    """How a range of a sorted set is returned; part of the log format."""

    REVERSE = 1
    WITH_SCORES = 2


class Aggregate(enum.IntEnum):
    """What becomes of several scores of a member; part of the log format."""

    SUM = 0
    MIN = 1
    MAX = 2


class BitOperation(enum.IntEnum):
    """Second field of `Opcode.BITOP`; part of the log format."""

    AND = 0
    OR = 1
    XOR = 2
    NOT = 3


class BitfieldKind(enum.IntEnum):
    """What an operation of `Opcode.BITFIELD` does; part of the log format."""

    GET = 0
    SET = 1
    INCRBY = 2


class Overflow(enum.IntEnum):
    """What becomes of a number that does not fit its field; part of the log format."""

    WRAP = 0
    SAT = 1
    FAIL = 2


class AnswerKind(enum.IntEnum):
    """Second field of `Opcode.ANSWER`; part of the log format."""

    TEXT = 0  # a simple string
    BYTES = 1
    ERROR = 2


class CompareTarget(enum.IntEnum):
    """What a compare of `Opcode.TXN` looks at; part of the log format."""

    VALUE = 0
    EXISTS = 1
    CREATE_REVISION = 2
    MODIFY_REVISION = 3
    VERSION = 4


class Comparison(enum.IntEnum):
    """How a compare of `Opcode.TXN` compares; part of the log format."""

    EQUAL = 0
    NOT_EQUAL = 1
    LESS = 2
    GREATER = 3


class RangeReadFlag(enum.IntFlag):
    """Sixth field of `Opcode.KV_RANGE`; part of the log format."""

    KEYS_ONLY = 1
    COUNT = 2  # answer with the number of keys


class ValueCondition(enum.IntEnum):
    """When `SET_IF`, `DELEX` and `LEASE_SET` act; part of the log format."""

    ALWAYS = 0  # not SET_IF
    EQUAL = 1
    NOT_EQUAL = 2
