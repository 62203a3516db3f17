"""Who listens to what on this node, and messages to all of them.

`Subscriptions` maps channels, patterns and shard channels to the connections that
listen to them. A message is encoded once for each version of the protocol, whatever
the number of its listeners. It knows neither other nodes (`publications`) nor
sockets: a listener takes its messages with `push` and counts what it may hold.

Called only on the thread that owns the state.
"""

from __future__ import annotations

from typing import Protocol

from raftkv.kv.patterns import Matcher, compile_pattern
from raftkv.resp.values import Push, encode


class Message:
    """One message to several connections.

    Attributes:
        words: What it consists of.
    """

    __slots__ = ("_encoded", "words")

    def __init__(self, *words: object) -> None:
        """Keep the words; nothing is encoded before somebody wants it."""
        self.words = words
        self._encoded: dict[int, bytes] = {}

    def encoded(self, protocol: int) -> bytes:
        """Return a push of RESP3, or an array of RESP2."""
        data = self._encoded.get(protocol)
        if data is None:
            data = self._encoded[protocol] = encode(Push(self.words), protocol)
        return data


class Listener(Protocol):
    """A connection, as far as messages are concerned."""

    def push(self, message: Message) -> None:
        """Take a message that answers nothing; must not raise."""
        ...


_Listeners = dict[Listener, None]


class Subscriptions:
    """The subscriptions of all connections of one node.

    Attributes:
        channels: Channel -> those that listen, in the order in which they came.
        shard_channels: The same of SSUBSCRIBE.
        patterns: Pattern -> those that listen.
    """

    def __init__(self) -> None:
        """Start without any."""
        self.channels: dict[bytes, _Listeners] = {}
        self.shard_channels: dict[bytes, _Listeners] = {}
        self.patterns: dict[bytes, _Listeners] = {}
        self._matchers: dict[bytes, Matcher] = {}

    def add(self, kind: dict[bytes, _Listeners], name: bytes, listener: Listener) -> None:
        """Let a connection listen; harmless when repeated.

        Args:
            kind: One of the attributes.
            name: Channel or pattern.
            listener: The connection.

        Raises:
            CommandError: The pattern is too long.
        """
        if kind is self.patterns:
            self._matchers[name] = compile_pattern(name)
        kind.setdefault(name, {})[listener] = None

    def remove(self, kind: dict[bytes, _Listeners], name: bytes, listener: Listener) -> None:
        """Let a connection listen no longer; it does at present."""
        listeners = kind[name]
        del listeners[listener]
        if not listeners:
            del kind[name]
            if kind is self.patterns:
                del self._matchers[name]

    def deliver(self, channel: bytes, text: bytes, *, sharded: bool = False) -> int:
        """Send a message to everybody here who listens to its channel.

        Returns:
            How many messages that makes: one for each subscription, as in Redis.
        """
        listeners = (self.shard_channels if sharded else self.channels).get(channel)
        count = 0
        if listeners:
            word = b"smessage" if sharded else b"message"
            count += _push_to(listeners, Message(word, channel, text))
        if self._matchers and not sharded:
            matching = [name for name, matches in self._matchers.items() if matches(channel)]
            for pattern in matching:
                # One that was cut off meanwhile may have been the last of its pattern.
                if (listeners := self.patterns.get(pattern)) is not None:
                    count += _push_to(listeners, Message(b"pmessage", pattern, channel, text))
        return count


def _push_to(listeners: _Listeners, message: Message) -> int:
    # A copy: who is too slow is taken out at once.
    for listener in list(listeners):
        listener.push(message)
    return len(listeners)
