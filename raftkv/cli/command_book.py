"""What the shell knows about commands: names, arguments, one line of explanation.

Owns the syntax lines. Names and explanations come from the server when it
answers COMMAND DOCS, so that a newer server's commands are completed too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raftkv.client.calls import to_mapping
from raftkv.client.sync_client import Client
from raftkv.errors import ProtocolError, RequestError

_SYNTAX = """
APPEND key value
ASKING
AUTH [username] password
CLIENT ID | GETNAME | SETNAME name | SETINFO LIB-NAME|LIB-VER value | LIST | INFO | KILL ...
CLUSTER SLOTS | SHARDS | NODES | INFO | MYID | KEYSLOT key | COUNTKEYSINSLOT slot
COMMAND [COUNT | INFO name ... | DOCS name ... | GETKEYS command ...]
CONFIG GET pattern ... | SET name value ... | RESETSTAT
COPY source destination [DB 0] [REPLACE]
DBSIZE
DECR key
DECRBY key amount
DEL key [key ...]
ECHO message
EXISTS key [key ...]
EXPIRE key seconds [NX | XX | GT | LT]
EXPIREAT key unix-seconds [NX | XX | GT | LT]
EXPIRETIME key
FLUSHALL [ASYNC | SYNC]
FLUSHDB [ASYNC | SYNC]
GET key
GETDEL key
GETEX key [EX seconds | PX milliseconds | EXAT unix-seconds | PXAT unix-milliseconds | PERSIST]
GETRANGE key first last
GETSET key value
HELLO [2 | 3 [AUTH username password] [SETNAME name]]
INCR key
INCRBY key amount
INCRBYFLOAT key amount
INFO [section ...]
KEYS pattern
MEMORY USAGE key [SAMPLES count]
MGET key [key ...]
MSET key value [key value ...]
MSETNX key value [key value ...]
OBJECT ENCODING key | FREQ key | IDLETIME key | REFCOUNT key
PERSIST key
PEXPIRE key milliseconds [NX | XX | GT | LT]
PEXPIREAT key unix-milliseconds [NX | XX | GT | LT]
PEXPIRETIME key
PING [message]
PSETEX key milliseconds value
PTTL key
QUIT
RAFT STATUS | MEMBERS | ROUTING redirect|proxy | READS linearizable|stale | SNAPSHOT
RANDOMKEY
READONLY
READWRITE
RENAME key new-name
RENAMENX key new-name
RESET
ROLE
SCAN cursor [MATCH pattern] [COUNT count] [TYPE kind]
SELECT 0
SET key value [NX | XX] [GET] [EX seconds | PX ms | EXAT unix-s | PXAT unix-ms | KEEPTTL]
SETEX key seconds value
SETNX key value
SETRANGE key position value
STRLEN key
SUBSTR key first last
TIME
TOUCH key [key ...]
TTL key
TYPE key
UNLINK key [key ...]
"""


class CommandBook:
    """Names, arguments and explanations of all known commands, in upper case."""

    def __init__(self, summaries: Mapping[str, str] | None = None) -> None:
        self.syntax: dict[str, str] = {}
        for line in _SYNTAX.strip().splitlines():
            name, _, arguments = line.partition(" ")
            self.syntax[name] = arguments
        self.summaries = dict(summaries or {})

    @property
    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({*self.syntax, *self.summaries})

    def subcommands(self, name: str) -> list[str]:
        """Return the subcommands of a command; empty where there are none."""
        alternatives = self.syntax.get(name.upper(), "").strip("[]").split(" | ")
        words = [alternative.split(" ")[0] for alternative in alternatives]
        has_subcommands = name.upper() in ("CLIENT", "CLUSTER", "COMMAND", "CONFIG", "RAFT",
                                           "MEMORY", "OBJECT")  # fmt: skip
        return [word for word in words if word.isupper()] if has_subcommands else []

    def usage(self, name: str) -> str:
        """Return a command with its arguments; empty for an unknown one."""
        known = name.upper() in self.syntax or name.upper() in self.summaries
        return f"{name.upper()} {self.syntax.get(name.upper(), '')}".rstrip() if known else ""

    def hint(self, line: str) -> str:
        """Return in one line what the command at the beginning of `line` takes and does."""
        name = line.split(" ")[0]
        summary = self.summaries.get(name.upper(), "")
        return f"{self.usage(name)}   {summary}".rstrip() if name else ""

    def explanation(self, name: str) -> str:
        """Return what a command takes and does, a line each; empty for an unknown one."""
        return "\n".join(
            line for line in (self.usage(name), self.summaries.get(name.upper())) if line
        )


def load_book(client: Client[Any]) -> CommandBook:
    """Return the book with what the server says of its commands, if it says something."""
    try:
        documents = to_mapping(client.within(2.0).execute("COMMAND", "DOCS"))
        return CommandBook({
            name.upper(): str(to_mapping_text(document).get("summary", ""))
            for name, document in documents.items()
        })  # fmt: skip
    except (RequestError, ProtocolError):
        return CommandBook()


def to_mapping_text(document: Any) -> dict[str, Any]:
    """Return one command's documentation, which RESP2 gives as a flat list."""
    if isinstance(document, dict):
        return document
    if isinstance(document, list) and len(document) % 2 == 0:
        return dict(zip(document[::2], document[1::2], strict=True))
    return {}
