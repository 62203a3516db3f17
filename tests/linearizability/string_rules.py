"""What a correct store would answer about strings, deadlines and keys of any type.

See `models` for the table of kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.linearizability.cells import (
    Cell,
    Effect,
    ImpossibleError,
    Kind,
    Window,
    added_halves,
    number_of,
)
from tests.linearizability.history import Value

NO_SUCH_KEY = "ERR no such key"


def _text(cell: Cell | None) -> str | None:
    if cell is None:
        return None
    if not isinstance(cell.value, str):
        raise ImpossibleError
    return cell.value


def string_of(cell: Cell | None) -> str:
    """Return the string of a key, empty where there is no key."""
    return _text(cell) or ""


def _write(arguments: Sequence[Value], window: Window) -> Cell:
    value = str(arguments[0])
    if len(arguments) > 1 and arguments[1] is not None:
        return window.deadline(value, number_of(arguments[1]))
    return Cell(value)


def _get(cell: Cell | None, _: Sequence[Value], __: Window) -> Effect:
    return cell, _text(cell)


def _set(_: Cell | None, arguments: Sequence[Value], window: Window) -> Effect:
    return _write(arguments, window), "OK"


def _setnx(cell: Cell | None, arguments: Sequence[Value], window: Window) -> Effect:
    return (_write(arguments, window), 1) if cell is None else (cell, 0)


def _setxx(cell: Cell | None, arguments: Sequence[Value], window: Window) -> Effect:
    return (None, 0) if cell is None else (_write(arguments, window), 1)


def _getset(cell: Cell | None, arguments: Sequence[Value], window: Window) -> Effect:
    return _write(arguments, window), _text(cell)


def _setkeep(cell: Cell | None, arguments: Sequence[Value], _: Window) -> Effect:
    return (cell or Cell(""))._replace(value=str(arguments[0])), "OK"


def _setnxget(cell: Cell | None, arguments: Sequence[Value], window: Window) -> Effect:
    return (_write(arguments, window) if cell is None else cell), _text(cell)


def _getex(cell: Cell | None, arguments: Sequence[Value], window: Window) -> Effect:
    if cell is None or not arguments:
        return cell, _text(cell)
    return _write((string_of(cell), *arguments), window), string_of(cell)


def _flush(_: Cell | None, __: Sequence[Value], ___: Window) -> Effect:
    return None, "OK"


def _getdel(cell: Cell | None, _: Sequence[Value], __: Window) -> Effect:
    return None, _text(cell)


def _del(cell: Cell | None, _: Sequence[Value], __: Window) -> Effect:
    return None, int(cell is not None)


def _exists(cell: Cell | None, _: Sequence[Value], __: Window) -> Effect:
    return cell, int(cell is not None)


def _cas(cell: Cell | None, arguments: Sequence[Value], window: Window) -> Effect:
    if not _is_as_expected(cell, arguments[0]):
        return cell, 0
    return _write(arguments[1:2], window), 1


def _is_as_expected(cell: Cell | None, expected: Value) -> bool:
    return _text(cell) == (None if expected is None else str(expected))


def _incrby(cell: Cell | None, arguments: Sequence[Value], _: Window) -> Effect:
    number = number_of(_text(cell) or 0) + number_of(arguments[0])
    return (cell or Cell(""))._replace(value=str(number)), number


def _incrbyfloat(cell: Cell | None, arguments: Sequence[Value], _: Window) -> Effect:
    text = added_halves(_text(cell) or "0", str(arguments[0]))
    return (cell or Cell(""))._replace(value=text), text


def _setrange(cell: Cell | None, arguments: Sequence[Value], _: Window) -> Effect:
    position, piece = number_of(arguments[0]), str(arguments[1])
    before, behind = string_of(cell)[:position], string_of(cell)[position + len(piece) :]
    value = before.ljust(position, "\0") + piece + behind
    return (cell or Cell(""))._replace(value=value), len(value)


def _getrange(cell: Cell | None, arguments: Sequence[Value], _: Window) -> Effect:
    first, last = number_of(arguments[0]), number_of(arguments[1])
    return cell, string_of(cell)[first : last + 1]


def _append(cell: Cell | None, arguments: Sequence[Value], _: Window) -> Effect:
    value = string_of(cell) + str(arguments[0])
    return (cell or Cell(""))._replace(value=value), len(value)


def _strlen(cell: Cell | None, _: Sequence[Value], __: Window) -> Effect:
    return cell, len(string_of(cell))


def _pexpire(cell: Cell | None, arguments: Sequence[Value], window: Window) -> Effect:
    if cell is None:
        return None, 0
    ttl_ms = number_of(arguments[0])
    return (window.deadline(cell.value, ttl_ms) if ttl_ms > 0 else None), 1


def _pexpirenx(cell: Cell | None, arguments: Sequence[Value], window: Window) -> Effect:
    has_deadline = cell is not None and cell.has_deadline
    return (cell, 0) if has_deadline else _pexpire(cell, arguments, window)


def _pexpirexx(cell: Cell | None, arguments: Sequence[Value], window: Window) -> Effect:
    has_deadline = cell is not None and cell.has_deadline
    return _pexpire(cell, arguments, window) if has_deadline else (cell, 0)


def _pexpire_if_later(
    cell: Cell | None, arguments: Sequence[Value], window: Window
) -> list[Effect]:
    return _pexpire_if(cell, arguments, window, later=True)


def _pexpire_if_earlier(
    cell: Cell | None, arguments: Sequence[Value], window: Window
) -> list[Effect]:
    return _pexpire_if(cell, arguments, window, later=False)


def _pexpire_if(
    cell: Cell | None, arguments: Sequence[Value], window: Window, *, later: bool
) -> list[Effect]:
    """Compare two deadlines, each of which lies in a range: both results may be possible."""
    if cell is None or (later and not cell.has_deadline):
        return [(cell, 0)]
    set_, _ = _pexpire(cell, arguments, window)
    if set_ is None or not cell.has_deadline:
        return [(set_, 1)]
    effects: list[Effect] = []
    new, old = (set_, cell) if later else (cell, set_)
    if new.last_deadline_us > old.first_deadline_us:
        effects.append((set_, 1))
    if new.first_deadline_us <= old.last_deadline_us:
        effects.append((cell, 0))
    return effects


def _pexpireat(cell: Cell | None, arguments: Sequence[Value], window: Window) -> Effect:
    if cell is None:
        return None, 0
    return window.until(cell.value, number_of(arguments[0])), 1


def _setat(_: Cell | None, arguments: Sequence[Value], window: Window) -> Effect:
    return window.until(str(arguments[0]), number_of(arguments[1])), "OK"


def _getexat(cell: Cell | None, arguments: Sequence[Value], window: Window) -> Effect:
    if cell is None:
        return None, None
    return window.until(string_of(cell), number_of(arguments[0])), string_of(cell)


def _persist(cell: Cell | None, _: Sequence[Value], __: Window) -> Effect:
    if cell is None or not cell.has_deadline:
        return cell, 0
    return Cell(cell.value), 1


def _pttl(cell: Cell | None, _: Sequence[Value], window: Window) -> Effect:
    return cell, _time_left_ms(cell, window)


def _ttl(cell: Cell | None, _: Sequence[Value], window: Window) -> Effect:
    left_ms = _time_left_ms(cell, window)
    if isinstance(left_ms, int):
        return cell, left_ms
    return cell, range(_nearest_s(left_ms.start), _nearest_s(left_ms.stop - 1) + 1)


def _time_left_ms(cell: Cell | None, window: Window) -> int | range:
    if cell is None:
        return -2
    if not cell.has_deadline:
        return -1
    least_us = cell.first_deadline_us - window.last_us
    most_us = cell.last_deadline_us - window.first_us
    return range(max(0, least_us // 1000), max(0, most_us // 1000 + 1) + 1)


def _pexpire_same(cell: Cell | None, arguments: Sequence[Value], window: Window) -> Effect:
    """Change the time to live of a key that holds a string."""
    compared, ttl_ms, extension = arguments
    assert isinstance(ttl_ms, int)
    if cell is None or string_of(cell) != compared or (extension and not cell.has_deadline):
        return cell, 0
    if extension == 2:
        later_us = ttl_ms * 1000
        first_us, last_us = cell.first_deadline_us + later_us, cell.last_deadline_us + later_us
        return Cell(cell.value, first_us, last_us), 1
    return window.deadline(cell.value, ttl_ms), 1


def _pexpiretime(cell: Cell | None, _: Sequence[Value], window: Window) -> Effect:
    return cell, _deadline_ms(cell, window)


def _expiretime(cell: Cell | None, _: Sequence[Value], window: Window) -> Effect:
    deadline_ms = _deadline_ms(cell, window)
    if isinstance(deadline_ms, int):
        return cell, deadline_ms
    return cell, range(_nearest_s(deadline_ms.start), _nearest_s(deadline_ms.stop - 1) + 1)


def _deadline_ms(cell: Cell | None, window: Window) -> int | range:
    """Return what the store calls the deadline, whose clock may be wrong by as much as expiry."""
    if cell is None:
        return -2
    if not cell.has_deadline:
        return -1
    error_us = window.early_us + window.late_us
    first_us = cell.first_deadline_us + window.least_ahead_us - error_us
    last_us = cell.last_deadline_us + window.most_ahead_us + error_us
    return range(first_us // 1000, last_us // 1000 + 2)


def _nearest_s(milliseconds: int) -> int:
    return (milliseconds + 500) // 1000


def _rename(cells: dict[str, Cell], source: str, arguments: Sequence[Any]) -> Value:
    """Give the value to another key: the deadline goes along."""
    cell = cells.pop(source, None)
    if cell is None:
        return NO_SUCH_KEY
    cells[str(arguments[0])] = cell
    return "OK"


def _renamenx(cells: dict[str, Cell], source: str, arguments: Sequence[Any]) -> Value:
    if source in cells and arguments[0] in cells:
        return 0
    result = _rename(cells, source, arguments)
    return 1 if result == "OK" else result


def _copy(cells: dict[str, Cell], source: str, arguments: Sequence[Any]) -> Value:
    target, replace = arguments
    if source not in cells or (target in cells and not replace):
        return 0
    cells[target] = cells[source]
    return 1


def _delall(cells: dict[str, Cell], _: str, arguments: Sequence[Any]) -> Value:
    return sum(cells.pop(key, None) is not None for key in arguments[0])


def _existsall(cells: dict[str, Cell], _: str, arguments: Sequence[Any]) -> Value:
    return sum(key in cells for key in arguments[0])


def _check(cell: Cell | None, arguments: Sequence[Value], _: Window) -> Effect:
    return cell, int(_is_as_expected(cell, arguments[0]))


STRING_KINDS: dict[str, Kind] = {
    "get": Kind(_get, idle_results=None),
    "set": Kind(_set, 1, 2),
    "setnx": Kind(_setnx, 1, 2, (0,)),
    "setxx": Kind(_setxx, 1, 2, (0,)),
    "setkeep": Kind(_setkeep, 1, 1),
    "getset": Kind(_getset, 1, 2),
    "setnxget": Kind(_setnxget, 1, 1),
    "getex": Kind(_getex, 0, 1, (None,)),
    "getdel": Kind(_getdel, idle_results=(None,)),
    "del": Kind(_del, idle_results=(0,)),
    "exists": Kind(_exists, idle_results=None),
    "cas": Kind(_cas, 2, 2, (0,)),
    "incrby": Kind(_incrby, 1, 1),
    "incrbyfloat": Kind(_incrbyfloat, 1, 1),
    "append": Kind(_append, 1, 1),
    "setrange": Kind(_setrange, 2, 2),
    "getrange": Kind(_getrange, 2, 2, None),
    "strlen": Kind(_strlen, idle_results=None),
    "pexpire": Kind(_pexpire, 1, 1, (0,)),
    "pexpirenx": Kind(_pexpirenx, 1, 1, (0,)),
    "pexpirexx": Kind(_pexpirexx, 1, 1, (0,)),
    "pexpireat": Kind(_pexpireat, 1, 1, (0,)),
    "pexpiregt": Kind(_pexpire_if_later, 1, 1, (0,)),
    "pexpirelt": Kind(_pexpire_if_earlier, 1, 1, (0,)),
    "pexpireif": Kind(_pexpire_same, 3, 3, (0,)),
    "setat": Kind(_setat, 2, 2),
    "getexat": Kind(_getexat, 1, 1, (None,)),
    "persist": Kind(_persist, idle_results=(0,)),
    "pttl": Kind(_pttl, idle_results=None),
    "ttl": Kind(_ttl, idle_results=None),
    "pexpiretime": Kind(_pexpiretime, idle_results=None),
    "expiretime": Kind(_expiretime, idle_results=None),
    "flush": Kind(_flush),
    "check": Kind(_check, 1, 1, None),
    "rename": Kind(None, 1, 1, (NO_SUCH_KEY,), _rename),
    "renamenx": Kind(None, 1, 1, (0, NO_SUCH_KEY), _renamenx),
    "copy": Kind(None, 2, 2, (0,), _copy),
    "delall": Kind(None, 1, 1, (0,), _delall),
    "existsall": Kind(None, 1, 1, None, _existsall),
}
