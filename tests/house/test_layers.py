"""Imports point downwards, by the contracts that pyproject.toml states for import-linter.

import-linter also follows chains of imports and is part of tests/check.py; this
reads the same contracts, so that `python -m pytest` alone finds a wrong import.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.house.tree import imported_names, modules, project


def contract(name: str) -> dict[str, Any]:
    contracts = project()["tool"]["importlinter"]["contracts"]
    return next(one for one in contracts if one["id"] == name)


LAYERS = [re.findall(r"\w+", layer) for layer in contract("layers")["layers"]]
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}
PURE = contract("pure")["source_modules"]
OUTSIDE_WORLD = set(contract("pure")["forbidden_modules"])


def layer_of(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("module", [name for name in modules() if name != "raftkv"])
def test_imports_of_a_module_point_down(module: str) -> None:
    assert layer_of(module) in LEVELS, "place the new package in pyproject.toml"
    for imported in imported_names(modules()[module]):
        if imported.startswith("raftkv.") and layer_of(imported) != layer_of(module):
            assert LEVELS[layer_of(imported)] > LEVELS[layer_of(module)], imported


@pytest.mark.parametrize(
    "module",
    [
        name
        for name in modules()
        if any(name == pure or name.startswith(f"{pure}.") for pure in PURE)
    ],
)
def test_pure_module_does_not_touch_the_world(module: str) -> None:
    roots = {imported.split(".")[0] for imported in imported_names(modules()[module])}
    assert not roots & OUTSIDE_WORLD


def test_every_pure_module_that_is_named_exists() -> None:
    assert set(PURE) <= set(modules())


def test_the_engine_the_store_and_the_protocol_are_pure() -> None:
    assert {"raftkv.engine", "raftkv.kv", "raftkv.resp", "raftkv.framing", "raftkv.types"} <= set(
        PURE
    )


# Each library has one home, so that it can be replaced and is loaded only where it is used.
DOORS = {
    "aiohttp": {"raftkv.observe.http"},
    "click": {"raftkv.cli"},
    "prometheus_client": {"raftkv.observe.metrics"},
    "prompt_toolkit": {"raftkv.cli"},
    "pysyncobj": {"raftkv.engine.syncobj_library"},
    "rich": {"raftkv.cli"},
    "sortedcontainers": {"raftkv.kv", "raftkv.server.waiting"},
}


@pytest.mark.parametrize("library", sorted(DOORS))
def test_a_library_is_imported_in_its_home_only(library: str) -> None:
    users = {
        module
        for module, path in modules().items()
        if any(name.split(".")[0] == library for name in imported_names(path))
    }
    strangers = {
        user
        for user in users
        if not any(user == home or user.startswith(f"{home}.") for home in DOORS[library])
    }
    assert not strangers


def test_subpackages_import_nothing_by_themselves() -> None:
    for name, path in modules().items():
        if path.name == "__init__.py" and name != "raftkv":
            assert not imported_names(path), name


def test_no_directory_of_the_package_lacks_its_init_file() -> None:
    for path in modules().values():
        assert (path.parent / "__init__.py").is_file(), path
