"""KV: what the data model has beyond Redis - revisions, ranges, transactions, leases.

`KV TXN` is etcd's if/then/else; `KV EXEC` is a whole MULTI in one request, which
is what the server itself makes of EXEC, so that a transaction is proposed, held,
redirected and forwarded as the one command that it is. Both count what follows, so
that any client can send them, and hold commands of the store that do not look at
every key, and those of `command_table.ANSWERED_INSIDE`.

Parsers are pure; the layouts are in `kv.transactions`. What is about leases is in
`handlers_leases`, and what is about sessions in `handlers_sessions`. Called by the
command table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.commands import (
    AnswerKind,
    Command,
    CompareTarget,
    Comparison,
    Opcode,
    RangeReadFlag,
)
from raftkv.kv.numbers import parse_integer
from raftkv.server.command_table import CommandTable, check_inside
from raftkv.server.connection import ClientConnection
from raftkv.server.handlers_connection import check_database
from raftkv.server.handlers_leases import HELP as LEASE_HELP
from raftkv.server.handlers_leases import parse_lease, parse_leased_set
from raftkv.server.handlers_sessions import parse_once, parse_outcome, parse_session
from raftkv.server.handlers_strings import SYNTAX_ERROR, check_key

# Encoding a word takes at most this much besides its bytes.
_WORD_BYTES: Final = 9
# Words of KV GET at present.
_GET_WORDS: Final = 3
# Keys on a page of KV RANGE without LIMIT.
_RANGE_LIMIT: Final = 1000

_TARGETS: Final = {
    b"VALUE": CompareTarget.VALUE,
    b"EXISTS": CompareTarget.EXISTS,
    b"CREATE": CompareTarget.CREATE_REVISION,
    b"MODIFY": CompareTarget.MODIFY_REVISION,
    b"VERSION": CompareTarget.VERSION,
}
_COMPARISONS: Final = {
    b"=": Comparison.EQUAL,
    b"!=": Comparison.NOT_EQUAL,
    b"<": Comparison.LESS,
    b">": Comparison.GREATER,
}

HELP = f"""KV <subcommand> [<arg> ...]. Subcommands are:
GET <key> [REV <revision>]
    Return a value with its create revision, modify revision, version and type, as it is
    or as it was behind a revision.
RANGE <start> <end> | PREFIX <prefix> [FROM <key>] [LIMIT <n>] [REV <revision>] [KEYSONLY] [COUNT]
    Return keys in order with values and revisions, from start up to but without end, which
    is empty for no end. There is more if the reply says so: repeat the command with FROM
    the next key it names, and REV the revision it is as of. COUNT returns only a number.
HISTORY
    Return the newest and the oldest revision that can be read, and what they take.
REVISIONS <key> [<key> ...]
    Return the modify revision of each key, 0 for one that does not exist.
TXN <n> [<key> <target> <op> <operand>]... <n> [<words> <word>...]... <n> [<words> <word>...]...
    If all n compares hold, execute the first n commands, else the others. Targets are
    VALUE, EXISTS, CREATE, MODIFY and VERSION; ops are =, !=, < and >. Each command is
    preceded by the number of its words. Returns 1 or 0, the replies, and the revision.
EXEC <n> [<key> <revision>]... <n> [<words> <word>...]...
    Execute n commands as MULTI and EXEC do, if the keys have these modify revisions.
{LEASE_HELP}
WATCH KEY <key> | PREFIX <prefix> [FROM <revision>] [PREV]
    Be told the changes of a key, or of those with a prefix, in the order of revisions.
UNWATCH [<watch> ...]
    End watches of this connection, or all of them.
PROGRESS [<watch> ...]
    Be told up to which revision watches of this connection have been told everything.
SESSION OPEN [TTL <ms>] | KEEPALIVE <id> | CLOSE <id> | INFO <id> | LIST
    Open a session for writes that are executed once, keep it alive, close or show it.
ONCE <session> <number> <lowest> <command> [<arg> ...]
    Execute a write, or answer a copy of it with the first result. The lowest number that
    is not finished frees the results of those below it.
OUTCOME <session> <number>
    Return applied and the result, or fence the number so that it never is.
HELP
    Print this help."""


def _answer_ping(words: list[bytes]) -> Command:
    if len(words) > 2:
        raise CommandError("ERR wrong number of arguments for 'ping' command")
    if len(words) == 2:
        return _answer(AnswerKind.BYTES, words[1])
    return _answer(AnswerKind.TEXT, b"PONG")


def _answer_echo(words: list[bytes]) -> Command:
    return _answer(AnswerKind.BYTES, words[1])


def _answer_select(words: list[bytes]) -> Command:
    check_database(words[1])
    return _answer(AnswerKind.TEXT, b"OK")


def _answer_unwatch(words: list[bytes]) -> Command:
    # As in Redis, where it does nothing: EXEC forgets all watched keys anyway.
    return _answer(AnswerKind.TEXT, b"OK")


def _answer(kind: AnswerKind, text: bytes) -> Command:
    return (int(Opcode.ANSWER), int(kind), text)


# By name, for all of `command_table.ANSWERED_INSIDE`.
_ANSWERS: Final[dict[str, Callable[[list[bytes]], Command]]] = {
    "ping": _answer_ping,
    "echo": _answer_echo,
    "select": _answer_select,
    "unwatch": _answer_unwatch,
}


class _Words:
    """Reads the counted words of a request, in order."""

    def __init__(self, words: list[bytes]) -> None:
        self._words = words
        self._position = 2

    def take(self, count: int = 1) -> list[bytes]:
        """Return the next words."""
        words = self._words[self._position : self._position + count]
        if len(words) < count:
            raise CommandError(f"{SYNTAX_ERROR}: more words are announced than given")
        self._position += count
        return words

    def take_count(self, most: int, limit: str) -> int:
        """Return the next word as a number from 0 to `most`."""
        number = parse_integer(self.take()[0])
        if number is None or number < 0:
            raise CommandError(f"{SYNTAX_ERROR}: word {self._position} has to be a count")
        if number > most:
            raise CommandError(f"ERR transaction exceeds {limit} ({most})")
        return number

    def end(self) -> None:
        """Check that nothing is left."""
        if self._position != len(self._words):
            raise CommandError(f"{SYNTAX_ERROR}: more words are given than announced")


class KvParser:
    """The parser of `KV`.

    Attributes:
        table: Where the commands inside transactions are looked up; set once it exists.
    """

    table: CommandTable

    def __call__(self, arguments: list[bytes], limits: Limits) -> Command:
        """KV GET | SET | RANGE | HISTORY | REVISIONS | EXEC | TXN | LEASE | ONCE | OUTCOME

        And KV SESSION; watches are the connection's own.
        """
        subcommand = arguments[1].upper()
        if subcommand == b"ONCE":
            return parse_once(self.table, arguments, limits)
        if subcommand == b"TXN":
            return self._parse_txn(_Words(arguments), limits)
        if subcommand == b"EXEC":
            return self._parse_exec(_Words(arguments), limits)
        if subcommand == b"LEASE":
            return parse_lease(arguments, limits)
        if subcommand == b"SET":
            return parse_leased_set(arguments, limits)
        if subcommand == b"RANGE":
            return _parse_range(arguments[2:], limits)
        if subcommand == b"HISTORY":
            return (int(Opcode.HISTORY),)
        if subcommand == b"GET" and len(arguments) > _GET_WORDS:
            return _parse_get_at(arguments, limits)
        if subcommand == b"OUTCOME":
            return parse_outcome(arguments)
        if subcommand == b"SESSION":
            return parse_session(arguments)
        for key in arguments[2:]:
            check_key(key, limits)
        opcode = Opcode.KV_GET if subcommand == b"GET" else Opcode.REVISIONS
        return (int(opcode), *arguments[2:])

    def _parse_exec(self, words: _Words, limits: Limits) -> Command:
        count = words.take_count(limits.request_arguments_max, "limits.request_arguments_max")
        command: list[object] = [int(Opcode.EXEC), count]
        for _ in range(count):
            key, revision = words.take(2)
            check_key(key, limits)
            command += (key, _number(revision))
        self._parse_commands(words, limits, command, answers_errors=True)
        return _whole(words, command, limits)

    def _parse_txn(self, words: _Words, limits: Limits) -> Command:
        count = words.take_count(limits.request_arguments_max, "limits.request_arguments_max")
        command: list[object] = [int(Opcode.TXN), count]
        for _ in range(count):
            command += _parse_compare(limits, *words.take(4))
        self._parse_commands(words, limits, command, answers_errors=False)
        self._parse_commands(words, limits, command, answers_errors=False)
        return _whole(words, command, limits)

    def _parse_commands(
        self, words: _Words, limits: Limits, command: list[object], *, answers_errors: bool
    ) -> None:
        """Append counted commands to a transaction.

        With `answers_errors` a wrong argument is the result of its command, as in
        Redis; else it refuses the whole.
        """
        count = words.take_count(limits.batch_commands_max, "limits.batch_commands_max")
        command.append(count)
        for _ in range(count):
            size = words.take_count(limits.request_arguments_max, "limits.request_arguments_max")
            if not size:
                raise CommandError(f"{SYNTAX_ERROR}: a command without words")
            inside = self._parse_inside(words.take(size), limits, answers_errors=answers_errors)
            command.append(len(inside))
            command += inside

    def _parse_inside(self, words: list[bytes], limits: Limits, *, answers_errors: bool) -> Command:
        spec = self.table.resolve(words)
        check_inside(spec)
        try:
            answer = _ANSWERS.get(spec.name)
            return spec.parse(words, limits) if answer is None else answer(words)
        except CommandError as error:
            if not answers_errors:
                raise
            return _answer(AnswerKind.ERROR, error.message.encode("utf-8", "replace"))


def _parse_get_at(arguments: list[bytes], limits: Limits) -> Command:
    """KV GET key REV revision"""
    key = arguments[2]
    if len(arguments) != _GET_WORDS + 2 or arguments[3].upper() != b"REV":
        raise CommandError(SYNTAX_ERROR)
    check_key(key, limits)
    return (int(Opcode.KV_GET_AT), key, _revision(arguments[4]))


def _parse_range(words: list[bytes], limits: Limits) -> Command:
    """KV RANGE start end | PREFIX prefix, and options"""
    start, end = words[:2]
    if start.upper() == b"PREFIX":
        start, end = end, prefix_end(end)
    rest = iter(words[2:])
    position, limit, flags = start, _RANGE_LIMIT, RangeReadFlag(0)
    revision: int | None = None
    for word in rest:
        option = word.upper()
        if option == b"KEYSONLY":
            flags |= RangeReadFlag.KEYS_ONLY
        elif option == b"COUNT":
            flags |= RangeReadFlag.COUNT
        elif option not in (b"FROM", b"LIMIT", b"REV") or (value := next(rest, None)) is None:
            raise CommandError(SYNTAX_ERROR)
        elif option == b"FROM":
            position = value
        elif option == b"REV":
            revision = _revision(value)
        else:
            number = parse_integer(value)
            if number is None or number < 1:
                raise CommandError("ERR LIMIT takes a number from 1")
            limit = number
    for key in (start, end, position):
        check_key(key, limits)
    return (int(Opcode.KV_RANGE), max(start, position), end, limit, revision, int(flags))


def prefix_end(prefix: bytes) -> bytes:
    """Return the first key behind all with a prefix; empty where there is none behind."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else b""


def _revision(word: bytes) -> int:
    number = parse_integer(word)
    if number is None or number < 0:
        raise CommandError("ERR REV takes a revision, a number from 0")
    return number


def _parse_compare(
    limits: Limits, key: bytes, target: bytes, comparison: bytes, operand: bytes
) -> tuple[object, ...]:
    check_key(key, limits)
    chosen = _TARGETS.get(target.upper())
    if chosen is None:
        raise CommandError("ERR a compare is of VALUE, EXISTS, CREATE, MODIFY or VERSION")
    how = _COMPARISONS.get(comparison)
    if how is None:
        raise CommandError("ERR a compare is one of =, !=, < and >")
    value = operand if chosen is CompareTarget.VALUE else _number(operand)
    return (key, int(chosen), int(how), value)


def _number(word: bytes) -> int:
    number = parse_integer(word)
    if number is None or number < 0:
        raise CommandError("ERR a revision, version or EXISTS is compared with a number from 0")
    return number


def _whole(words: _Words, command: list[object], limits: Limits) -> Command:
    """Return a transaction that nothing follows and that fits into a log entry."""
    words.end()
    size = sum(
        _WORD_BYTES + len(word) if isinstance(word, bytes) else _WORD_BYTES for word in command
    )
    most = limits.request_bytes_max + limits.batch_bytes_max
    if size > most:
        raise CommandError(f"ERR transaction exceeds what a log entry holds ({most} bytes)")
    return tuple(command)


def handle_help(connection: ClientConnection, arguments: list[bytes]) -> object:
    """KV HELP"""
    return HELP.split("\n")


HANDLERS = {"kv|help": handle_help}
