"""Faults of machines: disks that fail, rot, fill up or hang; clocks; frozen processes.

Works beside the other nemeses, with a generator of times of its own, and undoes what
it did after a while. A disk that rots is lost, like one that is wiped: so no disk rots
unless every other one counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from raftkv.storage.wal_format import (
    SEGMENT_HEADER_SIZE_MAX,
    decode_frame,
    decode_segment_header,
    segment_tag,
)
from tests.sim.cluster import Cluster, SimNode, SimSlot
from tests.sim.disk import PLENTY_BYTES, SimDisk

KINDS = (
    "fail_sync",
    "fail_write",
    "fail_directory_sync",
    "rot",
    "tight_disk",
    "hang_disk",
    "drift_clock",
    "jump_clocks",
    "suspend",
)


class HardwareNemesis:
    """Lets a machine fail now and then."""

    def __init__(self, cluster: Cluster, *, pause_ms: tuple[float, float] = (300, 3000)) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._pause_ms = pause_ms
        self.running = True
        self.fired: Counter[str] = Counter()
        self._actions: list[Callable[[SimNode], bool]] = [
            getattr(self, f"_{kind}") for kind in KINDS
        ]
        self._next()

    def _next(self) -> None:
        self._world.after(self._world.random.uniform(*self._pause_ms), self._act)

    def _act(self) -> None:
        if not self.running:
            return
        dice = self._world.random
        node = self._cluster.nodes[dice.choice(sorted(self._cluster.nodes))]
        number = dice.randrange(len(KINDS))
        if self._actions[number](node):
            self.fired[KINDS[number]] += 1
        self._next()

    def stop(self) -> None:
        """No more faults; every machine works again."""
        self.running = False
        for node in self._cluster.network.nodes.values():
            node.disk.sync_fails = node.disk.write_fails = node.disk.directory_sync_fails = False
            node.disk.space = PLENTY_BYTES
            node.slow_disk = 1.0
            node.paused_until_ms = 0.0
            node.clock.set_rate(1.0)

    def _later(self, within_ms: tuple[float, float], action: Callable[[], None]) -> None:
        self._world.after(self._world.random.uniform(*within_ms), action)

    def _restart_later(self, node: SimNode) -> None:
        """Start a node again, more than once: it may end before its fault came."""
        for within_ms in ((100, 1500), (2000, 3000)):
            self._later(within_ms, lambda: None if node.alive else node.start())

    # --------------------------------------------------------------------- disks

    def _fail_sync(self, node: SimNode) -> bool:
        """The next sync fails: the node must stop, and may be started again."""
        if not node.alive:
            return False
        node.disk.sync_fails = True
        self._restart_later(node)
        return True

    def _fail_write(self, node: SimNode) -> bool:
        if not node.alive:
            return False
        node.disk.write_fails = True
        self._restart_later(node)
        return True

    def _fail_directory_sync(self, node: SimNode) -> bool:
        """The next sync of a directory fails: behind a new segment, or a new snapshot's name.

        Counted when it has happened: names are seldom changed.
        """
        disk = node.disk
        if not node.alive or disk.directory_sync_fails:
            return False
        disk.directory_sync_fails = True
        failures = disk.directory_failures
        if self._world.chance(0.6):
            slot = SimSlot(lambda _results, _failure: None, asked=node)
            node.guarded(lambda: node.replica.take_snapshot(slot))

        def over() -> None:
            disk.directory_sync_fails = False
            self.fired["fail_directory_sync"] += disk.directory_failures - failures
            if not node.alive:
                node.start()

        self._later((300, 3000), over)
        return False

    def _rot(self, node: SimNode) -> bool:
        """A bit of what a sync had covered turns over while the node is down."""
        if not all(
            one.alive and one.replica.status().admitted for one in self._cluster.nodes.values()
        ):
            return False
        node.crash(power_cut=self._world.chance(0.5))
        place = _choose_place(node.disk, self._world.random.random)
        if place is not None:
            node.disk.flip_bit(*place, self._world.random.randrange(8))
            node.disk.rotten = True
        self._restart_later(node)
        return place is not None

    def _tight_disk(self, node: SimNode) -> bool:
        """A little space is left: it runs out somewhere in the middle."""
        node.disk.space = node.disk.used_bytes + self._world.random.randrange(200_000)

        def over() -> None:
            node.disk.space = PLENTY_BYTES

        self._later((300, 3000), over)
        return True

    def _hang_disk(self, node: SimNode) -> bool:
        """A sync takes longer than an election does."""
        node.slow_disk = 400.0

        def over() -> None:
            node.slow_disk = 1.0

        self._later((50, 600), over)
        return True

    # -------------------------------------------------------------------- clocks

    def _drift_clock(self, node: SimNode) -> bool:
        node.clock.set_rate(1.0 + self._world.random.uniform(-0.02, 0.02))
        return True

    def _jump_clocks(self, _: SimNode) -> bool:
        """The wall clocks of all nodes jump a little, each its own way, and once far."""
        dice = self._world.random
        for node in self._cluster.nodes.values():
            node.clock.wall_error_ms += dice.randrange(-400, 400)
        return True

    # ----------------------------------------------------------------- processes

    def _suspend(self, node: SimNode) -> bool:
        """A machine sleeps; its clocks go on, and its timers are late when it wakes."""
        node.paused_until_ms = self._world.now_ms + self._world.random.uniform(300, 6000)
        return node.alive


def _choose_place(disk: SimDisk, random: Callable[[], float]) -> tuple[str, int] | None:
    """Return a file and a position where rot must be noticed."""
    choice = random()
    if choice < 0.1 and disk.exists("identity"):
        return "identity", int(random() * disk.open("identity").size())
    snapshots = [name for name in disk.names("snapshots") if name.endswith(".snapshot")]
    if choice < 0.35 and snapshots:
        name = f"snapshots/{snapshots[-1]}"
        return name, int(random() * disk.open(name).size())
    covered = _covered_by_sync(disk)
    position = int(random() * sum(size for _, size in covered))
    for name, size in covered:
        if position < size:
            return name, position
        position -= size
    return None


def _covered_by_sync(disk: SimDisk) -> list[tuple[str, int]]:
    """Return the segments, each with how much of it some frame says is synced."""
    proof = (0, 0)
    sizes: list[tuple[str, int, int]] = []
    for short in disk.names("wal"):
        name = f"wal/{short}"
        data = disk.open(name).read(0, disk.open(name).size())
        decoded = decode_segment_header(data[:SEGMENT_HEADER_SIZE_MAX])
        if decoded is None:
            continue
        header, position = decoded
        tag = segment_tag(data[:position])
        proof = max(proof, tuple(header.synced))
        while (frame := decode_frame(data, position, len(data), tag)) is not None:
            proof = max(proof, tuple(frame.synced))
            position = frame.end
        sizes.append((name, header.number, position))
    return [
        (name, end if number < proof[0] else proof[1])
        for name, number, end in sizes
        if number <= proof[0]
    ]
