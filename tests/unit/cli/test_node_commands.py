from __future__ import annotations

import json
from pathlib import Path

import pytest

from raftkv.settings import load_config
from tests.unit.cli.conftest import Run


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_init_writes_configs_that_load(run: Run) -> None:
    result = run("init", "--nodes", "5", "--dir", "made", "--base-port", "9001")
    assert result.exit_code == 0
    assert "wrote made/node5.toml" in result.stdout
    config = load_config("made/node5.toml").config
    assert (config.node.id, config.listen.client) == ("n5", "127.0.0.1:9005")
    assert Path("data/peer.secret").stat().st_mode & 0o077 == 0


def test_init_overwrites_nothing_unless_forced(run: Run) -> None:
    run("init", "--dir", "made")
    result = run("init", "--dir", "made")
    assert result.exit_code == 2
    assert "made/node1.toml: exists" in result.stderr
    assert run("init", "--dir", "made", "--force").exit_code == 0


def test_init_warns_where_old_data_would_be_used(run: Run) -> None:
    run("init", "--dir", "made")
    Path("data/n2").mkdir()
    Path("data/n2/identity").write_bytes(b"anything")
    result = run("init", "--dir", "other")
    assert result.exit_code == 0
    assert result.stderr == "warning: data/n2 holds data of an earlier node, which would be used\n"


def test_a_node_is_not_started_as_new_from_the_wrong_directory(run: Run) -> None:
    run("init", "--dir", "made")
    Path("made/data/n1").mkdir(parents=True)
    Path("made/data/n1/identity").write_bytes(b"anything")
    result = run("start", "--config", "made/node1.toml")
    assert result.exit_code == 2
    assert "cd made && raftkv start --config node1.toml" in result.stderr
    assert not Path("data/n1").exists()


def bad_config() -> str:
    Path("bad.toml").write_text("[node]\nid = 5\n[timings]\nheartbeat_ms = 1\n")
    return "bad.toml"


@pytest.mark.parametrize("words", [["start", "--config"], ["config", "check"], ["config", "show"]])
def test_a_bad_config_shows_every_problem_and_exits_2(run: Run, words: list[str]) -> None:
    result = run(*words, bad_config())
    assert result.exit_code == 2
    assert result.stdout == ""
    for path in ("node.id", "timings", "listen.client", "members"):
        assert f"  {path}" in result.stderr
    assert "problems in the config:" in result.stderr


def test_a_missing_file_exits_2(run: Run) -> None:
    result = run("start", "--config", "none.toml")
    assert result.exit_code == 2
    assert "none.toml: cannot be read" in result.stderr


def test_check_accepts_good_files(run: Run) -> None:
    run("init", "--dir", "made")
    result = run("config", "check", "made/node1.toml", "made/node2.toml")
    assert result.exit_code == 0
    assert result.stdout == "made/node1.toml: ok\nmade/node2.toml: ok\n"
    result = run("config", "check", "made/node1.toml", bad_config())
    assert result.exit_code == 2
    assert "made/node1.toml: ok" in result.stdout
    assert "bad.toml: node.id" in result.stderr


def test_show_tells_where_a_value_comes_from(run: Run) -> None:
    run("init", "--dir", "made")
    arguments = ["config", "show", "made/node1.toml", "--set", "timing.heartbeat_ms=60"]
    shown = json.loads(run(*arguments, "--json").stdout)
    assert shown["timing.heartbeat_ms"] == {"value": 60, "origin": "flag --set"}
    assert shown["node.id"] == {"value": "n1", "origin": "file made/node1.toml"}
    assert shown["limits.clients_max"]["origin"] == "default"
    assert shown["members"]["value"][0]["id"] == "n1"
    lines = run(*arguments).stdout.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("timing.heartbeat_ms")] == [
        ["timing.heartbeat_ms", "60"]
    ]


def test_show_without_a_file_is_the_table_of_settings(run: Run) -> None:
    result = run("config", "show")
    assert result.exit_code == 0
    assert "node.id" in result.stdout
    assert "(required)" in result.stdout
    assert (
        json.loads(run("config", "show", "--json").stdout)["timing.heartbeat_ms"]["default"] == 50
    )
