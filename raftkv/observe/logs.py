"""One line a rare event, on standard error, for people or for machines.

Owns the format of a line, the severity of each event and the rate at which one
kind of event may write. Invariants: a line is one line whatever a field holds;
no event is written more often than its budget, and what was left out is counted
and said; an event is counted even when it is not written; nobody waits for a
reader of standard error, except a line that announces the end of the node.

`LogObserver` implements `seams.Observer`. Low layers name what happened; how
serious it is, is judged here.

Who calls: every layer through the seam, from the owning thread or a worker;
`node` sets the handler up.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

LOGGER_NAME: Final = "raftkv"
# Limit: an event may write this many lines at once, then one in each period.
BURST_LINES: Final = 20
REFILL_PERIOD_S: Final = 1.0
# Limit: characters of one field; an error text may quote what an attacker sent.
FIELD_CHARACTERS_MAX: Final = 1000

# Limit: lines that wait for a reader of standard error who has stopped reading.
WAITING_LINES_MAX: Final = 10_000
# How long the end of a process, or a line that announces it, waits for that reader.
_FLUSH_S: Final = 0.5

# What is not listed is `info`: routine, but worth a line.
EVENT_LEVELS: Final[Mapping[str, int]] = {
    "address_in_use": logging.CRITICAL,
    "admin_accept_failed": logging.ERROR,
    "client_too_slow": logging.WARNING,
    "clock_error": logging.WARNING,
    "command_failed": logging.ERROR,
    "config_refused": logging.CRITICAL,
    "connection_failed": logging.WARNING,
    "damaged_data": logging.CRITICAL,
    "directory_in_use": logging.CRITICAL,
    "disk_failed": logging.CRITICAL,
    "disk_full": logging.ERROR,
    "forward_malformed": logging.WARNING,
    "identity_refused": logging.CRITICAL,
    "peer_accept_failed": logging.ERROR,
    "peer_handshake_failed": logging.WARNING,
    "peer_link_down": logging.WARNING,
    "peer_link_refused": logging.WARNING,
    "peer_log_regressed": logging.ERROR,
    "peer_protocol_error": logging.WARNING,
    "removed": logging.CRITICAL,
    "snapshot_postponed": logging.WARNING,
    "snapshot_refused": logging.ERROR,
    "snapshot_unverified": logging.WARNING,
    "state_differs": logging.ERROR,
    "state_diverged": logging.CRITICAL,
    "stopped": logging.CRITICAL,
    "waiting_to_be_added": logging.WARNING,
    "wal_tail_dropped": logging.WARNING,
}

_FIELDS: Final = "raftkv_fields"


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z WARNING peer_link_down node=n2 reason="connection lost"`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of one record."""
        words = [_timestamp(record), record.levelname, _one_line(record.getMessage())]
        fields: Mapping[str, object] = getattr(record, _FIELDS, {})
        words += [f"{name}={_text(value)}" for name, value in fields.items()]
        if record.exc_info:
            words.append(f"exception={json.dumps(self.formatException(record.exc_info))}")
        return " ".join(words)


class JsonFormatter(logging.Formatter):
    """The same as one JSON object: `time`, `level`, `event`, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of one record."""
        line: dict[str, object] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        for name, value in getattr(record, _FIELDS, {}).items():
            # A field may not pose as the time, level or name of the event.
            line[f"field_{name}" if name in line else name] = _plain(value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


def configure_logging(
    level: str, line_format: str, *, stream: TextIO | None = None
) -> logging.Logger:
    """Send everything that this process logs to one stream, in one format.

    Lines of foreign libraries (asyncio, aiohttp) take the same way, from
    `warning` up. Calling it again replaces what the last call set up.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        line_format: `text` or `json`.
        stream: Standard error by default.

    Returns:
        The logger to give to `LogObserver`.
    """
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(old)
        old.close()
    handler = _Handler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if line_format == "json" else TextFormatter())
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logger = logging.getLogger(LOGGER_NAME)
    logger.setLevel(level.upper())
    return logger


class LogObserver:
    """Writes events to a logger, at a bounded rate, and counts them.

    Attributes:
        counts: How often each event happened, written or not.
    """

    def __init__(
        self, logger: logging.Logger, *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare.

        Args:
            logger: As `configure_logging` returns it.
            monotonic_s: Seconds on a clock that never goes back, for the rate.
        """
        self.counts: dict[str, int] = {}
        self._logger = logger
        self._monotonic_s = monotonic_s
        self._budgets: dict[str, _Budget] = {}
        # Workers report events, too.
        self._lock = threading.Lock()

    def event(self, name: str, /, **fields: object) -> None:
        """Count one event and write its line if its budget allows."""
        level = EVENT_LEVELS.get(name, logging.INFO)
        with self._lock:
            self.counts[name] = self.counts.get(name, 0) + 1
            if not self._logger.isEnabledFor(level):
                return
            budget = self._budgets.get(name)
            if budget is None:
                budget = self._budgets[name] = _Budget(self._monotonic_s())
            if not budget.take(self._monotonic_s()):
                return
            left_out, budget.left_out = budget.left_out, 0
        if left_out:
            fields["left_out"] = left_out
        self._logger.log(level, "%s", name, extra={_FIELDS: fields})


class _Budget:
    """Token bucket of one kind of event."""

    __slots__ = ("filled_at_s", "left_out", "tokens")

    def __init__(self, now_s: float) -> None:
        self.tokens = float(BURST_LINES)
        self.filled_at_s = now_s
        self.left_out = 0

    def take(self, now_s: float) -> bool:
        """Use one token, or count one line left out."""
        earned = (now_s - self.filled_at_s) / REFILL_PERIOD_S
        self.filled_at_s = now_s
        self.tokens = min(float(BURST_LINES), self.tokens + earned)
        if self.tokens < 1.0:
            self.left_out += 1
            return False
        self.tokens -= 1.0
        return True


class _Handler(logging.Handler):
    """Hands lines to a thread of its own that writes them.

    Why not written at once: standard error may be a terminal that somebody
    paused or a pipe that nobody reads, and a node must go on either way. Lines
    above the bound are dropped and counted; a broken stream drops them all.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._dropped_count = 0
        self._lines: queue.Queue[str | threading.Event | None] = queue.Queue(WAITING_LINES_MAX)
        self._writer = threading.Thread(target=self._write_lines, name="raftkv-log", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one line; one that announces the end is waited for."""
        try:
            line = self.format(record)
        except (TypeError, ValueError) as error:
            # A foreign library logged arguments that do not fit its own text.
            line = f"{_timestamp(record)} ERROR log_line_unreadable error={_text(error)}"
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped_count += 1
        if record.levelno >= logging.CRITICAL:
            self.flush()

    def flush(self) -> None:
        """Wait until everything queued is written, but not for ever."""
        if not self._writer.is_alive():
            return
        written = threading.Event()
        with contextlib.suppress(queue.Full):
            self._lines.put(written, timeout=_FLUSH_S)
            written.wait(_FLUSH_S)

    def close(self) -> None:
        """Write what is queued and end the thread. The stream stays open."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=_FLUSH_S)
            self._writer.join(_FLUSH_S)
        super().close()

    def _write_lines(self) -> None:
        while True:
            line = self._lines.get()
            if line is None:
                return
            if isinstance(line, threading.Event):
                line.set()
                continue
            dropped_count, self._dropped_count = self._dropped_count, 0
            if dropped_count:
                line = f"{line}\n{self.format(_dropped_record(dropped_count))}"
            # OSError: nobody will read. ValueError: the stream is closed.
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(f"{line}\n")
                self._stream.flush()


def _dropped_record(count: int) -> logging.LogRecord:
    """Return the record that says how much was lost."""
    fields = {"count": count, "reason": "nobody read standard error"}
    return logging.makeLogRecord(
        {"msg": "log_lines_dropped", "levelname": "WARNING", _FIELDS: fields}
    )


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: object) -> object:
    """Return what JSON can hold, bounded."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    text = value if isinstance(value, str) else str(value)
    if len(text) > FIELD_CHARACTERS_MAX:
        return f"{text[:FIELD_CHARACTERS_MAX]}... ({len(text)} characters)"
    return text


def _text(value: object) -> str:
    """Return a value without white space, or quoted as JSON quotes it."""
    plain = _plain(value)
    if isinstance(plain, str):
        simple = plain and plain.isascii() and plain.isprintable() and not set(plain) & set(' "=\\')
        return plain if simple else json.dumps(plain)
    return json.dumps(plain)


def _one_line(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)
