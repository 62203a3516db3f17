"""Blocking pops: clients that wait until there is something to pop.

A blocking pop is an ordinary command of the log that pops what there is. Where it finds
nothing, or others wait for the same, its client waits on the leader, and the command is
proposed again when an entry has put something at one of its keys: for as many clients as
there are elements, those that have waited longest first. Nothing of a wait is in the log
or known to other nodes: a leader that steps down sends its waiting clients on, which is a
definite failure as long as no attempt is on its way.

At most once: an element leaves the store only for a client that still waited when its
pop was proposed; if the connection ends behind that, the element is gone with it.

`BlockedRun` is one client's slot, `BlockedClients` serves all of them; the order is kept
by `waiting`. Called only on the thread that owns the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from raftkv.kv.commands import Command, ErrorReply, Opcode
from raftkv.resp.values import encode
from raftkv.seams import NOT_LEADER, OVERLOADED, SHUTTING_DOWN, Failure
from raftkv.server.handlers_blocking import BlockingPop
from raftkv.server.runs import Run
from raftkv.server.waiting import WaitList
from raftkv.types import NoList

if TYPE_CHECKING:
    from raftkv.server.pipeline import CommandPipeline
    from raftkv.server.service import Service

_TYPE: Final = int(Opcode.TYPE)
_SIZE_OPCODES: Final = {"list": int(Opcode.LLEN), "zset": int(Opcode.ZCARD)}
# Behind these a wait makes no sense on this node.
_FINAL_REASONS: Final = frozenset((NOT_LEADER.reason, SHUTTING_DOWN.reason))


class BlockedRun(Run):
    """The slot of one blocking pop; implements `waiting.Waiter`.

    Attributes:
        ends_with: What is answered instead of waiting on, once that is decided.
    """

    def __init__(
        self,
        pipeline: CommandPipeline,
        requests: list[list[bytes]],
        first: int,
        pop: BlockingPop,
    ) -> None:
        """Stand for `requests[first]`, whose timeout begins now."""
        super().__init__(pipeline, requests, first, first + 1)
        self.pop = pop
        self.keys = pop.keys
        self.type_name = pop.type_name
        self.number = 0
        self.tried: bytes | None = None
        self.ends_with: object = None
        self._clients = pipeline.service.blocked
        self.deadline_ms = 0
        if pop.timeout_ms:
            self.deadline_ms = pipeline.service.clock.now_ms() + pop.timeout_ms
        pipeline.blocked = self

    def resolve(self, results: Sequence[object]) -> None:
        """Take what an attempt found; nothing means to wait on."""
        (result,) = results
        tried, self.tried = self.tried, None
        if result is None or isinstance(result, NoList) or self._lost(tried, result):
            self._go_on()
        else:
            self.finish(result)
        if tried is not None:
            self._clients.look_again((tried,))

    def fail(self, failure: Failure) -> None:
        """Take the reason why an attempt has no result."""
        tried, self.tried = self.tried, None
        if failure.definite and (self.ends_with is not None or self.pipeline.quitting):
            self._go_on()
        elif failure.definite and self.number and failure.reason not in _FINAL_REASONS:
            # Refused for the moment: it waits anyway.
            self._clients.look_later(tried)
        else:
            self._clients.forget(self)
            if failure.reason == NOT_LEADER.reason:
                self.requests, self.first, self.end = [self._rest_of_request()], 0, 1
                # What it waited on purpose does not count against its deadline.
                self.arrived_ms = self.pipeline.service.clock.now_ms()
            super().fail(failure)

    def relay(self, replies: list[bytes]) -> None:
        """Take the reply that the leader sent; none where the wait was cancelled."""
        if self.ends_with is not None and not any(replies):
            replies = [encode(self.ends_with, self.protocol)]
        super().relay(replies)

    def finish(self, result: object) -> None:
        """Answer, and wait no longer."""
        self._clients.forget(self)
        super().resolve([result])

    def drop(self) -> None:
        """End without an answer: nobody is there to take it."""
        self._clients.forget(self)
        super().relay([])

    def _go_on(self) -> None:
        """Wait, or end in the way that has been decided meanwhile."""
        if self.pipeline.quitting:
            self.drop()
        elif self.ends_with is not None:
            self.finish(self.ends_with)
        else:
            self._clients.wait(self)

    def _lost(self, tried: bytes | None, result: object) -> bool:
        """Whether a key has got another type since it was ready: as good as empty.

        An error of the target of a move is an answer.
        """
        return (
            tried is not None
            and isinstance(result, ErrorReply)
            and result.message.startswith("WRONGTYPE")
            and self._clients.type_at(tried) != self.type_name
        )

    def _rest_of_request(self) -> list[bytes]:
        """Return the request with what is left of its timeout, for another leader."""
        words = list(self.requests[self.first])
        if self.deadline_ms:
            left_ms = max(self.deadline_ms - self.pipeline.service.clock.now_ms(), 1)
            words[self.pop.timeout_at] = b"%d.%03d" % divmod(left_ms, 1000)
        return words


class BlockedClients:
    """Everybody who waits on this node, while it leads."""

    def __init__(self, service: Service) -> None:
        """Start with nobody; the service is still being made."""
        self._service = service
        self._replica = service.replica
        self._waits: WaitList[BlockedRun] = WaitList(service.config.limits.blocked_keys_max)
        # Keys to look at before this turn ends, and at the next tick.
        self._again: dict[bytes, None] = {}
        self._later: dict[bytes, None] = {}
        self._replica.await_keys(self._waits.keys)

    def __len__(self) -> int:
        """Number of clients that wait."""
        return len(self._waits)

    def type_at(self, key: bytes) -> object:
        """Return the type of what this node's store has at a key."""
        return self._replica.read_stale((_TYPE, key))

    # ------------------------------------------------------------ one wait

    def begin(self, run: BlockedRun, command: Command) -> None:
        """Let a client pop what there is, or wait behind those who wait already.

        Args:
            run: Its slot.
            command: Pops from any of its keys.
        """
        if self._waits.await_any(run.keys, run.type_name) and self._fits(run):
            # Its attempt could come between an element and the pop of who waits for it.
            self.wait(run)
            self.serve()
        else:
            self._replica.propose([command], run)

    def _fits(self, run: BlockedRun) -> bool:
        """Whether no key has a type that the attempt would have to refuse."""
        return all(self.type_at(key) in ("none", run.type_name) for key in run.keys)

    def wait(self, run: BlockedRun) -> None:
        """Keep a client whose attempt has found nothing."""
        if self._service.draining:
            run.fail(SHUTTING_DOWN)
        elif not self._replica.is_leader:
            run.fail(NOT_LEADER)
        elif not self._waits.add(run):
            run.fail(OVERLOADED)
        else:
            # Something may have come behind the attempt, in the same entry.
            self.look_again(run.keys)

    def forget(self, run: BlockedRun) -> None:
        """A wait is over."""
        self._waits.remove(run)

    def end(self, run: BlockedRun, result: object) -> None:
        """Let a client wait no longer; what is on its way to it still counts."""
        if run.forwarded:
            run.ends_with = result
            self._service.forwarder.cancel(run)
        elif run.number and run.tried is None:
            run.finish(result)
        else:
            run.ends_with = result

    def leave(self, run: BlockedRun) -> None:
        """The connection of a client is gone, or ends."""
        if run.forwarded:
            self._service.forwarder.cancel(run)
        elif run.number and run.tried is None:
            run.drop()

    # ------------------------------------------------------------ all of them

    def look_again(self, keys: Sequence[bytes]) -> None:
        """See before the turn ends what there is at these keys."""
        self._again.update(dict.fromkeys(keys))

    def look_later(self, key: bytes | None) -> None:
        """See at the next tick what there is at this key."""
        if key is not None:
            self._later[key] = None

    def serve(self) -> None:
        """Propose pops for those for whom there is something now; called once a turn."""
        again, self._again = self._again, {}
        if not self._waits:
            return
        for key in {**again, **dict.fromkeys(self._replica.take_ready())}:
            type_name = str(self.type_at(key))
            opcode = _SIZE_OPCODES.get(type_name)
            if opcode is None:
                continue
            size = self._replica.read_stale((opcode, key))
            assert isinstance(size, int)
            for run in self._waits.first(key, type_name, size):
                run.tried = key
                self._replica.propose([run.pop.command_for(key)], run)

    def tick(self, now_ms: int) -> None:
        """Answer those whose time is over; called every 50 ms."""
        for run in self._waits.due(now_ms):
            self.end(run, NoList())
        if self._later:
            self._again.update(self._later)
            self._later = {}
            self.serve()

    def end_all(self, failure: Failure) -> None:
        """Send everybody away: this node leads no longer, or stops."""
        for run in self._waits:
            if run.tried is None:
                run.fail(failure)
