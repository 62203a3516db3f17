"""One stream of requests and its replies, in order: the hot path of the server.

Whole requests go in; replies come out in the same order, although some are
answered at once, some by the replica later, and some by another node. Nothing
exists per command but its tuple: consecutive reads, and consecutive writes with
the reads among them, form one `Run`, which is one call of the replica and one
slot. What must wait (for an earlier read, for a leader, for room) stays in the
backlog, in order.

Invariants: commands take effect in the order sent. A write is proposed only
when no read of this stream is unanswered; a read behind an unapplied write goes
through the log with it. Every request gets exactly one reply, or the stream
ends. After an UNKNOWN reply nothing more is executed, and the stream ends.

Knows no socket: `connection` (a client) and `forwarding` (another node's
client) derive from it. Called only on the thread that owns the state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from raftkv.errors import CommandError
from raftkv.kv.commands import OUT_OF_MEMORY
from raftkv.resp.values import encode, encode_error, encode_results
from raftkv.seams import NO_LEADER, NOT_LEADER, Failure, Slot
from raftkv.server.blocking import BlockedRun
from raftkv.server.command_table import WRONG, CommandSpec, Kind
from raftkv.server.handlers_blocking import blocking_pop
from raftkv.server.ports import Command
from raftkv.server.runs import Later, Run, SlicedRun, TimedSlot
from raftkv.types import Index

if TYPE_CHECKING:
    from raftkv.server.service import Service

_LOCAL = int(Kind.LOCAL)
_READ = int(Kind.READ)
_WRITE = int(Kind.WRITE)
_ALONE = int(Kind.ALONE)
_SLICED = int(Kind.SLICED)
_BLOCKING = int(Kind.BLOCKING)

# Reads in front of a write that arrived in the same chunk go through the log
# with it instead of holding it up for a round; more of them are worth the round.
_READS_LOGGED_MAX = 64
# Local replies that may wait for an earlier run, besides the count of commands.
_WAITING_BYTES_MAX = 1024 * 1024
# Limit: replies made at once, without waiting for anything, before others get their
# turn and the client has to take some: a few bytes of request can ask for megabytes.
_OUTPUT_BYTES_MAX = 1024 * 1024
# Limit: large replies handed on at once; the others follow as the client takes them.
_PIECE_BYTES_MAX = 1024 * 1024
# What a reply counts for besides its bytes, because making it takes time.
_OUTPUT_REPLY_BYTES = 1024

NO_LEADER_REPLY = encode_error("CLUSTERDOWN no leader elected")
NOT_LEADER_REPLY = encode_error("NOTAPPLIED not leader")
EARLIER_UNKNOWN_REPLY = encode_error("NOTAPPLIED earlier command unknown")


class CommandPipeline:
    """Requests of one stream in, their replies out, in order.

    Attributes:
        service: What all streams of this node share.
        protocol: RESP version of new replies, 2 or 3.
        readonly: READONLY was sent: stale reads on a node that does not lead.
        stale_reads: The read level is `stale` or `bounded`: this node's store answers.
        lease_reads: The read level is `lease`.
        bound_ms: How old what a read sees may be, at the level `bounded`.
        floor_index: What must be applied for this node's store to answer.
        proxied: The routing is `proxy`, not `redirect`.
        ending: No more input is read; ends when all that was read is answered.
        quitting: Requests not yet carried out are dropped; ends when the others
            are answered.
        farewell: Reply that goes behind all requests taken so far, before the end.
        held: The backlog waits for a leader; `service` tries again.
        waiting_since_ms: Clock time from which the deadline of requests in the backlog
            counts that have been on their way before; 0 when there are none.
        blocked: The blocking pop that everything behind it waits for.
    """

    __slots__ = (
        "_backlog",
        "_blocked",
        "_exclusive",
        "_fifo",
        "_limits",
        "_output",
        "_output_bytes",
        "_pipeline_max",
        "_poisoned",
        "_pushing",
        "_reads_pending",
        "_replica",
        "_specs",
        "_unanswered",
        "_waiting_bytes",
        "_writable",
        "_writes_pending",
        "blocked",
        "bound_ms",
        "dirty",
        "ending",
        "farewell",
        "floor_index",
        "held",
        "lease_reads",
        "protocol",
        "proxied",
        "quitting",
        "readonly",
        "service",
        "stale_reads",
        "waiting_since_ms",
    )

    def __init__(self, service: Service) -> None:
        """Start without requests, in the routing and read level of the config."""
        self.service = service
        self.protocol = 2
        self.readonly = False
        reads = service.config.reads
        self.set_read_level(reads.level, reads.staleness_ms_max)
        self.floor_index = Index(0)
        self.proxied = service.config.writes.on_follower == "proxy"
        self.ending = False
        self.quitting = False
        self.farewell = b""
        self.held = False
        self.waiting_since_ms = 0
        self.blocked: BlockedRun | None = None
        self.dirty = False
        self._replica = service.replica
        # What may be in a run, by first word: nothing inside MULTI.
        self._specs = service.table.by_word
        self._limits = service.config.limits
        self._pipeline_max = service.config.limits.pipeline_commands_max
        # Runs, and encoded local replies behind the first unanswered run. Why not a
        # union type: the casts it needs are calls, once a reply.
        self._fifo: deque[Any] = deque()
        self._output: list[bytes] = []
        self._output_bytes = 0  # what the replies in it count for that were made at once
        self._writable = True  # the other side takes its replies
        self._backlog: list[list[bytes]] = []
        self._blocked = False  # the backlog waits for an answer of this stream
        self._unanswered = 0  # commands in the FIFO
        self._waiting_bytes = 0  # of the local replies in the FIFO
        self._reads_pending = 0  # unanswered runs that are read beside the log
        self._writes_pending = 0  # unanswered runs that go through the log
        self._exclusive = False  # a run that holds up everything behind it
        self._poisoned = False  # an outcome of this stream is unknown
        self._pushing = False  # there are messages besides replies, not all taken

    def set_read_level(self, level: str, bound_ms: int | None = None) -> None:
        """Let reads from now on be of that level; `bound_ms` is for `bounded` only."""
        self.stale_reads = level in ("stale", "bounded")
        self.lease_reads = level == "lease"
        self.bound_ms = bound_ms if level == "bounded" else None

    # ------------------------------------------------------------ requests in

    def take(self, requests: list[list[bytes]]) -> None:
        """Carry out requests, or keep them in order behind those that wait."""
        if self.quitting:
            return
        if self._backlog or self._blocked:
            self._backlog += requests
        elif self._poisoned:
            self._refuse(requests)
        elif self._replica.is_leader:
            position = self._gather(requests, 0)
            if position < len(requests):
                self._take_rest(requests, position)
        else:
            self._take_following(requests)

    def _take_rest(self, requests: list[list[bytes]], position: int) -> None:
        """Go on behind the first run, with a request that is in no run."""
        count = len(requests)
        while position < count:
            if not self._take_single(requests, position):
                return
            position += 1
            if position < count and self._specs:
                position = self._gather(requests, position)

    def _gather(self, requests: list[list[bytes]], first: int) -> int:
        """Hand the longest possible run that begins at `first` to the replica.

        Returns:
            Position behind it; `first` when that request is for `_take_single`.
        """
        specs = self._specs
        limits = self._limits
        end = min(len(requests), first + self._pipeline_max - self._unanswered)
        position = first
        logged = self._writes_pending > 0
        commands: list[Command] = []
        append = commands.append
        while position < end:
            arguments = requests[position]
            spec = specs.get(arguments[0])
            if spec is None or not spec.low <= len(arguments) <= spec.high:
                spec = self._find_unusual(arguments)
            kind = spec.kind
            if kind == _WRITE:
                if not logged:
                    if self._reads_pending or len(commands) > _READS_LOGGED_MAX:
                        break
                    if spec.grows and not commands and self._replica.dataset_is_full:
                        # Surely refused: no write before it can make room.
                        break
                    logged = True
            elif kind != _READ or (self.stale_reads and not commands and not self._fifo):
                break
            position += 1
            if position < end and spec.parse_run is not None:
                run_commands = spec.parse_run(requests, position - 1, end, limits)
                if run_commands:
                    count = len(run_commands)
                    commands += run_commands
                    spec.calls += count
                    position += count - 1
                    continue
            try:
                append(spec.parse(arguments, limits))
            except CommandError:
                break
            spec.calls += 1
        if not commands:
            return first
        count = len(commands)
        run = Run(self, requests, first, first + count)
        slot = self._timed(run) if self.waiting_since_ms else run
        self._fifo.append(run)
        self._unanswered += count
        if logged:
            run.logged = True
            self._writes_pending += 1
            self._replica.propose(commands, slot)
        elif self.lease_reads and not self._reads_pending:
            # One that waits for its round must not be overtaken.
            self._reads_pending += 1
            self._replica.read_leased(commands, slot)
        else:
            self._reads_pending += 1
            self._replica.read(commands, slot)
        return first + count

    def _find_unusual(self, arguments: list[bytes]) -> CommandSpec:
        """Look up a name in mixed case or with a subcommand; `WRONG` for a bad request."""
        try:
            return self.service.table.resolve(arguments)
        except CommandError:
            return WRONG

    def _take_single(self, requests: list[list[bytes]], position: int) -> bool:
        """Carry out a request that is in no run; False when it and all behind it wait."""
        if self._is_full():
            self._block(requests, position)
            return False
        arguments = requests[position]
        try:
            spec, command = self._understand(arguments)
        except CommandError as error:
            self._reply_refused(error, arguments)
            return True
        if command is None and not (spec.ordered and self._fifo):
            spec.calls += 1
            if self._do_locally(spec, arguments):
                return True
            self._block(requests, position + 1)
            return False
        if spec.grows and self._replica.dataset_is_full and not self._writes_pending:
            self._reply_refused(CommandError(OUT_OF_MEMORY), arguments)
            return True
        if self._fifo or command is None:
            self._block(requests, position)
            return False
        spec.calls += 1
        stale = self._reads_stale
        if stale and spec.kind in (_READ, _ALONE):
            self._reply_stale(spec, command)
            return True
        if spec.kind == _SLICED:
            if stale and self._is_too_old():
                return True
            sliced = SlicedRun(self, requests, position, position + 1)
            self._submit_sliced(sliced, command, linearizable=not stale)
        else:
            run = self._run_of(spec, requests, position, position + 1)
            self._begin_exclusive(run)
            if isinstance(run, BlockedRun):
                self.service.blocked.begin(run, command)
            else:
                self._replica.read([command], self._timed(run))
        self._block(requests, position + 1)
        return False

    def _is_too_old(self) -> bool:
        """Answer a read of this node's whole store, if the store is too old for it."""
        if self.bound_ms is None and not self.floor_index:
            return False
        refusal = self._replica.local_refusal(self.bound_ms, self.floor_index)
        if refusal is not None:
            self._reply(encode(refusal, self.protocol))
        return refusal is not None

    def _reply_stale(self, spec: CommandSpec, command: Command) -> None:
        if self.bound_ms is None and not self.floor_index:
            value = self._replica.read_stale(command)
        else:
            value = self._replica.read_local(command, self.bound_ms, self.floor_index)
        self._reply(encode(value, self.protocol))
        if spec.kind == _ALONE:
            # Enough for one pass.
            self._output_bytes += _OUTPUT_BYTES_MAX

    @property
    def _reads_stale(self) -> bool:
        """Whether reads of this stream are answered by this node at once."""
        return self.stale_reads

    def _run_of(self, spec: CommandSpec, requests: list[list[bytes]], first: int, end: int) -> Run:
        """Return the slot for a stretch of requests that begins with such a command."""
        if spec.kind == _BLOCKING:
            words = requests[first]
            pop = blocking_pop(words, spec.parse(words, self._limits))
            return BlockedRun(self, requests, first, pop)
        return Run(self, requests, first, end)

    def _understand(self, arguments: list[bytes]) -> tuple[CommandSpec, Command | None]:
        """Look up and parse a request; no command for those of the server's own.

        Raises:
            CommandError: Redis' text for what is wrong with it.
        """
        spec = self._specs.get(arguments[0])
        if spec is None or not spec.low <= len(arguments) <= spec.high:
            spec = self.service.table.resolve(arguments)
        return spec, None if spec.kind == _LOCAL else spec.parse(arguments, self._limits)

    def _submit_sliced(self, run: Run, command: Command, *, linearizable: bool = True) -> None:
        self._begin_exclusive(run)
        self._replica.read_sliced(command, self._timed(run), linearizable=linearizable)

    def _timed(self, run: Run) -> Slot:
        """Return the slot in which the replica is to answer a run by its deadline."""
        if not self.waiting_since_ms:
            return run
        slot = TimedSlot(run, self.service.deadline_ms(run))
        self.service.timed.append(slot)
        return slot

    def _begin_exclusive(self, run: Run) -> None:
        run.exclusive = self._exclusive = True
        self._fifo.append(run)
        self._unanswered += 1
        self._reads_pending += 1

    def _do_locally(self, spec: CommandSpec, arguments: list[bytes]) -> bool:
        """Answer a command of the server's own; False when all behind it has to wait."""
        try:
            value = spec.handle(self, arguments)
        except CommandError as error:
            self._reply_error(error)
            return not self.quitting
        if isinstance(value, Later):
            run = Run(self, [arguments], 0, 1)
            run.forwarded = value.forwarded
            self._begin_exclusive(run)
            value.start(run)
            return False
        self._reply(encode(value, self.protocol))
        return not self.quitting

    def _is_full(self) -> bool:
        """Whether replies, or those that wait for an earlier one, have reached their limits."""
        if not self._fifo:
            return self._output_bytes > _OUTPUT_BYTES_MAX
        return self._unanswered >= self._pipeline_max or self._waiting_bytes > _WAITING_BYTES_MAX

    def _block(self, requests: list[list[bytes]], position: int) -> None:
        """Keep what begins at `position` until an answer of this stream comes."""
        if not self.quitting:
            self._backlog = requests[position:]
            self._blocked = True
            self._reading_changed()

    def _resume(self) -> None:
        """Try again to carry out the backlog."""
        requests, self._backlog = self._backlog, []
        self._blocked = False
        if requests:
            self.take(requests)
        self._reading_changed()

    def _refuse(self, requests: list[list[bytes]]) -> None:
        for _ in requests:
            self._reply(EARLIER_UNKNOWN_REPLY)

    # ------------------------------------------------------------ replies out

    def _reply(self, reply: bytes) -> None:
        """Answer the next request in order with encoded bytes."""
        if self._fifo:
            self._fifo.append(reply)
            self._unanswered += 1
            self._waiting_bytes += len(reply)
        else:
            self._output.append(reply)
            self._output_bytes += len(reply) + _OUTPUT_REPLY_BYTES

    def _reply_refused(self, error: CommandError, arguments: list[bytes]) -> None:
        """Answer a request whose words are wrong."""
        spec = self.service.table.find(arguments)
        if spec is not None:
            spec.rejected += 1
        self._reply_error(error)

    def _reply_error(self, error: CommandError) -> None:
        self.service.statistics.error_replies += 1
        self._reply(encode_error(error.message))

    def quit(self) -> None:
        """Answer what was carried out, drop the rest, end."""
        self.quitting = self.ending = True
        self._backlog = []
        self._blocked = False
        if self.blocked is not None:
            self.service.blocked.leave(self.blocked)

    def run_finished(self, run: Run) -> None:
        """Take note that a run has its results or a failure; `flush` writes them."""
        if run.logged:
            self._writes_pending -= 1
        else:
            self._reads_pending -= 1
        if run.exclusive:
            self._exclusive = False
            self.blocked = None
        failure = run.failure
        if failure is not None and not failure.definite:
            self._poisoned = True
        if not self.dirty:
            self.dirty = True
            self.service.dirty.append(self)

    def poison(self) -> None:
        """The outcome of something in this stream is unknown: carry out nothing more."""
        self._poisoned = True

    def flush(self) -> None:
        """Write every reply that is due, at once, and go on with what waited for it."""
        self.dirty = False
        try:
            enough = self._output_bytes > _OUTPUT_BYTES_MAX
            if self._drain_piece():
                self._drain()
            elif self._pushing:
                self._drain_pushed()
            if self._blocked:
                if enough:
                    self._flush_later()
                else:
                    self._resume_all()
            if self.ending or self._poisoned:
                self._end_if_done()
        except Exception as error:
            self.break_off(error)

    def break_off(self, error: Exception) -> None:
        """End at once because of a defect, which must not disturb other streams."""
        self.service.observer.event("connection_failed", client=self.origin, error=repr(error))
        self.quit()
        self._fifo.clear()
        self._output = []

    def _resume_all(self) -> None:
        """Carry out what can be of the backlog."""
        while self._blocked and self._may_resume():
            self._resume()
            enough = self._output_bytes > _OUTPUT_BYTES_MAX
            self._drain()
            if enough:
                self._flush_later()
            if enough or self._fifo:
                break

    def _end_if_done(self) -> None:
        if self._backlog:
            return
        if self.farewell:
            self._reply(self.farewell)
            self.farewell = b""
            self._drain()
        if not self._fifo:
            self._end()

    def _may_resume(self) -> bool:
        """Whether the backlog may be tried again."""
        return not self._exclusive and not self.held

    def _drain(self) -> None:
        """Write the replies in front of the first unanswered run, as fast as they are taken."""
        while self._drain_piece() and self._writable:
            pass
        if self._pushing:
            self._drain_pushed()

    def _drain_piece(self) -> bool:
        """Write the next of them; whether there may be more.

        Results stay as they are until they go: they refer to what is in the store.
        """
        fifo = self._fifo
        output = self._output
        room = _PIECE_BYTES_MAX
        while fifo and room > 0 and self._writable:
            head = fifo[0]
            if head.__class__ is bytes:
                output.append(head)
                self._unanswered -= 1
                self._waiting_bytes -= len(head)
            else:
                results = head.results
                if results is not None:
                    done, room = encode_results(results, head.protocol, output, room)
                    if done < len(results):
                        head.results = results[done:]
                        head.first += done
                        self._unanswered -= done
                        break
                elif head.replies is not None:
                    piece = None if head.slices is None else next(head.slices, None)
                    if piece is not None:
                        output.append(piece)
                        self._flush_later()
                        # That flush writes the next one: there is nothing more for this one.
                        room = 1
                        break
                    output += head.replies
                    room -= sum(map(len, head.replies))
                elif head.failure is None or not self._answer_failure(head, head.failure):
                    break
                self._unanswered -= head.end - head.first
            fifo.popleft()
        if output:
            self._output = []
            self._output_bytes = 0
            self._send(output)
        return room <= 0

    def _waiting_reply_bytes(self) -> int:
        """Return the bytes of the replies that `_drain` could write."""
        size = 0
        for head in self._fifo:
            if head.__class__ is bytes:
                size += len(head)
            elif not head.finished:
                break
            else:
                size += _size_of(head.results or head.replies or ())
        return size

    def _answer_failure(self, run: Run, failure: Failure) -> bool:
        """Put the replies to a failed run into the output; False when that has to wait."""
        count = run.end - run.first
        if not failure.definite:
            self._output += [encode_error(f"UNKNOWN {failure.reason}")] * count
        elif failure is NO_LEADER:
            self._output += [NO_LEADER_REPLY] * count
        elif failure is NOT_LEADER or failure.reason == NOT_LEADER.reason:
            return self._answer_not_leader(run)
        else:
            self._output += [encode_error(f"NOTAPPLIED {failure.reason}")] * count
        return True

    def _answer_not_leader(self, run: Run) -> bool:
        """Route a run again that was certainly not proposed, if order permits."""
        requests: list[list[bytes]] = []
        for later in self._fifo:
            if later.__class__ is bytes:
                continue
            if not later.finished:
                return False
            if later.failure is not None and later.failure.reason == NOT_LEADER.reason:
                requests += later.requests[later.first : later.end]
        # Something behind was carried out or answered: this one can only be refused.
        if len(requests) == self._unanswered and not self._poisoned:
            self._fifo.clear()
            self._unanswered = 0
            self._route_again(run, requests)
            return False
        self._output += self._not_leader_replies(run)
        return True

    def _route_again(self, run: Run, requests: list[list[bytes]]) -> None:
        """Put requests back in front of the backlog and let them find their way anew."""
        self._backlog = requests + self._backlog
        self._blocked = True

    def _not_leader_replies(self, run: Run) -> list[bytes]:
        return [NOT_LEADER_REPLY] * (run.end - run.first)

    # ------------------------------------------------------------ for derived classes

    @property
    def origin(self) -> str:
        """Whose requests these are, for the log."""
        return ""

    def _take_following(self, requests: list[list[bytes]]) -> None:
        """Carry out requests on a node that does not lead."""
        for _ in requests:
            self._reply(NOT_LEADER_REPLY)

    def _send(self, parts: Sequence[bytes]) -> None:
        """Hand replies on."""

    def _drain_pushed(self) -> None:
        """Write the messages that waited for the replies before them."""

    def _flush_later(self) -> None:
        """Flush again once others had their turn."""
        if not self.dirty:
            self.dirty = True
            self.service.dirty.append(self)
        self.service.flush_soon()

    def _end(self) -> None:
        """Everything is answered and nothing more is taken."""

    def _reading_changed(self) -> None:
        """Whether more input is welcome may have changed."""


def _size_of(results: Sequence[object]) -> int:
    """Return the bytes of the values among results."""
    size = 0
    for value in results:
        if isinstance(value, bytes):
            size += len(value)
        elif isinstance(value, (list, tuple)):
            size += _size_of(value)
    return size
