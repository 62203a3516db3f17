"""The replicated store: committed batches in, results out.

`KvStore` applies each log index exactly once and keeps the proof: a digest over
everything that went in and came out. Whatever it does is a function of the log
alone - no clock, no chance, no dependence on the process - so that equal logs
give equal hashes on every node and for every way of getting there (applied,
restored from an image, both).

It binds opcodes to the handlers of all `families`, undoes a command that fails
unexpectedly, and hands out images. It does not know sockets, disks or the
consensus that feeds it. Called by the replica, from the one thread that owns
the state.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Generator, Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from raftkv.errors import CommandError, ProtocolError
from raftkv.kv import once, transactions
from raftkv.kv.codec import MALFORMED, decode_batch
from raftkv.kv.commands import (
    GROWING_OPCODES,
    INTERNAL_ERROR,
    MACHINE_ERRORS,
    OK,
    OUT_OF_MEMORY,
    SLICED_OPCODES,
    WRITE_OPCODES,
    Command,
    ErrorReply,
    Opcode,
)
from raftkv.kv.families import HANDLERS, SLICED_HANDLERS
from raftkv.kv.history import History
from raftkv.kv.image import HistoryMeta, Image, ImageMeta
from raftkv.kv.keyspace import Keyspace
from raftkv.kv.strings import Handler, get_run, set_run

STATE_HASH_BYTES: Final = 16

# Limit: due keys removed in a batch beside one for each of its commands. A batch
# creates at most one deadline a command, so what is due cannot pile up.
EXPIRE_SLICE_KEYS: Final = 512

# Limit: alarms kept until the replica drains them.
ALARMS_MAX: Final = 100

# hashlib lets go of the interpreter lock for longer input, and getting it back
# costs more than the hash where another thread is busy.
_DIGEST_SLICE_BYTES: Final = 2047

# Limit: bytes of one value among the results that the state hash looks at, at either
# end. A few words can ask for gigabytes of results (MGET of one large key again and
# again), and every node would hash them, also whenever it replays its log.
HASHED_VALUE_BYTES: Final = 256

_SET: Final = int(Opcode.SET)
_GET: Final = int(Opcode.GET)
_GROWING: Final = frozenset(map(int, GROWING_OPCODES))
_HASH_PREFIX: Final = struct.Struct("<QQQQI")
_SKIP_PREFIX: Final = struct.Struct("<Q4s")
_RESULTS: Final = msgspec.msgpack.Encoder()
# Types of results of which the hash takes all.
_SMALL_RESULTS: Final = frozenset((int, float, str, type(None), ErrorReply))


class Alarm(NamedTuple):
    """An unexpected failure of a command, which was undone.

    Attributes:
        log_index: Of the entry, or 0 for a read.
        opcode: Of the command.
        detail: Exception and place in the code, for the log.
    """

    log_index: int
    opcode: int
    detail: str


def _run_sliced(opcode: Opcode) -> Handler:
    """Return a handler that runs a sliced read to its end."""
    start = SLICED_HANDLERS[opcode]

    def run(keyspace: Keyspace, command: Command) -> object:
        steps = start(keyspace, command)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return stop.value

    return run


def _refuse(_keyspace: Keyspace, _command: Command) -> object:
    """Fail a command that a faulty leader has put into the log."""
    raise TypeError("an argument of a type that no command takes")


_HANDLERS: Final[dict[int, Handler]] = (
    {
        int(opcode): handler
        for opcode, handler in (HANDLERS | transactions.HANDLERS | once.HANDLERS).items()
    }
    | {int(opcode): _run_sliced(opcode) for opcode in SLICED_OPCODES}
    | {MALFORMED[0]: _refuse}
)


class KvStore:
    """Keys and values as of one log index.

    Attributes:
        applied_index: Last log index whose effects are inside.
        state_hash: 16 bytes over everything applied, in order.
        alarms: Unexpected failures since the replica last looked; it clears the list.
    """

    __slots__ = (
        "_failed",
        "_handlers",
        "_keyspace",
        "_readers",
        "alarms",
        "applied_index",
        "state_hash",
    )

    def __init__(self) -> None:
        self._keyspace = Keyspace()
        self._handlers = dict(_HANDLERS)
        self._readers = {
            opcode: handler for opcode, handler in _HANDLERS.items() if opcode not in WRITE_OPCODES
        }
        self._failed = False
        self.applied_index = 0
        self.state_hash = bytes(STATE_HASH_BYTES)
        self.alarms: list[Alarm] = []

    @classmethod
    def restored(cls, keyspace: Keyspace, meta: ImageMeta) -> KvStore:
        """Return the store that an image stands for; called by `ImageLoader`."""
        store = cls()
        store._keyspace = keyspace
        store.applied_index = meta.applied_index
        store.state_hash = meta.state_hash
        return store

    # ------------------------------------------------------------ status

    @property
    def log_time_ms(self) -> int:
        """Log time after the last batch; deadlines at or before it are past."""
        return self._keyspace.log_time_ms

    @property
    def lease_time_ms(self) -> int:
        """Lease time after the last batch."""
        return self._keyspace.lease_time_ms

    @property
    def revision(self) -> int:
        """Number of the last change; grows by one with each."""
        return self._keyspace.revision

    @property
    def history(self) -> History:
        """The last changes; for reading only."""
        return self._keyspace.history

    @property
    def key_count(self) -> int:
        """Number of live keys."""
        return self._keyspace.key_count()

    @property
    def expiring_count(self) -> int:
        """Number of live keys that have a deadline."""
        return self._keyspace.expiring_count()

    @property
    def dataset_bytes(self) -> int:
        """What all keys count for, dead ones included, as `dataset` says."""
        return self._keyspace.dataset_bytes

    @property
    def dataset_bytes_max(self) -> int:
        """The limit of it, as of the log; 0 for none."""
        return self._keyspace.dataset_bytes_max

    @property
    def dataset_is_full(self) -> bool:
        """Whether commands that may make it larger are refused."""
        return self._keyspace.dataset_bytes > self._keyspace.dataset_bound

    @property
    def next_deadline_ms(self) -> int | None:
        """Earliest deadline of a key that is still held, dead ones included.

        At or below `log_time_ms` while dead keys wait for the next batch.
        """
        deadlines = self._keyspace.deadlines
        return deadlines[0][0] if deadlines else None

    @property
    def next_lease_deadline_ms(self) -> int | None:
        """Earliest deadline of a lease or session that is still held, in lease time.

        Dead leases included; 0 where one was revoked and is not gone yet.
        """
        due = self._keyspace.leases.due
        session_ms = self._keyspace.sessions.next_deadline_ms
        if not due:
            return session_ms
        return due[0][0] if session_ms is None else min(due[0][0], session_ms)

    @property
    def lease_count(self) -> int:
        """Number of leases, dead ones included while their keys are being removed."""
        return len(self._keyspace.leases.held)

    @property
    def is_expiring(self) -> bool:
        """Whether dead keys are held, so that each batch removes many of them."""
        return self._keyspace.has_due()

    def await_keys(self, keys: Container[bytes]) -> None:
        """Note from now on which of these keys get a collection; not a part of the state.

        Args:
            keys: Looked at whenever a collection is put; the caller goes on changing it.
        """
        self._keyspace.awaited = keys

    def take_ready(self) -> Iterable[bytes]:
        """Return the awaited keys that got a collection since the last call, in order."""
        ready = self._keyspace.ready
        if ready:
            self._keyspace.ready = {}
        return ready

    @property
    def at_checkpoint(self) -> bool:
        """Whether the last batch asked all nodes to compare their images of this index."""
        return self._keyspace.at_checkpoint

    # ------------------------------------------------------------ the log

    def apply(
        self,
        index: int,
        payload: bytes | memoryview,
        commands: Sequence[Command] | None = None,
    ) -> list[object]:
        """Execute one committed batch.

        Times advance first and never go back; then a bounded number of due keys
        is removed; then the commands run in order.

        Args:
            index: Must be `applied_index + 1`.
            payload: What `encode_batch` returned.
            commands: What it was given, where the caller still has it and they are
                `decodes_alike`; spares the decoding.

        Returns:
            One result a command: None, int, float, bytes, str (a simple string), list
            or one of its kinds in `types`, or `ErrorReply`.

        Raises:
            ProtocolError: The payload or an opcode is not known; the node must stop.
            MemoryError, OSError, RecursionError: The machine failed; the node must stop.
                The index has not advanced, and the store takes nothing more.
        """
        self._check_next(index)
        batch = decode_batch(payload, commands)
        keyspace = self._keyspace
        if batch.log_time_ms > keyspace.log_time_ms:
            keyspace.log_time_ms = batch.log_time_ms
        if batch.lease_time_ms > keyspace.lease_time_ms:
            keyspace.lease_time_ms = batch.lease_time_ms
        self._failed = True
        keyspace.copied_bytes = 0
        keyspace.random_state = batch.seed
        keyspace.at_checkpoint = False
        keyspace.expire_due(EXPIRE_SLICE_KEYS + len(batch.commands))
        keyspace.sessions.expire_due(keyspace.lease_time_ms)
        if keyspace.undo:
            keyspace.record()
        keyspace.leases.undo.clear()
        results = self._run(index, batch.commands)
        if batch.keeps_history:
            keyspace.history.enforce()
        else:
            keyspace.history.cut(keyspace.revision)
        self._seal(index, payload, results)
        self._failed = False
        return results

    def skip(self, index: int) -> None:
        """Pass an entry that is not for the store: a no-op or a configuration.

        Args:
            index: Must be `applied_index + 1`.
        """
        self._check_next(index)
        digest = blake2b(self.state_hash, digest_size=STATE_HASH_BYTES)
        digest.update(_SKIP_PREFIX.pack(index, b"skip"))
        self.state_hash = digest.digest()
        self.applied_index = index

    def _check_next(self, index: int) -> None:
        if index != self.applied_index + 1:
            raise AssertionError(f"index {index} does not follow {self.applied_index}")
        if self._failed:
            raise AssertionError("the store failed within a batch and cannot go on")

    def _run(self, index: int, commands: Sequence[Command]) -> list[object]:
        """Execute commands, undoing each that fails unexpectedly."""
        keyspace, handlers, undo = self._keyspace, self._handlers, self._keyspace.undo
        lease_undo = keyspace.leases.undo
        results: list[object] = []
        add_result = results.append
        position, count = 0, len(commands)
        while position < count:
            command = commands[position]
            if command and command[0] == _SET and position + 1 < count:
                end = set_run(keyspace, commands, position)
                if end > position:
                    results += [OK] * (end - position)
                    position = end
                    continue
            position += 1
            revision = keyspace.revision
            try:
                if keyspace.dataset_bytes > keyspace.dataset_bound and command[0] in _GROWING:
                    raise CommandError(OUT_OF_MEMORY)
                add_result(handlers[command[0]](keyspace, command))
            except CommandError as error:
                add_result(ErrorReply(error.message))
            except MACHINE_ERRORS:
                raise
            except Exception as error:
                self._check_opcode(command)
                keyspace.roll_back(revision)
                self._raise_alarm(index, command, error)
                add_result(INTERNAL_ERROR)
            if undo:
                keyspace.record()
            if lease_undo:
                lease_undo.clear()
        return results

    def _seal(self, index: int, payload: bytes | memoryview, results: list[object]) -> None:
        """Advance index and hash over what has been applied."""
        keyspace = self._keyspace
        digest = blake2b(self.state_hash, digest_size=STATE_HASH_BYTES)
        digest.update(
            _HASH_PREFIX.pack(
                index,
                keyspace.log_time_ms,
                keyspace.lease_time_ms,
                keyspace.revision,
                len(payload),
            )
        )
        view = memoryview(payload)
        for position in range(0, len(view), _DIGEST_SLICE_BYTES):
            digest.update(view[position : position + _DIGEST_SLICE_BYTES])
        digest.update(_RESULTS.encode((_outline(results), keyspace.expired)))
        keyspace.expired.clear()
        if keyspace.sessions.expired:
            digest.update(_RESULTS.encode(keyspace.sessions.expired))
            keyspace.sessions.expired.clear()
        self.state_hash = digest.digest()
        self.applied_index = index

    def _check_opcode(self, command: Command) -> None:
        """Tell a command of another version, which must not pass, from a failing one.

        Raises:
            ProtocolError: The first field is not an opcode.
        """
        opcode = command[0] if command else None
        if not isinstance(opcode, int) or opcode not in self._handlers:
            raise ProtocolError(f"opcode {opcode!r} is not known to this version")

    def _raise_alarm(self, index: int, command: Command, error: Exception) -> None:
        """Remember an unexpected failure, without the data it happened on."""
        place, trace = "", error.__traceback__
        while trace is not None:
            place = f"{trace.tb_frame.f_code.co_qualname}, line {trace.tb_lineno}"
            trace = trace.tb_next
        if len(self.alarms) < ALARMS_MAX:
            self.alarms.append(Alarm(index, command[0], f"{type(error).__name__} in {place}"))

    # ------------------------------------------------------------ reads

    def execute(self, command: Command) -> object:
        """Answer a command that only reads, at the present log time.

        Returns:
            As one result of `apply`. A sliced read is run to its end.
        """
        return self.execute_all((command,))[0]

    def execute_all(self, commands: Sequence[Command]) -> list[object]:
        """Answer commands that only read; one result each, in order."""
        keyspace, readers = self._keyspace, self._readers
        keyspace.copied_bytes = 0
        results: list[object] = []
        position, count = 0, len(commands)
        while position < count:
            command = commands[position]
            if command[0] == _GET and position + 1 < count:
                end = get_run(keyspace, commands, position, results)
                if end > position:
                    position = end
                    continue
            position += 1
            try:
                results.append(readers[command[0]](keyspace, command))
            except CommandError as error:
                results.append(ErrorReply(error.message))
            except MACHINE_ERRORS:
                raise
            except Exception as error:
                if command[0] not in readers:
                    raise AssertionError(f"opcode {command[0]} is not a read") from None
                self._raise_alarm(0, command, error)
                results.append(INTERNAL_ERROR)
        return results

    def sliced(self, command: Command) -> Generator[None, None, object]:
        """Answer a read that looks at many keys or changes, as of one moment from this call on.

        Each step does a bounded piece of work; writes may come between. Close
        the generator when the answer is no longer wanted.

        Returns:
            A generator whose return value is the result, `ErrorReply` included.
        """
        if command[0] not in SLICED_OPCODES:
            raise AssertionError(f"opcode {command[0]} has no sliced form")
        steps = self._sliced(command)
        # The first step freezes the keys: a write, a flush or the retirement of
        # this store may come before the second.
        next(steps)
        return steps

    def _sliced(self, command: Command) -> Generator[None, None, Any]:
        try:
            return (yield from SLICED_HANDLERS[command[0]](self._keyspace, command))
        except CommandError as error:
            return ErrorReply(error.message)

    # ------------------------------------------------------------ images, memory

    def start_image(self) -> Image:
        """Freeze the whole state for a snapshot; writes may go on meanwhile."""
        history = self._keyspace.history
        return Image(
            ImageMeta(
                applied_index=self.applied_index,
                log_time_ms=self.log_time_ms,
                lease_time_ms=self.lease_time_ms,
                revision=self.revision,
                state_hash=self.state_hash,
                key_count=self.key_count,
                dataset_bytes=self.dataset_bytes,
                dataset_bytes_max=self.dataset_bytes_max,
                history=HistoryMeta(
                    compacted=history.compacted,
                    revisions_kept=history.revisions_kept,
                    bytes_kept=history.bytes_kept,
                    change_count=history.change_count,
                    byte_count=history.byte_count,
                ),
            ),
            self._keyspace.view(),
            history.freeze(),
        )

    def free_slice(self) -> bool:
        """Free a bounded part of the memory that flushes, compactions and large values left.

        Returns:
            True while there is more to free.
        """
        more_sessions = self._keyspace.sessions.free_slice()
        return self._keyspace.free_slice() or more_sessions

    @property
    def is_viewed(self) -> bool:
        """Whether an image or a sliced read is open, for the end of which some memory waits."""
        return bool(self._keyspace.views)

    def retire(self) -> None:
        """Give up the content, so that `free_slice` can free it piece by piece.

        For a store that another one has replaced; it takes nothing more.
        """
        self._failed = True
        keyspace = self._keyspace
        keyspace.flush()
        keyspace.undo.clear()
        keyspace.leases.undo.clear()
        keyspace.sessions.retire()
        keyspace.garbage.take_time(keyspace.history.change_count)
        # Beyond its revision, which tells reads under way that there is nothing to be read.
        keyspace.history.cut(keyspace.revision + 1)


def _outline(results: list[Any]) -> list[Any]:
    """Return results for the hash, with a large value's length and ends in its place.

    The value itself came from a payload, and is in an earlier hash as a whole.
    """
    if _SMALL_RESULTS.issuperset(map(type, results)):
        return results
    return [
        (len(one), one[:HASHED_VALUE_BYTES], one[-HASHED_VALUE_BYTES:])
        if type(one) is bytes and len(one) > 2 * HASHED_VALUE_BYTES
        else _outline(one)
        if isinstance(one, list)
        else one
        for one in results
    ]
