"""Planted bugs: each takes one rule out of the engine or the replica.

`python -m tests.sim.mutants --seeds 40` says with which seed each one is found, so
that the strength of the simulator can be seen, not only believed.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from raftkv.engine.core import RaftCore
from raftkv.engine.messages import Append, AppendReply
from raftkv.engine.ready import LogEntry, OutgoingMessage
from raftkv.engine.syncobj_snapshot import SnapshotMends
from raftkv.engine.syncobj_state import PeerState
from raftkv.replica import replica as replica_module
from raftkv.replica.outbox import Outbox
from raftkv.seams import PEER_RAFT
from raftkv.types import Index, NodeId
from tests.sim.run import run_seed


def core_of(engine: type[SnapshotMends]) -> type[RaftCore]:
    """A core class on another engine."""
    return type("MutantCore", (RaftCore,), {"engine_class": engine})


class _CountsUnsynced(SnapshotMends):
    """The leader counts its own entries before they are durable."""

    def advance_commit(self) -> None:
        self.log.durable_index = lambda: self.log.last_index  # type: ignore[method-assign]
        SnapshotMends.advance_commit(self)


class _RepliesWithoutTerm(SnapshotMends):
    """An acknowledgement counts whatever its term."""

    def on_append_reply(self, node_id: NodeId, message: AppendReply) -> None:
        index = min(message.index, self.log.last_index) if message.success else message.index
        round_ = min(message.round, self.round)
        reply = AppendReply(self.term, round_, message.success, index, message.full)
        SnapshotMends.on_append_reply(self, node_id, reply)


class _TruncatesAlways(SnapshotMends):
    """Everything behind the previous index goes, without a look for a conflict."""

    def _skip_held(
        self, entries: list[LogEntry], previous: int, previous_term: int
    ) -> tuple[list[LogEntry], int, int]:
        return entries, previous, previous_term

    def _add(self, node_id: NodeId, message: Append, entries: Any, *position: int) -> None:
        commit = self.commit_index
        self._SyncObj__raftCommitIndex = Index(0)
        SnapshotMends._add(self, node_id, message, entries, *position)
        self._SyncObj__raftCommitIndex = commit


class _ReadsWithoutRound(SnapshotMends):
    """A leader believes in itself."""

    def confirmed_round(self) -> int:
        return self.round


class _AnyDisk(SnapshotMends):
    """A vote or acknowledgement counts whatever disk it comes from."""

    def is_named(self, node_id: NodeId, state: PeerState) -> bool:
        return state.hello is not None

    def counts(self, node_id: NodeId, state: PeerState) -> bool:
        return state.hello is not None

    def _set_admitted(self, admitted: bool) -> None:
        SnapshotMends._set_admitted(self, True)


class _WipedVotesCore(RaftCore):
    """A node with an empty directory votes like any other."""

    engine_class = _AnyDisk

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**(arguments | {"admitted": True}))


class _OldTermCommits(SnapshotMends):
    """Entries of earlier terms are committed by counting copies (Raft, figure 8)."""

    def advance_commit(self) -> None:
        matches = [self.match_indexes[state.node] for state in self.counted_peers()]
        candidate = self.quorum_value(matches, self.log.durable_index())
        if candidate > self.commit_index:
            self.set_commit(Index(candidate))
            self.refresh_admission()


class _AnyLogWins(SnapshotMends):
    """A vote is given without a look at the candidate's log."""

    def on_vote_request(self, node_id: NodeId, message: Any) -> None:
        longest = type(message)(
            term=message.term, last_index=1 << 60, last_term=1 << 60, pre=message.pre
        )
        SnapshotMends.on_vote_request(self, node_id, longest)


class _HintBeyondLogCore(RaftCore):
    """The commit hint is believed beyond the end of the log."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        hint = arguments["recovered"].commit_hint
        if hint > self._engine.commit_index:
            self._engine.set_commit(hint)


class _EagerOutbox(Outbox):
    """Nothing waits for a sync."""

    def post(self, messages: list[OutgoingMessage]) -> None:
        for message in messages:
            self._network.send(message.node, PEER_RAFT, message.body)


@contextlib.contextmanager
def _eager_outbox() -> Iterator[type[RaftCore]]:
    replica_module.Outbox = _EagerOutbox  # type: ignore[misc]
    try:
        yield RaftCore
    finally:
        replica_module.Outbox = Outbox  # type: ignore[misc]


def _with(core_class: type[RaftCore]) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    return lambda: contextlib.nullcontext(core_class)


MUTANTS: dict[str, Callable[[], contextlib.AbstractContextManager[type[RaftCore]]]] = {
    "the outbox releases before the sync": _eager_outbox,
    "the leader counts unsynced entries": _with(core_of(_CountsUnsynced)),
    "replies are not checked for their term": _with(core_of(_RepliesWithoutTerm)),
    "truncation without conflict": _with(core_of(_TruncatesAlways)),
    "reads are served without a round": _with(core_of(_ReadsWithoutRound)),
    "a wiped node votes": _with(_WipedVotesCore),
    "entries of earlier terms are counted": _with(core_of(_OldTermCommits)),
    "a vote for any log": _with(core_of(_AnyLogWins)),
    "the hint is not clamped": _with(_HintBeyondLogCore),
}


def first_finding(name: str, seeds: range, duration_ms: float = 15_000) -> tuple[int, str] | None:
    """Return the first seed that finds a mutant, and what it said."""
    with MUTANTS[name]() as core_class:
        for seed in seeds:
            try:
                run_seed(seed, duration_ms=duration_ms, core_class=core_class)
            except Exception as error:
                return seed, f"{type(error).__name__}: {error}"
    return None


def main() -> None:
    """Hunt every mutant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    for name in MUTANTS:
        started = time.monotonic()
        found = first_finding(name, seeds)
        said = f"seed {found[0]}: {found[1][:110]}" if found else f"not in {options.seeds} seeds"
        print(f"{name:40} {time.monotonic() - started:5.1f} s  {said}", flush=True)


if __name__ == "__main__":
    main()
