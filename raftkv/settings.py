"""Makes a valid `Config` out of a file, the environment and flags.

Owns the syntax of the three sources, their order (flag over environment over
file over default) and the story of every value. Every problem is found in one
go: a person who starts a node should not have to start it once a mistake.

Does not own ranges and meanings (`raftkv.config`), the judgement of values
(`raftkv.setting_rules`), nor the decision what to do about a bad config (the
command line prints the problems and exits 2). Reads the one file it is given;
the environment arrives as an argument.

Callers: the command line, and whatever starts nodes in tests.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raftkv.config import (
    MEMBERS_MAX,
    Address,
    Config,
    DurabilityConfig,
    Limits,
    ListenConfig,
    LogConfig,
    Name,
    NodeConfig,
    Number,
    NumberPair,
    ReadsConfig,
    SecurityConfig,
    SettingKind,
    TimingConfig,
    WritesConfig,
    is_wildcard,
)
from raftkv.errors import ConfigError
from raftkv.setting_rules import (
    MEMBERS,
    check_relations,
    did_you_mean,
    find_warnings,
    judge,
    one_line,
    type_name,
)
from raftkv.types import Member, NodeId

SECTIONS: Mapping[str, type] = {
    "node": NodeConfig,
    "listen": ListenConfig,
    "durability": DurabilityConfig,
    "reads": ReadsConfig,
    "writes": WritesConfig,
    "timing": TimingConfig,
    "limits": Limits,
    "security": SecurityConfig,
    "log": LogConfig,
}
MEMBER_KEYS: Mapping[str, SettingKind] = {
    "id": Name("Name of the member."),
    "client": Address("Where clients reach it; told to them by redirects."),
    "peer": Address("Where the other members reach it."),
}
ENVIRONMENT_PREFIX = "RAFTKV_"


class _Missing:
    """Type of the mark for a setting that must be given."""


MISSING = _Missing()


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table of settings.

    Attributes:
        key: `section.name`.
        kind: Range, unit and meaning.
        default: Value where no source gives one; `MISSING` where one has to.
    """

    key: str
    kind: SettingKind
    default: object

    @property
    def environment_name(self) -> str:
        """Name of the variable that overrides the file."""
        return ENVIRONMENT_PREFIX + self.key.replace(".", "_").upper()


@dataclass(frozen=True, slots=True)
class SettingValue:
    """One effective value and where it came from.

    Attributes:
        origin: `default`, `file <path>`, `environment <name>` or `flag --set`.
    """

    key: str
    value: object
    origin: str


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A valid config with the story of every value.

    Attributes:
        values: In the order of the reference page; `members` last.
        warnings: What is allowed and probably not meant, a sentence each.
    """

    config: Config
    values: tuple[SettingValue, ...]
    warnings: tuple[str, ...]


def list_settings() -> tuple[Setting, ...]:
    """Return the whole table, made from the annotations in `raftkv.config`."""
    settings = []
    for section, values_type in SECTIONS.items():
        hints = typing.get_type_hints(values_type, include_extras=True)
        for one in dataclasses.fields(values_type):
            kind = typing.get_args(hints[one.name])[1]
            default = MISSING if one.default is dataclasses.MISSING else one.default
            settings.append(Setting(f"{section}.{one.name}", kind, default))
    return tuple(settings)


SETTINGS: Mapping[str, Setting] = {setting.key: setting for setting in list_settings()}


# --------------------------------------------------------------------- entry


def load_config(
    path: str | Path,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
) -> LoadedConfig:
    """Read one config file and judge it together with the other sources.

    Args:
        path: A TOML file, UTF-8.
        environment: Usually `os.environ`; names that do not start with
            `RAFTKV_<SECTION>_` are ignored. None for no environment.
        overrides: `section.key=value`, as given to `--set`.

    Raises:
        ConfigError: Lists every problem.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 at byte {error.start}"]) from None
    return parse_config(text, source=str(path), environment=environment, overrides=overrides)


def parse_config(
    text: str,
    *,
    source: str,
    environment: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
) -> LoadedConfig:
    """Judge the text of a config file together with the other sources.

    Args:
        text: TOML.
        source: Name of the file, for messages.
        environment: As in `load_config`.
        overrides: As in `load_config`.

    Raises:
        ConfigError: Lists every problem.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([one_line(f"{source}: is not TOML: {error}")]) from None
    reader = _Reader()
    reader.take_file(document, source)
    reader.take_environment(environment or {})
    reader.take_overrides(overrides)
    reader.fill_defaults()
    reader.problems += check_relations(reader.values)
    if reader.problems:
        raise ConfigError([one_line(problem) for problem in reader.problems])
    return reader.finish()


# ------------------------------------------------------------------- reading


class _Reader:
    """Gathers the value of every key, later sources over earlier ones, and all problems.

    A key whose value is refused has no entry in `values`, so that no relation is
    judged, and no default is assumed, on top of a known mistake.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.problems: list[str] = []

    def take_file(self, document: Mapping[str, object], source: str) -> None:
        """Take a parsed TOML document."""
        origin = f"file {source}"
        for section, table in document.items():
            if section == MEMBERS:
                self._take(MEMBERS, table, origin)
            elif section not in SECTIONS:
                advice = did_you_mean(section, [*SECTIONS, MEMBERS])
                self.problems.append(f"{section}: unknown section{advice}")
            elif not isinstance(table, dict):
                self.problems.append(f"{section}: is {type_name(table)}, not a table")
            else:
                for name, value in table.items():
                    self._take(f"{section}.{name}", value, origin)

    def take_environment(self, environment: Mapping[str, str]) -> None:
        """Take the variables `RAFTKV_<SECTION>_<KEY>` and `RAFTKV_MEMBERS`."""
        keys = {setting.environment_name: setting.key for setting in SETTINGS.values()}
        keys[ENVIRONMENT_PREFIX + MEMBERS.upper()] = MEMBERS
        prefixes = tuple(f"{ENVIRONMENT_PREFIX}{section.upper()}_" for section in SECTIONS)
        for name in sorted(environment):
            if name in keys:
                self._take_text(keys[name], environment[name], f"environment {name}")
            elif name.startswith(prefixes):
                self.problems.append(f"{name}: unknown setting{did_you_mean(name, list(keys))}")

    def take_overrides(self, overrides: Sequence[str]) -> None:
        """Take the arguments of `--set`."""
        for override in overrides:
            key, equals, text = override.partition("=")
            if not equals:
                self.problems.append(f"{override}: `--set` takes section.key=value")
            else:
                self._take_text(key.strip(), text.strip(), "flag --set")

    def fill_defaults(self) -> None:
        """Give every key that no source mentioned its default, and miss the others."""
        for key, setting in SETTINGS.items():
            if key in self.origins:
                continue
            if setting.default is MISSING:
                self.problems.append(f"{key}: is missing; allowed: {setting.kind.allowed}")
            else:
                self.values[key] = setting.default
            self.origins[key] = "default"
        if MEMBERS not in self.origins:
            self.problems.append(f"{MEMBERS}: is missing; allowed: one [[members]] table a node")

    def finish(self) -> LoadedConfig:
        """Build the frozen values; call only when there is no problem."""
        sections: dict[str, Any] = {}
        for section, values_type in SECTIONS.items():
            names = [one.name for one in dataclasses.fields(values_type)]
            sections[section] = values_type(
                **{name: self.values[f"{section}.{name}"] for name in names}
            )
        # Every node must found the same cluster whatever the order in its file.
        members = tuple(sorted(self.values[MEMBERS], key=lambda member: member.id))
        config = Config(members=members, **sections)
        values = tuple(
            SettingValue(key, self.values[key], self.origins[key]) for key in (*SETTINGS, MEMBERS)
        )
        given = {key for key, origin in self.origins.items() if origin != "default"}
        return LoadedConfig(config, values, tuple(find_warnings(self.values, given)))

    def _take_text(self, key: str, text: str, origin: str) -> None:
        """Take a value from a source that knows only text."""
        setting = SETTINGS.get(key)
        if key == MEMBERS:
            try:
                value: object = tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError as error:
                self._refuse(key, origin, f"is not a TOML array of tables: {error}")
                return
        elif setting is not None:
            value = _value_of_text(setting.kind, text)
        else:
            value = text
        self._take(key, value, origin)

    def _take(self, key: str, value: object, origin: str) -> None:
        """Judge one value and remember it, or its problem."""
        if key == MEMBERS:
            self._take_members(value, origin)
            return
        setting = SETTINGS.get(key)
        if setting is None:
            self._refuse(key, origin, f"unknown setting{_suggest_key(key)}")
            return
        problem = judge(setting.kind, value)
        if problem:
            self._refuse(key, origin, f"{problem}; allowed: {setting.kind.allowed}")
            return
        is_pair = isinstance(setting.kind, NumberPair)
        self._accept(key, tuple(typing.cast("list[int]", value)) if is_pair else value, origin)

    def _take_members(self, value: object, origin: str) -> None:
        found = _read_members(value)
        if isinstance(found, list):
            self._refuse(MEMBERS, origin)
            self.problems += found
        else:
            self._accept(MEMBERS, found, origin)

    def _accept(self, key: str, value: object, origin: str) -> None:
        self.values[key] = value
        self.origins[key] = origin

    def _refuse(self, key: str, origin: str, problem: str = "") -> None:
        self.values.pop(key, None)
        self.origins[key] = origin
        if problem:
            where = "" if origin.startswith("file ") else f" (from {origin})"
            self.problems.append(f"{key}{where}: {problem}")


def _value_of_text(kind: SettingKind, text: str) -> object:
    """Read a number where one is expected; anything else stays text and is judged as such."""
    if isinstance(kind, Number) and re.fullmatch(r"-?\d[\d_]*", text):
        return int(text)
    if isinstance(kind, NumberPair):
        parts = [part.strip() for part in text.strip("[]").split(",")]
        if all(re.fullmatch(r"-?\d[\d_]*", part) for part in parts):
            return [int(part) for part in parts]
    return text


def _read_members(value: object) -> tuple[Member, ...] | list[str]:
    """Return the members, or the problems of their tables."""
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        return [f"{MEMBERS}: is {type_name(value)}; allowed: one [[members]] table a node"]
    if not 1 <= len(value) <= MEMBERS_MAX:
        return [f"{MEMBERS}: there are {len(value)}; allowed: 1..{MEMBERS_MAX} members"]
    problems: list[str] = []
    members = []
    for position, table in enumerate(value):
        path = f"{MEMBERS}[{position}]"
        for name in table:
            if name not in MEMBER_KEYS:
                advice = did_you_mean(name, list(MEMBER_KEYS))
                problems.append(f"{path}.{name}: unknown setting{advice}")
        problems += _judge_member(path, table)
        members.append(table)
    if problems:
        return problems
    return tuple(
        Member(id=NodeId(table["id"]), client=table["client"], peer=table["peer"])
        for table in members
    )


def _judge_member(path: str, table: Mapping[str, object]) -> list[str]:
    """Return what is wrong with the values of one member."""
    problems = []
    for name, kind in MEMBER_KEYS.items():
        if name not in table:
            problems.append(f"{path}.{name}: is missing; allowed: {kind.allowed}")
            continue
        problem = judge(kind, table[name])
        if not problem and isinstance(kind, Address) and is_wildcard(str(table[name])):
            problem = f"{table[name]!r} names every interface and cannot be dialled"
        if problem:
            problems.append(f"{path}.{name}: {problem}; allowed: {kind.allowed}")
    return problems


def _suggest_key(key: str) -> str:
    """Look for the same name in another section first, then for a similar one in this section."""
    section, _, name = key.rpartition(".")
    namesakes = [known for known in SETTINGS if known.rpartition(".")[2] == name]
    if namesakes:
        return f"; did you mean {namesakes[0]}?"
    siblings = [known.partition(".")[2] for known in SETTINGS if known.startswith(f"{section}.")]
    if not siblings:
        return did_you_mean(key, list(SETTINGS))
    close = difflib.get_close_matches(name, siblings, n=1)
    return f"; did you mean {section}.{close[0]}?" if close else ""
