"""Clients of a simulated cluster, what they were told, and the judgement of it.

Several clients ask one thing after the other, sometimes in bursts or a few commands
at once, of the node that they believe to lead. Requests and replies take time; a
client may give up, and a process that ends takes its connections with it. What then
came of a request is unknown. Everything goes into one history, which the checker of
`tests.linearizability` judges at the end, together with a last read of every key: a
write that was acknowledged and is not there is found by it.

KEYS, SCAN and FLUSHALL concern every key. To judge them as one operation would join
all histories into one; they are judged as an observation, or a removal, of each key.
So is RANDOMKEY, of the key that it chose; DBSIZE is held against a SCAN of the same
moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from raftkv.kv.commands import (
    OUT_OF_MEMORY,
    SESSION_OPCODES,
    Command,
    ErrorReply,
    Opcode,
    is_sliced,
)
from raftkv.kv.dataset import bytes_of
from raftkv.kv.slots import key_slot
from raftkv.kv.store import KvStore
from raftkv.kv.values import Collection
from raftkv.seams import NOT_LEADER, Failure
from tests.linearizability.checker import CheckResult, check
from tests.linearizability.history import History, Operation, Outcome, Value
from tests.linearizability.retirement import KeyRetirement
from tests.sim.cluster import Cluster, SimNode, SimSlot, Violation
from tests.sim.commands import VALUE_BYTES_MAX, Asker, Step
from tests.sim.read_levels import read_at_some_level

LIMIT = VALUE_BYTES_MAX
# Texts that never change, what a leader asks of itself, and what only transactions ask.
# What is about sessions is asked in `tests.sim.sessions`; what makes leases only inside KV TXN.
# The past is read in `tests.sim.past_reads`, and what HISTORY tells compared at each entry.
NOT_ASKED = SESSION_OPCODES | {
    *(Opcode.OBJECT_HELP, Opcode.MEMORY_HELP, Opcode.LIMIT_DATASET),
    *(Opcode.CHECKPOINT, Opcode.REVISIONS, Opcode.ANSWER, Opcode.COMPACT),
    *(Opcode.KV_GET_AT, Opcode.HISTORY),
    *(Opcode.LEASE_GRANT, Opcode.LEASE_SET, Opcode.LEASE_ATTACH),
}
# By slot: keys of one slot follow each other, see `KeyRetirement`.
FAMILIES = (
    "register", "register", "mortal", "counter", "text", "group", "float",
    "hash", "list", "list group", "set", "set group", "sorted set", "sorted set group",
    "names", "bits", "bit group", "watched group", "leased",
)  # fmt: skip
# Few keys, so that each is asked about often: the strings find most of what is lost.
# Exact sums of fractions cost the store ten times what anything else does.
_WEIGHTS = (8, 8, 8, 5, 8, 8, 1, 3, 3, 3, 3, 3, 3, 3, 1, 2, 2, 6, 5)
CLIENTS = 6
# The least and the most that a client waits; the product answers within 4 s.
PATIENCE_MS = (400, 1500, 6000)
LEADER_WAIT_MS = 2000
# Log time has milliseconds, and so is rounded.
_ROUNDING_MS = 2


def command_names() -> list[str]:
    """Return the names of all commands that clients ask."""
    return [opcode.name for opcode in Opcode if opcode not in NOT_ASKED]


@dataclass(slots=True, eq=False)
class Request:
    """One run of commands of one client.

    Attributes:
        ended: Called when the client knows, or gives up.
    """

    client: str
    steps: list[Step]
    called_us: int
    returned_us: int | None = None
    outcome: Outcome | None = None
    results: list[Any] = field(default_factory=list)
    ended: Callable[[], None] = lambda: None


@dataclass(slots=True, eq=False)
class Attempt:
    """A request on its way to one node; another one follows a definite redirection."""

    request: Request
    node: SimNode
    life: int
    sent_ms: float


class Workload:
    """All clients of one run.

    Attributes:
        running: Whether clients go on asking.
        requests: In the order of the calls.
    """

    def __init__(self, cluster: Cluster, *, clients: int = CLIENTS) -> None:
        self._cluster = cluster
        self._world = cluster.world
        # Fewer unknowns than a key may have: under this mix they come close together.
        self._keys = KeyRetirement("k", unknowns_max=5)
        self._families: dict[str, str] = {}
        self._open: dict[str, list[Attempt]] = {}
        self._clock_us = 0
        self.asker = Asker(cluster.world)
        self.running = True
        self.requests: list[Request] = []
        cluster.crash_listeners.append(self._connections_end)
        for number in range(clients):
            _Client(self, f"c{number}").rest()

    @property
    def cluster(self) -> Cluster:
        return self._cluster

    def count(self, outcome: Outcome | None = None) -> int:
        """Return how many commands were asked for, or ended so."""
        return sum(
            len(one.steps) for one in self.requests if outcome is None or one.outcome is outcome
        )

    def now_us(self) -> int:
        """Return the time, never the same twice: the order of events is known."""
        self._clock_us = max(self._clock_us + 1, int(self._world.now_ms * 1000))
        return self._clock_us

    # ------------------------------------------------------------------ requests

    def choose(self) -> list[Step]:
        """Make up what a client asks next."""
        dice = self._world.random
        count = 1 if dice.random() < 0.85 else dice.randrange(2, 5)
        if dice.random() < 0.02:
            return self._ask_for_everything()
        steps = []
        for _ in range(count):
            (slot,) = dice.choices(range(len(FAMILIES)), _WEIGHTS)
            key = self._keys.begin(slot)
            self._families[key] = FAMILIES[slot]
            steps.append(self.asker.ask(FAMILIES[slot], key))
        return steps

    def _ask_for_everything(self) -> list[Step]:
        dice = self._world.random
        keys = tuple(self._keys.key(slot) for slot in range(len(FAMILIES)))

        def step(command: Command, keys: tuple[str, ...] = keys) -> Step:
            return Step("everything", keys, (), command, lambda reply: reply)

        scan: Command = (Opcode.SCAN, 0, None, 1000, None)
        choice = dice.random()
        if choice < 0.3:
            return [step((Opcode.KEYS, b"*"))]
        if choice < 0.5:
            return [step(scan)]
        if choice < 0.65:
            return [step((Opcode.RANDOMKEY, dice.getrandbits(64)))]
        if choice < 0.75:
            key = dice.choice(keys)
            return [step((Opcode.COUNTKEYSINSLOT, key_slot(key.encode())), (key,))]
        if choice < 0.85:
            return [step(scan), step((Opcode.DBSIZE,))]
        return [step((Opcode.FLUSH,))]

    def begin(self, client: str, steps: list[Step], patience_ms: float) -> Request:
        """Note that a client asks for something."""
        request = Request(client, steps, self.now_us())
        self.requests.append(request)
        self._world.after(patience_ms, lambda: self.end(request, Outcome.UNKNOWN))
        return request

    def send(self, request: Request, node: SimNode) -> None:
        """Let a request travel to a node that lives."""
        attempt = Attempt(request, node, node.life, self._world.now_ms)
        self._open.setdefault(node.name, []).append(attempt)
        self._after_travel(lambda: self._arrive(attempt))

    def _after_travel(self, action: Callable[[], None]) -> None:
        self._world.after(self._world.random.uniform(0.05, 1.0), action)

    def _arrive(self, attempt: Attempt) -> None:
        node = attempt.node
        if node.life != attempt.life or not node.alive:
            return
        if node.is_frozen:
            self._world.after(node.frozen_for_ms + 0.1, lambda: self._arrive(attempt))
            return
        waits = self._world.now_ms < attempt.sent_ms + LEADER_WAIT_MS
        if not node.replica.has_leader and waits:
            # The front-end holds it, as `writes.leader_wait_ms` says.
            self._world.after(50, lambda: self._arrive(attempt))
            return
        slot = SimSlot(lambda results, failure: self._answer(attempt, results, failure), node)
        steps = attempt.request.steps
        commands = [step.command for step in steps]
        has_write = any(step.is_write for step in steps)
        # Reads may take their place in the log, too: there each has a moment of its own.
        several = len(commands) > 1 and steps[0].kind != "everything"
        through_log = has_write or (several and self._world.chance(0.2))

        def deliver() -> None:
            if through_log:
                node.replica.propose(commands, slot)
            elif len(commands) == 1 and is_sliced(commands[0]):
                node.replica.read_sliced(commands[0], slot, linearizable=True)
            else:
                read_at_some_level(node, commands, slot)

        node.guarded(deliver)

    def _answer(self, attempt: Attempt, results: list[Any] | None, failure: Failure | None) -> None:
        self._open[attempt.node.name].remove(attempt)
        if failure is None:
            self._cluster.floors.note(attempt.node.replica.store.applied_index)
        self._after_travel(lambda: self._receive(attempt, results, failure))

    def _receive(
        self, attempt: Attempt, results: list[Any] | None, failure: Failure | None
    ) -> None:
        request = attempt.request
        if failure is None:
            assert results is not None
            self.end(request, Outcome.OK, results)
        elif not failure.definite:
            self.end(request, Outcome.UNKNOWN)
        elif failure.reason != NOT_LEADER.reason or not self._redirect(attempt):
            self.end(request, Outcome.REFUSED)

    def _redirect(self, attempt: Attempt) -> bool:
        """Follow a node that says who leads; say if there is anybody to go to."""
        request, node = attempt.request, attempt.node
        leader = node.replica.leader if node.alive else None
        if request.outcome is not None or leader is None or leader.id == node.name:
            return False
        target = self._cluster.nodes.get(leader.id)
        if target is None or not target.alive:
            return False
        self.send(request, target)
        return True

    def end(self, request: Request, outcome: Outcome, results: list[Any] | None = None) -> None:
        """Note what a client learned of its request; the first word counts."""
        if request.outcome is not None:
            return
        request.outcome = outcome
        request.returned_us = self.now_us()
        request.results = results or []
        for step, result in zip(request.steps, request.results, strict=False):
            self.asker.transactions.learn(step.command, result)
        for step in request.steps:
            if step.is_write and outcome is Outcome.UNKNOWN:
                for slot_key in {self._slot_key(key): None for key in step.keys}:
                    # What FLUSHALL removes may never have been used.
                    if slot_key in self._families:
                        self._keys.end(slot_key, outcome)
        request.ended()

    @staticmethod
    def _slot_key(key: str) -> str:
        """Return the key that was handed out: those of a group have a letter more."""
        return ":".join(key.split(":")[:3])

    def _connections_end(self, node: SimNode) -> None:
        for attempt in self._open.pop(node.name, []):
            request = attempt.request
            self._after_travel(lambda request=request: self.end(request, Outcome.UNKNOWN))

    # ------------------------------------------------------------------- the end

    def is_answered(self) -> bool:
        """Whether every request was answered whose node has lived on."""
        return not any(self._open.values())

    def read_everything(self) -> None:
        """Read every key that was ever written, as the last operation on it."""
        self.running = False
        steps = [
            step
            for key, family in self._families.items()
            for step in self.asker.last_reads(family, key)
        ]
        done: list[Request] = []

        def has_read() -> bool:
            leader = self._cluster.leader()
            if done and done[-1].outcome is Outcome.OK:
                return True
            if leader is not None and (not done or done[-1].outcome is not None):
                done.append(self.begin("last", steps, 5000))
                self.send(done[-1], leader)
            return False

        self._cluster.run_until(has_read, 10_000, invariant="a_healed_cluster_serves")

    def history(self) -> History:
        """Return everything that was asked, for the checker."""
        log_time, leases = self._cluster.log_time, self._cluster.lease_clock
        operations: list[Operation] = []
        for request in self.requests:
            for number, step in enumerate(request.steps):
                result, outcome = None, request.outcome
                if outcome is Outcome.OK:
                    if _is_out_of_memory(request.results[number]):
                        # It must have changed nothing, as a request that was refused.
                        outcome = Outcome.REFUSED
                    else:
                        result = step.convert(request.results[number])
                if step.command[0] is Opcode.DBSIZE:
                    self._compare_size(request)
                elif step.kind == "everything":
                    operations += self._each_key(request, step, result)
                else:
                    operations.append(
                        _operation(request, step.kind, step.keys, step.arguments, result, outcome)
                    )
        return History(
            operations=tuple(operations),
            model="store",
            early_us=int((log_time.gain_ms + _ROUNDING_MS) * 1000),
            late_us=int((log_time.loss_ms + _ROUNDING_MS) * 1000),
            least_ahead_us=int(log_time.least_ms * 1000),
            most_ahead_us=int(log_time.most_ms * 1000),
            lease_early_us=int((leases.gain_ms + _ROUNDING_MS) * 1000),
            lease_late_us=int((leases.loss_ms + _ROUNDING_MS) * 1000),
        )

    @staticmethod
    def _compare_size(request: Request) -> None:
        """Hold DBSIZE against the SCAN before it, which was answered in the same moment."""
        if request.outcome is not Outcome.OK:
            return
        (cursor, found), count = request.results
        if cursor == b"0" and len(found) != count:
            raise Violation(f"{count} keys are counted, {len(found)} found", invariant="key_count")

    def _each_key(self, request: Request, step: Step, result: Any) -> list[Operation]:
        """Return what a command on the whole store means to each key."""
        kind, slot_keys = "exists", list(step.keys)
        opcode = step.command[0]
        if opcode is Opcode.FLUSH:
            kind, told = "flush", frozenset()
            slot_keys = list(self._families)
        elif request.outcome is not Outcome.OK:
            return []
        elif opcode is Opcode.COUNTKEYSINSLOT:
            # Another key may have the slot: only that there is none tells about this one.
            family = self._families.get(slot_keys[0])
            if result or self.asker.keys_of(family, slot_keys[0]) != tuple(slot_keys):
                return []
            told = frozenset()
        elif opcode is Opcode.RANDOMKEY and result is not None:
            key = result.decode()
            own = self._slot_key(key) in self._families
            return [_operation(request, kind, (key,), (), 1)] if own else []
        else:
            found = result[1] if opcode is Opcode.SCAN else result or []
            told = frozenset(key.decode() for key in found)
        operations = []
        for slot_key in slot_keys:
            family = self._families.get(slot_key)
            keys = self.asker.keys_of(family, slot_key)
            results: list[Value] = ["OK" if kind == "flush" else int(key in told) for key in keys]
            if len(keys) == 1:
                operations.append(_operation(request, kind, keys, (), results[0]))
            else:
                steps = tuple((kind, key) for key in keys)
                operations.append(_operation(request, "transaction", keys, steps, tuple(results)))
        return operations

    def judge(self) -> CheckResult:
        """Compare the nodes with each other, and the history with the models."""
        insiders = self._cluster.insiders()
        first = _contents(insiders[0].replica.store)
        for node in insiders:
            store = node.replica.store
            if store.dataset_bytes != _counted_bytes(store):
                raise Violation(
                    f"{node.name} has lost count of its keys", invariant="dataset_bytes_are_exact"
                )
        for node in insiders[1:]:
            if _contents(node.replica.store) != first:
                raise Violation(
                    f"{insiders[0].name} and {node.name} hold different keys or sessions",
                    invariant="stores_are_equal",
                )
        result = check(self.history())
        if not result.is_ok:
            raise Violation(str(result), invariant="linearizable")
        return result

    def refused_for_memory(self) -> int:
        """Count the commands that met the memory limit."""
        return sum(_is_out_of_memory(one) for request in self.requests for one in request.results)

    def kinds(self) -> Counter[str]:
        """Count the acknowledged commands by name."""
        return Counter(
            Opcode(step.command[0]).name
            for one in self.requests
            if one.outcome is Outcome.OK
            for step in one.steps
        )


def _contents(store: KvStore) -> dict[Any, Any]:
    """Return all keys with what they hold, revisions and deadlines included, and all sessions."""
    sessions = {
        session.id: (session.ttl_ms, session.deadline_ms, session.lowest, session.answers)
        for session in store._keyspace.sessions.by_id.values()
    }
    return sessions | {
        key: (entry[0] if isinstance(entry[0], bytes) else _elements(entry[0]), entry[1:])
        for bucket in store._keyspace.buckets
        for key, entry in bucket.items()
    }


def _counted_bytes(store: KvStore) -> int:
    """Return what all keys count for, counted anew."""
    return sum(
        bytes_of(key, entry[0], entry[1])
        for bucket in store._keyspace.buckets
        for key, entry in bucket.items()
    )


def _is_out_of_memory(result: Any) -> bool:
    """Whether a command was refused because of the memory limit."""
    return isinstance(result, ErrorReply) and result.message.endswith(OUT_OF_MEMORY)


def _elements(collection: Collection) -> tuple[int, list[Any]]:
    return collection.type_code, [item for part in collection.elements() for item in part]


def _operation(
    request: Request,
    kind: str,
    keys: tuple[str, ...],
    arguments: tuple[Value, ...],
    result: Value,
    outcome: Outcome | None = None,
) -> Operation:
    outcome = outcome or request.outcome or Outcome.UNKNOWN
    return Operation(
        client=request.client,
        kind=kind,
        keys=keys,
        arguments=arguments,
        called_us=request.called_us,
        returned_us=request.returned_us,
        outcome=outcome,
        result=result if outcome is Outcome.OK else None,
    )


class _Client:
    """Asks, waits, asks again."""

    def __init__(self, workload: Workload, name: str) -> None:
        self._workload = workload
        self._cluster = workload.cluster
        self._world = workload.cluster.world
        self._name = name
        self._burst = 0
        self._believed: str | None = None

    def rest(self, most_ms: float = 1800) -> None:
        """Think, and ask."""
        dice = self._world.random
        if self._burst:
            self._burst -= 1
            most_ms = 3
        elif dice.random() < 0.08:
            self._burst = dice.randrange(2, 8)
        self._world.after(dice.uniform(0.5, most_ms), self._ask)

    def _node(self) -> SimNode | None:
        nodes = self._cluster.nodes
        if self._believed not in nodes or self._world.chance(0.03):
            self._believed = self._world.random.choice(sorted(nodes))
        node = nodes[self._believed]
        return node if node.alive else None

    def _ask(self) -> None:
        workload = self._workload
        if not workload.running:
            return
        if self._world.now_ms < self._cluster.quiet_until_ms:
            self.rest()
            return
        node = self._node()
        if node is None:
            # The connection is refused: nothing was asked.
            self._believed = None
            self.rest(150)
            return
        request = workload.begin(
            self._name, workload.choose(), self._world.random.choice(PATIENCE_MS)
        )
        request.ended = lambda: self._learned(request)
        workload.send(request, node)

    def _learned(self, request: Request) -> None:
        if request.outcome is Outcome.OK:
            self.rest()
            return
        self._burst = 0
        self._believed = None
        self.rest(600)
