"""Clients that read keys as they were, and ranges of keys page by page, from any node.

KV GET with REV and KV RANGE, asked of whoever leads or of any node's own store; one page
follows another at the revision which the first one named, whatever has been written
and whoever leads meanwhile. Answers are held against `tests.sim.past_record`:

* an answer at a revision is what was committed then, with revisions and versions, and
  nothing is left out between two pages;
* a range of the present names a revision that is as new as all that was shown before it
  was asked for, or, on a node's own store, as what that had applied;
* a revision is refused as compacted, or as one of the future, where it is just that.

Dice of their own, so that no other choice of a run depends on them.
"""

from __future__ import annotations

import random
import re
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from raftkv.kv.commands import Command, ErrorReply, Opcode, RangeReadFlag
from raftkv.kv.store import KvStore
from raftkv.seams import Failure
from raftkv.server.handlers_kv import prefix_end
from tests.sim.cluster import Cluster, SimNode, SimSlot, Violation
from tests.sim.past_record import Kept, PastRecord
from tests.sim.workload import FAMILIES

CLIENTS = 2
PAUSE_MS = (60, 1600)
LIMITS = (1, 2, 5, 100)
# Revisions that clients remember to have been told.
REMEMBERED = 24
# A key of these may be dead for its lease before it goes.
_LEASED = b"k:%d:" % FAMILIES.index("leased")
_COMPACTED = re.compile(r"ERR revision \d+ is compacted; the oldest available is (\d+)")
_FUTURE = re.compile(r"ERR revision \d+ is in the future; the newest is (\d+)")


@dataclass(frozen=True, slots=True)
class _Question:
    """One read on its way.

    Attributes:
        revision: At which it is to read; None for the present.
        floor: What the answering store has to know at least, as a revision.
        asked: The newest and oldest revision of the node's store when it was asked.
        log_time_ms: Of that store then.
        store: That store; another one may have taken its place before the answer.
    """

    client: _Client
    node: SimNode
    command: Command
    revision: int | None
    floor: int
    asked: tuple[int, int]
    log_time_ms: int
    store: KvStore

    def broken(self, invariant: str, detail: str) -> Violation:
        return Violation(f"{self.node.name} answers {self.command}: {detail}", invariant=invariant)


class PastReaders:
    """All clients of a run that read the past.

    Attributes:
        counts: What they were answered.
        known: Revisions that were told to them.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.record = PastRecord()
        self.counts: Counter[str] = Counter()
        self.known: deque[int] = deque([0], maxlen=REMEMBERED)
        self.is_running = True
        cluster.invariants.apply_listeners.append(self.record.note)
        for number in range(CLIENTS):
            dice = random.Random(f"reader {number} of the past of seed {cluster.world.seed}")
            _Client(self, dice).rest()

    def stop(self) -> None:
        """Read no more."""
        self.is_running = False

    # ----------------------------------------------------------------- judging

    def judge(self, question: _Question, answer: Any) -> None:
        """Hold an answer against what was committed."""
        if isinstance(answer, ErrorReply):
            self._judge_refusal(question, answer.message)
            return
        revision = question.revision
        if revision is not None and self.record.index_of(revision) is None:
            raise self._differs(question, answer, None)
        if question.command[0] is Opcode.KV_RANGE and not isinstance(answer, int):
            told, more, following, items = answer[1::2]
            if revision is None:
                self._judge_present(question, told)
            elif told != revision:
                raise self._differs(question, told, revision)
            self._judge_page(question, told, items, following)
            if more != int(following is not None):
                raise self._differs(question, more, following)
            self._learn(told, [number for item in items for number in _revisions_of(item)])
        else:
            assert revision is not None
            self._judge_whole(question, revision, answer)
        if revision is not None and revision < question.asked[1]:
            raise question.broken(
                "the_past_is_refused_for_a_reason",
                f"revisions below {question.asked[1]} were gone, and it is none",
            )
        self.cluster.invariants.checks["past_reads_are_what_was_committed"] += 1

    def _learn(self, told: int, others: list[int]) -> None:
        """Remember revisions; whoever is told one has seen what was applied then."""
        self.cluster.floors.note(self.record.index_of(told) or 0)
        self.known += [told, *others[:2]]

    def _judge_present(self, question: _Question, told: int) -> None:
        self.cluster.invariants.checks["present_ranges_are_linearizable"] += 1
        if told < question.floor or self.record.index_of(told) is None:
            raise question.broken(
                "present_ranges_are_linearizable",
                f"it is as of revision {told}; {question.floor} had been reached before",
            )

    def _judge_page(
        self, question: _Question, told: int, items: list[Any], following: bytes | None
    ) -> None:
        """Compare a page, and where the next one begins, with the keys that there were."""
        _, start, end, limit, _, flags = question.command
        keys_only = flags & RangeReadFlag.KEYS_ONLY
        position = 0
        named = {item if keys_only else item[0] for item in items} | {following}
        for key, kept in self.record.between(start, end, told):
            if (
                question.revision is None
                and key not in named
                and self._may_be_dead(question, key, kept)
            ):
                continue
            if position == limit:
                if following != key:
                    raise self._differs(question, following, key)
                break
            wanted = key if keys_only else [key, kept.value, *kept[3:]]
            found = items[position] if position < len(items) else None
            if found != wanted:
                raise self._differs(question, found, wanted)
            if question.revision is None and 0 < kept.deadline_ms <= question.log_time_ms:
                raise self._differs(question, found, None)
            position += 1
        else:
            if following is not None or position != len(items):
                raise self._differs(question, (following, items[position:]), None)

    @staticmethod
    def _may_be_dead(question: _Question, key: bytes, kept: Kept) -> bool:
        """Whether a key that was not removed may have been dead at the moment of a read."""
        log_time_ms = question.node.replica.store.log_time_ms
        return 0 < kept.deadline_ms <= log_time_ms or key.startswith(_LEASED)

    def _judge_whole(self, question: _Question, revision: int, answer: Any) -> None:
        """Compare what a key had, or how many there were."""
        if question.command[0] is Opcode.KV_GET_AT:
            kept = self.record.at(question.command[1], revision)
            wanted: Any = []
            if kept is not None:
                names = (b"create_revision", b"modify_revision", b"version")
                wanted = [b"value", kept.value]
                wanted += [one for pair in zip(names, kept[3:], strict=True) for one in pair]
                wanted += [b"type", kept.type_name]
        else:
            _, start, end, *_ = question.command
            wanted = sum(1 for _ in self.record.between(start, end, revision))
        if answer != wanted:
            raise self._differs(question, answer, wanted)

    @staticmethod
    def _differs(question: _Question, found: Any, wanted: Any) -> Violation:
        return question.broken(
            "past_reads_are_what_was_committed", f"{found!r}, which was {wanted!r}"
        )

    def _judge_refusal(self, question: _Question, message: str) -> None:
        self.cluster.invariants.checks["the_past_is_refused_for_a_reason"] += 1
        store, revision = question.node.replica.store, question.revision
        if message.startswith("TRYAGAIN"):
            is_right = store is not question.store
            self.counts["past_replaced"] += 1
        elif found := _COMPACTED.fullmatch(message):
            oldest = self.record.extent(store.applied_index)[1]
            is_right = revision is not None and revision < oldest == int(found[1])
            self.counts["past_compacted"] += 1
        else:
            found = _FUTURE.fullmatch(message)
            is_right = (
                found is not None
                and revision is not None
                and question.floor <= int(found[1]) < revision
                and self.record.index_of(int(found[1])) is not None
            )
            self.counts["past_future"] += 1
        if not is_right:
            raise question.broken(
                "the_past_is_refused_for_a_reason",
                f"{message!r}; {self.record.extent(store.applied_index)} are its revisions, "
                f"{question.floor} had been reached before",
            )


def _revisions_of(item: Any) -> list[int]:
    return item[2:4] if isinstance(item, list) else []


class _Client:
    """Asks for one thing after another; goes on with a range where the last page ended."""

    def __init__(self, readers: PastReaders, dice: random.Random) -> None:
        self._readers = readers
        self._dice = dice
        self._next_page: Command | None = None

    def rest(self) -> None:
        self._readers.cluster.world.after(self._dice.uniform(*PAUSE_MS), self._act)

    def _act(self) -> None:
        if not self._readers.is_running:
            return
        self.rest()
        cluster, dice = self._readers.cluster, self._dice
        node = cluster.nodes[dice.choice(sorted(cluster.nodes))]
        leader = cluster.leader()
        if leader is not None and dice.random() < 0.4:
            node = leader
        if not node.alive or node.is_frozen:
            return
        if self._next_page is not None and dice.random() < 0.8:
            command = self._next_page
        else:
            command = self._choose()
        # Also of one that believes to lead; another one refuses.
        linearizable = dice.random() < (0.85 if node.replica.is_leader else 0.1)
        node.guarded(lambda: self._ask(node, command, linearizable=linearizable))

    def _choose(self) -> Command:
        """Make up a question about keys that have changed lately, at a revision it was told."""
        dice, readers = self._dice, self._readers
        recent = readers.record.recent
        key = dice.choice(recent) if recent else b"k"
        revision: int | None = dice.choice(readers.known)
        if dice.random() < 0.02:
            revision = readers.known[-1] + dice.randrange(200)
        if dice.random() < 0.4:
            return (Opcode.KV_GET_AT, key, revision)
        start = key[: dice.randrange(len(key) + 1)]
        flags = dice.choice((0, 0, 0, RangeReadFlag.KEYS_ONLY, RangeReadFlag.COUNT))
        if dice.random() < 0.6:
            revision, flags = None, flags & RangeReadFlag.KEYS_ONLY
        limit = dice.choice(LIMITS)
        return (Opcode.KV_RANGE, start, prefix_end(start), limit, revision, int(flags))

    def _ask(self, node: SimNode, command: Command, *, linearizable: bool) -> None:
        readers, store = self._readers, node.replica.store
        asked = readers.record.extent(store.applied_index)
        floor = asked[0]
        if linearizable:
            floor = readers.record.extent(readers.cluster.floors.now)[0]
        revision = command[2] if command[0] is Opcode.KV_GET_AT else command[4]
        question = _Question(self, node, command, revision, floor, asked, store.log_time_ms, store)

        def answered(results: list[Any] | None, _failure: Failure | None) -> None:
            if results is None:
                readers.counts["past_unanswered"] += 1
                return
            readers.judge(question, results[0])
            readers.counts["past_linearizable" if linearizable else "past_local"] += 1
            self._go_on(command, results[0])

        node.replica.read_sliced(command, SimSlot(answered, asked=node), linearizable=linearizable)

    def _go_on(self, command: Command, answer: Any) -> None:
        """Remember where the range goes on, if this was a page of one."""
        if self._next_page is command:
            self._next_page = None
        if command[0] is Opcode.KV_RANGE and isinstance(answer, list) and answer[5] is not None:
            opcode, _, end, limit, _, flags = command
            self._next_page = (opcode, answer[5], end, limit, answer[1], flags)
            self._readers.counts["past_pages"] += 1
