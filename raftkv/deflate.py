"""zlib's format and checksum, at the speed of ISA-L.

Snapshots are compressed and frames are checked by the functions in here. Where
the package isal is there, they are Intel's: the same format, about eight times as
fast as zlib at its fastest level, and twelve times for a checksum of 48 kB. It has
no wheel for every machine, and zlib reads and writes the same, so one node may have
the one and its peer the other.

Equal bytes need not compress to equal bytes, from one to the other or from one processor
to the next: nothing may compare compressed bytes between nodes.

Pure. Users: framing, storage.snapshot_format.
"""

from __future__ import annotations

try:
    from isal.isal_zlib import compress, crc32, decompressobj, error
except ImportError:  # no wheel for this machine
    from zlib import compress, crc32, decompressobj, error  # type: ignore[assignment]

__all__ = ["compress", "crc32", "decompressobj", "error"]
