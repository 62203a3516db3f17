"""The prompt of `raftkv cli`: completion, hints, history.

Owns everything that needs prompt_toolkit, which is imported only here, because
it takes longer than a whole `raftkv get`.

The history is ~/.raftkv_history, or the file that RAFTKV_HISTORY names; nobody
else may read it, and lines with passwords are not written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.styles import Style

from raftkv import __version__
from raftkv.cli.command_book import CommandBook, load_book
from raftkv.cli.repl import Shell
from raftkv.client.sync_client import Client

_SECRET_WORDS = ("AUTH", "HELLO")
_STYLE = Style.from_dict({
    "name": "ansicyan bold",
    "address": "ansibrightblack",
    "bottom-toolbar": "noreverse fg:ansibrightblack",
})  # fmt: skip
_HELP = """\
Type any command of Redis, for example: SET greeting hello EX 60
  help            this text          help SET     what SET takes
  clear           clear the screen   quit         leave (also Ctrl-D)
  Tab             complete           arrow keys   history
Words with spaces go in quotes; "\\x00" writes any byte."""


class CommandCompleter(Completer):
    """Completes names of commands and of their subcommands, in the case that is typed."""

    def __init__(self, book: CommandBook) -> None:
        self._book = book

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        """Yield what may follow the text before the cursor."""
        words = document.text_before_cursor.lstrip().split(" ")
        word = words[-1]
        if len(words) == 1:
            candidates = [*self._book.names, "HELP", "CLEAR", "EXIT"]
        elif len(words) == 2 and words[0].lower() == "help":
            candidates = self._book.names
        elif len(words) == 2:
            candidates = self._book.subcommands(words[0])
        else:
            return
        lower = word != "" and word == word.lower()
        for name in candidates:
            if name.startswith(word.upper()):
                hint = self._book.summaries.get(name, "") or self._book.syntax.get(name, "")
                text = name.lower() if lower else name
                yield Completion(text, -len(word), display_meta=hint if len(words) == 1 else "")


class _CarefulHistory(FileHistory):
    """History that keeps passwords to itself."""

    def store_string(self, string: str) -> None:
        """Write a line to the file, unless it may hold a password."""
        if string.strip().upper().partition(" ")[0] not in _SECRET_WORDS:
            super().store_string(string)


def open_history() -> History:
    """Return the history file, made so that only its owner can read it."""
    path = Path(os.environ.get("RAFTKV_HISTORY") or Path.home() / ".raftkv_history")
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError:
        return InMemoryHistory()
    return _CarefulHistory(str(path))


def prompt_loop(shell: Shell, client: Client[bytes], **session_options: Any) -> None:
    """Read and run lines until the end.

    Args:
        shell: Runs the lines.
        client: Says which commands there are, and who leads.
        session_options: For tests: where input comes from and output goes.
    """
    book = load_book(client)
    session: PromptSession[str] = PromptSession(
        history=open_history(),
        completer=CommandCompleter(book),
        auto_suggest=AutoSuggestFromHistory(),
        complete_while_typing=False,
        bottom_toolbar=lambda: book.hint(session.default_buffer.text) or " ",
        style=_STYLE,
        **session_options,
    )
    click.echo(f"raftkv {__version__}   help: how to use it   Ctrl-D: leave")
    while True:
        prompt = FormattedText([
            ("class:name", "raftkv"),
            ("class:address", f" {client.leader or client.addresses[0]}"),
            ("", "(TX)> " if shell.transaction.is_open else "> "),
        ])  # fmt: skip
        try:
            line = session.prompt(prompt).strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        first, _, rest = line.partition(" ")
        if first.lower() in ("quit", "exit"):
            return
        if first.lower() == "help":
            click.echo(book.explanation(rest.strip()) or _HELP)
        elif first.lower() == "clear":
            click.clear()
        else:
            try:
                shell.run_line(line)
            except KeyboardInterrupt:
                click.echo("Interrupted: the command may or may not have been executed.")
