"""All commands of this version, put together: the one place that knows every family.

To add a family: its rows in command_data or command_collections, its parsers or
handlers in a module `handlers_<family>`, and its name here. A test lists what was
forgotten.
"""

from __future__ import annotations

from raftkv.server import (
    handlers_bits,
    handlers_client,
    handlers_cluster,
    handlers_command,
    handlers_config,
    handlers_connection,
    handlers_generic,
    handlers_hashes,
    handlers_info,
    handlers_lists,
    handlers_raft,
    handlers_sentinel,
    handlers_sets,
    handlers_sorted_ranges,
    handlers_sorted_sets,
    handlers_strings,
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
}


def standard_commands() -> CommandTable:
    """Return a new table of all commands, with counters at zero."""
    return CommandTable(PARSERS, HANDLERS, handlers_strings.RUN_PARSERS)
