"""Fuzz target for the Raft core: well-formed messages at the wrong moment, and others.

The sender is a member, so what it says may break Raft's promises; then the core
stops by name (`SafetyViolationError`). Anything else it must take or report.
"""

from __future__ import annotations

import contextlib

from raftkv.engine import messages
from raftkv.engine.configuration import encode_configuration
from raftkv.engine.ready import KIND_COMMANDS, KIND_CONFIGURATION, KIND_NOOP, PeerMessage
from raftkv.engine.syncobj_state import SafetyViolationError
from raftkv.types import NodeId
from tests.fuzz.target import Script, Target, some
from tests.unit.engine.harness import Cluster, named

# What a turn of the script does, besides delivering a message of B or C.
_READ, _PASS_TIME, _SETTLE, _PROPOSE = 251, 252, 253, 254


def run_core(data: bytes) -> None:
    """Any messages to a leader or a follower: taken, reported, or a stop by name."""
    script = Script(data)
    subject = "A" if script.number() & 1 else "B"
    others = [name for name in "ABC" if name != subject]
    cluster = Cluster.led_by_first("ABC")
    core = cluster[subject].core
    with contextlib.suppress(SafetyViolationError):
        while script:
            term, commit = core.term, core.commit_index
            action = script.number()
            if action == _PASS_TIME:
                cluster.advance(script.number(2))
                cluster.step(subject)
            elif action == _SETTLE:
                cluster.step(subject)
                cluster.sync(subject)
            elif action == _PROPOSE:
                cluster.propose(subject, b"command")
            elif action == _READ:
                # A leader begins a round, a follower asks its leader and has a ticket.
                cluster.step(subject, reads=True, asks=True)
            else:
                sender = NodeId(others[action & 1])
                cluster.step(subject, [PeerMessage(sender, script.some())])
            assert core.term >= term
            assert core.log.last_index >= core.commit_index >= commit


def core_messages() -> list[messages.Message]:
    """Return at least one message of each type."""
    configuration = bytes((KIND_CONFIGURATION,)) + encode_configuration(named("ABC"))
    entries = [(2, bytes((KIND_NOOP,))), (2, bytes((KIND_COMMANDS,)) + b"x"), (2, configuration)]
    return [
        messages.Append(2, 9, 2, 2, 1, True, entries),
        messages.Append(2, 10, 5, 5, 2, False, []),
        messages.Append(1, 10, 2, 1, 1, False, [(1, bytes((KIND_COMMANDS,)) + b"y")]),
        messages.Heartbeat(1, 9),
        messages.AppendReply(1, 3, True, 2, False),
        messages.AppendReply(1, 3, False, 1, True),
        messages.RoundReply(1, 3),
        messages.VoteRequest(2, 9, 1, True, False),
        messages.VoteRequest(2, 9, 1, False, True),
        messages.VoteReply(2, True, False, 1 << 41),
        messages.ReadIndexRequest(1, 1),
        messages.ReadIndexReply(1, 1, 2),
        messages.ReadIndexReply(1, 1, 0),
        messages.Freshness(1, 2, 2),
        messages.TimeoutNow(1),
    ]


def core_seeds() -> list[bytes]:
    bodies = [messages.encode(message) for message in core_messages()]
    between = bytes((_PASS_TIME, 50, 0, _SETTLE, _PROPOSE, _READ))
    return [
        bytes((subject,)) + b"".join(b"\0" + some(body) + behind for body in bodies[first:])
        for subject in (0, 1)
        for behind in (b"", between)
        for first in (0, 3, 7, 11)
    ]


TARGETS = {"raft-core": Target(run_core, core_seeds)}
