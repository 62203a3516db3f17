"""Watching clients are judged by every change, also by one that few nodes show to anybody."""

from __future__ import annotations

import pytest

from raftkv.config import Limits
from raftkv.engine.core import RaftCore
from raftkv.engine.messages import Append, Message
from raftkv.kv.commands import Command, Opcode
from raftkv.types import NodeId
from tests.sim.cluster import Cluster, SimNode, SimSlot, Violation
from tests.sim.planted import MUTANTS
from tests.sim.watches import Watchers

# So little that each entry is sent by itself to a node that is behind.
ENTRY_BYTES = 64


def _propose(node: SimNode, command: Command) -> None:
    node.replica.propose([command], SimSlot(lambda *_: None))


def flush_behind_a_change(core_class: type[RaftCore] = RaftCore) -> Watchers:
    """Let one node apply both in one turn, and another one in two, among watching clients."""
    limits = Limits(append_bytes_max=ENTRY_BYTES)
    cluster = Cluster(2, limits=limits, core_class=core_class)
    watchers = Watchers(cluster)
    cluster.start()
    cluster.run_until(lambda: cluster.leader() is not None and cluster.converged())
    leader = cluster.leader()
    assert leader is not None
    quick, late = (node for node in cluster.nodes.values() if node is not leader)
    network, answers, away = cluster.network, (quick.name, leader.name), (leader.name, late.name)

    # One node has both entries, and the leader hears so of both in one turn.
    network.stall([answers, away])
    _propose(leader, (Opcode.SET, b"key", bytes(ENTRY_BYTES)))
    cluster.run(15)
    _propose(leader, (Opcode.FLUSH,))
    cluster.run(15)
    assert leader.replica.history.revision == 0
    leader.paused_until_ms = cluster.world.now_ms + 10
    network.release([answers])
    cluster.run_until(lambda: leader.replica.history.revision == 2)

    # The other one, which had neither, gets the second long after it has applied the first.
    flush_index = leader.replica.status().last_index

    def slow_down(_: SimNode, target: NodeId, message: Message) -> None:
        if target == late.name and type(message) is Append:
            if message.prev_index == flush_index - 1:
                network.slowness[away] = 100.0

    cluster.invariants.message_listeners.append(slow_down)
    network.disconnect(leader.name, late.name)
    network.release([away])
    cluster.run_until(cluster.converged)
    watchers.finish()
    assert network.slowness
    return watchers


def test_a_change_is_noted_although_a_flush_follows_in_the_same_turn() -> None:
    watchers = flush_behind_a_change()
    assert watchers.counts["watch_told"]
    assert watchers.counts["watch_compacted"]


@pytest.mark.parametrize("name", ["watch gap", "watch early"])
def test_clients_that_miss_it_or_hear_of_it_too_early_are_noticed(name: str) -> None:
    with MUTANTS[name].plant() as core_class, pytest.raises(Violation) as caught:
        flush_behind_a_change(core_class)
    assert caught.value.invariant == "watches_tell_everything_once_in_order"
