"""Numbers as Redis reads and writes them (the differential tests compare many more)."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.kv.numbers import (
    INT64_MAX,
    INT64_MIN,
    add_floats,
    format_float,
    is_infinite,
    parse_float,
    parse_integer,
)


@given(st.integers(INT64_MIN, INT64_MAX))
def test_every_int64_is_read(number: int) -> None:
    assert parse_integer(b"%d" % number) == number


@pytest.mark.parametrize(
    "text",
    [b"", b"+1", b"-0", b"00", b"01", b" 1", b"1 ", b"1.0", b"0x1", b"1e3", b"-", b"1\n",
     b"9223372036854775808", b"-9223372036854775809", b"9" * 5000, "١".encode()],
)  # fmt: skip
def test_other_forms_of_an_integer_are_not(text: bytes) -> None:
    assert parse_integer(text) is None


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (b"0", b"0"),
        (b"-0.0", b"0"),
        (b"3.0e3", b"3000"),
        (b".5", b"0.5"),
        (b"5.", b"5"),
        (b"+7", b"7"),
        (b"0x1.8p1", b"3"),
        (b"-0X10", b"-16"),
        (b"0x.8", b"0.5"),
        (b"0.1", b"0.1"),
        (b"1e0000000000000000002", b"100"),
        (b"1e-0000000000000000002", b"0.01"),
        (b"0e99999999999999999999", b"0"),
        (b"1e-17", b"0.00000000000000001"),
        (b"1e-18", b"0"),
        (b"0" * 5000 + b"1", b"1"),
    ],
)
def test_floats_are_read_and_written(text: bytes, written: bytes) -> None:
    number = parse_float(text)
    assert number is not None
    assert format_float(number) == written


@pytest.mark.parametrize(
    "text",
    [b"", b" 1", b"1 ", b"1e", b"e1", b".", b"0x", b"0xg", b"nan", b"inf", b"1_0", b"1e4933",
     b"1e-5000", b"1e-4951", b"1e99999999999999999999", b"1e-99999999999999999999", b"0x1p16384",
     b"0x1p-99999", b"1" * 5120],
)  # fmt: skip
def test_texts_that_strtold_would_not_take(text: bytes) -> None:
    assert parse_float(text) is None


def test_infinities_are_told_apart() -> None:
    assert is_infinite(b"inf")
    assert is_infinite(b"-INFINITY")
    assert not is_infinite(b"information")


def test_a_number_of_thousands_of_digits_is_written() -> None:
    number = parse_float(b"1e4931")
    assert number is not None
    assert len(format_float(number)) == 4932


def test_sums_are_rounded_to_64_bits_half_to_even() -> None:
    big = Fraction(2**64)
    assert add_floats(big, Fraction(1)) == big
    assert add_floats(big, Fraction(3)) == big + 4
    assert add_floats(big, Fraction(2)) == big + 2
    assert add_floats(-big, Fraction(-1)) == -big
    assert add_floats(big, -big) == 0


def test_a_sum_that_is_too_large_is_none() -> None:
    largest = (Fraction(2) ** 64 - 1) * Fraction(2) ** (16384 - 64)
    assert add_floats(largest, Fraction(0)) == largest
    assert add_floats(largest, largest) is None


@given(st.integers(-(10**15), 10**15), st.integers(-(10**15), 10**15))
def test_integers_below_64_bits_add_up_exactly(first: int, second: int) -> None:
    numbers = parse_float(b"%d" % first), parse_float(b"%d" % second)
    assert None not in numbers
    total = add_floats(*numbers)
    assert total is not None
    assert format_float(total) == b"%d" % (first + second)
