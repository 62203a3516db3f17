"""`raftkv cli`: commands typed in a terminal, given by --eval, or read from a pipe.

Owns the reading of lines, what the shell itself understands (help, clear, quit)
and how replies are written: typed and coloured in a terminal, raw in a pipe, a
line of JSON each with --json. The prompt is in cli.prompt.

One connection is kept, so that READONLY, SELECT or RAFT ROUTING hold for the
commands that follow, as in redis-cli.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

import click

from raftkv.cli import terminal
from raftkv.cli.options import Target, target_options
from raftkv.cli.replies import coloured, render, uncoloured
from raftkv.cli.transactions import ShellTransaction
from raftkv.client.protocol import decode_text, encode_text
from raftkv.client.sync_client import Client
from raftkv.errors import IndefiniteError, RaftKvError
from raftkv.resp.inline import UnbalancedQuotesError, split_inline

# Replies that took longer are shown with their time.
_SLOW_S = 0.5
_UNSUPPORTED = frozenset(
    (b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE", b"MONITOR", b"SYNC", b"PSYNC")
)


class Shell:
    """Runs lines and remembers the worst that happened.

    Attributes:
        exit_code: 0, or 1 after an error, or 5 after an unknown outcome.
        transaction: What was typed since MULTI.
    """

    def __init__(self, client: Client[bytes], target: Target, *, typed: bool) -> None:
        self.exit_code = 0
        self.transaction = ShellTransaction(client)
        self._target = target
        self._typed = typed
        self._paint = coloured if terminal.is_terminal() else uncoloured

    def run_line(self, line: str) -> None:
        """Run one line; an empty one and a comment do nothing."""
        if not line.strip() or line.lstrip().startswith("#"):
            return
        try:
            words = split_inline(encode_text(line))
        except UnbalancedQuotesError:
            self._show_error(RaftKvError("Invalid argument(s): a quote is not closed"), "")
            return
        if words[0].upper() in _UNSUPPORTED:
            self._show_error(RaftKvError(f"{decode_text(words[0])} is not supported here"), "")
            return
        started_s = time.monotonic()
        try:
            reply = self.transaction.execute(words)
        except RaftKvError as error:
            self._show_error(error, decode_text(words[0]))
            return
        self._show(reply, decode_text(words[0]))
        elapsed_s = time.monotonic() - started_s
        if self._typed and elapsed_s > _SLOW_S:
            click.echo(self._paint(f"({elapsed_s:.2f}s)", "nil"))

    def run_lines(self, lines: Iterable[str]) -> None:
        """Run one line after the other, whatever comes of them."""
        for line in lines:
            if line.strip().lower() in ("quit", "exit"):
                return
            self.run_line(line.rstrip("\r\n"))

    def _show(self, reply: object, command: str) -> None:
        if self._target.json:
            terminal.echo_json(reply)
        elif self._typed:
            click.echo(render(reply, command=command, paint=self._paint))
        else:
            terminal.echo_value(reply)

    def _show_error(self, error: RaftKvError, command: str) -> None:
        code = terminal.exit_code_of(error)
        self.exit_code = max(self.exit_code, code)
        if self._target.json:
            terminal.echo_json(error)
        elif self._typed:
            click.echo(render(error, command=command, paint=self._paint))
            if isinstance(error, IndefiniteError):
                click.echo(self._paint("The command may or may not have been executed.", "nil"))
        else:
            terminal.echo_error(error)


@click.command()
@click.option("--eval", "-e", "lines", multiple=True, metavar="COMMAND",
              help="Run COMMAND and end; may be given again.")  # fmt: skip
@click.option("--typed", is_flag=True, help="Write replies with their types also in a pipe.")
@target_options
def cli(lines: tuple[str, ...], typed: bool, target: Target) -> None:
    """Type commands as in redis-cli, with completion, hints and history.

    \b
    raftkv cli                                   a prompt
    raftkv cli --eval "SET a 1" --eval "GET a"   some commands
    raftkv cli < commands.txt                    a line each

    Exit code, except from a prompt: 1 if a command failed, 5 if the outcome of
    one is unknown.
    """
    with target.open(keep_state=True) as client:
        shell = Shell(client, target, typed=typed or terminal.is_terminal())
        if lines:
            shell.run_lines(lines)
        elif sys.stdin.isatty():
            from raftkv.cli.prompt import prompt_loop

            prompt_loop(shell, client)
            return  # Who typed it has seen what failed.
        else:
            source = sys.stdin.buffer
            shell.run_lines(decode_text(line) for line in source)
    raise SystemExit(shell.exit_code)
