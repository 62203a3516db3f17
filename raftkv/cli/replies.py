"""Replies as redis-cli writes them: typed, quoted, nested, numbered.

Owns the text form only. Colours come from `paint`, so that the same code
writes to a terminal and to a file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from raftkv.errors import CommandError, IndefiniteError, NotLeaderError, RaftKvError

Paint = Callable[[str, str], str]  # text, kind -> text

# Simple strings and bulk strings look the same in the client; these commands
# answer with words of the protocol, not with somebody's data.
_WORDS = {b"OK", b"PONG", b"RESET", b"QUEUED"}
_ANSWER_DATA = frozenset(
    b"GET MGET GETDEL GETEX GETSET GETRANGE SUBSTR ECHO KEYS SCAN RANDOMKEY OBJECT "
    b"HGET HMGET HGETALL HKEYS HVALS HRANDFIELD HSCAN LPOP RPOP LMPOP LMOVE RPOPLPUSH LRANGE "
    b"LINDEX SMEMBERS SPOP SRANDMEMBER SINTER SUNION SDIFF SSCAN ZRANGE ZREVRANGE "
    b"ZRANGEBYSCORE ZREVRANGEBYSCORE ZRANGEBYLEX ZREVRANGEBYLEX ZPOPMIN ZPOPMAX ZMPOP "
    b"ZRANDMEMBER ZSCAN ZUNION ZINTER ZDIFF".split()
)
_COLOURS: dict[str, dict[str, Any]] = {
    "word": {"fg": "green"},
    "string": {"fg": "bright_white"},
    "number": {"fg": "cyan"},
    "nil": {"dim": True},
    "error": {"fg": "red"},
    "unknown": {"fg": "yellow", "bold": True},
    "place": {"dim": True},
    "key": {"fg": "blue"},
}
_ESCAPES = {
    0x22: '\\"',
    0x5C: "\\\\",
    0x0A: "\\n",
    0x0D: "\\r",
    0x09: "\\t",
    0x07: "\\a",
    0x08: "\\b",
}


def coloured(text: str, kind: str) -> str:
    """Paint for a terminal."""
    return click.style(text, **_COLOURS[kind])


def uncoloured(text: str, kind: str) -> str:
    """Paint for a file."""
    return text


def quote(value: bytes) -> str:
    """Return bytes in double quotes; readable text stays readable."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return '"' + "".join(_escape(chr(byte), byte, ascii_only=True) for byte in value) + '"'
    return '"' + "".join(_escape(letter, ord(letter), ascii_only=False) for letter in text) + '"'


def _escape(letter: str, code: int, *, ascii_only: bool) -> str:
    if code in _ESCAPES:
        return _ESCAPES[code]
    if letter.isprintable() and (code < 128 or not ascii_only):
        return letter
    return "".join(f"\\x{byte:02x}" for byte in ([code] if ascii_only else letter.encode()))


def error_text(error: RaftKvError) -> str:
    """Return an error as the server worded it, or what the client knows."""
    if isinstance(error, CommandError):
        return error.message
    if isinstance(error, NotLeaderError):
        return f"MOVED {error.address}"
    if type(error) is RaftKvError:
        return str(error)
    return f"{type(error).__name__.removesuffix('Error')}: {error}"


def render(reply: Any, *, command: str = "", paint: Paint = coloured) -> str:
    """Return a reply as lines of text, without a line feed at the end.

    Args:
        reply: What the client returned, or an error.
        command: Name of the command, which tells words such as OK from data.
        paint: Colours a piece of text by its kind.
    """
    return _render(reply, command.upper().encode("utf-8", "surrogateescape"), paint, 0)


def _render(reply: Any, command: bytes, paint: Paint, indent: int) -> str:
    if isinstance(reply, list):
        return _render_list(reply, command, paint, indent)
    if isinstance(reply, dict):
        return _render_map(reply, command, paint, indent)
    if isinstance(reply, bytes):
        if command == b"TYPE" or (reply in _WORDS and command not in _ANSWER_DATA):
            return paint(reply.decode("utf-8", "backslashreplace"), "word")
        if command == b"INFO" or (b"\r\n" in reply and command in (b"CLUSTER", b"CLIENT")):
            return reply.decode("utf-8", "backslashreplace").replace("\r\n", "\n").rstrip("\n")
        return paint(quote(reply), "string")
    if reply is None:
        return paint("(nil)", "nil")
    if isinstance(reply, bool):
        return paint("(true)" if reply else "(false)", "number")
    if isinstance(reply, int):
        return paint(f"(integer) {reply}", "number")
    if isinstance(reply, float):
        return paint(f"(double) {reply!r}", "number")
    if isinstance(reply, RaftKvError):
        kind = "unknown" if isinstance(reply, IndefiniteError) else "error"
        return paint(f"(error) {error_text(reply)}", kind)
    return str(reply)


def _render_list(items: list[Any], command: bytes, paint: Paint, indent: int) -> str:
    if not items:
        return paint("(empty array)", "nil")
    width = len(str(len(items)))
    deeper = indent + width + 2
    lines = [
        paint(f"{number:>{width}})", "place") + " " + _render(item, command, paint, deeper)
        for number, item in enumerate(items, 1)
    ]
    return ("\n" + " " * indent).join(lines)


def _render_map(pairs: dict[Any, Any], command: bytes, paint: Paint, indent: int) -> str:
    if not pairs:
        return paint("(empty map)", "nil")
    width = len(str(len(pairs)))
    lines = []
    for number, (key, value) in enumerate(pairs.items(), 1):
        name = quote(key) if isinstance(key, bytes) else str(key)
        deeper = indent + width + 2
        separator = " => "
        if isinstance(value, list | dict) and value:
            separator = " =>\n" + " " * deeper
        else:
            deeper += len(name) + len(separator)
        lines.append(
            paint(f"{number:>{width}}#", "place")
            + f" {paint(name, 'key')}{separator}{_render(value, command, paint, deeper)}"
        )
    return ("\n" + " " * indent).join(lines)
