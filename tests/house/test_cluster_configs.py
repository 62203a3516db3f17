"""Every file in cluster-configs/ can be used as it is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from raftkv.cluster_files import write_cluster
from raftkv.settings import SETTINGS, load_config
from tests.house.tree import ROOT

CONFIGS = ROOT / "cluster-configs"
FILES = sorted(CONFIGS.rglob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(CONFIGS)) for path in FILES])
def test_a_file_loads_without_a_warning(path: Path) -> None:
    assert load_config(path).warnings == ()


def test_nothing_else_lies_there() -> None:
    assert sorted(path for path in CONFIGS.rglob("*") if path.is_file()) == FILES


def test_the_local_cluster_is_what_init_writes(tmp_path: Path) -> None:
    files = write_cluster(tmp_path, nodes=3, working_directory=tmp_path)
    assert {path.name for path in files.configs} == {path.name for path in CONFIGS.glob("*.toml")}
    for path in files.configs:
        assert (CONFIGS / path.name).read_text() == path.read_text()


def test_the_five_nodes_are_what_the_same_template_writes(tmp_path: Path) -> None:
    files = write_cluster(
        tmp_path,
        nodes=5,
        base_port=7501,
        data_directory="data/five-nodes",
        working_directory=tmp_path,
    )
    stored = CONFIGS / "five-nodes"
    assert {path.name for path in files.configs} == {path.name for path in stored.iterdir()}
    for path in files.configs:
        assert (stored / path.name).read_text() == path.read_text()


@pytest.mark.parametrize("node_id", ["r1", "r2", "r3"])
def test_one_production_file_serves_every_node(node_id: str) -> None:
    path = CONFIGS / "production" / "node.toml"
    config = load_config(path, environment={"RAFTKV_NODE_ID": node_id}).config
    assert config.node.id == node_id
    assert config.durability.sync == "always"


def test_what_is_commented_out_in_production_shows_the_defaults() -> None:
    text = (CONFIGS / "production" / "node.toml").read_text()
    limits = text.split("[limits]")[1]
    shown = tomllib.loads("\n".join(re.findall(r"^# (\w+ = \d+)$", limits, re.MULTILINE)))
    assert shown == {
        key.removeprefix("limits."): setting.default
        for key, setting in SETTINGS.items()
        if key.startswith("limits.")
    }
