"""What is wrong with a request: number of words, type of key, options, ranges, limits.

Every command on hashes, lists, sets, sorted sets and bits, compared with Redis.
"""

from __future__ import annotations

import re

import pytest

from raftkv.config import Limits
from raftkv.server.command_collections import COLLECTION_COMMANDS
from tests.differential.pair import Pair, words
from tests.differential.replies import Failed
from tests.differential.store_under_test import StoreUnderTest
from tests.unit.server.test_command_table import ALL, request_for

NAMES = [line.split("|")[0] for line in COLLECTION_COMMANDS.strip().split("\n")[::2]]
FILLED = {
    "string": "set k text",
    "hash": "hset k f v",
    "list": "rpush k e",
    "set": "sadd k m",
    "zset": "zadd k 1 m",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_number_of_words(pair: Pair, name: str) -> None:
    spec = ALL[name]
    counts = {*range(1, spec.low), *([] if spec.arity < 0 else [spec.high + 1])}
    for count in sorted(counts):
        reply = pair.check(name.encode(), *[b"1"] * (count - 1))
        assert reply == Failed(f"ERR wrong number of arguments for '{name}' command")


@pytest.mark.parametrize("kind", sorted(FILLED))
@pytest.mark.parametrize("name", NAMES)
def test_a_key_of_each_type_and_none(pair: Pair, name: str, kind: str) -> None:
    for request in request_for(ALL[name]):
        for places in range(3):
            pair.check(b"FLUSHALL")
            pair.check(*words(FILLED[kind]))
            # The filled key as the first, second, ... word that may be a key.
            changed = [
                b"k" if word in (b"k", b"a", b"b", b"t") and place - 1 == places else word
                for place, word in enumerate(request)
            ]
            if name not in ("hrandfield", "srandmember", "zrandmember", "spop", "hscan", "sscan"):
                pair.check(*changed)
            pair.check_content()


BAD = r"""
hset k f; hset k f v g; hmset k f v g; hincrby k f x; hincrby k f 9223372036854775808;
hset k f x; hincrby k f 1; hincrbyfloat k f 1; hincrbyfloat k f x; hincrbyfloat k f nan;
hset k f 9223372036854775807; hincrby k f 1; hset k f inf; hincrbyfloat k f 1; hset k f '';
  hincrby k f 1;
hset k f 1.5; hincrby k f 1; hincrbyfloat k f 1e5000; hincrbyfloat k g inf; hexists k g;
hrandfield k x; hrandfield k 1 foo; hrandfield k 1 withvalues foo; hrandfield m x;
  hrandfield k 1.5;
hrandfield k -9223372036854775808; hrandfield k 9223372036854775807 withvalues; hrandfield k '';
hset k f v; hscan k x; hscan k 0 count 0; hscan k 0 count x; hscan k 0 match; hscan k 0 foo bar;
hscan m 0 count 0; hscan m x; hscan m 0 foo; hscan k 99999999999999999999; hscan k -1 count 1;
lpop k x; lpop k -1; lpop k 1 2; rpop m 0; rpush k a; lpop k 0; lpop k 9223372036854775808;
  llen k;
lrange k x 1; lrange k 0 x; lrange m x 1; lindex m x; rpush k a; lindex k x;
  lindex k 9223372036854775808;
lset m x y; lset m 0 y; rpush k a; lset k x y; lset k 1 y; lset k -2 y; lset k -1 y;
  lrange k 0 -1;
linsert k foo a b; linsert m before a b; rpush k a; linsert k before x y; linsert k after a b;
  lrange k 0 -1;
lrem k x a; lrem k 9223372036854775808 a; ltrim k x 1; ltrim k 0 x; rpush k a b c; ltrim k 2 1;
  exists k;
lmove a b left foo; lmove a b foo left; lmove m n left right; rpoplpush m n; rpush k a;
  lmove k k left right;
lpos k a rank 0; lpos k a rank x; lpos k a count -1; lpos k a maxlen -1; lpos k a count x;
  lpos k a foo 1;
lpos k a rank; lpos m a count 0; rpush k a b a; lpos k a rank -1; lpos k a rank 5;
  lpos k a count 0 maxlen 1;
lpos k a rank -9223372036854775808; lpos k a maxlen x; lpos k a rank 1 rank 2; lpos k a count;
lmpop 0 k left; lmpop -1 k left; lmpop x k left; lmpop 2 k left; lmpop 1 k foo;
  lmpop 1 k left count 0;
lmpop 1 k left count -1; lmpop 1 k left count x; lmpop 1 k left foo 1; lmpop 1 k left count;
  lmpop 1 m right;
lmpop 1 k left count 1 count 1; rpush k a b; lmpop 2 m k right count 5; exists k;
blpop k x; blpop k -1; blpop k nan; blpop k inf; blpop k -inf; blpop k 1e300; blpop k '';
  blpop k 9223372036854776; blpop k 99999999999999999999; blpop k ' 1'; blpop k 1s;
  bzpopmin k x; bzpopmax k -1; brpop k m x; rpush k a b; blpop m k 0x1p-10;
  bzpopmin k 0.001; bzpopmin m 0.001; brpoplpush k n -1; brpoplpush m n x;
blmpop x 0 k left; blmpop 0.001 0 k left; blmpop x 1 k left; blmpop -1 1 k left count 0;
  blmpop 0.001 3 k left; blmpop 0.001 1 k min; blmpop 0.001 1 k left count x;
  bzmpop x 1 k min; bzmpop 0.001 1 k left; bzmpop 0.001 2 k min; bzmpop 0.001 1 m max count 1;
  bzmpop -1 1 k min; rpush k a b; blmpop 0.001 2 m k right count 5; exists k;
blmove k m foo left x; blmove k m left foo x; blmove k m left left x; blmove k m left left -1;
  rpush k a; set s v; blmove k s left right 0.001; blmove k m left right 0.001; lrange m 0 -1;
sort; sort k foo; sort k limit 0; sort k limit x 1; sort k limit 0 x; sort k by; sort k get;
  sort k store; sort k asc desc; sort m; sort m limit 0 5; set s v; sort s; sort s foo;
  sort_ro k store t; sort_ro m; sort_ro s; sort m store t; exists t;
rpush k 3 1 2; sort k; sort k desc; sort k limit 1 1; sort k limit -1 2; sort k limit 5 5;
  sort k limit 0 0; sort k limit 1 -5; sort k limit 0 9 limit 1 1; sort k desc asc;
  sort k store t; lrange t 0 -1; sort k limit 9 9 store t; exists t;
rpush k a b; sort k; sort k alpha desc; sort k by nosort; sort k by nosort desc limit 0 1;
  sort k by '#'; sort k store t; exists t; rpush n 1 '' ' 2' 0x3; sort n; rpush n '1 '; sort n;
rpush n 1 nan; sort n; del n; rpush n inf -inf 1e3; sort n; del n; rpush n 1e400; sort n;
  del n; rpush n 1e-400; sort n; del n; rpush n 5 ' '; sort n;
rpush k 1 2 3; mset w1 30 w2 10 w3 20 v1 a v2 b v3 c; sort k by w* get v* get '#';
  sort k by w* desc get x*; sort k by v* ; sort k by v* alpha desc; sort k by x* get w;
  sort k by w* get x* get v* store t; lrange t 0 -1; type t; sort k by w* get '*';
rpush k 1 2; hset h1 f 9 g a; hset h2 f 8; set h3 x; sort k by h*->f get h*->g get h*->f;
  sort k by h*-> ; sort k by nosort get h*->; set 'h1->' v; sort k by nosort get 'h*->';
  sort k by nosort get h* get v*->f; sort k by nosort get '#' get '#x';
sadd k 3 1 2; sort k; sort k by nosort store t; lrange t 0 -1; sort k alpha desc limit 0 2;
  zadd z 3 a 1 b 2 c; sort z by nosort; sort z by nosort desc; sort z alpha; sort z;
  sort z by nosort limit 1 1; sort z by nosort desc limit 1 1 get '#'; sort z alpha store z;
  type z; lrange z 0 -1;
spop k x; spop k -1; spop k 1 2; spop m; spop m 1; spop m 0; sadd k a; spop k 0; scard k;
srandmember k x; srandmember k 1 2; srandmember m 3; srandmember m;
  srandmember k -9223372036854775808;
sintercard 0 k; sintercard -1 k; sintercard x k; sintercard 2 k; sintercard 1 k limit;
  sintercard 1 k limit -1;
sintercard 1 k limit x; sintercard 1 k foo 1; sintercard 1 k limit 1 limit 2; sintercard 1 k k;
smove m n a; sadd k a; smove k n b; smove k k a; smove k n a; exists k; smembers n;
zadd k x a; zadd k 1; zadd k 1 a 2; zadd k nx xx 1 a; zadd k nx gt 1 a; zadd k gt lt 1 a;
  zadd k nx lt 1 a;
zadd k incr 1 a 2 b; zadd k nan a; zadd k '' a; zadd k ' 1' a; zadd k 1e400 a; zadd k 1e-400 a;
  zadd k 0x10 h;
zadd k inf a; zadd k incr -inf a; zincrby k -inf a; zadd k -inf b; zincrby k nan a;
  zincrby k x a; zscore k a;
zadd m xx 1 a; exists m; zadd m xx incr 1 a; zadd k nx incr 1 a; zadd k gt ch 5 z;
  zadd k lt ch 7 z; zscore k z;
zadd k foo 1 a; zadd k ch; zadd k incr 1; zincrby k nx a; zadd k (1 a; zadd k 1 a 1 a; zcard k;
zrange k x 1; zrange k 0 x; zrange k 0 1 foo; zrange k 0 1 limit 0 1;
  zrange k 0 1 bylex withscores;
zrange k x 1 byscore; zrange k a b bylex; zrange k 0 1 byscore limit x 1;
  zrange k 0 1 byscore limit 0;
zrange k 0 1 byscore bylex; zrange k 0 1 rev rev; zrange k 0 1 limit 0 -1; zrange k (1 (2;
  zrange k [a [b;
zrangebyscore k nan 1; zrangebyscore k '' 1; zrangebyscore k ( 1; zrangebyscore k 1 2 rev;
  zrangebyscore k 1 x;
zrangebyscore k ' 1' 2; zrangebyscore k '1 ' 2; zrangebyscore k 1 2 byscore;
  zrangebyscore k 1e999 -1e999;
zrangebyscore k 0x1 0x5; zrangebyscore k +1 +5; zadd k 1 a 2 b;
  zrangebyscore k -inf +inf limit -1 5;
zadd k 1 a 2 b 3 c; zrangebyscore k -inf +inf limit 1 -1; zrangebyscore k (1 (3;
  zrangebyscore k (1 (1;
zrangebyscore k 3 1; zrevrangebyscore k 3 1 limit 1 1 withscores;
  zrange k 3 1 byscore rev limit 0 2;
zrangebylex k a b; zrangebylex k [a b; zrangebylex k - + withscores; zrangebylex k + -;
  zrangebylex k - x;
zadd k 0 a 0 b 0 ''; zrangebylex k - +; zrangebylex k ( [b; zrangebylex k [ (b;
  zrangebylex k + +;
zadd k 0 a 0 b; zrangebylex k - -; zlexcount k - +; zlexcount k (a +; zlexcount k [b [a;
  zlexcount k a b;
zrangestore t k 0 -1 withscores; zrangestore t k 0 x; zrangestore t k x 1 byscore;
  zrangestore t k 0 1 foo;
zrangestore t k 0 -1; exists t; zadd k 1 a 2 b; zrangestore t k 0 0 rev; zrange t 0 -1;
  zrangestore t m 0 -1; exists t;
zcount k x 1; zcount k 1 (; zremrangebyrank k x 1; zremrangebyscore k x 1; zremrangebylex k a b;
  zcount k nan 1;
zpopmin k x; zpopmin k -1; zpopmin k 1 2; zpopmax m; zpopmin m 5; zadd k 1 a; zpopmin k 0;
  zcard k;
zmpop 0 k min; zmpop x k min; zmpop 2 k min; zmpop 1 k foo; zmpop 1 k min count 0;
  zmpop 1 k left; zmpop 1 m max;
zmpop 1 k min count x; zmpop 1 k min foo 1; zmpop 1 k min count; lmpop 1 k min;
  zmpop 1 k min count 1 count 1;
zrandmember k x; zrandmember k 1 foo; zrandmember k 9223372036854775807 withscores;
  zrandmember m 1 withvalues;
zunion 0 k; zunion x k; zunion 2 k; zunion 1 k weights; zunion 1 k weights x;
  zunion 1 k weights nan; zunion 1 k foo;
zunion 1 k aggregate; zunion 1 k aggregate foo; zunion 1 k withscores withscores;
  zunionstore t 1 k withscores;
zdiff 1 k weights 1; zdiff 0 k; zdiffstore t 0 k; zdiffstore t 1 k aggregate sum;
  zinter 1 k limit 1; zinterstore t x k;
zintercard 0 k; zintercard 1 k limit; zintercard 1 k limit -1; zintercard 1 k limit x;
  zintercard 1 k withscores;
zadd k inf a; zadd l -inf a; zunion 2 k l withscores; zunion 1 k weights 0 withscores;
  zinter 2 k l withscores;
zadd k 1 a 2 b; sadd s a c; zunion 2 k s withscores; zinter 2 k s weights 2 3 withscores;
  zdiff 2 k s; zdiff 2 s k withscores;
zunionstore k 2 k s weights 2 1 aggregate max; zrange k 0 -1 withscores; zinterstore t 2 m k;
  exists t;
zmscore m a b; zscore m a; zrank m a; zrevrank m a; zcard m; zscan m 0; zscan m x; zadd k 3.3 a;
  zscan k 0;
zadd k 0.1 a 1e21 b 123456789012345678 c 1e-7 d -1.5e300 e; zrange k 0 -1 withscores;
  zmscore k a b c d e;
zadd k 17179869184.000000001 a; zincrby k 0.1 a; zincrby k 1e308 a; zincrby k 1e308 a;
  zincrby k 1e308 a;
setbit k -1 1; setbit k x 1; setbit k 4294967296 1; setbit k 0 2; setbit k 0 x; setbit k 0 -1;
  setbit k #1 1;
getbit k -1; getbit k x; getbit k 4294967296; getbit m 5; setbit k 7 1; get k; getbit k 7;
  getbit k 100;
bitcount k 0; bitcount k x 1; bitcount k 0 1 foo; bitcount m x 1; set k abc; bitcount k x 1;
  bitcount k 0 1 foo;
set k abc; bitcount k 1 -1 bit; bitcount k 5 -5 bit; bitcount k -1 -2 foo;
  bitcount k 0 1 bit foo; bitcount k 0;
bitpos k 2; bitpos k x; bitpos m 0; bitpos m 1; bitpos m 1 x; set k abc; bitpos k 1 x;
  bitpos k 0 0 -1 foo;
set k \xff\xff; bitpos k 0; bitpos k 0 0; bitpos k 0 0 -1; bitpos k 0 3; bitpos k 1 3 2;
  bitpos k 0 0 15 bit;
set k \x00\x0f; bitpos k 1 0 11 bit; bitpos k 1 0 12 bit; bitpos k 0 12 bit;
  bitpos k 0 12 13 bit; bitpos k 1 2 1;
set k ''; bitpos k 0; bitpos k 1; bitcount k; bitpos k 0 0 -1; setbit k 0 0; strlen k;
  bitpos k 1 0 0 foo bar;
bitop foo t k; bitop not t a b; bitop and t m; exists t; set a abc; bitop not t a; get t;
  bitop xor t a m; get t;
set a abc; set b \xff; bitop and t a b; get t; bitop or t a b; get t; bitop or a m n; exists a;
bitfield k get u64 0; bitfield k get i65 0; bitfield k get x8 0; bitfield k get u8 -1;
  bitfield k get u8 x; bitfield k;
bitfield k set u8 0; bitfield k set u8 0 x; bitfield k incrby u8 0; bitfield k overflow foo;
  bitfield k overflow; bitfield k foo;
bitfield k get u0 0; bitfield k get u8 #x; bitfield k get u8 4294967296;
  bitfield k get u8 #536870912; bitfield k get;
bitfield k set u8 0 -1 overflow sat incrby u8 0 10 overflow fail incrby u8 0 10 get u8 0; get k;
  bitfield k set u8 0 300;
bitfield k overflow sat set u8 0 -1 set i8 8 -300 incrby i64 16 9223372036854775807; get k;
  bitfield k overflow sat incrby i64 16 1; get k;
bitfield k set i5 3 -7 get i5 3 get u5 3 overflow wrap incrby i5 3 -20 get i5 #1; strlen k;
  bitfield m get u8 0; exists m;
bitfield_ro k get u8 0 set u8 0 1; bitfield_ro k incrby u8 0 1; bitfield_ro m get i64 100;
  bitfield_ro k; exists k;
"""


def scripts() -> list[list[str]]:
    """Return the requests of each line."""
    return [
        [one.strip() for one in text.split(";") if one.strip()]
        for text in re.split(r"\n(?! )", BAD.strip("\n"))
    ]


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("script", scripts(), ids=lambda script: script[0])
def test_replies_are_those_of_redis(pair: Pair, script: list[str], protocol: int) -> None:
    pair.redis.call(b"HELLO", b"%d" % protocol)
    pair.ours.protocol = protocol
    try:
        for line in script:
            pair.check(*words(line))
    finally:
        pair.redis.call(b"HELLO", b"2")
        pair.ours.protocol = 2
    pair.check_content()


def _key_limit_requests() -> list[tuple[str, list[bytes]]]:
    found = []
    for name in NAMES:
        for request in request_for(ALL[name]):
            for place, word in enumerate(request):
                if place and word in (b"k", b"a", b"b", b"t"):
                    found.append((name, [*request[:place], b"x" * 11, *request[place + 1 :]]))
    return found


def test_a_key_that_is_too_long_is_refused() -> None:
    store = StoreUnderTest(Limits(key_bytes_max=10, value_bytes_max=10))
    for name, request in _key_limit_requests():
        reply = store.call(*request)
        assert isinstance(reply, Failed), request
        assert "key_bytes_max" in reply.text or "value_bytes_max" in reply.text, (name, reply)


def test_an_element_that_is_too_long_is_refused() -> None:
    store = StoreUnderTest(Limits(value_bytes_max=10))
    large = "x" * 11
    for line in (
        "hset k {} v", "hset k f {}", "hsetnx k f {}", "hdel k {}", "hincrby k {} 1", "lpush k {}",
        "rpushx k a {}", "lset k 0 {}", "linsert k before a {}", "lrem k 0 {}", "sadd k a {}",
        "smove k l {}", "zadd k 1 {}", "zadd k {} a", "zincrby k 1 {}", "zrank k {}",
        "zrangebylex k [{} +",
    ):  # fmt: skip
        reply = store.call(*words(line.format(large)))
        assert isinstance(reply, Failed), line
        assert "value_bytes_max" in reply.text, line
    for line in ("setbit k 80 1", "bitfield k set u8 80 1", "getbit k 80"):
        assert store.call(*words(line)) == Failed(
            "ERR bit offset is not an integer or out of range"
        )
