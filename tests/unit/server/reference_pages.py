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
* `PING`, `ECHO`, `SELECT 0` and `UNWATCH` may be queued. Other commands that are answered `here`,
  and `KEYS`, `SCAN`, `KV EXEC` and `KV TXN`, are refused with `ERR Command not allowed inside a
  transaction`; `KEYS` and `SCAN` because thousands of them in one entry would hold up every node.
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
request, without state on the connection; `KV REVISIONS key ...` returns what `WATCH` remembers,
and `KV GET key` a string as a map with its `create_revision`, `modify_revision` and `version`.

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

## What differs from Redis

* There is one database: `SELECT` takes 0 only.
* `DEL` and `UNLINK` are the same, as are `FLUSHDB` and `FLUSHALL`; `TOUCH` counts keys.
* `CLIENT NO-EVICT`, `CLIENT NO-TOUCH`, `ASKING` and passwords for the user `default` are accepted
  and change nothing. `CLIENT TRACKING` and `CLIENT REPLY` are refused: a client may rely on them.
* `CONFIG SET` changes `maxclients` and `timeout`, until the node stops.
* `INFO commandstats` counts calls; commands have no durations of their own, because they are
  carried out in batches.
* `SENTINEL` knows one master, `raftkv`: the leader. It publishes no events; clients in Sentinel
  mode read from replicas without `READONLY`, so they want `proxy` routing.
* The server never answers `CROSSSLOT`: one shard owns all slots. Cluster-aware clients may
  refuse such a command themselves; hash tags (`{user}:1`, `{user}:2`) help.
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
    "scripting": "Known scripts",
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
