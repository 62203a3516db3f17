"""What the pages say is so: links lead somewhere, tables match the code, lists are whole."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

import raftkv
from raftkv.cli.main import command
from raftkv.engine import syncobj_library
from raftkv.settings import SETTINGS
from tests.house.tree import PACKAGE, ROOT, project
from tests.reference_pages import PAGES

DOCS = ROOT / "docs"
PAGES_OF_PROSE = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
IDS = [str(path.relative_to(ROOT)) for path in PAGES_OF_PROSE]

LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def prose(path: Path) -> str:
    return CODE_BLOCK.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """The anchors that headings get from GitHub and from mkdocs alike."""
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", prose(path), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(words.replace(" ", "-"))
    return found


@pytest.mark.parametrize("path", PAGES_OF_PROSE, ids=IDS)
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(there), target


@pytest.mark.parametrize("path", PAGES_OF_PROSE, ids=IDS)
def test_a_page_has_one_title(path: Path) -> None:
    titles = re.findall(r"^# .+$", prose(path), re.MULTILINE)
    assert len(titles) == 1
    assert path.read_text(encoding="utf-8").startswith(titles[0])


@pytest.mark.parametrize("path", PAGES_OF_PROSE, ids=IDS)
def test_python_examples_compile(path: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE):
        compile(block, str(path), "exec")


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_generated_page_is_up_to_date(name: str) -> None:
    stored = (DOCS / name).read_text(encoding="utf-8")
    assert stored == PAGES[name](), "run: python -m tests.reference_pages"


def test_every_setting_has_its_row() -> None:
    page = (DOCS / "reference" / "config.md").read_text(encoding="utf-8")
    for key in SETTINGS:
        section, _, name = key.partition(".")
        table = page.split(f"\n## [{section}]\n")[1].split("\n## ")[0]
        assert f"\n| `{name}` |" in table, key


def test_every_runtime_dependency_has_its_reason_and_no_other_is_explained() -> None:
    declared = {
        re.split(r"[<>=;! ]", line)[0].strip() for line in project()["project"]["dependencies"]
    }
    page = (DOCS / "contributing.md").read_text(encoding="utf-8")
    table = page.split("## Runtime dependencies, and why each")[1].split("\n\nOnly")[0]
    explained = re.findall(r"^\| `([\w-]+)` \| .{20,} \|$", table, re.MULTILINE)
    assert sorted(explained) == sorted(declared)


def test_every_decision_has_a_number_of_its_own() -> None:
    names = [path.name for path in (DOCS / "adr").glob("*.md") if path.name != "README.md"]
    numbers = [name[:4] for name in names]
    assert sorted(numbers) == sorted(set(numbers))
    for name in names:
        title = (DOCS / "adr" / name).read_text(encoding="utf-8").splitlines()[0]
        assert re.fullmatch(rf"# {int(name[:4])}\. \S.*", title), name


def test_decisions_that_the_code_names_exist() -> None:
    files = {path.name for path in (DOCS / "adr").glob("*.md")}
    numbers = {name[:4] for name in files}
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"docs/adr/([\w-]+\.md)", text):
            assert name in files, f"{path.name}: {name}"
        for number in re.findall(r"\bADR (\d+)", text):
            assert number.zfill(4) in numbers, f"{path.name}: ADR {number}"


def test_every_page_can_be_reached_from_the_index() -> None:
    seen: set[Path] = set()
    waiting = [DOCS / "index.md", ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        if page.is_dir():
            waiting += sorted(page.glob("*.md"))
        elif page.suffix == ".md":
            targets = [link.partition("#")[0] for link in LINK.findall(prose(page))]
            waiting += [
                (page.parent / target).resolve()
                for target in targets
                if target and not re.match(r"[a-z]+:", target)
            ]
    assert not [str(page) for page in PAGES_OF_PROSE if page not in seen]


def test_the_version_is_in_the_changelog() -> None:
    changelog = (DOCS / "changelog.md").read_text(encoding="utf-8")
    assert f"\n## {raftkv.__version__}\n" in changelog


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_tour_names_files_that_exist() -> None:
    text = prose(DOCS / "tour.md")
    for name in re.findall(r"`([\w/]+\.py)`", text):
        path = PACKAGE / name.removeprefix("raftkv/")
        somewhere = [one for one in PACKAGE.rglob(path.name) if str(one).endswith(name)]
        assert path.is_file() or somewhere, name


def test_the_engine_page_says_what_becomes_of_every_method_relied_on() -> None:
    table = (DOCS / "internals" / "engine.md").read_text(encoding="utf-8")
    for name in syncobj_library.PRIVATE_METHODS:
        assert f"`{name}`" in table, name


def shell_lines(text: str) -> list[str]:
    """The commands in the shell blocks of a page."""
    lines = []
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if kind == "console" and line.startswith("$ "):
                lines.append(line[2:])
            elif kind in ("", "sh"):
                lines.append(line)
    return lines


def test_the_build_server_does_what_the_readme_says() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    line = next(line for line in shell_lines(readme) if "'.[test]'" in line)
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    plain = re.sub(r'"\$work/(\.venv[\w/]*)"', r"\1", script)
    plain = re.sub(
        r" --quiet| timeout --signal=INT \d+| \|\| verdict=1$", "", plain, flags=re.MULTILINE
    )
    assert line in plain.splitlines()


def used_subcommands() -> dict[str, set[str]]:
    """Every `raftkv X` in prose and examples, with the pages that show it."""
    found: dict[str, set[str]] = {}
    for page in PAGES_OF_PROSE:
        text = page.read_text(encoding="utf-8")
        pieces = shell_lines(text) + re.findall(r"`([^`\n]+)`", prose(page))
        for piece in pieces:
            try:
                words = shlex.split(piece, comments=True)
            except ValueError:
                continue
            for position, word in enumerate(words[:-1]):
                if word == "raftkv" or word.endswith("/bin/raftkv"):
                    found.setdefault(words[position + 1], set()).add(page.name)
    return {name: pages for name, pages in found.items() if re.fullmatch(r"[a-z]+", name)}


def test_every_command_that_a_page_shows_exists() -> None:
    shown = used_subcommands()
    assert {"up", "start", "init", "status", "get", "set", "config"} <= set(shown)
    known = command.list_commands(click.Context(command))
    unknown = {name: pages for name, pages in shown.items() if name not in known}
    assert not unknown
