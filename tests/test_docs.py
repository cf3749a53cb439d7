"""The documents say what the code does: generated pages are fresh, named files exist, commands are well-formed."""

import ast
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PROSE = [*(REPOSITORY / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md")), *sorted(DOCS.rglob("*.md"))]
ROOMS = ("", "mcontriever/", "docs/", "tests/")


def test_reference_pages_are_what_the_code_gives() -> None:
    pages = runpy.run_path(str(DOCS / "generate_reference.py"))["pages"]()
    stale = [name for name, text in pages.items() if (DOCS / "reference" / name).read_text(encoding="utf-8") != text]
    assert not stale, f"{stale} are stale: python docs/generate_reference.py"


def test_every_command_and_every_key_is_in_the_reference() -> None:
    from typer.main import get_command

    from mcontriever.cli import app

    commands = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", commands, re.M) == sorted(get_command(app).commands)  # type: ignore[attr-defined]
    keys = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")
    for key in ("steps", "queue_size", "hard_ratio", "min_characters", "cross_encoder", "launcher"):
        assert f"| `{key}` |" in keys


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_files_that_a_document_names_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"`([\w./-]+/[\w.-]*\.(?:py|yaml|json|md|sh)|[a-z_]+\.py)`", text)
    missing = [name for name in named if not any((REPOSITORY / room / name).exists() for room in ROOMS)]
    planned = set(re.findall(r"^New file `([^`]+)`", text, re.M))
    short = [name for name in missing if "/" not in name and list((REPOSITORY / "mcontriever").rglob(name))]
    unknown = set(missing) - set(short) - planned - {"queue.py", "datasets.py"}  # names that a guard forbids
    assert not unknown, f"{path.name} names {sorted(unknown)}"


def journeys() -> list[str]:
    """The sections of ARCHITECTURE.md that say in which order files are read."""
    page = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")
    return re.split(r"^### ", page[page.index("## Five journeys") : page.index("## The papers")], flags=re.M)[1:]


@pytest.mark.parametrize("journey", journeys(), ids=lambda text: text.splitlines()[0])
def test_a_journey_opens_no_file_twice(journey: str) -> None:
    files = re.findall(r"`([\w/]+\.py)`", journey)
    assert files
    assert len(set(files)) == len(files)


def test_every_file_of_the_package_is_reached_from_the_journeys() -> None:
    """By the imports of the files that they name; the command line is their entry."""
    package = REPOSITORY / "mcontriever"
    files = {module_name(path): path for path in package.rglob("*.py")}
    named = {package / name for journey in journeys() for name in re.findall(r"`([\w/]+\.py)`", journey)}
    waiting = [module_name(path) for path in named | set((package / "cli").glob("*.py"))]
    reached = {"mcontriever.__main__"}
    while waiting:
        name = waiting.pop()
        if name in files and name not in reached:
            reached.add(name)
            waiting += imported_names(files[name])
    assert not {name for name, path in files.items() if path.name != "__init__.py"} - reached


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def imported_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def commands() -> Iterator[tuple[str, str]]:
    for path in PROSE:
        for block in re.findall(r"^```(?:sh|bash)\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S):
            for line in block.splitlines():
                if line.startswith(("mcontriever", "deepspeed")):
                    yield path.name, line


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_commands_are_well_formed(page: str, line: str) -> None:
    """The verb exists, its options exist, and the project's files that it names are there."""
    from typer.main import get_command

    from mcontriever.cli import app

    words = shlex.split(line, comments=True)
    if words[0] == "deepspeed":
        words = ["mcontriever", "train", *words[words.index("mcontriever/train.py") + 1 :]]
    for word in words:
        if word.startswith(("configs/", "data_recipes/", "mcontriever/")):
            assert (REPOSITORY / word).exists(), f"{page}: {word}"
    command = get_command(app).commands[words[1]]  # type: ignore[attr-defined]
    command.make_context(words[1], words[2:])


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "architecture" / "index.html").is_file()
