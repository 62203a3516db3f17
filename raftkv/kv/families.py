"""All types of value and all commands: the one place that knows every family.

To add a type: a module with its `Collection` and its handlers, and its name here.
A test finds what is missing in the image, the codec, or the pages on formats.
Used by `store` and `image_loader`.
"""

from __future__ import annotations

from typing import Final

from raftkv.kv import (
    bits,
    expiry,
    generic,
    hashes,
    lease_commands,
    lists,
    ranges,
    revisions,
    scan,
    sets,
    sorted_algebra,
    sorted_ranges,
    sorted_sets,
    sorting,
    strings,
)
from raftkv.kv.commands import Opcode
from raftkv.kv.scan import SlicedHandler
from raftkv.kv.strings import Handler
from raftkv.kv.values import Collection

# By type code, as in images.
COLLECTIONS: Final[dict[int, type[Collection]]] = {
    family.type_code: family
    for family in (hashes.Hash, lists.List, sets.Set, sorted_sets.SortedSet)
}

HANDLERS: Final[dict[Opcode, Handler]] = {
    **strings.HANDLERS,
    **generic.HANDLERS,
    **expiry.HANDLERS,
    **scan.HANDLERS,
    **hashes.HANDLERS,
    **sets.HANDLERS,
    **lists.HANDLERS,
    **sorted_sets.HANDLERS,
    **sorted_ranges.HANDLERS,
    **sorted_algebra.HANDLERS,
    **bits.HANDLERS,
    **revisions.HANDLERS,
    **sorting.HANDLERS,
    **lease_commands.HANDLERS,
}
SLICED_HANDLERS: Final[dict[Opcode, SlicedHandler]] = {
    **scan.SLICED_HANDLERS,
    **revisions.SLICED_HANDLERS,
    **ranges.SLICED_HANDLERS,
}
