"""Messages that answer nothing, on a connection that also gets replies.

`PushingPipeline` adds subscriptions and watches to the stream of a client. What it is pushed goes
out between two replies: behind those made before, in front of those still waited for,
never inside one. In RESP2, which cannot tell a message from a reply, a connection with
subscriptions takes only the commands that change them, as in Redis.

A watch holds nothing back for a client that reads slowly: `has_room` says when to go on.
A subscriber that leaves more than `limits.push_buffer_bytes_max` of messages unread loses
its subscriptions, is told so behind the last whole message, and is closed. Nothing is
dropped from the middle of what it gets.

Invariant: a message behind the reply to SUBSCRIBE, and none behind that to
UNSUBSCRIBE. Both wait until nothing is unanswered, so that their replies and the
messages go through one list in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftkv.errors import CommandError
from raftkv.kv.patterns import compile_pattern
from raftkv.resp.values import encode_error
from raftkv.server.command_table import WRONG, CommandSpec
from raftkv.server.subscriptions import Message
from raftkv.server.transactions import OVERLOADED, TransactionalPipeline
from raftkv.server.watch_index import Watch

if TYPE_CHECKING:
    from raftkv.server.ports import Command
    from raftkv.server.service import Service

_NO_SPECS: Final[dict[bytes, CommandSpec]] = {}
# What a connection in RESP2 may send while it has subscriptions.
_ALLOWED: Final = frozenset(
    (
        "subscribe",
        "unsubscribe",
        "psubscribe",
        "punsubscribe",
        "ssubscribe",
        "sunsubscribe",
        "ping",
        "quit",
        "reset",
        "kv|watch",
        "kv|unwatch",
        "kv|progress",
    )
)
# What a subscription or a watch takes in memory besides its name or key.
_SUBSCRIPTION_BYTES: Final = 256
_WATCH_BYTES: Final = 512
# Messages of watches handed to the socket, above which they wait in the history.
_ROOM_BYTES: Final = 64 * 1024
TOO_SLOW: Final = "ERR client too slow: messages exceed limits.push_buffer_bytes_max"


class PushingPipeline(TransactionalPipeline):
    """A stream of a client of this node, with its subscriptions.

    Attributes:
        channels: Channels that it listens to, in order.
        patterns: Patterns.
        shard_channels: Channels of SSUBSCRIBE.
        watches: By their numbers.
        subscribed_bytes: What all of them take in memory.
        is_too_slow: It is being closed because it does not take its messages.
        values_bytes_max: Most bytes of values in one message of a watch.
    """

    __slots__ = (
        "_push_bytes",
        "_push_bytes_max",
        "_pushed",
        "_watch_bytes",
        "_watch_number",
        "channels",
        "is_too_slow",
        "patterns",
        "shard_channels",
        "subscribed_bytes",
        "values_bytes_max",
        "watches",
    )

    def __init__(self, service: Service) -> None:
        """Start without subscriptions."""
        super().__init__(service)
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}
        self.shard_channels: dict[bytes, None] = {}
        self.watches: dict[int, Watch] = {}
        self._watch_number = 0
        self.subscribed_bytes = 0
        self.is_too_slow = False
        # Messages that wait for the end of a reply of which a part was sent.
        self._pushed: list[bytes] = []
        # Of messages since the client last took everything.
        self._push_bytes = self._watch_bytes = 0
        self.values_bytes_max = max(
            service.config.limits.output_buffer_bytes_max // 4,
            service.config.limits.value_bytes_max,
        )
        self._push_bytes_max = service.config.limits.push_buffer_bytes_max

    @property
    def is_subscribed(self) -> bool:
        """Whether messages may come."""
        return bool(self.channels or self.patterns or self.shard_channels or self.watches)

    @property
    def is_restricted(self) -> bool:
        """Whether only the commands of a RESP2 subscriber are taken."""
        return self.protocol == 2 and self.is_subscribed

    # ------------------------------------------------------------ for the handlers

    def subscribe(self, kind: str, names: list[bytes]) -> None:
        """Listen to channels or patterns; to those it listens to already, still.

        Args:
            kind: `channels`, `patterns` or `shard_channels`.
            names: Of that kind.

        Raises:
            CommandError: One is too long, or the subscriptions of all connections
                take too much memory. Nothing was done.
        """
        service = self.service
        own: dict[bytes, None] = getattr(self, kind)
        if kind == "patterns":
            for name in names:
                compile_pattern(name)
        size = sum(len(name) + _SUBSCRIPTION_BYTES for name in names if name not in own)
        self._check_memory(size)
        listeners = getattr(service.subscriptions, kind)
        for name in names:
            if name not in own:
                service.subscriptions.add(listeners, name, self)
                own[name] = None
                self._charge_subscription(len(name) + _SUBSCRIPTION_BYTES)
        self.choose_words()

    def unsubscribe(self, kind: str, name: bytes) -> None:
        """Listen no longer to a channel or pattern, if it does."""
        own: dict[bytes, None] = getattr(self, kind)
        if name in own:
            del own[name]
            self.service.subscriptions.remove(getattr(self.service.subscriptions, kind), name, self)
            self._charge_subscription(-len(name) - _SUBSCRIPTION_BYTES)
            self.choose_words()

    def unsubscribe_all(self) -> None:
        """Listen to nothing and watch nothing any more."""
        for kind in ("channels", "patterns", "shard_channels"):
            for name in list(getattr(self, kind)):
                self.unsubscribe(kind, name)
        for number in list(self.watches):
            self.end_watch(number)

    def begin_watch(
        self, key: bytes, *, is_prefix: bool, previous: bool, first_revision: int | None
    ) -> tuple[int, int]:
        """Be told changes of a key, or of those with a prefix.

        Returns:
            The number of the watch, and the revision behind which its changes begin.

        Raises:
            CommandError: The watches of all connections take too much memory.
            CompactedError: The first revision is gone.
        """
        size = len(key) + _WATCH_BYTES
        self._check_memory(size)
        number = self._watch_number + 1
        watch = Watch(self, number, key, is_prefix=is_prefix, previous=previous)
        position = self.service.watches.add(watch, first_revision)
        self._watch_number = number
        self.watches[number] = watch
        self._charge_subscription(size)
        self.choose_words()
        return number, position

    def end_watch(self, number: int) -> bool:
        """End a watch; False if there is none of that number."""
        watch = self.watches.get(number)
        if watch is None:
            return False
        self.service.watches.remove(watch)
        self.watch_ended(number)
        return True

    def forget_watches(self) -> None:
        """Let go of watches whose hub is gone."""
        for number in list(self.watches):
            self.watch_ended(number)

    def watch_ended(self, number: int) -> None:
        """Forget a watch that has ended."""
        watch = self.watches.pop(number)
        self._charge_subscription(-len(watch.key) - _WATCH_BYTES)
        self.choose_words()

    def choose_words(self) -> None:
        """Let the fast path find commands exactly when every command is taken."""
        if self.queue is None:
            restricted = self.is_restricted
            self._specs = _NO_SPECS if restricted else self.service.table.by_word

    def _check_memory(self, size: int) -> None:
        if size and self.service.queued_bytes + size > self._limits.uncommitted_bytes_max:
            raise CommandError(OVERLOADED)

    def _charge_subscription(self, size: int) -> None:
        self.subscribed_bytes += size
        self.service.queued_bytes += size

    # ------------------------------------------------------------ messages

    def push(self, message: Message) -> None:
        """Send a message between two replies, unless this client is too slow for it."""
        if self.ending:
            return
        data = message.encoded(self.protocol)
        if self._push_bytes and self._push_bytes + len(data) > self._push_bytes_max:
            self._end_too_slow()
            return
        self._push_bytes += len(data)
        self._send_push([data])

    def has_room(self) -> bool:
        """Whether the client takes what it is sent, as far as one knows."""
        return self._writable and not self.ending and self._watch_bytes < _ROOM_BYTES

    @property
    def is_writable(self) -> bool:
        """Whether the socket takes more; `WatchHub.resume` is called when it does again."""
        return self._writable and not self.ending

    def push_parts(self, parts: list[bytes]) -> int:
        """Send an encoded message of a watch between two replies; return its size in bytes."""
        size = sum(map(len, parts))
        if not self.ending:
            self._watch_bytes += size
            self._send_push(parts)
        return size

    def _send_push(self, parts: list[bytes]) -> None:
        self.service.statistics.messages_pushed += 1
        self._pushing = True
        if self._fifo:
            self._pushed += parts
        else:
            self._output += parts
        self._flush_soon()

    def _end_too_slow(self) -> None:
        """Tell a client behind its last message that there will be no more, and close."""
        service = self.service
        service.statistics.connections_closed_slow += 1
        service.observer.event("subscriber_too_slow", client=self.origin)
        self.unsubscribe_all()
        self.is_too_slow = self.ending = True
        self.farewell = encode_error(TOO_SLOW)
        self._reading_changed()
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self.dirty:
            self.dirty = True
            self.service.dirty.append(self)
        self.service.flush_soon()

    def _drain_pushed(self) -> None:
        if self._pushed and not self._is_amid_reply():
            pushed, self._pushed = self._pushed, []
            self._send(pushed)
        if self._writable and not self._pushed:
            self._push_bytes = self._watch_bytes = 0
            self._pushing = False

    def _resume_messages(self) -> None:
        """Go on behind what the client has just taken."""
        if not self._pushed:
            self._push_bytes = self._watch_bytes = 0
        if self.watches:
            self.service.watches.resume(list(self.watches.values()))

    def _is_amid_reply(self) -> bool:
        """Whether a reply is being sent in slices."""
        head = self._fifo[0] if self._fifo else None
        return head is not None and head.__class__ is not bytes and head.slices is not None

    # ------------------------------------------------------------ requests

    def _find_unusual(self, arguments: list[bytes]) -> CommandSpec:
        return WRONG if self.is_restricted else super()._find_unusual(arguments)

    def _understand(self, arguments: list[bytes]) -> tuple[CommandSpec, Command | None]:
        if self.is_restricted:
            spec = self.service.table.resolve(arguments)
            if spec.name not in _ALLOWED:
                raise CommandError(
                    f"ERR Can't execute '{spec.name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / "
                    "PING / QUIT / RESET are allowed in this context"
                )
        return super()._understand(arguments)
