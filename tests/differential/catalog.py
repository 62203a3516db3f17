"""How to draw each command: one line a command, by type of key.

A test compares the names with the command table, so that none is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.differential.draw import FLOATS, PATTERNS, Draw, Words

Maker = Callable[[Draw], Words]
Catalog = dict[str, Maker]


def fields(draw: Draw) -> Words:
    return [word for field in draw.elements() for word in (field, draw.element())]


def count_and(draw: Draw, option: bytes | None) -> Words:
    """Return nothing, or a count and perhaps an option."""
    if draw.chance(0.3):
        return []
    count = draw.pick([b"0", b"1", b"2", b"5", b"-1", b"-5", b"30"])
    return [
        count if draw.chance(0.95) else draw.integer(),
        *(draw.option(option) if option else []),
    ]


def pages(draw: Draw) -> Words:
    return draw.shuffled(
        draw.option(b"MATCH", draw.pick(PATTERNS)), draw.option(b"COUNT", draw.count())
    )


def ttl(draw: Draw) -> bytes:
    number = draw.random.randint(1_000_000, 100_000_000)
    return b"%d" % number if draw.chance(0.9) else draw.pick([b"-1", b"0", b"abc"])


def deadline(draw: Draw, unit: int = 1) -> bytes:
    number = draw.random.randint(9_000_000_000, 90_000_000_000) * unit
    return b"%d" % number if draw.chance(0.9) else draw.pick([b"1", b"-3", b""])


def times(draw: Draw) -> list[Words]:
    return [
        [b"EX", ttl(draw)], [b"PX", ttl(draw)],
        [b"EXAT", deadline(draw)], [b"PXAT", deadline(draw, 1000)],
    ]  # fmt: skip


def conditions(draw: Draw) -> Words:
    return draw.one_of([b"NX"], [b"XX"], [b"GT"], [b"LT"]) + draw.one_of(
        [b"GT"], [b"XX"], share=0.1
    )


STRINGS: Catalog = {
    "set": lambda d: [
        d.key("string"), d.element(),
        *d.shuffled(d.one_of(*times(d), [b"KEEPTTL"]), d.one_of([b"NX"], [b"XX"], share=0.2),
                    d.option(b"GET", share=0.2)),
    ],
    "get": lambda d: [d.key("string")],
    "mget": lambda d: d.keys("string"),
    "mset": lambda d: [word for key in d.keys("string") for word in (key, d.element())],
    "msetnx": lambda d: [word for key in d.keys("string") for word in (key, d.element())],
    "setnx": lambda d: [d.key("string"), d.element()],
    "setex": lambda d: [d.key("string"), ttl(d), d.element()],
    "psetex": lambda d: [d.key("string"), ttl(d), d.element()],
    "getset": lambda d: [d.key("string"), d.element()],
    "getdel": lambda d: [d.key("string")],
    "getex": lambda d: [d.key("string"), *d.one_of(*times(d), [b"PERSIST"])],
    "strlen": lambda d: [d.key("string")],
    "append": lambda d: [d.key("string"), d.element()],
    "getrange": lambda d: [d.key("string"), d.integer(), d.integer()],
    "substr": lambda d: [d.key("string"), d.integer(), d.integer()],
    "setrange": lambda d: [d.key("string"), d.pick([b"0", b"1", b"9", b"-1"]), d.element()],
    "incr": lambda d: [d.key("string")],
    "decr": lambda d: [d.key("string")],
    "incrby": lambda d: [d.key("string"), d.integer()],
    "decrby": lambda d: [d.key("string"), d.integer()],
    "incrbyfloat": lambda d: [d.key("string"), d.decimal()],
}  # fmt: skip


def sorting(draw: Draw) -> Words:
    """Return a key and the options of SORT, without STORE.

    Not what Redis leaves open: the order of a set that is not sorted, of elements whose
    weights are equal texts, and of those which differ behind a NUL only.
    """
    kind = draw.pick([b"list", b"list", b"zset", b"set"]).decode()
    patterns = [b"nosort", b"a", b"*", b"{t}*", b"*->7", b"a*->m1"]
    by = draw.option(b"BY", draw.pick(patterns), share=0.4)
    alpha = draw.option(b"ALPHA", share=0.5)
    if by and (kind == "set" or (alpha and b"*" in by[1])):
        by = []
    wanted = [b"#"] if alpha else [b"#", b"*", b"b", b"{t}*", b"*->m1"]
    gets = [draw.option(b"GET", draw.pick(wanted)) for _ in "12"]
    bounds = [draw.pick([b"0", b"1", b"-1", b"2"]), draw.pick([b"0", b"1", b"3", b"-1", b"x"])]
    return [
        draw.key(kind),
        *draw.shuffled(
            by, alpha, *gets, draw.option(b"LIMIT", *bounds), draw.one_of([b"ASC"], [b"DESC"])
        ),
    ]


GENERIC: Catalog = {
    "del": lambda d: d.keys("any", 2),
    "unlink": lambda d: [d.key("any")],
    "exists": lambda d: d.keys("any"),
    "touch": lambda d: d.keys("any"),
    "type": lambda d: [d.key("any")],
    "rename": lambda d: [d.key("any"), d.target()],
    "renamenx": lambda d: [d.key("any"), d.target()],
    "copy": lambda d: [
        d.key("any"), d.target(), *d.shuffled(d.option(b"REPLACE"), d.option(b"DB", b"0"))
    ],
    "expire": lambda d: [d.key("any"), ttl(d), *conditions(d)],
    "pexpire": lambda d: [d.key("any"), ttl(d), *conditions(d)],
    "expireat": lambda d: [d.key("any"), deadline(d), *conditions(d)],
    "pexpireat": lambda d: [d.key("any"), deadline(d, 1000), *conditions(d)],
    "ttl": lambda d: [d.key("any")],
    "pttl": lambda d: [d.key("any")],
    "expiretime": lambda d: [d.key("any")],
    "pexpiretime": lambda d: [d.key("any")],
    "persist": lambda d: [d.key("any")],
    "sort": lambda d: [*sorting(d), *d.option(b"STORE", d.target(), share=0.4)],
    "sort_ro": sorting,
    "keys": lambda d: [d.pick(PATTERNS)],
    "scan": lambda d: [b"0", *d.shuffled(
        pages(d), d.option(b"TYPE", d.pick([b"string", b"hash", b"list", b"set", b"zset"])))],
    "randomkey": lambda d: [],
    "dbsize": lambda d: [],
    "flushdb": lambda d: d.one_of([b"ASYNC"], [b"SYNC"], share=0.95),
    "flushall": lambda d: d.one_of([b"ASYNC"], [b"SYNC"], share=0.95),
    "object": lambda d: [
        d.always_one_of(b"ENCODING", b"REFCOUNT", b"FREQ"), d.key("any")],
    "memory": lambda d: [b"USAGE", d.key("any"), *d.option(b"SAMPLES", d.pick([b"0", b"3"]))],
}  # fmt: skip

HASHES: Catalog = {
    "hset": lambda d: [d.key("hash"), *fields(d)],
    "hmset": lambda d: [d.key("hash"), *fields(d)],
    "hsetnx": lambda d: [d.key("hash"), d.element(), d.element()],
    "hget": lambda d: [d.key("hash"), d.element()],
    "hmget": lambda d: [d.key("hash"), *d.elements()],
    "hgetall": lambda d: [d.key("hash")],
    "hdel": lambda d: [d.key("hash"), *d.elements()],
    "hexists": lambda d: [d.key("hash"), d.element()],
    "hlen": lambda d: [d.key("hash")],
    "hstrlen": lambda d: [d.key("hash"), d.element()],
    "hkeys": lambda d: [d.key("hash")],
    "hvals": lambda d: [d.key("hash")],
    "hincrby": lambda d: [d.key("hash"), d.element(), d.integer()],
    "hincrbyfloat": lambda d: [d.key("hash"), d.element(), d.decimal()],
    "hrandfield": lambda d: [d.key("hash"), *count_and(d, b"WITHVALUES")],
    "hscan": lambda d: [d.key("hash"), b"0", *pages(d)],
}

SETS: Catalog = {
    "sadd": lambda d: [d.key("set"), *d.elements()],
    "srem": lambda d: [d.key("set"), *d.elements()],
    "spop": lambda d: [d.key("set"), *([] if d.chance(0.4) else [d.count()])],
    "smove": lambda d: [d.key("set"), d.key("set"), d.element()],
    "sismember": lambda d: [d.key("set"), d.element()],
    "smismember": lambda d: [d.key("set"), *d.elements()],
    "smembers": lambda d: [d.key("set")],
    "scard": lambda d: [d.key("set")],
    "srandmember": lambda d: [d.key("set"), *count_and(d, None)],
    "sscan": lambda d: [d.key("set"), b"0", *pages(d)],
    "sinter": lambda d: d.keys("set"),
    "sunion": lambda d: d.keys("set"),
    "sdiff": lambda d: d.keys("set"),
    "sinterstore": lambda d: [d.target(), *d.keys("set")],
    "sunionstore": lambda d: [d.target(), *d.keys("set")],
    "sdiffstore": lambda d: [d.target(), *d.keys("set")],
    "sintercard": lambda d: [
        *d.counted_keys("set"), *d.option(b"LIMIT", d.pick([b"0", b"1", b"3", b"-1", b"x"]))],
}  # fmt: skip

LISTS: Catalog = {
    "lpush": lambda d: [d.key("list"), *d.elements()],
    "rpush": lambda d: [d.key("list"), *d.elements()],
    "lpushx": lambda d: [d.key("list"), *d.elements()],
    "rpushx": lambda d: [d.key("list"), *d.elements()],
    "lpop": lambda d: [d.key("list"), *([] if d.chance(0.4) else [d.count()])],
    "rpop": lambda d: [d.key("list"), *([] if d.chance(0.4) else [d.count()])],
    "lmpop": lambda d: [
        *d.counted_keys("list"), d.always_one_of(b"LEFT", b"RIGHT"),
        *d.option(b"COUNT", d.count())],
    "blpop": lambda d: [*d.keys("list"), d.timeout()],
    "brpop": lambda d: [*d.keys("list"), d.timeout()],
    "blmpop": lambda d: [
        d.timeout(), *d.counted_keys("list"), d.always_one_of(b"LEFT", b"RIGHT"),
        *d.option(b"COUNT", d.count())],
    "blmove": lambda d: [
        d.key("list"), d.key("list"),
        d.always_one_of(b"LEFT", b"RIGHT"), d.always_one_of(b"LEFT", b"RIGHT"), d.timeout()],
    "brpoplpush": lambda d: [d.key("list"), d.key("list"), d.timeout()],
    "llen": lambda d: [d.key("list")],
    "lrange": lambda d: [d.key("list"), d.integer(), d.integer()],
    "lindex": lambda d: [d.key("list"), d.integer()],
    "lset": lambda d: [d.key("list"), d.integer(), d.element()],
    "linsert": lambda d: [
        d.key("list"), d.always_one_of(b"BEFORE", b"AFTER"), d.element(), d.element()],
    "lrem": lambda d: [d.key("list"), d.integer(), d.element()],
    "ltrim": lambda d: [d.key("list"), d.integer(), d.integer()],
    "lmove": lambda d: [
        d.key("list"), d.key("list"),
        d.always_one_of(b"LEFT", b"RIGHT"), d.always_one_of(b"LEFT", b"RIGHT")],
    "rpoplpush": lambda d: [d.key("list"), d.key("list")],
    "lpos": lambda d: [
        d.key("list"), d.element(),
        *d.shuffled(d.option(b"RANK", d.integer()), d.option(b"COUNT", d.integer()),
                    d.option(b"MAXLEN", d.integer()))],
}  # fmt: skip


def scored(draw: Draw) -> Words:
    """Return scores and members; mostly the score that keeps the order of names defined."""
    same = draw.chance(0.5)
    return [
        word for member in draw.elements() for word in (b"1" if same else draw.decimal(), member)
    ]


def score(draw: Draw) -> bytes:
    """Return a bound of a range of scores."""
    if draw.chance(0.03):
        return draw.pick([b"x", b"", b"(", b"nan", b" 1", b"1x", b"[1", b"-", b"+"])
    bound = draw.pick([*FLOATS, b"-inf", b"+inf", b"inf"])
    return b"(" + bound if draw.chance(0.3) else bound


def name(draw: Draw) -> bytes:
    """Return a bound of a range of names."""
    if draw.chance(0.03):
        return draw.pick([b"x", b"", b"++", b"1"])
    if draw.chance(0.4):
        return draw.pick([b"-", b"+"])
    return draw.pick([b"(", b"["]) + draw.element()


def limit(draw: Draw) -> Words:
    return draw.option(b"LIMIT", draw.integer(), draw.integer(), share=0.4)


def zrange(draw: Draw) -> Words:
    """Return the bounds and options of ZRANGE, without WITHSCORES."""
    kind = draw.one_of([b"BYSCORE"], [b"BYLEX"], share=0.67)
    bound = {b"BYSCORE": score, b"BYLEX": name}.get(b"".join(kind).upper(), Draw.integer)
    with_limit = limit(draw) if kind or draw.chance(0.1) else []
    options = draw.shuffled(kind, draw.option(b"REV"), with_limit)
    return [bound(draw), bound(draw), *options]


def combined(draw: Draw, *, weighted: bool = True) -> Words:
    """Return the keys and options of ZUNION and its sisters."""
    keys = draw.counted_keys("zset" if draw.chance(0.9) else "set")
    weights = [draw.decimal() for _ in keys[1:]]
    if not weighted:
        return [*keys, *([b"WEIGHTS", *weights] if draw.chance(0.05) else [])]
    aggregate = draw.pick([b"SUM", b"MIN", b"MAX", b"sum"])
    return [
        *keys,
        *draw.shuffled(draw.option(b"WEIGHTS", *weights), draw.option(b"AGGREGATE", aggregate)),
    ]


SORTED_SETS: Catalog = {
    "zadd": lambda d: [
        d.key("zset"),
        *d.shuffled(d.one_of([b"NX"], [b"XX"], share=0.3), d.one_of([b"GT"], [b"LT"], share=0.2),
                    d.option(b"CH"), d.option(b"INCR", share=0.1)),
        *scored(d)],
    "zincrby": lambda d: [d.key("zset"), d.decimal(), d.element()],
    "zrem": lambda d: [d.key("zset"), *d.elements()],
    "zscore": lambda d: [d.key("zset"), d.element()],
    "zmscore": lambda d: [d.key("zset"), *d.elements()],
    "zcard": lambda d: [d.key("zset")],
    "zcount": lambda d: [d.key("zset"), score(d), score(d)],
    "zlexcount": lambda d: [d.key("zset"), name(d), name(d)],
    "zrank": lambda d: [d.key("zset"), d.element()],
    "zrevrank": lambda d: [d.key("zset"), d.element()],
    "zrange": lambda d: [d.key("zset"), *zrange(d), *d.option(b"WITHSCORES")],
    "zrangestore": lambda d: [d.target(), d.key("zset"), *zrange(d)],
    "zrevrange": lambda d: [
        d.key("zset"), d.integer(), d.integer(), *d.option(b"WITHSCORES")],
    "zrangebyscore": lambda d: [
        d.key("zset"), score(d), score(d), *d.shuffled(d.option(b"WITHSCORES"), limit(d))],
    "zrevrangebyscore": lambda d: [
        d.key("zset"), score(d), score(d), *d.shuffled(d.option(b"WITHSCORES"), limit(d))],
    "zrangebylex": lambda d: [d.key("zset"), name(d), name(d), *limit(d)],
    "zrevrangebylex": lambda d: [d.key("zset"), name(d), name(d), *limit(d)],
    "zremrangebyrank": lambda d: [d.key("zset"), d.integer(), d.integer()],
    "zremrangebyscore": lambda d: [d.key("zset"), score(d), score(d)],
    "zremrangebylex": lambda d: [d.key("zset"), name(d), name(d)],
    "zpopmin": lambda d: [d.key("zset"), *([] if d.chance(0.4) else [d.count()])],
    "zpopmax": lambda d: [d.key("zset"), *([] if d.chance(0.4) else [d.count()])],
    "zmpop": lambda d: [
        *d.counted_keys("zset"), d.always_one_of(b"MIN", b"MAX"), *d.option(b"COUNT", d.count())],
    "bzpopmin": lambda d: [*d.keys("zset"), d.timeout()],
    "bzpopmax": lambda d: [*d.keys("zset"), d.timeout()],
    "bzmpop": lambda d: [
        d.timeout(), *d.counted_keys("zset"), d.always_one_of(b"MIN", b"MAX"),
        *d.option(b"COUNT", d.count())],
    "zrandmember": lambda d: [d.key("zset"), *count_and(d, b"WITHSCORES")],
    "zscan": lambda d: [d.key("zset"), b"0", *pages(d)],
    "zunion": lambda d: [*combined(d), *d.option(b"WITHSCORES")],
    "zinter": lambda d: [*combined(d), *d.option(b"WITHSCORES")],
    "zdiff": lambda d: [*combined(d, weighted=False), *d.option(b"WITHSCORES")],
    "zunionstore": lambda d: [d.target(), *combined(d)],
    "zinterstore": lambda d: [d.target(), *combined(d)],
    "zdiffstore": lambda d: [d.target(), *combined(d, weighted=False)],
    "zintercard": lambda d: [
        *d.counted_keys("zset"), *d.option(b"LIMIT", d.pick([b"0", b"1", b"3", b"-1", b"x"]))],
}  # fmt: skip


def position(draw: Draw) -> bytes:
    """Return the position of a bit."""
    if draw.chance(0.03):
        return draw.pick([b"-1", b"x", b"4294967296", b"#1", b""])
    return draw.pick([b"0", b"1", b"7", b"8", b"13", b"100", b"64", b"33"])


def place(draw: Draw) -> Words:
    """Return the type and position of a field."""
    kind = draw.pick([b"u8", b"i8", b"u1", b"i1", b"i64", b"u63", b"u13", b"i5", b"i33"])
    if draw.chance(0.02):
        kind = draw.pick([b"u64", b"i65", b"x8", b"u0", b"u", b"I8"])
    return [kind, b"#" + draw.pick([b"0", b"1", b"3"]) if draw.chance(0.3) else position(draw)]


def bitfield(draw: Draw) -> Words:
    words: Words = []
    for _ in range(draw.random.randint(1, 4)):
        overflow = draw.pick([b"WRAP", b"SAT", b"FAIL", b"sat"])
        number = draw.pick([b"1", b"-1", b"255", b"-300", b"99999", b"9223372036854775807", b"x"])
        kind = draw.random.choice([b"GET", b"SET", b"INCRBY"])
        words += draw.option(b"OVERFLOW", overflow)
        words += draw.option(kind, *place(draw), *([] if kind == b"GET" else [number]), share=1)
    return words


def bits_range(draw: Draw) -> Words:
    if draw.chance(0.3):
        return []
    return [draw.integer(), draw.integer(), *draw.one_of([b"BIT"], [b"BYTE"])]


BITS: Catalog = {
    "setbit": lambda d: [d.key("string"), position(d), d.pick([b"0", b"1", b"1", b"2", b"x"])],
    "getbit": lambda d: [d.key("string"), position(d)],
    "bitcount": lambda d: [d.key("string"), *bits_range(d)],
    "bitpos": lambda d: [
        d.key("string"), d.pick([b"0", b"1", b"0", b"1", b"2"]),
        *([d.integer()] if d.chance(0.2) else bits_range(d))],
    "bitop": lambda d: [
        d.always_one_of(b"AND", b"OR", b"XOR", b"NOT"), d.target(), *d.keys("string", 2)],
    "bitfield": lambda d: [d.key("string"), *bitfield(d)],
    "bitfield_ro": lambda d: [
        d.key("string"), *d.option(b"GET", *place(d), share=0.9), *d.option(b"GET", *place(d))],
}  # fmt: skip

CATALOG: Catalog = {**STRINGS, **GENERIC, **HASHES, **SETS, **LISTS, **SORTED_SETS, **BITS}

# How often a command is drawn, where not as often as the others.
WEIGHTS = {
    **dict.fromkeys(("flushall", "flushdb"), 0.25),
    **dict.fromkeys(("del", "unlink", "ltrim", "zremrangebyrank", "spop", "getdel"), 0.4),
    **dict.fromkeys(("set", "hset", "sadd", "rpush", "lpush", "zadd"), 3),
    **dict.fromkeys(("getex",), 2),
}
