"""Levels and sessions of the client: what is sent, to whom, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from raftkv.client.calls import request_of
from raftkv.client.policy import Exchange, Exchanged, Fate, Pause, Route
from raftkv.client.protocol import encode_request
from raftkv.client.reading import Reading, Session, converse
from raftkv.errors import ConnectionLostError, NotAppliedError, NotLeaderError, OutcomeUnknownError

NODES = ("n1:1", "n2:2", "n3:3")
GET = (b"GET", b"k")
SET = (b"SET", b"k", b"v")

Answer = Callable[[str, list[bytes]], Exchanged]


def led_by(leader: str = "n1:1") -> Route:
    route = Route(NODES)
    route.leader = leader
    return route


def words_of(payload: bytes) -> list[str]:
    """The first two words of each request, and a token."""
    lines = payload.split(b"\r\n")
    requests: list[list[str]] = []
    for line in lines:
        if line.startswith(b"*"):
            requests.append([])
        elif line and not line.startswith(b"$"):
            requests[-1].append(line.decode())
    return [" ".join(request) for request in requests]


def play(
    reading: Reading | None,
    route: Route,
    commands: Sequence[tuple[bytes, ...]],
    answers: list[Exchanged],
) -> tuple[list[object], list[tuple[str, list[str]]]]:
    """Run a conversation against scripted answers; return replies and what was sent."""
    conversation = converse(
        reading,
        route,
        [request_of(one) for one in commands],
        end_s=10.0,
        reach_s_max=10.0,
        clock=lambda: 0.0,
        chance=lambda: 0.5,
    )
    sent: list[tuple[str, list[str]]] = []
    try:
        effect: Any = next(conversation)
        while True:
            if isinstance(effect, Pause):
                effect = conversation.send(Exchanged(Fate.COMPLETE))
                continue
            assert isinstance(effect, Exchange)
            sent.append((effect.address, words_of(effect.payload)))
            effect = conversation.send(answers.pop(0))
    except StopIteration as stop:
        return stop.value, sent


def complete(*replies: object) -> Exchanged:
    return Exchanged(Fate.COMPLETE, replies)


def linearizable(*words: str) -> list[str]:
    return ["RAFT READS LINEARIZABLE", *words, "RAFT READS DEFAULT"]


def test_without_a_level_nothing_is_added() -> None:
    replies, sent = play(None, led_by(), [GET], [complete(b"v")])
    assert replies == [b"v"]
    assert sent == [("n1:1", ["GET k"])]


def test_a_leased_read_asks_the_leader_and_leaves_the_connection_as_it_was() -> None:
    replies, sent = play(Reading("lease"), led_by("n2:2"), [GET], [complete(b"OK", b"v", b"OK")])
    assert replies == [b"v"]
    assert sent == [("n2:2", ["RAFT READS lease", "GET k", "RAFT READS DEFAULT"])]


def test_weaker_reads_go_round_the_nodes() -> None:
    reading, route = Reading("bounded", bound_ms=50), led_by()
    asked = []
    for _ in range(4):
        _, sent = play(reading, route, [GET], [complete(b"OK", b"v", b"OK")])
        asked.append(sent[0][0])
        assert sent[0][1][0] == "RAFT READS bounded 50"
    assert asked == [*NODES, NODES[0]]


@pytest.mark.parametrize(
    "first",
    [
        Exchanged(Fate.UNREACHABLE),
        Exchanged(Fate.LOST, (b"OK",)),
        Exchanged(Fate.TIMED_OUT),
        complete(b"OK", NotAppliedError("stale 99"), b"OK"),
        complete(NotAppliedError("x"), b"v", b"OK"),
    ],
)
def test_whatever_is_no_answer_is_asked_the_ordinary_way(first: Exchanged) -> None:
    second = complete(b"OK", b"v", b"OK")
    replies, sent = play(Reading("stale"), led_by("n3:3"), [GET], [first, second])
    assert replies == [b"v"]
    assert sent[1] == ("n3:3", linearizable("GET k"))


def test_a_linearizable_read_asks_the_leader_whatever_the_level_of_the_nodes() -> None:
    moved = complete(b"OK", NotLeaderError("n2:2"), b"OK")
    replies, sent = play(
        Reading("linearizable"), led_by(), [GET, SET], [
            complete(b"OK", NotLeaderError("n2:2"), NotLeaderError("n2:2"), b"OK"),
            Exchanged(Fate.LOST, (b"OK", b"v")),
        ],
    )  # fmt: skip
    assert replies[0] == b"v"
    assert isinstance(replies[1], ConnectionLostError)
    assert sent[0] == ("n1:1", linearizable("GET k", "SET k v"))
    assert sent[1][0] == "n2:2"
    replies, sent = play(
        Reading("linearizable"), led_by(), [GET], [moved, complete(b"OK", b"v", b"OK")]
    )
    assert replies == [b"v"]


def test_writes_go_the_ordinary_way() -> None:
    _, sent = play(Reading("stale"), led_by(), [SET], [complete(b"OK")])
    assert sent == [("n1:1", ["SET k v"])]


class TestSession:
    def reading(self) -> tuple[Reading, Session]:
        session = Session()
        return Reading("stale", session=session), session

    def test_a_write_brings_a_token_and_the_next_read_waits_for_it(self) -> None:
        reading, session = self.reading()
        replies, sent = play(reading, led_by(), [SET], [complete(b"OK", b"1/7")])
        assert replies == [b"OK"]
        assert sent == [("n1:1", ["SET k v", "RAFT TOKEN"])]
        replies, sent = play(
            reading, led_by(), [GET], [complete(b"OK", b"OK", b"v", b"1/9", b"OK")]
        )
        assert replies == [b"v"]
        assert sent[0][1] == [
            "RAFT READS stale",
            "RAFT AFTER 1/7",
            "GET k",
            "RAFT TOKEN",
            "RAFT READS DEFAULT",
        ]
        assert session.token == b"1/9"

    def test_a_token_never_goes_back(self) -> None:
        session = Session()
        assert session.note(b"2/10")
        assert session.note(b"3/9")
        assert session.token == b"2/10"
        assert not session.note(b"QUEUED")
        assert not session.note(None)

    def test_a_write_that_was_redirected_brings_the_token_of_the_leader(self) -> None:
        reading, session = self.reading()
        moved = NotLeaderError("n2:2")
        replies, sent = play(
            reading, led_by(), [SET], [complete(moved, b"1/3"), complete(b"OK", b"1/7")]
        )
        assert replies == [b"OK"]
        assert sent[1] == ("n2:2", ["SET k v", "RAFT TOKEN"])
        assert session.token == b"1/7"
        assert not session.uncertain

    def test_a_node_that_is_behind_costs_a_detour(self) -> None:
        reading, session = self.reading()
        session.note(b"1/7")
        late = NotAppliedError("behind the token")
        replies, sent = play(
            reading,
            led_by("n2:2"),
            [GET],
            [
                complete(b"OK", late, late, b"1/3", b"OK"),
                complete(b"OK", b"v", b"1/8", b"OK"),
            ],
        )
        assert replies == [b"v"]
        assert sent[1] == ("n2:2", linearizable("GET k", "RAFT TOKEN"))
        assert session.token == b"1/8"

    def test_a_token_of_another_connection_than_the_write_counts_for_nothing(self) -> None:
        reading, session = self.reading()
        answers = [
            complete(b"OK", NotAppliedError("shutting down")),
            complete(b"1/3"),
        ]
        replies, sent = play(reading, led_by(), [SET], answers)
        assert replies == [b"OK"]
        assert [words for _, words in sent] == [["SET k v", "RAFT TOKEN"], ["RAFT TOKEN"]]
        assert session.uncertain
        assert session.token is None
        _, sent = play(reading, led_by(), [GET], [complete(b"OK", b"v", b"1/8", b"OK")])
        assert sent == [("n1:1", linearizable("GET k", "RAFT TOKEN"))]
        assert not session.uncertain

    def test_an_unknown_outcome_sends_the_next_read_to_the_leader(self) -> None:
        reading, session = self.reading()
        unknown = OutcomeUnknownError("timeout")
        play(
            reading,
            led_by(),
            [SET],
            [complete(unknown, NotAppliedError("earlier command unknown"))],
        )
        assert session.uncertain


@pytest.mark.parametrize(
    ("level", "bound_ms"), [("often", None), ("bounded", None), ("stale", 5), ("bounded", 0)]
)
def test_levels_that_do_not_exist_are_refused(level: Any, bound_ms: int | None) -> None:
    with pytest.raises(ValueError, match=r"lease|bound"):
        Reading(level, bound_ms=bound_ms)


def test_requests_are_sent_as_they_are() -> None:
    assert words_of(encode_request(GET) + encode_request(SET)) == ["GET k", "SET k v"]
