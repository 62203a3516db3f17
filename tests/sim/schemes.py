"""Faults in several steps, each aimed at one weak moment of consensus.

Chance alone seldom brings together what a real bug needs: a follower with a
divergent tail *and* a leader more than one batch ahead, an answer that is late by
two terms, a leader that has just taken office *and* a read. A scheme waits for the
first part and supplies the second; times, nodes and the way it ends are drawn.

A scheme is a generator: it yields how long to wait until its next step, in ms. One
that ends before its first yield found nothing to do and is not counted. What it
holds it releases, whether it comes to its end or is closed before.

Owner: tests.sim.nemesis. What each is for: docs/internals/simulation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from raftkv.replica.compaction import CHECKPOINT_WAIT_MS, RECHECK_MS
from tests.sim.cluster import Cluster, SimNode
from tests.sim.network import Direction

if TYPE_CHECKING:
    from tests.sim.nemesis import Nemesis

Scheme = Iterator[float]
# How closely a scheme watches for its moment, in ms.
WATCH_MS = 0.7


def between(ones: set[str], others: set[str]) -> set[Direction]:
    """Return the directions from some nodes to others."""
    return {(one, other) for one in ones for other in others if one != other}


def around(cluster: Cluster, inside: set[str]) -> set[Direction]:
    """Return all directions between some nodes and the rest."""
    outside = set(cluster.network.nodes) - inside
    return between(inside, outside) | between(outside, inside)


def until(
    nemesis: Nemesis, condition: Callable[[], bool], limit_ms: float, *, patience: float = 1.05
) -> Scheme:
    """Wait for something, and no longer than that, looking ever less often."""
    end_ms = nemesis.world.now_ms + limit_ms
    step_ms = WATCH_MS
    while not condition() and nemesis.world.now_ms < end_ms:
        yield step_ms
        step_ms = min(20.0, step_ms * patience)


def others_of(nemesis: Nemesis, node: SimNode) -> list[str]:
    """Return the names of all others, in an order that the seed chose."""
    names = sorted(name for name in nemesis.cluster.nodes if name != node.name)
    nemesis.world.random.shuffle(names)
    return names


def successor(nemesis: Nemesis, leader: SimNode, term: int) -> Callable[[], bool]:
    """Return the condition that somebody else leads a later term."""

    def has_come() -> bool:
        now = nemesis.cluster.leader()
        return now is not None and now is not leader and now.replica.status().term > term

    return has_come


def crash(nemesis: Nemesis, node: SimNode, back_ms: tuple[float, float] = (50, 1200)) -> None:
    """End a process, sometimes with the power."""
    node.crash(power_cut=nemesis.world.chance(0.5))
    nemesis.restart_later(node, back_ms)


def _greet(nemesis: Nemesis) -> None:
    """Read from whoever leads now, and write through it, as its first clients."""
    leader = nemesis.cluster.leader()
    if leader is not None:
        nemesis.probe(leader, 8, 1.5)
        nemesis.burst(leader, 3)


# ------------------------------------------------------------------ old leaders


def deaf_leader(nemesis: Nemesis) -> Scheme:
    """A leader is heard and hears nothing, then is not heard either, and comes back.

    What it wrote in between is held by others and not known to be committed; what
    it wrote after that is held by nobody else.
    """
    world, cluster = nemesis.world, nemesis.cluster
    leader = cluster.leader()
    if leader is None:
        return
    term = leader.replica.status().term
    others = set(others_of(nemesis, leader))
    holds = [nemesis.hold(between(others, {leader.name}))]
    try:
        nemesis.burst(leader, world.random.randrange(40), world.random.uniform(1, 8))
        yield world.random.uniform(10, 400)
        holds.append(nemesis.hold(between({leader.name}, others)))
        nemesis.burst(leader, world.random.randrange(40), world.random.uniform(1, 8))
        if world.chance(0.5):
            cluster.quiet_until_ms = world.now_ms + 1500
        nemesis.probe(leader, 40, 20)
        yield from until(nemesis, successor(nemesis, leader, term), 1800)
        _greet(nemesis)
        yield world.random.uniform(0, 300)
    finally:
        breaks = world.chance(0.7)
        for hold in holds:
            hold.release(breaks=breaks)


def minority_leader(nemesis: Nemesis) -> Scheme:
    """A leader and too few others write on alone; their answers reach it terms later.

    Meanwhile the rest goes on without them and overwrites what they acknowledged;
    the answers come when the old leader leads again.
    """
    world, cluster = nemesis.world, nemesis.cluster
    leader = cluster.leader()
    if leader is None or len(cluster.nodes) < 4:
        return
    term = leader.replica.status().term
    others = others_of(nemesis, leader)
    friends = set(others[: max(1, (len(cluster.nodes) - 1) // 2)])
    rest = set(others) - friends
    here = {leader.name} | friends
    apart = nemesis.hold(between(here, rest) | between(rest, here))
    late = nemesis.hold(between(friends, {leader.name}))
    cut_off = None
    try:
        nemesis.burst(leader, 5 + world.random.randrange(30), 4)
        yield from until(nemesis, successor(nemesis, leader, term), 2500)
        # Nothing new reaches the friends from it, nor it from them.
        cut_off = nemesis.hold(between({leader.name}, friends))
        apart.release(breaks=world.chance(0.5))
        yield world.random.uniform(300, 1200)
        for _ in range(3):
            now = cluster.leader()
            if now is None or now is leader or not leader.alive:
                break
            nemesis.ask_transfer(now, leader.name)
            yield from until(nemesis, lambda: cluster.leader() is leader, 700)
        nemesis.burst(leader, 40, 1)
        yield world.random.uniform(0, 60)
        late.release()
        yield world.random.uniform(20, 300)
    finally:
        for hold in (apart, late, cut_off):
            if hold is not None:
                hold.release()


def divergent_return(nemesis: Nemesis) -> Scheme:
    """A leader writes alone, others go on without it; it returns far behind and astray.

    While it is put right, its disk is slow and the power goes, or the new leader does.
    """
    world, cluster = nemesis.world, nemesis.cluster
    leader = cluster.leader()
    if leader is None:
        return
    term = leader.replica.status().term
    hold = nemesis.hold(around(cluster, {leader.name}))
    try:
        nemesis.burst(leader, 3 + world.random.randrange(30), world.random.uniform(1, 8))
        nemesis.probe(leader, 30, 20)
        yield from until(nemesis, successor(nemesis, leader, term), 1800)
        _greet(nemesis)
        for _ in range(world.random.randrange(4)):
            now = cluster.leader()
            if now is not None:
                nemesis.burst(now, 5 + world.random.randrange(40), 1)
            if world.chance(0.4) and now is not None:
                nemesis.ask_transfer(now, None)
            yield world.random.uniform(50, 500)
        if world.chance(0.6):
            leader.slow_disk = world.random.choice([5.0, 20.0, 60.0])
    finally:
        hold.release(breaks=world.chance(0.7))
    try:
        yield from _trouble_while_it_catches_up(nemesis, leader)
    finally:
        leader.slow_disk = 1.0


def _trouble_while_it_catches_up(nemesis: Nemesis, node: SimNode) -> Scheme:
    world, cluster = nemesis.world, nemesis.cluster
    if world.chance(0.4):
        # Watch for the turn in which it is put right.
        term = node.replica.status().term
        last = node.replica.status().last_index
        yield from until(
            nemesis,
            lambda: (
                not node.alive
                or (node.replica.status().term > term and node.replica.status().last_index != last)
            ),
            1500,
        )
        yield world.random.uniform(0, 15)
    else:
        yield world.random.uniform(5, 150)
    now = cluster.leader()
    if now is not None and now is not node and world.chance(0.5):
        crash(nemesis, now)
    if world.chance(0.6):
        node.crash(power_cut=True)
        nemesis.restart_later(node, (5, 800))
    yield 300


def short_reigns(nemesis: Nemesis) -> Scheme:
    """Leaders follow each other, and each ends before it has told more than a few."""
    world, cluster = nemesis.world, nemesis.cluster
    held = []
    try:
        for _ in range(world.random.randrange(3, 7)):
            yield from until(nemesis, lambda: cluster.leader() is not None, 2500)
            leader = cluster.leader()
            if leader is None:
                return
            others = others_of(nemesis, leader)
            friends = set(others[: world.random.randrange((len(others) + 1) // 2 + 1)])
            here = {leader.name} | friends
            held.append(nemesis.hold(around(cluster, here)))
            nemesis.burst(leader, world.random.randrange(3), 1)
            yield world.random.uniform(1, 60)
            term = leader.replica.status().term
            if world.chance(0.6):
                crash(nemesis, leader, (300, 2500))
            yield from until(nemesis, successor(nemesis, leader, term), 1500)
            if len(held) > world.random.randrange(1, 4):
                held.pop(0).release(breaks=world.chance(0.5))
    finally:
        for hold in held:
            hold.release(breaks=world.chance(0.5))


def figure_eight(nemesis: Nemesis) -> Scheme:
    """The first leads again, with an entry of its old term; meanwhile another has led.

    Nobody had that entry, and nobody has anything of the term in between but its
    leader, who is away (Raft, figure 8).
    """
    world, cluster = nemesis.world, nemesis.cluster
    first = cluster.leader()
    if first is None:
        return
    term = first.replica.status().term
    holds = [nemesis.hold(around(cluster, {first.name}))]
    try:
        nemesis.burst(first, world.random.randrange(1, 6), 1)
        yield world.random.uniform(8, 30)
        first.crash(power_cut=False)
        yield from until(nemesis, successor(nemesis, first, term), 2500)
        second = cluster.leader()
        if second is None:
            return
        holds.append(nemesis.hold(around(cluster, {second.name})))
        yield world.random.uniform(5, 40)
        if world.chance(0.5):
            second.crash(power_cut=False)
            nemesis.restart_later(second, (500, 3000))
        holds[0].release(breaks=True)
        if not first.alive and first.name in cluster.nodes:
            first.start()
        yield from until(nemesis, lambda: cluster.leader() is first, 2500)
        yield world.random.uniform(0, 100)
    finally:
        for hold in holds:
            hold.release(breaks=True)
        nemesis.restart_later(first, (1, 50))


def crash_after_commit(nemesis: Nemesis) -> Scheme:
    """A leader ends as soon as it has committed, before anybody else knows."""
    world, cluster = nemesis.world, nemesis.cluster
    leader = cluster.leader()
    if leader is None:
        return
    slow = world.chance(0.5)
    for node in cluster.nodes.values():
        node.slow_disk = world.random.choice([1.0, 10.0, 40.0]) if slow else 1.0
    try:
        committed = leader.replica.status().commit_index
        nemesis.burst(leader, 3)
        yield from until(
            nemesis,
            lambda: not leader.alive or leader.replica.status().commit_index > committed,
            300,
        )
        term = leader.replica.status().term
        crash(nemesis, leader, (300, 2000))
        yield from until(nemesis, successor(nemesis, leader, term), 1500)
        _greet(nemesis)
        yield world.random.uniform(50, 300)
    finally:
        for node in cluster.nodes.values():
            node.slow_disk = 1.0


def wakes_alone(nemesis: Nemesis) -> Scheme:
    """A leader sleeps for an election and wakes to what it was told before it slept."""
    world, cluster = nemesis.world, nemesis.cluster
    leader = cluster.leader()
    if leader is None:
        return
    others = set(others_of(nemesis, leader))
    sleep_ms = world.random.uniform(300, 600)
    late = None
    if world.chance(0.5):
        late = nemesis.hold(between(others, {leader.name}))
        yield world.random.uniform(0, 120)
    leader.paused_until_ms = world.now_ms + sleep_ms
    # What clients ask meanwhile waits where it arrives.
    world.after(sleep_ms - 5, lambda: nemesis.probe(leader, 20, 8))
    yield world.random.uniform(4, 30)
    hold = nemesis.hold(around(cluster, {leader.name}))
    try:
        if late is not None:
            yield max(0.0, leader.paused_until_ms - world.now_ms - world.random.uniform(0, 80))
            # What they had answered arrives, and nothing that they say since.
            cluster.network.let_through(sorted(late.ways))
        now = cluster.leader()
        if now is not None and now is not leader:
            nemesis.burst(now, 5)
        yield max(0.0, leader.paused_until_ms - world.now_ms) + world.random.uniform(20, 200)
    finally:
        hold.release(breaks=world.chance(0.5))
        if late is not None:
            late.release()


def forgetful_leader(nemesis: Nemesis) -> Scheme:
    """The leader forgets what it has not synced, and who has it is away.

    One other node follows a leader with a slow disk, the rest hears nothing. Then the
    leader loses power, and comes back to the rest while the follower is down.
    """
    world, cluster = nemesis.world, nemesis.cluster
    leader = cluster.leader()
    if leader is None:
        return
    others = others_of(nemesis, leader)
    keepers, rest = others[: len(others) // 2], others[len(others) // 2 :]
    hold = nemesis.hold(between({leader.name}, set(rest)))
    leader.slow_disk = 1000.0
    try:
        nemesis.burst(leader, 5, 5)
        yield world.random.uniform(50, 250)
        leader.slow_disk = 1.0
        leader.crash(power_cut=True)
        for name in keepers:
            if name in cluster.nodes:
                cluster.nodes[name].crash(power_cut=False)
                nemesis.restart_later(cluster.nodes[name], (1200, 2000))
        nemesis.restart_later(leader, (5, 50))
    finally:
        leader.slow_disk = 1.0
        hold.release()


# -------------------------------------------------------------------- followers


def resend_during_sync(nemesis: Nemesis) -> Scheme:
    """A follower is sent again what its slow disk is still syncing, and loses power."""
    world, cluster = nemesis.world, nemesis.cluster
    leader = cluster.leader()
    if leader is None:
        return
    names = others_of(nemesis, leader)[: world.random.randrange(1, len(cluster.nodes))]
    followers = [cluster.nodes[name] for name in names]
    for node in followers:
        node.slow_disk = world.random.choice([40.0, 150.0])
    try:
        nemesis.burst(leader, 8, 3)
        for _ in range(world.random.randrange(1, 4)):
            yield world.random.uniform(5, 60)
            for name in names:
                cluster.network.disconnect(leader.name, name)
        yield world.random.uniform(5, 120)
        for node in followers:
            node.crash(power_cut=True)
            nemesis.restart_later(node, (20, 1000))
        if world.chance(0.5):
            crash(nemesis, leader)
    finally:
        for node in followers:
            node.slow_disk = 1.0


def crash_storm(nemesis: Nemesis) -> Scheme:
    """For a while everybody ends between any two effects and is started again at once."""
    world, cluster = nemesis.world, nemesis.cluster
    nodes = list(cluster.nodes.values())
    for node in nodes:
        node.crash_probability = world.random.choice([0.0, 0.003, 0.02])
        node.power_cut_on_crash = world.chance(0.5)
        node.slow_disk = world.random.choice([1.0, 5.0, 20.0])
    try:
        for _ in range(world.random.randrange(8, 25)):
            yield world.random.uniform(20, 100)
            for node in nodes:
                if not node.alive and node.name in cluster.nodes and world.chance(0.3):
                    node.start()
    finally:
        for node in nodes:
            node.crash_probability = 0.0
            node.slow_disk = 1.0
            if node.name in cluster.nodes:
                nemesis.restart_later(node, (1, 300))


def interrupted_install(nemesis: Nemesis) -> Scheme:
    """A follower is away until only a snapshot helps; something comes in between."""
    world, cluster = nemesis.world, nemesis.cluster
    leader = cluster.leader()
    if leader is None:
        return
    follower = cluster.nodes[others_of(nemesis, leader)[0]]
    hold = nemesis.hold(around(cluster, {follower.name}))
    try:
        for _ in range(12):
            now = cluster.leader()
            if now is not None:
                last = follower.replica.status().last_index
                if now is not follower and now.replica.status().first_index > last + 1:
                    break
                nemesis.burst(now, 20)
            yield 100
        follower.slow_disk = world.random.choice([1.0, 8.0, 40.0])
    finally:
        hold.release(breaks=world.chance(0.8))
    try:
        begun = cluster.events.get("snapshot_sending", 0)
        yield from until(nemesis, lambda: cluster.events.get("snapshot_sending", 0) > begun, 1500)
        yield world.random.uniform(0, 150) * world.random.random()
        yield from _interruption(nemesis, follower)
    finally:
        follower.slow_disk = 1.0


def _interruption(nemesis: Nemesis, follower: SimNode) -> Scheme:
    world, cluster = nemesis.world, nemesis.cluster
    now = cluster.leader()
    if now is None or now is follower:
        return
    kind = world.random.randrange(5)
    if kind == 0:
        crash(nemesis, follower, (1, 500))
    elif kind == 1:
        crash(nemesis, now)
    elif kind == 2:
        nemesis.ask_transfer(now, None)
    elif kind == 3:
        for _ in range(4):
            cluster.network.disconnect(now.name, follower.name)
            yield world.random.uniform(10, 120)
    else:
        hold = nemesis.hold(around(cluster, {now.name}))
        try:
            yield world.random.uniform(400, 1500)
        finally:
            hold.release(breaks=world.chance(0.5))
    yield 800


def snapshot_in_the_middle(nemesis: Nemesis) -> Scheme:
    """A snapshot ends in the middle of what a returning leader had not committed.

    It writes entries that some have, and then others that nobody has. One who was
    away gets the former piece by piece, takes a snapshot between two pieces and leads
    when the old leader returns, whose log then goes on behind that snapshot, astray.
    """
    world, cluster = nemesis.world, nemesis.cluster
    leader = cluster.leader()
    if leader is None or len(cluster.nodes) < 5:
        return
    term = leader.replica.status().term
    names = others_of(nemesis, leader)
    slow, others = cluster.nodes[names[0]], set(names[1:])
    holds = [
        nemesis.hold(around(cluster, {slow.name})),
        nemesis.hold(between(others, {leader.name})),
    ]
    away = None
    try:
        committed = leader.replica.status().commit_index
        nemesis.burst(leader, world.random.randrange(8, 26), 1)
        yield world.random.uniform(25, 60)
        shared = leader.replica.status().last_index
        away = nemesis.hold(around(cluster, {leader.name}))
        nemesis.burst(leader, 25, 1)
        yield from until(nemesis, successor(nemesis, leader, term), 2500)
        now = cluster.leader()
        if now is None or now is leader or now is slow:
            return
        new = now.replica
        yield from until(nemesis, lambda: new.status().commit_index > shared, 1000)
        # Any other entry might make it take the next snapshot too early.
        cluster.quiet_until_ms = world.now_ms + 6000
        # Piece by piece: what is committed goes with each of them.
        holds[0].release(breaks=True)
        yield from until(
            nemesis,
            lambda: not slow.alive or slow.replica.status().commit_index > committed,
            600,
            patience=1.0,
        )
        holds[0] = nemesis.hold(around(cluster, {slow.name}))
        yield from until(
            nemesis, lambda: not slow.alive or slow.replica.status().applied_index > committed, 300
        )
        if slow.alive and committed < slow.replica.status().applied_index < shared:
            nemesis.ask_snapshot(slow)
            # Longer than it waits for a checkpoint; then it begins where it stands.
            yield CHECKPOINT_WAIT_MS * 1.2
        holds[0].release(breaks=True)
        # It counts once others are known to hold the same.
        yield from until(
            nemesis,
            lambda: not slow.alive or slow.replica.status().snapshot_index > committed,
            2 * RECHECK_MS,
        )
        for _ in range(3):
            now = cluster.leader()
            if now is None or now is slow:
                break
            nemesis.ask_transfer(now, slow.name)
            yield from until(nemesis, lambda: cluster.leader() is slow, 700)
    finally:
        for hold in (*holds, *([away] if away else [])):
            hold.release(breaks=True)
    yield 500


def unheard(nemesis: Nemesis) -> Scheme:
    """One node does not hear the leader, though all else works and clients are quiet."""
    world, cluster = nemesis.world, nemesis.cluster
    leader = cluster.leader()
    if leader is None:
        return
    cluster.quiet_until_ms = world.now_ms + 2500
    yield world.random.uniform(50, 200)
    name = others_of(nemesis, leader)[0]
    ways = {(leader.name, name)} | ({(name, leader.name)} if world.chance(0.5) else set())
    hold = nemesis.hold(ways)
    try:
        yield world.random.uniform(700, 2000)
    finally:
        hold.release(breaks=world.chance(0.5))


# ------------------------------------------------------------------------ leases


def restart_in_lease(nemesis: Nemesis) -> Scheme:
    """All who promised a leader their vote restart, while one stands that has not.

    The leader hears nothing of it and reads on.
    """
    world, cluster = nemesis.world, nemesis.cluster
    leader = cluster.leader()
    if leader is None:
        return
    others = others_of(nemesis, leader)
    rival = cluster.nodes[others[0]]
    # The rival's log has to stay as good as theirs.
    cluster.quiet_until_ms = world.now_ms + 1800
    holds = [nemesis.hold(between({leader.name}, {rival.name}))]
    holds.append(nemesis.hold(between({rival.name}, {leader.name})))
    try:
        # Until it has asked in vain, and is about to ask again.
        yield world.random.uniform(700, 900)
        ahead_ms = world.random.uniform(60, 160)
        yield from until(nemesis, lambda: _stands_within(rival, ahead_ms), 700, patience=1.0)
        if not leader.alive or not leader.replica.is_leader or not rival.alive:
            return
        holds.append(nemesis.hold(around(cluster, {leader.name})))
        for name in others[1:]:
            node = cluster.nodes.get(name)
            if node is not None and node.alive:
                node.crash(power_cut=world.chance(0.5))
                node.start()
        for moment in range(60):
            if rival.alive and rival.replica.is_leader and moment % 4 == 0:
                nemesis.burst(rival, 2, 1)
            nemesis.probe_levels(leader)
            yield 5.0
    finally:
        for hold in holds:
            hold.release(breaks=world.chance(0.5))


def _stands_within(node: SimNode, ahead_ms: float) -> bool:
    """Whether a follower is about to ask for votes."""
    if not node.alive:
        return True
    return node.replica._core.next_deadline_ms() - node.clock.now_ms() < ahead_ms


def unheard_successor(nemesis: Nemesis) -> Scheme:
    """A leader hands over and hears nothing more, least of all that it worked."""
    world, cluster = nemesis.world, nemesis.cluster
    leader = cluster.leader()
    if leader is None:
        return
    others = set(others_of(nemesis, leader))
    term = leader.replica.status().term
    nemesis.ask_transfer(leader, None)
    engine = leader.replica._core._engine
    yield from until(nemesis, lambda: engine.transfer_told_term == term, 200, patience=1.0)
    hold = nemesis.hold(between(others, {leader.name}))
    try:
        for moment in range(80):
            now = cluster.leader()
            if now is not None and now is not leader and moment % 4 == 0:
                nemesis.burst(now, 2, 1)
            nemesis.probe_levels(leader)
            yield 5.0
    finally:
        hold.release(breaks=world.chance(0.5))


def answers_after_the_end(nemesis: Nemesis) -> Scheme:
    """A leader gets the answers to its last rounds when another one is about to lead."""
    world, cluster = nemesis.world, nemesis.cluster
    leader = cluster.leader()
    if leader is None:
        return
    others = set(others_of(nemesis, leader))
    term = leader.replica.status().term
    late = nemesis.hold(between(others, {leader.name}))
    hold = None
    try:
        yield world.random.uniform(60, 140)
        hold = nemesis.hold(around(cluster, {leader.name}))
        yield world.random.uniform(180, 290)
        cluster.network.let_through(sorted(late.ways))
        has_come = successor(nemesis, leader, term)
        for moment in range(90):
            now = cluster.leader()
            if has_come() and now is not None and moment % 4 == 0:
                nemesis.burst(now, 2, 1)
            nemesis.probe_levels(leader)
            yield 4.0
    finally:
        late.release(breaks=world.chance(0.5))
        if hold is not None:
            hold.release(breaks=world.chance(0.5))


def reads_in_a_minority(nemesis: Nemesis) -> Scheme:
    """A leader and too few who follow it read on while the rest elects another one."""
    world, cluster = nemesis.world, nemesis.cluster
    leader = cluster.leader()
    if leader is None or len(cluster.nodes) < 5:
        return
    has_come = successor(nemesis, leader, leader.replica.status().term)
    friend = cluster.nodes[others_of(nemesis, leader)[0]]
    hold = nemesis.hold(around(cluster, {leader.name, friend.name}))
    try:
        for moment in range(150):
            now = cluster.leader()
            if has_come() and now is not None and moment % 4 == 0:
                nemesis.burst(now, 2, 1)
            nemesis.probe_levels(leader)
            nemesis.probe_levels(friend)
            yield 5.0
    finally:
        hold.release(breaks=world.chance(0.5))


SCHEMES: tuple[Callable[[Nemesis], Scheme], ...] = (
    deaf_leader,
    minority_leader,
    divergent_return,
    short_reigns,
    figure_eight,
    crash_after_commit,
    wakes_alone,
    forgetful_leader,
    resend_during_sync,
    crash_storm,
    interrupted_install,
    snapshot_in_the_middle,
    unheard,
    restart_in_lease,
    unheard_successor,
    answers_after_the_end,
    reads_in_a_minority,
)
