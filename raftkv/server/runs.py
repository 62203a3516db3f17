"""Slots of the front-end: where the answers to a run of commands arrive.

A run is a stretch of consecutive requests of one stream that the replica, or
another node, carries out together. Filled exactly once, from the thread that
owns the state. Used by server.pipeline, server.routing and server.forwarding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from raftkv.resp.values import SLICE_ELEMENTS, encode_slices
from raftkv.seams import READ_TIMEOUT, TIMEOUT, Failure, Slot

if TYPE_CHECKING:
    from raftkv.server.pipeline import CommandPipeline


class Run:
    """Implements `seams.Slot` for requests `first` to `end - 1` of one chunk.

    Attributes:
        requests: The chunk; shared, never changed.
        protocol: RESP version at the time of the requests.
        logged: Goes through the log.
        exclusive: Nothing behind it is started before it is answered.
        forwarded: It left for another node.
        arrived_ms: Clock time from which its deadline counts: that of its making, or
            that at which its requests had to wait for a leader first.
        results: One for each request, once there are any.
        replies: Encoded replies of another node, instead of results.
        slices: What has to come in front of `replies`, made one piece a pass.
        failure: Why there are none.
    """

    # Defaults on the class, not in slots: a run is made for each unpipelined
    # command, and only what differs is worth the time.
    logged = False
    exclusive = False
    forwarded = False
    results: Sequence[object] | None = None
    replies: list[bytes] | None = None
    slices: Iterator[bytes] | None = None
    failure: Failure | None = None

    def __init__(
        self, pipeline: CommandPipeline, requests: list[list[bytes]], first: int, end: int
    ) -> None:
        """Wait for the answers to `requests[first:end]`."""
        self.pipeline = pipeline
        self.requests = requests
        self.first = first
        self.end = end
        self.protocol = pipeline.protocol
        self.arrived_ms = pipeline.waiting_since_ms or pipeline.service.clock.now_ms()

    @property
    def finished(self) -> bool:
        """Whether the answers, or the reason why there are none, have arrived."""
        return self.results is not None or self.failure is not None or self.replies is not None

    def resolve(self, results: Sequence[object]) -> None:
        """Take one result a request, in order."""
        self.results = results
        self.pipeline.run_finished(self)

    def relay(self, replies: list[bytes]) -> None:
        """Take the encoded replies which another node made."""
        self.replies = replies
        self.pipeline.run_finished(self)

    def fail(self, failure: Failure) -> None:
        """Take the reason why the whole run has no result."""
        self.failure = failure
        self.pipeline.run_finished(self)


class SlicedRun(Run):
    """The run of one read of the whole store, whose answer is encoded in slices."""

    def resolve(self, results: Sequence[object]) -> None:
        """Take the one result; a long list is encoded as the answer is written."""
        (result,) = results
        if type(result) is list and len(result) > SLICE_ELEMENTS:
            self.slices = encode_slices(result, self.protocol)
            self.relay([])
        else:
            super().resolve(results)


class TimedSlot:
    """The slot of a run whose requests have waited, for a replica that cannot know it.

    The replica gives every run the whole `timing.request_timeout_ms`; this one is
    answered when what is left of it is over, and what the replica says then is dropped.
    """

    __slots__ = ("_deadline_ms", "_run")

    def __init__(self, run: Run, deadline_ms: int) -> None:
        """Stand for a run until a clock time."""
        self._run: Run | None = run
        self._deadline_ms = deadline_ms

    def resolve(self, results: Sequence[object]) -> None:
        """Take one result a request, in order, if they are in time."""
        run, self._run = self._run, None
        if run is not None:
            run.resolve(results)

    def fail(self, failure: Failure) -> None:
        """Take the reason why the whole run has no result, if it is in time."""
        run, self._run = self._run, None
        if run is not None:
            run.fail(failure)

    def expire(self, now_ms: int) -> bool:
        """Give the run up if its deadline has come; return whether it has its answer."""
        if self._run is not None and now_ms >= self._deadline_ms:
            self.fail(TIMEOUT if self._run.logged else READ_TIMEOUT)
        return self._run is None


class Later:
    """What a local handler returns when its reply comes later.

    Attributes:
        start: Called with the slot that takes the one result.
        forwarded: The work needs another node.
    """

    __slots__ = ("forwarded", "start")

    def __init__(self, start: Callable[[Slot], None], *, forwarded: bool = False) -> None:
        """Keep what starts the work."""
        self.start = start
        self.forwarded = forwarded
