"""The command `raftkv`: its name, its subcommands and how their failures end.

Owns the list of subcommands with their one-line helps and the exit codes. Each
subcommand lives in a module that is imported when it is called, so that
`raftkv get` does not pay for the server and `raftkv --version` pays for nothing.

Exit codes: 0 done, 1 definite failure, 2 usage or bad config, 5 outcome
unknown; of nodes also 3 damaged data, 4 port or directory in use, 6 disk failed,
7 refused by the cluster.
"""

from __future__ import annotations

import importlib

import click

from raftkv import __version__

# Name -> module and attribute, section of the help, one line of help.
_COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("local_commands:up", "Local cluster", "Start a cluster on this machine."),
    "down": ("local_commands:down", "Local cluster", "Stop the cluster that `up` started."),
    "lab": ("lab:lab", "Local cluster", "Break a throw-away cluster and see how it answers."),
    "start": ("node_commands:start", "Nodes", "Run one node in the foreground."),
    "init": ("node_commands:init", "Nodes", "Write the config files of a new cluster."),
    "config": ("node_commands:config", "Nodes", "Check or show the settings of a node."),
    "status": ("admin:status", "Cluster", "Show role, term, log and lag of every node."),
    "member": ("admin:member", "Cluster", "List, add, promote, demote, remove members."),
    "transfer": ("admin:transfer", "Cluster", "Hand leadership over to another node."),
    "info": ("admin:info", "Cluster", "Show what a node reports of itself (INFO)."),
    "ping": ("admin:ping", "Cluster", "Ask whether the cluster answers."),
    "export": ("bulk:export", "Cluster", "Write all keys to a file."),
    "import": ("bulk:import_", "Cluster", "Write the keys of a file into the cluster."),
    "bench": ("bench:bench", "Cluster", "Measure throughput and latency."),
    "get": ("data:get", "Data", "Print the value of a key."),
    "set": ("data:set_", "Data", "Set a key."),
    "del": ("data:del_", "Data", "Delete keys."),
    "exists": ("data:exists", "Data", "Count how many of the keys exist."),
    "mget": ("data:mget", "Data", "Print the values of several keys."),
    "mset": ("data:mset", "Data", "Set several keys at one moment."),
    "getdel": ("data:getdel", "Data", "Print the value of a key and delete it."),
    "append": ("data:append", "Data", "Append to a value."),
    "strlen": ("data:strlen", "Data", "Print the size of a value."),
    "getrange": ("data:getrange", "Data", "Print a part of a value."),
    "setrange": ("data:setrange", "Data", "Overwrite a part of a value."),
    "incr": ("data:incr", "Data", "Add one to a number."),
    "decr": ("data:decr", "Data", "Subtract one from a number."),
    "incrby": ("data:incrby", "Data", "Add to a number."),
    "decrby": ("data:decrby", "Data", "Subtract from a number."),
    "incrbyfloat": ("data:incrbyfloat", "Data", "Add to a decimal number."),
    "expire": ("keys:expire", "Data", "Let a key die after some seconds."),
    "pexpire": ("keys:pexpire", "Data", "Let a key die after some milliseconds."),
    "ttl": ("keys:ttl", "Data", "Print the seconds a key has to live."),
    "pttl": ("keys:pttl", "Data", "Print the milliseconds a key has to live."),
    "persist": ("keys:persist", "Data", "Let a key live for ever."),
    "type": ("keys:type_", "Data", "Print the kind of value a key has."),
    "scan": ("keys:scan", "Data", "Print all keys, page by page."),
    "keys": ("keys:keys", "Data", "Print all keys that match, at one moment."),
    "range": ("keys:range_", "Data", "Print keys in order, as of one revision."),
    "rename": ("keys:rename", "Data", "Give a key another name."),
    "copy": ("keys:copy", "Data", "Copy a value to another key."),
    "dbsize": ("keys:dbsize", "Data", "Print the number of keys."),
    "flushall": ("keys:flushall", "Data", "Delete all keys."),
    "watch": ("watch:watch", "Data", "Print changes of a key or a prefix as they happen."),
    "lease": ("leases:lease", "Data", "Grant, renew, revoke and list leases."),
    "lock": ("leases:lock", "Data", "Run a command while holding a lock."),
    "exec": ("data:exec_", "Data", "Send any command."),
    "cli": ("repl:cli", "Shell", "Type commands, with completion and history."),
    "completion": ("completion:completion", "Shell", "Print the completion script of a shell."),
}


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are called."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import a subcommand."""
        if name not in _COMMANDS:
            return None
        module_name, _, attribute = _COMMANDS[name][0].partition(":")
        try:
            module = importlib.import_module(f"raftkv.cli.{module_name}")
        except KeyboardInterrupt:
            raise click.ClickException("interrupted; nothing was done") from None
        command: click.Command = getattr(module, attribute)
        return command

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand; for an unknown one, say what is near."""
        try:
            return super().resolve_command(context, arguments)
        except click.UsageError as error:
            import difflib  # only for a mistake

            near = difflib.get_close_matches(arguments[0], _COMMANDS, n=1)
            advice = f" Did you mean {near[0]!r}?" if near else ""
            advice += " `raftkv exec` sends any command of Redis."
            raise click.UsageError(f"No such command {arguments[0]!r}.{advice}", context) from error

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of subcommands without importing them."""
        sections = dict.fromkeys(section for _, section, _ in _COMMANDS.values())
        for wanted in sections:
            rows = [
                (name, line) for name, (_, section, line) in _COMMANDS.items() if section == wanted
            ]
            with formatter.section(wanted):
                formatter.write_dl(rows, col_max=14)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="raftkv", message="%(prog)s %(version)s")
def command() -> None:
    """A replicated key-value store on Raft that speaks the Redis protocol.

    Start a cluster here with `raftkv up`, then try `raftkv set greeting hello`.
    Commands that talk to a cluster find it by --nodes or RAFTKV_NODES.
    """


def main() -> None:
    """Run the command line; the entry point of the package."""
    command(prog_name="raftkv")
