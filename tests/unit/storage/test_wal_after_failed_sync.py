"""What a failed sync left can be read and is on no disk; recovery must not trust it."""

from __future__ import annotations

import pytest

from raftkv.errors import DiskFailedError
from tests.sim.disk import SimDisk
from tests.sim.world import World
from tests.unit.storage.wal_steps import append_entries, recover, sync


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("count", [3, 60], ids=["one segment", "several segments"])
def test_what_was_recovered_behind_a_failed_sync_survives_a_power_cut(
    seed: int, count: int
) -> None:
    """The pages count as clean, so a sync alone saves nothing of them."""
    disk = SimDisk(World(seed), "n1")
    wal, _ = recover(disk)
    append_entries(wal, 2)
    sync(wal)
    append_entries(wal, count)
    job = wal.sync_job()
    assert job is not None
    disk.sync_fails = True
    with pytest.raises(DiskFailedError, match="fsync failed"):
        job.run()

    disk.crash_process()
    _, log = recover(disk)
    assert disk.is_all_durable("wal")
    disk.cut_power()
    _, again = recover(disk)
    assert again.entries == log.entries
    assert len(log.entries) >= 2
