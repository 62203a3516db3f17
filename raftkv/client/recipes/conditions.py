"""Waiting until a key says something else: what barriers and observers do. Pure."""

from __future__ import annotations

from raftkv.client.commands import Text, build_exists
from raftkv.client.recipes.claims import Holding, read_holding
from raftkv.client.steps import Ask, Outside, Steps, poll


def until_gone(key: Text, *, end_s: float | None, outside: Outside) -> Steps[bool]:
    """Wait until a key does not exist; False when the time is over before."""

    def look() -> Steps[bool | None]:
        exists = yield Ask(build_exists(key))
        return None if exists else True

    return (yield from poll(look, end_s=end_s, outside=outside)) is not None


def until_held_anew(
    key: Text, known: Holding | None, *, end_s: float | None, outside: Outside
) -> Steps[Holding | None]:
    """Wait until a key is held, and not as it is known already; None when the time is over."""

    def look() -> Steps[Holding | None]:
        holding = yield from read_holding(key)
        return None if holding == known else holding

    return (yield from poll(look, end_s=end_s, outside=outside))
