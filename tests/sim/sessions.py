"""Clients with sessions: they send the same number until they know, and judge every copy.

What they ask is what the other clients ask, one write at a time, wrapped in `ONCE`, up
to three under way. No answer, or one that says nothing, makes them send another copy,
to whatever node; sometimes they send one for no reason, also long after the write was
finished; in the end they ask for the outcome. The first to the last copy is one
operation of the history, so a second execution shows in what everybody reads. Besides:

* all copies of a number are answered alike, until its result is freed;
* what was fenced is never executed, and what was executed never fenced;
* a session lives for its time after anything that was acknowledged in it;
* an id is given once.

Dice of their own, so that no other choice of a run depends on them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from raftkv.kv.commands import ONCE_OPCODES, Command, ErrorReply, Opcode
from raftkv.kv.once import EXPIRED, FENCED_REPLY, TOO_MANY_SESSIONS, WINDOW_FULL
from raftkv.seams import Failure
from tests.linearizability.history import Outcome
from tests.sim.cluster import Cluster, SimNode, SimSlot, Violation
from tests.sim.read_levels import DRIFT
from tests.sim.workload import Request, Workload

CLIENTS = 3
UNDER_WAY_MAX = 3
TTL_MS = (4_000, 15_000, 60_000)
# Before another copy goes out, and before the outcome is asked for.
AGAIN_MS = (120, 500, 1500)
ASK_AFTER_MS = (1500, 8000)
GIVE_UP_AFTER_MS = 25_000
_ROUNDING_MS = 5

Answered = Callable[[list[Any] | None, Failure | None], None]


class SessionClients:
    """All of them in one run.

    Attributes:
        counts: What happened, by name.
        under_way: Writes whose outcome is not known yet.
    """

    def __init__(self, cluster: Cluster, workload: Workload) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.workload = workload
        self.dice = random.Random(f"sessions of seed {cluster.world.seed}")
        self.running = True
        self.under_way = 0
        self.counts: Counter[str] = Counter()
        self._answers: dict[tuple[int, int], Any] = {}
        self._fenced: set[tuple[int, int]] = set()
        self._ids: set[int] = set()
        for number in range(CLIENTS):
            _SessionClient(self, f"s{number}").rest()

    def stop(self) -> None:
        """Ask nothing new; what is under way comes to its end."""
        self.running = False

    def note(self, name: str) -> None:
        self.counts[f"session_{name}"] += 1

    # --------------------------------------------------------------- judging

    def judge_id(self, session: int) -> None:
        if session in self._ids:
            raise Violation(
                f"session {session} was opened twice", invariant="a_session_id_is_given_once"
            )
        self._ids.add(session)

    def judge_answer(self, key: tuple[int, int], answer: Any) -> None:
        """Take what a copy of a number was answered by the store."""
        if key in self._fenced:
            raise Violation(f"{key} was fenced and is answered {answer!r}", invariant="fences_hold")
        first = self._answers.setdefault(key, answer)
        if first != answer:
            raise Violation(
                f"copies of {key} are answered {first!r} and {answer!r}",
                invariant="copies_are_answered_alike",
            )

    def judge_fence(self, key: tuple[int, int]) -> None:
        """Take that a number was fenced."""
        if key in self._answers:
            raise Violation(
                f"{key} was answered {self._answers[key]!r} and is fenced", invariant="fences_hold"
            )
        self._fenced.add(key)

    # --------------------------------------------------------------- travelling

    def send(self, node: SimNode, command: Command, answered: Answered) -> None:
        """Let a command travel to a node, and its answer back, if there is one."""
        life = node.life

        def arrive() -> None:
            if not node.alive or node.life != life:
                return
            if node.is_frozen:
                self.world.after(node.frozen_for_ms + 0.1, arrive)
                return
            node.guarded(lambda: node.replica.propose([command], SimSlot(leave, node)))

        def leave(results: list[Any] | None, failure: Failure | None) -> None:
            if failure is None:
                self.cluster.floors.note(node.replica.store.applied_index)
            self.world.after(self.dice.uniform(0.05, 1.0), lambda: answered(results, failure))

        self.world.after(self.dice.uniform(0.05, 1.0), arrive)

    def some_node(self) -> SimNode | None:
        """Return the leader, mostly, or any other node that lives."""
        nodes = self.cluster.nodes
        leader = self.cluster.leader()
        if leader is not None and self.dice.random() < 0.8:
            return leader
        node = nodes[self.dice.choice(sorted(nodes))]
        return node if node.alive else None


class _SessionClient:
    """Opens a session, numbers its writes, opens the next one."""

    def __init__(self, clients: SessionClients, name: str) -> None:
        self.clients = clients
        self.name = name
        self.unfinished: set[int] = set()
        self.session: int | None = None
        self._ttl_ms = 0
        self._renewed_ms = 0.0
        self._next_number = 1
        self._waits = False

    def rest(self) -> None:
        self.clients.world.after(self.clients.dice.uniform(20, 1500), self._act)

    def _act(self) -> None:
        clients = self.clients
        if not clients.running:
            return
        self.rest()
        if clients.world.now_ms < clients.cluster.quiet_until_ms or self._waits:
            return
        node = clients.some_node()
        if node is None:
            return
        if self.session is None:
            self._open(node)
        elif not self.unfinished and clients.dice.random() < 0.04:
            self._leave(node)
        elif len(self.unfinished) < UNDER_WAY_MAX:
            self._write()

    def _open(self, node: SimNode) -> None:
        clients = self.clients
        self._ttl_ms = clients.dice.choice(TTL_MS)
        sent_ms = clients.world.now_ms
        self._waits = True
        late = False

        def give_up() -> None:
            nonlocal late
            late = True
            if self.session is None:
                self._waits = False

        def opened(results: list[Any] | None, _failure: Failure | None) -> None:
            if results is not None and results[0] != ErrorReply(TOO_MANY_SESSIONS):
                clients.judge_id(results[0])
                if not late:
                    self.session, self._next_number, self.unfinished = results[0], 1, set()
                    self.renewed(results[0], sent_ms)
                    clients.note("opened")
            if not late:
                self._waits = False

        clients.send(node, (Opcode.SESSION_OPEN, self._ttl_ms), opened)
        clients.world.after(2000, give_up)

    def _leave(self, node: SimNode) -> None:
        """Close the session, or let it expire."""
        if self.clients.dice.random() < 0.5:
            closed: Command = (Opcode.SESSION_CLOSE, self.session)
            self.clients.send(node, closed, lambda _results, _failure: None)
            self.clients.note("closed")
        self.session = None

    def _write(self) -> None:
        workload, session = self.clients.workload, self.session
        assert session is not None
        steps = workload.choose()
        if len(steps) != 1 or steps[0].command[0] not in ONCE_OPCODES:
            return
        request = workload.begin(self.name, steps, 2 * GIVE_UP_AFTER_MS)
        number = self._next_number
        self._next_number += 1
        self.unfinished.add(number)
        _Write(self, session, number, request).try_again()

    def finished(self, session: int, number: int, *, known: bool) -> None:
        """Let the result of a number be freed; leave a session with one that stays unknown."""
        if session == self.session:
            self.unfinished.discard(number)
            if not known:
                self.session = None

    def renewed(self, session: int, sent_ms: float) -> None:
        """Note that something was acknowledged that keeps the session alive."""
        if session == self.session:
            self._renewed_ms = max(self._renewed_ms, sent_ms)

    def has_expired(self, session: int) -> None:
        """Hold it against the time that the session has to live."""
        if session != self.session:
            return
        lived_ms = self.clients.world.now_ms - self._renewed_ms
        if lived_ms < self._ttl_ms / (1 + DRIFT) - _ROUNDING_MS:
            raise Violation(
                f"session {session} of {self._ttl_ms} ms is dead after {lived_ms:.0f} ms",
                invariant="a_session_lives_its_time",
            )
        self.session = None
        self.clients.note("expired")


class _Write:
    """One write with its number, until its outcome is known."""

    def __init__(self, client: _SessionClient, session: int, number: int, request: Request) -> None:
        self._client = client
        self._clients = client.clients
        self._session = session
        self._number = number
        self._request = request
        self._command = request.steps[0].command
        self._begun_ms = self._clients.world.now_ms
        self._ask_after_ms = self._clients.dice.choice(ASK_AFTER_MS)
        self._ended = False
        self._lowest = min(client.unfinished)
        self._clients.under_way += 1

    @property
    def _key(self) -> tuple[int, int]:
        return self._session, self._number

    def try_again(self) -> None:
        """Send a copy or a question; and another one, if no answer comes."""
        if self._ended:
            return
        clients = self._clients
        waited_ms = clients.world.now_ms - self._begun_ms
        if waited_ms > GIVE_UP_AFTER_MS:
            self._end(Outcome.UNKNOWN)
            return
        node = clients.some_node()
        if node is not None:
            if waited_ms > self._ask_after_ms:
                self._ask(node)
            else:
                self._send_copy(node)
        clients.world.after(clients.dice.choice(AGAIN_MS), self.try_again)

    def _send_copy(self, node: SimNode) -> None:
        if self._session == self._client.session:
            self._lowest = min([*self._client.unfinished, self._number])
        sent_ms = self._clients.world.now_ms
        once: Command = (
            *(Opcode.ONCE, self._session, self._number, self._lowest),
            *self._command,
        )

        def answered(results: list[Any] | None, _failure: Failure | None) -> None:
            if results is not None:
                self._take(results[0], sent_ms)

        self._clients.send(node, once, answered)
        self._clients.note("copies")

    def _ask(self, node: SimNode) -> None:
        sent_ms = self._clients.world.now_ms

        def answered(results: list[Any] | None, _failure: Failure | None) -> None:
            if results is None:
                return
            if results[0] == ["fenced"]:
                self._clients.judge_fence(self._key)
                self._client.renewed(self._session, sent_ms)
                self._end(Outcome.REFUSED)
                self._clients.note("fenced")
            elif isinstance(results[0], ErrorReply):
                self._take(results[0], sent_ms)
            else:
                self._take(results[0][1], sent_ms)
                self._clients.note("told_applied")

        self._clients.send(node, (Opcode.OUTCOME, self._session, self._number), answered)

    def _take(self, answer: Any, sent_ms: float) -> None:
        """Take what the store answered to a copy, or told of the first one."""
        if answer == ErrorReply(EXPIRED):
            if not self._ended:
                self._client.has_expired(self._session)
                self._end(Outcome.UNKNOWN)
            return
        if answer == ErrorReply(WINDOW_FULL):
            return
        self._client.renewed(self._session, sent_ms)
        if answer == FENCED_REPLY:
            # The answer to the question may have been lost, or is on its way.
            self._clients.judge_fence(self._key)
            self._end(Outcome.REFUSED)
            return
        self._clients.judge_answer(self._key, answer)
        self._end(Outcome.OK, answer)

    def _end(self, outcome: Outcome, answer: Any = None) -> None:
        if self._ended:
            return
        self._ended = True
        clients = self._clients
        clients.under_way -= 1
        clients.workload.end(self._request, outcome, [answer])
        self._client.finished(self._session, self._number, known=outcome is not Outcome.UNKNOWN)
        if clients.dice.random() < 0.3:
            clients.world.after(clients.dice.uniform(10, 10_000), self._send_late_copy)

    def _send_late_copy(self) -> None:
        node = self._clients.some_node()
        if node is not None:
            self._send_copy(node)
            self._clients.note("late_copies")
