"""The examples of docs/reference/python-api.md, executed."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

import raftkv
from raftkv.client.sync_client import Client
from tests.unit.client.fake_cluster import FakeCluster

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "python-api.md"
TEXT = PAGE.read_text(encoding="utf-8")


def run_block(block: str, names: dict[str, Any]) -> int:
    """Execute a block; compare every `# ->`. Returns how many were compared."""
    lines = block.splitlines()
    compared = 0

    def visit(statements: list[ast.stmt]) -> None:
        nonlocal compared
        for statement in statements:
            assert statement.end_lineno is not None
            _, arrow, expected = lines[statement.end_lineno - 1].partition("  # -> ")
            if arrow and isinstance(statement, ast.Expr):
                value = eval(compile(ast.Expression(statement.value), str(PAGE), "eval"), names)
                assert repr(value) == expected, ast.unparse(statement)
                compared += 1
            elif isinstance(statement, ast.With):
                (item,) = statement.items
                with eval(
                    compile(ast.Expression(item.context_expr), str(PAGE), "eval"), names
                ) as it:
                    assert isinstance(item.optional_vars, ast.Name)
                    names[item.optional_vars.id] = it
                    visit(statement.body)
            else:
                module = ast.Module([statement], [])
                exec(compile(module, str(PAGE), "exec"), names)

    visit(ast.parse(block).body)
    return compared


def test_the_examples_show_what_happens(cluster: FakeCluster) -> None:
    text = TEXT
    for number, address in enumerate(cluster.addresses, 1):
        text = text.replace(f"127.0.0.1:700{number}", address)
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    compared = sum(run_block(block, names) for block in blocks)
    assert compared == TEXT.count("# -> ")


def test_the_page_lists_every_method_and_error() -> None:
    public = {name for name in dir(Client) if not name.startswith("_")}
    plumbing = {"run", "converse", "decode"}
    for name in public - plumbing:
        assert re.search(rf"\b{name}\b", TEXT), name
    for name in raftkv.__all__:
        assert name.startswith("_") or re.search(rf"\b{name}\b", TEXT), name


def test_the_table_of_errors_tells_their_kind() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (definite|indefinite) \|", TEXT, re.MULTILINE)
    assert len(rows) == 9
    for name, kind in rows:
        base = raftkv.DefiniteError if kind == "definite" else raftkv.IndefiniteError
        assert issubclass(getattr(raftkv, name), base)


@pytest.mark.parametrize("argument", ["deadline_s", "reach_s_max", "decode", "connections_max"])
def test_the_arguments_are_real(argument: str) -> None:
    assert f"| `{argument}` |" in TEXT
    value = {"decode": True}.get(argument, 1)
    Client("127.0.0.1:1", **{argument: value}).close()  # type: ignore[arg-type]
