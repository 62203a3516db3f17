"""Makes docs/reference/commands.md from the command table.

    python -m tests.unit.server.reference_pages

writes it; test_reference_pages.py fails while the page differs.
"""

from __future__ import annotations

from pathlib import Path

from raftkv.server.command_set import standard_commands
from raftkv.server.command_table import CommandSpec, Kind

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "commands.md"

HEAD = """\
# Commands

<!-- Written by `python -m tests.unit.server.reference_pages` from server/command_data.py. -->

Names, arguments, replies and error texts are those of Redis 7; names and options may be written
in any case. Keys and values are any bytes. A command that is not listed here is answered with
`ERR unknown command`.

*Arity* counts the name too; a negative number means "at least". *Where* says which node carries
the command out:

* `log`: the leader, through the replicated log. Elsewhere it is redirected or proxied.
* `read`: the leader, linearizably, or a follower
  in proxy routing by asking it; any node after `READONLY`, `RAFT READS stale` or `bounded`. Behind
  unanswered writes of the same connection it goes through the log with them.
* `slices`: as `read`; looks at every key, in slices that leave room for other work. Requests
  behind it on the same connection wait for it.
* `alone`: as `read`, one at a time on each connection, because it takes milliseconds.
* `watch`: as `read`, always linearizable; what is found out stays with the connection.
* `waits`: as `log`; where it finds nothing, its client waits [on the leader](#blocking-pops).
* `here`: the node that is asked.

## Transactions

`MULTI` ... `EXEC` is one entry of the log: all of it takes effect at one moment or none of it
does, nothing comes between, and all that it changes has one revision. As in Redis, a command that
is unknown or has a wrong number of words is refused at once and makes `EXEC` answer `EXECABORT`;
any other error is the reply of its command, and the others count. Reads inside go through the log
with the rest.

`WATCH` remembers the modify revision of each key, 0 for a key that does not exist, as a
linearizable read; `EXEC` answers null and does nothing if one is another by then. A key that
expired meanwhile has changed. So has one that was deleted and made again, but not one that did
not exist at `WATCH` and does not exist at `EXEC`. Revisions are replicated, so neither a change
of the leader nor another node in between makes a difference. While keys are watched, reads of the
connection are linearizable, whatever its level.

* On a follower in `redirect` routing a command of the store inside `MULTI` is answered `MOVED`,
  and `EXEC` then `EXECABORT`. In `proxy` routing `EXEC` is forwarded as one request, once.
* `PING`, `ECHO`, `SELECT 0`, `UNWATCH` and `PUBLISH` may be queued. Other commands that are
  answered `here` (`TIME`, too), `KEYS`, `SCAN`, reads of the past and of ranges (`KV GET ... REV`,
  `KV RANGE`, `KV HISTORY`), `KV EXEC`, `KV TXN` and what is about sessions are refused with
  `ERR Command not allowed inside a transaction`; what looks at many keys because thousands of them
  in one entry would hold up every node.
* A transaction has at most `limits.batch_commands_max` commands, and with what is watched fits
  into one request (`limits.request_bytes_max`, `limits.request_arguments_max`); what all
  connections of a node have queued, into `limits.uncommitted_bytes_max`. `CLIENT LIST` shows it
  as `multi-mem`.

`KV TXN` decides and acts in one round trip, after etcd's model:

```text
KV TXN <compares> [<key> <target> <op> <operand>]...
       <commands> [<words> <word>...]...    executed if all compares hold
       <commands> [<words> <word>...]...    executed if not
```

Each list begins with its length, and each command with the number of its words. Targets are
`VALUE` (bytes), `EXISTS` (1 or 0), `CREATE` and `MODIFY` (revisions) and `VERSION`; ops are `=`,
`!=`, `<` and `>`. A key that does not exist has revisions and version 0, and no compare of its
value holds. The reply has three elements: 1 if all compares held or 0, the list of replies, and
the revision of the store behind it. Any wrong word refuses the whole. A lock on a name, taken
once:

```text
KV TXN 1 lock EXISTS = 0  1 5 SET lock me PX 10000  1 2 GET lock
```

`KV EXEC <keys> [<key> <revision>]... <commands> [<words> <word>...]...` is a whole `MULTI` in one
request, without state on the connection; `KV REVISIONS key ...` returns what `WATCH` remembers.

## Revisions

Whatever changes the store has a revision, which grows by one: a command, a transaction, or a
slice of keys that expired. `KV GET key [REV revision]` returns a map of a key's `value`, its
`create_revision`, `modify_revision`, `version` (changes since it was created) and `type`. A hash,
list, set or sorted set is shown in whole, as `HGETALL`, `LRANGE`, `SMEMBERS` and `ZRANGE
WITHSCORES` do. With `REV` it is what the key was behind that revision, whatever has become of it
and its deadline since; null if it was not there.

```text
KV RANGE <start> <end> | PREFIX <prefix>
         [FROM <key>] [LIMIT <n>] [REV <revision>] [KEYSONLY] [COUNT]
```

returns keys in ascending order of their bytes, from `start` up to but without `end`. An empty
`end` is no end, and an empty `start` is the first key of all. The reply is a map: `revision`,
which it is as of; `more`, 1 or 0; `next`, where to go on, or null; and `items`, each an array of
key, value, create revision, modify revision and version, or with `KEYSONLY` the key. While `more`
is 1, repeat the command with `FROM` the next key and `REV` the revision: all pages are as of the
first, whatever is written meanwhile. A page has `LIMIT` keys (1000 if not given, 10,000 at most),
or fewer above 1 MiB. `COUNT` answers with the number of all keys in the range alone. A start that
is spelled `PREFIX` goes behind `FROM`, with an empty start.

Without `REV` a key whose deadline has passed is not there; at a revision it is there until the
revision that removed it. A revision is read as long as the history reaches it
(`limits.history_revisions` and `history_bytes_max`, as the leader has them); `FLUSHALL` ends the
history. Else the error is `ERR revision N is compacted; the oldest available is M`, and above the
newest `ERR revision N is in the future; the newest is M`. `KV HISTORY` is a map of the `newest`
and the `oldest` revision that can be read, the `events` held between them, the `bytes` that they
count for, and the bounds in force, `revisions_kept` and `bytes_kept`.

## Exactly once

A client that got no answer to a write cannot know whether it was executed, and may neither send it
again nor leave it. With a session it can do both:

```text
KV SESSION OPEN [TTL <ms>]                      returns the id of a new session
KV ONCE <session> <number> <lowest> <command> [<arg> ...]
KV OUTCOME <session> <number>                   returns applied and the reply, or fenced
KV SESSION KEEPALIVE <id>                       returns 1, or 0 if the session has ended
KV SESSION CLOSE <id> | INFO <id> | LIST
```

The client numbers its writes from 1, each with another number, in any order. The first copy of a
number that arrives is executed; every further one is answered with the same reply, whatever
became of connections, leaders and nodes in between, and an error is a reply like any other.
`<lowest>` is the lowest number of which the client does not yet know the reply, at most `<number>`:
the results below it are freed, and nothing else frees them. Without copies it is the number itself.

`KV ONCE` takes one write about keys or leases, also `KV EXEC` and `KV TXN`; reads, `MULTI` and
what the node answers itself are refused. `KV OUTCOME` goes through the log like a write: when it
says `fenced`, the number was not executed and never will be, and a late copy is answered
`NOTAPPLIED fenced`.

* Below `<lowest>`, and in a session that has expired or never was, the answer is
  `UNKNOWN session expired`, and nothing is executed. It tells nothing of an earlier copy.
* A session lives for its TTL (60,000 ms; 1,000 to 86,400,000) after the last `KV ONCE`,
  `KV OUTCOME` or `KEEPALIVE`, in [lease time](../concepts/consistency.md#time): without a leader no
  time passes, so that no failover shortens it. While it lives, nothing in it is dropped.
* It holds 8192 numbers from `<lowest>` on and 4 MiB of results; all sessions together, of which
  there are at most 10,000, hold 256 MiB. Beyond that a new number is refused with `NOTAPPLIED
  session window full`, a new session with `NOTAPPLIED too many sessions`; copies are answered.
* A command whose result is larger than 1 MiB is undone: `NOTAPPLIED result exceeds what a session
  keeps`, which is also what a copy is told.

```text
KV SESSION OPEN                  -> 17
KV ONCE 17 1 1 INCR visits       -> 42
KV ONCE 17 1 1 INCR visits       -> 42        a copy
KV ONCE 17 2 2 LPUSH log entry   -> 9         number 1 is finished
KV OUTCOME 17 2                  -> applied, 9
KV OUTCOME 17 3                  -> fenced
```

## Blocking pops

`BLPOP`, `BRPOP`, `BLMPOP`, `BLMOVE`, `BRPOPLPUSH`, `BZPOPMIN`, `BZPOPMAX` and `BZMPOP` pop what
there is. Where there is nothing, the client waits on the leader until another command puts
something at one of its keys, whatever that command is, and is then served with a pop that goes
through the log. Those who have waited longest are served first, each from the key that got ready. A
timeout is in seconds, maybe with a fraction, and is judged every 50 ms; 0 is no end, and
`timing.request_timeout_ms` does not count. Commands behind it on the same connection wait with it.

* **At most once.** An element leaves the store only for a client that was there when its pop was
  proposed. A connection that ends while its pop is on its way takes the element with it, as in
  Redis; so does a pop that ends with `UNKNOWN`, if it was executed. Who cannot bear that uses
  `BLMOVE`, and removes the element from the second list when the work is done.
* Inside `MULTI` and `KV TXN` nothing waits: an empty key is answered with null.
* On a follower in `redirect` routing the answer is `MOVED` at once. In `proxy` routing the wait is
  held by the leader, which is told when the client is gone; until it hears of that, the client
  counts as there. A lost link ends the wait with `UNKNOWN`, because the pop may have been executed.
* When the leader steps down its waiting clients are sent on, with what is left of their timeout:
  `MOVED` and the end of the connection, or by proxy to the next leader. A pop that is on its way at
  that moment is `UNKNOWN leadership lost`. A node that stops answers `NOTAPPLIED shutting down`.
* `CLIENT UNBLOCK` ends a wait of a client of the same node. All waiting clients together wait for
  at most `limits.blocked_keys_max` keys; one more is `NOTAPPLIED overloaded`, with nothing popped.
* A key that holds another type when the client comes is `WRONGTYPE`; one that gets another type
  later counts as empty.

## Memory limit

`limits.maxmemory` bounds what all keys and values count for, as `INFO memory` shows it in
`used_memory_dataset` and `MEMORY USAGE` for one key: the bytes of key and value, 290 for a key, 112
for a deadline, and for each field of a hash 170, element of a list 42, member of a set 100, of a
sorted set 220. These are fixed numbers, so that all nodes refuse the same; small values of each
type were seen to take 0.8 to 1.2 times as much in the process. The log, the buffers of clients and
a snapshot that is being written or taken come on top.

There is no eviction (`maxmemory-policy noeviction`). Above the limit the commands that may need
more memory are refused with the definite `OOM command not allowed when used memory > 'maxmemory'.`;
`DEL`, pops, `EXPIRE`, `RENAME` and reads go on. The limit is looked at when a command begins, so
that one command, or one transaction, may exceed it by all that it writes. A transaction with a
command that may grow is refused as a whole, with `EXECABORT`.

The limit is a part of the state. The leader proposes it when its config says another one than is in
force, so all nodes shall have the same; `CONFIG GET maxmemory` shows the one in force.

## Compare and set

`SET key value IFEQ old` sets the key if it holds the string `old`, so never a key that does not
exist; `IFNE` sets it if it does not hold that string, so also one that does not exist. Otherwise
the reply is null, and with `GET` the old string in both cases. Neither goes with `NX`, `XX` or
the other. `DELEX key [IFEQ old | IFNE old]` answers 1 or 0. With a condition, another type than a
string is `WRONGTYPE`. As in Redis 8.4, whose digests (`IFDEQ`, `IFDNE`) are not there.

## Leases

A lease is a time to live that keys share and that their owner renews. When it ends, by time or by
`KV LEASE REVOKE`, all keys bound to it are gone for every command at that moment.

```text
KV LEASE GRANT 10000                     -> 3141592653589793, the id
KV SET lock:a me LEASE 3141592653589793  set and bound in one step
KV LEASE KEEPALIVE 3141592653589793      -> 10000, the remaining milliseconds
```

* A lease lives for 100 ms to 365 days. Ids are numbers from 1 to 2^53 - 1, random unless `ID`
  gives one; there are at most `limits.leases_max` leases, and `limits.lease_keys_max` keys to
  each. A key has one lease at most.
* A lease that is not there, or over, is answered `NOLEASE no such lease`; `TTL` answers null.
  `TTL` answers a map with `id`, `ttl_ms`, `remaining_ms`, `key_count`, and with `KEYS` also
  `keys`. Pages of `LIST` hold at most 1000 ids.
* All go through the log, inside `MULTI`, `KV TXN` and `KV EXEC` too. Time is [lease
  time](../concepts/consistency.md#leases): a change of the leader never shortens a lease.
* Leases and bindings have no revision. The keys of a lease that is over are removed like those
  whose time to live has ended, in slices, each under one revision; until then nobody sees them.
  The id of such a lease can be granted again once they are removed.
* A command that replaces a whole key takes it from its lease, as it takes the time to live away:
  `SET` (unless `KEEPTTL` is given), `SETEX`, `MSET`, `GETSET`, `COPY` onto it, and what stores a
  result (`SUNIONSTORE`, `BITOP`, ...). One that changes a part of it, or its time to live, does
  not: `APPEND`, `INCR`, `HSET`, `EXPIRE`, `PERSIST`. `RENAME` takes the lease along; a copy has
  none. `DEL` ends the binding with the key. A key that has both ends with whichever ends first.

## Scripts

`EVAL`, `EVALSHA` and `SCRIPT` are there for redis-py's `Lock`, sync and asyncio, and for those of
its descendants that use the same scripts (valkey-py). The three scripts are known by their
digests and are commands of the store here; no script runs. `EVALSHA` answers `NOSCRIPT` to any
other, `EVAL` and `SCRIPT LOAD` an error. Such a lock is a key with a time to live, which follows
[log time](../concepts/consistency.md#time); the locks of [our own clients](../howto/locks.md)
have leases and fencing tokens.

## Watches

`KV WATCH KEY key | PREFIX prefix [FROM revision] [PREV]` tells a connection every change of a key,
or of all keys with a prefix (an empty one is that of every key), in the order of revisions, **each
exactly once and none left out**. Any node serves it, leader or not, from the changes that it has
applied. `FROM` names the first revision to be told, which may be of the past or to come; without it
a watch begins behind the newest one of that node, so everything that is written behind the reply is
told. `PREV` adds the value before each change. The reply is a map with the number of the `watch` on
its connection and the `revision` behind which it begins. A watch waits for nothing: `FROM` in the
next call, on the same or another node, goes on where it was left.

What one command, `EXEC` or `KV TXN` changes has one revision and is one message; a key that changed
several times in it is told once. Messages are pushes in RESP3, and in RESP2, where a watch makes
a subscriber of the connection, messages of a channel that nobody can publish to:

```text
RESP3   >5 "kv-watch" <watch> "events" <revision> [<event> ...]
        >4 "kv-watch" <watch> "progress" <revision>
        >5 "kv-watch" <watch> "compacted" <oldest> <reached>
RESP2   *3 "message" "kv-watch:<watch>" ["events" <revision> [<event> ...]]       and so on
event   [<what> <key> <type> <value> <deadline> <create revision> <version> <value before>]
```

*What* is `put`, `delete` or `expire`; a change of the deadline is a `put`, and the end of a lease,
by time or by `KV LEASE REVOKE`, an `expire` of its keys. Values of strings are
told; of other types the value is null, and read with the command of its type. The deadline is in ms
of Unix time, 0 for none. What a key that is gone had is null or 0, as is the value before without
`PREV`.

* `progress` says that everything up to a revision has been told, for a watch from a future revision
  up to that. It comes within 5 seconds when
  revisions passed by that were not for the watch, and on demand: `KV PROGRESS [watch ...]` sends it
  for each, in front of its reply.
* A client that reads slowly costs no memory: what it has not been told waits in the
  [history](../adr/0024-a-bounded-history.md). When that has been cut behind what it needs, it gets
  `compacted` with the oldest revision from which it can be told, and the newest up to which it was
  told everything, and the watch ends. `FROM` a revision that is gone is answered
  `ERR revision 3 is compacted; the oldest available is 4`. `FLUSHALL` cuts the history.
* When the values in one message would exceed a quarter of `limits.output_buffer_bytes_max` and
  `limits.value_bytes_max`, all of them are null: read them with `KV GET key REV revision`.
* With `durability.sync` other than `always`, a loss of power on a quorum may take changes that were
  told, and give their revisions to others: who watches then has to read anew.
* `KV UNWATCH [watch ...]` ends watches, all without a number, and answers how many; no message
  follows the reply. `RESET` and the end of the connection end them, too.
* A node that is cut off from the leader tells nothing new; `RAFT STALENESS` on the connection says
  how far it may be behind. The [client library](python-api.md) looks after that and changes nodes.
* Watches and subscriptions of a node may take `limits.uncommitted_bytes_max` of memory together
  with queued transactions.

**Keyspace notifications** are for clients of Redis: with `CONFIG SET notify-keyspace-events`, which
has Redis' flags, each node publishes the changes that it applies in `__keyspace@0__:<key>` and
`__keyevent@0__:<event>` to its own subscribers, at most once. They are made of the same changes as
watches, the same on every node. So the event says what became of a key: `set`, `hset` or `hdel`,
`rpush` or `lpop`, `sadd` or `srem`, `zadd` or `zrem` by whether it grew or lost something,
`expire`, `persist`, `del`, `expired`, `new`. `INCR` is a `set`, and `RENAME` a `del` and a `set`.

## Publish and subscribe

As in Redis, a message is delivered **at most once** and kept nowhere. Any node takes `SUBSCRIBE`
and `PUBLISH`; a message goes to the subscribers of the node that was asked at once, and over the
links between nodes to those of every other node, in the order in which its connection published.
It is lost for a node whose link is down at that moment or has a quarter of
`limits.peer_queue_bytes_max` waiting; the metrics count such losses. What must not be missed
belongs into a key. `PUBLISH` counts the subscribers on the node that was asked, as in Redis
Cluster; `PUBSUB` looks at that node, too.

* `PUBLISH` and the commands that subscribe wait until everything sent before on their connection is
  answered. So whoever hears of a write may read it, and behind an `UNKNOWN` nothing is published.
* In RESP2 a connection with subscriptions takes the commands that change them, `PING`, `QUIT` and
  `RESET`. In RESP3 it takes every command; messages come as pushes between two replies.
* A subscriber that leaves more than `limits.push_buffer_bytes_max` of messages unread gets all to
  there, then `ERR client too slow: messages exceed limits.push_buffer_bytes_max`, and is closed.
* Shard channels (`SSUBSCRIBE`, `SPUBLISH`) are a name space of their own, served by every node.
* `PUBLISH` and `SPUBLISH` may be queued in `MULTI`: the node that is asked publishes them when the
  transaction has certainly been executed, and not when its outcome is `UNKNOWN`. The other commands
  are refused there.
* A pattern has at most 1024 bytes, a channel `limits.key_bytes_max`.

## What differs from Redis

* There is one database: `SELECT` takes 0 only.
* `DEL` and `UNLINK` are the same, as are `FLUSHDB` and `FLUSHALL`; `TOUCH` counts keys.
* `CLIENT NO-EVICT`, `CLIENT NO-TOUCH`, `ASKING` and passwords for the user `default` are accepted
  and change nothing. `CLIENT TRACKING` and `CLIENT REPLY` are refused: a client may rely on them.
* `CONFIG SET` changes `maxclients`, `timeout` and `notify-keyspace-events`, until the node stops.
* `INFO commandstats` counts calls; commands have no durations of their own, because they are
  carried out in batches.
* `SENTINEL` knows one master, `raftkv`: the leader. `+switch-master`, `+slave`, `+sdown` and
  `-sdown` are published by every node to its own subscribers. Clients in Sentinel mode read from
  replicas without `READONLY`, so they want `proxy` routing.
* `SORT` puts elements of equal weight in the order of their bytes; Redis leaves it open. `ALPHA`
  compares bytes, whatever the locale.
* The server never answers `CROSSSLOT`: one shard owns all slots. Cluster-aware clients may
  refuse such a command themselves; hash tags (`{user}:1`, `{user}:2`) help.

## What is missing

Of the commands of Redis 7.0 on strings, bitmaps, hashes, lists, sets, sorted sets and keys, these
are not here:

| command | why |
|---|---|
| `LCS` | its time is the product of two lengths, and would hold up all clients of a node |
| `DUMP`, `RESTORE`, `MIGRATE` | their format is the internal one of Redis; see `raftkv export` |
| `MOVE`, `SWAPDB` | there is one database |
| `WAIT` | a write is answered when a majority has it, so there is nothing left to wait for |

`PFADD`, `PFCOUNT` and `PFMERGE` (HyperLogLog) are missing because no library serves: what it keeps
has to be equal on all nodes to the last bit, and readable by every later version. `datasketches`
keeps floating-point sums of its estimator among its registers, which compilers for different
processors may round differently; `hll` and `hyperloglog` can be stored with pickle only, which is
never read here; `datasketch` needs numpy and scipy. A set counts exactly.

Geo commands and streams are not here, of scripts only [those of redis-py's Lock](#known-scripts).
"""

TITLES = {
    "string": "Strings",
    "generic": "Keys",
    "hash": "Hashes",
    "list": "Lists",
    "set": "Sets",
    "sorted-set": "Sorted sets",
    "bitmap": "Bits",
    "transactions": "Transactions on a connection",
    "kv": "Revisions, conditions and leases",
    "pubsub": "Messages",
    "scripting": "Known scripts",
    "sessions": "Writes that are executed once",
    "server": "Server",
    "connection": "Connection",
    "cluster": "Cluster",
    "raft": "raftkv",
    "sentinel": "Sentinel",
}
PLACES = {
    Kind.LOCAL: "here",
    Kind.READ: "read",
    Kind.WRITE: "log",
    Kind.SLICED: "slices",
    Kind.ALONE: "alone",
    Kind.WATCH: "watch",
    Kind.BLOCKING: "waits",
}


def _place(spec: CommandSpec) -> str:
    return "" if spec.subcommands and spec.low > 1 else PLACES[Kind(spec.kind)]


def _row(spec: CommandSpec) -> str:
    name = spec.name.upper().replace("|", " ")
    return f"| `{name}` | {spec.arity} | {_place(spec)} | {spec.summary}. |\n"


def commands_page() -> str:
    """The whole page."""
    parts = [HEAD]
    specs = list(standard_commands().all())
    for group, title in TITLES.items():
        parts.append(
            f"\n## {title}\n\n| command | arity | where | what it does |\n|---|---|---|---|\n"
        )
        parts += [_row(spec) for spec in specs if spec.group == group]
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(commands_page())
