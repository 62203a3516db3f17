"""What hashes, lists, sets and sorted sets have in common as values of keys.

A value is immutable, as the bytes of a string are: a command makes a new one that
shares nearly everything with the old. So an undo, a frozen view, a copy under
another name and a former revision cost nothing but the reference.

Owns the interface which `generic`, `keyspace`, `image` and `image_loader` work
with, so that none of them has to know a type; one module a type derives from it.
Pure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Final, TypeAlias

from raftkv.errors import CommandError
from raftkv.kv import tries
from raftkv.kv.commands import Command
from raftkv.kv.keyspace import Entry, Keyspace
from raftkv.kv.patterns import compile_pattern

WRONG_TYPE: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"
TOO_MUCH_ASKED: Final = "ERR elements asked for in one pipeline exceed 64 MiB"

# Limit: what the elements in the results of one batch or run of reads may take,
# besides one result of any size.
RESULT_BYTES_MAX: Final = 64 * 1024 * 1024
# What an element counts for there: its place in a list and in the reply.
_RESULT_ELEMENT_BYTES: Final = 32

# Limit: elements on one page of a scan, to the end of those with one hash.
SCAN_ELEMENTS_MAX: Final = 10_000

# Limit: items and bytes which one part of a collection has in an image.
PART_ELEMENTS: Final = 1024
PART_BYTES: Final = 256 * 1024

# Up to these sizes Redis keeps a collection in one piece, by default.
# Source: redis.conf of Redis 7, "ADVANCED CONFIG".
LISTPACK_ENTRIES_MAX: Final = 128
LISTPACK_BYTES_MAX: Final = 64

Part: TypeAlias = list[Any]


class Collection(ABC):
    """A value that has elements; never empty in the store.

    Attributes:
        content_bytes: Bytes of all elements.
        root: The elements, as the type keeps them.
    """

    __slots__ = ("content_bytes", "root")

    # As TYPE answers.
    type_name: ClassVar[str]
    # In images.
    type_code: ClassVar[int]
    # Items that make one element in `elements`.
    width: ClassVar[int]
    # Estimated bytes of memory for an element besides its own.
    overhead_bytes: ClassVar[int]

    def __init__(self, root: Any, content_bytes: int) -> None:
        self.root = root
        self.content_bytes = content_bytes

    @classmethod
    @abstractmethod
    def empty(cls) -> Collection:
        """Return the value to which an image adds parts."""
        ...

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of elements."""
        ...

    @property
    @abstractmethod
    def encoding(self) -> bytes:
        """What Redis would call the way of keeping it."""
        ...

    @abstractmethod
    def elements(self) -> Iterator[Part]:
        """Yield the items that an image keeps, in order, as lists of a few hundred elements."""
        ...

    @abstractmethod
    def extended(self, part: Part) -> Collection:
        """Return the value with a part of an image added; uses the value up.

        Raises:
            ValueError, TypeError: The part cannot be of this type.
        """
        ...

    def roots(self) -> tuple[object, ...]:
        """Return the trees it is made of, for freeing them piece by piece.

        What has `children` is a branch of a tree, anything else is a leaf.
        """
        return (self.root,)


def parts_of(value: Collection) -> Iterator[tuple[Part, int]]:
    """Cut a value into parts that fit the pieces of an image; nearly always one.

    Where the cuts are depends on the elements only.

    Yields:
        Each part and the bytes of its elements.
    """
    width = value.width
    if value.size * width <= PART_ELEMENTS and value.content_bytes <= PART_BYTES:
        yield [item for items in value.elements() for item in items], value.content_bytes
        return
    part: Part = []
    part_bytes = 0
    for items in value.elements():
        for position in range(0, len(items), width):
            element = items[position : position + width]
            element_bytes = sum(len(item) for item in element if type(item) is bytes)
            if part and (len(part) >= PART_ELEMENTS or part_bytes + element_bytes > PART_BYTES):
                yield part, part_bytes
                part, part_bytes = [], 0
            part += element
            part_bytes += element_bytes
    yield part, part_bytes


def charge(keyspace: Keyspace, elements: int, content_bytes: int = 0) -> None:
    """Count elements that go into a result.

    Raises:
        CommandError: Those of one batch, or run of reads, are too many.
    """
    copied = keyspace.copied_bytes
    keyspace.copied_bytes = asked = copied + elements * _RESULT_ELEMENT_BYTES + content_bytes
    if copied and asked > RESULT_BYTES_MAX:
        raise CommandError(TOO_MUCH_ASKED)


def change(
    keyspace: Keyspace,
    key: bytes,
    entry: Entry | None,
    value: Collection,
    revision: int | None = None,
) -> None:
    """Put `value` instead of the one in `entry`, or remove the key when it is empty.

    Args:
        keyspace: Gets the change under a new revision.
        key: A live key, or none.
        entry: What `find_for_write` returned for it.
        value: Shares its parts with the value before.
        revision: That of an earlier change of the same command, if there is one.
    """
    if revision is None:
        revision = keyspace.revision + 1
    if value.size:
        keyspace.put(key, value, 0 if entry is None else entry[1], revision, shares=True)
    elif entry is not None:
        keyspace.remove(key)
    else:
        return
    keyspace.revision = revision


def store_result(keyspace: Keyspace, target: bytes, value: Collection) -> int:
    """Put a computed value at a key instead of whatever is there; remove that if it is empty.

    Returns:
        Number of elements.
    """
    entry = keyspace.find_for_write(target)
    revision = keyspace.revision + 1
    if value.size:
        keyspace.release(target)
        keyspace.put(target, value, 0, revision)
    elif entry is not None:
        keyspace.remove(target)
    else:
        return 0
    keyspace.revision = revision
    return value.size


def positions_of(first: int, last: int, size: int) -> tuple[int, int]:
    """Turn an inclusive range, counted from the end where negative, into slice bounds.

    Returns:
        First position and the one behind the last; equal when nothing is inside.
    """
    if first < 0:
        first = max(first + size, 0)
    if last < 0:
        last += size
    end = min(last + 1, size)
    return (first, end) if first < end else (0, 0)


def scan_page(root: tries.Node, command: Command) -> tuple[bytes, list[bytes]]:
    """Carry out HSCAN, SSCAN or ZSCAN on a map.

    Args:
        root: The map; empty where there is no key.
        command: As the docstring of the handler says.

    Returns:
        The next cursor and the keys of the map on this page.

    Raises:
        CommandError: The options or the pattern are wrong.
    """
    _, _, cursor, pattern, count, error_text = command
    if not tries.size_of(root):
        return b"0", []
    if error_text is not None:
        raise CommandError(error_text.decode())
    matches = None if pattern is None else compile_pattern(pattern)
    cursor, keys = tries.page(root, cursor, min(count, SCAN_ELEMENTS_MAX))
    if matches is not None:
        keys = [key for key in keys if matches(key)]
    return b"%d" % cursor, keys
