"""The one way to say that durable data changed or is missing.

Owns the advice printed with every damage, so that the operator reads the same
words whichever file is concerned. Holds no state.

The advice leans on the cluster: a node with an empty directory is refilled by
the others and does not vote before a committed configuration names its new
disk, so deleting is safe while a majority of the other nodes is healthy, and
only then.

Who calls: `storage.wal*`, `storage.snapshot*`, `storage.identity`.
"""

from __future__ import annotations

from raftkv.errors import DamagedDataError
from raftkv.seams import Disk


def repair_advice(directory: str) -> str:
    """Return what an operator can do about damaged data in `directory`."""
    return (
        "This node must not run with this data. Leave it stopped, keep a copy of "
        f"{directory} if you want to examine it, then delete the directory and start the node "
        "again: the cluster refills it. Do this only while a majority of the other nodes is "
        "healthy, and for one node at a time; otherwise restore this directory from a copy or "
        "a backup."
    )


def upgrade_advice() -> str:
    """Return what an operator can do about data of a later version."""
    return (
        "A later version of raftkv wrote this file. Start the node with that version or a "
        "later one; the data is not damaged."
    )


def damaged(disk: Disk, name: str, position: int, detail: str) -> DamagedDataError:
    """Build the error for a damaged or missing file.

    Args:
        disk: The data directory.
        name: Name of the file in it.
        position: Byte position of the first frame or field that cannot be trusted.
        detail: What is wrong there, as a phrase.
    """
    return DamagedDataError(disk.path(name), position, detail, repair_advice(disk.path("")))


def too_new(disk: Disk, name: str, *, version: int, supported: int) -> DamagedDataError:
    """Build the error for a file whose format version this code does not know."""
    return DamagedDataError(
        disk.path(name),
        0,
        f"format version {version}; this raftkv reads up to {supported}",
        upgrade_advice(),
    )
