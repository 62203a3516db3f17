"""Requests on strings to commands of the store.

A parser takes a whole request, the name at position 0, whose number of
arguments the command table has checked, and returns the command tuple for the
log or for a read. Options are parsed here, once, on the node that was asked;
relative times stay relative. Keys, values and texts follow Redis 7, down to the
order in which errors are found.

Pure functions; the layouts of the commands are in `kv.strings`. Called by the
command table; `handlers_generic` shares the argument checks.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.commands import Command, GetexFlag, Opcode, SetFlag, ValueCondition
from raftkv.kv.numbers import INT64_MAX, INT64_MIN, parse_integer
from raftkv.kv.strings import NOT_AN_INTEGER, STRING_TOO_LONG

Parser: TypeAlias = Callable[[list[bytes], Limits], Command]
RunParser: TypeAlias = Callable[[list[list[bytes]], int, int, Limits], list[Command]]

SYNTAX_ERROR: Final = "ERR syntax error"
OFFSET_ERROR: Final = "ERR offset is out of range"
DECREMENT_OVERFLOW: Final = "ERR decrement would overflow"

# Plain ints: an enum member costs more to encode.
_SET: Final = int(Opcode.SET)
_SET_WITH: Final = int(Opcode.SET_WITH)
_SET_IF: Final = int(Opcode.SET_IF)
_GET: Final = int(Opcode.GET)
_GETEX: Final = int(Opcode.GETEX)
_INCRBY: Final = int(Opcode.INCRBY)
_NX: Final = int(SetFlag.NX)
_XX: Final = int(SetFlag.XX)
_GET_OLD: Final = int(SetFlag.GET)
_KEEPTTL: Final = int(SetFlag.KEEPTTL)
_CONDITIONS: Final = {b"IFEQ": ValueCondition.EQUAL, b"IFNE": ValueCondition.NOT_EQUAL}
_EXPIRY_OPTIONS: Final = frozenset((b"EX", b"PX", b"EXAT", b"PXAT"))


class Expiry(NamedTuple):
    """A time argument: either relative or absolute, in ms; at most one is set."""

    ttl_ms: int | None
    deadline_ms: int | None


NO_EXPIRY: Final = Expiry(None, None)


def check_key(key: bytes, limits: Limits) -> None:
    """Refuse a key that is too long.

    Raises:
        CommandError: It is.
    """
    if len(key) > limits.key_bytes_max:
        raise CommandError(f"ERR key exceeds limits.key_bytes_max ({limits.key_bytes_max} bytes)")


def check_value(value: bytes, limits: Limits) -> None:
    """Refuse a value that is too long.

    Raises:
        CommandError: It is.
    """
    if len(value) > limits.value_bytes_max:
        raise CommandError(STRING_TOO_LONG)


def check_keys(keys: list[bytes], limits: Limits) -> None:
    """Refuse keys one of which is too long.

    Raises:
        CommandError: It is.
    """
    if keys:
        check_key(max(keys, key=len), limits)


def integer_argument(text: bytes) -> int:
    """Read a 64-bit integer.

    Raises:
        CommandError: It is not one.
    """
    number = parse_integer(text)
    if number is None:
        raise CommandError(NOT_AN_INTEGER)
    return number


def expire_time_error(command_name: bytes) -> CommandError:
    """Return the error for a time that is out of range."""
    return CommandError(f"ERR invalid expire time in '{command_name.decode()}' command")


def positive_expiry(option: bytes, text: bytes, command_name: bytes) -> Expiry:
    """Read the time behind EX, PX, EXAT or PXAT.

    Raises:
        CommandError: Not an integer, not positive, or too large.

    Source: getExpireMillisecondsOrReply() of Redis 7.
    """
    time_ms = integer_argument(text)
    if time_ms <= 0:
        raise expire_time_error(command_name)
    if option in (b"EX", b"EXAT"):
        if time_ms > INT64_MAX // 1000:
            raise expire_time_error(command_name)
        time_ms *= 1000
    return Expiry(None, time_ms) if option.endswith(b"AT") else Expiry(time_ms, None)


def parse_set(arguments: list[bytes], limits: Limits) -> Command:
    """SET key value [NX|XX|IFEQ v|IFNE v] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]"""
    key, value = arguments[1], arguments[2]
    if len(key) > limits.key_bytes_max:
        check_key(key, limits)
    if len(value) > limits.value_bytes_max:
        check_value(value, limits)
    if len(arguments) == 3:
        return (_SET, key, value)
    flags = 0
    expiry_option = expiry_text = b""
    condition: tuple[int, bytes] | None = None
    position = 3
    while position < len(arguments):
        option = arguments[position].upper()
        if option == b"NX" and not flags & _XX and condition is None:
            flags |= _NX
        elif option == b"XX" and not flags & _NX and condition is None:
            flags |= _XX
        elif option in _CONDITIONS and condition is None and not flags & (_NX | _XX):
            condition = _condition(option, arguments[position + 1 : position + 2], limits)
            position += 1
        elif option == b"GET":
            flags |= _GET_OLD
        elif option == b"KEEPTTL" and not expiry_option:
            flags |= _KEEPTTL
        elif _takes_expiry(option, expiry_option, arguments, position) and not (flags & _KEEPTTL):
            expiry_option, expiry_text = option, arguments[position + 1]
            position += 1
        else:
            raise CommandError(SYNTAX_ERROR)
        position += 1
    expiry = positive_expiry(expiry_option, expiry_text, b"set") if expiry_option else NO_EXPIRY
    if condition is not None:
        return (_SET_IF, *condition, key, value, flags, *expiry, b"set")
    return (_SET_WITH, key, value, flags, *expiry, b"set")


def parse_set_run(
    requests: list[list[bytes]], first: int, end: int, limits: Limits
) -> list[Command]:
    """SET key value, as often as it comes in a row with nothing wrong."""
    key_max, value_max = limits.key_bytes_max, limits.value_bytes_max
    word = requests[first][0]
    commands: list[Command] = []
    append = commands.append
    try:
        for name, key, value in islice(requests, first, end):
            if name != word or len(key) > key_max or len(value) > value_max:
                break
            append((_SET, key, value))
    except ValueError:
        pass  # Another number of words.
    return commands


def parse_get_run(
    requests: list[list[bytes]], first: int, end: int, limits: Limits
) -> list[Command]:
    """GET key, as often as it comes in a row with nothing wrong."""
    key_max = limits.key_bytes_max
    word = requests[first][0]
    commands: list[Command] = []
    append = commands.append
    try:
        for name, key in islice(requests, first, end):
            if name != word or len(key) > key_max:
                break
            append((_GET, key))
    except ValueError:
        pass  # Another number of words.
    return commands


def _takes_expiry(option: bytes, present: bytes, arguments: list[bytes], position: int) -> bool:
    """Whether an option is one of the four times, agrees with a former one and has a value."""
    return option in _EXPIRY_OPTIONS and present in (b"", option) and position + 1 < len(arguments)


def _condition(option: bytes, operand: list[bytes], limits: Limits) -> tuple[int, bytes]:
    """Read the value behind IFEQ or IFNE."""
    if not operand:
        raise CommandError(SYNTAX_ERROR)
    check_value(operand[0], limits)
    return int(_CONDITIONS[option]), operand[0]


def parse_delex(arguments: list[bytes], limits: Limits) -> Command:
    """DELEX key [IFEQ value | IFNE value]"""
    key = arguments[1]
    check_key(key, limits)
    if len(arguments) == 2:
        return (int(Opcode.DELEX), key, int(ValueCondition.ALWAYS), None)
    option = arguments[2].upper()
    if len(arguments) != 4 or option not in _CONDITIONS:
        raise CommandError(SYNTAX_ERROR)
    return (int(Opcode.DELEX), key, *_condition(option, arguments[3:], limits))


def parse_setnx(arguments: list[bytes], limits: Limits) -> Command:
    """SETNX key value"""
    _, key, value = arguments
    check_key(key, limits)
    check_value(value, limits)
    return (_SET_WITH, key, value, int(SetFlag.NX | SetFlag.INTEGER), None, None, b"setnx")


def _parse_set_with_ttl(option: bytes, name: bytes) -> Parser:
    def parse(arguments: list[bytes], limits: Limits) -> Command:
        _, key, ttl, value = arguments
        check_key(key, limits)
        check_value(value, limits)
        return (_SET_WITH, key, value, 0, *positive_expiry(option, ttl, name), name)

    return parse


def parse_key(opcode: Opcode) -> Parser:
    """Return a parser for a command whose one argument is a key."""
    number = int(opcode)

    def parse(arguments: list[bytes], limits: Limits) -> Command:
        key = arguments[1]
        if len(key) > limits.key_bytes_max:
            check_key(key, limits)
        return (number, key)

    return parse


def parse_keys(opcode: Opcode) -> Parser:
    """Return a parser for a command whose arguments are all keys."""
    number = int(opcode)

    def parse(arguments: list[bytes], limits: Limits) -> Command:
        check_keys(arguments[1:], limits)
        return (number, *arguments[1:])

    return parse


def _parse_pairs(opcode: Opcode, name: str) -> Parser:
    number = int(opcode)

    def parse(arguments: list[bytes], limits: Limits) -> Command:
        if len(arguments) % 2 == 0:
            raise CommandError(f"ERR wrong number of arguments for '{name}' command")
        check_keys(arguments[1::2], limits)
        check_value(max(arguments[2::2], key=len), limits)
        return (number, *arguments[1:])

    return parse


def parse_getset(arguments: list[bytes], limits: Limits) -> Command:
    """GETSET key value"""
    _, key, value = arguments
    check_key(key, limits)
    check_value(value, limits)
    return (int(Opcode.GETSET), key, value)


def parse_getex(arguments: list[bytes], limits: Limits) -> Command:
    """GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]; without options it is a GET."""
    key = arguments[1]
    check_key(key, limits)
    if len(arguments) == 2:
        return (_GET, key)
    flags = 0
    expiry_option = expiry_text = b""
    position = 2
    while position < len(arguments):
        option = arguments[position].upper()
        if option == b"PERSIST" and not expiry_option:
            flags |= GetexFlag.PERSIST
        elif not flags and _takes_expiry(option, expiry_option, arguments, position):
            expiry_option, expiry_text = option, arguments[position + 1]
            position += 1
        else:
            raise CommandError(SYNTAX_ERROR)
        position += 1
    if not expiry_option:
        return (_GETEX, key, int(flags), *NO_EXPIRY, None)
    try:
        expiry = positive_expiry(expiry_option, expiry_text, b"getex")
    except CommandError as error:
        # Redis looks at the time only if there is such a key.
        return (_GETEX, key, 0, *NO_EXPIRY, error.message.encode())
    return (_GETEX, key, 0, *expiry, None)


def parse_append(arguments: list[bytes], limits: Limits) -> Command:
    """APPEND key value"""
    _, key, tail = arguments
    check_key(key, limits)
    check_value(tail, limits)
    return (int(Opcode.APPEND), key, tail, limits.value_bytes_max)


def parse_getrange(arguments: list[bytes], limits: Limits) -> Command:
    """GETRANGE key start end"""
    _, key, first, last = arguments
    check_key(key, limits)
    return (int(Opcode.GETRANGE), key, integer_argument(first), integer_argument(last))


def parse_setrange(arguments: list[bytes], limits: Limits) -> Command:
    """SETRANGE key offset value"""
    _, key, offset, piece = arguments
    check_key(key, limits)
    position = integer_argument(offset)
    if position < 0:
        raise CommandError(OFFSET_ERROR)
    return (int(Opcode.SETRANGE), key, position, piece, limits.value_bytes_max)


def _parse_step(step: int) -> Parser:
    def parse(arguments: list[bytes], limits: Limits) -> Command:
        check_key(arguments[1], limits)
        return (_INCRBY, arguments[1], step)

    return parse


def parse_incrby(arguments: list[bytes], limits: Limits) -> Command:
    """INCRBY key increment"""
    check_key(arguments[1], limits)
    return (_INCRBY, arguments[1], integer_argument(arguments[2]))


def parse_decrby(arguments: list[bytes], limits: Limits) -> Command:
    """DECRBY key decrement"""
    check_key(arguments[1], limits)
    decrement = integer_argument(arguments[2])
    if decrement == INT64_MIN:
        raise CommandError(DECREMENT_OVERFLOW)
    return (_INCRBY, arguments[1], -decrement)


def parse_incrbyfloat(arguments: list[bytes], limits: Limits) -> Command:
    """INCRBYFLOAT key increment; the increment counts only behind the type and value of the key."""
    _, key, increment = arguments
    check_key(key, limits)
    check_value(increment, limits)
    return (int(Opcode.INCRBYFLOAT), key, increment)


PARSERS: Final[dict[bytes, Parser]] = {
    b"SET": parse_set,
    b"SETNX": parse_setnx,
    b"SETEX": _parse_set_with_ttl(b"EX", b"setex"),
    b"PSETEX": _parse_set_with_ttl(b"PX", b"psetex"),
    b"GET": parse_key(Opcode.GET),
    b"MGET": parse_keys(Opcode.MGET),
    b"MSET": _parse_pairs(Opcode.MSET, "mset"),
    b"MSETNX": _parse_pairs(Opcode.MSETNX, "msetnx"),
    b"GETSET": parse_getset,
    b"GETDEL": parse_key(Opcode.GETDEL),
    b"DELEX": parse_delex,
    b"GETEX": parse_getex,
    b"STRLEN": parse_key(Opcode.STRLEN),
    b"APPEND": parse_append,
    b"GETRANGE": parse_getrange,
    b"SUBSTR": parse_getrange,
    b"SETRANGE": parse_setrange,
    b"INCR": _parse_step(1),
    b"DECR": _parse_step(-1),
    b"INCRBY": parse_incrby,
    b"DECRBY": parse_decrby,
    b"INCRBYFLOAT": parse_incrbyfloat,
}

RUN_PARSERS: Final[dict[bytes, RunParser]] = {b"SET": parse_set_run, b"GET": parse_get_run}
