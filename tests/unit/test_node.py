"""How a node ends when something happens that nobody thought of."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

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
