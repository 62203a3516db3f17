"""Histories written by hand, each with the reason why it is good or bad; and the command."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.linearizability.brute_force import is_linearizable
from tests.linearizability.check import main
from tests.linearizability.checker import Verdict, check
from tests.linearizability.history import History, Outcome
from tests.linearizability.models import MODELS
from tests.linearizability.reference import Workload, generate
from tests.linearizability.timeline import Timeline

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.jsonl"))
# What is told is the first return that nothing explains.
OFFENDERS = {
    "bad-bit-set-twice": "b: setbit b 9 1 → 0",
    "bad-hash-lost-field": "c: hgetall h → [[y, 2]]",
    "bad-moved-and-still-there": "b: smembers s → [a, b]",
    "bad-picked-who-was-gone": "b: srandmember s nil → [a]",
    "bad-queue-delivered-twice": "c: pop q left nil → 1",
    "bad-ranking-goes-back": "b: zrank z a 0 → 0",
    "bad-unknown-pop-took-two": "c: smembers s → [a]",
    "bad-blind-write-that-fits-nowhere": "a: get x → 2",
    "bad-append-order": "b: get l → b;c;a;",
    "bad-back-from-the-dead": "b: get x → 1",
    "bad-double-append": "a: get l → a;b;b;",
    "bad-double-apply": "b: get n → 3",
    "bad-expired-before-it-was-seen": "c: get x → 2",
    "bad-expired-too-early": "b: get x → nil",
    "bad-expired-too-late": "b: get x → 1",
    "bad-expiry-of-a-newer-value": "b: get x → nil",
    "bad-half-a-transaction": "b: get x; get y → [2, 1]",
    "bad-long-fork": "c: get x; get y → [1, nil]",
    "bad-lost-increment": "c: incrby n 1 → 2",
    "bad-lost-write": "b: getset x 4 → 2",
    "bad-read-from-the-future": "b: get x → 2",
    "bad-read-goes-back": "c: get x → 1",
    "bad-refused-but-applied": "b: get x → 2",
    "bad-stale-read": "b: get x → 1",
    "bad-two-cas-winners": "a: cas x free a → 1",
    "bad-unknown-applied-twice": "b: get x → 1",
    "bad-unknown-read-before-its-call": "b: get x → 2",
    "bad-write-skew": "a: get x; get y; set x a → [free, free, OK]",
}


def load(name: str) -> History:
    return History.load(GOLDEN / f"{name}.jsonl")


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_history_is_judged_by_its_name(name: str) -> None:
    history = load(name)
    assert history.comment
    result = check(history)
    if name.startswith("good-"):
        assert result.is_ok, result
        return
    assert result.verdict is Verdict.ILLEGAL
    assert result.failing is not None
    assert str(result.failing.offender) == OFFENDERS[name]


def test_every_bad_history_has_its_offender() -> None:
    assert {name for name in NAMES if not name.startswith("good-")} == set(OFFENDERS)


@pytest.mark.parametrize("name", NAMES)
def test_brute_force_agrees(name: str) -> None:
    history = load(name)
    if MODELS["store"].is_timeless(history.operations):
        assert is_linearizable(history.operations) == name.startswith("good-")


@pytest.mark.parametrize("name", [name for name in NAMES if "expir" in name])
def test_deadlines_far_from_every_operation_change_nothing(name: str) -> None:
    """With clocks that may be off by an hour nothing about expiry can be wrong."""
    history = load(name)
    hour_us = 3_600_000_000
    lenient = History(operations=history.operations, early_us=hour_us, late_us=hour_us)
    assert check(lenient).is_ok == (name != "bad-expiry-of-a-newer-value")


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        history = load(name)
        history.save(tmp_path / f"{number}.jsonl")
        assert History.load(tmp_path / f"{number}.jsonl") == history


# ------------------------------------------------------------------------- the command


def test_the_command_draws_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "out.html"
    assert main([str(GOLDEN / "bad-stale-read.jsonl"), "--html", str(page)]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("illegal: 3 operations in 1 parts")
    assert "b: get x → 1" in printed
    assert "Not linearizable" in page.read_text(encoding="utf-8")


def test_the_command_draws_a_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "out.html"
    assert main([str(GOLDEN / "good-transfer.jsonl"), "--html", str(page)]) == 0
    assert capsys.readouterr().out.startswith("ok: ")
    assert "Linearizable" in page.read_text(encoding="utf-8")


def test_the_command_says_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "hard.jsonl"
    History(operations=generate(1, Workload(kinds=("get", "set", "set", "set")))).save(path)
    assert main([str(path), "--seconds", "0"]) == 3
    assert capsys.readouterr().out.startswith("unknown: ")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", ":1:"),
        ('{"history": 2}', ":1:"),
        ('{"history": 1, "model": "register"}\n{"client": "a"}', ":2:"),
        (
            '{"history": 1}\n{"client":"a","kind":"get","keys":["x"],"arguments":[],'
            '"called_us":5,"returned_us":4,"outcome":"ok","result":null}',
            "returned before",
        ),
    ],
)
def test_the_command_names_the_line_that_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, place: str
) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text(text, encoding="utf-8")
    assert main([str(path)]) == 2
    assert place in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "tests.linearizability.check"]
    ended = subprocess.run(
        [*command, str(GOLDEN / "good-sequential.jsonl")],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")


# ------------------------------------------------------------------------- the picture


class _Page(HTMLParser):
    """Notes what a page draws, and everything it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.bars: list[tuple[float, float]] = []
        self.dots: list[float] = []
        self.fetched: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag != "meta":
            self.open.append(tag)
        self._note(tag, given)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, dict(attrs))

    def _note(self, tag: str, given: dict[str, str | None]) -> None:
        if given.get("class") == "bar":
            first_px = float(given["x"] or 0)
            self.bars.append((first_px, first_px + float(given["width"] or 0)))
        if given.get("class") == "dot":
            self.dots.append(float(given["cx"] or 0))
        for name in ("src", "href"):
            if not (given.get(name) or "#").startswith("#"):
                self.fetched.append(str(given[name]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("name", NAMES)
def test_the_picture_shows_every_operation_and_fetches_nothing(name: str) -> None:
    result = check(load(name))
    part = result.failing or result.parts[0]
    page = _Page(Timeline(part).html())
    assert not page.fetched
    assert len(page.bars) == len(part.operations)
    assert len(page.dots) == len(part.order)
    text = "".join(page.texts)
    for operation in part.order:
        assert operation.label() in text


def test_dots_follow_the_order_within_their_bars() -> None:
    part = check(History(operations=generate(5, Workload(operations=120, unknowns=0)))).parts[0]
    page = _Page(Timeline(part).html())
    assert page.dots == sorted(page.dots)
    places = {id(one): number for number, one in enumerate(part.operations)}
    for dot_px, operation in zip(page.dots, part.order, strict=True):
        first_px, end_px = page.bars[places[id(operation)]]
        # A call and a return in one microsecond have one place.
        assert first_px - 9 <= dot_px <= end_px + 9


def test_bars_that_do_not_overlap_in_time_do_not_in_the_picture() -> None:
    part = check(History(operations=generate(6, Workload(operations=60)))).parts[0]
    page = _Page(Timeline(part).html())
    drawn = list(zip(part.operations, page.bars, strict=True))
    for one, (_, end_px) in drawn:
        for other, (first_px, _) in drawn:
            if one.returned_us is not None and one.returned_us < other.called_us:
                assert end_px < first_px


def test_text_of_clients_is_not_markup() -> None:
    evil = tuple(
        replace(one, client="<b>&", keys=("<script>",)) for one in load("bad-stale-read").operations
    )
    failing = check(History(operations=evil)).failing
    assert failing is not None
    text = Timeline(failing, comment="</style>").html()
    _Page(text)
    assert text.count("<script>") == 1
    assert "<b>" not in text


def test_refused_operations_are_not_drawn() -> None:
    history = load("good-refused")
    assert history.count(Outcome.REFUSED) == 1
    assert len(check(history).parts[0].operations) == len(history.operations) - 1
