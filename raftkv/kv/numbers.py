"""Numbers as Redis reads and writes them, computed alike on every machine.

Redis adds floats in the 80-bit format of the x87 (`long double`), which other
processors and Python do not have. INCRBYFLOAT therefore works here on exact
fractions, rounded to a 64-bit mantissa where the processor would round, so that
all nodes agree to the last digit - with each other and with Redis.

Pure functions. Users: `strings` and the parsers of `server`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Final

INFINITY: Final = float("inf")
INT64_MAX: Final = 2**63 - 1
INT64_MIN: Final = -(2**63)

_INTEGER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_DECIMAL: Final = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEXADECIMAL: Final = re.compile(
    rb"([+-]?)0[xX](?:([0-9a-fA-F]+)\.?([0-9a-fA-F]*)|\.([0-9a-fA-F]+))(?:[pP]([+-]?[0-9]+))?"
)
_INFINITE: Final = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE)

# Source: the buffer of string2ld() in Redis 7.
_FLOAT_TEXT_BYTES_MAX: Final = 5 * 1024 - 1
# Properties of the x87 extended format.
_MANTISSA_BITS: Final = 64
_EXPONENT_MAX: Final = 16384
_EXPONENT_MIN: Final = -16445
# Larger ones are decided without building the number.
_DECIMAL_EXPONENT_MAX: Final = 4932
_DECIMAL_EXPONENT_MIN: Final = -4951
_FRACTION_DIGITS: Final = 17


def parse_integer(text: bytes) -> int | None:
    """Return a 64-bit integer in Redis' strict form, or None.

    No plus sign, no blanks, no leading zeros, no `-0`.
    """
    if _INTEGER.fullmatch(text) is None:
        return None
    number = int(text)
    return number if INT64_MIN <= number <= INT64_MAX else None


def is_infinite(text: bytes) -> bool:
    """Whether the text is one of the infinities, which parse but cannot be added."""
    return _INFINITE.fullmatch(text) is not None


def parse_float(text: bytes) -> Fraction | None:
    """Return the 80-bit float nearest to a finite decimal or hexadecimal text.

    Returns:
        None where `strtold` would not read the whole text, or would report that
        it is too large or too small.
    """
    if len(text) > _FLOAT_TEXT_BYTES_MAX:
        return None
    if _DECIMAL.fullmatch(text) is not None:
        return _parse_decimal(text)
    match = _HEXADECIMAL.fullmatch(text)
    return None if match is None else _parse_hexadecimal(match)


def parse_double(text: bytes) -> float | None:
    """Return the double nearest to a text, an infinity included.

    Returns:
        None where `strtod` would not read the whole text, reads no number, or would
        report that it is too large or too small.
    """
    if is_infinite(text):
        return float(text)
    if _DECIMAL.fullmatch(text) is not None:
        number = float(text)
        digits = re.split(rb"[eE]", text)[0]
    elif _HEXADECIMAL.fullmatch(text) is not None:
        try:
            number = float.fromhex(text.decode())
        except OverflowError:
            return None
        digits = re.split(rb"[pP]", text)[0].lower().partition(b"x")[2]
    else:
        return None
    is_zero = not digits.strip(b"+-.0")
    return None if number in (INFINITY, -INFINITY) or (not number and not is_zero) else number


def parse_c_double(text: bytes) -> float | None:
    """Return what `strtod` alone makes of a text up to a NUL: 0 of none, infinity of too much.

    Returns:
        None where something is left, or that is no number.
    """
    text = text.split(b"\0", 1)[0]
    if not text:
        return 0.0
    text = text.lstrip(b" \t\n\v\f\r")
    number = parse_double(text)
    if number is not None:
        return number
    if _DECIMAL.fullmatch(text) is not None:
        return float(text)
    if _HEXADECIMAL.fullmatch(text) is None:
        return None
    try:
        return float.fromhex(text.decode())
    except OverflowError:
        return -INFINITY if text.startswith(b"-") else INFINITY


def add_floats(first: Fraction, second: Fraction) -> Fraction | None:
    """Return the sum as the processor rounds it; None when it is too large."""
    return _round_to_extended(first + second)


def format_float(number: Fraction) -> bytes:
    """Write as `%.17Lf` does, without trailing zeros."""
    sign = b"-" if number < 0 else b""
    # round() is half to even on the exact value, as printf is.
    scaled = round(abs(number) * 10**_FRACTION_DIGITS)
    # Why not str(): Python limits the digits of an int, not those of a Decimal.
    digits = format(Decimal(scaled), "f").encode().rjust(_FRACTION_DIGITS + 1, b"0")
    whole, fraction = digits[:-_FRACTION_DIGITS], digits[-_FRACTION_DIGITS:].rstrip(b"0")
    if not fraction:
        return b"0" if whole == b"0" else sign + whole
    return sign + whole + b"." + fraction


def _parse_decimal(text: bytes) -> Fraction | None:
    mantissa, _, exponent = text.lower().partition(b"e")
    significant = Decimal(mantissa.decode())
    if not significant:
        return Fraction(0)
    power = _parse_exponent(exponent)
    magnitude = significant.adjusted() + power
    if not _DECIMAL_EXPONENT_MIN - 1 <= magnitude <= _DECIMAL_EXPONENT_MAX:
        return None
    return _round_to_extended(Fraction(significant) * Fraction(10) ** power, zero=False)


def _parse_hexadecimal(match: re.Match[bytes]) -> Fraction | None:
    sign, whole, fraction, bare_fraction, exponent = match.groups()
    fraction = fraction or bare_fraction or b""
    significant = int((whole or b"") + fraction, 16)
    if not significant:
        return Fraction(0)
    power = _parse_exponent(exponent or b"") - 4 * len(fraction)
    if not _EXPONENT_MIN - 1 <= significant.bit_length() + power <= _EXPONENT_MAX + 1:
        return None
    number = Fraction(significant) * Fraction(2) ** power
    return _round_to_extended(-number if sign == b"-" else number, zero=False)


def _parse_exponent(text: bytes) -> int:
    """Read an exponent; of a huge one only that it is huge, as int() refuses so many digits."""
    digits = text.lstrip(b"+-").lstrip(b"0")[:12]
    return int(digits or b"0") * (-1 if text.startswith(b"-") else 1)


def _round_to_extended(number: Fraction, *, zero: bool = True) -> Fraction | None:
    """Round half to even to a 64-bit mantissa.

    Returns:
        None when too large, or - unless `zero` - when a number other than zero rounds to zero.
    """
    if not number:
        return number
    # 2**(exponent - 1) <= |number| < 2**exponent
    exponent = abs(number.numerator).bit_length() - number.denominator.bit_length()
    if abs(number) >= Fraction(2) ** exponent:
        exponent += 1
    unit = Fraction(2) ** max(exponent - _MANTISSA_BITS, _EXPONENT_MIN)
    rounded = round(number / unit) * unit
    if abs(rounded) >= Fraction(2) ** _EXPONENT_MAX:
        return None
    return rounded if rounded or zero else None
