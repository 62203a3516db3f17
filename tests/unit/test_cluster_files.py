"""What `raftkv init` and `raftkv up` write loads, stays secret, and replaces nothing."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from raftkv.cluster_files import (
    ensure_local_peer_secret,
    ensure_peer_secret,
    local_members,
    render_node_config,
    write_cluster,
)
from raftkv.config import ListenConfig
from raftkv.errors import ConfigError
from raftkv.settings import SETTINGS, load_config, parse_config
from raftkv.transport.secret import load_secret
from raftkv.types import Member, NodeId


@pytest.mark.parametrize("nodes", [1, 2, 3, 5, 15])
def test_every_written_file_loads_without_a_warning_but_for_an_even_number(
    tmp_path: Path, nodes: int
) -> None:
    files = write_cluster(tmp_path, nodes=nodes, working_directory=tmp_path)
    assert [path.name for path in files.configs] == [f"node{n + 1}.toml" for n in range(nodes)]
    configs = []
    for path in files.configs:
        loaded = load_config(path)
        assert [warning.partition(":")[0] for warning in loaded.warnings] == (
            ["members"] if nodes % 2 == 0 else []
        )
        configs.append(loaded.config)
    assert [config.node.id for config in configs] == [member.id for member in files.members]
    ports = [
        address
        for config in configs
        for address in (config.listen.client, config.listen.peer, config.listen.admin)
    ]
    assert len(set(ports)) == 3 * nodes
    assert len({config.node.data_dir for config in configs}) == nodes
    assert {config.members for config in configs} == {
        tuple(sorted(files.members, key=lambda member: member.id))
    }


def test_a_written_choice_names_all_that_may_be_chosen(tmp_path: Path) -> None:
    text = write_cluster(tmp_path, working_directory=tmp_path).configs[0].read_text()
    section = ""
    shown: dict[str, str] = {}
    for line in text.splitlines():
        section = line[1:-1] if line.startswith("[") else section
        setting, _, words = line.partition("  # ")
        if " | " in words:
            shown[f"{section}.{setting.partition(' = ')[0]}"] = words
    assert set(shown) == {"durability.sync", "reads.level", "writes.on_follower"}
    assert shown == {key: SETTINGS[key].kind.allowed for key in shown}


def test_the_ports_are_those_of_the_manual(tmp_path: Path) -> None:
    files = write_cluster(tmp_path, working_directory=tmp_path)
    config = load_config(files.configs[2]).config
    assert config.listen == ListenConfig(
        client="127.0.0.1:7003", peer="127.0.0.1:7103", admin="127.0.0.1:7203"
    )
    assert config.node.data_dir == "data/n3"


def test_the_secret_is_where_the_config_says_and_for_its_owner_only(tmp_path: Path) -> None:
    files = write_cluster(tmp_path / "configs", working_directory=tmp_path, base_port=9001)
    config = load_config(files.configs[0]).config
    assert tmp_path / config.security.peer_secret_file == files.peer_secret
    assert stat.S_IMODE(files.peer_secret.stat().st_mode) == 0o600
    assert len(bytes.fromhex(files.peer_secret.read_text().strip())) == 32
    assert sorted(path.name for path in files.peer_secret.parent.iterdir()) == ["peer.secret"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "node2.toml").write_text("mine")
    with pytest.raises(ConfigError, match=r"node2\.toml: exists; nothing was written"):
        write_cluster(tmp_path, working_directory=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node2.toml"]
    assert (tmp_path / "node2.toml").read_text() == "mine"


def test_overwriting_keeps_the_secret(tmp_path: Path) -> None:
    first = write_cluster(tmp_path, working_directory=tmp_path)
    secret = first.peer_secret.read_text()
    second = write_cluster(tmp_path, working_directory=tmp_path, base_port=8001, overwrite=True)
    assert second.peer_secret.read_text() == secret
    assert load_config(second.configs[0]).config.listen.client == "127.0.0.1:8001"


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_cluster(tmp_path / "file" / "configs", working_directory=tmp_path)


@pytest.mark.parametrize(
    ("nodes", "base_port", "keys"),
    [
        (0, 7001, ["nodes"]),
        (16, 7001, ["nodes"]),
        (3, 0, ["base port"]),
        (0, 65400, ["nodes", "base port"]),
    ],
)
def test_numbers_out_of_range(nodes: int, base_port: int, keys: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        local_members(nodes, base_port=base_port)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == keys


@pytest.mark.parametrize(
    "path",
    ["plain", 'a "quoted" path', "back\\slash", "tab\there", "line\nbreak", "ünï", "#no", "\x7f"],
)
def test_any_path_survives_the_template(path: str) -> None:
    text = render_node_config(
        node_id="n1",
        data_dir=path,
        listen=ListenConfig(client="127.0.0.1:1", peer="127.0.0.1:2", admin="127.0.0.1:3"),
        members=(Member(id=NodeId("n1"), client="127.0.0.1:1", peer="127.0.0.1:2"),),
        peer_secret_file=path,
    )
    config = parse_config(text, source="x").config
    assert config.node.data_dir == path
    assert config.security.peer_secret_file == path


def test_many_makers_of_one_secret_agree(tmp_path: Path) -> None:
    path = tmp_path / "data" / "peer.secret"
    barrier = threading.Barrier(8)
    made: list[bool] = []
    seen: list[str] = []

    def make() -> None:
        barrier.wait()
        made.append(ensure_peer_secret(path))
        seen.append(path.read_text())

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 7 + [True]
    assert len(set(seen)) == 1
    assert len(seen[0]) == 65
    assert os.listdir(path.parent) == ["peer.secret"]


def test_a_local_cluster_gets_its_secret_at_the_first_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_cluster(tmp_path, working_directory=tmp_path)
    files.peer_secret.unlink()
    files.peer_secret.parent.rmdir()
    monkeypatch.chdir(tmp_path)
    config = load_config(files.configs[0]).config
    assert ensure_local_peer_secret(config) is True
    secret = load_secret(config.security.peer_secret_file)
    assert ensure_local_peer_secret(config) is False
    assert load_secret(config.security.peer_secret_file) == secret


def test_a_cluster_across_machines_never_gets_a_secret_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_cluster(tmp_path, working_directory=tmp_path)
    files.peer_secret.unlink()
    monkeypatch.chdir(tmp_path)
    config = load_config(files.configs[0], overrides=["listen.peer=0.0.0.0:7101"]).config
    assert ensure_local_peer_secret(config) is False
    assert not files.peer_secret.exists()


def test_without_a_secret_file_in_the_config_none_is_made(tmp_path: Path) -> None:
    files = write_cluster(tmp_path, working_directory=tmp_path)
    override = ["security.peer_secret_file="]
    assert (
        ensure_local_peer_secret(load_config(files.configs[0], overrides=override).config) is False
    )


def test_a_secret_that_cannot_be_made_is_a_problem_with_its_key(tmp_path: Path) -> None:
    files = write_cluster(tmp_path, working_directory=tmp_path)
    override = [f"security.peer_secret_file={files.configs[0]}/peer.secret"]
    config = load_config(files.configs[0], overrides=override).config
    with pytest.raises(ConfigError, match=r"^security\.peer_secret_file: .* cannot be made"):
        ensure_local_peer_secret(config)
