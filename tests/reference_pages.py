"""Makes the pages that are tables of something else: settings, decisions.

    python -m tests.reference_pages

writes them; tests/house/test_docs.py fails while a page differs from what this
would write. The words around the tables live here too, so that a page is made
whole or not at all.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from raftkv.config import SettingKind
from raftkv.setting_rules import MEMBERS
from raftkv.settings import ENVIRONMENT_PREFIX, MEMBER_KEYS, MISSING, SECTIONS, SETTINGS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

CONFIG_HEAD = """\
# Configuration

<!-- Written by `python -m tests.reference_pages` from raftkv/config.py. -->

A node is started with one TOML file: `raftkv start --config FILE`. `raftkv init` writes such
files for a local cluster; `cluster-configs/` shows them, and a commented one for production.

Every setting can also be given outside the file. Where several sources name it, the first of
these counts:

1. the flag `--set section.key=value`, as often as needed;
2. the environment variable `RAFTKV_<SECTION>_<KEY>`, such as `RAFTKV_TIMING_HEARTBEAT_MS=100`;
3. the file;
4. the default.

In flags and variables a number is written as in the file (`1000` or `1_000`), a pair as
`300,600`, and the members as a TOML array: `RAFTKV_MEMBERS='[{id = "n1", client = "host:7001",
peer = "host:7101"}]'`. A variable whose name starts with `RAFTKV_` and a section, and which is no
setting, is an error; any other `RAFTKV_` variable is ignored.

`raftkv config check FILE` judges a file without starting anything. `raftkv config show` prints
the effective values and where each came from. A node with a bad config prints every problem on
standard error, one a line, with the key, what is wrong and what is allowed, and exits with 2.

Settings must fit each other, too:

* `timing.election_timeout_ms` begins at three times `timing.heartbeat_ms` or later, and is at
  least one `timing.heartbeat_ms` wide.
* `timing.leader_wait_ms` is below `timing.request_timeout_ms`.
* `limits.request_bytes_max` holds the largest key, the largest value and 64 KiB;
  `limits.output_buffer_bytes_max` holds the largest value and 64 KiB.
* `limits.uncommitted_bytes_max` holds a largest request and a batch;
  `limits.wal_segment_bytes` holds both and 256 KiB.
* `limits.peer_frame_bytes_max` holds a largest request, 64 KiB, and the largest of
  `limits.batch_bytes_max`, `limits.append_bytes_max`, `limits.snapshot_chunk_bytes` and 16 bytes
  for each of `limits.request_arguments_max`;
  `limits.peer_queue_bytes_max` holds such a frame.
* `limits.snapshot_keep_log_bytes` is at most `limits.snapshot_log_bytes`.
* `node.id` is one of the members; names and addresses are unique.
* `security.peer_secret_file` is given unless every peer address is a loopback address.

Addresses are `host:port`, IPv6 ones `[::1]:7001`. Relative paths start at the working directory.
Sizes are bytes, times are what the name of the setting ends in.
"""

MEMBERS_HEAD = """
## [[members]]

One table for each node of the first cluster, the same in the file of every node, in any order.
Later changes of the membership are in the log, not here. 1 to 15 members; the addresses are
those that are advertised, so they may differ from the ones a node binds.

| key | allowed | meaning |
|---|---|---|
"""


DECISIONS_HEAD = """\
# Decisions

<!-- Written by `python -m tests.reference_pages` from the titles of the pages. -->

One page for each decision that would be expensive to take back: what was the case, what was
decided, what was rejected, what follows. A page is not changed afterwards; a later one replaces it
and says so.

| number | decision |
|---|---|
"""


def cell(text: str) -> str:
    """Make a text fit into a cell of a table."""
    return text.replace("|", "\\|")


def shown(value: object) -> str:
    """Write a default as it would stand in the file."""
    if value is MISSING:
        return "required"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{list(value)}`" if isinstance(value, tuple) else f"`{value}`"


def allowed(kind: SettingKind) -> str:
    """Write the range without its unit, which has a column of its own."""
    text = kind.allowed
    return cell(text.removesuffix(f" {kind.unit}") if kind.unit else text)


def config_page() -> str:
    """Return docs/reference/config.md."""
    parts = [CONFIG_HEAD]
    for section, values_type in SECTIONS.items():
        first_line = (inspect.getdoc(values_type) or "").splitlines()[0]
        meaning = first_line.partition(": ")[2]
        parts.append(f"\n## [{section}]\n\n{meaning[0].upper()}{meaning[1:]}\n\n")
        parts.append("| key | default | allowed | unit | meaning |\n|---|---|---|---|---|\n")
        for setting in SETTINGS.values():
            if setting.key.startswith(f"{section}."):
                name = setting.key.partition(".")[2]
                parts.append(
                    f"| `{name}` | {shown(setting.default)} | {allowed(setting.kind)} "
                    f"| {setting.kind.unit} | {cell(setting.kind.meaning)} |\n"
                )
        if section == "listen":
            parts.append(MEMBERS_HEAD)
            for name, kind in MEMBER_KEYS.items():
                parts.append(f"| `{name}` | {allowed(kind)} | {cell(kind.meaning)} |\n")
            parts.append(f"\nEnvironment: `{ENVIRONMENT_PREFIX}{MEMBERS.upper()}`.\n")
    return "".join(parts)


def decisions_page() -> str:
    """Return docs/adr/README.md."""
    rows = []
    for path in sorted((DOCS / "adr").glob("[0-9]*.md")):
        title = path.read_text(encoding="utf-8").splitlines()[0].partition(". ")[2]
        rows.append(f"| [{path.name[:4]}]({path.name}) | {title} |\n")
    return DECISIONS_HEAD + "".join(rows)


PAGES = {"reference/config.md": config_page, "adr/README.md": decisions_page}


def main() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
