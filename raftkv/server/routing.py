"""Where a request goes on a node that does not lead: redirected, proxied or held.

`RoutedPipeline` adds to the ordered stream what a client connection needs when
another node leads: `-MOVED` in redirect routing, one forward at a time in proxy
routing, stale reads after READONLY, and, while nobody leads, holding requests
up to `timing.leader_wait_ms` before `-CLUSTERDOWN`.

Every failure here is definite: nothing was proposed or forwarded. What happens
after a forward has left is decided in server.forwarding.
"""

from __future__ import annotations

from raftkv.config import OVERHEAD_BYTES
from raftkv.errors import CommandError
from raftkv.kv.slots import key_slot
from raftkv.resp.values import encode_error
from raftkv.server.command_table import CommandSpec, Kind
from raftkv.server.forwarding import forward_bytes
from raftkv.server.pipeline import NO_LEADER_REPLY, CommandPipeline
from raftkv.server.ports import Command
from raftkv.server.runs import Run, SlicedRun
from raftkv.server.service import Service
from raftkv.types import Member

_STALE_AT_ONCE = (int(Kind.READ), int(Kind.ALONE))
_NEVER_STALE = (int(Kind.WRITE), int(Kind.WATCH), int(Kind.BLOCKING))
# What decides over everything behind it is forwarded alone.
_FORWARDED_ALONE = (int(Kind.WATCH), int(Kind.BLOCKING))
_READ = int(Kind.READ)

# Limit: one forward of several requests carries at most this much, so that the peer
# link, which the log needs too, is never held up by one client.
FORWARD_COMMANDS_MAX = 64
FORWARD_BYTES_MAX = 1024 * 1024

# Pause in its requests behind which a client is closed that was redirected behind a
# change of leader, and the limit for one that goes on asking.
_QUIET_MS = 100
_PARTING_MS_MAX = 250

SHUTTING_DOWN_REPLY = encode_error("NOTAPPLIED shutting down")
OVERLOADED_REPLY = encode_error("NOTAPPLIED overloaded")


class RoutedPipeline(CommandPipeline):
    """A stream of a client of this node.

    Attributes:
        was_forwarded: Another node has answered something of this stream.
    """

    __slots__ = ("_expired", "_parting_ms", "_redirected_ms", "was_forwarded")

    def __init__(self, service: Service) -> None:
        """Start with nothing held."""
        super().__init__(service)
        self.was_forwarded = False
        self._expired = False
        self._parting_ms = self._redirected_ms = 0

    # ------------------------------------------------------------ one request

    def _take_following(self, requests: list[list[bytes]]) -> None:
        position = 0
        while position < len(requests):
            taken = self._take_next(requests, position)
            if not taken:
                return
            position += taken

    def _take_next(self, requests: list[list[bytes]], position: int) -> int:
        """Carry out the request at `position`; return how many are done, 0 when it waits."""
        arguments = requests[position]
        if self._is_full():
            self._block(requests, position)
            return 0
        try:
            spec, command = self._understand(arguments)
        except CommandError as error:
            self._reply_refused(error, arguments)
            return 1
        if command is None:
            if spec.ordered and self._fifo:
                self._block(requests, position)
                return 0
            spec.calls += 1
            if self._do_locally(spec, arguments):
                return 1
            self._block(requests, position + 1)
            return 0
        if self._reads_here(spec):
            return self._read_here(requests, position, spec, command)
        leader = self.service.leader
        if leader is None:
            if self._refuse_without_leader():
                return 1
            self._hold(requests, position)
            return 0
        if not self.proxied:
            self._redirect(spec, arguments, leader)
            return 1
        if self._is_late:
            self._reply(NO_LEADER_REPLY)
            return 1
        if spec.kind == _READ and self._replica.can_read_by_index:
            return self._read_by_index(requests, position)
        return self._forward(requests, position, spec, leader)

    @property
    def _redirecting_to(self) -> Member | None:
        """The leader to which this node would redirect a request, if there is one."""
        return None if self.proxied or self._replica.is_leader else self.service.leader

    def _redirect(self, spec: CommandSpec, arguments: list[bytes], leader: Member) -> None:
        self._reply(_moved(spec, arguments, leader))
        if self.service.is_settling and not self.readonly:
            self._begin_parting()

    # ------------------------------------------------------------ parting

    def _begin_parting(self) -> None:
        """Close this client soon.

        A client in Sentinel mode may have been sent here by a node that had not heard
        of the new leader. It never follows MOVED, but asks again where the master is
        when its connection ends. Not at once: closing a socket while more requests of
        a pipeline arrive would take the replies with it that are under way, and the
        client would not know what became of them.
        """
        service = self.service
        self._redirected_ms = service.clock.now_ms()
        if self not in service.parting:
            service.parting.add(self)
            self._parting_ms = self._redirected_ms

    def part_if_quiet(self, now_ms: int) -> None:
        """Close this client if it has stopped asking, or goes on for too long."""
        if (
            now_ms - self._redirected_ms >= _QUIET_MS
            or now_ms - self._parting_ms >= _PARTING_MS_MAX
        ):
            self.service.parting.discard(self)
            self.ending = True
            self._reading_changed()
            self.flush()

    # ------------------------------------------------------------ stale reads

    def _reads_here(self, spec: CommandSpec) -> bool:
        return spec.kind not in _NEVER_STALE and (self.readonly or self.stale_reads)

    def _read_here(
        self, requests: list[list[bytes]], position: int, spec: CommandSpec, command: Command
    ) -> int:
        if self._fifo:
            self._block(requests, position)
            return 0
        spec.calls += 1
        if spec.kind in _STALE_AT_ONCE:
            self._reply_stale(spec, command)
            return 1
        if self._is_too_old():
            return 1
        run = SlicedRun(self, requests, position, position + 1)
        self._submit_sliced(run, command, linearizable=False)
        self._block(requests, position + 1)
        return 0

    # ------------------------------------------------------------ reads by index

    def _read_by_index(self, requests: list[list[bytes]], position: int) -> int:
        """Let this node's store answer a stretch of reads once the leader says how far.

        One at a time, as forwards are: what was sent before has taken effect.
        """
        if self._fifo:
            self._block(requests, position)
            return 0
        commands: list[Command] = []
        for arguments in requests[position : position + FORWARD_COMMANDS_MAX]:
            try:
                spec, command = self._understand(arguments)
            except CommandError:
                break
            if command is None or spec.kind != _READ:
                break
            spec.calls += 1
            commands.append(command)
        run = Run(self, requests, position, position + len(commands))
        run.forwarded = True
        self._fifo.append(run)
        self._unanswered += len(commands)
        self._reads_pending += 1
        self._replica.read_by_index(commands, self._timed(run))
        return len(commands)

    # ------------------------------------------------------------ forwards

    def _forward(
        self, requests: list[list[bytes]], position: int, spec: CommandSpec, leader: Member
    ) -> int:
        """Send a stretch of requests to the leader; one forward at a time keeps the order."""
        if self._fifo:
            self._block(requests, position)
            return 0
        alone = spec.kind in _FORWARDED_ALONE
        end = position + 1 if alone else self._forward_end(requests, position)
        run = self._run_of(spec, requests, position, end)
        count = run.end - position
        self._fifo.append(run)
        self._unanswered += count
        self._reads_pending += 1
        if self.service.forwarder.forward(run, leader.id):
            self.was_forwarded = True
            if alone:
                # What a WATCH finds decides what becomes of an EXEC behind it, and
                # nothing overtakes a client that waits.
                run.exclusive = self._exclusive = True
                self._block(requests, end)
                return 0
            return count
        self._fifo.pop()
        self.blocked = None
        self._unanswered -= count
        self._reads_pending -= 1
        if self._expired:
            self._reply(OVERLOADED_REPLY)
            return 1
        self._hold(requests, position)
        return 0

    def _forward_end(self, requests: list[list[bytes]], first: int) -> int:
        """Return the end of the stretch that one forward may carry."""
        size_max = min(FORWARD_BYTES_MAX, self._limits.peer_frame_bytes_max - OVERHEAD_BYTES)
        size = 0
        position = first
        for arguments in requests[first : first + FORWARD_COMMANDS_MAX]:
            size += forward_bytes(arguments)
            if position > first:
                if size > size_max:
                    break
                try:
                    spec, command = self._understand(arguments)
                except CommandError:
                    break
                if command is None or spec.kind in _FORWARDED_ALONE or self._reads_here(spec):
                    break
            position += 1
        return position

    def _route_again(self, run: Run, requests: list[list[bytes]]) -> None:
        if self.quitting:
            return
        super()._route_again(run, requests)
        # Nothing in the backlog is older: what was on its way came before it.
        self.waiting_since_ms = run.arrived_ms
        if run.forwarded:
            # The node asked does not lead, whatever this one believes: wait for
            # news instead of asking it again at once.
            self._begin_hold()

    def _resume(self) -> None:
        super()._resume()
        if not self.held:
            self.waiting_since_ms = 0

    # ------------------------------------------------------------ holding

    @property
    def held_until_ms(self) -> int:
        """Clock time at which held requests are refused."""
        return self.waiting_since_ms + self.service.config.timing.leader_wait_ms

    @property
    def _is_late(self) -> bool:
        """Whether every node that was asked until the deadline of requests did not lead."""
        since_ms = self.waiting_since_ms
        timeout_ms = self.service.config.timing.request_timeout_ms
        return since_ms > 0 and self.service.clock.now_ms() >= since_ms + timeout_ms

    @property
    def gives_up(self) -> bool:
        """Whether what has waited for a leader may wait no longer."""
        return self._is_late or (self._expired and self.service.leader is None)

    def _refuse_without_leader(self) -> bool:
        """Answer a request for which there is no leader, if it may not wait any longer."""
        if self.service.draining:
            self._reply(SHUTTING_DOWN_REPLY)
        elif self._expired:
            self._reply(NO_LEADER_REPLY)
        else:
            return False
        return True

    def _hold(self, requests: list[list[bytes]], position: int) -> None:
        self._block(requests, position)
        if not self.waiting_since_ms:
            self.waiting_since_ms = self.service.clock.now_ms()
        self._begin_hold()

    def _begin_hold(self) -> None:
        self.held = True
        self.service.held.add(self)
        self._reading_changed()

    def try_again(self, *, expired: bool = False) -> None:
        """Route held requests anew; those without a way are refused if `expired`."""
        self.release()
        self._expired = expired
        self.flush()
        self._expired = False
        if not self.held:
            self.waiting_since_ms = 0

    def release(self) -> None:
        """Hold no longer."""
        self.held = False
        self.service.held.discard(self)


def _moved(spec: CommandSpec, arguments: list[bytes], leader: Member) -> bytes:
    position = spec.first_key or (spec.key_count_at and spec.key_count_at + 1)
    slot = key_slot(arguments[position]) if 0 < position < len(arguments) else 0
    return encode_error(f"MOVED {slot} {leader.client}")
