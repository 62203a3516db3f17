"""MULTI and WATCH: what one connection has queued and watches.

`TransactionalPipeline` adds to the routed stream the commands between MULTI and
EXEC. They are looked up when they come, as in Redis, and kept as words; EXEC
makes one request of them, `KV EXEC` with the watched keys and their revisions,
which then goes the way of any write: proposed as one command, held, redirected,
or forwarded once. Nothing of a transaction is known to other nodes before that.

WATCH reads modify revisions linearizably. They are replicated, so that they are
worth the same on every node and under every leader; what became of them is
decided when EXEC is applied. While keys are watched, reads of the connection are
linearizable whatever its level: a stale one could be older than its watch.

PUBLISH may be queued, too, because libraries put it behind the writes that it tells of. It
is in no log: once it is certain that the transaction was executed, this node publishes it,
in its place among the replies.

Invariants: outside MULTI no request pays for any of this - inside, the lookup of
the fast path finds nothing, so that every request takes the slow one. Queued words and watched keys
always fit one request, and those of all connections one limit together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftkv.errors import CommandError
from raftkv.kv.commands import OUT_OF_MEMORY
from raftkv.resp.elements import join_array, split_array, split_values
from raftkv.resp.values import OK_BYTES, encode, encode_error
from raftkv.seams import NOT_LEADER
from raftkv.server.command_table import WRONG, CommandSpec, Kind, check_inside
from raftkv.server.routing import RoutedPipeline
from raftkv.server.runs import Run
from raftkv.server.service import Service
from raftkv.types import NoList

ABORTED: Final = "EXECABORT Transaction discarded because of previous errors."
OVERLOADED: Final = "NOTAPPLIED overloaded"
_QUEUED: Final = b"+QUEUED\r\n"
_NOTHING: Final = b"*0\r\n"
_NO_SPECS: Final[dict[bytes, CommandSpec]] = {}
# Carried out inside MULTI instead of being queued.
_AT_ONCE: Final = frozenset(("multi", "discard", "watch", "quit", "reset"))
# Queued, and carried out by this node behind the others.
_PUBLISHING: Final = frozenset(("publish", "spublish"))
_Messages = list[tuple[int, list[bytes]]]
# What a word takes besides its bytes, in the memory of this node.
_WORD_BYTES: Final = 64
# Words of KV EXEC besides those of commands and watched keys, and most bytes of them.
_FRAME_WORDS: Final = 4
_FRAME_BYTES: Final = 32


class WatchRun(Run):
    """A WATCH: takes modify revisions, from here or another node, and is answered OK."""

    # The stream whose run it is, as what it is here.
    pipeline: TransactionalPipeline

    def resolve(self, results: Sequence[object]) -> None:
        """Take the revisions that this node read."""
        revisions = results[0]
        if isinstance(revisions, list):
            super().resolve([self._answer(revisions)])
        else:
            super().resolve(results)

    def relay(self, replies: list[bytes]) -> None:
        """Take the array of revisions that the leader sent, or its error."""
        reply = b"".join(replies)
        if reply.startswith(b"*"):
            revisions = [int(line[1:]) for line in reply.split(b"\r\n")[1:-1]]
            answer = self._answer(revisions)
            super().relay([OK_BYTES if answer == "OK" else encode_error(str(answer))])
        else:
            super().relay(replies)

    def _answer(self, revisions: list[int]) -> object:
        if self.pipeline.quitting:
            # The client is gone, and nobody would give back what its keys count for.
            return "OK"
        try:
            self.pipeline.watch(self.requests[self.first][1:], revisions)
        except CommandError as error:
            return error
        return "OK"


class TransactionalPipeline(RoutedPipeline):
    """A stream of a client of this node, with its transaction.

    Attributes:
        queue: The words of each command since MULTI; None outside of it.
        watched: Keys and the modify revisions they had at their WATCH, 0 for none.
        queued_bytes: What both take in memory.
    """

    __slots__ = (
        "_failed",
        "_messages",
        "_request_bytes",
        "_request_words",
        "queue",
        "queued_bytes",
        "watched",
    )

    def __init__(self, service: Service) -> None:
        """Start outside of MULTI, with nothing watched."""
        super().__init__(service)
        self.queue: list[list[bytes]] | None = None
        self.watched: dict[bytes, int] = {}
        self.queued_bytes = 0
        self._failed = False
        self._request_words = 0
        self._request_bytes = 0
        # Of transactions that are under way, by identity of their request: the request,
        # and for each PUBLISH its place among the commands and its words.
        self._messages: dict[int, tuple[list[bytes], _Messages]] = {}

    # ------------------------------------------------------------ for the handlers

    def begin(self) -> None:
        """Queue what comes, until EXEC or DISCARD.

        Raises:
            CommandError: That is so already.
        """
        if self.queue is not None:
            raise CommandError("ERR MULTI calls can not be nested")
        self.queue = []
        self._specs = _NO_SPECS

    def discard(self) -> None:
        """Forget what is queued and watched."""
        self.queue = None
        self.watched = {}
        self._failed = False
        self._request_words = self._request_bytes = 0
        self.service.queued_bytes -= self.queued_bytes
        self.queued_bytes = 0
        self._specs = self.service.table.by_word

    def watch(self, keys: list[bytes], revisions: list[int]) -> None:
        """Let the next EXEC depend on keys; one that is watched already keeps its revision.

        Raises:
            CommandError: They are too many.
        """
        for key, revision in zip(keys, revisions, strict=True):
            if key not in self.watched:
                self._charge([key, b"%d" % revision])
                self.watched[key] = revision

    # ------------------------------------------------------------ one request

    def _find_unusual(self, arguments: list[bytes]) -> CommandSpec:
        return super()._find_unusual(arguments) if self.queue is None else WRONG

    def _take_single(self, requests: list[list[bytes]], position: int) -> bool:
        if self.queue is None:
            return super()._take_single(requests, position)
        return self._take_inside(self.queue, requests, position) > 0

    def _take_next(self, requests: list[list[bytes]], position: int) -> int:
        if self.queue is None:
            return super()._take_next(requests, position)
        return self._take_inside(self.queue, requests, position)

    def _take_inside(
        self, queue: list[list[bytes]], requests: list[list[bytes]], position: int
    ) -> int:
        """Carry out a request behind MULTI; return how many are done, 0 when it waits."""
        if self._is_full():
            self._block(requests, position)
            return 0
        arguments = requests[position]
        try:
            spec = self.service.table.resolve(arguments)
            if spec.name == "exec":
                return self._execute(spec, queue, requests, position)
            if spec.name not in _AT_ONCE:
                self._enqueue(spec, queue, arguments)
                return 1
        except CommandError as error:
            self._failed = True
            if arguments[0].lower() == b"exec":
                self.discard()
            self._reply_refused(error, arguments)
            return 1
        if spec.kind == Kind.WATCH:
            self._reply_error(CommandError("ERR WATCH inside MULTI is not allowed"))
            return 1
        spec.calls += 1
        if self._do_locally(spec, arguments):
            return 1
        self._block(requests, position + 1)
        return 0

    def _enqueue(self, spec: CommandSpec, queue: list[list[bytes]], arguments: list[bytes]) -> None:
        """Queue one command, unless it is clear already that EXEC will not run here.

        Raises:
            CommandError: It may not be inside a transaction, or does not fit.
        """
        if spec.name not in _PUBLISHING:
            check_inside(spec)
        if len(queue) >= self._limits.batch_commands_max:
            most = self._limits.batch_commands_max
            raise CommandError(f"ERR transaction exceeds limits.batch_commands_max ({most})")
        if spec.grows and self._replica.is_leader and self._replica.dataset_is_full:
            raise CommandError(OUT_OF_MEMORY)
        if spec.kind != Kind.LOCAL and (leader := self._redirecting_to) is not None:
            self._failed = True
            self._redirect(spec, arguments, leader)
            return
        self._charge([b"%d" % len(arguments), *arguments])
        queue.append(arguments)
        self._reply(_QUEUED)

    def _execute(
        self,
        spec: CommandSpec,
        queue: list[list[bytes]],
        requests: list[list[bytes]],
        position: int,
    ) -> int:
        """Make one request of the transaction and carry that out; count as `_take_inside`."""
        watched, failed = self.watched, self._failed
        self.discard()
        spec.calls += 1
        if failed:
            self._reply_error(CommandError(ABORTED))
        elif not queue and not watched:
            self._reply(_NOTHING)
        elif (leader := self._redirecting_to) is not None:
            first = queue[0] if queue else [b"WATCH", *watched]
            self._redirect(self.service.table.resolve(first), first, leader)
        else:
            request = self._request_without_messages(queue, watched)
            self.take([request])
            if self._blocked:
                self._backlog += requests[position + 1 :]
                return 0
        return 1

    def _request_without_messages(
        self, queue: list[list[bytes]], watched: dict[bytes, int]
    ) -> list[bytes]:
        """Return the transaction as one request, and remember what it publishes."""
        table = self.service.table
        messages = [
            (place, words)
            for place, words in enumerate(queue)
            if table.resolve(words).name in _PUBLISHING
        ]
        places = {place for place, _ in messages}
        others = [words for place, words in enumerate(queue) if place not in places]
        request = _request_of(others, watched)
        if messages:
            self._messages[id(request)] = (request, messages)
        return request

    def run_finished(self, run: Run) -> None:
        """Publish what transactions that were executed publish, and count the listeners."""
        if self._messages:
            failure = run.failure
            # One that goes to another leader is not finished.
            if failure is None or failure.reason != NOT_LEADER.reason:
                self._publish_of(run)
        super().run_finished(run)

    def _publish_of(self, run: Run) -> None:
        for number, request in enumerate(run.requests[run.first : run.end]):
            _, messages = self._messages.pop(id(request), (None, None))
            if messages is None or run.failure is not None:
                continue
            if run.results is not None:
                results = list(run.results)
                results[number] = self._completed(results[number], messages)
                run.results = results
            elif run.replies is not None:
                replies = split_values(b"".join(run.replies))
                replies[number] = self._completed_encoded(replies[number], messages, run.protocol)
                run.replies = replies

    def _completed(self, result: object, messages: _Messages) -> object:
        """Put the replies to PUBLISH between the others, unless nothing was executed."""
        if not isinstance(result, list) or isinstance(result, NoList):
            return result
        # A copy: the result may be kept for a repetition.
        replies = list(result)
        for place, words in messages:
            replies.insert(place, self._publish(words))
        return replies

    def _completed_encoded(self, reply: bytes, messages: _Messages, protocol: int) -> bytes:
        """Do the same to the reply of another node: an array, or an error or a null."""
        if not reply.startswith(b"*") or reply.startswith(b"*-"):
            return reply
        replies = split_array(reply)
        for place, words in messages:
            replies.insert(place, encode(self._publish(words), protocol))
        return join_array(replies)

    def _publish(self, words: list[bytes]) -> object:
        try:
            return self.service.table.resolve(words).handle(self, words)
        except CommandError as error:
            return error

    def _charge(self, words: list[bytes]) -> None:
        """Count words of the request that EXEC will become.

        Raises:
            CommandError: They do not fit it, or all connections hold too much together.
        """
        limits = self._limits
        count = self._request_words + len(words)
        size = self._request_bytes + sum(map(len, words))
        if count > limits.request_arguments_max - _FRAME_WORDS:
            most = limits.request_arguments_max
            raise CommandError(f"ERR transaction exceeds limits.request_arguments_max ({most})")
        if size > limits.request_bytes_max - _FRAME_BYTES:
            most = limits.request_bytes_max
            raise CommandError(f"ERR transaction exceeds limits.request_bytes_max ({most} bytes)")
        held = size - self._request_bytes + _WORD_BYTES * len(words)
        if self.service.queued_bytes + held > limits.uncommitted_bytes_max:
            raise CommandError(OVERLOADED)
        self._request_words, self._request_bytes = count, size
        self.queued_bytes += held
        self.service.queued_bytes += held

    # ------------------------------------------------------------ watching

    def _run_of(self, spec: CommandSpec, requests: list[list[bytes]], first: int, end: int) -> Run:
        if spec.kind == Kind.WATCH:
            return WatchRun(self, requests, first, end)
        return super()._run_of(spec, requests, first, end)

    @property
    def _reads_stale(self) -> bool:
        return super()._reads_stale and not self.watched

    def _reads_here(self, spec: CommandSpec) -> bool:
        return not self.watched and super()._reads_here(spec)


def _request_of(queue: list[list[bytes]], watched: dict[bytes, int]) -> list[bytes]:
    """Return the transaction as one request."""
    request = [b"KV", b"EXEC", b"%d" % len(watched)]
    for key, revision in watched.items():
        request += (key, b"%d" % revision)
    request.append(b"%d" % len(queue))
    for words in queue:
        request.append(b"%d" % len(words))
        request += words
    return request
