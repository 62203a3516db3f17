"""Files that become large, synced while they grow.

Left to the end, their bytes go to the disk all at once, and the syncs of the log, for
which clients wait, queue behind them: 16 MiB of a new segment hold up a sync for 20 ms
where a tenth of that is usual, in steps of one for 5. All steps together take longer
than one sync of all: worth it on a worker, not where the log itself waits.

Users: storage.snapshots, storage.wal_segments. Blocks; to be run on a worker.
"""

from __future__ import annotations

from raftkv.seams import DiskFile

# Limit: what a file that grows leaves to the next sync.
UNSYNCED_BYTES_MAX = 1024 * 1024


class SpreadSyncs:
    """Syncs a file while it is written, so that little is left for the sync at its end."""

    def __init__(self, file: DiskFile) -> None:
        self._file = file
        self._unsynced_bytes = 0

    def note_written(self, size: int) -> None:
        """Sync if enough was written; blocks.

        Raises:
            DiskFailedError: The node must stop.
        """
        self._unsynced_bytes += size
        if self._unsynced_bytes >= UNSYNCED_BYTES_MAX:
            self._unsynced_bytes = 0
            self._file.sync()


def take_space(file: DiskFile, wanted: int) -> None:
    """Make an empty file one of so many bytes, zeros, durably; blocks.

    Raises:
        DiskFullError: There is too little space; the file may have grown.
        DiskFailedError: The node must stop.
    """
    size = 0
    while size < wanted:
        size = min(size + UNSYNCED_BYTES_MAX, wanted)
        file.allocate(size)
        file.sync()
