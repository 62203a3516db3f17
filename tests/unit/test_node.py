"""How a node ends when something happens that nobody thought of."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftkv import node
from raftkv.cluster_files import write_cluster
from raftkv.config import Config
from raftkv.settings import load_config


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    files = write_cluster(tmp_path, base_port=28950)
    return load_config(files.configs[0]).config


@pytest.fixture(autouse=True)
def quiet_root() -> Iterator[None]:
    """Take down the handler that a node sets up."""
    root = logging.getLogger()
    before = list(root.handlers)
    level = root.level
    yield
    for handler in [one for one in root.handlers if one not in before]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def test_a_defect_at_the_start_is_an_internal_stop_and_is_told(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def defect(*_: object, **__: object) -> None:
        raise RuntimeError("never thought of")

    monkeypatch.setattr(node, "recover", defect)
    assert node.run(config) == node.EXIT_INTERNAL
    line = capsys.readouterr().err
    assert "CRITICAL internal_error" in line
    assert "never thought of" in line


def test_the_collector_knows_nothing_of_what_was_loaded_when_the_first_turn_comes(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that applies much lets the collector look at what is new: 180 ms of a million keys."""
    recover = node.recover
    loaded: list[list[int]] = []
    known: list[int] = []

    def recover_much(*arguments: Any, **named: Any) -> Any:
        loaded.extend([number] for number in range(100_000))
        return recover(*arguments, **named)

    async def look_and_end(_: node.Node) -> None:
        known.append(len(gc.get_objects(0)))
        raise OSError("enough")

    monkeypatch.setattr(node, "recover", recover_much)
    monkeypatch.setattr(node.Node, "_make_admin", look_and_end)
    try:
        assert node.run(config) == node.EXIT_IN_USE
    finally:
        gc.unfreeze()
    assert known[0] < len(loaded) / 2
    assert gc.isenabled()
