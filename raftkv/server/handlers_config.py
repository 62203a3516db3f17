"""CONFIG: settings under the names that Redis' clients and tools ask for.

Each row of the table says where a value comes from, truthfully: a name of Redis
appears only when something here corresponds to it. Some may change while the
node runs; the change lasts until it stops, as the file is never rewritten.
"""

from __future__ import annotations

from collections.abc import Callable

from raftkv.errors import CommandError
from raftkv.kv.patterns import compile_pattern
from raftkv.server.connection import ClientConnection
from raftkv.server.keyspace_events import parse_flags, show_flags
from raftkv.server.service import Service

HELP = """CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
GET <pattern> [<pattern> ...]
    Return parameters matching the glob-like <pattern> and their values.
SET <directive> <value> [<directive> <value> ...]
    Set the configuration <directive> to <value> until the node stops.
RESETSTAT
    Reset statistics reported by the INFO command.
HELP
    Print this help."""


def _listen_host(service: Service) -> str:
    return service.config.listen.client.rpartition(":")[0].strip("[]")


# Why "appendonly yes": every write is in a log on disk before it is acknowledged
# as `appendfsync` says; there is no other file to be saved at intervals.
_SETTINGS: dict[str, Callable[[Service], str]] = {
    "appendfsync": lambda service: {
        "always": "always",
        "interval": "everysec",
        "never": "no",
    }[service.config.durability.sync],
    "appendonly": lambda service: "yes",
    "bind": _listen_host,
    "cluster-allow-reads-when-down": lambda service: "no",
    "cluster-enabled": lambda service: "yes",
    "cluster-node-timeout": lambda service: str(service.config.timing.election_timeout_ms[0]),
    "cluster-require-full-coverage": lambda service: "yes",
    "databases": lambda service: "1",
    "dir": lambda service: service.config.node.data_dir,
    "maxclients": lambda service: str(service.clients_max),
    # The one in force, which the log has set; another leader may have another setting.
    "maxmemory": lambda service: str(service.replica.status().dataset_bytes_max),
    "maxmemory-policy": lambda service: "noeviction",
    "notify-keyspace-events": lambda service: show_flags(service.notify_flags),
    "port": lambda service: str(service.port),
    "proto-max-bulk-len": lambda service: str(service.config.limits.request_bytes_max),
    "save": lambda service: "",
    "timeout": lambda service: str(service.idle_seconds_max),
}

# Name -> attribute of the service, smallest and greatest value.
_CHANGEABLE = {
    "maxclients": ("clients_max", 1, 1_000_000),
    "timeout": ("idle_seconds_max", 0, 31_536_000),
}


def handle_get(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CONFIG GET pattern [pattern ...]"""
    matchers = [compile_pattern(pattern.lower()) for pattern in arguments[2:]]
    return {
        name.encode(): value(connection.service).encode()
        for name, value in _SETTINGS.items()
        if any(matches(name.encode()) for matches in matchers)
    }


def _failed(name: str, reason: str) -> CommandError:
    return CommandError(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")


def _parse_flags(value: bytes) -> frozenset[str]:
    try:
        return parse_flags(value.decode("latin-1"))
    except CommandError as error:
        raise _failed("notify-keyspace-events", error.message.removeprefix("ERR ")) from None


def handle_set(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CONFIG SET name value [name value ...]"""
    if len(arguments) % 2:
        raise CommandError("ERR wrong number of arguments for 'config|set' command")
    changes: dict[str, object] = {}
    for position in range(2, len(arguments), 2):
        shown = arguments[position].decode("utf-8", "surrogateescape")
        name, value = shown.lower(), arguments[position + 1]
        if name not in _SETTINGS:
            raise CommandError(
                f"ERR Unknown option or number of arguments for CONFIG SET - '{shown}'"
            )
        if name == "notify-keyspace-events":
            if "notify_flags" in changes:
                raise _failed(name, "duplicate parameter")
            changes["notify_flags"] = _parse_flags(value)
            continue
        if name not in _CHANGEABLE:
            raise _failed(name, "can't set immutable config")
        attribute, low, high = _CHANGEABLE[name]
        if attribute in changes:
            raise _failed(name, "duplicate parameter")
        if not value.removeprefix(b"-").isdigit():
            raise _failed(name, "argument couldn't be parsed into an integer")
        if not low <= int(value) <= high:
            raise _failed(name, f"argument must be between {low} and {high} inclusive")
        changes[attribute] = int(value)
    for attribute, setting in changes.items():
        setattr(connection.service, attribute, setting)
    return "OK"


def handle_resetstat(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CONFIG RESETSTAT"""
    connection.service.statistics.reset()
    connection.service.table.reset_counters()
    return "OK"


def handle_help(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CONFIG HELP"""
    return HELP.split("\n")


HANDLERS = {
    "config|get": handle_get,
    "config|set": handle_set,
    "config|resetstat": handle_resetstat,
    "config|help": handle_help,
}
