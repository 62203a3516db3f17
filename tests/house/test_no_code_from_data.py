"""Nothing that comes from a network or a disk is decoded by something that can run code."""

from __future__ import annotations

import ast
import re

import pytest

from tests.house.tree import imported_names, modules, parsed

# These turn bytes into objects by calling what the bytes name.
DANGEROUS = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "yaml"}
EXECUTING = {"eval", "exec", "compile", "__import__"}


@pytest.mark.parametrize("module", sorted(modules()))
def test_no_dangerous_decoder_is_imported(module: str) -> None:
    roots = {name.split(".")[0] for name in imported_names(modules()[module])}
    assert not roots & DANGEROUS


@pytest.mark.parametrize("module", sorted(modules()))
def test_no_line_looks_like_decoding_with_pickle_or_marshal(module: str) -> None:
    text = modules()[module].read_text(encoding="utf-8")
    pattern = r"^\s*(import|from) +(pickle|marshal|shelve)|(pickle|marshal)\.loads?\("
    assert not re.search(pattern, text, re.MULTILINE)


@pytest.mark.parametrize("module", sorted(modules()))
def test_no_text_is_executed(module: str) -> None:
    for node in ast.walk(parsed(modules()[module])):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in EXECUTING, f"line {node.lineno}"
