"""Writing keys into a cluster from a file, so that it can be repeated and gone on with.

Owns the order of reading, sending and counting. A file of keys (JSON) may be
imported any number of times: each key is replaced as a whole. So a part of it
whose outcome is unknown is simply sent again. Commands (RESP) are sent as they
are; only the client sends one again, which has numbered it (exactly once), and one
that stays unknown ends the import.

Invariant: everything in front of `Importer.offset` is acknowledged, and a key or
command begins there, so that a later import may begin there too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from raftkv.cli.bulk_format import (
    LINE_BYTES_MAX,
    Command,
    Part,
    import_commands,
    part_of,
    read_command,
)
from raftkv.client.calls import request_of
from raftkv.client.sessions import FENCED, RESULT_TOO_LARGE
from raftkv.client.sync_client import Client
from raftkv.errors import (
    CommandError,
    DefiniteError,
    IndefiniteError,
    NotAppliedError,
    RaftKvError,
    RequestError,
)

# What is sent together. A batch of the cluster holds a megabyte.
_BATCH_COMMANDS = 512
_BATCH_BYTES = 512 * 1024
# So often in a row may a batch of keys have an unknown outcome.
_TRIES = 5
# Limit: failed commands that are shown, not only counted.
FAILURES_SHOWN = 5
_OF_CONNECTIONS = frozenset(
    {b"MULTI", b"EXEC", b"DISCARD", b"WATCH", b"UNWATCH", b"QUIT", b"MONITOR"}
    | {b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE"}
)


@dataclass
class Counts:
    """What an import has done.

    Attributes:
        keys: Put in place, or, of RESP, commands carried out.
        kept: Left alone because they exist.
        expired: Not set because their time was over.
        empty: Not set because they had no elements.
        failed: Commands that the cluster refused.
        failures: The first of their errors.
    """

    keys: int = 0
    kept: int = 0
    expired: int = 0
    empty: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)


class Importer:
    """One run over one file.

    Attributes:
        counts: So far.
        offset: Bytes of the file that are done.
        thing: What the file holds: `key` or `command`.
    """

    def __init__(
        self,
        client: Client[bytes],
        stream: BinaryIO,
        *,
        keep_existing: bool = False,
        progress: Callable[[int], None] = lambda _offset: None,
        offset: int = 0,
    ) -> None:
        """Take over a file.

        Args:
            client: Of the cluster; makes sure that its writes take effect once.
            stream: Stands at `offset`.
            keep_existing: Leave a key alone that exists.
            progress: Called with the bytes done.
            offset: Where a key or command begins.
        """
        self._client = client
        self._stream = stream
        self._keep_existing = keep_existing
        self._progress = progress
        self.counts = Counts()
        self.offset = offset
        self.thing = "key"

    def run(self) -> None:
        """Import to the end of the file, which says itself what it holds.

        Raises:
            RaftKvError: The file is wrong, or the cluster refused; or, an
                `IndefiniteError`, what begins at `offset` was perhaps executed.
        """
        mark = self._stream.peek(1)[:1] if hasattr(self._stream, "peek") else b"{"
        if mark == b"*":
            self.thing = "command"
            self._run_commands()
        else:
            self._run_keys()

    # ------------------------------------------------------------ keys

    def _run_keys(self) -> None:
        tries = 0
        while True:
            before = self.offset
            try:
                self._pass_over_keys()
                return
            except RequestError as error:
                if not _is_unsettled(error):
                    raise
                tries = 1 if self.offset > before else tries + 1
                if tries >= _TRIES or not self._stream.seekable():
                    raise
                # Each key is replaced as a whole, so it does not matter what came of it.
                self._stream.seek(self.offset)

    def _pass_over_keys(self) -> None:
        batch: list[tuple[Part, list[Command]]] = []
        count = size = 0
        # Behind the last key that is whole.
        end = position = self.offset
        for part, length in self._parts():
            position += length
            commands = import_commands(part, keep_existing=self._keep_existing)
            batch.append((part, commands))
            count += len(commands)
            size += length
            if not part.more:
                end = position
            if count >= _BATCH_COMMANDS or size >= _BATCH_BYTES:
                self._send_keys(batch, end)
                batch, count, size = [], 0, 0
        if batch and batch[-1][0].more:
            raise RaftKvError(f"byte {position}: the file ends within a key")
        self._send_keys(batch, position)

    def _parts(self) -> Iterator[tuple[Part, int]]:
        """Yield the parts of the file and the bytes of each, in a possible order."""
        expected: tuple[bytes, str, int] | None = None
        position = self.offset
        while line := self._stream.readline(LINE_BYTES_MAX):
            if line.isspace():
                raise RaftKvError(f"byte {position}: an empty line")
            try:
                part = part_of(line)
            except RaftKvError as error:
                raise RaftKvError(f"byte {position}: {error}") from None
            if part.number or expected is not None:
                # A key that was replaced while it was read begins anew.
                anew = expected is not None and part.number == 0 and part.key == expected[0]
                if not anew and (part.key, part.kind, part.number) != expected:
                    raise RaftKvError(f"byte {position}: not the next part of a key")
            if part.more and part.kind == "string":
                raise RaftKvError(f"byte {position}: a string has one part")
            expected = (part.key, part.kind, part.number + 1) if part.more else None
            yield part, len(line)
            position += len(line)

    def _send_keys(self, batch: list[tuple[Part, list[Command]]], end: int) -> None:
        pipeline = self._client.pipeline()
        for _, commands in batch:
            for command in commands:
                pipeline.command(*command)
        results = iter(pipeline.execute(raise_first=False))
        counts = replace(self.counts)
        # A later line of the same key counts, whichever way.
        gone: dict[bytes, None] = {}
        for part, commands in batch:
            if _place(part, commands, [next(results) for _ in commands], counts):
                gone[part.key] = None
            elif not part.more:
                gone.pop(part.key, None)
        if gone and not self._keep_existing:
            self._client.delete(*gone)
        # Only now: what was counted of a batch that is sent again counts once.
        self.counts = counts
        self.offset = end
        self._progress(end)

    # ------------------------------------------------------------ commands

    def _run_commands(self) -> None:
        batch: list[tuple[Command, int]] = []
        count = size = 0
        while True:
            try:
                read = read_command(self._stream)
                if read is not None:
                    _check(read[0])
            except RaftKvError as error:
                self._send_commands(batch)
                raise RaftKvError(f"byte {self.offset}: {error}") from None
            if read is not None:
                batch.append(read)
                count += 1
                size += read[1]
            if read is None or count >= _BATCH_COMMANDS or size >= _BATCH_BYTES:
                self._send_commands(batch)
                batch, count, size = [], 0, 0
            if read is None:
                return

    def _send_commands(self, batch: list[tuple[Command, int]]) -> None:
        pipeline = self._client.pipeline()
        for command, _ in batch:
            pipeline.command(*command)
        stopped_by: RaftKvError | None = None
        for (_, length), reply in zip(batch, pipeline.execute(raise_first=False), strict=True):
            if isinstance(reply, RaftKvError) and not _is_refusal(reply):
                stopped_by = stopped_by or reply
            elif stopped_by is not None:
                # Beginning at the one that failed would carry this one out again.
                raise IndefiniteError(f"{stopped_by}; some commands behind it were carried out")
            else:
                self.offset += length
                self._count(reply)
        self._progress(self.offset)
        if stopped_by is not None:
            raise stopped_by

    def _count(self, reply: object) -> None:
        if not isinstance(reply, RaftKvError):
            self.counts.keys += 1
            return
        self.counts.failed += 1
        if len(self.counts.failures) < FAILURES_SHOWN:
            self.counts.failures.append(str(reply))


def _place(part: Part, commands: list[Command], replies: list[object], counts: Counts) -> bool:
    """Count what became of one part; True for a key of which there is nothing to set.

    Raises:
        RequestError: A command is unsettled.
        RaftKvError: A command failed.
    """
    kept = False
    for command, reply in zip(commands, replies, strict=True):
        if command[0] in (b"RENAME", b"RENAMENX") and _is_missing(reply):
            if _was_there(part, commands, replies):
                counts.expired += 1
            else:
                counts.empty += 1
            return True
        if isinstance(reply, RequestError) and _is_unsettled(reply):
            raise reply
        if isinstance(reply, RaftKvError):
            raise RaftKvError(f"the key {part.key!r:.200}: {reply}")
        kept = kept or (command[0] == b"RENAMENX" and reply == 0)
    if not part.more:
        # SET with NX answers nil where it left the key alone.
        if kept or replies[-1] is None:
            counts.kept += 1
        else:
            counts.keys += 1
    return False


def _was_there(part: Part, commands: list[Command], replies: list[object]) -> bool:
    """Whether a key that is gone had a value before its time was over."""
    if part.kind == "string":
        return True
    return any(
        command[0] == b"PEXPIREAT" and reply == 1
        for command, reply in zip(commands, replies, strict=True)
    )


def _check(command: Command) -> None:
    """Refuse what would change the connection: batches go over several.

    Raises:
        RaftKvError: It is such a command.
    """
    name = command[0].upper()
    if name in _OF_CONNECTIONS or request_of(command).stateful:
        text = name.decode(errors="backslashreplace")
        raise RaftKvError(f"{text} changes its connection; an import uses several")


def _is_unsettled(error: RequestError) -> bool:
    """Whether a command has an unknown outcome, or had one until the deadline was over."""
    is_fenced = isinstance(error, NotAppliedError) and str(error) == FENCED
    return is_fenced or isinstance(error, IndefiniteError)


def _is_refusal(reply: RaftKvError) -> bool:
    """Whether a command failed by itself, so that the others of its file go on."""
    is_too_large = isinstance(reply, NotAppliedError) and str(reply).startswith(RESULT_TOO_LARGE)
    return is_too_large or isinstance(reply, CommandError)


def _is_missing(reply: object) -> bool:
    return isinstance(reply, DefiniteError) and "no such key" in str(reply)
