"""Files, environment and flags become one valid config, or a list of every problem."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.config import Config
from raftkv.errors import ConfigError
from raftkv.settings import SETTINGS, load_config, parse_config

MINIMAL = """
[node]
id = "n1"
data_dir = "data/n1"
[listen]
client = "127.0.0.1:7001"
peer = "127.0.0.1:7101"
admin = "127.0.0.1:7201"
[[members]]
id = "n1"
client = "127.0.0.1:7001"
peer = "127.0.0.1:7101"
"""


def problems_of(text: str, **sources: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, source="node.toml", **sources)  # type: ignore[arg-type]
    return caught.value.problems


def load(text: str = MINIMAL, **sources: object) -> Config:
    return parse_config(text, source="node.toml", **sources).config  # type: ignore[arg-type]


def test_what_the_file_leaves_out_has_its_default() -> None:
    config = load()
    assert config.node.id == "n1"
    assert config.durability.sync == "always"
    assert config.timing.election_timeout_ms == (300, 600)
    assert config.limits.clients_max == 10_000
    assert [member.id for member in config.members] == ["n1"]


def test_the_file_sets_every_kind_of_value() -> None:
    config = load(
        MINIMAL
        + """
[durability]
sync = "interval"
sync_interval_ms = 500
[timing]
election_timeout_ms = [400, 900]
[security]
peer_secret_file = "peer.secret"
[log]
format = "json"
"""
    )
    assert config.durability.sync == "interval"
    assert config.durability.sync_interval_ms == 500
    assert config.timing.election_timeout_ms == (400, 900)
    assert config.security.peer_secret_file == "peer.secret"
    assert config.log.format == "json"


def test_members_are_sorted_so_that_every_node_founds_the_same_cluster() -> None:
    more = """
[[members]]
id = "m9"
client = "127.0.0.1:7009"
peer = "127.0.0.1:7109"
"""
    assert [member.id for member in load(MINIMAL + more).members] == ["m9", "n1"]


def test_every_problem_is_listed_at_once() -> None:
    problems = problems_of(
        """
[node]
id = "n 1"
[listen]
client = "127.0.0.1"
peer = "127.0.0.1:7101"
admin = "127.0.0.1:7101"
[timming]
[timing]
heartbeat_ms = 20000
leader_wait_ms = 4500
[limits]
clients_mx = 5
[[members]]
id = "n1"
client = "0.0.0.0:7001"
port = 1
"""
    )
    assert problems == [
        "node.id: 'n 1' is no name; allowed: 1..63 letters, digits, `.`, `_` or `-`, the first a "
        "letter or digit",
        "listen.client: '127.0.0.1' has no port; allowed: host:port",
        "timming: unknown section; did you mean timing?",
        "timing.heartbeat_ms: 20000 is out of range; allowed: 5..10000 ms",
        "limits.clients_mx: unknown setting; did you mean limits.clients_max?",
        "members[0].port: unknown setting",
        "members[0].client: '0.0.0.0:7001' names every interface and cannot be dialled; "
        "allowed: host:port",
        "members[0].peer: is missing; allowed: host:port",
        "node.data_dir: is missing; allowed: path",
        "timing.leader_wait_ms: 4500 must be below timing.request_timeout_ms, of which it is a "
        "part (timing.request_timeout_ms = 4000)",
        "listen.admin: '127.0.0.1:7101' is already listen.peer",
    ]


@pytest.mark.parametrize(
    ("addition", "problem"),
    [
        ("[timing]\nsync = 1", "timing.sync: unknown setting; did you mean durability.sync?"),
        ("[timing]\nzzz = 1", "timing.zzz: unknown setting"),
        ("log = 5", "log: is a whole number, not a table"),
        ("[[log]]\nlevel = 'info'", "log: is an array, not a table"),
        (
            "[reads]\nlevel = 'leased'",
            "reads.level: 'leased' is not one of them; did you mean lease?; allowed: "
            "linearizable | lease | bounded | stale",
        ),
        (
            "[timing]\nrequest_timeout_ms = 5000",
            "timing.request_timeout_ms: 5000 is out of range; allowed: 50..4999 ms",
        ),
    ],
)
def test_problem_in_the_file(addition: str, problem: str) -> None:
    text = addition + MINIMAL if addition.startswith("log") else MINIMAL + addition
    assert problems_of(text) == [problem]


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ("members = []", "members: there are 0; allowed: 1..15 members"),
        ("members = 5", "members: is a whole number; allowed: one [[members]] table a node"),
        ("members = [1]", "members: is an array; allowed: one [[members]] table a node"),
        ("", "members: is missing; allowed: one [[members]] table a node"),
    ],
)
def test_problem_with_the_members(members: str, problem: str) -> None:
    assert problems_of(members + MINIMAL.split("[[members]]")[0]) == [problem]


def test_sixteen_members_are_too_many() -> None:
    table = '[[members]]\nid = "x{0}"\nclient = "h:{0}"\npeer = "h:{0}"\n'
    text = MINIMAL.split("[[members]]")[0] + "".join(table.format(n) for n in range(1, 17))
    assert problems_of(text) == ["members: there are 16; allowed: 1..15 members"]


# ---------------------------------------------------------------- other sources


def test_flag_wins_over_environment_over_file_over_default() -> None:
    text = MINIMAL + "[timing]\nheartbeat_ms = 60\nleader_wait_ms = 100\nrequest_timeout_ms = 3000"
    loaded = parse_config(
        text,
        source="node.toml",
        environment={"RAFTKV_TIMING_HEARTBEAT_MS": "70", "RAFTKV_TIMING_LEADER_WAIT_MS": "200"},
        overrides=["timing.heartbeat_ms=80"],
    )
    found = {value.key: (value.value, value.origin) for value in loaded.values}
    assert found["timing.heartbeat_ms"] == (80, "flag --set")
    assert found["timing.leader_wait_ms"] == (200, "environment RAFTKV_TIMING_LEADER_WAIT_MS")
    assert found["timing.request_timeout_ms"] == (3000, "file node.toml")
    assert found["timing.election_timeout_ms"] == ((300, 600), "default")
    assert list(found) == [*SETTINGS, "members"]
    assert loaded.config.timing.heartbeat_ms == 80


@pytest.mark.parametrize("text", ["400,900", "[400, 900]", " 400 , 900 "])
def test_a_pair_as_text(text: str) -> None:
    config = load(overrides=[f"timing.election_timeout_ms={text}"])
    assert config.timing.election_timeout_ms == (400, 900)


def test_numbers_as_text_may_have_underscores() -> None:
    assert load(overrides=["limits.clients_max=1_000"]).limits.clients_max == 1000


def test_a_text_may_contain_an_equals_sign() -> None:
    assert load(overrides=["node.data_dir=/a=b"]).node.data_dir == "/a=b"


def test_the_members_can_come_from_the_environment() -> None:
    value = '[{id = "n1", client = "h:1", peer = "127.0.0.1:2"}]'
    text = MINIMAL.split("[[members]]")[0]
    assert load(text, environment={"RAFTKV_MEMBERS": value}).members[0].client == "h:1"


def test_a_broken_list_of_members_from_the_environment() -> None:
    (problem,) = problems_of(MINIMAL, environment={"RAFTKV_MEMBERS": "[{"})
    assert problem.startswith(
        "members (from environment RAFTKV_MEMBERS): is not a TOML array of tables:"
    )


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        (
            {"RAFTKV_TIMING_HEARTBET_MS": "5"},
            "RAFTKV_TIMING_HEARTBET_MS: unknown setting; did you mean RAFTKV_TIMING_HEARTBEAT_MS?",
        ),
        (
            {"RAFTKV_LIMITS_CLIENTS_MAX": "many"},
            "limits.clients_max (from environment RAFTKV_LIMITS_CLIENTS_MAX): 'many' is text, "
            "not a whole number; allowed: 1..1000000 connections",
        ),
    ],
)
def test_problem_in_the_environment(environment: dict[str, str], problem: str) -> None:
    assert problems_of(MINIMAL, environment=environment) == [problem]


def test_other_variables_are_none_of_our_business() -> None:
    foreign = {
        "RAFTKV_NODES": "a:1",
        "RAFTKV_REQUIRE_TOOLS": "1",
        "PATH": "x",
        "raftkv_node_id": "",
    }
    assert load(environment=foreign) == load()


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("limits.clients_max", "limits.clients_max: `--set` takes section.key=value"),
        (
            "limits.client_max=5",
            "limits.client_max (from flag --set): unknown setting; "
            "did you mean limits.clients_max?",
        ),
        (
            "clients_max=5",
            "clients_max (from flag --set): unknown setting; did you mean limits.clients_max?",
        ),
        (
            "limits.clients_max=0",
            "limits.clients_max (from flag --set): 0 is out of range; "
            "allowed: 1..1000000 connections",
        ),
    ],
)
def test_problem_in_a_flag(override: str, problem: str) -> None:
    assert problems_of(MINIMAL, overrides=[override]) == [problem]


def test_a_problem_is_not_hidden_by_a_later_source() -> None:
    problems = problems_of(MINIMAL + "[log]\nlevel = 'loud'", overrides=["log.level=debug"])
    assert [problem.partition(":")[0] for problem in problems] == ["log.level"]


def test_warnings_come_with_a_valid_config() -> None:
    loaded = parse_config(MINIMAL + "[durability]\nsync = 'never'", source="node.toml")
    assert loaded.warnings == (
        'durability.sync: "never" may lose acknowledged writes in a power cut',
    )


# ------------------------------------------------------------------------ files


def test_a_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    loaded = load_config(path)
    assert loaded.config == load()
    assert loaded.values[0].origin == f"file {path}"


def test_no_such_file(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        load_config(path)


def test_a_directory_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes(b"# ok\n\xff")
    with pytest.raises(ConfigError, match="is not UTF-8 at byte 5"):
        load_config(path)


def test_a_file_that_is_not_toml() -> None:
    (problem,) = problems_of("[node\n")
    assert problem.startswith("node.toml: is not TOML: ")
    assert "line 1" in problem


@given(st.dictionaries(st.sampled_from(sorted(SETTINGS)), st.text(max_size=30), max_size=8))
def test_any_text_from_flags_is_taken_or_refused_by_name(texts: dict[str, str]) -> None:
    overrides = [f"{key}={text}" for key, text in texts.items()]
    try:
        load(overrides=overrides)
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.partition(":")[0].partition(" ")[0] in SETTINGS


@given(st.text(max_size=200))
def test_any_text_as_a_file_is_refused_with_problems(text: str) -> None:
    with pytest.raises(ConfigError):
        load(text)
