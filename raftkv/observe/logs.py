"""One line a rare event, on standard error, for people or for machines.

Owns the format of a line, the severity of each event and the rate at which one
kind of event may write. Invariants: a line is one line whatever a field holds;
no event is written more often than its budget, and what was left out is counted
and said; an event is counted even when it is not written.

`LogObserver` implements `seams.Observer`. Low layers name what happened; how
serious it is, is judged here.

Who calls: every layer through the seam, from the owning thread or a worker;
`node` sets the handler up.
"""

from __future__ import annotations

import json
import logging
import math
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

# What is not listed is `info`: routine, but worth a line.
EVENT_LEVELS: Final[Mapping[str, int]] = {
    "admin_accept_failed": logging.ERROR,
    "client_accept_failed": logging.ERROR,
    "clock_error": logging.WARNING,
    "command_failed": logging.ERROR,
    "damaged_data": logging.CRITICAL,
    "directory_in_use": logging.CRITICAL,
    "disk_failed": logging.CRITICAL,
    "disk_full": logging.ERROR,
    "identity_refused": logging.CRITICAL,
    "peer_accept_failed": logging.ERROR,
    "peer_handshake_failed": logging.WARNING,
    "peer_link_down": logging.WARNING,
    "peer_link_refused": logging.WARNING,
    "snapshot_failed": logging.ERROR,
    "snapshot_refused": logging.ERROR,
    "state_diverged": logging.CRITICAL,
    "stopped_by_failure": logging.CRITICAL,
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


class _Handler(logging.StreamHandler[TextIO]):
    """Marks the handler as ours; a broken standard error must not stop a node."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - name of the library
        """Drop the line: there is nowhere left to say so."""


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
