"""Messages that answer nothing, on a connection that also gets replies.

`PushingPipeline` adds subscriptions to the stream of a client. What it is pushed goes
out between two replies: behind those made before, in front of those still waited for,
never inside one. In RESP2, which cannot tell a message from a reply, a connection with
subscriptions takes only the commands that change them, as in Redis.

A client that leaves more than `limits.push_buffer_bytes_max` of messages unread loses
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
    )
)
# What a subscription takes in memory besides its name.
_SUBSCRIPTION_BYTES: Final = 256
TOO_SLOW: Final = "ERR client too slow: messages exceed limits.push_buffer_bytes_max"


class PushingPipeline(TransactionalPipeline):
    """A stream of a client of this node, with its subscriptions.

    Attributes:
        channels: Channels that it listens to, in order.
        patterns: Patterns.
        shard_channels: Channels of SSUBSCRIBE.
        is_too_slow: It is being closed because it does not take its messages.
    """

    __slots__ = (
        "_push_bytes",
        "_push_bytes_max",
        "_pushed",
        "channels",
        "is_too_slow",
        "patterns",
        "shard_channels",
        "subscribed_bytes",
    )

    def __init__(self, service: Service) -> None:
        """Start without subscriptions."""
        super().__init__(service)
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}
        self.shard_channels: dict[bytes, None] = {}
        self.subscribed_bytes = 0
        self.is_too_slow = False
        # Messages that wait for the end of a reply of which a part was sent.
        self._pushed: list[bytes] = []
        self._push_bytes = 0  # of messages since the client last took everything
        self._push_bytes_max = service.config.limits.push_buffer_bytes_max

    @property
    def is_subscribed(self) -> bool:
        """Whether messages may come."""
        return bool(self.channels or self.patterns or self.shard_channels)

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
        if size and service.queued_bytes + size > self._limits.uncommitted_bytes_max:
            raise CommandError(OVERLOADED)
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
        """Listen to nothing any more."""
        for kind in ("channels", "patterns", "shard_channels"):
            for name in list(getattr(self, kind)):
                self.unsubscribe(kind, name)

    def choose_words(self) -> None:
        """Let the fast path find commands exactly when every command is taken."""
        if self.queue is None:
            restricted = self.is_restricted
            self._specs = _NO_SPECS if restricted else self.service.table.by_word

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
        self.service.statistics.messages_pushed += 1
        (self._pushed if self._fifo else self._output).append(data)
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

    def _drain(self) -> None:
        super()._drain()
        if self._pushed and not self._is_amid_reply():
            pushed, self._pushed = self._pushed, []
            self._send(pushed)
        if self._writable and not self._pushed:
            self._push_bytes = 0

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
