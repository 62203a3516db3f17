"""Inline commands: one line of words, with the quoting rules of redis-cli.

Double quotes know the escapes \\n \\r \\t \\b \\a \\xhh and \\<any>; single
quotes know \\' only; a closing quote must be followed by a space or the end.
Pure. Caller: resp.parser, for people who type into `nc` or telnet.

Source: sdssplitargs() of Redis 7.
"""

from __future__ import annotations

_SPACES = b" \n\r\t\x0b\x0c\x00"
_ESCAPES = {0x6E: 0x0A, 0x72: 0x0D, 0x74: 0x09, 0x62: 0x08, 0x61: 0x07}
_HEX = b"0123456789abcdefABCDEF"
_DOUBLE = 0x22
_SINGLE = 0x27
_BACKSLASH = 0x5C


class UnbalancedQuotesError(ValueError):
    """A quote is not closed, or something touches a closing quote."""


def split_inline(line: bytes) -> list[bytes]:
    """Split a line into its words.

    Args:
        line: Without the line feed; a carriage return counts as a space.

    Raises:
        UnbalancedQuotesError: See the class.
    """
    if _DOUBLE not in line and _SINGLE not in line:
        return line.replace(b"\x00", b" ").split()
    words: list[bytes] = []
    position = 0
    while True:
        while position < len(line) and line[position] in _SPACES:
            position += 1
        if position == len(line):
            return words
        word, position = _read_word(line, position)
        words.append(word)


def _read_word(line: bytes, position: int) -> tuple[bytes, int]:
    word = bytearray()
    while position < len(line) and line[position] not in _SPACES:
        byte = line[position]
        if byte == _DOUBLE:
            position = _read_double_quoted(line, position + 1, word)
        elif byte == _SINGLE:
            position = _read_single_quoted(line, position + 1, word)
        else:
            word.append(byte)
            position += 1
    return bytes(word), position


def _end_quote(line: bytes, position: int) -> int:
    """Return the position behind a closing quote, which must end the word."""
    if position + 1 < len(line) and line[position + 1] not in _SPACES:
        raise UnbalancedQuotesError
    return position + 1


def _read_double_quoted(line: bytes, position: int, word: bytearray) -> int:
    while position < len(line):
        byte = line[position]
        if byte == _DOUBLE:
            return _end_quote(line, position)
        if byte != _BACKSLASH or position + 1 == len(line):
            word.append(byte)
            position += 1
            continue
        escaped = line[position + 1]
        digits = line[position + 2 : position + 4]
        if escaped == 0x78 and len(digits) == 2 and all(digit in _HEX for digit in digits):
            word.append(int(digits, 16))
            position += 4
        else:
            word.append(_ESCAPES.get(escaped, escaped))
            position += 2
    raise UnbalancedQuotesError


def _read_single_quoted(line: bytes, position: int, word: bytearray) -> int:
    while position < len(line):
        byte = line[position]
        if byte == _SINGLE:
            return _end_quote(line, position)
        if byte == _BACKSLASH and line[position + 1 : position + 2] == b"'":
            byte = _SINGLE
            position += 1
        word.append(byte)
        position += 1
    raise UnbalancedQuotesError
