"""The WAL against a list, under crashes at any point.

A machine appends, syncs, marks, compacts and restarts in any order, and ends
processes by kill (nothing is lost) or by power cut (any part of the unsynced
writes is lost, before any single change of the disk). What recovery returns
must be what one of the writes left behind: none older than the last completed
sync, and the very last one after a kill.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from raftkv.engine.evicted import memory_bytes
from raftkv.engine.ready import (
    EntryRecord,
    HardStateRecord,
    LogEntry,
    RecoveredLog,
    SnapshotRecord,
    TruncateRecord,
    WalRecord,
)
from raftkv.storage.wal import Wal
from raftkv.storage.wal_segments import SyncJob
from raftkv.types import HardState, Index, NodeId, Term, WriteSequence
from tests.unit.storage.crashing_disk import (
    CrashingDisk,
    EventList,
    NameChooser,
    PowerCutError,
)

SEGMENT_BYTES = 4096
DISK_ID = "d" * 32
NO_VOTE = HardState(Term(0), None)


@dataclass
class LogModel:
    """A log as a list, and the hard state."""

    base_index: int = 0
    base_term: int = 0
    entries: list[LogEntry] = field(default_factory=list)
    hard_state: HardState = NO_VOTE

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.entries)

    def copy(self) -> LogModel:
        return LogModel(self.base_index, self.base_term, list(self.entries), self.hard_state)

    def apply(self, records: list[WalRecord]) -> None:
        for record in records:
            if isinstance(record, EntryRecord):
                self.entries.append((record.command, record.index, record.term))
            elif isinstance(record, HardStateRecord):
                self.hard_state = HardState(record.term, record.vote)
            elif isinstance(record, TruncateRecord):
                del self.entries[record.first - self.base_index - 1 :]
            else:
                self.base_index, self.base_term = record.index, record.term
                self.entries.clear()

    def matches(self, log: RecoveredLog, compacted: int) -> bool:
        """Whether recovery returned this log, perhaps without what was compacted."""
        dropped = log.base_index - self.base_index
        if not 0 <= dropped <= len(self.entries) or log.base_index > max(
            compacted, self.base_index
        ):
            return False
        term = self.entries[dropped - 1][2] if dropped else self.base_term
        if dropped == len(self.entries) and log.base_term == 0 and log.base_index < compacted:
            # All that is left is covered by a snapshot, and so is the term.
            term = 0
        return (
            log.entries == self.entries[dropped:]
            and log.base_term == term
            and log.hard_state == self.hard_state
        )


class WalMachine(RuleBasedStateMachine):
    """Drives one WAL through its life."""

    @initialize(seed=st.integers(0, 2**32))
    def start(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.disk = CrashingDisk()
        self.model = LogModel()
        self.history: dict[int, LogModel] = {0: self.model.copy()}
        self.durable_sequence = 0
        self.sequence = 0
        self.compacted = 0
        self.committed = 0
        self.job: SyncJob | None = None
        self.open()

    def open(self) -> RecoveredLog:
        budget = self.random.choice((0, 0, 1000, 3000, 1 << 30))
        self.wal, log = Wal.recover(
            self.disk,
            segment_bytes=SEGMENT_BYTES,
            observer=EventList(),
            disk_id=DISK_ID,
            memory_bytes_max=budget,
        )
        assert log.evicted is not None
        kept = memory_bytes(log.entries)
        last = log.evicted.last_index
        assert last <= max(log.commit_hint, log.base_index)
        hint = min(log.commit_hint, self.wal.last_index)
        assert kept <= budget or last >= hint
        if last == log.base_index:
            return log
        # The rest is as good as in memory.
        evicted = self.wal.read(Index(log.base_index + 1), Index(last), 1 << 30)
        for _, index, term in evicted:
            assert log.term_at(index) == term
        assert log.evicted.base_term == log.base_term
        return replace(log, entries=evicted + log.entries)

    # ------------------------------------------------------------- writing

    def records(self) -> list[WalRecord]:
        """Random records that continue the log."""
        chance = self.random
        model = self.model.copy()
        records: list[WalRecord] = []
        for _ in range(chance.randrange(4)):
            kind = chance.random()
            record: WalRecord
            term = Term(model.hard_state.term)
            if kind < 0.6:
                command = chance.randbytes(chance.choice((0, 1, 30, 200, 700)))
                record = EntryRecord(Index(model.last_index + 1), term, command)
            elif kind < 0.75:
                vote = NodeId(chance.choice(("n1", "n2"))) if chance.random() < 0.7 else None
                record = HardStateRecord(Term(term + 1), vote)
            elif kind < 0.93 and model.last_index > max(self.committed, model.base_index):
                floor = max(self.committed, model.base_index)
                record = TruncateRecord(Index(chance.randint(floor + 1, model.last_index)))
            elif kind > 0.97:
                index = self.committed + chance.randrange(1, 10)
                self.committed = index
                record = SnapshotRecord(Index(index), term)
            else:
                continue
            records.append(record)
            model.apply([record])
        return records

    def run(self, action: object) -> bool:
        """Do something with the disk; False when the power was cut meanwhile."""
        try:
            action()  # type: ignore[operator]
        except PowerCutError:
            self.power_returns()
            return False
        return True

    def arm(self, cut: int) -> None:
        """Cut the power before one of the next changes of the disk, or never."""
        self.disk.steps = 0
        self.disk.steps_max = cut

    @rule(cut=st.integers(-40, 6), big=st.booleans())
    def append(self, cut: int, big: bool) -> None:
        records = self.records()
        if big and self.random.random() < 0.1:
            entry = EntryRecord(
                Index(self.model.last_index + 1), Term(self.model.hard_state.term), bytes(6000)
            )
            records = [entry]
        self.arm(max(cut, -1))
        self.write(records)

    def write(self, records: list[WalRecord]) -> None:
        self.sequence += self.random.randint(1, 3)
        self.model.apply(records)
        self.history[self.sequence] = self.model.copy()
        sequence = WriteSequence(self.sequence)
        hint = Index(self.committed)
        self.run(lambda: self.wal.append(sequence, records, hint, reserve=bool(self.sequence % 2)))

    @rule()
    def commit(self) -> None:
        durable = self.history[max(s for s in self.history if s <= self.durable_sequence)]
        reachable = min(durable.last_index, self.model.last_index)
        # What is committed is in every later state of the log.
        agreed = [e for e in self.model.entries if e[1] <= reachable and e in durable.entries]
        if agreed:
            self.committed = max(self.committed, self.random.choice(agreed)[1])

    @rule(cut=st.integers(-40, 6))
    def prepare(self, cut: int) -> None:
        self.arm(max(cut, -1))
        self.run(self.wal.prepare_segment)

    @rule(cut=st.integers(-40, 6))
    def mark(self, cut: int) -> None:
        self.arm(max(cut, -1))
        sequence = WriteSequence(self.sequence + 1)
        self.history[sequence] = self.model.copy()
        self.sequence += 1
        self.run(lambda: self.wal.mark(sequence))

    # ------------------------------------------------------------- syncing

    @rule()
    def begin_sync(self) -> None:
        job = self.wal.sync_job()
        if job is not None:
            assert self.job is None
            self.job = job

    @precondition(lambda self: self.job is not None)
    @rule(cut=st.integers(-40, 6))
    def end_sync(self, cut: int) -> None:
        job = self.job
        assert job is not None
        self.arm(max(cut, -1))
        if self.run(job.run):
            self.wal.finished(job)
            self.durable_sequence = job.sequence
            self.job = None

    @rule(cut=st.integers(-10, 6))
    def compact(self, cut: int) -> None:
        self.arm(max(cut, -1))
        self.compacted = max(self.compacted, self.committed)
        names = self.wal.compact(Index(self.compacted))
        self.run(lambda: self.wal.remove_segments(names))

    # ------------------------------------------------------------ crashing

    @rule()
    def kill(self) -> None:
        self.disk = self.disk.kill()
        self.recovered(at_least=self.sequence)

    @rule()
    def cut_power(self) -> None:
        self.power_returns()

    def power_returns(self) -> None:
        style = self.random.randrange(4)

        def choose(name: str, ordinal: int, size: int) -> tuple[int, int]:
            if style == 0:
                return 0, 0
            if style == 1:
                return 0, size
            first = self.random.choice((0, 0, self.random.randint(0, size)))
            return first, self.random.choice((size, self.random.randint(first, size)))

        self.disk = self.disk.crash(choose, choose_names=self.name_chooser())
        self.recovered(at_least=self.durable_sequence)

    def name_chooser(self) -> NameChooser:
        """Lose any of the unsynced changes of directories."""
        share = self.random.choice((0, 0.5, 1))
        chance = self.random
        return lambda ordinal: chance.random() < share

    def recovered(self, at_least: int) -> None:
        """Open the WAL again, perhaps through more power cuts, and compare."""
        self.job = None
        while True:
            self.arm(self.random.choice((-1, self.random.randrange(12))))
            try:
                log = self.open()
                break
            except PowerCutError:
                self.disk = self.disk.crash(choose_names=self.name_chooser())
                at_least = self.durable_sequence
        self.disk.steps_max = -1
        sequences = [s for s in self.history if s >= at_least]
        base = max(s for s in self.history if s <= at_least)
        candidates = sorted({base, *sequences}, reverse=True)
        for sequence in candidates:
            model = self.history[sequence]
            if model.matches(log, self.compacted):
                break
        else:
            found = [(index, term) for _, index, term in log.entries]
            raise AssertionError(
                f"{log.base_index, log.base_term} {found} {log.hard_state} "
                f"is no state since write {at_least}"
            )
        self.model = model.copy()
        self.sequence = max(self.sequence, log.sequence)
        self.durable_sequence = self.sequence
        self.history = {self.sequence: self.model.copy()}
        assert log.commit_hint <= self.committed
        if self.model.last_index < self.compacted:
            # As a replica does whose snapshot is newer than its log.
            self.write([SnapshotRecord(Index(self.compacted), self.model.hard_state.term)])

    # ------------------------------------------------------------ checking

    @invariant()
    def reads_agree(self) -> None:
        first = max(self.wal.retained_from(), self.model.base_index + 1)
        last = self.model.last_index
        assert self.wal.last_index == last
        assert self.wal.retained_from() <= max(self.compacted, self.model.base_index) + 1
        if first <= last:
            begin = self.random.randint(first, last)
            expected = [e for e in self.model.entries if e[1] >= begin]
            assert self.wal.read(Index(begin), Index(last), 1 << 30) == expected


TestWalMachine = WalMachine.TestCase
TestWalMachine.settings = settings(max_examples=30, stateful_step_count=50, deadline=None)


def live(seed: int, steps: int) -> WalMachine:
    """Drive the machine by a plain generator: longer lives than hypothesis finds."""
    chance = random.Random(seed)
    machine = WalMachine()
    WalMachine.start(machine, seed)
    for _ in range(steps):
        cut = chance.randint(-40, 6)
        match chance.choices(range(9), (45, 5, 5, 5, 15, 13, 5, 3, 4))[0]:
            case 0:
                WalMachine.append(machine, cut, chance.random() < 0.5)
            case 1:
                WalMachine.commit(machine)
            case 2:
                WalMachine.prepare(machine, cut)
            case 3:
                WalMachine.mark(machine, cut)
            case 4:
                WalMachine.begin_sync(machine)
            case 5 if machine.job is not None:
                WalMachine.end_sync(machine, cut)
            case 6:
                WalMachine.compact(machine, cut)
            case 7:
                WalMachine.kill(machine)
            case 8:
                WalMachine.cut_power(machine)
        WalMachine.reads_agree(machine)
    return machine


@pytest.mark.parametrize("seed", range(30))
def test_a_life_of_crashes(seed: int) -> None:
    live(seed, 200)


@pytest.mark.slow
def test_many_lives_of_crashes() -> None:
    for seed in range(1000, 1150):
        live(seed, 250)
