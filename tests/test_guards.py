"""The house rules that a machine can hold: who imports whom, what files are called, what stands in the repository."""

import ast
import functools
import importlib.metadata
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "mcontriever"
DEPARTMENTS = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()} - {
    "cli",
    "config",
    "encoder",
    "assembly",
    "texts",
}


@functools.cache
def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(tree_of(path)))


@functools.cache
def imported_modules(path: Path) -> set[str]:
    """Every mcontriever.* module that a file imports, wherever in the file."""
    found = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.split(".")[0] == "mcontriever"}


@functools.cache
def verbs() -> set[str]:
    """The modules that cli imports inside its commands."""
    trees = [tree_of(path) for path in (PACKAGE / "cli").glob("*.py")]
    found = set()
    for command in [node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]:
        for node in ast.walk(command):
            if isinstance(node, ast.ImportFrom) and node.module == "mcontriever":
                found |= {f"mcontriever.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    files = {f"mcontriever.{path.stem}" for path in PACKAGE.glob("*.py")}
    return found & files


def is_department(module: str) -> bool:
    parts = module.split(".")
    return len(parts) > 1 and parts[1] in DEPARTMENTS


def test_departments_never_import_each_other_and_nothing_imports_a_verb() -> None:
    wrong = {}
    for path in sources():
        own = path.relative_to(PACKAGE).parts[0]
        imported = imported_modules(path)
        if own in DEPARTMENTS:
            wrong[path, "of another department"] = {
                name for name in imported if is_department(name) and name.split(".")[1] != own
            }
        if own != "cli":
            wrong[path, "a verb"] = imported & (verbs() - {f"mcontriever.{path.stem}"})
    assert {key: found for key, found in wrong.items() if found} == {}
    assert len({path for path, _ in wrong}) > 300


def test_only_verbs_hold_a_configuration() -> None:
    """An objective's settings are a section in its own file, made of config.sections."""
    for path in sources():
        if path.relative_to(PACKAGE).parts[0] in DEPARTMENTS:
            used = {name for name in imported_modules(path) if name.startswith("mcontriever.config.")}
            used -= {name for name in used if name.startswith("mcontriever.config.sections")}
            assert all(
                name.split(".")[-1] == "Section" or name[len("mcontriever.config.") :].islower() for name in used
            ), f"{path} takes a whole configuration: {used}"


def test_no_module_beside_train_shadows_another_library() -> None:
    """`deepspeed mcontriever/train.py` puts this folder first on the path of every library in the process."""
    taken = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions())
    ours = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()} - {
        "__init__",
        "__pycache__",
    }
    assert not ours & taken


def test_file_names_say_what_is_inside() -> None:
    empty_words = re.compile(r"^(utils?|helpers?|common|misc|base|manager)\.py$")
    assert not [path for path in sources() if empty_words.match(path.name)]


def test_no_file_name_means_two_things() -> None:
    """`encoder/encoder.py` is its folder's own."""
    names = Counter(path.name for path in sources() if path.stem not in ("__init__", path.parent.name))
    assert not [name for name, times in names.items() if times > 1]


def test_every_module_says_what_it_is() -> None:
    assert not [path for path in sources() if not ast.get_docstring(tree_of(path))]


def test_never_pickle_nor_foreign_code() -> None:
    forbidden = re.compile(
        r"^\s*import pickle|trust_remote_code=True|weights_only=False|allow_pickle=True|except:", re.M
    )
    offenders = [path for path in sources() if forbidden.search(path.read_text(encoding="utf-8"))]
    assert not offenders


def test_private_operators_are_called_in_one_file() -> None:
    private = re.compile(r"torch\.ops\.|_int_mm\(|_softmax_backward_data")
    others = [path for path in sources() if path.name != "cpu_operators.py"]
    assert not [path for path in others if private.search(path.read_text(encoding="utf-8"))]


def test_every_yaml_of_the_repository_parses() -> None:
    paths = [
        path for folder in ("configs", "data_recipes", "benchmarks") for path in (REPOSITORY / folder).rglob("*.yaml")
    ]
    assert paths
    for path in paths:
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict), path


def test_help_needs_no_torch() -> None:
    script = "import sys, mcontriever.cli; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@functools.cache
def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        return [path for path in REPOSITORY.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return [REPOSITORY / line for line in listed.stdout.splitlines() if (REPOSITORY / line).is_file()]


def test_files_and_functions_stay_short() -> None:
    """Those of the tests, the benchmarks and the documentation too."""
    for path in (path for path in tracked_files() if path.suffix == ".py"):
        assert path.read_text(encoding="utf-8").count("\n") <= 300, f"{path} holds more than one idea"
        functions = [node for node in nodes_of(path) if isinstance(node, ast.FunctionDef)]
        long = [one.name for one in functions if (one.end_lineno or 0) - one.lineno >= 60]
        assert not long, f"{path}: {long} have more than 60 lines"


@functools.cache
def tracked_texts() -> list[tuple[Path, str]]:
    kinds = (".py", ".yaml", ".yml", ".toml", ".md", ".txt", ".json", ".tsv", ".sh", "")
    paths = [path for path in tracked_files() if path.suffix in kinds]
    return [(path, path.read_bytes().decode("utf-8", errors="replace")) for path in paths]


def test_no_path_of_one_machine() -> None:
    pattern = re.compile(r"(?<![\w.])/(?:work|home|root|Users|mnt|opt)/[\w.-]+")
    others = [(path, text) for path, text in tracked_texts() if path != Path(__file__).resolve()]
    assert not [f"{path}: {match[0]}" for path, text in others for match in pattern.finditer(text)]


PUBLIC_HOSTS = {
    "arxiv.org",
    "data.statmt.org",
    "dl.fbaipublicfiles.com",
    "github.com",
    "huggingface.co",
    "keepachangelog.com",
    "msmarco.z22.web.core.windows.net",
    "semver.org",
    "www.apache.org",
}
RESERVED = re.compile(r"(^|\.)(example\.(org|com|net)|invalid|localhost|test)$|^[\d.]+$|^[^.]*$")


def test_only_known_hosts_are_named_and_no_package_index() -> None:
    """Packages come from whatever index a machine is set up for, so the project names none."""
    unknown = [
        f"{path}: {host}"
        for path, text in tracked_texts()
        for host in re.findall(r"https?://(?:[^\s/@]*@)?([A-Za-z0-9.-]+)", text)
        if host not in PUBLIC_HOSTS and not RESERVED.search(host)
    ]
    assert not unknown
    option = re.compile("--(extra-)?index" + "-url")
    assert not [path for path, text in tracked_texts() if option.search(text)]
