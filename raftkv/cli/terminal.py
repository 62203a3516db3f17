"""Writing for people and for programs: values, tables, colours, errors, JSON.

Owns how results look. Everything is readable without a terminal too: then there
are no colours, no boxes and no control characters, and a value is written as
the bytes it is.

Keys and values are bytes: as text where they are UTF-8, in JSON as
`{"base64": ...}` where they are not.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from raftkv.errors import ConnectFailedError, IndefiniteError, RaftKvError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_IN_USE = 4
EXIT_UNKNOWN = 5


def is_terminal() -> bool:
    """Whether a person watches the standard output."""
    return sys.stdout.isatty()


def as_json(value: Any) -> Any:
    """Return a value that JSON can hold."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, dict):
        return {_json_key(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, RaftKvError):
        return error_json(value)
    return value


def _json_key(key: Any) -> str:
    if isinstance(key, bytes):
        return key.decode("utf-8", "backslashreplace")
    return str(key)


def echo_json(value: Any) -> None:
    """Write one value as one line of JSON."""
    click.echo(json.dumps(as_json(value), ensure_ascii=False))


def echo_value(value: Any) -> None:
    """Write one result: bytes as they are, lists one item a line."""
    if value is None:
        click.echo(click.style("(nil)", dim=True) if is_terminal() else "")
    elif isinstance(value, bytes):
        echo_bytes(value)
    elif isinstance(value, bool):
        click.echo("1" if value else "0")
    elif isinstance(value, list | tuple):
        for item in value:
            echo_value(item)
    elif isinstance(value, dict):
        width = max((len(str(as_json(key))) for key in value), default=0)
        for key, item in value.items():
            click.echo(f"{as_json(key)!s:<{width}}  {as_json(item)}")
    elif isinstance(value, RaftKvError):
        click.echo(f"(error) {value}")
    else:
        click.echo(str(value))


def echo_bytes(value: bytes) -> None:
    """Write bytes and a line feed; to a terminal without what could control it."""
    if not is_terminal():
        click.echo(value)
        return
    text = value.decode("utf-8", "backslashreplace")
    shown = "".join(
        letter if letter.isprintable() or letter in "\n\t" else f"\\x{ord(letter):02x}"
        for letter in text
    )
    click.echo(shown)


def error_json(error: BaseException) -> dict[str, Any]:
    """Return what a program has to know about an error."""
    return {
        "error": str(error),
        "type": type(error).__name__,
        "definite": not isinstance(error, IndefiniteError),
    }


def echo_error(error: BaseException | str, *, as_json_line: bool = False) -> None:
    """Write an error to standard error, with what is known about its effect."""
    if as_json_line and isinstance(error, BaseException):
        click.echo(json.dumps(error_json(error), ensure_ascii=False), err=True)
        return
    if isinstance(error, IndefiniteError):
        title = click.style("outcome unknown:", fg="yellow", bold=True)
        click.echo(f"{title} {error}", err=True)
        click.echo("The command may or may not have been executed.", err=True)
        return
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True)
    if isinstance(error, ConnectFailedError):
        click.echo(
            "No node could be reached. `raftkv up` starts a cluster here; "
            "--nodes or RAFTKV_NODES names another one.",
            err=True,
        )


def exit_code_of(error: BaseException) -> int:
    """Return the exit code that an error ends the process with."""
    return EXIT_UNKNOWN if isinstance(error, IndefiniteError) else EXIT_FAILED


ROLE_COLOURS = {"leader": "green", "candidate": "yellow", "down": "red", "stopped": "red"}
Cell = str | tuple[str, str]  # text, or text and a colour


def cell_text(cell: Cell) -> str:
    """Return the text of a cell."""
    return cell if isinstance(cell, str) else cell[0]


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return a table as aligned words, for pipes and logs."""
    lines = [list(columns), *[[cell_text(cell) for cell in row] for row in rows]]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def rich_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, title: str = "") -> Any:
    """Return a table for a terminal. Numbers stand to the right."""
    from rich import box  # costs more than most commands take
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.ROUNDED, title=title or None, title_justify="left", header_style="bold")
    for place, name in enumerate(columns):
        numeric = bool(rows) and all(_is_number(cell_text(row[place])) for row in rows)
        table.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(
            *[Text(cell) if isinstance(cell, str) else Text(cell[0], style=cell[1]) for cell in row]
        )
    return table


def _is_number(text: str) -> bool:
    """Whether a cell holds a number such as -12 or 1,234.50, or stands for none."""
    return text in ("", "-") or text.lstrip("-").replace(",", "").replace(".", "", 1).isdigit()


def count_of(number: int, thing: str) -> str:
    """Return `1 node` or `3 nodes`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def echo_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Write a table in the form that suits the output."""
    if not is_terminal():
        click.echo(plain_table(columns, rows))
        return
    from rich.console import Console

    Console().print(rich_table(columns, rows))
