"""From a data directory to a running core and store.

Owns the order of the start: identity, newest snapshot into a store, WAL, join
the two, core. Everything found is verified before anything is used; damage
stops the node with file and position. A new directory gets an identity of its
own, durable before anything else is written.

Blocking; runs before the node serves anybody. Who calls: node, tests/sim.
Tests: tests/unit/replica/test_recovery.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from raftkv.config import Config
from raftkv.engine.core import EngineSettings, RaftCore, join_log
from raftkv.engine.ready import RecoveredLog, SnapshotRecord
from raftkv.errors import ProtocolError
from raftkv.kv.image_loader import ImageLoader
from raftkv.kv.store import KvStore
from raftkv.replica.agreement import check_not_diverged
from raftkv.seams import Clock, Disk, Observer
from raftkv.storage.damage import damaged
from raftkv.storage.identity import Identity, load_identity, save_identity
from raftkv.storage.snapshots import SnapshotStore, snapshot_name
from raftkv.storage.wal import Wal
from raftkv.types import Configuration, Index, SnapshotMeta, WriteSequence


class RandomSource(Protocol):
    """Names of clusters and disks, jitter of elections."""

    def random(self) -> float:
        """Return a number in [0, 1)."""
        ...

    def getrandbits(self, count: int, /) -> int:
        """Return a number of that many bits."""
        ...


@dataclass(slots=True, kw_only=True)
class Recovered:
    """What a replica starts from; all of it is durable."""

    disk: Disk
    identity: Identity
    snapshots: SnapshotStore
    wal: Wal
    store: KvStore
    core: RaftCore
    snapshot_index: Index


def engine_settings(config: Config) -> EngineSettings:
    """Return the engine's share of the settings."""
    least, most = config.timing.election_timeout_ms
    return EngineSettings(
        heartbeat_ms=config.timing.heartbeat_ms,
        election_timeout_min_ms=least,
        election_timeout_max_ms=most,
        append_bytes_max=config.limits.append_bytes_max,
    )


def recover(
    config: Config,
    disk: Disk,
    *,
    clock: Clock,
    observer: Observer,
    random: RandomSource,
    core_class: type[RaftCore] = RaftCore,
) -> Recovered:
    """Read, verify and join everything in a data directory.

    Args:
        config: Validated settings.
        disk: The directory, locked by this process.
        clock: For the start time.
        observer: Hears what was dropped or created.
        random: For new identifiers and for the engine.
        core_class: Another engine, for tests that undo a mend.

    Raises:
        DamagedDataError: Something that was durable is damaged or missing.
        IdentityRefusedError: The directory belongs to another node.
        DiskFullError, DiskFailedError: The disk cannot be used.
    """
    check_not_diverged(disk)
    identity = _identity(config, disk, random, observer)
    snapshots = SnapshotStore(disk, chunk_bytes=config.limits.snapshot_chunk_bytes)
    newest = snapshots.newest()
    store = KvStore() if newest is None else load_store(disk, snapshots, newest)
    wal, log = Wal.recover(
        disk,
        segment_bytes=config.limits.wal_segment_bytes,
        observer=observer,
        cluster_id=identity.cluster_id,
        disk_id=identity.disk_id,
        must_exist=identity.wal_created,
    )
    if not identity.wal_created:
        identity = replace(identity, wal_created=True)
        save_identity(disk, identity)
    log = _join(disk, wal, log, newest)
    core = core_class(
        node_id=config.node.id,
        disk_id=identity.disk_id,
        configuration=Configuration(
            "", tuple(sorted(config.members, key=lambda member: member.id))
        ),
        recovered=log,
        snapshot=newest,
        admitted=identity.admitted,
        settings=engine_settings(config),
        random=random,
        new_cluster_id=f"{random.getrandbits(128):032x}",
        now_ms=clock.now_ms(),
    )
    observer.event(
        "recovered",
        snapshot_index=newest.index if newest else 0,
        first_index=core.log.base_index + 1,
        last_index=core.log.last_index,
        term=core.term,
    )
    return Recovered(
        disk=disk,
        identity=identity,
        snapshots=snapshots,
        wal=wal,
        store=store,
        core=core,
        snapshot_index=newest.index if newest else Index(0),
    )


def load_store(disk: Disk, snapshots: SnapshotStore, meta: SnapshotMeta) -> KvStore:
    """Load a snapshot and check that it holds what its header says.

    Raises:
        DamagedDataError: A checksum or the digest of the image does not fit.
    """
    loader = ImageLoader()
    reader = snapshots.reader(meta)
    try:
        for piece in reader:
            loader.feed(piece)
        store = loader.finish()
    except ProtocolError as error:
        raise damaged(disk, snapshot_name(meta), 0, f"the image is refused: {error}") from None
    finally:
        reader.close()
    if loader.image_hash != meta.image_hash or store.applied_index != meta.index:
        raise damaged(disk, snapshot_name(meta), 0, "the image does not match its header")
    return store


def _identity(config: Config, disk: Disk, random: RandomSource, observer: Observer) -> Identity:
    identity = load_identity(disk, node_id=config.node.id)
    if identity is not None:
        return identity
    identity = Identity(
        cluster_id="", node_id=config.node.id, disk_id=f"{random.getrandbits(128):032x}"
    )
    save_identity(disk, identity)
    observer.event("directory_created", path=disk.path(""), disk_id=identity.disk_id)
    return identity


def _join(disk: Disk, wal: Wal, log: RecoveredLog, newest: SnapshotMeta | None) -> RecoveredLog:
    """Make log and snapshot meet, and tell the WAL if it has to start again."""
    snapshot_index = newest.index if newest else 0
    if log.base_index > snapshot_index:
        raise damaged(
            disk,
            "snapshots",
            0,
            f"the log starts behind index {log.base_index}, and no snapshot covers it",
        )
    joined, restart = join_log(log, newest)
    if not restart or newest is None:
        return joined
    sequence = WriteSequence(log.sequence + 1)
    wal.append(sequence, [SnapshotRecord(newest.index, newest.term)], newest.index, reserve=True)
    job = wal.sync_job()
    if job is not None:
        job.run()
        wal.finished(job)
    return replace(joined, sequence=sequence)
