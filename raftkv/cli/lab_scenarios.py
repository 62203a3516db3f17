"""What `raftkv lab` does to its cluster, and what it says about it, one function each.

A scenario hurts, explains, holds, heals. It returns when everything it did is undone;
the run then waits until the cluster is whole. Each says in one line what happens and
in one why the cluster answers as it does, for people who see this for the first time.

Nothing here needs privileges, and nothing reaches beyond the lab's own processes and
links. Users: cli.lab, which lists them, and cli.lab_run, which carries them out.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from raftkv.cli.lab_cluster import LabCluster, LabNode
from raftkv.client.protocol import split_address

_SLOW_S = 0.1
_FLOOD_CONNECTIONS = 200


class Stage(Protocol):
    """What a scenario may use."""

    cluster: LabCluster
    source: random.Random

    def hurt(self, text: str) -> None:
        """Tell what is done to the cluster; the next statement does it."""

    def explain(self, text: str) -> None:
        """Tell why."""

    def heal(self, text: str) -> None:
        """Tell what is mended; the next statement does it."""

    async def hold(self) -> None:
        """Let it hurt for a while."""

    async def hold_until_elected(self) -> None:
        """Let it hurt for a while, and on until somebody leads in a newer term."""

    async def wait_until_whole(self) -> None:
        """Wait until every node follows one leader."""

    def leader(self) -> LabNode:
        """Who leads."""


Perform = Callable[[Stage], Awaitable[None]]


class Scenario(NamedTuple):
    """One entry of the list.

    Attributes:
        name: As on the command line.
        title: What happens, in a few words.
        expect: What to look at.
        perform: Does it.
    """

    name: str
    title: str
    expect: str
    perform: Perform


SCENARIOS: dict[str, Scenario] = {}


def _scenario(title: str, expect: str) -> Callable[[Perform], Perform]:
    """Put a function on the list under its own name."""

    def register(perform: Perform) -> Perform:
        name = getattr(perform, "__name__", "").replace("_", "-")
        SCENARIOS[name] = Scenario(name, title, expect, perform)
        return perform

    return register


@_scenario("kill -9 of the leader", "a new leader, after well under a second without writes")
async def kill_leader(stage: Stage) -> None:
    """End the leader's process and start it again."""
    leader = stage.leader()
    stage.hurt(f"{leader.id}, the leader, is killed: it says goodbye to nobody")
    stage.explain(
        "The others miss its heartbeats (one every 50 ms). Whoever's patience ends first, after "
        "300 to 600 ms, asks for votes, and gets them if its log holds all that was acknowledged."
    )
    leader.kill()
    await stage.hold_until_elected()
    stage.heal(f"{leader.id} is started again: it reads its log and asks the leader for the rest")
    leader.start()


@_scenario("the leader freezes and wakes (SIGSTOP, SIGCONT)",
           "a new leader, and no stale answer from the old one")  # fmt: skip
async def pause_leader(stage: Stage) -> None:
    """Freeze the leader for longer than the others wait."""
    leader = stage.leader()
    stage.hurt(f"{leader.id}, the leader, is frozen: it is alive and does not know")
    stage.explain(
        "As a machine that stalls. Requests wait in its sockets meanwhile. The others cannot tell "
        "slow from dead, and elect; the frozen one still believes that it leads."
    )
    leader.pause()
    await stage.hold_until_elected()
    stage.heal(f"{leader.id} wakes")
    stage.explain(
        "It must not answer from its old state. It sees how long it slept, steps down before "
        "it serves anything, and hears of the newer term."
    )
    leader.resume()


@_scenario("the network splits; the leader is with the smaller part",
           "the larger part elects; nothing that the smaller takes is acknowledged")  # fmt: skip
async def partition(stage: Stage) -> None:
    """Cut the leader, with as many as make no majority, off the others."""
    cluster = stage.cluster
    leader = stage.leader()
    others = stage.source.sample(cluster.followers(), cluster.majority - 2)
    minor = [node.id for node in (leader, *others)]
    major = [node.id for node in cluster.nodes if node.id not in minor]
    stage.hurt(
        f"{_words(minor)} on one side, {_words(major)} on the other: no message passes; "
        "clients reach all"
    )
    stage.explain(
        f"{leader.id} still takes writes, but needs {cluster.majority} of {len(cluster.nodes)} "
        "nodes to have one on disk before it says OK. It steps down when no majority answers. "
        f"{_words(major)} {'is' if len(major) == 1 else 'are'} a majority, and "
        f"elect{'s' if len(major) == 1 else ''}."
    )
    cluster.links.cut(cluster.links.between(minor, major))
    await stage.hold_until_elected()
    stage.heal("the network is whole again")
    stage.explain(
        "Whatever the smaller part wrote down and never acknowledged gives way to the log of the "
        "new leader."
    )
    cluster.links.mend()


@_scenario("the leader hears the others but is not heard",
           "the deaf part elects, and the old leader gives up by itself")  # fmt: skip
async def one_way(stage: Stage) -> None:
    """Cut only what the leader sends."""
    leader = stage.leader()
    stage.hurt(f"nothing that {leader.id}, the leader, sends arrives; it still hears the others")
    stage.explain(
        "Half-broken links are worse than broken ones: a leader could rule for ever over nodes "
        "that it no longer reaches. So it counts who answers it, and steps down without a majority."
    )
    links = stage.cluster.links
    links.cut(one for one in links.of(leader.id) if one[0] == leader.id)
    await stage.hold_until_elected()
    stage.heal("the link is whole again")
    links.mend()


@_scenario("every message between nodes takes 100 ms longer",
           "writes go on, each a round trip slower; nobody needs to be elected")  # fmt: skip
async def slow_links(stage: Stage) -> None:
    """Slow every link."""
    links = stage.cluster.links
    stage.hurt(f"every message between nodes now takes {1000 * _SLOW_S:.0f} ms longer")
    stage.explain(
        "A write waits for one round trip to the fastest majority. Heartbeats are late all alike, "
        "so the followers stay calm: slow is not dead."
    )
    links.slow(links.directions, _SLOW_S)
    await stage.hold()
    stage.heal("the links are fast again")
    links.mend()


@_scenario("kill -9 of a majority", "no writes at all, and none lost, until they are back")
async def kill_majority(stage: Stage) -> None:
    """End a majority, the leader among them."""
    cluster = stage.cluster
    leader = stage.leader()
    victims = [leader, *stage.source.sample(cluster.followers(), cluster.majority - 1)]
    stage.hurt(f"{_words([node.id for node in victims])} are killed, the leader among them")
    stage.explain(
        "Who is left holds every key, but cannot know what the others might have agreed on. "
        "It acknowledges nothing and answers no linearizable read, instead of guessing."
    )
    for node in victims:
        node.kill()
    await stage.hold()
    stage.heal(f"{_words([node.id for node in victims])} are started again")
    for node in victims:
        node.start()


@_scenario("kill -9 of every node at once", "everything acknowledged is still there")
async def kill_all(stage: Stage) -> None:
    """End every process and start all of them again."""
    nodes = stage.cluster.nodes
    stage.hurt("every node is killed at the same moment")
    stage.explain(
        "Each acknowledged write was on the disks of a majority before its OK (fsync). So what "
        "one of them reads back, together they have all of it."
    )
    for node in nodes:
        node.kill()
    stage.heal("every node is started again, with nothing but its disk")
    for node in nodes:
        node.start()
    await stage.hold()


@_scenario("a follower loses its disk", "it is filled again, and votes only when it is let in")
async def wipe_follower(stage: Stage) -> None:
    """Delete the data directory of a follower."""
    follower = stage.source.choice(stage.cluster.followers())
    stage.hurt(f"{follower.id} is killed, its data directory is deleted, and it is started again")
    stage.explain(
        "It has forgotten what it promised and whom it voted for, so it may not vote or be counted "
        "until the cluster has committed that its disk is a new one. Then the leader fills it."
    )
    follower.kill()
    follower.wipe()
    follower.start()
    await stage.hold()


@_scenario("every node is restarted in turn (SIGTERM), as for an upgrade",
           "leadership is handed over; hardly a pause")  # fmt: skip
async def rolling_restart(stage: Stage) -> None:
    """Stop and start every node, the leader last."""
    nodes = [*stage.cluster.followers(), stage.leader()]
    stage.hurt(f"{_words([node.id for node in nodes])} are stopped and started, one by one")
    stage.explain(
        "A node that is asked to stop finishes what it has begun. A leader first hands over to the "
        "follower that has the most, which is elected at once: nobody waits for a timeout."
    )
    for node in nodes:
        await node.stop()
        node.start()
        await stage.wait_until_whole()


@_scenario("strangers open 200 connections and send junk", "clients notice nothing")
async def flood(stage: Stage) -> None:
    """Fill the leader's ports with connections that do not speak its protocols."""
    leader = stage.leader()
    stage.hurt(
        f"{_FLOOD_CONNECTIONS} strangers connect to the ports of {leader.id}, the leader: silent, "
        "or talking junk"
    )
    stage.explain(
        "Connections, sizes and queues have limits. A peer has to prove that it knows the "
        "cluster's secret before a word of it counts, and no input is ever unpickled."
    )
    pieces = (b"", b"*3\r\n$3\r\nSET\r\n$5\r\nhal", b"\x80\x04cos\nsystem\n", bytes(range(256)))
    opened: list[asyncio.StreamWriter] = []
    try:
        for number in range(_FLOOD_CONNECTIONS):
            host, port = split_address(leader.peer if number % 4 == 3 else leader.client)
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(host, port)
                writer.write(stage.source.choice(pieces))
                opened.append(writer)
        await stage.hold()
        stage.heal("the strangers leave")
    finally:
        for writer in opened:
            writer.close()


def _words(names: list[str]) -> str:
    """Return `n1`, `n1 and n2` or `n1, n2 and n3`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
