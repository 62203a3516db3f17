"""Addresses, and the promise that every setting carries its range and its meaning."""

from __future__ import annotations

import dataclasses
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.config import (
    Config,
    Limits,
    NumberPair,
    SettingKind,
    TimingConfig,
    is_loopback,
    is_wildcard,
    split_address,
)
from raftkv.setting_rules import judge
from raftkv.settings import MISSING, SECTIONS, SETTINGS


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7001", "127.0.0.1", 7001),
        ("localhost:1", "localhost", 1),
        ("[::1]:65535", "::1", 65535),
        ("raftkv-1.example.net:7001", "raftkv-1.example.net", 7001),
        ("node_1:7001", "node_1", 7001),
    ],
)
def test_address_is_split(text: str, host: str, port: int) -> None:
    assert split_address(text) == (host, port)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("localhost", "no port"),
        ("", "no port"),
        (":7001", "no host name"),
        ("localhost:", "outside 1..65535"),
        ("localhost:0", "outside 1..65535"),
        ("localhost:65536", "outside 1..65535"),
        ("localhost:+1", "outside 1..65535"),
        ("localhost:٧", "outside 1..65535"),
        ("::1:7001", "without brackets"),
        ("[::1:7001", "without brackets"),
        ("[localhost]:7001", "no IPv6 address"),
        ("a b:7001", "no host name"),
        ("-a:7001", "no host name"),
        ("redis://localhost:7001", "without brackets"),
    ],
)
def test_bad_address_says_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        split_address(text)


@given(st.text(max_size=40))
def test_any_text_is_split_or_refused_with_a_reason(text: str) -> None:
    try:
        host, port = split_address(text)
    except ValueError as error:
        assert str(error).startswith("has ")
    else:
        assert host
        assert 1 <= port <= 65535


@pytest.mark.parametrize(
    ("text", "loopback", "wildcard"),
    [
        ("127.0.0.1:1", True, False),
        ("127.9.9.9:1", True, False),
        ("localhost:1", True, False),
        ("[::1]:1", True, False),
        ("0.0.0.0:1", False, True),
        ("[::]:1", False, True),
        ("10.0.0.1:1", False, False),
        ("example.net:1", False, False),
        ("localhost.example.net:1", False, False),
    ],
)
def test_loopback_and_wildcard(text: str, loopback: bool, wildcard: bool) -> None:
    assert is_loopback(text) is loopback
    assert is_wildcard(text) is wildcard


def test_every_field_of_every_section_has_a_kind_and_a_meaning() -> None:
    for values_type in SECTIONS.values():
        hints = typing.get_type_hints(values_type, include_extras=True)
        for one in dataclasses.fields(values_type):
            annotation = hints[one.name]
            assert typing.get_origin(annotation) is typing.Annotated, one.name
            kind = typing.get_args(annotation)[1]
            assert isinstance(kind, SettingKind), one.name
            assert kind.meaning.endswith("."), one.name


def test_every_section_of_the_config_can_be_set() -> None:
    assert {one.name for one in dataclasses.fields(Config)} == {*SECTIONS, "members"}


@pytest.mark.parametrize(
    "key", [key for key, one in SETTINGS.items() if one.default is not MISSING]
)
def test_default_lies_in_its_range(key: str) -> None:
    setting = SETTINGS[key]
    assert judge(setting.kind, setting.default) == ""


@pytest.mark.parametrize("values_type", [Limits, TimingConfig])
def test_numbers_carry_their_unit_last_or_before_max(values_type: type) -> None:
    units = {"ms", "seconds", "bytes", "clients", "arguments", "commands", "keys"}
    units |= {"leases", "revisions"}
    for one in dataclasses.fields(values_type):
        # As in Redis, where everybody looks for it.
        if one.name == "maxmemory":
            continue
        words = one.name.removesuffix("_max").split("_")
        assert words[-1] in units, one.name


def test_a_pair_tells_its_range() -> None:
    assert NumberPair(1, 9, "ms", "M.").allowed == (
        "two numbers in 1..9 ms, the first below the second"
    )
