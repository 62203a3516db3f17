"""PUBLISH, SUBSCRIBE and their relatives, and PUBSUB.

Subscriptions belong to a connection and are answered by the node it is connected
to. A published message goes to the subscribers of all nodes; what is counted are
those of this one, as in Redis Cluster. Shard channels are a name space of their own
and otherwise no different, because one shard owns all slots.
"""

from __future__ import annotations

from raftkv.errors import CommandError
from raftkv.kv.patterns import compile_pattern
from raftkv.resp.values import Push, Series
from raftkv.server.command_table import Handler
from raftkv.server.connection import ClientConnection

HELP = """PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
CHANNELS [<pattern>]
    Return the channels with subscribers on this node that match <pattern>.
NUMPAT
    Return the number of patterns with subscribers on this node.
NUMSUB [<channel> ...]
    Return the number of subscribers of channels on this node, patterns excluded.
SHARDCHANNELS [<pattern>]
    Return the shard channels with subscribers on this node that match <pattern>.
SHARDNUMSUB [<shardchannel> ...]
    Return the number of subscribers of shard channels on this node.
HELP
    Print this help."""


def _count(connection: ClientConnection, kind: str) -> int:
    """Return the number that Redis shows behind a change of subscriptions."""
    if kind == "shard_channels":
        return len(connection.shard_channels)
    return len(connection.channels) + len(connection.patterns)


def _subscribing(kind: str) -> Handler:
    def handle(connection: ClientConnection, arguments: list[bytes]) -> object:
        replies = Series()
        word = arguments[0].lower()
        limit = connection.service.config.limits.key_bytes_max
        if any(len(name) > limit for name in arguments[1:]):
            raise CommandError(f"ERR channel exceeds limits.key_bytes_max ({limit} bytes)")
        count = _count(connection, kind)
        known = set(getattr(connection, kind))
        connection.subscribe(kind, arguments[1:])
        for name in arguments[1:]:
            count += name not in known
            known.add(name)
            replies.append(Push((word, name, count)))
        return replies

    return handle


def _unsubscribing(kind: str) -> Handler:
    def handle(connection: ClientConnection, arguments: list[bytes]) -> object:
        word = arguments[0].lower()
        names = arguments[1:] or list(getattr(connection, kind))
        if not names:
            return Push((word, None, _count(connection, kind)))
        replies = Series()
        for name in names:
            connection.unsubscribe(kind, name)
            replies.append(Push((word, name, _count(connection, kind))))
        return replies

    return handle


def handle_publish(connection: ClientConnection, arguments: list[bytes]) -> object:
    """PUBLISH channel message"""
    return connection.service.publications.publish(arguments[1], arguments[2])


def handle_spublish(connection: ClientConnection, arguments: list[bytes]) -> object:
    """SPUBLISH shardchannel message"""
    return connection.service.publications.publish(arguments[1], arguments[2], sharded=True)


def _listing(kind: str) -> Handler:
    def handle(connection: ClientConnection, arguments: list[bytes]) -> object:
        if len(arguments) > 3:
            raise CommandError(_wrong_words(arguments))
        names = getattr(connection.service.subscriptions, kind)
        if len(arguments) == 2:
            return list(names)
        return list(filter(compile_pattern(arguments[2]), names))

    return handle


def _wrong_words(arguments: list[bytes]) -> str:
    shown = arguments[1].lower().decode("utf-8", "surrogateescape")
    return f"ERR wrong number of arguments for 'pubsub|{shown}' command"


def _counting(kind: str) -> Handler:
    def handle(connection: ClientConnection, arguments: list[bytes]) -> object:
        names = getattr(connection.service.subscriptions, kind)
        counts: list[object] = []
        for name in arguments[2:]:
            counts += (name, len(names.get(name, ())))
        return counts

    return handle


def handle_numpat(connection: ClientConnection, arguments: list[bytes]) -> object:
    """PUBSUB NUMPAT"""
    return len(connection.service.subscriptions.patterns)


def handle_help(connection: ClientConnection, arguments: list[bytes]) -> object:
    """PUBSUB HELP"""
    return HELP.split("\n")


HANDLERS: dict[str, Handler] = {
    "subscribe": _subscribing("channels"),
    "psubscribe": _subscribing("patterns"),
    "ssubscribe": _subscribing("shard_channels"),
    "unsubscribe": _unsubscribing("channels"),
    "punsubscribe": _unsubscribing("patterns"),
    "sunsubscribe": _unsubscribing("shard_channels"),
    "publish": handle_publish,
    "spublish": handle_spublish,
    "pubsub|channels": _listing("channels"),
    "pubsub|numsub": _counting("channels"),
    "pubsub|numpat": handle_numpat,
    "pubsub|shardchannels": _listing("shard_channels"),
    "pubsub|shardnumsub": _counting("shard_channels"),
    "pubsub|help": handle_help,
}
