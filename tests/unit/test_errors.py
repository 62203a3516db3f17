"""Every failure of a request says whether it may have been executed."""

from __future__ import annotations

import inspect
import re

import pytest

from raftkv import errors

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, Exception)
}


def test_the_drawing_shows_the_tree() -> None:
    """The picture at the top of the module is what a reader goes by."""
    drawn = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^([ |]*)(?:\+-- )?([A-Z]\w+Error)\b", line)
        if not match:
            continue
        depth = len(match[1])
        above = [(width, name) for width, name in above if width < depth]
        drawn[match[2]] = above[-1][1] if above else "Exception"
        above.append((depth if "+--" in line else -1, match[2]))
    real = {name: value.__bases__[0].__name__ for name, value in CLASSES.items()}
    assert drawn == real


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_request_error_is_definite_or_indefinite_never_both(name: str) -> None:
    value = CLASSES[name]
    definite = issubclass(value, errors.DefiniteError)
    indefinite = issubclass(value, errors.IndefiniteError)
    is_leaf = issubclass(value, errors.RequestError) and value is not errors.RequestError
    assert definite + indefinite == (1 if is_leaf else 0)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_names_and_docstrings(name: str) -> None:
    assert name.endswith("Error")
    assert CLASSES[name].__doc__


def test_a_config_error_lists_its_problems() -> None:
    error = errors.ConfigError(["a: is bad", "b: is worse"])
    assert error.problems == ["a: is bad", "b: is worse"]
    assert str(error) == "a: is bad\nb: is worse"


def test_damage_names_file_and_position() -> None:
    error = errors.DamagedDataError("wal/1", 4096, "the checksum does not match", "delete it")
    assert str(error) == "wal/1, byte 4096: the checksum does not match"
    assert error.advice == "delete it"


@pytest.mark.parametrize(
    ("message", "code"), [("WRONGTYPE Operation against a key", "WRONGTYPE"), ("ERR", "ERR")]
)
def test_the_code_of_a_command_error_is_its_first_word(message: str, code: str) -> None:
    assert errors.CommandError(message).code == code
