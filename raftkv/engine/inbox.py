"""What arrives between two steps, and what the engine does with each of it.

A message of a peer, a link that came up or went down, a sync that ended, a snapshot
that was taken or received: each is handed to the piece of the engine that owns it.

Owner: engine.core. Tests: tests/unit/engine, tests/sim.
"""

from __future__ import annotations

from raftkv.engine import messages
from raftkv.engine.ready import (
    DiskSpace,
    EntriesRead,
    Inbound,
    PeerDown,
    PeerMessage,
    PeerUp,
    Regress,
    SnapshotReceived,
    SnapshotTaken,
    Synced,
)
from raftkv.engine.syncobj_snapshot import SnapshotMends
from raftkv.errors import ProtocolError
from raftkv.types import Index, NodeId


def take(engine: SnapshotMends, item: Inbound, violators: list[tuple[NodeId, str]]) -> None:
    """Take one thing that has happened since the last step.

    Args:
        engine: Of this node.
        item: A peer's message, or something that the effects report.
        violators: Gains the sender and the reason of a message that is malformed or
            breaks the protocol; nothing else of that message counts.
    """
    if type(item) is PeerMessage:
        if item.node not in engine.peers:
            return
        try:
            _receive(engine, item.node, messages.decode(item.body))
        except ProtocolError as error:
            violators.append((item.node, str(error)))
        return
    if type(item) is Synced:
        engine.log.note_synced(item.sequence)
        engine.sync_progress_ms = engine.now_ms
        return
    engine.members_changed()
    if type(item) is PeerUp:
        _peer_up(engine, item)
    elif type(item) is PeerDown:
        _peer_down(engine, item.node)
    elif type(item) is DiskSpace:
        engine.disk_full = item.full
    elif type(item) is EntriesRead:
        engine.on_entries_read(item)
    elif type(item) is SnapshotTaken:
        engine.on_snapshot_taken(item.keep_from)
    elif type(item) is SnapshotReceived:
        engine.on_snapshot_received(item.node, item.meta)


def _peer_up(engine: SnapshotMends, item: PeerUp) -> None:
    state = engine.ensure_peer(item.node)
    state.reached = state.reached or item.node in engine.farewells
    if state.hello is None or state.hello.disk_id != item.hello.disk_id:
        engine.match_indexes[state.node] = 0
        state.admitted = False
    state.connected = True
    state.hello = item.hello
    state.admitted = state.admitted or item.hello.admitted
    state.full = False
    match = engine.match_indexes[state.node]
    if item.hello.last_index < match:
        # Its directory went back in time: a power cut took what was written and
        # not synced. Nothing that it acknowledged is taken for granted any more,
        # or it would reject everything from `match` on for ever. What is committed
        # stays committed; all that can fall is what a quorum holds from now on.
        if engine.is_leader:
            regress = Regress(item.node, Index(match), Index(item.hello.last_index))
            engine.regresses.append(regress)
        match = engine.match_indexes[state.node] = 0
    guess = min(item.hello.last_index, engine.log.last_index) + 1
    engine.rewind(state, max(match + 1, guess))


def _peer_down(engine: SnapshotMends, node_id: NodeId) -> None:
    state = engine.peers.get(node_id)
    if state is None:
        return
    state.connected = False
    if node_id == engine.leader_id:
        # What was asked, or answered, may be lost with the link.
        engine.asks_failed = True
    state.wants_snapshot = False
    state.forget_inflight()
    if not state.reached:
        engine.forget_stranger(node_id)


def _receive(engine: SnapshotMends, node_id: NodeId, message: messages.Message) -> None:
    kind = type(message)
    if message.term > engine.term and kind is not messages.VoteRequest:
        # A granted pre-vote names the term that would follow.
        if not (type(message) is messages.VoteReply and message.pre and message.granted):
            engine.adopt_term(message.term)
    if type(message) is messages.Append:
        engine.on_append(node_id, message)
    elif type(message) is messages.AppendReply:
        engine.on_append_reply(node_id, message)
    elif type(message) is messages.Heartbeat:
        engine.on_heartbeat(node_id, message)
    elif type(message) is messages.RoundReply:
        engine.on_round_reply(node_id, message)
    elif type(message) is messages.VoteRequest:
        engine.on_vote_request(node_id, message)
    elif type(message) is messages.VoteReply:
        engine.on_vote_reply(node_id, message)
    elif type(message) is messages.TimeoutNow:
        engine.on_timeout_now(node_id, message)
    elif type(message) is messages.ReadIndexRequest:
        engine.on_read_index_request(node_id, message)
    elif type(message) is messages.ReadIndexReply:
        engine.on_read_index_reply(node_id, message)
    elif type(message) is messages.Freshness:
        engine.on_freshness(node_id, message)
