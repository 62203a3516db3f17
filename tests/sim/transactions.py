"""What simulated clients ask in transactions: MULTI with and without WATCH, KV TXN, IFEQ.

A watch is a value and a modify revision that some client once saw of a key. Values
are never written twice, so a key has the revision that was seen exactly while it
holds the value that was seen: to the checker a watch is a check of the value. That
it may be of long ago, or of before a change of the leader, is what is tried here.

The `Asker` of `tests.sim.commands` has one `TransactionAsker` for its family `watched group`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from raftkv.kv.commands import Command, CompareTarget, Comparison, Opcode, ValueCondition
from tests.linearizability.history import Value
from tests.sim.steps import Step, members_of, plain


class _Seen(NamedTuple):
    value: str | None
    revision: int


class TransactionAsker:
    """Makes up transactions on the keys of a group.

    Args:
        dice: Source of chance.
        new_value: Returns a value that was never written before.
    """

    def __init__(self, dice: random.Random, new_value: Callable[[], str]) -> None:
        self._dice = dice
        self._new_value = new_value
        self._seen: dict[str, dict[str, _Seen]] = {}

    def learn(self, command: Command, result: Any) -> None:
        """Take note of what an observation of keys found."""
        if command[0] != Opcode.EXEC or not isinstance(result, list) or not result:
            return
        if isinstance(result[-1], list):
            *_, last = _commands_of(command)
            for name, value, revision in zip(last[1:], result, result[-1], strict=False):
                key = name.decode()
                group = key.rpartition(":")[0]
                told = None if value is None else value.decode()
                self._seen.setdefault(group, {})[key] = _Seen(told, revision)

    def ask(self, group: str) -> Step:
        """Return the next transaction."""
        makers = (self._observe, self._watched, self._plain_multi, self._compared, self._set_if)
        (maker,) = self._dice.choices(makers, (22, 36, 18, 14, 10))
        return maker(group)

    def _observe(self, group: str) -> Step:
        keys = self._dice.sample(members_of(group), self._dice.choice((1, 2, 3)))
        words = [key.encode() for key in keys]
        inside: list[Command] = [(Opcode.GET, word) for word in words]
        inside.append((Opcode.REVISIONS, *words))
        return Step(
            "transaction",
            tuple(keys),
            tuple(("get", key) for key in keys),
            (Opcode.EXEC, 0, *_counted(inside)),
            lambda reply: plain(reply[:-1]),
        )

    def _watched(self, group: str) -> Step:
        seen = self._seen.get(group)
        if not seen:
            return self._observe(group)
        watched = self._dice.sample(sorted(seen), self._dice.randint(1, min(2, len(seen))))
        pairs = [word for key in watched for word in (key.encode(), seen[key].revision)]
        return self._made(
            group,
            [("check", key, seen[key].value) for key in watched],
            lambda inside: (Opcode.EXEC, len(watched), *pairs, *_counted(inside)),
            plain,
        )

    def _plain_multi(self, group: str) -> Step:
        return self._made(group, [], lambda inside: (Opcode.EXEC, 0, *_counted(inside)), plain)

    def _compared(self, group: str) -> Step:
        known = [(key, one.value) for key, one in self._seen.get(group, {}).items() if one.value]
        if not known:
            return self._plain_multi(group)
        key, value = self._dice.choice(known)
        compare = (key.encode(), CompareTarget.VALUE, Comparison.EQUAL, value.encode())
        return self._made(
            group,
            [("check", key, value)],
            lambda inside: (Opcode.TXN, 1, *compare, *_counted(inside), *_counted([])),
            lambda reply: plain(reply[1]) if reply[0] else None,
        )

    def _set_if(self, group: str) -> Step:
        known = [(key, one.value) for key, one in self._seen.get(group, {}).items() if one.value]
        if not known:
            return self._observe(group)
        key, value = self._dice.choice(known)
        condition = (int(ValueCondition.EQUAL), value.encode())
        if self._dice.random() < 0.3:
            command: Command = (Opcode.DELEX, key.encode(), *condition)
            steps = (("check", key, value), ("del", key))
            return Step(
                "transaction", (key,), steps, command, lambda reply: (1, 1) if reply else None
            )
        new = self._new_value()
        command = (Opcode.SET_IF, *condition, key.encode(), new.encode(), 0, None, None, b"set")
        return Step("cas", (key,), (value, new), command, lambda reply: int(reply is not None))

    def _made(
        self,
        group: str,
        checks: list[tuple[Value, ...]],
        wrap: Callable[[Sequence[Command]], Command],
        convert: Callable[[Any], Any],
    ) -> Step:
        """Make a transaction of some commands behind checks."""
        steps: list[tuple[Value, ...]] = []
        inside: list[Command] = []
        for _ in range(self._dice.choice((1, 2, 2, 3))):
            key = self._dice.choice(members_of(group))
            kind = self._dice.choice(("set", "set", "get", "del"))
            if kind == "set":
                value = self._new_value()
                steps.append(("set", key, value))
                inside.append((Opcode.SET, key.encode(), value.encode()))
            else:
                steps.append((kind, key))
                opcode = Opcode.GET if kind == "get" else Opcode.DEL
                inside.append((opcode, key.encode()))
        keys = dict.fromkeys(str(step[1]) for step in (*checks, *steps))
        passed = (1,) * len(checks)

        def told(reply: Any) -> Any:
            results = convert(reply)
            # Null is an empty list that is none; a transaction here is never empty.
            return (*passed, *results) if results else None

        return Step("transaction", tuple(keys), (*checks, *steps), wrap(inside), told)


def _counted(commands: Sequence[Command]) -> Command:
    words: list[Any] = [len(commands)]
    for command in commands:
        words += (len(command), *command)
    return tuple(words)


def _commands_of(command: Command) -> list[Command]:
    """Return the commands inside an EXEC."""
    position = 2 + 2 * command[1]
    commands = []
    for _ in range(command[position]):
        size = command[position + 1]
        commands.append(command[position + 2 : position + 2 + size])
        position += 1 + size
    return commands
