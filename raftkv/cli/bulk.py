"""`raftkv export` and `raftkv import`: all keys to a file, and back.

Owns the options, the files and the progress that is shown. What a file holds is
the business of cli.bulk_format; reading and writing the cluster, of
cli.bulk_export and cli.bulk_import.

An export writes to `FILE.partial` and notes after each page how far it came, so
that the same command goes on after an interruption; FILE appears when it is
whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from raftkv.cli import terminal
from raftkv.cli.options import Target, target_options
from raftkv.errors import IndefiniteError, RaftKvError

if TYPE_CHECKING:
    from raftkv.cli.bulk_format import Part

_STDIO = "-"
_PAGE_KEYS = 500


class _Output:
    """Where an export goes: standard output, or a file that can be gone on with.

    Attributes:
        cursor: Of the scan, where to go on.
        keys: Written so far.
    """

    def __init__(self, name: str, request: dict[str, Any], *, restart: bool) -> None:
        self.cursor = 0
        self.keys = 0
        self._request = request
        self._path = None if name == _STDIO else Path(name)
        if self._path is None:
            self._stream: BinaryIO = sys.stdout.buffer
            return
        self._partial = self._path.with_name(self._path.name + ".partial")
        self._state = self._path.with_name(self._path.name + ".partial.state")
        if not restart and self._state.exists() and self._partial.exists():
            size = self._read_state()
            self._stream = self._partial.open("r+b")
            self._stream.truncate(size)
            self._stream.seek(size)
        else:
            self._state.unlink(missing_ok=True)
            self._stream = self._partial.open("wb")

    def _read_state(self) -> int:
        """Take over how far an earlier export came; return the bytes it was sure of."""
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            size = int(state["bytes"])
            self.cursor, self.keys = int(state["cursor"]), int(state["keys"])
            request = state["request"]
        except (ValueError, KeyError, TypeError):
            raise RaftKvError(f"{self._state} cannot be read; --restart begins anew") from None
        if request != self._request or size > self._partial.stat().st_size:
            raise RaftKvError(
                f"{self._partial} is of an export with other options; --restart begins anew"
            )
        return size

    def write(self, data: bytes) -> None:
        """Add bytes."""
        self._stream.write(data)

    def page_done(self, cursor: int) -> None:
        """Note how far it is: what is noted is on the disk."""
        self._stream.flush()
        if self._path is None:
            return
        os.fsync(self._stream.fileno())
        state = {
            "cursor": cursor, "keys": self.keys, "bytes": self._stream.tell(),
            "request": self._request,
        }  # fmt: skip
        fresh = self._state.with_name(self._state.name + ".new")
        fresh.write_text(json.dumps(state), encoding="utf-8")
        fresh.replace(self._state)

    def finish(self) -> None:
        """Give a file its name."""
        if self._path is not None:
            self._stream.close()
            self._partial.replace(self._path)
            self._state.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file."""
        if self._path is not None:
            self._stream.close()


@contextlib.contextmanager
def _progress(label: str, total: int | None, *, as_bytes: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error, if a person watches it."""
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    amount = DownloadColumn() if as_bytes else MofNCompleteColumn()
    columns = (TextColumn(label), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, completed=done)


@click.command("export")
@click.argument("file", default=_STDIO, type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--format", "format_", type=click.Choice(["jsonl", "resp"]),
              help="Lines of JSON or Redis commands; default: by the ending of FILE.")  # fmt: skip
@click.option("--match", metavar="PATTERN", help="Only keys like this, such as user:*.")
@click.option("--type", "kind", metavar="KIND", help="Only keys with this kind of value.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option("--restart", is_flag=True, help="Begin anew instead of going on.")
@target_options
def export(
    file: str, format_: str | None, match: str | None, kind: str | None, force: bool,
    restart: bool, target: Target,
) -> None:  # fmt: skip
    """Write all keys to FILE, or to standard output.

    Each key is as it was at some moment of the run. The same command goes on
    where an earlier one was interrupted.
    """
    if file != _STDIO and os.path.exists(file) and not force:
        raise click.UsageError(f"{file} exists; --force replaces it.")
    format_ = format_ or ("resp" if file.endswith(".resp") else "jsonl")
    request = {"format": format_, "match": match, "type": kind}
    advice = "what was written is not all"
    if file != _STDIO:
        advice = f"the same command{' without --restart' if restart else ''} goes on"
    with _told_of_interruption(advice):
        keys = _export(file, request, target, restart=restart)
    _summarise({"keys": keys}, target, f"exported {_counted(keys, 'key')}",
               err=file == _STDIO)  # fmt: skip


def _export(file: str, request: dict[str, Any], target: Target, *, restart: bool) -> int:
    """Write the keys, and return how many."""
    from raftkv.cli.bulk_export import pages_of
    from raftkv.cli.bulk_format import encode_command, line_of, replay_commands

    def encode(part: Part) -> bytes:
        if request["format"] == "jsonl":
            return line_of(part)
        return b"".join(map(encode_command, replay_commands(part)))

    match, kind = request["match"], request["type"]
    with _told_of_files(file), target.open() as client:
        output = _Output(file, request, restart=restart)
        if output.cursor and not target.json:
            click.echo(f"going on behind {_counted(output.keys, 'key')}", err=True)
        total = None if match or kind else client.dbsize()
        with contextlib.closing(output), _progress("export", total, as_bytes=False) as show:
            pages = pages_of(client, cursor=output.cursor, match=match, kind=kind, count=_PAGE_KEYS)
            for cursor, parts in pages:
                for part in parts:
                    output.write(encode(part))
                    output.keys += not part.more
                output.page_done(cursor)
                show(output.keys)
            output.finish()
    return output.keys


@click.command("import")
@click.argument("file", default=_STDIO, type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--keep-existing", is_flag=True, help="Leave a key alone that exists.")
@click.option("--offset", type=click.IntRange(min=0), default=0, metavar="BYTES",
              help="Begin here; an import that fails says where.")  # fmt: skip
@target_options
def import_(file: str, keep_existing: bool, offset: int, target: Target) -> None:
    """Write the keys of FILE, or of standard input, into the cluster.

    FILE holds lines of JSON as `raftkv export` writes them, each of which replaces
    a key as a whole and may be imported again; or Redis commands (RESP), which
    are sent as they are and take effect once.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_told_of_files(file))
        with _told_of_interruption("nothing was imported"):
            from raftkv.cli.bulk_import import Importer

            stream = sys.stdin.buffer if file == _STDIO else stack.enter_context(open(file, "rb"))
            can_seek = file != _STDIO and stream.seekable()
            total = os.fstat(stream.fileno()).st_size if can_seek else None
            _go_to(offset, stream, total)
            client = stack.enter_context(target.open(exactly_once=True))
            show = stack.enter_context(_progress("import", total, as_bytes=True))
            importer = Importer(
                client, stream, keep_existing=keep_existing, progress=show, offset=offset
            )
        try:
            importer.run()
        except (RaftKvError, KeyboardInterrupt) as error:
            done = _counted(importer.counts.keys, importer.thing)
            where = f"with --offset {importer.offset}"
            if not can_seek:
                where = f"behind the first {importer.offset} bytes (tail -c +{importer.offset + 1})"
            again = f"{done} done; go on {where}"
            unknown = isinstance(error, IndefiniteError | KeyboardInterrupt)
            kind = IndefiniteError if unknown else RaftKvError
            raise kind(f"{str(error) or 'interrupted'}\n{again}") from None
    counts = importer.counts
    words = [f"imported {_counted(counts.keys, importer.thing)}"]
    words += [
        f"{number:,} {what}"
        for number, what in (
            (counts.kept, "kept"), (counts.expired, "expired"), (counts.empty, "empty"),
            (counts.failed, "failed"),
        )
        if number
    ]  # fmt: skip
    for failure in counts.failures:
        terminal.echo_error(failure)
    shown = {"done": counts.keys, "kept": counts.kept, "expired": counts.expired,
             "empty": counts.empty, "failed": counts.failed}  # fmt: skip
    _summarise(shown, target, ", ".join(words), err=False)
    if counts.failed:
        raise SystemExit(terminal.EXIT_FAILED)


def _go_to(offset: int, stream: BinaryIO, size: int | None) -> None:
    """Begin in the middle of a file of `size` bytes; None for what can only be read on."""
    if not offset:
        return
    if size is None:
        raise click.UsageError("--offset goes with a file.")
    if offset > size:
        raise click.UsageError(f"--offset {offset} is behind the end: FILE has {size} bytes.")
    stream.seek(offset)


@contextlib.contextmanager
def _told_of_interruption(advice: str) -> Iterator[None]:
    """Turn Ctrl-C where nothing is written to the cluster into an error that says so."""
    try:
        yield
    except KeyboardInterrupt:
        raise RaftKvError(f"interrupted\n{advice}") from None


@contextlib.contextmanager
def _told_of_files(file: str) -> Iterator[None]:
    """Turn trouble with a file into an error of the command line."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RaftKvError(f"{file}: {error.strerror or error}") from error


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _summarise(counts: dict[str, int], target: Target, text: str, *, err: bool) -> None:
    click.echo(json.dumps(counts) if target.json else text, err=err)
