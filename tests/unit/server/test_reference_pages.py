"""The pages on commands and errors say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from raftkv import seams
from raftkv.resp import parser
from raftkv.server import forwarding, pipeline, routing
from tests.unit.server.reference_pages import PAGE, TITLES, commands_page
from tests.unit.server.test_command_table import TABLE

ERRORS = (PAGE.parent / "errors.md").read_text()
FAILURES = [value for value in vars(seams).values() if isinstance(value, seams.Failure)]


def test_the_page_on_commands_is_the_table() -> None:
    assert PAGE.read_text() == commands_page(), "python -m tests.unit.server.reference_pages"


def test_every_group_has_a_title() -> None:
    assert {spec.group for spec in TABLE.all()} == set(TITLES)


def _section(title: str) -> str:
    return ERRORS.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_every_failure_has_its_row(failure: seams.Failure) -> None:
    if failure is seams.NO_LEADER:
        assert "| `CLUSTERDOWN` |" in ERRORS
        return
    title = "Reasons of NOTAPPLIED" if failure.definite else "Reasons of UNKNOWN"
    assert f"| `{failure.reason}` |" in _section(title)


def test_every_reason_in_the_code_has_its_row() -> None:
    for module in (pipeline, routing, forwarding):
        source = Path(module.__file__).read_text()
        for kind, reason in re.findall(r'"(NOTAPPLIED|UNKNOWN) ([a-z ]+)"', source):
            assert f"| `{reason}` |" in _section(f"Reasons of {kind}"), reason
        for reason in re.findall(r'_lose\(number, "([^"]+)"\)', source):
            assert f"| `{reason}` |" in _section("Reasons of NOTAPPLIED")
            assert f"| `{reason}` |" in _section("Reasons of UNKNOWN")


def test_every_error_of_the_protocol_is_named() -> None:
    source = Path(parser.__file__).read_text()
    texts = re.findall(r'_fail\(f?"([^"{]+)', source)
    assert len(texts) >= 6
    for text in texts:
        assert text.strip().removesuffix(" '").split(" '")[0] in ERRORS, text
