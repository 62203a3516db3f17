"""Several commands as one: EXEC, TXN, and the revisions that they are decided by.

A transaction is one command of a batch with its commands inside, so it is atomic
and isolated because a batch is. Whether it runs is decided here, at apply, by
replicated facts alone; all that it changes gets one revision, and one that
changes nothing takes none. An error that a command inside declares is one of its
results. An unexpected failure undoes the whole, as `store` does with any command.

The layouts in the docstrings are part of the log format; no transaction is inside
another. Called by `store` only. Tests: tests/unit/kv/test_transactions.py.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, Final

from raftkv.errors import CommandError, ProtocolError
from raftkv.kv.commands import (
    GROWING_OPCODES,
    OUT_OF_MEMORY,
    SESSION_OPCODES,
    SLICED_OPCODES,
    AnswerKind,
    Command,
    CompareTarget,
    Comparison,
    ErrorReply,
    Opcode,
)
from raftkv.kv.families import HANDLERS as FAMILIES
from raftkv.kv.keyspace import Entry, Keyspace
from raftkv.kv.strings import Handler, string_of
from raftkv.types import NoList

_COMPARISONS: Final[dict[int, Callable[[Any, Any], bool]]] = {
    Comparison.EQUAL: operator.eq,
    Comparison.NOT_EQUAL: operator.ne,
    Comparison.LESS: operator.lt,
    Comparison.GREATER: operator.gt,
}
# Where in an entry the number is that a compare looks at.
_POSITIONS: Final[dict[int, int]] = {
    CompareTarget.CREATE_REVISION: 2,
    CompareTarget.MODIFY_REVISION: 3,
    CompareTarget.VERSION: 4,
}
_ABORTED: Final = f"EXECABORT Transaction discarded because of: {OUT_OF_MEMORY}"
# Words of one compare: key, target, comparison, operand.
_COMPARE_SIZE: Final = 4
_KNOWN_OPCODES: Final = frozenset(map(int, Opcode))
# Not nested, not the leader's own, and nothing that looks at many keys: thousands of
# them in one entry would hold up every node.
_NEVER_INSIDE: Final = frozenset(
    (
        *(Opcode.EXEC, Opcode.TXN, Opcode.CHECKPOINT, Opcode.COMPACT, Opcode.LIMIT_DATASET),
        *(Opcode.SCAN, *SLICED_OPCODES, *SESSION_OPCODES),
    )
)


def execute(keyspace: Keyspace, command: Command) -> object:
    """(number of watched keys, key, modify revision or 0, ..., commands)

    Commands are their number, then the size of the first, its opcode and arguments, and so on.
    """
    watched_end = 2 + 2 * command[1]
    for position in range(2, watched_end, 2):
        if _modify_revision(keyspace.find(command[position])) != command[position + 1]:
            return NoList()
    commands, _ = _commands_at(command, watched_end)
    return _run(keyspace, commands)


def execute_branch(keyspace: Keyspace, command: Command) -> object:
    """(number of compares, key, CompareTarget, Comparison, operand, ..., commands, commands)

    Commands as in EXEC: first those for when all compares hold, then the others.
    """
    compares_end = 2 + _COMPARE_SIZE * command[1]
    chosen, end = _commands_at(command, compares_end)
    others, _ = _commands_at(command, end)
    holds = all(
        _holds(keyspace, *command[position : position + _COMPARE_SIZE])
        for position in range(2, compares_end, _COMPARE_SIZE)
    )
    results = _run(keyspace, chosen if holds else others)
    return [int(holds), results, keyspace.revision]


def revisions(keyspace: Keyspace, command: Command) -> object:
    """(key, ...)"""
    return [_modify_revision(keyspace.find(key)) for key in command[1:]]


def _modify_revision(entry: Entry | None) -> int:
    return 0 if entry is None else entry[3]


def _commands_at(command: Command, position: int) -> tuple[list[Command], int]:
    """Return the commands that begin at `position`, and the position behind them."""
    commands: list[Command] = []
    position += 1
    for _ in repeat(None, command[position - 1]):
        size = command[position]
        inner = command[position + 1 : position + 1 + size]
        if size < 1 or len(inner) != size:
            raise TypeError("a command inside a transaction is cut off")
        commands.append(inner)
        position += 1 + size
    return commands, position


def _holds(keyspace: Keyspace, key: bytes, target: int, comparison: int, operand: Any) -> bool:
    """Whether one compare holds. A key that is not there has revisions and version 0, no value."""
    entry = keyspace.find(key)
    compare = _COMPARISONS[comparison]
    if target == CompareTarget.VALUE:
        value = string_of(entry)
        return value is not None and compare(value, operand)
    if target == CompareTarget.EXISTS:
        return compare(int(entry is not None), operand)
    position = _POSITIONS[target]
    return compare(0 if entry is None else entry[position], operand)


def _run(keyspace: Keyspace, commands: list[Command]) -> list[object]:
    """Execute commands under one revision for all that they change.

    Raises:
        CommandError: The dataset exceeds its limit, and one of them may make it larger.
    """
    if keyspace.dataset_bytes > keyspace.dataset_bound and any(
        command[0] in GROWING_OPCODES for command in commands
    ):
        raise CommandError(_ABORTED)
    _remove_dead(keyspace, commands)
    revokes = any(command[0] == Opcode.LEASE_REVOKE for command in commands)
    names = frozenset(_names(commands)) if revokes else frozenset()
    before = keyspace.revision
    changed = False
    results: list[object] = []
    for command in commands:
        handler = _INSIDE.get(command[0])
        if handler is None:
            raise _refusal(command[0])
        try:
            results.append(handler(keyspace, command))
        except CommandError as error:
            results.append(ErrorReply(error.message))
        if command[0] == Opcode.LEASE_REVOKE and _remove_revoked(keyspace, command[1], names):
            keyspace.revision = before + 1
        if keyspace.revision != before:
            # Each takes the next revision, and so all of them take the same one.
            keyspace.revision = before
            changed = True
    if changed:
        keyspace.revision = before + 1
    return results


def _remove_dead(keyspace: Keyspace, commands: list[Command]) -> None:
    """Remove due keys first, under revisions of their own, all that the commands name included.

    One for each command beside those, because each may create a deadline: what is
    due must not pile up.
    """
    if commands:
        keyspace.expire_due(len(commands))
    if keyspace.has_due():
        for name in _names(commands):
            keyspace.find_for_write(name)


def _remove_revoked(keyspace: Keyspace, lease_id: int, names: frozenset[bytes]) -> bool:
    """Remove the keys of a lease revoked here that the commands name, as DEL would.

    They have no revision of their own: what comes behind may make them again.

    Args:
        keyspace: Of the store.
        lease_id: Of the lease. One that was over before has none of these keys any more.
        names: What the commands name.

    Returns:
        Whether there were any.
    """
    # Costs what the smaller of the two has: a transaction may revoke thousands.
    lost = keyspace.leases.keys_of(lease_id) & names
    for name in sorted(lost):
        keyspace.remove(name)
    return bool(lost)


def _names(commands: list[Command]) -> Iterator[bytes]:
    """Yield all words of commands which may be keys."""
    for command in commands:
        yield from (word for word in command[1:] if type(word) is bytes)


def _refusal(opcode: object) -> Exception:
    """Return what a command that may not be inside raises, on every node alike."""
    if isinstance(opcode, int) and opcode in _KNOWN_OPCODES:
        return TypeError("a command that no transaction takes")
    return ProtocolError(f"opcode {opcode!r} is not known to this version")


def _answer(_keyspace: Keyspace, command: Command) -> object:
    """(AnswerKind, bytes)"""
    _, kind, text = command
    if kind == AnswerKind.ERROR:
        raise CommandError(text.decode("utf-8", "replace"))
    return text if kind == AnswerKind.BYTES else text.decode("utf-8", "replace")


HANDLERS: Final[dict[Opcode, Handler]] = {
    Opcode.EXEC: execute,
    Opcode.TXN: execute_branch,
    Opcode.REVISIONS: revisions,
    Opcode.ANSWER: _answer,
}

_INSIDE: Final[dict[int, Handler]] = {
    int(opcode): handler
    for opcode, handler in {**FAMILIES, **HANDLERS}.items()
    if opcode not in _NEVER_INSIDE
}
