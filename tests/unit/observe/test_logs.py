"""One line an event, at a bounded rate, in two formats."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from pathlib import Path

import pytest

from raftkv.observe import logs
from raftkv.observe.logs import (
    BURST_LINES,
    EVENT_LEVELS,
    FIELD_CHARACTERS_MAX,
    LogObserver,
    configure_logging,
)


class Log:
    """An observer, its lines, and a clock that the test moves."""

    def __init__(self, level: str = "debug", line_format: str = "text") -> None:
        self.stream = io.StringIO()
        self.now_s = 0.0
        self.observer = LogObserver(
            configure_logging(level, line_format, stream=self.stream),
            monotonic_s=lambda: self.now_s,
        )

    def text(self) -> str:
        for handler in logging.getLogger().handlers:
            handler.flush()
        return self.stream.getvalue()

    def lines(self) -> list[str]:
        return self.text().splitlines()


@pytest.fixture(autouse=True)
def _restore_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("raftkv").setLevel(logging.NOTSET)


def test_a_text_line() -> None:
    log = Log()
    log.observer.event("peer_link_down", node="n2", reason="connection lost", count=3, up=True)
    time, level, rest = log.lines()[0].split(" ", 2)
    assert time.endswith("Z")
    assert "T" in time
    assert level == "WARNING"
    assert rest == 'peer_link_down node=n2 reason="connection lost" count=3 up=true'


def test_a_json_line() -> None:
    log = Log(line_format="json")
    log.observer.event("peer_link_down", node="n2", reason="lost", count=3, ratio=0.5, none=None)
    line = json.loads(log.lines()[0])
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "event": "peer_link_down",
        "node": "n2",
        "reason": "lost",
        "count": 3,
        "ratio": 0.5,
        "none": None,
    }


@pytest.mark.parametrize("line_format", ["text", "json"])
@pytest.mark.parametrize(
    "value",
    [
        "two\nlines",
        "a\r\n2026-01-01T00:00:00Z INFO forged=1",
        "\x1b[31mred",
        'quote " and \\',
        "\u2028separator",
        "\ud800",
        "",
        b"bytes\n",
        float("nan"),
        ValueError("text\nof an error"),
    ],
)
def test_a_line_is_one_line_whatever_a_field_holds(line_format: str, value: object) -> None:
    log = Log(line_format=line_format)
    log.observer.event("something", value=value)
    text = log.text()
    assert text.endswith("\n")
    assert text.isascii()
    assert len(text.splitlines()) == 1
    assert text[:-1].isprintable()
    if line_format == "json":
        assert json.loads(text)["event"] == "something"


def test_a_field_cannot_pose_as_the_event() -> None:
    log = Log(line_format="json")
    log.observer.event("real", level="critical", time="never", event="forged")
    line = json.loads(log.lines()[0])
    assert (line["event"], line["level"]) == ("real", "info")
    assert line["field_event"] == "forged"


def test_a_long_field_is_cut() -> None:
    log = Log()
    log.observer.event("something", value="x" * 1_000_000)
    assert len(log.lines()[0]) < FIELD_CHARACTERS_MAX + 200
    assert "1000000 characters" in log.lines()[0]


@pytest.mark.parametrize(
    ("level", "written"),
    [("debug", 3), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_the_level_chooses_what_is_written_but_not_what_is_counted(
    level: str, written: int
) -> None:
    log = Log(level=level)
    for name in ("peer_link_up", "peer_link_down", "disk_failed"):
        log.observer.event(name)
    assert len(log.lines()) == written
    assert log.observer.counts == {"peer_link_up": 1, "peer_link_down": 1, "disk_failed": 1}


def test_a_flood_of_one_event_is_bounded_and_says_what_it_left_out() -> None:
    log = Log()
    for _ in range(1000):
        log.observer.event("peer_link_refused", node="n9")
    assert len(log.lines()) == BURST_LINES
    # Another event has a budget of its own.
    log.observer.event("peer_link_up")
    assert len(log.lines()) == BURST_LINES + 1
    log.now_s += 1.0
    log.observer.event("peer_link_refused", node="n9")
    assert log.lines()[-1].endswith(f"node=n9 left_out={1000 - BURST_LINES}")
    log.observer.event("peer_link_refused", node="n9")
    assert len(log.lines()) == BURST_LINES + 2
    assert log.observer.counts["peer_link_refused"] == 1002


def test_a_budget_fills_up_again_but_not_beyond_its_bound() -> None:
    log = Log()
    log.observer.event("something")
    log.now_s += 1_000_000
    for _ in range(1000):
        log.observer.event("something")
    assert len(log.lines()) == BURST_LINES + 1


def test_workers_may_report_events() -> None:
    log = Log(level="error")
    threads = [
        threading.Thread(target=lambda: [log.observer.event("disk_full") for _ in range(500)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.observer.counts == {"disk_full": 2000}
    assert len(log.lines()) == BURST_LINES


def test_foreign_libraries_write_in_the_same_format() -> None:
    log = Log(line_format="json")
    logging.getLogger("asyncio").info("routine")
    logging.getLogger("asyncio").error("bad %s", "thing")
    try:
        raise RuntimeError("with a\ntraceback")
    except RuntimeError:
        logging.getLogger("aiohttp.server").exception("failed")
    first, second = [json.loads(line) for line in log.lines()]
    assert first["event"] == "bad thing"
    assert "RuntimeError: with a\ntraceback" in second["exception"]
    log = Log()
    logging.getLogger("asyncio").error("two\nlines")
    assert len(log.lines()) == 1


def test_setting_up_again_replaces_the_first_stream() -> None:
    first = Log()
    second = Log(line_format="json")
    second.observer.event("something")
    assert not first.lines()
    assert len(second.lines()) == 1


def test_a_broken_stream_stops_nothing() -> None:
    log = Log()
    log.stream.close()
    log.observer.event("disk_failed")
    assert log.observer.counts == {"disk_failed": 1}
    assert any(thread.name == "raftkv-log" for thread in threading.enumerate())


class PausedStream(io.StringIO):
    """A terminal on which somebody pressed Ctrl-S."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()

    def write(self, text: str) -> int:
        self.may_go_on.wait(30)
        return super().write(text)


def test_nobody_waits_for_a_reader_that_stopped_reading(monkeypatch) -> None:
    monkeypatch.setattr(logs, "WAITING_LINES_MAX", 100)
    stream = PausedStream()
    logger = configure_logging("info", "json", stream=stream)
    begin = time.monotonic()
    for number in range(1000):
        logger.info("line %d", number)
    assert time.monotonic() - begin < 10
    stream.may_go_on.set()
    for handler in logging.getLogger().handlers:
        handler.flush()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    dropped = [line["count"] for line in lines if line["event"] == "log_lines_dropped"]
    assert len(lines) - len(dropped) + sum(dropped) == 1000
    assert 100 <= len(lines) <= 110


def test_a_line_that_announces_the_end_is_written_before_the_call_returns() -> None:
    stream = io.StringIO()
    LogObserver(configure_logging("info", "text", stream=stream)).event("disk_failed", reason="io")
    assert stream.getvalue().endswith("CRITICAL disk_failed reason=io\n")


def test_arguments_that_do_not_fit_their_text_lose_that_line_alone() -> None:
    log = Log()
    record = logging.LogRecord("x", logging.ERROR, "", 0, "%d things", ("no number",), None)
    handlers = [each for each in logging.getLogger().handlers if type(each) is logs._Handler]
    handlers[0].handle(record)
    log.observer.event("something")
    assert "log_line_unreadable" in log.lines()[0]
    assert log.lines()[1].endswith("INFO something")


def test_every_listed_event_is_reported_somewhere() -> None:
    package = Path(logs.__file__).parents[1]
    source = "".join(
        path.read_text(encoding="utf-8")
        for path in package.rglob("*.py")
        if path != Path(logs.__file__)
    )
    assert [name for name in EVENT_LEVELS if f'"{name}"' not in source] == []


def test_levels_are_levels_of_logging() -> None:
    assert set(EVENT_LEVELS.values()) <= {
        logging.DEBUG,
        logging.INFO,
        logging.WARNING,
        logging.ERROR,
        logging.CRITICAL,
    }
