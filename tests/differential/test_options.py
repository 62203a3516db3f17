"""Every option, combination of options and error text, compared with Redis."""

from __future__ import annotations

import itertools
import re

import pytest

from tests.differential.pair import Pair, words
from tests.differential.redis_process import Failed

PAST, FUTURE = b"1000", b"99999999999"

# One test a script; its requests run in order on empty stores. A line that is
# not indented begins a script.
SCRIPTS = r"""
set k v; get k; get missing; strlen k; strlen missing; type k; type missing; exists k k missing;
set k v EX 100; ttl k; pttl k; expiretime k; set k w KEEPTTL; ttl k; set k w; ttl k;
set k v EX 0; set k v EX -1; set k v PX 0; set k v EX abc; set k v EX 1.5;
set k v EX 9223372036854775807; set k v PX 9223372036854775807; set k v EX 9223372036854775;
set k v PXAT 9223372036854775807; pexpiretime k; set k v EXAT 9223372036854775; expiretime k;
set k v EXAT 9223372036854776; set k v EXAT 0; set k v PXAT -5; set k v PXAT 1; get k;
set k old; set k v EXAT 1; get k; exists k; set k v PXAT 1 GET; get k;
set k v NX; set k w NX; get k; set k w XX; get k; set m w XX; get m; set k v nx xx;
set k v NX GET; set k w NX GET; get k; set k w XX GET; get k; set m w XX GET; exists m;
set k v GET; set k w GET; set k x GET EX 100; ttl k; set k y KEEPTTL GET; ttl k;
set k v EX 10 PX 10; set k v EX 10 KEEPTTL; set k v KEEPTTL EX 10; set k v EX; set k v NX XX;
set k v EX 10 EX 20; ttl k; set k v foo; set k v ex 10 foo; set k v persist; set k v '';
set k v EXAT 10 PXAT 10; set k v keepttl keepttl; set k v nx nx get get; get k;
setnx k v; setnx k w; get k; ttl k; setex k 100 v; ttl k; setnx k x; get k;
setex k 0 v; setex k -1 v; setex k x v; setex k 9223372036854775807 v; psetex k 0 v; get k;
psetex k 100000 v; pttl k; psetex k abc v; psetex k 9223372036854775807 v;
mset a 1 b 2; mget a b c a; mset a 1 b; msetnx c 3 d 4; mget c d; msetnx d 5 e 6; exists e;
mset a 1 a 2; get a; msetnx x 1 x 2; get x; set t v EX 100; mset t w; ttl t;
getset k v; getset k w; set k v EX 100; getset k x; ttl k; getdel k; getdel k; exists k;
getex missing; set k v; getex k EX 100; ttl k; getex k; ttl k; getex k PERSIST; ttl k;
set k v; getex k PX 100000; pttl k; getex k EXAT 99999999999; ttl k; getex k PXAT 1; get k;
getex missing EX abc; set k v; getex k EX abc; getex k EX 0; getex k PX -1; getex k EX;
set k v; getex k EX 9223372036854775807; getex k PX 9223372036854775807; getex k foo;
set k v; getex k EX 10 PERSIST; getex k PERSIST EX 10; getex k PERSIST PERSIST; getex k NX;
set k v; getex k EX 10 PX 10; getex k EX 10 EX 200; ttl k; getex k KEEPTTL; getex k GET;
append k a; append k bc; get k; append k ''; append e ''; exists e; get e;
set k v EX 100; append k w; ttl k; setrange k 0 x; ttl k; incr n; expire n 100; incr n; ttl n;
set k 0123456789; getrange k 0 3; getrange k -3 -1; getrange k 0 -1; getrange k 5 100;
set k 0123456789; getrange k 3 1; getrange k -1 -3; getrange k -100 2; getrange k 20 30;
set k 0123456789; getrange k -100 -50; getrange k -5 2; getrange k 0 0; substr k 1 2;
getrange missing 0 -1; getrange k a 1; getrange k 0 b; getrange k 1.0 2; set e '';
  getrange e 0 -1;
getrange k 9223372036854775807 -9223372036854775808; set k v; getrange k 9223372036854775808 1;
setrange k 3 abc; get k; setrange k 0 xy; get k; setrange k 5 ''; setrange m 5 ''; exists m;
setrange k -1 a; setrange k x a; set k abc; setrange k 10 d; get k; setrange k 1 ZZZZ; get k;
incr n; incrby n 10; decr n; decrby n 5; get n; incrby n -3; incrby n abc; incrby n 1.5;
set n 9223372036854775807; incr n; get n; decr n; set n -9223372036854775808; decr n; incr n;
decrby n -9223372036854775808; decrby n 9223372036854775807; decrby n 2; get n; incrby n '';
set n abc; incr n; set n 10a; incr n; set n ' 1'; incr n; set n 01; incr n; set n +1; incr n;
set n ''; incr n; set n -0; incr n; set n 0; incr n; set n -5; incr n; set n '5 '; incr n;
set n 9223372036854775808; incr n; set n 99999999999999999999; incr n; incrby n 0;
incrbyfloat f 1; incrbyfloat f 0.1; incrbyfloat f -2.5; get f; incrbyfloat f 1e3;
  incrbyfloat f abc;
set f 10.50; incrbyfloat f 0.1; set f 5.0e3; incrbyfloat f 2.0e2; incrbyfloat f -5200; get f;
set f abc; incrbyfloat f 1; set f ''; incrbyfloat f 1; incrbyfloat g ''; incrbyfloat g ' 1';
incrbyfloat f inf; incrbyfloat f -inf; incrbyfloat f nan; incrbyfloat f +Infinity; set f inf;
  incrbyfloat f 1;
incrbyfloat f 0x10; incrbyfloat f 0x1.8p1; incrbyfloat f +5; incrbyfloat f .5; incrbyfloat f 5.;
incrbyfloat f 1e4932; incrbyfloat f 1e4931; incrbyfloat f 1e4931;
  incrbyfloat f 1e99999999999999999999;
incrbyfloat f 1e-4951; incrbyfloat f 1e-4950; incrbyfloat f 1e-5000; incrbyfloat f 1e-18; get f;
incrbyfloat f 3.0e3; incrbyfloat f 0.30000000000000000001; incrbyfloat f 1e17;
  incrbyfloat f 0.1;
set f 17179869184.000000001; incrbyfloat f 17179869184; incrbyfloat f -0.0000000000000000055;
incrbyfloat z -0; incrbyfloat z -0.0; set z -0.0; incrbyfloat z 0; get z; incrbyfloat y -1e-18;
del a b; mset a 1 b 2 c 3; del a b a; unlink c c; exists a b c; dbsize; touch a; mset a 1;
  touch a a b;
set k v; expire k 100; ttl k; expire missing 100; persist k; persist k; persist missing; ttl k;
set k v; expire k -1; exists k; set k v; expire k 0; exists k; set k v; pexpire k -100;
  exists k;
set k v; expireat k 1; exists k; set k v; pexpireat k 1; exists k; set k v; expireat k -5;
  exists k;
set k v; expireat k 0; exists k; set k v; pexpireat k 0; exists k; set k v; expireat k 0 LT; ttl k;
set k v; expire k abc; expire k 1.5; expire k ''; pexpire k abc; expireat k abc;
  pexpireat k abc;
set k v; expire k 9223372036854775807; expire k 9223372036854775; expire k -9223372036854775808;
set k v; pexpire k 9223372036854775807; pexpire k -9223372036854775808; exists k;
set k v; expireat k 9223372036854775807; pexpireat k 9223372036854775807; pexpiretime k;
  exists k;
set k v; expireat k -9223372036854776; pexpireat k -9223372036854775808; exists k;
expire missing 9223372036854775807; expire missing abc; expire missing 10 foo;
  expire missing 10 nx gt;
set k v; expire k 100 XX; expire k 100 GT; expire k 100 LT; ttl k; expire k 50 GT;
  expire k 200 GT; ttl k;
set k v; expire k 100 NX; expire k 200 NX; ttl k; expire k 200 XX; ttl k; expire k 300 LT;
  expire k 50 LT; ttl k;
set k v; expire k 10 NX XX; expire k 10 NX GT; expire k 10 NX LT; expire k 10 GT LT;
  expire k 10 XX GT;
set k v; expire k 10 XX LT; expire k 10 foo; expire k 10 nx foo; expire k abc NX XX;
  pexpire k 10 bar;
set k v EX 100; expire k 200 XX GT; ttl k; expire k 10 XX LT; ttl k; expire k 10 nx nx;
  expire k -1 LT; exists k;
ttl missing; pttl missing; expiretime missing; pexpiretime missing; set k v; ttl k; pttl k;
  expiretime k; pexpiretime k;
rename a b; set a 1; rename a b; get a; get b; rename b b; get b; rename missing missing;
set a 1 EX 100; set b 2; rename a b; ttl b; set a 1; rename a b; ttl b; renamenx b b;
  renamenx m n;
set a 1; set b 2; renamenx a b; get a; renamenx a c; exists a; get c; set c 1 EX 50;
  renamenx c d; ttl d;
copy a b; set a 1 EX 100; copy a b; ttl b; copy a b; copy a b REPLACE; copy a c replace db 0;
  get c;
set a 1; copy a a; copy m m; copy a b foo; copy a b db; copy a b db x; copy a b db 99;
  copy a b db -1;
set a 1; copy a b db 99999999999; copy a b db 0 foo; copy a b replace replace; copy a a replace;
keys *; set a 1; set b 2; set ab 3; keys *; keys a*; keys ?; keys [a-b]; keys [^a]; keys x*;
  keys '';
flushall foo; flushdb foo; flushall async sync; set k v; flushdb ASYNC; dbsize; set k v;
  flushall sync; dbsize;
scan x; scan -1; scan 0 count 0; scan 0 count -1; scan 0 count x; scan 0 foo; scan 0 match;
  scan 0 count;
scan 0; scan 0 type string; scan 0 match a* count 5; scan 99999999999999999999; scan 1.5;
  scan ' 1'; scan '';
scan 0 count 10 foo; scan 0 foo bar; scan 0 match a count 0; scan 0 match a b; scan +0;
  scan 0 type nosuchtype;
object encoding missing; object freq missing; object idletime missing; object refcount missing;
  object help;
object foo; object foo bar; object encoding; object encoding a b; object help a; object freq;
  object ENCODING k;
set i 12345; object encoding i; set s abc; object encoding s; set n -1; object encoding n;
  set z 007; object encoding z;
set e xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; object encoding e;
  set r xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; object encoding r;
  set b 9223372036854775808; object encoding b;
set k v; object freq k; object refcount k; memory usage missing; memory foo;
  memory usage k samples;
memory usage; memory usage k foo 1; set k v; memory usage k samples -1;
  memory usage k samples x; memory foo bar;
set k\x00k v\x00\r\n; get k\x00k; strlen k\x00k; set '' empty; get ''; keys *;
  append \xff\xfe x; get \xff\xfe;
"""


def scripts() -> list[list[str]]:
    """Return the requests of each script, as lines."""
    texts = re.split(r"\n(?! )", SCRIPTS.strip("\n"))
    return [[line.strip() for line in text.split(";") if line.strip()] for text in texts]


@pytest.mark.parametrize("script", scripts(), ids=lambda script: script[0])
def test_replies_are_those_of_redis(pair: Pair, script: list[str]) -> None:
    for line in script:
        pair.check(*words(line))
    pair.check_content()


SET_OPTIONS = [
    (), (b"NX",), (b"XX",), (b"GET",), (b"KEEPTTL",), (b"EX", b"100"), (b"PX", b"100000"),
    (b"EXAT", FUTURE), (b"PXAT", FUTURE + b"000"), (b"EXAT", PAST), (b"PERSIST",), (b"EX", b"0"),
]  # fmt: skip


@pytest.mark.parametrize("before", ["", "set k old", "set k old EX 500"])
def test_all_combinations_of_up_to_three_options_of_set(pair: Pair, before: str) -> None:
    for count in (1, 2, 3):
        for options in itertools.product(SET_OPTIONS, repeat=count):
            pair.redis.call(b"DEL", b"k")
            pair.ours.call(b"DEL", b"k")
            if before:
                pair.check(*words(before))
            pair.check(b"SET", b"k", b"new", *itertools.chain(*options))
            pair.check(b"GET", b"k")
            pair.check(b"PTTL", b"k")


EXPIRE_TIMES = {
    b"EXPIRE": (b"100", b"2000", b"-1"),
    b"PEXPIRE": (b"100000", b"2000000", b"0"),
    b"EXPIREAT": (b"88888888888", FUTURE, PAST),
    b"PEXPIREAT": (b"88888888888000", FUTURE + b"000", PAST),
}


@pytest.mark.parametrize("name", list(EXPIRE_TIMES))
@pytest.mark.parametrize("before", ["", "set k v", "set k v EX 500", "set k v EXAT 99999999999"])
def test_all_conditions_of_the_expire_commands(pair: Pair, name: bytes, before: str) -> None:
    flags = (b"NX", b"XX", b"GT", b"LT")
    for count in range(4):
        for options in itertools.product(flags, repeat=count):
            for time in EXPIRE_TIMES[name]:
                pair.redis.call(b"DEL", b"k")
                pair.ours.call(b"DEL", b"k")
                if before:
                    pair.check(*words(before))
                pair.check(name, b"k", time, *options)
                pair.check(b"EXISTS", b"k")
                pair.check(b"PTTL", b"k")


def test_the_size_limit_of_a_string_has_the_words_of_redis(pair: Pair) -> None:
    theirs = pair.redis.call(b"SETRANGE", b"k", b"536870912", b"x")
    ours = pair.ours.call(b"SETRANGE", b"k", b"536870912", b"x")
    assert isinstance(theirs, Failed)
    assert isinstance(ours, Failed)
    assert ours.text.split("(")[0] == theirs.text.split("(")[0]


def test_a_memory_usage_is_a_number(pair: Pair) -> None:
    for line in ("set k v", "memory usage k", "memory usage k samples 3"):
        theirs, ours = pair.redis.call(*words(line)), pair.ours.call(*words(line))
        assert type(theirs) is type(ours)


def test_a_random_key_is_one_of_the_keys(pair: Pair) -> None:
    pair.check(b"RANDOMKEY")
    for key in (b"a", b"b", b"c"):
        pair.check(b"SET", key, b"v")
    drawn = {pair.ours.call(b"RANDOMKEY") for _ in range(100)}
    assert drawn == {b"a", b"b", b"c"}
