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
* `read`: the leader, linearizably; any node after `READONLY` or `RAFT READS stale`. Behind
  unanswered writes of the same connection it goes through the log with them.
* `slices`: as `read`; looks at every key, in slices that leave room for other work. Requests
  behind it on the same connection wait for it.
* `alone`: as `read`, one at a time on each connection, because it takes milliseconds.
* `here`: the node that is asked.

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
