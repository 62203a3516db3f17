"""All commands of this version, put together: the one place that knows every family.

To add a family: its rows in command_data or command_collections, its parsers or
handlers in a module `handlers_<family>`, and its name here. A test lists what was
forgotten. The parser of KV is made with its table: it looks up the commands inside
transactions.
"""

from __future__ import annotations

from raftkv.server import (
    handlers_bits,
    handlers_blocking,
    handlers_client,
    handlers_cluster,
    handlers_command,
    handlers_config,
    handlers_connection,
    handlers_generic,
    handlers_hashes,
    handlers_info,
    handlers_kv,
    handlers_lists,
    handlers_pubsub,
    handlers_raft,
    handlers_scripts,
    handlers_sentinel,
    handlers_sets,
    handlers_sorted_ranges,
    handlers_sorted_sets,
    handlers_sorting,
    handlers_strings,
    handlers_transactions,
    handlers_watches,
)
from raftkv.server.command_table import CommandTable, Handler, Parser

PARSERS: dict[bytes, Parser] = {
    **handlers_strings.PARSERS,
    **handlers_generic.PARSERS,
    **handlers_hashes.PARSERS,
    **handlers_sets.PARSERS,
    **handlers_lists.PARSERS,
    **handlers_sorted_sets.PARSERS,
    **handlers_sorted_ranges.PARSERS,
    **handlers_bits.PARSERS,
    **handlers_blocking.PARSERS,
    **handlers_sorting.PARSERS,
    **handlers_transactions.PARSERS,
    **handlers_scripts.PARSERS,
}

HANDLERS: dict[str, Handler] = {
    **handlers_connection.HANDLERS,
    **handlers_client.HANDLERS,
    **handlers_command.HANDLERS,
    **handlers_config.HANDLERS,
    **handlers_info.HANDLERS,
    **handlers_cluster.HANDLERS,
    **handlers_raft.HANDLERS,
    **handlers_sentinel.HANDLERS,
    **handlers_pubsub.HANDLERS,
    **handlers_transactions.HANDLERS,
    **handlers_kv.HANDLERS,
    **handlers_scripts.HANDLERS,
    **handlers_watches.HANDLERS,
}


def standard_commands() -> CommandTable:
    """Return a new table of all commands, with counters at zero."""
    kv_parser = handlers_kv.KvParser()
    table = CommandTable({**PARSERS, b"KV": kv_parser}, HANDLERS, handlers_strings.RUN_PARSERS)
    kv_parser.table = table
    return table
