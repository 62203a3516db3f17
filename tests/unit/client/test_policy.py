"""The policy alone: a conversation is fed by hand, with a clock that stands still."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from raftkv.client import policy
from raftkv.client.calls import request_of
from raftkv.client.policy import Exchange, Exchanged, Fate, Pause, Route
from raftkv.client.protocol import encode_request
from raftkv.errors import (
    CommandError,
    ConnectFailedError,
    ConnectionLostError,
    DeadlineExceededError,
    NoLeaderError,
    NotAppliedError,
    NotLeaderError,
    OutcomeUnknownError,
)

A, B, C = "a:1", "b:2", "c:3"
SET = (b"SET", b"k", b"v")
GET = (b"GET", b"k")
INCR = (b"INCR", b"n")
MOVED_B = NotLeaderError(B)


class Talk:
    """Drives one conversation and remembers what it asked for."""

    def __init__(
        self,
        *commands: tuple[bytes, ...],
        route: Route | None = None,
        reach_s_max: float = 10.0,
    ) -> None:
        self.now_s = 100.0
        self.route = route or Route([A, B, C])
        self.requests = [request_of(arguments) for arguments in commands]
        self.conversation = policy.converse(
            self.route,
            self.requests,
            end_s=110.0,
            reach_s_max=reach_s_max,
            clock=lambda: self.now_s,
            chance=lambda: 1.0,
        )
        self.results: list[object] | None = None
        self.effect: Exchange | Pause | None = None
        self._advance(None)

    def _advance(self, event: Exchanged | None) -> None:
        try:
            if event is None:
                self.effect = next(self.conversation)
            else:
                self.effect = self.conversation.send(event)
        except StopIteration as stop:
            self.effect, self.results = None, stop.value

    def wait(self) -> Talk:
        """Let the clock run through pauses, if there are any."""
        while isinstance(self.effect, Pause):
            self.now_s += self.effect.seconds
            self._advance(Exchanged(Fate.COMPLETE))
        return self

    @property
    def exchange(self) -> Exchange:
        """The next exchange."""
        assert isinstance(self.effect, Exchange), self.results
        return self.effect

    def reply(self, *replies: object, fate: Fate = Fate.COMPLETE, detail: str = "detail") -> Talk:
        assert isinstance(self.effect, Exchange), self.effect
        self._advance(Exchanged(fate, replies, detail))
        return self


def kinds(results: Sequence[object] | None) -> list[type]:
    assert results is not None
    return [type(result) for result in results]


def test_a_reply_ends_the_conversation() -> None:
    talk = Talk(SET)
    assert talk.exchange == Exchange(A, encode_request(SET), 1, 10.0, True)
    assert talk.reply(b"OK").results == [b"OK"]


def test_a_redirect_is_followed_at_once_and_remembered() -> None:
    talk = Talk(SET).reply(MOVED_B)
    assert isinstance(talk.effect, Exchange)
    assert talk.exchange.address == B
    assert talk.reply(b"OK").results == [b"OK"]
    assert Talk(SET, route=talk.route).exchange.address == B


def test_a_redirect_without_a_host_means_the_host_that_was_asked() -> None:
    talk = Talk(SET).reply(NotLeaderError(":9"))
    assert talk.exchange.address == "a:9"


def test_a_redirect_to_nonsense_is_not_followed() -> None:
    talk = Talk(SET).reply(NotLeaderError("nonsense"))
    assert talk.exchange.address == B


def test_two_nodes_that_name_each_other_are_not_asked_in_a_tight_loop() -> None:
    talk = Talk(SET)
    exchanges = 0
    while talk.results is None:
        other = B if talk.exchange.address == A else A
        talk.reply(NotLeaderError(other)).wait()
        exchanges += 1
        assert exchanges < 200
    assert kinds(talk.results) == [NotLeaderError]
    assert talk.now_s == pytest.approx(110.0)


def test_an_unreachable_node_is_passed_over_at_once() -> None:
    talk = Talk(SET).reply(fate=Fate.UNREACHABLE)
    assert isinstance(talk.effect, Exchange)
    assert talk.exchange.address == B
    talk.reply(fate=Fate.UNREACHABLE)
    assert talk.exchange.address == C


def test_a_try_that_the_deadline_cut_short_hides_no_earlier_reason() -> None:
    talk = Talk(SET)
    talk.reply(fate=Fate.UNREACHABLE, detail="a:1: ERR max number of clients reached")
    talk.now_s = 110.0
    talk.reply(fate=Fate.UNREACHABLE, detail="b:2: no answer in time")
    assert talk.results is not None
    assert "max number of clients" in str(talk.results[0])


def test_the_first_try_tells_that_the_deadline_cut_it_short() -> None:
    talk = Talk(SET)
    talk.now_s = 110.0
    talk.reply(fate=Fate.UNREACHABLE, detail="a:1: no answer in time")
    assert talk.results is not None
    assert "no answer in time" in str(talk.results[0])


def test_when_nobody_can_be_reached_the_deadline_ends_it_definitely() -> None:
    talk = Talk(SET)
    while talk.results is None:
        talk.reply(fate=Fate.UNREACHABLE).wait()
    assert kinds(talk.results) == [ConnectFailedError]


def test_a_cluster_that_cannot_be_reached_at_all_may_be_given_up_earlier() -> None:
    talk = Talk(SET, reach_s_max=2.0)
    talk.reply(NoLeaderError("no leader elected"))
    while talk.results is None:
        talk.wait().reply(fate=Fate.UNREACHABLE).wait()
    assert kinds(talk.results) == [ConnectFailedError]
    assert 102.0 < talk.now_s < 103.0


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.TIMED_OUT])
def test_a_write_that_was_sent_is_never_sent_again(fate: Fate) -> None:
    talk = Talk(SET).reply(fate=fate)
    lost = {Fate.LOST: ConnectionLostError, Fate.TIMED_OUT: DeadlineExceededError}[fate]
    assert kinds(talk.results) == [lost]
    assert Talk(GET, route=talk.route).exchange.address == B


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.TIMED_OUT])
def test_a_read_is_asked_elsewhere(fate: Fate) -> None:
    talk = Talk(GET)
    assert talk.exchange.reply_s_max == policy.READ_REPLY_S_MAX
    talk.reply(fate=fate)
    assert talk.exchange.address == B
    assert talk.reply(b"v").results == [b"v"]


@pytest.mark.parametrize(
    "refusal",
    [
        NoLeaderError("no leader elected"),
        NotAppliedError("overloaded"),
        CommandError("TRYAGAIN later"),
        CommandError("LOADING"),
    ],
)
def test_a_definite_refusal_is_tried_again_after_a_pause(refusal: Exception) -> None:
    talk = Talk(SET).reply(refusal)
    assert isinstance(talk.effect, Pause)
    assert talk.wait().reply(b"OK").results == [b"OK"]


@pytest.mark.parametrize(
    "refusal",
    [
        CommandError("ERR syntax error"),
        NotAppliedError("disk full"),
        OutcomeUnknownError("leadership lost"),
    ],
)
def test_an_answer_that_is_final_is_final(refusal: Exception) -> None:
    assert Talk(SET).reply(refusal).results == [refusal]


def test_what_is_behind_an_unknown_write_is_not_sent_again() -> None:
    unknown, behind = OutcomeUnknownError("timeout"), NotAppliedError("earlier command unknown")
    assert Talk(SET, GET, SET).reply(unknown, behind, behind).results == [unknown, behind, behind]


def test_what_is_behind_an_unknown_read_goes_again_with_it() -> None:
    unknown, behind = OutcomeUnknownError("timeout"), NotAppliedError("earlier command unknown")
    talk = Talk(SET, GET, SET).reply(b"OK", unknown, behind).wait()
    assert talk.exchange.payload == encode_request(GET) + encode_request(SET)
    assert talk.reply(b"v", b"OK").results == [b"OK", b"v", b"OK"]


def test_refusals_end_at_the_deadline_with_the_last_one() -> None:
    talk = Talk(SET)
    refusal = NotAppliedError("overloaded")
    while talk.results is None:
        talk.reply(refusal).wait()
    assert talk.results == [refusal]
    assert talk.now_s == pytest.approx(110.0)


def test_pauses_grow_and_are_jittered() -> None:
    assert [policy.back_off_s(attempt, 1.0) for attempt in (0, 1, 2, 9, 99)] == [
        0.02, 0.04, 0.08, 0.5, 0.5,
    ]  # fmt: skip
    assert policy.back_off_s(9, 0.0) == 0.25


def test_only_the_refused_tail_of_a_pipeline_is_sent_again() -> None:
    talk = Talk(SET, INCR, GET).reply(b"OK", MOVED_B, NotLeaderError(B))
    assert talk.exchange.address == B
    assert talk.exchange.payload == encode_request(INCR) + encode_request(GET)
    assert talk.reply(1, b"v").results == [b"OK", 1, b"v"]


def test_bad_commands_that_a_follower_refuses_itself_keep_nothing_from_the_leader() -> None:
    bad = CommandError("ERR unknown command")
    talk = Talk(SET, INCR, GET, SET).reply(MOVED_B, bad, MOVED_B, bad)
    assert talk.exchange.address == B
    assert talk.exchange.reply_count == 4
    assert talk.reply(b"OK", bad, b"v", bad).results == [b"OK", bad, b"v", bad]


def test_a_transaction_that_a_follower_discarded_is_not_taken_apart() -> None:
    multi, execute = (b"MULTI",), (b"EXEC",)
    aborted = CommandError("EXECABORT Transaction discarded because of previous errors.")
    talk = Talk(multi, SET, SET, execute).reply(b"OK", MOVED_B, MOVED_B, aborted)
    assert talk.results == [b"OK", MOVED_B, MOVED_B, aborted]


def test_what_a_leader_refused_for_good_in_front_is_not_asked_again() -> None:
    wrong = CommandError("WRONGTYPE it is a list")
    talk = Talk(SET, INCR, GET).reply(b"OK", wrong, MOVED_B)
    assert talk.exchange.payload == encode_request(GET)
    assert talk.reply(b"v").results == [b"OK", wrong, b"v"]


def test_a_refusal_before_an_executed_command_is_not_sent_again() -> None:
    talk = Talk(SET, INCR).reply(MOVED_B, 1)
    assert talk.results == [MOVED_B, 1]


def test_nothing_is_sent_again_behind_an_unknown_outcome() -> None:
    unknown = OutcomeUnknownError("timeout")
    talk = Talk(SET, INCR).reply(unknown, NotAppliedError("overloaded"))
    assert kinds(talk.results) == [OutcomeUnknownError, NotAppliedError]


def test_a_connection_lost_in_a_pipeline_leaves_its_tail_unknown() -> None:
    talk = Talk(SET, INCR, GET).reply(b"OK", fate=Fate.LOST)
    assert kinds(talk.results) == [bytes, ConnectionLostError, ConnectionLostError]


def test_a_lost_tail_of_reads_is_asked_again() -> None:
    talk = Talk(SET, GET, GET).reply(b"OK", fate=Fate.LOST)
    assert talk.exchange.reply_count == 2
    assert talk.reply(b"v", b"v").results == [b"OK", b"v", b"v"]


def test_refusals_before_a_lost_write_are_not_sent_again() -> None:
    talk = Talk(SET, INCR).reply(MOVED_B, fate=Fate.LOST)
    assert kinds(talk.results) == [NotLeaderError, ConnectionLostError]


def test_a_pinned_route_follows_nothing_and_repeats_nothing() -> None:
    assert Talk(SET, route=Route([B, C]).pin(A)).reply(MOVED_B).results == [MOVED_B]
    talk = Talk(GET, route=Route([B, C]).pin(A)).reply(fate=Fate.UNREACHABLE)
    assert kinds(talk.results) == [ConnectFailedError]


def test_a_command_that_changes_its_connection_uses_it_up() -> None:
    assert not Talk((b"select", b"0")).exchange.reusable
    assert not Talk((b"RAFT", b"ROUTING", b"proxy")).exchange.reusable
    assert Talk((b"RAFT", b"STATUS")).exchange.reusable


def test_a_call_whose_deadline_has_passed_sends_nothing() -> None:
    conversation = policy.converse(
        Route([A]),
        [request_of(SET)],
        end_s=1.0,
        reach_s_max=9.0,
        clock=lambda: 1.0,
        chance=lambda: 0.0,
    )
    with pytest.raises(StopIteration) as stop:
        next(conversation)
    assert kinds(stop.value.value) == [ConnectFailedError]


def slots(*nodes: tuple[bytes, int]) -> list[object]:
    return [[0, 16383, *[[host, port, b"id"] for host, port in nodes]]]


def test_a_handshake_teaches_members_and_leader() -> None:
    route = Route([A])
    assert policy.accept_handshake(route, A, [{}, slots((b"c", 3), (b"", 1), (b"::1", 2))]) is None
    assert route.addresses == ("a:1", "c:3", "[::1]:2")
    assert route.choose() == C


@pytest.mark.parametrize("odd", [CommandError("ERR unknown"), None, [], [[0]], [[0, 1, [b"a"]]]])
def test_a_handshake_without_members_is_accepted(odd: object) -> None:
    route = Route([A])
    assert policy.accept_handshake(route, A, [CommandError("NOPROTO"), odd]) is None
    assert route.addresses == (A,)


def test_a_server_that_is_full_is_not_used() -> None:
    full = CommandError("ERR max number of clients reached")
    assert policy.accept_handshake(Route([A]), A, [full, full])


def test_a_leader_that_just_failed_is_not_believed_again_from_hearsay() -> None:
    route = Route([A, B])
    route.follow(B, told_by=A)
    route.leave(B)
    route.learn((A, B), leader=B)
    assert route.choose() == A
    route.follow(B, told_by=A)
    assert route.choose() == B


def test_learned_addresses_are_bounded() -> None:
    route = Route([A])
    route.learn([f"h:{port}" for port in range(1, 1000)])
    assert len(route.addresses) == policy.ADDRESSES_MAX
    assert route.addresses[0] == A


def test_what_is_learned_on_a_pinned_route_is_known_to_the_whole_client() -> None:
    route = Route([A])
    policy.accept_handshake(route.pin(A), A, [{}, slots((b"c", 3), (b"a", 1))])
    assert route.addresses == (A, C)
    assert route.choose() == C
