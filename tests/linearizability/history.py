"""What clients asked of a cluster and what they were told, with times.

A history is a list of operations. An operation spans the closed interval from its
call to its return: two operations that touch in one microsecond are concurrent,
because clocks cannot tell which came first. Three outcomes are possible:

* `ok`: it took effect once, at a moment within its interval, with this result;
* `refused`: it certainly never took effect;
* `unknown`: it took effect once at any moment after its call, or never. The moment
  at which the client gave up limits nothing and is kept for the reader only.

All times of one history come from one clock, in microseconds. Values are JSON's
strings, integers, null and lists (as tuples, which have a hash). The file is JSON
lines: a header, then one operation a line. Nothing here judges.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Union

Value = Union[str, int, None, tuple["Value", ...]]  # noqa: UP007 - `|` cannot hold a name that is to come
FORMAT = 1


class Outcome(StrEnum):
    """What the client knows of the fate of an operation."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class HistoryError(ValueError):
    """A history that cannot be: a file that does not parse, or a result before its call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One request of one client.

    Attributes:
        client: Who asked; one lane of the timeline.
        kind: Name that the model knows, such as `get`.
        keys: Every key that it may read or write.
        arguments: Besides the keys; for a transaction its steps.
        called_us: When the client began to ask.
        returned_us: When it was answered or gave up; None if it never was.
        outcome: See the module.
        result: What it was told; only with the outcome `ok`.
    """

    client: str
    kind: str
    keys: tuple[str, ...]
    arguments: tuple[Value, ...] = ()
    called_us: int
    returned_us: int | None
    outcome: Outcome = Outcome.OK
    result: Value = None

    def __post_init__(self) -> None:
        if not self.keys:
            raise HistoryError(f"{self}: an operation needs a key")
        if self.outcome is Outcome.OK and self.returned_us is None:
            raise HistoryError(f"{self}: what never returned has no result")
        if self.returned_us is not None and self.returned_us < self.called_us:
            raise HistoryError(f"{self}: it returned before it was called")

    def __str__(self) -> str:
        return f"{self.client}: {self.label()}"

    def label(self, *, with_keys: bool = True) -> str:
        """Return the operation as one would say it: `set x 5 → OK`."""
        if self.kind == "transaction":
            words = ["; ".join(_step_text(step) for step in self.arguments)]
        else:
            words = [self.kind, *(self.keys if with_keys else ())]
            words += [value_text(argument) for argument in self.arguments]
        if self.outcome is Outcome.OK:
            words.append(f"→ {value_text(self.result)}")
        else:
            words.append("→ ?" if self.outcome is Outcome.UNKNOWN else "refused")
        return " ".join(words)


def _step_text(step: Value) -> str:
    return " ".join(value_text(word) for word in step) if isinstance(step, tuple) else str(step)


def value_text(value: Value) -> str:
    """Return a value for people; a string that looks like one is not quoted."""
    if isinstance(value, tuple):
        return "[" + ", ".join(value_text(one) for one in value) + "]"
    if value is None:
        return "nil"
    if isinstance(value, str) and (not value or not value.isprintable() or " " in value):
        return json.dumps(value)
    return str(value)


def value_of(reply: Any) -> Value:
    """Return what a client library replied as a value of a history.

    Bytes become the string with the same code points, which keeps different bytes
    different and ASCII readable.
    """
    if isinstance(reply, bytes | bytearray | memoryview):
        return bytes(reply).decode("latin-1")
    if isinstance(reply, list | tuple):
        return tuple(value_of(one) for one in reply)
    if isinstance(reply, bool):
        return int(reply)
    if reply is None or isinstance(reply, str | int):
        return reply
    raise HistoryError(f"{reply!r} is no value of a history")


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Operations in any order, and how to judge them.

    Attributes:
        operations: All of them, the refused ones too.
        model: Name in `models.MODELS`.
        comment: What the history shows.
        early_us: How much sooner than its TTL says, by the clock of the history, a
            key may expire: error of the leaders' clocks, and jumps at elections.
        late_us: How much later: the same, and the time that passes until a batch
            brings the log time forward.
        least_ahead_us: How far the store's clock, by which deadlines are given as
            times, is ahead of the history's at the least; negative if behind.
        most_ahead_us: How far at the most.
        lease_early_us: As `early_us`, for leases.
        lease_late_us: As `late_us`, for leases, whose time stands still between leaders.
    """

    operations: tuple[Operation, ...]
    model: str = "store"
    comment: str = ""
    early_us: int = 0
    late_us: int = 0
    least_ahead_us: int = 0
    most_ahead_us: int = 0
    lease_early_us: int = 0
    lease_late_us: int = 0

    def count(self, outcome: Outcome) -> int:
        """Return how many operations ended so."""
        return sum(operation.outcome is outcome for operation in self.operations)

    def save(self, path: Path) -> None:
        """Write the history as JSON lines."""
        header = {
            "history": FORMAT,
            "model": self.model,
            "comment": self.comment,
            "early_us": self.early_us,
            "late_us": self.late_us,
            "least_ahead_us": self.least_ahead_us,
            "most_ahead_us": self.most_ahead_us,
            "lease_early_us": self.lease_early_us,
            "lease_late_us": self.lease_late_us,
        }
        with path.open("w", encoding="utf-8") as file:
            file.write(json.dumps(header, ensure_ascii=False) + "\n")
            for operation in self.operations:
                file.write(json.dumps(_encode(operation), ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> History:
        """Read what `save` wrote.

        Raises:
            HistoryError: The file is none; the message names the line.
        """
        lines = path.read_text(encoding="utf-8").split("\n")
        number = 1
        try:
            header = json.loads(lines[0])
            if header.pop("history") != FORMAT:
                raise HistoryError(f"the format is not {FORMAT}")
            operations = []
            for line in lines[1:]:
                number += 1
                if line.strip():
                    operations.append(_decode(json.loads(line)))
            return cls(operations=tuple(operations), **header)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise HistoryError(f"{path}:{number}: {error}") from error


def _encode(operation: Operation) -> dict[str, Any]:
    line: dict[str, Any] = {
        "client": operation.client,
        "kind": operation.kind,
        "keys": operation.keys,
        "arguments": operation.arguments,
        "called_us": operation.called_us,
        "returned_us": operation.returned_us,
        "outcome": operation.outcome.value,
    }
    if operation.outcome is Outcome.OK:
        line["result"] = operation.result
    return line


def _decode(line: dict[str, Any]) -> Operation:
    line["keys"] = tuple(line["keys"])
    line["arguments"] = value_of(line.get("arguments", ()))
    line["outcome"] = Outcome(line["outcome"])
    line["result"] = value_of(line.get("result"))
    for name in ("called_us", "returned_us"):
        if not isinstance(line[name], int) and (name, line[name]) != ("returned_us", None):
            raise HistoryError(f"{name} is not an integer")
    return Operation(**line)


@dataclass(slots=True)
class Recorder:
    """Collects a history while clients run.

    A client calls `begin` before it sends and one of the others once it knows. What
    was begun and never ended counts as unknown. One recorder may serve several
    threads: an operation belongs to one client, and `begin` appends in one step.

    Times that are equal count as concurrent. A simulator knows the order of its events
    also within one microsecond; it should hand in times that show it.
    """

    _begun: list[Operation] = field(default_factory=list)
    _ended: dict[int, Operation] = field(default_factory=dict)

    def begin(
        self, client: str, kind: str, keys: Iterable[str], arguments: Iterable[Value], now_us: int
    ) -> Operation:
        """Note a call and return it; hand it to `end`."""
        operation = Operation(
            client=client,
            kind=kind,
            keys=tuple(keys),
            arguments=tuple(arguments),
            called_us=now_us,
            returned_us=None,
            outcome=Outcome.UNKNOWN,
        )
        self._begun.append(operation)
        return operation

    def end(
        self, operation: Operation, outcome: Outcome, now_us: int, result: Value = None
    ) -> None:
        """Note how a call ended; an operation ends once."""
        if id(operation) in self._ended:
            raise HistoryError(f"{operation}: it has ended before")
        self._ended[id(operation)] = Operation(
            client=operation.client,
            kind=operation.kind,
            keys=operation.keys,
            arguments=operation.arguments,
            called_us=operation.called_us,
            returned_us=now_us,
            outcome=outcome,
            result=result if outcome is Outcome.OK else None,
        )

    def operations(self) -> tuple[Operation, ...]:
        """Return everything noted so far, in the order of the calls."""
        return tuple(self._ended.get(id(begun), begun) for begun in list(self._begun))
