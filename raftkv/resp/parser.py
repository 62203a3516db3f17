"""Bytes of a client -> requests, incrementally, within declared limits.

A request is a list of byte strings: an array of bulk strings, or an inline
command (what `nc` and telnet send). The state machine in this file is the
definition: it knows Redis' limits and error texts and refuses a declared length
before anything of that size is kept. hiredis is an accelerator in front of it:
a chunk which is nothing but whole, plain requests takes that path, and any
doubt (a rest behind the last request, large counts, nesting, other types)
hands the chunk, unconsumed, to the state machine. The one leniency: in such a chunk
hiredis takes simple strings for words and sets for arrays, which Redis refuses.

After a protocol error the parser yields nothing more; `error` holds the text
and the caller closes the connection behind the requests returned before it.

Pure: no I/O. Caller: server.pipeline, one parser a connection.
"""

from __future__ import annotations

import re

import hiredis

from raftkv.resp.inline import UnbalancedQuotesError, split_inline

Request = list[bytes]

# Limit: Redis' PROTO_INLINE_MAX_SIZE; a line without an end is refused beyond it.
LINE_BYTES_MAX = 64 * 1024

_ASTERISK = 0x2A
_DOLLAR = 0x24
# An empty request, which the scan below keeps out of the data: seeing it come
# out of the reader proves that the chunk ended where a request ended.
_END = b"*0\r\n"
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]{0,18})\Z")
_join = b"".join


def _scan_for_doubt(arguments_max: int) -> re.Pattern[bytes]:
    """Match array headers which hiredis must not see: huge, empty, or not of bulk strings.

    hiredis allocates a list of the declared size at once, and a header with as
    many digits as the limit might exceed it, so these are looked for everywhere: it
    does not look at the two bytes behind a bulk string. The others are refused by
    the state machine, and looked for where a line begins, because a value of random
    bytes has something like them every few kilobytes. The same bytes inside a value
    match as well; they only cost the slower path.
    """
    digits = len(str(arguments_max))
    return re.compile(
        rb"\*(?:[0-9]{%d}|(?<![^\n]\*)(?![1-9][0-9]{0,%d}\r\n\$)[0-9-])"
        % (digits, max(digits - 2, 0))
    )


class RequestParser:
    """Incremental parser of one connection's input."""

    __slots__ = (
        "_arguments",
        "_arguments_max",
        "_bytes_left",
        "_bytes_max",
        "_carried",
        "_doubt",
        "_missing",
        "_reader",
        "_skip",
        "_tail",
        "_value",
        "_value_left",
        "error",
    )

    def __init__(self, *, request_bytes_max: int, request_arguments_max: int) -> None:
        """Start at the beginning of a request.

        Args:
            request_bytes_max: Limit of one bulk string, and of all of a request together.
            request_arguments_max: Limit of the declared number of arguments.
        """
        self._bytes_max = request_bytes_max
        self._arguments_max = request_arguments_max
        self._doubt = _scan_for_doubt(request_arguments_max).search
        self._reader = hiredis.Reader()
        self.error: str | None = None
        # The request that is only partly here.
        self._carried = False
        self._arguments: Request = []
        self._missing = 0  # arguments still to come
        self._bytes_left = 0  # of the size limit
        self._value = bytearray()  # of a bulk string that is partly here
        self._value_left = -1  # bytes of it still to come; -1 between bulk strings
        self._skip = 0  # of the line end behind a bulk string
        self._tail = b""  # a line without its end

    def parse(self, data: bytes) -> list[Request]:
        """Take what arrived and return every request that is now whole.

        Args:
            data: Not empty.

        Returns:
            In order; none after `error` was set.
        """
        if (
            self._carried
            or data[0] != _ASTERISK
            or self._doubt(data)
            or len(data) > self._bytes_max
        ):
            return self._parse_slowly(data)
        reader = self._reader
        reader.feed(data + _END)
        gets = reader.gets
        requests: list[Request] = []
        try:
            while (request := gets()).__class__ is list and request:
                # Anything but byte strings raises TypeError here.
                _join(request)
                requests.append(request)
        except (hiredis.ProtocolError, TypeError, MemoryError):
            self._reader = hiredis.Reader()
            return self._parse_slowly(data)
        if request == [] and not reader.has_data():
            return requests
        self._reader = hiredis.Reader()
        if request is False:
            return self._keep_whole(requests, data)
        return self._parse_slowly(data)

    def _keep_whole(self, requests: list[Request], data: bytes) -> list[Request]:
        """Separate the requests that end inside `data` from the part behind them.

        The reader was fed more than the data, so the last request may be made up.
        """
        end = 0
        for count, request in enumerate(requests):
            next_end = end + len(b"*%d\r\n" % len(request))
            for argument in request:
                size = len(argument)
                next_end += size + len(b"$%d\r\n\r\n" % size)
            if next_end > len(data):
                del requests[count:]
                break
            end = next_end
        requests += self._parse_slowly(data[end:])
        return requests

    def _parse_slowly(self, data: bytes) -> list[Request]:
        requests: list[Request] = []
        if self.error is not None:
            return requests
        position = self._continue_value(data)
        if position < 0:
            return requests
        self._take_finished(requests)
        if self._tail:
            data, position, self._tail = self._tail + data[position:], 0, b""
        carried, self._carried = self._carried, False
        size = len(data)
        while position < size and self.error is None:
            if self._missing == 0:
                if carried and requests and data[position] == _ASTERISK:
                    # The request that was cut is whole; what follows may be plain again.
                    requests += self.parse(data[position:])
                    return requests
                position = self._start_request(data, position, requests)
            else:
                position = self._read_argument(data, position)
            if position < 0:
                break
            self._take_finished(requests)
        # After an error everything takes the slow path, which takes nothing.
        self._carried = bool(self._missing or self._tail or self.error)
        return requests

    def _take_finished(self, requests: list[Request]) -> None:
        if self._missing == 0 and self._arguments:
            requests.append(self._arguments)
            self._arguments = []

    def _continue_value(self, data: bytes) -> int:
        """Feed a bulk string that was cut; return where it ends, or -1 if it does not."""
        if self._value_left >= 0:
            take = self._value_left
            if len(data) < take:
                self._value += data
                self._value_left -= len(data)
                return -1
            self._value += memoryview(data)[:take]
            self._arguments.append(bytes(self._value))
            self._value = bytearray()
            self._value_left = -1
            self._skip = 2
            position = take
        else:
            position = 0
        if self._skip:
            skipped = min(self._skip, len(data) - position)
            self._skip -= skipped
            position += skipped
            if self._skip:
                return -1
            self._missing -= 1
        return position

    def _start_request(self, data: bytes, position: int, requests: list[Request]) -> int:
        """Read an array header or an inline command; return the position behind, or -1."""
        if data[position] != _ASTERISK:
            return self._read_inline(data, position, requests)
        count, position = self._read_length(data, position, "mbulk count")
        if position < 0:
            return position
        if count is None or count > self._arguments_max:
            return self._fail("invalid multibulk length")
        if count > 0:  # Redis ignores empty and null arrays.
            self._missing = count
            self._bytes_left = self._bytes_max
        return position

    def _read_argument(self, data: bytes, position: int) -> int:
        if data[position] != _DOLLAR:
            return self._fail(f"expected '$', got '{chr(data[position])}'")
        length, position = self._read_length(data, position, "bulk count")
        if position < 0:
            return position
        if length is None or length < 0 or length > self._bytes_max:
            return self._fail("invalid bulk length")
        self._bytes_left -= length
        if self._bytes_left < 0:
            return self._fail("request exceeds limits.request_bytes_max")
        end = position + length
        if end + 2 <= len(data):
            self._arguments.append(data[position:end])
            self._missing -= 1
            return end + 2
        if end <= len(data):
            self._arguments.append(data[position:end])
            self._skip = end + 2 - len(data)
            return -1
        self._value = bytearray(memoryview(data)[position:])
        self._value_left = end - len(data)
        return -1

    def _read_length(self, data: bytes, position: int, what: str) -> tuple[int | None, int]:
        """Return the number of a header line (None: not one) and the position behind it."""
        end = data.find(b"\r", position, position + LINE_BYTES_MAX + 1)
        if end < 0:
            if len(data) - position > LINE_BYTES_MAX:
                return None, self._fail(f"too big {what} string")
            self._tail = data[position:]
            return None, -1
        if end + 1 == len(data):
            self._tail = data[position:]
            return None, -1
        digits = data[position + 1 : end]
        return (int(digits) if _INTEGER.match(digits) else None), end + 2

    def _read_inline(self, data: bytes, position: int, requests: list[Request]) -> int:
        end = data.find(b"\n", position, position + LINE_BYTES_MAX + 1)
        if end < 0:
            if len(data) - position > LINE_BYTES_MAX:
                return self._fail("too big inline request")
            self._tail = data[position:]
            return -1
        try:
            arguments = split_inline(data[position:end])
        except UnbalancedQuotesError:
            return self._fail("unbalanced quotes in request")
        if arguments:
            requests.append(arguments)
        return end + 1

    def _fail(self, problem: str) -> int:
        self.error = f"Protocol error: {problem}"
        self._arguments = []
        self._missing = 0
        return -1
