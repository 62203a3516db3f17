"""The core of a client's watch: what it asks each node, and what it makes of the answers."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.client.policy import Route
from raftkv.client.watching import ANSWER_S_MAX, SILENCE_S_MAX, Watching
from raftkv.errors import CommandError, CompactedError, ConnectFailedError

HELLO = b"%1\r\n+proto\r\n:3\r\n"
SLOTS = b"*0\r\n"
NODES = ("a:1", "b:2", "c:3")


def watching(*, decode: bool = False, **wish: Any) -> Watching[Any]:
    wish = {"key": None, "prefix": "", "from_revision": None, "prev": False} | wish
    core: Watching[Any] = Watching(
        Route(NODES), **wish, decode=decode, reach_s_max=10.0, chance=lambda: 0.0
    )
    core.begin(0.0)
    return core


def accepted(revision: int) -> bytes:
    return HELLO + SLOTS + b"%%2\r\n$5\r\nwatch\r\n:1\r\n$8\r\nrevision\r\n:%d\r\n" % revision


def events(revision: int, *keys: bytes) -> bytes:
    body = b"".join(
        b"*8\r\n$3\r\nput\r\n$%d\r\n%b\r\n$6\r\nstring\r\n$1\r\nv\r\n:0\r\n:1\r\n:2\r\n_\r\n"
        % (len(key), key)
        for key in keys
    )
    head = b">5\r\n$8\r\nkv-watch\r\n:1\r\n$6\r\nevents\r\n:%d\r\n*%d\r\n" % (revision, len(keys))
    return head + body


def progress(revision: int) -> bytes:
    return b">4\r\n$8\r\nkv-watch\r\n:1\r\n$8\r\nprogress\r\n:%d\r\n" % revision


def compacted(oldest: int, reached: int) -> bytes:
    words = b">5\r\n$8\r\nkv-watch\r\n:1\r\n$9\r\ncompacted\r\n:%d\r\n:%d\r\n"
    return words % (oldest, reached)


def connect(core: Watching[Any], now_s: float = 0.0) -> str:
    """Connect to the node it chooses; return the words of its watch."""
    core.choose()
    words = core.connected(now_s).split(b"\r\n")
    start = len(words) - 1 - words[::-1].index(b"KV")
    return b" ".join(words[start::2]).decode()


def revisions(core: Watching[Any]) -> list[int]:
    found = []
    while (change := core.take()) is not None:
        found.append(change.revision)
    return found


def test_it_asks_for_what_is_wanted() -> None:
    assert connect(watching(key="k", prefix=None)) == "KV WATCH KEY k"
    assert connect(watching(prefix="p:", prev=True)) == "KV WATCH PREFIX p: PREV"
    assert connect(watching(prefix="p", from_revision=7)) == "KV WATCH PREFIX p FROM 7"


@pytest.mark.parametrize(
    "wish",
    [{"key": "k", "prefix": "p"}, {"key": None, "prefix": None}, {"from_revision": 0}],
)
def test_what_cannot_be_wanted(wish: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"a watch has|a revision is"):
        watching(**wish)


def test_another_node_is_asked_for_what_comes_behind() -> None:
    core = watching()
    connect(core)
    core.received(accepted(5), 0.0)
    assert core.is_started
    assert core.revision == 5
    core.received(events(8, b"k") + events(9, b"k")[:-3], 0.0)
    assert revisions(core) == [8]
    core.failed(ConnectionError("gone"), 1.0)
    assert connect(core) == "KV WATCH PREFIX  FROM 9"
    core.received(accepted(8) + events(9, b"k"), 1.0)
    assert revisions(core) == [9]
    core.received(progress(20), 1.0)
    assert core.take() is None
    assert core.revision == 20
    core.failed(ConnectionError("gone"), 2.0)
    assert connect(core) == "KV WATCH PREFIX  FROM 21"


def test_what_has_come_and_was_not_taken_is_not_asked_for_again() -> None:
    core = watching()
    connect(core)
    core.received(accepted(0) + events(1, b"k") + events(2, b"a", b"b"), 0.0)
    core.failed(ConnectionError("gone"), 1.0)
    assert connect(core) == "KV WATCH PREFIX  FROM 3"
    assert core.revision == 0
    change = core.take()
    assert change is not None
    assert (change.revision, core.revision) == (1, 1)
    change = core.take()
    assert change is not None
    assert [event.key for event in change.events] == [b"a", b"b"]


def test_bytes_may_come_one_by_one_and_text_is_wanted() -> None:
    core = watching(decode=True)
    connect(core)
    for byte in accepted(0) + events(1, b"k\xff") + progress(2):
        core.received(bytes((byte,)), 0.0)
    change = core.take()
    assert change is not None
    (event,) = change.events
    assert event == ("put", "k\udcff", "string", "v", 0, 1, 2, None)


def test_a_node_that_repeats_or_speaks_nonsense_is_left() -> None:
    for data in (
        events(5, b"k"),
        b"+what\r\n",
        b"hello\r\n",
        events(6, b"k")[:-8] + b"*1\r\n:1\r\n",
    ):
        core = watching()
        connect(core)
        core.received(accepted(5) + data, 0.0)
        assert core.left()
        assert core.take() is None


def test_nodes_are_tried_in_turn_and_more_slowly_with_time() -> None:
    core = watching()
    chosen, pauses = [], []
    for _ in range(6):
        chosen.append(core.choose())
        pauses.append(core.failed(ConnectionRefusedError(), 1.0))
    assert chosen == [*NODES, *NODES]
    assert pauses[:2] == [0.0, 0.0]
    assert 0.0 < pauses[2] < pauses[5]


def test_without_any_node_it_gives_up_and_can_go_on() -> None:
    core = watching(from_revision=5)
    core.choose()
    core.failed(ConnectionRefusedError(), 9.0)
    with pytest.raises(ConnectFailedError):
        core.failed(ConnectionRefusedError(), 11.0)
    assert connect(core, 12.0) == "KV WATCH PREFIX  FROM 5"
    core.received(accepted(4), 12.0)
    core.failed(ConnectionError(), 21.0)


def test_a_silent_node_is_asked_and_left_without_an_answer() -> None:
    core = watching()
    connect(core)
    core.received(accepted(0), 0.0)
    assert core.due(SILENCE_S_MAX - 0.1) == b""
    assert core.due(SILENCE_S_MAX) == b"*2\r\n$4\r\nRAFT\r\n$9\r\nSTALENESS\r\n"
    assert core.due(SILENCE_S_MAX + 0.1) == b""
    core.received(b":3\r\n", SILENCE_S_MAX + 0.2)
    assert not core.left()
    late = SILENCE_S_MAX + 0.2
    assert core.due(late + SILENCE_S_MAX)
    assert core.due(late + SILENCE_S_MAX + ANSWER_S_MAX) == b""
    assert core.left()


@pytest.mark.parametrize("answer", [b":60000\r\n", b"_\r\n", b"-ERR what\r\n"])
def test_a_node_that_is_cut_off_is_left(answer: bytes) -> None:
    core = watching()
    connect(core)
    core.received(accepted(0), 0.0)
    core.due(SILENCE_S_MAX)
    core.received(answer, SILENCE_S_MAX)
    assert "cut off" in core.left()


def test_one_that_never_accepts_is_left() -> None:
    core = watching()
    connect(core)
    core.due(SILENCE_S_MAX + ANSWER_S_MAX)
    assert core.left()


def test_what_came_before_a_gap_is_handed_out_first() -> None:
    core = watching()
    connect(core)
    core.received(accepted(0) + events(1, b"k") + compacted(9, 1), 0.0)
    assert core.left()
    change = core.take()
    assert change is not None
    for _ in range(2):
        with pytest.raises(CompactedError) as caught:
            core.take()
        assert (caught.value.oldest, caught.value.reached) == (9, 1)


def test_a_refusal_is_raised_and_an_overload_is_not() -> None:
    core = watching(from_revision=3)
    connect(core)
    text = b"-ERR revision 3 is compacted; the oldest available is 7\r\n"
    core.received(HELLO + SLOTS + text, 0.0)
    with pytest.raises(CompactedError) as caught:
        core.check_accepted()
    assert caught.value.oldest == 7
    core = watching()
    connect(core)
    core.received(HELLO + SLOTS + b"-ERR unknown subcommand 'WATCH'. Try KV HELP.\r\n", 0.0)
    with pytest.raises(CommandError, match="unknown"):
        core.check_accepted()
    core = watching()
    connect(core)
    core.received(HELLO + SLOTS + b"-NOTAPPLIED overloaded\r\n", 0.0)
    core.check_accepted()
    assert "overloaded" in core.left()
    assert not core.is_started
