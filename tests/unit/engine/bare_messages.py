"""Scenarios of single messages on PySyncObj as it is installed; see `bare_library`.

Every message that is delivered here was sent by a node of the library. What a scenario
chooses is when it arrives, or whether it arrives at all, within what TCP allows.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from typing import Any

from pysyncobj.node import Node

from tests.unit.engine.bare_world import PATIENT, World, led_world, world_that_needs_a_dump

# Three commands or so a batch.
_BATCH = {"appendEntriesBatchSizeBytes": 300}
_PADDING = "x" * 100


def stale_acknowledgement() -> dict[str, Any]:
    """A: E's acknowledgements of term 1 reach A when it leads term 3; only B has its write."""
    world = World("ABCDE", **PATIENT)
    world.elect("A", "ABCDE")
    world.beat("ABCDE")
    world.add("A", 6)
    world.turn("A")
    world.turn("A")
    for message in world.take("A", "E"):
        world.deliver("A", "E", message)
    late = world.take("E", "A")
    world.settle("")
    world.elect("C", "BCD")
    world.beat("ABCD")
    assert world.log("A") == world.log("C")
    world.elect("A", "ABD")
    told = world.add("A")
    world.beat("AB")
    told_before = list(told)
    for message in late:
        world.deliver("E", "A", message)
    world.turn("A")
    precious = world.log("A")[-1]
    holders = [name for name in "ABCDE" if precious in world.log(name)]
    return {"told_before": told_before, "told": told, "holders": holders}


def repeated_batch() -> dict[str, Any]:
    """B: two rejections of one burst send the same entries twice; the second time truncates."""
    world = led_world(**_BATCH)
    world.cut_off("B")
    told = world.add("A", 6, padding=_PADDING)
    world.turn("A")
    world.turn("A")
    # This burst goes down with the connection.
    world.settle("")
    told += world.add("A", 6, padding=_PADDING)
    world.turn("A")
    world.turn("A")
    for message in world.take("A", "C"):
        world.deliver("A", "C", message)
    first, second, *_ = world.take("C", "A")
    world.deliver("C", "A", first)
    world.turn("A")
    burst = world.take("A", "C")
    world.deliver("C", "A", second)
    world.turn("A")
    again = world.take("A", "C")
    for message in burst:
        world.deliver("A", "C", message)
    for message in world.take("C", "A"):
        world.deliver("C", "A", message)
    world.turn("A")
    held = world.last_index("C")
    world.deliver("A", "C", again[0])
    return {
        "committed": world.nodes["A"].raftCommitIndex, "held": held, "left": world.last_index("C"),
    }  # fmt: skip


def snapshot_under_way() -> dict[str, Any]:
    """N1: the first piece of a snapshot commits a tail that nobody else has."""
    world = led_world(logCompactionBatchSize=50)
    world.cut_off("A")
    told = world.add("A", 3)
    world.turn("A")
    world.elect("B", "BC")
    world.add("B", 20)
    world.beat("BC")
    world.nodes["B"].forceLogCompaction()
    world.beat("BC", times=2)
    world.cut_off("")
    world.meet()
    for _ in range(20):
        world.turn("B")
        for message in world.take("B", "A")[:1]:
            world.deliver("B", "A", message)
        for message in world.take("A", "B"):
            world.deliver("A", "B", message)
        world.nodes["A"].doTick()
        if told:
            break
    return {"told": told, "terms": [term for _, term in world.log("A")[-3:]]}


def killed_behind_the_dump() -> dict[str, Any]:
    """N2: a node is killed when its dump is in place and its journal not yet compacted."""
    with tempfile.TemporaryDirectory() as directory:
        files = {"journalFile": f"{directory}/{{}}.journal", "fullDumpFile": f"{directory}/{{}}"}
        world = led_world(**files)
        world.cut_off("C")
        told = world.add("A", 10)
        world.beat("AB")
        world.nodes["B"].forceLogCompaction()
        world.nodes["B"].doTick()
        more = world.add("A", 10)
        for _ in range(3):
            world.turn("A")
            world.settle("AB")
        acknowledged = told.count(0) + more.count(0)
        held = world.last_index("B")
        world.start("B", "ABC")
        found = world.last_index("B")
        world.nodes["B"].doTick()
        return {
            "acknowledged": acknowledged, "held": held, "found": found,
            "left": world.last_index("B"),
        }  # fmt: skip


def two_changes_at_once() -> dict[str, Any]:
    """N3: a leader of three adds two at once and forms a majority with them alone."""
    knowing = {"A": "ABC", "B": "ABC", "C": "ABC"}
    world = World("ABCDE", knowing=knowing, **PATIENT, dynamicMembershipChange=True)
    world.elect("A", "ABC")
    world.beat("ABC")
    for name in "DE":
        world.nodes["A"].addNodeToCluster(Node(name))
    world.nodes["A"].doTick()
    world.meet()
    told = world.add("A")
    world.beat("ADE", times=6)
    world.elect("B", "BC")
    told_elsewhere = world.add("B")
    world.beat("BC", times=6)
    return {"leaders": world.leaders(), "told": told, "told_elsewhere": told_elsewhere}


def rejected_bursts() -> dict[str, Any]:
    """N4: a follower with a divergent tail and several batches behind never catches up."""
    world = led_world(**_BATCH)
    world.cut_off("A")
    world.add("A", 3)
    world.turn("A")
    world.elect("B", "BC")
    world.add("B", 20, padding=_PADDING)
    world.beat("BC")
    world.elect("C", "BC")
    world.beat("BC")
    world.cut_off("")
    world.meet()
    world.beat("ABC", times=300)
    return {"applied": world.nodes["A"].raftLastApplied, "led": world.nodes["C"].raftLastApplied}


def forgotten_members() -> dict[str, Any]:
    """K: of five members two start again, and elect one of them with two votes."""
    with tempfile.TemporaryDirectory() as directory:
        knowing = {"A": "ABC", "B": "ABC", "C": "ABC", "D": "ABCD"}
        world = World(
            "ABCDE", knowing=knowing, **PATIENT,
            dynamicMembershipChange=True, journalFile=f"{directory}/{{}}.journal",
        )  # fmt: skip
        world.elect("C", "ABC")
        world.beat("ABC", times=2)
        # All within the second after which the library would save a commit index.
        for name, names in ("D", "ABCD"), ("E", "ABCDE"):
            world.nodes["C"].addNodeToCluster(Node(name))
            world.nodes["C"].doTick()
            world.meet()
            world.beat(names)
        assert all(len(node.otherNodes) == 4 for node in world.nodes.values())
        for name in "AB":
            world.start(name, "ABC")
        world.meet()
        world.campaign("A")
        for source, target in "AB", "BA":
            (message,) = world.take(source, target)
            world.deliver(source, target, message)
        told = world.add("A")
        world.turn("A")
        world.turn("A")
        world.settle("AB")
        world.turn("A")
        told_elsewhere = world.add("C")
        world.settle("")
        world.beat("CDE", times=6)
        return {"leaders": world.leaders(), "told": told, "told_elsewhere": told_elsewhere}


def raising_command() -> dict[str, Any]:
    """AP: a command that raises stops every node, for ever."""
    world = led_world()
    world.nodes["A"].add("no number")
    told = world.add("A")
    errors = 0
    for _ in range(50):
        world.clock.now_s += 0.11
        for node in world.nodes.values():
            try:
                node.doTick()
            except TypeError:
                errors += 1
        world.settle("ABC")
    return {"told": told, "errors": errors, "totals": [node.total for node in world.nodes.values()]}


def raising_callback() -> dict[str, Any]:
    """AP: where a callback raises, the command is applied again."""
    world = led_world()
    raised: list[Any] = []

    def leave(result: Any, reason: Any) -> None:
        raised.append(result)
        raise ConnectionError("the client has gone")

    world.nodes["A"].add(1, callback=leave)
    for _ in range(4):
        with contextlib.suppress(ConnectionError):
            world.turn("A")
        world.settle("ABC")
        world.turn("BC")
    return {"raised": len(raised), "totals": [node.total for node in world.nodes.values()]}


def repeated_vote() -> dict[str, Any]:
    """V: one vote of five, heard twice, makes a leader."""
    world = World("ABCDE", **PATIENT)
    world.campaign("A")
    (request,) = world.take("A", "B")
    world.deliver("A", "B", request)
    (vote,) = world.take("B", "A")
    world.deliver("B", "A", vote)
    led_before = world.leaders()
    world.deliver("B", "A", vote)
    return {"led_before": led_before, "leaders": world.leaders()}


def late_snapshot() -> dict[str, Any]:
    """SN: a snapshot that comes late takes back what was applied since."""
    world = world_that_needs_a_dump()
    snapshot: list[bytes] = []
    for _ in range(4):
        world.turn("A")
        messages = world.take("A", "C")
        snapshot += [message for message in messages if b"serialized" in message]
        for message in messages:
            world.deliver("A", "C", message)
        world.settle("AC")
    world.add("A", 4)
    world.beat("ABC", times=5)
    follower = world.nodes["C"]
    before = follower.raftLastApplied, follower.total
    for message in snapshot:
        world.deliver("A", "C", message)
    return {"before": before, "after": (follower.raftLastApplied, follower.total)}


SCENARIOS: tuple[Callable[[], dict[str, Any]], ...] = (
    stale_acknowledgement, repeated_batch, snapshot_under_way, killed_behind_the_dump,
    two_changes_at_once, rejected_bursts, forgotten_members, raising_command, raising_callback,
    repeated_vote, late_snapshot,
)  # fmt: skip
