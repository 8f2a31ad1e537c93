"""The rules of the house: who may import whom, what `import toolparse` loads, what tracked files must not hold."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_python

CORE = ROOT / "toolparse"

# From the bottom up: a module imports from its own layer and from those below. A package stands for all its modules.
LAYERS: list[set[str]] = [
    {"errors", "message"},
    {"events"},
    {"picture"},
    {"format"},
    {"codecs", "tools"},
    {"compile", "tokens"},
    {"reader"},
    {"families", "prompts", "render"},
    {"export"},
    {"parser"},
    {"registry", "templates"},
    {"detect"},
    {"api"},
    {"openai", "testing"},
    {"corpora"},
    {"serving"},
    {"plugins"},
    {"", "cli"},
    {"__main__"},
]

# Modules that know nobody in the house but what is named here.
ALONE: dict[str, set[str]] = {
    "errors": set(),
    "message": set(),
    "events": {"message"},
    "picture": {"errors"},
    "format": {"errors", "picture"},
    "families": {"format"},
}

# Methods that hand on to what stands above, which is imported when they are called.
HANDED_ON = {
    *(("toolparse.message", f"toolparse.openai{name}") for name in ("", ".to_chat_call", ".to_chat_message")),
    *(("toolparse.message", f"toolparse.corpora.rows{name}") for name in ("", ".row_of")),
}

HEAVY = ("transformers", "torch", "tokenizers", "trl", "accelerate", "datasets", "numpy")
# What brings libraries of its own: nothing imports these but the command line, and whoever asks for them.
EXTRAS = ("serving", "plugins")


def modules(package: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports at run time, in whatever function; imports for types only don't count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def room(module: str) -> str:
    """`toolparse.codecs.json` -> `codecs`; `toolparse` itself -> ``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def layer(name: str) -> int | None:
    return next((number for number, names in enumerate(LAYERS) if name in names), None)


ROOMS = {name.split(".")[0] for name, _ in modules(CORE)}
CORE_IMPORTS = [
    (f"toolparse.{name}".rstrip("."), imported, path) for name, path in modules(CORE) for imported in imports_of(path)
]


def test_every_module_has_a_layer() -> None:
    assert {name for name in ROOMS if layer(name) is None} == set()


def test_imports_point_downward() -> None:
    wrong = []
    for module, imported, path in CORE_IMPORTS:
        if imported.split(".")[0] != "toolparse" or (module, imported) in HANDED_ON:
            continue
        target = room(imported)
        if target not in ROOMS:
            continue  # a name out of the package's face, not a module
        mine, theirs = layer(room(module)), layer(target)
        if target == "" and room(module) not in ("", "cli", "testing"):
            if imported == "toolparse" and _imports_the_face(path):
                wrong.append(f"{module} imports the public face")
        elif mine is None or theirs is None or theirs > mine:
            wrong.append(f"{module} imports {imported}")
    assert wrong == []


def _imports_the_face(path: Path) -> bool:
    """Whether a file says `import toolparse` or takes a name from it that is no module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name == "toolparse" for alias in node.names):
            return True
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "toolparse"
            and any(alias.name not in ROOMS for alias in node.names)
        ):
            return True
    return False


def test_the_foundations_know_nobody_else() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, imported, _ in CORE_IMPORTS
        if room(module) in ALONE
        and (module, imported) not in HANDED_ON
        and imported.startswith("toolparse.")
        and room(imported) in ROOMS
        and room(imported) not in ALONE[room(module)] | {room(module), ""}
    ]
    assert wrong == []


def test_only_templates_touch_jinja() -> None:
    users = {room(module) for module, imported, _ in CORE_IMPORTS if imported.split(".")[0] == "jinja2"}
    assert users <= {"templates"}


def test_the_core_never_imports_heavy_libraries() -> None:
    users = [
        f"{module}: {imported}"
        for module, imported, _ in CORE_IMPORTS
        if imported.split(".")[0] in HEAVY and room(module) not in EXTRAS
    ]
    assert users == []


def test_toolparse_does_not_know_trl_integration() -> None:
    assert [module for module, imported, _ in CORE_IMPORTS if imported.split(".")[0] == "trl_integration"] == []


def test_public_names_are_not_hidden_by_modules() -> None:
    """`detect` and `families` are names of modules too: importing those must not put them in the functions' place."""
    used = (
        "import importlib, pkgutil, toolparse\n"
        "toolparse.get('hermes'); toolparse.parser_for('hermes')\n"
        "for m in pkgutil.walk_packages(toolparse.__path__, 'toolparse.'):\n"
        "    if m.name.split('.')[1] not in ('testing', 'serving', 'plugins'): importlib.import_module(m.name)\n"
        "print(callable(toolparse.detect), callable(toolparse.families), callable(toolparse.parse))"
    )
    assert run_python(used).split() == ["True", "True", "True"]


@pytest.mark.slow
def test_import_is_quick(tmp_path: Path) -> None:
    """Under 150 ms beyond Python's own start, with compiled files, in time of this process: the best of a few."""
    timed = "import time; t = time.process_time(); import toolparse; print(time.process_time() - t)"
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    assert min(float(run_python(timed, **compiled)) for _ in range(6)) < 0.15


def tracked() -> list[Path]:
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: there is no list of tracked files")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_paths_of_a_machine() -> None:
    folders = "|".join(["work", "tmp", "root", "farm", "home"])
    machine = re.compile(rf"(?:^|[^A-Za-z0-9_.])/(?:{folders})/[A-Za-z0-9_.-]+", re.MULTILINE)
    found = []
    for path in tracked():
        if path.suffix in (".jsonl", ".png"):
            continue
        found += [f"{path.relative_to(ROOT)}: {hit.strip()}" for hit in machine.findall(path.read_text("utf-8"))]
    assert found == []


def test_every_skip_has_a_reason() -> None:
    bare = []
    for path in tracked():
        if path.suffix != ".py":
            continue
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        called = {id(call.func) for call in calls}
        for call in calls:
            name = ast.unparse(call.func)
            reasoned = any(keyword.arg == "reason" for keyword in call.keywords)
            if name in ("pytest.skip", "pytest.xfail") and not (call.args or reasoned):
                bare.append(f"{path.name}:{call.lineno}")
            if name in ("pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail") and not reasoned:
                bare.append(f"{path.name}:{call.lineno}")
        marks = [node for node in nodes if isinstance(node, ast.Attribute) and id(node) not in called]
        bare += [f"{path.name}:{mark.lineno}" for mark in marks if ast.unparse(mark) == "pytest.mark.skip"]
    assert bare == []


def test_no_leftovers() -> None:
    # Written in two parts, so that this file does not find itself.
    marks = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "assert" + " True"]))
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        if path.suffix == ".py"
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1)
        if marks.search(line)
    ]
    assert found == []


def test_every_package_file_is_typed() -> None:
    assert (CORE / "py.typed").is_file()
