"""What a watch asks, what it makes of the answers, and when it goes to another node.

`Watching` is a watch without I/O: the two shells connect where it says, hand it what
arrives and send what it wants. It keeps the revision up to which everything has come, so
that the next connection, to whichever node, goes on behind it: nothing is missed and
nothing comes twice, however often nodes are lost.

A node is left when its connection ends or fails, when it says nothing at all for too
long, and when it is cut off from the cluster: after some silence it is asked how old its
store may be.

Users: client.sync_watch, client.async_watch. Source: docs/reference/commands.md, Watches.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

import hiredis

from raftkv.client import policy
from raftkv.client.policy import Route, back_off_s
from raftkv.client.protocol import (
    NOT_READY,
    Argument,
    ReplyReader,
    decode_text,
    encode_argument,
    encode_request,
    unreachable,
)
from raftkv.errors import (
    CompactedError,
    ConnectFailedError,
    NotAppliedError,
    ProtocolError,
    RequestError,
)

V = TypeVar("V")

# Silence behind which a node is asked how old its store is, and time for its answer.
SILENCE_S_MAX: Final = 2.0
ANSWER_S_MAX: Final = 2.0
# A node whose store may be older than this is cut off: another one knows more.
STALENESS_MS_MAX: Final = 5000

_COMPACTED: Final = re.compile(r"ERR revision \d+ is compacted; the oldest available is (\d+)")
_KINDS: Final = {b"put": "put", b"delete": "delete", b"expire": "expire"}


class WatchEvent(NamedTuple, Generic[V]):
    """What happened to one key.

    Attributes:
        kind: `put` (also of a new time to live), `delete` or `expire`.
        key: The key.
        type: `string`, `hash`, ...; None if the key is gone.
        value: Of a string, else None.
        deadline_ms: Unix time at which it expires, or 0.
        create_revision: Revision at which the key came to be; 0 if it is gone.
        version: How often it has changed since then; 0 if it is gone.
        previous: The string before, if that was asked for.
    """

    kind: str
    key: V
    type: str | None
    value: V | None
    deadline_ms: int
    create_revision: int
    version: int
    previous: V | None


class Change(NamedTuple, Generic[V]):
    """All that one command or transaction changed of what is watched.

    Attributes:
        revision: Of the change; grows from one to the next.
        events: One for each key.
    """

    revision: int
    events: tuple[WatchEvent[V], ...]


class Watching(Generic[V]):
    """One watch, whichever node it is connected to.

    Attributes:
        revision: Up to which everything has been handed out; None before the start.
        is_started: A node has accepted the watch, so that it misses nothing from now on, or
            refused it.
    """

    def __init__(
        self,
        route: Route,
        *,
        key: Argument | None,
        prefix: Argument | None,
        from_revision: int | None,
        prev: bool,
        decode: bool,
        reach_s_max: float,
        chance: Callable[[], float],
    ) -> None:
        """Prepare a watch.

        Args:
            route: What the client knows of the cluster.
            key: What is watched, or None for a prefix.
            prefix: Prefix of the keys that are watched, or None for a key.
            from_revision: First revision to be told, from 1; None for what comes.
            prev: Whether the values before are told.
            decode: Whether keys and values are text.
            reach_s_max: Seconds without any node after which it is given up.
            chance: Random numbers from 0 to 1, for the jitter.

        Raises:
            ValueError: Not exactly one of key and prefix, or a revision below 1.
        """
        if (key is None) == (prefix is None):
            raise ValueError("a watch has either a key or a prefix")
        if from_revision is not None and from_revision < 1:
            raise ValueError("a revision is a number from 1")
        what = (b"KEY", key) if key is not None else (b"PREFIX", prefix)
        self._words = (b"KV", b"WATCH", what[0], encode_argument(cast(Argument, what[1])))
        self._options = (b"PREV",) if prev else ()
        self._route = route
        self._decode = decode
        self._reach_s_max = reach_s_max
        self._chance = chance
        self.revision: int | None = None if from_revision is None else from_revision - 1
        self.is_started = False
        self._received: int | None = self.revision
        self._changes: deque[Change[V]] = deque()
        self._reader = ReplyReader(keeps_pushes=True)
        self._replies_due: deque[Callable[[Any], None]] = deque()
        self._address = ""
        self._hello: object = None
        self._heard_s = self._reached_s = 0.0
        self._has_asked = False
        self._failures = 0
        self._leave = ""
        self._error: RequestError | None = None

    # ------------------------------------------------------------ connections

    def begin(self, now_s: float) -> None:
        """Count the time without a node from now on."""
        self._reached_s = now_s

    def choose(self) -> str:
        """Return the node to connect to; any will do."""
        addresses = self._route.addresses
        if self._address in addresses:
            position = addresses.index(self._address) + 1
        else:
            position = int(self._chance() * len(addresses))
        self._address = addresses[position % len(addresses)]
        return self._address

    def connected(self, now_s: float) -> bytes:
        """A connection stands; return what to send on it."""
        self._reader = ReplyReader(keeps_pushes=True)
        self._leave = ""
        self._has_asked = False
        self._heard_s = now_s
        self._replies_due = deque((self._take_hello, self._take_slots, self._take_watch))
        words: tuple[bytes, ...] = self._words
        if self._received is not None:
            words += (b"FROM", b"%d" % (self._received + 1))
        handshake, _ = policy.HANDSHAKE
        return handshake + encode_request((*words, *self._options))

    def failed(self, error: Exception, now_s: float) -> float:
        """A connection ended or did not come about.

        Returns:
            Seconds to wait before the next one; `take` is to be asked before.

        Raises:
            ConnectFailedError: No node could be reached for too long. Nothing is
                missed: whoever goes on later goes on here.
        """
        if self._error is not None:
            return 0.0
        if now_s - self._reached_s > self._reach_s_max:
            self._reached_s = now_s
            raise ConnectFailedError(self._leave or unreachable(self._address, error))
        self._failures += 1
        # Once through all nodes at once, then more and more slowly.
        rounds = self._failures - len(self._route.addresses)
        return 0.0 if rounds < 0 else back_off_s(rounds, self._chance())

    def check_accepted(self) -> None:
        """Check that the watch was not refused.

        Raises:
            CompactedError: The history does not go back to its first revision.
            CommandError: The cluster refuses to be watched like this.
        """
        if self._error is not None:
            raise self._error

    def left(self) -> str:
        """Return why this node is to be left, or an empty text."""
        return self._leave

    # ------------------------------------------------------------ bytes

    def received(self, data: bytes, now_s: float) -> None:
        """Take what arrived."""
        self._heard_s = now_s
        self._has_asked = False
        try:
            self._reader.feed(data)
            while not self._leave and (message := self._reader.next_reply()) is not NOT_READY:
                if isinstance(message, hiredis.PushNotification):
                    self._take_push(message)
                elif self._replies_due:
                    self._replies_due.popleft()(message)
                else:
                    self._leave = f"{self._address}: {message}"
            if self.is_started and not self._replies_due:
                self._reached_s = now_s
                self._failures = 0
        except (ProtocolError, ValueError, IndexError, TypeError, KeyError) as error:
            self._leave = f"{self._address}: {error}"

    def due(self, now_s: float) -> bytes:
        """Return what to send now, which is nothing unless the node has long been silent."""
        silence_s = now_s - self._heard_s
        if silence_s < SILENCE_S_MAX:
            return b""
        if self._has_asked or self._replies_due:
            if silence_s >= SILENCE_S_MAX + ANSWER_S_MAX:
                self._leave = f"{self._address}: no answer in time"
            return b""
        self._has_asked = True
        self._replies_due.append(self._take_staleness)
        return encode_request((b"RAFT", b"STALENESS"))

    def wait_s(self, now_s: float) -> float:
        """Return how long to wait for bytes before `due` is asked again."""
        patience_s = SILENCE_S_MAX
        if self._has_asked or self._replies_due:
            patience_s += ANSWER_S_MAX
        return max(0.01, self._heard_s + patience_s - now_s)

    def take(self) -> Change[V] | None:
        """Return the next change, or None while there is none.

        Raises:
            CompactedError: Those behind it were missed, because they are gone.
            CommandError: The cluster refuses to be watched like this.
        """
        if not self._changes:
            if self._error is not None:
                raise self._error
            if self._received is not None:
                self.revision = self._received
            return None
        change = self._changes.popleft()
        self.revision = change.revision
        return change

    # ------------------------------------------------------------ replies

    def _take_hello(self, reply: Any) -> None:
        self._hello = reply

    def _take_slots(self, reply: Any) -> None:
        refusal = policy.accept_handshake(self._route, self._address, (self._hello, reply))
        self._leave = refusal or ""

    def _take_watch(self, reply: Any) -> None:
        if isinstance(reply, NotAppliedError):
            self._leave = f"{self._address}: {reply}"
        elif isinstance(reply, RequestError):
            compacted = _COMPACTED.match(str(reply))
            if compacted is not None:
                reply = CompactedError(int(compacted[1]), reached=self._received or 0)
            self._end(reply)
        else:
            if self._received is None:
                self._received = self.revision = int(reply[b"revision"])
            self.is_started = True

    def _take_staleness(self, reply: Any) -> None:
        if not isinstance(reply, int) or reply > STALENESS_MS_MAX:
            self._leave = f"{self._address}: cut off from the cluster"

    def _take_push(self, message: list[Any]) -> None:
        if message[0] != b"kv-watch":
            return
        what, revision = message[2], int(message[3])
        if what == b"compacted":
            self._end(CompactedError(revision, reached=self._received or 0))
            return
        received = self._received or 0
        if what == b"progress":
            self._received = max(received, revision)
        elif what == b"events":
            if revision <= received:
                raise ProtocolError(f"revision {revision} came behind {received}")
            events = tuple(map(self._event, message[4]))
            self._changes.append(Change(revision, events))
            self._received = revision

    def _end(self, error: RequestError) -> None:
        """Go on with no node; what has come before is handed out first."""
        self._error = error
        self.is_started = True
        self._leave = str(error)

    def _event(self, fields: list[Any]) -> WatchEvent[V]:
        kind, key, type_name, value, deadline_ms, created, version, previous = fields
        return WatchEvent(
            _KINDS[kind],
            self._text(key),
            None if type_name is None else type_name.decode(),
            self._text(value),
            deadline_ms,
            created,
            version,
            self._text(previous),
        )

    def _text(self, data: bytes | None) -> Any:
        return decode_text(data) if self._decode and data is not None else data
