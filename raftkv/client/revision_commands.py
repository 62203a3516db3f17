"""Builders for the commands on revisions: keys as they were, and ranges of keys in order.

As in `client.commands`, a builder `build_x` becomes the method `x` of each client, and
of pipelines. Pure.
"""

from __future__ import annotations

from typing import Any

from raftkv.client.calls import Call
from raftkv.client.commands import Text, make_call
from raftkv.client.protocol import Argument, decode_text, encode_text
from raftkv.client.replies import to_integer, to_mapping
from raftkv.errors import ProtocolError

_ITEM = ("key", "value", "create_revision", "modify_revision", "version")


def build_get_revision(key: Text, revision: int | None = None) -> Call[dict[str, Any] | None]:
    """Return a key of any type with its revisions, as it is or as it was.

    Args:
        key: Name of the key.
        revision: Behind which it is wanted; as it is now if not given.

    Returns:
        `value` (a collection in whole), `create_revision`, `modify_revision`, `version` and
        `type`; None if there is, or was, no such key.

    Raises:
        CommandError: The revision is compacted, or has not come yet.
    """
    at: list[Argument] = [] if revision is None else ["REV", revision]
    return make_call(_to_entry, "KV", "GET", key, *at, holds_text=True)


def build_range_page(
    start: Text = "", end: Text = "", *, prefix: Text | None = None,
    resume: Text | None = None, limit: int | None = None, revision: int | None = None,
    keys_only: bool = False,
) -> Call[dict[str, Any]]:  # fmt: skip
    """Return one page of keys in ascending order; `range_iter` turns the pages.

    Args:
        start: First key.
        end: Key before which to stop; empty for none.
        prefix: Of all keys wanted, instead of `start` and `end`.
        resume: Where to go on: `next` of the page before.
        limit: Most keys on a page; 1000 if not given, 10,000 at most.
        revision: As of which the keys are wanted; the present one if not given.
        keys_only: Leave out values and revisions.

    Returns:
        `revision` of the page; `next`, None at the end; and `items`: keys, or a dict of
        `key`, `value`, `create_revision`, `modify_revision` and `version` each.

    Raises:
        CommandError: The revision is compacted, or has not come yet.
    """
    options: list[Argument] = []
    for name, value in (("FROM", resume), ("LIMIT", limit), ("REV", revision)):
        if value is not None:
            options += [name, value]
    if keys_only:
        options.append("KEYSONLY")
    bounds = _bounds(start, end, prefix)
    return make_call(_to_page, "KV", "RANGE", *bounds, *options, holds_text=True)


def build_range_count(
    start: Text = "", end: Text = "", *, prefix: Text | None = None, revision: int | None = None
) -> Call[int]:
    """Return the number of keys in a range; arguments as in `range_page`."""
    at: list[Argument] = [] if revision is None else ["REV", revision]
    return make_call(to_integer, "KV", "RANGE", *_bounds(start, end, prefix), "COUNT", *at)


def build_history() -> Call[dict[str, Any]]:
    """Return which revisions can be read: `newest`, `oldest`, and what they take."""
    return make_call(to_mapping, "KV", "HISTORY")


def _bounds(start: Text, end: Text, prefix: Text | None) -> list[Argument]:
    if prefix is not None:
        if start or end:
            raise ValueError("a prefix goes without start and end")
        return ["PREFIX", prefix]
    if _upper(start) == b"PREFIX":
        # The server would take it for the word.
        return ["", end, "FROM", start]
    return [start, end]


def _upper(text: Text) -> bytes:
    return (encode_text(text) if isinstance(text, str) else bytes(text)).upper()


def _fields(reply: Any) -> dict[str, Any]:
    """Return a map with text keys and values as they are, from RESP2 or RESP3."""
    if isinstance(reply, dict):
        return {decode_text(key): value for key, value in reply.items()}
    if not isinstance(reply, list) or len(reply) % 2:
        raise ProtocolError("the reply is no map")
    return {decode_text(key): value for key, value in zip(reply[::2], reply[1::2], strict=True)}


def _to_entry(reply: Any) -> dict[str, Any] | None:
    if reply is None:
        return None
    fields = _fields(reply)
    fields["type"] = decode_text(fields["type"])
    return fields


def _to_page(reply: Any) -> dict[str, Any]:
    fields = _fields(reply)
    if not {"revision", "next", "items"} <= fields.keys():
        raise ProtocolError("the reply is no page of a range")
    items = [
        dict(zip(_ITEM, item, strict=True)) if isinstance(item, list) else item
        for item in fields["items"]
    ]
    return {"revision": fields["revision"], "next": fields["next"], "items": items}
