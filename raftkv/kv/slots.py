"""The slot of a key in Redis Cluster, 0 to 16383.

One shard owns all slots here; the number only appears in redirects and in the
CLUSTER commands, and must be the one that clients compute. The bucket of a key
in the store ignores hash tags and is another number. Pure.

Source: Redis Cluster specification, "Key distribution model".
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final

SLOT_COUNT: Final = 16384


def key_slot(key: bytes) -> int:
    """Return the slot: CRC16 of the hash tag where there is one, else of the key."""
    first = key.find(b"{")
    if first >= 0:
        last = key.find(b"}", first + 1)
        if last > first + 1:
            key = key[first + 1 : last]
    return crc_hqx(key, 0) & (SLOT_COUNT - 1)
